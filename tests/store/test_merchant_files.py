"""Merchants' own files against signed statements on real PostgreSQL: imports, breaks, and decisions of people."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from deploy.database.connection import open_pool
from schemas.values.faults import SchemaError
from settlement.core.matching import BreakKind, Step
from settlement.core.own_lines import LineBreak
from settlement.core.report import CheckFailed
from settlement.core.trail import By
from settlement.service.ageing_report import ageing
from settlement.service.merchant_files import (
    FileReconciled,
    MerchantFile,
    import_file,
    match_lines_by_hand,
    withdraw_file,
)
from settlement.service.open_lines import FileRefused, Lines, list_line_breaks
from settlement.service.reconciliation import MatchRefused, accept_difference, undo_match
from settlement.service.trail import entries
from tests.merchant_files import CYCLE, MAPPING, MERCHANT, TREASURER, Planted, csv_file, cut, plant

TABLES = ("merchant_file", "merchant_line", "match", "match_leaf", "match_line", "trail")


@dataclass
class Place:
    """A database with one batch, the merchant's rows, and whose they are."""

    pool: asyncpg.Pool
    planted: Planted
    of: Lines

    async def bring(self, file: MerchantFile, *, rehearse: bool = False) -> FileReconciled:
        """Import, as the treasurer."""
        return await import_file(
            self.pool, file, self.of, by=TREASURER, at=datetime.now(UTC), rehearse=rehearse
        )

    async def breaks(self) -> tuple[LineBreak, ...]:
        """What is open."""
        return await list_line_breaks(self.pool, self.of, at=datetime.now(UTC))

    async def counts(self) -> list[int]:
        """How many rows each table has."""
        return [
            await self.pool.fetchval(f"SELECT count(*) FROM settlement.{each}") for each in TABLES
        ]


@pytest.fixture
async def place(dsn: str, tmp_path: Path) -> AsyncIterator[Place]:
    """A batch of 400 orders, and the merchant's rows with 80 faults."""
    planted = plant(400, seed=7, faults=80)
    packages = await cut(dsn, planted.books, tmp_path)
    pool = await open_pool(dsn)
    yield Place(pool, planted, Lines(merchant=MERCHANT, cycle_id=CYCLE, packages=packages))
    await pool.close()


async def test_everything_planted_is_found_and_nothing_else(place, tell_figure):
    """A file with faults of eight kinds: none missed, none invented; a repeat and a rehearsal change nothing (X15)."""
    nothing = await place.counts()
    tried = await place.bring(place.planted.file(), rehearse=True)
    assert (tried.file_no, await place.counts()) == (None, nothing)
    done = await place.bring(place.planted.file())
    found = Counter(
        (one.kind, one.ours[0].reference if one.ours else _reference(one, place.planted))
        for one in done.breaks
    )
    truth = Counter(place.planted.truth)
    tell_figure(
        f"merchant's file of {done.lines} rows: {truth.total()} planted, {(truth - found).total()} missed, "
        f"{(found - truth).total()} invented"
    )
    assert found == truth
    assert {one.owner for one in done.breaks if one.kind is BreakKind.EXTRA} == {"HOUSE"}
    assert {one.owner for one in done.breaks if one.kind is not BreakKind.EXTRA} == {MERCHANT}
    assert done.breaks == await place.breaks() == tried.breaks
    aged = await ageing(place.pool, now=datetime.now(UTC), packages=place.of.packages)
    told = aged.table("lines")
    assert aged.ok
    assert told is not None
    assert Counter({row[1]: row[3] for row in told.rows}) == Counter(
        one.kind.value for one in done.breaks
    )
    counts = await place.counts()
    again = await place.bring(place.planted.file("the same under another name.csv"))
    assert (again.repeated, again.steps, again.breaks) == (done.file_no, {}, done.breaks)
    assert await place.counts() == counts
    [entry] = [each async for each, _ in entries(place.pool)]
    assert (entry.who, entry.action, entry.subject) == (
        "person:tina",
        "merchant_file.import",
        MERCHANT,
    )


def _reference(one: LineBreak, planted: Planted) -> str:
    """Reference of a row that stands alone; some rows tell the order alone."""
    told = one.theirs[0]
    orders = {row.order: row.reference for row in planted.rows if row.reference}
    return told.reference or orders[told.order]


async def test_a_file_in_parts_is_matched_as_one(place):
    """Two files of one batch come to what one would have; a row of the first that comes again is a duplicate (X18)."""
    rows = [row.text() for row in sorted(place.planted.rows, key=lambda row: row.at_us)]
    whole = await place.bring(place.planted.file(), rehearse=True)
    # Parts of one order have one instant, so they stay together.
    half = next(
        place for place in range(200, len(rows)) if rows[place][:60] != rows[place - 1][:60]
    )
    await place.bring(csv_file(rows[:half], name="first"))
    both = await place.bring(csv_file(rows[half:], name="second"))
    assert _words(both.breaks) == _words(whole.breaks)
    wrong = {reference for _, reference in place.planted.truth}
    matched = next(
        row for row in place.planted.rows if row.reference and row.reference not in wrong
    )
    third = await place.bring(csv_file([matched.text()], name="third"))
    [more] = set(third.breaks) - set(both.breaks)
    assert (more.kind, more.theirs[0].place) == (BreakKind.DUPLICATE, "line 2")


def _words(breaks: tuple[LineBreak, ...]) -> Counter[object]:
    """Breaks without numbers of files, lines and matches."""
    return Counter(
        (
            one.kind,
            tuple(sorted(line.leaf_index for line in one.ours)),
            tuple(sorted((line.order, line.reference, line.amount_cu) for line in one.theirs)),
        )
        for one in breaks
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (",CNY,", ",USD,", r"line 2, 币种: expected CNY, found 'USD'"),
        (",收,", ",入,", r"line \d+, 方向: expected one of 收, 付, found '入'"),
        ("CNY,AIR", "CNY,AIR,x", r"line \d+: expected 8 fields, found 9"),
    ],
)
async def test_a_wrong_file_is_refused_whole_and_changes_nothing(place, old, new, says):
    """Currency, sign or form: the line and the field are named, and no row is written (X15)."""
    rows = [row.text() for row in place.planted.rows]
    at = next(number for number, row in enumerate(rows) if old in row)
    if old == ",CNY,":
        at = 0
    rows[at] = rows[at].replace(old, new, 1)
    before = await place.counts()
    with pytest.raises(SchemaError, match=says):
        await place.bring(csv_file(rows))
    assert await place.counts() == before


async def test_what_contradicts_the_books_is_refused(place, tmp_path):
    """No such batch or merchant, no line in it, another basis than before, or a statement that was changed."""
    file = place.planted.file()
    now = datetime.now(UTC)
    for merchant, cycle, says in (
        (MERCHANT, "2017-01-09", "cycle 2017-01-09 has no package"),
        ("NOBODY", CYCLE, "there is no merchant NOBODY"),
    ):
        of = Lines(merchant=merchant, cycle_id=cycle, packages=place.of.packages)
        with pytest.raises(FileRefused, match=says):
            await import_file(place.pool, file, of, by=TREASURER, at=now)
    rows = [row.text() for row in place.planted.rows]
    await place.bring(csv_file(rows[:5]))
    gross = csv_file(rows[5:], mapping=f'figure = "gross"\n{MAPPING}')
    with pytest.raises(FileRefused, match="file 1 of this batch holds net amounts by till time"):
        await place.bring(gross)
    statement = place.of.packages / CYCLE / "statements" / f"{MERCHANT}.msgpack"
    statement.write_bytes(statement.read_bytes()[:-1])
    with pytest.raises(CheckFailed, match="is not the file that was signed"):
        await place.bring(file)


async def test_people_pair_accept_undo_and_withdraw(place):
    """By hand, with a reason; every decision can be taken back, and a file that was withdrawn leaves nothing behind."""
    done = await place.bring(place.planted.file())
    now = datetime.now(UTC)
    mine = next(one.ours[0] for one in done.breaks if one.kind is BreakKind.MISSING)
    told = next(one.theirs[0] for one in done.breaks if one.kind is BreakKind.EXTRA)
    chosen = {"leaves": [mine.leaf_index], "lines": [(told.file_no, told.line_no)]}
    for wrong, by, says in (
        ({}, By(who="person:tina"), "say why"),
        ({"leaves": [10_000]}, TREASURER, "no open line of ours is leaf 10000"),
        ({"lines": [(1, 9_999)]}, TREASURER, "no open line of the merchant is numbered 1/9999"),
    ):
        with pytest.raises(MatchRefused, match=says):
            await match_lines_by_hand(place.pool, place.of, **(chosen | wrong), by=by, at=now)
    number = await match_lines_by_hand(place.pool, place.of, **chosen, by=TREASURER, at=now)
    [inside] = [one for one in await place.breaks() if one.match_no == number]
    assert (inside.kind, inside.ours, inside.theirs) == (BreakKind.AMOUNT, (mine,), (told,))
    await accept_difference(place.pool, match_no=number, by=TREASURER, at=now)
    assert len(await place.breaks()) == len(done.breaks) - 2
    await undo_match(place.pool, match_no=number, by=TREASURER, at=now)
    assert set(await place.breaks()) == set(done.breaks)
    again = await place.bring(place.planted.file())
    assert (again.steps, set(again.breaks)) == ({}, set(done.breaks))
    now = datetime.now(UTC)
    await withdraw_file(place.pool, file_no=1, by=TREASURER, at=now)
    with pytest.raises(MatchRefused, match="no file 1 counts"):
        await withdraw_file(place.pool, file_no=1, by=TREASURER, at=now)
    assert await place.breaks() == ()
    anew = await place.bring(place.planted.file())
    assert (anew.file_no, anew.repeated, anew.steps) == (2, None, done.steps)
    told = [each.action async for each, _ in entries(place.pool)]
    assert told == [
        "merchant_file.import", "match.make", "match.accept", "match.undo", "merchant_file.withdraw",
        "merchant_file.import",
    ]  # fmt: skip


async def test_the_database_holds_each_line_for_one_match_alone(place):
    """Whatever the program does, a line that a match holds cannot be held by another, and no row goes away (X13)."""
    done = await place.bring(place.planted.file())
    assert done.steps[Step.EXACT] > 300
    async with place.pool.acquire() as conn:
        leaf = await conn.fetchrow("SELECT * FROM settlement.match_leaf LIMIT 1")
        line = await conn.fetchrow("SELECT * FROM settlement.match_line LIMIT 1")
        await conn.execute(
            "INSERT INTO settlement.match VALUES (9999, 'person', NULL, now(), 'x', NULL, NULL, 1, 2)"
        )
        with pytest.raises(asyncpg.UniqueViolationError):
            await conn.execute(
                "INSERT INTO settlement.match_leaf VALUES (9999, $1, $2, $3)",
                *list(leaf.values())[1:4],
            )
        with pytest.raises(asyncpg.UniqueViolationError):
            await conn.execute(
                "INSERT INTO settlement.match_line VALUES (9999, $1, $2)", *list(line.values())[1:3]
            )
        for table in ("merchant_file", "merchant_line", "match_leaf", "match_line"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.execute(f"DELETE FROM settlement.{table}")
