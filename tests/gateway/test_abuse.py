"""Callers who mean no good: the gateway keeps answering everybody else, and its memory stays bounded."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from exchange.gateway.gate import BODY_BYTES_MAX, BULK_BYTES_MAX
from tests.gateway.conftest import AIR, House

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

IDLE = 10_000
SLOW = 200
ORDERS = 30


CALLER = """
import resource, socket, sys
port, idle, slow = map(int, sys.argv[1:4])
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
sent = sys.stdin.buffer.read()
held = [socket.create_connection(("127.0.0.1", port)) for _ in range(idle + slow)]
for each in held[:slow]:
    each.sendall(sent)
print("held", flush=True)
while True:
    socket.create_connection(("127.0.0.1", port)).recv(1)
"""
"""A process that holds connections, and one more that it waits on."""


@contextlib.asynccontextmanager
async def held(house: House, *, idle: int, slow: int, sent: bytes) -> AsyncIterator[None]:
    """Connections of another process: some that say nothing, some that begin a request and say nothing more."""
    caller = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CALLER, str(house.port), str(idle), str(slow)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert caller.stdin is not None
    assert caller.stdout is not None
    try:
        caller.stdin.write(sent)
        caller.stdin.close()
        async with asyncio.timeout(60):
            assert await caller.stdout.readline() == b"held\n"
        yield
    finally:
        caller.kill()
        await caller.wait()


async def ask(house: House, raw: bytes) -> bytes:
    """Send raw bytes on a connection of its own; everything that is answered before the gateway hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    answer = b""
    with contextlib.suppress(ConnectionError):
        writer.write(raw)
        await writer.drain()
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(10):
            answer = await reader.read(16_384)
    writer.close()
    return answer


def head(house: House, path: str, *more: str) -> bytes:
    """The head of a POST by the house."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: here",
        f"Authorization: Bearer {house.operator}",
        "Content-Type: application/json",
        *more,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def slowest_order(house: House) -> float:
    """How long the slowest of some orders took, in milliseconds."""
    slowest = 0.0
    for _ in range(ORDERS):
        began = time.perf_counter()
        assert (await house.order(AIR | {"units": "1"})).status == 201
        slowest = max(slowest, time.perf_counter() - began)
    return slowest * 1000


@pytest.fixture
def many_files() -> None:
    """Leave to hold many connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE + 1_000:
        pytest.skip(f"this machine lets a process have {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def test_idle_and_slow_connections_hold_nobody_up(house: House, many_files, tell_figure):
    """Ten thousand silent connections and hundreds of bodies that never come cost little memory and no order."""
    process = psutil.Process()
    alone = await slowest_order(house)
    before = process.memory_info().rss
    slow = head(house, "/v1/quotes", "Content-Length: 1000") + b"{"
    async with held(house, idle=IDLE, slow=SLOW, sent=slow):
        beside = await slowest_order(house)
        each_kb = (process.memory_info().rss - before) / (IDLE + SLOW) / 1024
        assert (await house.call("GET", "/readyz", caller=None)).status == 200
    assert each_kb < 50
    assert beside < 20 * alone + 500
    tell_figure(
        f"abuse: beside {IDLE} idle connections and {SLOW} unfinished bodies the slowest of {ORDERS} orders took "
        f"{beside:.0f} ms (alone {alone:.0f}), {each_kb:.1f} KiB a connection"
    )


async def test_huge_bodies_are_refused_before_they_come(house: House):
    """A body that says it is too large is refused at its head, and one that does not say it when it has become so."""
    process = psutil.Process()
    before = process.memory_info().rss
    for path in ("/v1/quotes", "/v1/orders", "/v1/orders/bulk"):
        answer = await ask(
            house, head(house, path, "Idempotency-Key: k", "Content-Length: 9999999999")
        )
        assert answer.startswith(b"HTTP/1.1 413"), (path, answer)
    piece = b"%x\r\n%b\r\n" % (65_536, b" " * 65_536)
    endless = head(house, "/v1/quotes", "Transfer-Encoding: chunked") + piece * 4
    assert (await ask(house, endless)).startswith(b"HTTP/1.1 413")
    bulk = head(house, "/v1/orders/bulk", "Transfer-Encoding: chunked") + piece * (
        BULK_BYTES_MAX // 65_536 + 2
    )
    assert (await ask(house, bulk)).startswith((b"HTTP/1.1 413", b""))
    grown = process.memory_info().rss - before
    assert grown < 8 * BULK_BYTES_MAX
    assert (await house.order(AIR | {"units": "1"})).status == 201


async def test_deep_nesting_and_floods_of_headers_are_refused(house: House):
    """Thousands of brackets, of headers, and headers of any length are malformed requests and nothing worse."""
    deep = b"[" * (BODY_BYTES_MAX // 2) + b"]" * (BODY_BYTES_MAX // 2)
    for body in (deep, b'{"a":' * 10_000 + b"1" + b"}" * 10_000):
        for path in ("/v1/quotes", "/v1/orders", "/v1/orders/bulk", "/v1/merchants"):
            answer = await house.call("POST", path, raw=body, key="deep")
            assert answer.status == 400, (path, answer.raw)
    packed = b"\x91" * 60_000
    answer = await house.call("POST", "/v1/orders/bulk", raw=packed, packed=True)
    assert answer.status == 400
    for flood in (
        [f"X-{number}: 1" for number in range(20_000)],
        ["X-Long: " + "x" * 200_000],
        ["X: 1"] * 20_000,
    ):
        said = await ask(house, head(house, "/v1/quotes", *flood, "Content-Length: 2") + b"{}")
        assert said.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400")) or not said
    long = await ask(house, b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: here\r\n\r\n")
    assert long.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400")) or not long
    assert (await house.order(AIR | {"units": "1"})).status == 201
