"""A caller of the gateway over HTTP, as a partner would be one; used by the demo."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from exchange.cli.context import keyring_of
from exchange.client import SignedClient, load_identity
from schemas.wire.cycles import CloseAnswer, CloseRequest, CycleView
from schemas.wire.members import EnrolRequest
from schemas.wire.merchants import MerchantAnswer, MerchantRequest
from schemas.wire.purchases import BulkPurchase, BulkPurchaseAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from exchange.cli.context import Home

JSON_TYPE: Final = "application/json"
MSGPACK_TYPE: Final = "application/msgpack"

_PURCHASES = msgspec.msgpack.Decoder(list[BulkPurchaseAnswer[int]])


class Refused(Exception):  # noqa: N818 - what the clearing house answered
    """The clearing house said no; the message is its own."""


class Client:
    """Speaks to one gateway for the house."""

    def __init__(self, signed: SignedClient) -> None:
        """Take the client that signs and verifies."""
        self._signed = signed

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
            AnswerNotTrusted: The answer is not shown to be the clearing house's.
        """
        answer = await self._signed.call(method, path, body, content_type=kind)
        if answer.good:
            return answer.body
        problem: dict[str, Any] = msgspec.json.decode(answer.body)
        raise Refused(f"{method} {path}: {problem.get('title')}: {problem.get('detail')}")


@asynccontextmanager
async def client_of(home: Home, url: str) -> AsyncIterator[Client]:
    """A client that signs as the house, for the length of the block."""
    identity = load_identity(home.operator_identity)
    async with SignedClient.open(url, identity, keyring_of(home).trusted()) as signed:
        yield Client(signed)
