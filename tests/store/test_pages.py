"""Pages of lists are found by indexes, however long the lists are."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg

from exchange.store import balances, consents, endpoints, people, proposals, signing_keys
from settlement.store import cycles, merchants

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

NOW = datetime(2026, 11, 22, tzinfo=UTC)
PAGES: dict[str, Callable[[Any], Awaitable[list[asyncpg.Record]]]] = {
    "cycles": lambda conn: cycles.fetch_cycle_page(
        conn, part=1, after_no=7, state="closed", limit=101
    ),
    "merchants": lambda conn: merchants.fetch_merchants(conn, numbers=[1, 2, 3]),
    "people": lambda conn: people.fetch_people(conn, after="m", limit=101),
    "proposals": lambda conn: proposals.fetch_proposals(
        conn, now=NOW, below=1_000, state="open", limit=101
    ),
    "keys": lambda conn: signing_keys.fetch_signing_keys(conn, merchant_no=7, after="k", limit=101),
    "consents": lambda conn: consents.fetch_consents(
        conn, member_no=9, caller=0, below=1_000, limit=101
    ),
    "endpoints": lambda conn: endpoints.fetch_endpoints(conn, merchant_no=7, after_no=3, limit=101),
    "dead letters": lambda conn: endpoints.fetch_dead_letters(
        conn, endpoint_no=3, after_no=5, limit=51
    ),
    "history": lambda conn: balances.fetch_history(
        conn, part=1, member_no=9, before_seq=10_000, merchant_no=0, limit=51
    ),
}


async def test_every_page_is_found_by_an_index(dsn: str):
    """No statement that reads a page of a list has to read a whole table for it."""
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute("SET enable_seqscan = off")
        for name, read in PAGES.items():
            asked: list[Any] = []
            with conn.query_logger(asked.append):
                assert await read(conn) == []
                await asyncio.sleep(0)
            # asyncpg asks for types of its own before; only ours read tables of ours.
            ours = [
                each
                for each in asked
                if "FROM exchange." in each.query or "settlement." in each.query
            ]
            assert ours, name
            for record in ours:
                plan = await conn.fetch(f"EXPLAIN {record.query}", *record.args)
                assert not [line for (line,) in plan if "Seq Scan" in line], (name, plan)
    finally:
        await conn.close()
