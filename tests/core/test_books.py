"""The books and lots alone, without a database, against the oracle and against their own rules."""

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from settlement.core.account import Account
from settlement.core.audit import obligation_rows, position_rows
from settlement.core.books import Books
from settlement.core.command import Join, Order, SetCap
from settlement.core.event import Kind, unpack_event
from tests.simulation.compare import told_figures
from tests.simulation.ground import BODY, START_US, new_key
from tests.simulation.histories import PRELUDE, Script, command_of, plain, steps
from tests.simulation.pure import PureHouse

HISTORIES = steps(without=("takeover", "restart"))
EXAMPLES = int(os.environ.get("TONGDUI_HISTORIES", "40"))
THOROUGH = settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))


def play(
    history: list[tuple], *, caller_clock: bool, ruled: bool = False
) -> tuple[PureHouse, Script]:
    """Play a history on the pure core and compare every answer with the oracle's."""
    house = PureHouse(caller_clock=caller_clock, ruled=ruled)
    script = Script(caller_clock=caller_clock, ruled=ruled)

    def send() -> None:
        stretch = script.take()
        for group, expected in zip(stretch.groups, stretch.expected, strict=True):
            answers = house.submit([command_of(wish) for wish in group])
            for wish, should, answer in zip(group, expected, answers, strict=True):
                assert [plain(entry) for entry in answer] == should, wish

    for step in [*PRELUDE, ("send",), *history]:
        before = script.step(step)
        if before:
            send()
        if before == "wait":
            script.wait(step[1])
            house.now_us = script.clock_us
        elif before == "lapse":
            script.lapse(step[1])
    send()
    return house, script


@THOROUGH
@given(history=HISTORIES, caller_clock=st.booleans(), ruled=st.booleans())
def test_books_and_lots_say_what_the_oracle_says(history, caller_clock, ruled):
    """Any history: each answer, and every figure that a flush would write, is the oracle's.

    The audit of the journal's bytes is clean.
    """
    house, script = play(history, caller_clock=caller_clock, ruled=ruled)
    assert house.figures() == told_figures(script.oracle)
    audit = house.audit()
    assert audit.report.differences == []
    assert audit.report.events == len(script.oracle.log)
    for cycle in (*audit.take_finished_cycles(), *audit.open.values()):
        positions, obligations = position_rows(cycle), obligation_rows(cycle)
        assert {row[0] for row in positions.values() if row[0]} == {
            cu for (cycle_no, _), cu in house.positions.items() if cycle_no == cycle.cycle_no and cu
        }
        assert len(obligations) == sum(key[0] == cycle.cycle_no for key in house.obligations)


@THOROUGH
@given(history=HISTORIES, caller_clock=st.booleans())
def test_postings_sum_to_zero_everywhere(history, caller_clock):
    """Rules B2 and B3: postings sum to zero for each order, for each cycle and overall.

    Stored positions are their sums.
    """
    house, _ = play(history, caller_clock=caller_clock)
    sums: Counter[tuple[int, int]] = Counter()
    for event in map(unpack_event, house.events):
        if event.kind not in (Kind.CLEARED, Kind.REVERSED, Kind.ADJUSTED):
            continue
        legs = {
            event.issuer: -event.debit_cu,
            event.acceptor: event.value_cu - event.fee_cu,
            -1: event.fee_cu,
            -2: event.debit_cu - event.value_cu,
        }
        assert len(legs) == 4
        assert sum(legs.values()) == 0
        for party, cu in legs.items():
            sums[event.cycle_no, party] += cu
    assert {key: cu for key, cu in sums.items() if cu} == {
        key: cu for key, cu in house.positions.items() if cu
    }
    for cycle_no in {cycle_no for cycle_no, _ in house.positions}:
        assert sum(cu for (cycle, _), cu in house.positions.items() if cycle == cycle_no) == 0


@THOROUGH
@given(history=HISTORIES, caller_clock=st.booleans())
def test_every_order_is_in_exactly_one_cycle(history, caller_clock):
    """Rules B7 and N1: each cleared order stands between opening and closing of the one cycle that it names.

    No order ends twice.
    """
    house, _ = play(history, caller_clock=caller_clock)
    opened: dict[int, int] = {}
    closed: dict[int, int] = {}
    ends: Counter[int] = Counter()
    events = [unpack_event(data) for data in house.events]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    for event in events:
        if event.kind == Kind.CYCLE_OPENED:
            opened[event.cycle_no] = event.seq
        elif event.kind == Kind.CYCLE_CLOSED:
            closed[event.cycle_no] = event.seq
    for event in events:
        if event.kind in (Kind.ADJUSTED, Kind.REVERSED):
            assert opened[event.cycle_no] < event.seq < closed.get(event.cycle_no, 2**62)
        if event.kind in (Kind.CLEARED, Kind.VOIDED, Kind.EXPIRED):
            ends[event.order_seq] += 1
            assert opened[event.cycle_no] < event.seq < closed.get(event.cycle_no, 2**62)
    assert set(ends.values()) <= {1}
    in_obligations = sum(orders for orders, *_ in house.obligations.values())
    assert in_obligations == sum(
        event.kind == Kind.CLEARED or (event.kind == Kind.ADJUSTED and event.value_cu > 0)
        for event in events
    )


def fresh_books(*caps: int) -> Books:
    """Books with merchants 1, 2, … of these caps and an open cycle."""
    from settlement.core.command import CloseCycle

    books = Books(part=1)
    books.tick(START_US)
    for number, cap_cu in enumerate(caps, start=1):
        books.decide(Join(caller=0, key=new_key(), body=BODY, merchant_no=number, cap_cu=cap_cu))
    books.decide(CloseCycle(caller=0, key=new_key(), body=BODY, cycle_no=0, next_id="one"))
    return books


def order(issuer: int, acceptor: int, debit_cu: int, *, hold_us: int = 0) -> Order:
    """An order without fee or remainder."""
    return Order(
        caller=acceptor, key=new_key(), body=BODY, issuer=issuer, acceptor=acceptor, member_no=1,
        units=1, debit_cu=debit_cu, value_cu=debit_cu, fee_cu=0, rate_no=1, hold_us=hold_us,
    )  # fmt: skip


@pytest.mark.parametrize("hold_us", [0, 10**6], ids=["one phase", "two phases"])
def test_cap_is_exact_to_the_last_unit(hold_us):
    """Rules C2 and C3: the order that uses the last CU of a cap passes, one CU more is refused."""
    books = fresh_books(1_000, 0)
    [entry] = books.decide(order(1, 2, 999, hold_us=hold_us))
    assert entry.kind != Kind.REFUSED
    [entry] = books.decide(order(1, 2, 2, hold_us=hold_us))
    assert entry.kind == Kind.REFUSED
    [entry] = books.decide(order(1, 2, 1, hold_us=hold_us))
    assert entry.kind != Kind.REFUSED
    [entry] = books.decide(order(1, 2, 1, hold_us=hold_us))
    assert entry.kind == Kind.REFUSED


def test_credit_of_the_open_cycle_helps_orders_and_not_holds():
    """Rules C2 and C3: what a merchant is to receive in this cycle pays for what clears now, never for a hold."""
    books = fresh_books(1_000, 0)
    books.decide(order(1, 2, 500))
    [held] = books.decide(order(2, 1, 1, hold_us=10**6))
    [cleared] = books.decide(order(2, 1, 500))
    assert (held.kind, cleared.kind) == (Kind.REFUSED, Kind.CLEARED)


def test_breach_stops_accepts_and_nothing_else():
    """Rules C4 and C5: after a cut of the cap new orders are refused, and a hold that stands still clears."""
    from settlement.core.command import End

    books = fresh_books(1_000, 0)
    [held] = books.decide(order(1, 2, 900, hold_us=10**6))
    books.decide(SetCap(caller=0, key=new_key(), body=BODY, merchant_no=1, cap_cu=0))
    [refused] = books.decide(order(1, 2, 1))
    [cleared] = books.decide(
        End(caller=2, key=bytes(16), body=BODY, order_seq=held.seq, kind=Kind.CLEARED)
    )
    assert (refused.kind, cleared.kind) == (Kind.REFUSED, Kind.CLEARED)
    assert books.accounts[1].base + books.accounts[1].open == -900


@given(
    cap=st.integers(0, 100),
    collateral=st.integers(0, 100),
    held=st.integers(0, 100),
    unsettled=st.integers(-100, 0),
)
@example(cap=0, collateral=0, held=0, unsettled=0)
def test_base_is_what_the_rule_says(cap, collateral, held, unsettled):
    """Rule C1: base = cap + collateral + unsettled debts - holds."""
    account = Account(cap, collateral, held)
    account.unsettled = unsettled
    assert account.base == cap + collateral + unsettled - held


def test_closing_moves_a_debt_into_the_base_until_it_is_settled():
    """Rule C1: a debt of a closed cycle weighs on the cap until the cycle is settled; a credit of one does not help."""
    from settlement.core.command import CloseCycle, SettleCycle

    books = fresh_books(1_000, 1_000)
    books.decide(order(1, 2, 600))
    close = CloseCycle(caller=0, key=new_key(), body=BODY, cycle_no=1, next_id="two")
    books.decide(close)
    wishes = [order(1, 2, 401), order(1, 2, 400), order(2, 1, 1_401)]
    assert [books.decide(wish)[0].kind for wish in wishes] == [
        Kind.REFUSED,
        Kind.CLEARED,
        # The 600 of the closed cycle are not paid yet: only the cap and the 400 of this one count.
        Kind.REFUSED,
    ]
    books.decide(SettleCycle(caller=0, key=new_key(), body=BODY, cycle_no=1))
    assert books.decide(order(1, 2, 600))[0].kind == Kind.CLEARED
