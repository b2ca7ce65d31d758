"""The report of points that are owed and of breakage, programme by programme.

Source: settlement/RULES.md, rules Y8 and Y9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from exchange.programme.core.liability import (
    WINDOW_MONTHS,
    Estimate,
    Flow,
    LotFlow,
    by_programme,
    estimate,
    roll_forward,
    unproven,
    value_cu,
)
from exchange.programme.store import liability as store
from exchange.store.catalogue import fetch_catalogue
from schemas.files.instant import instant_text, microseconds
from schemas.files.report import Fact, Form, Report, ReportCheck, ReportColumn, ReportTable
from settlement.core.books import BACKDATE_US
from settlement.core.event import Kind
from settlement.service.audit import audit_snapshot
from settlement.service.clearing import PART
from settlement.service.reports import ReportRefused, head_of, last_seq_at

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Pool, Record

    from exchange.core.catalogue import Catalogue
    from schemas.files.report import Cell
    from schemas.values.rate import Rate

Side = Literal["spend", "issue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a report of liability is of.

    Attributes:
        since: Where the roll-forward begins; None for the beginning.
        at: Where it ends; None for now.
        merchant_no: One programme alone; None for all.
        price: At which rate points are valued: what spending them debits, or what issuing them costs.
        window_months: How many months back cohorts tell what breaks.
    """

    since: datetime | None = None
    at: datetime | None = None
    merchant_no: int | None = None
    price: Side = "spend"
    window_months: int = WINDOW_MONTHS


class _Read(NamedTuple):
    """Everything that one snapshot says."""

    flows: list[LotFlow]
    left: dict[int, int]
    told: list[tuple[int, int, bool, int]]
    passed: list[Record]
    catalogue: Catalogue
    opening_us: int | None
    as_of_us: int


async def liability(pool: Pool, asked: Asked, *, now: datetime) -> Report:
    """Points liability and breakage of hosted programmes; of others, what passed through here.

    Raises:
        ReportRefused: An instant lies ahead, or the period ends before it begins.
    """
    if asked.at is not None and asked.at > now:
        raise ReportRefused("the instant lies in the future")
    if asked.since is not None and asked.since > (asked.at or now):
        raise ReportRefused("the period ends before it begins")
    async with audit_snapshot(pool) as conn:
        head = await head_of(conn)
        if head is None:
            return empty_liability(now, asked)
        await store.allow_long_sums(conn)
        as_of_us = head.clock_us if asked.at is None else microseconds(asked.at)
        through = head.last_seq if asked.at is None else await last_seq_at(conn, as_of_us)
        opening_us = None if asked.since is None else microseconds(asked.since)
        opening = 0 if opening_us is None else await last_seq_at(conn, opening_us)
        merchant_no = asked.merchant_no
        flows = await store.fetch_flows(
            conn, part=PART, opening_seq=opening, through_seq=through, merchant_no=merchant_no
        )
        found = _Read(
            flows=[LotFlow(*row) for row in flows],
            left=await store.fetch_left(
                conn, part=PART, through_seq=through, merchant_no=merchant_no
            ),
            told=[
                (row["merchant_no"], row["kind"], row["came"], row["units"])
                for row in await store.fetch_told(
                    conn, part=PART, through_seq=through, merchant_no=merchant_no
                )
            ],
            passed=await store.fetch_passed(
                conn, part=PART, opening_seq=opening, through_seq=through, merchant_no=merchant_no
            ),
            catalogue=await fetch_catalogue(conn),
            opening_us=opening_us,
            as_of_us=as_of_us,
        )
    return _report(found, asked)


def empty_liability(now: datetime, asked: Asked) -> Report:
    """The report where there are no books yet."""
    from exchange.core.catalogue import Catalogue

    return _report(
        _Read([], {}, [], [], Catalogue(), None, microseconds(now)),
        asked,
    )


# --- tables ---


def _units(name: str, chinese: str) -> ReportColumn:
    return ReportColumn(name=name, chinese=chinese, form=Form.COUNT)


def _yuan(name: str, chinese: str) -> ReportColumn:
    return ReportColumn(name=name, chinese=chinese, form=Form.YUAN, summed=True)


_PROGRAMME: Final = ReportColumn(name="programme", chinese="积分计划")
_LIABILITY: Final = (
    _PROGRAMME,
    _units("outstanding", "未使用积分"),
    _units("earned_ahead", "已确认失效"),
    _units("liability_units", "负债积分"),
    ReportColumn(name="price", chinese="计价(CU/单位)"),
    _yuan("outstanding_value", "未使用价值"),
    _yuan("earned_value", "其中已确认"),
    _yuan("liability", "合同负债"),
)
_BREAKAGE: Final = (
    _PROGRAMME,
    ReportColumn(name="ratio", chinese="失效率"),
    _units("history", "历史批次数"),
    _units("expected_redemption", "预计核销"),
    _units("earned_before", "期初累计确认"),
    _units("earned_total", "期末累计确认"),
    _units("earned", "本期确认"),
    _yuan("revenue", "本期失效收入"),
)
_ROLL: Final = (
    _PROGRAMME,
    _units("opening", "期初"),
    *(_units(flow.english, flow.chinese) for flow in Flow),
    _units("closing", "期末"),
)
_COHORTS: Final = (
    _PROGRAMME,
    ReportColumn(name="expires", chinese="到期月份"),
    _units("issued", "发放"),
    _units("redeemed", "核销"),
    _units("lapsed", "失效"),
    _units("outstanding", "未使用"),
    _units("breakage_expected", "预计失效"),
    _units("breakage_earned", "已确认"),
)
_PASSED: Final = (
    _PROGRAMME,
    _units("redeemed", "核销"),
    _units("reversed", "冲正"),
    _yuan("debit", "应付总额"),
)


def _report(found: _Read, asked: Asked) -> Report:
    hosted = {
        merchant_no: programme.code
        for merchant_no, programme in found.catalogue.programmes.items()
        if programme.hosted and asked.merchant_no in (None, merchant_no)
    }
    flows = by_programme(found.flows)
    ordered = sorted(hosted.items(), key=lambda item: item[1])
    rows: list[tuple[Cell, ...]] = []
    breakage: list[tuple[Cell, ...]] = []
    rolls: list[tuple[Cell, ...]] = []
    cohorts: list[tuple[Cell, ...]] = []
    off: list[str] = []
    unpriced: list[str] = []
    for merchant_no, code in ordered:
        mine = flows.get(merchant_no, [])
        now, before = _estimates(mine, found, asked)
        price = _price(found, asked, merchant_no)
        rows.append(_liability_row(code, now, price))
        if price is None and now.outstanding:
            unpriced.append(code)
        breakage.append(_breakage_row(code, now, before, price))
        opening, moved = roll_forward(mine)
        closing = opening + sum(flow.sign * units for flow, units in moved.items())
        rolls.append((code, opening, *moved.values(), closing))
        cohorts += [
            (
                code,
                f"{one.month_no // 12:04d}-{one.month_no % 12 + 1:02d}",
                one.issued,
                one.redeemed,
                one.lapsed,
                one.outstanding,
                one.expected_breakage(now.ratio),
                one.earned_breakage(now.ratio),
            )
            for one in now.cohorts
        ]
        if closing != found.left.get(merchant_no, 0) or closing != now.outstanding:
            off.append(f"{code} {closing - found.left.get(merchant_no, 0)}")
    passed = sorted(
        (found.catalogue.programmes[row["merchant_no"]].code, row["redeemed"] or 0, row["reversed"],
         row["debit_cu"])
        for row in found.passed
    )  # fmt: skip
    untold = [
        f"{hosted.get(merchant_no, merchant_no)} {Kind(kind).name.lower()} {units}"
        for (merchant_no, kind, _), units in unproven(found.flows, found.told).items()
    ]
    return Report(
        name="liability",
        title="Points liability and breakage",
        chinese="积分负债与失效收入",
        as_of_us=found.as_of_us,
        facts=_facts(found, asked),
        checks=(
            ReportCheck(
                name="roll-forward ends with what lots hold",
                chinese="变动表期末等于批次余额",
                detail=", ".join(off),
            ),
            ReportCheck(
                name="units of lots are those of the journal's events",
                chinese="批次变动等于日记账事件",
                detail=", ".join(untold),
            ),
            ReportCheck(
                name="what is outstanding has a price",
                chinese="未使用积分均有计价",
                detail=", ".join(unpriced),
            ),
        ),
        tables=(
            ReportTable(name="liability", chinese="合同负债", columns=_LIABILITY, rows=rows),
            ReportTable(name="breakage", chinese="失效收入", columns=_BREAKAGE, rows=breakage),
            ReportTable(name="roll-forward", chinese="变动表", columns=_ROLL, rows=rolls),
            ReportTable(name="cohorts", chinese="到期批次", columns=_COHORTS, rows=cohorts),
            ReportTable(name="own-systems", chinese="自有系统", columns=_PASSED, rows=passed),
        ),
    )


def _estimates(mine: list[LotFlow], found: _Read, asked: Asked) -> tuple[Estimate, Estimate]:
    """The estimate at the end of the period, and the one that was made at its opening."""
    before = [one for one in mine if not one.in_period] if found.opening_us is not None else []
    return (
        estimate(
            mine, as_of_us=found.as_of_us, late_us=BACKDATE_US, window_months=asked.window_months
        ),
        estimate(
            before,
            as_of_us=found.opening_us or 0,
            late_us=BACKDATE_US,
            window_months=asked.window_months,
        ),
    )  # fmt: skip


def _price(found: _Read, asked: Asked, merchant_no: int) -> Rate | None:
    in_force = (
        found.catalogue.spend_rate(merchant_no, found.as_of_us)
        if asked.price == "spend"
        else found.catalogue.issue_rate(merchant_no, found.as_of_us)
    )
    return None if in_force is None else in_force.rate


def _liability_row(code: str, now: Estimate, price: Rate | None) -> tuple[Cell, ...]:
    gross_cu, ahead_cu = value_cu(now, price)
    return (
        code,
        now.outstanding,
        now.ahead,
        now.outstanding - now.ahead,
        f"{price.num}/{price.den}" if price else "",
        gross_cu,
        ahead_cu,
        gross_cu - ahead_cu,
    )


def _breakage_row(
    code: str, now: Estimate, before: Estimate, price: Rate | None
) -> tuple[Cell, ...]:
    period = now.earned - before.earned
    num, den = now.ratio
    return (
        code,
        f"{num}/{den}",
        now.history,
        now.to_be_redeemed,
        before.earned,
        now.earned,
        period,
        price.cu_floor(period) if price else 0,
    )


def _facts(found: _Read, asked: Asked) -> tuple[Fact, ...]:
    opening = "the beginning 开业" if found.opening_us is None else instant_text(found.opening_us)
    priced = (
        "what spending debits the issuer (rate in force at the end) 核销价"
        if asked.price == "spend"
        else "what issuing costs (rate in force at the end) 发放价"
    )
    return (
        Fact(name="period from", chinese="期初", text=opening),
        Fact(
            name="method",
            chinese="方法",
            text="IFRS 15 B44-B47, rules Y8 and Y9: rights that expire in one month (Beijing) are a cohort, "
            "I = R + L + O; ratio b = sum L / sum I over cohorts that are over; expected breakage "
            "E = max(L, min(floor(I*b), L+O)); earned B = max(L, floor(E*R/(I-E))); liability units = O - (B - L) "
            "按到期月份分批,失效率取自已到期批次,按权利行使比例确认失效收入",
        ),
        Fact(
            name="history",
            chinese="历史窗口",
            text=f"cohorts of the last {asked.window_months} months that are over, lots may be spent for 7 days after "
            f"expiry 最近{asked.window_months}个月已结束批次",
        ),
        Fact(name="price", chinese="计价", text=priced),
        Fact(
            name="own systems",
            chinese="自有系统",
            text="programmes with systems of their own: only what passed through here in the period, no liability "
            "自有系统的积分计划仅列示经本平台部分",
        ),
    )
