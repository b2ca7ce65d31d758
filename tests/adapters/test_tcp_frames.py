import asyncio
import contextlib
import datetime as dt
import hmac
import random
import struct
import tomllib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.kit import registry
from adapters.kit.context import Context
from adapters.kit.contract import Adapter, Call, Incomplete, NotSent, Outcome, Receipt, Step
from adapters.kit.figures import CallFigures
from adapters.kit.folder import Folder
from adapters.kit.frames import (
    Answer,
    Bye,
    Challenge,
    End,
    Enough,
    FrameProtocol,
    Hello,
    Inquire,
    Line,
    Lines,
    Message,
    More,
    Move,
    Ping,
    Pong,
    Proof,
    Welcome,
    frame,
    link_mac,
    read_from_client,
    read_from_server,
)
from adapters.kit.guard import Guarded
from adapters.kit.reference import reference_of
from adapters.kit.secret import Secrets
from adapters.kit.simulator.certificates import Authority
from adapters.kit.simulator.faults import (
    CONNECT,
    Fault,
    Occasion,
    Rule,
    Scripted,
    Seeded,
    Trouble,
)
from adapters.kit.simulator.stage import Running, Stage, set_stage
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason

SECRET = "env:TILL_TOWN_SECRET"
QUICK = {
    "connect_seconds": 5.0,
    "heartbeat_seconds": 0.5,
    "reconnect_first_seconds": 0.01,
    "reconnect_max_seconds": 0.02,
}
DAY_US = 1_772_413_200_000_000  # 2026-03-02 09:00 in Shanghai
DAY = dt.date(2026, 3, 2)
GIVE_UP_SECONDS = 0.15


def folder_of(**settings: object) -> Folder:
    """The merchant's folder, with quick time-outs and other settings changed."""
    return registry.find("till-town").with_settings(QUICK | settings)


def hold(units: int = 100, member: str = "T-1001", order: uuid.UUID | None = None) -> Call:
    """A hold."""
    reference = reference_of(order or uuid.uuid4(), Step.HOLD)
    return Call(step=Step.HOLD, reference=reference, member=member, units=units, at_us=DAY_US)


def later(step: Step, call: Call, number: str = "") -> Call:
    """The step that ends an earlier one."""
    reference = call.reference[:-1] + step.value
    return Call(
        step=step,
        reference=reference,
        member=call.member,
        units=call.units,
        of=call.reference,
        of_receipt=number,
        at_us=DAY_US,
    )


class Weather(Scripted):
    """A script, and behind it faults by chance."""

    def __init__(self) -> None:
        super().__init__()
        self._chance: Seeded | None = None

    def storm(self, chance: Seeded) -> None:
        """From now on let chance decide what the script leaves open."""
        self._chance = chance

    def draw(self, occasion: Occasion) -> Trouble | None:
        """What goes wrong now."""
        return super().draw(occasion) or (self._chance.draw(occasion) if self._chance else None)


class Shop:
    """A running simulator and how to change what it does."""

    def __init__(self, folder: Folder, running: Running, plan: Weather) -> None:
        self.folder = folder.with_settings(running.settings)
        self.stage: Stage = running.stage
        self.plan = plan
        self.secrets = Secrets(running.secrets)

    def fails(self, fault: Fault, seconds: float = 0.0, **where) -> None:
        """From now on let this go wrong."""
        self.plan.add(Rule(trouble=Trouble(fault=fault, seconds=seconds), **where))


@contextlib.asynccontextmanager
async def shop(port: int = 0, secrets: dict[str, bytes] | None = None, **settings):
    """A simulator that runs."""
    folder = folder_of(**settings)
    plan = Weather()
    stage = set_stage(
        folder,
        plan=plan,
        now_us=lambda: DAY_US,
        rng=random.Random(7),
        secrets=Secrets(secrets),
        port=port,
    )
    async with registry.simulator(folder)(folder, stage) as running:
        yield Shop(folder, running, plan)


@contextlib.asynccontextmanager
async def adapter_for(the_shop: Shop, secrets: Secrets | None = None, **settings):
    """An adapter for a simulator, started."""
    folder = the_shop.folder.with_settings(settings)
    adapter = registry.build(
        folder, Context(secrets=secrets or the_shop.secrets, now_us=lambda: DAY_US)
    )
    await adapter.start()
    try:
        yield adapter
    finally:
        await adapter.close()


@contextlib.asynccontextmanager
async def connected(**settings):
    """A simulator and its adapter."""
    async with shop(**settings) as the_shop, adapter_for(the_shop) as adapter:
        yield the_shop, adapter


def guarded(the_shop: Shop, adapter: Adapter) -> Guarded:
    """The adapter as the order's life sees it, with a short deadline and a circuit that stays closed."""
    manifest = the_shop.folder.manifest
    limits = msgspec.structs.replace(
        manifest.limits, deadline_seconds=GIVE_UP_SECONDS, breaker_failures=1000
    )
    manifest = msgspec.structs.replace(manifest, limits=limits)
    return Guarded(adapter, manifest, now_us=lambda: DAY_US, figures=CallFigures())


async def given_up(awaitable) -> Receipt:
    """What becomes of a call that got no answer in time."""
    try:
        return await asyncio.wait_for(awaitable, GIVE_UP_SECONDS)
    except TimeoutError:
        return Receipt(outcome=Outcome.UNKNOWN)


async def resolved(adapter, call: Call) -> Receipt:
    """Ask for a status until a connection is there again."""
    for _ in range(200):
        try:
            receipt = await given_up(adapter.status(call))
        except NotSent:
            continue
        if receipt.outcome is not Outcome.UNKNOWN:
            return receipt
    raise AssertionError("never resolved")


# --- the contract ---


async def test_every_step_moves_the_points_that_it_says():
    """Hold, capture, release, credit and its reversal do at the merchant what the contract says."""
    async with connected() as (the_shop, adapter):
        first, second = hold(300), hold(200)
        taken = await adapter.hold(first)
        assert (taken.outcome, taken.units) == (Outcome.DONE, 300)
        assert (await adapter.capture(later(Step.CAPTURE, first, taken.number))).units == 300
        await adapter.hold(second)
        assert (await adapter.release(later(Step.RELEASE, second))).units == 200
        credit = Call(
            step=Step.CREDIT,
            reference=reference_of(uuid.uuid4(), Step.CREDIT),
            member="T-1001",
            units=50,
        )
        given_points = await adapter.credit(credit)
        assert given_points.outcome is Outcome.DONE
        assert (await adapter.balance("T-1001")).units == 99_750
        back = await adapter.reverse_credit(later(Step.REVERSE_CREDIT, credit))
        assert back.outcome is Outcome.DONE
        assert (await adapter.balance("T-1001")).units == 99_700
        the_shop.stage.ledger.check()


async def test_a_repeat_gets_the_first_answer():
    """A call repeated under its reference has no second effect and gets the first answer."""
    async with connected() as (the_shop, adapter):
        call = hold()
        assert await adapter.hold(call) == await adapter.hold(call) == await adapter.status(call)
        assert len(the_shop.stage.ledger.entries) == 1


async def test_a_hold_that_never_was_is_released():
    """Releasing an unknown hold is done and names no units."""
    async with connected() as (_, adapter):
        receipt = await adapter.release(later(Step.RELEASE, hold()))
        assert (receipt.outcome, receipt.units) == (Outcome.DONE, None)


async def test_refusals_carry_the_mapped_reason():
    """The merchant's own results become reasons of the catalogue by the manifest's table."""
    async with connected() as (_, adapter):
        refusal = await adapter.hold(hold(units=100_001))
        assert (refusal.outcome, refusal.reason) == (Outcome.REFUSED, Reason.INSUFFICIENT_POINTS)
        assert (await adapter.look_up("nobody")).reason is Reason.UNKNOWN_MEMBER
        assert (await adapter.look_up("T-1001")).outcome is Outcome.DONE
        assert (await adapter.balance("nobody")).reason is Reason.UNKNOWN_MEMBER
        wrong = await adapter.authenticate("T-1001", "000000")
        assert wrong.reason is Reason.MEMBER_NOT_AUTHORISED
        right = await adapter.authenticate("T-1001", "246810")
        assert (right.outcome, right.member) == (Outcome.DONE, "T-1001")
        assert (await adapter.status(hold())).reason is Reason.CALL_NOT_FOUND


async def test_a_result_that_the_manifest_does_not_map_is_unknown():
    """A reference used for something else gets a result outside the table: never refused, never done."""
    async with connected() as (_, adapter):
        order = uuid.uuid4()
        await adapter.hold(hold(100, order=order))
        other = await adapter.hold(hold(101, order=order))
        assert other.outcome is Outcome.UNKNOWN
        assert "9003" in other.detail


# --- faults ---


@pytest.mark.parametrize(
    ("fault", "seconds", "heard", "truth"),
    [
        (Fault.LATENCY, 0.01, Outcome.DONE, Outcome.DONE),
        (Fault.LATENCY, 9.0, Outcome.UNKNOWN, Outcome.DONE),
        (Fault.TIMEOUT_BEFORE, 0.0, Outcome.UNKNOWN, Outcome.REFUSED),
        (Fault.TIMEOUT_AFTER, 0.0, Outcome.UNKNOWN, Outcome.DONE),
        (Fault.CUT, 0.0, Outcome.UNKNOWN, Outcome.DONE),
        (Fault.WRONG_AMOUNT, 0.0, Outcome.UNKNOWN, Outcome.DONE),
        (Fault.GARBAGE, 0.0, Outcome.UNKNOWN, Outcome.DONE),
        (Fault.TRUNCATED, 0.0, Outcome.UNKNOWN, Outcome.DONE),
        (Fault.SLOW_BODY, 0.01, Outcome.DONE, Outcome.DONE),
        (Fault.SLOW_BODY, 0.4, Outcome.UNKNOWN, Outcome.DONE),
        (Fault.REPEAT_CALLBACK, 0.0, Outcome.DONE, Outcome.DONE),
        (Fault.FORGET, 0.0, Outcome.DONE, Outcome.REFUSED),
        (Fault.CLOCK_SKEW, 60.0, Outcome.DONE, Outcome.DONE),
    ],
)
async def test_no_fault_makes_a_wrong_outcome(fault, seconds, heard, truth):
    """Under every fault a call is done only with exactly its effect, else unknown; status tells the truth."""
    async with connected() as (the_shop, adapter):
        the_shop.fails(fault, seconds, operation="hold")
        life = guarded(the_shop, adapter)
        call = hold()
        receipt = await life.hold(call)
        assert receipt.outcome is heard
        assert receipt.units == (101 if fault is Fault.WRONG_AMOUNT else receipt.units)
        assert (await resolved(life, call)).outcome is truth
        booked = fault is not Fault.TIMEOUT_BEFORE
        assert len(the_shop.stage.ledger.entries) == booked
        assert (await life.hold(hold())).outcome is Outcome.DONE


async def test_a_closed_system_was_sent_nothing():
    """A merchant that takes no calls now makes `NotSent`, and has booked nothing."""
    async with connected() as (the_shop, adapter):
        the_shop.fails(Fault.MAINTENANCE, operation="hold")
        with pytest.raises(NotSent):
            await adapter.hold(hold())
        assert the_shop.stage.ledger.entries == []


async def test_connections_that_fail_are_made_again():
    """Connections that end before signing on cost attempts and no call."""
    async with shop() as the_shop:
        the_shop.fails(Fault.TLS_FAILURE, operation=CONNECT, times=2)
        the_shop.fails(Fault.MAINTENANCE, operation=CONNECT, nth=3)
        the_shop.fails(Fault.CLOCK_SKEW, 3600.0, operation=CONNECT, nth=4)
        async with adapter_for(the_shop) as adapter:
            assert (await adapter.hold(hold())).outcome is Outcome.DONE


async def test_one_broken_frame_leaves_every_call_in_flight_unknown():
    """Calls in flight on a connection that breaks are unknown, each of them, and their effects stand."""
    async with connected() as (the_shop, adapter):
        the_shop.fails(Fault.TIMEOUT_AFTER, operation="hold", times=3)
        the_shop.fails(Fault.GARBAGE, operation="hold", nth=4)
        calls = [hold(units) for units in (1, 2, 3, 4)]
        receipts = await asyncio.gather(*(adapter.hold(call) for call in calls))
        assert {receipt.outcome for receipt in receipts} == {Outcome.UNKNOWN}
        for call in calls:
            assert (await resolved(adapter, call)).units == call.units


async def test_a_slow_call_keeps_no_other_waiting():
    """Answers come in any order: what is quick overtakes what is slow on the same connection."""
    async with connected() as (the_shop, adapter):
        the_shop.fails(Fault.LATENCY, 0.2, operation="hold")
        slow = asyncio.create_task(adapter.hold(hold(1)))
        await asyncio.sleep(0)
        quick = [await adapter.hold(hold(2)) for _ in range(5)]
        assert not slow.done()
        assert {receipt.units for receipt in quick} == {2}
        assert (await slow).units == 1


async def test_an_answer_that_comes_after_giving_up_meets_nobody():
    """The late answer to a call that was given up is passed over and disturbs no other call."""
    async with connected() as (the_shop, adapter):
        the_shop.fails(Fault.LATENCY, 0.2, operation="hold")
        assert (await given_up(adapter.hold(hold(1)))).outcome is Outcome.UNKNOWN
        for _ in range(5):
            assert (await adapter.hold(hold(2))).units == 2
            await asyncio.sleep(0.025)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_fails_outcomes_are_what_the_merchant_booked(seed):
    """Under a storm of faults every call ends as the merchant's books have it, and none twice."""
    storm = dict.fromkeys(
        (Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.CUT, Fault.GARBAGE, Fault.TRUNCATED), 0.03
    ) | dict.fromkeys((Fault.MAINTENANCE, Fault.REPEAT_CALLBACK, Fault.TLS_FAILURE), 0.1)
    async with connected() as (the_shop, adapter):
        the_shop.plan.storm(Seeded(random.Random(seed), storm))
        life = guarded(the_shop, adapter)

        async def end(call: Call) -> tuple[Call, bool]:
            with contextlib.suppress(NotSent):
                receipt = await life.hold(call)
                if receipt.outcome is not Outcome.UNKNOWN:
                    return call, receipt.outcome is Outcome.DONE
            return call, (await resolved(life, call)).outcome is Outcome.DONE

        ends = await asyncio.gather(*(end(hold(units)) for units in range(1, 81)))
        ledger = the_shop.stage.ledger
        booked = {entry.reference: entry.moved for entry in ledger.entries}
        assert booked == {call.reference: call.units for call, done in ends if done}
        assert ledger.doubled() == set()
        assert 0 < len(booked) < 80


# --- the connection ---


async def test_inside_tls_only_the_right_authority_is_trusted():
    """With TLS the merchant's certificate must come from the authority named, else nothing is sent."""
    right, wrong = Authority("right"), Authority("wrong")
    async with shop() as the_shop, tls_before(the_shop, right) as port:
        for authority, outcome in ((right, Outcome.DONE), (wrong, None)):
            known = Secrets(
                {
                    SECRET: the_shop.secrets.read(SECRET, where="$"),
                    "env:CA": authority.certificate,
                }
            )
            wait_seconds = 5.0 if outcome else 0.3
            inside: dict[str, Any] = {
                "port": port,
                "tls": {"ca": "env:CA"},
                "connect_seconds": wait_seconds,
            }
            async with adapter_for(the_shop, known, **inside) as adapter:
                if outcome is None:
                    with pytest.raises(NotSent):
                        await adapter.hold(hold())
                else:
                    assert (await adapter.hold(hold())).outcome is outcome


@contextlib.asynccontextmanager
async def tls_before(the_shop: Shop, authority: Authority) -> AsyncIterator[int]:
    """A port where TLS ends, and goes on to the simulator."""
    settings = the_shop.folder.manifest.settings
    context = authority.server(authority.issue("till-town"))

    async def carry(reader, writer) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    async def come(reader, writer) -> None:
        far_reader, far_writer = await asyncio.open_connection(settings["host"], settings["port"])
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

    server = await asyncio.start_server(come, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0.01)


async def test_without_a_connection_nothing_was_sent():
    """A merchant that is away makes `NotSent` after the wait for a connection, never an unknown."""
    async with shop() as the_shop:
        pass
    async with adapter_for(the_shop, connect_seconds=0.02) as adapter:
        with pytest.raises(NotSent):
            await adapter.hold(hold())
        with pytest.raises(Incomplete):
            [line async for line in adapter.statement(DAY)]


async def test_a_merchant_that_comes_back_is_found_again():
    """After a restart at the same address calls go on by themselves; what was in flight is unknown."""
    async with contextlib.AsyncExitStack() as stack:
        async with shop() as before:
            adapter = await stack.enter_async_context(adapter_for(before))
            before.fails(Fault.TIMEOUT_BEFORE, operation="hold")
            call = hold()
            waiting = asyncio.create_task(adapter.hold(call))
            assert (await adapter.balance("T-1001")).units == 100_000
        assert (await waiting).outcome is Outcome.UNKNOWN
        port = before.folder.manifest.settings["port"]
        secrets = {SECRET: before.secrets.read(SECRET, where="$")}
        async with shop(port=port, secrets=secrets):
            assert (await resolved(adapter, call)).reason is Reason.CALL_NOT_FOUND
            assert (await adapter.hold(call)).outcome is Outcome.DONE


async def test_who_does_not_know_the_secret_is_not_served():
    """A client that cannot prove the secret is never signed on, and its calls are not sent."""
    async with shop() as the_shop:
        wrong = Secrets({SECRET: b"something else"})
        async with adapter_for(the_shop, wrong, connect_seconds=0.05) as adapter:
            with pytest.raises(NotSent):
                await adapter.hold(hold())
    assert the_shop.stage.ledger.entries == []


async def test_bye_lets_calls_in_flight_end_and_sends_no_more():
    """After `bye` what is in flight is still answered, and the next call takes a new connection."""
    async with other_side() as (server, adapter):
        side = server.sides[0]
        waiting = asyncio.create_task(adapter.hold(hold(7)))
        request = await side.next()
        side.say(Bye(detail="upgrading"))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(adapter.hold(hold(8)))
        while len(server.sides) < 2:
            await asyncio.sleep(0.01)
        assert (await server.sides[1].next()).units == 8
        side.say(Answer(id=request.id, result=0, units=7))
        assert (await waiting).units == 7
        second.cancel()
        await side.closed.wait()


async def test_a_silent_merchant_is_hung_up_on():
    """Three heartbeats without a byte end the connection; the call in flight is unknown at once."""
    async with other_side(heartbeat_seconds=0.02) as (server, adapter):
        server.sides[0].pongs = False
        receipt = await asyncio.wait_for(adapter.hold(hold()), 20)
        assert receipt.outcome is Outcome.UNKNOWN


async def test_heartbeats_keep_a_quiet_connection():
    """A connection that only pings and pongs stays for a call that takes long."""
    async with connected(heartbeat_seconds=0.01) as (the_shop, adapter):
        the_shop.fails(Fault.LATENCY, 0.2, operation="hold")
        assert (await adapter.hold(hold())).outcome is Outcome.DONE


async def test_the_simulator_hangs_up_on_a_silent_client():
    """A client that says nothing is hung up on, before and after signing on."""
    async with shop(heartbeat_seconds=0.01) as the_shop:
        settings = the_shop.folder.manifest.settings
        reader, writer = await asyncio.open_connection(settings["host"], settings["port"])
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", 1 << 31),
        struct.pack(">I", 0),
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 3) + b"abc",
        frame(Inquire(id=1, reference="X")),
        frame(Answer(id=1, result=0)),
        frame(Hello(version=2, key_id="k", nonce=bytes(32))),
        frame(Proof(mac=bytes(32))),
    ],
)
async def test_what_is_no_frame_ends_the_connection(data):
    """Garbage, frames without bounds and messages out of turn make the simulator hang up unheard."""
    async with shop(heartbeat_seconds=5) as the_shop:
        settings = the_shop.folder.manifest.settings
        reader, writer = await asyncio.open_connection(settings["host"], settings["port"])
        writer.write(data)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", 262_145),
        struct.pack(">I", 3) + b"abc",
        frame(Challenge(nonce=bytes(32))),
        frame(Hello(version=1, key_id="k", nonce=bytes(32))),
    ],
)
async def test_garbage_from_the_merchant_leaves_the_call_unknown(data):
    """Whatever a merchant sends that is no answer ends the connection and never an order."""
    async with other_side() as (server, adapter):
        waiting = asyncio.create_task(adapter.hold(hold()))
        await server.sides[0].next()
        server.sides[0].say_bytes(data)
        assert (await asyncio.wait_for(waiting, 20)).outcome is Outcome.UNKNOWN


async def test_an_impostor_is_not_trusted():
    """A server that lets everybody in but cannot prove the secret gets no call."""
    async with other_side(secret=b"not ours", connect_seconds=0.05) as (server, adapter):
        with pytest.raises(NotSent):
            await adapter.hold(hold())
        assert all(side.requests.empty() for side in server.sides)


async def test_calls_in_flight_are_bounded():
    """Beyond the bound of either side a call is not sent or not taken, and nothing queues up."""
    async with connected(in_flight_max=2) as (the_shop, adapter):
        the_shop.fails(Fault.TIMEOUT_BEFORE, operation="hold", times=2)
        waiting = [asyncio.create_task(adapter.hold(hold())) for _ in range(2)]
        await asyncio.sleep(0.01)
        with pytest.raises(NotSent):
            await adapter.hold(hold())
        for task in waiting:
            task.cancel()


async def test_the_merchants_own_bound_is_not_taken():
    """A merchant with too many calls in flight takes no more; that is `NotSent`, not an unknown."""
    async with connected(in_flight_max=2) as (the_shop, adapter):
        the_shop.fails(Fault.LATENCY, 9.0, operation="hold", times=2)
        assert (await given_up(adapter.hold(hold()))).outcome is Outcome.UNKNOWN
        assert (await given_up(adapter.hold(hold()))).outcome is Outcome.UNKNOWN
        with pytest.raises(NotSent):
            await adapter.hold(hold())


async def test_the_proof_is_good_for_one_connection_only():
    """The proof differs for each side, key and pair of nonces."""
    client, server = b"c" * 32, b"s" * 32
    macs = {
        link_mac(b"secret", "client", key_id="k", client_nonce=client, server_nonce=server),
        link_mac(b"secret", "server", key_id="k", client_nonce=client, server_nonce=server),
        link_mac(b"Secret", "client", key_id="k", client_nonce=client, server_nonce=server),
        link_mac(b"secret", "client", key_id="l", client_nonce=client, server_nonce=server),
        link_mac(b"secret", "client", key_id="k", client_nonce=server, server_nonce=server),
        link_mac(b"secret", "client", key_id="k", client_nonce=client, server_nonce=client),
    }
    assert len(macs) == 6


# --- statements ---


async def many(adapter, count: int) -> None:
    """Book holds of one unit each."""
    for start in range(0, count, 200):
        calls = [adapter.hold(hold(1)) for _ in range(start, min(count, start + 200))]
        await asyncio.gather(*calls)


async def test_a_statement_is_whole_and_in_the_merchants_words():
    """A day's statement has every line booked on it, over as many frames as it takes."""
    async with connected() as (the_shop, adapter):
        await many(adapter, 1_050)
        lines = [line async for line in adapter.statement(DAY)]
        booked = the_shop.stage.ledger.entries
        assert [(line.reference, line.units) for line in lines] == [
            (entry.reference, entry.moved) for entry in booked
        ]
        assert {line.at_us for line in lines} == {DAY_US}
        assert [line async for line in adapter.statement(DAY + dt.timedelta(days=1))] == []


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.GARBAGE, Fault.TRUNCATED, Fault.WRONG_AMOUNT])
async def test_a_statement_that_does_not_add_up_is_incomplete(fault):
    """A statement cut short, garbled, or with other totals is incomplete, whatever came before."""
    async with connected() as (the_shop, adapter):
        await many(adapter, 130)
        the_shop.fails(fault, operation="statement")
        with pytest.raises(Incomplete):
            [line async for line in adapter.statement(DAY)]


async def test_no_statement_while_the_merchant_is_closed():
    """A merchant that takes no calls now gives no statement, rather than an empty one."""
    async with connected() as (the_shop, adapter):
        the_shop.fails(Fault.MAINTENANCE, operation="statement")
        with pytest.raises(Incomplete):
            [line async for line in adapter.statement(DAY)]


async def test_a_reader_who_stops_frees_the_merchant():
    """A statement that nobody reads on is stopped at the merchant too."""
    async with connected(in_flight_max=1) as (_, adapter):
        for _ in range(1_200):
            await adapter.hold(hold(1))
        lines = adapter.statement(DAY)
        await anext(lines)
        with pytest.raises(NotSent):
            await adapter.balance("T-1001")
        await lines.aclose()
        assert (await adapter.balance("T-1001")).units == 98_800


async def test_a_missing_part_is_noticed():
    """Parts are numbered: a gap is incomplete even where nothing else would tell."""
    async with other_side() as (server, adapter):
        reading = asyncio.create_task(collect(adapter.statement(DAY)))
        request = await server.sides[0].next()
        line = Line("R", "hold", "T-1001", 1, DAY_US)
        server.sides[0].say(Lines(id=request.id, no=1, lines=[line]))
        server.sides[0].say(End(id=request.id, count=1, units=1))
        with pytest.raises(Incomplete, match="part 1 came where 0 was due"):
            await reading


async def test_more_parts_than_asked_for_end_the_connection():
    """A merchant that does not wait for its reader cannot fill our memory."""
    async with other_side() as (server, adapter):
        lines = adapter.statement(DAY)
        reading = asyncio.ensure_future(anext(lines))
        request = await server.sides[0].next()
        line = Line("R", "hold", "T-1001", 1, DAY_US)
        for no in range(40):
            server.sides[0].say(Lines(id=request.id, no=no, lines=[line]))
        await reading
        await asyncio.sleep(0.02)
        with pytest.raises(Incomplete):
            [line async for line in lines]
        assert server.sides[0].closed.is_set()


async def collect(lines) -> list:
    """Every line of a statement."""
    return [line async for line in lines]


# --- settings and wire ---


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"port": 0}, "$.settings.port"),
        ({"hots": "x"}, "$.settings.hots"),
        ({"results": {"3": "unknown_member"}}, "$.settings.results.3"),
        ({"results": {"51": "no_such_reason"}}, "$.settings.results.51"),
        ({"secret": "file:/nowhere"}, "$.settings.secret"),
        ({"tls": {"ca": "file:/nowhere"}}, "$.settings.tls.ca"),
    ],
)
def test_bad_settings_are_named(settings, where):
    """A setting that cannot be is refused when the adapter is built, with its path."""
    secrets = Secrets({SECRET: b"x"})
    with pytest.raises(SchemaError) as caught:
        registry.build(folder_of(**{"tls": None} | settings), Context(secrets=secrets))
    assert where in caught.value.path


class Cutter(FrameProtocol):
    """Keeps what was cut off."""

    def __init__(self) -> None:
        super().__init__(frame_bytes_max=64)
        self.frames: list[bytes] = []
        self.refused: list[str] = []

    @property
    def open(self) -> bool:  # noqa: D102 - as in its base
        return not self.refused

    def frame_received(self, payload: bytes) -> None:  # noqa: D102 - as in its base
        self.frames.append(payload)

    def broken(self, detail: str) -> None:  # noqa: D102 - as in its base
        self.refused.append(detail)


@given(st.lists(st.binary(min_size=1, max_size=64)), st.data())
async def test_frames_do_not_depend_on_how_bytes_arrive(payloads, data):
    """However TCP cuts the bytes, the frames are those that were sent."""
    whole = b"".join(struct.pack(">I", len(payload)) + payload for payload in payloads)
    cutter = Cutter()
    at = 0
    while at < len(whole):
        size = data.draw(st.integers(1, len(whole) - at))
        cutter.data_received(whole[at : at + size])
        at += size
    assert cutter.frames == payloads


@given(st.binary())
def test_no_bytes_break_the_reader(payload):
    """Any bytes are a message or a `SchemaError`, for both sides."""
    for read in (read_from_client, read_from_server):
        with contextlib.suppress(SchemaError):
            assert isinstance(read(payload), Message)


def test_no_message_moves_nothing_or_less():
    """A call or a line that moves no units, or fewer, is no message."""
    for units in (0, -1, 1 << 62, 1.5, "1", True):
        body = {"t": "move", "id": 1, "step": "hold", "reference": "R", "member": "M"}
        with pytest.raises(SchemaError):
            read_from_client(msgspec.msgpack.encode(body | {"units": units}))
    move = Move(id=1, step="hold", reference="R", member="M", units=1)
    assert read_from_client(frame(move)[4:]) == move


# --- a merchant's side held by hand, for what no well-made system says ---


class HandSide(FrameProtocol):
    """One connection at a server whose every word the test chooses."""

    def __init__(self, server: "HandServer") -> None:
        super().__init__()
        self.server = server
        self.requests: asyncio.Queue = asyncio.Queue()
        self.closed = asyncio.Event()
        self.pongs = True
        self.hello: Hello | None = None

    def connection_made(self, transport) -> None:  # noqa: D102 - as in its base
        super().connection_made(transport)
        self.server.sides.append(self)

    def connection_lost(self, exc) -> None:  # noqa: D102 - as in its base
        self.closed.set()

    def broken(self, detail: str) -> None:  # noqa: D102 - as in its base
        raise AssertionError(detail)

    def frame_received(self, payload: bytes) -> None:  # noqa: D102 - as in its base
        match read_from_client(payload):
            case Hello() as hello:
                self.hello = hello
                self.say(Challenge(nonce=bytes(32)))
            case Proof() if self.hello:
                mac = link_mac(
                    self.server.secret,
                    "server",
                    key_id=self.hello.key_id,
                    client_nonce=self.hello.nonce,
                    server_nonce=bytes(32),
                )
                self.say(Welcome(mac=mac, heartbeat_ms=60_000, in_flight_max=8, clock_us=DAY_US))
            case Ping(no=no):
                if self.pongs:
                    self.say(Pong(no=no))
            case More() | Enough() | Pong():
                pass
            case request:
                self.requests.put_nowait(request)

    async def next(self):
        """The next request that came."""
        return await asyncio.wait_for(self.requests.get(), 20)

    def say_bytes(self, data: bytes) -> None:
        """Send what may be no message at all."""
        assert self.transport is not None
        self.transport.write(data)

    def say(self, message: Message) -> None:
        """Send anything."""
        self.send(message)


class HandServer:
    """Its connections, in the order in which they came."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.sides: list[HandSide] = []


@contextlib.asynccontextmanager
async def other_side(
    secret: bytes = b"secret", **settings
) -> AsyncIterator[tuple[HandServer, Adapter]]:
    """A server held by hand, and an adapter that is signed on to it."""
    hand = HandServer(secret)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: HandSide(hand), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    folder = folder_of(**{"host": "127.0.0.1", "port": port, "tls": None} | settings)
    adapter = registry.build(
        folder, Context(secrets=Secrets({SECRET: b"secret"}), now_us=lambda: DAY_US)
    )
    await adapter.start()
    try:
        yield hand, adapter
    finally:
        await adapter.close()
        listener.close()
        for side in hand.sides:
            side.abort()
        await asyncio.gather(*(side.closed.wait() for side in hand.sides))


# --- samples ---


def test_samples_are_what_is_said_on_a_connection():
    """Every sample frame of the merchant's folder is read, and written again byte for byte."""
    samples = tomllib.loads(registry.find("till-town").text("samples/frames.toml"))["frame"]
    read = {"client": read_from_client, "merchant": read_from_server}
    kinds = set()
    for sample in samples:
        data = bytes.fromhex(sample["hex"])
        message = read[sample["from"]](data[4:])
        kinds.add(type(message))
        assert frame(message) == data
    assert len(kinds) == 16


def test_samples_prove_the_secret():
    """The proofs in the samples are those that the secret and the nonces of the samples make."""
    samples = tomllib.loads(registry.find("till-town").text("samples/frames.toml"))["frame"]
    hello, challenge, proof, welcome = (bytes.fromhex(sample["hex"])[4:] for sample in samples[:4])
    said = read_from_client(hello), read_from_server(challenge)
    assert isinstance(said[0], Hello)
    assert isinstance(said[1], Challenge)
    for side, read, data in (
        ("client", read_from_client, proof),
        ("server", read_from_server, welcome),
    ):
        expected = hmac.new(
            b"till-town-sample-secret-32-bytes",
            b"tongdui-frames/1\0"
            + side.encode()
            + b"\0exchange-2026\0"
            + said[0].nonce
            + said[1].nonce,
            "sha256",
        ).digest()
        message = read(data)
        assert isinstance(message, Proof | Welcome)
        assert message.mac == expected
