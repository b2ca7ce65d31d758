"""Keys of callers, the operator's keys, and the client that signs and verifies."""

from __future__ import annotations

import io
import zipfile
from base64 import urlsafe_b64decode
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from exchange.client import AnswerNotTrusted, Identity
from schemas.values.faults import Unavailable
from settlement.service.nonces import LocalNonces
from settlement.signing.keyring import Keyring
from tests.gateway.conftest import soon
from tests.gateway.signing import AIR_KEY, HOUSE_KEY, ORDER, Signed, second_gateway, signed_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def signed(module_dsn: str, tmp_path_factory: Any) -> AsyncIterator[Signed]:
    """One house for all tests that leave no trace another one minds."""
    async with signed_house(module_dsn, tmp_path_factory.mktemp("signed")) as running:
        yield running


async def register(signed: Signed, code: str, by: Identity, **more: Any) -> Identity:
    """Make a key and register it."""
    identity = Identity(Ed25519PrivateKey.generate())
    body = msgspec.json.encode({"csr": identity.csr(code), "label": "test"} | more)
    answer = await signed.client(by).call("POST", "/v1/keys", body)
    assert answer.status == 201, answer.body
    assert answer.read()["kid"] == identity.key_id
    return identity


async def revoke(signed: Signed, identity: Identity, by: Identity) -> dict[str, Any]:
    """Revoke a key."""
    answer = await signed.client(by).call("POST", f"/v1/keys/{identity.key_id}/revoke")
    assert answer.status == 200, answer.body
    view: dict[str, Any] = answer.read()
    return view


# --- keys of callers ---


async def test_a_revoked_key_is_refused_at_once_by_every_gateway(signed: Signed, tmp_path: Path):
    """A gateway that has just taken a key refuses it with the first request after another one revoked it."""
    mine = await register(signed, "AIR", AIR_KEY)
    target = "/v1/positions"
    async with second_gateway(signed, tmp_path) as port:
        for fast in (True, False):
            sent = signed.fields(identity=mine, key=f"before-{fast}")
            assert await signed.send(sent, port=port, fast=fast) == (201, "cleared")
        view = await revoke(signed, mine, AIR_KEY)
        assert view["state"] == "revoked"
        for each in (port, None):
            for fast in (True, False):
                sent = signed.fields(identity=mine, key="after")
                refused = await signed.send(sent, port=each, fast=fast)
                assert refused == (401, "signing_key_revoked")
            sent = signed.fields("GET", target, b"", key=None, identity=mine)
            assert await signed.send(sent, b"", method="GET", target=target, port=each) == (
                401,
                "signing_key_revoked",
            )
    assert (await revoke(signed, mine, HOUSE_KEY))["revoked_at"] == view["revoked_at"]


async def test_keys_rotate_with_an_overlap(signed: Signed):
    """With an overlap the older key counts beside the new one, and not a moment longer; without one at once not."""
    first = await register(signed, "EYE", HOUSE_KEY)
    second = await register(signed, "EYE", first, overlap_hours=1)
    for identity in (first, second):
        assert (await signed.client(identity).call("GET", "/v1/positions")).good
    answer = await signed.client(second).call("GET", "/v1/keys")
    assert [(key["kid"], key["state"]) for key in answer.read()["keys"]] == [
        (first.key_id, "retiring"),
        (second.key_id, "active"),
    ]
    body = b'{"members":["anna"]}'
    assert (await signed.client(second).call("POST", "/v1/members", body)).good
    third = await register(signed, "EYE", second, overlap_hours=0)
    for identity, good in ((first, False), (second, False), (third, True)):
        answer = await signed.client(identity).call("POST", "/v1/members", body)
        assert answer.good is good
        assert good or answer.read()["reason"] == "signing_key_revoked"


async def test_a_key_is_registered_by_whoever_holds_it_and_once(signed: Signed):
    """A request that its key did not sign, in another name, of another kind or a second time registers nothing."""

    async def ask(csr: str, by: Identity) -> tuple[int, str]:
        answer = await signed.client(by).call("POST", "/v1/keys", msgspec.json.encode({"csr": csr}))
        return answer.status, answer.read().get("field") or answer.read().get("reason")

    mine, other = (Identity(Ed25519PrivateKey.generate()) for _ in range(2))
    ours, theirs = (each.csr("AIR").splitlines() for each in (mine, other))
    # The last line holds the end of the signature: this request is signed by another key than its own.
    mixed = "\n".join([*ours[:-2], theirs[-2], ours[-1]])
    assert await ask(mixed, AIR_KEY) == (400, "$.csr")
    assert await ask(mine.csr("EYE"), AIR_KEY) == (400, "$.csr")
    assert await ask(mine.csr("NOBODY"), HOUSE_KEY) == (422, "unknown_merchant")
    assert await ask("-----BEGIN CERTIFICATE REQUEST-----", HOUSE_KEY) == (400, "$.csr")
    assert await ask(AIR_KEY.csr("AIR"), AIR_KEY) == (409, "signing_key_not_taken")
    assert await ask(AIR_KEY.csr("EYE"), HOUSE_KEY) == (409, "signing_key_not_taken")


async def test_a_merchant_sees_and_revokes_its_own_keys_alone(signed: Signed):
    """To a merchant another one's key is nothing that is there; the house sees everybody's."""
    theirs = await register(signed, "OWN", HOUSE_KEY)
    answer = await signed.client(AIR_KEY).call("POST", f"/v1/keys/{theirs.key_id}/revoke")
    assert answer.status == 404
    assert {
        k["merchant"] for k in (await signed.client().call("GET", "/v1/keys")).read()["keys"]
    } == {"AIR"}
    everybody = (await signed.client(HOUSE_KEY).call("GET", "/v1/keys")).read()["keys"]
    assert {"AIR", "OWN", "HOUSE"} <= {key["merchant"] for key in everybody}
    assert (await signed.client(theirs).call("GET", "/v1/positions")).good


# --- the writer's memory ---


async def test_signatures_older_than_the_writer_are_sent_back_to_be_made_anew(signed: Signed):
    """A new writer cannot know what the one before took: 503 for what was signed before it, and nothing is decided."""
    nonces = signed.house.services.keys._nonces
    assert nonces is not None
    fields = signed.fields(key="older")
    successor = LocalNonces(lambda: signed.house.clock() + 5_000_000)
    signatures = signed.house.services.callers.signatures
    signatures._nonces = successor
    try:
        for fast in (True, False):
            assert await signed.send(fields, fast=fast) == (503, "unavailable")
    finally:
        signatures._nonces = nonces
    assert await signed.send(fields) == (201, "cleared")


# --- the operator's keys ---


async def test_the_operators_keys_are_published(signed: Signed):
    """The key set at its well-known place holds the key that signs answers, and not one that was revoked."""
    async with signed.house.http.get("/.well-known/jwks.json") as response:
        [key] = (await response.json())["keys"]
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("OKP", "Ed25519", "Ed25519", "sig")
    public = Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(key["x"] + "="))
    assert signed.trusted[key["kid"]] == public


async def test_a_rotated_key_signs_answers_soon(dsn: str, tmp_path: Path):
    """After a rotation of the operator's keys a running gateway signs with the new one."""
    async with signed_house(dsn, tmp_path) as signed:
        ring = Keyring.open(tmp_path / "keys")
        [old] = ring.trusted()
        client = signed.client()
        assert (await client.call("GET", "/v1/positions")).good
        new = ring.rotate(at=datetime.now(UTC), overlap=timedelta(days=1))
        signed.trusted.pop(old)
        signed.trusted |= {k: v for k, v in new.trusted().items() if k != old}

        async def answered() -> bool:
            try:
                return (await client.call("GET", "/v1/positions")).good
            except AnswerNotTrusted:
                return False

        await soon(answered)


# --- answers ---


@asynccontextmanager
async def between(
    signed: Signed,
    change: Callable[[int, dict[str, str], bytes], tuple[int, dict[str, str], bytes]],
) -> AsyncIterator[str]:
    """A proxy that passes requests on as they are and changes answers; yields its address."""

    async def pass_on(request: web.Request) -> web.Response:
        async with signed.house.http.request(
            request.method,
            request.raw_path,
            data=await request.read() or None,
            headers=request.headers,
            skip_auto_headers=("Content-Type",),
        ) as answer:
            status, headers, body = change(answer.status, dict(answer.headers), await answer.read())
        headers.pop("Content-Length", None)
        return web.Response(status=status, headers=headers, body=body)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", pass_on)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_answers_are_trusted_only_as_they_were_signed_and_for_their_request(signed: Signed):
    """An answer with another status, body, type or signature, or to another request, is not the answer."""
    kept: list[tuple[int, dict[str, str], bytes]] = []

    def keep(*answer: Any) -> Any:
        kept.append(answer)
        return answer

    changes: dict[str, Callable[..., Any]] = {
        "as it is": keep,
        "status": lambda status, headers, body: (status + 1, headers, body),
        "body": lambda status, headers, body: (status, headers, body.replace(b"A", b"B")),
        "type": lambda status, headers, body: (status, headers | {"Content-Type": "text/x"}, body),
        "unsigned": lambda status, headers, body: (
            status,
            {k: v for k, v in headers.items() if k != "Signature"},
            body,
        ),
        "an earlier answer": lambda *_: kept[0],
    }
    for name, change in changes.items():
        async with between(signed, change) as url:
            asked = signed.client(url=url).call("GET", "/v1/positions")
            if name == "as it is":
                assert (await asked).good
                continue
            with pytest.raises(AnswerNotTrusted):
                await asked


async def test_refusals_and_streams_are_signed_too(signed: Signed):
    """A refusal, an unknown path's 404 and a package's stream carry signatures that the client verifies."""
    client = signed.client()
    refused = await client.call("POST", "/v1/orders", ORDER.replace(b"EYE", b"AIR"), key="r")
    assert (refused.status, refused.read()["reason"]) == (422, "same_merchant")
    assert (await client.call("GET", "/v1/cycles/none")).status == 404
    folder = signed.house.home / "packages" / "c0"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(b"{}" * 300_000)
    whole = await signed.client(HOUSE_KEY).call("GET", "/v1/packages/c0")
    assert whole.good, whole.body
    assert zipfile.ZipFile(io.BytesIO(whole.body)).namelist()


# --- the client ---


async def test_the_client_asks_again_under_the_same_key_until_it_is_answered(signed: Signed):
    """While the house turns callers away, or an answer is lost, the client signs anew and gets the one answer."""
    seen: list[tuple[str, str]] = []

    def lose(status: int, headers: dict[str, str], body: bytes) -> Any:
        seen.append((headers.get("X-Request-Id", ""), str(status)))
        return (503, {}, b"") if len(seen) < 3 else (status, headers, body)

    async with between(signed, lose) as url:
        answer = await signed.client(url=url, patience=10).call(
            "POST", "/v1/orders", ORDER, key="lost-answers"
        )
    assert (answer.status, len(seen)) == (201, 3)
    direct = await signed.client().call("POST", "/v1/orders", ORDER, key="lost-answers")
    assert direct.body == answer.body


async def test_the_client_gives_up_in_time(signed: Signed):
    """Nobody there: after its patience the client says so, and does not wait on."""
    with pytest.raises(Unavailable):
        await signed.client(url="http://127.0.0.1:9", patience=0.3).call("GET", "/v1/positions")
