"""The way from a gateway to the order workers: HTTP over Unix sockets, one request for each order.

A worker that is gone is passed over: what it had begun, the next one finds under the order's key.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from adapters.kit.contract import Found, Outcome
from exchange.core.journey import Wanted
from exchange.programme.core.command import MemberOrder
from schemas.values.faults import Unavailable
from schemas.values.reason import REASON_BY_NUMBER
from settlement.core.command import Entry, Order

ORDERS_PATH: Final = "/orders"
AUTHENTICATE_PATH: Final = "/authenticate"
HEALTH_PATH: Final = "/healthz"
METRICS_PATH: Final = "/metrics"
GRACE_SECONDS: Final = 5.0
"""How much longer than `decide_by` a gateway waits for a worker."""
AUTHENTICATE_SECONDS: Final = 15.0
CONTENT_TYPE: Final = "application/msgpack"
_US: Final = 1_000_000


class OrderWish(msgspec.Struct, frozen=True, array_like=True):
    """An order on its way to a worker; attributes as in `Wanted`."""

    order: Order | MemberOrder
    issuer_member: str
    acceptor_member: str
    decide_by_us: int
    at_us: int
    fault: str = ""
    waits: bool = False

    def wanted(self) -> Wanted:
        """The order as the worker's runner takes it."""
        return Wanted(
            order=self.order,
            issuer_member=self.issuer_member,
            acceptor_member=self.acceptor_member,
            decide_by_us=self.decide_by_us,
            at_us=self.at_us,
            fault=self.fault,
            waits=self.waits,
        )


class ProofWish(msgspec.Struct, frozen=True, array_like=True):
    """A member who is to be authenticated at a merchant's own system.

    Attributes:
        merchant_no: The merchant.
        member: The member's id there.
        proof: What the member presented.
    """

    merchant_no: int
    member: str
    proof: str


class FoundAnswer(msgspec.Struct, frozen=True, array_like=True):
    """What became of an authentication; attributes as in `Found`, the reason by its number."""

    outcome: Outcome
    reason: int
    member: str


ENCODER: Final = msgspec.msgpack.Encoder()
ENTRY_DECODER: Final = msgspec.msgpack.Decoder(Entry)
FOUND_DECODER: Final = msgspec.msgpack.Decoder(FoundAnswer)


class OrderLink:
    """Order workers, as gateways and others reach them."""

    def __init__(self, sockets: Sequence[Path], *, now_us: Callable[[], int]) -> None:
        """Prepare; orders are taken within `opened`.

        Args:
            sockets: One for each worker.
            now_us: Clock, microseconds since 1970.
        """
        self._sockets = list(sockets)
        self._now_us = now_us
        self._sessions: list[aiohttp.ClientSession] = []

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Keep connections for the block."""
        self._sessions = [
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(path), limit=0))
            for path in self._sockets
        ]
        try:
            yield
        finally:
            sessions, self._sessions = self._sessions, []
            await asyncio.gather(*(session.close() for session in sessions))

    async def order(self, wanted: Wanted) -> Entry:
        """Have an order driven; see `Journeys.order`.

        Raises:
            Unavailable: No worker answers, or none can say now how it ends; the same key asks again.
        """
        wish = OrderWish(
            wanted.order,
            wanted.issuer_member,
            wanted.acceptor_member,
            wanted.decide_by_us,
            wanted.at_us,
            wanted.fault,
            wanted.waits,
        )
        left_seconds = (wanted.decide_by_us - self._now_us()) / _US + GRACE_SECONDS
        body = await self._ask(
            ORDERS_PATH, ENCODER.encode(wish), wanted.order.key[-1], left_seconds
        )
        return ENTRY_DECODER.decode(body)

    async def authenticate(self, *, merchant_no: int, member: str, proof: str) -> Found:
        """Have a member authenticated at a merchant's own system.

        Raises:
            Unavailable: No worker answers, or the merchant's system takes no calls now.
        """
        wish = ProofWish(merchant_no, member, proof)
        body = await self._ask(AUTHENTICATE_PATH, ENCODER.encode(wish), 0, AUTHENTICATE_SECONDS)
        answer = FOUND_DECODER.decode(body)
        return Found(
            outcome=answer.outcome,
            reason=REASON_BY_NUMBER.get(answer.reason),
            member=answer.member,
        )

    async def _ask(self, path: str, body: bytes, first: int, seconds: float) -> bytes:
        """Ask one worker after the other, beginning with the one that the key names."""
        why = "no order worker is there"
        count = len(self._sessions)
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                for place in range(count):
                    session = self._sessions[(first + place) % count]
                    try:
                        async with session.post(
                            f"http://worker{path}",
                            data=body,
                            headers={"Content-Type": CONTENT_TYPE},
                        ) as answer:
                            got = await answer.read()
                    except (aiohttp.ClientError, OSError) as error:
                        why = f"an order worker is away: {type(error).__name__}"
                        continue
                    if answer.status == 200:
                        return got
                    why = got.decode(errors="replace")[:200]
        except TimeoutError:
            why = "no order worker answered in time; send the same key again"
        raise Unavailable(why)
