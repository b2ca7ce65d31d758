"""Reversals of orders on hosted points: what was spent comes back, and what was credited is taken back.

Source: settlement/RULES.md, rules V1 to V5 and P12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.programme.core.lots import RETURN_LIFE_US, Lot, Return, last_taken, sort_return
from schemas.values.reason import Reason
from settlement.core.books import settled_until
from settlement.core.reversal import find, take_back

if TYPE_CHECKING:
    from exchange.programme.core.lotbook import LotBook
    from settlement.core.books import Books
    from settlement.core.command import Entry, Reverse
    from settlement.core.reversal import Amounts, Cleared

_NOTHING_BACK = Return([], 0)


def decide(command: Reverse, book: LotBook, books: Books) -> Entry:
    """Decide one reversal on lots and books; nothing changes if it is refused.

    Args:
        command: What is wanted.
        book: The lots, with the order's member loaded, and what the order took of them.
        books: The books, with the order loaded.

    Returns:
        The reversal, or the refusal that was written down.
    """
    found = find(books, command)
    if isinstance(found, Reason):
        return books.refuse(command, found)
    order, part = found
    uses = book.uses_of(order.cleared_seq)
    credited = _credited_lot(order, part, book, books)
    if isinstance(credited, Reason):
        return books.refuse(command, credited)
    keeps_until_us = books.clock_us + RETURN_LIFE_US
    back = _NOTHING_BACK
    if uses:
        came = last_taken(uses, skip=order.reversed.units, units=part.units)
        back = sort_return(came, keeps_until_us=keeps_until_us)
    fresh = bool(back.fresh_units)
    entry = take_back(
        books,
        command,
        order,
        part,
        lot_no=book.last_lot_no + 1 if fresh else 0,
        due_at_us=keeps_until_us if fresh else 0,
    )
    book.put_back(order.member_no, order.issuer, back, fresh_until_us=keeps_until_us, seq=entry.seq)
    if credited is not None:
        book.take_from_lot(credited, part.credited_units, entry.seq)
    if command.issuer_member:
        book.owed.append((entry.seq, command.issuer_member))
    return entry


def _credited_lot(
    order: Cleared, part: Amounts, book: LotBook, books: Books
) -> Lot | Reason | None:
    """The lot that points are taken back from, or why they cannot be.

    Returns:
        None where nothing is taken back here; POINTS_SPENT if the lot has fewer units left, or none
        because it lapsed.
    """
    if not order.lot_no or not part.credited_units:
        return None
    for lot in book.members[order.member_no].get(order.acceptor, []):
        if lot.lot_no == order.lot_no:
            live = lot.expires_at_us > settled_until(books)
            return lot if live and lot.units >= part.credited_units else Reason.POINTS_SPENT
    return Reason.POINTS_SPENT
