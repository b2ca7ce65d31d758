"""Which merchants' own systems are reached, and how; rows are only added, and the newest counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy


async def insert_connection(
    conn: Connection | PoolConnectionProxy | Pool,
    *,
    merchant_no: int,
    folder: str,
    settings: dict[str, Any],
    certificate_digest: bytes | None,
    now: datetime,
) -> None:
    """Connect a merchant, or disconnect it with an empty folder."""
    await conn.execute(
        """
        INSERT INTO exchange.connection (merchant_no, folder, settings, certificate_digest, connected_at)
        VALUES ($1, $2, $3::text::jsonb, $4, $5)
        """,
        merchant_no,
        folder,
        msgspec.json.encode(settings).decode(),
        certificate_digest,
        now,
    )


async def fetch_connections(conn: Connection | PoolConnectionProxy | Pool) -> list[Record]:
    """The connection of each merchant that has one, by merchant; `settings` is JSON text."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT newest.connection_no, newest.merchant_no, newest.folder, newest.settings::text AS settings,
               newest.certificate_digest, newest.connected_at, m.code
          FROM (
                SELECT DISTINCT ON (merchant_no) *
                  FROM exchange.connection
                 ORDER BY merchant_no, connection_no DESC
               ) AS newest
          JOIN settlement.merchant AS m USING (merchant_no)
         WHERE newest.folder <> ''
         ORDER BY newest.merchant_no
        """
    )
    return rows
