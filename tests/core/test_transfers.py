"""Transfers inside households, on books and lots without a database, against a model that shares no code with them."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exchange.core.catalogue import MemberRules
from exchange.programme.core.command import Accrual, LapseLots, Transfer
from exchange.programme.core.household import (
    LOTS_MAX,
    Given,
    Household,
    HouseholdRules,
    within_limits,
)
from schemas.values.reason import REASON_BY_NUMBER, Reason
from settlement.core.command import Entry, Order, Reverse, SetCap
from settlement.core.event import Kind, unpack_event
from tests.simulation.ground import BODY, DAY_US, HOUR_US, new_key
from tests.simulation.pure import PureHouse

A, B, D = 1, 2, 4
"""Two hosted programmes, and one that keeps its own points."""
HOME, OTHER_HOME, AT_D = (bytes([number]) * 16 for number in (1, 2, 3))
RULES = HouseholdRules(
    offered=True, members_max=4, transfer_units_max=30, daily_units=40, daily_transfers=3,
    monthly_units=90, monthly_transfers=7, cooling_days=30,
)  # fmt: skip
FREE = HouseholdRules(
    offered=True, members_max=4, transfer_units_max=10**9, daily_units=10**9, daily_transfers=100,
    monthly_units=10**9, monthly_transfers=100, cooling_days=30,
)  # fmt: skip


class Home(PureHouse):
    """A house where members 1, 2 and 3 share their points of A, and 4 shares with nobody."""

    def __init__(self, rules: HouseholdRules | None = RULES) -> None:
        """Start with a cap that nobody reaches."""
        super().__init__(caller_clock=False)
        self.rules = rules
        self.shares = {1, 2, 3}
        self.submit([SetCap(caller=0, key=new_key(), body=BODY, merchant_no=A, cap_cu=10**12)])

    def one(self, command: Any) -> list[Entry]:
        """Decide one command, with what a writer would have loaded for it."""
        return self.group(command)[0]

    def group(self, *commands: Any) -> list[list[Entry]]:
        """Decide commands together."""
        if any(isinstance(command, Transfer) for command in commands):
            book = self.lots.transfers
            book.households = {
                HOME: Household(A, frozenset(self.shares), self.rules),
                OTHER_HOME: Household(B, frozenset(self.shares), self.rules),
                AT_D: Household(D, frozenset(self.shares), self.rules),
            }
            book.stored = {}
            for event in map(unpack_event, self.events):
                if event.kind == Kind.GIVEN:
                    known = book.stored.setdefault((event.member_no, event.issuer), {})
                    known[event.seq] = Given(event.at_us, event.units)
        return self.submit(list(commands))

    def accrue(self, member_no: int, units: int, days: int) -> int:
        """Give points that live for some days; the lot's number."""
        [entry] = self.one(
            Accrual(
                caller=A, key=new_key(), body=BODY, member_no=member_no, merchant_no=A, units=units,
                expires_at_us=self.now_us + days * DAY_US,
            )
        )  # fmt: skip
        return entry.lot_no

    def origin(self, lot_no: int) -> int:
        """The lot that points were first in, by what the journal says."""
        made = unpack_event(self.events[self.lot_rows[lot_no].made_seq - 1])
        if made.kind != Kind.RECEIVED:
            return lot_no
        uses = self.uses[made.order_seq]
        order = sorted(uses, key=lambda use: (use.expires_at_us, use.lot_no))
        return self.origin(order[made.step - 1].lot_no)

    def standing(self) -> list[tuple[int, int, int, int]]:
        """Every lot with units left: member, expiry, units, the lot that they were first in."""
        return sorted(
            (lot.member_no, lot.expires_at_us, self.left[lot.lot_no], self.origin(lot.lot_no))
            for lot in self.lot_rows.values()
            if self.left[lot.lot_no]
        )


def transfer(giver: int, receiver: int, points: int, **changes: Any) -> Transfer:
    """A transfer in the household."""
    terms: dict[str, Any] = {
        "caller": A, "key": new_key(), "body": BODY, "household": HOME, "merchant_no": A,
        "giver_no": giver, "receiver_no": receiver, "units": points,
    }  # fmt: skip
    return Transfer(**(terms | changes))


def redeem(member_no: int, units: int) -> Order:
    """An order that spends points of A at B."""
    return Order(
        caller=B, key=new_key(), body=BODY, issuer=A, acceptor=B, member_no=member_no, units=units,
        debit_cu=units * 100, value_cu=units * 100, fee_cu=0, rate_no=1, hosted=True,
    )  # fmt: skip


def why(answer: list[Entry]) -> Reason | None:
    """Why something was refused; None if it was done."""
    return REASON_BY_NUMBER[answer[0].reason] if answer[0].kind == Kind.REFUSED else None


# The model -----------------------------------------------------------------------------------------


class Model:
    """Lots as a list in the order in which they were made: member, expiry, units, first lot."""

    def __init__(self) -> None:
        """Nobody has anything."""
        self.lots: list[list[int]] = []
        self.spent: dict[int, list[tuple[list[int], int]]] = {}
        self.gifts: list[tuple[int, int, int]] = []

    def add(self, member: int, expiry: int, units: int, first: int) -> None:
        """A new lot."""
        self.lots.append([member, expiry, units, first])

    def live(self, member: int, now: int) -> list[list[int]]:
        """A member's live lots, first to expire first; sorting is stable, so the older of two first."""
        mine = [lot for lot in self.lots if lot[0] == member and lot[1] > now and lot[2]]
        return sorted(mine, key=lambda lot: lot[1])

    def take(self, member: int, now: int, units: int) -> list[tuple[list[int], int]] | None:
        """Take units; the lots with what each gave, None if there are too few."""
        if sum(lot[2] for lot in self.live(member, now)) < units:
            return None
        took = []
        for lot in self.live(member, now):
            part = min(units, lot[2])
            if part:
                lot[2] -= part
                units -= part
                took.append((lot, part))
        return took

    def may_give(self, member: int, now: int, units: int) -> bool:
        """The limits of RULES, by going through everything that was ever given."""
        day = [u for m, at, u in self.gifts if m == member and now - at < 24 * 3600 * 10**6]
        month = [u for m, at, u in self.gifts if m == member and now - at < 720 * 3600 * 10**6]
        return (
            units <= 30
            and len(day) < 3
            and sum(day) + units <= 40
            and len(month) < 7
            and sum(month) + units <= 90
        )

    def give_back(self, order: int, member: int, now: int, units: int, fresh_no: int) -> None:
        """What an order took last comes back first, to whoever spent it, for 30 days at least."""
        fresh = 0
        while units:
            lot, part = self.spent[order].pop()
            back = min(units, part)
            units -= back
            if part > back:
                self.spent[order].append((lot, part - back))
            if lot[1] >= now + 30 * DAY_US:
                assert lot[0] == member
                lot[2] += back
            else:
                fresh += back
        if fresh:
            self.add(member, now + 30 * DAY_US, fresh, fresh_no)

    def standing(self) -> list[tuple[int, ...]]:
        """Every lot with units left."""
        return sorted(tuple(lot) for lot in self.lots if lot[2])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("accrue"), st.integers(1, 3), st.integers(1, 60), st.integers(1, 80)),
        st.tuples(st.just("give"), st.integers(1, 3), st.integers(1, 3), st.integers(1, 32)),
        st.tuples(st.just("give"), st.integers(1, 3), st.integers(1, 3), st.integers(1, 32)),
        st.tuples(st.just("redeem"), st.integers(1, 3), st.integers(1, 40), st.just(0)),
        st.tuples(st.just("reverse"), st.integers(0, 9), st.integers(1, 40), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 30 * 24), st.just(0), st.just(0)),
        st.tuples(st.just("lapse"), st.just(0), st.just(0), st.just(0)),
    ),
    min_size=4,
    max_size=25,
)


@given(STEPS)
@settings(max_examples=60)
def test_a_household_is_what_the_model_says(steps):
    """Rules P5 and H4 to H6: units are conserved, no lot's life grows, provenance is kept, limits are exact."""
    home, model = Home(), Model()
    orders: list[tuple[int, int, int]] = []
    balance = 0
    for what, one, two, three in steps:
        now = home.now_us
        if what == "accrue":
            lot_no = home.accrue(one, two, three)
            model.add(one, now + three * DAY_US, two, lot_no)
            balance += two
        elif what == "give":
            answer = home.one(transfer(one, two, three))
            may = one != two and model.may_give(one, now, three)
            took = model.take(one, now, three) if may else None
            assert (why(answer) is None) == (took is not None)
            assert answer[0].debit_cu == answer[0].value_cu == answer[0].fee_cu == 0
            for lot, part in took or []:
                model.add(two, lot[1], part, lot[3])
            if took:
                model.gifts.append((one, now, three))
                assert sum(entry.units for entry in answer[1:]) == answer[0].units == three
        elif what == "redeem":
            [entry] = home.one(redeem(one, two))
            took = model.take(one, now, two)
            assert (entry.kind == Kind.CLEARED) == (took is not None)
            if took is not None:
                orders.append((entry.seq, one, two))
                model.spent[entry.seq] = took
                balance -= two
        elif what == "reverse" and one < len(orders):
            order_seq, member, _ = orders[one]
            left = sum(part for _, part in model.spent[order_seq])
            wish = Reverse(caller=B, key=new_key(), body=BODY, order_seq=order_seq, units=two)
            [entry] = home.one(wish)
            assert (entry.kind == Kind.REVERSED) == (two <= left)
            if two > left:
                continue
            balance += two
            model.give_back(order_seq, member, now, two, entry.lot_no)
        elif what == "wait":
            home.now_us += one * HOUR_US
        elif what == "lapse":
            lapsed = home.one(LapseLots(caller=0, key=new_key(), body=BODY, as_of_us=now))
            for lot in model.lots:
                if lot[1] <= now - 7 * DAY_US:
                    balance -= lot[2]
                    lot[2] = 0
            assert all(entry.kind == Kind.LAPSED for entry in lapsed)
        assert home.standing() == model.standing()
        assert sum(lot[2] for lot in model.lots) == balance
    for made in home.lot_rows.values():
        first = home.lot_rows[home.origin(made.lot_no)]
        assert made.expires_at_us == first.expires_at_us
    home.audit()


def test_two_transfers_for_the_last_units():
    """Rule H6: of two transfers in one group that want the same units the first gets them, to the unit."""
    home = Home()
    home.accrue(1, 20, 9)
    answers = home.group(transfer(1, 2, 15), transfer(1, 3, 15), transfer(1, 3, 5))
    assert [why(answer) for answer in answers] == [None, Reason.INSUFFICIENT_POINTS, None]
    assert [lot[:1] + lot[2:3] for lot in home.standing()] == [(2, 15), (3, 5)]


def test_limits_hold_within_a_group_and_beside_the_flush_before():
    """Rule H6: what is not stored yet counts, and what was loaded as well counts once."""
    home = Home()
    home.accrue(1, 100, 9)
    answers = home.group(transfer(1, 2, 25), transfer(1, 2, 16), transfer(1, 2, 15))
    assert [why(answer) for answer in answers] == [None, Reason.TRANSFER_LIMIT_EXCEEDED, None]
    # The next group is decided while that flush may be in flight: nothing of it was loaded.
    home.lots.transfers.households = {HOME: Household(A, frozenset({1, 2, 3}), RULES)}
    [answer] = home.submit([transfer(1, 2, 1)])
    assert why(answer) is Reason.TRANSFER_LIMIT_EXCEEDED
    home.now_us += DAY_US - 1
    assert why(home.one(transfer(1, 2, 1))) is Reason.TRANSFER_LIMIT_EXCEEDED
    home.now_us += 1
    assert why(home.one(transfer(1, 2, 30))) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reason": Reason.UNKNOWN_MEMBER.number, "units": 0}, Reason.UNKNOWN_MEMBER),
        ({"household": bytes(16)}, Reason.HOUSEHOLD_NOT_FOUND),
        ({"household": OTHER_HOME}, Reason.HOUSEHOLD_NOT_FOUND),
        ({"household": AT_D, "merchant_no": D}, Reason.HOUSEHOLD_NOT_OFFERED),
        ({"receiver_no": 1}, Reason.SAME_MEMBER),
        ({"receiver_no": 4}, Reason.NOT_IN_HOUSEHOLD),
        ({"giver_no": 4}, Reason.NOT_IN_HOUSEHOLD),
        ({"units": 31}, Reason.TRANSFER_LIMIT_EXCEEDED),
        ({"units": 26}, Reason.INSUFFICIENT_POINTS),
    ],
)
def test_why_a_transfer_is_not_made(changes, reason):
    """Rules H4 to H6: each refusal leaves the lots as they were, and names no member in the journal."""
    home = Home()
    home.accrue(1, 25, 9)
    before = home.standing()
    assert why(home.one(transfer(1, 2, 5, **changes))) is reason
    assert home.standing() == before
    assert unpack_event(home.events[-1]).member_no == 0


@pytest.mark.parametrize("rules", [None, replace(RULES, offered=False)], ids=["none", "off"])
def test_nothing_is_shared_where_it_is_not_offered(rules):
    """Rule H1: without rules, or where they say so, there are no transfers."""
    home = Home(rules)
    home.accrue(1, 25, 9)
    assert why(home.one(transfer(1, 2, 5))) is Reason.HOUSEHOLD_NOT_OFFERED


@pytest.mark.parametrize("authority", ["code", "issuer"])
def test_where_proof_is_asked_for_the_merchant_sends_it(authority):
    """Rules A1 and H6: the house may not move points of a programme that asks for proof; its merchant may."""
    home = Home()
    asked = MemberRules(effective_at_us=0, authority=authority, daily_cu=0, daily_orders=0)
    assert home.lots.catalogue is not None
    home.lots.catalogue = replace(home.lots.catalogue, member_rules={A: [asked]})
    home.accrue(1, 25, 9)
    assert why(home.one(transfer(1, 2, 5, caller=0))) is Reason.MEMBER_NOT_AUTHORISED
    assert why(home.one(transfer(1, 2, 5))) is None


def test_a_withdrawn_consent_counts_for_the_next_transfer():
    """Rule H3: from then on the member neither gives nor gets; what was received stays."""
    home = Home()
    home.accrue(1, 25, 9)
    assert why(home.one(transfer(1, 2, 5))) is None
    home.shares.remove(2)
    assert why(home.one(transfer(1, 2, 5))) is Reason.NOT_IN_HOUSEHOLD
    assert why(home.one(transfer(2, 1, 5))) is Reason.NOT_IN_HOUSEHOLD
    assert [lot[:1] + lot[2:3] for lot in home.standing()] == [(1, 20), (2, 5)]


def test_one_transfer_takes_of_so_many_lots_at_most():
    """Rule H6: a transfer that would take of more than a thousand lots is refused, one of a thousand is done."""
    home = Home(FREE)
    home.accrue(1, 500, 1)
    for _ in range(LOTS_MAX + 1):
        home.accrue(1, 1, 9)
    home.now_us += DAY_US  # The first lot expires this very instant, and gives nothing.
    assert why(home.one(transfer(1, 2, LOTS_MAX + 1))) is Reason.AMOUNT_ABOVE_MAXIMUM
    answer = home.one(transfer(1, 2, LOTS_MAX))
    assert [entry.kind for entry in answer] == [Kind.GIVEN] + [Kind.RECEIVED] * LOTS_MAX


@example(earlier=[(48, 1)] * 6, units=1)
@example(earlier=[(48, 1)] * 7, units=1)
@settings(max_examples=50)
@given(
    earlier=st.lists(st.tuples(st.integers(0, 40 * 24), st.integers(1, 40)), max_size=12),
    units=st.integers(1, 40),
)
def test_limits_are_rolling(earlier, units):
    """Rule H6: a day is 24 hours and a month 30 days back from now, their far ends left out."""
    at_us = 100 * DAY_US
    given_ = [Given(at_us - hours * HOUR_US, one) for hours, one in earlier]
    day = [one for hours, one in earlier if hours < 24]
    month = [one for hours, one in earlier if hours < 30 * 24]
    fits = (
        units <= 30 and len(day) < 3 and sum(day) + units <= 40
        and len(month) < 7 and sum(month) + units <= 90
    )  # fmt: skip
    assert (within_limits(RULES, given_, at_us=at_us, units=units) is None) == fits
