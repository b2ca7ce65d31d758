"""Our lines of a cycle and those of a merchant's own files: the words in which they are matched, and what differs.

Source: settlement/RULES.md, rules X16 to X20.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.values.amounts import CU_PER_FEN
from settlement.core.matching import BreakKind, Item

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from schemas.files.merchant_file import Basis, Rounding
    from schemas.files.statement import StatementLine

_HOUSE: Final = "HOUSE"
_DAY_US: Final = 86_400_000_000
_BEIJING_US: Final = 8 * 3_600_000_000
_EPOCH: Final = date(1970, 1, 1).toordinal()
_ORDER: Final = "o:"
_REFERENCE: Final = "r:"
_APOSTROPHE: Final = "'"


class OurLine(NamedTuple):
    """A line of the merchant's signed statement, in the words of its own files.

    Attributes:
        leaf_index: Number of the line among the leaves of the cycle's tree.
        order: The order's id.
        reference: The merchant's reference, as it was sent.
        day: Day in Beijing by the clock of the files, as an ordinal.
        amount_cu: Signed CU, rounded as the files are.
        units: Points, without a sign.
        counterparty: Code of the other merchant.
    """

    leaf_index: int
    order: str
    reference: str
    day: int
    amount_cu: int
    units: int
    counterparty: str


class TheirLine(NamedTuple):
    """A line of a file that was imported.

    Attributes:
        file_no: Number of the file here.
        line_no: Number of the line in it, from 1.
        place: Where the line stood in its file.
        order: The order's id as the merchant has it; empty when it is not told.
        reference: The merchant's reference; empty when it is not told.
        day: Day in Beijing, as an ordinal.
        amount_cu: Signed CU.
        units: Points; None when it is not told.
        counterparty: Code of the other merchant; empty when it is not told.
    """

    file_no: int
    line_no: int
    place: str
    order: str
    reference: str
    day: int
    amount_cu: int
    units: int | None
    counterparty: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LineBreak:
    """A difference between our lines and a merchant's own.

    Attributes:
        kind: What it is.
        owner: Code of the merchant, or `HOUSE`.
        age_days: Days since the older of its lines.
        ours: Our lines.
        theirs: The merchant's.
        candidates: How many others it could belong to as well.
        match_no: The match in which it lies; None for what is not matched.
    """

    kind: BreakKind
    owner: str
    age_days: int
    ours: tuple[OurLine, ...]
    theirs: tuple[TheirLine, ...]
    candidates: int = 0
    match_no: int | None = None


def our_line(line: StatementLine, basis: Basis) -> OurLine:
    """Put a line of a statement in the words of a merchant's files (rule X16)."""
    instant_us = line.till_us if basis.clock == "till" else line.cleared_us
    amount_cu = line.net_cu if basis.figure == "net" else line.gross_cu
    return OurLine(
        line.leaf_index,
        line.order,
        line.reference,
        _EPOCH + (instant_us + _BEIJING_US) // _DAY_US,
        round_cu(amount_cu, basis.rounding),
        abs(line.units),
        line.counterparty,
    )


def round_cu(amount_cu: int, rounding: Rounding) -> int:
    """Round CU to whole fen, as a merchant's books do; the rest is not booked anywhere, for nothing is moved here.

    Args:
        amount_cu: Signed CU.
        rounding: `none` leaves them as they are.
    """
    if rounding == "none":
        return amount_cu
    more = CU_PER_FEN // 2 if rounding == "half_away" else 0
    whole = (abs(amount_cu) + more) // CU_PER_FEN * CU_PER_FEN
    return whole if amount_cu > 0 else -whole


class Names:
    """What lines are called on both sides (rule X17).

    A merchant's line is called by the order that it tells if that is one of ours; else by its reference. Ours is called
    by its reference where the merchant calls it so, else by its order.
    """

    def __init__(self, ours: Iterable[OurLine], theirs: Collection[TheirLine]) -> None:
        """Look at all lines once."""
        orders = {line.order for line in ours}
        self._told = {line.order for line in theirs if line.order in orders}
        self._referred = {
            plain(line.reference)
            for line in theirs
            if line.reference and line.order not in self._told
        }

    def ours(self, line: OurLine) -> str:
        """Name of one of our lines."""
        reference = plain(line.reference)
        if line.order not in self._told and reference in self._referred:
            return _REFERENCE + reference
        return _ORDER + line.order

    def theirs(self, line: TheirLine) -> str:
        """Name of one of the merchant's lines; empty when it tells none."""
        if line.order in self._told:
            return _ORDER + line.order
        if line.reference:
            return _REFERENCE + plain(line.reference)
        return _ORDER + line.order if line.order else ""


def names_of(order: str, reference: str) -> Iterator[str]:
    """Everything that a merchant's line may be called."""
    if order:
        yield _ORDER + order
    if reference:
        yield _REFERENCE + plain(reference)


def items(
    ours: Sequence[OurLine], theirs: Sequence[TheirLine], names: Names
) -> tuple[list[Item], list[Item]]:
    """Put both sides in the same words. Lines of nothing are left out by whoever reads them."""
    return (
        [
            Item(
                amount=line.amount_cu,
                day=line.day,
                reference=names.ours(line),
                party=line.counterparty,
                units=line.units,
            )
            for line in ours
        ],
        [
            Item(
                amount=line.amount_cu,
                day=line.day,
                reference=names.theirs(line),
                party=line.counterparty,
                units=line.units,
            )
            for line in theirs
        ],
    )


def name_line_break(
    kind: BreakKind,
    ours: Sequence[OurLine],
    theirs: Sequence[TheirLine],
    *,
    merchant: str,
    today: date,
    candidates: int = 0,
    match_no: int | None = None,
) -> LineBreak:
    """Name a break and who must act: our lines are signed, so the merchant, but for what it alone has (X20)."""
    days = [line.day for line in ours] + [line.day for line in theirs]
    return LineBreak(
        kind=kind,
        owner=_HOUSE if kind is BreakKind.EXTRA else merchant,
        age_days=max(0, today.toordinal() - min(days)),
        ours=tuple(ours),
        theirs=tuple(theirs),
        candidates=candidates,
        match_no=match_no,
    )


def plain(reference: str) -> str:
    """A reference without blanks around it, and without the apostrophe that keeps spreadsheets from calculating."""
    return reference.strip().removeprefix(_APOSTROPHE)
