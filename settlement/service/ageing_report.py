"""The report of open breaks and disputes by age.

Source: settlement/RULES.md, rules X14 and Y7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.files.instant import microseconds
from schemas.files.report import Fact, Form, Report, ReportCheck, ReportColumn, ReportTable
from settlement.core.ageing import (
    Difference,
    age,
    age_disputes,
    bucket_of,
    of_lines,
    of_payment,
)
from settlement.core.report import CheckFailed
from settlement.service.disputes import list_disputes
from settlement.service.open_lines import FileRefused, Lines, list_line_breaks
from settlement.service.parties import list_parties
from settlement.service.reconciliation import list_breaks
from settlement.store.bank import fetch_last_account
from settlement.store.merchant_files import fetch_filed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Pool

    from schemas.files.report import Cell
    from settlement.core.breaks import Break
    from settlement.core.dispute import Case
    from settlement.core.own_lines import LineBreak


def _fen(name: str, chinese: str) -> ReportColumn:
    return ReportColumn(name=name, chinese=chinese, form=Form.FEN, summed=True)


_KIND: Final = ReportColumn(name="kind", chinese="类型")
_OWNER: Final = ReportColumn(name="owner", chinese="责任方")
_FIGURES: Final = (
    _fen("expected", "应动账"),
    _fen("moved", "已动账"),
    _fen("difference", "差额"),
)
_AGED: Final = (
    ReportColumn(name="days", chinese="账龄(天)"),
    _KIND,
    _OWNER,
    ReportColumn(name="breaks", chinese="差异数", form=Form.COUNT, summed=True),
    *_FIGURES,
)
_DISPUTED: Final = (
    ReportColumn(name="days", chinese="账龄(天)"),
    ReportColumn(name="state", chinese="状态"),
    _OWNER,
    ReportColumn(name="disputes", chinese="争议数", form=Form.COUNT, summed=True),
    ReportColumn(name="claimed", chinese="主张金额", form=Form.YUAN, summed=True),
)
_LINES: Final = (
    ReportColumn(name="days", chinese="账龄(天)"),
    _KIND,
    _OWNER,
    ReportColumn(name="breaks", chinese="差异数", form=Form.COUNT, summed=True),
    *(
        ReportColumn(name=name, chinese=chinese, form=Form.YUAN, summed=True)
        for name, chinese in (("ours", "我方"), ("theirs", "商户"), ("difference", "差额"))
    ),
)
_BREAKS: Final = (
    ReportColumn(name="days", chinese="账龄(天)"),
    ReportColumn(name="age", chinese="天数", form=Form.COUNT),
    _KIND,
    _OWNER,
    ReportColumn(name="payments", chinese="付款编号"),
    ReportColumn(name="entries", chinese="流水编号"),
    *_FIGURES,
)


async def ageing(
    pool: Pool,
    *,
    now: datetime,
    packages: Path,
    account: str | None = None,
    holders: Mapping[str, str] | None = None,
) -> Report:
    """Open breaks by age, kind and owner.

    Args:
        pool: The database.
        now: Ages are counted to this day.
        packages: Folder of the settlement packages, whose lines merchants' files are held against.
        account: The house's account; None for that of the last statement that was imported.
        holders: Code of the merchant behind each account that is known; None where nobody says.
    """
    found = await list_breaks(
        pool,
        account=await fetch_last_account(pool) if account is None else account,
        holders=holders or {},
        at=now,
    )
    codes = {row["merchant_no"]: row["code"] for row in await list_parties(pool)}
    disputed = [
        (bucket, state, codes.get(party, "HOUSE"), *figures)
        for bucket, state, party, *figures in age_disputes(await open_cases(pool, now), now)
    ]
    lines, unread = await _line_breaks(pool, packages, now)
    return ageing_of(found, lines, disputed, now=now, parties=holders is not None, unread=unread)


async def _line_breaks(
    pool: Pool, packages: Path, now: datetime
) -> tuple[list[LineBreak], list[str]]:
    """Breaks between signed lines and merchants' own, and the statements that cannot be read."""
    found: list[LineBreak] = []
    unread = []
    for row in await fetch_filed(pool):
        of = Lines(merchant=row["code"], cycle_id=row["cycle_id"], packages=packages)
        try:
            found += await list_line_breaks(pool, of, at=now)
        except (FileRefused, CheckFailed, OSError) as error:
            unread.append(f"{of.merchant} {of.cycle_id}: {error}")
    return found, unread


async def open_cases(pool: Pool, now: datetime) -> list[tuple[datetime, Case]]:
    """Every case that may still be open, newest first: behind a page of lapsed ones there is none."""
    cases: list[tuple[datetime, Case]] = []
    below = None
    while page := await list_disputes(pool, at=now, below=below):
        cases += ((one.row["opened_at"], one.case) for one in page)
        if all(one.case.deadline <= now for one in page):
            break
        below = page[-1].row["dispute_no"]
    return cases


def ageing_of(
    breaks: Sequence[Break],
    lines: Sequence[LineBreak] = (),
    disputed: Sequence[tuple[Cell, ...]] = (),
    *,
    now: datetime,
    parties: bool,
    unread: Sequence[str] = (),
) -> Report:
    """Make the report.

    Args:
        breaks: What differs between payments and the bank's movements.
        lines: What differs between signed lines and merchants' own.
        disputed: Rows of open disputes.
        now: The instant that it is of.
        parties: Whether accounts of merchants were known.
        unread: Statements that could not be read.
    """
    differences = [of_payment(one) for one in breaks]
    aged = _rows(differences)
    of_merchants = [of_lines(one) for one in lines]
    aged_lines = _rows(of_merchants)
    single = [
        (
            bucket_of(one.age_days),
            one.age_days,
            one.kind.value,
            one.owner,
            " ".join(payment.payment_id for payment in one.payments),
            " ".join(f"{moved.statement_no}/{moved.entry_no}" for moved in one.movements),
            *_three(of_payment(one)),
        )
        for one in sorted(breaks, key=lambda one: -one.age_days)
    ]
    off = [
        table
        for table, rows, ones in (
            ("ageing", aged, differences),
            ("lines", aged_lines, of_merchants),
        )
        if [sum(figures) for figures in zip(*(row[3:] for row in rows), strict=True)]
        != [sum(figures) for figures in zip(*((1, *_three(one)) for one in ones), strict=True)]
    ]
    return Report(
        name="ageing",
        title="Ageing of breaks and disputes",
        chinese="差异与争议账龄表",
        as_of_us=microseconds(now),
        facts=(
            Fact(
                name="age",
                chinese="账龄口径",
                text="days since the older of cycle end and booking (X14) 自周期截止日与记账日中较早者起",
            ),
            Fact(
                name="accounts of merchants",
                chinese="商户账户",
                text="from the parties' file 来自参与方文件" if parties else "not known 未提供",
            ),
        ),
        checks=(
            ReportCheck(
                name="buckets come to the breaks",
                chinese="账龄合计等于差异合计",
                detail=", ".join(off),
            ),
            ReportCheck(
                name="statements can be read", chinese="对账单可读", detail=", ".join(unread)
            ),
        ),
        tables=(
            ReportTable(name="ageing", chinese="账龄", columns=_AGED, rows=aged),
            ReportTable(name="lines", chinese="商户明细", columns=_LINES, rows=aged_lines),
            ReportTable(name="disputes", chinese="争议", columns=_DISPUTED, rows=disputed),
            ReportTable(name="breaks", chinese="差异明细", columns=_BREAKS, rows=single),
        ),
    )


def _rows(differences: Iterable[Difference]) -> list[tuple[str, str, str, int, int, int, int]]:
    return [(*one, one.found - one.expected) for one in age(differences)]


def _three(one: Difference) -> tuple[int, int, int]:
    return one.expected, one.found, one.found - one.expected
