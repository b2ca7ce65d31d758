"""People sign in through an identity provider: a small one that speaks OpenID Connect over real sockets."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import pytest_asyncio
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import KeySet, OKPKey

from exchange.service.oidc import FLOW_SECONDS, read_settings
from exchange.service.people import link_person
from schemas.values.faults import SchemaError
from settlement.core.trail import PROGRAM
from tests.gateway.conftest import Answer, House, clearing_house
from tests.gateway.test_people import added

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SECRET = "client secret"


@dataclass
class Provider:
    """An identity provider that lets everybody in as the subject that it is told."""

    issuer: str = ""
    subject: str = "anna@id"
    claims: dict[str, Any] = field(default_factory=dict)
    key: OKPKey = field(default_factory=lambda: OKPKey.generate_key("Ed25519", {"kid": "k1"}))
    signs_with: OKPKey | None = None
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    async def configuration(self, _: web.Request) -> web.Response:
        """Say who it is."""
        return web.json_response(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/jwks",
            }
        )

    async def jwks(self, _: web.Request) -> web.Response:
        """Show its public key."""
        return web.json_response(KeySet([self.key]).as_dict(private=False))

    def authorize(self, address: str) -> dict[str, str]:
        """What it sends a browser back with, that was sent to this address."""
        query = {name: value for name, [value] in parse_qs(urlsplit(address).query).items()}
        assert (query["code_challenge_method"], query["scope"]) == ("S256", "openid")
        code = secrets.token_urlsafe()
        self.codes[code] = query
        return {"code": code, "state": query["state"]}

    async def token(self, request: web.Request) -> web.Response:
        """Give an id token for a code, once, to who began the flow."""
        form = await request.post()
        begun = self.codes.pop(str(form.get("code")), None)
        challenge = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        if (
            begun is None
            or form.get("client_secret") != SECRET
            or form.get("redirect_uri") != begun["redirect_uri"]
            or base64.urlsafe_b64encode(challenge).rstrip(b"=").decode() != begun["code_challenge"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": begun["client_id"],
            "sub": self.subject,
            "nonce": begun["nonce"],
            "iat": now,
            "exp": now + 60,
        } | self.claims
        told = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": "Ed25519", "kid": "k1"}
        made = jwt.encode(header, told, self.signs_with or self.key, algorithms=["Ed25519"])
        return web.json_response({"id_token": made, "access_token": "x", "token_type": "Bearer"})


@contextlib.asynccontextmanager
async def provider_at_work() -> AsyncIterator[Provider]:
    """A provider on a port of its own."""
    provider = Provider()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", provider.configuration)
    app.router.add_get("/jwks", provider.jwks)
    app.router.add_post("/token", provider.token)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    provider.issuer = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield provider
    finally:
        await runner.cleanup()


@dataclass
class Scene:
    """A house that is configured with a provider."""

    house: House
    provider: Provider

    async def begin(self) -> tuple[str, str]:
        """Begin to sign in; where the browser is sent, and its cookie."""
        async with self.house.http.get("/v1/session/oidc", allow_redirects=False) as answer:
            assert answer.status == 302, await answer.text()
            cookie = answer.cookies["tongdui-oidc"]
            assert cookie["httponly"]
            assert (cookie["samesite"], cookie["path"]) == ("Lax", "/v1/session/oidc")
            return answer.headers["Location"], cookie.value

    async def end(self, query: dict[str, str], cookie: str) -> Answer:
        """Come back from the provider."""
        self.house.http.cookie_jar.clear()
        return await self.house.call(
            "GET",
            f"/v1/session/oidc/callback?{urlencode(query)}",
            caller=None,
            headers={"Cookie": f"tongdui-oidc={cookie}"},
        )

    async def sign_in(self) -> Answer:
        """All of it."""
        address, cookie = await self.begin()
        return await self.end(self.provider.authorize(address), cookie)


@pytest_asyncio.fixture
async def scene(dsn: str, tmp_path: Path, monkeypatch) -> AsyncIterator[Scene]:
    """A house with a provider at which Anna is `anna@id`."""
    monkeypatch.setenv("OIDC_SECRET", SECRET)
    async with provider_at_work() as provider:
        (tmp_path / "oidc.toml").write_text(
            f'issuer = "{provider.issuer}"\nclient_id = "tongdui"\nclient_secret_env = "OIDC_SECRET"\n'
            'redirect_uri = "http://127.0.0.1/v1/session/oidc/callback"\n'
        )
        async with clearing_house(dsn, tmp_path) as house:
            await added(house, "anna", "support")
            async with house.pool.acquire() as conn, conn.transaction():
                now = house.services.now()
                await link_person(conn, name="anna", subject="anna@id", by=PROGRAM, now=now)
            yield Scene(house, provider)


async def test_a_person_signs_in_through_the_provider(scene: Scene):
    """Whom the provider vouches for gets a session; somebody who is nobody here gets none."""
    opened = await scene.sign_in()
    assert opened.status == 200, opened.raw
    scene.house.keys["anna"] = opened.body["token"]
    me = await scene.house.call("GET", "/v1/session", caller="anna")
    assert (me.body["name"], me.body["roles"]) == ("person:anna", ["support"])
    scene.provider.subject = "eve@id"
    assert (await scene.sign_in()).reason == "sign_in_refused"


async def test_an_answer_of_the_provider_counts_once_for_one_browser(scene: Scene):
    """Another browser, another state, a used or invented code and a flow that took too long open nothing."""
    address, cookie = await scene.begin()
    other, other_cookie = await scene.begin()
    query = scene.provider.authorize(address)
    for wrong, kept in (
        (query, other_cookie),
        (query, ""),
        (query, cookie[:-6] + "AAAAA="),
        (query | {"state": "x"}, cookie),
        (query | {"code": "x"}, cookie),
        (scene.provider.authorize(other) | {"state": query["state"]}, cookie),
        ({}, cookie),
    ):
        answer = await scene.end(wrong, kept)
        assert (answer.status, answer.reason) == (401, "sign_in_refused"), wrong
    assert (await scene.end(query, cookie)).status == 200
    assert (await scene.end(query, cookie)).status == 401
    address, cookie = await scene.begin()
    scene.house.clock.advance(FLOW_SECONDS + 1)
    assert (await scene.end(scene.provider.authorize(address), cookie)).status == 401


async def test_only_the_providers_own_token_for_this_flow_counts(scene: Scene):
    """A token of another issuer, for another client, with another nonce, too old, or of another key opens nothing."""
    for claims in (
        {"iss": "https://other.example"},
        {"aud": "other"},
        {"nonce": "other"},
        {"nonce": None},
        {"exp": int(time.time()) - 300},
        {"exp": None},
        {"azp": "other"},
        {"sub": None},
    ):
        scene.provider.claims = claims
        answer = await scene.sign_in()
        assert (answer.status, answer.reason) == (401, "sign_in_refused"), claims
    scene.provider.claims = {}
    scene.provider.signs_with = OKPKey.generate_key("Ed25519", {"kid": "k1"})
    assert (await scene.sign_in()).status == 401
    scene.provider.signs_with = None
    assert (await scene.sign_in()).status == 200


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("issuer = ", "Invalid"),
        ('issuer = "https://a"', "client_id"),
        (
            'issuer = "http://a.example"\nclient_id = "c"\nredirect_uri = "https://b"',
            "neither https",
        ),
        (
            'issuer = "https://a"\nclient_id = "c"\nredirect_uri = "http://b.example"',
            "neither https",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, text: str, why: str):
    """A malformed file, and an address that others on the way could read, are refused with the file's name."""
    assert read_settings(tmp_path) is None
    (tmp_path / "oidc.toml").write_text(text)
    with pytest.raises(SchemaError, match=why):
        read_settings(tmp_path)
