"""What cycles need of one merchant's money, and which of its payments are due.

Source: settlement/RULES.md, rules U4 to U6 and X11.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

from settlement.core.payment_id import batch_id, payment_id
from settlement.service.clearing import PART
from settlement.service.funding import DUE_DAYS
from settlement.store import funding as store

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Pool

    from settlement.service.funding import Purse


class Due(NamedTuple):
    """A payment that the bank has not shown.

    Attributes:
        payment_id: What it is called.
        counterparty: With whom it is settled, in a bilateral cycle; 0 where that is everybody.
        pay_fen: What moves: below zero what the merchant pays in.
        due_at: When.
    """

    payment_id: str
    counterparty: int
    pay_fen: int
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleNeed:
    """What a cycle does to a merchant's funds.

    Attributes:
        cycle_no: Its number.
        cycle_id: Its id.
        arrangement: Whose cycle it is.
        state: Whether it is open, closed or settled.
        figure_cu: What settling it moves into the funds, CU; below zero out of them.
        due_at: When whoever pays must have paid in; None while it is open.
        due: Payments of the merchant that the bank has not shown.
    """

    cycle_no: int
    cycle_id: str
    arrangement: str
    state: Literal["open", "closed", "settled"]
    figure_cu: int
    due_at: datetime | None
    due: tuple[Due, ...]


async def cycle_needs(pool: Pool, purse: Purse, *, after: int, limit: int) -> list[CycleNeed]:
    """Cycles after a number that are not settled or have a payment due, oldest first.

    Args:
        pool: Database.
        purse: The merchant's money, which says what is left of each closed cycle.
        after: Number of a cycle.
        limit: Most cycles.
    """
    merchant_no = purse.merchant_no
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        rows = await store.fetch_cycles_of(
            conn, part=PART, merchant_no=merchant_no, after=after, limit=limit
        )
        numbers = [row["cycle_no"] for row in rows]
        due = await store.fetch_due(conn, merchant_no=merchant_no, cycle_nos=numbers)
    found = []
    for row in rows:
        number, state = row["cycle_no"], row["state"]
        at = row["closed_at"] + timedelta(days=DUE_DAYS) if row["closed_at"] else None
        found.append(
            CycleNeed(
                cycle_no=number,
                cycle_id=row["cycle_id"],
                arrangement=row["arrangement"],
                state=state,
                figure_cu=row["net_cu"] if state == "open" else purse.figures.get(number, 0),
                due_at=at,
                due=tuple(
                    Due(
                        payment_id(
                            batch_id(
                                sequence=each["sequence"], manifest_sha256=each["manifest_sha256"]
                            ),
                            merchant_no,
                            each["counterparty_no"],
                        ),
                        each["counterparty_no"],
                        each["pay_fen"],
                        at,
                    )
                    for each in due
                    if each["cycle_no"] == number and at is not None
                ),
            )
        )
    return found
