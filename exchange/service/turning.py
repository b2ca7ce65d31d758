"""The operator turns cycles: closes the open one, counts a closed one as settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from schemas.values.reason import Reason, Refusal
from schemas.wire.cycles import CloseAnswer, CloseRequest, SettleAnswer
from schemas.wire.fields import instant_text, microseconds
from settlement.service import cycles

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Pool

    from settlement.core.trail import By
    from settlement.service.clearing import Clearing


async def close_cycle(
    pool: Pool, clearing: Clearing, wanted: CloseRequest, *, by: By, now_us: int
) -> CloseAnswer | Refusal:
    """Fence the open cycle and open the next.

    The state is looked at first: the writer stores a refusal under the key of its cycle, and a premature
    wish must not stand in the way of the right one.

    Returns:
        Both ids, or CYCLE_NOT_OPEN.
    """
    head = await cycles.ledger_head(pool)
    cycle_no, cycle_id = (head["cycle_no"], head["cycle_id"]) if head else (0, None)
    if wanted.cycle is not msgspec.UNSET and wanted.cycle != cycle_id:
        return Refusal(Reason.CYCLE_NOT_OPEN, f"the open cycle is {cycle_id}")
    taken = {row["cycle_id"] for row in await cycles.list_cycles(pool)}
    now = cycles.utc(now_us)
    if wanted.next_id is None and wanted.at is None:
        outcome = await cycles.close_now(pool, clearing, now.replace(microsecond=0), by=by)
    elif wanted.next_id is None:
        return Refusal(Reason.CYCLE_NOT_OPEN, "a business time needs the id of the next cycle")
    elif wanted.next_id in taken:
        return Refusal(Reason.CYCLE_EXISTS, f"{wanted.next_id} was a cycle already")
    else:
        outcome = await cycles.close_asked(
            pool,
            clearing,
            by=by,
            now=now,
            cycle_no=cycle_no,
            cycle_id=cycle_id,
            next_id=wanted.next_id,
            at_us=microseconds(wanted.at),
        )
    if isinstance(outcome, Refusal):
        return outcome
    names = {row["cycle_no"]: row["cycle_id"] for row in await cycles.list_cycles(pool)}
    return CloseAnswer(
        closed=cycle_id, opened=names[outcome.cycle_no], at=instant_text(outcome.at_us)
    )


async def settle_cycle(
    pool: Pool, clearing: Clearing, cycle: str, *, by: By, now: datetime
) -> SettleAnswer | Refusal | None:
    """Count a closed cycle as funded and paid.

    Returns:
        The settlement, CYCLE_NOT_CLOSED for one that is still open, SETTLE_FROM_FUNDS where funds are kept, or
        None if there is no such cycle.
    """
    for row in await cycles.list_cycles(pool):
        if row["cycle_id"] != cycle:
            continue
        if row["state"] == "open":
            return Refusal(Reason.CYCLE_NOT_CLOSED, f"{cycle} is still open")
        outcome = await cycles.settle_asked(
            pool, clearing, by=by, now=now, cycle_no=row["cycle_no"], cycle_id=cycle
        )
        if isinstance(outcome, Refusal):
            return outcome
        return SettleAnswer(cycle=cycle, at=instant_text(outcome.at_us))
    return None
