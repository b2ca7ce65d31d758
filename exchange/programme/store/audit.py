"""What an audit of hosted lots reads, in the snapshot of the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection | PoolConnectionProxy


async def allow_sorting(conn: Connection) -> None:
    """Let this transaction sort in 64 MB of memory before it spills to disk."""
    await conn.execute("SET LOCAL work_mem = '64MB'")


async def fetch_hosted(conn: Connection) -> list[int]:
    """Merchants whose lots are kept here."""
    return [
        row["merchant_no"]
        for row in await conn.fetch("SELECT merchant_no FROM exchange.programme WHERE hosted")
    ]


async def fetch_lapsed_through(conn: Connection, *, part: int) -> int | None:
    """How far the expiry run has come, microseconds since 1970; None before the first."""
    through: int | None = await conn.fetchval(
        """
        SELECT (extract(epoch FROM through) * 1000000)::bigint
          FROM exchange.expiry_run
         WHERE part = $1
        """,
        part,
    )
    return through


async def copy_lots_and_events(
    conn: Connection,
    *,
    part: int,
    hosted: list[int],
    sink: Callable[[bytes], Coroutine[Any, Any, None]],
) -> None:
    """Stream, member by member, the events that moved lots in their order, then the stored lots, then uses.

    The columns of a lot and of a use take the places of an event's; `exchange.programme.core.audit` says which.
    """
    await conn.copy_from_query(
        """
        SELECT member_no, 0::smallint AS sort, seq, order_seq, at, occurred_at, due_at, units,
               credited_units, lot_no, issuer, acceptor, kind
          FROM settlement.event
         WHERE part = $1
               AND (kind IN (7, 8, 16, 17, 18, 19, 20, 21, 22)
                    OR (kind = 3 AND (lot_no > 0 OR issuer = ANY($2::int[])
                                      OR (credited_units > 0 AND acceptor = ANY($2::int[])))))
         UNION ALL
        SELECT member_no, 1::smallint, lot_no, 0::bigint, expires_at, expires_at, expires_at, earned_units, 0,
               made_seq, merchant_no, merchant_no, 0::smallint
          FROM exchange.lot
         WHERE part = $1
         UNION ALL
        SELECT l.member_no, 2::smallint, u.seq, 0::bigint, l.expires_at, l.expires_at, l.expires_at, u.units,
               u.left_units, u.lot_no, l.merchant_no, l.merchant_no, (-1)::smallint
          FROM exchange.lot_use AS u
          JOIN exchange.lot AS l USING (part, lot_no)
         WHERE u.part = $1
         ORDER BY member_no, sort, seq
        """,
        part,
        hosted,
        output=sink,
        format="binary",
    )


async def fetch_stray_uses(conn: Connection, *, part: int) -> int:
    """How many uses name a lot that is not there."""
    count: int = await conn.fetchval(
        """
        SELECT count(*)
          FROM exchange.lot_use AS u
          LEFT JOIN exchange.lot AS l USING (part, lot_no)
         WHERE u.part = $1 AND l.lot_no IS NULL
        """,
        part,
    )
    return count


async def fetch_stray_proofs(conn: Connection, *, part: int) -> list[asyncpg.Record]:
    """Used codes and counted orders that are of no order of their member: table and count."""
    rows: list[asyncpg.Record] = await conn.fetch(
        """
        SELECT 'exchange.code_use' AS name, count(*) AS stray
          FROM exchange.code_use AS u
         WHERE u.part = $1
               AND NOT EXISTS (
                   SELECT FROM settlement.event AS e
                    WHERE e.part = u.part AND e.seq = u.seq AND e.order_seq = e.seq AND e.kind IN (1, 3))
         UNION ALL
        SELECT 'exchange.member_order', count(*)
          FROM exchange.member_order AS o
         WHERE o.part = $1
               AND NOT EXISTS (
                   SELECT FROM settlement.event AS e
                    WHERE e.part = o.part AND e.seq = o.seq AND e.order_seq = e.seq AND e.kind IN (1, 3)
                          AND e.member_no = o.member_no AND e.at = o.at)
        """,
        part,
    )
    return rows


async def fetch_torn_transfers(conn: Connection, *, part: int) -> list[asyncpg.Record]:
    """Transfers whose two sides do not fit: event, step, and what each side says of it.

    The lots that gave stand in the order in which they are spent; the events of the receiver follow the giver's in
    that order, each with the units and the expiry of its lot, of another member of the same programme.
    """
    rows: list[asyncpg.Record] = await conn.fetch(
        """
        WITH given AS (
            SELECT seq, member_no, issuer, at, key, caller, reference
              FROM settlement.event WHERE part = $1 AND kind = 21
        ), gave AS (
            SELECT g.seq AS order_seq, g.member_no, g.issuer, g.at, g.key, g.caller, g.reference, u.units,
                   l.expires_at,
                   row_number() OVER (PARTITION BY g.seq ORDER BY l.expires_at, l.lot_no) AS step
              FROM given AS g
              JOIN exchange.lot AS l ON l.part = $1 AND l.member_no = g.member_no AND l.merchant_no = g.issuer
              JOIN exchange.lot_use AS u ON u.part = l.part AND u.lot_no = l.lot_no AND u.seq = g.seq
        ), received AS (
            SELECT order_seq, seq, step, member_no, issuer, at, key, caller, reference, units, due_at
              FROM settlement.event WHERE part = $1 AND kind = 22
        )
        SELECT coalesce(r.seq, g.order_seq) AS seq, coalesce(r.step, g.step) AS step,
               g.units AS given_units, g.expires_at, r.units AS received_units, r.due_at
          FROM gave AS g
          FULL JOIN received AS r
            ON r.order_seq = g.order_seq AND r.step = g.step AND r.seq = g.order_seq + g.step
               AND r.units = g.units AND r.due_at = g.expires_at AND r.issuer = g.issuer AND r.at = g.at
               AND r.key = g.key AND r.caller = g.caller AND r.reference = g.reference
               AND r.member_no <> g.member_no
         WHERE g.order_seq IS NULL OR r.seq IS NULL
         ORDER BY 1, 2
         LIMIT 100
        """,
        part,
    )
    return rows


async def fetch_strange_transfers(conn: Connection, *, part: int) -> list[int]:
    """Transfers of a household that is not there, or is of another programme: numbers of their events."""
    rows = await conn.fetch(
        """
        SELECT e.seq
          FROM settlement.event AS e
          LEFT JOIN exchange.household AS h
            ON replace(h.household_id::text, '-', '') = e.reference AND h.merchant_no = e.issuer
         WHERE e.part = $1 AND e.kind = 21 AND h.household_id IS NULL
         ORDER BY e.seq
         LIMIT 100
        """,
        part,
    )
    return [row["seq"] for row in rows]


async def fetch_numbering(conn: Connection, *, part: int) -> tuple[int, int, int]:
    """How many lots there are, the last number, and how many stand before one that was made later."""
    (row,) = await conn.fetch(
        """
        SELECT count(*) AS lots, coalesce(max(lot_no), 0) AS last_no,
               count(*) FILTER (WHERE made_seq < before) AS out_of_order
          FROM (
               SELECT lot_no, made_seq, lag(made_seq) OVER (ORDER BY lot_no) AS before
                 FROM exchange.lot
                WHERE part = $1
          ) AS numbered
        """,
        part,
    )
    return row["lots"], row["last_no"], row["out_of_order"]
