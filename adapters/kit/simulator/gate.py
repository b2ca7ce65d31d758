"""How a simulated system over HTTP knows its callers: the other side of `adapters.kit.http_auth`."""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.kit.http_auth import (
    ApiKey,
    Ed25519,
    Hmac,
    OAuth2,
    Sent,
    api_key_header,
    basic_header,
    signature_holds,
)

if TYPE_CHECKING:
    import random
    import ssl

    from adapters.kit.http import HttpSettings
    from adapters.kit.simulator.certificates import Authority
    from adapters.kit.simulator.stage import Stage

_TOKEN_PATH: Final = "/sandbox/token"  # noqa: S105 - a path
_TOKEN_SECONDS: Final = 600
_CA: Final = "env:TONGDUI_SANDBOX_CA"


class Gate:
    """Checks what every request must carry, and gives tokens where they are asked for."""

    def __init__(self, settings: HttpSettings, stage: Stage) -> None:
        """Take the auth kind, and the certificates, that the manifest asks the adapter for."""
        self._auth = settings.auth
        self._stage = stage
        self._tokens: dict[str, int] = {}
        self._seen: set[str] = set()
        self.secrets: dict[str, bytes] = {}
        self._secret = b""
        if isinstance(self._auth, ApiKey | Hmac | OAuth2):
            self._secret = stage.secret(self._auth.secret)
            self.secrets[self._auth.secret] = self._secret
        if isinstance(self._auth, Ed25519):
            self._secret, private = new_key_pair(stage.random)
            self.secrets[self._auth.secret] = private
        self.tls: ssl.SSLContext | None = None
        if stage.authority is not None:
            self.tls = self._server_tls(settings, stage.authority)

    def settings(self, address: str) -> dict[str, Any]:
        """What to change in the settings, so that an adapter comes here and fetches its tokens here."""
        changed: dict[str, Any] = {"base_url": address}
        if isinstance(self._auth, OAuth2) and not self._auth.token_url.startswith("/"):
            changed["auth"] = {"token_url": address + _TOKEN_PATH}
        if self.tls is not None:
            changed["tls"] = {"ca": _CA}
        return changed

    async def token(self, request: web.Request) -> web.Response | None:
        """Give a token; None if none is asked for."""
        auth = self._auth
        if not isinstance(auth, OAuth2):
            return None
        if request.path != (auth.token_url if auth.token_url.startswith("/") else _TOKEN_PATH):
            return None
        form = parse_qs((await request.read()).decode("utf-8", "replace"))
        client = (form.get("client_id"), form.get("client_secret"))
        if auth.client_in == "basic":
            held = _same(
                request.headers.get("Authorization", ""), basic_header(auth.client_id, self._secret)
            )
        else:
            held = client == ([auth.client_id], [self._secret.decode()])
        if not held or form.get("grant_type") != ["client_credentials"]:
            return web.json_response({"error": "invalid_client"}, status=401)
        token = self._stage.random.randbytes(16).hex()
        self._tokens[token] = self._stage.now_us() + _TOKEN_SECONDS * 1_000_000
        return web.json_response(
            {"access_token": token, "token_type": "Bearer", "expires_in": _TOKEN_SECONDS}
        )

    def _server_tls(self, settings: HttpSettings, authority: Authority) -> ssl.SSLContext:
        """A context that the adapter trusts, and that asks for its certificate where it has one."""
        self.secrets[_CA] = authority.certificate
        if settings.tls.certificate:
            ours = authority.issue("tongdui")
            self.secrets[settings.tls.certificate] = ours.certificate
            self.secrets[settings.tls.key] = ours.key
        return authority.server(authority.issue("merchant"), clients=bool(settings.tls.certificate))

    def withdraw_tokens(self) -> None:
        """Let every token that was given be over now."""
        self._tokens.clear()

    def admits(self, request: web.Request, body: bytes) -> bool:
        """Whether a request carries what it must."""
        match self._auth:
            case ApiKey() as auth:
                (name, value), *_ = api_key_header(auth, self._secret).items()
                return _same(request.headers.get(name, ""), value)
            case OAuth2():
                token = request.headers.get("Authorization", "").removeprefix("Bearer ")
                return self._tokens.get(token, 0) > self._stage.now_us()
            case Hmac() | Ed25519() as auth:
                return self._is_signed(auth, request, body)
            case _:
                return True

    def _is_signed(self, auth: Hmac | Ed25519, request: web.Request, body: bytes) -> bool:
        sent = Sent(
            method=request.method,
            host=request.host,
            path=request.rel_url.raw_path,
            query=request.rel_url.raw_query_string,
            body=body,
        )
        nonce = signature_holds(
            auth, self._secret, sent, request.headers, now_us=self._stage.now_us()
        )
        if nonce is None or nonce in self._seen:
            return False
        self._seen.add(nonce)
        return True


def new_key_pair(rng: random.Random) -> tuple[bytes, bytes]:
    """Draw a key of Ed25519: the public and the private half, in Base64."""
    private = rng.randbytes(32)
    public = Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    return base64.b64encode(public), base64.b64encode(private)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
