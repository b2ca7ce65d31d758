"""Lots of one purse against a list that is sorted anew each time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.programme.core.lots import Lot, Purse, add_lot, available, first_live, spend

LOT = st.tuples(st.integers(1, 30), st.integers(1, 50))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("make"), st.integers(1, 30), st.integers(1, 50)),
        st.tuples(st.just("spend"), st.integers(0, 30), st.integers(1, 80)),
    ),
    max_size=60,
)


@given(STEPS)
def test_first_to_expire_is_first_spent(steps):
    """Rules L1 and L2: units come from live lots only, earliest expiry first, then lowest number, exactly."""
    purse: Purse = []
    plain: list[list[int]] = []
    for number, (what, at, units) in enumerate(steps, start=1):
        if what == "make":
            add_lot(purse, Lot(number, 1, 1, units, units, at, 1))
            plain.append([at, number, units])
            continue
        live = sorted(row for row in plain if row[0] > at and row[2] > 0)
        total = sum(row[2] for row in live)
        first = first_live(purse, at)
        assert (first.lot_no if first else None) == (live[0][1] if live else None)
        assert available(purse, at, units) == min(units, total)
        if total < units:
            continue
        uses = []
        wanted = units
        for row in live:
            given_units = min(wanted, row[2])
            row[2] -= given_units
            wanted -= given_units
            uses.append((row[1], given_units, row[2]))
            if not wanted:
                break
        assert [(lot.lot_no, took, lot.units) for lot, took in spend(purse, at, units)] == uses
    assert {lot.lot_no: lot.units for lot in purse if lot.units} == {
        number: units for _, number, units in plain if units
    }
    assert [(lot.expires_at_us, lot.lot_no) for lot in purse] == sorted(
        (lot.expires_at_us, lot.lot_no) for lot in purse
    )


def test_expiry_itself_is_too_late():
    """Rule L1: a lot is live until the instant before its expiry."""
    purse = [Lot(1, 1, 1, 5, 5, 100, 1)]
    assert available(purse, 99, 5) == 5
    assert available(purse, 100, 5) == 0


def test_more_than_there_is_cannot_be_spent():
    """Whoever spends has looked before: fewer live units than asked for is a fault."""
    with pytest.raises(ValueError, match="short"):
        spend([Lot(1, 1, 1, 5, 5, 100, 1)], 0, 6)
