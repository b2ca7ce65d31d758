"""Several cycles side by side: which one an order belongs to, and what each weighs on a cap or on funds.

Source: settlement/RULES.md, rules C2, C3, T6, T7 and T9.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.values.ids import HOUSE_FEES, HOUSE_ROUNDING, HOUSE_TRANSIT
from schemas.values.reason import Reason
from settlement.core import headroom, reversal
from settlement.core.arrangement import MAIN, Model
from settlement.core.books import Books
from settlement.core.columns import OrderColumns
from settlement.core.command import (
    Adjust,
    ArrangePair,
    CloseCycle,
    Deposit,
    Discharge,
    End,
    Entry,
    Join,
    MakeArrangement,
    Order,
    Pot,
    Reverse,
    SettleCycle,
    Transfer,
)
from settlement.core.event import Kind
from settlement.core.funds import missing_for
from settlement.core.reversal import Amounts, Cleared
from settlement.core.stretch import stretches
from tests.simulation.ground import BODY, START_US, new_key

NOON, MONTH = 1, 2


def beside(*caps: int, pairs: dict[tuple[int, int], int]) -> Books:
    """Books with merchants 1, 2, … of these caps, and pairs in two arrangements beside the main one."""
    books = Books(part=1)
    books.tick(START_US)
    for number, cap_cu in enumerate(caps, start=1):
        books.decide(Join(0, new_key(), BODY, number, cap_cu))
    for code in ("noon", "month"):
        books.decide(MakeArrangement(0, new_key(), BODY, code, Model.BILATERAL))
    for number in (NOON, MONTH):
        close(books, number)
    for pair, number in pairs.items():
        arrange(books, pair, number)
    close(books, MAIN)
    return books


def arrange(books: Books, pair: tuple[int, int], number: int) -> Entry:
    """Give a pair an arrangement."""
    return books.decide(ArrangePair(0, new_key(), BODY, *pair, number))[0]


def close(books: Books, number: int) -> list[Entry]:
    """Close what is open of an arrangement, and open its next."""
    window = books.windows.get(number)
    open_no = books.cycle_no if number == MAIN else window.cycle_no if window else 0
    return books.decide(CloseCycle(0, new_key(), BODY, open_no, f"c{books.seq}", 0, 0, number))


def order(issuer: int, acceptor: int, debit_cu: int, *, hold_us: int = 0) -> Order:
    """An order without fee or remainder."""
    return Order(
        caller=acceptor, key=new_key(), body=BODY, issuer=issuer, acceptor=acceptor, member_no=1,
        units=1, debit_cu=debit_cu, value_cu=debit_cu, fee_cu=0, rate_no=1, hold_us=hold_us,
    )  # fmt: skip


def decided(books: Books, *args: int, **options: int) -> Entry:
    """The answer to an order."""
    return books.decide(order(*args, **options))[0]


PAIRS = {(1, 2): NOON, (1, 3): MONTH}


@pytest.mark.parametrize("acceptor", [2, 3, 4], ids=["noon", "month", "main"])
def test_credit_of_one_cycle_does_not_help_an_order_of_another(acceptor):
    """Rule C2: of its own cycle a merchant's credit counts, of each other open one only what it owes."""
    books = beside(100, 9_000, 9_000, 9_000, pairs=PAIRS)
    for other in (2, 3, 4):
        decided(books, other, 1, 50)
    room = 100 + 50
    assert decided(books, 1, acceptor, room + 1).kind == Kind.REFUSED
    assert decided(books, 1, acceptor, room).kind == Kind.CLEARED
    # What is owed now in that cycle, 100, uses the cap up in every other; their credits are still there.
    for another in {2, 3, 4} - {acceptor}:
        assert decided(books, 1, another, 51).kind == Kind.REFUSED
        assert decided(books, 1, another, 50).kind == Kind.CLEARED
    assert decided(books, 1, acceptor, 1).reason == Reason.NET_DEBIT_CAP_EXCEEDED.number


def test_a_hold_counts_no_credit_of_any_open_cycle():
    """Rule C3: whichever cycle its pair's is, a hold is covered without what open cycles are to bring."""
    books = beside(100, 9_000, 9_000, 9_000, pairs=PAIRS)
    for other in (2, 3, 4):
        decided(books, other, 1, 50)
    for acceptor in (2, 3, 4):
        assert decided(books, 1, acceptor, 101, hold_us=10**6).kind == Kind.REFUSED
    assert decided(books, 1, 2, 100, hold_us=10**6).kind == Kind.ACCEPTED


def test_a_transfer_commits_into_a_closed_window_never():
    """Rule T2, for each arrangement: what is decided after the fence carries the next cycle's number.

    A cycle that stays open beside it goes on.
    """
    books = beside(9_000, 9_000, 9_000, 9_000, pairs=PAIRS)
    held = decided(books, 1, 2, 5, hold_us=10**6)
    before = {acceptor: decided(books, 1, acceptor, 1).cycle_no for acceptor in (2, 3, 4)}
    assert len(set(before.values())) == 3
    closed, opened = close(books, NOON)
    assert closed.cycle_no == before[2] == held.cycle_no
    assert opened.cycle_no == max(before.values()) + 1
    cleared = books.decide(
        End(caller=2, key=bytes(16), body=BODY, order_seq=held.seq, kind=Kind.CLEARED)
    )[0]
    assert cleared.cycle_no == opened.cycle_no
    assert {
        acceptor: decided(books, 1, acceptor, 1).cycle_no for acceptor in (2, 3, 4)
    } == before | {2: opened.cycle_no}


@pytest.mark.parametrize("before", [MAIN, NOON], ids=["main", "noon"])
@pytest.mark.parametrize("after", [MONTH, MAIN], ids=["month", "to main"])
def test_a_pair_goes_on_in_its_old_cycle_until_that_closes(before, after):
    """Rule T7: an order of the pair belongs to the old cycle until that closes, and from then on to the new one."""
    books = beside(9_000, 9_000, 9_000, 9_000, pairs={(1, 2): before} if before else {})
    old = decided(books, 2, 1, 1).cycle_no
    assert arrange(books, (2, 1), after).kind == Kind.PAIR_ARRANGED
    assert decided(books, 1, 2, 1).cycle_no == old
    close(books, after)
    assert decided(books, 1, 2, 1).cycle_no == old if before != after else True
    close(books, before)
    new = books.cycle_no if after == MAIN else books.windows[after].cycle_no
    assert [decided(books, 1, 2, 1).cycle_no, decided(books, 2, 1, 1).cycle_no] == [new, new]


def test_the_last_wish_before_the_turn_counts():
    """Rule T7: a wish that was taken back before the cycle turned has no effect."""
    books = beside(9_000, 9_000, pairs={})
    arrange(books, (1, 2), NOON)
    arrange(books, (1, 2), MAIN)
    close(books, MAIN)
    assert decided(books, 1, 2, 1).cycle_no == books.cycle_no
    assert books.arranged == books.turning == {}


def test_what_is_no_arrangement_is_refused():
    """Rule T7: an arrangement without an open cycle, a code that is taken, a pair of one merchant, an unknown one."""
    books = beside(9_000, 9_000, pairs={})
    assert arrange(books, (1, 2), 3).reason == Reason.CYCLE_NOT_OPEN.number
    for code in ("noon", "main"):
        [again] = books.decide(MakeArrangement(0, new_key(), BODY, code, Model.MULTILATERAL))
        assert again.reason == Reason.ARRANGEMENT_EXISTS.number
    assert arrange(books, (1, 1), NOON).reason == Reason.SAME_MERCHANT.number
    assert arrange(books, (1, 9), NOON).reason == Reason.UNKNOWN_MERCHANT.number
    assert close(books, 3)[0].reason == Reason.CYCLE_NOT_OPEN.number


def test_a_zero_value_window_settles():
    """Rule T2: a cycle without an order closes and settles like any other, in every arrangement."""
    books = beside(100, 100, pairs=PAIRS | {(1, 2): NOON})
    for number in (MAIN, NOON, MONTH):
        closed, _ = close(books, number)
        [settled] = books.decide(SettleCycle(0, new_key(), BODY, closed.cycle_no))
        assert (closed.kind, settled.kind) == (Kind.CYCLE_CLOSED, Kind.CYCLE_SETTLED)
    assert books.unsettled == {}


@pytest.mark.parametrize("number", [MAIN, NOON])
def test_closing_a_window_takes_no_longer_after_many_orders(number):
    """A close writes two events and figures by pair, whether one order came before or a thousand."""
    books = beside(10**6, 10**6, 10**6, 10**6, pairs=PAIRS)
    sizes = []
    for count in (1, 1_000):
        for _ in range(count):
            decided(books, 1, 2 if number else 4, 1)
        books.take()
        close(books, number)
        changes = books.take()
        sizes.append((changes.count, len(changes.positions), len(changes.obligations)))
    assert sizes == [(2, 0, 0), (2, 0, 0)]


def test_debts_of_a_closed_window_weigh_until_it_is_settled():
    """Rule C1: what was owed in an arrangement's cycle weighs the same before its close and after, until it is paid."""
    books = beside(100, 100, 100, pairs={(1, 2): NOON})
    decided(books, 1, 2, 60)
    weighs = [books.accounts[1].unsettled]
    closed, _ = close(books, NOON)
    weighs.append(books.accounts[1].unsettled)
    books.decide(SettleCycle(0, new_key(), BODY, closed.cycle_no))
    weighs.append(books.accounts[1].unsettled)
    assert weighs == [-60, -60, 0]


@settings(deadline=None, max_examples=25)
@given(
    orders=st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 300)),
        min_size=1,
        max_size=60,
    )
)
def test_a_request_of_both_kinds_of_pairs_is_decided_in_its_order(orders):
    """Orders of arranged pairs are no part of a stretch; decided in between, everything is as one by one."""
    wanted = [
        order(issuer, acceptor, debit_cu)
        for issuer, acceptor, debit_cu in orders
        if issuer != acceptor
    ]
    if not wanted:
        return
    caps = (500, 700, 900, 300)
    alone, together = (beside(*caps, pairs=PAIRS) for _ in range(2))
    one_by_one = [alone.decide(each)[0] for each in wanted]
    columns = OrderColumns.of(
        [
            Order(
                0, each.key, BODY, each.issuer, each.acceptor, 1, 1, each.debit_cu, each.debit_cu,
                0, 1, hosted=True,
            )
            for each in wanted
        ]
    )  # fmt: skip
    in_order: list[int] = []
    for rows, qualify in stretches(together, columns, np.arange(len(wanted))):
        for row in rows.tolist():
            pair = (wanted[row].issuer, wanted[row].acceptor)
            assert qualify == (pair not in together.arranged)
            in_order.append(together.decide(wanted[row])[0].kind)
    assert in_order == [entry.kind for entry in one_by_one]
    for books in (alone, together):
        for window in books.windows.values():
            assert sum(window.nets.values()) == 0
            assert set(window.nets) <= {1, 2, 3, HOUSE_FEES, HOUSE_ROUNDING}


def test_a_reversal_goes_into_the_cycle_that_is_open_for_the_pair_now():
    """Rules V3 and T7: taken back is in the new arrangement's cycle what was cleared in the old one's."""
    books = beside(9_000, 9_000, 9_000, pairs={(1, 2): NOON})
    cleared = decided(books, 1, 2, 70)
    arrange(books, (1, 2), MONTH)
    close(books, NOON)
    whole = Amounts(1, 70, 70, 0, 0)
    books.cleared[cleared.seq] = Cleared(cleared.seq, cleared.seq, 2, 1, 2, 1, 1, 0, "", whole)
    taken = reversal.take_back(
        books, Reverse(2, new_key(), BODY, cleared.seq), books.cleared[cleared.seq], whole
    )
    window = books.windows[MONTH]
    assert (taken.kind, taken.cycle_no) == (Kind.REVERSED, window.cycle_no)
    assert (window.net(1), window.net(2), reversal.taken_back(books, 1, 2)) == (70, -70, 70)
    changes = books.take()
    assert changes.reversed == {(window.cycle_no, 1, 2): (1, 70, 70, 0)}
    # 70 are to come in the closed cycle and 70 are owed in the open one: only what is owed weighs.
    assert books.accounts[2].unsettled == -70


# --- rule T9: paid at once ---


def at_once(**deposits: int) -> Books:
    """Books with merchants 1 to 3 under caps of 1,000; the pairs (1, 2) and (2, 3) are paid at once."""
    books = Books(part=1)
    books.tick(START_US)
    for number in (1, 2, 3):
        books.decide(Join(0, new_key(), BODY, number, 1_000))
        if cu := deposits.get(f"of_{number}", 0):
            books.decide(Deposit(0, new_key(), BODY, number, Pot.FUNDS, cu))
    books.decide(MakeArrangement(0, new_key(), BODY, "now", Model.GROSS))
    close(books, NOON)
    for pair in ((1, 2), (2, 3)):
        arrange(books, pair, NOON)
    close(books, MAIN)
    return books


def with_fee(issuer: int, acceptor: int, debit_cu: int) -> Order:
    """An order with a remainder of 3 CU and a fee of 2."""
    return replace(order(issuer, acceptor, debit_cu), value_cu=debit_cu - 3, fee_cu=2)


def end(books: Books, held: Entry, kind: Kind = Kind.CLEARED) -> Entry:
    """End an accepted order."""
    return books.decide(End(0, bytes(16), BODY, held.seq, kind))[0]


def test_an_order_that_is_paid_at_once_needs_the_money_and_no_cap():
    """Rule T9: it clears if the issuer's funds cover its debit, to the last CU; no cap, and it moves all four legs."""
    books = at_once(of_1=5_000)
    headroom = [(each.base, each.open) for each in books.accounts.values()]
    assert books.decide(with_fee(1, 2, 5_001))[0].reason == Reason.FUNDS_INSUFFICIENT.number
    assert books.decide(with_fee(1, 2, 5_000))[0].kind == Kind.CLEARED
    assert books.funds.balances == {1: 0, 2: 4_995, HOUSE_FEES: 2, HOUSE_ROUNDING: 3}
    # What came in a moment ago is spent on, and nothing of it weighs anywhere.
    assert books.decide(with_fee(2, 3, 4_995))[0].kind == Kind.CLEARED
    assert decided(books, 1, 2, 1).reason == Reason.FUNDS_INSUFFICIENT.number
    assert [(each.base, each.open) for each in books.accounts.values()] == headroom
    assert sum(books.windows[NOON].nets.values()) == 0
    assert books.windows[NOON].net(1) == -5_000


def test_a_gross_window_closes_with_nothing_owed():
    """Rules T9 and U6: nothing weighs or is missing, nobody's pair settles once more, and settling moves no money."""
    books = at_once(of_1=500)
    decided(books, 1, 2, 500)
    [closed, _] = close(books, NOON)
    assert books.unsettled == {closed.cycle_no: {}}
    assert books.accounts[1].base == 1_000
    assert missing_for(books, closed.cycle_no) == {}
    pair = (1, 2, -500, 500, 0, 0)
    [again] = books.decide(Discharge(0, new_key(), BODY, closed.cycle_no, (pair,)))
    assert again.reason == Reason.FUNDS_MOVED.number
    [settled] = books.decide(SettleCycle(0, new_key(), BODY, closed.cycle_no, funded=True))
    assert (settled.kind, settled.value_cu) == (Kind.CYCLE_SETTLED, 0)
    assert books.funds.balances == {1: 0, 2: 500}
    assert books.gross_closed == set()


def test_a_hold_that_is_paid_at_once_keeps_its_money():
    """Rule T9: it reserves funds and no headroom; they are neither withdrawn nor spent twice, until it ends."""
    books = at_once(of_1=900)
    held = decided(books, 1, 2, 600, hold_us=10**6)
    assert held.kind == Kind.ACCEPTED
    assert (books.accounts[1].held, books.accounts[1].base) == (600, 1_000)
    assert decided(books, 1, 2, 301, hold_us=10**6).reason == Reason.FUNDS_INSUFFICIENT.number
    assert decided(books, 1, 2, 301).reason == Reason.FUNDS_INSUFFICIENT.number

    def withdraw(cu: int) -> Entry:
        pots = 1, Pot.FUNDS, HOUSE_TRANSIT, Pot.FUNDS, cu
        return books.decide(Transfer(0, new_key(), BODY, *pots))[0]

    assert withdraw(301).reason == Reason.FUNDS_INSUFFICIENT.number
    assert withdraw(300).kind == Kind.TRANSFERRED
    assert end(books, held).kind == Kind.CLEARED
    assert (books.funds.of(1), books.funds.of(2), books.reserved[1]) == (0, 600, 0)
    assert (books.accounts[1].held, books.accounts[1].base) == (0, 1_000)


@pytest.mark.parametrize("kind", [Kind.CLEARED, Kind.VOIDED])
def test_what_a_hold_reserves_turns_with_its_pair(kind):
    """Rules T7 and T9: an open hold holds headroom before the turn and money after it; its end is never refused.

    Where it leaves the issuer's funds below zero, that is told as a breach.
    """
    books = at_once()
    held = decided(books, 1, 3, 400, hold_us=10**6)
    arrange(books, (1, 3), NOON)
    assert (books.accounts[1].base, books.reserved) == (600, {})
    close(books, MAIN)
    assert (books.accounts[1].base, headroom.free_funds(books, 1)) == (1_000, -400)
    books.take()
    end(books, held, kind)
    assert (books.accounts[1].base, books.reserved) == (1_000, {1: 0})
    cleared = kind is Kind.CLEARED
    assert books.funds.of(1) == (-400 if cleared else 0)
    assert books.take().breached == ({1: 400} if cleared else {})


def test_a_pair_that_leaves_takes_its_holds_along():
    """Rule T9: the money is free again, and the headroom is held."""
    books = at_once(of_1=400)
    held = decided(books, 1, 2, 400, hold_us=10**6)
    arrange(books, (1, 2), MAIN)
    close(books, NOON)
    assert (books.accounts[1].base, headroom.free_funds(books, 1)) == (600, 400)
    end(books, held)
    assert (books.accounts[1].open, books.accounts[1].base, books.funds.of(1)) == (-400, 1_000, 400)


@pytest.mark.parametrize("left", [100, 0], ids=["covered", "spent"])
def test_what_was_paid_at_once_is_given_back_at_once(left):
    """Rule T9: a reversal moves the four legs back and is never refused; funds below zero are told as a breach."""
    books = at_once(of_1=100)
    cleared = books.decide(with_fee(1, 2, 100))[0]
    if not left:
        decided(books, 2, 3, 95)
    books.take()
    whole = Amounts(1, 100, 97, 2, 0)
    books.cleared[cleared.seq] = Cleared(cleared.seq, cleared.seq, 2, 1, 2, 1, 1, 0, "", whole)
    reversal.take_back(
        books, Reverse(2, new_key(), BODY, cleared.seq), books.cleared[cleared.seq], whole
    )
    assert (books.funds.of(1), books.funds.of(2)) == (100, 0 if left else -95)
    assert books.funds.of(HOUSE_FEES) == books.funds.of(HOUSE_ROUNDING) == 0
    assert books.take().breached == ({} if left else {2: 95})


def test_an_adjustment_of_what_is_paid_at_once_moves_the_money():
    """Rule T9: no need is looked at; an issuer that it leaves below zero is told of."""
    books = at_once()
    books.take()
    [made] = books.decide(Adjust(0, new_key(), BODY, 0, 1, 2, 50, 40, 4))
    assert made.kind == Kind.ADJUSTED
    assert books.funds.balances == {1: -50, 2: 36, HOUSE_FEES: 4, HOUSE_ROUNDING: 10}
    assert books.take().breached == {1: 50}
