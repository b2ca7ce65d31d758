"""Sending one webhook: to public addresses only, without redirects, within limits of time and size.

The name of an endpoint is looked up by a resolver that drops every address of a closed network, and the connection
goes to what that resolver answered; so a name that leads elsewhere at its second look-up leads nowhere. Addresses that
stand in the URL itself are judged before the connection, since no resolver sees them.
"""

from __future__ import annotations

import asyncio
import socket
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from exchange.core.webhook import (
    ID_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    is_public_address,
    sign_webhook,
    why_not_url,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CONNECT_SECONDS: Final = 5.0
TOTAL_SECONDS: Final = 15.0
"""Standard Webhooks asks for 15 to 30 seconds; a receiver that does more work answers first and works then."""
ANSWER_BYTES_MAX: Final = 16 * 1024
"""An answer is read so far, for its connection to be used again, and is not looked at."""
CONNECTIONS_MAX: Final = 2_000
"""More than endpoints that a worker serves: an attempt never waits for another one's connection."""
_GONE: Final = 410


class Sent(NamedTuple):
    """What became of one attempt.

    Attributes:
        delivered: Whether the endpoint took it: any status from 200 to 299.
        gone: Whether it said that it wants no more (410).
        error: What went wrong, in one line; empty if nothing did.
        asked_seconds: How long it asked us to wait; 0 for nothing.
    """

    delivered: bool
    gone: bool = False
    error: str = ""
    asked_seconds: float = 0.0


class PublicResolver(AbstractResolver):
    """Looks names up and drops addresses of closed networks."""

    def __init__(self, inner: AbstractResolver) -> None:
        """Take the resolver that looks up."""
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Look a name up.

        Raises:
            OSError: It leads nowhere, or into closed networks only.
        """
        found = await self._inner.resolve(host, port, family)
        public = [each for each in found if is_public_address(each["host"])]
        if not public:
            raise OSError(None, f"{host} leads into a private network")
        return public

    async def close(self) -> None:
        """Close the resolver that looks up."""
        await self._inner.close()


class WebhookSender:
    """Sends webhooks over connections that it keeps."""

    def __init__(
        self,
        *,
        private: bool = False,
        resolver: AbstractResolver | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        """Prepare; needs a running loop.

        Args:
            private: Whether closed networks and plain HTTP may be called, as in a sandbox.
            resolver: Looks names up; the system's by default.
            connect_seconds: Longest that a connection may take.
            total_seconds: Longest that an attempt may take.
        """
        inner = resolver or ThreadedResolver()
        self._private = private
        connector = aiohttp.TCPConnector(
            limit=CONNECTIONS_MAX,
            resolver=inner if private else PublicResolver(inner),
            ttl_dns_cache=30,
            # Less than servers keep a connection that is not used, so that few attempts meet a dead one.
            keepalive_timeout=4.0,
        )
        self._http = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=total_seconds, sock_connect=connect_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        self._agent = f"tongdui-webhooks/{version('tongdui')}"

    async def send(
        self,
        url: str,
        *,
        keys: Sequence[Ed25519PrivateKey],
        message_id: str,
        timestamp: int,
        body: bytes,
    ) -> Sent:
        """Send one webhook once.

        Args:
            url: The endpoint.
            keys: All that sign now.
            message_id: Name of the event.
            timestamp: Seconds since 1970, now.
            body: JSON.
        """
        why_not = why_not_url(url, private=self._private)
        if why_not:
            return Sent(delivered=False, error=why_not)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": self._agent,
            ID_HEADER: message_id,
            TIMESTAMP_HEADER: str(timestamp),
            SIGNATURE_HEADER: sign_webhook(
                keys, message_id=message_id, timestamp=timestamp, body=body
            ),
        }
        try:
            async with self._http.post(
                URL(url), data=body, headers=headers, allow_redirects=False
            ) as answer:
                status = answer.status
                asked = _retry_after(answer.headers.get("Retry-After", ""))
                await _drain(answer)
        except TimeoutError:
            return Sent(delivered=False, error="no answer in time")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Sent(delivered=False, error=_why(error))
        if 200 <= status < 300:
            return Sent(delivered=True)
        return Sent(
            delivered=False,
            gone=status == _GONE,
            error=f"answered {status}",
            asked_seconds=asked,
        )

    async def close(self) -> None:
        """Hang up on everybody."""
        await self._http.close()


async def _drain(answer: aiohttp.ClientResponse) -> None:
    """Read a short answer to its end; hang up on a long one, which says nothing more to us."""
    left = ANSWER_BYTES_MAX
    async for piece in answer.content.iter_any():
        left -= len(piece)
        if left < 0:
            answer.close()
            return


def _retry_after(text: str) -> float:
    """Seconds that the header asks for (RFC 9110 §10.2.3); 0 if it names a date or nothing."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0.0


def _why(error: Exception) -> str:
    """What went wrong, without addresses or anything that the endpoint sent."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host leads nowhere, or into a private network"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "no sound TLS connection"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "no connection"
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionError):
        return "the connection broke"
    if isinstance(error, asyncio.IncompleteReadError | aiohttp.ClientPayloadError):
        return "the answer broke off"
    return "no HTTP answer"
