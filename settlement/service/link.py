"""The socket between gateways and the writer: many commands to a frame, many frames in flight.

A frame is an int32 length in network byte order and that many bytes of msgpack. Requests are
`[frame_no, [command, …]]`, answers `[frame_no, error, [[entry, …], …]]`; `error` is an empty text
unless the commands were turned away as unavailable. In the place of its commands a frame may hold the
columns of one large request, and then its answer has columns too; or signatures that are to be used,
and then it has their verdicts. A connection that is lost says nothing about the frames in flight, so
the client sends them again to the next writer: commands carry keys, and take effect once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
import structlog

from schemas.values.faults import Unavailable
from settlement.core.columns import EntryColumns, OrderColumns
from settlement.core.command import Answer, Command
from settlement.core.nonces import KeysChanged, NonceClaims, NonceVerdicts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from settlement.service.clearing import Clearing
    from settlement.service.nonces import LocalNonces

log = structlog.get_logger()

FRAME_BYTES_MAX = 64 * 1024 * 1024
FRAME_COMMANDS_MAX = 2_000
_LENGTH = struct.Struct(">I")
T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()


class _Frames(asyncio.Protocol, ABC):
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are Transports in all but their base class.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=FRAME_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > FRAME_BYTES_MAX:
                log.error("link.frame_refused", bytes=length)
                if self.transport:
                    self.transport.abort()
                return
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            self.frame_received(bytes(buffer[start + _LENGTH.size : end]))
            start = end
        del buffer[:start]

    def send_frame(self, payload: bytes) -> None:
        if self.transport and not self.transport.is_closing():
            self.transport.write(_LENGTH.pack(len(payload)) + payload)

    @abstractmethod
    def frame_received(self, payload: bytes) -> None:
        """Take one whole frame, without its length."""


# The writer's side ---------------------------------------------------------------------------------


class _WriterSide(_Frames):
    def __init__(self, server: LinkServer) -> None:
        super().__init__()
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._server.connections.discard(self)

    def frame_received(self, payload: bytes) -> None:
        self._server.handle(self, payload)


class LinkServer:
    """Serves a writer to gateways on a Unix socket."""

    def __init__(
        self,
        clearing: Clearing,
        path: Path,
        command_type: object,
        nonces: LocalNonces | None = None,
    ) -> None:
        """Prepare; `start` listens.

        Args:
            clearing: The writer.
            path: The socket; whatever socket lies there is replaced.
            command_type: Union of the command structs that frames may hold.
            nonces: What the writer remembers of signatures; None where no gateway takes signed requests.
        """
        self._clearing = clearing
        self._path = path
        self._decoder = msgspec.msgpack.Decoder(
            tuple[int, list[command_type] | OrderColumns | NonceClaims | KeysChanged]  # type: ignore[valid-type] # a union given at run time
        )
        self._nonces = nonces
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: set[_WriterSide] = set()

    async def start(self) -> None:
        """Listen; only this user may connect.

        The socket is bound beside its place and moved there, so that a gateway finds either the old
        writer's socket or this one's.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self.accept, path=str(fresh))
        fresh.chmod(0o600)
        fresh.replace(self._path)

    def accept(self) -> asyncio.Protocol:
        """Make what speaks to one gateway, for whoever listens by other means than `start`."""
        return _WriterSide(self)

    def handle(self, connection: _WriterSide, payload: bytes) -> None:
        """Submit one frame's commands, in the order in which frames arrive."""
        try:
            frame_no, commands = self._decoder.decode(payload)
            if isinstance(commands, (OrderColumns, NonceClaims)):
                commands.check()
        except (msgspec.MsgspecError, ValueError) as error:
            log.warning("link.frame_refused", detail=str(error))
            if connection.transport:
                connection.transport.abort()
            return
        if isinstance(commands, (NonceClaims, KeysChanged)):
            connection.send_frame(_encoder.encode((frame_no, *self._judge(commands))))
            return
        # A task runs first when the loop next turns, and tasks keep their order: so do the frames.
        task = asyncio.create_task(self._answer(connection, frame_no, commands))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _judge(self, asked: NonceClaims | KeysChanged) -> tuple[str, NonceVerdicts | list[Answer]]:
        """Error and verdicts of a frame about signatures."""
        if self._nonces is None:
            return "no signatures are taken here", []
        if isinstance(asked, NonceClaims):
            return "", self._nonces.claim_now(asked)
        return "", self._nonces.raise_version()

    async def _answer(
        self, connection: _WriterSide, frame_no: int, commands: Sequence[Command] | OrderColumns
    ) -> None:
        answers: list[Answer] | EntryColumns
        try:
            if isinstance(commands, OrderColumns):
                answers, error = await self._clearing.submit_columns(commands), ""
            else:
                answers, error = await self._clearing.submit(commands), ""
        except Unavailable as unavailable:
            answers, error = [], str(unavailable) or "unavailable"
        except Exception as fault:
            log.exception("link.frame_failed")
            answers, error = [], f"the writer failed: {type(fault).__name__}"
        connection.send_frame(_encoder.encode((frame_no, error, answers)))

    async def stop(self) -> None:
        """Accept no new connections, answer what was taken, and hang up."""
        if self._server:
            self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=30)
        for connection in list(self.connections):
            if connection.transport:
                connection.transport.close()


# The gateways' side ----------------------------------------------------------------------------------


class _Frame:
    """Commands on their way, and who waits for them."""

    __slots__ = ("count", "payload", "waiters")

    def __init__(
        self, payload: bytes, count: int, waiters: list[tuple[asyncio.Future[Any], int]]
    ) -> None:
        self.payload = payload
        self.count = count
        self.waiters = waiters


class _GatewaySide(_Frames):
    def __init__(self, remote: RemoteClearing) -> None:
        super().__init__()
        self._remote = remote

    def frame_received(self, payload: bytes) -> None:
        self._remote.answered(payload)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._remote.lost(self)


class RemoteClearing:
    """A `Clearing` whose writer is another process."""

    def __init__(
        self, path: Path, *, timeout_seconds: float = 10.0, commands_max: int = 100_000
    ) -> None:
        """Prepare; `start` connects.

        Args:
            path: The writer's socket.
            timeout_seconds: How long a caller waits before it hears that the writer is away.
            commands_max: Most commands in flight from here; more are turned away as unavailable.
        """
        self._path = path
        self._timeout_seconds = timeout_seconds
        self._commands_max = commands_max
        self._frames: dict[int, _Frame] = {}
        self._frame_no = 0
        self._count = 0
        self._gathered: list[tuple[Sequence[Command], asyncio.Future[list[Answer]]]] = []
        self._gathered_count = 0
        self._protocol: _GatewaySide | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._decoder = msgspec.msgpack.Decoder(
            tuple[int, str, list[Answer] | EntryColumns | NonceVerdicts]
        )
        self._stopped = False
        self._heard_at = 0.0

    async def start(self, *, wait_seconds: float = 10.0) -> None:
        """Connect, and keep trying in the background if the writer is not there yet."""
        self._connecting = asyncio.create_task(self._connect())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds):
                await asyncio.shield(self._connecting)

    @property
    def connected(self) -> bool:
        """Whether a writer is at the other end now."""
        return self._protocol is not None

    async def submit(self, commands: Sequence[Command]) -> list[Answer]:
        """Have commands decided by the writer; see `Clearing.submit`."""
        if not commands:
            return []
        self._admit(len(commands))
        future: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._send_gathered)
        self._gathered.append((commands, future))
        return await self._answer(future, len(commands))

    async def submit_columns(self, orders: OrderColumns) -> EntryColumns:
        """Have the orders of one large request decided; see `Clearing.submit_columns`."""
        self._admit(len(orders))
        future: asyncio.Future[EntryColumns] = asyncio.get_running_loop().create_future()
        self._send(orders, [(future, len(orders))])
        return await self._answer(future, len(orders))

    async def claim(self, claims: NonceClaims) -> NonceVerdicts:
        """Use signatures; see `Nonces.claim`."""
        return await self._ask(claims, len(claims.created))

    async def keys_changed(self) -> None:
        """Tell every gateway that keys were revoked; see `Nonces.keys_changed`."""
        await self._ask(KeysChanged(), 1)

    async def _ask(self, asked: NonceClaims | KeysChanged, count: int) -> NonceVerdicts:
        """Send a frame of its own that is answered with verdicts."""
        self._admit(count)
        future: asyncio.Future[NonceVerdicts] = asyncio.get_running_loop().create_future()
        self._send(asked, [(future, count)])
        return await self._answer(future, count)

    def _admit(self, count: int) -> None:
        """Let so many commands in.

        Raises:
            Unavailable: This gateway is stopping, or too many are in flight.
        """
        if self._stopped:
            raise Unavailable("this gateway is stopping")
        if self._count and self._count + count > self._commands_max:
            raise Unavailable("too many commands are in flight")

    async def _answer(self, future: asyncio.Future[T], count: int) -> T:
        """Wait for the answer to so many commands that were let in."""
        self._count += count
        timer = asyncio.get_running_loop().call_later(self._timeout_seconds, self._give_up, future)
        try:
            return await future
        finally:
            timer.cancel()
            self._count -= count

    async def stop(self) -> None:
        """Send nothing more and hang up."""
        self._stopped = True
        if self._connecting:
            self._connecting.cancel()
        if self._protocol and self._protocol.transport:
            self._protocol.transport.close()

    def _send_gathered(self) -> None:
        """Send everything that callers gave since the loop last turned, a few frames at most."""
        gathered, self._gathered = self._gathered, []
        commands: list[Command] = []
        waiters: list[tuple[asyncio.Future[Any], int]] = []
        for given, future in gathered:
            if commands and len(commands) + len(given) > FRAME_COMMANDS_MAX:
                self._send(commands, waiters)
                commands, waiters = [], []
            commands.extend(given)
            waiters.append((future, len(given)))
        self._send(commands, waiters)

    def _send(
        self,
        commands: list[Command] | OrderColumns | NonceClaims | KeysChanged,
        waiters: list[tuple[asyncio.Future[Any], int]],
    ) -> None:
        self._frame_no += 1
        count = sum(each for _, each in waiters)
        frame = _Frame(_encoder.encode((self._frame_no, commands)), count, waiters)
        self._frames[self._frame_no] = frame
        if self._protocol:
            self._protocol.send_frame(frame.payload)

    def answered(self, payload: bytes) -> None:
        """Hand one answered frame to those who wait."""
        self._heard_at = asyncio.get_running_loop().time()
        frame_no, error, answers = self._decoder.decode(payload)
        frame = self._frames.pop(frame_no, None)
        if frame is None:
            return
        start = 0
        for future, count in frame.waiters:
            if not future.done():
                if error:
                    future.set_exception(Unavailable(error))
                elif isinstance(answers, (EntryColumns, NonceVerdicts)):
                    future.set_result(answers)
                else:
                    future.set_result(answers[start : start + count])
            start += count

    def lost(self, protocol: _GatewaySide) -> None:
        """The writer hung up: find the next one."""
        if protocol is not self._protocol:
            return
        self._protocol = None
        if not self._stopped:
            log.warning("link.lost", frames_in_flight=len(self._frames))
            self._connecting = asyncio.create_task(self._connect())

    async def _connect(self, *, first_wait_seconds: float = 0.0) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(first_wait_seconds)
        delay_seconds = max(0.02, first_wait_seconds)
        while True:
            try:
                _, protocol = await loop.create_unix_connection(
                    lambda: _GatewaySide(self), path=str(self._path)
                )
            except OSError:
                await asyncio.sleep(delay_seconds)
                delay_seconds = min(0.5, delay_seconds * 2)
                continue
            break
        # Frames whose callers have all gone are dropped; whether they took effect, a repeat will tell.
        self._frames = {
            frame_no: frame
            for frame_no, frame in self._frames.items()
            if any(not future.done() for future, _ in frame.waiters)
        }
        for frame in self._frames.values():
            protocol.send_frame(frame.payload)
        if protocol.transport is None or protocol.transport.is_closing():
            self._connecting = asyncio.create_task(self._connect(first_wait_seconds=delay_seconds))
            return
        self._protocol = protocol
        self._heard_at = loop.time()

    def _give_up(self, future: asyncio.Future[Any]) -> None:
        """Tell a caller that the writer is away, and look for another if nothing was heard at all."""
        if not future.done():
            future.set_exception(
                Unavailable("the writer did not answer in time; send the same key again")
            )
        silent_seconds = asyncio.get_running_loop().time() - self._heard_at
        if self._protocol and self._protocol.transport and silent_seconds >= self._timeout_seconds:
            # A frozen writer keeps its connections; the socket's place may be another's by now.
            self._protocol.transport.abort()
