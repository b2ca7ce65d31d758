"""Lots of hosted points: which are live, which are spent first, and where units that come back go.

A lot is points that expire together. The lot that expires first is spent first; of those that expire
together the one with the lower number (settlement/RULES.md, rules L1, L2 and L9).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DAY_US: Final = 86_400_000_000
RETURN_LIFE_US: Final = 30 * DAY_US
"""How long points live at least that come back out of an order that stood (rule P12)."""


class Lot:
    """One lot; `units` is what is left of it, in smallest point units."""

    __slots__ = (
        "earned_units",
        "expires_at_us",
        "lot_no",
        "made_seq",
        "member_no",
        "merchant_no",
        "units",
    )

    def __init__(
        self,
        lot_no: int,
        member_no: int,
        merchant_no: int,
        earned_units: int,
        units: int,
        expires_at_us: int,
        made_seq: int,
        /,
    ) -> None:
        """Take the columns as they are stored."""
        self.lot_no = lot_no
        self.member_no = member_no
        self.merchant_no = merchant_no
        self.earned_units = earned_units
        self.units = units
        self.expires_at_us = expires_at_us
        self.made_seq = made_seq

    def __lt__(self, other: Lot) -> bool:
        """Order of spending: by expiry, then by number."""
        return (self.expires_at_us, self.lot_no) < (other.expires_at_us, other.lot_no)


Purse = list[Lot]
"""A member's lots of one programme with units left, in order of spending."""


def add_lot(purse: Purse, lot: Lot) -> None:
    """Put a lot where it belongs in the order of spending."""
    if not purse or purse[-1] < lot:
        purse.append(lot)
    else:
        insort(purse, lot)


def drop_expired(purse: Purse, until_us: int) -> None:
    """Forget the lots that expired by an instant, so that nobody walks over them again.

    Args:
        purse: Lots in order of spending.
        until_us: No order may come any more that was made at or before this instant.
    """
    gone = 0
    for lot in purse:
        if lot.expires_at_us > until_us:
            break
        gone += 1
    del purse[:gone]


def first_live(purse: Purse, at_us: int) -> Lot | None:
    """The lot that would be spent first at `at_us`; None if nothing is live. Expiry itself is too late."""
    for lot in purse:
        if lot.expires_at_us > at_us:
            return lot
    return None


def available(purse: Purse, at_us: int, wanted: int) -> int:
    """Units that are live at `at_us`, counted no further than `wanted`."""
    first = purse[0] if purse else None
    if first is not None and first.units >= wanted and first.expires_at_us > at_us:
        return wanted  # The usual case: the lot that is spent first has enough.
    found = 0
    for lot in purse:
        if lot.expires_at_us > at_us:
            found += lot.units
            if found >= wanted:
                return wanted
    return found


def spend(purse: Purse, at_us: int, units: int) -> list[tuple[Lot, int]]:
    """Take `units` from the live lots in order of spending; emptied lots leave the purse.

    Returns:
        The lots that gave something, each with how much; what is left is in the lot.

    Raises:
        ValueError: Fewer units are live than asked for: the caller did not look.
    """
    lot = purse[0]
    if lot.units > units and lot.expires_at_us > at_us:
        lot.units -= units  # The usual case again.
        return [(lot, units)]
    touched: list[tuple[Lot, int]] = []
    emptied = 0
    first = 0
    while first < len(purse) and purse[first].expires_at_us <= at_us:
        first += 1
    for lot in purse[first:]:
        given = min(units, lot.units)
        lot.units -= given
        units -= given
        touched.append((lot, given))
        emptied += not lot.units
        if not units:
            break
    del purse[first : first + emptied]
    if units:
        raise ValueError(f"{units} units short")
    return touched


def lots_to_spend(purse: Purse, at_us: int, units: int) -> int:
    """How many live lots `spend` would take `units` from, which are there."""
    count = 0
    for lot in purse:
        if units <= 0:
            break
        if lot.expires_at_us > at_us:
            count += 1
            units -= lot.units
    return count


# Units that come back ------------------------------------------------------------------------------


class Use(NamedTuple):
    """What an event took of a lot, and what must be known of the lot to put it back.

    Attributes:
        lot_no: The lot.
        earned_units: What it held at first.
        expires_at_us: When it expires.
        made_seq: The event that made it.
        units: What was taken; more than 0.
    """

    lot_no: int
    earned_units: int
    expires_at_us: int
    made_seq: int
    units: int


class Return(NamedTuple):
    """Where units that come back go.

    Attributes:
        kept: What goes back into the very lots that it came from.
        fresh_units: What goes into a new lot, because its own has too little life left.
    """

    kept: list[Use]
    fresh_units: int


def last_taken(uses: Sequence[Use], *, skip: int, units: int) -> list[Use]:
    """The part of what an event took that comes back next: what was taken last comes back first.

    Args:
        uses: Everything that the event took, in order of spending.
        skip: Units that came back before.
        units: Units that come back now; more than 0.

    Raises:
        ValueError: That is more than is left: the caller did not look.
    """
    part: list[Use] = []
    for use in reversed(uses):
        passed = min(skip, use.units)
        skip -= passed
        back = min(units, use.units - passed)
        units -= back
        if back:
            part.append(use._replace(units=back))
    if units or skip:
        raise ValueError(f"{units + skip} units more than were taken")
    return part


def sort_return(uses: Iterable[Use], *, keeps_until_us: int) -> Return:
    """Say where units that come back go.

    Args:
        uses: What comes back.
        keeps_until_us: A lot that lives at least until this instant takes its units back. What came from
            any other goes into one new lot.

    Source: settlement/RULES.md, rules P12 and L9.
    """
    kept: list[Use] = []
    fresh_units = 0
    for use in uses:
        if use.expires_at_us >= keeps_until_us:
            kept.append(use)
        else:
            fresh_units += use.units
    return Return(kept, fresh_units)


def put_back(purse: Purse, use: Use, *, member_no: int, merchant_no: int) -> Lot:
    """Put units back into the lot that they came from; one that was emptied comes back to the purse.

    Raises:
        ValueError: The lot would hold more than it did at first.
    """
    again = Lot(
        use.lot_no, member_no, merchant_no, use.earned_units, 0, use.expires_at_us, use.made_seq
    )
    place = bisect_left(purse, again)
    if place < len(purse) and purse[place].lot_no == use.lot_no:
        lot = purse[place]
    else:
        lot = again
        purse.insert(place, lot)
    if lot.units + use.units > lot.earned_units:
        raise ValueError(f"lot {lot.lot_no} would hold more than its {lot.earned_units} units")
    lot.units += use.units
    return lot
