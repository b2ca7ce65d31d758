"""Single orders and histories, as gateways read them (instants as microseconds since 1970)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy


async def fetch_order(
    conn: Connection | Pool | PoolConnectionProxy, *, part: int, order_seq: int
) -> list[Record]:
    """The first event of an order and, where there is one, its end; with the rate it was priced at."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT e.seq, e.kind, e.reason, e.caller, e.issuer, e.acceptor, e.units, e.debit_cu, e.value_cu,
               e.fee_cu, e.credited_units, e.cycle_no, e.rate_no, e.reference,
               (extract(epoch FROM e.at) * 1000000)::bigint AS at_us,
               (extract(epoch FROM e.occurred_at) * 1000000)::bigint AS occurred_at_us,
               (extract(epoch FROM e.due_at) * 1000000)::bigint AS due_at_us
          FROM settlement.event AS e
         WHERE e.part = $1 AND e.seq = $2 AND e.order_seq = e.seq
         UNION ALL
        SELECT e.seq, e.kind, e.reason, e.caller, e.issuer, e.acceptor, e.units, e.debit_cu, e.value_cu,
               e.fee_cu, e.credited_units, e.cycle_no, e.rate_no, e.reference,
               (extract(epoch FROM e.at) * 1000000)::bigint,
               (extract(epoch FROM e.occurred_at) * 1000000)::bigint,
               (extract(epoch FROM e.due_at) * 1000000)::bigint
          FROM settlement.event AS e
         WHERE e.part = $1 AND e.order_seq = $2 AND e.kind IN (3, 4, 5) AND e.order_seq <> e.seq
         ORDER BY seq
        """,
        part,
        order_seq,
    )
    return rows


async def fetch_reversals(conn: Connection | Pool, *, part: int, order_seq: int) -> list[Record]:
    """The reversals of an order, oldest first; figures without a sign."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT e.seq, -e.units AS units, -e.debit_cu AS debit_cu, -e.value_cu AS value_cu,
               -e.fee_cu AS fee_cu, -e.credited_units AS credited_units, e.lot_no, e.cycle_no,
               (extract(epoch FROM e.at) * 1000000)::bigint AS at_us,
               (extract(epoch FROM e.due_at) * 1000000)::bigint AS due_at_us
          FROM settlement.event AS e
         WHERE e.part = $1 AND e.order_seq = $2 AND e.kind = 20
         ORDER BY e.seq
        """,
        part,
        order_seq,
    )
    return rows


async def fetch_adjustments(conn: Connection | Pool, *, part: int, order_seq: int) -> list[Record]:
    """The adjustments of an order, oldest first; figures above 0 are owed, below 0 taken back."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT e.seq, e.debit_cu, e.value_cu, e.fee_cu, e.reference, e.cycle_no,
               (extract(epoch FROM e.at) * 1000000)::bigint AS at_us
          FROM settlement.event AS e
         WHERE e.part = $1 AND e.order_seq = $2 AND e.kind = 6
         ORDER BY e.seq
        """,
        part,
        order_seq,
    )
    return rows


async def fetch_standing(conn: Connection | Pool, *, part: int, cycle_no: int) -> list[Record]:
    """Every party's figure of one cycle beside its account, and what its other cycles weigh on it now.

    A gross cycle weighs nothing itself, so its figure is taken off what the others weigh.
    """
    rows: list[Record] = await conn.fetch(
        """
          WITH reserved AS (
               -- Holds of pairs in gross arrangements reserve funds, and no headroom.
               SELECT e.issuer, sum(e.debit_cu) AS cu
                 FROM settlement.arrangement AS m
                 JOIN settlement.pair_arrangement AS pair USING (part, arrangement_no)
                 JOIN settlement.hold AS h USING (part)
                 JOIN settlement.event AS e ON e.part = h.part AND e.seq = h.order_seq
                WHERE m.part = $1 AND m.model = 'gross'
                      AND least(e.issuer, e.acceptor) = pair.merchant_a
                      AND greatest(e.issuer, e.acceptor) = pair.merchant_b
                GROUP BY e.issuer
          )
        SELECT coalesce(a.merchant_no, p.merchant_no) AS merchant_no, coalesce(p.net_cu, 0) AS net_cu,
               a.cap_cu, a.collateral_cu, a.held_cu,
               coalesce((
                   SELECT sum(least(u.net_cu, 0))
                     FROM settlement.cycle AS c
                     JOIN settlement.position AS u USING (part, cycle_no)
                     LEFT JOIN settlement.arrangement AS made USING (part, arrangement_no)
                    WHERE c.part = $1 AND u.merchant_no = a.merchant_no
                          AND made.model IS DISTINCT FROM 'gross'
                          AND (c.state = 'closed' OR (c.state = 'open' AND c.cycle_no <> $2))
               ), 0)::bigint + coalesce((
                   SELECT cu::bigint FROM reserved WHERE issuer = a.merchant_no
               ), 0) - CASE WHEN p.at_once THEN p.net_cu ELSE 0 END AS unsettled_cu
          FROM (SELECT * FROM settlement.account WHERE part = $1) AS a
          FULL JOIN (
               SELECT u.*, made.model IS NOT DISTINCT FROM 'gross' AS at_once
                 FROM settlement.position AS u
                 JOIN settlement.cycle AS c USING (part, cycle_no)
                 LEFT JOIN settlement.arrangement AS made USING (part, arrangement_no)
                WHERE u.part = $1 AND u.cycle_no = $2
          ) AS p ON p.merchant_no = a.merchant_no
         ORDER BY 1
        """,
        part,
        cycle_no,
    )
    return rows


async def fetch_instants(
    conn: Connection | PoolConnectionProxy, *, part: int, order_seqs: list[int]
) -> dict[int, int]:
    """Instants of orders' first events, microseconds since 1970, by number; those that there are."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT e.seq, (extract(epoch FROM e.at) * 1000000)::bigint AS at_us
          FROM settlement.event AS e
         WHERE e.part = $1 AND e.seq = ANY($2::bigint[]) AND e.order_seq = e.seq AND e.kind IN (1, 2, 3)
        """,
        part,
        order_seqs,
    )
    return {row["seq"]: row["at_us"] for row in rows}
