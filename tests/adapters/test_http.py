"""Which failures of a call over HTTP prove that it was not sent, and which prove nothing."""

import asyncio
import random
import socket
import ssl
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from adapters.kit.context import Context
from adapters.kit.contract import NotSent
from adapters.kit.folder import Folder
from adapters.kit.http import HttpClient, HttpRequest, HttpSettings, NoAnswer
from adapters.kit.http_auth import Ed25519, Hmac, Sent, signature_headers, signature_holds
from adapters.kit.manifest import decoded, parse_manifest
from adapters.kit.secret import Secrets
from adapters.kit.simulator.certificates import Authority
from adapters.kit.simulator.gate import new_key_pair
from schemas.values.faults import SchemaError

NOW_US = 1_772_424_000_000_000
POST = HttpRequest(method="POST", path="/points", body=b'{"units": 5}')
PUT = HttpRequest(method="PUT", path="/points", body=b'{"units": 5}')
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def folder(**limits):
    """A merchant whose calls have a second to be answered."""
    lines = "\n".join(f"{name} = {value}" for name, value in limits.items())
    text = f"""
        [merchant]
        code = "shop"
        name = "Shop"
        protocol = "own"
        [points]
        [spend]
        way = "hold"
        [credit]
        way = "none"
        [limits]
        {lines or "deadline_seconds = 1.0"}
        """
    return Folder(path=Path("shop"), manifest=parse_manifest(text))


@asynccontextmanager
async def client(base_url, secrets=None, now_us=lambda: NOW_US, **settings):
    """A client with these settings, as a manifest would have them."""
    table = {"base_url": base_url, "connect_seconds": 0.3, **settings}
    read = decoded(table, HttpSettings, where="$.settings")
    context = Context(
        secrets=Secrets(secrets or {}, environment={}), now_us=now_us, random=random.Random(1)
    )
    http = HttpClient(read, folder(deadline_seconds=0.4), context)
    await http.start()
    try:
        yield http
    finally:
        await http.close()


class Server:
    """Counts the bytes that came, and answers each request with what a test says."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.bytes = 0
        self.requests = 0
        self.connections = 0

    async def talk(self, reader, writer):
        """Read requests, each with its whole body, until there is no answer left."""
        self.connections += 1
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                body = b"units" in head or b"Content-Length: 12" in head
                self.bytes += len(head) + len(await reader.readexactly(12) if body else b"")
                self.requests += 1
                answer = self.answers.pop(0)
                if callable(answer):
                    await answer(writer)
                    break
                writer.write(answer)
                await writer.drain()
                if b"Content-Length" not in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(talk, tls=None):
    """Listen on a free port; gives the address."""
    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.fixture(scope="module")
def authority():
    """An authority that the client trusts if it is told to."""
    return Authority("authority")


async def test_refused_connection_was_not_sent():
    """Nobody listens: no byte can have left."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with client(f"http://127.0.0.1:{port}") as http:
        with pytest.raises(NotSent):
            await http.send(POST)


async def test_unknown_name_was_not_sent(monkeypatch):
    """A name that does not resolve: no byte can have left."""

    async def nowhere(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nowhere)
    async with client("https://merchant.example") as http:
        with pytest.raises(NotSent):
            await http.send(POST)


async def test_handshake_that_fails_was_not_sent(authority):
    """A server that speaks no TLS, one that is not trusted, one that is over: nothing of the request left."""
    plain, strange = Server(WHOLE), Server(WHOLE)
    other = Authority("other")
    old = authority.server(authority.issue("old", days_ago=9))
    ca = {"env:CA": authority.certificate}
    async with (
        serving(plain.talk) as no_tls,
        serving(strange.talk, other.server(other.issue("shop"))) as untrusted,
        serving(strange.talk, old) as over,
    ):
        for address in (no_tls.replace("http:", "https:"), untrusted, over):
            async with client(address, ca, tls={"ca": "env:CA"}) as http:
                with pytest.raises(NotSent):
                    await http.send(POST)
    assert plain.requests == strange.requests == strange.bytes == 0


async def test_connection_that_takes_too_long_was_not_sent():
    """A machine that takes the connection and stays silent in the handshake: nothing of the request left."""
    gone = asyncio.Event()

    async def silent(reader, writer):
        await gone.wait()
        writer.close()

    async with serving(silent) as address:
        async with client(address.replace("http:", "https:"), connect_seconds=0.05) as http:
            with pytest.raises(NotSent, match="ConnectionTimeout"):
                await http.send(POST)
        gone.set()


async def _silence(writer):
    await asyncio.sleep(0.6)


async def _reset(writer):
    writer.transport.abort()


def _trickle(head):
    async def trickle(writer):
        writer.write(head)
        for _ in range(20):
            writer.write(b"x")
            await asyncio.sleep(0.05)

    return trickle


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="closed without a word"),
        pytest.param(_reset, id="reset"),
        pytest.param(_silence, id="silence"),
        pytest.param(b"\x00\x17garbage\r\n\r\n", id="garbage"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", id="cut body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-", id="cut head"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", id="cut chunk"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000, id="too large"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
            id="compressed",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 9000 + b"\r\n\r\n", id="long header"),
    ],
)
@pytest.mark.parametrize("request_", [POST, PUT], ids=["POST", "PUT"])
async def test_what_fails_after_the_connection_proves_nothing(answer, request_):
    """Once there is a connection the request may have arrived: no answer, and it is sent exactly once."""
    server = Server(answer, WHOLE)
    async with serving(server.talk) as address, client(address, body_bytes_max=1024) as http:
        with pytest.raises(NoAnswer):
            await http.send(request_)
    assert server.requests == 1


async def test_dead_kept_connection_is_not_repeated_by_the_library():
    """A kept connection that dies with the next request on it: that request may have arrived, and is not resent."""
    server = Server(WHOLE, _reset, WHOLE)
    async with serving(server.talk) as address, client(address) as http:
        assert (await http.send(PUT)).status == 200
        with pytest.raises(NoAnswer):
            await http.send(PUT)
        assert server.connections == 1
        assert server.requests == 2


async def test_redirect_is_an_answer():
    """A redirect is not followed: nobody but the merchant's own address hears of a call."""
    moved = b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    async with serving(Server(moved).talk) as address, client(address) as http:
        assert (await http.send(POST)).status == 307


async def test_own_certificate_is_shown(authority):
    """With mutual TLS the call passes with our certificate; without it, it is never answered."""
    ours = authority.issue("exchange")
    secrets = {"env:CA": authority.certificate, "env:CERT": ours.certificate, "env:KEY": ours.key}
    server = Server(WHOLE, WHOLE)
    tls = authority.server(authority.issue("shop"), clients=True)
    async with serving(server.talk, tls) as address:
        table = {"ca": "env:CA", "certificate": "env:CERT", "key": "env:KEY"}
        async with client(address, secrets, tls=table, auth={"kind": "mtls"}) as http:
            assert (await http.send(POST)).body == b"ok"
        async with client(address, secrets, tls={"ca": "env:CA"}) as http:
            with pytest.raises((NotSent, NoAnswer)):
                await http.send(POST)
    assert server.requests == 1


class Gate:
    """A system behind a token endpoint."""

    def __init__(self):
        self.given = 0
        self.valid = set()
        self.broken = False
        self.useless = False
        self.calls = []

    async def token(self, request):
        """Give a token for client credentials."""
        form = await request.post()
        if self.broken:
            return web.Response(status=500)
        assert form["grant_type"] == "client_credentials"
        assert request.headers["Authorization"] == "Basic Y2xpZW50OnBhc3M="
        self.given += 1
        self.valid = set() if self.useless else {f"token-{self.given}"}
        return web.json_response({"access_token": f"token-{self.given}", "expires_in": 100})

    async def points(self, request):
        """Take a call that has a valid token."""
        bearer = request.headers["Authorization"].removeprefix("Bearer ")
        self.calls.append(bearer)
        return web.json_response({}, status=200 if bearer in self.valid else 401)


OAUTH = {
    "auth": {
        "kind": "oauth2",
        "token_url": "/token",
        "client_id": "client",
        "secret": "env:PASS",
    }
}


@asynccontextmanager
async def gated(gate):
    """Serve a gate; gives the address."""
    app = web.Application()
    app.router.add_post("/token", gate.token)
    app.router.add_post("/points", gate.points)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_token_is_kept_and_fetched_again_when_it_is_over_or_refused():
    """One token serves many calls; it is fetched anew before it is over, and once after a 401."""
    gate, now = Gate(), [NOW_US]
    async with (
        gated(gate) as address,
        client(address, {"env:PASS": b"pass"}, lambda: now[0], **OAUTH) as http,
    ):
        await asyncio.gather(*(http.send(POST) for _ in range(5)))
        assert gate.given == 1
        now[0] += 95 * 1_000_000
        await http.send(POST)
        assert gate.given == 2
        gate.valid = set()
        assert (await http.send(POST)).status == 200
        assert gate.calls[-2:] == ["token-2", "token-3"]


async def test_fresh_token_that_is_refused_is_an_answer():
    """A token that was just fetched and is refused: no circle of fetching and calling."""
    gate = Gate()
    gate.useless = True
    async with gated(gate) as address, client(address, {"env:PASS": b"pass"}, **OAUTH) as http:
        assert (await http.send(POST)).status == 401
    assert len(gate.calls) == gate.given == 1


async def test_without_a_token_nothing_is_sent():
    """When the token endpoint is broken, the call itself was certainly not sent."""
    gate = Gate()
    gate.broken = True
    async with gated(gate) as address, client(address, {"env:PASS": b"pass"}, **OAUTH) as http:
        with pytest.raises(NotSent, match="500"):
            await http.send(POST)
    assert gate.calls == []


HMAC = Hmac(
    secret="env:KEY",
    key_id="tongdui",
    sign="{method}\n{path}\n{query}\n{timestamp}\n{nonce}\n{body_sha256}\n{body}",
    headers={"X-Time": "{timestamp}", "Authorization": "TD {key_id}:{nonce}:{signature}"},
)


ED25519 = Ed25519(secret="env:KEY", sign=HMAC.sign, headers=HMAC.headers, key_id="tongdui")
PAIR, OTHER = new_key_pair(random.Random(1)), new_key_pair(random.Random(2))


@given(
    st.sampled_from([HMAC, ED25519]),
    st.sampled_from(["hex", "base64"]),
    st.sampled_from(["seconds", "milliseconds", "rfc3339"]),
    st.binary(max_size=40),
    st.sampled_from(["method", "path", "query", "body", "key", "late", "header", None]),
)
def test_signature_holds_for_what_was_signed_and_nothing_else(
    kind, encoding, timestamp, body, changed
):
    """What was signed is accepted; any change of request, key or time is not."""
    auth = msgspec.structs.replace(kind, encoding=encoding, timestamp=timestamp)
    sent = Sent(method="POST", host="h", path="/p", query="a=1", body=body)
    checks, signs = PAIR if kind is ED25519 else (b"key", b"key")
    headers = signature_headers(auth, signs, sent, now_us=NOW_US, nonce="0123456789abcdef")
    came, key, now_us = sent, checks, NOW_US + 299 * 1_000_000
    if changed in ("method", "path", "query"):
        came = msgspec.structs.replace(sent, **{changed: "/other"})
    elif changed == "body":
        came = msgspec.structs.replace(sent, body=body + b" ")
    elif changed == "key":
        key = OTHER[0]
    elif changed == "late":
        now_us = NOW_US + 302 * 1_000_000
    elif changed == "header":
        headers["Authorization"] = headers["Authorization"].replace("tongdui", "another")
    nonce = signature_holds(auth, key, came, headers, now_us=now_us)
    assert nonce == ("0123456789abcdef" if changed is None else None)


async def test_key_is_sent_where_the_system_wants_it():
    """A fixed key goes into the header that the settings name, behind its prefix."""
    seen = []

    async def talk(reader, writer):
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(WHOLE)
        writer.close()

    auth = {"kind": "api-key", "secret": "env:KEY", "header": "X-Api-Key", "prefix": "k:"}
    async with serving(talk) as address, client(address, {"env:KEY": b"s"}, auth=auth) as http:
        query = (("a b", "ü&"),)
        await http.send(HttpRequest(method="GET", path="/x%2Fy", query=query))
    assert b"X-Api-Key: k:s\r\n" in seen[0]
    assert seen[0].startswith(b"GET /x%2Fy?a+b=%C3%BC%26 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("settings", "path", "about"),
    [
        ({"base_url": "http://merchant.example"}, "$.settings", "plaintext"),
        ({"base_url": "ftp://merchant.example"}, "$.settings", "base_url"),
        ({"base_url": "https://u:p@merchant.example"}, "$.settings", "no user"),
        ({"auth": {"kind": "magic"}}, "$.settings.auth.kind", "magic"),
        ({"auth": {"kind": "mtls"}}, "$.settings", "tls.certificate"),
        ({"tls": {"key": "env:K"}}, "$.settings.tls", "both"),
        (
            {"auth": {"kind": "hmac", "secret": "env:K", "sign": "{who}", "headers": {}}},
            "$.settings.auth",
            "who",
        ),
        (
            {
                "auth": {
                    "kind": "hmac",
                    "secret": "env:K",
                    "sign": "{nonce}",
                    "headers": {"A": "{signature}"},
                }
            },
            "$.settings.auth",
            "not sent",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, path, about):
    """Settings are checked before the first call, and the complaint names the field."""
    with pytest.raises(SchemaError, match=about) as refused:
        decoded(
            {"base_url": "https://merchant.example", **settings}, HttpSettings, where="$.settings"
        )
    assert refused.value.path == path


async def test_missing_secret_is_found_before_the_first_call():
    """A client whose secret is not set is not made, and the complaint names the variable."""
    with pytest.raises(SchemaError, match="PASS is not set") as refused:
        async with client("https://merchant.example", **OAUTH):
            pass
    assert refused.value.path == "shop/manifest.toml: $.settings.auth.secret"
