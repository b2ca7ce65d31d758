"""A delivery worker: tells endpoints of events, and writes the notices that follow from figures.

python -m exchange.worker.webhooks --dsn DSN --keys FOLDER --packages FOLDER [--private]

It stands beside everything else and reads: a slow or dead endpoint costs clearing nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from deploy.database.connection import open_pool
from exchange.service.feed import LOOK_SECONDS, Feed
from exchange.service.notices import write_notices
from exchange.service.outage import is_outage
from exchange.service.postman import LEASE_SECONDS, Postman
from exchange.service.shelf import Shelf
from exchange.service.webhook_keys import WebhookSigners
from exchange.service.webhook_sender import TOTAL_SECONDS, WebhookSender

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncpg import Pool

log = structlog.get_logger()

POOL_CONNECTIONS: Final = 4
NOTICE_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 1.0


def now_us() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


async def run_webhooks(
    *,
    dsn: str,
    keys: Path,
    packages: Path,
    private: bool = False,
    lease_seconds: float = LEASE_SECONDS,
    look_seconds: float = LOOK_SECONDS,
    clock_us: Callable[[], int] = now_us,
    stop: asyncio.Event | None = None,
) -> None:
    """Deliver until asked to stop; SIGTERM and SIGINT ask, and attempts that are under way are finished first.

    Args:
        dsn: The migrated database.
        keys: The installation's folder of keys.
        packages: Folder of the settlement packages.
        private: Whether endpoints may be in closed networks and speak plain HTTP, as in a sandbox.
        lease_seconds: How long other workers wait before they take over what this one serves.
        look_seconds: How often it looks for what is new.
        clock_us: Clock, microseconds since 1970.
        stop: Set to stop.
    """
    stop = stop or asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Outside the main thread there are no signals; then the event alone ends it.
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    pool = await open_pool(dsn, size=POOL_CONNECTIONS)
    sender = WebhookSender(private=private)
    shelf = Shelf(pool)
    postman = Postman(
        pool,
        feed=Feed(pool),
        shelf=shelf,
        sender=sender,
        signers=WebhookSigners(keys),
        now_us=clock_us,
        random=random.SystemRandom(),
        lease_seconds=lease_seconds,
    )
    log.info("webhooks.started")
    noticing = asyncio.create_task(_keep_noticing(pool, shelf, packages, clock_us), name="notices")
    try:
        while not stop.is_set():
            wait_seconds = look_seconds
            try:
                await postman.look()
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("webhooks.wait", detail=type(error).__name__)
                wait_seconds = PATIENCE_SECONDS
            if noticing.done():
                # A fault of ours: the supervisor starts the process again.
                noticing.result()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await stop.wait()
    finally:
        noticing.cancel()
        await asyncio.gather(noticing, return_exceptions=True)
        await postman.stop(seconds=TOTAL_SECONDS)
        await sender.close()
        await pool.close()
    log.info("webhooks.stopped")


async def _keep_noticing(
    pool: Pool, shelf: Shelf, packages: Path, clock_us: Callable[[], int]
) -> None:
    while True:
        try:
            now = datetime.fromtimestamp(clock_us() / 1_000_000, UTC)
            await write_notices(pool, shelf=shelf, packages=packages, now=now)
        except Exception as error:
            if not is_outage(error):
                raise
            log.warning("notices.wait", detail=type(error).__name__)
        await asyncio.sleep(NOTICE_SECONDS)


def main() -> None:
    """Run as a process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--keys", required=True, type=Path)
    parser.add_argument("--packages", required=True, type=Path)
    parser.add_argument("--private", action="store_true")
    arguments = parser.parse_args()
    asyncio.run(
        run_webhooks(
            dsn=arguments.dsn,
            keys=arguments.keys,
            packages=arguments.packages,
            private=arguments.private,
        )
    )
    sys.exit(0)


if __name__ == "__main__":
    main()
