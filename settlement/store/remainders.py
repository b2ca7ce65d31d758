"""SQL of the rounding account: what it collected of whose orders, and what of it went back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    import asyncpg
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection | PoolConnectionProxy


async def fetch_collected(conn: Connection, *, part: int, until: datetime) -> list[Record]:
    """Debit less value of each pair in the cycles that closed before an instant; returns count as taken back."""
    return await conn.fetch(
        """
        SELECT issuer, acceptor, sum(cu)::bigint AS cu
          FROM (SELECT cycle_no, issuer, acceptor, debit_cu - value_cu AS cu
                  FROM settlement.obligation WHERE part = $1
                 UNION ALL
                SELECT cycle_no, issuer, acceptor, value_cu - debit_cu
                  FROM settlement.reversed_obligation WHERE part = $1) AS moved
          JOIN settlement.cycle AS c ON c.part = $1 AND c.cycle_no = moved.cycle_no
         WHERE c.closed_at < $2
         GROUP BY issuer, acceptor
        """,
        part,
        until,
    )


async def fetch_balance(conn: Connection, *, part: int, until: datetime) -> int:
    """Sum of the rounding account's positions in the cycles that closed before an instant, CU."""
    balance: int = await conn.fetchval(
        """
        SELECT coalesce(sum(p.net_cu), 0)::bigint
          FROM settlement.position AS p
          JOIN settlement.cycle AS c ON c.part = p.part AND c.cycle_no = p.cycle_no
         WHERE p.part = $1 AND p.merchant_no = -2 AND c.closed_at < $2
        """,
        part,
        until,
    )
    return balance


async def fetch_returned(conn: Connection, *, part: int) -> list[Record]:
    """What went back so far, by pair, quarter and when its cycle closed (null while it is open)."""
    return await conn.fetch(
        """
        SELECT e.issuer, e.acceptor, e.reference, c.closed_at, -e.debit_cu AS cu
          FROM settlement.event AS e
          JOIN settlement.cycle AS c ON c.part = e.part AND c.cycle_no = e.cycle_no
         WHERE e.part = $1 AND e.kind = 6 AND e.order_seq = 0 AND e.reference LIKE 'remainders 20__Q_'
        """,
        part,
    )
