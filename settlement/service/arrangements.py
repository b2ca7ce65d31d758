"""Arrangements: which pairs of merchants settle by which model, and in whose cycles.

A change is an entry of the trail first, made by two people, and commands of the writer after it. Each is
keyed by the entry, so asking again after a fault has no second effect.

Source: settlement/RULES.md, rules T6 to T8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.values.ids import HOUSE, key_bytes
from schemas.values.reason import REASON_BY_NUMBER, Refusal
from settlement.core.arrangement import MAIN, Model
from settlement.core.command import ArrangePair, MakeArrangement
from settlement.core.event import Kind
from settlement.core.trail import Change
from settlement.service import cycles, trail
from settlement.service.clearing import PART
from settlement.store import cycles as store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from schemas.files.trail import Terms
    from settlement.core.command import Command
    from settlement.core.trail import By
    from settlement.service.clearing import Clearing


async def list_pairs(pool: Pool) -> list[Record]:
    """Pairs that have, or get at their cycle's turn, another arrangement than the main one."""
    return await store.fetch_pairs(pool, part=PART)


async def enact_arrangement(
    conn: Connection | PoolConnectionProxy,
    *,
    arrangement: str,
    before: Terms | None,
    after: Terms,
    by: By,
    now: datetime,
) -> bytes:
    """Write the entry of a change inside the caller's transaction; returns its digest."""
    change = Change(action="arrangement.set", subject=arrangement, before=before, after=after)
    return await trail.record(conn, by, change, at=now)


async def carry_out_arrangement(
    pool: Pool,
    clearing: Clearing,
    *,
    arrangement: str,
    model: Model,
    pairs: Sequence[tuple[int, int]],
    body: bytes,
) -> Refusal | None:
    """Make an arrangement where there is none of the name, and give it pairs from their cycle's turn.

    Args:
        pool: Connections of the program.
        clearing: The writer.
        arrangement: Its code.
        model: Its model, where it is to be made.
        pairs: Merchants' numbers.
        body: Names the trail's entry.

    Returns:
        None, or why the writer refused.
    """
    if arrangement not in {row["code"] for row in await cycles.list_open(pool)}:
        made = MakeArrangement(
            HOUSE, key_bytes(f"arrangement:{arrangement}"), body, arrangement, int(model)
        )
        if refused := await _submit(clearing, [made]):
            return refused
    head = await cycles.ledger_head(pool)
    if head is not None:
        await cycles.open_first(pool, clearing, head["clock"], arrangement=arrangement)
    numbers = {row["code"]: row["arrangement_no"] for row in await cycles.list_open(pool)}
    return await _submit(
        clearing,
        [
            ArrangePair(
                HOUSE,
                key_bytes(f"arrange:{body.hex()}:{one}:{other}"),
                body,
                one,
                other,
                numbers.get(arrangement, MAIN),
            )
            for one, other in pairs
        ],
    )


async def _submit(clearing: Clearing, commands: list[Command]) -> Refusal | None:
    for [entry] in await clearing.submit(commands):
        if entry.kind == Kind.REFUSED:
            reason = REASON_BY_NUMBER[entry.reason]
            return Refusal(reason, reason.english)
    return None
