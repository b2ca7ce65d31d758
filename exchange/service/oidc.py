"""Sign in through an identity provider: OpenID Connect, authorization code flow with PKCE (RFC 7636).

What a flow has to remember (state, nonce, verifier) is sealed into a cookie of the browser that began it, so the answer
counts for that browser alone and nothing is stored. The id token is believed only with the provider's signature, for
this client, with this flow's nonce. Whether somebody used a second factor is the provider's to ensure.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import tomllib
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

import aiohttp
import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from exchange.vault.sealing import SealBroken
from schemas.values.faults import SchemaError, Unavailable
from schemas.values.reason import Reason, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exchange.service.vaults import VaultDoor

FILE_NAME: Final = "oidc.toml"
FLOW_SECONDS: Final = 600
METADATA_SECONDS: Final = 3600.0
ALGORITHMS: Final = ["RS256", "ES256", "EdDSA", "Ed25519"]
"""Of id tokens; neither `none` nor a shared secret is among them."""
_CLOCK_SECONDS: Final = 60
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_BYTES_MAX: Final = 256 * 1024
_OWNER: Final = "oidc flow"


class OidcSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file `oidc.toml` of an installation.

    Attributes:
        issuer: The provider, as its tokens name it.
        client_id: Who we are to it.
        redirect_uri: Where it sends people back: `/v1/session/oidc/callback` of the gateway, as browsers reach it.
        client_secret_env: Environment variable with the client's secret; empty for a public client.
    """

    issuer: str
    client_id: str
    redirect_uri: str
    client_secret_env: str = ""


class _Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider says about itself (OpenID Connect Discovery 1.0 §3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


class _Flow(msgspec.Struct, frozen=True, kw_only=True):
    """What a browser's cookie holds, sealed."""

    state: str
    nonce: str
    verifier: str
    until: int


class _Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a token answer that matters here."""

    id_token: str


def read_settings(home: Path) -> OidcSettings | None:
    """The installation's identity provider; None where none is configured.

    Raises:
        SchemaError: The file is malformed, or names an address that is neither https nor on this machine.
    """
    path = home / FILE_NAME
    if not path.exists():
        return None
    try:
        read = tomllib.loads(path.read_text("utf-8"))
        settings = msgspec.convert(read, OidcSettings)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise SchemaError(FILE_NAME, str(error)) from error
    for address in (settings.issuer, settings.redirect_uri):
        _check_address(address)
    return settings


class IdentityProvider:
    """The provider as one gateway speaks to it."""

    def __init__(self, settings: OidcSettings, door: VaultDoor, now_us: Callable[[], int]) -> None:
        """Take the settings; nothing is asked before somebody signs in."""
        self.settings = settings
        self._door = door
        self._now_us = now_us
        self._known: tuple[float, _Metadata, KeySet] | None = None

    async def begin(self) -> tuple[str, bytes]:
        """Where to send a browser, and the cookie that it keeps meanwhile.

        Raises:
            Unavailable: The provider does not answer.
        """
        metadata, _ = await self._provider()
        flow = _Flow(
            state=secrets.token_urlsafe(24),
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
            until=self._now_us() // 1_000_000 + FLOW_SECONDS,
        )
        challenge = hashlib.sha256(flow.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "scope": "openid",
            "client_id": self.settings.client_id,
            "redirect_uri": self.settings.redirect_uri,
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        vault = await self._door.vault()
        sealed = vault.people.seal(msgspec.json.encode(flow), owner=_OWNER)
        mark = "&" if "?" in metadata.authorization_endpoint else "?"
        address = f"{metadata.authorization_endpoint}{mark}{urlencode(query)}"
        return address, base64.urlsafe_b64encode(sealed)

    async def end(self, *, cookie: str, state: str, code: str) -> str | Refusal:
        """Say whom the provider vouches for.

        Args:
            cookie: What `begin` had the browser keep.
            state: From the provider's answer.
            code: From the provider's answer.

        Returns:
            The subject, or SIGN_IN_REFUSED.

        Raises:
            Unavailable: The provider does not answer.
        """
        flow = await self._flow(cookie)
        if flow is None or not secrets.compare_digest(flow.state.encode(), state.encode()):
            return _refused("this browser did not begin this sign-in, or too long ago")
        metadata, keys = await self._provider()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.settings.redirect_uri,
            "client_id": self.settings.client_id,
            "code_verifier": flow.verifier,
        }
        if self.settings.client_secret_env:
            form["client_secret"] = os.environ.get(self.settings.client_secret_env, "")
        answer = await self._ask("POST", metadata.token_endpoint, form)
        if answer is None:
            return _refused("the provider does not take the code")
        try:
            token = msgspec.json.decode(answer, type=_Tokens).id_token
        except msgspec.DecodeError:
            return _refused("the provider's answer holds no id token")
        return self._subject(token, keys, flow.nonce)

    def _subject(self, token: str, keys: KeySet, nonce: str) -> str | Refusal:
        """Whom an id token names, if it is the provider's for this client and this flow (Core 1.0 §3.1.3.7)."""
        claims = jwt.JWTClaimsRegistry(
            now=self._now_us() // 1_000_000,
            leeway=_CLOCK_SECONDS,
            iss={"essential": True, "value": self.settings.issuer},
            aud={"essential": True, "value": self.settings.client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            read = jwt.decode(token, keys, algorithms=ALGORITHMS)
            claims.validate(read.claims)
        except (JoseError, ValueError) as error:
            return _refused(f"the id token does not count: {type(error).__name__}")
        subject, party = read.claims["sub"], read.claims.get("azp", self.settings.client_id)
        if not isinstance(subject, str) or party != self.settings.client_id:
            return _refused("the id token is for somebody else")
        return subject

    async def _flow(self, cookie: str) -> _Flow | None:
        people = (await self._door.vault()).people
        try:
            opened = people.open(base64.urlsafe_b64decode(cookie), owner=_OWNER)
        except (SealBroken, ValueError):
            return None
        flow = msgspec.json.decode(opened, type=_Flow)
        return flow if flow.until > self._now_us() // 1_000_000 else None

    async def _provider(self) -> tuple[_Metadata, KeySet]:
        """What the provider says about itself, and its keys; asked again once an hour.

        Raises:
            Unavailable: It does not answer, or says that it is somebody else.
        """
        if self._known is not None and monotonic() - self._known[0] < METADATA_SECONDS:
            return self._known[1], self._known[2]
        issuer = self.settings.issuer
        told = await self._ask("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        try:
            metadata = msgspec.json.decode(told or b"", type=_Metadata)
            if metadata.issuer != issuer:
                raise Unavailable("the identity provider calls itself otherwise")
            for address in (metadata.token_endpoint, metadata.jwks_uri):
                _check_address(address)
            keys = await self._ask("GET", metadata.jwks_uri)
            key_set = KeySet.import_key_set(msgspec.json.decode(keys or b""))
        except (msgspec.DecodeError, JoseError, SchemaError, ValueError) as error:
            raise Unavailable(f"the identity provider cannot be used: {error}") from error
        self._known = (monotonic(), metadata, key_set)
        return metadata, key_set

    async def _ask(
        self, method: str, address: str, form: dict[str, str] | None = None
    ) -> bytes | None:
        """Ask the provider; None where it says no.

        Raises:
            Unavailable: It does not answer.
        """
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.request(method, address, data=form, allow_redirects=False) as answer,
            ):
                body = await answer.content.read(_BYTES_MAX)
                return body if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"the identity provider does not answer: {error}") from error


def _check_address(address: str) -> None:
    """Let only addresses go on that nobody on the way can read.

    Raises:
        SchemaError: It is neither https nor on this machine.
    """
    parts = urlsplit(address)
    if parts.scheme == "https" or (
        parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    ):
        return
    raise SchemaError(FILE_NAME, f"{address} is neither https nor on this machine")


def _refused(detail: str) -> Refusal:
    return Refusal(Reason.SIGN_IN_REFUSED, detail)
