"""The way from a gateway to the order workers: HTTP over Unix sockets, and for orders one WebSocket to each.

Many orders share a WebSocket (RFC 6455), since a request of its own costs an order more than all else that it
needs of this way. A message is msgpack: `[number, order]` there, `[number, why, entry]` back, in any order;
`why` is empty unless nothing can be said now. A worker that is gone is passed over: what it had begun, the next
one finds under the order's key.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

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
_ANSWER_BYTES: Final = 64 * 1024
_US: Final = 1_000_000
AnswerT = TypeVar("AnswerT")


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


class OrderMessage(msgspec.Struct, frozen=True, array_like=True):
    """An order on a WebSocket: a number that no other message of this WebSocket has, and the `OrderWish`."""

    number: int
    wish: msgspec.Raw


class OrderAnswer(msgspec.Struct, frozen=True, array_like=True):
    """The answer to the message of a number.

    Attributes:
        number: The message's.
        why: Why nothing can be said now; empty where `entry` is given.
        entry: How the order ends; see `Journeys.order`.
    """

    number: int
    why: str
    entry: Entry | None


ENCODER: Final = msgspec.msgpack.Encoder()
ANSWER_DECODER: Final = msgspec.msgpack.Decoder(OrderAnswer)
FOUND_DECODER: Final = msgspec.msgpack.Decoder(FoundAnswer)


class _Gone(Exception):  # noqa: N818 - it says what happened to the worker
    """A worker's connection is lost, or was never made."""


class _Worker:
    """One order worker, as it is reached on its socket."""

    def __init__(self, path: Path) -> None:
        """Prepare to connect, which is done when it is needed."""
        self.http = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(path), limit=0), base_url="http://worker"
        )
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._connecting = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[OrderAnswer]] = {}
        self._number = 0

    async def close(self) -> None:
        """Hang up; who waits hears that the worker is gone."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self.http.close()

    async def order(self, wish: bytes) -> OrderAnswer:
        """Send an encoded order and wait for its answer.

        Raises:
            _Gone: There is none, or none any more.
        """
        try:
            socket = self._socket or await self._connected()
            self._number += 1
            number = self._number
            answer: asyncio.Future[OrderAnswer] = asyncio.get_running_loop().create_future()
            self._waiting[number] = answer
            try:
                await socket.send_bytes(ENCODER.encode(OrderMessage(number, msgspec.Raw(wish))))
                return await answer
            finally:
                del self._waiting[number]
        except (aiohttp.ClientError, OSError) as error:
            raise _Gone(f"an order worker is away: {type(error).__name__}") from error

    async def _connected(self) -> aiohttp.ClientWebSocketResponse:
        async with self._connecting:
            if self._socket is None:
                self._socket = await self.http.ws_connect(ORDERS_PATH, max_msg_size=_ANSWER_BYTES)
                self._reader = asyncio.create_task(self._read(self._socket), name="order answers")
            return self._socket

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Hand answers to those who wait, until the connection ends."""
        try:
            async for message in socket:
                answer = ANSWER_DECODER.decode(message.data)
                waiting = self._waiting.get(answer.number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
        finally:
            self._socket = None
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(_Gone("an order worker went away"))
            await socket.close()


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
        self._workers: list[_Worker] = []

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Keep connections for the block."""
        self._workers = [_Worker(path) for path in self._sockets]
        try:
            yield
        finally:
            workers, self._workers = self._workers, []
            await asyncio.gather(*(worker.close() for worker in workers))

    async def order(self, wanted: Wanted) -> Entry:
        """Have an order driven; see `Journeys.order`. The worker that the key names is asked first.

        Raises:
            Unavailable: No worker answers, or none can say now how it ends; the same key asks again.
        """
        wish = ENCODER.encode(
            OrderWish(
                wanted.order,
                wanted.issuer_member,
                wanted.acceptor_member,
                wanted.decide_by_us,
                wanted.at_us,
                wanted.fault,
                wanted.waits,
            )
        )
        left_seconds = (wanted.decide_by_us - self._now_us()) / _US + GRACE_SECONDS

        async def ask(worker: _Worker) -> Entry:
            answer = await worker.order(wish)
            if answer.entry is None:
                raise _Gone(answer.why)
            return answer.entry

        return await self._ask_one(ask, wanted.order.key[-1], left_seconds)

    async def authenticate(self, *, merchant_no: int, member: str, proof: str) -> Found:
        """Have a member authenticated at a merchant's own system.

        Raises:
            Unavailable: No worker answers, or the merchant's system takes no calls now.
        """
        body = ENCODER.encode(ProofWish(merchant_no, member, proof))

        async def ask(worker: _Worker) -> Found:
            try:
                async with worker.http.post(
                    AUTHENTICATE_PATH, data=body, headers={"Content-Type": CONTENT_TYPE}
                ) as response:
                    got = await response.read()
            except (aiohttp.ClientError, OSError) as error:
                raise _Gone(f"an order worker is away: {type(error).__name__}") from error
            if response.status != 200:
                raise _Gone(got.decode(errors="replace")[:200])
            answer = FOUND_DECODER.decode(got)
            return Found(
                outcome=answer.outcome,
                reason=REASON_BY_NUMBER.get(answer.reason),
                member=answer.member,
            )

        return await self._ask_one(ask, 0, AUTHENTICATE_SECONDS)

    async def _ask_one(
        self, ask: Callable[[_Worker], Awaitable[AnswerT]], first: int, seconds: float
    ) -> AnswerT:
        """Ask one worker after the other, until one has an answer.

        Args:
            ask: Asks one; raises `_Gone` if it has none.
            first: Which to begin with, counted round.
            seconds: Longest that it may take.

        Raises:
            Unavailable: None has.
        """
        why = "no order worker is there"
        count = len(self._workers)
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                for place in range(count):
                    try:
                        return await ask(self._workers[(first + place) % count])
                    except _Gone as gone:
                        why = str(gone)
        except TimeoutError:
            why = "no order worker answered in time; send the same key again"
        raise Unavailable(why)
