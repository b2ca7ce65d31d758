"""Merchants' own lines over HTTP: one at a time in each process, so that large files hold few connections."""

from __future__ import annotations

import asyncio
from datetime import timedelta, timezone
from typing import TYPE_CHECKING, Final

from schemas.files.merchant_file import Basis, FileLine
from schemas.values.faults import SchemaError, Unavailable
from schemas.values.reason import Reason, Refusal
from settlement.core.report import CheckFailed
from settlement.service.merchant_files import MerchantFile, import_file
from settlement.service.open_lines import FileRefused, Lines, list_line_breaks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Pool

    from schemas.wire.own_files import OwnFileRequest
    from settlement.core.own_lines import LineBreak
    from settlement.core.trail import By
    from settlement.service.merchant_files import FileReconciled

_BEIJING: Final = timezone(timedelta(hours=8))


class OwnFileDesk:
    """Takes merchants' own lines, and says what differs."""

    def __init__(self, pool: Pool, packages: Path) -> None:
        """Take the database and the folder of the packages."""
        self._pool = pool
        self._packages = packages
        self._one_at_a_time = asyncio.Semaphore(1)

    async def bring(
        self, wanted: OwnFileRequest, *, merchant: str, cycle_id: str, by: By, now: datetime
    ) -> FileReconciled | Refusal:
        """Import lines, or show what would come of it.

        Args:
            wanted: The lines.
            merchant: Whose they are.
            cycle_id: Of which cycle.
            by: Who brings them.
            now: Instant.

        Returns:
            What it came to, or FILE_REFUSED.

        Raises:
            SchemaError: The totals are not those of the lines, or a time cannot be one.
            Unavailable: The signed statement is not here.

        Source: settlement/RULES.md, rules X15 to X18.
        """
        sum_cu = sum(int(line.amount_cu) for line in wanted.lines)
        for name, told, found in (
            ("lines", wanted.totals.lines, len(wanted.lines)),
            ("amount_cu", int(wanted.totals.amount_cu), sum_cu),
        ):
            if told != found:
                raise SchemaError(f"$.totals.{name}", f"Is {told}, but the lines come to {found}")
        file = MerchantFile(
            name=wanted.name,
            basis=Basis(figure=wanted.figure, clock=wanted.clock, rounding=wanted.rounding),
            lines=lambda: _lines(wanted),
        )
        of = Lines(merchant=merchant, cycle_id=cycle_id, packages=self._packages)
        async with self._one_at_a_time:
            try:
                return await import_file(
                    self._pool, file, of, by=by, at=now, rehearse=wanted.dry_run
                )
            except FileRefused as error:
                return Refusal(Reason.FILE_REFUSED, str(error))
            except CheckFailed as error:
                raise _not_here(cycle_id, error) from error

    async def breaks(
        self, *, merchant: str, cycle_id: str, now: datetime
    ) -> tuple[LineBreak, ...] | None:
        """List what differs between a merchant's files and its statement; None where there is no statement."""
        of = Lines(merchant=merchant, cycle_id=cycle_id, packages=self._packages)
        async with self._one_at_a_time:
            try:
                return await list_line_breaks(self._pool, of, at=now)
            except FileRefused:
                return None
            except CheckFailed as error:
                raise _not_here(cycle_id, error) from error


def _not_here(cycle_id: str, error: CheckFailed) -> Unavailable:
    """The package is not on this machine, or not whole: the house must cut it again (it logs this)."""
    return Unavailable(f"package of {cycle_id}: {error}")


def _lines(wanted: OwnFileRequest) -> Iterator[FileLine]:
    for number, line in enumerate(wanted.lines):
        try:
            day = line.at.astimezone(_BEIJING).date()
        except OverflowError:
            raise SchemaError(f"$.lines[{number}].at", "Expected an instant of our era") from None
        yield FileLine(
            place=f"$.lines[{number}]",
            order=line.order.lower(),
            reference=line.reference,
            day=day,
            amount_cu=int(line.amount_cu),
            units=None if line.units is None else int(line.units),
            counterparty=line.counterparty,
        )
