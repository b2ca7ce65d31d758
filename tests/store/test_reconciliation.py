"""Bank statements against instructions on real PostgreSQL: imports, matches, breaks, and decisions of people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from deploy.database.connection import open_pool
from schemas.files.bank_statement import BankEntry, BankStatement
from settlement.core.breaks import Payment
from settlement.core.matching import BreakKind, Step
from settlement.core.trail import By
from settlement.service.ageing_report import ageing
from settlement.service.batches import CutBatch, cut_batch
from settlement.service.reconciliation import (
    MatchRefused,
    Reconciled,
    StatementRefused,
    accept_difference,
    import_statements,
    list_breaks,
    match_by_hand,
    undo_match,
)
from settlement.service.trail import entries
from tests.builders import small_books
from tests.golden.packages import golden_keyring

ACCOUNT = "1001000000000000001"
HOLDERS = {"2002000000000000001": "A", "OWN": "HOUSE:settlement"}
TREASURER = By(who="person:tina", why="seen at the bank")


@pytest.fixture
async def pool(dsn: str, tmp_path) -> AsyncIterator[asyncpg.Pool]:
    """Books with one batch: three merchants and the house have instructions."""
    owner = await asyncpg.connect(dsn)
    await small_books().write(owner)
    await owner.close()
    pool = await open_pool(dsn)
    made = await cut_batch(
        pool, cycle_no=1, keyring=golden_keyring(tmp_path / "keys"), out=tmp_path / "packages"
    )
    assert isinstance(made, CutBatch)
    yield pool
    await pool.close()


async def due(pool: asyncpg.Pool) -> dict[int, Payment]:
    """What should move, by party."""
    breaks = await list_breaks(pool, account=ACCOUNT, holders=HOLDERS, at=datetime.now(UTC))
    return {payment.party_no: payment for one in breaks for payment in one.payments}


def paid(payment: Payment, **changes: object) -> BankEntry:
    """The entry by which a payment is seen, or something like it."""
    told: dict[str, object] = {
        "place": "line 1", "amount_fen": payment.amount_fen, "booked_on": payment.due_on + timedelta(days=1),
        "reference": payment.payment_id,
    }  # fmt: skip
    return BankEntry(**(told | changes))  # type: ignore[arg-type]


def statement(
    entries: Sequence[BankEntry],
    *,
    number: str = "1",
    opening_fen: int = 0,
    day: date | None = None,
) -> BankStatement:
    """A statement that adds up."""
    days = [one.booked_on for one in entries] or [day or date(2026, 1, 1)]
    return BankStatement(
        account=ACCOUNT, number=number, opened_on=min(days), closed_on=max(days), opening_fen=opening_fen,
        closing_fen=opening_fen + sum(one.amount_fen for one in entries), entries=tuple(entries),
    )  # fmt: skip


async def bring(
    pool: asyncpg.Pool, *statements: BankStatement, rehearse: bool = False
) -> Reconciled:
    """Import, as the treasurer."""
    return await import_statements(
        pool,
        statements,
        account=ACCOUNT,
        holders=HOLDERS,
        by=TREASURER,
        at=datetime.now(UTC),
        rehearse=rehearse,
    )


async def test_what_moved_as_instructed_leaves_no_break(pool):
    """Every payment seen under its name is matched exactly; the trail says who imported; a repeat changes nothing."""
    payments = await due(pool)
    assert sum(one.amount_fen for one in payments.values()) == 0
    whole = statement([paid(one) for one in payments.values()])
    done = await bring(pool, whole)
    assert (done.imported, done.repeated, done.breaks) == ((1,), (), ())
    assert [one.step for one in done.matches] == [Step.EXACT] * len(payments)
    again = await bring(pool, whole)
    assert (again.imported, again.repeated, again.matches) == ((), ("1",), ())
    told = [entry async for entry, _ in entries(pool)]
    assert [(one.who, one.action, one.subject) for one in told] == [
        ("person:tina", "bank.import", ACCOUNT)
    ]


async def test_a_rehearsal_changes_nothing(pool):
    """What would happen is shown, and no row is written."""
    payments = await due(pool)
    done = await bring(pool, statement([paid(payments[3])]), rehearse=True)
    assert len(done.matches) == 1
    for table in (
        "bank_statement",
        "bank_entry",
        "match",
        "match_entry",
        "match_instruction",
        "trail",
    ):
        assert await pool.fetchval(f"SELECT count(*) FROM settlement.{table}") == 0


async def test_each_difference_is_a_break_with_its_kind_and_owner(pool):
    """A wrong amount, a payment that did not come and one that nobody expects: kind, owner, age."""
    payments = await due(pool)
    strange = BankEntry(
        place="line 3", amount_fen=777, booked_on=payments[3].due_on, reference="thank you"
    )
    short = paid(payments[3], amount_fen=payments[3].amount_fen - 1)
    done = await bring(pool, statement([short, paid(payments[1]), strange]))
    kinds = {(one.kind, one.owner) for one in done.breaks}
    payer = payments[3].code
    assert payments[3].amount_fen > 0
    assert kinds == {
        (BreakKind.AMOUNT, payer),
        (BreakKind.EXTRA, "HOUSE"),
        (BreakKind.MISSING, "HOUSE"),
    }
    oldest = (datetime.now(UTC).date() - payments[3].due_on).days
    assert {one.age_days for one in done.breaks} <= set(range(max(0, oldest - 1), oldest + 1))
    later = await list_breaks(pool, account=ACCOUNT, holders=HOLDERS, at=datetime.now(UTC))
    assert later == done.breaks


async def test_a_payment_is_known_by_the_batch_and_who_paid(pool):
    """The batch's id as the remark (附言) and the payer's account name the payment, in any letters."""
    payments = await due(pool)
    codes = {one.code: one for one in payments.values()}
    holders = {"62220001": codes[payments[3].code].code}
    batch = payments[3].payment_id.rpartition("-")[0]
    entry = paid(payments[3], reference=f"付 {batch.lower()} 货款", party_account="6222-0001")
    done = await import_statements(
        pool,
        [statement([entry])],
        account=ACCOUNT,
        holders=holders,
        by=TREASURER,
        at=datetime.now(UTC),
    )
    assert [one.payments[0].party_no for one in done.matches] == [3]


async def test_money_for_one_batch_is_never_taken_for_anothers(pool):
    """The batch and who paid it name a payment that has moved already: the same again is a duplicate, more is extra."""
    payments = await due(pool)
    payer, batch = payments[3], payments[3].payment_id.rpartition("-")[0]
    told = {"reference": f"for {batch} 2026", "party_account": "6222-0001"}
    gone = batch.replace("TD", "TD9")
    entries_ = [
        paid(payer),
        paid(payer, **told),
        paid(payments[1], reference=gone, party_account="7"),
    ]
    last_fen, done = 0, []
    for number, entry in enumerate(entries_):
        one = statement([entry], number=str(number), opening_fen=last_fen)
        last_fen = one.closing_fen
        done.append(
            await import_statements(
                pool, [one], account=ACCOUNT, by=TREASURER,
                holders={"62220001": payer.code, "7": payments[1].code},
                at=datetime.now(UTC),
            )
        )  # fmt: skip
    assert [len(each.matches) for each in done] == [1, 0, 0]
    kinds = {one.kind for one in done[-1].breaks if one.movements}
    assert kinds == {BreakKind.DUPLICATE, BreakKind.EXTRA}


async def test_a_repeated_import_matches_nothing_more(pool):
    """All that follows from what is known is matched at once, and naming something twice is naming it once."""
    payments = await due(pool)
    one, other = payments[1], payments[2]
    sum_fen = one.amount_fen + other.amount_fen
    whole = statement([BankEntry(place="", amount_fen=sum_fen, booked_on=one.due_on)])
    done = await bring(pool, whole)
    assert (await bring(pool, whole)).matches == ()
    names = [one.payment_id, other.payment_id]
    number = await match_by_hand(
        pool, payment_ids=names * 2, entries=[(1, 1), (1, 1)], account=ACCOUNT, by=TREASURER,
        at=datetime.now(UTC),
    )  # fmt: skip
    assert (done.matches, number) == ((), 1)
    left = await list_breaks(pool, account=ACCOUNT, holders=HOLDERS, at=datetime.now(UTC))
    assert all(one.match_no is None for one in left)


async def test_statements_of_one_day_come_in_any_order_and_none_twice(pool):
    """Balances order them; what moves nothing on the whole and was imported under another number is refused."""
    payments = await due(pool)
    day = payments[1].due_on
    there = paid(payments[1], booked_on=day, bank_reference="B1")
    back = paid(payments[1], booked_on=day, bank_reference="B2", amount_fen=-payments[1].amount_fen)
    first, second = (
        statement([there], number="1"),
        statement([back], number="2", opening_fen=there.amount_fen),
    )
    await bring(pool, statement([], number="0", day=day - timedelta(days=1)))
    assert (await bring(pool, second, first)).imported == (2, 3)
    with pytest.raises(StatementRefused, match="each of its movements was imported before"):
        await bring(pool, statement([there, back], number="9"))
    new = replace(there, bank_reference="B3")
    assert (await bring(pool, statement([new, back], number="9"))).imported == (4,)


async def test_statements_follow_one_another(pool):
    """One that is left out, changed or older is refused, and nothing of the file is imported."""
    payments = await due(pool)
    day = payments[1].due_on
    first = statement([paid(payments[3], booked_on=day)], number="1")
    gap = statement(
        [paid(payments[1], booked_on=day + timedelta(days=2))], number="3", opening_fen=5
    )
    with pytest.raises(
        StatementRefused, match=r"statement 3, opening balance: is 0\.05, but statement 1"
    ):
        await bring(pool, gap, first)
    assert await pool.fetchval("SELECT count(*) FROM settlement.bank_entry") == 0
    await bring(pool, first)
    with pytest.raises(StatementRefused, match="was imported with other content"):
        await bring(
            pool, statement([paid(payments[3], booked_on=day, reference="other")], number="1")
        )
    follows = statement(
        [paid(payments[1], booked_on=day)], number="2", opening_fen=payments[3].amount_fen
    )
    assert (await bring(pool, follows)).imported == (2,)


async def test_people_match_accept_and_undo(pool):
    """By hand, with a reason: what differs stays a break until it is accepted; undone, everything is open again."""
    payments = await due(pool)
    odd = paid(payments[3], reference="", amount_fen=payments[3].amount_fen + 40)
    await bring(pool, statement([odd]))
    open_before = await list_breaks(pool, account=ACCOUNT, holders=HOLDERS, at=datetime.now(UTC))
    now = datetime.now(UTC)
    silent = By(who="person:tina")
    names, places = [payments[3].payment_id], [(1, 1)]
    for asked, where, who in (
        (names, places, silent),
        (["TD1"], places, TREASURER),
        (names, [(1, 2)], TREASURER),
    ):
        with pytest.raises(MatchRefused):
            await match_by_hand(
                pool, payment_ids=asked, entries=where, account=ACCOUNT, by=who, at=now
            )
    number = await match_by_hand(
        pool, payment_ids=names, entries=places, account=ACCOUNT, by=TREASURER, at=now
    )
    with pytest.raises(MatchRefused, match="no open payment"):
        await match_by_hand(
            pool, payment_ids=names, entries=places, account=ACCOUNT, by=TREASURER, at=now
        )
    [inside] = [
        one
        for one in await list_breaks(pool, account=ACCOUNT, holders=HOLDERS, at=now)
        if one.match_no == number
    ]
    assert inside.kind is BreakKind.AMOUNT
    await accept_difference(pool, match_no=number, by=TREASURER, at=now)
    with pytest.raises(MatchRefused, match="nothing differs"):
        await accept_difference(pool, match_no=number, by=TREASURER, at=now)
    left = await list_breaks(pool, account=ACCOUNT, holders=HOLDERS, at=now)
    assert all(one.match_no is None for one in left)
    await undo_match(pool, match_no=number, by=TREASURER, at=now)
    with pytest.raises(MatchRefused, match="no match 1 stands"):
        await undo_match(pool, match_no=number, by=TREASURER, at=now)
    assert await list_breaks(pool, account=ACCOUNT, holders=HOLDERS, at=now) == open_before
    again = await bring(pool)
    assert (again.matches, again.breaks) == ((), open_before)
    aged = await ageing(pool, now=now, packages=Path())
    assert aged.ok
    assert len(aged.tables[-1].rows) == len(open_before)
    assert {row[0] for row in aged.tables[0].rows if row[1] == "missing"} == {">90"}
    told = [entry.action async for entry, _ in entries(pool)]
    assert told == ["bank.import", "match.make", "match.accept", "match.undo"]


async def test_two_imports_at_once_match_nothing_twice(pool):
    """The same file brought twice at the same time is imported once."""
    payments = await due(pool)
    whole = statement([paid(one) for one in payments.values()])
    both = await asyncio.gather(bring(pool, whole), bring(pool, whole))
    assert sorted(one.imported for one in both) == [(), (1,)]
    assert await pool.fetchval("SELECT count(*) FROM settlement.match_entry") == len(payments)


async def test_the_database_holds_each_entry_for_one_match_alone(pool):
    """Whatever the program does, an entry or instruction that a match holds cannot be held by another."""
    payments = await due(pool)
    await bring(pool, statement([paid(payments[3])]))
    async with pool.acquire() as conn:
        await conn.execute(
            "INSERT INTO settlement.match VALUES (2, 'person', NULL, now(), 'x', NULL, NULL)"
        )
        for table, values in (("match_entry", "2, 1, 1"), ("match_instruction", "2, 1, 3")):
            with pytest.raises(asyncpg.UniqueViolationError):
                await conn.execute(f"INSERT INTO settlement.{table} VALUES ({values})")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute("DELETE FROM settlement.match")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute("UPDATE settlement.bank_entry SET amount_fen = 1")
