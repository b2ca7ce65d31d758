"""SQL of a cycle seen three ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection | PoolConnectionProxy


async def fetch_instructed(conn: Connection, *, cycle_no: int) -> list[Record]:
    """Read what each merchant was told to pay or is paid, all its instructions of the cycle together."""
    return await conn.fetch(
        """
        SELECT i.merchant_no, m.code, sum(i.net_cu)::bigint AS net_cu,
               sum(i.carry_before_cu)::bigint AS carry_before_cu, sum(i.pay_fen)::bigint AS pay_fen,
               sum(i.carry_after_cu)::bigint AS carry_after_cu
          FROM settlement.instruction AS i
          JOIN settlement.merchant AS m USING (merchant_no)
         WHERE i.cycle_no = $1
         GROUP BY i.merchant_no, m.code
         ORDER BY m.code
        """,
        cycle_no,
    )


async def fetch_seen(conn: Connection, *, cycle_no: int) -> list[Record]:
    """Read the matches that hold instructions of a cycle: whose, what was due in all, and what was seen in all."""
    return await conn.fetch(
        """
        SELECT h.match_no, h.merchant_no, sum(-i.pay_fen)::bigint AS own_due_fen,
               (SELECT sum(-j.pay_fen)::bigint
                  FROM settlement.match_instruction AS g
                  JOIN settlement.instruction AS j USING (cycle_no, merchant_no, counterparty_no)
                 WHERE g.match_no = h.match_no AND g.holds) AS due_fen,
               (SELECT sum(e.amount_fen)::bigint
                  FROM settlement.match_entry AS t
                  JOIN settlement.bank_entry AS e USING (statement_no, entry_no)
                 WHERE t.match_no = h.match_no AND t.holds) AS seen_fen,
               m.difference, m.accepted_at IS NOT NULL AS accepted
          FROM settlement.match_instruction AS h
          JOIN settlement.instruction AS i USING (cycle_no, merchant_no, counterparty_no)
          JOIN settlement.match AS m ON m.match_no = h.match_no
         WHERE h.cycle_no = $1 AND h.holds
         GROUP BY h.match_no, h.merchant_no, m.accepted_at, m.difference
         ORDER BY h.match_no
        """,
        cycle_no,
    )


async def fetch_accepted(conn: Connection, *, cycle_no: int, merchant_no: int) -> list[Record]:
    """Read the matches of lines whose difference a person let stand, and what the files say in them."""
    return await conn.fetch(
        """
        SELECT m.match_no,
               (SELECT sum(l.amount_cu)::bigint
                  FROM settlement.match_line AS h
                  JOIN settlement.merchant_line AS l USING (file_no, line_no)
                 WHERE h.match_no = m.match_no AND h.holds) AS told_cu,
               ARRAY(SELECT f.leaf_index FROM settlement.match_leaf AS f
                      WHERE f.match_no = m.match_no AND f.holds) AS leaves
          FROM settlement.match AS m
         WHERE m.cycle_no = $1 AND m.merchant_no = $2
           AND m.difference IS NOT NULL AND m.accepted_at IS NOT NULL AND m.undone_at IS NULL
        """,
        cycle_no,
        merchant_no,
    )
