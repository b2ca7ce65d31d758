"""The writer process: takes the partition over, serves gateways on its socket, keeps the timers.

python -m exchange.worker.writer --dsn DSN --socket PATH [--keys FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from pathlib import Path

import structlog

from deploy.database.connection import open_pool, open_writer_connection
from exchange.programme.core.command import AnyCommand
from exchange.programme.service.expiry import lapse_expired_lots
from exchange.programme.service.rider import ProgrammeRider
from exchange.service.collector import collect_seldom
from exchange.service.vaults import VaultDoor
from exchange.vault.master import MasterKeyUnusable
from schemas.values.faults import Unavailable
from settlement.service.clearing import Fenced, Writer
from settlement.service.link import LinkServer
from settlement.service.nonces import LocalNonces
from settlement.worker.timers import run_timers

log = structlog.get_logger()

EXIT_FENCED = 3
"""Another writer has taken over; whoever supervises must not start this one again at once."""


def now_us() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


async def run_writer(
    *, dsn: str, socket_path: Path, keys: Path | None = None, stop: asyncio.Event | None = None
) -> int:
    """Write until asked to stop or until another writer takes over.

    Args:
        dsn: The migrated database.
        socket_path: Where gateways connect.
        keys: Folder of the master key, where none is named; None for a ledger without requests of before there was one.
        stop: Set to stop; SIGTERM and SIGINT set it too.

    Returns:
        Exit status of the process.
    """
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    writer = Writer(
        connect=lambda: open_writer_connection(dsn), now_us=now_us, rider=ProgrammeRider()
    )
    await _start(writer)
    pool = await open_pool(dsn, size=2)
    if keys is not None:
        await _know_old_requests(writer, VaultDoor(pool, keys))
    server = LinkServer(writer, socket_path, AnyCommand, LocalNonces(now_us))
    await server.start()
    timers = asyncio.create_task(run_timers(pool, writer, now_us, [lapse_expired_lots]))
    ended = asyncio.create_task(writer.wait_ended())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({ended, stopping, timers}, return_when=asyncio.FIRST_COMPLETED)
        for task in (ended, timers):
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error
    except Fenced as fenced:
        log.warning("writer.fenced", detail=str(fenced))
        return EXIT_FENCED
    finally:
        timers.cancel()
        ended.cancel()
        stopping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await timers
        await writer.stop()
        await server.stop()
        await pool.close()
    log.info("writer.stopped", epoch=writer.epoch)
    return 0


async def _start(writer: Writer, *, patience_seconds: float = 30.0) -> None:
    """Take over, waiting a while for a database that is still recovering."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            await writer.start()
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


async def _know_old_requests(writer: Writer, door: VaultDoor) -> None:
    """Have repeats recognised of requests whose digests were stored before they had a key.

    Without the vault gateways take no orders either; what is under way must end all the same.
    """
    try:
        await door.vault()
    except MasterKeyUnusable as error:
        log.warning("writer.vault_closed", detail=str(error))
    writer.same = door.same_request


def main() -> None:
    """Run as a process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--socket", required=True, type=Path)
    parser.add_argument("--keys", type=Path)
    arguments = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        runner = asyncio.run
    else:
        runner = uvloop.run
    collect_seldom()
    sys.exit(
        runner(run_writer(dsn=arguments.dsn, socket_path=arguments.socket, keys=arguments.keys))
    )


if __name__ == "__main__":
    main()
