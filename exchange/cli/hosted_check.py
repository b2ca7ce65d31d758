"""Trying hosted programmes against the contract: a private server and a writer of its own, removed afterwards."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final

import structlog

from deploy.database.connection import open_pool, open_writer_connection
from deploy.database.ephemeral import ephemeral_server
from deploy.database.migrate import migrate
from exchange.cli.log import log_to
from exchange.programme.service.rider import ProgrammeRider
from exchange.service.hosted_trial import Proving
from settlement.service.clearing import Writer
from settlement.service.ledger import open_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from structlog.typing import EventDict

    from adapters.kit.conformance.examination import Finding

DEBUG: Final = 10


def check_hosted(*, only: Sequence[str], done: Callable[[], None]) -> list[Finding]:
    """Try every clause on hosted programmes of a ledger that is made for it.

    Args:
        only: Ids of the clauses to try; all if empty.
        done: Called as each clause ends.

    Raises:
        ServerUnavailable: There is no PostgreSQL that could be started here.
    """
    log_to(level=DEBUG)
    # Dropped here and not by level, since one clause listens to everything that is logged.
    structlog.configure(processors=[_grave_only, *structlog.get_config()["processors"]])
    with ephemeral_server() as server:
        return asyncio.run(_check(server.create_database("trial"), only, done))


def _grave_only(_: object, method: str, event: EventDict) -> EventDict:
    """Let nothing through that is said every day."""
    if method in ("debug", "info"):
        raise structlog.DropEvent
    return event


async def _check(dsn: str, only: Sequence[str], done: Callable[[], None]) -> list[Finding]:
    await migrate(dsn)
    pool = await open_pool(dsn, size=8)
    writer = Writer(
        connect=lambda: open_writer_connection(dsn), now_us=now_us, rider=ProgrammeRider()
    )
    try:
        async with pool.acquire() as conn:
            await open_ledger(conn, caller_clock=False)
        await writer.start()
        proving = Proving(pool, writer, now_us=now_us, random=random.SystemRandom())
        return await proving.examine(only=only, done=done)
    finally:
        await writer.stop()
        await pool.close()


def now_us() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000
