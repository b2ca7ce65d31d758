"""Lots of hosted points: which are live, and which are spent first.

A lot is points that expire together. The lot that expires first is spent first; of those that expire
together the one with the lower number (settlement/RULES.md, rules L1 and L2).
"""

from __future__ import annotations

from bisect import insort
from typing import Final

DAY_US: Final = 86_400_000_000


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
