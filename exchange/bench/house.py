"""The clearing house under test as the benchmark sees it, and setting its market up over HTTP."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiohttp
import msgspec

from deploy.database.connection import open_pool
from exchange.bench import market
from exchange.bench.merchants import SHOPS
from exchange.bench.processes import Failed
from exchange.store.programmes import insert_tariff
from schemas.wire.limits import LimitsRequest
from schemas.wire.members import EnrolRequest
from schemas.wire.merchants import MerchantRequest, RateTerms

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from deploy.database.embedded import EmbeddedServer

BULK_MAX: Final = 10_000
FEE_BPS: Final = 5
"""Small, since fees leave the merchants for good: a larger fee would use up all caps in a long run."""
CAP_ORDERS_HOSTED: Final = 2_000.0
"""Debits of so many orders are the sum of all caps: soon used up, so that caps bind nearly from the start."""
CAP_ORDERS_OWN: Final = 1_250.0
"""The same for merchants with their own systems, which see fewer orders in a run."""
CAP_SHOP_CU: Final = 10**12
"""Cap of a merchant whose orders are journeys: what is measured there are the systems, not the caps."""
PATIENCE_SECONDS: Final = 30.0
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Pids(NamedTuple):
    """Process ids of the parts, as of now; None for one that is just being started again."""

    writer: int | None
    packager: int | None
    gateways: list[int | None]
    order_workers: list[int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """A clearing house that runs.

    Attributes:
        port: Where its gateways listen, on the loopback.
        folder: Its home.
        dsn: Its database.
        server: The server of that database, which also runs pgbench and the replay.
        operator_key: API key of the operator.
        signing_key: Raw private key with which the operator signs, hex.
        pids: Tells the processes.
    """

    port: int
    folder: Path
    dsn: str
    server: EmbeddedServer
    operator_key: str
    signing_key: str
    pids: Callable[[], Pids]


class Operator:
    """Calls the gateway with the operator's key; for what is not measured, and for closing cycles."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        """Take a session that knows address and key."""
        self._session = session

    async def call(
        self, method: str, path: str, body: bytes | None = None, *, kind: str = "application/json"
    ) -> Any:
        """Send one request and decode the answer; while the service is away it is sent again.

        Raises:
            Failed: The answer is no.
        """
        deadline = monotonic() + PATIENCE_SECONDS
        headers = {"Content-Type": kind, "Accept": kind}
        while True:
            async with self._session.request(method, path, data=body, headers=headers) as answer:
                data = await answer.read()
                status = answer.status
            if status < 400:
                decode = msgspec.msgpack.decode if "msgpack" in kind else msgspec.json.decode
                return decode(data)
            if status != 503 or monotonic() > deadline:
                raise Failed(f"{method} {path} was answered {status}: {data[:500]!r}")
            await asyncio.sleep(0.1)


@asynccontextmanager
async def operator_of(house: House) -> AsyncIterator[Operator]:
    """An operator for the length of the block."""
    async with aiohttp.ClientSession(
        base_url=f"http://127.0.0.1:{house.port}",
        headers={"Authorization": f"Bearer {house.operator_key}"},
        timeout=aiohttp.ClientTimeout(total=120),
    ) as session:
        yield Operator(session)


async def register_merchants(house: House, operator: Operator) -> dict[str, str]:
    """Set the fee, register all kinds of merchants, and wait until the first cycle is open.

    Returns:
        API key of each merchant, by code.
    """
    pool = await open_pool(house.dsn, size=1)
    try:
        async with pool.acquire() as connection:
            await insert_tariff(connection, fee_bps=FEE_BPS, effective_at=_LONG_AGO)
    finally:
        await pool.close()
    wanted = [
        _merchant(code, market.cap_cu(rank, orders=orders), hosted=codes is market.HOSTED)
        for codes, orders in ((market.HOSTED, CAP_ORDERS_HOSTED), (market.OWN, CAP_ORDERS_OWN))
        for rank, code in enumerate(codes)
    ]
    wanted += [_merchant(shop.code, CAP_SHOP_CU, hosted=False) for shop in SHOPS]
    # The writer decides those that come together in one flush.
    answers = await asyncio.gather(
        *(operator.call("POST", "/v1/merchants", msgspec.json.encode(each)) for each in wanted)
    )
    api_keys = {answer["code"]: answer["api_key"] for answer in answers}
    # What is measured is the house, not how much of it one merchant may have.
    unlimited = msgspec.json.encode(LimitsRequest(orders=None, requests=None))
    await asyncio.gather(
        *(operator.call("PUT", f"/v1/merchants/{code}/limits", unlimited) for code in api_keys)
    )
    deadline = monotonic() + PATIENCE_SECONDS
    while not (await operator.call("GET", "/v1/cycles"))["cycles"]:
        if monotonic() > deadline:
            raise Failed("the first cycle does not open")
        await asyncio.sleep(0.05)
    return api_keys


def _merchant(code: str, cap_cu: int, *, hosted: bool) -> MerchantRequest:
    return MerchantRequest(
        code=code,
        name=code,
        hosted=hosted,
        spend=RateTerms(cu=str(market.RATE_CU), units="1"),
        earn_units="1",
        cap_cu=str(cap_cu),
        effective_at=_LONG_AGO,
    )


async def deal_lots(operator: Operator, place: market.Market) -> None:
    """Enrol the members and let each earn the lots that the market gives it, by bulk purchases."""
    for start in range(0, place.members, BULK_MAX):
        names = [
            market.member_name(number)
            for number in range(start, min(place.members, start + BULK_MAX))
        ]
        await operator.call("POST", "/v1/members", msgspec.json.encode(EnrolRequest(members=names)))
    for start in range(0, len(place.lots), BULK_MAX):
        purchases = [
            {
                "key": f"lot-{start + offset}",
                "member": market.member_name(member),
                "merchant": market.HOSTED[rank],
                "amount_fen": market.LOT_UNITS,
            }
            for offset, (member, rank) in enumerate(place.lots[start : start + BULK_MAX])
        ]
        answers = await operator.call(
            "POST",
            "/v1/purchases/bulk",
            msgspec.msgpack.encode(purchases),
            kind="application/msgpack",
        )
        wrong = next((each for each in answers if each["status"] != "booked"), None)
        if wrong is not None:
            raise Failed(f"a lot was not made: {wrong}")
