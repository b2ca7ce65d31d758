"""Live points of one member, as gateways read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


async def fetch_balances(
    conn: Connection | Pool, *, part: int, member_no: int, at_us: int, merchant_no: int
) -> list[Record]:
    """Lots that can be spent at an instant, first to expire first; of all programmes for merchant 0."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT l.merchant_no, l.units, (extract(epoch FROM l.expires_at) * 1000000)::bigint AS expires_at_us
          FROM exchange.lot AS l
         WHERE l.part = $1 AND l.member_no = $2 AND l.units > 0
               AND l.expires_at > 'epoch'::timestamptz + $3::bigint * interval '1 microsecond'
               AND ($4 = 0 OR l.merchant_no = $4)
         ORDER BY l.merchant_no, l.expires_at, l.lot_no
        """,
        part,
        member_no,
        at_us,
        merchant_no,
    )
    return rows
