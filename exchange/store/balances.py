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
          FROM exchange.lot_balance AS l
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


async def fetch_history(
    conn: Connection | Pool,
    *,
    part: int,
    member_no: int,
    before_seq: int,
    merchant_no: int,
    limit: int,
) -> list[Record]:
    """What happened to a member's hosted points, newest first; all of it for merchant 0.

    The events are found through the member's lots, so the journal needs no index by member.
    """
    rows: list[Record] = await conn.fetch(
        """
        WITH moved AS (
            SELECT l.made_seq AS seq FROM exchange.lot AS l
             WHERE l.part = $1 AND l.member_no = $2 AND l.made_seq < $3
             UNION
            SELECT u.seq
              FROM exchange.lot AS l
              JOIN exchange.lot_use AS u ON u.part = l.part AND u.lot_no = l.lot_no
             WHERE l.part = $1 AND l.member_no = $2 AND u.seq < $3
        )
        SELECT e.seq, e.order_seq, e.kind, e.reason, e.issuer, e.acceptor, e.units, e.value_cu,
               e.credited_units, e.reference, (extract(epoch FROM e.at) * 1000000)::bigint AS at_us,
               (extract(epoch FROM e.occurred_at) * 1000000)::bigint AS occurred_at_us,
               (extract(epoch FROM coalesce(
                   (SELECT f.at FROM settlement.event AS f
                     WHERE f.part = $1 AND f.seq = e.order_seq AND e.kind = 20), e.at)) * 1000000
               )::bigint AS accepted_at_us
          FROM moved
          JOIN settlement.event AS e ON e.part = $1 AND e.seq = moved.seq
         WHERE $4 = 0 OR e.issuer = $4 OR e.acceptor = $4
         ORDER BY e.seq DESC
         LIMIT $5
        """,
        part,
        member_no,
        before_seq,
        merchant_no,
        limit,
    )
    return rows
