"""Child processes that are kept running: started in order, restarted when they die, stopped in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field
from time import monotonic
from typing import IO, TYPE_CHECKING, Final

import structlog

from exchange.cli.context import Unusable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

log = structlog.get_logger()

BACKOFF_SECONDS_MIN: Final = 0.1
BACKOFF_SECONDS_MAX: Final = 5.0
SETTLED_SECONDS: Final = 10.0
"""Whoever lived as long as this did not fail at its start, and is restarted at once."""
FAILURES_MAX: Final = 4
"""How often a child may die before it was ever ready."""
UNUSABLE_STATUS: Final = 2
"""A child's word that starting it again will not help."""
POLL_SECONDS: Final = 0.04


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What one child runs.

    Attributes:
        name: For logs and messages.
        module: Python module that is run as a program.
        arguments: Its arguments; `env:NAME` for what must not stand in the list of processes.
        environ: Its environment.
        is_ready: Says whether the child with this process id does its work.
        final_statuses: Exit statuses after which it must not be started again.
        output: Where its output goes; standard error if None.
        stop_seconds: How long it may take to stop before it is killed.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    environ: Mapping[str, str]
    is_ready: Callable[[int], Awaitable[bool]]
    final_statuses: frozenset[int] = frozenset()
    output: IO[bytes] | None = None
    stop_seconds: float = 30.0


@dataclass(slots=True, kw_only=True)
class Child:
    """One child that is kept running.

    Attributes:
        spec: What it runs.
        restarts: How often it was started again.
        ended: Set to why, when it will not be started again.
    """

    spec: ChildSpec
    restarts: int = 0
    ended: asyncio.Future[str] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    _process: asyncio.subprocess.Process | None = None
    _keeper: asyncio.Task[None] | None = None
    _was_ready: bool = False
    _stopping: bool = False

    @property
    def pid(self) -> int | None:
        """Process id; None while it is not running."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self, *, within_seconds: float = 60.0) -> None:
        """Start it and wait until it is ready.

        Raises:
            Unusable: It does not become ready.
        """
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.spec.name}")
        deadline = monotonic() + within_seconds
        while not self._was_ready:
            if self._keeper.done():
                self._keeper.result()
            if self.ended.done():
                raise Unusable(f"the {self.spec.name} does not start: {self.ended.result()}")
            if monotonic() > deadline:
                raise Unusable(f"the {self.spec.name} was not ready within {within_seconds:.0f} s")
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self) -> None:
        """Ask it to end, wait until it has, and kill it when it takes too long."""
        self._stopping = True
        if self.pid is not None and self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(self.spec.stop_seconds):
                    await self._process.wait()
            except TimeoutError:
                log.warning("child.killed", name=self.spec.name, pid=self._process.pid)
                self._process.kill()
                await self._process.wait()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def _keep(self) -> None:
        """Run it, and run it again whenever it ends without having been asked to."""
        backoff_seconds = BACKOFF_SECONDS_MIN
        failures = 0
        while True:
            began = monotonic()
            self._process = await self._spawn()
            log.info("child.started", name=self.spec.name, pid=self._process.pid)
            waiter = asyncio.create_task(self._wait_ready(self._process))
            status = await self._process.wait()
            waiter.cancel()
            if self._stopping:
                return
            log.warning("child.ended", name=self.spec.name, pid=self._process.pid, status=status)
            if status in self.spec.final_statuses:
                self._end(f"it ended with status {status}")
                return
            if status == UNUSABLE_STATUS and not self._was_ready:
                self._end("something that it needs cannot be used; its last words are above")
                return
            failures = 0 if self._was_ready else failures + 1
            if failures >= FAILURES_MAX:
                self._end(
                    f"it ended {failures} times with status {status}; its last words are above"
                )
                return
            if monotonic() - began > SETTLED_SECONDS:
                backoff_seconds = BACKOFF_SECONDS_MIN
            await asyncio.sleep(backoff_seconds)
            backoff_seconds = min(BACKOFF_SECONDS_MAX, backoff_seconds * 2)
            self.restarts += 1

    async def _spawn(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "exchange.cli.child", str(os.getpid())),
            *(self.spec.module, *self.spec.arguments),
            env=dict(self.spec.environ),
            stdin=asyncio.subprocess.DEVNULL,
            # A terminal's Ctrl-C goes to its whole group; the supervisor alone decides who stops when.
            start_new_session=True,
            stdout=self.spec.output or sys.stderr,
            stderr=self.spec.output or sys.stderr,
        )

    async def _wait_ready(self, process: asyncio.subprocess.Process) -> None:
        while not await self.spec.is_ready(process.pid):  # noqa: ASYNC110 - another process, so nobody can set an event
            await asyncio.sleep(POLL_SECONDS)
        self._was_ready = True
        log.info("child.ready", name=self.spec.name, pid=process.pid)

    def _end(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_result(why)


async def is_socket_served(path: str) -> bool:
    """Say whether somebody accepts connections on a Unix socket."""
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True


def is_listening(pid: int, port: int) -> bool:
    """Say whether this very process listens on a TCP port; others may share it."""
    import psutil

    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:
        return False
    return any(
        each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections
    )
