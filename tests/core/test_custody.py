"""Whose the money is that a bank's statement shows, and what blocks a release."""

from dataclasses import replace
from typing import Any

import pytest

from settlement.core.custody import Custody, Entry, place
from settlement.core.instruction import HOUSE_LEG

ENTRY = Entry(
    statement_no=3,
    entry_no=14,
    statement="S",
    amount_fen=500,
    reference="r",
    party_name="",
    party=None,
)
PLACES: dict[str, tuple[dict[str, Any], int, tuple[tuple[int, int], ...]]] = {
    # what is told of the movement, what is in transit: its parts
    "nobody is known": ({}, 0, ()),
    "a known account": ({"party": 2}, 0, ((2, 50_000),)),
    "the house's own account": ({"party": HOUSE_LEG}, 0, ((-1, 50_000),)),
    "a payment": ({"matched": ((2, 500),)}, 0, ((2, 50_000),)),
    "a payment of another amount that was accepted": ({"matched": ((2, 499),)}, 0, ((2, 50_000),)),
    "two payments of one merchant": ({"matched": ((2, 300), (2, 100))}, 0, ((2, 50_000),)),
    "payments of two": ({"matched": ((2, 300), (HOUSE_LEG, 200))}, 0, ((2, 30_000), (-1, 20_000))),
    "payments of two that do not come to it": ({"matched": ((2, 300), (3, 100))}, 0, ()),
    "one of several movements for two": ({"matched": ((2, 300), (3, 200)), "alone": False}, 0, ()),
    "something differs": ({"matched": ((2, 500),), "waits": True}, 0, ()),
    "a withdrawal in transit": ({"party": 2, "amount_fen": -500}, 50_000, ((-4, -50_000),)),
    "more than is in transit": ({"party": 2, "amount_fen": -500}, 49_999, ()),
    "a pay-out": ({"matched": ((2, -500),), "amount_fen": -500}, 0, ((2, -50_000),)),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_movement_is_booked_to_whom_it_belongs_or_waits(name):
    """Rule U12: by the payments it was matched with, by its account, or not at all; the parts are the movement."""
    told, transit_cu, parts = PLACES[name]
    entry = replace(ENTRY, **told)
    assert place(entry, transit_cu=transit_cu) == parts
    assert not parts or sum(cu for _, cu in parts) == entry.amount_fen * 100


@pytest.mark.parametrize(
    ("fen", "rounding_cu", "parts"),
    [
        (-500, 20_001, ((-2, -20_001), (-1, -29_999))),
        (-500, 60_000, ((-2, -50_000),)),
        (-500, -7, ((-1, -50_000),)),
        (500, -20_001, ((-2, 20_001), (-1, 29_999))),
        (500, 3, ((-1, 50_000),)),
    ],
)
def test_the_houses_leg_evens_its_rounding_out(fen, rounding_cu, parts):
    """Rule U12: what the house is paid are remainders as far as there are any, and fees; what it pays in likewise."""
    entry = replace(ENTRY, amount_fen=fen, matched=((HOUSE_LEG, fen),))
    assert place(entry, transit_cu=0, rounding_cu=rounding_cu) == parts


def test_a_release_is_blocked_by_the_first_thing_that_differs():
    """Rule U12: an open movement by its name, then the balance, then money that was only announced; else nothing."""
    held = Custody(accounts=("1",), bank_fen=500, books_cu=50_000, announced_cu=0, unbooked=())
    assert held.why_not() == ""
    assert "3/14 of statement S, 5.00 yuan (r)" in replace(held, unbooked=(ENTRY,)).why_not()
    assert "and 1 more" in replace(held, unbooked=(ENTRY, ENTRY)).why_not()
    assert "holds 5.00 yuan, the books say 5.0001" in replace(held, books_cu=50_001).why_not()
    assert "0.0300 yuan are announced" in replace(held, announced_cu=300).why_not()
