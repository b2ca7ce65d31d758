"""Cases about lines of settlement: opened, heard, decided; what was decided is booked under the case's own key.

Source: settlement/RULES.md, rules W1 to W4.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from schemas.files.instant import instant_text, microseconds
from schemas.values.ids import HOUSE, key_bytes, order_id
from schemas.values.reason import REASON_BY_NUMBER, Reason, Refusal
from settlement.core.adjustment import is_owed, is_taken_back_alone
from settlement.core.command import Adjust
from settlement.core.dispute import (
    ANSWER_TIME,
    DECISION_TIME,
    NOTHING,
    Case,
    Figures,
    State,
    Step,
    Taken,
)
from settlement.core.event import Kind
from settlement.core.reversal import WHY_NOT
from settlement.core.trail import Change
from settlement.service import inquiry, trail
from settlement.service.clearing import PART
from settlement.service.trail import BODY_BYTES
from settlement.store import disputes as store
from settlement.store import journal

if TYPE_CHECKING:
    import uuid
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from asyncpg import Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from schemas.files.trail import Terms
    from settlement.core.reversal import Cleared
    from settlement.core.trail import By
    from settlement.service.clearing import Clearing


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A case that somebody wants to open.

    Attributes:
        opener: Merchant number; 0 for the house.
        order: The order whose line is disputed; None where a break names no order.
        issuer: Issuer of what is disputed where no order is named; 0 otherwise.
        acceptor: Its acceptor, likewise.
        match_no: The match of reconciliation that it came from; None for none.
        claim: What is to be booked; None for taking back all that is left of the order.
        text: Why.
        key: Idempotency key, 16 bytes.
        body: Digest of what was asked, 16 to 32 bytes.
    """

    opener: int
    order: uuid.UUID | None
    issuer: int = 0
    acceptor: int = 0
    match_no: int | None = None
    claim: Figures | None = None
    text: str
    key: bytes
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A step that somebody wants to take.

    Attributes:
        party: Merchant number; 0 for the house.
        step: What.
        text: What is said with it.
        file: Digest and length of a file of evidence; None without one.
        key: Idempotency key, 16 bytes.
        body: Digest of what was asked, 16 to 32 bytes.
    """

    party: int
    step: Step
    text: str
    file: tuple[bytes, int] | None = None
    key: bytes
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """A case as it is stored, and how it stands.

    Attributes:
        row: Its row, with the event that was booked for it.
        steps: Its steps.
        case: What the rules look at.
        state: How it stands.
    """

    row: Record
    steps: Sequence[Record]
    case: Case
    state: State

    @property
    def name(self) -> str:
        """What it is called: `D12`."""
        return dispute_name(self.row["dispute_no"])

    @property
    def order(self) -> uuid.UUID | None:
        """Id of the order, if there is one."""
        if not self.row["order_seq"]:
            return None
        return order_id(self.row["order_at_us"], self.row["part"], self.row["order_seq"])

    @property
    def decision(self) -> Record | None:
        """The step that accepted or rejected it."""
        return next((one for one in self.steps if one["asked"] is not None), None)

    @property
    def is_booked(self) -> bool:
        """Whether what was accepted stands in the books."""
        return bool(self.row["booked_kind"] == Kind.ADJUSTED)

    @property
    def why_not_booked(self) -> Reason | None:
        """Why the books refused what was accepted, if they did."""
        if self.row["booked_kind"] != Kind.REFUSED:
            return None
        return REASON_BY_NUMBER[self.row["booked_reason"]]


def dispute_name(dispute_no: int) -> str:
    """What a case is called, also as the reference of its adjustment."""
    return f"D{dispute_no}"


def dispute_no(name: str) -> int:
    """Number of the case that is called so; 0, which no case has, for what is no such name."""
    digits = name.removeprefix("D")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0


@asynccontextmanager
async def changing(pool: Pool, *, rehearse: bool) -> AsyncIterator[PoolConnectionProxy]:
    """A transaction; for a rehearsal, one that is taken back at its end."""
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        try:
            yield conn
        except BaseException:
            await transaction.rollback()
            raise
        await (transaction.rollback() if rehearse else transaction.commit())


async def open_dispute(
    pool: Pool, wanted: Opening, *, by: By, at: datetime, rehearse: bool = False
) -> Dispute | Refusal:
    """Open a case about a line.

    Args:
        pool: Where cases are kept.
        wanted: The case.
        by: Who opens it.
        at: Now.
        rehearse: Whether everything is looked at and nothing kept.

    Returns:
        The case, also for the same wish again; ORDER_NOT_FOUND, ORDER_NOT_CLEARED or how the order ended,
        ADJUSTMENT_EXCEEDS_ORDER for a claim beyond the line, DISPUTE_EXISTS while one about the line is open,
        or IDEMPOTENCY_CONFLICT for another wish under the same key.

    Source: settlement/RULES.md, rule W1.
    """
    async with changing(pool, rehearse=rehearse) as conn:
        await store.lock_disputes(conn)
        known = await store.fetch_by_key(conn, party=wanted.opener, key=wanted.key)
        if known is not None:
            return await _repeat(conn, known, wanted.body, at)
        found = await _line(conn, wanted)
        if isinstance(found, Refusal):
            return found
        order, claim = found
        if order is not None:
            wanted = replace(wanted, issuer=order.issuer, acceptor=order.acceptor)
            for other in await _of_order(conn, order.order_seq, at):
                if other.state in (State.OPENED, State.ANSWERED):
                    return Refusal(Reason.DISPUTE_EXISTS, f"{other.name} is about this line")
        if wanted.match_no is not None and not await store.match_exists(
            conn, match_no=wanted.match_no
        ):
            return Refusal(Reason.ORDER_NOT_FOUND, f"there is no match {wanted.match_no}")
        dispute_no = await store.insert_dispute(
            conn,
            part=PART,
            order_seq=order.order_seq if order else 0,
            cycle_no=order.cycle_no if order else 0,
            issuer=wanted.issuer,
            acceptor=wanted.acceptor,
            opener=wanted.opener,
            match_no=wanted.match_no,
            claim=claim,
            text=wanted.text,
            who=by.who,
            opened_at=at,
            answer_due_at=at + ANSWER_TIME,
            deadline=at + DECISION_TIME,
            key=wanted.key,
            body=wanted.body,
        )
        after: Terms = {"order": str(wanted.order or ""), **_told(claim)}
        change = Change(action="dispute.open", subject=dispute_name(dispute_no), after=after)
        await trail.record(conn, by, change, at=at)
        return await _one(conn, dispute_no, at)


async def take_step(
    pool: Pool, dispute_no: int, wish: Wish, *, by: By, at: datetime, rehearse: bool = False
) -> Dispute | Refusal:
    """Answer, bring evidence, or withdraw.

    Returns:
        The case, also for the same wish again; why the step cannot be taken, or IDEMPOTENCY_CONFLICT for another wish
        under the same key.

    Raises:
        ValueError: The step is a decision, which `decide` takes.

    Source: settlement/RULES.md, rule W2.
    """
    if wish.step not in (Step.ANSWER, Step.EVIDENCE, Step.WITHDRAW):
        raise ValueError(f"no step of a party: {wish.step}")
    async with changing(pool, rehearse=rehearse) as conn:
        await store.lock_disputes(conn)
        known = await store.fetch_by_key(conn, party=wish.party, key=wish.key)
        if known is not None:
            return await _repeat(conn, known, wish.body, at)
        dispute = await find_dispute(conn, dispute_no, party=wish.party, at=at)
        if dispute is None:
            return _unknown(dispute_no)
        if reason := dispute.case.why_not(wish.step, wish.party, at):
            return Refusal(reason, f"{dispute.name} is {dispute.state}")
        await _add(conn, dispute_no, wish, by=by, at=at)
        after: Terms = {"party": wish.party}
        if wish.file is not None:
            after["file_sha256"] = wish.file[0].hex()
        change = Change(action=f"dispute.{wish.step}", subject=dispute.name, after=after)
        await trail.record(conn, by, change, at=at)
        return await _one(conn, dispute_no, at)


async def decide(
    conn: PoolConnectionProxy,
    dispute_no: int,
    *,
    granted: Figures | None,
    by: By,
    at: datetime,
) -> bytes | Refusal:
    """Decide a case inside the caller's transaction; what is granted is to be booked by `book` afterwards.

    Args:
        conn: The transaction.
        dispute_no: The case.
        granted: What is to be booked, the claim or a part of it; None to reject it.
        by: Who decides, and who approved; the reason is told to the parties.
        at: Now.

    Returns:
        Digest of the trail's entry, also where this very decision was taken before; or why it cannot be: the case is
        not known, has ended, was not heard, the grant is beyond the claim or beyond what is left of the line.

    Raises:
        SecondPersonNeeded: Four eyes are in force, and nobody else has approved it.

    Source: settlement/RULES.md, rule W3.
    """
    await store.lock_disputes(conn)
    dispute = await find_dispute(conn, dispute_no, at=at)
    if dispute is None:
        return _unknown(dispute_no)
    step = Step.ACCEPT if granted else Step.REJECT
    figures = granted or NOTHING
    decision = dispute.decision
    if decision is not None and (decision["step"], _figures(decision)) == (step, figures):
        return bytes(decision["asked"])
    if reason := dispute.case.why_not(step, HOUSE, at):
        detail = f"{dispute.name} is {dispute.state}"
        if reason is Reason.DISPUTE_NOT_HEARD:
            detail = (
                f"the other side has until {instant_text(microseconds(dispute.case.answer_due_at))}"
            )
        return Refusal(reason, detail)
    if granted and not (granted.can_be and granted.is_part_of(dispute.case.claim)):
        return Refusal(
            Reason.DISPUTE_GRANT_EXCEEDS_CLAIM, f"{dispute.name} claims {_told(dispute.case.claim)}"
        )
    if granted and dispute.row["order_seq"]:
        order = await _cleared(conn, dispute.row["order_seq"])
        if isinstance(order, Refusal):
            return order
        if not _fits(order, granted):
            return Refusal(
                Reason.ADJUSTMENT_EXCEEDS_ORDER, f"{_told(_left(order))} are left of the order"
            )
    after: Terms = {"outcome": str(step), **_told(figures)}
    change = Change(action="dispute.decide", subject=dispute.name, after=after)
    digest = await trail.record(conn, by, change, at=at)
    wish = Wish(
        party=HOUSE,
        step=step,
        text=by.why or str(step),
        key=key_bytes(f"dispute:{dispute_no}"),
        body=digest,
    )
    await _add(conn, dispute_no, wish, by=by, at=at, figures=figures, asked=digest[:BODY_BYTES])
    return digest[:BODY_BYTES]


async def book(pool: Pool, clearing: Clearing, dispute_no: int, *, at: datetime) -> Refusal | None:
    """Have the books carry out what was decided; harmless when they did, and nothing for a rejection."""
    async with pool.acquire() as conn:
        dispute = await find_dispute(conn, dispute_no, at=at)
    if dispute is None or (decision := dispute.decision) is None:
        return _unknown(dispute_no)
    if decision["step"] != Step.ACCEPT:
        return None
    row = dispute.row
    command = Adjust(
        HOUSE,
        decision["key"].bytes,
        decision["asked"],
        row["order_seq"],
        row["issuer"],
        row["acceptor"],
        *_figures(decision),
        dispute.name,
    )
    [[entry]] = await clearing.submit([command])
    if entry.kind == Kind.REFUSED:
        reason = REASON_BY_NUMBER[entry.reason]
        return Refusal(reason, f"{dispute.name}: {reason.english}")
    return None


async def list_disputes(
    pool: Pool, *, at: datetime, party: int = HOUSE, below: int | None = None, limit: int = 500
) -> list[Dispute]:
    """Cases that concern a merchant (all for the house), newest first, below a number."""
    async with pool.acquire() as conn:
        rows = await store.fetch_disputes(conn, party=party, below=below, limit=limit)
        return await _disputes(conn, rows, at)


async def find_dispute(
    conn: PoolConnectionProxy, dispute_no: int, *, party: int = HOUSE, at: datetime
) -> Dispute | None:
    """One case, if it concerns the party."""
    rows = await store.fetch_disputes(conn, party=party, dispute_no=dispute_no)
    return next(iter(await _disputes(conn, rows, at)), None)


async def _line(
    conn: PoolConnectionProxy, wanted: Opening
) -> tuple[Cleared | None, Figures] | Refusal:
    """The line that a case is about, and what is claimed of it."""
    if wanted.order is None:
        claim = wanted.claim
        if (
            claim is None
            or wanted.issuer == wanted.acceptor
            or wanted.opener not in (HOUSE, wanted.issuer, wanted.acceptor)
            or not (is_owed(*claim) or is_taken_back_alone(*claim))
        ):
            detail = "a case names an order, or two merchants and a claim that could be booked"
            return Refusal(Reason.ORDER_NOT_FOUND, detail)
        return None, claim
    events = await inquiry.find_order(conn, wanted.order)
    if not events or wanted.opener not in (HOUSE, events[0]["issuer"], events[0]["acceptor"]):
        return Refusal(Reason.ORDER_NOT_FOUND, "no such order is known to this merchant")
    order = await _cleared(conn, events[0]["seq"])
    if isinstance(order, Refusal):
        return order
    left = _left(order)
    claim = wanted.claim or Figures(*(-figure for figure in left))
    if not claim.can_be or not _fits(order, claim):
        return Refusal(Reason.ADJUSTMENT_EXCEEDS_ORDER, f"{_told(left)} are left of the order")
    return order, claim


async def _cleared(conn: PoolConnectionProxy, order_seq: int) -> Cleared | Refusal:
    """An order that cleared, as the books would see it."""
    cleared, past = await journal.fetch_reversible(conn, part=PART, order_seqs=[order_seq])
    if order_seq in cleared:
        return cleared[order_seq]
    reason = WHY_NOT[past[order_seq].kind] if order_seq in past else Reason.ORDER_NOT_FOUND
    return Refusal(reason, reason.english)


def _left(order: Cleared) -> Figures:
    left = order.left
    return Figures(left.debit_cu, left.value_cu, left.fee_cu)


def _fits(order: Cleared, figures: Figures) -> bool:
    """Whether what is left of an order after an adjustment would be figures of an order (rule J2)."""
    debit_cu, value_cu, fee_cu = (
        left + more for left, more in zip(_left(order), figures, strict=True)
    )
    return 0 <= fee_cu <= value_cu <= debit_cu


def _told(figures: Figures) -> dict[str, str]:
    return {name: str(cu) for name, cu in zip(Figures._fields, figures, strict=True)}


def _figures(row: Record) -> Figures:
    return Figures(row["debit_cu"], row["value_cu"], row["fee_cu"])


def _unknown(dispute_no: int) -> Refusal:
    return Refusal(Reason.DISPUTE_NOT_FOUND, f"there is no case {dispute_name(dispute_no)}")


async def _add(
    conn: PoolConnectionProxy,
    dispute_no: int,
    wish: Wish,
    *,
    by: By,
    at: datetime,
    figures: Figures = NOTHING,
    asked: bytes | None = None,
) -> None:
    await store.insert_step(
        conn,
        dispute_no=dispute_no,
        step=wish.step,
        party=wish.party,
        who=by.who,
        text=wish.text,
        file=wish.file,
        figures=figures,
        asked=asked,
        at=at,
        key=wish.key,
        body=wish.body,
    )


async def _repeat(
    conn: PoolConnectionProxy, known: Record, body: bytes, at: datetime
) -> Dispute | Refusal:
    """A wish under a key that was used: the same has the case for an answer, and another one is told so."""
    if known["body"] != body:
        return Refusal(Reason.IDEMPOTENCY_CONFLICT, "this key was used for another wish")
    return await _one(conn, known["dispute_no"], at)


async def _one(conn: PoolConnectionProxy, dispute_no: int, at: datetime) -> Dispute:
    [dispute] = await _disputes(conn, await store.fetch_disputes(conn, dispute_no=dispute_no), at)
    return dispute


async def _of_order(conn: PoolConnectionProxy, order_seq: int, at: datetime) -> list[Dispute]:
    rows = await store.fetch_of_order(conn, part=PART, order_seq=order_seq)
    return [await _one(conn, row["dispute_no"], at) for row in rows]


async def _disputes(
    conn: PoolConnectionProxy, rows: Sequence[Record], at: datetime
) -> list[Dispute]:
    steps: dict[int, list[Record]] = {row["dispute_no"]: [] for row in rows}
    for step in await store.fetch_steps(conn, dispute_nos=list(steps)):
        steps[step["dispute_no"]].append(step)
    found = []
    for row in rows:
        taken = steps[row["dispute_no"]]
        case = Case(
            opener=row["opener"],
            issuer=row["issuer"],
            acceptor=row["acceptor"],
            claim=_figures(row),
            answer_due_at=row["answer_due_at"],
            deadline=row["deadline"],
            steps=[
                Taken(step=Step(one["step"]), party=one["party"], at=one["at"]) for one in taken
            ],
        )
        found.append(Dispute(row=row, steps=taken, case=case, state=case.state(at)))
    return found
