"""The audit trail in PostgreSQL: entries follow each other without a gap, whoever writes at once."""

import asyncio
from datetime import UTC, datetime

import pytest

from deploy.database.connection import open_pool
from schemas.files.trail import GENESIS, TrailEntry, entry_digest
from settlement.core.trail import SecondPersonNeeded
from settlement.service.trail import (
    By,
    Change,
    ask,
    audit_trail,
    begin_four_eyes,
    entries,
    record,
)
from settlement.store import trail as store

NOW = datetime(2026, 3, 2, 9, 14, 7, 123_457, tzinfo=UTC)


async def test_entries_written_at_once_form_one_chain(dsn):
    """Twenty transactions at once make twenty entries in one chain; one that fails leaves none."""
    pool = await open_pool(dsn, size=5)

    async def write(number: int) -> None:
        async with pool.acquire() as conn, conn.transaction():
            change = Change(action="thing.set", subject=f"s{number}", after={"n": number})
            await record(conn, By(who="person:anna", second="person:ben"), change, at=NOW)
            if number % 5 == 0:
                raise LookupError

    outcomes = await asyncio.gather(
        *(write(number) for number in range(25)), return_exceptions=True
    )
    assert sum(isinstance(each, LookupError) for each in outcomes) == 5
    written = [each async for each in entries(pool)]
    assert [entry.entry_no for entry, _ in written] == list(range(1, 21))
    digest = GENESIS
    for entry, stored in written:
        digest = entry_digest(digest, entry)
        assert digest == stored
        assert (entry.second, entry.at_us % 1_000_000) == ("person:ben", 123_457)
    assert [each async for each in entries(pool, after=18)] == written[18:]
    async with pool.acquire() as conn:
        report, count, head = await audit_trail(conn)
    assert (report.clean, count, head) == (True, 20, digest)
    await pool.close()


async def test_the_same_wish_is_one_entry(dsn):
    """A wish that is repeated after a fault is the entry that it was; another wish is another one."""
    pool = await open_pool(dsn)
    wish = Change(action="cycle.settle", subject="c1", after={"settled": True, "n": 1})
    first = await ask(pool, By(who="local:root"), wish, at=NOW)
    assert await ask(pool, By(who="local:other"), wish, at=NOW) == first
    other = Change(action="cycle.settle", subject="c2", after={"settled": True, "n": 1})
    assert await ask(pool, By(who="local:root"), other, at=NOW) != first
    assert len([each async for each in entries(pool)]) == 2
    await pool.close()


async def test_the_audit_misses_the_second_person(dsn):
    """A controlled change of one person alone that came into the trail after four eyes began is found."""
    pool = await open_pool(dsn)
    alone = Change(action="rate.set", subject="AIR", after={"rate": "1/1"})
    async with pool.acquire() as conn, conn.transaction():
        await record(conn, By(who="person:anna"), alone, at=NOW)
        await begin_four_eyes(conn, at=NOW)
        with pytest.raises(SecondPersonNeeded):
            await record(conn, By(who="person:anna"), alone, at=NOW)
        last_no, previous = await store.lock_trail(conn)
        entry = TrailEntry(
            entry_no=last_no + 1, at_us=1, who="person:anna", second="", action=alone.action,
            subject=alone.subject, before=None, after=alone.after, why="",
        )  # fmt: skip
        await store.insert_entry(conn, entry=entry, digest=entry_digest(previous, entry))
        report, _, _ = await audit_trail(conn)
    assert [(each.key, each.field) for each in report.differences] == [("entry 3", "second")]
    await pool.close()


@pytest.mark.parametrize(
    "wrong", [{"who": ""}, {"who": "a", "second": "a"}, {"who": "a", "why": "x" * 501}]
)
def test_nobody_stands_twice_in_an_entry(wrong):
    """An entry without anybody, with one person twice, or with an endless reason cannot be made."""
    with pytest.raises(ValueError, match=r"people|reason"):
        By(**wrong)
