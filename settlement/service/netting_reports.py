"""Reports of what was netted: fees, and what netting saves; each reads one snapshot.

Source: settlement/RULES.md, rules N1 to N6 and Y6.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from schemas.files.instant import microseconds
from schemas.files.report import Fact, Report, ReportCheck
from schemas.values.ids import HOUSE_FEES, HOUSE_ROUNDING
from settlement.core.balances import PARTY_CODES, difference_text
from settlement.core.netting import net
from settlement.render.netting_tables import (
    NettedCycle,
    fees_by_merchant_table,
    fees_table,
    savings_by_merchant_table,
    savings_table,
)
from settlement.service.clearing import PART
from settlement.service.reports import ReportRefused
from settlement.store import audit as snapshots
from settlement.store import balances as store

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from asyncpg import Pool

    from settlement.core.netting import Obligation


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Which cycles a report is of: one, or those that closed in a span of time; all where nothing is named.

    Attributes:
        cycle_id: The cycle.
        since: Those that closed then or later.
        until: Those that closed before; the open one only where this is left out.
    """

    cycle_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def holds(self, cycle_id: str, closed_us: int | None) -> bool:
        """Whether a cycle is meant; `closed_us` is None while it is open."""
        if self.cycle_id is not None:
            return cycle_id == self.cycle_id
        if closed_us is None:
            return self.until is None
        since_us = None if self.since is None else microseconds(self.since)
        until_us = None if self.until is None else microseconds(self.until)
        return (since_us is None or since_us <= closed_us) and (
            until_us is None or closed_us < until_us
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Netted:
    """Cycles with what they owe, from one snapshot.

    Attributes:
        cycles: Oldest first.
        positions: Stored positions of the house's accounts, by the cycle's id and party, CU.
        codes: Code of each merchant.
        as_of_us: Instant of the snapshot, by the writer's clock.
    """

    cycles: tuple[NettedCycle, ...] = ()
    positions: dict[tuple[str, int], int] = field(default_factory=dict)
    codes: dict[int, str] = field(default_factory=dict)
    as_of_us: int


async def netted(pool: Pool, span: Span, *, now: datetime) -> Netted:
    """Read what some cycles owe, in one snapshot, and net each.

    Raises:
        ReportRefused: There is no such cycle.

    Source: settlement/RULES.md, rules N1 to N6 and Y6.
    """
    async with snapshots.snapshot(pool) as conn:
        head = await snapshots.fetch_partition(conn, part=PART)
        found = {
            row["cycle_no"]: row
            for row in await store.fetch_cycle_states(conn, part=PART)
            if span.holds(row["cycle_id"], row["closed_us"])
        }
        if span.cycle_id is not None and not found:
            raise ReportRefused(f"there is no cycle {span.cycle_id}")
        owed: dict[int, list[Obligation]] = {cycle_no: [] for cycle_no in found}
        for cycle_no, one in await store.fetch_owed(conn, part=PART, cycle_nos=list(found)):
            owed[cycle_no].append(one)
        positions = await snapshots.fetch_positions(conn, part=PART, cycle_nos=list(found))
        return Netted(
            cycles=tuple(
                NettedCycle(
                    row["cycle_id"], row["state"], row["model"], owed[cycle_no], net(owed[cycle_no])
                )
                for cycle_no, row in found.items()
            ),
            positions={
                (found[row["cycle_no"]]["cycle_id"], row["merchant_no"]): row["net_cu"]
                for row in positions
                if row["merchant_no"] < 0
            },
            codes=await snapshots.fetch_codes(conn),
            as_of_us=microseconds(now) if head is None else head["clock_us"],
        )


def fees(found: Netted) -> Report:
    """What the house earned of each pair and merchant in each cycle.

    Source: settlement/RULES.md, rule Y6.
    """
    differences = {}
    for cycle in found.cycles:
        for total_cu, party in (
            (cycle.netting.cleared.fee_cu - cycle.netting.reversed.fee_cu, HOUSE_FEES),
            (
                cycle.netting.cleared.rounding_cu - cycle.netting.reversed.rounding_cu,
                HOUSE_ROUNDING,
            ),
        ):
            if cu := total_cu - found.positions.get((cycle.cycle_id, party), 0):
                differences[f"{cycle.cycle_id} {PARTY_CODES[party]}"] = cu
    return Report(
        name="fees",
        title="Fees",
        chinese="手续费报表",
        as_of_us=found.as_of_us,
        facts=(_cycles_fact(found),),
        checks=(
            ReportCheck(
                name="fees and remainders are the house's positions",
                chinese="手续费与尾差等于平台头寸",
                detail=difference_text(differences),
            ),
        ),
        tables=(
            fees_table(found.cycles, found.codes),
            fees_by_merchant_table(found.cycles, found.codes),
        ),
    )


def savings(found: Netted) -> Report:
    """What netting saved in each cycle, and each party.

    Source: settlement/RULES.md, rule Y6.
    """
    by_party = savings_by_merchant_table(found.cycles, found.codes)
    differences = {
        name: cu
        for name, place, figure in _NETTED
        if (
            cu := sum(int(row[place] or 0) for row in by_party.rows)
            - sum(figure(one) for one in found.cycles)
        )
    }
    return Report(
        name="savings",
        title="What netting saves",
        chinese="轧差节省报表",
        as_of_us=found.as_of_us,
        facts=(_cycles_fact(found),),
        checks=(
            ReportCheck(
                name="what parties pay is what cycles move",
                chinese="各方应付合计等于周期金额",
                detail=difference_text(differences),
            ),
        ),
        tables=(savings_table(found.cycles), by_party),
    )


_NETTED: Final[tuple[tuple[str, int, Callable[[NettedCycle], int]], ...]] = (
    ("gross", 2, lambda one: one.netting.gross_cu),
    ("bilateral", 3, lambda one: one.netting.bilateral_net_cu),
    ("multilateral", 4, lambda one: one.netting.multilateral_net_cu),
    ("moved", 5, lambda one: one.moved_cu),
)
"""Figures that parties and cycles come to alike: name, column of the parties' table, and the cycle's figure."""


def _cycles_fact(found: Netted) -> Fact:
    return Fact(name="cycles", chinese="周期数", text=str(len(found.cycles)))
