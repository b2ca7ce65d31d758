"""The order's life on real PostgreSQL, a real writer and real sockets, with every fault that a merchant has."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from adapters.kit.contract import Outcome, Receipt, Step
from adapters.kit.reference import reference_of
from adapters.kit.simulator.faults import Fault
from exchange.core.journey import Source, Verdict
from exchange.core.order import State
from exchange.service.journey_database import DatabaseJourneys
from exchange.service.stuck import find_journey, list_stuck, resolve
from schemas.values.reason import Reason, Refusal
from settlement.core.command import End
from settlement.core.event import Kind
from settlement.core.trail import PROGRAM
from settlement.service.clearing import PART
from tests.simulation.roads import (
    ACCEPTOR,
    CREDITED,
    ISSUER,
    LIMITS,
    MEMBER,
    OTHER,
    TILL,
    UNITS,
    Road,
    Wire,
    cleared,
    now_us,
    road,
    system,
)


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "redemption"])
async def test_an_order_clears(dsn, exchange):
    """An order holds, credits, clears and captures; the till hears cleared, and both merchants' books agree."""
    async with road(dsn) as way:
        runner = await way.runner()
        wanted = way.wanted(exchange=exchange)
        answer = await runner.order(wanted)
        assert cleared(answer)
        assert (answer.units, answer.credited_units) == (UNITS, CREDITED if exchange else 0)
        journey = await way.check(wanted, answer)
        assert journey.state is State.CLEARED
        assert journey.verdict is Verdict.FORWARD
        await way.no_holds()
        lines = await way.lines(wanted)
        steps = [Step.HOLD, Step.CREDIT, Step.CAPTURE] if exchange else [Step.HOLD, Step.CAPTURE]
        intents = [line.step for line in lines if line.source is Source.INTENT]
        assert intents == steps
        assert [line.step for line in lines if line.outcome is Outcome.DONE] == steps
        again = await runner.order(wanted)
        assert again == answer


async def test_what_is_burnt_is_not_captured(dsn):
    """An issuer that burns points gets no capture, and gives back what an order that is refused had burnt."""
    burns = {"spend": {"way": "burn"}}
    async with road(dsn, issuer=burns) as way:
        runner = await way.runner()
        wanted = way.wanted()
        assert cleared(await runner.order(wanted))
        await way.check(wanted)
        unlucky = way.wanted()
        way.acceptor.ledger.block(MEMBER)
        way.acceptor.fails(Fault.TIMEOUT_BEFORE, step=Step.CREDIT, times=100)
        answer = await runner.order(
            way.wanted(seconds=1, key=unlucky.order.key, body=unlucky.order.body)
        )
        assert answer.reason == Reason.DECIDED_TOO_LATE.number
        journey = await way.check(unlucky, answer)
        assert journey.state is State.REFUSED
        assert way.issuer.moved(journey) == [Step.HOLD, Step.RELEASE]


async def test_a_refusal_at_the_issuer(dsn):
    """A merchant's no reaches the till with its reason, nothing stays held, and a repeat hears the same."""
    async with road(dsn) as way:
        runner = await way.runner()
        wanted = way.wanted(units=10_000_000)
        answer = await runner.order(wanted)
        assert answer.reason == Reason.INSUFFICIENT_POINTS.number
        journey = await way.check(wanted, answer)
        assert journey.state is State.REFUSED
        await way.no_holds()
        assert await runner.order(wanted) == answer
        other = await way.runner()
        assert await other.order(wanted) == answer


async def test_another_body_under_a_key(dsn):
    """A key that was used with another body conflicts, in flight and afterwards."""
    async with road(dsn) as way:
        runner = await way.runner()
        wanted = way.wanted()
        other = way.wanted(key=wanted.order.key)
        first, second = await asyncio.gather(runner.order(wanted), runner.order(other))
        assert cleared(first)
        assert second.reason == Reason.IDEMPOTENCY_CONFLICT.number


async def test_repeats_in_flight_hear_one_answer(dsn):
    """Repeats while the first is under way, here and at another worker, get its answer; points move once."""
    async with road(dsn) as way:
        one, two = await way.runner(), await way.runner()
        way.issuer.fails(Fault.LATENCY, 0.1, step=Step.HOLD)
        wanted = way.wanted()
        answers = await asyncio.gather(
            *(runner.order(wanted) for runner in (one, two, one, two, two))
        )
        assert all(answer == answers[0] for answer in answers)
        assert cleared(answers[0])
        await way.check(wanted, answers[0])


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.CUT, Fault.GARBAGE),
        *(Fault.TRUNCATED, Fault.LATENCY),
    ],
)
async def test_an_unknown_outcome_is_inquired(dsn, fault):
    """Whatever is lost at each call, the outcome is found out by inquiry and the order clears, once."""
    async with road(dsn) as way:
        runner = await way.runner()
        seconds = 0.3 if fault is Fault.LATENCY else 0.0
        orders = []
        for system, step in (
            (way.issuer, Step.HOLD),
            (way.acceptor, Step.CREDIT),
            (way.issuer, Step.CAPTURE),
        ):
            system.fails(fault, seconds, operation=step.name.lower(), step=step)
            wanted = way.wanted()
            orders.append(wanted)
            assert cleared(await runner.order(wanted))
        for wanted in orders:
            assert (await way.check(wanted)).state is State.CLEARED
        await way.no_holds()


async def test_wrong_amounts_ask_people(dsn):
    """A merchant that says that it moved other units stops the order before the till, and people are asked."""
    async with road(dsn) as way:
        runner = await way.runner()
        way.issuer.fails(Fault.WRONG_AMOUNT, step=Step.HOLD, times=10_000)
        wanted = way.wanted(seconds=1)
        answer = await runner.order(wanted)
        assert answer.reason == Reason.DECIDED_TOO_LATE.number
        journey = await way.until(wanted, lambda journey: journey.stuck_since_us > 0)
        assert "units" in journey.stuck_why


async def test_a_late_credit_is_reversed(dsn):
    """A credit that comes after the till heard no is taken back, and the hold with it."""
    async with road(dsn) as way:
        runner = await way.runner()
        way.acceptor.fails(Fault.TIMEOUT_AFTER, operation="credit")
        way.acceptor.fails(Fault.TIMEOUT_BEFORE, operation="status", times=10_000)
        wanted = way.wanted(seconds=1)
        answer = await runner.order(wanted)
        way.acceptor.works()
        assert answer.reason == Reason.DECIDED_TOO_LATE.number
        journey = await way.check(wanted, answer)
        assert journey.state is State.REVERSED
        await way.no_holds()
        assert (await runner.order(wanted)).reason == Reason.DECIDED_TOO_LATE.number


async def test_a_late_credit_that_stands_asks_people(dsn):
    """A late credit that cannot be taken back stands: the order goes forward, and people are told for good."""
    async with road(dsn, acceptor={"credit": {"reversible": False}}) as way:
        runner = await way.runner()
        way.acceptor.fails(Fault.TIMEOUT_AFTER, operation="credit")
        way.acceptor.fails(Fault.TIMEOUT_BEFORE, operation="status", times=10_000)
        wanted = way.wanted(seconds=1)
        assert (await runner.order(wanted)).reason == Reason.DECIDED_TOO_LATE.number
        way.acceptor.works()
        journey = await way.ended(wanted)
        assert journey.state is State.CLEARED
        assert journey.verdict is Verdict.LATE
        assert "credit stands" in journey.stuck_why


async def test_a_dead_issuer_is_answered_in_time(dsn):
    """The till hears no by `decide_by` from an issuer that never answers; its hold is found out and given back."""
    async with road(dsn) as way:
        runner = await way.runner()
        way.issuer.fails(Fault.TIMEOUT_AFTER, operation="hold")
        way.issuer.fails(Fault.TIMEOUT_BEFORE, operation="status", times=10_000)
        wanted = way.wanted(seconds=1)
        began = asyncio.get_running_loop().time()
        answer = await runner.order(wanted)
        assert asyncio.get_running_loop().time() - began < 1.5
        way.issuer.works()
        assert answer.reason == Reason.DECIDED_TOO_LATE.number
        journey = await way.check(wanted, answer)
        assert way.issuer.moved(journey) == [Step.HOLD, Step.RELEASE]
        await way.no_holds()


async def test_the_senders_void_ends_a_journey(dsn):
    """An order that its sender voids while the issuer holds is released, and the till hears so."""
    async with road(dsn) as way:
        runner = await way.runner()
        way.issuer.fails(Fault.LATENCY, 0.1, step=Step.HOLD)
        wanted = way.wanted(seconds=2)
        ordering = asyncio.ensure_future(runner.order(wanted))
        order_seq = None
        while order_seq is None:
            await asyncio.sleep(0.005)
            order_seq = await way.pool.fetchval(
                "SELECT seq FROM settlement.event WHERE kind = 1 AND caller = $1", TILL
            )
        [answer] = await way.writer.submit(
            [
                End(
                    caller=TILL,
                    key=bytes(16),
                    body=bytes(16),
                    order_seq=order_seq,
                    kind=int(Kind.VOIDED),
                )
            ]
        )
        assert answer[0].kind == Kind.VOIDED
        told = await ordering
        assert told.reason == Reason.ORDER_ALREADY_VOIDED.number
        journey = await way.check(wanted, told)
        assert way.issuer.moved(journey) == [Step.HOLD, Step.RELEASE]


async def test_a_callback_ends_the_wait(dsn):
    """An answer that comes by itself, at this worker or another, ends the wait; a stranger's is not taken."""
    async with road(dsn) as way:
        one, two = await way.runner(), await way.runner()
        for at in (one, two):
            way.acceptor.fails(Fault.TIMEOUT_AFTER, operation="credit")
            way.acceptor.fails(Fault.TIMEOUT_BEFORE, operation="status", times=10_000)
            wanted = way.wanted()
            ordering = asyncio.ensure_future(one.order(wanted))
            journey = await way.until(wanted, lambda journey: journey.order_seq > 0)
            order = journey.order_id(PART)
            assert order is not None
            reference = reference_of(order, Step.CREDIT)
            while way.acceptor.ledger.find(reference) is None:
                await asyncio.sleep(0.005)
            done = Receipt(outcome=Outcome.DONE, number="77")
            with pytest.raises(LookupError):
                await at.answers_of(ISSUER)(reference, done)
            await at.answers_of(ACCEPTOR)(reference, done)
            assert cleared(await ordering)
            way.acceptor.works()
            assert Source.CALLBACK in {line.source for line in await way.lines(wanted)}
            await way.check(wanted)
        stranger = reference_of(uuid.UUID(int=7 << 76 | PART << 64 | 2 << 62 | 1), Step.CREDIT)
        with pytest.raises(LookupError):
            await one.answers_of(ACCEPTOR)(stranger, Receipt(outcome=Outcome.DONE))
        with pytest.raises(LookupError):
            await one.answers_of(ACCEPTOR)("not a reference", Receipt(outcome=Outcome.DONE))


def late(way: Road) -> None:
    """Let every credit go unanswered until the till was told no."""
    way.acceptor.fails(Fault.TIMEOUT_AFTER, operation="credit", times=10_000)
    way.acceptor.fails(Fault.LATENCY, 0.05, operation="status", times=10_000)


KILLED: dict[str, tuple[dict[str, Any], Callable[[Road], None] | None, float]] = {
    "exchange": ({}, None, 0.8),
    "redemption": ({"exchange": False}, None, 0.8),
    "refused": ({"units": 10_000_000}, None, 0.8),
    "late": ({}, late, 0.1),
}


@pytest.mark.kill
@pytest.mark.parametrize("name", KILLED)
async def test_a_killed_workers_journeys_end_right(dsn, name):
    """A worker killed at any await leaves journeys that another ends: nothing lost, doubled, or told wrong."""
    more, trouble, seconds = KILLED[name]
    async with road(dsn) as way:
        if trouble:
            trouble(way)
        whole = Wire()
        runner = await way.runner(whole)
        wanted = way.wanted(seconds=seconds, **more)
        await way.check(wanted, await runner.order(wanted))
        points = whole.points
        assert points >= 8
        await runner.stop()

        async def one(number: int):
            wire = Wire(dies_at=number)
            dying = await way.runner(wire)
            wanted = way.wanted(seconds=seconds, **more)
            ordering = asyncio.ensure_future(dying.order(wanted))
            waiting = asyncio.ensure_future(wire.dead.wait())
            await asyncio.wait({ordering, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not wire.dead.is_set():
                await asyncio.wait({waiting}, timeout=2)
            told = None if not ordering.done() or ordering.exception() else ordering.result()
            await dying.kill()
            ordering.cancel()
            waiting.cancel()
            await asyncio.gather(ordering, waiting, return_exceptions=True)
            # Its lease is over; that others wait for that is proven elsewhere.
            await DatabaseJourneys(way.pool).leave(dying._worker)
            return wanted, told

        killed = await asyncio.gather(*(one(number) for number in range(1, points + 1)))
        heir = await way.runner()
        begun = 0
        for wanted, told in killed:
            key = wanted.order.caller, wanted.order.key
            if not await DatabaseJourneys(way.pool).find([key]):
                assert told is None
                continue
            begun += 1
            await way.check(wanted, told)
            again = await heir.order(wanted)
            # A till that heard no before the books accepted hears the order's id only later.
            assert told is None or (again.kind, again.reason) == (told.kind, told.reason)
        await way.no_holds()
        assert begun >= points - 1


async def test_a_lease_is_waited_for_and_then_taken(dsn):
    """Others drive a dead worker's journey when its lease has run out, and not before."""
    async with road(dsn) as way:
        wire = Wire(dies_at=3)
        dying = await way.runner(wire, lease_seconds=2)
        wanted = way.wanted()
        ordering = asyncio.ensure_future(dying.order(wanted))
        await wire.dead.wait()
        await dying.kill()
        ordering.cancel()
        heir = await way.runner(lease_seconds=2)
        assert heir.taken_over == 0
        answer = await heir.order(wanted)
        assert cleared(answer)
        assert heir.taken_over == 1
        await way.check(wanted, answer)


async def test_a_worker_that_was_frozen_sends_nothing(dsn):
    """A worker whose lease ran out while it stood still sends no call, drops its journeys and begins anew."""
    async with road(dsn) as way:
        frozen = await way.runner(lease_seconds=0.4)
        name = frozen._worker
        way.issuer.fails(Fault.TIMEOUT_AFTER, operation="hold")
        wanted = way.wanted(seconds=3)
        ordering = asyncio.ensure_future(frozen.order(wanted))
        await way.until(wanted, lambda _: True)
        await DatabaseJourneys(way.pool).leave(name)  # As whoever meets a lapsed lease does.
        heir = await way.runner(lease_seconds=5)
        assert cleared(await ordering)
        # It may have begun anew before the heir looked.
        assert heir.taken_over + frozen.taken_over == 1
        assert frozen._worker != name
        assert frozen.under_way == 0
        await way.check(wanted)
        other = way.wanted()
        assert cleared(await frozen.order(other))


async def test_people_resolve_what_no_merchant_can(dsn):
    """What people found out is one more line; the order goes on from it, and is not shown any more."""
    async with road(dsn) as way:
        runner = await way.runner()
        way.issuer.fails(Fault.WRONG_AMOUNT, operation="capture", step=Step.CAPTURE)
        wanted = way.wanted()
        assert cleared(await runner.order(wanted))
        journey = await way.until(wanted, lambda journey: journey.stuck_since_us > 0)
        [shown] = await list_stuck(way.pool, now_us=now_us())
        assert (shown.merchant_no, shown.journey) == (ISSUER, journey)
        found = await find_journey(way.pool, shown.name)
        assert found == journey
        assert await find_journey(way.pool, str(uuid.uuid4())) is None
        said = await resolve(
            way.pool,
            journey,
            outcome=Outcome.DONE,
            note="seen in their books",
            by=PROGRAM,
            now_us=now_us(),
        )
        assert said is Step.CAPTURE
        ended = await way.check(wanted)
        assert ended.stuck_since_us == 0
        assert await list_stuck(way.pool, now_us=now_us()) == []
        again = await resolve(
            way.pool, ended, outcome=Outcome.DONE, note="again", by=PROGRAM, now_us=now_us()
        )
        assert isinstance(again, Refusal)


async def test_a_capture_that_is_refused_is_shown_and_conceded(dsn):
    """After the point of no return a merchant's no undoes nothing: people are asked, and their word ends it."""
    async with road(dsn, issuer={"spend": {"hold_seconds_max": 1}}) as way:
        runner = await way.runner()
        way.issuer.fails(Fault.TIMEOUT_BEFORE, operation="capture", times=8)
        way.issuer.fails(Fault.TIMEOUT_BEFORE, operation="status", times=4)
        wanted = way.wanted()
        assert cleared(await runner.order(wanted))
        journey = await way.until(wanted, lambda journey: journey.stuck_since_us > 0)
        assert journey.stuck_why == "CAPTURE was refused: hold_expired"
        assert journey.state is State.CAPTURING
        await resolve(
            way.pool,
            journey,
            outcome=Outcome.REFUSED,
            note="paid by hand",
            by=PROGRAM,
            now_us=now_us(),
        )
        ended = await way.ended(wanted)
        assert ended.state is State.CLEARED
        assert (await way.lines(wanted))[-1].source is Source.PEOPLE


async def test_a_dead_merchant_delays_nobody_else(dsn):
    """Orders that wait for a dead acceptor leave the time of another pair's orders as it was."""
    # As a manifest would have it: who asks a dead system all the time only burns this test's processor.
    patient = LIMITS | {"inquiry_first_seconds": 0.5, "inquiry_max_seconds": 5.0}
    async with road(dsn) as way, system(limits=patient) as third:
        way.systems[OTHER] = third
        runner = await way.runner()

        async def usual(count: int) -> float:
            loop = asyncio.get_running_loop()
            times = []
            for _ in range(count):
                began = loop.time()
                assert cleared(await runner.order(way.wanted(seconds=5)))
                times.append(loop.time() - began)
            return sorted(times)[count // 2]

        alone = await usual(10)
        for operation in ("credit", "status"):
            third.fails(Fault.TIMEOUT_BEFORE, operation=operation, times=100_000)
        waiting = [
            asyncio.ensure_future(runner.order(way.wanted(seconds=2, acceptor=OTHER)))
            for _ in range(60)
        ]
        while runner.under_way <= 20:
            await asyncio.sleep(0.01)
        beside = await usual(10)
        assert beside < 3 * alone + 0.05, (alone, beside)
        reasons = {answer.reason for answer in await asyncio.gather(*waiting)}
        assert reasons <= {Reason.DECIDED_TOO_LATE.number, Reason.MERCHANT_UNAVAILABLE.number}
