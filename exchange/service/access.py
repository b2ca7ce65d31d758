"""API keys: how integrators call a sandbox.

A key is 256 random bits, so its plain SHA-256 is enough at rest: there is nothing to guess. The digest
is what is looked up, so the time that a look-up takes tells nothing about a key.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal, Protocol

from exchange.store import api_keys as store
from schemas.values.ids import HOUSE
from settlement.core.trail import By, Change
from settlement.service import trail

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Pool
    from asyncpg.pool import PoolConnectionProxy

KEY_PREFIX: Final = "tdk_"
CACHED_SECONDS: Final = 5.0
"""A revoked key may still be taken for so long by a gateway that saw it before."""
CACHED_MAX: Final = 10_000
OPERATOR_KEY_FILE: Final = "operator.key"

Role = Literal["merchant", "operator", "person"]


class Unauthenticated(Exception):  # noqa: N818 - it is the caller's state
    """Nobody knows who calls: no key, an unknown one, or a revoked one."""


class Forbidden(Exception):  # noqa: N818 - it is what the caller was told
    """The caller is known and may not do this. The message says what would be allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls.

    Attributes:
        merchant_no: The merchant; 0 for the house.
        role: A merchant's key, the house's, or a person.
        name: What the audit trail calls it, for example `key:0123456789ab` or `person:anna`.
        roles: What a person may do; empty for keys.
    """

    merchant_no: int
    role: Role
    name: str
    roles: frozenset[str] = frozenset()

    @property
    def columns(self) -> frozenset[str]:
        """Columns of the access matrix in which it stands."""
        return self.roles if self.role == "person" else _KEY_COLUMNS[self.role]

    def by(self, why: str = "") -> By:
        """Who makes a change, as the audit trail is told."""
        return By(who=self.name, why=why)


_KEY_COLUMNS: Final = {
    "merchant": frozenset({"merchant-key"}),
    "operator": frozenset({"house-key"}),
}


class Authenticator(Protocol):
    """Says who calls by a secret that comes with the request."""

    async def authenticate(self, authorization: str | None) -> Principal:
        """Say who calls.

        Args:
            authorization: The `Authorization` header.

        Raises:
            Unauthenticated: Nobody knows.
        """
        ...


class ApiKeys:
    """Looks keys up by their digest, and remembers them briefly; an `Authenticator`."""

    def __init__(self, pool: Pool) -> None:
        """Take the pool to read with."""
        self._pool = pool
        self._known: dict[str, tuple[float, Principal]] = {}

    async def authenticate(self, authorization: str | None) -> Principal:
        """Say whose key this is; see `Authenticator`."""
        if authorization is None:
            raise Unauthenticated("send `Authorization: Bearer <API key>`")
        known = self._known.get(authorization)
        if known is not None and monotonic() - known[0] < CACHED_SECONDS:
            return known[1]
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.isascii():
            raise Unauthenticated("send `Authorization: Bearer <API key>`")
        digest = key_digest(key)
        row = await store.fetch_api_key(self._pool, digest=digest)
        if row is None or not hmac.compare_digest(row["digest"], digest):
            self._known.pop(authorization, None)
            raise Unauthenticated("this API key is unknown or was revoked")
        merchant_no = row["merchant_no"]
        role: Role = "merchant" if merchant_no else "operator"
        principal = Principal(merchant_no=merchant_no, role=role, name=f"key:{key_name(digest)}")
        if len(self._known) >= CACHED_MAX:
            self._known = {}
        self._known[authorization] = (monotonic(), principal)
        return principal


def bearer_of(authorization: str | None) -> str:
    """The token of an `Authorization` header; empty for none.

    Raises:
        Unauthenticated: It is of another scheme.
    """
    scheme, _, token = (authorization or "bearer ").partition(" ")
    if scheme.lower() != "bearer" or not token.isascii():
        raise Unauthenticated("send `Authorization: Bearer <token>`")
    return token


def key_digest(key: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(key.encode()).digest()


def key_name(digest: bytes) -> str:
    """What a key is called by people: the start of its digest, which tells nothing about the key."""
    return digest.hex()[:12]


async def issue_api_key(
    pool: Pool, *, merchant_no: int, code: str, label: str, by: By, now: datetime
) -> str:
    """Make a key; this is the only time that it is seen.

    Args:
        pool: Connections of the program.
        merchant_no: Whose key; 0 for the house.
        code: The merchant's code, HOUSE for the house.
        label: What it is for.
        by: Who makes it.
        now: Instant.
    """
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    async with pool.acquire() as conn, conn.transaction():
        await enact_key(
            conn,
            key_digest(key),
            merchant_no=merchant_no,
            code=code,
            label=label,
            by=by,
            now=now,
        )
    return key


async def enact_key(
    conn: PoolConnectionProxy,
    digest: bytes,
    *,
    merchant_no: int,
    code: str,
    label: str,
    by: By,
    now: datetime,
) -> bytes | None:
    """Let a key count by its digest, inside the caller's transaction.

    Returns:
        The trail's digest; None for a key that is there already, which stays as it is.
    """
    if not await store.insert_api_key(
        conn, digest=digest, merchant_no=merchant_no, label=label, now=now
    ):
        return None
    after = {"key": key_name(digest), "label": label}
    change = Change(action="api_key.issue", subject=code, after=after)
    return await trail.record(conn, by, change, at=now)


async def revoke_api_key(pool: Pool, digest: bytes, *, code: str, by: By, now: datetime) -> bool:
    """Revoke a key by its digest; gateways that remember it forget it within seconds. False if it was none."""
    async with pool.acquire() as conn, conn.transaction():
        revoked = await store.revoke_api_key(conn, digest=digest, now=now)
        if revoked:
            change = Change(action="api_key.revoke", subject=code, before={"key": key_name(digest)})
            await trail.record(conn, by, change, at=now)
    return revoked


async def operator_key(pool: Pool, home: Path, *, now: datetime) -> str:
    """Return the house's own key, kept in a file that only this user reads; made if it is missing.

    Args:
        pool: Where its digest is stored.
        home: The installation's folder.
        now: Instant, for a key that is made.
    """
    path = home / OPERATOR_KEY_FILE
    if not path.exists():
        write_once(path, KEY_PREFIX + secrets.token_urlsafe(32))
    key = path.read_text(encoding="ascii").strip()
    if await store.fetch_api_key(pool, digest=key_digest(key)) is None:
        async with pool.acquire() as conn, conn.transaction():
            await enact_key(
                conn,
                key_digest(key),
                merchant_no=HOUSE,
                code="HOUSE",
                label="operator",
                by=trail.PROGRAM,
                now=now,
            )
    return key


def write_once(path: Path, text: str) -> None:
    """Write a secret file whole; if another process was faster, its file stays."""
    work = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(work)
    finally:
        work.unlink(missing_ok=True)
