"""The liquidity-saving run against an independent search, on gridlocks that are drawn."""

import random
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from settlement.core.funds import Discharged
from settlement.core.liquidity import paid_cu, save_liquidity


def gridlock(
    merchants: int, density: float, money: float, seed: int
) -> tuple[list[Discharged], dict[int, int]]:
    """Obligations between many pairs, and funds of about `money` of what each would pay in all."""
    draw = random.Random(seed)
    pairs = []
    for one, other in combinations(range(1, merchants + 1), 2):
        if draw.random() < density:
            owed = draw.choice((-1, 1)) * draw.randint(1, 9) * draw.choice((1_000, 20_000, 300_000))
            fee = draw.randint(0, abs(owed) // 100)
            legs = (owed, -owed - fee) if owed < 0 else (owed - fee, -owed)
            pairs.append(Discharged(one, other, *legs, fee, 0))
    funds = dict.fromkeys(range(1, merchants + 1), 0)
    for pair in pairs:
        for party, cu in pair.legs():
            if party > 0 > cu:
                funds[party] += int(-cu * money * draw.random())
    return pairs, funds


def largest(pairs: list[Discharged], funds: dict[int, int]) -> int:
    """The largest value of any set after which nobody is below zero: all sets are tried."""
    best = 0
    for mask in range(1 << len(pairs)):
        after = dict(funds)
        value = 0
        for place, pair in enumerate(pairs):
            if mask >> place & 1:
                value += paid_cu(pair)
                for party, cu in pair.legs():
                    after[party] = after.get(party, 0) + cu
        if value > best and all(
            cu >= -99 or cu >= funds[party] for party, cu in after.items() if party > 0
        ):
            best = value
    return best


def check(pairs: list[Discharged], funds: dict[int, int], run) -> None:
    """Whatever was found: it can be paid, everything is told of, and every reason is one."""
    after = dict(funds)
    for pair in run.settled:
        for party, cu in pair.legs():
            after[party] = after.get(party, 0) + cu
    assert all(cu >= -99 for party, cu in after.items() if party > 0)
    assert sorted([*run.settled, *(one.pair for one in run.left_out)]) == sorted(pairs)
    assert run.value_cu == sum(map(paid_cu, run.settled)) <= run.bound_cu
    for one in run.left_out:
        left = after[one.merchant] + dict(one.pair.legs())[one.merchant]
        assert left + one.missing_cu == -99
        assert one.missing_cu > 0


SMALL = {
    "merchants": st.integers(2, 5),
    "density": st.sampled_from([0.6, 1.0]),
    "seed": st.integers(0, 10**6),
}


@settings(deadline=None, max_examples=40)
@given(**SMALL, money=st.sampled_from([0.0, 0.3, 0.6, 1.0]))
def test_small_gridlocks_settle_as_much_as_any_set_could(merchants, density, money, seed):
    """Rule U8: the run is as good as trying every set, says so, and ignores the order of its input."""
    pairs, funds = gridlock(merchants, density, money, seed)
    run = save_liquidity(pairs, funds)
    check(pairs, funds, run)
    assert run.exact
    assert run.value_cu == run.bound_cu == largest(pairs, funds)
    assert save_liquidity(pairs[::-1], funds) == run


@settings(deadline=None, max_examples=30)
@given(**SMALL, money=st.sampled_from([0.1, 0.5, 0.9]))
def test_without_steps_the_run_still_settles_what_it_can_and_bounds_the_rest(
    merchants, density, money, seed
):
    """Rule U8: a search that ends early is below the exact result, and its bound is above it."""
    pairs, funds = gridlock(merchants, density, money, seed)
    run = save_liquidity(pairs, funds, steps_max=0)
    check(pairs, funds, run)
    assert run.value_cu <= largest(pairs, funds) <= run.bound_cu


def test_gridlocks_of_many_merchants_come_near_their_bound():
    """Rule U8: for twelve merchants within few steps, all found sets together are above nine tenths of the bounds."""
    found = bound = 0
    for seed in range(6):
        pairs, funds = gridlock(12, 0.8, 0.7, seed)
        run = save_liquidity(pairs, funds, steps_max=500)
        check(pairs, funds, run)
        found, bound = found + run.value_cu, bound + run.bound_cu
    assert found / bound > 0.9, f"{found / bound:.3f} of the bound"


def test_a_circle_settles_without_any_money():
    """Rule U8: what goes round needs nothing; a debt beside it that nobody can pay is left out, and says why."""
    circle = [
        Discharged(1, 2, -500, 500, 0, 0), Discharged(1, 3, 500, -500, 0, 0), Discharged(2, 3, -500, 500, 0, 0),
    ]  # fmt: skip
    debt = Discharged(1, 4, -300, 299, 1, 0)
    run = save_liquidity([*circle, debt], {})
    assert run.settled == tuple(sorted(circle))
    assert [(one.pair, one.merchant, one.missing_cu) for one in run.left_out] == [(debt, 1, 201)]
    assert (run.value_cu, run.exact) == (1_500, True)


def test_whoever_is_below_zero_already_may_receive():
    """Rule U8: funds below zero do not keep a merchant from being paid; it pays nothing that it does not get."""
    pairs = [Discharged(1, 2, 400, -400, 0, 0), Discharged(1, 3, -300, 300, 0, 0)]
    run = save_liquidity(pairs, {1: -1_000, 2: 400})
    assert run.settled == tuple(pairs)
