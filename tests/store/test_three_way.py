"""A cycle seen three ways on real PostgreSQL: where lines, money and merchants' own files part is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from deploy.database.connection import open_pool
from schemas.files.bank_statement import BankEntry, BankStatement
from settlement.core.breaks import Payment
from settlement.core.matching import BreakKind
from settlement.core.three_way import Side
from settlement.service.merchant_files import FileReconciled, import_file
from settlement.service.open_lines import FileRefused, Lines
from settlement.service.reconciliation import accept_difference, import_statements, list_breaks
from settlement.service.three_way import three_way
from tests.merchant_files import CYCLE, MERCHANT, TREASURER, Planted, cut, plant

ACCOUNT = "1001000000000000001"


@dataclass
class Cycle:
    """A database with one batch, and what the merchant has of it."""

    pool: asyncpg.Pool
    planted: Planted
    packages: Path

    async def sides(self) -> dict[str, Side]:
        """The cycle seen three ways."""
        found = await three_way(
            self.pool, cycle_id=CYCLE, packages=self.packages, at=datetime.now(UTC)
        )
        return {each.merchant: each for each in found}

    async def due(self) -> list[Payment]:
        """What should move."""
        breaks = await list_breaks(self.pool, account=ACCOUNT, holders={}, at=datetime.now(UTC))
        return [payment for one in breaks for payment in one.payments]

    async def pay(self, payments: dict[str, int], *, all_of: list[Payment]) -> None:
        """Bring a statement on which these amounts (by code) were moved; the others as they are due."""
        entries = tuple(
            BankEntry(
                place=f"line {number}", amount_fen=payments.get(one.code, one.amount_fen), booked_on=one.due_on,
                reference=one.payment_id,
            )
            for number, one in enumerate(all_of)
        )  # fmt: skip
        day = all_of[0].due_on
        statement = BankStatement(
            account=ACCOUNT, number="1", opened_on=day, closed_on=day, opening_fen=0,
            closing_fen=sum(one.amount_fen for one in entries), entries=entries,
        )  # fmt: skip
        await import_statements(
            self.pool, [statement], account=ACCOUNT, holders={}, by=TREASURER, at=datetime.now(UTC)
        )

    async def bring(self) -> FileReconciled:
        """Bring the merchant's file."""
        of = Lines(merchant=MERCHANT, cycle_id=CYCLE, packages=self.packages)
        return await import_file(
            self.pool, self.planted.file(), of, by=TREASURER, at=datetime.now(UTC)
        )


@pytest.fixture
async def seen(dsn: str, tmp_path: Path) -> AsyncIterator[Cycle]:
    """A batch of 80 orders, and the merchant's rows with 16 faults."""
    planted = plant(80, seed=3, faults=16)
    packages = await cut(dsn, planted.books, tmp_path)
    pool = await open_pool(dsn)
    yield Cycle(pool, planted, packages)
    await pool.close()


async def test_a_cycle_is_seen_three_ways_and_where_they_part_is_named(seen):
    """Unpaid, short paid, a file that differs: the step is named, and the breaks explain it to the CU (X22)."""
    before = await seen.sides()
    assert {code: tuple(one.faults()) for code, one in before.items()} == dict.fromkeys(
        ("AIR", MERCHANT, "SPECTACLES"), ("money", "no_file")
    )
    assert sum(one.lines for one in before.values()) == 2 * _cleared(seen.planted)
    due = await seen.due()
    air = next(one for one in due if one.code == "AIR")
    await seen.pay({"AIR": air.amount_fen - 7}, all_of=due)
    done = await seen.bring()
    after = await seen.sides()
    assert {code: list(one.faults()) for code, one in after.items()} == {
        "AIR": ["money", "no_file"], MERCHANT: ["file"], "SPECTACLES": ["no_file"],
    }  # fmt: skip
    assert [one.agrees for one in after.values()] == [False, False, True]
    money = after["AIR"].money
    assert (money.seen_fen, money.due_fen) == (air.amount_fen - 7, air.amount_fen)
    [(match_no, kind)] = money.differs.items()
    assert kind is BreakKind.AMOUNT
    own = after[MERCHANT].own
    assert own is not None
    assert own.told_cu == done.amount_cu
    assert own.compared_cu == after[MERCHANT].lines_cu == after[MERCHANT].position_cu
    assert (own.told_cu - own.compared_cu, own.unexplained_cu) == (own.open_cu, 0)
    assert own.breaks.total() == len(done.breaks)

    await accept_difference(seen.pool, match_no=match_no, by=TREASURER, at=datetime.now(UTC))
    for each in done.breaks:
        if each.match_no is not None:
            await accept_difference(
                seen.pool, match_no=each.match_no, by=TREASURER, at=datetime.now(UTC)
            )
    accepted = await seen.sides()
    assert accepted["AIR"].agrees
    assert accepted["AIR"].money.accepted_fen == -7
    left = accepted[MERCHANT].own
    assert left is not None
    assert left.accepted_cu != 0
    assert (left.open_cu + left.accepted_cu, left.unexplained_cu) == (own.open_cu, 0)


def _cleared(planted: Planted) -> int:
    """Orders that were cleared: all but those that the merchant made up."""
    return 80 - sum(kind is BreakKind.EXTRA for kind, _ in planted.truth)


async def test_a_cycle_without_a_package_has_no_three_ways(seen):
    """What was never signed is compared with nothing."""
    with pytest.raises(FileRefused, match="cycle none has no package"):
        await three_way(seen.pool, cycle_id="none", packages=seen.packages, at=datetime.now(UTC))
