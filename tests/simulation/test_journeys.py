"""The order's life on real PostgreSQL, a real writer and real sockets, with every fault that a merchant has."""

import asyncio
import uuid

import pytest

from adapters.kit.contract import Outcome, Receipt, Step
from adapters.kit.reference import reference_of
from adapters.kit.simulator.faults import Fault
from exchange.core.journey import Source, Verdict
from exchange.core.order import State
from schemas.values.reason import Reason
from settlement.core.command import End
from settlement.core.event import Kind
from settlement.service.clearing import PART
from tests.simulation.roads import CREDITED, MEMBER, TILL, UNITS, Wire, cleared, road


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
            way.wanted(seconds=0.3, key=unlucky.order.key, body=unlucky.order.body)
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
        wanted = way.wanted(seconds=0.3)
        answer = await runner.order(wanted)
        assert answer.reason == Reason.DECIDED_TOO_LATE.number
        journey = await way.until(wanted, lambda journey: journey.stuck_since_us > 0)
        assert "units" in journey.stuck_why


async def test_a_late_credit_is_reversed(dsn):
    """A credit that comes after the till heard no is taken back, and the hold with it."""
    async with road(dsn) as way:
        runner = await way.runner()
        way.acceptor.fails(Fault.TIMEOUT_AFTER, operation="credit")
        way.acceptor.fails(Fault.TIMEOUT_BEFORE, operation="status", times=5)
        wanted = way.wanted(seconds=0.25)
        answer = await runner.order(wanted)
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
        way.acceptor.fails(Fault.TIMEOUT_BEFORE, operation="status", times=5)
        wanted = way.wanted(seconds=0.25)
        assert (await runner.order(wanted)).reason == Reason.DECIDED_TOO_LATE.number
        journey = await way.ended(wanted)
        assert journey.state is State.CLEARED
        assert journey.verdict is Verdict.LATE
        assert "credit stands" in journey.stuck_why


async def test_a_dead_issuer_is_answered_in_time(dsn):
    """The till hears no by `decide_by` from an issuer that never answers; its hold is found out and given back."""
    async with road(dsn) as way:
        runner = await way.runner()
        way.issuer.fails(Fault.TIMEOUT_AFTER, operation="hold")
        way.issuer.fails(Fault.TIMEOUT_BEFORE, operation="status", times=4)
        wanted = way.wanted(seconds=0.2)
        began = asyncio.get_running_loop().time()
        answer = await runner.order(wanted)
        assert asyncio.get_running_loop().time() - began < 0.35
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
            way.acceptor.fails(Fault.TIMEOUT_BEFORE, operation="status", times=1)
            wanted = way.wanted(seconds=5)
            ordering = asyncio.ensure_future(one.order(wanted))
            journey = await way.until(wanted, lambda journey: journey.order_seq > 0)
            order = journey.order_id(PART)
            assert order is not None
            reference = reference_of(order, Step.CREDIT)
            while way.acceptor.ledger.find(reference) is None:
                await asyncio.sleep(0.005)
            await at.answered(reference, Receipt(outcome=Outcome.DONE, number="77"))
            assert cleared(await ordering)
            assert Source.CALLBACK in {line.source for line in await way.lines(wanted)}
            await way.check(wanted)
        stranger = reference_of(uuid.UUID(int=7 << 76 | PART << 64 | 2 << 62 | 1), Step.CREDIT)
        with pytest.raises(LookupError):
            await one.answered(stranger, Receipt(outcome=Outcome.DONE))
        with pytest.raises(LookupError):
            await one.answered("not a reference", Receipt(outcome=Outcome.DONE))


async def test_a_killed_workers_journeys_end_right(dsn):
    """A worker killed at any await leaves journeys that another ends: nothing lost, doubled, or told wrong."""
    async with road(dsn) as way:
        whole = Wire()
        runner = await way.runner(whole)
        wanted = way.wanted()
        assert cleared(await runner.order(wanted))
        await way.ended(wanted)
        points = whole.points
        assert points >= 20
        await runner.stop()

        async def one(number: int):
            wire = Wire(dies_at=number)
            dying = await way.runner(wire)
            wanted = way.wanted(seconds=0.8)
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
            await way.pool.execute(
                "DELETE FROM exchange.order_worker WHERE worker = $1", dying._worker
            )
            return wanted, told

        killed = await asyncio.gather(*(one(number) for number in range(1, points + 1)))
        heir = await way.runner()
        for wanted, told in killed:
            if not await way.pool.fetchval(
                "SELECT count(*) FROM exchange.journey WHERE key = $1", wanted.order.key.hex()
            ):
                continue
            await way.check(wanted, told)
            again = await heir.order(wanted)
            if told is not None:
                assert again == told
        await way.no_holds()
        assert heir.taken_over >= points - 5
