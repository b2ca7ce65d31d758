"""The virtual loop and network behave as asyncio's own, and the same way twice."""

import asyncio
import os
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exchange.simulation.loop import Host, Standstill, VirtualLoop
from exchange.simulation.network import Conditions, Disturbance, Network, Trouble

ROOT = Path(__file__).parents[2]
STEADY = Conditions(latency_us=(1000, 1000), spike_one_in=0, bytes_per_second=10**9)
PATH = "/run/echo.sock"


@pytest.fixture
def loop():
    """A loop that is wound up at the end, and at which nothing failed unseen."""
    loop = VirtualLoop()
    yield loop
    loop.end()
    assert loop.failures() == []


def cut(source: str, target: str, *, after_bytes: int) -> Disturbance:
    """The first connection that carries something this way breaks after so many bytes."""
    return Disturbance(
        trouble=Trouble.CUT,
        source=source,
        target=target,
        from_us=0,
        to_us=10**12,
        figure=after_bytes,
    )


def partition(source: str, target: str, *, from_us: int, to_us: int) -> Disturbance:
    """Nothing passes this way for a while."""
    return Disturbance(
        trouble=Trouble.PARTITION, source=source, target=target, from_us=from_us, to_us=to_us
    )


def start_server(loop: VirtualLoop, answer, host: Host | None = None) -> Host:
    """Serve a path by a callback of asyncio's streams."""
    host = host or Host("server")
    loop.run_on(host, asyncio.start_unix_server(answer, PATH), name="server")
    return host


def run_client(loop: VirtualLoop, coro):
    """Run a coroutine on the host `client`."""
    return loop.run_on(Host("client"), coro, name="client")


def test_the_same_seed_gives_the_same_trace_in_another_process():
    """200 echoes through the real aiohttp, with cuts, refusals, slowness and partitions, are byte for byte the
    same in two processes whose hashes differ, and another seed gives another trace.
    """

    def trace(seed: str, hash_seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "tests.simulation.echo", seed],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        ).stdout

    first = trace("1", "0")
    assert trace("1", "4711") == first
    assert trace("2", "0") != first
    assert first.count(" 200 ") > 100
    assert first.count("other") == 0
    for word in ("network.cut", "network.refused", "TimeoutError", "ClientPayloadError"):
        assert word in first


def test_time_passes_only_when_nothing_is_ready(loop):
    """An hour of sleep takes no time of ours, and computing takes no time of the loop's."""
    began = time.monotonic()

    async def history() -> list[float]:
        instants = [loop.time()]
        sum(range(100_000))
        instants.append(loop.time())
        await asyncio.sleep(3600)
        instants.append(loop.time())
        return instants

    assert loop.run_until_complete(history()) == pytest.approx([0, 0, 3600])
    assert time.monotonic() - began < 10


def test_a_standstill_is_an_error_that_names_who_waits(loop):
    """Where real programs would hang for ever, the loop says so at once."""

    async def wait_for_nobody() -> None:
        await loop.create_future()

    with pytest.raises(Standstill, match="wait_for_nobody"):
        loop.run_until_complete(wait_for_nobody())


def test_executors_run_on_the_spot(loop):
    """A thread's work is done in the calling thread, and its exception reaches who awaits it."""

    async def history() -> None:
        assert await asyncio.to_thread(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 // 0)

    loop.run_until_complete(history())


def test_tls_and_real_sockets_are_refused(loop):
    """What would bring real randomness or the kernel into a history is refused by name."""
    Network(loop, seed="x")

    async def history() -> None:
        with pytest.raises(NotImplementedError, match="TLS"):
            await asyncio.open_connection("merchant", 443, ssl=ssl.create_default_context())
        with pytest.raises(NotImplementedError):
            loop.add_reader(0, print)

    loop.run_until_complete(history())


def test_nobody_at_an_address_refuses(loop):
    """A connection to an address without a server is refused, as the kernel does it."""
    Network(loop, seed="x")
    with pytest.raises(ConnectionRefusedError):
        run_client(loop, asyncio.open_connection("nowhere", 80))


def test_a_cut_lets_exactly_so_many_bytes_pass(loop):
    """The reader gets the bytes before the cut and then a reset; the writer learns of it too."""
    network = Network(
        loop, seed="x", conditions=STEADY, troubles=[cut("server", "client", after_bytes=1234)]
    )
    ends: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(5000))
        try:
            await writer.drain()
            await reader.read()
        except ConnectionResetError:
            ends.append("writer")

    async def history() -> None:
        reader, writer = await asyncio.open_unix_connection(PATH)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(5000)
        await asyncio.sleep(1)
        writer.close()

    start_server(loop, answer)
    # asyncio's reader raises before it hands out what it holds, so count what the network handed over.
    run_client(loop, history())
    assert network.carried_bytes == 1234
    assert ends == ["writer"]


def test_a_partition_holds_back_what_was_sent_and_then_lets_it_pass(loop):
    """What is sent into a partition arrives after it heals, up to as long again later, as lost packets are sent
    again; in order, and nothing is lost or comes twice.
    """
    Network(
        loop,
        seed="x",
        conditions=STEADY,
        troubles=[partition("client", "server", from_us=10_000, to_us=5_000_000)],
    )

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def history() -> list[float]:
        reader, writer = await asyncio.open_unix_connection(PATH)
        arrivals = []
        for number in (b"1\n", b"2\n", b"3\n"):
            writer.write(number)
            await asyncio.sleep(0.008)
        for number in (b"1\n", b"2\n", b"3\n"):
            assert await reader.readline() == number
            arrivals.append(loop.time())
        writer.close()
        return arrivals

    start_server(loop, answer)
    first, second, third = run_client(loop, history())
    assert first < 0.1
    assert 5 < second <= third < 10


def test_a_reader_that_pauses_stops_its_writer(loop):
    """Flow control is kept: a writer waits while nobody reads, and everything arrives when somebody does."""
    Network(loop, seed="x", conditions=STEADY)
    total = 1_000_000
    written: list[float] = []

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _each in range(100):
            writer.write(bytes(total // 100))
            await writer.drain()
        written.append(loop.time())
        writer.close()

    async def history() -> int:
        reader, writer = await asyncio.open_unix_connection(PATH)
        await asyncio.sleep(60)
        assert written == []
        got = len(await reader.read())
        writer.close()
        return got

    start_server(loop, answer)
    assert run_client(loop, history()) == total
    assert written[0] > 60


def test_a_killed_host_runs_not_one_more_instruction(loop):
    """No `finally` and no `except` of a killed host runs, its timers never come, and its peer sees a reset; its
    address is free for the host that takes its place.
    """
    network = Network(loop, seed="x", conditions=STEADY)
    said: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(await reader.readline())
            await asyncio.sleep(10)
            said.append("woke up")
        finally:
            if not over:
                said.append("cleaned up")

    async def history() -> None:
        reader, writer = await asyncio.open_unix_connection(PATH)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        loop.kill(server)
        network.hang_up(server)
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection(PATH)
        await asyncio.sleep(100)

    over: list[bool] = []
    server = start_server(loop, answer)
    run_client(loop, history())
    start_server(loop, answer)
    assert said == []
    over.append(True)


def test_a_frozen_host_goes_on_where_it_was(loop):
    """While a host is frozen nothing of it runs, and what is sent to it waits; then it goes on with the time that
    has passed meanwhile.
    """
    Network(loop, seed="x", conditions=STEADY)
    woken: list[float] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def wake_often() -> None:
        while len(woken) < 3:
            await asyncio.sleep(1)
            woken.append(loop.time())

    async def history() -> None:
        reader, writer = await asyncio.open_unix_connection(PATH)
        await asyncio.sleep(1.5)
        loop.freeze(server)
        writer.write(b"hello\n")
        await asyncio.sleep(10)
        assert len(woken) == 1
        loop.thaw(server)
        assert await reader.readline() == b"hello\n"
        assert loop.time() < 11.6
        await asyncio.sleep(3)
        writer.close()

    server = start_server(loop, answer)
    loop.start_on(server, wake_often(), name="wake")
    run_client(loop, history())
    assert woken == pytest.approx([1, 11.5, 12.5], abs=0.1)
