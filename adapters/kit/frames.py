"""Frames of msgpack over one connection: what a till's concentrator and the exchange say to each other.

A frame is an int32 length in network byte order and that many bytes of msgpack: one map, whose key
`t` names the message. Either side may ping the other at any time and hears a pong. Every request
has a number that is new on its connection; answers carry it, in any order. A number means nothing
on the next connection: what was in flight when a connection is lost is asked about by its reference.

Signing on proves on both sides that the other knows the shared secret, without telling it:

    client                          server
    hello(key_id, nonce)     ->
                             <-     challenge(nonce)
    proof(mac)               ->
                             <-     welcome(mac, limits, clock)

Both MACs are HMAC-SHA-256 (RFC 2104) over a label for the direction, the key id and both nonces, so
that neither can be used again on another connection or sent back to where it came from.
"""

from __future__ import annotations

import asyncio
import hmac
import struct
from abc import ABC, abstractmethod
from datetime import date  # noqa: TC003 - msgspec reads the annotations
from typing import Annotated, Final, Literal, cast

import msgspec
from msgspec import Meta

from schemas.values.faults import SchemaError

VERSION: Final = 1
FRAME_BYTES_MAX: Final = 1 << 20
"""Most bytes of a frame, where the settings name no other limit."""
NONCE_BYTES: Final = 32
SILENT_BEATS: Final = 3
"""Heartbeats without a byte from the other side after which it counts as gone."""
STREAM_WINDOW: Final = 8
"""Frames of a statement that may be on their way before the reader asks for more."""

DONE: Final = 0
IN_PROGRESS: Final = 1
NOT_FOUND: Final = 2
NOT_TAKEN: Final = 3
"""Results with a fixed meaning; every other result is a merchant's own, and its manifest maps it."""

_LENGTH: Final = struct.Struct(">I")
_UNITS_LIMIT: Final = 2**62

_Id = Annotated[int, Meta(ge=1, lt=2**32)]
_Nonce = Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
_Mac = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Units = Annotated[int, Meta(ge=0, lt=_UNITS_LIMIT)]
_Moved = Annotated[int, Meta(gt=0, lt=_UNITS_LIMIT)]
_Short = Annotated[str, Meta(max_length=64)]
_Text = Annotated[str, Meta(max_length=256)]
_InstantUs = Annotated[int, Meta(ge=0, lt=_UNITS_LIMIT)]
StepName = Literal["hold", "capture", "release", "credit", "reverse_credit"]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="t"):
    """What every message has: its name in the key `t`. Keys that are not known are passed over."""


class Hello(Message, frozen=True, kw_only=True, tag="hello"):
    """The client opens and says which secret it will prove."""

    version: int
    key_id: _Short
    nonce: _Nonce


class Challenge(Message, frozen=True, kw_only=True, tag="challenge"):
    """The server's half of what is to be signed."""

    nonce: _Nonce


class Proof(Message, frozen=True, kw_only=True, tag="proof"):
    """The client knows the secret."""

    mac: _Mac


class Welcome(Message, frozen=True, kw_only=True, tag="welcome"):
    """The server knows it too, and says what it takes.

    Attributes:
        mac: See `link_mac`.
        heartbeat_ms: The server hangs up after hearing nothing for three times as long.
        in_flight_max: Most requests that may wait for an answer on this connection.
        clock_us: The server's clock, microseconds since 1970 UTC.
    """

    mac: _Mac
    heartbeat_ms: Annotated[int, Meta(ge=10, le=600_000)]
    in_flight_max: Annotated[int, Meta(ge=1, le=65_536)]
    clock_us: _InstantUs


class Ping(Message, frozen=True, kw_only=True, tag="ping"):
    """Are you there?"""

    no: int


class Pong(Message, frozen=True, kw_only=True, tag="pong"):
    """I am; the number is the ping's."""

    no: int


class Bye(Message, frozen=True, kw_only=True, tag="bye"):
    """No more requests on this connection, please; those in flight are still answered."""

    detail: _Text = ""


class Move(Message, frozen=True, kw_only=True, tag="move"):
    """Do one step of one order; fields as in `adapters.kit.contract.Call`."""

    id: _Id
    step: StepName
    reference: _Short
    member: _Short
    units: _Moved
    of: _Short = ""
    of_number: _Short = ""
    at_us: _InstantUs = 0


class Inquire(Message, frozen=True, kw_only=True, tag="inquire"):
    """What became of a reference?"""

    id: _Id
    reference: _Short


class LookUp(Message, frozen=True, kw_only=True, tag="look_up"):
    """Is there such a member? With a proof: and is it really this member?"""

    id: _Id
    member: _Short
    proof: _Text | None = None


class AskBalance(Message, frozen=True, kw_only=True, tag="balance"):
    """How many units could the member spend?"""

    id: _Id
    member: _Short


class AskStatement(Message, frozen=True, kw_only=True, tag="statement"):
    """Everything booked on one day of the merchant's calendar, written `2026-03-02`."""

    id: _Id
    day: date


class More(Message, frozen=True, kw_only=True, tag="more"):
    """One more frame of the statement may be sent."""

    id: _Id


class Enough(Message, frozen=True, kw_only=True, tag="enough"):
    """No more of the statement, please."""

    id: _Id


class Answer(Message, frozen=True, kw_only=True, tag="answer"):
    """How a request ended.

    Attributes:
        id: The request's.
        result: `DONE`, `IN_PROGRESS`, `NOT_FOUND`, `NOT_TAKEN` (nothing was done, and the same may
            be asked again), or a number of the merchant's own.
        number: The merchant's number for what was done.
        units: Smallest units moved, or the balance.
        member: The member's id as the merchant spells it.
        detail: For people.
    """

    id: _Id
    result: Annotated[int, Meta(ge=0, lt=10_000)]
    number: _Short = ""
    units: _Units | None = None
    member: _Short = ""
    detail: _Text = ""


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One movement of a statement, as an array."""

    reference: _Short
    step: StepName
    member: _Short
    units: _Moved
    at_us: _InstantUs
    number: _Short = ""


class Lines(Message, frozen=True, kw_only=True, tag="lines"):
    """Part of a statement; parts are numbered from 0."""

    id: _Id
    no: Annotated[int, Meta(ge=0)]
    lines: list[Line]


class End(Message, frozen=True, kw_only=True, tag="end"):
    """The statement is whole: so many lines, so many units."""

    id: _Id
    count: Annotated[int, Meta(ge=0)]
    units: _Units


Request = Move | Inquire | LookUp | AskBalance | AskStatement
FromClient = Hello | Proof | Ping | Pong | Bye | Request | More | Enough
FromServer = Challenge | Welcome | Ping | Pong | Bye | Answer | Lines | End

_encoder: Final = msgspec.msgpack.Encoder()
_from_client: Final[msgspec.msgpack.Decoder[FromClient]] = msgspec.msgpack.Decoder(FromClient)
_from_server: Final[msgspec.msgpack.Decoder[FromServer]] = msgspec.msgpack.Decoder(FromServer)
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError)


def frame(message: Message) -> bytes:
    """Write one message as a frame."""
    payload = _encoder.encode(message)
    return _LENGTH.pack(len(payload)) + payload


def read_from_client(payload: bytes) -> FromClient:
    """Read what a client sent.

    Raises:
        SchemaError: It is not a message, or not one that a client sends.
    """
    try:
        return _from_client.decode(payload)
    except _UNREADABLE as error:
        raise SchemaError("$", str(error)) from error


def read_from_server(payload: bytes) -> FromServer:
    """Read what a server sent.

    Raises:
        SchemaError: It is not a message, or not one that a server sends.
    """
    try:
        return _from_server.decode(payload)
    except _UNREADABLE as error:
        raise SchemaError("$", str(error)) from error


def link_mac(
    secret: bytes,
    side: Literal["client", "server"],
    *,
    key_id: str,
    client_nonce: bytes,
    server_nonce: bytes,
) -> bytes:
    """What one side sends to prove that it knows the secret: HMAC-SHA-256, 32 bytes."""
    what = b"\0".join((b"tongdui-frames/1", side.encode(), key_id.encode()))
    return hmac.digest(secret, what + b"\0" + client_nonce + server_nonce, "sha256")


class FrameProtocol(asyncio.Protocol, ABC):
    """Cuts a connection's bytes into frames, and hangs up on silence and on what cannot be a frame.

    Attributes:
        transport: Set while there is a connection.
    """

    def __init__(self, *, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.transport: asyncio.Transport | None = None
        self._heard = True
        self._beats: asyncio.TimerHandle | None = None
        self._frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        # uvloop's transports are Transports in all but their base class.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Stop the heartbeats."""
        if self._beats is not None:
            self._beats.cancel()

    def data_received(self, data: bytes) -> None:
        """Cut off the frames that are whole now."""
        self._heard = True
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH.size and self.open:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if not 0 < length <= self._frame_bytes_max:
                self.broken(f"a frame of {length} bytes")
                return
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            payload = bytes(buffer[start + _LENGTH.size : end])
            start = end
            try:
                self.frame_received(payload)
            except SchemaError as error:
                self.broken(str(error))
                return
        del buffer[:start]

    @property
    def open(self) -> bool:
        """Whether something can still be sent."""
        return self.transport is not None and not self.transport.is_closing()

    def keep_alive(self, seconds: float, *, pings: bool = True) -> None:
        """Ping this often, and hang up after `SILENT_BEATS` in a row without a byte in return.

        Beats are counted and not seconds, so that a machine that stood still for a while hangs up on
        nobody.

        Args:
            seconds: Between two beats.
            pings: False to listen only.
        """
        if self._beats is not None:
            self._beats.cancel()
        self._heard = True
        self._beat(seconds, 0, 0, pings)

    def _beat(self, seconds: float, no: int, silent: int, pings: bool) -> None:  # noqa: FBT001 - a timer's argument
        if not self.open:
            return
        silent = 0 if self._heard else silent + 1
        self._heard = False
        if silent >= SILENT_BEATS:
            self.broken("nothing was heard")
            return
        if pings:
            self.send(Ping(no=no))
        loop = asyncio.get_running_loop()
        self._beats = loop.call_later(seconds, self._beat, seconds, no + 1, silent, pings)

    def send(self, message: Message) -> bool:
        """Send one message; False if the connection is closing, and then nothing of it was sent."""
        if self.transport is None or self.transport.is_closing():
            return False
        self.transport.write(frame(message))
        return True

    def abort(self) -> None:
        """Hang up at once, dropping what is not sent yet."""
        if self.transport is not None:
            self.transport.abort()

    @abstractmethod
    def frame_received(self, payload: bytes) -> None:
        """Take one whole frame, without its length.

        Raises:
            SchemaError: It is no message that may come now.
        """

    @abstractmethod
    def broken(self, detail: str) -> None:
        """Nothing came for long, or what may not come: report it and hang up."""
