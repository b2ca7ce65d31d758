"""Signed requests over real sockets: each way to be refused, and that nothing altered passes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchange.client import Identity, Refused, operations
from exchange.core.quota import Limits, Quota
from exchange.gateway.plain import Plain, read_plain
from exchange.service.limits import set_limits
from exchange.service.signatures import SignatureRefused
from exchange.signing.answer import check_answer
from exchange.signing.digest import is_digest_of
from exchange.signing.structured import parse_input, parse_signature, signature_base
from schemas.wire.orders import OrderTerms
from settlement.core.trail import PROGRAM
from settlement.signing.signature import is_signed
from tests.gateway.signing import AIR_KEY, HOUSE_KEY, ORDER, Signed, second_gateway, signed_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def signed(module_dsn: str, tmp_path_factory: Any) -> AsyncIterator[Signed]:
    """One house for all tests that leave no trace another one minds."""
    async with signed_house(module_dsn, tmp_path_factory.mktemp("signed")) as running:
        yield running


# --- each way to be refused ---


def changed(fields: dict[str, str], name: str, old: str, new: str) -> dict[str, str]:
    """Fields with one of them changed."""
    assert old in fields[name]
    return fields | {name: fields[name].replace(old, new)}


def bad_requests(signed: Signed) -> dict[str, tuple[str, dict[str, str], bytes]]:
    """Requests that must be refused: name, then the reason, fields and body."""
    now = int(time.time())
    good = signed.fields()
    stranger = Identity(Ed25519PrivateKey.generate())
    forged = Identity(stranger.private)
    late, early = signed.fields(created=now - 70), signed.fields(created=now + 70)
    bare = {k: v for k, v in good.items() if not k.startswith("Signature")}
    lie = changed(
        signed.fields(identity=forged), "Signature-Input", stranger.key_id, AIR_KEY.key_id
    )
    return {
        "unsigned": ("signature_missing", bare, ORDER),
        "unsigned, with an API key": (
            "signature_missing",
            bare | {"Authorization": f"Bearer {signed.house.operator}"},
            ORDER,
        ),
        "malformed": (
            "signature_malformed",
            changed(good, "Signature-Input", "sig=", "sig = "),
            ORDER,
        ),
        "one component less": (
            "signature_downgraded",
            changed(good, "Signature-Input", ' "idempotency-key"', ""),
            ORDER,
        ),
        "another algorithm": (
            "signature_downgraded",
            changed(good, "Signature-Input", "ed25519", "hmac-sha256"),
            ORDER,
        ),
        "from the future": ("signature_from_future", early, ORDER),
        "late": ("signature_late", late, ORDER),
        "an unknown key": ("signing_key_unknown", signed.fields(identity=stranger), ORDER),
        "for another host": ("signature_misdirected", signed.fields(host="else.example"), ORDER),
        "forged": ("signature_forged", lie, ORDER),
        "another key's": ("signature_forged", good | {"Idempotency-Key": "other"}, ORDER),
        "altered body": ("digest_mismatch", good, ORDER.replace(b"10", b"90")),
    }


@pytest.mark.parametrize("fast", [True, False], ids=["lane", "aiohttp"])
async def test_each_bad_signature_is_refused_for_its_own_reason(signed: Signed, fast: bool):
    """Missing, malformed, downgraded, early, late, unknown, forged, altered: 401 with the reason, in both ways in."""
    for name, (reason, fields, body) in bad_requests(signed).items():
        assert await signed.send(fields, body, fast=fast) == (401, reason), name
    assert await signed.send(signed.fields(key=f"good-{fast}"), fast=fast) == (201, "cleared")


@pytest.mark.parametrize("fast", [True, False], ids=["lane", "aiohttp"])
async def test_a_signature_counts_once(signed: Signed, fast: bool):
    """The very same request a second time is a replay, though its idempotency key would repeat its answer."""
    fields = signed.fields(key=f"once-{fast}")
    assert await signed.send(fields, fast=fast) == (201, "cleared")
    assert await signed.send(fields, fast=fast) == (401, "signature_replayed")
    assert await signed.send(fields, fast=not fast) == (401, "signature_replayed")
    again = signed.fields(key=f"once-{fast}")
    assert await signed.send(again, fast=fast) == (201, "cleared")


async def test_a_request_that_only_reads_may_arrive_twice(signed: Signed):
    """A read is taken again within its lifetime: the writer is not asked about it."""
    fields = signed.fields("GET", "/v1/positions", b"", key=None)
    for _ in range(2):
        status, _ = await signed.send(fields, b"", method="GET", target="/v1/positions")
        assert status == 200
    other = await signed.send(fields, b"", method="GET", target="/v1/cycles")
    assert other == (401, "signature_forged")


async def test_a_body_where_none_was_signed_is_refused(signed: Signed):
    """A body that somebody adds to a signed request without one is not taken, whoever reads it."""
    target = "/v1/cycles/close"
    fields = signed.fields("POST", target, b"", key=None, identity=HOUSE_KEY)
    added = await signed.send(fields, b'{"next_id":"mine"}', target=target)
    assert added == (401, "signature_downgraded")
    digest = signed.fields("POST", target, b"{}", key=None, identity=HOUSE_KEY)
    cut = await signed.send(digest, b"", target=target)
    assert cut == (401, "digest_mismatch")


# --- nothing altered passes ---


def same_request(one: Plain, other: Plain) -> bool:
    """Whether two requests are the same to HTTP: names of fields in any case, blanks around values."""
    return one._replace(size=0) == other._replace(size=0)


async def test_no_single_byte_of_a_signed_request_can_be_changed(signed: Signed, tell_figure: Any):
    """Each byte of a signed order is changed in four ways: what reads as another request is refused, all of it.

    What reads as the same request (RFC 9110 §5.1: the case of a field's name) is the same request, and a replay.
    """
    fields = signed.fields(key="altered")
    lines = ["POST /v1/orders HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    lines.append(f"Content-Length: {len(ORDER)}")
    good = "\r\n".join(lines).encode() + b"\r\n\r\n" + ORDER
    callers = signed.house.services.callers
    original = read_plain(good, body_max=65_536)
    assert isinstance(original, Plain)
    refused = equal = unread = 0
    for place in range(len(good)):
        for change in (0x01, 0x02, 0x20, 0x80):
            altered = good[:place] + bytes([good[place] ^ change]) + good[place + 1 :]
            plain = read_plain(altered, body_max=65_536)
            if not isinstance(plain, Plain):
                unread += 1
                continue
            if same_request(plain, original):
                equal += 1
                continue
            try:
                _, verified = await callers.identify(plain.head, None, has_body=bool(plain.body))
                assert verified is not None
                callers.signatures.check_body(verified, plain.body)
            except SignatureRefused:
                refused += 1
            else:
                raise AssertionError(f"byte {place} ^ {change:02x} passes: {altered!r}")
    # Names of fields are the only bytes that may be written in two ways.
    assert equal <= sum(len(name) for name in (*fields, "Content-Length"))
    tell_figure(
        f"single-byte changes of a signed request: {refused} refused, {unread} no request of this kind, "
        f"{equal} the same request in other letters, 0 taken"
    )


async def test_every_byte_changed_on_the_wire_is_answered_with_no(signed: Signed):
    """After a signed order was taken, it with one byte changed is never taken again.

    Every byte on the fast way in, every fifth on the other one.
    """
    before = await net(signed)
    for way, step in (("keep-alive", 1), ("close", 5)):
        fields = signed.fields(key=f"wire-{way}")
        lines = [
            "POST /v1/orders HTTP/1.1",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        lines += [f"Connection: {way}", f"Content-Length: {len(ORDER)}"]
        good = "\r\n".join(lines).encode() + b"\r\n\r\n" + ORDER
        assert await status_of(signed, good) == b"201"
        for start in range(0, len(good), 64 * step):
            places = range(start, min(start + 64 * step, len(good)), step)
            told = await asyncio.gather(
                *(
                    status_of(signed, good[:p] + bytes([good[p] ^ 0x01]) + good[p + 1 :])
                    for p in places
                )
            )
            for place, found in zip(places, told, strict=True):
                assert found[:1] in (b"4", b"5", b""), (way, place, found)
    booked = await net(signed)
    # One order of 10 miles for each way in, and nothing else.
    assert booked["AIR"] - before.get("AIR", 0) == -2 * 3330


async def net(signed: Signed) -> dict[str, int]:
    """Figures of the open cycle."""
    answer = await signed.client(HOUSE_KEY).call("GET", "/v1/positions")
    return {row["party"]: int(row["net_cu"]) for row in answer.read()["positions"]}


async def status_of(signed: Signed, data: bytes) -> bytes:
    """Send bytes; the status of the first answer, or nothing if none comes in time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", signed.house.port)
    writer.write(data)
    try:
        async with asyncio.timeout(1):
            heard = await reader.read(65_536)
    except (TimeoutError, ConnectionError):
        return b""
    finally:
        writer.close()
    return heard[9:12]


@pytest.mark.parametrize("fast", [True, False], ids=["lane", "aiohttp"])
async def test_whoever_asks_too_often_hears_it_from_the_house(signed: Signed, fast: bool):
    """The answer to a request that finds its quota used up is signed as every other, and says when to come back."""
    house, more = signed.house, {} if fast else {"TE": "trailers"}

    async def ask(key: str) -> tuple[dict[str, str], int, Any, bytes]:
        fields = signed.fields(key=key)
        async with house.http.post("/v1/orders", data=ORDER, headers=fields | more) as answer:
            return fields, answer.status, answer.headers, await answer.read()

    number = (await house.services.shelf.offer_with("AIR")).catalogue.by_code["AIR"]
    hour = Quota(units=1, window_seconds=3600)
    for orders, status in ((hour, 429), (None, 201)):
        await set_limits(
            house.pool,
            merchant_no=number,
            code="AIR",
            limits=Limits(orders=orders, requests=None),
            by=PROGRAM,
            now=house.services.now(),
        )
        house.services.shelf.expire()
        await house.services.shelf.offer()
        await ask(f"often-{fast}-{status}")
        fields, heard, told, body = await ask(f"often-{fast}-{status}-again")
        assert heard == status
        check_answer(
            status=status,
            content_type=told["Content-Type"],
            content_digest=told["Content-Digest"],
            signature_input=told["Signature-Input"],
            signature=told["Signature"],
            request_signature=fields["Signature"],
            body=body,
            public_of=signed.trusted.get,
            now=int(time.time()),
        )
        assert ("Retry-After" in told) is (status == 429)


# --- what anybody may ask ---


@pytest.mark.parametrize(
    "target", ["/.well-known/jwks.json", "/problems/signature_late?a=1", "/nowhere", "/healthz"]
)
async def test_what_anybody_may_ask_is_signed_over_the_question(signed: Signed, target: str):
    """A public answer, also that there is nothing, is signed by the house over status, body, method, path and query."""
    async with signed.house.http.get(target) as answer:
        body, headers = await answer.read(), answer.headers
    told = parse_input(headers["Signature-Input"])
    assert told is not None
    proof = parse_signature(headers["Signature"], told.label)
    assert proof is not None
    assert (told.named["alg"], told.named["tag"]) == ("ed25519", "tongdui-public-answer")
    assert is_digest_of(headers["Content-Digest"], body)
    path, _, query = target.partition("?")
    covered = {
        '"@status"': str(answer.status),
        '"content-type"': headers["Content-Type"],
        '"content-digest"': headers["Content-Digest"],
        '"@method";req': "GET",
        '"@path";req': path,
        '"@query";req': f"?{query}",
    }
    assert set(told.components) == set(covered)
    public = signed.trusted[str(told.named["keyid"])]
    for changed_path, genuine in ((path, True), (path + "x", False)):
        values = covered | {'"@path";req': changed_path}
        base = signature_base(((name, values[name]) for name in told.components), told.parameters)
        assert base is not None
        assert is_signed(public, base, proof) is genuine


async def test_a_signed_question_that_anybody_may_ask_is_answered_as_any_other(signed: Signed):
    """The client, which signs whatever it asks, finds the answers of public routes bound to its own signature."""
    answer = await signed.client().call("GET", "/.well-known/jwks.json")
    assert answer.status == 200
    async with signed.house.http.get("/openapi.json") as first:
        tag = first.headers["ETag"]
    async with signed.house.http.get("/openapi.json", headers={"If-None-Match": tag}) as again:
        assert (again.status, "Signature" in again.headers) == (304, True)


# --- several gateways ---


async def test_a_replay_at_two_gateways_at_once_counts_once(signed: Signed, tmp_path: Path):
    """The same signed order sent to two gateways at the same moment is taken by exactly one of them."""
    async with second_gateway(signed, tmp_path) as port:
        for number in range(5):
            # The authority is signed; here both gateways are known by one name.
            fields = signed.fields(key=f"twice-{number}")
            told = await asyncio.gather(*(signed.send(fields, port=each) for each in (None, port)))
            assert sorted(told) == [(201, "cleared"), (401, "signature_replayed")]


# --- the client's operations ---


async def test_the_client_does_operations_of_the_contract(signed: Signed):
    """A record goes out, a record comes back; a refusal is raised with its problem; other answers come as bytes."""
    client = signed.client()
    wish = OrderTerms[str](member="anna", issuer="AIR", acceptor="EYE", units="3")
    done = await client.perform(operations.POST_ORDERS, wish, key="op-1")
    assert (done.status, done.debit_cu) == ("cleared", "999")
    assert await client.perform(operations.POST_ORDERS, wish, key='"op-1"') == done
    shown = await client.perform(operations.GET_ORDER, path={"order_id": done.order_id})
    assert shown.units == "3"
    page = await client.perform(operations.GET_MERCHANTS, query={"limit": 1, "after": None})
    rest = await client.perform(operations.GET_MERCHANTS, query={"after": page.next})
    assert [view.code for view in page.merchants + rest.merchants] == ["AIR", "EYE", "OWN"]
    with pytest.raises(Refused) as refused:
        await client.perform(operations.GET_CYCLE, path={"cycle": "never"})
    assert (refused.value.problem.status, refused.value.problem.reason) == (404, "not_found")
    assert (await client.perform(operations.GET_DOCS)).startswith(b"<!DOCTYPE html>")
    with pytest.raises(ValueError, match="takes a key"):
        await client.perform(operations.POST_ORDERS, wish)
    with pytest.raises(ValueError, match="takes no key"):
        await client.perform(operations.GET_CYCLES, key="k")
