"""What moved in lots, summed by programme, month of expiry and kind of event, in the snapshot of the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    AnyConnection = Connection | PoolConnectionProxy


async def allow_long_sums(conn: AnyConnection) -> None:
    """Let statements of this transaction take minutes, and 64 MB of memory before they spill to disk."""
    await conn.execute("SET LOCAL statement_timeout = '5min'")
    await conn.execute("SET LOCAL work_mem = '64MB'")


async def fetch_flows(
    conn: AnyConnection, *, part: int, opening_seq: int, through_seq: int, merchant_no: int | None
) -> list[Record]:
    """Units of lots that were made, and that events took of lots or put back, through an event.

    Args:
        conn: Inside a snapshot.
        part: Partition.
        opening_seq: What was written after it is in the period.
        through_seq: The last event that counts.
        merchant_no: One programme alone; None for all.

    Returns:
        Programme, month of expiry (years times 12 plus month from 0, in Beijing), whether in the period, kind of
        event, whether lots were made, and units: below 0 for what was put back.
    """
    rows: list[Record] = await conn.fetch(
        """
        WITH named AS (
            SELECT l.lot_no, l.made_seq, l.earned_units, l.merchant_no,
                   (extract(year FROM month) * 12 + extract(month FROM month) - 1)::int AS month_no
              FROM exchange.lot AS l
             CROSS JOIN LATERAL (
                   SELECT l.expires_at AT TIME ZONE 'UTC' + interval '8 hours' AS month
             ) AS beijing
             WHERE l.part = $1 AND l.made_seq <= $3 AND ($4::int IS NULL OR l.merchant_no = $4)
        )
        SELECT n.merchant_no, n.month_no, n.made_seq > $2 AS in_period, e.kind, true AS made,
               sum(n.earned_units)::bigint AS units
          FROM named AS n
          JOIN settlement.event AS e ON e.part = $1 AND e.seq = n.made_seq
         GROUP BY 1, 2, 3, 4
         UNION ALL
        SELECT n.merchant_no, n.month_no, u.seq > $2, e.kind, false, sum(u.units)::bigint
          FROM exchange.lot_use AS u
          JOIN named AS n USING (lot_no)
          JOIN settlement.event AS e ON e.part = u.part AND e.seq = u.seq
         WHERE u.part = $1 AND u.seq <= $3
         GROUP BY 1, 2, 3, 4, u.units > 0
        """,
        part,
        opening_seq,
        through_seq,
        merchant_no,
    )
    return rows


async def fetch_left(
    conn: AnyConnection, *, part: int, through_seq: int, merchant_no: int | None
) -> dict[int, int]:
    """Units that all lots of a programme held after an event, as their last uses say."""
    rows = await conn.fetch(
        """
        SELECT l.merchant_no, sum(coalesce(u.left_units, l.earned_units))::bigint AS units
          FROM exchange.lot AS l
          LEFT JOIN (
               SELECT DISTINCT ON (lot_no) lot_no, left_units
                 FROM exchange.lot_use
                WHERE part = $1 AND seq <= $2
                ORDER BY lot_no, seq DESC
          ) AS u USING (lot_no)
         WHERE l.part = $1 AND l.made_seq <= $2 AND ($3::int IS NULL OR l.merchant_no = $3)
         GROUP BY l.merchant_no
        """,
        part,
        through_seq,
        merchant_no,
    )
    return {row["merchant_no"]: row["units"] for row in rows}


async def fetch_told(
    conn: AnyConnection, *, part: int, through_seq: int, merchant_no: int | None
) -> list[Record]:
    """Units that the journal itself says came to lots of a programme, and went, by kind of event.

    Of orders, those that were decided in one stroke: in others, points move by calls of their own (L11).
    """
    rows: list[Record] = await conn.fetch(
        """
        WITH told AS (
            SELECT issuer AS merchant_no, kind, kind IN (7, 17, 18, 22) AS came, units
              FROM settlement.event
             WHERE part = $1 AND seq <= $2 AND kind IN (7, 8, 16, 17, 18, 19, 21, 22)
             UNION ALL
            SELECT issuer, kind, false, units
              FROM settlement.event
             WHERE part = $1 AND seq <= $2 AND kind = 3 AND order_seq = seq
             UNION ALL
            SELECT acceptor, kind, true, credited_units
              FROM settlement.event
             WHERE part = $1 AND seq <= $2 AND kind = 3 AND lot_no > 0
             UNION ALL
            SELECT side.merchant_no, r.kind, side.came, side.units
              FROM settlement.event AS r
              JOIN settlement.event AS o ON o.part = r.part AND o.seq = r.order_seq AND o.kind = 3
             CROSS JOIN LATERAL (
                   VALUES (r.issuer, true, -r.units),
                          (r.acceptor, false, CASE WHEN o.lot_no > 0 THEN -r.credited_units ELSE 0 END)
             ) AS side (merchant_no, came, units)
             WHERE r.part = $1 AND r.seq <= $2 AND r.kind = 20
        )
        SELECT t.merchant_no, t.kind, t.came, sum(t.units)::bigint AS units
          FROM told AS t
          JOIN exchange.programme AS p ON p.merchant_no = t.merchant_no AND p.hosted
         WHERE $3::int IS NULL OR t.merchant_no = $3
         GROUP BY t.merchant_no, t.kind, t.came
        """,
        part,
        through_seq,
        merchant_no,
    )
    return rows


async def fetch_passed(
    conn: AnyConnection, *, part: int, opening_seq: int, through_seq: int, merchant_no: int | None
) -> list[Record]:
    """What passed through here, in a period, of programmes that keep their points in systems of their own."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT e.issuer AS merchant_no, sum(e.units) FILTER (WHERE e.kind = 3)::bigint AS redeemed,
               coalesce(-sum(e.units) FILTER (WHERE e.kind = 20), 0)::bigint AS reversed,
               sum(e.debit_cu)::bigint AS debit_cu
          FROM settlement.event AS e
          JOIN exchange.programme AS p ON p.merchant_no = e.issuer AND NOT p.hosted
         WHERE e.part = $1 AND e.seq > $2 AND e.seq <= $3 AND e.kind IN (3, 20)
               AND ($4::int IS NULL OR e.issuer = $4)
         GROUP BY e.issuer
        """,
        part,
        opening_seq,
        through_seq,
        merchant_no,
    )
    return rows
