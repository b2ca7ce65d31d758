"""API keys: only their digests are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy


async def insert_api_key(
    conn: Connection | PoolConnectionProxy,
    *,
    digest: bytes,
    merchant_no: int,
    label: str,
    now: datetime,
) -> bool:
    """Add a key; False for one that is there already, which stays as it is."""
    status = await conn.execute(
        """
        INSERT INTO exchange.api_key (digest, merchant_no, label, created_at)
        VALUES ($1, $2, $3, $4)
            ON CONFLICT (digest) DO NOTHING
        """,
        digest,
        merchant_no,
        label,
        now,
    )
    return bool(status == "INSERT 0 1")


async def fetch_api_key(conn: Connection | Pool, *, digest: bytes) -> Record | None:
    """A key that was not revoked, with its digest as stored."""
    return await conn.fetchrow(
        "SELECT digest, merchant_no FROM exchange.api_key WHERE digest = $1 AND revoked_at IS NULL",
        digest,
    )


async def fetch_api_keys(conn: Connection | Pool, *, merchant_no: int) -> list[Record]:
    """All keys of a merchant, revoked ones too, oldest first."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT digest, label, created_at, revoked_at
          FROM exchange.api_key
         WHERE merchant_no = $1
         ORDER BY created_at, digest
        """,
        merchant_no,
    )
    return rows


async def revoke_api_key(
    conn: Connection | PoolConnectionProxy, *, digest: bytes, now: datetime
) -> bool:
    """Revoke a key; False if there is none that could be."""
    status = await conn.execute(
        "UPDATE exchange.api_key SET revoked_at = $2 WHERE digest = $1 AND revoked_at IS NULL",
        digest,
        now,
    )
    return bool(status == "UPDATE 1")
