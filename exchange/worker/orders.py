"""An order worker: drives orders between merchants' own systems, for gateways that ask on its socket.

python -m exchange.worker.orders --dsn DSN --writer SOCKET --socket SOCKET --keys FOLDER [--sandbox]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from adapters.kit.figures import CallFigures
from deploy.database.connection import open_direct_pool
from exchange.service.collector import collect_seldom
from exchange.service.connections import Connections
from exchange.service.hosted import hosting
from exchange.service.hosted_database import DatabaseRecords
from exchange.service.journey_database import DatabaseJourneys
from exchange.service.journeys import ESCALATE_SECONDS, LEASE_SECONDS, Connected, Journeys
from exchange.service.sandbox import Town
from exchange.service.vaults import VaultDoor
from exchange.worker.orders_app import make_app
from exchange.worker.orders_figures import watch
from schemas.values.faults import Unavailable
from settlement.service.link import RemoteClearing

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger()

POOL_CONNECTIONS: Final = 4
PATIENCE_SECONDS: Final = 30.0


def now_us() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


async def run_orders(
    *,
    dsn: str,
    writer_path: Path,
    socket_path: Path,
    keys: Path,
    lease_seconds: float = LEASE_SECONDS,
    escalate_seconds: float = ESCALATE_SECONDS,
    sandbox: bool = False,
    stop: asyncio.Event | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Drive orders until asked to stop.

    Args:
        dsn: The migrated database.
        writer_path: The writer's socket.
        socket_path: Where gateways connect; whatever lies there is replaced.
        keys: Folder of the master key, where none is named.
        lease_seconds: How long other workers wait before they take over what this one drives.
        escalate_seconds: How long a call may stay unresolved before people are asked.
        sandbox: Whether each merchant's system is a simulator in this process.
        stop: Set to stop; SIGTERM and SIGINT set it too.
        ready: Called once orders are accepted.

    Raises:
        Unavailable: The writer or the database does not answer.
        MasterKeyUnusable: The vault cannot be opened.
    """
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    figures = CallFigures()
    merchants: dict[int, Connected] = {}
    pool = await open_direct_pool(dsn, size=POOL_CONNECTIONS)
    clearing = RemoteClearing(writer_path)
    door = VaultDoor(pool, keys)
    town = Town(now_us) if sandbox else None
    journeys = Journeys(
        store=DatabaseJourneys(pool),
        clearing=clearing,
        merchants=merchants,
        now_us=now_us,
        random=random.SystemRandom(),
        lease_seconds=lease_seconds,
        escalate_seconds=escalate_seconds,
        wished=town.plan.wish if town else None,
        same=door.same_request,
    )
    watch(figures.registry, journeys)
    connections = Connections(
        pool,
        merchants,
        answers_of=journeys.answers_of,
        now_us=now_us,
        figures=figures,
        place=town.place if town else None,
        host=hosting(
            clearing,
            DatabaseRecords(pool, now_us=now_us),
            now_us=now_us,
            random_bits=secrets.randbits,
            figures=figures,
        ),
    )
    runner = web.AppRunner(
        make_app(journeys, merchants, figures.registry), access_log=None, handle_signals=False
    )
    try:
        await clearing.start(wait_seconds=PATIENCE_SECONDS)
        await door.vault()
        await connections.start()
        await _start(journeys)
        await runner.setup()
        await _listen(runner, socket_path)
        ready()
        log.info("orders.started", merchants=len(merchants))
        await stop.wait()
    finally:
        # Answer what is nearly done; what is left, another worker or the next start takes over.
        await journeys.stop()
        await runner.cleanup()
        await connections.stop()
        if town:
            await town.close()
        await clearing.stop()
        await pool.close()
    log.info("orders.stopped")


async def _start(journeys: Journeys) -> None:
    """Enter, waiting a while for a database that is still recovering."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            await journeys.start()
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


async def _listen(runner: web.AppRunner, path: Path) -> None:
    """Bind beside the socket's place and move it there, so that nobody finds half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    await web.UnixSite(runner, str(fresh)).start()
    fresh.chmod(0o600)
    fresh.replace(path)


def main() -> None:
    """Run as a process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--writer", required=True, type=Path)
    parser.add_argument("--socket", required=True, type=Path)
    parser.add_argument("--keys", required=True, type=Path)
    parser.add_argument("--sandbox", action="store_true")
    arguments = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        runner = asyncio.run
    else:
        runner = uvloop.run
    collect_seldom()
    runner(
        run_orders(
            dsn=arguments.dsn,
            writer_path=arguments.writer,
            socket_path=arguments.socket,
            keys=arguments.keys,
            sandbox=arguments.sandbox,
        )
    )
    sys.exit(0)


if __name__ == "__main__":
    main()
