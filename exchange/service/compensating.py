"""Compensation that the house makes a merchant at fault pay: about an order, asked for by an entry of the trail.

A merchant that takes it upon itself needs nobody (`exchange.service.purchases`). Where the house decides, two people
do, and the member is whoever the order belongs to: so neither proposal nor trail nor command line ever names one.

Source: settlement/RULES.md, rule W7.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import rfc8785

from exchange.programme.core.command import Compensate
from exchange.programme.core.compensation import cost_of
from exchange.programme.core.lots import DAY_US, RETURN_LIFE_US
from exchange.store.catalogue import fetch_catalogue
from exchange.store.members import is_enrolled
from schemas.files.instant import microseconds
from schemas.values.faults import SchemaError
from schemas.values.ids import HOUSE, key_bytes
from schemas.values.reason import REASON_BY_NUMBER, Reason, Refusal
from schemas.wire.compensations import CompensationTerms
from settlement.core.event import Kind
from settlement.core.reversal import WHY_NOT
from settlement.core.trail import Change
from settlement.service import inquiry, trail

if TYPE_CHECKING:
    from pathlib import Path

    from asyncpg import Pool

    from exchange.service.change import Approval
    from schemas.files.trail import Terms
    from settlement.core.command import Answer
    from settlement.core.reversal import Cleared
    from settlement.core.trail import By
    from settlement.service.clearing import Clearing


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensation:
    """What a compensation would come to.

    Attributes:
        change: The entry of the trail that asks for it.
        command: What the books are asked; its `body` is the entry's.
        cost_cu: What the merchant at fault owes for the points, CU; 0 for its own, and where no rate says.
        expires_at_us: When the points expire, microseconds since 1970.
        refusal: Why the books would refuse it.
    """

    change: Change
    command: Compensate
    cost_cu: int
    expires_at_us: int
    refusal: Refusal | None


async def look_at(pool: Pool, terms: CompensationTerms, *, now: datetime) -> Compensation:
    """Say what a compensation comes to, without booking it.

    Raises:
        SchemaError: A merchant is not known, or the one at fault is not one of the order's; names the field.
    """
    catalogue = await fetch_catalogue(pool)
    for field in ("at_fault", "merchant"):
        if getattr(terms, field) not in catalogue.by_code:
            detail = f"no merchant has the code {getattr(terms, field)}"
            raise SchemaError(f"$.terms.{field}", detail)
    at_fault, merchant_no = catalogue.by_code[terms.at_fault], catalogue.by_code[terms.merchant]
    order = await _order(pool, terms)
    if not isinstance(order, Refusal) and at_fault not in (order.issuer, order.acceptor):
        raise SchemaError("$.terms.at_fault", "Expected one of the order's two merchants")
    units, now_us = int(terms.units), microseconds(now)
    cost = cost_of(catalogue, at_fault=at_fault, merchant_no=merchant_no, units=units, at_us=now_us)
    programme = catalogue.programmes[merchant_no]
    refusal, member_no = None, 0
    if isinstance(order, Refusal):
        refusal = order
    elif not await is_enrolled(pool, member_no=order.member_no):
        refusal = Refusal(Reason.UNKNOWN_MEMBER, "the order's member is not enrolled any more")
    elif not programme.hosted:
        refusal = Refusal(Reason.NOT_HOSTED, f"{terms.merchant} keeps its own points")
    elif isinstance(cost, Reason):
        refusal = Refusal(cost, cost.english)
    else:
        member_no = order.member_no
    plain = msgspec.to_builtins(terms)
    return Compensation(
        change=Change(action="compensation.give", subject=terms.at_fault, after=plain),
        command=Compensate(
            caller=HOUSE,
            key=_key(plain),
            body=b"",
            member_no=member_no,
            merchant_no=merchant_no,
            units=0 if refusal else units,
            reason=refusal.reason.number if refusal else 0,
            reference=f"compensation {terms.choice} {terms.reference}".rstrip(),
            at_fault=at_fault,
        ),
        cost_cu=0 if isinstance(cost, Reason) else cost,
        expires_at_us=now_us + max(programme.valid_days * DAY_US, RETURN_LIFE_US),
        refusal=refusal,
    )


async def was_given(pool: Pool, wanted: Compensation) -> bool:
    """Whether this very compensation was asked for before."""
    return await trail.was_asked(pool, wanted.change)


async def give(
    pool: Pool, clearing: Clearing, wanted: Compensation, *, by: By, at: datetime
) -> Answer | Refusal:
    """Have one booked; the same one again is booked once, and goes on where a fault ended it.

    Returns:
        What the merchant at fault owes, where the points are another's, and the accrual; or why there is none.

    Raises:
        SecondPersonNeeded: Four eyes are in force; then it is proposed.
    """
    if wanted.refusal is not None and not await was_given(pool, wanted):
        return wanted.refusal
    return await _book(clearing, wanted, await trail.ask(pool, by, wanted.change, at=at))


class GiveCompensation:
    """`compensation.give`: points for the member of an order, at the cost of the merchant at fault."""

    terms: Any = CompensationTerms

    def subject(self, terms: CompensationTerms) -> str:
        """Who pays."""
        return terms.at_fault

    async def current(self, pool: Pool, terms: CompensationTerms, now: datetime) -> Terms | None:
        """Nothing is in force; it must be one that the books would take."""
        wanted = await look_at(pool, terms, now=now)
        if wanted.refusal is not None:
            raise SchemaError("$.terms", f"{wanted.refusal.reason.code}: {wanted.refusal.detail}")
        if await was_given(pool, wanted):
            raise SchemaError("$.terms.reference", "this compensation was given before")
        return None

    async def enact(self, approval: Approval, terms: CompensationTerms) -> bytes | Refusal:
        """Write down that it is given."""
        wanted = await look_at(approval.pool, terms, now=approval.now)
        return await trail.record(approval.conn, approval.by, wanted.change, at=approval.now)

    async def carry_out(
        self,
        pool: Pool,
        clearing: Clearing,
        terms: CompensationTerms,
        *,
        proposal_no: int,
        body: bytes,
        keys: Path,
    ) -> Refusal | None:
        """Book it."""
        del proposal_no, keys
        wanted = await look_at(pool, terms, now=datetime.now(UTC))
        booked = await _book(clearing, wanted, body)
        return booked if isinstance(booked, Refusal) else None


async def _book(clearing: Clearing, wanted: Compensation, body: bytes) -> Answer | Refusal:
    """Ask the books; they look for the key first, so what was booked is told again whatever is the case now."""
    [answer] = await clearing.submit([msgspec.structs.replace(wanted.command, body=body)])
    if answer[-1].kind == Kind.REFUSED:
        reason = REASON_BY_NUMBER[answer[-1].reason]
        return Refusal(reason, reason.english)
    return answer


async def _order(pool: Pool, terms: CompensationTerms) -> Cleared | Refusal:
    events = await inquiry.find_order(pool, uuid.UUID(terms.order_id))
    if not events:
        return Refusal(Reason.ORDER_NOT_FOUND, "no such order is known")
    seq = events[0]["seq"]
    _, cleared, past = await inquiry.find_many(pool, [seq])
    if seq in cleared:
        return cleared[seq]
    reason = WHY_NOT[past[seq].kind] if seq in past else Reason.ORDER_NOT_FOUND
    return Refusal(reason, reason.english)


def _key(plain: Any) -> bytes:
    """One compensation has one key; whoever means another one about the same order says another reference."""
    return key_bytes(f"compensation:{hashlib.sha256(rfc8785.dumps(plain)).hexdigest()[:48]}")
