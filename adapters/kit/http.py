"""Calls over HTTP, and the one question that matters about each that failed: did it leave us?

`NotSent` is raised only where no byte of the request was ever written: the name was not found, the
connection was refused or not made in time, the TLS handshake failed, there was no token to send. From
the moment there is a connection the request may have arrived, so whatever goes wrong then is
`NoAnswer`, which an adapter answers as unknown. Nothing is sent twice: aiohttp by itself repeats a PUT
or a DELETE when a kept connection turns out to be dead, and `_once` stands in its way.
"""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlencode

import aiohttp
import msgspec
from aiohttp import ClientError, ClientTimeout, DummyCookieJar, TCPConnector
from yarl import URL

from adapters.kit.contract import Finding, NotSent
from adapters.kit.http_auth import (
    ApiKey,
    Auth,
    Ed25519,
    Hmac,
    MutualTls,
    NoAuth,
    OAuth2,
    Sent,
    api_key_header,
    basic_header,
    private_key,
    signature_headers,
)
from adapters.kit.tls import TlsSettings, client_tls
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from adapters.kit.context import Clock, Context
    from adapters.kit.folder import Folder

    _Exchange = Callable[[str, URL, Mapping[str, str], bytes], Awaitable["HttpAnswer"]]

_TOKEN_SECONDS: Final = 300
"""Life of a token that does not say how long it lives."""
_TOKEN_MARGIN: Final = 0.9
"""Share of its life during which a token is used: the other end's clock may run ahead of ours."""
_CHUNK: Final = 16_384


class NoAnswer(Exception):  # noqa: N818 - it says what happened
    """A request was sent, or may have been, and no whole answer came back."""


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every protocol over HTTP has in `[settings]`; each adds its own fields.

    Attributes:
        base_url: Where the system is; paths are appended to it.
        plaintext: Whether plain HTTP to another machine is meant; to this machine it always may be.
        connect_seconds: Longest that name, connection and handshake may take together.
        keep_seconds: How long an unused connection is kept; less than the merchant's server keeps it.
        body_bytes_max: Largest answer that is read.
        auth: How the system knows us.
        tls: Whom we trust, and our own certificate.
    """

    base_url: str
    plaintext: bool = False
    connect_seconds: Annotated[float, msgspec.Meta(gt=0, le=60)] = 1.0
    keep_seconds: Annotated[float, msgspec.Meta(gt=0, le=600)] = 4.0
    body_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=64 * 1024 * 1024)] = 1024 * 1024
    auth: Auth = NoAuth()
    tls: TlsSettings = TlsSettings()

    def __post_init__(self) -> None:
        """Check the address, and that what the auth kind needs is there."""
        url = URL(self.base_url)
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError(f"base_url: expected https://host, got {self.base_url!r}")
        if url.user or url.query_string or url.fragment:
            raise ValueError("base_url: carries no user, query or fragment")
        if url.scheme == "http" and not self.plaintext and not _is_here(url.host):
            raise ValueError("base_url: expected https (or plaintext = true, if that is meant)")
        if isinstance(self.auth, MutualTls) and not self.tls.certificate:
            raise ValueError('auth: kind = "mtls" needs tls.certificate and tls.key')


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One request.

    Attributes:
        method: In capitals.
        path: Appended to the base URL, begins with a slash, percent-encoded already.
        query: Pairs in their order.
        headers: Besides those of the auth kind.
        body: Bytes as they are sent; empty for none.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """One answer, whole.

    Attributes:
        status: The status code.
        headers: By name, in any case.
        body: As it came.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Sends requests to one merchant's system over connections that are kept for a while."""

    def __init__(self, settings: HttpSettings, folder: Folder, context: Context) -> None:
        """Read secrets and certificates now: a missing one is found before the first call.

        Raises:
            SchemaError: A secret or a certificate cannot be read.
        """
        where = folder.where("manifest.toml") + ".settings"
        self._settings = settings
        self._context = context
        self._base = settings.base_url.rstrip("/")
        self._root = URL(self._base, encoded=True)
        self._below = self._root.raw_path.rstrip("/")
        # Made only where it is needed: reading the machine's authorities takes 50 ms of CPU.
        self._tls = (
            client_tls(settings.tls, folder, context.secrets)
            if self._base.startswith("https:")
            else False
        )
        self._answer_seconds = folder.manifest.limits.deadline_seconds
        self._session: aiohttp.ClientSession | None = None
        self._secret = b""
        if isinstance(settings.auth, ApiKey | Hmac | Ed25519 | OAuth2):
            self._secret = context.secrets.read(settings.auth.secret, where=f"{where}.auth.secret")
        if isinstance(settings.auth, Ed25519):
            try:
                private_key(self._secret)
            except ValueError:
                raise SchemaError(f"{where}.auth.secret", "Not a private key of Ed25519") from None
        self._tokens = (
            _Tokens(settings.auth, self._secret) if isinstance(settings.auth, OAuth2) else None
        )

    async def start(self) -> None:
        """Make ready on the running loop; connections are made when they are needed."""
        self._session = aiohttp.ClientSession(
            connector=TCPConnector(
                ssl=self._tls, limit=0, keepalive_timeout=self._settings.keep_seconds
            ),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            headers={"User-Agent": "tongdui", "Accept-Encoding": "identity"},
            timeout=ClientTimeout(
                total=None,
                connect=self._settings.connect_seconds,
                sock_read=self._answer_seconds,
            ),
            middlewares=(_once,),
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, request: HttpRequest) -> HttpAnswer:
        """Send a request once and read its answer whole.

        With OAuth 2, an answer 401 to a token that was kept makes the client fetch a new token and
        send once more: whoever refuses the token has not looked at the request.

        Raises:
            NotSent: Certainly no byte of it was sent.
            NoAnswer: It may have been sent, and there is no answer, or none that is whole.
        """
        if self._tokens is None:
            return await self._send(request, {})
        token, kept = await self._token()
        answer = await self._send(request, {"Authorization": f"Bearer {token}"})
        if answer.status == 401:
            self._tokens.drop(token)
            if kept:
                token, _ = await self._token()
                answer = await self._send(request, {"Authorization": f"Bearer {token}"})
        return answer

    async def _send(self, request: HttpRequest, extra: Mapping[str, str]) -> HttpAnswer:
        url = (
            URL(self._base + request.path, encoded=True)
            if "?" in request.path or "#" in request.path
            else self._root.with_path(self._below + request.path, encoded=True)
        )
        if request.query:
            url = url.with_query(list(request.query))
        headers = {**request.headers, **extra, **self._auth_headers(url, request)}
        return await self._exchange(request.method, url, headers, request.body)

    async def _exchange(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes
    ) -> HttpAnswer:
        if self._session is None:
            raise NotSent(Finding("The adapter is closed."))
        try:
            async with self._session.request(
                method, url, headers=headers, data=body or None, allow_redirects=False
            ) as response:
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise NoAnswer("The answer is compressed, which was not asked for.")
                body = await self._read(response)
                return HttpAnswer(status=response.status, headers=response.headers, body=body)
        except (ClientError, OSError, TimeoutError) as error:
            raise NoAnswer(f"No whole answer: {type(error).__name__}.") from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body, whole; no more of a larger one is taken than shows that it is."""
        bytes_max = self._settings.body_bytes_max
        if (response.content_length or bytes_max + 1) <= bytes_max:
            return await response.read()
        whole = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            whole += chunk
            if len(whole) > bytes_max:
                response.close()
                raise NoAnswer(f"The answer is larger than {bytes_max} bytes.")
        return bytes(whole)

    def _auth_headers(self, url: URL, request: HttpRequest) -> dict[str, str]:
        match self._settings.auth:
            case ApiKey() as auth:
                return api_key_header(auth, self._secret)
            case Hmac() | Ed25519() as auth:
                default = url.is_default_port()
                sent = Sent(
                    method=request.method,
                    host=(url.host or "") if default else f"{url.host}:{url.port}",
                    path=url.raw_path,
                    query=url.raw_query_string,
                    body=request.body,
                )
                nonce = self._context.random.randbytes(16).hex()
                return signature_headers(
                    auth, self._secret, sent, now_us=self._context.now_us(), nonce=nonce
                )
            case _:
                return {}

    async def _token(self) -> tuple[str, bool]:
        """A token, and whether it was kept from before.

        Raises:
            NotSent: There is none, so what needs it was not sent.
        """
        assert self._tokens is not None
        try:
            # Half of the deadline: if it takes longer, the call itself could not be answered in time,
            # and here it is still certain that it was not sent.
            async with asyncio.timeout(self._answer_seconds / 2):
                return await self._tokens.get(self._exchange, self._base, self._context.now_us)
        except TimeoutError:
            raise NotSent(Finding("No access token in time.")) from None
        except NoAnswer as error:
            raise NotSent(f"No access token: {error}") from None


class _TokenAnswer(msgspec.Struct, frozen=True):
    """RFC 6749 §5.1."""

    access_token: Annotated[str, msgspec.Meta(pattern=r"\A[\x21-\x7e]{1,8192}\Z")]
    expires_in: Annotated[float, msgspec.Meta(gt=0)] = _TOKEN_SECONDS


class _Tokens:
    """Keeps one access token, and lets one caller at a time fetch the next."""

    def __init__(self, auth: OAuth2, secret: bytes) -> None:
        self._auth = auth
        self._secret = secret
        self._token = ""
        self._until_us = 0
        self._fetching = asyncio.Lock()

    def drop(self, token: str) -> None:
        """Forget a token that was refused, unless there is another one by now."""
        if self._token == token:
            self._token = ""

    async def get(self, exchange: _Exchange, base: str, now_us: Clock) -> tuple[str, bool]:
        """A token, and whether it was kept from before."""
        async with self._fetching:
            if self._token and now_us() < self._until_us:
                return self._token, True
            answer = await exchange("POST", *self._request(base))
            try:
                given = msgspec.json.decode(answer.body, type=_TokenAnswer)
            except (msgspec.DecodeError, UnicodeDecodeError):
                given = None
            if answer.status != 200 or given is None:
                raise NoAnswer(f"the token endpoint answered {answer.status}.")
            self._token = given.access_token
            self._until_us = now_us() + int(given.expires_in * _TOKEN_MARGIN * 1_000_000)
            return self._token, False

    def _request(self, base: str) -> tuple[URL, Mapping[str, str], bytes]:
        auth = self._auth
        form = {"grant_type": "client_credentials"}
        if auth.scope:
            form["scope"] = auth.scope
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if auth.client_in == "basic":
            headers["Authorization"] = basic_header(auth.client_id, self._secret)
        else:
            form |= {"client_id": auth.client_id, "client_secret": self._secret.decode()}
        place = base + auth.token_url if auth.token_url.startswith("/") else auth.token_url
        return URL(place), headers, urlencode(form).encode()


async def _once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send once, and tell what never left us from what may have."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise NotSent(Finding(f"No connection: {type(error).__name__}.")) from error
    except (ClientError, OSError, TimeoutError) as error:
        # Not an aiohttp error any more, so aiohttp does not repeat the request.
        raise NoAnswer(f"No answer: {type(error).__name__}.") from error


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
