"""The retention run on a real database: what is past its time goes, and nothing else."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from unittest import mock

import asyncpg
import pytest
import pytest_asyncio

from deploy.database.connection import open_pool
from exchange.core.retention import RETENTION
from exchange.service import retention
from exchange.service.retention import count_due, run_retention
from exchange.store import retention as store
from exchange.worker import daily
from settlement.core.trail import PROGRAM, By
from settlement.service.trail import audit_trail, entries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PEOPLE = By(who="person:anna", why="asked by the auditor")
COUNTS = {
    "sessions": "SELECT count(*) FROM exchange.session",
    "attempts": "SELECT count(*) FROM exchange.person WHERE failures > 0",
    "credentials": "SELECT count(*) FROM exchange.person WHERE password_hash IS NOT NULL",
    "consents": "SELECT count(*) FROM exchange.consent",
    "memberships": "SELECT count(*) FROM exchange.household_member",
    "links": "SELECT count(*) FROM exchange.member_link",
    "dead_letters": "SELECT count(*) FROM exchange.dead_letter",
}
"""How many rows of each kind there are."""
OVER, STAYING = 3, 2
"""How many of each kind are past their time, and how many more there are."""


def when(name: str, number: int) -> datetime:
    """When the time of a row began: of the first ones more than the period ago, of the next an hour less."""
    [period] = [each for each in RETENTION if each.name == name]
    hours = 1 if number < OVER else -1
    return NOW - timedelta(days=period.days, hours=hours)


@pytest_asyncio.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """Connections as the program has them; of each kind `OVER` rows are past their time."""
    owner = await asyncpg.connect(dsn)
    try:
        await fill(owner)
    finally:
        await owner.close()
    opened = await open_pool(dsn, size=4)
    yield opened
    await opened.close()


async def fill(owner: asyncpg.Connection) -> None:
    """Write rows of every kind: some past their time, one an hour younger, one whose time has not begun."""
    for statement in (
        "INSERT INTO settlement.merchant VALUES (1, 'ONE', 'one', $1), (2, 'TWO', 'two', $1)",
        "INSERT INTO exchange.member (member_no, enrolled_at) SELECT g, $1 FROM generate_series(1, 10) AS g",
        """
        INSERT INTO exchange.programme SELECT g, true, 'point', 0, 1, 1, 365, 1, 9 FROM generate_series(1, 2) AS g
         WHERE $1::timestamptz IS NOT NULL
        """,
        "INSERT INTO exchange.household VALUES ('00000000-0000-0000-0000-000000000001', 1, $1)",
        """
        INSERT INTO exchange.endpoint
               (merchant_no, url, types, created_at, seq, notice_no, attempts, next_at, last_error, silent,
                replay_wanted, claim_no, lease_until)
        VALUES (1, 'https://example.org', '{}', $1, 0, 0, 0, $1, '', false, false, 0, $1)
        """,
    ):
        await owner.execute(statement, NOW - timedelta(days=4_000))
    for number in range(OVER + STAYING):
        begun = number < OVER + 1
        made = NOW - timedelta(days=3_000)
        name, member_no = f"p{number}", number + 1
        await owner.execute(
            """
            INSERT INTO exchange.person (name, merchant_no, roles, made_at, disabled_at, password_hash, totp_sealed,
                                         failures, next_try_at)
            VALUES ($1, 0, '{support}', $2, $3, 'argon', 'seed', $4, $5)
            """,
            name,
            made,
            when("credentials", number) if begun else None,
            1,
            when("attempts", number) if begun else NOW,
        )
        await owner.execute(
            """
            INSERT INTO exchange.recovery_code SELECT sha256($1::bytea), person_no FROM exchange.person WHERE name = $2
            """,
            name.encode(),
            name,
        )
        await owner.execute(
            """
            INSERT INTO exchange.session (digest, person_no, opened_at, seen_at, ends_at, ended_at)
            VALUES (sha256($1::bytea), 1, $2, $2, $3, $4)
            """,
            name.encode(),
            made,
            # One ended before its time.
            NOW if number == 0 else when("sessions", number) if begun else NOW,
            when("sessions", number) if number == 0 else None,
        )
        await owner.execute(
            """
            INSERT INTO exchange.consent (member_no, giver, receiver, purpose, given_at, withdrawn_at)
            VALUES ($1, 1, 2, 'meals', $2, $3)
            """,
            member_no,
            made,
            when("consents", number) if begun else None,
        )
        # The first was invited and never came.
        joined = None if number == 0 else made
        left = None if number == 0 or not begun else when("memberships", number)
        await owner.execute(
            """
            INSERT INTO exchange.household_member
                   (household_id, merchant_no, member_no, head, invited_at, invited_until, joined_at, purpose,
                    text_version, left_at, left_why)
            VALUES ('00000000-0000-0000-0000-000000000001', 1, $1, $2, $3, $4, $5, $6, $6, $7, $8)
            """,
            member_no,
            number == OVER,
            made,
            when("memberships", number),
            joined,
            joined and "1",
            left,
            left and "left",
        )
        await owner.execute(
            "INSERT INTO exchange.member_link (member_no, merchant_no, linked_at, sealed) VALUES ($1, 1, $2, 'x')",
            member_no,
            when("links", min(number, OVER)) if number != OVER + 1 else made,
        )
        await owner.execute(
            """
            INSERT INTO exchange.dead_letter (endpoint_no, event_id, given_up_at, attempts, last_error, replay_wanted)
            VALUES (1, $1, $2, 10, '', $3)
            """,
            name,
            when("dead_letters", number),
            False,
        )
    await owner.execute(
        "UPDATE exchange.dead_letter SET given_up_at = $1, replay_wanted = true WHERE event_id = $2",
        NOW - timedelta(days=2_000),
        f"p{OVER + 1}",
    )
    # The last link is old, and an order used it since.
    await owner.execute(
        """
        INSERT INTO exchange.journey
               (key, body, caller, issuer, acceptor, member_no, units, debit_cu, value_cu, fee_cu, credited_units,
                rate_no, hold_us, reference, issuer_member, acceptor_member, wanted_at, decide_by, worker, claim_no,
                state, verdict, reason, order_seq, stuck_why, ended_at)
        VALUES ($1, $1, 1, 2, 1, $2, 1, 1, 1, 0, 0, 1, 1, '', '', '', $3, $3, $1, 1, 31, 1, 1, 0, '', $3)
        """,
        uuid.UUID(int=1),
        OVER + 2,
        when("links", OVER),
    )


async def counts(pool: asyncpg.Pool) -> dict[str, int]:
    """How many rows of each kind there are."""
    return {name: await pool.fetchval(sql) for name, sql in COUNTS.items()}


async def test_what_is_past_its_time_goes_and_nothing_else(pool: asyncpg.Pool):
    """What is past its time goes; what is younger, open or still used stays; the trail tells counts alone."""
    over = dict.fromkeys(COUNTS, OVER)
    stays = dict.fromkeys(COUNTS, STAYING)
    assert await counts(pool) == dict.fromkeys(COUNTS, OVER + STAYING)
    assert await count_due(pool, now=NOW) == over
    assert await counts(pool) == dict.fromkeys(COUNTS, OVER + STAYING)
    assert await run_retention(pool, by=PEOPLE, now=NOW) == over
    assert await counts(pool) == stays
    assert await pool.fetchval("SELECT count(*) FROM exchange.recovery_code") == STAYING
    assert await pool.fetchval("SELECT count(*) FROM exchange.person") == OVER + STAYING
    assert await pool.fetchval("SELECT count(*) FROM exchange.member") == 10
    told = [entry async for entry, _ in entries(pool)]
    assert [(each.action, each.subject, each.who) for each in told] == [
        ("retention.run", period.name, PEOPLE.who) for period in RETENTION
    ]
    assert [each.after for each in told] == [
        {"rows": OVER, "days": period.days} for period in RETENTION
    ]
    # Again, nothing is left to do and nothing to tell.
    assert await run_retention(pool, by=PEOPLE, now=NOW) == dict.fromkeys(COUNTS, 0)
    assert await counts(pool) == stays
    async with pool.acquire() as conn:
        report, count, _ = await audit_trail(conn)
    assert (report.differences, count) == ([], len(RETENTION))


async def test_a_run_that_dies_goes_on_with_the_next(pool: asyncpg.Pool):
    """A run that dies in the middle has told what it removed; the next removes the rest, also beside another one."""
    remove, calls = store.remove, 0

    async def dying(conn: asyncpg.Connection, **wanted: object) -> int:
        nonlocal calls
        calls += 1
        count: int = await remove(conn, **wanted)  # type: ignore[arg-type] # handed through
        if calls == OVER + 2:
            raise ConnectionResetError
        return count

    with mock.patch.object(retention, "TOGETHER", 1):
        with mock.patch.object(store, "remove", dying), pytest.raises(ConnectionResetError):
            await run_retention(pool, by=PEOPLE, now=NOW)
        left = await counts(pool)
        assert left["sessions"] == STAYING
        assert left["attempts"] == OVER + STAYING
        first, second = await asyncio.gather(
            *(run_retention(pool, by=PEOPLE, now=NOW) for _ in range(2))
        )
    # What one of them held, the other passed over; nothing was removed twice.
    together = {name: first[name] + second[name] for name in COUNTS}
    assert together == dict.fromkeys(COUNTS, OVER) | {"sessions": 0}
    assert await counts(pool) == dict.fromkeys(COUNTS, STAYING)
    told = [entry.after["rows"] async for entry, _ in entries(pool) if entry.after]
    assert sum(told) == OVER * len(COUNTS)


async def test_a_day_that_fails_is_followed_by_the_next():
    """The daily run goes on after one that failed, and is the program's own."""
    asked: list[By] = []
    again = asyncio.Event()

    async def run(_pool: object, *, by: By, now: datetime) -> dict[str, int]:
        asked.append(by)
        if len(asked) == 1:
            raise ConnectionResetError(str(now))
        again.set()
        return {}

    with mock.patch.object(daily, "run_retention", run):
        task = asyncio.create_task(
            daily.keep_retaining(mock.sentinel.pool, first_seconds=0, every_seconds=0.001)
        )
        await asyncio.wait_for(again.wait(), 30)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert set(asked) == {PROGRAM}
