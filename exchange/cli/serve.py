"""`tongdui serve`: a clearing house until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

import click
import structlog

from exchange.cli.context import Home, Unusable, run, this_home
from exchange.cli.house import ClearingHouse, clearing_house
from exchange.cli.log import log_to
from exchange.cli.output import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.gateway.run import Tls

log = structlog.get_logger()

_PEM: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


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
