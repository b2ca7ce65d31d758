"""The process that sends: everything is made before the clock starts, and answers are looked at after it stops.

python -m exchange.bench.load      reads a plan (JSON) on its input, then `go SECONDS RATE`; prints `ready`, then the
                                   result

It shares the machine with what it measures, so it does as little as it can while the clock runs: HTTP/1.1 over plain
asyncio protocols, requests as bytes made beforehand, of an answer only its length and its status. Callers wait for
their answer before they send the next request, as tills do. At a rate, each caller's requests have their instants: one
whose caller still waits for an answer is sent late, and is timed from the instant at which it should have been sent.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import secrets
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, cast

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchange.bench import market
from exchange.signing.keys import thumbprint
from exchange.signing.request import LIFETIME_SECONDS_MAX, RequestHead, sign_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Shape = Literal["bulk", "single", "two-phase", "journey"]

BULK_ORDERS: Final = 10_000
ANSWER_SECONDS_MAX: Final = 60.0
SIGNED_RATE_MAX: Final = 6_000
"""Signed single orders that are made for each second."""
_ID_BYTES: Final = 36
_ID: Final = b'"order_id":"'


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to send.

    Attributes:
        port: The gateway's, on the loopback.
        shape: How orders are sent.
        keys: Kind of the idempotency keys.
        callers: How many send at once, each on a connection of its own.
        orders_max: Orders that are made beforehand; the run ends when they are used up.
        members: Size of the market.
        market_seed: The market's seed.
        seed: Seed of the orders and keys.
        operator_key: API key for bulk requests.
        api_keys: The merchants' own, by code, for single orders.
        pairs: (issuer, acceptor) of journeys, in turn.
        decide_by_seconds: When journeys must be answered; None for the usual time.
        signing_key: Raw private key of the operator (hex), if requests are signed instead of carrying an API key.
    """

    port: int
    shape: Shape
    keys: Literal["random", "uuid7"]
    callers: int
    orders_max: int
    members: int
    market_seed: int
    seed: int
    operator_key: str
    api_keys: dict[str, str]
    pairs: list[tuple[str, str]] = []
    decide_by_seconds: int | None = None
    signing_key: str = ""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What came back.

    Attributes:
        orders: Orders answered, refused and repeated ones among them.
        requests: Requests answered.
        cleared: Orders that cleared at once, or were accepted and then cleared.
        refused: Refusals by reason.
        duplicates: Orders sent under a key that was used before, whose answer was the first one's.
        seconds: From the first request to the last answer.
        latencies_ms: Of each request, or of each two-phase order from accept to clear; sorted.
        cpu_seconds: Processor time of this process meanwhile.
        wrong: Answers that should not be, in words; empty if all is well.
    """

    orders: int
    requests: int
    cleared: int
    refused: dict[str, int]
    duplicates: int
    seconds: float
    latencies_ms: list[float]
    cpu_seconds: float
    wrong: list[str]


@dataclass(slots=True, kw_only=True)
class Request:
    """One request as it will be sent.

    Attributes:
        head: Bytes before the place of the key's time, or the whole of it.
        tail: Bytes after it.
        orders: Orders in it.
        body: Body of a bulk request, into which times are put.
        repeats: (place, number of the request, place in it) of elements that repeat an earlier one.
        stamped: The time that was put in.
        first: Number of the earlier request that this one repeats whole.
        credentials: `Authorization` line, for a call that follows.
        wish: Key and body of a single order that is signed when the clock is about to start.
    """

    head: bytes
    tail: bytes = b""
    orders: int = 1
    body: bytearray | None = None
    repeats: list[tuple[int, int, int]] = field(default_factory=list)
    stamped: bytes = b""
    first: int = -1
    credentials: bytes = b""
    wish: tuple[bytes, bytes] | None = None


@dataclass(slots=True)
class Answer:
    """One answer; bodies are read after the clock has stopped."""

    request: int
    status: bytes
    body: bytes
    milliseconds: float
    ended: bytes = b""
    end_body: bytes = b""


# --- making requests ---


def make_requests(plan: Plan) -> list[Request]:
    """Make everything that will be sent."""
    if plan.shape == "journey":
        return _journey_requests(plan)
    place = market.make_market(plan.members, seed=plan.market_seed)
    orders = market.draw_orders(place, plan.orders_max, seed=plan.seed)
    make = market.timed_keys if plan.keys == "uuid7" else market.random_keys
    keys = make(len(orders), seed=plan.seed + 1)
    if plan.shape == "bulk":
        return _bulk_requests(plan, orders, keys)
    return _single_requests(plan, orders, keys)


def _bulk_requests(plan: Plan, orders: list[market.Order], keys: list[bytes]) -> list[Request]:
    draw = random.Random(plan.seed + 2)  # noqa: S311 - a benchmark must repeat, not surprise
    requests: list[Request] = []
    repeating: list[set[int]] = []
    for start in range(0, len(orders), BULK_ORDERS):
        chunk, chunk_keys = orders[start : start + BULK_ORDERS], keys[start : start + BULK_ORDERS]
        number = len(requests)
        repeats: list[tuple[int, int, int]] = []
        repeating.append(set())
        count = int(len(chunk) * market.DUPLICATE_SHARE)
        for place in sorted(draw.sample(range(1, len(chunk)), count)):
            # Half repeat what is in flight with them, half what was answered before, or nearly.
            earlier = number - plan.callers
            from_number = earlier if earlier >= 0 and draw.random() < 0.5 else number
            source = draw.randrange(place if from_number == number else BULK_ORDERS)
            if source in repeating[from_number]:
                continue
            repeating[number].add(place)
            repeats.append((place, from_number, source))
            whole = from_number * BULK_ORDERS + source
            chunk[place], chunk_keys[place] = orders[whole], keys[whole]
            orders[start + place], keys[start + place] = orders[whole], keys[whole]
        body = market.bulk_body(chunk, chunk_keys, market.HOSTED)
        head = (
            f"POST /v1/orders/bulk HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\n"
            f"Authorization: Bearer {plan.operator_key}\r\nContent-Type: application/msgpack\r\n"
            f"Accept: application/msgpack\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        requests.append(Request(head=head, orders=len(chunk), body=body, repeats=repeats))
    return requests


def _single_requests(plan: Plan, orders: list[market.Order], keys: list[bytes]) -> list[Request]:
    merchants = market.HOSTED if plan.shape == "single" else market.OWN
    bodies = ((merchants[order.issuer], market.single_body(order, merchants)) for order in orders)
    return _requests(plan, bodies, keys)


def _journey_requests(plan: Plan) -> list[Request]:
    """Orders between merchants' own systems, which give points for points; members are the first of the market."""
    draw = random.Random(plan.seed)  # noqa: S311 - a benchmark must repeat, not surprise
    pairs = itertools.islice(itertools.cycle(plan.pairs), plan.orders_max)
    bodies = (
        (
            issuer,
            market.exchange_body(
                member=draw.randrange(plan.members),
                issuer=issuer,
                acceptor=acceptor,
                units=draw.randint(1, market.UNITS_MAX),
                decide_by_seconds=plan.decide_by_seconds,
            ),
        )
        for issuer, acceptor in pairs
    )
    return _requests(plan, bodies, market.timed_keys(plan.orders_max, seed=plan.seed + 1))


def _requests(plan: Plan, bodies: Iterable[tuple[str, bytes]], keys: list[bytes]) -> list[Request]:
    """Requests of one order each.

    Args:
        plan: The plan.
        bodies: (who sends it, body) of each order.
        keys: A key for each.
    """
    draw = random.Random(plan.seed + 2)  # noqa: S311 - a benchmark must repeat, not surprise
    credentials = {
        code: f"Authorization: Bearer {key}\r\n".encode() for code, key in plan.api_keys.items()
    }
    timed = plan.keys == "uuid7"
    requests: list[Request] = []
    for number, ((sender, body), key) in enumerate(zip(bodies, keys, strict=True)):
        # What is repeated was answered long before, or is still in flight where callers are few.
        source = number - draw.randrange(2 * plan.callers, 8 * plan.callers)
        if source >= 0 and draw.random() < market.DUPLICATE_SHARE and requests[source].first < 0:
            requests.append(
                Request(
                    head=b"",
                    first=source,
                    credentials=requests[source].credentials,
                    wish=requests[source].wish,
                )
            )
            continue
        if plan.signing_key:
            requests.append(Request(head=b"", wish=(key, body)))
            continue
        own = credentials[sender]
        head = (
            b"POST /v1/orders HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%bContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nIdempotency-Key: " % (plan.port, own, len(body))
        )
        tail = b"\r\n\r\n" + body
        if timed:
            requests.append(
                Request(head=head, tail=key[market.STAMP_BYTES :] + tail, credentials=own)
            )
        else:
            requests.append(Request(head=head + key + tail, credentials=own))
    return requests


class Signer:
    """Signs requests as the operator."""

    def __init__(self, plan: Plan) -> None:
        """Take the key."""
        private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(plan.signing_key))
        self._private, self._key_id = private, thumbprint(private.public_key())
        self._authority = f"127.0.0.1:{plan.port}"

    def head(
        self, target: str, body: bytes | bytearray, content_type: str, key: str | None
    ) -> bytes:
        """Everything of a request but its body."""
        head = RequestHead("POST", self._authority, target, None, content_type, key)
        signed = sign_request(
            head,
            body=body,
            key_id=self._key_id,
            private=self._private,
            nonce=secrets.token_urlsafe(16),
            created=int(time.time()),
            lifetime_seconds=LIFETIME_SECONDS_MAX,
        )
        fields = {"Host": self._authority, "Content-Type": content_type} | signed
        fields["Content-Length"] = str(len(body))
        if key is not None:
            fields["Idempotency-Key"] = key
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST {target} HTTP/1.1\r\n{lines}\r\n".encode()

    def sign(self, plan: Plan, requests: list[Request]) -> None:
        """Sign single orders; a repeat has the key of its first and a signature of its own."""
        stamp = market.stamp(time.time_ns() // 1_000_000) if plan.keys == "uuid7" else b""
        for request in requests:
            assert request.wish is not None
            key, body = request.wish
            text = (stamp + key[len(stamp) :]).decode()
            request.head = self.head("/v1/orders", body, "application/json", text) + body


# --- sending ---


class _Caller(asyncio.Protocol):
    """One connection that has at most one request under way."""

    __slots__ = (
        "_begun",
        "_have",
        "_need",
        "_pieces",
        "_start",
        "_status",
        "on_answer",
        "transport",
    )

    def __init__(self, on_answer: Callable[[_Caller, bytes, bytes], None]) -> None:
        self.on_answer = on_answer
        self.transport: asyncio.Transport | None = None
        self._begun = b""
        self._pieces: list[bytes] = []
        self._need = self._have = self._start = 0
        self._status = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are Transports in all but their base class.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=1 << 24)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.on_answer(self, b"000", f"the connection was lost: {exc}".encode())

    def data_received(self, data: bytes) -> None:
        if self._need:
            self._pieces.append(data)
            self._have += len(data)
        else:
            if self._begun:
                data, self._begun = self._begun + data, b""
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._begun = data
                return
            length_at = data.find(b"Content-Length: ", 0, end) + 16
            self._status = data[9:12]
            self._start = end + 4
            self._need = self._start + int(data[length_at : data.find(b"\r\n", length_at)])
            self._pieces = [data]
            self._have = len(data)
        if self._have < self._need:
            return
        whole = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._need = 0
        self.on_answer(self, self._status, whole[self._start :])


class Sender:
    """Sends what was made, from so many callers, until the time is over; a second time goes on after the first."""

    def __init__(self, plan: Plan, requests: list[Request]) -> None:
        """Prepare; `connect`, then `send` as often as wanted, then `close`."""
        self._plan = plan
        self._requests = requests
        self._callers: list[_Caller] = []
        self._next = 0
        self._under_way: dict[_Caller, tuple[int, float, Answer | None]] = {}
        self._began = 0.0
        self._deadline = 0.0
        self._rate = 0.0
        self._turns_max = 0
        self._turn: dict[_Caller, int] = {}
        self._done: asyncio.Future[None] | None = None
        self.answers: list[Answer] = []
        self.sent: dict[int, bytes] = {}
        self._kept = {request.first for request in requests}
        self._two_phase = plan.shape == "two-phase"
        self._signer = Signer(plan) if plan.signing_key else None

    async def connect(self) -> None:
        """Open every caller's connection."""
        loop = asyncio.get_running_loop()
        for _ in range(self._plan.callers):
            _, caller = await loop.create_connection(
                lambda: _Caller(self._answered), "127.0.0.1", self._plan.port
            )
            self._callers.append(caller)

    async def send(self, seconds: float, rate: float = 0.0) -> float:
        """Send for so long, then wait for what is under way.

        Args:
            seconds: How long.
            rate: Orders a second; 0 for as many as are answered.

        Returns:
            Seconds from the first request to the last answer.

        Raises:
            TimeoutError: The last answers do not come.
        """
        began = self._began = time.perf_counter()
        self._deadline = began + seconds
        self._done = asyncio.get_running_loop().create_future()
        if rate:
            self._rate, self._turns_max = rate, round(seconds * rate)
            self._turn = {caller: place for place, caller in enumerate(self._callers)}
        for caller in self._callers:
            self._send_next(caller, began)
        if self._under_way or self._turn:
            async with asyncio.timeout(seconds + ANSWER_SECONDS_MAX):
                await self._done
        return time.perf_counter() - began

    def close(self) -> None:
        """Hang up."""
        for caller in self._callers:
            if caller.transport:
                caller.transport.abort()

    @property
    def next(self) -> int:
        """Number of the request that is sent next."""
        return self._next

    def _send_next(self, caller: _Caller, now: float) -> None:
        turn = self._turn.get(caller)
        due = now if turn is None else self._began + turn / self._rate
        over = due >= self._deadline if turn is None else turn >= self._turns_max
        if over or self._next >= len(self._requests) or caller.transport is None:
            self._turn.pop(caller, None)
            if self._done and not (self._under_way or self._turn or self._done.done()):
                self._done.set_result(None)
            return
        if due > now:
            asyncio.get_running_loop().call_later(due - now, self._send_due, caller)
            return
        if turn is not None:
            self._turn[caller] = turn + len(self._callers)
        number = self._next
        self._next += 1
        self._under_way[caller] = (number, due, None)
        request = self._requests[number]
        if request.body is not None:
            if self._plan.keys == "uuid7":
                self._put_time(request)
            head = request.head
            if self._signer is not None:
                head = self._signer.head(
                    "/v1/orders/bulk", request.body, "application/msgpack", None
                )
            caller.transport.writelines((head, request.body))
            return
        if request.first >= 0 and not request.head:
            data = self.sent[request.first]
        elif request.tail:
            data = request.head + market.stamp(time.time_ns() // 1_000_000) + request.tail
        else:
            data = request.head
        if number in self._kept:
            self.sent[number] = data
        caller.transport.write(data)

    def _send_due(self, caller: _Caller) -> None:
        self._send_next(caller, time.perf_counter())

    def _put_time(self, request: Request) -> None:
        """Put the time of sending into the keys, but for repeated ones, which keep that of their first."""
        body = request.body
        assert body is not None
        request.stamped = market.stamp(time.time_ns() // 1_000_000)
        market.put_stamps(body, request.orders, request.stamped)
        for place, number, _ in request.repeats:
            earlier = self._requests[number].stamped
            if earlier and earlier != request.stamped:
                at = market.bulk_start(place) + market.KEY_AT
                body[at : at + market.STAMP_BYTES] = earlier

    def _answered(self, caller: _Caller, status: bytes, body: bytes) -> None:
        under_way = self._under_way.get(caller)
        if under_way is None:
            return
        now = time.perf_counter()
        number, began, accepted = under_way
        if accepted is not None:
            accepted.ended, accepted.end_body = status, body
            accepted.milliseconds = (now - began) * 1000
        else:
            answer = Answer(number, status, body, (now - began) * 1000)
            self.answers.append(answer)
            if self._two_phase and status == b"201" and caller.transport:
                at = body.index(_ID) + len(_ID)
                caller.transport.write(
                    b"POST /v1/orders/%b/clear HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%bContent-Length: 0\r\n\r\n"
                    % (
                        body[at : at + _ID_BYTES],
                        self._plan.port,
                        self._requests[number].credentials,
                    )
                )
                self._under_way[caller] = (number, began, answer)
                return
        del self._under_way[caller]
        self._send_next(caller, now)


# --- looking at the answers ---


@dataclass(slots=True)
class _Look:
    """What the answers came to, so far."""

    cleared: int = 0
    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class _Element(msgspec.Struct, frozen=True):
    status: str
    order_id: str | None = None
    problem: dict[str, object] | None = None


class _Single(msgspec.Struct, frozen=True):
    status: str | int
    order_id: str | None = None
    reason: str = ""


_BULK: Final = msgspec.msgpack.Decoder(list[_Element])
_SINGLE: Final = msgspec.json.Decoder(_Single)


def look(
    plan: Plan, requests: list[Request], answers: list[Answer], *, first: int = 0
) -> tuple[int, _Look]:
    """Read every answer, and hold each repeated order's against its first one's.

    Args:
        plan: The plan.
        requests: Its requests.
        answers: Answers so far.
        first: Number of the first request whose answer counts; earlier ones are only held against.

    Returns:
        Orders answered, and what they came to.
    """
    seen = _Look()
    orders = 0
    if plan.shape == "bulk":
        by_number: dict[int, list[_Element]] = {}
        for answer in sorted(answers, key=lambda each: each.request):
            request = requests[answer.request]
            if answer.status != b"200":
                seen.wrong.append(f"{answer.status.decode()}: {answer.body[:200]!r}")
                continue
            elements = by_number[answer.request] = _BULK.decode(answer.body)
            if answer.request < first:
                continue
            orders += len(elements)
            if len(elements) != request.orders:
                seen.wrong.append(f"{len(elements)} answers to {request.orders} orders")
            for element in elements:
                if element.status == "cleared":
                    seen.cleared += 1
                elif element.status == "refused" and element.problem:
                    seen.refused[str(element.problem["reason"])] += 1
                else:
                    seen.wrong.append(str(element))
            for place, number, source in request.repeats:
                earlier = by_number.get(number)
                if earlier is None or earlier[source] != elements[place]:
                    seen.wrong.append(
                        f"order {place} of request {answer.request} got another answer"
                    )
                seen.duplicates += 1
        return orders, seen
    firsts: dict[int, tuple[str | None, str]] = {}
    for answer in sorted(answers, key=lambda each: each.request):
        told = _SINGLE.decode(answer.body) if answer.body[:1] == b"{" else None
        if answer.request < first:
            if told is not None:
                firsts[answer.request] = (told.order_id, told.reason)
            continue
        orders += 1
        if told is None or answer.status not in (b"201", b"409"):
            seen.wrong.append(f"{answer.status.decode()}: {answer.body[:200]!r}")
            continue
        if answer.status == b"409":
            seen.refused[told.reason] += 1
        elif plan.shape != "two-phase" or answer.ended == b"200":
            seen.cleared += 1
        else:
            seen.wrong.append(f"end {answer.ended.decode()}: {answer.end_body[:200]!r}")
        firsts[answer.request] = (told.order_id, told.reason)
        source = requests[answer.request].first
        if source >= 0:
            seen.duplicates += 1
            if firsts.get(source) != (told.order_id, told.reason):
                seen.wrong.append(f"request {answer.request} got another answer than {source}")
    return orders, seen


# --- the process ---


async def _run(plan: Plan, requests: list[Request], read_line: Callable[[], str]) -> None:
    """Send as often as the word is given, and tell each time what came of it."""
    loop = asyncio.get_running_loop()
    sender = Sender(plan, requests)
    await sender.connect()
    while (words := (await loop.run_in_executor(None, read_line)).split()) and words[0] == "go":
        sent = await _send(plan, requests, sender, *map(float, words[1:]))
        sys.stdout.write(msgspec.json.encode(sent).decode() + "\n")
        sys.stdout.flush()
    sender.close()


async def _send(
    plan: Plan, requests: list[Request], sender: Sender, wanted_seconds: float, rate: float
) -> Sent:
    first, answered = sender.next, len(sender.answers)
    if plan.signing_key and plan.shape == "single":
        # Only now, since a signature counts for two minutes at most, and other loads come before.
        del requests[first + int(SIGNED_RATE_MAX * wanted_seconds) :]
        Signer(plan).sign(plan, requests[first:])
    gc.collect()
    gc.disable()
    cpu_before = time.process_time()
    seconds = await sender.send(wanted_seconds, rate)
    cpu_seconds = time.process_time() - cpu_before
    gc.enable()
    orders, seen = look(plan, requests, sender.answers, first=first)
    fresh = sender.answers[answered:]
    return Sent(
        orders=orders,
        requests=len(fresh),
        cleared=seen.cleared,
        refused=dict(seen.refused),
        duplicates=seen.duplicates,
        seconds=seconds,
        latencies_ms=sorted(round(answer.milliseconds, 3) for answer in fresh),
        cpu_seconds=cpu_seconds,
        wrong=seen.wrong[:5] + ([f"and {len(seen.wrong) - 5} more"] if len(seen.wrong) > 5 else []),
    )


def main() -> None:
    """Run as a process; ends without a word when its input ends."""
    line = sys.stdin.readline()
    if not line:
        return
    plan = msgspec.json.decode(line, type=Plan)
    requests = make_requests(plan)
    print("ready", flush=True)
    try:
        import uvloop
    except ImportError:
        loop_factory = asyncio.new_event_loop
    else:
        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_run(plan, requests, sys.stdin.readline))


if __name__ == "__main__":
    main()
