"""The packager process: cuts the signed package of every cycle that has closed, in order.

python -m exchange.worker.packager --dsn DSN --keys FOLDER --packages FOLDER [--orders-only]

It stands beside the writer, not in it: a package of a million lines takes seconds, and no order may wait for it. A
cycle whose folder is missing is cut, be it for the first time or again; cutting again writes the same bytes. So it
may be killed anywhere, and a second one beside it does no harm. Once a day it removes personal data whose time is over.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from deploy.database.connection import open_pool
from exchange.service.outage import is_outage
from exchange.worker.daily import keep_retaining
from schemas.values.reason import Refusal
from settlement.service import cycles, ledger
from settlement.service.batches import BooksDiffer, cut_batch
from settlement.service.package_folder import PackageDiffers
from settlement.signing.keyring import Keyring
from settlement.signing.signer import KeyUnusable

if TYPE_CHECKING:
    from asyncpg import Pool

log = structlog.get_logger()

LOOK_SECONDS = 0.25
PATIENCE_SECONDS = 15.0
"""How long it waits after a fault that a person must mend."""
_FOR_PEOPLE = (BooksDiffer, PackageDiffers, KeyUnusable, PermissionError)


async def cut_missing(
    pool: Pool,
    *,
    keys: Path,
    packages: Path,
    orders_only: bool = False,
    stop: asyncio.Event | None = None,
) -> bool:
    """Cut every closed cycle whose package does not stand, in the order in which they closed.

    Args:
        pool: The books.
        keys: Folder of the operator's keys; opened anew, so that a rotation counts at once.
        packages: Folder of all packages.
        orders_only: Pass over settled cycles in which no order was attempted, as a replay does.
        stop: When set, no further package is begun.

    Returns:
        Whether the package of every closed cycle stands now.

    Raises:
        KeyUnusable: No key can sign.
        BooksDiffer: The books disagree with themselves.
        PackageDiffers: Something else stands where a package should.
    """
    closed = [row for row in await cycles.list_cycles(pool) if row["state"] != "open"]
    for row in sorted(closed, key=itemgetter("last_seq")):
        if (packages / row["cycle_id"]).exists():
            continue
        if stop is not None and stop.is_set():
            return False
        if orders_only and not await ledger.had_orders(pool, cycle_no=row["cycle_no"]):
            continue
        batch = await cut_batch(
            pool, cycle_no=row["cycle_no"], keyring=Keyring.open(keys), out=packages
        )
        if isinstance(batch, Refusal):
            log.warning("package.refused", cycle_id=row["cycle_id"], detail=batch.detail)
            return False
        log.info("package.written", cycle_id=batch.cycle_id, orders=batch.orders, again=batch.again)
    return True


async def run_packager(
    *,
    dsn: str,
    keys: Path,
    packages: Path,
    orders_only: bool = False,
    stop: asyncio.Event | None = None,
) -> None:
    """Cut until asked to stop; SIGTERM and SIGINT ask, and a package that is being written is finished first."""
    stop = stop or asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    pool = await open_pool(dsn, size=2)
    daily = None if orders_only else asyncio.create_task(keep_retaining(pool), name="daily")
    cut_up_to = (
        0  # every close opens another cycle, so a newer one says that there is something to cut
    )
    try:
        while not stop.is_set():
            wait_seconds = LOOK_SECONDS
            try:
                opened = await cycles.newest_cycle(pool)
                if opened > cut_up_to:
                    if await cut_missing(
                        pool, keys=keys, packages=packages, orders_only=orders_only, stop=stop
                    ):
                        cut_up_to = opened
                    else:
                        wait_seconds = PATIENCE_SECONDS
            except _FOR_PEOPLE as error:
                log.error("package.failed", error=type(error).__name__, detail=str(error))  # noqa: TRY400 - a state, no fault of ours
                wait_seconds = PATIENCE_SECONDS
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("packager.waits", detail=str(error))
                wait_seconds = 1.0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await stop.wait()
    finally:
        if daily is not None:
            daily.cancel()
            await asyncio.gather(daily, return_exceptions=True)
        await pool.close()


def main() -> None:
    """Run as a process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--keys", required=True, type=Path)
    parser.add_argument("--packages", required=True, type=Path)
    parser.add_argument("--orders-only", action="store_true")
    arguments = parser.parse_args()
    asyncio.run(
        run_packager(
            dsn=arguments.dsn,
            keys=arguments.keys,
            packages=arguments.packages,
            orders_only=arguments.orders_only,
        )
    )
    sys.exit(0)


if __name__ == "__main__":
    main()
