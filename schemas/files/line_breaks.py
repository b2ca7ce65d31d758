"""Open breaks between signed lines and a merchant's own as a CSV file, for whoever must act.

Source: schemas/FORMAT.md, "Breaks of lines".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from schemas.files.csv_text import BOM, LINE_END, text_field
from schemas.values.amounts import yuan_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LINE_BREAK_COLUMNS: Final = (
    "kind", "owner", "age_days", "match_no", "leaf", "order", "reference", "day", "counterparty", "units", "yuan",
    "entry", "their_place", "their_order", "their_reference", "their_day", "their_counterparty", "their_units",
    "their_yuan", "candidates",
)  # fmt: skip


class LineBreakRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ours or of the merchant's in a break, or one of each; None and empty where there is none.

    Attributes:
        kind: What differs (rules X6 to X10, X19).
        owner: Who must act: the merchant's code, or `HOUSE`.
        age_days: Days since the older of its lines.
        match_no: Match in which it lies.
        leaf: Number of our line among the leaves of the cycle's tree.
        order: Its order.
        reference: The merchant's reference in it.
        day: Its day in Beijing.
        counterparty: Code of the other merchant.
        units: Its points.
        amount_cu: Its amount, signed from the merchant's side.
        entry: Number of the merchant's file and line here, `3/14`.
        their_place: Where it stood in its file.
        their_order: The order that it tells.
        their_reference: The reference that it tells.
        their_day: Its day.
        their_counterparty: The other merchant that it tells.
        their_units: Its points.
        their_amount_cu: Its amount.
        candidates: How many others it could belong to.
    """

    kind: str
    owner: str
    age_days: int
    match_no: int | None = None
    leaf: int | None = None
    order: str = ""
    reference: str = ""
    day: str = ""
    counterparty: str = ""
    units: int | None = None
    amount_cu: int | None = None
    entry: str = ""
    their_place: str = ""
    their_order: str = ""
    their_reference: str = ""
    their_day: str = ""
    their_counterparty: str = ""
    their_units: int | None = None
    their_amount_cu: int | None = None
    candidates: int = 0


def write_line_breaks(rows: Iterable[LineBreakRow]) -> Iterator[bytes]:
    """Write breaks, one line each, behind the header."""
    yield (BOM + ",".join(LINE_BREAK_COLUMNS) + LINE_END).encode()
    for row in rows:
        yield (",".join(_fields(row)) + LINE_END).encode()


def _fields(row: LineBreakRow) -> Iterator[str]:
    """A row's fields in the order of the columns; amounts in yuan."""
    for name, value in msgspec.structs.asdict(row).items():
        if value is None:
            yield ""
        elif isinstance(value, int):
            yield yuan_text(value) if name.endswith("_cu") else str(value)
        else:
            yield text_field(value)
