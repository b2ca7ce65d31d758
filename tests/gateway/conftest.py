"""A whole clearing house for each test: real PostgreSQL, a writer in this process, the app on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from deploy.database.connection import open_pool, open_writer_connection
from exchange.gateway.app import create_app
from exchange.gateway.run import serve
from exchange.gateway.services import Services, make_services
from exchange.programme.service.rider import ProgrammeRider
from exchange.service.access import issue_api_key, operator_key
from exchange.service.order_link import OrderLink
from exchange.store.programmes import insert_tariff
from settlement.core.trail import PROGRAM
from settlement.service.clearing import Writer
from settlement.service.cycles import close_cycle
from settlement.service.ledger import open_ledger
from settlement.service.nonces import LocalNonces
from tests.conftest import MIGRATED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from aiohttp import web
    from asyncpg import Pool

    from deploy.database.embedded import EmbeddedServer

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
LANE = re.compile(r"POST /v1/orders(/[0-9a-f-]{36}/(clear|void))?\Z")
_keys = itertools.count(1)


class Clock:
    """The wall clock, which a test may move forward."""

    def __init__(self) -> None:
        """Start now."""
        self.ahead_us = 0

    def __call__(self) -> int:
        """Microseconds since 1970."""
        return time.time_ns() // 1000 + self.ahead_us

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.ahead_us += int(seconds * 1_000_000)


@dataclass(slots=True)
class Answer:
    """What a request was answered with."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        """The body, decoded by its content type."""
        if self.headers["Content-Type"].endswith("msgpack"):
            return msgspec.msgpack.decode(self.raw)
        return json.loads(self.raw)

    @property
    def reason(self) -> str:
        """Code of the problem; the answer must be one."""
        assert self.headers["Content-Type"].startswith("application/problem+"), self.raw
        assert self.body["status"] == self.status
        assert self.body["type"].endswith(self.body["reason"])
        return str(self.body["reason"])


@dataclass(slots=True)
class House:
    """The running clearing house, as a test speaks to it."""

    pool: Pool
    writer: Writer
    services: Services
    app: web.Application
    port: int
    home: Path
    clock: Clock
    http: aiohttp.ClientSession
    fast: aiohttp.ClientSession
    operator: str
    keys: dict[str, str] = field(default_factory=dict)

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        caller: str | None = "house",
        key: str | None = None,
        packed: bool = False,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request; `caller` is a merchant's code, `house`, or None for nobody."""
        sent = dict(headers or {})
        if caller is not None:
            sent["Authorization"] = f"Bearer {self.keys.get(caller, self.operator)}"
        if key is not None:
            sent["Idempotency-Key"] = key
        if body is not None:
            raw = msgspec.msgpack.encode(body) if packed else msgspec.json.encode(body)
        if raw is not None:
            sent.setdefault("Content-Type", "application/msgpack" if packed else "application/json")
        data = None if raw is None else io.BytesIO(raw)
        # Single orders have connections of their own, which stay in the fast lane; see test_lane.py.
        http = self.fast if LANE.match(f"{method} {path}") else self.http
        async with http.request(method, path, data=data, headers=sent) as response:
            return Answer(response.status, response.headers, await response.read())

    async def order(
        self, body: dict[str, Any], *, key: str | None = None, caller: str = "house"
    ) -> Answer:
        """Post one order, under a fresh key unless one is given."""
        return await self.call(
            "POST", "/v1/orders", body, key=key or f"order-{next(_keys)}", caller=caller
        )

    async def accrue(self, member: str, merchant: str, units: int) -> Answer:
        """Give points."""
        answer = await self.call(
            "POST",
            "/v1/accruals",
            {"member": member, "merchant": merchant, "units": str(units)},
            key=f"accrual-{next(_keys)}",
        )
        assert answer.status == 201, answer.raw
        return answer

    async def token(self, member: str, caller: str = "house") -> str:
        """What a caller calls a member, who is enrolled if need be."""
        answer = await self.call("POST", "/v1/members", {"members": [member]}, caller=caller)
        assert answer.status == 200, answer.raw
        return str(answer.body["tokens"][0])

    async def net(self) -> dict[str, int]:
        """Figures of the open cycle other than 0."""
        answer = await self.call("GET", "/v1/positions")
        figures = {row["party"]: int(row["net_cu"]) for row in answer.body["positions"]}
        return {party: net_cu for party, net_cu in figures.items() if net_cu}


AIR = {"issuer": "AIR", "acceptor": "EYE", "member": "anna"}
"""Anna's miles, worth 333 CU each, at the eyewear shop."""


@contextlib.asynccontextmanager
async def clearing_house(
    dsn: str,
    home: Path,
    *,
    order_paths: Sequence[Path] = (),
    private_endpoints: bool = False,
) -> AsyncIterator[House]:
    """Run a house with three merchants (AIR and EYE hosted, OWN with its own system) and two members."""
    clock = Clock()
    link = OrderLink(order_paths, now_us=clock)
    pool = await open_pool(dsn)
    async with pool.acquire() as conn:
        await open_ledger(conn)
        await insert_tariff(conn, fee_bps=50, effective_at=LONG_AGO)
    writer = Writer(
        connect=lambda: open_writer_connection(dsn), now_us=clock, rider=ProgrammeRider()
    )
    await writer.start()
    await close_cycle(writer, cycle_no=0, next_id="c1")
    services = make_services(
        pool=pool,
        clearing=writer,
        nonces=LocalNonces(clock),
        home=home,
        now_us=clock,
        order_link=link,
        api_keys=True,
        private_endpoints=private_endpoints,
    )
    app = create_app(services)
    async with (
        link.opened(),
        serve(app, host="127.0.0.1", port=0) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as fast,
    ):
        house = House(
            pool=pool,
            writer=writer,
            services=services,
            app=app,
            port=port,
            home=home,
            clock=clock,
            http=http,
            fast=fast,
            operator=await operator_key(pool, home, now=services.now()),
        )
        for code, hosted, cu in (("AIR", True, 333), ("EYE", True, 100), ("OWN", False, 250)):
            answer = await house.call("POST", "/v1/merchants", merchant(code, cu, hosted=hosted))
            assert answer.status == 201, answer.raw
            house.keys[code] = answer.body["api_key"]
        answer = await house.call("POST", "/v1/members", {"members": ["anna", "ben"]})
        assert answer.status == 200, answer.raw
        yield house
    await writer.stop()
    await pool.close()


def merchant(code: str, cu: int, *, hosted: bool = True, **more: Any) -> dict[str, Any]:
    """A merchant's terms."""
    return {
        "code": code,
        "name": f"{code} 公司",
        "hosted": hosted,
        "spend": {"cu": str(cu), "units": "1"},
        "cap_cu": "1000000000",
        "earn_units": "1",
        "earn_fen": "100",
    } | more


@pytest_asyncio.fixture
async def house(dsn: str, tmp_path: Path) -> AsyncIterator[House]:
    """A house of the test's own; Anna has 10,000 miles."""
    async with clearing_house(dsn, tmp_path) as running:
        await running.accrue("anna", "AIR", 10_000)
        yield running


shared = pytest.mark.asyncio(loop_scope="module")
"""Marks a test of `shared_house`: it runs in the loop of the house that its module shares."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_house(
    server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    """One house for those tests of a module that do not mind what the others left; a house takes half a second.

    Two more merchants: LATE, whose rate counts from tomorrow, and SMALL, which takes 10 to 20 units.
    """
    dsn = server.clone_database(MIGRATED, f"shared_{next(_keys)}")
    async with clearing_house(dsn, tmp_path_factory.mktemp("house")) as running:
        await running.accrue("anna", "AIR", 10_000)
        tomorrow = (running.services.now() + timedelta(days=1)).isoformat()
        for body in (
            merchant("LATE", 100, effective_at=tomorrow),
            merchant("SMALL", 1, units_min="10", units_max="20"),
        ):
            assert (await running.call("POST", "/v1/merchants", body)).status == 201
        yield running


def fresh_key() -> str:
    """An idempotency key that nobody used."""
    return f"key-{next(_keys)}"


async def new_key(house: House, code: str) -> str:
    """One more API key for a merchant."""
    offer = await house.services.shelf.offer()
    return await issue_api_key(
        house.pool,
        merchant_no=offer.catalogue.by_code[code],
        code=code,
        label="test",
        by=PROGRAM,
        now=house.services.now(),
    )


async def soon(check: Any, *, seconds: float = 40.0) -> None:
    """Wait until an asynchronous check holds."""
    deadline = time.monotonic() + seconds
    while not await check():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s")
        await asyncio.sleep(0.05)
