"""What callers may ask in a time: rows are only added, the last of each counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.core.quota import Limits, Quota

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection, Pool
    from asyncpg.pool import PoolConnectionProxy


async def insert_limits(
    conn: Connection | PoolConnectionProxy, *, merchant_no: int, limits: Limits, now: datetime
) -> None:
    """Set what a caller may ask from now on."""
    orders, requests = limits.orders, limits.requests
    await conn.execute(
        """
        INSERT INTO exchange.rate_limit
               (merchant_no, orders, orders_seconds, requests, requests_seconds, set_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        """,
        merchant_no,
        orders.units if orders else None,
        orders.window_seconds if orders else None,
        requests.units if requests else None,
        requests.window_seconds if requests else None,
        now,
    )


async def fetch_limits(conn: Connection | Pool | PoolConnectionProxy) -> dict[int, Limits]:
    """What was set, by merchant; whoever is missing has what is usual."""
    return {
        row["merchant_no"]: Limits(
            orders=_quota(row["orders"], row["orders_seconds"]),
            requests=_quota(row["requests"], row["requests_seconds"]),
        )
        for row in await conn.fetch(
            """
            SELECT DISTINCT ON (merchant_no)
                   merchant_no, orders, orders_seconds, requests, requests_seconds
              FROM exchange.rate_limit
             ORDER BY merchant_no, limit_no DESC
            """
        )
    }


def _quota(units: int | None, window_seconds: int | None) -> Quota | None:
    if units is None or window_seconds is None:
        return None
    return Quota(units=units, window_seconds=window_seconds)
