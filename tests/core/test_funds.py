"""Whose the money is: funds, collateral, the default fund, and what a closed cycle takes of them."""

from collections import Counter
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from settlement.core.books import Books
from settlement.core.command import (
    BooksCommand,
    CloseCycle,
    Command,
    Deposit,
    Discharge,
    Join,
    Order,
    PayOut,
    Pot,
    SettleCycle,
    Transfer,
    Unwind,
)
from settlement.core.event import Kind, unpack_event
from tests.core.test_books import THOROUGH, play
from tests.simulation.compare import told_figures
from tests.simulation.ground import BODY, START_US, new_key
from tests.simulation.histories import STEPS

BUSY = [
    *(("order", one, other, 0, 9, 3) for one, other in ((3, 0), (4, 1), (3, 4), (4, 0))),
    *(("purchase", one, one, 2_000, 6, 5) for one in range(3)),
]
"""Orders that leave some to pay and some to receive."""
MONEY = st.lists(
    st.one_of(
        *(
            STEPS[name]
            for name in ("deposit", "deposit", "pay_out", "fund", "transfer", "transfer", "help")
        ),
        *(STEPS[name] for name in ("discharge", "unwind", "settle", "collateral", "order")),
    ),
    min_size=5,
    max_size=25,
)
HISTORY = st.tuples(MONEY, MONEY).map(
    lambda both: [
        *(*BUSY, ("close", 5, 5, 0), *both[0]),
        *(*BUSY, ("close", 5, 5, 0), *both[1]),
    ]
)


@THOROUGH
@given(history=HISTORY, caller_clock=st.booleans())
def test_money_says_what_the_oracle_says(history, caller_clock):
    """Rules U1 to U11: each answer, funds, shares, debts and settled pairs are the oracle's; the audit is clean."""
    house, script = play(history, caller_clock=caller_clock)
    assert house.figures() == told_figures(script.oracle)
    assert house.audit().report.differences == []


@settings(THOROUGH, max_examples=15)
@given(history=HISTORY)
def test_funds_collateral_and_positions_sum_to_what_the_bank_holds(history):
    """Rule U1: funds and collateral are what came in less what went out, after every single event.

    The shares of the default fund are the fund, and what is not settled sums to zero.
    """
    house, _ = play(history, caller_clock=False)
    books = house.books
    bank, collateral = 0, Counter[int]()
    for event in map(unpack_event, house.events):
        if event.kind == Kind.DEPOSITED:
            bank += event.value_cu
        elif event.kind == Kind.PAID_OUT:
            bank -= event.value_cu
        elif event.kind == Kind.COLLATERAL_SET:
            bank += event.value_cu - collateral[event.issuer]
        for party, pot, cu in (
            (event.issuer, event.units, (event.kind == Kind.DEPOSITED) * event.value_cu),
            (
                event.issuer,
                event.units,
                -(event.kind in (Kind.PAID_OUT, Kind.TRANSFERRED)) * event.value_cu,
            ),
            (
                event.acceptor,
                event.credited_units,
                (event.kind == Kind.TRANSFERRED) * event.value_cu,
            ),
        ):
            collateral[party] += cu if cu and pot == Pot.COLLATERAL else 0
        if event.kind == Kind.COLLATERAL_SET:
            collateral[event.issuer] = event.value_cu
    held = sum(account.collateral for account in books.accounts.values())
    assert sum(books.funds.balances.values()) + held == bank
    assert sum(books.funds.contributions.values()) == books.funds.of(-3)
    for cycle_no, nets in books.unsettled.items():
        assert sum(nets.values()) == 0
        assert sum(books.funds.residual(cycle_no, nets).values()) == 0


@settings(THOROUGH, max_examples=15)
@given(history=HISTORY, funded=st.booleans(), first=st.booleans())
def test_settling_one_cycle_never_breaches_a_cap_that_another_consumed(history, funded, first):
    """Rule U5: settling lowers nobody's headroom, whatever other cycles and holds have consumed of it."""
    house, _ = play(history, caller_clock=False)
    books = house.books
    for cycle_no in sorted(books.unsettled, reverse=first):
        before = {number: account.base for number, account in books.accounts.items()}
        books.decide(settle(cycle_no, funded=funded))
        assert all(books.accounts[number].base >= base for number, base in before.items())


# By example ------------------------------------------------------------------------------------------


C = TypeVar("C", bound=Command)


def do(kind: type[C], **rest: Any) -> C:
    """A command of the house under a key of its own."""
    return kind(caller=0, key=new_key(), body=BODY, **rest)


def settle(cycle_no: int, *, funded: bool = True) -> SettleCycle:
    """The settlement of a cycle."""
    return do(SettleCycle, cycle_no=cycle_no, funded=funded)


def said(books: Books, command: BooksCommand) -> tuple[Kind, int]:
    """Kind and reason of a command's last event."""
    entry = books.decide(command)[-1]
    return Kind(entry.kind), entry.reason


def closed_books(*orders: tuple[int, int, int]) -> Books:
    """Three merchants with caps of 10,000 and one closed cycle of such orders: issuer, acceptor, debit; fee 1."""
    books = Books(part=1)
    books.tick(START_US)
    for number in (1, 2, 3):
        books.decide(do(Join, merchant_no=number, cap_cu=10_000))
    books.decide(do(CloseCycle, cycle_no=0, next_id="one"))
    for issuer, acceptor, debit in orders:
        entry = books.decide(
            do(
                Order, issuer=issuer, acceptor=acceptor, member_no=1, units=1, debit_cu=debit,
                value_cu=debit, fee_cu=1, rate_no=1,
            )
        )[0]  # fmt: skip
        assert entry.kind == Kind.CLEARED
    books.decide(do(CloseCycle, cycle_no=1, next_id="two"))
    return books


def deposit(party: int, cu: int, pot: int = Pot.FUNDS) -> Deposit:
    """Money that came in."""
    return do(Deposit, party=party, pot=pot, cu=cu)


def transfer(
    giver: int, giver_pot: int, taker: int, taker_pot: int, cu: int, cycle_no: int = 0
) -> Transfer:
    """Money that is counted elsewhere."""
    return do(
        Transfer, giver=giver, giver_pot=giver_pot, taker=taker, taker_pot=taker_pot, cu=cu,
        cycle_no=cycle_no,
    )  # fmt: skip


INSUFFICIENT = (Kind.REFUSED, 120)
MOVED = (Kind.REFUSED, 121)


def test_a_cycle_settles_when_the_money_is_there_and_not_before():
    """Rule U6: 100 CU missing refuse it; 99 are below one fen, and are carried."""
    books = closed_books((1, 2, 500))
    assert said(books, settle(1)) == INSUFFICIENT
    books.decide(deposit(1, 400))
    assert said(books, settle(1)) == INSUFFICIENT
    books.decide(deposit(1, 1))
    assert said(books, settle(1))[0] is Kind.CYCLE_SETTLED
    assert books.funds.balances == {1: -99, 2: 499, -1: 1}
    assert books.accounts[1].unsettled == 0


def test_a_zero_value_window_settles():
    """Rule U6: a cycle in which nothing is to be paid needs no money."""
    books = closed_books()
    assert said(books, settle(1))[0] is Kind.CYCLE_SETTLED
    assert books.funds.balances == {}


def test_money_that_a_closed_cycle_needs_is_not_given_back():
    """Rule U4: a withdrawal leaves what closed cycles need; the rest is in transit until the bank says so."""
    books = closed_books((1, 2, 500))
    books.decide(deposit(1, 700))
    assert said(books, transfer(1, 0, -4, 0, 201)) == INSUFFICIENT
    assert said(books, transfer(1, 0, -4, 0, 200))[0] is Kind.TRANSFERRED
    books.decide(settle(1))
    assert books.funds.balances == {1: 0, 2: 499, -1: 1, -4: 200}
    books.decide(do(PayOut, party=-4, pot=0, cu=200))
    assert sum(books.funds.balances.values()) == 500


@pytest.mark.parametrize(
    "movement", ["funds", "collateral", "of the default fund", "fees paid out"]
)
def test_where_funds_are_kept_nothing_is_settled_on_a_word(movement):
    """Rule U13: after any movement of the bank a word is refused, and with the money the cycle settles as before.

    A movement that is refused was none, and the refusal moves nothing.
    """
    books = closed_books((1, 2, 500))
    assert said(books, deposit(9, 100))[0] is Kind.REFUSED
    assert not books.funds.kept
    books.take()
    booked: dict[str, BooksCommand] = {
        "funds": deposit(1, 500),
        "collateral": deposit(3, 1, Pot.COLLATERAL),
        "of the default fund": deposit(0, 1, Pot.DEFAULT_FUND),
        "fees paid out": do(PayOut, party=-1, pot=0, cu=1),
    }
    books.decide(booked[movement])
    change = books.take().funds
    assert change is not None
    assert change.begun
    assert said(books, settle(1, funded=False)) == (Kind.REFUSED, 145)
    assert (books.accounts[1].unsettled, books.take().funds) == (-500, None)
    if movement != "funds":
        books.decide(deposit(1, 500))
    assert said(books, settle(1))[0] is Kind.CYCLE_SETTLED


def test_nobody_takes_out_what_another_has_not_paid_in():
    """Rule U4: where a cycle was settled on somebody's word, a payee's money is given out only once it is there."""
    books = closed_books((1, 2, 500))
    assert said(books, settle(1, funded=False))[0] is Kind.CYCLE_SETTLED
    assert books.funds.balances == {1: -500, 2: 499, -1: 1}
    assert said(books, transfer(2, 0, -4, 0, 499)) == INSUFFICIENT
    books.decide(deposit(1, 500))
    assert said(books, transfer(2, 0, -4, 0, 499))[0] is Kind.TRANSFERRED


def test_collateral_that_the_cap_needs_is_not_given_back():
    """Rule C5: a withdrawal of collateral may not break the cap; by whichever command."""
    books = closed_books((1, 2, 9_000))
    books.decide(deposit(1, 500, Pot.COLLATERAL))
    books.decide(
        do(
            Order, issuer=1, acceptor=2, member_no=1, units=1, debit_cu=1_200, value_cu=1_200,
            fee_cu=0, rate_no=1,
        )
    )  # fmt: skip
    assert said(books, transfer(1, 1, -4, 0, 301)) == (Kind.REFUSED, 1)
    assert said(books, transfer(1, 1, 1, 0, 300))[0] is Kind.TRANSFERRED
    assert said(books, do(PayOut, party=1, pot=1, cu=201)) == INSUFFICIENT


def test_merchants_pay_each_other_nothing_but_debts():
    """Rule U10: a creditor whose share settled the cycle is owed it, is paid back, and not a CU more."""
    books = closed_books((1, 2, 500))
    books.decide(deposit(2, 40, Pot.DEFAULT_FUND))
    books.decide(deposit(1, 100))
    assert said(books, transfer(2, 2, 1, 0, 401, 1)) == INSUFFICIENT
    books.decide(deposit(2, 400, Pot.DEFAULT_FUND))
    assert said(books, transfer(2, 2, 1, 0, 401, 1)) == MOVED
    assert said(books, transfer(2, 2, 1, 0, 400, 1))[0] is Kind.TRANSFERRED
    assert books.funds.debts == {(1, 2): 400}
    assert said(books, settle(1))[0] is Kind.CYCLE_SETTLED
    books.decide(deposit(1, 1_000))
    assert said(books, transfer(1, 0, 2, 0, 401)) == (Kind.REFUSED, 9)
    assert said(books, transfer(1, 0, 2, 2, 400))[0] is Kind.TRANSFERRED
    assert books.funds.debts == {(1, 2): 0}


def test_an_unwind_names_every_debt():
    """Rule U11: what cannot settle is owed by the debtor to those who were paid less; the cycle is settled."""
    books = closed_books((1, 2, 500), (1, 3, 300), (2, 3, 100))
    books.decide(deposit(1, 200))
    wrong = do(Unwind, cycle_no=1, debtor=1, shares=((2, 399), (3, 200)))
    assert said(books, wrong) == MOVED
    too_much = do(Unwind, cycle_no=1, debtor=1, shares=((2, 500), (3, 100)))
    assert said(books, too_much) == MOVED
    other = do(Unwind, cycle_no=1, debtor=2, shares=((3, 100),))
    assert said(books, other) == INSUFFICIENT
    answer = books.decide(do(Unwind, cycle_no=1, debtor=1, shares=((3, 201), (2, 399))))
    assert [entry.kind for entry in answer] == [25, 25, Kind.CYCLE_SETTLED]
    assert books.funds.balances == {1: 0, 2: 0, 3: 197, -1: 3}
    assert books.funds.debts == {(1, 2): 399, (1, 3): 201}


def test_pairs_settle_before_the_rest_once_and_below_zero_for_nobody():
    """Rule U7: a pair is settled whole and once; the cycle weighs on caps as before until all of it is settled."""
    books = closed_books((1, 2, 500), (2, 3, 300))
    pairs = {(1, 2): (1, 2, -500, 499, 1, 0), (2, 3): (2, 3, -300, 299, 1, 0)}
    later = do(Discharge, cycle_no=1, pairs=(pairs[2, 3],))
    assert said(books, later) == INSUFFICIENT
    books.decide(deposit(1, 500))
    both = do(Discharge, cycle_no=1, pairs=tuple(pairs.values()))
    assert [entry.kind for entry in books.decide(both)] == [Kind.DISCHARGED] * 2
    assert books.funds.balances == {1: 0, 2: 199, 3: 299, -1: 2, -2: 0}
    assert said(books, do(Discharge, cycle_no=1, pairs=(pairs[1, 2],))) == MOVED
    assert books.accounts[1].unsettled == -500
    assert said(books, settle(1))[0] is Kind.CYCLE_SETTLED
    assert books.funds.balances == {1: 0, 2: 199, 3: 299, -1: 2, -2: 0}


CONTRADICTIONS: dict[str, BooksCommand] = {
    "nothing": deposit(1, 0),
    "too much": deposit(1, 10**15),
    "a pair that sums to something": do(Discharge, cycle_no=1, pairs=((1, 2, -1, 0, 0, 0),)),
    "a pair the wrong way round": do(Discharge, cycle_no=1, pairs=((2, 1, -1, 1, 0, 0),)),
    "a pair twice": do(Discharge, cycle_no=1, pairs=((1, 2, -1, 1, 0, 0),) * 2),
    "no pairs": do(Discharge, cycle_no=1, pairs=()),
    "a share of nothing": do(Unwind, cycle_no=1, debtor=1, shares=((2, 0),)),
    "a share of the debtor's own": do(Unwind, cycle_no=1, debtor=1, shares=((1, 5),)),
    "a creditor twice": do(Unwind, cycle_no=1, debtor=1, shares=((2, 5), (2, 5))),
    "another's collateral": transfer(2, 1, 1, 0, 5, 1),
    "another's funds": transfer(2, 0, 1, 0, 5, 1),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_what_nobody_may_ask_for_is_a_fault_and_moves_nothing(name):
    """What no plan makes is an error of ours, and the books are as before."""
    books = closed_books((1, 2, 500))
    with pytest.raises(ValueError, match=r"no|only"):
        books.decide(CONTRADICTIONS[name])
    assert books.funds.balances == {}
