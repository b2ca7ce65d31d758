"""Calls on hosted programmes in the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.programme.core.calls import Earlier
from settlement.service.inquiry import decided_under

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from asyncpg import Connection, Pool, Record


async def fetch_calls(
    conn: Connection, *, part: int, names: Collection[bytes]
) -> dict[bytes, Earlier]:
    """Find what was decided under the keys of calls, and whether it was undone.

    Args:
        conn: A writer's connection.
        part: Partition.
        names: Keys with their senders, as `key_name` makes them.

    Returns:
        By name.
    """
    found = await decided_under(conn, part=part, names=names)
    undone = {
        row["order_seq"]
        for row in await conn.fetch(
            """
            SELECT order_seq FROM settlement.event
             WHERE part = $1 AND order_seq = ANY($2::bigint[]) AND kind IN (17, 19) AND order_seq > 0
            """,
            part,
            [entries[0].seq for _, entries in found.values()],
        )
    }
    return {
        name: Earlier(body, entries[0], entries[0].seq in undone)
        for name, (body, entries) in found.items()
    }


async def fetch_day(
    pool: Pool, *, part: int, merchant_no: int, from_us: int, until_us: int
) -> AsyncIterator[Record]:
    """Stream what calls moved at one programme from an instant until before another (microseconds since 1970)."""
    async with (
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
    ):
        query = conn.cursor(
            """
            SELECT kind, seq, member_no, units, reference,
                   (extract(epoch FROM at) * 1000000)::bigint AS at_us
              FROM settlement.event
             WHERE part = $1 AND issuer = $2 AND kind IN (16, 17, 18, 19) AND units > 0
                   AND at >= 'epoch'::timestamptz + $3::bigint * interval '1 microsecond'
                   AND at < 'epoch'::timestamptz + $4::bigint * interval '1 microsecond'
             ORDER BY at, seq
            """,
            part,
            merchant_no,
            from_us,
            until_us,
            prefetch=1_000,
        )
        async for row in query:
            yield row


async def fetch_left(pool: Pool, *, part: int, merchant_no: int) -> dict[int, int]:
    """Smallest units of one programme that each member has left, expired or not."""
    rows = await pool.fetch(
        """
        SELECT member_no, sum(units)::bigint AS units
          FROM exchange.lot_balance
         WHERE part = $1 AND merchant_no = $2
         GROUP BY member_no
        """,
        part,
        merchant_no,
    )
    return {row["member_no"]: row["units"] for row in rows}
