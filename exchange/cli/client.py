"""A caller of the gateway over HTTP, as a partner would be one; used by the demo."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec

from schemas.values.faults import Unavailable
from schemas.wire.cycles import CloseAnswer, CloseRequest, CycleView
from schemas.wire.members import EnrolRequest
from schemas.wire.merchants import MerchantAnswer, MerchantRequest
from schemas.wire.purchases import BulkPurchase, BulkPurchaseAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

PATIENCE_SECONDS: Final = 30.0
JSON_TYPE: Final = "application/json"
MSGPACK_TYPE: Final = "application/msgpack"

_PURCHASES = msgspec.msgpack.Decoder(list[BulkPurchaseAnswer[int]])


class Refused(Exception):  # noqa: N818 - what the clearing house answered
    """The clearing house said no; the message is its own."""


class Client:
    """Speaks to one gateway with one API key."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        """Take a session that knows the address and the key."""
        self._session = session

    async def add_merchant(self, wanted: MerchantRequest) -> MerchantAnswer:
        """Register a merchant."""
        body = await self._call("POST", "/v1/merchants", msgspec.json.encode(wanted))
        return msgspec.json.decode(body, type=MerchantAnswer)

    async def enrol(self, members: Sequence[str]) -> None:
        """Enrol members, at most 10,000."""
        await self._call(
            "POST", "/v1/members", msgspec.json.encode(EnrolRequest(members=list(members)))
        )

    async def send_purchases(
        self, purchases: Sequence[BulkPurchase[int]]
    ) -> list[BulkPurchaseAnswer[int]]:
        """Have purchases booked in their order, at most 10,000; sent again while nobody can take them."""
        body = await self._call(
            "POST", "/v1/purchases/bulk", msgspec.msgpack.encode(list(purchases)), kind=MSGPACK_TYPE
        )
        return _PURCHASES.decode(body)

    async def close_cycle(self, wanted: CloseRequest) -> CloseAnswer:
        """Close the open cycle, or open the first."""
        body = await self._call("POST", "/v1/cycles/close", msgspec.json.encode(wanted))
        return msgspec.json.decode(body, type=CloseAnswer)

    async def settle_cycle(self, cycle: str) -> None:
        """Count a closed cycle as funded and paid."""
        await self._call("POST", f"/v1/cycles/{cycle}/settle")

    async def cycle(self, cycle: str) -> CycleView:
        """Look at one cycle."""
        return msgspec.json.decode(await self._call("GET", f"/v1/cycles/{cycle}"), type=CycleView)

    async def _call(
        self, method: str, path: str, body: bytes | None = None, *, kind: str = JSON_TYPE
    ) -> bytes:
        """Send one request, and again while the service is away: every request here carries keys or repeats harmlessly.

        Raises:
            Refused: The answer is no.
            Unavailable: Nobody took it in time.
        """
        deadline = monotonic() + PATIENCE_SECONDS
        headers = {"Accept": kind} | ({"Content-Type": kind} if body is not None else {})
        while True:
            try:
                async with self._session.request(
                    method, path, data=body, headers=headers
                ) as answer:
                    data = await answer.read()
                if answer.status < HTTPStatus.BAD_REQUEST:
                    return data
                if answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                    problem: dict[str, Any] = msgspec.json.decode(data)
                    raise Refused(
                        f"{method} {path}: {problem.get('title')}: {problem.get('detail')}"
                    )
                why = "it answered 503"
            except aiohttp.ClientError as error:
                why = str(error) or type(error).__name__
            if monotonic() > deadline:
                raise Unavailable(f"{method} {path}: {why}")
            await asyncio.sleep(0.2)


@asynccontextmanager
async def client_of(url: str, api_key: str) -> AsyncIterator[Client]:
    """A client for the length of the block."""
    async with aiohttp.ClientSession(
        base_url=url,
        headers={"Authorization": f"Bearer {api_key}"},
        timeout=aiohttp.ClientTimeout(total=PATIENCE_SECONDS),
    ) as session:
        yield Client(session)
