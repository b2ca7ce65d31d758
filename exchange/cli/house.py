"""A clearing house for the length of a block: database, writer, workers and gateways, which it looks after.

Order matters. Up: database, migrations, ledger, writer, packager, order workers and delivery workers, gateways. Down:
gateways finish the requests that they have, delivery workers the attempts that are under way, order workers what is
nearly done, the packager its package, the writer commits what it took, and the database stops. A
child that dies is started again; a writer that another one has fenced off is not, since the ledger is no longer ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from time import time
from typing import IO, TYPE_CHECKING, Final

import structlog

from exchange.cli.checks import reserve_port
from exchange.cli.context import Home, Unusable, exclusive, keyring_of
from exchange.cli.processes import DSN_VARIABLE, Processes
from exchange.cli.supervise import Child

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

    from asyncpg import Pool

    from deploy.database.embedded import EmbeddedServer
    from exchange.gateway.run import Tls
    from exchange.service.sandbox_setup import Prepared

log = structlog.get_logger()

DATABASE_LOOK_SECONDS: Final = 0.5


@dataclass(slots=True, kw_only=True)
class ClearingHouse:
    """A clearing house that runs.

    Attributes:
        home: Its folder.
        url: Where its gateways listen.
        dsn: Its database.
        server: The private PostgreSQL server, if it is one.
        writer: The writer process.
        packager: The process that cuts packages.
        order_workers: The processes that drive orders between merchants' own systems.
        delivery_workers: The processes that tell endpoints of events.
        gateways: The gateway processes.
        operator_key: API key of the operator.
        operator_key_is_new: Whether this start made it.
        sandbox: What a sandbox offers; None for a clearing house in earnest.
    """

    home: Home
    url: str
    dsn: str
    server: EmbeddedServer | None
    writer: Child
    packager: Child
    order_workers: list[Child]
    delivery_workers: list[Child]
    gateways: list[Child]
    operator_key: str
    operator_key_is_new: bool
    sandbox: Prepared | None = None

    async def wait_ended(self) -> str:
        """Wait until a child ends for good; returns why."""
        everybody = (
            *(self.writer, self.packager),
            *(*self.order_workers, *self.delivery_workers, *self.gateways),
        )
        children = {child.ended: child for child in everybody}
        done, _ = await asyncio.wait(children, return_when=asyncio.FIRST_COMPLETED)
        ended = done.pop()
        return f"the {children[ended].spec.name} is gone: {ended.result()}"


@asynccontextmanager
async def clearing_house(
    home: Home,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    gateways: int = 1,
    order_workers: int = 0,
    delivery_workers: int = 0,
    sandbox: bool = False,
    simulators: bool = True,
    private_endpoints: bool = False,
    public_names: Sequence[str] = (),
    tls: Tls | None = None,
    caller_clock: bool = False,
    database_url: str | None = None,
    output: IO[bytes] | None = None,
) -> AsyncIterator[ClearingHouse]:
    """Run a clearing house for the length of the block.

    Args:
        home: Its folder; made if it is missing.
        host: Address to listen on.
        port: TCP port; 0 takes any free one.
        gateways: How many gateway processes share the port.
        order_workers: How many processes drive orders between merchants' own systems.
        delivery_workers: How many processes tell endpoints of events.
        sandbox: Nothing is real, so API keys count as signatures do; a ledger that has merchants does not become one.
        simulators: In a sandbox, whether every merchant's system is a simulator, in the one order worker.
        private_endpoints: Webhooks may go to closed networks and over plain HTTP; in a sandbox they may.
        public_names: Hosts for which a signature counts; those of this machine where none is named.
        tls: Certificates of the gateways; None for plain HTTP.
        caller_clock: A ledger that is made now takes its time from the callers (replay, demo).
        database_url: The database; None for the private server.
        output: Where the children's output goes; standard error if None.

    Raises:
        Unusable: Something that is needed cannot be had; the message says what.
    """
    home.make()
    busy = f"`tongdui serve` runs on {home.folder} already (process {{pid}}); stop it first, or set TONGDUI_HOME"
    async with AsyncExitStack() as stack:
        stack.enter_context(exclusive(home.serve_lock, busy=busy))
        held = stack.enter_context(contextlib.closing(reserve_port(host, port)))
        port = int(held.getsockname()[1])
        database = _Database(home, database_url)
        stack.push_async_callback(asyncio.to_thread, database.stop)
        await _whole(asyncio.to_thread(database.start))
        operator_key, is_new = await _prepare(home, database.dsn, caller_clock=caller_clock)
        simulators = sandbox and simulators
        prepared = await _check_sandbox(home, database.dsn, sandbox=sandbox, simulators=simulators)
        environ = os.environ | {
            "TONGDUI_HOME": str(home.folder),
            DSN_VARIABLE: database.dsn,
            "PYTHONUNBUFFERED": "1",
        }
        processes = Processes(home=home, environ=environ, output=output)
        writer = Child(spec=processes.writer())
        packager = Child(spec=processes.packager())
        numbers = range(1, order_workers + 1)
        workers = [
            Child(spec=processes.order_worker(number, sandbox=simulators)) for number in numbers
        ]
        deliverers = [
            Child(spec=processes.delivery_worker(number, private=private_endpoints or sandbox))
            for number in range(1, delivery_workers + 1)
        ]
        children = [
            Child(
                spec=processes.gateway(
                    number,
                    host=host,
                    port=port,
                    orders=[home.orders_socket(each) for each in numbers],
                    sandbox=sandbox,
                    simulators=simulators,
                    private=private_endpoints,
                    public_names=public_names,
                    tls=tls,
                )
            )
            for number in range(1, gateways + 1)
        ]
        stack.push_async_callback(writer.stop)
        stack.push_async_callback(packager.stop)
        stack.push_async_callback(_stop_all, workers)
        stack.push_async_callback(_stop_all, deliverers)
        stack.push_async_callback(_stop_all, children)
        # A gateway waits for the writer before it listens, so all may start at once.
        everybody = (packager, *workers, *deliverers, *children)
        await asyncio.gather(_start_writer(writer), *(child.start() for child in everybody))
        keeper = asyncio.create_task(database.keep(), name="keep database")
        stack.push_async_callback(_cancel, keeper)
        yield ClearingHouse(
            home=home,
            url=f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}",
            dsn=database.dsn,
            server=database.server,
            writer=writer,
            packager=packager,
            order_workers=workers,
            delivery_workers=deliverers,
            gateways=children,
            operator_key=operator_key,
            operator_key_is_new=is_new,
            sandbox=prepared,
        )


async def _start_writer(writer: Child) -> None:
    """Start it, and wait until a signature of now counts: in the second in which it began, none does."""
    await writer.start()
    ready_at = time()
    await asyncio.sleep(ceil(ready_at) - ready_at)


async def _whole(work: Coroutine[object, object, None]) -> None:
    """Wait for work that must not be left half done, also when we are told to stop meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def _stop_all(children: list[Child]) -> None:
    await asyncio.gather(*(child.stop() for child in children))


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class _Database:
    """The database of a clearing house: somebody's server, or a private one that is kept running."""

    def __init__(self, home: Home, url: str | None) -> None:
        self._home = home
        self._url = url
        self.server: EmbeddedServer | None = None

    @property
    def dsn(self) -> str:
        """Connection string."""
        if self._url is not None:
            return self._url
        if self.server is None:
            raise ValueError("the database was not started")
        return self.server.dsn()

    def start(self) -> None:
        """Start or join the private server."""
        if self._url is None:
            from deploy.database.embedded import EmbeddedServer

            self.server = EmbeddedServer(self._home.database).start()

    def stop(self) -> None:
        """Let go of it; the last user stops it."""
        if self.server is not None:
            self.server.close()

    async def keep(self) -> None:
        """Start the private server again whenever it is gone."""
        from deploy.database.binaries import ServerUnavailable
        from deploy.database.embedded import EmbeddedServer

        while self.server is not None:
            await asyncio.sleep(DATABASE_LOOK_SECONDS)
            try:
                _ = self.server.pid
            except ServerUnavailable:
                log.warning("database.ended")
                before = self.server
                try:
                    self.server = await asyncio.to_thread(EmbeddedServer(self._home.database).start)
                except ServerUnavailable as error:
                    log.warning("database.not_started", detail=str(error))
                    continue
                await asyncio.to_thread(before.close)
                log.info("database.started_again")


async def _prepare(home: Home, dsn: str, *, caller_clock: bool) -> tuple[str, bool]:
    """Bring the database up to date, and make ledger, keys and the operator's access where they are missing."""
    from deploy.database.migrate import migrate
    from exchange.cli.context import pool_of
    from exchange.service.access import operator_key
    from exchange.service.key_notes import note_keys
    from exchange.service.webhook_keys import open_webhook_keys
    from settlement.core.trail import PROGRAM
    from settlement.service.ledger import open_ledger

    await migrate(dsn)
    keyring = keyring_of(home, make=True)
    async with pool_of(dsn) as pool:
        async with pool.acquire() as connection:
            await open_ledger(connection, caller_clock=caller_clock)
        now = datetime.now(UTC)
        for each in (keyring, open_webhook_keys(home.keys, now=now)):
            await note_keys(pool, each, by=PROGRAM, now=now)
        await _register_operator(home, pool)
        is_new = not home.operator_key.exists()
        return await operator_key(pool, home.folder, now=datetime.now(UTC)), is_new


async def _register_operator(home: Home, pool: Pool) -> None:
    """Have a key with which the command line signs for the house, and register it where it is not yet."""
    from exchange.client.identity import load_identity, make_identity
    from exchange.service.signing_keys import KeyDesk
    from exchange.store.signing_keys import fetch_signing_key
    from schemas.values.ids import HOUSE
    from settlement.core.trail import PROGRAM

    path = home.operator_identity
    identity = load_identity(path) if path.exists() else make_identity(path)
    if await fetch_signing_key(pool, key_id=identity.key_id) is None:
        await KeyDesk(pool, None).register(
            identity.csr("HOUSE"),
            caller=HOUSE,
            codes={},
            label="operator",
            overlap_hours=None,
            by=PROGRAM,
            now=datetime.now(UTC),
        )


async def _check_sandbox(
    home: Home, dsn: str, *, sandbox: bool, simulators: bool
) -> Prepared | None:
    """Keep sandboxes and real ledgers apart; prepare a sandbox of simulators.

    Raises:
        Unusable: The ledger is not of the kind that is wanted.
    """
    from exchange.cli.context import own_writer, pool_of
    from exchange.service.sandbox_setup import is_empty, prepare_sandbox
    from exchange.service.vaults import VaultDoor

    marker = home.folder / "sandbox"
    if not sandbox:
        if marker.exists():
            raise Unusable(f"{home.folder} is a sandbox: start it with --sandbox")
        return None
    async with pool_of(dsn) as pool:
        if not marker.exists() and not await is_empty(pool):
            raise Unusable(
                f"the ledger of {home.folder} has merchants of its own and is no sandbox; "
                "name another folder in TONGDUI_HOME"
            )
        marker.touch()
        if not simulators:
            return None
        async with own_writer(dsn) as clearing:
            door = VaultDoor(pool, home.keys)
            return await prepare_sandbox(pool, clearing, door, now=datetime.now(UTC))
