"""One multiplexed connection to a merchant's system, kept up: sign-on, heartbeats, reconnects.

Whoever asks hears one of three things: the answer; `NotSent`, when nothing of the request was ever
written; or `LinkLost`, when it was written and the connection then broke, so that nobody knows.
There is no fourth: a request is never written twice, and never on a second connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import structlog
from msgspec import Meta

from adapters.kit.contract import Finding, NotSent
from adapters.kit.frames import (
    FRAME_BYTES_MAX,
    NONCE_BYTES,
    STREAM_WINDOW,
    VERSION,
    Answer,
    Bye,
    Challenge,
    End,
    Enough,
    FrameProtocol,
    Hello,
    Lines,
    More,
    Ping,
    Pong,
    Proof,
    Welcome,
    link_mac,
    read_from_server,
)
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    import random
    import ssl
    from collections.abc import AsyncGenerator, Callable

    from adapters.kit.context import Clock
    from adapters.kit.frames import FromServer, Request

log = structlog.get_logger()

_SKEW_US_MAX: Final = 5_000_000
_Seconds = Annotated[float, Meta(gt=0, le=600)]


class LinkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a connection is made and kept.

    Attributes:
        host: Name or address.
        port: TCP port.
        connect_seconds: Longest wait for a connection, signing on included; also how long a request
            waits for one before it counts as not sent.
        heartbeat_seconds: A ping this often; three without a byte in return end the connection.
        reconnect_first_seconds: Most that is waited before the first attempt to connect again.
        reconnect_max_seconds: The same after many.
        frame_bytes_max: Most bytes of a frame that is taken.
        in_flight_max: Most requests that wait for an answer at once.
    """

    host: Annotated[str, Meta(min_length=1, max_length=253)]
    port: Annotated[int, Meta(ge=1, le=65_535)]
    connect_seconds: _Seconds = 1.0
    heartbeat_seconds: _Seconds = 5.0
    reconnect_first_seconds: _Seconds = 0.1
    reconnect_max_seconds: _Seconds = 10.0
    frame_bytes_max: Annotated[int, Meta(ge=1024, le=64 << 20)] = FRAME_BYTES_MAX
    in_flight_max: Annotated[int, Meta(ge=1, le=65_536)] = 1024


class LinkLost(Exception):  # noqa: N818 - it says what happened, as `NotSent` does
    """The connection broke after the request was written: whether it took effect is unknown."""


class FrameLink:
    """Keeps one connection up and shares it among everybody who asks."""

    def __init__(
        self,
        settings: LinkSettings,
        *,
        merchant: str,
        key_id: str,
        secret: bytes,
        now_us: Clock,
        draw: random.Random,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare; `start` connects.

        Args:
            settings: Where to, and limits.
            merchant: Its code, for log lines.
            key_id: Names the secret.
            secret: Shared with the merchant.
            now_us: Compared with the merchant's clock when signing on.
            draw: Draws nonces and the jitter of reconnects.
            tls: For a connection inside TLS.
        """
        self.settings = settings
        self.key_id = key_id
        self.secret = secret
        self._now_us = now_us
        self._draw = draw
        self._tls = tls
        self._log = log.bind(merchant=merchant)
        self._side: _ClientSide | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._sides: dict[_ClientSide, None] = {}

    async def start(self) -> None:
        """Connect, and keep trying in the background if the merchant is not there yet."""
        self._keeper = asyncio.create_task(self._keep())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.connect_seconds):
                await self._up.wait()

    async def close(self) -> None:
        """Hang up; requests in flight end as `LinkLost`."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        sides = list(self._sides)
        for side in sides:
            side.abort()
        for side in sides:
            await side.gone

    @property
    def connected(self) -> bool:
        """Whether requests can be written now."""
        return self._side is not None

    async def ask(self, make: Callable[[int], Request]) -> Answer:
        """Send one request and wait for its answer.

        Args:
            make: Makes the request with the number that it is given.

        Raises:
            NotSent: There was no connection in time, or too many requests are in flight.
            LinkLost: The connection broke after the request was written.
        """
        side = await self._ready()
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        number = side.write(make, waiting)
        try:
            return await waiting
        finally:
            side.forget(number)

    async def stream(self, make: Callable[[int], Request]) -> AsyncGenerator[Lines | End | Answer]:
        """Send one request and give the parts of its answer as they are taken.

        At most `STREAM_WINDOW` parts are on their way, however slow the reader is. An `End` or an
        `Answer` is the last part.

        Raises:
            NotSent: As for `ask`.
            LinkLost: The connection broke before the last part.
        """
        side = await self._ready()
        parts: asyncio.Queue[Lines | End | Answer | None] = asyncio.Queue()
        number = side.write(make, parts)
        ended = False
        try:
            while not ended:
                part = await parts.get()
                if part is None:
                    raise LinkLost("the connection broke inside an answer")
                ended = not isinstance(part, Lines)
                if not ended:
                    side.send(More(id=number))
                yield part
        finally:
            side.forget(number)
            if not ended:
                side.send(Enough(id=number))

    async def _ready(self) -> _ClientSide:
        if self._side is None:
            # Not `wait_for`: before Python 3.12 it may swallow a caller's giving up.
            try:
                async with asyncio.timeout(self.settings.connect_seconds):
                    await self._up.wait()
            except TimeoutError:
                raise NotSent(Finding("there is no connection")) from None
        if self._side is None:
            raise NotSent(Finding("the connection was lost before the request was written"))
        return self._side

    async def _keep(self) -> None:
        """Connect for ever, and wait longer after every failure; chance spreads many clients out."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            stood_seconds = 0.0
            try:
                side = await self._sign_on()
            except (OSError, TimeoutError, SchemaError) as error:
                self._log.warning("link.failed", detail=str(error) or type(error).__name__)
            else:
                began = loop.time()
                self._side = side
                self._up.set()
                self._log.info("link.opened", in_flight_max=side.in_flight_max)
                detail = await asyncio.shield(side.ended)
                self._side = None
                self._up.clear()
                stood_seconds = loop.time() - began
                self._log.warning("link.lost", detail=detail, seconds=round(stood_seconds, 3))
            # A system that lets us in and hangs up at once is not there either.
            stood = stood_seconds >= self.settings.heartbeat_seconds
            failures = 1 if stood else failures + 1
            most = self.settings.reconnect_first_seconds * 2.0 ** min(failures - 1, 30)
            wait_seconds = min(most, self.settings.reconnect_max_seconds)
            await asyncio.sleep(self._draw.uniform(wait_seconds / 2, wait_seconds))

    async def _sign_on(self) -> _ClientSide:
        """Open a connection and sign on.

        Raises:
            OSError: No connection.
            TimeoutError: It took too long.
            SchemaError: The other side does not speak the protocol, or does not know the secret.
        """
        loop = asyncio.get_running_loop()
        side = _ClientSide(self, nonce=self._draw.randbytes(NONCE_BYTES))
        try:
            async with asyncio.timeout(self.settings.connect_seconds):
                await loop.create_connection(
                    lambda: side,
                    self.settings.host,
                    self.settings.port,
                    ssl=self._tls,
                )
                welcome = await side.welcomed
        except BaseException:
            side.abort()
            raise
        skew_us = welcome.clock_us - self._now_us()
        if abs(skew_us) > _SKEW_US_MAX:
            self._log.warning("link.clock_differs", skew_us=skew_us)
        side.welcome(welcome)
        return side

    def joined(self, side: _ClientSide) -> None:
        """A connection is there."""
        self._sides[side] = None

    def left(self, side: _ClientSide, detail: str) -> None:
        """A connection is gone."""
        self._sides.pop(side, None)
        if side.lost_count:
            self._log.warning("link.calls_unknown", calls=side.lost_count, detail=detail)


_Waiting = asyncio.Future[Answer] | asyncio.Queue[Lines | End | Answer | None]


class _ClientSide(FrameProtocol):
    """One connection, from its first byte to its last.

    Attributes:
        welcomed: The server's welcome, or why there is none.
        ended: No more requests can be written; holds why.
        gone: The connection is closed.
        lost_count: Requests in flight when it broke.
        in_flight_max: The smaller of both sides' limits.
    """

    def __init__(self, link: FrameLink, *, nonce: bytes) -> None:
        super().__init__(frame_bytes_max=link.settings.frame_bytes_max)
        loop = asyncio.get_running_loop()
        self._link = link
        self._nonce = nonce
        self._expected_mac = b""
        self._waiting: dict[int, _Waiting] = {}
        self._number = 0
        self._detail = "the connection was closed"
        self.lost_count = 0
        self.in_flight_max = link.settings.in_flight_max
        self.welcomed: asyncio.Future[Welcome] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()

    # --- what the link does with it ---

    def write(self, make: Callable[[int], Request], waiting: _Waiting) -> int:
        """Write one request.

        Raises:
            NotSent: It was not written.
        """
        if len(self._waiting) >= self.in_flight_max:
            raise NotSent(Finding(f"{len(self._waiting)} requests are in flight"))
        self._number += 1
        if not self.send(make(self._number)):
            raise NotSent(Finding("the connection is closing"))
        self._waiting[self._number] = waiting
        return self._number

    def forget(self, number: int) -> None:
        """Nobody waits for this answer any more; should it come, it is passed over."""
        self._waiting.pop(number, None)
        if self.ended.done() and not self._waiting and self.transport is not None:
            self.transport.close()

    def welcome(self, welcome: Welcome) -> None:
        """Take the merchant's limits, and start the heartbeats."""
        self.in_flight_max = min(self.in_flight_max, welcome.in_flight_max)
        self.keep_alive(min(self._link.settings.heartbeat_seconds, welcome.heartbeat_ms / 1000))

    # --- what the loop does with it ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._link.joined(self)
        self.send(Hello(version=VERSION, key_id=self._link.key_id, nonce=self._nonce))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        detail = self._detail if exc is None else f"{self._detail}: {type(exc).__name__}"
        waiting, self._waiting = self._waiting, {}
        for waits in waiting.values():
            if isinstance(waits, asyncio.Queue):
                waits.put_nowait(None)
                self.lost_count += 1
            elif not waits.done():
                waits.set_exception(LinkLost(detail))
                self.lost_count += 1
        if not self.welcomed.done():
            self.welcomed.set_exception(ConnectionError(detail))
            # Whoever opened the connection may have given up already.
            self.welcomed.exception()
        if not self.ended.done():
            self.ended.set_result(detail)
        self.gone.set_result(None)
        self._link.left(self, detail)

    def broken(self, detail: str) -> None:
        self._detail = detail
        if not self.welcomed.done():
            self.welcomed.set_exception(SchemaError("$", detail))
            self.welcomed.exception()
        self.abort()

    def frame_received(self, payload: bytes) -> None:
        message = read_from_server(payload)
        if not self.welcomed.done():
            self._sign_on(message)
            return
        match message:
            case Answer() | Lines() | End():
                self._answered(message)
            case Ping():
                self.send(Pong(no=message.no))
            case Pong():
                pass
            case Bye():
                if not self.ended.done():
                    self.ended.set_result("the merchant said bye")
                if not self._waiting and self.transport is not None:
                    self.transport.close()
            case Challenge() | Welcome():
                raise SchemaError("$.t", "signed on already")

    def _sign_on(self, message: FromServer) -> None:
        match message:
            case Challenge() if not self._expected_mac:
                macs = {
                    side: link_mac(
                        self._link.secret,
                        side,
                        key_id=self._link.key_id,
                        client_nonce=self._nonce,
                        server_nonce=message.nonce,
                    )
                    for side in ("client", "server")
                }
                self._expected_mac = macs["server"]
                self.send(Proof(mac=macs["client"]))
            case Welcome() if self._expected_mac:
                if not hmac.compare_digest(message.mac, self._expected_mac):
                    raise SchemaError("$.mac", "the merchant does not know the secret")
                self.welcomed.set_result(message)
            case Bye():
                raise SchemaError("$.t", "the merchant said bye")
            case _:
                raise SchemaError("$.t", f"{type(message).__name__} before signing on")

    def _answered(self, message: Answer | Lines | End) -> None:
        waits = self._waiting.get(message.id)
        if waits is None:
            # The answer to a request that was given up.
            return
        if isinstance(waits, asyncio.Queue):
            if waits.qsize() > STREAM_WINDOW:
                raise SchemaError("$.no", "more parts than were asked for")
            waits.put_nowait(message)
        elif not isinstance(message, Answer):
            raise SchemaError("$.t", "part of a statement that nobody asked for")
        elif not waits.done():
            waits.set_result(message)
