"""Put a merchant's own system into service, or take it out; order workers and gateways see it within seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from exchange.store import connections as store
from settlement.core.trail import By, Change
from settlement.service import trail

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Pool
    from asyncpg.pool import PoolConnectionProxy

    from schemas.files.trail import Terms


async def connect_merchant(
    pool: Pool,
    *,
    merchant_no: int,
    code: str,
    folder: str,
    settings: dict[str, Any],
    certificate_digest: bytes | None,
    by: By,
    now: datetime,
) -> None:
    """Connect a merchant's own system, or disconnect it with an empty folder.

    Args:
        pool: Connections of the program.
        merchant_no: The merchant, which keeps its points itself.
        code: Its code.
        folder: Name or path of its adapter's folder.
        settings: What differs from the adapter's manifest; no secret stands there.
        certificate_digest: SHA-256 of the adapter's certificate; None in a sandbox, or for none.
        by: Who does it.
        now: Instant.
    """
    async with pool.acquire() as conn, conn.transaction():
        await enact_connection(
            conn,
            merchant_no=merchant_no,
            code=code,
            folder=folder,
            settings=settings,
            certificate_digest=certificate_digest,
            by=by,
            now=now,
        )


async def enact_connection(
    conn: PoolConnectionProxy,
    *,
    merchant_no: int,
    code: str,
    folder: str,
    settings: dict[str, Any],
    certificate_digest: bytes | None,
    by: By,
    now: datetime,
) -> bytes:
    """The same inside the caller's transaction; returns the trail's digest."""
    before = await connection_terms(conn, merchant_no)
    await store.insert_connection(
        conn,
        merchant_no=merchant_no,
        folder=folder,
        settings=settings,
        certificate_digest=certificate_digest,
        now=now,
    )
    after = _terms(folder, settings, certificate_digest) if folder else None
    action = "merchant.connect" if folder else "merchant.disconnect"
    change = Change(action=action, subject=code, before=before, after=after)
    return await trail.record(conn, by, change, at=now)


async def connection_terms(conn: PoolConnectionProxy | Pool, merchant_no: int) -> Terms | None:
    """How a merchant is connected now, as the trail shows it; None if it is not."""
    for row in await store.fetch_connections(conn):
        if row["merchant_no"] == merchant_no:
            settings = msgspec.json.decode(row["settings"])
            return _terms(row["folder"], settings, row["certificate_digest"])
    return None


def _terms(folder: str, settings: dict[str, Any], certificate: bytes | None) -> Terms:
    """A connection as the trail shows it; what no whole number or text is, stands there as JSON text."""
    return {
        "folder": folder,
        "settings": msgspec.json.encode(settings, order="sorted").decode(),
        "certificate": certificate.hex() if certificate else None,
    }
