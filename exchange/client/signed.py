"""Requests that are signed, answers that are verified, and what nobody answered asked again.

A repeat carries the same idempotency key and a new signature: a signature counts once, an order once for
its key. So whatever happens on the way, the answer that comes at last is the one answer to the order.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import aiohttp
import msgspec
from yarl import URL

from exchange.client.operations import Refused
from exchange.signing.answer import check_answer
from exchange.signing.request import RequestHead, sign_request
from schemas.values.faults import Unavailable
from schemas.wire.problems import Problem

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from exchange.client.identity import Identity
    from exchange.client.operations import AnswerT, Operation, RequestT

JSON_TYPE: Final = "application/json"
PATIENCE_SECONDS: Final = 30.0
FIRST_WAIT_SECONDS: Final = 0.1
WAIT_SECONDS_MAX: Final = 5.0
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_AGAIN: Final = frozenset({408, 429, 502, 503, 504})
_SIGN_ANEW: Final = frozenset({"signature_late", "signature_replayed"})
"""A signature that was too long on its way, or that arrived twice: the request itself is as good as ever."""


class Answer(NamedTuple):
    """What was answered, and is shown to be the clearing house's.

    Attributes:
        status: HTTP status.
        content_type: Its content type.
        body: Its bytes.
    """

    status: int
    content_type: str
    body: bytes

    @property
    def good(self) -> bool:
        """Whether the answer is yes."""
        return self.status < 400

    def read(self) -> Any:
        """The body, decoded by its content type."""
        if "msgpack" in self.content_type:
            return msgspec.msgpack.decode(self.body)
        return msgspec.json.decode(self.body)


class SignedClient:
    """Speaks to one clearing house as one merchant, or as the house."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        identity: Identity,
        trusted: Mapping[str, Ed25519PublicKey],
        *,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Take what is needed; `open` makes the session too.

        Args:
            session: Sends.
            url: Where the clearing house is.
            identity: The key that signs.
            trusted: The operator's public keys, by their ids.
            patience_seconds: For how long a request is sent again while nobody answers it.
        """
        self._session = session
        self._url = url.rstrip("/")
        self._identity = identity
        self._key_id = identity.key_id
        self._trusted = trusted
        self._patience_seconds = patience_seconds

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        identity: Identity,
        trusted: Mapping[str, Ed25519PublicKey],
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        timeout_seconds: float = 30.0,
        tls: ssl.SSLContext | None = None,
    ) -> AsyncIterator[SignedClient]:
        """A client for the length of the block.

        Args:
            url: Where the clearing house is.
            identity: The key that signs.
            trusted: The operator's public keys, by their ids.
            patience_seconds: For how long a request is sent again while nobody answers it.
            timeout_seconds: How long one answer is waited for.
            tls: Authorities and, for mutual TLS, the own certificate; the machine's authorities by default.
        """
        timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        connector = aiohttp.TCPConnector(ssl=tls or True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            yield cls(session, url, identity, trusted, patience_seconds=patience_seconds)

    async def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        content_type: str = JSON_TYPE,
        key: str | None = None,
        again: bool = True,
    ) -> Answer:
        """Send one request, and again with growing waits while nobody answers it.

        Args:
            method: HTTP method.
            path: Path and query.
            body: The body; None for none.
            content_type: Of the body, and of what is wanted.
            key: Idempotency key; the same for every repeat.
            again: Whether a repeat is harmless, as it is for all that carries a key or only reads.

        Returns:
            The answer, yes or no, verified.

        Raises:
            Unavailable: Nobody answered in time.
            AnswerNotTrusted: The answer is not shown to be the clearing house's.
        """
        deadline = time.monotonic() + self._patience_seconds
        wait_seconds = FIRST_WAIT_SECONDS
        while True:
            try:
                answer, after = await self._send(method, path, body, content_type, key)
            except (aiohttp.ClientError, TimeoutError) as error:
                why, after = str(error) or type(error).__name__, None
            else:
                if not _wants_another(answer):
                    return answer
                why = f"it answered {answer.status}"
            pause = max(wait_seconds * random.uniform(0.5, 1.0), after or 0.0)  # noqa: S311 - spreads repeats, hides nothing
            if not again or time.monotonic() + pause > deadline:
                raise Unavailable(f"{method} {path}: {why}")
            await asyncio.sleep(pause)
            wait_seconds = min(wait_seconds * 2, WAIT_SECONDS_MAX)

    async def perform(
        self,
        operation: Operation[RequestT, AnswerT],
        body: RequestT | None = None,
        *,
        path: Mapping[str, str] = _NOTHING,
        query: Mapping[str, str | int | None] = _NOTHING,
        key: str | None = None,
        again: bool | None = None,
    ) -> AnswerT:
        """Do one of the contract's operations (`exchange.client.operations`).

        Args:
            operation: Which.
            body: What to send.
            path: What the names in its path stand for.
            query: Parameters; None is left out.
            key: Idempotency key, for an operation that needs one; the same for every repeat.
            again: Whether it is sent again while nobody answers; by default where a repeat is harmless by its method
                or its key. The document says of every other operation what a repeat does.

        Returns:
            The answer, verified and read.

        Raises:
            Refused: The clearing house said no.
            ValueError: A key is missing or not taken, or a name in the path stands for nothing.
            Unavailable: Nobody answered in time.
            AnswerNotTrusted: The answer is not shown to be the clearing house's.
        """
        if operation.keyed != (key is not None):
            raise ValueError(
                f"{operation.method} {operation.path} takes {'a' if operation.keyed else 'no'} key"
            )
        answer = await self.call(
            operation.method,
            operation.target(path, query),
            None if body is None else msgspec.json.encode(body),
            key=key,
            again=operation.again if again is None else again,
        )
        if not answer.good:
            raise Refused(msgspec.json.decode(answer.body, type=Problem))
        if operation.answer is bytes:
            return cast("AnswerT", answer.body)
        return msgspec.json.decode(answer.body, type=operation.answer)

    async def _send(
        self, method: str, path: str, body: bytes | None, content_type: str, key: str | None
    ) -> tuple[Answer, float | None]:
        """Send once, and verify the answer.

        Returns:
            The answer, and when it says to come again, in seconds.
        """
        url = URL(self._url + path, encoded=True)
        fields = {"Accept": content_type, "Host": url.host_port_subcomponent or ""}
        if body:
            fields["Content-Type"] = content_type
        if key is not None:
            fields["Idempotency-Key"] = key
        fields |= sign_request(
            RequestHead(
                method,
                fields["Host"],
                url.raw_path_qs,
                None,
                fields.get("Content-Type"),
                key,
            ),
            body=body,
            key_id=self._key_id,
            private=self._identity.private,
            nonce=secrets.token_urlsafe(16),
            created=int(time.time()),
        )
        async with self._session.request(
            method,
            url,
            data=body or None,
            headers=fields,
            skip_auto_headers=("Content-Type",),
            allow_redirects=False,
        ) as response:
            data = await response.read()
        headers = response.headers
        answer = Answer(response.status, headers.get("Content-Type", ""), data)
        if answer.status in _AGAIN and "Signature" not in headers:
            # A proxy says so, or a gateway that could not read the request; it decided nothing.
            return answer, _seconds(headers.get("Retry-After"))
        check_answer(
            status=answer.status,
            content_type=answer.content_type,
            content_digest=headers.get("Content-Digest"),
            signature_input=headers.get("Signature-Input"),
            signature=headers.get("Signature"),
            request_signature=fields["Signature"],
            body=data,
            public_of=self._trusted.get,
            now=int(time.time()),
        )
        return answer, _seconds(headers.get("Retry-After"))


def _wants_another(answer: Answer) -> bool:
    """Whether the same wish, signed anew, is what the answer asks for."""
    if answer.status in _AGAIN:
        return True
    if answer.status != 401:
        return False
    try:
        return bool(answer.read().get("reason") in _SIGN_ANEW)
    except (msgspec.DecodeError, AttributeError):
        return False


def _seconds(text: str | None) -> float | None:
    """`Retry-After` in seconds; a date is not waited for."""
    return min(float(text), WAIT_SECONDS_MAX) if text and text.isdigit() else None
