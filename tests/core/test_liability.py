"""Points liability and breakage against a slow reckoning in fractions, cohort by cohort."""

from collections import defaultdict
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.programme.core.liability import (
    Cohort,
    Flow,
    LotFlow,
    estimate,
    month_of,
    roll_forward,
    unproven,
    value_cu,
)
from schemas.values.rate import Rate
from settlement.core.event import Kind

WEEK_US = 7 * 86_400_000_000
NOW_US = 1_772_000_000_000_000
"""In February 2026."""
THIS = month_of(NOW_US)


@st.composite
def flows(draw) -> list[LotFlow]:
    """What may happen to the lots of one programme: no cohort gives more than it has."""
    made = []
    for month in draw(st.lists(st.integers(THIS - 30, THIS + 6), unique=True, max_size=6)):
        have = draw(st.integers(0, 10**6))
        kind = draw(st.sampled_from([Kind.ACCRUED, Kind.CREDITED, Kind.RECEIVED]))
        made.append(LotFlow(1, month, draw(st.booleans()), kind, True, have))
        for way in (Kind.CLEARED, Kind.TAKEN, Kind.GIVEN, Kind.WITHDRAWN, Kind.LAPSED):
            gone = draw(st.integers(0, have))
            have -= gone
            if gone:
                made.append(LotFlow(1, month, draw(st.booleans()), way, False, gone))
            if gone and way is Kind.TAKEN:
                back = draw(st.integers(0, gone))
                have += back
                made.append(LotFlow(1, month, draw(st.booleans()), Kind.RETURNED, False, -back))
    return made


def reckon(all_flows: list[LotFlow]) -> tuple[Fraction, dict[int, tuple[int, ...]]]:
    """Ratio, and of each month redeemed, lapsed, outstanding, expected and earned, one after the other."""
    redeemed: defaultdict[int, int] = defaultdict(int)
    lapsed: defaultdict[int, int] = defaultdict(int)
    left: defaultdict[int, int] = defaultdict(int)
    for one in all_flows:
        left[one.month_no] += one.units if one.made else -one.units
        if not one.made and one.kind in (Kind.CLEARED, Kind.TAKEN, Kind.RETURNED):
            redeemed[one.month_no] += one.units
        if not one.made and one.kind == Kind.LAPSED:
            lapsed[one.month_no] += one.units
    over = [
        month
        for month in left
        if month_of(NOW_US - WEEK_US) - 24 <= month < month_of(NOW_US - WEEK_US)
    ]
    rights = sum(redeemed[month] + lapsed[month] + left[month] for month in over)
    ratio = Fraction(sum(lapsed[month] for month in over), rights) if rights else Fraction(0)
    found: dict[int, tuple[int, ...]] = {}
    for month in left:
        used, gone, rest = redeemed[month], lapsed[month], left[month]
        whole = used + gone + rest
        expected = max(gone, min(floor(whole * ratio), gone + rest))
        earned = gone
        if whole > expected:
            earned = max(gone, floor(Fraction(expected * used, whole - expected)))
        found[month] = (used, gone, rest, expected, earned)
    return ratio, found


@settings(max_examples=80)
@given(flows())
def test_breakage_is_what_the_formula_says(made):
    """Rule Y9: ratio, expectation and what is earned are the slow reckoning's; what is owed is never below zero."""
    found = estimate(made, as_of_us=NOW_US, late_us=WEEK_US)
    ratio, months = reckon(made)
    assert Fraction(*found.ratio) == ratio
    assert {
        one.month_no: (
            one.redeemed, one.lapsed, one.outstanding, one.expected_breakage(found.ratio),
            one.earned_breakage(found.ratio),
        )
        for one in found.cohorts
    } == months  # fmt: skip
    assert 0 <= found.ahead <= found.outstanding
    assert found.outstanding - found.ahead >= found.to_be_redeemed >= 0
    gross_cu, earned_cu = value_cu(found, Rate(num=37, den=10))
    assert 0 <= earned_cu <= gross_cu
    assert 10 * gross_cu >= 37 * found.outstanding > 10 * (gross_cu - 1)


@settings(max_examples=40)
@given(flows())
def test_the_roll_forward_leads_from_opening_to_closing(made):
    """Rule Y8: opening, what came and what went give what is outstanding; a period's opening is its closing before."""
    opening, moved = roll_forward(made)
    closing = opening + sum(flow.sign * units for flow, units in moved.items())
    assert closing == estimate(made, as_of_us=NOW_US, late_us=WEEK_US).outstanding
    before, none = roll_forward([one._replace(in_period=False) for one in made])
    assert (before, any(none.values())) == (closing, False)
    told: defaultdict[tuple[int, int, bool], int] = defaultdict(int)
    for one in made:
        told[1, one.kind, one.flow.sign > 0] += abs(one.units)
    rows = [(*key, units) for key, units in told.items()]
    assert unproven(made, rows) == {}
    assert unproven(made, [*rows, (1, Kind.LAPSED, False, 3)]) == {(1, Kind.LAPSED, False): -3}


@pytest.mark.parametrize(
    ("redeemed", "lapsed", "outstanding", "expected", "earned"),
    [
        (0, 0, 1000, 200, 0),  # nobody has spent yet: nothing is earned
        (400, 0, 600, 200, 100),  # half of what will be spent is spent: half is earned
        (800, 0, 200, 200, 200),  # all that will be spent is spent
        (900, 0, 100, 100, 100),  # more was spent than expected: what is left may break
        (500, 500, 0, 500, 500),  # over: what lapsed is earned, and nothing else
        (0, 1000, 0, 1000, 1000),  # nobody ever spent: earned when it lapsed
    ],
)
def test_breakage_follows_the_rights_that_are_exercised(
    redeemed, lapsed, outstanding, expected, earned
):
    """Rule Y9, at a ratio of a fifth: the table that an auditor can follow by hand."""
    cohort = Cohort(month_no=1, redeemed=redeemed, lapsed=lapsed, outstanding=outstanding)
    assert cohort.expected_breakage((1, 5)) == expected
    assert cohort.earned_breakage((1, 5)) == earned


def test_why_points_moved():
    """Rule Y8: a reversal that puts units back returns them, one that takes credited points back withdraws them."""
    told = {
        (made, units): LotFlow(1, 1, True, Kind.REVERSED, made, units).flow
        for made, units in ((True, 5), (False, -5), (False, 5))
    }
    assert told == {
        (True, 5): Flow.RETURNED,
        (False, -5): Flow.RETURNED,
        (False, 5): Flow.WITHDRAWN,
    }
    assert LotFlow(1, 1, True, Kind.ACCRUED, True, 5).flow is Flow.ISSUED
