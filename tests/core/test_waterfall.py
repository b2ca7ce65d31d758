"""The default waterfall: the published order, exact parts, and books that follow it step by step."""

from hypothesis import given, settings
from hypothesis import strategies as st

from settlement.core.books import Books
from settlement.core.command import Discharge, Pot, SettleCycle, Transfer, Unwind
from settlement.core.event import Kind
from settlement.core.funds import Discharged
from settlement.core.waterfall import Figures, Planned, StepKind, plan, share_out
from tests.core.test_funds import closed_books, deposit, do


def figures(books: Books, *, run: bool = False) -> Figures:
    """What the books of the examples hold: pairs as they were ordered."""
    sums: dict[tuple[int, int], list[int]] = {}
    for issuer, acceptor, debit in ORDERS:
        one, other = sorted((issuer, acceptor))
        sum_ = sums.setdefault((one, other), [0, 0, 0])
        sum_[issuer > acceptor] -= debit
        sum_[issuer < acceptor] += debit - 1
        sum_[2] += 1
    done = books.funds.discharged.get(1, {})
    return Figures(
        residual=books.funds.residual(1, books.unsettled[1]),
        balances=books.funds.balances,
        collateral={number: account.collateral for number, account in books.accounts.items()},
        shares=books.funds.contributions,
        pairs=tuple(
            Discharged(*pair, legs[0], legs[1], legs[2], 0)
            for pair, legs in sorted(sums.items())
            if pair not in done
        ),
        run=run,
    )


ORDERS = ((1, 2, 5_000), (1, 3, 3_000), (2, 3, 1_000))


def carry_out(books: Books, step: Planned) -> None:
    """Do one step, whatever it is."""
    if step.kind is StepKind.PREFUNDED:
        return
    if step.kind is StepKind.LIQUIDITY:
        answer = books.decide(do(Discharge, cycle_no=1, pairs=step.pairs))
    elif step.kind is StepKind.SETTLE:
        answer = books.decide(do(SettleCycle, cycle_no=1, funded=True))
    elif step.kind is StepKind.UNWIND:
        answer = books.decide(do(Unwind, cycle_no=1, debtor=1, shares=step.moves))
    else:
        answer = [
            books.decide(
                do(Transfer, giver=giver, giver_pot=step.pot, taker=1, taker_pot=0, cu=cu, cycle_no=1)
            )[0]
            for giver, cu in step.moves
        ]  # fmt: skip
    assert all(entry.kind != Kind.REFUSED for entry in answer), (step, answer)


POTS = {
    "prefunded": st.integers(0, 9_000),
    "collateral": st.integers(0, 3_000),
    "own": st.integers(0, 1_500),
    "house": st.integers(0, 1_500),
    "second": st.integers(0, 2_000),
    "third": st.integers(0, 2_000),
    "paid": st.booleans(),
}


@settings(deadline=None, max_examples=60)
@given(**POTS)
def test_every_default_ends_with_a_settled_cycle_and_sums_that_are_zero(
    prefunded, collateral, own, house, second, third, paid
):
    """Rules U1, U9 and U11: in the published order, from any pots; each step is possible, and the ledger stays whole.

    A plan made anew after each step goes on with the steps of the first one.
    """
    books = closed_books(*ORDERS)
    money = [
        deposit(1, prefunded), deposit(1, collateral, Pot.COLLATERAL), deposit(1, own, Pot.DEFAULT_FUND),
        deposit(0, house, Pot.DEFAULT_FUND), deposit(2, second, Pot.DEFAULT_FUND), deposit(3, third, Pot.DEFAULT_FUND),
    ]  # fmt: skip
    if paid:
        money.append(deposit(3, 500))
    for each in money:
        if each.cu:
            books.decide(each)
    bank = sum(each.cu for each in money)
    first = steps = plan(figures(books), 1)
    kinds = [step.kind for step in steps]
    assert kinds == sorted(kinds, key=list(StepKind).index)
    run = False
    for number, step in enumerate(first):
        assert [one.kind for one in steps[number:]] == [one.kind for one in first[number:]]
        carry_out(books, step)
        held = sum(account.collateral for account in books.accounts.values())
        assert sum(books.funds.balances.values()) + held == bank
        run |= list(StepKind).index(step.kind) >= list(StepKind).index(StepKind.LIQUIDITY)
        if 1 in books.unsettled and step.kind is not StepKind.PREFUNDED:
            later = plan(figures(books, run=run), 1)
            steps = [*first[: number + 1], *later[1:]]
    assert 1 not in books.unsettled
    assert all(cu >= -99 for party, cu in books.funds.balances.items() if party > 0)
    if kinds[-1] is StepKind.UNWIND:
        assert not any(books.funds.contributions.values())
        assert sum(books.funds.debts.values()) > 0
    owed = sum(cu for _, cu in books.funds.debts.items())
    helped = sum(
        step.cu
        for step in first
        if step.kind in (StepKind.HOUSE_SHARE, StepKind.OTHERS_SHARE, StepKind.UNWIND)
    )
    assert owed == helped


@given(
    weights=st.dictionaries(st.integers(-2, 50), st.integers(1, 10**12), min_size=1),
    part=st.fractions(0, 1),
)
def test_parts_are_pro_rata_and_exact(weights, part):
    """Rule U9: the parts come to the amount, none is more than its weight, none is 1 CU or more from its share."""
    total = sum(weights.values())
    cu = total * part.numerator // part.denominator
    found = dict(share_out(cu, weights))
    assert sum(found.values()) == cu
    for party, weight in weights.items():
        assert abs(found.get(party, 0) * total - cu * weight) < total
        assert found.get(party, 0) <= weight


def test_the_order_is_as_published():
    """Rule U9: prefunded money, collateral, run, own share, the house's, the others', then the rest is owed."""
    books = closed_books(*ORDERS)
    for each in (
        deposit(1, 1_000), deposit(1, 700, Pot.COLLATERAL), deposit(1, 300, Pot.DEFAULT_FUND),
        deposit(0, 200, Pot.DEFAULT_FUND), deposit(2, 20, Pot.DEFAULT_FUND), deposit(3, 10, Pot.DEFAULT_FUND),
        deposit(2, 1_000),
    ):  # fmt: skip
        books.decide(each)
    steps = plan(figures(books), 1)
    assert [(step.kind.value, step.cu, step.moves) for step in steps] == [
        ("prefunded", 1_000, ()),
        ("collateral", 700, ((1, 700),)),
        ("liquidity_saving_run", 1_000, ()),
        ("defaulters_contribution", 300, ((1, 300),)),
        ("house_contribution", 200, ((0, 200),)),
        ("others_contributions", 30, ((2, 20), (3, 10))),
        ("unwind", 5_770, ((-1, 1), (2, 3_606), (3, 2_163))),
    ]
