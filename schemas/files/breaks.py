"""Open breaks as a CSV file, for whoever must act.

Source: schemas/FORMAT.md, "Breaks".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from schemas.files.csv_text import BOM, LINE_END, text_field
from schemas.values.amounts import fen_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COLUMNS: Final = (
    "kind", "owner", "age_days", "match_no", "payment", "party", "expected_yuan", "statement",
    "entry", "booked_on", "moved_yuan", "reference", "party_name", "party_account", "candidates",
)  # fmt: skip


class BreakRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line: a payment or a movement of a break, or the first of each; empty where there is none.

    Attributes:
        kind: What differs (rules X6 to X10).
        owner: Who must act: a merchant's code, or `HOUSE`.
        age_days: Days since it was due or booked.
        match_no: Match in which it lies.
        payment: What the payment is called.
        party: Code of its party.
        expected_fen: What should have moved, signed from the house's side.
        statement: What the bank calls the statement.
        entry: Number of statement and entry here, `3/14`.
        booked_on: Day.
        moved_fen: What moved, signed from the house's side.
        reference: What was written with it.
        party_name: Who paid or was paid.
        party_account: Their account.
        candidates: How many others it could belong to.
    """

    kind: str
    owner: str
    age_days: int
    match_no: int | None = None
    payment: str = ""
    party: str = ""
    expected_fen: int | None = None
    statement: str = ""
    entry: str = ""
    booked_on: str = ""
    moved_fen: int | None = None
    reference: str = ""
    party_name: str = ""
    party_account: str = ""
    candidates: int = 0


def write_breaks(rows: Iterable[BreakRow]) -> bytes:
    """Write breaks, one line each, behind the header."""
    lines = [",".join(COLUMNS), *(",".join(_fields(row)) for row in rows), ""]
    return (BOM + LINE_END.join(lines)).encode()


def _fields(row: BreakRow) -> Iterator[str]:
    """A row's fields in the order of the columns; figures in yuan."""
    for name, value in msgspec.structs.asdict(row).items():
        if value is None:
            yield ""
        elif isinstance(value, int):
            yield fen_text(value) if name.endswith("_fen") else str(value)
        else:
            yield text_field(value)
