"""What stood in the books: now, as the projections have it, and at any earlier event, summed from the journal.

Every function reads in the snapshot of the caller (`settlement.store.audit.snapshot`).
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Final

from settlement.core.netting import Obligation

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    AnyConnection = Connection | PoolConnectionProxy


_OBLIGATION: Final = tuple(each.name for each in fields(Obligation))


async def fetch_last_seq_at(conn: AnyConnection, *, part: int, at_us: int) -> int:
    """Number of the last event that was written at an instant or before; 0 if there is none.

    Time never runs back along the numbers (rule B5), so halving the numbers finds it by the primary key.
    """
    seq: int | None = await conn.fetchval(
        """
        WITH RECURSIVE halves (low, high) AS (
            SELECT 0::bigint, last_seq FROM settlement.partition WHERE part = $1
             UNION ALL
            SELECT CASE WHEN e.early THEN middle.seq ELSE h.low END,
                   CASE WHEN e.early THEN h.high ELSE middle.seq - 1 END
              FROM halves AS h
             CROSS JOIN LATERAL (SELECT (h.low + h.high + 1) / 2 AS seq) AS middle
             CROSS JOIN LATERAL (
                   SELECT (extract(epoch FROM at) * 1000000)::bigint <= $2 AS early
                     FROM settlement.event
                    WHERE part = $1 AND seq = middle.seq
             ) AS e
             WHERE h.low < h.high
        )
        SELECT low FROM halves WHERE low = high
        """,
        part,
        at_us,
    )
    return seq or 0


async def fetch_moved(
    conn: AnyConnection, *, part: int, after_seq: int, through_seq: int
) -> list[Record]:
    """Sums of all that moved or held value in a stretch of the journal, in one pass over it.

    Lines by cycle and pair; acceptances of holds, and their ends, by issuer.
    """
    rows: list[Record] = await conn.fetch(
        """
        SELECT kind IN (3, 6, 20) AS line,
               CASE WHEN kind IN (3, 6, 20) THEN cycle_no ELSE 0 END AS cycle_no, issuer,
               CASE WHEN kind IN (3, 6, 20) THEN acceptor ELSE 0 END AS acceptor,
               sum(debit_cu)::bigint AS debit_cu, sum(value_cu)::bigint AS value_cu,
               sum(fee_cu)::bigint AS fee_cu,
               sum(CASE WHEN kind = 1 THEN debit_cu
                        WHEN kind IN (3, 4, 5) AND order_seq <> seq THEN -debit_cu
                        ELSE 0 END)::bigint AS held_cu
          FROM settlement.event
         WHERE part = $1 AND seq > $2 AND seq <= $3 AND kind IN (1, 3, 4, 5, 6, 20)
         GROUP BY 1, 2, 3, 4
        """,
        part,
        after_seq,
        through_seq,
    )
    return rows


async def fetch_administered(
    conn: AnyConnection, *, part: int, after_seq: int, through_seq: int
) -> list[Record]:
    """Accounts opened, caps, cycles and money that moved, in a stretch of the journal, oldest first."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT kind, cycle_no, issuer, acceptor, units, credited_units, debit_cu, value_cu, fee_cu, reference
          FROM settlement.event
         WHERE part = $1 AND seq > $2 AND seq <= $3
               AND kind IN (10, 11, 12, 13, 14, 15, 23, 24, 25, 26, 29)
         ORDER BY seq
        """,
        part,
        after_seq,
        through_seq,
    )
    return rows


async def fetch_cycle_states(conn: AnyConnection, *, part: int) -> list[Record]:
    """Number, id, state, last event, end and model of every cycle, oldest first."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT c.cycle_no, c.cycle_id, c.state, c.last_seq,
               (extract(epoch FROM c.closed_at) * 1000000)::bigint AS closed_us,
               coalesce(a.model, 'multilateral') AS model
          FROM settlement.cycle AS c
          LEFT JOIN settlement.arrangement AS a USING (part, arrangement_no)
         WHERE c.part = $1
         ORDER BY c.cycle_no
        """,
        part,
    )
    return rows


async def fetch_unsettled_positions(conn: AnyConnection, *, part: int) -> list[Record]:
    """Stored positions of all cycles that are open or closed, but for gross ones: theirs are in the funds."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT p.cycle_no, p.merchant_no, p.net_cu
          FROM settlement.cycle AS c
          JOIN settlement.position AS p USING (part, cycle_no)
          LEFT JOIN settlement.arrangement AS a USING (part, arrangement_no)
         WHERE c.part = $1 AND c.state <> 'settled' AND a.model IS DISTINCT FROM 'gross'
        """,
        part,
    )
    return rows


async def fetch_owed(
    conn: AnyConnection | Pool, *, part: int, cycle_nos: list[int]
) -> list[tuple[int, Obligation]]:
    """What pairs owe in some cycles, and what reversals took back, by cycle."""
    rows = await conn.fetch(
        """
        SELECT cycle_no, issuer, acceptor, orders, debit_cu, value_cu, fee_cu, false AS reversal
          FROM settlement.obligation
         WHERE part = $1 AND cycle_no = ANY($2::int[])
         UNION ALL
        SELECT cycle_no, issuer, acceptor, reversals, debit_cu, value_cu, fee_cu, true
          FROM settlement.reversed_obligation
         WHERE part = $1 AND cycle_no = ANY($2::int[])
         ORDER BY cycle_no, issuer, acceptor, reversal
        """,
        part,
        cycle_nos,
    )
    return [
        (row["cycle_no"], Obligation(**{name: row[name] for name in _OBLIGATION})) for row in rows
    ]
