"""A clearing house that takes signed requests alone, as tests speak to it."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchange.client import Identity, SignedClient
from exchange.gateway.app import create_app
from exchange.gateway.run import serve
from exchange.gateway.services import make_services
from exchange.programme.core.command import AnyCommand
from exchange.service.callers import SignedOnly
from exchange.signing.request import RequestHead, sign_request
from settlement.service.link import LinkServer, RemoteClearing
from settlement.service.nonces import LocalNonces
from settlement.signing.keyring import Keyring
from tests.gateway.conftest import AIR, clearing_house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.gateway.conftest import House

    Trusted = dict[str, Any]

ORDER = msgspec.json.encode(AIR | {"units": "10"})
HOUSE_KEY = Identity(Ed25519PrivateKey.generate())
AIR_KEY = Identity(Ed25519PrivateKey.generate())


class Signed:
    """A house that takes signed requests alone, and whoever signs them.

    Attributes:
        house: The running house.
        trusted: Its public keys.
        operator: The key with which the house itself calls.
    """

    def __init__(self, house: House, trusted: Trusted) -> None:
        self.house = house
        self.trusted = trusted
        self.operator = HOUSE_KEY
        self.url = f"http://127.0.0.1:{house.port}"

    def client(
        self, identity: Identity = AIR_KEY, *, url: str | None = None, patience: float = 2.0
    ) -> SignedClient:
        """A client."""
        return SignedClient(
            self.house.http, url or self.url, identity, self.trusted, patience_seconds=patience
        )

    def fields(
        self,
        method: str = "POST",
        target: str = "/v1/orders",
        body: bytes = ORDER,
        *,
        key: str | None = "k",
        identity: Identity = AIR_KEY,
        created: int | None = None,
        nonce: str | None = None,
        port: int | None = None,
        host: str = "127.0.0.1",
    ) -> dict[str, str]:
        """All fields of a signed request."""
        fields = {"Host": f"{host}:{port or self.house.port}"}
        if body:
            fields["Content-Type"] = "application/json"
        if key is not None:
            fields["Idempotency-Key"] = key
        head = RequestHead(method, fields["Host"], target, None, fields.get("Content-Type"), key)
        return fields | sign_request(
            head,
            body=body,
            key_id=identity.key_id,
            private=identity.private,
            nonce=nonce or secrets.token_urlsafe(16),
            created=int(time.time()) if created is None else created,
        )

    async def send(
        self,
        fields: dict[str, str],
        body: bytes = ORDER,
        *,
        method: str = "POST",
        target: str = "/v1/orders",
        fast: bool = True,
        port: int | None = None,
    ) -> tuple[int, str]:
        """Send these very fields; returns status and reason. `fast` is the lane, else aiohttp answers."""
        async with aiohttp.request(
            method,
            f"http://127.0.0.1:{port or self.house.port}{target}",
            data=body or None,
            headers=fields if fast else fields | {"TE": "trailers"},
            skip_auto_headers=("Content-Type",),
        ) as answer:
            told = msgspec.json.decode(await answer.read())
            return answer.status, told.get("reason", told.get("status", ""))


@asynccontextmanager
async def signed_house(dsn: str, home: Path, *, api_keys: bool = False) -> AsyncIterator[Signed]:
    """A house whose operator and whose merchant AIR have keys; anna has points there. API keys count only if wanted."""
    ring = Keyring.create(home / "keys", at=datetime.now(UTC) - timedelta(days=1))
    async with clearing_house(dsn, home) as house:
        await house.accrue("anna", "AIR", 10_000)
        for code, identity in (("HOUSE", HOUSE_KEY), ("AIR", AIR_KEY)):
            answer = await house.call("POST", "/v1/keys", {"csr": identity.csr(code)})
            assert answer.status == 201, answer.raw
        if not api_keys:
            house.services.sessions._keys = SignedOnly()
        # Signatures of the second in which the house began count only from the next one on.
        await asyncio.sleep(1.05 - time.time() % 1)
        yield Signed(house, ring.trusted())


@asynccontextmanager
async def second_gateway(signed: Signed, folder: Path) -> AsyncIterator[int]:
    """One more gateway process's worth of services, which reaches the writer over its socket; yields its port."""
    house = signed.house
    nonces = house.services.keys._nonces
    assert isinstance(nonces, LocalNonces)
    server = LinkServer(house.writer, folder / "w.sock", AnyCommand, nonces)
    await server.start()
    remote = RemoteClearing(folder / "w.sock")
    await remote.start()
    services = make_services(
        pool=house.pool,
        clearing=remote,
        nonces=remote,
        home=house.home,
        now_us=house.clock,
    )
    async with serve(create_app(services), host="127.0.0.1", port=0) as port:
        yield port
    await remote.stop()
    await server.stop()
