"""Figures of the house that operators are alerted by: low funds, blocked releases, and what waits for people.

They cost several reads of the database, so one process reads them at most once a minute, and only when somebody looks.

Source: settlement/RULES.md, rules K37, U4 to U6, U12, W3, X14 and Z2 to Z5.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from schemas.values.faults import SchemaError
from settlement.core.ageing import bucket_of
from settlement.core.confirmation import State as Answered
from settlement.core.dispute import State
from settlement.core.report import CheckFailed
from settlement.service.ageing_report import open_cases
from settlement.service.confirmations import list_batches
from settlement.service.cycles import page_of_cycles
from settlement.service.funding import custody, last_account, purses
from settlement.service.reconciliation import list_breaks
from settlement.service.signatures import reached
from settlement.signing.keyring import Keyring, KeyringUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Pool

log = structlog.get_logger()

READ_SECONDS: Final = 60.0
"""So long figures count that were read."""
PATIENCE_SECONDS: Final = 8.0
"""So long a reading may take; Prometheus gives up after 10."""
NEWEST: Final = 100
"""So many of the newest batches, and of closed cycles, are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseFigures:
    """What was read at one instant.

    Attributes:
        read_at: The instant.
        alerts: Merchants whose money somebody is to look at, by why.
        unbooked: Movements of the bank that are in no account of the books.
        blocked: Whether nothing may be paid out, because books and bank do not agree.
        disputes: Open disputes whose time to answer is over, so that the house must decide.
        breaks: Open breaks between payments and the bank, by kind and days.
        unsigned: Closed, unsettled cycles whose package is not there, or lacks signatures.
        unanswered: Batches among the newest to which a merchant said nothing in time.
        objected: Batches among the newest that a merchant objects to.
    """

    read_at: datetime
    alerts: Mapping[str, int]
    unbooked: int
    blocked: bool
    disputes: int
    breaks: Mapping[tuple[str, str], int]
    unsigned: int
    unanswered: int
    objected: int


class HouseWatch:
    """Keeps the figures that were read last."""

    def __init__(
        self, pool: Pool, *, keys: Path, packages: Path, now: Callable[[], datetime]
    ) -> None:
        """Take the database, the folders of the house's keys and packages, and the clock."""
        self._pool = pool
        self._keys = keys
        self._packages = packages
        self._now = now
        self._next_at = 0.0
        self.figures: HouseFigures | None = None

    async def look(self) -> None:
        """Read the figures if they are old; whoever comes while they are read gets the ones before."""
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + READ_SECONDS
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                self.figures = await read_figures(
                    self._pool, keys=self._keys, packages=self._packages, now=self._now()
                )
        except Exception as error:  # noqa: BLE001 - whatever it is, the process's own figures are shown
            log.warning("house_figures.failed", error=type(error).__name__)


async def read_figures(pool: Pool, *, keys: Path, packages: Path, now: datetime) -> HouseFigures:
    """Read the figures of one instant.

    Args:
        pool: The database.
        keys: Folder of the house's keys.
        packages: Folder of the settlement packages.
        now: The instant.
    """
    state = await custody(pool)
    account = await last_account(pool)
    breaks = await list_breaks(pool, account=account, holders={}, at=now)
    closed = await page_of_cycles(pool, after_no=-1, state="closed", limit=NEWEST)
    batches = [
        {one.state for one in batch.standings.values()}
        for batch in await list_batches(pool, now=now, limit=NEWEST)
    ]
    return HouseFigures(
        read_at=now,
        alerts=Counter(one.alert for one in (await purses(pool, at=now)).merchants if one.alert),
        unbooked=len(state.unbooked),
        blocked=bool(state.why_not()),
        disputes=sum(
            case.state(now) in (State.OPENED, State.ANSWERED) and now >= case.answer_due_at
            for _, case in await open_cases(pool, now)
        ),
        breaks=Counter((one.kind.value, bucket_of(one.age_days)) for one in breaks),
        unsigned=await asyncio.to_thread(
            _unsigned, keys, [packages / row["cycle_id"] for row in closed]
        ),
        unanswered=sum(Answered.SILENT in each for each in batches),
        objected=sum(Answered.OBJECTED in each for each in batches),
    )


def _unsigned(keys: Path, folders: Sequence[Path]) -> int:
    """How many of some packages money may not move on the word of."""
    try:
        keyring = Keyring.open(keys)
    except KeyringUnusable:
        return len(folders)
    return sum(not _signed(folder, keyring) for folder in folders)


def _signed(folder: Path, keyring: Keyring) -> bool:
    try:
        return reached(folder, keyring).ok
    except (CheckFailed, SchemaError, OSError):
        return False
