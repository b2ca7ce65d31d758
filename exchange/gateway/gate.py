"""What stands before every handler: who calls, how many at once, how large a body, and which faults mean what."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Final, TypeVar

import structlog
from aiohttp import web

from exchange.gateway import problems
from exchange.gateway.formats import (
    RECORD_TYPES,
    Format,
    MediaTypeError,
    NotAcceptableError,
    answer_format,
    check_acceptable,
    choose,
    format_of,
)
from exchange.gateway.throttle import AT_ONCE_MAX, QuotaExceeded, Throttle
from exchange.service.access import Forbidden, Principal, Unauthenticated
from exchange.service.outage import is_outage
from exchange.service.signatures import SignatureRefused, bound_of
from exchange.signing.answer import sign_answer, sign_public_answer
from exchange.signing.digest import content_digest
from exchange.signing.request import ALGORITHM, FIELDS, REQUEST_TAG, TARGET, RequestHead
from schemas.values.faults import SchemaError, Unavailable
from schemas.values.ids import HOUSE
from schemas.values.reason import Reason, Refusal
from settlement.core.trail import SecondPersonNeeded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from exchange.core.quota import Policy
    from exchange.gateway.metrics import Metrics
    from exchange.gateway.services import Services
    from exchange.gateway.throttle import Allowance
    from exchange.service.signatures import Verified
    from schemas.wire.problems import Problem

log = structlog.get_logger()

T = TypeVar("T")

BODY_BYTES_MAX: Final = 64 * 1024
MEMBERS_BYTES_MAX: Final = 1024 * 1024
"""Ten thousand references of 64 characters and what stands between them."""
BULK_BYTES_MAX: Final = 16 * 1024 * 1024
BODY_SECONDS: Final = 20.0
IN_FLIGHT_MAX: Final = 4096
STRANGERS_MAX: Final = 1024
"""Requests at once that anybody may send with a body; who sends such slowly keeps nobody but strangers out."""
RETRY_SECONDS: Final = 1
HEARTBEAT_SECONDS: Final = 15.0
TAG_DIGITS: Final = 32
"""Of the SHA-256 of a body: enough that no two bodies share a tag."""
NOBODY: Final = Principal(merchant_no=-1, role="merchant", name="nobody")
"""Who calls a public route: no merchant has this number."""
BOUND: Final = web.RequestKey("bound", str)
"""Where a request keeps the signature that its answer is bound to."""
PUBLIC: Final = web.RequestKey("public", bool)
"""Where a request notes that anybody may ask it."""
LIMITED: Final = web.RequestKey("limited", tuple)
"""Where a request keeps the quotas of its caller, and which of them it counts against."""
_ACCEPTED: Final = (
    f'sig=({" ".join((*TARGET, *FIELDS))});created;expires;alg="{ALGORITHM}";tag="{REQUEST_TAG}"'
)
SIGNATURE_WANTED: Final = (
    ("WWW-Authenticate", 'Signature realm="tongdui"'),
    ("Accept-Signature", _ACCEPTED),
)
"""What a request that is not signed as it must be is told (RFC 9421 §5.1)."""


class Who(Enum):
    """Who may call a route."""

    ANYBODY = "anybody"
    MERCHANT = "a merchant or the house"
    OPERATOR = "the house"
    PERSON = "a person who signed in"


class BodyTimedOutError(Exception):
    """The body did not arrive in time."""


class BodyTooLargeError(Exception):
    """The body is larger than the route takes."""


class Call:
    """One request as a handler sees it."""

    __slots__ = (
        "_body",
        "body_bytes_max",
        "chosen",
        "gate",
        "principal",
        "request",
        "request_id",
        "services",
        "writing",
    )

    def __init__(
        self,
        request: web.Request,
        gate: Gate,
        principal: Principal,
        request_id: str,
        body_bytes_max: int = BODY_BYTES_MAX,
        chosen: str | None = None,
    ) -> None:
        """Bind a request to its services; `chosen` is the content type that its answer is to have."""
        self.request = request
        self.gate = gate
        self.services = gate.services
        self.principal = principal
        self.request_id = request_id
        self.body_bytes_max = body_bytes_max
        self.chosen = chosen
        self.writing = answer_format(chosen)
        self._body: bytes | None = None

    @property
    def caller(self) -> int:
        """Merchant number of the sender; 0 for the house."""
        return self.principal.merchant_no

    @property
    def bound(self) -> bool:
        """Whether the answer will be signed, as the answer to this signed request."""
        return BOUND in self.request

    def count(self, elements: int) -> None:
        """Take a large request from its caller's quota, element by element; one was taken at its head.

        Raises:
            QuotaExceeded: None is left; nothing of the request is done.
        """
        allowance, policy = self.request[LIMITED]
        if elements > 1:
            allowance.take(policy, elements - 1)

    async def use_signature(self, verified: Verified) -> None:
        """Hold the body against its signed digest, and let the signature count, which it does once.

        Raises:
            SignatureRefused: The body is another one, or the signature was used before.
            Unavailable: The writer cannot say whether it was.
        """
        signatures = self.services.callers.signatures
        signatures.check_body(verified, await self.body())
        [why_not] = await signatures.use([verified])
        if why_not is not None:
            raise why_not

    @property
    def reading(self) -> Format:
        """The format of the request's body.

        Raises:
            MediaTypeError: It is one that is not taken.
        """
        return format_of(self.request.headers.get("Content-Type"))

    async def read(self, wanted: type[T], *, optional: bool = False) -> T:
        """Read the body as a record.

        Args:
            wanted: The record.
            optional: Whether there may be no body; then every field has its default.

        Raises:
            MediaTypeError: It is neither JSON nor msgpack.
            SchemaError: It is malformed; names the field.
        """
        if optional and not self.request.body_exists:
            return wanted()
        reading = self.reading
        return reading.decode(wanted, await self.body())

    async def body(self) -> bytes:
        """Read the body, within the route's limit of size and a limit of time.

        Raises:
            BodyTooLargeError: It is larger than the route takes.
            BodyTimedOutError: It did not arrive in time.
        """
        if self._body is None:
            self._body = await self._read_body(self.body_bytes_max)
        return self._body

    async def _read_body(self, limit: int) -> bytes:
        request = self.request
        length = request.content_length
        if length is not None and length > limit:
            raise BodyTooLargeError
        content = request.content
        if content.is_eof():
            # The whole body came with the headers, as bodies of single orders do: no timer, no waiting.
            body = content.read_nowait()
        else:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    body = await self._read_up_to(limit)
            except TimeoutError:
                raise BodyTimedOutError from None
        if len(body) > limit:
            raise BodyTooLargeError
        return body

    async def _read_up_to(self, limit: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for piece in self.request.content.iter_any():
            size += len(piece)
            if size > limit:
                raise BodyTooLargeError
            pieces.append(piece)
        return b"".join(pieces)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Step out of the count of requests in flight, for an answer that lasts as long as its reader wants."""
        self.gate.in_flight -= 1
        allowance, _ = self.request[LIMITED]
        allowance.at_once -= 1
        try:
            yield
        finally:
            self.gate.in_flight += 1
            allowance.at_once += 1

    def answer(self, record: object, status: int = 200) -> web.Response:
        """Answer with a record, in the format that the caller takes."""
        return self.send(self.writing.encode(record), self.writing.media_type, status)

    def send(self, body: bytes, media_type: str, status: int = 200) -> web.Response:
        """Answer; what a caller has already, by its entity tag, is not sent again (RFC 9110 §13)."""
        headers = {"Content-Type": media_type, "X-Request-Id": self.request_id}
        if self.request.method == "GET" and status == HTTPStatus.OK:
            tag = f'"{hashlib.sha256(body).hexdigest()[:TAG_DIGITS]}"'
            headers |= {
                "ETag": tag,
                "Cache-Control": "private, no-cache",
                "Vary": "Accept, Authorization, Signature",
            }
            if _has(self.request.headers.get("If-None-Match"), tag):
                return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        return web.Response(body=body, status=status, headers=headers)

    def refuse(
        self,
        reason: Reason,
        detail: str | None = None,
        *,
        order_id: str | None = None,
        status: HTTPStatus | None = None,
    ) -> web.Response:
        """Answer with a business refusal."""
        self.gate.metrics.refused(reason.code)
        return problems.respond(
            problems.refusal_problem(
                reason,
                instance=self.request.path,
                request_id=self.request_id,
                detail=detail,
                order_id=order_id,
                status=status,
            ),
            writing=self.writing,
        )

    def not_found(self) -> web.Response:
        """Answer that the path names nothing."""
        return problems.respond(
            problems.fault_problem(
                problems.NOT_FOUND, instance=self.request.path, request_id=self.request_id
            ),
            writing=self.writing,
        )


_SIGNED_FIELDS: Final = (
    *("Host", "Content-Digest", "Content-Type", "Idempotency-Key"),
    *("Signature-Input", "Signature"),
)
"""Fields of `RequestHead`, in its order."""


@dataclass(slots=True, kw_only=True)
class Gate:
    """State of one application.

    Attributes:
        services: What handlers ask.
        metrics: What is counted.
        in_flight_max: Most requests at once; more are told to come back.
        in_flight: Requests of known callers, or of who says to be one, being handled now.
        strangers_max: Most requests at once of those that anybody may send with a body.
        strangers: Requests that anybody may send, being handled now.
        stopping: Whether nothing new is accepted.
        openapi: The document that describes the routes.
        allowed: Columns of the access matrix that may call a route, by its name.
        throttle: Quotas of those who called.
        at_once_max: Most requests at once of one merchant.
        heartbeat_seconds: How long a stream of events is silent before it says that it is there.
    """

    services: Services
    metrics: Metrics
    in_flight_max: int = IN_FLIGHT_MAX
    in_flight: int = 0
    strangers_max: int = STRANGERS_MAX
    strangers: int = 0
    stopping: bool = False
    openapi: bytes = b""
    allowed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    throttle: Throttle = field(default_factory=Throttle)
    at_once_max: int = AT_ONCE_MAX
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    _prefix: str = field(default_factory=lambda: secrets.token_hex(4))
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def request_id(self) -> str:
        """A name for one exchange, unique over processes and restarts."""
        return f"{self._prefix}-{next(self._numbers):x}"

    def admit(self) -> None:
        """Let one more request in; it counts already.

        Raises:
            Unavailable: This gateway is stopping, or too many are in flight.
        """
        if self.stopping:
            raise Unavailable("this gateway is stopping")
        if self.in_flight > self.in_flight_max:
            raise Unavailable("too many requests are in flight", retry_after_seconds=RETRY_SECONDS)

    def admit_stranger(self, *, has_body: bool) -> None:
        """Let in one more request that anybody may send; it counts already. Without a body there is no waiting for one.

        Raises:
            Unavailable: Too many of them have a body that is waited for.
        """
        if has_body and self.strangers > self.strangers_max:
            raise Unavailable("too many are signing in", retry_after_seconds=RETRY_SECONDS)

    async def allowance(self, principal: Principal) -> Allowance:
        """The quotas of a caller: as they were last read, so that nobody waits for the database here.

        Raises:
            Unavailable: They were never read, and the database does not answer.
        """
        shelf = self.services.shelf
        offer = shelf.at_hand() or await shelf.offer()
        return self.throttle.allowance(principal.merchant_no, offer.limits)

    def permit(self, name: str, principal: Principal) -> None:
        """Look a caller up in the access matrix.

        Raises:
            Forbidden: The route is not theirs.
        """
        allowed = self.allowed.get(name, frozenset())
        if allowed.isdisjoint(principal.columns):
            roles = ", ".join(sorted(allowed)) or "nobody"
            raise Forbidden(f"this is for {roles}; you are {', '.join(sorted(principal.columns))}")

    def guard(
        self,
        name: str,
        who: Who,
        handler: Callable[[Call], Awaitable[web.StreamResponse]],
        *,
        body_bytes_max: int = BODY_BYTES_MAX,
        policy: Policy = "requests",
        offers: tuple[str, ...] = (),
        query: frozenset[str] = frozenset(),
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Put the gate before a handler.

        Args:
            name: Name of the route, for the metrics.
            who: Who may call it.
            handler: What does the work.
            body_bytes_max: Most bytes of a body.
            policy: Which of the caller's quotas it counts against.
            offers: Content types of the answer, among which the caller chooses; empty where there is no choice.
            query: Parameters that the query may have; any where there is none.
        """
        identify = self.services.callers.identify
        answered = self.metrics.answered
        public = who is Who.ANYBODY

        async def serve(request: web.Request) -> web.StreamResponse:
            began = perf_counter()
            request_id = self.request_id()
            chosen = chosen_type(request, offers or RECORD_TYPES)
            merchant: Allowance | None = None
            if public:
                self.strangers += 1
            else:
                self.in_flight += 1
            try:
                principal, verified = NOBODY, None
                if public:
                    _note_public(request)
                    self.admit_stranger(has_body=request.body_exists)
                else:
                    self.admit()
                    principal, verified = await identify(
                        head_of(request),
                        request.headers.get("Authorization"),
                        has_body=request.body_exists,
                    )
                    if verified is not None:
                        request[BOUND] = verified.signed.field
                    allowance = await self.allowance(principal)
                    request[LIMITED] = allowance, policy
                    if principal.merchant_no != HOUSE:
                        merchant = allowance
                        merchant.enter(self.at_once_max)
                    allowance.take(policy)
                    self.permit(name, principal)
                check_acceptable(chosen, offers)
                if query:
                    check_query(request, query)
                call = Call(request, self, principal, request_id, body_bytes_max, chosen)
                if verified is not None:
                    await call.use_signature(verified)
                response: web.StreamResponse = await handler(call)
            except Exception as error:  # noqa: BLE001 - the last place where a fault can become an answer
                if isinstance(error, SignatureRefused) and error.bound is not None:
                    request[BOUND] = error.bound
                response = problems.respond(
                    *self.fault(error, route=name, instance=request.path, request_id=request_id),
                    writing=answer_format(chosen),
                )
            finally:
                if public:
                    self.strangers -= 1
                else:
                    self.in_flight -= 1
                if merchant is not None:
                    merchant.leave()
            answered(name, response.status, perf_counter() - began)
            return response

        return serve

    def fault(
        self, error: Exception, *, route: str, instance: str, request_id: str
    ) -> tuple[Problem, dict[str, str]]:
        """Say what a fault means to the caller; nothing foreign leaks into it.

        Returns:
            The problem, and headers that go with it.
        """
        detail = path = None
        headers: dict[str, str] = {}
        match error:
            case SchemaError():
                fault, detail, path = problems.MALFORMED, error.detail, error.path
            case SignatureRefused():
                self.metrics.refused(error.refusal.reason.code)
                problem = problems.refusal_problem(
                    error.refusal.reason,
                    instance=instance,
                    request_id=request_id,
                    detail=error.refusal.detail,
                )
                return problem, dict(SIGNATURE_WANTED)
            case Unauthenticated():
                fault, detail = problems.UNAUTHENTICATED, str(error)
                headers["WWW-Authenticate"] = 'Bearer realm="tongdui"'
            case SecondPersonNeeded():
                reason = Reason.SECOND_PERSON_NEEDED
                problem = problems.refusal_problem(
                    reason, instance=instance, request_id=request_id, detail=str(error)
                )
                return problem, headers
            case Forbidden():
                fault, detail = problems.FORBIDDEN, str(error)
            case Unavailable():
                fault = problems.UNAVAILABLE
                headers["Retry-After"] = str(error.retry_after_seconds)
                log.warning(
                    "request.turned_away", request_id=request_id, route=route, detail=str(error)
                )
            case QuotaExceeded():
                fault, detail = problems.QUOTA_EXCEEDED, str(error)
                headers["Retry-After"] = str(error.retry_after_seconds)
            case BodyTimedOutError():
                fault = problems.TIMED_OUT
                headers["Connection"] = "close"
            case BodyTooLargeError():
                fault = problems.TOO_LARGE
                headers["Connection"] = "close"
            case MediaTypeError():
                fault, detail = problems.MEDIA_TYPE, str(error)
                headers["Accept"] = ", ".join(RECORD_TYPES)
            case NotAcceptableError():
                fault, detail = problems.NOT_ACCEPTABLE, str(error)
            case _ if is_outage(error):
                fault = problems.UNAVAILABLE
                headers["Retry-After"] = str(RETRY_SECONDS)
                log.warning(
                    "request.turned_away",
                    request_id=request_id,
                    route=route,
                    detail=type(error).__name__,
                )
            case _:
                fault = problems.INTERNAL
                log.error("request.failed", request_id=request_id, route=route, exc_info=error)
        problem = problems.fault_problem(
            fault, instance=instance, request_id=request_id, detail=detail, field=path
        )
        return problem, headers


def _has(tags: str | None, tag: str) -> bool:
    """Whether `If-None-Match` names an entity tag; compared weakly (RFC 9110 §13.1.2)."""
    if tags is None:
        return False
    named = {each.strip().removeprefix("W/") for each in tags.split(",")}
    return tag in named or named == {"*"}


def chosen_type(request: web.Request, offers: tuple[str, ...]) -> str | None:
    """The content type that an answer is to have, by the header `Accept`; None if the caller takes none."""
    headers = request.headers
    accept = ",".join(headers.getall("Accept", ())) if "Accept" in headers else None
    return choose(accept, offers, headers.get("Content-Type"))


def check_query(request: web.Request, known: frozenset[str]) -> None:
    """Take no parameter that means nothing: a filter with a slip in its name would show what it should not.

    Raises:
        SchemaError: There is one; what a stranger wrote is not repeated.
    """
    names = [name for name, _ in request.query.items()]
    if not known.issuperset(names) or len(names) != len(set(names)):
        raise SchemaError("?", f"Expected nothing but {', '.join(sorted(known))}, each once")


def head_of(request: web.Request) -> RequestHead:
    """What is signed of a request.

    Raises:
        SignatureRefused: A field that is signed comes more than once.
    """
    headers = request.headers
    if "Signature" in headers or "Signature-Input" in headers:
        for name in _SIGNED_FIELDS:
            if len(headers.getall(name, ())) > 1:
                detail = f"Expected the field `{name}` once."
                raise SignatureRefused(Refusal(Reason.SIGNATURE_MALFORMED, detail), None)
    host, *fields = (headers.get(name) for name in _SIGNED_FIELDS)
    return RequestHead(request.method, host or "", request.raw_path, *fields)


async def finish_head(request: web.Request, response: web.StreamResponse) -> None:
    """Complete the head of an answer that is about to be sent: the caller's quotas, and the signature."""
    allowance, policy = request.get(LIMITED, (None, "requests"))
    if allowance is not None:
        response.headers.update(allowance.fields(policy))
    _sign(request, response)


def _note_public(request: web.Request) -> None:
    """Note that anybody may ask this; the answer is bound to the request's signature where it has one all the same."""
    request[PUBLIC] = True
    with contextlib.suppress(SignatureRefused):
        bound = bound_of(head_of(request))
        if bound is not None:
            request[BOUND] = bound


def _sign(request: web.Request, response: web.StreamResponse) -> None:
    """Sign an answer whose request was signed, or that anybody may have; a redirection says nothing that is covered."""
    bound: str | None = request.get(BOUND)
    headers = response.headers
    if (bound is None and PUBLIC not in request) or "Location" in headers:
        return
    services = request.config_dict[GATE].services
    key = services.answer_keys.signer()
    if key is None:
        return
    digest: str | None = headers.get("Content-Digest")
    if digest is None and isinstance(response, web.Response):
        body = response.body or b""
        if isinstance(body, bytes | bytearray):
            digest = headers["Content-Digest"] = content_digest(body)
    content_type, now = headers["Content-Type"], services.now_us() // 1_000_000
    if bound is not None:
        told, signature = sign_answer(
            status=response.status,
            content_type=content_type,
            content_digest=digest,
            request_signature=bound,
            key=key,
            now=now,
        )
    else:
        told, signature = sign_public_answer(
            status=response.status,
            content_type=content_type,
            content_digest=digest or "",
            method=request.method,
            target=request.raw_path,
            key=key,
            now=now,
        )
    if signature:
        headers["Signature-Input"], headers["Signature"] = told, signature


GATE: Final = web.AppKey("gate", Gate)
"""Where an application keeps its gate."""
