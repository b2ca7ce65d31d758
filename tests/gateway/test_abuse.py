"""Callers who mean no good: the gateway keeps answering everybody else, and its memory stays bounded."""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
import sys
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psutil
import pytest
import pytest_asyncio

from exchange.gateway.gate import BULK_BYTES_MAX, GATE, Who
from exchange.gateway.routes import ROUTES
from tests.gateway.conftest import fresh_key, soon
from tests.gateway.signing import ORDER, Signed, signed_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.gateway.conftest import House

pytestmark = pytest.mark.asyncio(loop_scope="module")

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


async def slowest_order(signed: Signed) -> float:
    """How long the slowest of some signed orders took, in milliseconds."""
    slowest, client = 0.0, signed.client()
    for _ in range(ORDERS):
        began = time.perf_counter()
        answer = await client.call("POST", "/v1/orders", ORDER, key=fresh_key())
        assert answer.status == 201
        slowest = max(slowest, time.perf_counter() - began)
    return slowest * 1000


@contextlib.asynccontextmanager
async def beside(signed: Signed) -> AsyncIterator[list[float]]:
    """Signed orders one after the other for the length of the block, and a last one; milliseconds of each."""
    taken: list[float] = []
    ended = asyncio.Event()

    async def work() -> None:
        client = signed.client()
        while not ended.is_set() or not taken:
            began = time.perf_counter()
            answer = await client.call("POST", "/v1/orders", ORDER, key=fresh_key())
            assert answer.status == 201
            taken.append((time.perf_counter() - began) * 1000)

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        yield taken
        ended.set()


@pytest.fixture
def many_files() -> None:
    """Leave to hold many connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE + 1_000:
        pytest.skip(f"this machine lets a process have {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def signed(module_dsn: str, tmp_path_factory: Any) -> AsyncIterator[Signed]:
    """One house for all tests: its honest callers sign, its attackers hold an API key, so that they get far."""
    home = tmp_path_factory.mktemp("abuse")
    async with signed_house(module_dsn, home, api_keys=True) as running:
        yield running


async def test_idle_and_slow_connections_hold_nobody_up(signed: Signed, many_files, tell_figure):
    """Ten thousand silent connections and hundreds of bodies that never come cost little memory and no order."""
    process, house = psutil.Process(), signed.house
    alone = await slowest_order(signed)
    before = process.memory_info().rss
    slow = head(house, "/v1/quotes", "Content-Length: 1000") + b"{"
    async with held(house, idle=IDLE, slow=SLOW, sent=slow):
        crowded = await slowest_order(signed)
        each_kb = (process.memory_info().rss - before) / (IDLE + SLOW) / 1024
        assert (await house.call("GET", "/readyz", caller=None)).status == 200
    assert each_kb < 50
    assert crowded < 20 * alone + 500
    tell_figure(
        f"abuse: beside {IDLE} idle connections and {SLOW} unfinished bodies the slowest of {ORDERS} signed orders "
        f"took {crowded:.0f} ms (alone {alone:.0f}), {each_kb:.1f} KiB a connection"
    )


async def test_strangers_keep_out_nobody_but_strangers(signed: Signed):
    """Bodies that never come, sent where anybody may send some, stop no order and no health check: they count apart."""
    house, gate = signed.house, signed.house.app[GATE]
    usual = gate.in_flight_max, gate.strangers_max
    gate.in_flight_max, gate.strangers_max = 50, 100
    slow = b"POST /v1/session HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{"

    async def all_wait() -> bool:
        return gate.strangers >= 100

    try:
        async with held(house, idle=0, slow=100, sent=slow):
            await soon(all_wait, seconds=30)
            async with beside(signed):
                body = {"name": "anna", "password": "p", "code": "123456"}
                refused = await house.call("POST", "/v1/session", body, caller=None)
                assert (refused.status, refused.reason) == (503, "unavailable")
                assert (await house.call("GET", "/readyz", caller=None)).status == 200
    finally:
        gate.in_flight_max, gate.strangers_max = usual


async def test_one_merchant_does_not_keep_the_others_out(signed: Signed):
    """A merchant that sends more large requests at once than it may hears so; others' requests are taken meanwhile."""
    house, gate = signed.house, signed.house.app[GATE]
    offer = await house.services.shelf.offer()
    eye = gate.throttle.allowance(offer.catalogue.by_code["EYE"], offer.limits)
    usual, gate.at_once_max = gate.at_once_max, 20
    slow = head(house, "/v1/orders/bulk", "Content-Length: 100").replace(
        house.operator.encode(), house.keys["EYE"].encode()
    )

    async def all_wait() -> bool:
        return eye.at_once >= 20

    async def all_gone() -> bool:
        return eye.at_once == 0

    try:
        async with held(house, idle=0, slow=20, sent=slow + b"["):
            await soon(all_wait, seconds=30)
            refused = await house.call("GET", "/v1/cycles", caller="EYE")
            assert (refused.status, refused.reason) == (429, "quota_exceeded")
            assert (await house.call("GET", "/v1/cycles", caller="OWN")).status == 200
            async with beside(signed):
                assert (await house.call("GET", "/v1/cycles")).status == 200
        await soon(all_gone, seconds=30)
        assert (await house.call("GET", "/v1/cycles", caller="EYE")).status == 200
    finally:
        gate.at_once_max = usual


async def test_huge_bodies_are_refused_before_they_come(signed: Signed, tell_figure):
    """A body that says it is too large is refused at its head, and one that does not say it when it has become so."""
    process, house = psutil.Process(), signed.house
    before = process.memory_info().rss
    async with beside(signed) as taken:
        for path in ("/v1/quotes", "/v1/orders", "/v1/orders/bulk", "/v1/members"):
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
    tell_figure(
        f"abuse: beside bodies of 10 GB and without end {len(taken)} signed orders were taken, the slowest in "
        f"{max(taken):.0f} ms; memory grew by {max(0, grown) / 2**20:.0f} MiB"
    )


def deep(levels: int) -> dict[str, list[bytes]]:
    """Bodies that nest, by content type."""
    arrays, objects = b"[" * levels + b"]" * levels, b'{"a":' * levels + b"1" + b"}" * levels
    return {
        "application/json": [arrays, objects],
        "application/msgpack": [b"\x91" * levels + b"\x01", b"\x81\xa1a" * levels + b"\x01"],
    }


ODD = (
    b"\x81\x80\x01",  # A map as a key.
    b"\x81\x01\x01",  # A number as a key.
    b"\xdf\xff\xff\xff\xff",  # A map of four billion fields that do not come.
    b"\xdd\xff\xff\xff\xff\x01",  # Such an array.
    b"\xd4\x05\x01",  # An extension.
    b"\xd6\xff\x00\x00\x00\x01",  # An instant.
    b"\xc1",  # What msgpack never uses.
    b"\xc4\x01a",  # Binary.
)
"""What JSON cannot say."""


async def test_what_is_deep_or_odd_is_malformed_on_every_route(signed: Signed):
    """Thousands of brackets, and what only msgpack can say, are malformed requests on every route that takes a body."""
    house = signed.house
    routes = [route for route in ROUTES if route.request and route.who is not Who.ANYBODY]
    kinds = {kind: list(bodies) for kind, bodies in deep(10_000).items()}
    kinds["application/msgpack"] += ODD
    async with beside(signed):
        for route in routes:
            if route.who is Who.PERSON:
                continue
            path = re.sub(r"\{(\w+)\}", lambda name: PLACES.get(name[1], "1"), route.path)
            for kind in route.forms(route.request):
                for body in kinds[kind]:
                    answer = await house.call(
                        route.method,
                        path,
                        raw=body,
                        key="deep",
                        caller="AIR" if route.path in OF_MERCHANTS else "house",
                        headers={"Content-Type": kind},
                    )
                    assert answer.status == 400, (route.path, kind, body[:20], answer.raw)


OF_MERCHANTS = {
    "/v1/compensations",
    "/v1/corrections",
    "/v1/batches/{cycle}/confirmations",
    "/v1/batches/{cycle}/lines",
}
"""What the house itself may not ask."""
PLACES = {"token": "mt_" + "a" * 26, "order_id": str(UUID(int=7)), "code": "AIR"}


async def test_floods_of_headers_are_refused(signed: Signed):
    """Thousands of headers, and headers and targets of any length, are malformed requests and nothing worse."""
    house = signed.house
    async with beside(signed):
        for flood in (
            [f"X-{number}: 1" for number in range(150)],
            [f"X-{number}: 1" for number in range(20_000)],
            ["X-Long: " + "x" * 200_000],
            ["X: 1"] * 20_000,
        ):
            said = await ask(house, head(house, "/v1/quotes", *flood, "Content-Length: 2") + b"{}")
            assert said.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400")) or not said
        long = await ask(house, b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: here\r\n\r\n")
        assert long.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400")) or not long
