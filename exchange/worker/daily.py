"""What is done once a day, beside the packager: the retention run."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog

from exchange.service.retention import run_retention
from settlement.core.trail import PROGRAM

if TYPE_CHECKING:
    from asyncpg import Pool

log = structlog.get_logger()

FIRST_SECONDS: Final = 600.0
"""How long after the start the first run is; the start has enough to do."""
DAY_SECONDS: Final = 86_400.0


async def keep_retaining(
    pool: Pool, *, first_seconds: float = FIRST_SECONDS, every_seconds: float = DAY_SECONDS
) -> None:
    """Run until cancelled; a run that fails is told, and goes on with the next one.

    Args:
        pool: The database.
        first_seconds: When the first run is, from now.
        every_seconds: From one run to the next.
    """
    wait_seconds = first_seconds
    while True:
        await asyncio.sleep(wait_seconds)
        wait_seconds = every_seconds
        try:
            removed = await run_retention(pool, by=PROGRAM, now=datetime.now(UTC))
        except Exception as error:  # noqa: BLE001 - whatever it was, packages must be cut, and tomorrow is another run
            log.warning("retention.failed", error=type(error).__name__)
        else:
            log.info("retention.done", **removed)
