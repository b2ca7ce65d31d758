"""Reports for callers of the gateway: which there are, who gets which, and one at a time.

A report of a past instant sums the journal, so a process makes one after the other: whoever asks for many waits, and
orders do not.

Source: settlement/RULES.md, rules Y3 to Y5.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from exchange.programme.service.liability import Asked, liability
from settlement.service.ageing_report import ageing
from settlement.service.netting_reports import Span, fees, netted, savings
from settlement.service.reports import Moment, balances, standing, trial_balance

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Pool

    from schemas.files.report import Report

Name = Literal["trial-balance", "balances", "liability", "ageing", "fees", "savings"]
TAKES: Final[dict[str, frozenset[str]]] = {
    "trial-balance": frozenset({"at", "cycle"}),
    "balances": frozenset({"at", "cycle"}),
    "liability": frozenset({"at", "from", "price"}),
    "ageing": frozenset(),
    "fees": frozenset({"cycle", "from", "to"}),
    "savings": frozenset({"cycle", "from", "to"}),
}
"""Every report, and the parameters that mean something to it."""
OF_ONE: Final = ("balances", "liability")
"""Reports that a merchant gets of itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a report is of; None for what was not said.

    Attributes:
        at: An instant, or the end of a period.
        cycle: A cycle's id.
        since: Where a period begins.
        until: Where a span of cycles ends.
        price: At which rate points are valued.
    """

    at: datetime | None = None
    cycle: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    price: Literal["spend", "issue"] = "spend"


class ReportDesk:
    """Makes reports, one at a time."""

    def __init__(self, pool: Pool, packages: Path, now: Callable[[], datetime]) -> None:
        """Take the database, the folder of the settlement packages, and a clock."""
        self._pool = pool
        self._packages = packages
        self._now = now
        self._one = asyncio.Semaphore()

    async def make(self, name: str, wanted: Wanted, *, merchant_no: int | None) -> Report:
        """Make a report.

        Args:
            name: One of `TAKES`.
            wanted: What it is of.
            merchant_no: Of this merchant alone, where the report is one of `OF_ONE`; None for all.

        Raises:
            ReportRefused: There is no such cycle, or an instant lies ahead.
        """
        async with self._one:
            return await self._make(name, wanted, merchant_no)

    async def _make(self, name: str, wanted: Wanted, merchant_no: int | None) -> Report:
        now = self._now()
        if name == "ageing":
            return await ageing(self._pool, now=now, packages=self._packages)
        if name == "liability":
            asked = Asked(
                since=wanted.since, at=wanted.at, merchant_no=merchant_no, price=wanted.price
            )
            return await liability(self._pool, asked, now=now)
        if name in ("fees", "savings"):
            span = Span(cycle_id=wanted.cycle, since=wanted.since, until=wanted.until)
            found = await netted(self._pool, span, now=now)
            return fees(found) if name == "fees" else savings(found)
        moment = Moment(at=wanted.at, cycle_id=wanted.cycle)
        with_bank = name == "trial-balance"
        stand = await standing(self._pool, moment, now=now, with_bank=with_bank)
        if name == "balances":
            return balances(stand, party=merchant_no)
        return trial_balance(stand)
