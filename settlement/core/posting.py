"""Postings of an order, and of what takes it back: four legs that sum to zero, in the cycle open for its pair.

Issuer, acceptor, fees and rounding move by -debit, value - fee, fee and debit - value, and with them the pair's
bilateral gross. `Books.clear` and `Books.move` write the same out for orders that clear at once.

Source: settlement/RULES.md, rules B1 to B3, T6 and T9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.values.amounts import SUM_LIMIT
from schemas.values.ids import HOUSE_FEES, HOUSE_ROUNDING
from settlement.core import headroom
from settlement.core.window import note

if TYPE_CHECKING:
    from settlement.core.books import Books
    from settlement.core.window import Pair, Window


def credit(
    books: Books,
    window: Window | None,
    issuer: int,
    acceptor: int,
    debit_cu: int,
    value_cu: int,
    fee_cu: int,
    /,
) -> None:
    """Book the credits of a cleared order and its bilateral gross; in a window its debit too.

    Raises:
        OverflowError: The pair's sum passes what the books can hold; they are of no use then, and are loaded again.
    """
    pair = (issuer, acceptor)
    if window is not None:
        window.add(pair, debit_cu, value_cu, fee_cu)
        if window.obligations[pair].debit >= SUM_LIMIT:
            raise _too_much(pair)
        _post_beside(books, window, issuer, acceptor, debit_cu, value_cu, fee_cu)
        return
    books.accounts[acceptor].open += value_cu - fee_cu
    books.move(pair, 1, debit_cu, value_cu, fee_cu)
    if books.obligations[pair].debit >= SUM_LIMIT:
        raise _too_much(pair)


def take_back(
    books: Books, issuer: int, acceptor: int, debit_cu: int, value_cu: int, fee_cu: int, /
) -> None:
    """Take an obligation, or a part of one, back; the figures are positive, and no cap refuses it."""
    pair = (issuer, acceptor)
    window = books.window_of(issuer, acceptor)
    if window is not None:
        window.take_back(pair, debit_cu, value_cu, fee_cu)
        _post_beside(books, window, *pair, -debit_cu, -value_cu, -fee_cu)
    else:
        books.accounts[issuer].open += debit_cu
        books.accounts[acceptor].open -= value_cu - fee_cu
        books.fees_cu -= fee_cu
        books.rounding_cu -= debit_cu - value_cu
        note(books.reversed, books.reversed_pairs, pair, 1, debit_cu, value_cu, fee_cu)
    headroom.note_breach(books, acceptor, window)


def _post_beside(
    books: Books,
    window: Window,
    issuer: int,
    acceptor: int,
    debit_cu: int,
    value_cu: int,
    fee_cu: int,
    /,
) -> None:
    """Move the figures of a cycle beside the main one; what falls below 0 there weighs on every cap.

    In a gross cycle the money moves with them, and nothing weighs (rule T9).
    """
    for party, cu in (
        (issuer, -debit_cu),
        (acceptor, value_cu - fee_cu),
        (HOUSE_FEES, fee_cu),
        (HOUSE_ROUNDING, debit_cu - value_cu),
    ):
        before = window.net(party)
        after = window.nets[party] = before + cu
        if window.gross:
            _move_at_once(books, party, cu)
        elif party > 0:
            books.accounts[party].unsettled += min(0, after) - min(0, before)


def _move_at_once(books: Books, party: int, cu: int) -> None:
    """Move a leg of a gross line into the funds; a merchant that it leaves below zero is told of."""
    if not cu:
        return
    books.funds.add(party, cu)
    left_cu = books.funds.of(party)
    if party > 0 and cu < 0 and left_cu < 0:
        books.changes.breached[party] = -left_cu


def contradiction(units: int, debit_cu: int, value_cu: int, fee_cu: int) -> ValueError:
    """What `event_amounts_add_up` holds in the database is broken: whoever priced the order was wrong."""
    return ValueError(
        f"no order: {units} units, debit {debit_cu}, value {value_cu}, fee {fee_cu} CU"
    )


def _too_much(pair: Pair) -> OverflowError:
    return OverflowError(f"obligations of {pair} pass what the books can hold in one cycle")
