"""Everything that is one merchant's own, streamed from one instant of the database."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg import Connection, Pool, Record

_ROWS_AT_ONCE = 5_000


@asynccontextmanager
async def snapshot(pool: Pool) -> AsyncIterator[Connection]:
    """A connection that sees one instant until the block ends, and writes nothing."""
    async with (
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield conn  # type: ignore[misc] # a pool's connection is one in all but its base class


async def members_of(conn: Connection, *, part: int, merchant_no: int) -> list[int]:
    """Members who ever had points of a programme, or spent some."""
    rows = await conn.fetch(
        """
        SELECT DISTINCT member_no FROM settlement.event
         WHERE part = $1 AND (issuer = $2 OR acceptor = $2) AND member_no > 0
        """,
        part,
        merchant_no,
    )
    return [row["member_no"] for row in rows]


async def lots_of(
    conn: Connection, *, part: int, merchant_no: int, at_us: int
) -> AsyncIterator[Record]:
    """Live lots of a programme, by member and expiry."""
    query = conn.cursor(
        """
        SELECT l.member_no, l.units, (extract(epoch FROM l.expires_at) * 1000000)::bigint AS expires_at_us
          FROM exchange.lot_balance AS l
         WHERE l.part = $1 AND l.merchant_no = $2 AND l.units > 0
               AND l.expires_at > 'epoch'::timestamptz + $3::bigint * interval '1 microsecond'
         ORDER BY l.member_no, l.expires_at, l.lot_no
        """,
        part,
        merchant_no,
        at_us,
        prefetch=_ROWS_AT_ONCE,
    )
    async for row in query:
        yield row


async def events_of(conn: Connection, *, part: int, merchant_no: int) -> AsyncIterator[Record]:
    """Events with a merchant as issuer or acceptor, in order; the member where the points are its own."""
    query = conn.cursor(
        """
        SELECT e.order_seq, e.kind, e.units, e.debit_cu, e.value_cu, e.fee_cu, e.credited_units, e.reason,
               e.reference, i.code AS issuer, a.code AS acceptor,
               (extract(epoch FROM e.at) * 1000000)::bigint AS at_us,
               (extract(epoch FROM e.occurred_at) * 1000000)::bigint AS occurred_at_us,
               (extract(epoch FROM o.at) * 1000000)::bigint AS order_at_us,
               CASE WHEN e.issuer = $2 THEN e.member_no END AS member_no
          FROM settlement.event AS e
          LEFT JOIN settlement.event AS o ON o.part = e.part AND o.seq = e.order_seq
          LEFT JOIN settlement.merchant AS i ON i.merchant_no = e.issuer
          LEFT JOIN settlement.merchant AS a ON a.merchant_no = e.acceptor
         WHERE e.part = $1 AND (e.issuer = $2 OR e.acceptor = $2)
         ORDER BY e.seq
        """,
        part,
        merchant_no,
        prefetch=_ROWS_AT_ONCE,
    )
    async for row in query:
        yield row
