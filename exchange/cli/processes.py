"""The processes of a clearing house: with which words each is started, and when it does its work."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from exchange.cli.supervise import ChildSpec, is_listening, is_socket_served

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from exchange.cli.context import Home
    from exchange.gateway.run import Tls

DSN_VARIABLE: Final = "TONGDUI_CHILD_DSN"
"""Environment variable that holds the database's address, which may hold a password and so is no argument."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """What the processes of one installation have in common.

    Attributes:
        home: The installation's folder.
        environ: Environment of each; `DSN_VARIABLE` is in it.
        output: Where they write; None for where this process does.
    """

    home: Home
    environ: Mapping[str, str]
    output: IO[bytes] | None

    def writer(self) -> ChildSpec:
        """The one process that decides orders; ready when its socket is served."""
        from exchange.worker.writer import EXIT_FENCED

        path = str(self.home.writer_socket())

        async def is_ready(_: int) -> bool:
            return await is_socket_served(path)

        return ChildSpec(
            name="writer",
            module="exchange.worker.writer",
            arguments=(
                *("--dsn", f"env:{DSN_VARIABLE}"),
                *("--socket", path, "--keys", str(self.home.keys)),
            ),
            environ=self.environ,
            is_ready=is_ready,
            final_statuses=frozenset({EXIT_FENCED}),
            output=self.output,
        )

    def packager(self) -> ChildSpec:
        """Cuts packages of closed cycles."""
        return ChildSpec(
            name="packager",
            module="exchange.worker.packager",
            arguments=(
                *("--dsn", f"env:{DSN_VARIABLE}"),
                *("--keys", str(self.home.keys), "--packages", str(self.home.packages)),
            ),
            environ=self.environ,
            is_ready=_at_once,
            output=self.output,
            # A package that is being written is finished first.
            stop_seconds=120.0,
        )

    def order_worker(self, number: int, *, sandbox: bool) -> ChildSpec:
        """Carries orders between merchants' own systems; ready when its socket is served."""
        path = str(self.home.orders_socket(number))

        async def is_ready(_: int) -> bool:
            return await is_socket_served(path)

        return ChildSpec(
            name=f"order worker {number}",
            module="exchange.worker.orders",
            arguments=(
                *("--dsn", f"env:{DSN_VARIABLE}"),
                *("--writer", str(self.home.writer_socket()), "--socket", path),
                *("--keys", str(self.home.keys)),
                *(["--sandbox"] if sandbox else []),
            ),
            environ=self.environ,
            is_ready=is_ready,
            output=self.output,
        )

    def delivery_worker(self, number: int, *, private: bool) -> ChildSpec:
        """Delivers webhooks; `private` lets them go to addresses of this machine and its networks."""
        return ChildSpec(
            name=f"delivery worker {number}",
            module="exchange.worker.webhooks",
            arguments=(
                *("--dsn", f"env:{DSN_VARIABLE}"),
                *("--keys", str(self.home.keys), "--packages", str(self.home.packages)),
                *(["--private"] if private else []),
            ),
            environ=self.environ,
            is_ready=_at_once,
            output=self.output,
        )

    def gateway(
        self,
        number: int,
        *,
        host: str,
        port: int,
        orders: Sequence[Path],
        sandbox: bool,
        simulators: bool,
        private: bool,
        public_names: Sequence[str],
        tls: Tls | None,
    ) -> ChildSpec:
        """Answers callers over HTTP; ready when it listens, which it does when it has found the writer."""

        async def is_ready(pid: int) -> bool:
            return await asyncio.to_thread(is_listening, pid, port)

        return ChildSpec(
            name=f"gateway {number}",
            module="exchange.cli.gateway",
            arguments=(
                *("--dsn", f"env:{DSN_VARIABLE}", "--socket", str(self.home.writer_socket())),
                *("--host", host, "--port", str(port), "--home", str(self.home.folder)),
                *(part for path in orders for part in ("--orders", str(path))),
                *(["--sandbox"] if sandbox else []),
                *(["--simulators"] if simulators else []),
                *(["--tls-cert", str(tls.cert), "--tls-key", str(tls.key)] if tls else []),
                *(["--tls-client-ca", str(tls.client_ca)] if tls and tls.client_ca else []),
                *(["--private-endpoints"] if private else []),
                *(part for name in public_names for part in ("--public-name", name)),
            ),
            environ=self.environ,
            is_ready=is_ready,
            output=self.output,
        )


async def _at_once(_: int) -> bool:
    """Nobody waits for it."""
    return True
