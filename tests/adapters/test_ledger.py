"""The books of simulated merchants are books: each reference counts once, and nothing gets lost."""

import random
from datetime import UTC, date, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.kit.contract import Step
from adapters.kit.manifest import Manifest, Status, parse_manifest
from adapters.kit.simulator.faults import (
    CONNECT,
    Fault,
    Occasion,
    Rule,
    Scripted,
    Seeded,
    Trouble,
    Wished,
    parse_trouble,
)
from adapters.kit.simulator.ledger import Ledger
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason

H, C, R, K, V = Step.HOLD, Step.CAPTURE, Step.RELEASE, Step.CREDIT, Step.REVERSE_CREDIT
NOON_US = 1_772_424_000_000_000


def manifest(way: str = "hold") -> Manifest:
    """A merchant that holds or burns, and keeps a hold for a minute."""
    return parse_manifest(
        f"""
        [merchant]
        code = "shop"
        name = "Shop"
        protocol = "own"
        [points]
        [spend]
        way = "{way}"
        hold_seconds_max = 60
        [credit]
        way = "credit"
        [sandbox.members]
        ann = 100
        bo = 0
        """
    )


class Time:
    """A clock that a test sets."""

    def __init__(self):
        self.us = NOON_US

    def __call__(self):
        """The instant set last."""
        return self.us


@pytest.fixture
def now():
    """A clock that stands at noon."""
    return Time()


@pytest.fixture
def books(now):
    """Books of a merchant that holds."""
    return Ledger(manifest(), now)


@pytest.mark.parametrize(
    ("calls", "refused", "available"),
    [
        ([(H, "h", 60)], None, 40),
        ([(H, "h", 101)], Reason.INSUFFICIENT_POINTS, 100),
        ([(H, "h", 60), (H, "h", 60)], None, 40),
        ([(H, "h", 60), (H, "h", 59)], Reason.IDEMPOTENCY_CONFLICT, 40),
        ([(H, "h", 60), (C, "c", 60, "h")], None, 40),
        ([(H, "h", 60), (C, "c", 59, "h")], Reason.MERCHANT_REFUSED, 40),
        ([(H, "h", 60), (R, "r", 60, "h")], None, 100),
        ([(H, "h", 60), (R, "r", 60, "h"), (R, "q", 60, "h")], None, 100),
        ([(H, "h", 60), (R, "r", 60, "h"), (C, "c", 60, "h")], Reason.ORDER_ALREADY_VOIDED, 100),
        ([(H, "h", 60), (C, "c", 60, "h"), (R, "r", 60, "h")], Reason.ORDER_ALREADY_CLEARED, 40),
        ([(C, "c", 60, "h")], Reason.CALL_NOT_FOUND, 100),
        ([(R, "r", 60, "h")], None, 100),
        ([(R, "r", 60, "h"), (H, "h", 60)], Reason.ORDER_ALREADY_VOIDED, 100),
        ([(K, "k", 5)], None, 105),
        ([(K, "k", 5), (V, "v", 5, "k")], None, 100),
        ([(K, "k", 5), (V, "v", 5, "k"), (V, "w", 5, "k")], Reason.ORDER_ALREADY_VOIDED, 100),
        ([(K, "k", 5), (H, "h", 105), (V, "v", 5, "k")], Reason.INSUFFICIENT_POINTS, 0),
        ([(V, "v", 5, "k")], Reason.CALL_NOT_FOUND, 100),
    ],
)
def test_last_call_of_a_history(books, calls, refused, available):
    """Each call ends as the contract says, and its refusal moves nothing."""
    last = [books.book(call[0], call[1], "ann", call[2], *call[3:]) for call in calls][-1]
    assert last.refused is refused
    assert books.available("ann") == available
    assert not books.doubled()
    books.check()


def test_burnt_points_come_back_once(now):
    """A system that only burns gives back what was burnt, once, and captures nothing."""
    books = Ledger(manifest("burn"), now)
    books.book(H, "h", "ann", 60)
    assert books.book(C, "c", "ann", 60, "h").refused is Reason.MERCHANT_REFUSED
    assert [books.book(R, name, "ann", 60, "h").moved for name in ("r", "r", "q")] == [60, 60, 0]
    assert books.available("ann") == 100
    books.check()


def test_hold_runs_out(books, now):
    """A hold that is kept for its longest time gives its points back and cannot be captured."""
    books.book(H, "h", "ann", 60)
    now.us += 60 * 1_000_000
    assert books.available("ann") == 100
    assert books.book(C, "c", "ann", 60, "h").refused is Reason.HOLD_EXPIRED
    assert books.book(R, "r", "ann", 60, "h").refused is None
    assert not books.open_holds()
    books.check()


def test_forgotten_reference_keeps_its_effect_and_its_answer(books):
    """A system that forgets a reference says so when asked, but a repeat still has no second effect."""
    first = books.book(H, "h", "ann", 60)
    books.forget("h")
    assert books.find("h") is None
    assert books.book(H, "h", "ann", 60) == first
    assert books.available("ann") == 40


def test_system_that_takes_no_repeats_doubles_them(now):
    """Where the manifest says that repeats are not safe, a repeat moves points again, and shows."""
    unsafe = msgspec.structs.replace(manifest(), status=Status(repeat_safe=False))
    books = Ledger(unsafe, now)
    books.book(H, "h", "ann", 40)
    books.book(H, "h", "ann", 40)
    assert books.doubled() == {"h"}
    assert books.available("ann") == 20
    books.check()


def test_day_is_the_merchants_own(books, now):
    """A statement's day is that of the manifest's zone: eight hours before UTC's."""
    now.us = int(datetime(2026, 3, 2, 15, 59, 59, tzinfo=UTC).timestamp()) * 1_000_000
    books.book(K, "k1", "bo", 1)
    now.us += 1_000_000
    books.book(K, "k2", "bo", 1)
    assert [entry.reference for entry in books.day(date(2026, 3, 2))] == ["k1"]
    assert [entry.reference for entry in books.day(date(2026, 3, 3))] == ["k2"]


def test_blocked_member_pays_nothing_but_is_paid(books):
    """A blocked member's points cannot be taken; giving some is still possible."""
    books.block("ann")
    assert books.book(H, "h", "ann", 1).refused is Reason.MEMBER_NOT_AUTHORISED
    assert books.book(K, "k", "ann", 1).refused is None
    assert books.book(K, "l", "nobody", 1).refused is Reason.UNKNOWN_MEMBER


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Step)),
            st.sampled_from("abcdef"),
            st.integers(1, 60),
            st.sampled_from("abcdef"),
            st.integers(0, 30),
        ),
        max_size=40,
    ),
    st.sampled_from(["hold", "burn"]),
)
def test_books_add_up_whatever_is_asked(calls, way):
    """Members' points are what the entries say, after any calls in any order at any time."""
    now = Time()
    books = Ledger(manifest(way), now)
    for step, reference, units, of, seconds in calls:
        now.us += seconds * 1_000_000
        books.book(step, reference, "ann", units, "" if step in (H, K) else of)
        books.check()
    assert not books.doubled()


def test_rule_hits_what_it_names():
    """A rule hits the nth occasion that matches it, as often as it says, and no other."""
    plan = Scripted(
        [
            Rule(trouble=Trouble(fault=Fault.CUT), step=H, nth=2, times=2),
            Rule(trouble=Trouble(fault=Fault.TLS_FAILURE), operation=CONNECT),
        ]
    )
    hold = Occasion(operation="hold", step=H, reference="x")
    assert [bool(plan.draw(hold)) for _ in range(5)] == [False, True, True, False, False]
    assert plan.draw(Occasion(operation="balance")) is None
    assert plan.draw(Occasion(operation=CONNECT)) == Trouble(fault=Fault.TLS_FAILURE)
    assert plan.draw(Occasion(operation=CONNECT)) is None


def test_seeded_faults_repeat_themselves():
    """The same seed gives the same faults at about their rates; connections only fail as such."""
    rates = {Fault.CUT: 0.2, Fault.TLS_FAILURE: 0.1, Fault.LATENCY: 0.3}
    hold = Occasion(operation="hold", step=H)
    draws = [
        [Seeded(rng, rates).draw(hold) for _ in range(1000)]
        for rng in (random.Random(1), random.Random(1))
    ]
    assert draws[0] == draws[1]
    kinds = [trouble.fault for trouble in draws[0] if trouble]
    assert 150 < kinds.count(Fault.CUT) < 250
    assert 250 < kinds.count(Fault.LATENCY) < 350
    assert Fault.TLS_FAILURE not in kinds
    with pytest.raises(ValueError, match="shares"):
        Seeded(random.Random(1), {Fault.CUT: 0.7, Fault.GARBAGE: 0.7})


def test_wish_comes_before_the_plan():
    """A call that wishes for a fault gets it; what cannot be read is refused with what there is."""
    plan = Wished(Scripted([Rule(trouble=Trouble(fault=Fault.CUT), times=9)]))
    wish = Occasion(operation="hold", wish="latency=0.25")
    assert plan.draw(wish) == Trouble(fault=Fault.LATENCY, seconds=0.25)
    assert plan.draw(Occasion(operation="hold")) == Trouble(fault=Fault.CUT)
    for text in ("explode", "latency=x", "latency=-1", "latency=nan", "latency=9999"):
        with pytest.raises(SchemaError):
            parse_trouble(text)
