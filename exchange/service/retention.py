"""The retention run: what was kept for its time is removed, some rows at a time.

Each part is one transaction with its entry in the trail, which says how many rows went, and nothing else. So a run
that is killed has told what it did, the next one goes on, and two at once harm nobody.

Source: Personal Information Protection Law, articles 19 and 47.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exchange.core.retention import RETENTION
from exchange.store import retention as store
from settlement.service import trail
from settlement.service.trail import Change

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Pool

    from settlement.service.trail import By

TOGETHER: Final = 5_000
"""Rows that one transaction removes."""


async def count_due(pool: Pool, *, now: datetime) -> dict[str, int]:
    """How many rows a run would remove now, by kind: it is tried, and taken back."""
    due = {}
    for period in RETENTION:
        async with pool.acquire() as conn:
            attempt = conn.transaction()
            await attempt.start()
            try:
                due[period.name] = await store.remove(
                    conn, name=period.name, before=period.before(now), limit=None
                )
            finally:
                await attempt.rollback()
    return due


async def run_retention(pool: Pool, *, by: By, now: datetime) -> dict[str, int]:
    """Remove everything whose time is over.

    Args:
        pool: The database.
        by: Who has it removed.
        now: Instant.

    Returns:
        How many rows went, by kind.
    """
    removed = dict.fromkeys((period.name for period in RETENTION), 0)
    for period in RETENTION:
        count = TOGETHER
        while count == TOGETHER:
            async with pool.acquire() as conn, conn.transaction():
                before = period.before(now)
                count = await store.remove(conn, name=period.name, before=before, limit=TOGETHER)
                if count:
                    change = Change(
                        action="retention.run",
                        subject=period.name,
                        after={"rows": count, "days": period.days},
                    )
                    await trail.record(conn, by, change, at=now)
            removed[period.name] += count
    return removed
