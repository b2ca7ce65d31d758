"""Corrections that need two people: a dispute's decision, a file of corrections, a quarter's remainders."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from exchange.service import corrections
from exchange.service.vaults import VaultDoor
from schemas.files.corrections import read_corrections
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason, Refusal
from schemas.wire import disputes as wire
from settlement.core.dispute import Figures
from settlement.core.remainders import Quarter
from settlement.service import disputes, remainders, trail

if TYPE_CHECKING:
    from pathlib import Path

    from asyncpg import Pool

    from exchange.service.change import Approval
    from schemas.files.trail import Terms
    from settlement.service.clearing import Clearing


class DecideDispute:
    """`dispute.decide`: grant a claim, or a part of it, or reject it."""

    terms: Any = wire.DecisionTerms

    def subject(self, terms: wire.DecisionTerms) -> str:
        """The case."""
        return terms.dispute

    async def current(self, pool: Pool, terms: wire.DecisionTerms, now: datetime) -> Terms | None:
        """How far the case has come: a new step makes a proposal outdated."""
        async with pool.acquire() as conn:
            found = await disputes.find_dispute(conn, int(terms.dispute[1:]), at=now)
        if found is None:
            raise SchemaError("$.terms.dispute", f"there is no case {terms.dispute}")
        granted_of(terms, found.case.claim)
        return {"state": str(found.state), "steps": len(found.steps)}

    async def enact(self, approval: Approval, terms: wire.DecisionTerms) -> bytes | Refusal:
        """Write the decision down."""
        number = int(terms.dispute[1:])
        found = await disputes.find_dispute(approval.conn, number, at=approval.now)
        if found is None:
            return Refusal(Reason.DISPUTE_NOT_FOUND, f"there is no case {terms.dispute}")
        granted = granted_of(terms, found.case.claim)
        return await disputes.decide(
            approval.conn, number, granted=granted, by=approval.by, at=approval.now
        )

    async def carry_out(
        self,
        pool: Pool,
        clearing: Clearing,
        terms: wire.DecisionTerms,
        *,
        proposal_no: int,
        body: bytes,
        keys: Path,
    ) -> Refusal | None:
        """Book what was granted."""
        del proposal_no, body, keys
        return await disputes.book(pool, clearing, int(terms.dispute[1:]), at=datetime.now(UTC))


def granted_of(terms: wire.DecisionTerms, claim: Figures) -> Figures | None:
    """What a decision grants: nothing, what it names, or the whole claim.

    Raises:
        SchemaError: A rejection names figures, or figures are named in part.
    """
    named = [terms.debit_cu, terms.value_cu, terms.fee_cu]
    if terms.outcome == "reject":
        if any(figure is not None for figure in named):
            raise SchemaError("$.terms.debit_cu", "a rejection grants nothing")
        return None
    if named == [None, None, None]:
        return claim
    if None in named:
        raise SchemaError("$.terms.debit_cu", "Expected all three figures, or none")
    return Figures(*(int(figure) for figure in named if figure is not None))


class TakeCorrections:
    """`corrections.take`: a file of reversals and adjustments."""

    terms: Any = wire.CorrectionTerms

    def subject(self, terms: wire.CorrectionTerms) -> str:
        """Who hands it over."""
        return terms.merchant

    async def current(self, pool: Pool, terms: wire.CorrectionTerms, now: datetime) -> Terms | None:
        """Nothing is in force; the file must be one that can be taken."""
        del now
        file = read_corrections(terms.file.encode())
        if await corrections.was_taken(pool, file, terms.merchant):
            raise SchemaError("$.terms.file", "this file was taken before")
        caller = await corrections.caller_of(pool, terms.merchant)
        await corrections.check_file(pool, file, caller=caller)
        return None

    async def enact(self, approval: Approval, terms: wire.CorrectionTerms) -> bytes | Refusal:
        """Write down that it is taken."""
        change = corrections.change_of(read_corrections(terms.file.encode()), terms.merchant)
        return await trail.record(approval.conn, approval.by, change, at=approval.now)

    async def carry_out(
        self,
        pool: Pool,
        clearing: Clearing,
        terms: wire.CorrectionTerms,
        *,
        proposal_no: int,
        body: bytes,
        keys: Path,
    ) -> Refusal | None:
        """Book its lines."""
        del proposal_no
        file = read_corrections(terms.file.encode())
        caller = await corrections.caller_of(pool, terms.merchant)
        taken = await corrections.book_file(
            pool, clearing, file, caller=caller, body=body, door=VaultDoor(pool, keys)
        )
        for line, reason in taken.refused.items():
            return Refusal(
                reason, f"{len(taken.refused)} lines, the first line {line}: {reason.english}"
            )
        return None


class ReturnRemainders:
    """`remainders.return`: what the rounding account collected in a quarter goes back."""

    terms: Any = wire.QuarterTerms

    def subject(self, terms: wire.QuarterTerms) -> str:
        """The quarter."""
        return terms.quarter

    async def current(self, pool: Pool, terms: wire.QuarterTerms, now: datetime) -> Terms | None:
        """What is planned; it never changes once the quarter is over."""
        planned = await self._plan(pool, terms, now)
        if isinstance(planned, Refusal):
            raise SchemaError("$.terms.quarter", planned.detail)
        if not planned.amounts:
            raise SchemaError("$.terms.quarter", f"nothing is due for {terms.quarter}")
        if planned.done:
            raise SchemaError("$.terms.quarter", f"{terms.quarter} went back already")
        return dict(planned.change.after or {})

    async def enact(self, approval: Approval, terms: wire.QuarterTerms) -> bytes | Refusal:
        """Write down that it goes back."""
        planned = await self._plan(approval.pool, terms, approval.now)
        if isinstance(planned, Refusal):
            return planned
        return await trail.record(approval.conn, approval.by, planned.change, at=approval.now)

    async def carry_out(
        self,
        pool: Pool,
        clearing: Clearing,
        terms: wire.QuarterTerms,
        *,
        proposal_no: int,
        body: bytes,
        keys: Path,
    ) -> Refusal | None:
        """Book it."""
        del proposal_no, keys
        planned = await self._plan(pool, terms, Quarter.parse(terms.quarter).end)
        if isinstance(planned, Refusal):
            return planned
        return await remainders.book_return(clearing, planned, body=body)

    async def _plan(
        self, pool: Pool, terms: wire.QuarterTerms, now: datetime
    ) -> remainders.Return | Refusal:
        return await remainders.plan_return(pool, quarter=Quarter.parse(terms.quarter), now=now)
