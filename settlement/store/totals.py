"""Figures over the whole journal of a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


async def fetch_last_line_key(conn: Connection | Pool, *, part: int) -> bytes | None:
    """Key of the newest purchase, accrued or refused under a key with a time (UUIDv7); None before the first.

    What is refused under another key is administrative.
    """
    key = await conn.fetchval(
        """
        SELECT key FROM settlement.event
         WHERE part = $1 AND (kind = 7 OR (kind = 2 AND get_byte(uuid_send(key), 6) >> 4 = 7))
         ORDER BY seq DESC
         LIMIT 1
        """,
        part,
    )
    return key.bytes if key else None


async def fetch_totals(conn: Connection | Pool, *, part: int) -> Record:
    """Orders cleared and refused for a cap, gross and unfunded CU over all cycles."""
    row = await conn.fetchrow(
        """
        SELECT count(*) FILTER (WHERE kind = 3) AS orders,
               count(*) FILTER (WHERE kind = 2 AND reason = 1 AND order_seq > 0) AS refused,
               coalesce(sum(debit_cu) FILTER (WHERE kind = 3), 0)::bigint AS gross_cu,
               coalesce(sum(value_cu) FILTER (WHERE kind = 7), 0)::bigint AS unfunded_cu
          FROM settlement.event
         WHERE part = $1
        """,
        part,
    )
    assert row is not None
    return row


async def fetch_had_orders(conn: Connection | Pool, *, part: int, cycle_no: int) -> bool:
    """Whether an order was cleared or refused between a cycle's first event and its last."""
    found: bool = await conn.fetchval(
        """
        SELECT EXISTS (
               SELECT FROM settlement.cycle AS c
                 JOIN settlement.event AS e
                   ON e.part = c.part AND e.seq BETWEEN c.first_seq AND coalesce(c.last_seq, e.seq)
                WHERE c.part = $1 AND c.cycle_no = $2 AND e.kind IN (1, 2, 3) AND e.order_seq > 0)
        """,
        part,
        cycle_no,
    )
    return found
