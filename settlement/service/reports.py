"""Reports of the books for finance: each reads one snapshot and comes with the checks that it passed.

Source: settlement/RULES.md, rules Y1 to Y5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.files.instant import microseconds
from schemas.files.report import Fact, Report, write_report_csv
from schemas.values.amounts import fen_text
from settlement.core.balances import (
    PARTY_CODES,
    Administered,
    CycleState,
    Ledger,
    Moved,
    fold_journal,
    stored_ledger,
)
from settlement.core.funds import Discharged
from settlement.render.ledger_tables import (
    balances_table,
    debts_table,
    ledger_checks,
    memo_table,
    trial_balance_table,
)
from settlement.render.report_book import write_report_book
from settlement.service.clearing import PART
from settlement.service.funding import custody
from settlement.store import audit as snapshots
from settlement.store import balances as store
from settlement.store import funds as money

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection, Pool
    from asyncpg.pool import PoolConnectionProxy

    from settlement.core.custody import Custody

    AnyConnection = Connection | PoolConnectionProxy

STRETCH_EVENTS: Final = 5_000_000
"""Events that one statement sums; a million takes less than a second."""
JOURNAL: Final = "summed from the journal 由日记账汇总"
STORED: Final = "as the projections have it 取自余额表"


class ReportRefused(Exception):  # noqa: N818 - it is what the caller is told
    """There is no such cycle, or the instant lies ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a report is of: an instant, the end of a cycle, or now where neither is named.

    Attributes:
        at: The instant; everything that was written then or before counts.
        cycle_id: The cycle; of the open one, now.
        journal: Sum it from the journal also where the projections tell it.
    """

    at: datetime | None = None
    cycle_id: str | None = None
    journal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The ledger at a moment.

    Attributes:
        ledger: Its accounts.
        codes: Code of each merchant.
        as_of_us: The instant.
        last_seq: The last event that counts.
        source: Where it was read.
        custody: What the bank's last statement says beside it; None of the past, and before the first statement.
    """

    ledger: Ledger
    codes: dict[int, str]
    as_of_us: int
    last_seq: int
    source: str
    custody: Custody | None = None

    def party(self, code: str) -> int | None:
        """Number of a party by its code; None if there is no such party."""
        return next((no for no, each in (self.codes | PARTY_CODES).items() if each == code), None)


def before_the_first(now: datetime) -> Standing:
    """The ledger of a clearing house that has none yet."""
    return Standing(
        ledger=Ledger(),
        codes={},
        as_of_us=microseconds(now),
        last_seq=0,
        source="there is no ledger yet 尚无账簿",
    )


async def standing(
    pool: Pool, moment: Moment, *, now: datetime, with_bank: bool = False
) -> Standing:
    """Read the ledger at a moment, in one snapshot.

    Args:
        pool: The database.
        moment: Which moment.
        now: Instant of the question.
        with_bank: Also read what the bank's last statement says, where the moment is now.

    Raises:
        ReportRefused: There is no such cycle, or the instant lies ahead.

    Source: settlement/RULES.md, rules Y2 and Y3.
    """
    if moment.at is not None and moment.at > now:
        raise ReportRefused("the instant lies in the future")
    async with snapshots.snapshot(pool) as conn:
        head = await snapshots.fetch_partition(conn, part=PART)
        if head is None:
            if moment.cycle_id is not None:
                raise ReportRefused(f"there is no cycle {moment.cycle_id}")
            return before_the_first(now)
        through_seq, as_of_us = await _place(conn, moment, head["last_seq"], head["clock_us"])
        past = through_seq < head["last_seq"]
        if past or moment.journal or moment.at is not None:
            ledger, source = await _from_journal(conn, through_seq), JOURNAL
        else:
            ledger, source = await _from_projections(conn), STORED
        codes = await snapshots.fetch_codes(conn)
    bank = await custody(pool) if with_bank and not past else None
    return Standing(
        ledger=ledger,
        codes=codes,
        as_of_us=as_of_us,
        last_seq=through_seq,
        source=source,
        custody=bank if bank and bank.accounts else None,
    )


async def _place(
    conn: AnyConnection, moment: Moment, last_seq: int, clock_us: int
) -> tuple[int, int]:
    """The last event that counts, and the instant that is meant."""
    if moment.at is not None:
        at_us = microseconds(moment.at)
        return await store.fetch_last_seq_at(conn, part=PART, at_us=at_us), at_us
    if moment.cycle_id is None:
        return last_seq, clock_us
    for row in await store.fetch_cycle_states(conn, part=PART):
        if row["cycle_id"] == moment.cycle_id:
            if row["last_seq"] is None:
                return last_seq, clock_us
            return row["last_seq"], row["closed_us"]
    raise ReportRefused(f"there is no cycle {moment.cycle_id}")


class Head(NamedTuple):
    """Where the journal ends in a snapshot: the last event, and the writer's clock."""

    last_seq: int
    clock_us: int


async def head_of(conn: AnyConnection) -> Head | None:
    """The end of the journal; None where there is no ledger."""
    row = await snapshots.fetch_partition(conn, part=PART)
    return None if row is None else Head(row["last_seq"], row["clock_us"])


async def last_seq_at(conn: AnyConnection, at_us: int) -> int:
    """Number of the last event that was written at an instant or before; 0 for none."""
    return await store.fetch_last_seq_at(conn, part=PART, at_us=at_us)


async def codes_of(conn: AnyConnection) -> dict[int, str]:
    """Code of each merchant."""
    return await snapshots.fetch_codes(conn)


async def _from_journal(conn: AnyConnection, through_seq: int) -> Ledger:
    """Sum the journal, stretch by stretch, so that no statement takes longer than one may."""
    moved: list[Moved] = []
    administered: list[Administered] = []
    for after in range(0, through_seq, STRETCH_EVENTS):
        through = min(after + STRETCH_EVENTS, through_seq)
        rows = await store.fetch_moved(conn, part=PART, after_seq=after, through_seq=through)
        moved += (Moved(*row) for row in rows)
        rows = await store.fetch_administered(conn, part=PART, after_seq=after, through_seq=through)
        administered += (Administered(*row) for row in rows)
    return fold_journal(moved, administered)


async def _from_projections(conn: AnyConnection) -> Ledger:
    cycles = await store.fetch_cycle_states(conn, part=PART)
    positions = await store.fetch_unsettled_positions(conn, part=PART)
    accounts = await snapshots.fetch_accounts(conn, part=PART)
    return stored_ledger(
        cycles={row["cycle_no"]: (row["cycle_id"], CycleState(row["state"])) for row in cycles},
        positions=[(row["cycle_no"], row["merchant_no"], row["net_cu"]) for row in positions],
        accounts=[
            (row["merchant_no"], row["cap_cu"], row["collateral_cu"], row["held_cu"])
            for row in accounts
        ],
        funds={row["party"]: row["cu"] for row in await money.fetch_funds(conn, part=PART)},
        shares={
            row["party"]: row["cu"] for row in await money.fetch_contributions(conn, part=PART)
        },
        debts={
            (row["debtor"], row["creditor"]): row["cu"]
            for row in await money.fetch_debts(conn, part=PART)
        },
        discharged=[
            (cycle_no, Discharged(*pair).legs())
            for cycle_no, *pair in map(tuple, await money.fetch_discharges(conn, part=PART))
        ],
    )


# --- reports ---


def trial_balance(stand: Standing) -> Report:
    """Every account of the books as debit or credit; what is held as a memo.

    Source: settlement/RULES.md, rules Y1 and Y4.
    """
    return Report(
        name="trial-balance",
        title="Trial balance",
        chinese="试算平衡表",
        as_of_us=stand.as_of_us,
        facts=(*_facts(stand), _SIDES, *_bank(stand.custody)),
        checks=ledger_checks(stand.ledger),
        tables=(
            trial_balance_table(stand.ledger, stand.codes),
            memo_table(stand.ledger, stand.codes),
            debts_table(stand.ledger, stand.codes),
        ),
    )


def balances(stand: Standing, *, party: int | None = None) -> Report:
    """Every account, or those of one party, at one instant.

    Source: settlement/RULES.md, rules Y2 and Y5.
    """
    return Report(
        name="balances",
        title="Balances",
        chinese="时点余额表",
        as_of_us=stand.as_of_us,
        facts=_facts(stand),
        # A merchant is not told what those of others come to.
        checks=() if party is not None else ledger_checks(stand.ledger),
        tables=(
            balances_table(stand.ledger, stand.codes, party=party),
            memo_table(stand.ledger, stand.codes, party=party),
            debts_table(stand.ledger, stand.codes, party=party),
        ),
    )


_SIDES: Final = Fact(
    name="sides",
    chinese="记账方向",
    text="debit: owed to the house or held by the bank; credit: owed by the house 借方为应收,贷方为应付",
)


def _bank(found: Custody | None) -> tuple[Fact, ...]:
    """What the bank says, and whether the books say so too (rule U12)."""
    if found is None:
        return ()
    differs = found.why_not() or "the books say the same 与账簿一致"
    text = f"{' + '.join(found.accounts)}: {fen_text(found.bank_fen)}; {differs}"
    return (Fact(name="bank's last statement", chinese="最近银行对账单", text=text),)


def _facts(stand: Standing) -> tuple[Fact, ...]:
    return (
        Fact(name="source", chinese="来源", text=stand.source),
        Fact(name="journal through event", chinese="截至日记账序号", text=str(stand.last_seq)),
    )


# --- files ---


def report_csv(report: Report, table: str | None) -> bytes | None:
    """One table of a report as CSV, the first for None; None if there is no such table."""
    found = report.table(table)
    return None if found is None else write_report_csv(found)


def report_book(report: Report) -> bytes:
    """A report as a workbook."""
    return write_report_book(report)
