"""Looking things up in the books: an order, a member's history, where everybody stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.files.instant import microseconds
from schemas.values.ids import order_id, order_place
from settlement.service.clearing import PART
from settlement.store import cycles, journal, orders

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from settlement.core.command import Entry
    from settlement.core.reversal import Cleared, Past

READ_ORDERS = 1_000
"""Orders in one read."""


async def find_order(pool: Pool | PoolConnectionProxy, order: uuid.UUID) -> list[Record]:
    """The first event of an order and its end, if it has one; empty if there is no such order."""
    try:
        part, seq = order_place(order)
    except ValueError:
        return []
    if part != PART:
        return []
    rows = await orders.fetch_order(pool, part=part, order_seq=seq)
    if not rows or order_id(rows[0]["at_us"], part, seq) != order:
        return []
    return rows


async def find_many(
    pool: Pool, order_seqs: Collection[int]
) -> tuple[dict[int, int], dict[int, Cleared], dict[int, Past]]:
    """Orders as the books would see them, by the number of their first event.

    Returns:
        When each was first written (microseconds since 1970); those that cleared; how the others stand.
    """
    at_us: dict[int, int] = {}
    cleared: dict[int, Cleared] = {}
    past: dict[int, Past] = {}
    wanted = sorted(order_seqs)
    async with pool.acquire() as conn:
        for start in range(0, len(wanted), READ_ORDERS):
            some = wanted[start : start + READ_ORDERS]
            at_us |= await orders.fetch_instants(conn, part=PART, order_seqs=some)
            found = await journal.fetch_reversible(conn, part=PART, order_seqs=some)
            cleared |= found[0]
            past |= found[1]
    return at_us, cleared, past


async def find_reversals(pool: Pool, order_seq: int) -> list[Record]:
    """What was taken back of an order, oldest first; figures without a sign."""
    return await orders.fetch_reversals(pool, part=PART, order_seq=order_seq)


async def find_adjustments(pool: Pool, order_seq: int) -> list[Record]:
    """What corrected an order's line, oldest first; above 0 owed, below 0 taken back."""
    return await orders.fetch_adjustments(pool, part=PART, order_seq=order_seq)


async def standing(pool: Pool, *, cycle_no: int) -> list[Record]:
    """Every party's figure of one cycle, with its account beside it."""
    return await orders.fetch_standing(pool, part=PART, cycle_no=cycle_no)


async def ledger_now_us(pool: Pool, *, now_us: int) -> int:
    """The instant that counts for expiry: the wall clock, or the callers' in a ledger made for replay."""
    head = await cycles.fetch_head(pool, part=PART)
    if head is None or head["clock_source"] == "wall":
        return now_us
    return microseconds(head["clock"])


async def decided_under(
    conn: Connection, *, part: int, names: Collection[bytes]
) -> dict[bytes, tuple[bytes, list[Entry]]]:
    """What was decided under some keys with their senders: by name, the request's digest and its events.

    Args:
        conn: A writer's connection.
        part: Partition.
        names: As `settlement.core.command.key_name` makes them.
    """
    return await journal.fetch_by_keys(conn, part=part, names=names)
