"""The stream of events: page by page, and as server-sent events over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from exchange.core.feed import START, Happening
from exchange.gateway.gate import GATE
from exchange.service.shelf import Shelf
from settlement.service.cycles import close_cycle
from tests.gateway.conftest import AIR, House, merchant, soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

IDLE = 500


@dataclass(slots=True)
class Told:
    """One server-sent event; without a type it is a heartbeat."""

    cursor: str
    event_type: str
    data: Any


class Listener:
    """Reads a stream of server-sent events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection whose answer's head was read."""
        self.reader = reader
        self.writer = writer

    async def next(self) -> Told:
        """The next event or heartbeat."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(60):
            while True:
                # The answer is chunked: lines with a length stand between, and are no fields.
                line = (await self.reader.readline()).decode()
                if line in ("", "0\r\n"):
                    raise EOFError
                if line == "\n" and fields:
                    data = json.loads(fields["data"]) if "data" in fields else None
                    return Told(fields.get("id", ""), fields.get("event", ""), data)
                name, colon, value = line.rstrip("\r\n").partition(": ")
                if colon:
                    fields[name] = value

    async def event(self) -> Told:
        """The next event that is no heartbeat."""
        while not (told := await self.next()).event_type:
            pass
        return told


@contextlib.asynccontextmanager
async def listening(
    house: House, *, caller: str = "house", query: str = "", after: str | None = None
) -> AsyncIterator[Listener]:
    """Listen for the block; the opening heartbeat was read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    key = house.keys.get(caller, house.operator)
    head = (
        f"GET /v1/events{query} HTTP/1.1\r\nHost: here\r\nAccept: text/event-stream\r\n"
        f"Authorization: Bearer {key}\r\n"
    )
    if after is not None:
        head += f"Last-Event-ID: {after}\r\n"
    writer.write(head.encode() + b"\r\n")
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert b"text/event-stream" in answer
    listener = Listener(reader, writer)
    opening = await listener.next()
    assert not opening.event_type
    try:
        yield listener
    finally:
        writer.close()


async def pages(house: House, query: str = "", *, caller: str = "house") -> list[Any]:
    """All events, page by page."""
    events: list[Any] = []
    after = "0.0"
    while True:
        answer = await house.call("GET", f"/v1/events?after={after}&{query}", caller=caller)
        assert answer.status == 200, answer.raw
        events += answer.body["events"]
        after = answer.body["next"]
        if not answer.body["more"]:
            return events


async def test_pages_and_stream_tell_the_same(house: House):
    """Pages of any size, and the stream from its beginning, tell the same events with the same ids and bodies."""
    for units in range(1, 8):
        await house.order(AIR | {"units": str(units)})
    await close_cycle(house.writer, cycle_no=1, next_id="c2")
    whole = await pages(house)
    assert [each["type"] for each in whole] == ["order.cleared"] * 7 + ["cycle.closed"]
    assert await pages(house, "limit=1") == await pages(house, "limit=3") == whole
    assert await pages(house, "types=cycle.closed,order.voided") == whole[7:]
    assert [each["id"] for each in await pages(house, caller="AIR")] == [e["id"] for e in whole]
    assert await pages(house, caller="OWN") == whole[7:]
    async with listening(house, after="0.0") as listener:
        assert [(await listener.event()).data for _ in whole] == whole


async def test_a_stream_goes_on_where_it_broke(house: House):
    """With `Last-Event-ID` a listener that comes back hears what it missed, once and in order."""
    house.app[GATE].heartbeat_seconds = 0.05
    async with listening(house, caller="EYE") as listener:
        await house.order(AIR | {"units": "1"})
        first = await listener.event()
    for units in ("2", "3"):
        await house.order(AIR | {"units": units})
    async with listening(house, caller="EYE", after=first.cursor) as listener:
        missed = [await listener.event() for _ in range(2)]
        await house.order(AIR | {"units": "4"})
        fresh = await listener.event()
    told = [first, *missed, fresh]
    assert [each.data for each in told] == await pages(house, caller="EYE")
    assert [each.event_type for each in told] == ["order.cleared"] * 4
    async with listening(house, caller="OWN", query="?types=cycle.closed") as listener:
        await house.order(AIR | {"units": "5"})
        await soon(lambda: _moves(listener, house))


async def _moves(listener: Listener, house: House) -> bool:
    """Whether a heartbeat has gone past everything, though nothing of it concerned the listener."""
    return (await listener.next()).cursor == str(house.services.feed.head) != "0.0"


async def test_nobody_is_nameless_to_who_was_not_told_of_them_yet(house: House):
    """A worker whose snapshot is older than a merchant's joining names that merchant in its events all the same."""
    elsewhere = Shelf(house.pool)
    known = (await elsewhere.offer()).codes
    assert (await house.call("POST", "/v1/merchants", merchant("NEW", 100))).status == 201
    await house.order(AIR | {"acceptor": "NEW", "units": "1"})
    await house.services.feed.look()
    page = await house.services.feed.page(0, START, types=["order.cleared"], limit=1)
    [number] = [each.acceptor for _, each in page.events if isinstance(each, Happening)]
    assert number not in known
    codes = await elsewhere.codes_of(each for _, each in page.events)
    assert codes[number] == "NEW"


async def test_what_is_asked_wrongly_is_refused_by_name(house: House):
    """A place, a type or a limit that cannot be is refused, naming the parameter or the header."""
    for query, field in (
        ("?after=soon", "?after"),
        ("?types=order.lost", "?types"),
        ("?limit=0", "?limit"),
        ("?limit=501", "?limit"),
    ):
        answer = await house.call("GET", f"/v1/events{query}")
        assert (answer.status, answer.body["field"]) == (400, field)
    answer = await house.call("GET", "/v1/events", headers={"Last-Event-ID": "x"})
    assert (answer.status, answer.body["field"]) == (400, "Last-Event-ID")
    assert (await house.call("GET", "/v1/events", caller=None)).status == 401


async def test_many_idle_listeners_cost_little(house: House, tell_figure):
    """Hundreds of listeners wait without queries of their own, and all of them hear the next event."""
    process = psutil.Process()
    before = process.memory_info().rss
    async with contextlib.AsyncExitStack() as stack:
        ways = [listening(house, caller="EYE") for _ in range(IDLE)]
        listeners = await asyncio.gather(*map(stack.enter_async_context, ways))
        each_kb = (process.memory_info().rss - before) / IDLE / 1024
        assert house.services.feed.listeners == IDLE
        assert house.app[GATE].in_flight == 0, "listeners are no requests in flight"
        cpu = process.cpu_times()
        await asyncio.sleep(0.5)
        idle = process.cpu_times()
        idle_percent = 100 * (idle.user - cpu.user + idle.system - cpu.system) / 0.5
        house.app[GATE].heartbeat_seconds = 0.2
        began = time.perf_counter()
        await house.order(AIR | {"units": "1"})
        told = await asyncio.gather(*(each.event() for each in listeners))
        seconds = time.perf_counter() - began
    assert {each.event_type for each in told} == {"order.cleared"}
    assert each_kb < 200
    await soon(lambda: _nobody_listens(house))
    tell_figure(
        f"server-sent events: {IDLE} idle listeners, {each_kb:.0f} KiB each with the test's own end, "
        f"{idle_percent:.0f} % of a processor; all told of an order in {seconds * 1000:.0f} ms"
    )


async def _nobody_listens(house: House) -> bool:
    return house.services.feed.listeners == 0


async def test_a_listener_who_does_not_read_holds_nobody_up(house: House):
    """Whoever takes nothing gets no queue: others hear at once, and the gateway keeps its answers for itself."""
    reference = "照" * 35
    wishes = [
        AIR | {"key": f"k{number}", "units": "1", "reference": reference} for number in range(2_000)
    ]
    async with listening(house) as deaf, listening(house) as quick:
        deaf.reader._limit = 1  # type: ignore[attr-defined] # reads no further from its socket
        for turn in range(3):
            batch = [wish | {"key": f"{turn}-{wish['key']}"} for wish in wishes]
            assert (await house.call("POST", "/v1/orders/bulk", batch)).status == 200
        for _ in range(5_999):
            await quick.event()
        assert (await quick.event()).cursor.partition(".")[0] == str(house.services.feed.head.seq)
        assert (await house.order(AIR | {"units": "1"})).status == 201


async def test_streams_end_when_the_gateway_stops(house: House):
    """A gateway that stops tells its listeners so by ending their streams at once; they resume elsewhere."""
    async with listening(house) as listener:
        house.services.feed.stop()
        began = time.perf_counter()
        while True:
            try:
                await listener.next()
            except EOFError:
                break
        assert time.perf_counter() - began < 5
