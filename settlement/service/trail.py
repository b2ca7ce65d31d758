"""The audit trail: what people and keys changed, who they were, and whether the chain over it still holds.

What a change does by SQL and its entry are one transaction. What the writer's queue decides (a merchant's account,
caps, collateral, cycles) is asked for by an entry that is committed first: the command then carries the first bytes of
the entry's digest as its `body`, so the journal, which has a chain of its own, names the entry for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from schemas.files.instant import microseconds
from schemas.files.trail import GENESIS, TrailEntry, entry_digest
from settlement.core.audit import AuditReport
from settlement.core.event import Kind
from settlement.core.trail import CONTROLLED, PROGRAM, By, Change, SecondPersonNeeded
from settlement.service.clearing import PART
from settlement.store import trail as store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from asyncpg import Connection, Pool
    from asyncpg.pool import PoolConnectionProxy

__all__ = [
    "PROGRAM",
    "By",
    "Change",
    "Sought",
    "ask",
    "audit_trail",
    "entries",
    "find_entries",
    "record",
]

BODY_BYTES: Final = 16
FOUR_EYES: Final = "four_eyes.begin"
"""The entry after which controlled changes name two people."""
ACTION_OF: Final = {
    Kind.JOINED: "merchant.join",
    Kind.CAP_SET: "cap.set",
    Kind.COLLATERAL_SET: "collateral.set",
    Kind.CYCLE_CLOSED: "cycle.close",
    Kind.CYCLE_SETTLED: "cycle.settle",
}
"""What the entry is called that asks the writer for such an event."""
ADJUSTING: Final = frozenset(
    {"dispute.decide", "corrections.take", "remainders.return", "compensation.give"}
)
"""Entries that ask for adjustments; one may ask for many."""
MOVING: Final = frozenset({"funds.book", "funds.move", "cycle.default"})
"""Entries that ask for money to move; one may ask for much."""
_MONEY: Final = frozenset({Kind.DEPOSITED, Kind.PAID_OUT, Kind.TRANSFERRED, Kind.DISCHARGED})
_FIGURES: Final = {
    Kind.JOINED: "cap_cu",
    Kind.CAP_SET: "cap_cu",
    Kind.COLLATERAL_SET: "collateral_cu",
}


async def record(
    conn: Connection | PoolConnectionProxy, by: By, change: Change, *, at: datetime
) -> bytes:
    """Add a change to the trail inside the caller's transaction; the last thing that it does.

    The trail's end stays locked until the transaction ends, so that entries follow each other without a gap.

    Args:
        conn: A connection inside a transaction.
        by: Who makes the change.
        change: What it is.
        at: Instant.

    Returns:
        The entry's digest; its first 16 bytes are the `body` of a command that carries the change out.

    Raises:
        SecondPersonNeeded: The change is a controlled one, four eyes are in force, and nobody else approved it. Whoever
            changes something must record it in the same transaction, so no way leads round this.
    """
    if change.action in CONTROLLED and not by.second and by != PROGRAM:
        await _need_no_second(conn, change)
    last_no, previous = await store.lock_trail(conn)
    entry = TrailEntry(
        entry_no=last_no + 1,
        at_us=microseconds(at),
        who=by.who,
        second=by.second,
        action=change.action,
        subject=change.subject,
        before=change.before,
        after=change.after,
        why=by.why,
    )
    digest = entry_digest(previous, entry)
    await store.insert_entry(conn, entry=entry, digest=digest)
    return digest


async def _need_no_second(conn: Connection | PoolConnectionProxy, change: Change) -> None:
    if await store.has_four_eyes(conn):
        raise SecondPersonNeeded(
            f"{change.action} of {change.subject} needs a second person: propose it"
        )


async def begin_four_eyes(conn: Connection | PoolConnectionProxy, *, at: datetime) -> None:
    """Put four eyes in force for good, inside the caller's transaction."""
    if await store.begin_four_eyes(conn, since=at):
        await record(conn, PROGRAM, Change(action=FOUR_EYES, subject="HOUSE"), at=at)


async def ask(pool: Pool, by: By, change: Change, *, at: datetime) -> bytes:
    """Commit an entry that asks the writer for something which happens once; the same wish again is the same entry.

    Returns:
        The `body` for the command.
    """
    after = msgspec.json.encode(change.after).decode()
    async with pool.acquire() as conn, conn.transaction():
        digest = await store.fetch_same(
            conn, action=change.action, subject=change.subject, after=after
        )
        return (digest or await record(conn, by, change, at=at))[:BODY_BYTES]


async def was_asked(pool: Pool, change: Change) -> bool:
    """Whether an entry says this very change."""
    after = msgspec.json.encode(change.after).decode()
    digest = await store.fetch_same(pool, action=change.action, subject=change.subject, after=after)
    return digest is not None


def entries(
    conn: Connection | PoolConnectionProxy | Pool, *, after: int = 0
) -> AsyncIterator[tuple[TrailEntry, bytes]]:
    """Every entry with its stored digest, oldest first, behind number `after`."""
    return store.stream_entries(conn, after=after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """Which entries are looked for; what is None fits all.

    Attributes:
        who: Who made the change, or approved it.
        action: What was done.
        subject: To what.
        since: From this instant on.
        until: Before this instant.
    """

    who: str | None = None
    action: str | None = None
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def find_entries(
    pool: Pool, sought: Sought, *, after: int, limit: int
) -> list[tuple[TrailEntry, bytes]]:
    """Entries that fit, with their digests, oldest first, behind number `after`; at most `limit`."""
    return await store.fetch_entries(
        pool,
        after=after,
        limit=limit,
        who=sought.who,
        action=sought.action,
        subject=sought.subject,
        since=sought.since,
        until=sought.until,
    )


async def audit_trail(conn: Connection | PoolConnectionProxy) -> tuple[AuditReport, int, bytes]:
    """Recompute the chain of the trail, and compare the journal's administrative events with it.

    Args:
        conn: The audit's snapshot.

    Returns:
        Where rows differ, how many entries there are, and the digest of the last.
    """
    report = AuditReport(part=PART)
    count, digest = 0, GENESIS
    asked: dict[bytes, TrailEntry] = {}
    four_eyes = False
    async for entry, stored in store.stream_entries(conn):
        key = f"entry {entry.entry_no}"
        if entry.entry_no != count + 1:
            report.differ("settlement.trail", key, "entry_no", count + 1, entry.entry_no)
        expected = entry_digest(digest, entry)
        if expected != stored:
            report.differ("settlement.trail", key, "digest", expected, stored)
        count, digest = entry.entry_no, stored
        four_eyes |= entry.action == FOUR_EYES
        if (
            four_eyes
            and not entry.second
            and entry.action in CONTROLLED
            and entry.who != PROGRAM.who
        ):
            report.differ("settlement.trail", key, "second", "a second person", None)
        if entry.action in ADJUSTING | MOVING or entry.action in ACTION_OF.values():
            asked[stored[:BODY_BYTES]] = entry
    for row in await store.fetch_administration(conn):
        kind = Kind(row["kind"])
        key = f"event {row['seq']}"
        told = asked.get(row["body"].bytes)
        if kind is Kind.ADJUSTED:
            if told is None or told.action not in ADJUSTING:
                report.differ("settlement.trail", key, "row", " or ".join(sorted(ADJUSTING)), told)
            continue
        if kind in _MONEY:
            if told is None or told.action not in MOVING:
                report.differ("settlement.trail", key, "row", " or ".join(sorted(MOVING)), told)
            continue
        if told is not None and told.action == "cycle.default":
            # The last step of a default settles its cycle.
            if (kind, told.subject) != (Kind.CYCLE_SETTLED, row["cycle_id"]):
                report.differ(
                    "settlement.trail",
                    key,
                    "change",
                    f"{kind.name.lower()} asked for",
                    told.subject,
                )
            continue
        if told is None:
            # Cut-offs turn cycles by themselves; accounts change because somebody asked.
            if kind in _FIGURES:
                report.differ("settlement.trail", key, "row", ACTION_OF[kind], None)
            continue
        done = (ACTION_OF[kind], row["merchant"] if kind in _FIGURES else row["cycle_id"])
        if (told.action, told.subject) != done:
            report.differ(
                "settlement.trail",
                key,
                "change",
                " ".join(map(str, done)),
                f"{told.action} {told.subject}",
            )
        elif kind in _FIGURES and (figure := (told.after or {}).get(_FIGURES[kind])) != str(
            row["value_cu"]
        ):
            report.differ("settlement.trail", key, _FIGURES[kind], row["value_cu"], figure)
    return report, count, digest
