"""The fast lane: single orders and their ends, many connections at a time.

For one order the general way (a request object, a route look-up, a task, a future, a response object)
costs several times what deciding it does. So each connection begins in a lane: while it sends nothing
but plain single orders (see `exchange.gateway.plain`), everything that arrived on all connections since
the loop last turned is priced together, sent to the writer as one batch and answered together. The first
request of any other kind moves its connection to aiohttp for good, with all that was not answered yet.

Answers are the same bytes in both ways but for the order of headers; `tests/gateway` asks both.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from email.utils import formatdate
from http import HTTPStatus
from time import perf_counter, time
from typing import TYPE_CHECKING, Final, cast

from exchange.gateway import problems
from exchange.gateway.formats import (
    JSON,
    RECORD_TYPES,
    answer_format,
    check_acceptable,
    choose,
    format_of,
)
from exchange.gateway.gate import BODY_BYTES_MAX, BODY_SECONDS
from exchange.gateway.handlers import ORDER, check_key
from exchange.gateway.plain import HEAD_BYTES_MAX, Part, Plain, read_plain
from exchange.gateway.render import entry_order_id, order_answer
from exchange.service.orders import Ending, Wish
from exchange.service.signatures import SignatureRefused
from exchange.signing.answer import sign_answer
from exchange.signing.digest import content_digest
from schemas.values.reason import REASON_BY_NUMBER
from settlement.core.event import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from exchange.gateway.gate import Gate
    from exchange.service.access import Forbidden, Principal
    from exchange.service.signatures import Verified
    from schemas.values.faults import SchemaError
    from schemas.wire.problems import Problem
    from settlement.core.command import Entry

    _Caller = tuple[Principal, Verified | None]

IDLE_SECONDS: Final = 75.0
SWEEP_SECONDS: Final = 5.0
_PIPELINED_BYTES_MAX: Final = HEAD_BYTES_MAX + BODY_BYTES_MAX
_STATUS_LINES: Final = {
    int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_POLICY: Final = "orders"
_ENDS: Final = {"clear": Kind.CLEARED, "void": Kind.VOIDED}


class Lane(asyncio.Protocol):
    """One connection, as long as it sends nothing but plain single orders; one request at a time."""

    __slots__ = (
        "_buffer",
        "_held",
        "_lanes",
        "_transport",
        "active_at",
        "began",
        "bound",
        "busy",
        "limits",
        "request_id",
        "writing",
    )

    def __init__(self, lanes: Lanes) -> None:
        """Begin idle."""
        self._lanes = lanes
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._held = False
        self.busy = False
        self.active_at = 0.0
        self.began = 0.0
        self.request_id = ""
        self.bound: str | None = None
        self.limits = b""
        self.writing = JSON

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the lanes."""
        # uvloop's transports are Transports in all but their base class.
        self._transport = cast("asyncio.Transport", transport)
        self.active_at = perf_counter()
        self._lanes.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Leave; what was sent to the writer stays sent."""
        self._transport = None
        self._lanes.open.discard(self)

    def data_received(self, data: bytes) -> None:
        """Take what arrived."""
        self._buffer = self._buffer + data if self._buffer else data
        if not self.busy:
            self._next()
        elif len(self._buffer) > _PIPELINED_BYTES_MAX and self._transport:
            # Whoever sends far ahead of our answers waits, so that memory stays bounded.
            self._held = True
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        """Read nothing more from a caller that does not read our answers."""
        if self._transport:
            self._held = True
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self._release()

    def _release(self) -> None:
        if self._held and self._transport and not self._transport.is_closing():
            self._held = False
            self._transport.resume_reading()

    def _next(self) -> None:
        """Begin the next request that is complete, or move over to the general way."""
        self.active_at = perf_counter()
        plain = read_plain(self._buffer, body_max=BODY_BYTES_MAX)
        if isinstance(plain, Plain):
            self._buffer = self._buffer[plain.size :]
            self.busy = True
            self.began = self.active_at
            self._lanes.ask(self, plain)
        elif plain is Part.NOT_PLAIN:
            self._move_over()

    def _move_over(self) -> None:
        """Give the connection to aiohttp, as if it had had it from the beginning."""
        transport = self._transport
        if transport is None:
            return
        self._lanes.open.discard(self)
        self._transport = None
        self._release()
        general = self._lanes.general()
        transport.set_protocol(general)
        general.connection_made(transport)
        general.data_received(self._buffer)
        self._buffer = b""

    def answer(self, answer: bytes) -> None:
        """Send the answer to the request at hand and begin the next."""
        self.busy = False
        if self._transport is None:
            return
        self._transport.write(answer)
        if self._buffer:
            self._next()
        else:
            self.active_at = perf_counter()
        self._release()

    def waits_for_body(self) -> bool:
        """Whether a request has begun to arrive and is not whole."""
        return bool(self._buffer) and not self.busy

    def close(self) -> None:
        """Hang up."""
        if self._transport:
            self._transport.close()


class Lanes:
    """All lanes of one gateway process, and the batch that they fill."""

    def __init__(self, gate: Gate, general: Callable[[], asyncio.Protocol]) -> None:
        """Prepare.

        Args:
            gate: What stands before every handler.
            general: Makes the protocol of a connection that is no lane.
        """
        self.gate = gate
        self.general = general
        self.open: set[Lane] = set()
        self._asked: list[tuple[Lane, Plain]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._date = b""
        self._date_second = 0

    def __call__(self) -> Lane:
        """Make the protocol of a new connection."""
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        return Lane(self)

    def ask(self, lane: Lane, plain: Plain) -> None:
        """Add one request to the batch that leaves when the loop next turns."""
        if not self._asked:
            asyncio.get_running_loop().call_soon(self._leave)
        self._asked.append((lane, plain))

    def _leave(self) -> None:
        asked, self._asked = self._asked, []
        self._keep(self._decide(asked))

    def _keep(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _decide(self, asked: list[tuple[Lane, Plain]]) -> None:
        """Have a batch decided, and answer each of it."""
        gate = self.gate
        deferred = 0
        try:
            callers = [await self._identify(lane, plain) for lane, plain in asked]
            await self._use_signatures(callers)
            wanted = [
                caller if isinstance(caller, Exception) else _read(caller[0].merchant_no, plain)
                for caller, (_, plain) in zip(callers, asked, strict=True)
            ]
            try:
                decided = await gate.services.orders.decide(
                    [each for each in wanted if isinstance(each, Wish | Ending)]
                )
            except Exception as error:  # noqa: BLE001 - every caller of the batch gets its answer
                wanted = [error if isinstance(each, Wish | Ending) else each for each in wanted]
                decided = []
            answers = iter(decided)
            for (lane, plain), each in zip(asked, wanted, strict=True):
                outcome = each if isinstance(each, Exception) else next(answers)
                if isinstance(outcome, asyncio.Task):
                    # Two merchants' systems are asked: nobody else of the batch waits for them.
                    deferred += 1
                    self._keep(self._answer_later(lane, plain, outcome))
                else:
                    await self._answer(lane, plain, outcome)
        finally:
            gate.in_flight -= len(asked) - deferred

    async def _answer_later(self, lane: Lane, plain: Plain, waiting: asyncio.Task[Entry]) -> None:
        """Answer one request whose order is under way between merchants' own systems."""
        outcome: Entry | Exception
        try:
            outcome = await waiting
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this caller's answer
            outcome = error
        try:
            await self._answer(lane, plain, outcome)
        finally:
            self.gate.in_flight -= 1

    async def _answer(
        self, lane: Lane, plain: Plain, outcome: Entry | SchemaError | Forbidden | Exception
    ) -> None:
        """Render and send one answer."""
        try:
            answer, status = await self._render(lane, plain, outcome)
        except Exception as error:  # noqa: BLE001 - every caller of the batch gets its answer
            answer, status = self._fault(lane, plain, error)
        self.gate.metrics.answered(_route(plain), status, perf_counter() - lane.began)
        lane.answer(answer)

    async def _identify(self, lane: Lane, plain: Plain) -> _Caller | Exception:
        """Say who sends a request, or why it is not taken."""
        gate = self.gate
        lane.request_id = gate.request_id()
        lane.bound, lane.limits = None, b""
        chosen = choose(plain.accept, RECORD_TYPES, plain.content_type)
        lane.writing = answer_format(chosen)
        gate.in_flight += 1
        callers = gate.services.callers
        try:
            gate.admit()
            principal, verified = await callers.identify(
                plain.head, plain.authorization, has_body=bool(plain.body)
            )
            if verified is not None:
                lane.bound = verified.signed.field
            allowance = await gate.allowance(principal)
            try:
                allowance.take(_POLICY)
            finally:
                lane.limits = _lines(allowance.fields(_POLICY))
            gate.permit(_route(plain), principal)
            check_acceptable(chosen, RECORD_TYPES)
            if verified is not None:
                callers.signatures.check_body(verified, plain.body)
        except SignatureRefused as refused:
            lane.bound = refused.bound
            return refused
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this caller's answer
            return error
        return principal, verified

    async def _use_signatures(self, callers: list[_Caller | Exception]) -> None:
        """Let the signatures of a batch count, all of them with one question to the writer."""
        signed = [
            (place, caller[1])
            for place, caller in enumerate(callers)
            if not isinstance(caller, Exception) and caller[1] is not None
        ]
        if not signed:
            return
        outcomes: Sequence[Exception | None]
        try:
            outcomes = await self.gate.services.callers.signatures.use([each for _, each in signed])
        except Exception as error:  # noqa: BLE001 - every caller of the batch gets its answer
            outcomes = [error] * len(signed)
        for (place, _), why_not in zip(signed, outcomes, strict=True):
            if why_not is not None:
                callers[place] = why_not

    async def _render(
        self, lane: Lane, plain: Plain, outcome: Entry | SchemaError | Forbidden | Exception
    ) -> tuple[bytes, int]:
        """Write the answer to one request."""
        if isinstance(outcome, Exception):
            return self._fault(lane, plain, outcome)
        gate = self.gate
        gate.metrics.commands(_route(plain))
        order_id = plain.order_id or entry_order_id(outcome)
        if outcome.kind == Kind.REFUSED:
            reason = REASON_BY_NUMBER[outcome.reason]
            gate.metrics.refused(reason.code)
            problem = problems.refusal_problem(
                reason, instance=plain.path, request_id=lane.request_id, order_id=order_id
            )
            return self._problem(lane, problem, {})
        offer = await gate.services.shelf.offer()
        cycle = await gate.services.reports.cycle_name(outcome.cycle_no)
        answer = order_answer(outcome, order_id or "", cycle=cycle, codes=offer.codes)
        body = lane.writing.encode(answer)
        status = 200 if plain.order_id else 201
        return self._bytes(lane, status, lane.writing.media_type, body), status

    def _fault(self, lane: Lane, plain: Plain, error: Exception) -> tuple[bytes, int]:
        problem, headers = self.gate.fault(
            error, route=_route(plain), instance=plain.path, request_id=lane.request_id
        )
        return self._problem(lane, problem, headers)

    def _problem(self, lane: Lane, problem: Problem, headers: dict[str, str]) -> tuple[bytes, int]:
        more = _lines(headers)
        body = lane.writing.encode(problem)
        content_type = lane.writing.problem_type
        return self._bytes(lane, problem.status, content_type, body, more), problem.status

    def _bytes(
        self, lane: Lane, status: int, content_type: str, body: bytes, more: bytes = b""
    ) -> bytes:
        second = int(time())
        if second != self._date_second:
            self._date_second = second
            self._date = formatdate(second, usegmt=True).encode()
        if lane.bound is not None:
            more += self._signature(lane.bound, status, content_type, body)
        return (
            b"%bContent-Type: %b\r\nX-Request-Id: %b\r\n%b%bContent-Length: %d\r\nDate: %b\r\n\r\n%b"
            % (
                _STATUS_LINES[status],
                content_type.encode(),
                lane.request_id.encode(),
                lane.limits,
                more,
                len(body),
                self._date,
                body,
            )
        )

    def _signature(self, bound: str, status: int, content_type: str, body: bytes) -> bytes:
        """Fields that sign an answer; none where no key can sign."""
        services = self.gate.services
        key = services.answer_keys.signer()
        if key is None:
            return b""
        digest = content_digest(body)
        told, signature = sign_answer(
            status=status,
            content_type=content_type,
            content_digest=digest,
            request_signature=bound,
            key=key,
            now=services.now_us() // 1_000_000,
        )
        return (
            f"Content-Digest: {digest}\r\nSignature-Input: {told}\r\nSignature: {signature}\r\n"
        ).encode()

    def _sweep(self) -> None:
        """Hang up on connections that idle, or whose request does not arrive."""
        now = perf_counter()
        for lane in list(self.open):
            limit = BODY_SECONDS if lane.waits_for_body() else IDLE_SECONDS
            if not lane.busy and now - lane.active_at > limit:
                lane.close()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    async def stop(self, timeout_seconds: float) -> None:
        """Answer what is in flight, then hang up on everybody."""
        if self._sweeper:
            self._sweeper.cancel()
        # What arrived before the stop is read by one more turn of the loop.
        await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        for lane in list(self.open):
            lane.close()


def _lines(headers: Mapping[str, str]) -> bytes:
    """Header fields as they are sent."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


def _route(plain: Plain) -> str:
    """Name of the route, as in the table."""
    return "post_orders" if plain.end is None else f"post_order_{plain.end}"


def _read(caller: int, plain: Plain) -> Wish | Ending | Exception:
    """Say what a request asks, or why it cannot be asked."""
    try:
        if plain.order_id is not None and plain.end is not None:
            return Ending(caller, uuid.UUID(plain.order_id), _ENDS[plain.end])
        key = check_key(plain.key)
        reading = format_of(plain.content_type)
        return Wish(caller, key, reading.decode(ORDER, plain.body))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this caller's answer
        return error
