"""`tongdui serve`: database, writer and gateways as one service that looks after itself.

Order matters. Up: database, migrations, ledger, writer, packager, order workers and delivery workers, gateways. Down:
gateways finish the requests that they have, delivery workers the attempts that are under way, order workers what is
nearly done, the packager its package, the writer commits what it took, and the database stops. A
child that dies is started again; a writer that another one has fenced off is not, since the ledger is no longer ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from time import monotonic, time
from typing import IO, TYPE_CHECKING, Final

import click
import structlog

from exchange.cli.checks import reserve_port
from exchange.cli.context import (
    Home,
    Unusable,
    exclusive,
    keyring_of,
    run,
    this_home,
)
from exchange.cli.log import log_to
from exchange.cli.output import print_json
from exchange.cli.supervise import Child, ChildSpec, is_listening, is_socket_served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence

    from asyncpg import Pool

    from deploy.database.embedded import EmbeddedServer
    from exchange.gateway.run import Tls
    from exchange.service.sandbox_setup import Prepared

log = structlog.get_logger()

_PEM: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
DATABASE_LOOK_SECONDS: Final = 0.5
DSN_VARIABLE: Final = "TONGDUI_CHILD_DSN"


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
        writer = Child(spec=_writer_spec(home, environ, output))
        packager = Child(spec=_packager_spec(home, environ, output))
        numbers = range(1, order_workers + 1)
        workers = [
            Child(spec=_orders_spec(home, environ, output, number, sandbox=simulators))
            for number in numbers
        ]
        deliverers = [
            Child(
                spec=_delivery_spec(
                    home, environ, output, number, private=private_endpoints or sandbox
                )
            )
            for number in range(1, delivery_workers + 1)
        ]
        sockets = [home.orders_socket(number) for number in numbers]
        children = [
            Child(
                spec=_gateway_spec(
                    home,
                    environ,
                    output,
                    host=host,
                    port=port,
                    number=number,
                    orders=sockets,
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
        from deploy.database.embedded import EmbeddedServer, ServerUnavailable

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


def _writer_spec(home: Home, environ: Mapping[str, str], output: IO[bytes] | None) -> ChildSpec:
    from exchange.worker.writer import EXIT_FENCED

    path = str(home.writer_socket())

    async def is_ready(_: int) -> bool:
        return await is_socket_served(path)

    return ChildSpec(
        name="writer",
        module="exchange.worker.writer",
        arguments=(
            *("--dsn", f"env:{DSN_VARIABLE}"),
            *("--socket", path, "--keys", str(home.keys)),
        ),
        environ=environ,
        is_ready=is_ready,
        final_statuses=frozenset({EXIT_FENCED}),
        output=output,
    )


def _packager_spec(home: Home, environ: Mapping[str, str], output: IO[bytes] | None) -> ChildSpec:
    async def is_ready(_: int) -> bool:
        return True

    return ChildSpec(
        name="packager",
        module="exchange.worker.packager",
        arguments=(
            *("--dsn", f"env:{DSN_VARIABLE}"),
            *("--keys", str(home.keys), "--packages", str(home.packages)),
        ),
        environ=environ,
        is_ready=is_ready,
        output=output,
        # A package that is being written is finished first.
        stop_seconds=120.0,
    )


def _orders_spec(
    home: Home,
    environ: Mapping[str, str],
    output: IO[bytes] | None,
    number: int,
    *,
    sandbox: bool,
) -> ChildSpec:
    path = str(home.orders_socket(number))

    async def is_ready(_: int) -> bool:
        return await is_socket_served(path)

    return ChildSpec(
        name=f"order worker {number}",
        module="exchange.worker.orders",
        arguments=(
            *("--dsn", f"env:{DSN_VARIABLE}"),
            *("--writer", str(home.writer_socket()), "--socket", path),
            *("--keys", str(home.keys)),
            *(["--sandbox"] if sandbox else []),
        ),
        environ=environ,
        is_ready=is_ready,
        output=output,
    )


def _delivery_spec(
    home: Home,
    environ: Mapping[str, str],
    output: IO[bytes] | None,
    number: int,
    *,
    private: bool,
) -> ChildSpec:
    async def is_ready(_: int) -> bool:
        return True

    return ChildSpec(
        name=f"delivery worker {number}",
        module="exchange.worker.webhooks",
        arguments=(
            *("--dsn", f"env:{DSN_VARIABLE}"),
            *("--keys", str(home.keys), "--packages", str(home.packages)),
            *(["--private"] if private else []),
        ),
        environ=environ,
        is_ready=is_ready,
        output=output,
    )


def _gateway_spec(
    home: Home,
    environ: Mapping[str, str],
    output: IO[bytes] | None,
    *,
    host: str,
    port: int,
    number: int,
    orders: Sequence[Path],
    sandbox: bool,
    simulators: bool,
    private: bool,
    public_names: Sequence[str],
    tls: Tls | None,
) -> ChildSpec:
    async def is_ready(pid: int) -> bool:
        return await asyncio.to_thread(is_listening, pid, port)

    return ChildSpec(
        name=f"gateway {number}",
        module="exchange.cli.gateway",
        arguments=(
            *("--dsn", f"env:{DSN_VARIABLE}", "--socket", str(home.writer_socket())),
            *("--host", host, "--port", str(port), "--home", str(home.folder)),
            *(part for path in orders for part in ("--orders", str(path))),
            *(["--sandbox"] if sandbox else []),
            *(["--simulators"] if simulators else []),
            *(["--tls-cert", str(tls.cert), "--tls-key", str(tls.key)] if tls else []),
            *(["--tls-client-ca", str(tls.client_ca)] if tls and tls.client_ca else []),
            *(["--private-endpoints"] if private else []),
            *(part for name in public_names for part in ("--public-name", name)),
        ),
        environ=environ,
        is_ready=is_ready,
        output=output,
    )


# --- the command ---


def _read_names(
    context: click.Context, parameter: click.Parameter, names: tuple[str, ...]
) -> tuple[str, ...]:
    """Check that they are hosts, before any gateway does."""
    from exchange.signing.authority import PublicNames

    try:
        PublicNames(names)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None
    return names


def _own_names(host: str) -> tuple[str, ...]:
    """By what callers on this machine know it, and whoever it listens for by one address."""
    from exchange.signing.authority import LOOPBACK

    shown = f"[{host}]" if ":" in host else host
    return LOOPBACK if host in ("0.0.0.0", "::", "") else (*LOOPBACK, shown)  # noqa: S104 - compared, not bound


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="0 takes a free one.",
)
@click.option(
    "--gateways",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Gateway processes.",
)
@click.option(
    "--order-workers",
    type=click.IntRange(0, 64),
    default=1,
    show_default=True,
    help="Processes that drive orders between merchants' own systems.",
)
@click.option(
    "--delivery-workers",
    type=click.IntRange(0, 64),
    default=1,
    show_default=True,
    help="Processes that send events to merchants' endpoints.",
)
@click.option(
    "--private-endpoints",
    is_flag=True,
    help="Send webhooks into closed networks and over plain HTTP too; in a sandbox that is so anyway.",
)
@click.option(
    "--sandbox",
    is_flag=True,
    help="For integrators: every merchant is a simulator, with test members and a key; nothing is real, and API "
    "keys count.",
)
@click.option(
    "--no-simulators",
    is_flag=True,
    help="A sandbox of merchants that you register and connect yourself, such as their own test systems.",
)
@click.option(
    "--public-name",
    "public_names",
    multiple=True,
    metavar="HOST[:PORT]",
    callback=_read_names,
    help="A host under which callers know this house; signatures for others do not count. More than one may be named; "
    "this machine's own where none is.",
)
@click.option("--tls-cert", type=_PEM, help="Certificate chain: the gateways end TLS themselves.")
@click.option("--tls-key", type=_PEM, help="Its private key.")
@click.option(
    "--tls-client-ca",
    type=_PEM,
    help="Mutual TLS: callers must show a certificate of this authority.",
)
@click.option(
    "--caller-clock",
    is_flag=True,
    help="A new ledger takes its time from the callers: for replays, never for real business.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the line that says ready as JSON.")
def serve(
    *,
    host: str,
    port: int,
    gateways: int,
    order_workers: int,
    delivery_workers: int,
    private_endpoints: bool,
    sandbox: bool,
    no_simulators: bool,
    public_names: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    caller_clock: bool,
    as_json: bool,
) -> None:
    """Run the clearing house: database, writer and gateways.

    Uses the database that DATABASE_URL names, else a private one under TONGDUI_HOME. Ends on SIGTERM or Ctrl-C, after
    everything that was accepted is answered and durable.
    """
    home = this_home()
    log_to()
    if no_simulators and not sandbox:
        raise click.UsageError("--no-simulators goes with --sandbox")
    if sandbox and not no_simulators and (caller_clock or order_workers != 1):
        raise click.UsageError("a sandbox of simulators has one order worker, and its own clock")
    tls = _tls(tls_cert, tls_key, tls_client_ca)
    why = run(
        _serve(
            home,
            host,
            port,
            gateways,
            order_workers,
            delivery_workers,
            private_endpoints=private_endpoints,
            sandbox=sandbox,
            simulators=not no_simulators,
            public_names=public_names or _own_names(host),
            tls=tls,
            caller_clock=caller_clock,
            as_json=as_json,
        )
    )
    if why:
        raise Unusable(why)


def _tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
    """The certificates that were named, once they are known to be usable.

    Raises:
        Unusable: They are not; better said here than by every gateway.
    """
    from exchange.gateway.run import Tls

    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise click.UsageError("--tls-cert and --tls-key belong together")
    tls = Tls(cert=cert, key=key, client_ca=client_ca)
    try:
        tls.context()
    except OSError as error:
        raise Unusable(f"the certificates cannot be used: {error}") from error
    return tls


async def _serve(
    home: Home,
    host: str,
    port: int,
    gateways: int,
    order_workers: int,
    delivery_workers: int,
    *,
    private_endpoints: bool,
    sandbox: bool,
    simulators: bool,
    public_names: Sequence[str],
    tls: Tls | None,
    caller_clock: bool,
    as_json: bool,
) -> str | None:
    """Serve until told to stop; returns why it ended by itself, None when it was told."""
    began = monotonic()

    async def work() -> str:
        async with clearing_house(
            home,
            host=host,
            port=port,
            gateways=gateways,
            order_workers=order_workers,
            delivery_workers=delivery_workers,
            private_endpoints=private_endpoints,
            sandbox=sandbox,
            simulators=simulators,
            public_names=public_names,
            tls=tls,
            caller_clock=caller_clock,
            database_url=os.environ.get("DATABASE_URL") or None,
        ) as house:
            _say_ready(house, monotonic() - began, as_json=as_json, require_signatures=not sandbox)
            return await house.wait_ended()

    serving = asyncio.create_task(work(), name="serve")
    told = asyncio.Event()

    def stop() -> None:
        # Cancelled where it stands, starting or serving; what was started is stopped in order on the way out, which
        # a second signal must not cut short.
        if not told.is_set():
            told.set()
            log.info("serve.stopping")
            serving.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        return await serving
    except asyncio.CancelledError:
        log.info("serve.stopped")
        return None


def _say_ready(
    house: ClearingHouse, seconds: float, *, as_json: bool, require_signatures: bool
) -> None:
    """Print the one line that says ready, and the operator's key when it was just made."""
    if as_json:
        print_json(
            {
                "event": "ready",
                "url": house.url,
                "home": str(house.home.folder),
                "pid": os.getpid(),
                "writer_pid": house.writer.pid,
                "order_worker_pids": [worker.pid for worker in house.order_workers],
                "delivery_worker_pids": [worker.pid for worker in house.delivery_workers],
                "gateway_pids": [gateway.pid for gateway in house.gateways],
                "operator_key": house.operator_key if house.operator_key_is_new else None,
                "operator_key_file": str(house.home.operator_key),
                "operator_identity_file": str(house.home.operator_identity),
                "require_signatures": require_signatures,
                "sandbox_key": house.sandbox.api_key if house.sandbox else None,
                "seconds": round(seconds, 3),
            },
            one_line=True,
        )
        return
    if require_signatures:
        print(f"requests must be signed; the house's own key is {house.home.operator_identity}")
    elif house.operator_key_is_new:
        print(
            f"operator API key, shown this once and kept in {house.home.operator_key}: {house.operator_key}"
        )
    if house.sandbox:
        from exchange.service.sandbox_setup import MEMBERS, TILL

        print(
            f"sandbox: merchants {', '.join(house.sandbox.merchants)}; members {', '.join(MEMBERS)}; "
            f"API key of {TILL}'s till: {house.sandbox.api_key}"
        )
    database = f"PostgreSQL {house.server.version}" if house.server else "DATABASE_URL"
    print(
        f"tongdui ready on {house.url} in {seconds:.1f} s: "
        f"{len(house.gateways)} gateway{'s' if len(house.gateways) != 1 else ''}, one writer, {database}; "
        f"data in {house.home.folder}; Ctrl-C stops it",
        flush=True,
    )
