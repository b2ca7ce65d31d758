"""What the guard holds back, what it lets through, and what it says about either."""

import asyncio
from datetime import UTC, date, datetime

import msgspec
import pytest
from structlog.testing import capture_logs

from adapters.kit.circuit import Circuit
from adapters.kit.contract import (
    Balance,
    Call,
    Found,
    Incomplete,
    NotSent,
    Outcome,
    Receipt,
    StatementLine,
    Step,
)
from adapters.kit.figures import CallFigures
from adapters.kit.guard import Guarded, breached
from adapters.kit.manifest import Hours, Limits, parse_manifest
from exchange.simulation.loop import VirtualLoop

MANIFEST = parse_manifest(
    """
    [merchant]
    code = "shop"
    name = "Shop"
    protocol = "own"
    [points]
    [spend]
    way = "hold"
    [credit]
    way = "credit"
    """
)
CALL = Call(step=Step.HOLD, reference="R" * 27, member="member-7", units=5)
DONE = Receipt(outcome=Outcome.DONE, number="1")
EXPECTED = Receipt(outcome=Outcome.UNKNOWN, expected=True)
LOST = Receipt(outcome=Outcome.UNKNOWN)


class Own:
    """An adapter that does what a test says, and counts what it was asked."""

    def __init__(self, *answers, seconds=0.0):
        self.answers = list(answers)
        self.seconds = seconds
        self.asked = 0
        self.most = 0
        self._now = 0

    async def start(self):
        """Nothing to open."""

    async def close(self):
        """Nothing to close."""

    async def _answer(self, *_):
        self.asked += 1
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self._now -= 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    hold = capture = release = credit = reverse_credit = status = _answer
    look_up = authenticate = balance = _answer

    async def statement(self, day):
        """One line or exception after the other."""
        for answer in self.answers:
            await asyncio.sleep(self.seconds)
            if isinstance(answer, Exception):
                raise answer
            yield answer


def guarded(own, *, at_us=0, hours=None, **limits):
    """An adapter behind these limits."""
    manifest = msgspec.structs.replace(
        MANIFEST, limits=Limits(**limits), hours=hours or MANIFEST.hours
    )
    return Guarded(own, manifest, now_us=lambda: at_us, figures=CallFigures())


def figure(guard, name, **labels):
    """One figure, as Prometheus would read it."""
    return guard._figures.registry.get_sample_value(name, {"merchant": "shop", **labels})


@pytest.fixture
def virtual():
    """Runs a coroutine on a loop whose time jumps to the next timer."""
    loop = VirtualLoop()

    def run(coroutine):
        return loop.run_until_complete(coroutine)

    yield run
    loop.end()


def test_answer_passes_as_it_is(virtual):
    """What the adapter answers is what the caller gets, and is counted by its outcome."""
    guard = guarded(Own(DONE))
    assert virtual(guard.hold(CALL)) is DONE
    count = "tongdui_merchant_call_seconds_count"
    assert figure(guard, count, operation="hold", outcome="done") == 1


def test_late_answer_is_unknown(virtual):
    """A call without an answer at its deadline is unknown: it was sent."""
    guard = guarded(Own(DONE, seconds=9), deadline_seconds=2)
    assert virtual(guard.hold(CALL)).outcome is Outcome.UNKNOWN
    assert virtual(guard.balance("m")).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "answer", [Receipt(outcome=Outcome.DONE, units=6), Receipt(outcome=Outcome.DONE, units=4)]
)
def test_other_units_than_asked_are_a_breach(virtual, answer):
    """An answer that names other units is never done: the receipt keeps the units, and people hear of it."""
    guard = guarded(Own(answer))
    with capture_logs() as lines:
        receipt = virtual(guard.status(CALL))
    assert receipt.outcome is Outcome.UNKNOWN
    assert breached(CALL, receipt)
    assert [line["event"] for line in lines if line["log_level"] == "error"] == [
        "merchant.breached"
    ]
    assert figure(guard, "tongdui_merchant_breaches_total") == 1


def test_exception_is_unknown_and_its_text_is_not_logged(virtual):
    """An adapter's bug leaves the outcome open; the log says where it was, and not what it said."""
    guard = guarded(Own(KeyError("member-7 secret")))
    with capture_logs() as lines:
        assert virtual(guard.hold(CALL)).outcome is Outcome.UNKNOWN
    text = str(lines)
    assert "adapter.failed" in text
    assert "test_guard.py" in text
    assert "member-7" not in text
    assert "secret" not in text


def test_call_that_was_not_sent_stays_so(virtual):
    """What the transport knows not to have sent reaches the caller as that."""
    guard = guarded(Own(NotSent("refused")))
    with pytest.raises(NotSent, match="refused"):
        virtual(guard.hold(CALL))
    assert figure(guard, "tongdui_merchant_calls_not_sent_total", why="transport") == 1


def test_circuit_opens_tries_once_and_closes(virtual):
    """After failures in a row nothing is sent; then one call tries, and only its success lets all through."""
    own = Own(LOST, LOST, LOST, LOST, DONE, seconds=0.1)
    guard = guarded(own, breaker_failures=3, breaker_seconds=5)

    async def life():
        for _ in range(3):
            await guard.hold(CALL)
        with pytest.raises(NotSent) as held:
            await guard.hold(CALL)
        assert own.asked == 3
        assert 4.9 < held.value.retry_after_seconds <= 5
        await asyncio.sleep(5.1)
        several = await asyncio.gather(
            *(guard.hold(CALL) for _ in range(4)), return_exceptions=True
        )
        assert own.asked == 4
        assert [type(one) for one in several].count(NotSent) == 3
        assert figure(guard, "tongdui_merchant_circuit_open") == 1
        await asyncio.sleep(5.1)
        assert await guard.hold(CALL) is DONE
        several = await asyncio.gather(*(guard.hold(CALL) for _ in range(4)))
        assert several == [DONE] * 4

    virtual(life())


def test_expected_answer_keeps_the_circuit_closed(virtual):
    """A system that takes calls and answers later is in order."""
    own = Own(EXPECTED)
    guard = guarded(own, breaker_failures=1)
    assert [virtual(guard.hold(CALL)) for _ in range(3)] == [EXPECTED] * 3


def test_cancelled_try_does_not_close_the_circuit_for_ever(virtual):
    """When the one call that tries is cancelled, the next one tries."""
    own = Own(LOST, DONE)
    guard = guarded(own, breaker_failures=1, breaker_seconds=1)

    async def life():
        await guard.hold(CALL)
        await asyncio.sleep(1.1)
        own.seconds = 1.0
        trying = asyncio.create_task(guard.hold(CALL))
        await asyncio.sleep(0.5)
        trying.cancel()
        await asyncio.gather(trying, return_exceptions=True)
        assert await guard.hold(CALL) is DONE

    virtual(life())


def test_bulkhead_bounds_what_is_under_way(virtual):
    """No more calls are under way than allowed; who waits too long for a place was not sent."""
    own = Own(DONE, seconds=1.5)
    guard = guarded(own, concurrency=2, deadline_seconds=2)

    async def life():
        return await asyncio.gather(*(guard.hold(CALL) for _ in range(7)), return_exceptions=True)

    ends = virtual(life())
    assert own.most == 2
    assert ends.count(DONE) == 4
    assert sum(isinstance(end, NotSent) for end in ends) == 3
    assert figure(guard, "tongdui_merchant_calls_under_way") == 0


def test_rate_bounds_calls_a_second(virtual):
    """After a burst calls wait for their turn on the loop's clock; who would wait too long is not sent."""
    own = Own(DONE)
    guard = guarded(own, per_second=10, burst=5, deadline_seconds=1, concurrency=100)

    async def life():
        started = asyncio.get_running_loop().time()
        ends = await asyncio.gather(*(guard.hold(CALL) for _ in range(30)), return_exceptions=True)
        return ends, asyncio.get_running_loop().time() - started

    ends, seconds = virtual(life())
    assert 14 <= ends.count(DONE) <= 15
    assert 0.9 < seconds <= 1.0


def test_closed_hours_hold_back(virtual):
    """Outside of the opening hours nothing is sent, and the wait is that until the next opening."""
    own = Own(DONE)
    at_us = int(datetime(2026, 3, 2, 0, 30, tzinfo=UTC).timestamp()) * 1_000_000
    guard = guarded(own, at_us=at_us, hours=Hours(zone="UTC", open=("01:00-23:00",)))
    with pytest.raises(NotSent) as held:
        virtual(guard.hold(CALL))
    assert held.value.retry_after_seconds == 1800
    assert own.asked == 0


LINE = StatementLine(reference="R", step=Step.HOLD, member="m", units=1, at_us=0)


@pytest.mark.parametrize(
    ("answers", "seconds"),
    [
        ((LINE, Incomplete("half")), 0.0),
        ((LINE, KeyError("member-7")), 0.0),
        ((LINE, LINE), 9.0),
    ],
)
def test_statement_is_whole_or_incomplete(virtual, answers, seconds):
    """A statement that ends early, for whatever reason or for none, is incomplete."""
    guard = guarded(Own(*answers, seconds=seconds), statement_seconds=10)

    async def read():
        return [line async for line in guard.statement(date(2026, 3, 2))]

    with pytest.raises(Incomplete):
        virtual(read())
    assert virtual(_read(guarded(Own(LINE, LINE)))) == [LINE, LINE]


async def _read(guard):
    return [line async for line in guard.statement(date(2026, 3, 2))]


def test_reading_answers_pass(virtual):
    """Members and balances pass through the same gate."""
    found = Found(outcome=Outcome.DONE, member="m")
    assert virtual(guarded(Own(found)).look_up("m")) is found
    assert virtual(guarded(Own(found)).authenticate("m", "1")) is found
    balance = Balance(outcome=Outcome.DONE, units=3)
    assert virtual(guarded(Own(balance)).balance("m")) is balance


def test_circuit_forgets_failures_at_a_success():
    """Only failures in a row open it, and a late failure does not lengthen the wait."""
    circuit = Circuit(failures=2, seconds=10)
    for event in ("failed", "succeeded", "failed"):
        circuit.failed(0) if event == "failed" else circuit.succeeded()
    assert circuit.closed
    circuit.failed(1)
    assert circuit.wait_seconds(1) == 10
    circuit.failed(5)
    assert circuit.wait_seconds(5) == 6
