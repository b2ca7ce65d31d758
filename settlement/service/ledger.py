"""A ledger as a whole: making it, how far it has come, what stands in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from settlement.service.clearing import PART
from settlement.store.journal import insert_partition
from settlement.store.totals import fetch_had_orders, fetch_last_line_key, fetch_totals

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy


async def open_ledger(
    conn: Connection | PoolConnectionProxy, *, caller_clock: bool = False
) -> None:
    """Make the ledger's partition, unless it is there.

    Args:
        conn: Any connection under the program's role.
        caller_clock: Whether this ledger is made for replay, so that business time comes from callers.
    """
    await insert_partition(conn, part=PART, caller_clock=caller_clock)


async def last_line_key(pool: Pool) -> bytes | None:
    """Key of the newest purchase that was decided: how far whoever feeds purchases in order has come."""
    return await fetch_last_line_key(pool, part=PART)


async def ledger_totals(pool: Pool) -> Record:
    """Counts and sums over the whole journal: orders, refused, gross_cu, unfunded_cu."""
    return await fetch_totals(pool, part=PART)


async def had_orders(pool: Pool, *, cycle_no: int) -> bool:
    """Whether any order was attempted in a cycle, cleared or not."""
    return await fetch_had_orders(pool, part=PART, cycle_no=cycle_no)
