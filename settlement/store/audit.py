"""What an audit reads: one snapshot, the journal as its canonical bytes, and the projections beside it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from settlement.core.audit import FlushRow
from settlement.core.event import COLUMNS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any

    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection | PoolConnectionProxy

_EVENTS = f"""
    SELECT {", ".join(COLUMNS)}
      FROM settlement.event
     WHERE part = $1 AND seq > $2 AND seq <= $3
     ORDER BY seq
    """  # noqa: S608 - the columns are a constant of ours


@asynccontextmanager
async def snapshot(pool: asyncpg.Pool) -> AsyncIterator[Connection]:
    """Give a connection on which every read sees the same committed instant; nothing can be written."""
    async with (
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield conn


async def fetch_partition(conn: Connection, *, part: int) -> asyncpg.Record | None:
    """The partition's row; instants as microseconds since 1970."""
    return await conn.fetchrow(
        """
        SELECT epoch, flush_no, last_seq, digest, cycle_no, clock_source, funds_kept,
               (extract(epoch FROM clock) * 1000000)::bigint AS clock_us
          FROM settlement.partition
         WHERE part = $1
        """,
        part,
    )


async def fetch_flushes(
    conn: Connection, *, part: int, after_no: int, limit: int
) -> list[FlushRow]:
    """The next rows of the flush log."""
    return [
        FlushRow(*row)
        for row in await conn.fetch(
            """
            SELECT flush_no, epoch, first_seq, events,
                   (extract(epoch FROM at) * 1000000)::bigint AS at_us, digest
              FROM settlement.flush
             WHERE part = $1 AND flush_no > $2
             ORDER BY flush_no
             LIMIT $3
            """,
            part,
            after_no,
            limit,
        )
    ]


async def copy_events(
    conn: Connection,
    *,
    part: int,
    after_seq: int,
    through_seq: int,
    sink: Callable[[bytes], Coroutine[Any, Any, None]],
) -> None:
    """Stream events as their canonical bytes, in order."""
    await conn.copy_from_query(_EVENTS, part, after_seq, through_seq, output=sink, format="binary")


async def fetch_positions(
    conn: Connection, *, part: int, cycle_nos: list[int]
) -> list[asyncpg.Record]:
    """Stored positions of some cycles."""
    rows: list[asyncpg.Record] = await conn.fetch(
        """
        SELECT cycle_no, merchant_no, net_cu
          FROM settlement.position
         WHERE part = $1 AND cycle_no = ANY($2::int[])
        """,
        part,
        cycle_nos,
    )
    return rows


async def fetch_obligations(
    conn: Connection, *, part: int, cycle_nos: list[int]
) -> list[asyncpg.Record]:
    """Stored obligations of some cycles."""
    rows: list[asyncpg.Record] = await conn.fetch(
        """
        SELECT cycle_no, issuer, acceptor, orders, debit_cu, value_cu, fee_cu
          FROM settlement.obligation
         WHERE part = $1 AND cycle_no = ANY($2::int[])
        """,
        part,
        cycle_nos,
    )
    return rows


async def fetch_reversed(
    conn: Connection, *, part: int, cycle_nos: list[int]
) -> list[asyncpg.Record]:
    """Stored figures of what reversals took back in some cycles."""
    rows: list[asyncpg.Record] = await conn.fetch(
        """
        SELECT cycle_no, issuer, acceptor, reversals, debit_cu, value_cu, fee_cu
          FROM settlement.reversed_obligation
         WHERE part = $1 AND cycle_no = ANY($2::int[])
        """,
        part,
        cycle_nos,
    )
    return rows


async def fetch_reversed_orders(conn: Connection, *, part: int) -> list[int]:
    """Orders that some reversal or adjustment names, by the number of their first event."""
    return [
        row["order_seq"]
        for row in await conn.fetch(
            """
            SELECT order_seq FROM settlement.event WHERE part = $1 AND kind = 20
             UNION
            SELECT order_seq FROM settlement.event WHERE part = $1 AND kind = 6
            """,
            part,
        )
    ]


async def fetch_stray_cycles(
    conn: Connection, *, part: int, cycle_nos: list[int]
) -> list[asyncpg.Record]:
    """Positions and obligations that name a cycle which the journal does not know: cycle, table, rows."""
    rows: list[asyncpg.Record] = await conn.fetch(
        """
        SELECT 'settlement.position' AS name, cycle_no, count(*) AS stored
          FROM settlement.position
         WHERE part = $1 AND cycle_no <> ALL($2::int[])
         GROUP BY cycle_no
         UNION ALL
        SELECT 'settlement.obligation', cycle_no, count(*)
          FROM settlement.obligation
         WHERE part = $1 AND cycle_no <> ALL($2::int[])
         GROUP BY cycle_no
         UNION ALL
        SELECT 'settlement.reversed_obligation', cycle_no, count(*)
          FROM settlement.reversed_obligation
         WHERE part = $1 AND cycle_no <> ALL($2::int[])
         GROUP BY cycle_no
        """,
        part,
        cycle_nos,
    )
    return rows


async def fetch_cycles(conn: Connection, *, part: int) -> list[asyncpg.Record]:
    """Stored cycles; instants as microseconds since 1970."""
    rows: list[asyncpg.Record] = await conn.fetch(
        """
        SELECT cycle_no, cycle_id, arrangement_no, state,
               (extract(epoch FROM opened_at) * 1000000)::bigint AS opened_us,
               (extract(epoch FROM closed_at) * 1000000)::bigint AS closed_us,
               (extract(epoch FROM settled_at) * 1000000)::bigint AS settled_us, first_seq, last_seq
          FROM settlement.cycle
         WHERE part = $1
        """,
        part,
    )
    return rows


async def fetch_arrangements(conn: Connection, *, part: int) -> list[asyncpg.Record]:
    """Stored arrangements."""
    rows: list[asyncpg.Record] = await conn.fetch(
        "SELECT arrangement_no, code, model FROM settlement.arrangement WHERE part = $1", part
    )
    return rows


async def fetch_pairs(conn: Connection, *, part: int) -> list[asyncpg.Record]:
    """Stored arrangements of pairs."""
    rows: list[asyncpg.Record] = await conn.fetch(
        """
        SELECT merchant_a, merchant_b, arrangement_no, next_no
          FROM settlement.pair_arrangement
         WHERE part = $1
        """,
        part,
    )
    return rows


async def fetch_accounts(conn: Connection, *, part: int) -> list[asyncpg.Record]:
    """Stored accounts."""
    rows: list[asyncpg.Record] = await conn.fetch(
        "SELECT merchant_no, cap_cu, collateral_cu, held_cu FROM settlement.account WHERE part = $1",
        part,
    )
    return rows


async def fetch_holds(conn: Connection, *, part: int) -> list[asyncpg.Record]:
    """Stored holds; instants as microseconds since 1970."""
    rows: list[asyncpg.Record] = await conn.fetch(
        """
        SELECT order_seq, issuer, debit_cu, (extract(epoch FROM due_at) * 1000000)::bigint AS due_us,
               pinned_seq
          FROM settlement.hold
         WHERE part = $1
        """,
        part,
    )
    return rows


async def fetch_rows_without_partition(conn: Connection) -> list[asyncpg.Record]:
    """Rows that belong to no partition that exists: table and count."""
    rows: list[asyncpg.Record] = await conn.fetch(
        """
        SELECT name, stored
          FROM (
               SELECT 'settlement.flush' AS name, count(*) AS stored FROM settlement.flush
                WHERE part NOT IN (SELECT part FROM settlement.partition)
                UNION ALL
               SELECT 'settlement.account', count(*) FROM settlement.account
                WHERE part NOT IN (SELECT part FROM settlement.partition)
                UNION ALL
               SELECT 'settlement.hold', count(*) FROM settlement.hold
                WHERE part NOT IN (SELECT part FROM settlement.partition)
          ) AS counted
         WHERE stored > 0
        """
    )
    return rows


async def fetch_batches(
    conn: Connection, *, after_sequence: int, limit: int
) -> list[asyncpg.Record]:
    """The next batches in order of their sequence."""
    rows: list[asyncpg.Record] = await conn.fetch(
        """
        SELECT sequence, cycle_no, cycle_id, manifest, previous_sha256, manifest_sha256
          FROM settlement.batch
         WHERE sequence > $1
         ORDER BY sequence
         LIMIT $2
        """,
        after_sequence,
        limit,
    )
    return rows


async def fetch_instructions(conn: Connection, *, cycle_nos: list[int]) -> list[asyncpg.Record]:
    """Stored instructions of some cycles."""
    rows: list[asyncpg.Record] = await conn.fetch(
        """
        SELECT cycle_no, merchant_no, counterparty_no, net_cu, carry_before_cu, pay_fen, carry_after_cu
          FROM settlement.instruction
         WHERE cycle_no = ANY($1::int[])
         ORDER BY cycle_no, merchant_no, counterparty_no
        """,
        cycle_nos,
    )
    return rows


async def fetch_flush_digests(
    conn: Connection, *, part: int, flush_nos: list[int]
) -> dict[int, tuple[int, bytes]]:
    """Last event and digest of some flushes."""
    return {
        row["flush_no"]: (row["last_seq"], row["digest"])
        for row in await conn.fetch(
            """
            SELECT flush_no, first_seq + events - 1 AS last_seq, digest
              FROM settlement.flush
             WHERE part = $1 AND flush_no = ANY($2::bigint[])
            """,
            part,
            flush_nos,
        )
    }


async def fetch_codes(conn: Connection) -> dict[int, str]:
    """Code of every merchant, by number."""
    return dict(
        tuple(row) for row in await conn.fetch("SELECT merchant_no, code FROM settlement.merchant")
    )
