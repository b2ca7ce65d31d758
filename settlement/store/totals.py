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
               SELECT FROM settlement.event
                WHERE part = $1 AND kind IN (1, 2, 3) AND order_seq > 0
                      -- As scalars, so that the events of other cycles are not walked over.
                      AND seq >= (SELECT first_seq FROM settlement.cycle WHERE part = $1 AND cycle_no = $2)
                      AND seq <= (SELECT coalesce(last_seq, 9223372036854775807)
                                    FROM settlement.cycle WHERE part = $1 AND cycle_no = $2))
        """,
        part,
        cycle_no,
    )
    return found
