"""Public keys of callers: registering, retiring and revoking them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy


async def insert_signing_key(
    conn: Connection | PoolConnectionProxy,
    *,
    key_id: str,
    merchant_no: int,
    public_key: bytes,
    label: str,
    now: datetime,
) -> bool:
    """Add a key; False if it was registered before, by whomever."""
    status = await conn.execute(
        """
        INSERT INTO exchange.signing_key (key_id, merchant_no, public_key, label, registered_at)
        VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT DO NOTHING
        """,
        key_id,
        merchant_no,
        public_key,
        label,
        now,
    )
    return bool(status == "INSERT 0 1")


async def fetch_signing_key(conn: Connection | Pool, *, key_id: str) -> Record | None:
    """One key, whatever became of it."""
    return await conn.fetchrow(
        """
        SELECT key_id, merchant_no, public_key, label, registered_at, retires_at, revoked_at
          FROM exchange.signing_key
         WHERE key_id = $1
        """,
        key_id,
    )


async def fetch_signing_keys(
    conn: Connection | Pool | PoolConnectionProxy,
    *,
    merchant_no: int | None,
    after: str | None = None,
    limit: int | None = None,
) -> list[Record]:
    """All keys of a merchant (of everybody where it is None), revoked ones too, oldest first, after a key."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT key_id, merchant_no, public_key, label, registered_at, retires_at, revoked_at
          FROM exchange.signing_key
         WHERE ($1::integer IS NULL OR merchant_no = $1)
           AND ($2::text IS NULL OR (merchant_no, registered_at, key_id) > (
                SELECT s.merchant_no, s.registered_at, s.key_id FROM exchange.signing_key AS s WHERE s.key_id = $2))
         ORDER BY merchant_no, registered_at, key_id
         LIMIT $3
        """,
        merchant_no,
        after,
        limit,
    )
    return rows


async def retire_signing_keys(
    conn: Connection | PoolConnectionProxy, *, merchant_no: int, but: str, at: datetime
) -> None:
    """Let every other key of a merchant that still counts end at an instant, unless it ends before."""
    await conn.execute(
        """
        UPDATE exchange.signing_key
           SET retires_at = $3
         WHERE merchant_no = $1 AND key_id <> $2 AND revoked_at IS NULL
           AND (retires_at IS NULL OR retires_at > $3)
        """,
        merchant_no,
        but,
        at,
    )


async def revoke_signing_key(
    conn: Connection | PoolConnectionProxy, *, key_id: str, now: datetime
) -> bool:
    """Withdraw a key; False if it was withdrawn before, and stays as it is."""
    status = await conn.execute(
        "UPDATE exchange.signing_key SET revoked_at = $2 WHERE key_id = $1 AND revoked_at IS NULL",
        key_id,
        now,
    )
    return bool(status == "UPDATE 1")


async def lock_merchant_keys(conn: Connection | PoolConnectionProxy, *, merchant_no: int) -> None:
    """Let two registrations for one merchant come one after the other, until the transaction ends."""
    await conn.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('exchange.signing_key', $1))", merchant_no
    )
