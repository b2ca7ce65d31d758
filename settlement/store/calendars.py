"""Calendars in force, one for each arrangement."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection, Pool
    from asyncpg.pool import PoolConnectionProxy


async def insert_calendar(
    conn: Connection | PoolConnectionProxy,
    *,
    terms: str,
    effective_at: datetime,
    arrangement: str,
) -> None:
    """Add a calendar (JSON text) of an arrangement, in force from `effective_at`."""
    await conn.execute(
        """
        INSERT INTO settlement.calendar (terms, effective_at, arrangement)
        VALUES ($1::jsonb, $2, $3)
        """,
        terms,
        effective_at,
        arrangement,
    )


async def fetch_calendar(conn: Connection | Pool, *, at: datetime, arrangement: str) -> str | None:
    """An arrangement's calendar in force at an instant, as JSON text; None where none was ever set."""
    terms: str | None = await conn.fetchval(
        """
        SELECT terms::text FROM settlement.calendar
         WHERE effective_at <= $1 AND arrangement = $2
         ORDER BY effective_at DESC, calendar_no DESC
         LIMIT 1
        """,
        at,
        arrangement,
    )
    return terms
