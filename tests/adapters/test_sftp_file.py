import asyncio
import contextlib
import datetime as dt
import fcntl
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from structlog.testing import capture_logs

from adapters.kit import registry
from adapters.kit.context import Context
from adapters.kit.contract import (
    Adapter,
    Call,
    Incomplete,
    NotSent,
    Outcome,
    Receipt,
    StatementLine,
    Step,
)
from adapters.kit.files import read_table
from adapters.kit.folder import Folder
from adapters.kit.guard import checked
from adapters.kit.manifest import settings_as
from adapters.kit.protocols.sftp_file.session import Session
from adapters.kit.protocols.sftp_file.settings import Settings, check_settings
from adapters.kit.protocols.sftp_file.spool import RequestFile, Spool
from adapters.kit.reference import reference_of
from adapters.kit.secret import Secrets
from adapters.kit.simulator.faults import (
    CONNECT,
    Fault,
    Rule,
    Scripted,
    Seeded,
    Trouble,
)
from adapters.kit.simulator.sftp_file import FileRunning
from adapters.kit.simulator.stage import set_stage
from schemas.values.faults import SchemaError, Unavailable
from schemas.values.reason import Reason

NOON_US = 1_772_424_000_000_000  # 2026-03-02 12:00 in Shanghai
DAY = dt.date(2026, 3, 2)
QUICK: dict[str, Any] = {"gather_seconds": 0.01, "poll_seconds": 0.03, "connect_seconds": 2.0}
FRESH: dict[str, Any] = {"members": {"fresh_seconds": 0.001}}
WAIT_SECONDS = 40.0


class Clock:
    """Runs on as time does, from noon, and can be set ahead."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.ahead_us = 0

    def __call__(self) -> int:
        """Microseconds since 1970 UTC."""
        return NOON_US + self.ahead_us + int((time.monotonic() - self.began) * 1_000_000)


class Told:
    """Takes answers, and lets a test wait for them."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, Receipt]] = []
        self.refuses = 0
        self._came = asyncio.Event()

    async def __call__(self, reference: str, receipt: Receipt) -> None:
        """Take one answer."""
        if self.refuses:
            self.refuses -= 1
            raise OSError("the database is away")
        self.answers.append((reference, receipt))
        self._came.set()

    async def of(self, call: Call) -> Receipt:
        """The answer to a call, when it comes."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                for reference, receipt in self.answers:
                    if reference == call.reference:
                        return receipt
                self._came.clear()
                await self._came.wait()


class Hotel:
    """A running simulator, and how to change what it does."""

    def __init__(self, folder: Folder, running: FileRunning, plan: Scripted, clock: Clock) -> None:
        self.folder = folder.with_settings(running.settings | QUICK | FRESH)
        self.running = running
        self.ledger = running.stage.ledger
        self.plan = plan
        self.clock = clock
        self.secrets = Secrets(running.secrets)
        self.settings = settings_as(self.folder.manifest, Settings)
        self.spool = Path(self.settings.spool)

    def fails(self, fault: Fault, seconds: float = 0.0, **where: Any) -> None:
        """From now on let this go wrong."""
        self.plan.add(Rule(trouble=Trouble(fault=fault, seconds=seconds), **where))

    def responds(self, name: str, data: bytes) -> Path:
        """Lay a response file down by hand."""
        path = self.running.root / self.settings.response.folder / name
        part = path.with_name("part")
        part.write_bytes(data)
        part.replace(path)
        return path

    def waiting(self) -> list[str]:
        """Response files that nobody has fetched."""
        return sorted(
            path.name for path in (self.running.root / self.settings.response.folder).iterdir()
        )

    def read_spool(self, question: str) -> list[tuple]:
        """Look into the spool."""
        with contextlib.closing(sqlite3.connect(self.spool / "spool.sqlite3")) as db:
            return db.execute(question).fetchall()


@contextlib.asynccontextmanager
async def hotel() -> AsyncIterator[Hotel]:
    """A simulator that runs."""
    folder = registry.find("jade-hotel")
    plan, clock = Scripted(), Clock()
    stage = set_stage(folder, plan=plan, now_us=clock, rng=random.Random(7))
    async with registry.simulator(folder)(folder, stage) as running:
        assert isinstance(running, FileRunning)
        yield Hotel(folder, running, plan, clock)


@contextlib.asynccontextmanager
async def adapter_for(the_hotel: Hotel, told: Told | None = None, **settings: Any):
    """An adapter for a simulator, started."""
    context = Context(
        answers=told or Told(),
        now_us=the_hotel.clock,
        random=random.Random(7),
        secrets=the_hotel.secrets,
    )
    adapter = registry.build(the_hotel.folder.with_settings(settings), context)
    await adapter.start()
    try:
        yield adapter
    finally:
        await adapter.close()


@contextlib.asynccontextmanager
async def connected(**settings: Any) -> AsyncIterator[tuple[Hotel, Adapter, Told]]:
    """A simulator, its adapter, and who is told."""
    told = Told()
    async with hotel() as the_hotel, adapter_for(the_hotel, told, **settings) as adapter:
        yield the_hotel, adapter, told


def hold(units: int = 500, member: str = "JH880001") -> Call:
    """A hold, which burns points here."""
    reference = reference_of(uuid.uuid4(), Step.HOLD)
    at_us = NOON_US + 3_600_000_000
    return Call(step=Step.HOLD, reference=reference, member=member, units=units, at_us=at_us)


def later(step: Step, call: Call, number: str = "") -> Call:
    """The step that ends an earlier one."""
    return Call(
        step=step,
        reference=call.reference[:-1] + step.value,
        member=call.member,
        units=call.units,
        of=call.reference,
        of_receipt=number,
        at_us=call.at_us,
    )


async def until(condition) -> None:
    """Wait for something that happens beside the test."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


async def whole(adapter: Adapter) -> list[StatementLine]:
    """The day's statement, when the server answers in the time that it has."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            with contextlib.suppress(Incomplete):
                return [line async for line in adapter.statement(DAY)]


async def sent(the_hotel: Hotel, adapter: Adapter, call: Call) -> Receipt:
    """Make a call and wait until the merchant has its request file."""
    receipt = await getattr(adapter, call.step.name.lower())(call)
    question = f"""
        SELECT 1 FROM call JOIN request_file AS file ON file.name = call.file
         WHERE file.sent = 1 AND call.reference = '{call.reference}'"""
    await until(lambda: the_hotel.read_spool(question))
    return receipt


# --- the contract ---


async def test_every_step_is_done_by_files():
    """Points are burnt, given back, credited and taken back; each answer comes later, with a file."""
    async with connected() as (the_hotel, adapter, told):
        first = hold(300_00)
        receipt = await adapter.hold(first)
        assert (receipt.outcome, receipt.expected) == (Outcome.UNKNOWN, True)
        taken = await told.of(first)
        assert (taken.outcome, taken.units) == (Outcome.DONE, 300_00)
        assert (await adapter.balance("JH880001")).units == 4_970_000
        back = later(Step.RELEASE, first, taken.number)
        await adapter.release(back)
        assert (await told.of(back)).units == 300_00
        reference = reference_of(uuid.uuid4(), Step.CREDIT)
        credit = Call(step=Step.CREDIT, reference=reference, member="JH880003", units=70_00)
        await adapter.credit(credit)
        assert (await told.of(credit)).outcome is Outcome.DONE
        undo = later(Step.REVERSE_CREDIT, credit)
        await adapter.reverse_credit(undo)
        assert (await told.of(undo)).outcome is Outcome.DONE
        the_hotel.ledger.check()
        lines = [line async for line in adapter.statement(DAY)]
        assert [(line.reference, line.step, line.units) for line in lines] == [
            (call.reference, call.step, call.units) for call in (first, back, credit, undo)
        ]


async def test_calls_are_gathered_into_one_file():
    """Calls that come together go in one request file, numbered from 1 each day."""
    async with connected(gather_seconds=0.2) as (the_hotel, adapter, told):
        calls = [hold(100 + number) for number in range(40)]
        await asyncio.gather(*(adapter.hold(call) for call in calls))
        for call in calls:
            assert (await told.of(call)).units == call.units
        the_hotel.clock.ahead_us = 86_400_000_000
        late = hold()
        await adapter.hold(late)
        await told.of(late)
        files = the_hotel.read_spool("SELECT name FROM request_file ORDER BY name")
        assert files == [("TDQ202603020001.DAT",), ("TDQ202603030001.DAT",)]


async def test_so_many_calls_are_a_file_at_once():
    """When `gather_calls` wait, a file is made without waiting for more."""
    async with connected(gather_seconds=600, gather_calls=3) as (the_hotel, adapter, told):
        calls = [hold() for _ in range(7)]
        await asyncio.gather(*(adapter.hold(call) for call in calls))
        for call in calls[:6]:
            await told.of(call)
        assert (await adapter.status(calls[6])).expected
        assert len(the_hotel.ledger.entries) == 6


async def test_a_repeat_has_no_second_effect():
    """A repeated call gets what is known: that its answer is expected, then the first answer."""
    async with connected() as (the_hotel, adapter, told):
        call = hold()
        assert await adapter.hold(call) == await adapter.hold(call) == await adapter.status(call)
        answer = await told.of(call)
        assert await adapter.hold(call) == await adapter.status(call) == answer
        await asyncio.sleep(0.1)
        assert the_hotel.read_spool("SELECT count(*) FROM request_file") == [(1,)]
        assert len(the_hotel.ledger.entries) == 1
        other = Call(step=Step.HOLD, reference=call.reference, member=call.member, units=600)
        assert (await adapter.hold(other)).outcome is Outcome.UNKNOWN
        assert not (await adapter.status(other)).expected


async def test_refusals_carry_the_mapped_reason():
    """The hotel's result codes become reasons by the manifest's table."""
    async with connected() as (the_hotel, adapter, told):
        poor, nobody = hold(units=999_999_00), hold(member="NOBODY")
        await asyncio.gather(adapter.hold(poor), adapter.hold(nobody))
        assert (await told.of(poor)).reason is Reason.INSUFFICIENT_POINTS
        assert (await told.of(nobody)).reason is Reason.UNKNOWN_MEMBER
        assert the_hotel.ledger.entries == []


async def test_members_are_read_from_the_hotels_list():
    """Looking up, authenticating and balances go by the hotel's list of members."""
    async with connected() as (the_hotel, adapter, _):
        the_hotel.ledger.block("JH880003")
        assert (await adapter.look_up("JH880001")).outcome is Outcome.DONE
        assert (await adapter.look_up("NOBODY")).reason is Reason.UNKNOWN_MEMBER
        assert (await adapter.look_up("JH880003")).reason is Reason.MEMBER_NOT_AUTHORISED
        assert (await adapter.balance("JH880002")).units == 12_345
        assert (await adapter.balance("NOBODY")).reason is Reason.UNKNOWN_MEMBER
        assert (await adapter.authenticate("JH880001", "246810")).outcome is Outcome.DONE
        for member, proof in (("JH880001", "246811"), ("JH880002", ""), ("JH880003", "246810")):
            found = await adapter.authenticate(member, proof)
            assert found.reason is Reason.MEMBER_NOT_AUTHORISED


async def test_a_call_that_no_file_can_carry_is_refused_at_once():
    """What does not fit its field is refused and never sent; others are not held up by it."""
    async with connected() as (the_hotel, adapter, told):
        wide = await adapter.hold(hold(member="JH88000123456789X"))
        assert wide.reason is Reason.UNKNOWN_MEMBER
        assert (await adapter.hold(hold(member="\U0001f600"))).reason is Reason.UNKNOWN_MEMBER
        much = await adapter.hold(hold(units=10**14))
        assert much.reason is Reason.AMOUNT_ABOVE_MAXIMUM
        call = hold()
        await adapter.hold(call)
        await told.of(call)
        assert the_hotel.read_spool("SELECT count(*) FROM call") == [(1,)]


# --- faults ---


@pytest.mark.parametrize(
    ("fault", "heard", "at_day_end"),
    [
        (Fault.LATENCY, Outcome.DONE, Outcome.DONE),
        (Fault.TIMEOUT_BEFORE, None, Outcome.REFUSED),
        (Fault.TIMEOUT_AFTER, None, Outcome.DONE),
        (Fault.CUT, Outcome.DONE, Outcome.DONE),
        (Fault.WRONG_AMOUNT, Outcome.UNKNOWN, Outcome.UNKNOWN),
        (Fault.GARBAGE, None, Outcome.DONE),
        (Fault.TRUNCATED, None, Outcome.DONE),
        (Fault.SLOW_BODY, Outcome.DONE, Outcome.DONE),
        (Fault.REPEAT_CALLBACK, Outcome.DONE, Outcome.DONE),
        (Fault.LATE_CALLBACK, Outcome.DONE, Outcome.DONE),
        (Fault.FORGET, Outcome.DONE, Outcome.DONE),
        (Fault.CLOCK_SKEW, Outcome.DONE, Outcome.DONE),
        (Fault.MAINTENANCE, Outcome.REFUSED, Outcome.REFUSED),
        (Fault.DUPLICATE_FILE, Outcome.DONE, Outcome.DONE),
        (Fault.LATE_FILE, Outcome.DONE, Outcome.DONE),
        (Fault.PARTIAL_FILE, Outcome.DONE, Outcome.DONE),
    ],
)
async def test_no_fault_makes_a_wrong_outcome(fault, heard, at_day_end):
    """Under every fault an answer is told only if it is true, once; the closed day decides the rest."""
    async with connected() as (the_hotel, adapter, told):
        the_hotel.fails(fault, 0.1, operation="hold")
        call = hold()
        assert (await sent(the_hotel, adapter, call)).expected
        effect = fault not in (Fault.TIMEOUT_BEFORE, Fault.MAINTENANCE)
        if heard is None:
            await asyncio.sleep(0.1)
            assert told.answers == []
            status = await adapter.status(call)
            # The open day file tells what was done already, and cannot tell what will not be.
            assert status.expected or status.outcome is at_day_end is Outcome.DONE
        else:
            assert checked(call, await told.of(call)).outcome is heard
        await until(lambda: the_hotel.waiting() == [] or heard is None)
        assert len(the_hotel.ledger.entries) == effect
        the_hotel.running.close_day(DAY)
        status = await adapter.status(call)
        assert checked(call, status).outcome is at_day_end
        assert len(told.answers) == (heard is not None)
        if at_day_end is Outcome.REFUSED:
            assert status.reason is Reason.CALL_NOT_FOUND


async def test_whatever_fails_the_closed_day_agrees_with_the_hotels_books():
    """Under a storm of faults what is told is true, and after the day is closed every call is decided
    as the hotel booked it, none twice.
    """
    rates = dict.fromkeys(set(Fault) - {Fault.WRONG_AMOUNT, Fault.REORDER_CALLBACK}, 0.02)
    storm = Seeded(random.Random(5), rates | {Fault.TLS_FAILURE: 0.2}, seconds=0.1)
    folder, clock, told = registry.find("jade-hotel"), Clock(), Told()
    stage = set_stage(folder, plan=storm, now_us=clock, rng=random.Random(7))
    async with registry.simulator(folder)(folder, stage) as running:
        assert isinstance(running, FileRunning)
        the_hotel = Hotel(folder, running, Scripted(), clock)
        async with adapter_for(the_hotel, told, gather_calls=4, connect_seconds=0.5) as adapter:
            calls = [hold(units) for units in range(100, 180)]
            for start in range(0, 80, 4):
                await asyncio.gather(*(adapter.hold(call) for call in calls[start : start + 4]))
            question = "SELECT count(*) FROM call JOIN request_file ON name = file WHERE sent = 1"
            await until(lambda: the_hotel.read_spool(question) == [(80,)])
            await asyncio.sleep(0.3)
            the_hotel.running.close_day(DAY)
            booked = {entry.reference: entry.moved for entry in the_hotel.ledger.entries}
            for call in calls:
                status = await adapter.status(call)
                while status.outcome is Outcome.UNKNOWN:
                    status = await adapter.status(call)
                if call.reference in booked:
                    assert (status.outcome, status.units) == (Outcome.DONE, call.units)
                else:
                    assert status.reason is Reason.CALL_NOT_FOUND
            for reference, receipt in told.answers:
                assert (receipt.outcome is Outcome.DONE) == (reference in booked)
            assert the_hotel.ledger.doubled() == set()
            assert booked
            assert len({reference for reference, _ in told.answers}) == len(told.answers)


@pytest.mark.parametrize("fault", [Fault.TIMEOUT_BEFORE, Fault.MAINTENANCE])
async def test_a_call_that_certainly_did_not_happen_can_be_made_again(fault):
    """After CALL_NOT_FOUND the same reference goes out once more, and takes effect once."""
    async with connected() as (the_hotel, adapter, told):
        the_hotel.fails(fault, operation="hold")
        call = hold()
        await sent(the_hotel, adapter, call)
        if fault is Fault.MAINTENANCE:
            await told.of(call)
        the_hotel.running.close_day(DAY)
        assert (await adapter.status(call)).reason is Reason.CALL_NOT_FOUND
        told.answers.clear()
        the_hotel.clock.ahead_us = 86_400_000_000
        assert (await adapter.hold(call)).expected
        assert (await told.of(call)).outcome is Outcome.DONE
        assert len(the_hotel.ledger.entries) == 1


async def test_absence_is_proven_only_by_a_closed_day():
    """A call that is missing in an open day file, or where the hotel agreed to nothing, stays unknown."""
    async with connected(day_proves_absence=False) as (the_hotel, adapter, _):
        the_hotel.fails(Fault.TIMEOUT_BEFORE, operation="hold")
        call = hold()
        await sent(the_hotel, adapter, call)
        async with adapter_for(the_hotel) as trusting:
            assert (await trusting.status(call)).expected
            the_hotel.running.close_day(DAY)
            assert (await adapter.status(call)).expected
            assert (await trusting.status(call)).reason is Reason.CALL_NOT_FOUND


async def test_a_request_after_the_day_is_closed_is_not_booked():
    """The hotel answers a request file of a closed day with "not taken", and books nothing of it."""
    async with connected() as (the_hotel, adapter, told):
        the_hotel.running.close_day(DAY)
        call = hold()
        await adapter.hold(call)
        assert (await told.of(call)).reason is Reason.CALL_NOT_FOUND
        assert the_hotel.ledger.entries == []


async def test_responses_in_another_order_are_taken():
    """The response to the second request file may come before that to the first."""
    async with connected() as (the_hotel, adapter, told):
        the_hotel.fails(Fault.REORDER_CALLBACK, operation="hold")
        first, second = hold(), hold()
        await sent(the_hotel, adapter, first)
        await adapter.hold(second)
        assert (await told.of(second)).outcome is Outcome.DONE
        assert (await told.of(first)).outcome is Outcome.DONE


async def test_connections_that_fail_lose_nothing():
    """Calls that were gathered while the server was away are sent when it is back."""
    async with hotel() as the_hotel:
        the_hotel.fails(Fault.TLS_FAILURE, operation=CONNECT)
        the_hotel.fails(Fault.MAINTENANCE, operation=CONNECT, nth=2)
        told = Told()
        async with adapter_for(the_hotel, told) as adapter:
            call = hold()
            assert (await adapter.hold(call)).expected
            assert (await told.of(call)).outcome is Outcome.DONE


@pytest.mark.parametrize(
    "fault",
    [Fault.MAINTENANCE, Fault.CUT, Fault.GARBAGE, Fault.TRUNCATED, Fault.TIMEOUT_BEFORE],
)
async def test_a_statement_that_cannot_be_read_whole_is_incomplete(fault):
    """Whatever befalls the day file, a statement is whole or incomplete."""
    async with connected(connect_seconds=0.3) as (the_hotel, adapter, told):
        call = hold()
        await adapter.hold(call)
        await told.of(call)
        the_hotel.fails(fault, operation="statement")
        with pytest.raises(Incomplete):
            [line async for line in adapter.statement(DAY)]
        assert [line.reference for line in await whole(adapter)] == [call.reference]
        with pytest.raises(Incomplete):
            [line async for line in adapter.statement(DAY - dt.timedelta(days=1))]


async def test_a_list_of_members_that_cannot_be_read_decides_nothing():
    """Without the hotel's list nobody is said not to exist."""
    async with connected() as (the_hotel, adapter, _):
        for fault in (Fault.GARBAGE, Fault.MAINTENANCE, Fault.TRUNCATED):
            the_hotel.fails(fault, operation="look_up")
            with pytest.raises(NotSent):
                await adapter.look_up("NOBODY")
        assert (await adapter.look_up("NOBODY")).reason is Reason.UNKNOWN_MEMBER


# --- files that are not what they should be ---


def response(*lines: tuple[str, str, int], count: int | None = None, units: int | None = None):
    """A response file, whose totals may be wrong."""
    rows = ["H" + "by hand".ljust(24) + "20260302120000"]
    rows += [
        f"D{reference:<32}{result:<2}{'0000000042':<12}{moved:013d}{'':<40}"
        for reference, result, moved in lines
    ]
    count = len(lines) if count is None else count
    units = sum(moved for _, _, moved in lines) if units is None else units
    rows.append(f"T{count:08d}{units:018d}")
    return "".join(row + "\r\n" for row in rows).encode("gbk")


async def unanswered(the_hotel: Hotel, adapter: Adapter) -> Call:
    """A call that took effect and gets no response by itself."""
    the_hotel.fails(Fault.TIMEOUT_AFTER, operation="hold")
    call = hold()
    await sent(the_hotel, adapter, call)
    return call


def bad_responses(reference: str) -> list[tuple[bytes, str]]:
    """Response files with one thing wrong each, and where that is."""
    good = response((reference, "00", 500))
    return [
        (response((reference, "00", 500), count=2), "line 3, count"),
        (response((reference, "00", 500), units=501), "line 3, units"),
        (response((reference, "00", 500), ("", "00", 1)), "line 3, reference"),
        (good.replace(b"0500 ", b"05O0 ", 1), "line 2, units"),
        (good[:-30], "line 2"),
        (b"", "line 1"),
        (b"\xff\xfe" * 40, "line 1"),
    ]


async def test_a_bad_file_is_refused_whole():
    """A file with bad totals or a bad line changes nothing, is set aside once and told to people, by
    file, line and field; the right file under the same name is then taken.
    """
    async with connected() as (the_hotel, adapter, told):
        call = await unanswered(the_hotel, adapter)
        for data, where in bad_responses(call.reference):
            with capture_logs() as logs:
                path = the_hotel.responds("TDR-1.DAT", data)
                await until(lambda: any(entry["event"] == "response.refused" for entry in logs))
                await asyncio.sleep(0.08)
            refused = [entry for entry in logs if entry["event"] == "response.refused"]
            assert len(refused) == 1
            assert refused[0]["where"] == f"TDR-1.DAT, {where}"
            assert refused[0]["log_level"] == "error"
            assert Path(refused[0]["copy"]).read_bytes() == data
            assert path.read_bytes() == data
        assert told.answers == []
        assert the_hotel.read_spool("SELECT * FROM answer") == []
        the_hotel.responds("TDR-1.DAT", response((call.reference, "00", 500)))
        assert (await told.of(call)).outcome is Outcome.DONE
        await until(lambda: the_hotel.waiting() == [])


async def test_a_file_seen_twice_has_no_second_effect():
    """The same response again, under its own or another name, is fetched and tells nobody anything."""
    async with connected() as (the_hotel, adapter, told):
        call = await unanswered(the_hotel, adapter)
        data = response((call.reference, "00", 500))
        for name in ("TDR-1.DAT", "TDR-1.DAT", "TDR-2.DAT"):
            the_hotel.responds(name, data)
            await until(lambda: the_hotel.waiting() == [])
        assert len(told.answers) == 1


async def test_a_second_answer_does_not_replace_the_first():
    """A file that contradicts an earlier one changes nothing and is told to people."""
    async with connected() as (the_hotel, adapter, told):
        call = await unanswered(the_hotel, adapter)
        the_hotel.responds("TDR-1.DAT", response((call.reference, "00", 500)))
        first = await told.of(call)
        with capture_logs() as logs:
            the_hotel.responds("TDR-2.DAT", response((call.reference, "51", 0)))
            await until(lambda: the_hotel.waiting() == [])
        assert [(entry["event"], entry["reference"]) for entry in logs if "reference" in entry] == [
            ("response.contradicted", call.reference)
        ]
        assert await adapter.status(call) == first
        assert len(told.answers) == 1


async def test_an_unknown_reference_or_result_is_reported():
    """A line about a call that nobody made, or with a code outside the table, is told to people."""
    async with connected() as (the_hotel, adapter, told):
        call, strange = await unanswered(the_hotel, adapter), hold().reference
        with capture_logs() as logs:
            lines = (strange, "00", 1), (call.reference, "77", 0)
            the_hotel.responds("TDR-1.DAT", response(*lines))
            await until(lambda: the_hotel.waiting() == [])
        reported = {(entry["event"], entry["reference"]) for entry in logs if "reference" in entry}
        assert reported == {
            ("response.reference_unknown", strange),
            ("response.result_unknown", call.reference),
        }
        assert told.answers == []
        assert the_hotel.read_spool("SELECT * FROM answer") == []


async def test_files_that_are_none_of_ours_are_left_alone():
    """Names outside the pattern, folders and files beyond all bounds are neither read nor removed."""
    async with connected(file_bytes_max=2048) as (the_hotel, adapter, told):
        call = await unanswered(the_hotel, adapter)
        data = response((call.reference, "00", 500))
        left = [
            the_hotel.responds("OTHER.DAT", data),
            the_hotel.responds(".TDR-1.DAT.part", data),
            the_hotel.responds("TDR-big.DAT", data + b" " * 4096),
        ]
        folder = left[0].with_name("TDR-folder.DAT")
        folder.mkdir()
        with capture_logs() as logs:
            await until(lambda: any(entry["event"] == "response.too_large" for entry in logs))
            await asyncio.sleep(0.1)
        assert all(path.exists() for path in (*left, folder))
        assert told.answers == []
        assert [entry["event"] for entry in logs] == ["response.too_large"]


async def test_no_member_stands_in_the_log():
    """Members' ids are in files and in the spool, and in no line of the log."""
    with capture_logs() as logs:
        async with connected() as (the_hotel, adapter, told):
            call = hold(member="JH880002")
            await adapter.hold(call)
            await told.of(call)
            the_hotel.responds("TDR-1.DAT", response(("JH880002", "00", 500), count=9))
            await until(lambda: any(entry["event"] == "response.refused" for entry in logs))
    assert logs
    assert "JH880002" not in json.dumps(logs)


async def test_where_we_may_not_remove_files_they_are_taken_once():
    """A response file that stays at the hotel is taken once, and again when it changes."""
    async with connected(remove_taken=False) as (the_hotel, adapter, told):
        calls = [await unanswered(the_hotel, adapter) for _ in range(2)]
        for call in calls:
            the_hotel.responds("TDR-1.DAT", response((call.reference, "00", 500)))
            assert (await told.of(call)).outcome is Outcome.DONE
        await asyncio.sleep(0.1)
        assert the_hotel.waiting() == ["TDR-1.DAT"]
        assert len(told.answers) == 2


# --- who is told ---


async def test_an_answer_is_told_until_it_is_taken():
    """While nobody takes the answer the response file stays at the hotel; then it is removed."""
    async with connected() as (the_hotel, adapter, told):
        told.refuses = 3
        call = hold()
        await sent(the_hotel, adapter, call)
        await until(lambda: told.refuses < 3)
        assert told.refuses == 0 or the_hotel.waiting() != []
        await told.of(call)
        await until(lambda: the_hotel.waiting() == [])
        assert len(told.answers) == 1


async def test_processes_that_share_a_spool_do_everything_once():
    """Two adapters on one spool: each call is sent once, told once, and either can tell its status."""
    async with connected() as (the_hotel, first, told):
        async with adapter_for(the_hotel, told) as second:
            calls = [hold(100 + number) for number in range(20)]
            await asyncio.gather(
                *((first, second)[number % 2].hold(call) for number, call in enumerate(calls))
            )
            for call in calls:
                answer = await told.of(call)
                assert await first.status(call) == await second.status(call) == answer
        assert len(told.answers) == len(the_hotel.ledger.entries) == 20
        numbers = [n for (n,) in the_hotel.read_spool("SELECT number FROM request_file")]
        assert sorted(numbers) == list(range(1, len(numbers) + 1))


async def test_one_process_at_a_time_makes_rounds():
    """While another process holds the spool's lock nothing is sent; when it lets go, or dies, it is."""
    async with connected() as (the_hotel, adapter, told):
        handle = os.open(the_hotel.spool / "lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(handle, fcntl.LOCK_EX)
        call = hold()
        await adapter.hold(call)
        await asyncio.sleep(0.15)
        assert the_hotel.ledger.entries == []
        os.close(handle)
        assert (await told.of(call)).outcome is Outcome.DONE


# --- crashes ---

CHILD = """
import asyncio, json, sys
from adapters.kit import registry
from adapters.kit.context import Context
from adapters.kit.contract import Call, Step
from adapters.kit.secret import Secrets

async def main(settings, secrets, reference):
    folder = registry.find("jade-hotel").with_settings(settings | {"gather_seconds": 600})
    known = Secrets({name: text.encode() for name, text in secrets.items()})
    adapter = registry.build(folder, Context(secrets=known))
    await adapter.start()
    call = Call(step=Step.HOLD, reference=reference, member="JH880001", units=500)
    receipt = await adapter.hold(call)
    print(receipt.expected, flush=True)
    await asyncio.sleep(600)

asyncio.run(main(*json.loads(sys.argv[1])))
"""


async def test_what_was_expected_survives_a_kill():
    """A process that is killed after it said "expected" loses nothing: the next one sends the call."""
    async with hotel() as the_hotel:
        call = hold()
        secrets = {name: data.decode() for name, data in the_hotel.running.secrets.items()}
        given = json.dumps([the_hotel.folder.manifest.settings, secrets, call.reference])
        child = subprocess.Popen([sys.executable, "-c", CHILD, given], stdout=subprocess.PIPE)
        try:
            assert child.stdout is not None
            said = await asyncio.to_thread(child.stdout.readline)
            assert said == b"True\n"
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.communicate()
        assert the_hotel.ledger.entries == []
        told = Told()
        async with adapter_for(the_hotel, told):
            assert (await told.of(call)).outcome is Outcome.DONE
        assert len(the_hotel.ledger.entries) == 1


async def test_a_crash_between_sending_and_noting_it_sends_the_same_again():
    """A file that was sent but not marked goes out again under its name, byte for byte, and the hotel
    books it once.
    """
    async with hotel() as the_hotel:
        call, told = hold(), Told()
        async with adapter_for(the_hotel, told) as adapter:
            await adapter.hold(call)
            await told.of(call)
        with contextlib.closing(sqlite3.connect(the_hotel.spool / "spool.sqlite3")) as db, db:
            db.execute("UPDATE request_file SET sent = 0")
            db.execute("DELETE FROM answer")
        again = Told()
        async with adapter_for(the_hotel, again):
            assert await again.of(call) == told.answers[0][1]
        assert len(the_hotel.ledger.entries) == 1
        assert the_hotel.ledger.doubled() == set()


async def test_a_file_that_lies_there_already_is_not_sent_twice():
    """A file that is still there, whole, counts as sent; another one under its name is told to people."""
    async with hotel() as the_hotel:
        settings = the_hotel.settings
        name = settings.auth.secret
        secret = the_hotel.secrets.read(name, where="$")
        session = Session(settings, secret=secret, where="$")
        # The download folder, so that the hotel does not take the file away.
        folder = settings.response.folder
        await session.put(folder, "X.DAT", b"one")
        await session.put(folder, "X.DAT", b"one")
        with pytest.raises(Exception, match=r"X\.DAT"):
            await session.put(folder, "X.DAT", b"two")
        assert await session.read(f"{folder}/X.DAT") == b"one"
        assert [entry.name for entry in await session.entries(folder, "*")] == ["X.DAT"]
        await session.remove(f"{folder}/X.DAT")
        await session.remove(f"{folder}/X.DAT")
        assert await session.read(f"{folder}/X.DAT") is None
        await session.close()


# --- the spool ---


def spool_at(folder: Path, clock: Clock) -> Spool:
    """A spool."""
    return Spool(folder, now_us=clock)


def test_a_file_that_cannot_be_made_changes_nothing(tmp_path):
    """If a request file cannot be written its calls still wait, and its number is not used up."""
    spool = spool_at(tmp_path / "spool", Clock())
    spool.keep([hold(), hold()])

    def fails(number: int, calls) -> RequestFile:
        raise SchemaError("$", "no")

    with pytest.raises(SchemaError):
        spool.make_file(DAY, 10, fails)
    assert spool.gathered()[0] == 2
    numbers = []

    def works(number: int, calls) -> RequestFile:
        numbers.append((number, len(calls)))
        return RequestFile(name=f"F{number}", content=b"x")

    spool.make_file(DAY, 1, works)
    spool.make_file(DAY, 10, works)
    assert spool.make_file(DAY, 10, works) is None
    assert numbers == [(1, 1), (2, 1)]
    assert [file.name for file in spool.unsent()] == ["F1", "F2"]
    spool.close()


def test_what_is_done_and_old_is_forgotten(tmp_path):
    """After `keep_days` an answered and told call is gone; numbers of files are never given twice."""
    clock = Clock()
    spool = spool_at(tmp_path, clock)
    done, open_call = hold(), hold()
    spool.keep([done, open_call])
    spool.make_file(DAY, 1, lambda number, calls: RequestFile(name=f"F{number}", content=b"x"))
    spool.make_file(DAY, 1, lambda number, calls: RequestFile(name=f"F{number}", content=b"y"))
    for name in ("F1", "F2"):
        spool.mark_sent(name)
    receipt = Receipt(outcome=Outcome.DONE, number="1", units=500)
    assert spool.take("R", [(done.reference, receipt)]).new == (done.reference,)
    assert spool.purge(clock() + 1) == 0
    assert spool.untold() == [(done.reference, receipt)]
    spool.mark_told([done.reference])
    assert spool.purge(clock() + 1) == 1
    assert spool.find(done) is None
    assert spool.find(open_call) is not None
    new = hold()
    spool.keep([new])
    file = spool.make_file(
        DAY, 1, lambda number, calls: RequestFile(name=f"F{number}", content=b"")
    )
    assert file is not None
    assert file.name == "F3"
    spool.close()


def test_a_spool_of_another_format_is_not_touched(tmp_path):
    """A spool that a later version wrote is refused, not guessed at."""
    spool_at(tmp_path, Clock()).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "spool.sqlite3")) as db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(sqlite3.DatabaseError, match="format 9"):
        spool_at(tmp_path, Clock())


async def test_a_call_that_the_spool_never_saw_was_never_sent():
    """Such a call is CALL_NOT_FOUND, unless the spool is younger than the call: then it is unknown."""
    async with connected() as (_, adapter, _):
        assert (await adapter.status(hold())).reason is Reason.CALL_NOT_FOUND
        reference = reference_of(uuid.uuid4(), Step.HOLD)
        old = Call(step=Step.HOLD, reference=reference, member="M", units=1, at_us=NOON_US - 1)
        assert (await adapter.status(old)).outcome is Outcome.UNKNOWN


async def test_a_spool_that_cannot_be_opened_is_named(tmp_path):
    """An adapter without its spool does not start, and says which folder it needs."""
    (tmp_path / "file").write_text("not a folder")
    async with hotel() as the_hotel:
        with pytest.raises(Unavailable, match="file/spool"):
            async with adapter_for(the_hotel, spool=str(tmp_path / "file" / "spool")):
                pass


# --- whom we trust, and settings ---


async def test_only_the_hosts_own_key_is_trusted():
    """A server with another key gets no file and no password, however right its address is."""
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    told = Told()
    async with hotel() as the_hotel:
        with capture_logs() as logs:
            async with adapter_for(the_hotel, told, host_keys=[other]) as adapter:
                call = hold()
                await adapter.hold(call)
                with pytest.raises(NotSent):
                    await adapter.look_up("JH880001")
                await until(lambda: any(entry["event"] == "files.unavailable" for entry in logs))
        assert the_hotel.ledger.entries == []
        assert told.answers == []


async def test_a_password_serves_too():
    """Where a merchant knows no keys, the password is a secret by reference."""
    folder = registry.find("jade-hotel").with_settings(
        {"auth": {"kind": "password", "secret": "env:JADE_PASSWORD"}}
    )
    stage = set_stage(folder)
    async with registry.simulator(folder)(folder, stage) as running:
        for secrets, works in ((running.secrets, True), ({"env:JADE_PASSWORD": b"no"}, False)):
            context = Context(secrets=Secrets(running.secrets | secrets))
            adapter = registry.build(folder.with_settings(running.settings), context)
            await adapter.start()
            if works:
                assert (await adapter.look_up("JH880001")).outcome is Outcome.DONE
            else:
                with pytest.raises(NotSent):
                    await adapter.look_up("JH880001")
            await adapter.close()


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"spool": "relative"}, "$.settings.spool"),
        ({"host_keys": ["ssh-ed25519 nonsense"]}, "$.settings.host_keys"),
        ({"host_keys": []}, "$.settings.host_keys"),
        ({"results": {"00": "no_such_reason"}}, "$.settings.results.00"),
        ({"results": {"00": "merchant_refused"}}, "$.settings.results"),
        ({"request": {"name": "TD%Y%m%d.DAT"}}, "$.settings.request.name"),
        ({"request": {"line": [{"name": "units", "start": 1, "width": 9}]}}, "$.settings.request"),
        ({"day": {"trailer": []}}, "$.settings.day"),
        ({"auth": {"secret": "env:JADE_NOT_SET"}}, "$.settings.auth.secret"),
    ],
)
def test_bad_settings_are_named(settings, where):
    """A setting that cannot be is refused when the adapter is built, with its path."""
    secrets = Secrets(
        {"env:JADE_HOTEL_SSH_KEY": b"not a key", "env:JADE_HOTEL_PROOF_SECRET": b"x"},
        environment={},
    )
    folder = registry.find("jade-hotel").with_settings(settings)
    with pytest.raises(SchemaError) as refused:
        registry.build(folder, Context(secrets=secrets))
    assert where in refused.value.path


# --- samples ---


@pytest.mark.parametrize("kind", ["request", "response", "day", "members"])
def test_samples_are_read(kind):
    """Every sample file of the merchant's folder is read whole, and holds what its README says."""
    folder = registry.find("jade-hotel")
    settings = settings_as(folder.manifest, Settings)
    check_settings(settings, where="$")
    data = (folder.path / "samples" / f"{kind}.txt").read_bytes()
    table = read_table(getattr(settings, kind), data, zone="Asia/Shanghai", name=kind)
    assert all(line.get("reference") or line["member"] for line in table.lines)
    assert len(table.lines) == 2
