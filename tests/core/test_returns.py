"""Units that come back: which of what was taken, into which lots, and what is left of their lives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.programme.core.lotbook import LotBook
from exchange.programme.core.lots import (
    DAY_US,
    RETURN_LIFE_US,
    Lot,
    Purse,
    Return,
    Use,
    add_lot,
    last_taken,
    put_back,
    sort_return,
    spend,
)

LOTS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 50)), min_size=1, max_size=8)


def purse_of(lots):
    """A purse of lots, each with its expiry in days and its units, numbered from 1."""
    purse: Purse = []
    for number, (days, units) in enumerate(lots, start=1):
        add_lot(purse, Lot(number, 7, 3, units, units, days * DAY_US, number))
    return purse


def uses_of(touched):
    """What `spend` took, as the store would have it."""
    return [
        Use(lot.lot_no, lot.earned_units, lot.expires_at_us, lot.made_seq, units)
        for lot, units in touched
    ]


@given(LOTS, st.data())
def test_what_comes_back_whole_leaves_the_purse_as_it_was(lots, data):
    """Rule L9: units that are given back while their lots live are in the very lots that they came from."""
    purse = purse_of(lots)
    before = [(lot.lot_no, lot.units) for lot in purse]
    uses = uses_of(spend(purse, 0, data.draw(st.integers(1, sum(units for _, units in lots)))))
    back = sort_return(uses, keeps_until_us=DAY_US)
    assert back.fresh_units == 0
    for use in back.kept:
        put_back(purse, use, member_no=7, merchant_no=3)
    assert [(lot.lot_no, lot.units) for lot in purse] == before


@given(LOTS, st.data())
def test_parts_that_come_back_add_up_to_the_whole(lots, data):
    """What was taken last comes back first, and parts of any size together are exactly what was taken."""
    purse = purse_of(lots)
    taken = data.draw(st.integers(1, sum(units for _, units in lots)))
    uses = uses_of(spend(purse, 0, taken))
    came: dict[int, int] = {}
    order = []
    skip = 0
    while skip < taken:
        units = data.draw(st.integers(1, taken - skip))
        for use in last_taken(uses, skip=skip, units=units):
            came[use.lot_no] = came.get(use.lot_no, 0) + use.units
            order.append((use.expires_at_us, use.lot_no))
        skip += units
    assert came == {use.lot_no: use.units for use in uses}
    assert order == sorted(order, reverse=True)
    with pytest.raises(ValueError, match="more than were taken"):
        last_taken(uses, skip=skip, units=1)


def test_a_lot_with_thirty_days_left_keeps_its_expiry():
    """Rule P12: exactly 30 days left is enough; an instant less, and the units go into one new lot."""
    now_us = 100 * DAY_US
    lots = [
        Use(1, 9, now_us + RETURN_LIFE_US - 1, 1, 2),
        Use(2, 9, now_us + RETURN_LIFE_US, 1, 3),
        Use(3, 9, now_us - DAY_US, 1, 4),
    ]
    assert sort_return(lots, keeps_until_us=now_us + RETURN_LIFE_US) == Return([lots[1]], 6)


def test_a_lot_never_holds_more_than_at_first():
    """Units that come back twice are a fault, and nothing is given."""
    purse = purse_of([(9, 5)])
    with pytest.raises(ValueError, match="more than its 5 units"):
        put_back(purse, Use(1, 5, 9 * DAY_US, 1, 1), member_no=7, merchant_no=3)
    assert purse[0].units == 5


def test_the_book_finds_what_is_not_stored_yet_and_writes_what_comes_back():
    """What an event took is known before its flush has landed; what comes back is written as less than no use."""
    book = LotBook(last_lot_no=2)
    book.put_members([7], [Lot(1, 7, 3, 5, 5, 9 * DAY_US, 1), Lot(2, 7, 3, 8, 8, 50 * DAY_US, 2)])
    book.take_units(book.members[7][3], 0, 6, seq=40)
    uses = [Use(1, 5, 9 * DAY_US, 1, 5), Use(2, 8, 50 * DAY_US, 2, 1)]
    assert book.uses_of(40) == uses
    book.take()
    assert book.uses_of(40) == uses
    book.take()
    assert book.uses_of(40) == []
    book.stored_uses[40] = uses
    back = sort_return(book.uses_of(40), keeps_until_us=RETURN_LIFE_US)
    assert (back.kept, back.fresh_units) == ([uses[1]], 5)
    book.put_back(7, 3, back, fresh_until_us=RETURN_LIFE_US, seq=44)
    changes = book.take()
    assert changes.uses == [2, 44, -1, 8]
    assert [(lot.lot_no, lot.units, lot.expires_at_us, lot.made_seq) for lot in changes.made] == [
        (3, 5, RETURN_LIFE_US, 44)
    ]
    assert [lot.lot_no for lot in book.members[7][3]] == [3, 2]
