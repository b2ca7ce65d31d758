"""Giving the rounding account back to the issuers, once a quarter.

Source: settlement/RULES.md, rule W6.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.values.ids import HOUSE, key_bytes
from schemas.values.reason import REASON_BY_NUMBER, Reason, Refusal
from settlement.core.command import Adjust
from settlement.core.event import Kind
from settlement.core.remainders import plan
from settlement.core.trail import Change
from settlement.service.batches import BooksDiffer
from settlement.service.clearing import PART
from settlement.store import remainders as store

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection, Pool
    from asyncpg.pool import PoolConnectionProxy

    from settlement.core.remainders import Pair, Quarter
    from settlement.service.clearing import Clearing

AT_A_TIME = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """What goes back for a quarter.

    Attributes:
        quarter: The quarter.
        amounts: CU by issuer and acceptor; above 0.
        kept_cu: What stays for the next quarter because an issuer's sum is below 0; 0 or below.
        done: Whether it went back already.
    """

    quarter: Quarter
    amounts: dict[Pair, int]
    kept_cu: int
    done: bool

    @property
    def total_cu(self) -> int:
        """All of it, CU."""
        return sum(self.amounts.values())

    @property
    def change(self) -> Change:
        """The entry of the trail that asks for it."""
        after = {"total_cu": str(self.total_cu), "pairs": len(self.amounts)}
        return Change(action="remainders.return", subject=str(self.quarter), after=after)


async def plan_return(pool: Pool, *, quarter: Quarter, now: datetime) -> Return | Refusal:
    """Work out what goes back for a quarter; the same before, while and after it is booked.

    Returns:
        The amounts; or REMAINDERS_NOT_DUE while the quarter lasts, and while a later one was returned already.

    Raises:
        BooksDiffer: The amounts do not come to what the rounding account holds.
    """
    if now < quarter.end:
        return Refusal(Reason.REMAINDERS_NOT_DUE, f"{quarter} ends at {quarter.end.isoformat()}")
    async with (
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
    ):
        return await _plan(conn, quarter)


async def _plan(conn: Connection | PoolConnectionProxy, quarter: Quarter) -> Return | Refusal:
    collected: Counter[Pair] = Counter()
    for row in await store.fetch_collected(conn, part=PART, until=quarter.end):
        collected[row["issuer"], row["acceptor"]] += row["cu"]
    balance_cu = await store.fetch_balance(conn, part=PART, until=quarter.end)
    before: Counter[Pair] = Counter()
    done: Counter[Pair] = Counter()
    for row in await store.fetch_returned(conn, part=PART):
        pair = row["issuer"], row["acceptor"]
        if row["reference"] > quarter.reference:
            later = row["reference"].removeprefix("remainders ")
            return Refusal(Reason.REMAINDERS_NOT_DUE, f"{later} went back already, which is later")
        if row["closed_at"] is not None and row["closed_at"] < quarter.end:
            # What went back is no less collected: it counts as returned, and not as taken back too.
            collected[pair] += row["cu"]
            balance_cu += row["cu"]
        (done if row["reference"] == quarter.reference else before)[pair] += row["cu"]
    if sum(collected.values()) != balance_cu:
        raise BooksDiffer(
            f"orders brought {sum(collected.values())} CU of remainders, the account says {balance_cu}"
        )
    amounts = plan(collected, before)
    due_cu = balance_cu - sum(before.values())
    return Return(
        quarter=quarter,
        amounts=amounts,
        kept_cu=due_cu - sum(amounts.values()),
        done=dict(done) == amounts,
    )


async def book_return(clearing: Clearing, planned: Return, *, body: bytes) -> Refusal | None:
    """Have the books give it back, in the open cycle; again, nothing changes.

    Args:
        clearing: The writer.
        planned: What goes back.
        body: Names the trail's entry that asks for it.
    """
    commands = [
        Adjust(
            HOUSE,
            key_bytes(f"{planned.quarter.reference} {issuer} {acceptor}"),
            body,
            0,
            issuer,
            acceptor,
            -cu,
            0,
            0,
            planned.quarter.reference,
        )
        for (issuer, acceptor), cu in planned.amounts.items()
    ]
    for start in range(0, len(commands), AT_A_TIME):
        for [entry] in await clearing.submit(commands[start : start + AT_A_TIME]):
            if entry.kind == Kind.REFUSED:
                reason = REASON_BY_NUMBER[entry.reason]
                return Refusal(reason, f"{planned.quarter}: {reason.english}")
    return None
