"""What happens by the clock: cut-offs, the expiry of holds, and the runs of other packages.

A timer only submits commands, so a second one beside it, or one that was killed, changes nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from schemas.values.faults import Unavailable
from schemas.values.ids import HOUSE, new_uuid7
from settlement.core.command import ExpireHolds
from settlement.service.cycles import close_if_due

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from asyncpg import Pool

    from settlement.service.clearing import Clearing

log = structlog.get_logger()

TICK_SECONDS = 1.0
HOURLY_TICKS = 3600


async def run_timers(
    pool: Pool,
    clearing: Clearing,
    now_us: Callable[[], int],
    hourly: Sequence[Callable[[Clearing, int], Awaitable[None]]] = (),
) -> None:
    """Tick once a second until cancelled; a database or writer that is away is waited for.

    Args:
        pool: Connections to read the cut-off with.
        clearing: The writer.
        now_us: Microseconds since 1970.
        hourly: Runs of other packages, called with the writer and the instant.
    """
    tick = 0
    while True:
        try:
            at_us = now_us()
            await close_if_due(pool, clearing, datetime.fromtimestamp(at_us / 1_000_000, UTC))
            await expire_holds(clearing)
            if tick % HOURLY_TICKS == 0:
                for run in hourly:
                    await run(clearing, at_us)
        except (Unavailable, OSError) as error:
            log.warning("timer.waits", detail=str(error))
        except Exception as error:  # noqa: BLE001 - asyncpg's errors share no base with OSError; a timer must not die of one
            log.warning("timer.failed", error=type(error).__name__, detail=str(error))
        tick += 1
        await asyncio.sleep(TICK_SECONDS)


async def expire_holds(clearing: Clearing) -> int:
    """End the holds whose time has come; returns how many."""
    [answer] = await clearing.submit(
        [
            ExpireHolds(
                caller=HOUSE, key=new_uuid7(secrets.randbits, time.time_ns).bytes, body=bytes(16)
            )
        ]
    )
    return len(answer)
