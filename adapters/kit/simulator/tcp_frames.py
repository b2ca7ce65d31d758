"""A merchant's system that speaks `tcp-frames`, on its own books and with the faults of its plan.

A connection serves many requests at once. One that is slow keeps nobody waiting, but for a frame
that trickles: frames of one connection come one after another.
"""

from __future__ import annotations

import asyncio
import hmac
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import structlog

from adapters.kit.contract import Step
from adapters.kit.frames import (
    DONE,
    NONCE_BYTES,
    NOT_FOUND,
    NOT_TAKEN,
    STREAM_WINDOW,
    VERSION,
    Answer,
    AskBalance,
    AskStatement,
    Bye,
    Challenge,
    End,
    Enough,
    FrameProtocol,
    Hello,
    Inquire,
    Line,
    Lines,
    LookUp,
    Message,
    More,
    Move,
    Ping,
    Pong,
    Proof,
    Welcome,
    frame,
    link_mac,
    read_from_client,
)
from adapters.kit.manifest import MANIFEST_FILE, settings_as
from adapters.kit.protocols.tcp_frames import Settings, reasons_of
from adapters.kit.simulator.faults import CONNECT, Fault, Occasion, Trouble
from adapters.kit.simulator.stage import Running, Stage
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from adapters.kit.folder import Folder
    from adapters.kit.frames import FromClient, Request
    from adapters.kit.simulator.ledger import Booked

log = structlog.get_logger()

_PART_LINES: Final = 100
_TRICKLES: Final = 8
_NOT_IN_MANIFEST: Final = 9_000
"""Added to a reason's number where the manifest has no result for it: such an outcome is unknown."""


@asynccontextmanager
async def serve(folder: Folder, stage: Stage) -> AsyncIterator[Running]:
    """Listen for connections until the context ends.

    Raises:
        SchemaError: The manifest's settings are malformed.
    """
    house = FrameHouse(folder, stage)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _ServerSide(house), stage.host, stage.port)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Running(
            settings={"host": stage.host, "port": port, "tls": None},
            secrets={house.settings.secret: house.secret},
            stage=stage,
        )
    finally:
        server.close()
        await house.stop()
        await server.wait_closed()


class FrameHouse:
    """What all connections of one simulated merchant share."""

    def __init__(self, folder: Folder, stage: Stage) -> None:
        """Read the settings; invent the secret if nobody has set it."""
        self.settings = settings_as(folder.manifest, Settings)
        self.stage = stage
        self.secret = stage.secret(self.settings.secret)
        self.proof = folder.manifest.sandbox.proof
        where = folder.where(MANIFEST_FILE) + ".settings.results"
        reasons = reasons_of(self.settings, where=where)
        self._results = {reason: result for result, reason in reasons.items()}
        self._results[Reason.CALL_NOT_FOUND] = NOT_FOUND
        self._sides: dict[_ServerSide, None] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}

    def joined(self, side: _ServerSide) -> None:
        """A connection came."""
        self._sides[side] = None

    def left(self, side: _ServerSide) -> None:
        """A connection went."""
        self._sides.pop(side, None)

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Do some work beside the others."""
        task = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return task

    async def stop(self) -> None:
        """Hang up everywhere; nothing is left running."""
        sides = list(self._sides)
        for side in sides:
            side.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for side in sides:
            await side.gone

    def result_of(self, reason: Reason) -> int:
        """The merchant's own result for a refusal."""
        return self._results.get(reason, _NOT_IN_MANIFEST + reason.number)

    def move(self, request: Move) -> Answer:
        """Book a step."""
        booked = self.stage.ledger.book(
            Step[request.step.upper()],
            request.reference,
            request.member,
            request.units,
            request.of,
        )
        return self._booked(request.id, booked)

    def inquire(self, request: Inquire) -> Answer:
        """Look a reference up."""
        booked = self.stage.ledger.find(request.reference)
        if booked is None:
            return Answer(id=request.id, result=NOT_FOUND)
        return self._booked(request.id, booked)

    def look_up(self, request: LookUp) -> Answer:
        """Look a member up, and check the proof if there is one."""
        reason = self.stage.ledger.member(request.member)
        if reason is None and request.proof not in (None, self.proof):
            reason = Reason.MEMBER_NOT_AUTHORISED
        if reason is not None:
            return Answer(id=request.id, result=self.result_of(reason))
        return Answer(id=request.id, result=DONE, member=request.member)

    def balance(self, request: AskBalance) -> Answer:
        """Say what a member could spend."""
        units = self.stage.ledger.available(request.member)
        if units is None:
            return Answer(id=request.id, result=self.result_of(Reason.UNKNOWN_MEMBER))
        return Answer(id=request.id, result=DONE, units=units)

    def _booked(self, number: int, booked: Booked) -> Answer:
        if booked.refused is not None:
            return Answer(id=number, result=self.result_of(booked.refused))
        # A release that found nothing to give back names no units.
        return Answer(id=number, result=DONE, number=booked.number, units=booked.moved or None)


class _ServerSide(FrameProtocol):
    """One connection of a client."""

    def __init__(self, house: FrameHouse) -> None:
        super().__init__(frame_bytes_max=house.settings.frame_bytes_max)
        self._house = house
        self._hello: Hello | None = None
        self._nonce = b""
        self._signed_on = False
        self._skew_us = 0
        self._in_flight: dict[int, asyncio.Task[None]] = {}
        self._asked: dict[int, asyncio.Semaphore] = {}
        self._behind: list[bytes] | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # --- the connection ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._house.joined(self)
        trouble = self._house.stage.plan.draw(Occasion(operation=CONNECT))
        match trouble:
            case Trouble(fault=Fault.TLS_FAILURE):
                self.abort()
            case Trouble(fault=Fault.MAINTENANCE):
                self._leave("closed for maintenance")
            case Trouble(fault=Fault.CLOCK_SKEW):
                self._skew_us = int(trouble.seconds * 1_000_000)
            case _:
                pass
        self.keep_alive(self._house.settings.heartbeat_seconds, pings=False)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for task in self._in_flight.values():
            task.cancel()
        self.gone.set_result(None)
        self._house.left(self)

    def broken(self, detail: str) -> None:
        log.warning("simulator.frame_refused", detail=detail)
        self.abort()

    def send(self, message: Message) -> bool:
        return self._write(frame(message))

    def _write(self, data: bytes) -> bool:
        if self.transport is None or self.transport.is_closing():
            return False
        if self._behind is not None:
            self._behind.append(data)
        else:
            self.transport.write(data)
        return True

    def _leave(self, detail: str) -> None:
        self.send(Bye(detail=detail))
        if self.transport is not None:
            self.transport.close()

    # --- messages ---

    def frame_received(self, payload: bytes) -> None:
        message = read_from_client(payload)
        if not self._signed_on:
            self._sign_on(message)
            return
        match message:
            case Ping():
                self.send(Pong(no=message.no))
            case Pong() | Bye():
                pass
            case More():
                if message.id in self._asked:
                    self._asked[message.id].release()
            case Enough():
                stopped = self._in_flight.pop(message.id, None)
                if stopped is not None:
                    stopped.cancel()
            case Hello() | Proof():
                raise SchemaError("$.t", "signed on already")
            case _:
                self._take(message)

    def _sign_on(self, message: FromClient) -> None:
        house = self._house
        match message:
            case Hello(version=version) if self._hello is None and version == VERSION:
                self._hello = message
                self._nonce = house.stage.random.randbytes(NONCE_BYTES)
                self.send(Challenge(nonce=self._nonce))
            case Proof() if self._hello is not None:
                knows = hmac.compare_digest(message.mac, self._mac("client"))
                if self._hello.key_id != house.settings.key_id or not knows:
                    self._leave("the proof does not hold")
                    return
                self._signed_on = True
                self.send(
                    Welcome(
                        mac=self._mac("server"),
                        heartbeat_ms=max(10, int(house.settings.heartbeat_seconds * 1000)),
                        in_flight_max=house.settings.in_flight_max,
                        clock_us=house.stage.now_us() + self._skew_us,
                    )
                )
                self.keep_alive(house.settings.heartbeat_seconds)
            case _:
                raise SchemaError("$.t", f"{type(message).__name__} before signing on")

    def _mac(self, side: str) -> bytes:
        hello = self._hello
        if hello is None:
            raise AssertionError("nobody has said hello")
        return link_mac(
            self._house.secret,
            "client" if side == "client" else "server",
            key_id=hello.key_id,
            client_nonce=hello.nonce,
            server_nonce=self._nonce,
        )

    # --- requests ---

    def _take(self, request: Request) -> None:
        if request.id in self._in_flight:
            raise SchemaError("$.id", "this number is in flight already")
        if len(self._in_flight) >= self._house.settings.in_flight_max:
            self.send(Answer(id=request.id, result=NOT_TAKEN, detail="too many are in flight"))
            return
        task = self._house.spawn(self._answer(request))
        self._in_flight[request.id] = task
        task.add_done_callback(lambda _: self._in_flight.pop(request.id, None))

    async def _answer(self, request: Request) -> None:
        trouble = self._house.stage.plan.draw(_occasion(request))
        fault = trouble.fault if trouble else None
        seconds = trouble.seconds if trouble else 0.0
        if fault is Fault.TIMEOUT_BEFORE:
            return
        if fault is Fault.MAINTENANCE:
            self.send(Answer(id=request.id, result=NOT_TAKEN, detail="closed for maintenance"))
            return
        if isinstance(request, AskStatement):
            await self._statement(request, fault, seconds)
            return
        answer = self._done(request)
        if fault is Fault.FORGET and isinstance(request, Move):
            self._house.stage.ledger.forget(request.reference)
        if fault is Fault.WRONG_AMOUNT and answer.units is not None:
            answer = Answer(
                id=answer.id,
                result=answer.result,
                number=answer.number,
                units=answer.units + 1,
                member=answer.member,
            )
        if fault is Fault.LATENCY:
            await asyncio.sleep(seconds)
        await self._say(answer, fault, seconds)

    def _done(self, request: Request) -> Answer:
        house = self._house
        match request:
            case Move():
                return house.move(request)
            case Inquire():
                return house.inquire(request)
            case LookUp():
                return house.look_up(request)
            case AskBalance():
                return house.balance(request)
            case AskStatement():
                raise AssertionError("a statement is no single answer")

    async def _say(self, message: Message, fault: Fault | None, seconds: float) -> None:
        """Send one message, spoilt as the plan says."""
        whole = frame(message)
        match fault:
            case Fault.TIMEOUT_AFTER:
                pass
            case Fault.CUT:
                self._write(whole[: len(whole) // 2])
                if self.transport is not None:
                    self.transport.close()
            case Fault.GARBAGE:
                self._write(self._house.stage.random.randbytes(len(whole)))
            case Fault.TRUNCATED:
                payload = whole[4:-3]
                self._write(len(payload).to_bytes(4, "big") + payload)
            case Fault.SLOW_BODY:
                await self._trickle(whole, seconds)
            case Fault.REPEAT_CALLBACK:
                self._write(whole + whole)
            case _:
                self._write(whole)

    async def _trickle(self, data: bytes, seconds: float) -> None:
        """Send a frame in small pieces; others wait behind it, as one connection makes them."""
        if self._behind is not None:
            # Something trickles already.
            self._behind.append(data)
            return
        self._behind = []
        size = -(-len(data) // _TRICKLES)
        try:
            for start in range(0, len(data), size):
                if self.transport is not None:
                    self.transport.write(data[start : start + size])
                await asyncio.sleep(seconds / _TRICKLES)
        finally:
            behind, self._behind = self._behind, None
            for later in behind:
                self._write(later)

    async def _statement(self, request: AskStatement, fault: Fault | None, seconds: float) -> None:
        """Stream a day, never more than the window ahead of the reader."""
        skew_us = int(seconds * 1_000_000) if fault is Fault.CLOCK_SKEW else 0
        booked = self._house.stage.ledger.day(request.day)
        lines = [_line(entry, skew_us) for entry in booked]
        end = End(id=request.id, count=len(lines), units=sum(line.units for line in lines))
        if fault is Fault.TRUNCATED:
            lines = lines[:-1]
        if fault is Fault.WRONG_AMOUNT and lines:
            lines[0] = _with_one_more(lines[0])
        if fault is Fault.LATENCY:
            await asyncio.sleep(seconds)
        window = self._asked[request.id] = asyncio.Semaphore(STREAM_WINDOW)
        try:
            for no, start in enumerate(range(0, len(lines), _PART_LINES)):
                await window.acquire()
                part = Lines(id=request.id, no=no, lines=lines[start : start + _PART_LINES])
                self.send(part)
            if fault in (Fault.TRUNCATED, Fault.WRONG_AMOUNT):
                fault = None
            await self._say(end, fault, seconds)
        finally:
            del self._asked[request.id]


def _occasion(request: Request) -> Occasion:
    match request:
        case Move():
            return Occasion(
                operation=request.step,
                step=Step[request.step.upper()],
                reference=request.reference,
            )
        case Inquire():
            return Occasion(operation="status", reference=request.reference)
        case LookUp():
            return Occasion(operation="look_up" if request.proof is None else "authenticate")
        case AskBalance():
            return Occasion(operation="balance")
        case AskStatement():
            return Occasion(operation="statement")


def _line(entry: Booked, skew_us: int) -> Line:
    return Line(
        reference=entry.reference,
        step=entry.step.name.lower(),  # type: ignore[arg-type] # the steps' names are these words
        member=entry.member,
        units=entry.moved,
        at_us=entry.at_us + skew_us,
        number=entry.number,
    )


def _with_one_more(line: Line) -> Line:
    return Line(line.reference, line.step, line.member, line.units + 1, line.at_us, line.number)
