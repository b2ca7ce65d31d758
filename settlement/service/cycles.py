"""Cycles: opening the first, closing at the cut-off, counting as settled; what stands in them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from schemas.values.ids import HOUSE, key_bytes
from schemas.values.reason import REASON_BY_NUMBER, Reason, Refusal
from settlement.core.arrangement import MAIN, MAIN_CODE
from settlement.core.calendar import Calendar, cycle_id
from settlement.core.command import CloseCycle, SettleCycle
from settlement.core.event import Kind
from settlement.core.trail import By, Change
from settlement.service import trail
from settlement.service.clearing import PART
from settlement.service.objections import open_objections
from settlement.store import calendars, funds
from settlement.store import cycles as store
from settlement.store.balances import fetch_owed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from settlement.core.command import Command, Entry
    from settlement.core.netting import Obligation
    from settlement.service.clearing import Clearing


async def close_cycle(
    clearing: Clearing,
    *,
    cycle_no: int,
    next_id: str,
    next_cut_off_us: int = 0,
    at_us: int = 0,
    body: bytes = b"",
    arrangement_no: int = MAIN,
) -> Entry | Refusal:
    """Fence the open cycle and open the next; 0 opens the first. A second time changes nothing.

    Args:
        clearing: The writer.
        cycle_no: The cycle believed to be open.
        next_id: Id of the next cycle.
        next_cut_off_us: When that is planned to close, microseconds since 1970; 0 for not planned.
        at_us: Business time, in a ledger made for replay only.
        body: Names the trail's entry that asks for it; empty where nobody asked.
        arrangement_no: The arrangement whose cycle it is.

    Returns:
        The opening of the next cycle, or CYCLE_NOT_OPEN.
    """
    command = _close(cycle_no, next_id, next_cut_off_us, at_us, body, arrangement_no)
    outcome = await _administer(clearing, [command], f"cycle {cycle_no}")
    if isinstance(outcome, Refusal) and outcome.reason is Reason.IDEMPOTENCY_CONFLICT:
        return Refusal(Reason.CYCLE_NOT_OPEN, f"somebody else closed cycle {cycle_no}")
    return outcome


async def settle_cycle(clearing: Clearing, *, cycle_no: int, body: bytes = b"") -> Entry | Refusal:
    """Count a closed cycle as funded and paid.

    Args:
        clearing: The writer.
        cycle_no: The cycle.
        body: Names the trail's entry that asks for it; empty where nobody asked.

    Returns:
        The settlement's event, or CYCLE_NOT_CLOSED, or SETTLE_FROM_FUNDS where funds are kept (rule U13).
    """
    outcome = await _administer(clearing, [_settle(cycle_no, body)], f"cycle {cycle_no}")
    if isinstance(outcome, Refusal) and outcome.reason is Reason.IDEMPOTENCY_CONFLICT:
        return Refusal(Reason.CYCLE_NOT_CLOSED, f"somebody else settled cycle {cycle_no}")
    return outcome


async def why_not_on_word(pool: Pool) -> Refusal | None:
    """Say why no cycle can be settled on somebody's word, if none can: funds are kept (rule U13)."""
    if not await funds.fetch_kept(pool, part=PART):
        return None
    return Refusal(Reason.SETTLE_FROM_FUNDS, "funds are kept here: settle with `tongdui settle`")


async def close_asked(
    pool: Pool,
    clearing: Clearing,
    *,
    by: By,
    now: datetime,
    cycle_no: int,
    cycle_id: str | None,
    next_id: str,
    next_cut_off_us: int = 0,
    at_us: int = 0,
    arrangement_no: int = MAIN,
) -> Entry | Refusal:
    """Close the open cycle because somebody asks for it, which the trail keeps; 0 opens the first.

    Args:
        pool: Connections of the program.
        clearing: The writer.
        by: Who asks.
        now: Instant of the wish.
        cycle_no: The cycle believed to be open.
        cycle_id: Its id.
        next_id: As for `close_cycle`, with what follows.
        next_cut_off_us: The same.
        at_us: The same.
        arrangement_no: The same.
    """
    wish = (
        Change(action="cycle.close", subject=cycle_id, after={"next": next_id})
        if cycle_id is not None
        else Change(action="cycle.open", subject=next_id, after={})
    )
    return await close_cycle(
        clearing,
        cycle_no=cycle_no,
        next_id=next_id,
        next_cut_off_us=next_cut_off_us,
        at_us=at_us,
        body=await trail.ask(pool, by, wish, at=now),
        arrangement_no=arrangement_no,
    )


async def settle_asked(
    pool: Pool, clearing: Clearing, *, by: By, now: datetime, cycle_no: int, cycle_id: str
) -> Entry | Refusal:
    """Count a closed cycle as funded and paid because somebody says so, which the trail keeps.

    Returns:
        The settlement's event, CYCLE_NOT_CLOSED, SETTLE_FROM_FUNDS where funds are kept (rule U13), or
        OBJECTION_OPEN while a merchant objects to its batch.
    """
    if refused := await why_not_on_word(pool):
        return refused
    objections = await open_objections(pool, cycle_no=cycle_no, cycle_id=cycle_id)
    if refused := objections.why_not(despite=False):
        return refused
    wish = Change(action="cycle.settle", subject=cycle_id, after={"settled": True})
    body = await trail.ask(pool, by, wish, at=now)
    return await settle_cycle(clearing, cycle_no=cycle_no, body=body)


async def turn_cycle(
    clearing: Clearing, *, cycle_no: int, next_id: str, at_us: int
) -> Entry | Refusal:
    """Close the open cycle, open the next, and count the closed one as paid, in one stroke; 0 opens the first.

    Args:
        clearing: The writer.
        cycle_no: The cycle believed to be open.
        next_id: Id of the next cycle.
        at_us: Business time, in a ledger made for replay only.

    Returns:
        The last event, or the first refusal of CYCLE_NOT_OPEN, CYCLE_EXISTS and CYCLE_NOT_CLOSED.
    """
    commands: list[Command] = [_close(cycle_no, next_id, 0, at_us)]
    if cycle_no:
        commands.append(_settle(cycle_no))
    return await _administer(clearing, commands, f"cycle {cycle_no}")


async def close_if_due(pool: Pool, clearing: Clearing, now: datetime) -> list[Entry | Refusal]:
    """Close each arrangement's open cycle if its cut-off has come, and open its first.

    A ledger made for replay has no cut-offs of its own: whoever replays closes its cycles.
    """
    head = await store.fetch_head(pool, part=PART)
    if head is None or head["clock_source"] == "caller":
        return []
    return [
        await _turn(pool, clearing, row, now)
        for row in await store.fetch_open(pool, part=PART)
        if row["cycle_no"] is None or (row["cut_off_at"] and row["cut_off_at"] <= now)
    ]


async def open_first(pool: Pool, clearing: Clearing, now: datetime, *, arrangement: str) -> None:
    """Open the first cycle of an arrangement that was just made, unless a timer was faster."""
    for row in await store.fetch_open(pool, part=PART):
        if row["code"] == arrangement and row["cycle_no"] is None:
            await _turn(pool, clearing, row, now)


async def _turn(pool: Pool, clearing: Clearing, row: Record, now: datetime) -> Entry | Refusal:
    """Close what is open of an arrangement, as `fetch_open` tells it, and open what its calendar says."""
    next_id, cut_off_us = await _next(pool, row["code"], now)
    return await close_cycle(
        clearing,
        cycle_no=row["cycle_no"] or 0,
        next_id=next_id,
        next_cut_off_us=cut_off_us,
        arrangement_no=row["arrangement_no"],
    )


async def _next(pool: Pool, arrangement: str, now: datetime) -> tuple[str, int]:
    """Id and cut-off of the cycle that an arrangement opens now; microseconds since 1970."""
    calendar = await calendar_at(pool, now, arrangement=arrangement)
    cut_off = calendar.next_cut_off(now)
    return cycle_id(cut_off, calendar, arrangement), int(cut_off.timestamp()) * 1_000_000


async def close_now(
    pool: Pool, clearing: Clearing, now: datetime, *, by: By, arrangement: str = MAIN_CODE
) -> Entry | Refusal:
    """Close an arrangement's open cycle before its cut-off; the next runs until its calendar's next cut-off.

    Returns:
        The opening of the next cycle, or CYCLE_NOT_OPEN, also where there is no such arrangement.
    """
    found = [row for row in await list_open(pool) if row["code"] == arrangement]
    if not found:
        return Refusal(Reason.CYCLE_NOT_OPEN, f"there is no arrangement {arrangement}")
    [row] = found
    first_id, cut_off_us = await _next(pool, arrangement, now)
    next_id = first_id
    taken = {row["cycle_id"] for row in await store.fetch_cycles(pool, part=PART)}
    suffix = 2
    while next_id in taken:
        next_id = f"{first_id}-{suffix}"
        suffix += 1
    return await close_asked(
        pool,
        clearing,
        by=by,
        now=now,
        cycle_no=row["cycle_no"] or 0,
        cycle_id=row["cycle_id"],
        next_id=next_id,
        next_cut_off_us=cut_off_us,
        arrangement_no=row["arrangement_no"],
    )


async def calendar_at(pool: Pool, at: datetime, *, arrangement: str = MAIN_CODE) -> Calendar:
    """An arrangement's calendar in force; daily at midnight in Shanghai where none was ever set."""
    terms = await calendars.fetch_calendar(pool, at=at, arrangement=arrangement)
    return msgspec.json.decode(terms, type=Calendar) if terms else Calendar()


async def set_calendar(
    pool: Pool,
    calendar: Calendar,
    *,
    by: By,
    now: datetime,
    effective_at: datetime,
    arrangement: str = MAIN_CODE,
) -> None:
    """Put an arrangement's calendar in force; cycles that are open keep their cut-off (rule T4).

    Raises:
        ValueError: The zone is unknown, or the calendar has no cut-off within 400 days.
    """
    before = await calendar_at(pool, effective_at, arrangement=arrangement)
    async with pool.acquire() as conn, conn.transaction():
        await enact_calendar(
            conn,
            calendar,
            before=before,
            by=by,
            now=now,
            effective_at=effective_at,
            arrangement=arrangement,
        )


async def enact_calendar(
    conn: Connection | PoolConnectionProxy,
    calendar: Calendar,
    *,
    before: Calendar,
    by: By,
    now: datetime,
    effective_at: datetime,
    arrangement: str = MAIN_CODE,
) -> bytes:
    """Put a calendar in force inside the caller's transaction; returns the digest of its entry.

    Raises:
        ValueError: As for `set_calendar`.
    """
    calendar.next_cut_off(effective_at)
    await calendars.insert_calendar(
        conn,
        terms=msgspec.json.encode(calendar).decode(),
        effective_at=effective_at,
        arrangement=arrangement,
    )
    change = Change(
        action="calendar.set",
        subject="HOUSE" if arrangement == MAIN_CODE else arrangement,
        before=msgspec.to_builtins(before),
        after=msgspec.to_builtins(calendar) | {"effective_at": effective_at.isoformat()},
    )
    return await trail.record(conn, by, change, at=now)


async def list_cycles(pool: Pool) -> list[Record]:
    """All cycles with counts and gross, oldest first."""
    return await store.fetch_cycles(pool, part=PART)


async def list_open(pool: Pool) -> list[Record]:
    """Every arrangement with its model and its open cycle, the main one first."""
    return await store.fetch_open(pool, part=PART)


async def newest_cycle(pool: Pool) -> int:
    """Number of the cycle that was opened last; 0 before the first."""
    return await store.fetch_newest(pool, part=PART)


async def page_of_cycles(
    pool: Pool, *, after_no: int, state: str | None, limit: int
) -> list[Record]:
    """At most `limit` cycles after one, oldest first; in one state alone, if one is named."""
    return await store.fetch_cycle_page(
        pool, part=PART, after_no=after_no, state=state, limit=limit
    )


async def list_positions(pool: Pool, *, cycle_no: int) -> list[Record]:
    """Positions other than 0 of one cycle."""
    return await store.fetch_positions(pool, part=PART, cycle_no=cycle_no)


async def list_obligations(pool: Pool, *, cycle_no: int) -> list[Obligation]:
    """Bilateral gross of one cycle, and what reversals took back of it."""
    owed = await fetch_owed(pool, part=PART, cycle_nos=[cycle_no])
    return [one for _, one in owed]


async def ledger_head(pool: Pool) -> Record | None:
    """The ledger's head: epoch, last event, clock, open cycle; None before it was made."""
    return await store.fetch_head(pool, part=PART)


def _close(
    cycle_no: int,
    next_id: str,
    next_cut_off_us: int,
    at_us: int,
    body: bytes = b"",
    arrangement_no: int = MAIN,
) -> CloseCycle:
    of = (arrangement_no,) if arrangement_no else ()
    return CloseCycle(
        caller=HOUSE,
        key=key_bytes(f"close:{cycle_no}:{next_id}"),
        body=body or _body("close", cycle_no, next_id, next_cut_off_us, at_us, *of),
        cycle_no=cycle_no,
        next_id=next_id,
        next_cut_off_us=next_cut_off_us,
        at_us=at_us,
        arrangement_no=arrangement_no,
    )


def _settle(cycle_no: int, body: bytes = b"") -> SettleCycle:
    return SettleCycle(
        caller=HOUSE,
        key=key_bytes(f"settle:{cycle_no}"),
        body=body or _body("settle", cycle_no),
        cycle_no=cycle_no,
    )


async def _administer(
    clearing: Clearing, commands: Sequence[Command], subject: str
) -> Entry | Refusal:
    """Submit administrative commands together and turn the first refusing entry into a `Refusal`."""
    entries = [answer[-1] for answer in await clearing.submit(commands)]
    for entry in entries:
        if entry.kind == Kind.REFUSED:
            reason = REASON_BY_NUMBER[entry.reason]
            return Refusal(reason, f"{subject}: {reason.english}")
    return entries[-1]


def _body(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()[:16]


def utc(at_us: int) -> datetime:
    """An instant in microseconds since 1970, as a datetime."""
    return datetime.fromtimestamp(at_us / 1_000_000, UTC)
