"""Money as merchants and the house see it: of everybody, or of one with what its cycles need.

Source: settlement/RULES.md, rules U1 to U6 and U12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.files.instant import instant_text, microseconds
from schemas.wire.funds import (
    UNBOOKED_MAX,
    CycleFundsView,
    DueView,
    FundsView,
    HouseFundsAnswer,
    UnbookedView,
)
from settlement.core.instruction import HOUSE_LEG, HOUSE_LEG_CODE
from settlement.service import funding
from settlement.service.cycle_needs import cycle_needs

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from asyncpg import Pool

    from exchange.service.shelf import Shelf
    from settlement.core.custody import Custody
    from settlement.service.cycle_needs import CycleNeed, Due
    from settlement.service.funding import Purse, Purses


class FundDesk:
    """Tells callers of the gateway what `tongdui fund list` tells the operator."""

    def __init__(self, pool: Pool, shelf: Shelf, now: Callable[[], datetime]) -> None:
        """Take the database, merchants' codes, and the clock."""
        self._pool = pool
        self._shelf = shelf
        self._now = now

    async def own(
        self, merchant_no: int, *, after: int, limit: int
    ) -> tuple[FundsView, list[tuple[int, CycleFundsView]]]:
        """A merchant's money, and a page of the cycles that need of it, each with its number."""
        found = await funding.purses(self._pool, at=self._now())
        [purse] = (one for one in found.merchants if one.merchant_no == merchant_no)
        needs = await cycle_needs(self._pool, purse, after=after, limit=limit)
        codes = {**(await self._shelf.offer()).codes, HOUSE_LEG: HOUSE_LEG_CODE}
        return funds_view(purse), [(one.cycle_no, _cycle(one, codes.get)) for one in needs]

    async def all(self) -> HouseFundsAnswer:
        """Everybody's money."""
        found = await funding.purses(self._pool, at=self._now())
        return house_view(found, await funding.custody(self._pool))


def funds_view(one: Purse) -> FundsView:
    """One merchant's money."""
    return FundsView(
        code=one.code,
        funds_cu=str(one.funds_cu),
        collateral_cu=str(one.collateral_cu),
        default_fund_cu=str(one.share_cu),
        needs_cu=str(one.needs_cu),
        missing_cu=str(one.missing_cu),
        owes_cu=str(one.owes_cu),
        level_cu=None if one.level_cu is None else str(one.level_cu),
        alert=one.alert,
    )


def house_view(found: Purses, held: Custody) -> HouseFundsAnswer:
    """Everybody's money beside what the bank shows."""
    return HouseFundsAnswer(
        merchants=[funds_view(one) for one in found.merchants],
        house={
            funding.WORD_OF_PARTY.get(party, str(party)): str(cu)
            for party, cu in found.house.items()
        },
        bank_fen=str(held.bank_fen),
        books_cu=str(held.books_cu),
        unbooked=[
            UnbookedView(
                entry=one.name,
                statement=one.statement,
                amount_fen=str(one.amount_fen),
                reference=one.reference,
                party_name=one.party_name,
            )
            for one in held.unbooked[:UNBOOKED_MAX]
        ],
        unbooked_count=len(held.unbooked),
        blocked=held.why_not(),
        next=None,
    )


def _cycle(one: CycleNeed, code: Callable[[int], str | None]) -> CycleFundsView:
    return CycleFundsView(
        cycle=one.cycle_id,
        arrangement=one.arrangement,
        state=one.state,
        figure_cu=str(one.figure_cu),
        due_at=_instant(one.due_at) if one.due_at else None,
        instructions=[_due(each, code) for each in one.due],
    )


def _due(one: Due, code: Callable[[int], str | None]) -> DueView:
    return DueView(
        payment=one.payment_id,
        counterparty=code(one.counterparty) if one.counterparty else None,
        pay_fen=str(one.pay_fen),
        due_at=_instant(one.due_at),
    )


def _instant(at: datetime) -> str:
    return instant_text(microseconds(at))
