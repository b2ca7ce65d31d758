"""The way from a gateway to order workers: real applications on real sockets, whose journeys end as they are told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from exchange.core.journey import Wanted
from exchange.service.order_link import ANSWER_DECODER, ENCODER, ORDERS_PATH, OrderLink
from exchange.worker.orders_app import make_app
from schemas.values.faults import Unavailable
from settlement.core.command import Entry, Order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def now_us() -> int:
    """The machine's clock."""
    return time.time_ns() // 1_000


def wanted(key: int, units: int = 10) -> Wanted:
    """An order whose key begins at the worker of that number."""
    order = Order(
        caller=1, key=bytes(15) + bytes([key]), body=bytes(16), issuer=1, acceptor=2, member_no=1,
        units=units, debit_cu=units, value_cu=units, fee_cu=0, rate_no=0, hold_us=1_000_000,
    )  # fmt: skip
    return Wanted(
        order=order,
        issuer_member="A",
        acceptor_member="",
        decide_by_us=now_us() + 20_000_000,
        at_us=now_us(),
    )


class Ends:
    """Stands where `Journeys` does: orders end when and as the test says."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.held = asyncio.Event()
        self.held.set()
        self.fault: Exception | None = None

    async def order(self, order: Wanted) -> Entry:
        """Answer with the order's units; those of fewer than 10 units wait for `held`."""
        self.seen.append(order.order.units)
        if order.order.units < 10:
            await self.held.wait()
        if self.fault:
            raise self.fault
        return order.held(order.order.units, now_us())


@contextlib.asynccontextmanager
async def worker(path: Path, ends: Ends) -> AsyncIterator[None]:
    """A worker's application on its socket."""
    journeys: Any = ends
    runner = web.AppRunner(make_app(journeys, {}), handle_signals=False)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def test_orders_share_a_connection_and_are_answered_as_they_end(tmp_path: Path):
    """One that waits long holds up no other, and each hears of itself."""
    path, ends = tmp_path / "1.sock", Ends()
    ends.held.clear()
    link = OrderLink([path], now_us=now_us)
    async with worker(path, ends), link.opened():
        slow = asyncio.ensure_future(link.order(wanted(0, units=5)))
        quick = await asyncio.gather(*(link.order(wanted(0, units=n)) for n in range(10, 60)))
        assert [entry.units for entry in quick] == list(range(10, 60))
        assert not slow.done()
        ends.held.set()
        assert (await slow).units == 5


async def test_a_worker_that_cannot_say_is_passed_over(tmp_path: Path):
    """The worker that the key names is asked first, then the others; the last one's words are told."""
    paths, ends = [tmp_path / "1.sock", tmp_path / "2.sock"], [Ends(), Ends()]
    link = OrderLink(paths, now_us=now_us)
    async with worker(paths[0], ends[0]), worker(paths[1], ends[1]), link.opened():
        for first in (0, 1):
            await link.order(wanted(first))
        assert [len(each.seen) for each in ends] == [1, 1]
        ends[0].fault = Unavailable("this worker is stopping")
        assert (await link.order(wanted(0))).units == 10
        assert len(ends[1].seen) == 2
        ends[1].fault = ValueError("a fault of ours")
        with pytest.raises(Unavailable, match="stopping"):
            await link.order(wanted(1))


async def test_a_worker_that_goes_away_is_found_again(tmp_path: Path):
    """Orders that wait for it go to another one at once; when it is back, it is asked as before."""
    paths, ends = [tmp_path / "1.sock", tmp_path / "2.sock"], [Ends(), Ends()]
    ends[0].held.clear()
    link = OrderLink(paths, now_us=now_us)
    async with link.opened(), worker(paths[1], ends[1]):
        async with worker(paths[0], ends[0]):
            waiting = asyncio.ensure_future(link.order(wanted(0, units=5)))
            while not ends[0].seen:
                await asyncio.sleep(0.001)
            began = time.monotonic()
        assert (await waiting).units == 5
        assert time.monotonic() - began < 1.0
        assert ends[1].seen == [5]
        paths[0].unlink()
        async with worker(paths[0], ends[0]):
            assert (await link.order(wanted(0))).units == 10
            assert ends[0].seen == [5, 10]
    async with link.opened():
        with pytest.raises(Unavailable, match="away"):
            await link.order(wanted(0))


async def test_a_message_that_is_no_order_is_answered_alone(tmp_path: Path):
    """It is told what is wrong with it, and the connection goes on."""
    path, ends = tmp_path / "1.sock", Ends()
    async with (
        worker(path, ends),
        aiohttp.ClientSession(
            "http://worker", connector=aiohttp.UnixConnector(path=str(path))
        ) as http,
        http.ws_connect(ORDERS_PATH) as socket,
    ):
        await socket.send_bytes(msgspec.msgpack.encode([7, {"units": 1}]))
        answer = ANSWER_DECODER.decode(await socket.receive_bytes())
        assert (answer.number, answer.entry) == (7, None)
        assert "Expected" in answer.why
        await socket.send_bytes(ENCODER.encode([8, "nothing"]))
        assert ANSWER_DECODER.decode(await socket.receive_bytes()).number == 8
    assert ends.seen == []
