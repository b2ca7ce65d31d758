"""Setting what a merchant may ask in a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.core.quota import UNLIMITED, USUAL, Limits
from exchange.store.limits import fetch_limits, insert_limits
from schemas.values.ids import HOUSE
from settlement.core.trail import By, Change
from settlement.service import trail

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Pool
    from asyncpg.pool import PoolConnectionProxy

    from schemas.files.trail import Terms


async def limits_of(conn: Pool | PoolConnectionProxy, merchant_no: int) -> Limits:
    """What a merchant may ask; 0 is the house, which has no limits unless some were set."""
    usual = UNLIMITED if merchant_no == HOUSE else USUAL
    return (await fetch_limits(conn)).get(merchant_no, usual)


async def set_limits(
    pool: Pool, *, merchant_no: int, code: str, limits: Limits, by: By, now: datetime
) -> None:
    """Set what a merchant may ask; gateways follow within two seconds.

    Args:
        pool: Connections of the program.
        merchant_no: Whose; 0 for the house.
        code: Its code.
        limits: What it may ask from now on.
        by: Who says so.
        now: Instant.
    """
    async with pool.acquire() as conn, conn.transaction():
        before = await limits_of(conn, merchant_no)
        await insert_limits(conn, merchant_no=merchant_no, limits=limits, now=now)
        change = Change(
            action="rate_limit.set", subject=code, before=_terms(before), after=_terms(limits)
        )
        await trail.record(conn, by, change, at=now)


def _terms(limits: Limits) -> Terms:
    return {
        "orders": str(limits.orders or "unlimited"),
        "requests": str(limits.requests or "unlimited"),
    }
