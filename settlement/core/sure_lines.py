"""Pairs of lines that no other line can dispute, found in columns, since either side may have millions.

A line of ours and one of the merchant's are a sure pair where both are called the same by the rules of names
(`own_lines.Names`), nothing else on either side is, and amount, day and points agree. Whatever else is in the lists,
the exact step of `matching` would pair them, and without them it comes to the same for all others. So they need not be
kept as records: a line is 36 bytes here.

Names are held as Python's 64-bit hashes, whose key is drawn at random for each process: that two different names of a
file of a million lines are taken for one, and amount and day agree as well, has a chance below one in 10^12.

Source: settlement/RULES.md, rules X17 and X18.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

import numpy as np

from settlement.core.own_lines import plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNTOLD: Final = -1
_REFERENCE: Final = np.int64(0x5DEECE66D1234567)
"""A reference is another name than an order that is spelled the same."""


class LineColumns:
    """Lines of one side, one array for each thing that is compared."""

    __slots__ = ("amounts", "days", "orders", "references", "units")

    def __init__(self) -> None:
        """Begin with none."""
        self.orders = array("q")
        self.references = array("q")
        self.days = array("i")
        self.amounts = array("q")
        self.units = array("q")

    def add(self, order: str, reference: str, day: int, amount_cu: int, units: int | None) -> None:
        """Add a line; an order or a reference that is not told is empty. Units are 0 or more, None when not told."""
        self.orders.append(hash(order))  # of an empty text it is 0
        self.references.append(hash(plain(reference)))
        self.days.append(day)
        self.amounts.append(amount_cu)
        self.units.append(_UNTOLD if units is None else units)


def sure_pairs(
    ours: LineColumns, theirs: LineColumns, *, days_max: int
) -> tuple[list[int], list[int]]:
    """Find them.

    Args:
        ours: Our open lines, none of them 0.
        theirs: The merchant's.
        days_max: How many days the two may lie apart.

    Returns:
        Places in ours, which rise, and the place in theirs that belongs to each.
    """
    orders, their_orders = np.asarray(ours.orders), np.asarray(theirs.orders)
    references, their_references = np.asarray(ours.references), np.asarray(theirs.references)
    told = (their_orders != 0) & np.isin(their_orders, orders)
    referring = ~told & (their_references != 0)
    their_names = np.where(referring, their_references ^ _REFERENCE, their_orders)
    referred = (
        (references != 0)
        & ~np.isin(orders, their_orders[told])
        & np.isin(references, their_references[referring])
    )
    names = np.where(referred, references ^ _REFERENCE, orders)
    mine, other = _common(names, their_names)
    units, their_units = np.asarray(ours.units)[mine], np.asarray(theirs.units)[other]
    apart = np.asarray(ours.days)[mine] - np.asarray(theirs.days)[other]
    sure = (
        (np.asarray(ours.amounts)[mine] == np.asarray(theirs.amounts)[other])
        & (np.abs(apart) <= days_max)
        & ((their_units == units) | (their_units == _UNTOLD))
    )
    mine, other = mine[sure], other[sure]
    rising = np.argsort(mine)
    return mine[rising].tolist(), other[rising].tolist()


def _common(
    names: NDArray[np.int64], their_names: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of the names that each side has once."""
    once, places = _once(names)
    their_once, their_places = _once(their_names)
    _, mine, other = np.intersect1d(once, their_once, assume_unique=True, return_indices=True)
    return places[mine], their_places[other]


def _once(names: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Names that stand there once, and where."""
    values, first, counts = np.unique(names, return_index=True, return_counts=True)
    alone = (counts == 1) & (values != 0)
    return values[alone], first[alone]
