"""One gateway process, from its first connection to its graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from deploy.database.connection import open_pool
from exchange.gateway.app import create_app
from exchange.gateway.gate import GATE
from exchange.gateway.lane import IDLE_SECONDS, Lanes
from exchange.gateway.services import make_services, wall_us
from exchange.service.access import operator_key
from exchange.service.order_link import OrderLink
from exchange.signing.authority import LOOPBACK
from settlement.service.link import RemoteClearing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

log = structlog.get_logger()

POOL_CONNECTIONS: Final = 4
WRITER_WAIT_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0
"""How long requests in flight may take to end; none should need a tenth of it."""
BACKLOG: Final = 1024
LINGER_SECONDS: Final = 1.0
"""How long the rest of a body that was answered early is still read, so that the answer arrives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Certificates of a gateway that ends TLS itself.

    Attributes:
        cert: Its certificate and what leads from it to a root (PEM).
        key: The private key (PEM).
        client_ca: Whose certificates callers must show (mutual TLS); None for any caller.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """What the sockets use.

        Raises:
            OSError: A file cannot be used.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.client_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.cert, self.key)
        if self.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context


async def run_gateway(
    *,
    dsn: str,
    socket_path: Path,
    host: str,
    port: int,
    home: Path,
    order_paths: Sequence[Path] = (),
    sandbox: bool = False,
    simulators: bool = False,
    private_endpoints: bool = False,
    public_names: Sequence[str] = LOOPBACK,
    tls: Tls | None = None,
    reuse_port: bool = True,
    stop: asyncio.Event | None = None,
    ready: Callable[[int], None] = lambda _: None,
) -> None:
    """Serve until told to stop (SIGTERM, SIGINT or `stop`), then finish what is in flight.

    Args:
        dsn: The migrated database.
        socket_path: The writer's socket.
        host: Address to listen on.
        port: Port to listen on; 0 for any.
        home: The installation's folder: keys, packages, the operator's API key.
        order_paths: Sockets of the order workers; without one, no order between merchants' own systems is taken.
        sandbox: Whether nothing is real: API keys count, and webhooks may go to closed networks.
        simulators: Whether merchants' systems are simulators, so that tills may wish for faults.
        private_endpoints: Whether webhooks may go to closed networks.
        public_names: Hosts for which a signature counts here, as callers send them in `Host`.
        tls: Certificates; None for plain HTTP, behind a proxy that ends TLS.
        reuse_port: Whether other gateway processes listen on the same port.
        stop: Ends the gateway when it is set; signals do too.
        ready: Called with the port once connections are accepted.

    Raises:
        Unavailable: The writer does not answer.
        OSError: A certificate or key cannot be used.
    """
    context = None if tls is None else tls.context()
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Outside the main thread there are no signals; then the event alone ends it.
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(number, stop.set)
    pool = await open_pool(dsn, size=POOL_CONNECTIONS)
    try:
        clearing = RemoteClearing(socket_path)
        await clearing.start(wait_seconds=WRITER_WAIT_SECONDS)
        try:
            link = OrderLink(order_paths, now_us=wall_us)
            services = make_services(
                pool=pool,
                clearing=clearing,
                nonces=clearing,
                home=home,
                order_link=link,
                api_keys=sandbox,
                simulators=simulators,
                private_endpoints=private_endpoints or sandbox,
                public_names=public_names,
            )
            await operator_key(pool, home, now=services.now())
            await services.proposals.finish()
            app = create_app(services)
            async with (
                link.opened(),
                serve(app, host=host, port=port, reuse_port=reuse_port, tls=context) as bound,
            ):
                ready(bound)
                log.info("gateway.started", host=host, port=bound)
                await stop.wait()
            log.info("gateway.stopped", port=bound)
        finally:
            await clearing.stop()
    finally:
        await pool.close()


@contextlib.asynccontextmanager
async def serve(
    app: web.Application,
    *,
    host: str,
    port: int,
    reuse_port: bool = False,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """Listen for the block; at its end accept nothing new and let what is in flight finish.

    Yields:
        The port.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=STOP_SECONDS,
        keepalive_timeout=IDLE_SECONDS,
        lingering_time=LINGER_SECONDS,
    )
    await runner.setup()
    assert runner.server is not None
    gate = app[GATE]
    lanes = Lanes(gate, runner.server)
    try:
        listener = await asyncio.get_running_loop().create_server(
            lanes, host, port, reuse_port=reuse_port, backlog=BACKLOG, ssl=tls
        )
        try:
            yield int(listener.sockets[0].getsockname()[1])
        finally:
            gate.stopping = True
            gate.services.feed.stop()
            listener.close()
            await lanes.stop(STOP_SECONDS)
    finally:
        await runner.cleanup()
