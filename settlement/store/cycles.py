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
               coalesce(sum(o.orders), 0)::bigint AS orders, coalesce(sum(o.debit_cu), 0)::bigint AS gross_cu,
               c.last_seq, coalesce(a.code, 'main') AS arrangement,
               coalesce(a.model, 'multilateral') AS model
          FROM settlement.cycle AS c
          LEFT JOIN settlement.arrangement AS a USING (part, arrangement_no)
          LEFT JOIN settlement.obligation AS o USING (part, cycle_no)
         WHERE c.part = $1
         GROUP BY c.part, c.cycle_no, a.code, a.model
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
               o.orders, o.gross_cu, coalesce(a.code, 'main') AS arrangement
          FROM settlement.cycle AS c
          LEFT JOIN settlement.arrangement AS a USING (part, arrangement_no)
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


async def fetch_open(conn: Connection | Pool, *, part: int) -> list[Record]:
    """Every arrangement with its open cycle, the main one first; no cycle's columns before its first opened."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT made.arrangement_no, made.code, made.model, c.cycle_no, c.cycle_id, c.opened_at, c.cut_off_at
          FROM (
               SELECT 0 AS arrangement_no, 'main' AS code, 'multilateral' AS model
                UNION ALL
               SELECT arrangement_no, code, model FROM settlement.arrangement WHERE part = $1
          ) AS made
          LEFT JOIN settlement.cycle AS c
            ON c.part = $1 AND c.arrangement_no = made.arrangement_no AND c.state = 'open'
         ORDER BY made.arrangement_no
        """,
        part,
    )
    return rows


async def fetch_pairs(conn: Connection | Pool, *, part: int) -> list[Record]:
    """Pairs of merchants that have, or get, another arrangement than the main one."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT a.code AS one, b.code AS other, coalesce(made.code, 'main') AS arrangement,
               CASE WHEN p.next_no IS NOT NULL THEN coalesce(next.code, 'main') END AS next
          FROM settlement.pair_arrangement AS p
          JOIN settlement.merchant AS a ON a.merchant_no = p.merchant_a
          JOIN settlement.merchant AS b ON b.merchant_no = p.merchant_b
          LEFT JOIN settlement.arrangement AS made
            ON made.part = p.part AND made.arrangement_no = p.arrangement_no
          LEFT JOIN settlement.arrangement AS next
            ON next.part = p.part AND next.arrangement_no = p.next_no
         WHERE p.part = $1 AND (p.arrangement_no > 0 OR p.next_no IS NOT NULL)
         ORDER BY one, other
        """,
        part,
    )
    return rows


async def fetch_newest(conn: Connection | Pool, *, part: int) -> int:
    """Number of the cycle that was opened last; 0 before the first."""
    newest: int = await conn.fetchval(
        "SELECT coalesce(max(cycle_no), 0) FROM settlement.cycle WHERE part = $1", part
    )
    return newest


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
