"""Cycles and positions, as reports and timers read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


async def fetch_cycles(conn: Connection | Pool, *, part: int) -> list[Record]:
    """All cycles with counts and gross, oldest first."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT c.cycle_no, c.cycle_id, c.state, c.opened_at, c.cut_off_at, c.closed_at, c.settled_at,
               coalesce(sum(o.orders), 0)::bigint AS orders, coalesce(sum(o.debit_cu), 0)::bigint AS gross_cu
          FROM settlement.cycle AS c
          LEFT JOIN settlement.obligation AS o USING (part, cycle_no)
         WHERE c.part = $1
         GROUP BY c.part, c.cycle_no
         ORDER BY c.cycle_no
        """,
        part,
    )
    return rows


async def fetch_cycle_page(
    conn: Connection | Pool, *, part: int, after_no: int, state: str | None, limit: int
) -> list[Record]:
    """Cycles after one, as `fetch_cycles` has them; `state` leaves all others out."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT c.cycle_no, c.cycle_id, c.state, c.opened_at, c.cut_off_at, c.closed_at, c.settled_at,
               o.orders, o.gross_cu
          FROM settlement.cycle AS c
         CROSS JOIN LATERAL (
               SELECT coalesce(sum(b.orders), 0)::bigint AS orders,
                      coalesce(sum(b.debit_cu), 0)::bigint AS gross_cu
                 FROM settlement.obligation AS b
                WHERE b.part = c.part AND b.cycle_no = c.cycle_no
         ) AS o
         WHERE c.part = $1 AND c.cycle_no > $2 AND ($3::text IS NULL OR c.state = $3)
         ORDER BY c.cycle_no
         LIMIT $4
        """,
        part,
        after_no,
        state,
        limit,
    )
    return rows


async def fetch_positions(conn: Connection | Pool, *, part: int, cycle_no: int) -> list[Record]:
    """Positions other than 0 of one cycle, by party number."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT p.merchant_no, m.code, p.net_cu
          FROM settlement.position AS p
          LEFT JOIN settlement.merchant AS m USING (merchant_no)
         WHERE p.part = $1 AND p.cycle_no = $2 AND p.net_cu <> 0
         ORDER BY p.merchant_no
        """,
        part,
        cycle_no,
    )
    return rows


async def fetch_head(conn: Connection | Pool, *, part: int) -> Record | None:
    """The partition's row: epoch, last event, clock, open cycle; None before the ledger was made."""
    return await conn.fetchrow(
        """
        SELECT p.epoch, p.flush_no, p.last_seq, p.digest, p.clock, p.clock_source, p.cycle_no, c.cycle_id,
               c.opened_at, c.cut_off_at
          FROM settlement.partition AS p
          LEFT JOIN settlement.cycle AS c USING (part, cycle_no)
         WHERE p.part = $1
        """,
        part,
    )
