"""Merchants as parties of the clearing house."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy


async def insert_merchant(
    conn: Connection | PoolConnectionProxy, *, code: str, name: str, now: datetime
) -> int | None:
    """Add a merchant under the next number.

    Returns:
        Its number; None if the code is taken.
    """
    # Two registrations at once would take the same number.
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('settlement.merchant', 0))")
    merchant_no: int | None = await conn.fetchval(
        """
        INSERT INTO settlement.merchant (merchant_no, code, name, registered_at)
        SELECT coalesce(max(merchant_no), 0) + 1, $1, $2, $3 FROM settlement.merchant
            ON CONFLICT (code) DO NOTHING
        RETURNING merchant_no
        """,
        code,
        name,
        now,
    )
    return merchant_no


async def fetch_merchants(
    conn: Connection | Pool, *, numbers: Sequence[int] | None = None
) -> list[Record]:
    """All merchants, or some, with their figures under the cap, by code."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT m.merchant_no, m.code, m.name, m.registered_at, a.cap_cu, a.collateral_cu, a.held_cu
          FROM settlement.merchant AS m
          LEFT JOIN settlement.account AS a USING (merchant_no)
         WHERE $1::integer[] IS NULL OR m.merchant_no = ANY ($1)
         ORDER BY m.code
        """,
        numbers,
    )
    return rows
