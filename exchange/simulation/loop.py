"""An asyncio event loop whose time is virtual: when nothing is ready it jumps to the next timer.

The loop is asyncio's own (`BaseEventLoop`) with another clock and without a selector, so tasks,
futures, timers, streams and time-outs behave as they do in production. What makes a run repeatable
byte for byte, also in another process:

- Time is a figure of the loop and moves only when nothing is ready.
- Tasks and futures hash by their serial number and not by their address, so a set of them
  (`asyncio.wait`, `TaskGroup`) has the same order everywhere.
- There are no threads: what is sent to an executor runs at once, on the spot.
- There are no real sockets: connections go to the virtual network (`exchange.simulation.network`),
  and everything else that asks the kernel is refused by asyncio's own `NotImplementedError`.

A **host** is a process of the simulated world. Which host a callback belongs to travels in its
context, as asyncio's contexts do, so a host can be killed as the kernel kills a process: not one
more instruction of it runs, no `finally`, no `except`; its timers and ready callbacks are dropped. Or it is
frozen, as by SIGSTOP or a long pause of its machine, and later goes on where it was, believing what it believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import socket
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, TypeVarTuple, cast

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Coroutine, Sequence
    from concurrent.futures import Executor
    from contextvars import Context

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_RESOLUTION_SECONDS: Final = 1e-9
"""What passes before a timer that was set for this instant; far below a microsecond, far above a float's error."""
_END_STEPS: Final = 100_000
STEPS_MAX: Final = 2_000_000
"""Callbacks within one virtual second after which something must be turning on the spot."""


class Standstill(RuntimeError):  # noqa: N818 - it names what happened
    """Nothing is ready and no timer is set: what is still awaited will never happen."""


class Host:
    """A process of the simulated world, or a machine of a merchant.

    Attributes:
        name: How the network and the trace call it.
        alive: False from its killing on, and while it is frozen; a restarted process is another `Host` of the
            same name.
        dropped: Callbacks that were ready, or became so, and do not run.
        timers: Timers that it had, or was given, and that do not come.
        remains: What must not be freed before the history is over: what was started here, and the
            tasks and timers that it had when it was killed. Python runs a coroutine's `finally`
            when it frees it.
    """

    __slots__ = ("alive", "dropped", "name", "remains", "timers")

    def __init__(self, name: str) -> None:
        """Start alive, with nothing to do."""
        self.name = name
        self.alive = True
        self.dropped: list[asyncio.Handle] = []
        self.timers: _Timers = []
        self.remains: list[object] = []

    def __repr__(self) -> str:
        return f"Host({self.name}{'' if self.alive else ', dead'})"


OUTSIDE: Final = Host("outside")
"""Where everything runs that no host was given for: the tills, the checks, the test itself."""
HOST: Final[ContextVar[Host]] = ContextVar("host", default=OUTSIDE)


class _Soon(asyncio.Handle):
    """A callback that is ready; made in one go, since there are hundreds of them for each order."""

    __slots__ = ()

    def __init__(
        self,
        callback: Callable[..., object],
        args: Sequence[object],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        """Be what asyncio's own handle is outside its debug mode."""
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = copy_context() if context is None else context
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class _Timer(asyncio.TimerHandle):
    """A callback that is due at an instant; one that is cancelled is passed over when its time has come."""

    __slots__ = ()

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: Sequence[object],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        """Be what asyncio's own timer is outside its debug mode."""
        self._when = when
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = copy_context() if context is None else context
        self._cancelled = False
        self._repr = None
        self._source_traceback = None

    def cancel(self) -> None:
        """Do not come, and hold nothing any more."""
        self._cancelled = True
        self._callback, self._args = _nothing, ()


def _nothing() -> None:
    """Be what a cancelled timer calls."""


_Timers = list[tuple[float, int, _Timer]]
"""A heap: when, the how manieth timer, the timer."""


class VirtualFuture(asyncio.Future[T]):
    """A future whose place in a set does not depend on its address."""

    _serial = 0

    def __hash__(self) -> int:
        if not self._serial:
            self._serial = _next_serial(self)
        return self._serial


class VirtualTask(asyncio.Task[T]):
    """A task whose place in a set does not depend on its address."""

    _serial = 0
    host: Host

    def __hash__(self) -> int:
        if not self._serial:
            self._serial = _next_serial(self)
        return self._serial


def _next_serial(future: asyncio.Future[Any]) -> int:
    """Number futures in the order in which somebody puts them into sets, which is the same in every process."""
    return cast("VirtualLoop", future.get_loop()).next_serial()


class Wires(Protocol):
    """What carries the loop's connections: see `exchange.simulation.network.Network`."""

    async def dial(self, address: object) -> None:
        """Wait as long as a connection to `address` takes to be opened, or raise `OSError`."""
        ...

    def connect(
        self, factory: Callable[[], asyncio.BaseProtocol], address: object
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Open a connection that was dialled."""
        ...

    def listen(
        self, factory: Callable[[], asyncio.BaseProtocol], address: object
    ) -> asyncio.AbstractServer:
        """Take connections to `address`; port 0 takes the next free one."""
        ...

    def close(self) -> None:
        """Reset every connection and free every address."""
        ...


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop. Close it with `end`, which lets everything that is left run out.

    Attributes:
        now: Seconds since the loop was made, virtual.
        now_us: The same in whole microseconds.
        wires: What carries its connections; None for no network.
    """

    # Of asyncio.BaseEventLoop, which is made to be subclassed by loops with other selectors.
    _ready: deque[asyncio.Handle]
    _stopping: bool

    def __init__(self) -> None:
        """Start at second 0 with nothing to do."""
        super().__init__()
        self.now = 0.0
        self.now_us = 0
        self._timers: _Timers = []
        self._timers_set = 0
        self._timers_before = 0
        self._serial = 0
        self._steps_left = STEPS_MAX
        self._steps_again = 1.0
        self._dialled: dict[int, object] = {}
        self._failures: list[dict[str, Any]] = []
        self._hosts: list[Host] = []
        self.wires: Wires | None = None
        self.set_exception_handler(lambda _, context: self._failures.append(context))

    # Time ---------------------------------------------------------------------------------------

    def time(self) -> float:
        """Seconds since the loop was made, virtual."""
        return self.now

    def _run_once(self) -> None:
        """Run until somebody stops the loop: what is ready in its order, and timers when nothing is.

        Raises:
            Standstill: Nothing would ever happen again, or the loop turns on the spot.
        """
        ready = self._ready
        while not self._stopping:
            handle: Any = ready.popleft() if ready else self._next_timer()
            if handle._cancelled:  # noqa: SLF001 - this loop's part of asyncio's own handles
                continue
            self._steps_left -= 1
            if not self._steps_left:
                raise Standstill(f"more than {STEPS_MAX:,} steps: something turns on the spot")
            try:
                handle._context.run(handle._callback, *handle._args)  # noqa: SLF001
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - as asyncio's handles do: report it and go on
                self.call_exception_handler(
                    {"message": "a callback failed", "exception": error, "handle": handle}
                )

    def _next_timer(self) -> _Timer:
        """Pass the time until the next timer.

        Raises:
            Standstill: There is none.
        """
        while self._timers:
            when, number, timer = heapq.heappop(self._timers)
            if timer._cancelled:  # noqa: SLF001
                continue
            if when > self.now:
                self.now = when
            elif number > self._timers_before:
                # It was set for this very instant by somebody who found that a sum of floats fell short of
                # it; on a real clock time passes all the same, and so it does here.
                self.now += _RESOLUTION_SECONDS
            else:
                return timer
            self._timers_before = self._timers_set
            now = self.now
            self.now_us = round(now * 1e6)
            if now >= self._steps_again:
                self._steps_left = STEPS_MAX
                self._steps_again = now + 1.0
            return timer
        waiting = sorted(_describe(task) for task in asyncio.all_tasks(self))
        raise Standstill(f"nothing is ready and no timer is set; waiting: {waiting}")

    def _write_to_self(self) -> None:
        """Wake the loop, which never sleeps."""

    # Callbacks, tasks, futures ------------------------------------------------------------------

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Queue a callback, unless its host is dead."""
        host = HOST.get() if context is None else context.get(HOST, OUTSIDE)
        handle = _Soon(callback, args, self, context)
        (self._ready if host.alive else host.dropped).append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer, as `call_at` does."""
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer, which does not come while its host is dead."""
        host = HOST.get() if context is None else context.get(HOST, OUTSIDE)
        timer = _Timer(when, callback, args, self, context)
        self._timers_set += 1
        entry = when, self._timers_set, timer
        if host.alive:
            heapq.heappush(self._timers, entry)
        else:
            host.timers.append(entry)
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future that is numbered if it needs to be."""
        return VirtualFuture(loop=self)

    def next_serial(self) -> int:
        """Give out the next serial number."""
        self._serial += 1
        return self._serial

    def create_task(
        self, coro: Any, *, name: object = None, context: Context | None = None
    ) -> VirtualTask[Any]:
        """Make a task that knows its host."""
        task = VirtualTask(coro, loop=self, name=cast("str | None", name), context=context)
        task.host = HOST.get() if context is None else context.get(HOST, OUTSIDE)
        return task

    def run_in_executor(
        self,
        executor: Executor | None,  # noqa: ARG002 - asyncio's signature
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """Run `func` here and now: a thread would end at a moment that nothing repeats."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whoever awaits the future gets it
            future.set_exception(error)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncio's signature
        """There is no executor."""

    # Hosts --------------------------------------------------------------------------------------

    def start_on(self, host: Host, coro: Coroutine[Any, Any, object], *, name: str) -> None:
        """Start a coroutine on a host; everything that it starts belongs to that host too."""
        task = self._task_on(host, coro, name)
        task.add_done_callback(self._process_ended)
        host.remains.append(task)

    def run_on(self, host: Host, coro: Coroutine[Any, Any, T], *, name: str) -> T:
        """Run the loop until a coroutine on a host has ended, and give its result."""
        return self.run_until_complete(self._task_on(host, coro, name))

    def _process_ended(self, task: asyncio.Task[Any]) -> None:
        """Report what was started and failed, and was not killed."""
        if not task.cancelled() and (error := task.exception()):
            message = f"{task.get_name()} ended"
            self.call_exception_handler({"message": message, "exception": error})

    def _task_on(self, host: Host, coro: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        context = copy_context()
        context.run(HOST.set, host)
        if host not in self._hosts:
            self._hosts.append(host)
        return self.create_task(coro, name=name, context=context)

    def kill(self, host: Host) -> None:
        """Stop a host for good between two of its instructions; `Network.hang_up` tells its peers."""
        self.freeze(host)
        host.remains += [
            task
            for task in asyncio.all_tasks(self)
            if isinstance(task, VirtualTask) and task.host is host
        ]

    def freeze(self, host: Host) -> None:
        """Stop a host between two of its instructions; its connections stay, and nobody is told."""
        host.alive = False
        kept: list[asyncio.Handle] = []
        for handle in self._ready:
            (host.dropped if _host_of(handle) is host else kept).append(handle)
        self._ready.clear()
        self._ready.extend(kept)
        timers: _Timers = []
        for entry in self._timers:
            (host.timers if _host_of(entry[2]) is host else timers).append(entry)
        heapq.heapify(timers)
        self._timers[:] = timers

    def thaw(self, host: Host) -> None:
        """Let a frozen host go on where it was; timers whose time has passed come at once."""
        host.alive = True
        self._ready.extend(host.dropped)
        host.dropped.clear()
        for entry in host.timers:
            heapq.heappush(self._timers, entry)
        host.timers.clear()

    def failures(self) -> list[str]:
        """What nobody caught: exceptions of callbacks and of tasks that nobody awaited."""
        return [
            f"{context.get('message')}: {context.get('exception')!r}" for context in self._failures
        ]

    def end(self) -> None:
        """Cancel whatever is left, on dead hosts too, let it run out, and close the loop.

        Coroutines that were never finished would run their `finally` when the interpreter frees
        them, at a moment of its own. So the dead are woken for this one purpose; whatever they
        still do happens after the end of the history, and nobody looks.
        """
        self.set_exception_handler(lambda *_: None)
        # Whoever turns on the spot now, because everybody else has gone, is left alone soon.
        self._steps_left, self._steps_again = _END_STEPS, math.inf
        for host in self._hosts:
            self.thaw(host)
        if self.wires is not None:
            self.wires.close()
            self.wires = None
        for _ in range(3):
            left = [task for task in asyncio.all_tasks(self) if not task.done()]
            if not left:
                break
            for task in sorted(left, key=hash):
                task.cancel()
            with contextlib.suppress(Standstill):
                self.run_until_complete(asyncio.wait(left, timeout=60))
        self._steps_left = _END_STEPS
        with contextlib.suppress(Standstill):
            self.run_until_complete(self.shutdown_asyncgens())
        self.close()

    # Network ------------------------------------------------------------------------------------

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> list[Any]:
        """Every name is its own address: the virtual network knows hosts by what they are called."""
        kind = hints.get("type") or socket.SOCK_STREAM
        return [(socket.AF_INET, kind, socket.IPPROTO_TCP, "", (host or "0.0.0.0", int(port or 0)))]  # noqa: S104 - a virtual address

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:  # noqa: ARG002 - asyncio's signature
        """Give the name back that is the address."""
        return str(sockaddr[0]), str(sockaddr[1])

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Dial for a library that makes its own socket; the real one stays unconnected."""
        await self._wires().dial(tuple(address))
        self._dialled[sock.fileno()] = tuple(address)

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> tuple[Any, Any]:
        """Open a virtual connection, as asyncio's method does a real one.

        Raises:
            OSError: Refused, or the network is as the seed wants it.
            NotImplementedError: TLS was asked, whose keys are real randomness.
        """
        _refuse_tls(options)
        if (sock := options.get("sock")) is not None:
            address = self._dialled.pop(sock.fileno())
            sock.close()
        else:
            address = (host, port)
            await self._wires().dial(address)
        return self._wires().connect(protocol_factory, address)

    async def create_server(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        """Take virtual connections; port 0 takes the next free one."""
        _refuse_tls(options)
        if options.get("sock") is not None:
            raise NotImplementedError("a real listening socket on a virtual loop")
        return self._wires().listen(protocol_factory, (host or "0.0.0.0", port or 0))  # noqa: S104 - a virtual address

    async def create_unix_connection(
        self, protocol_factory: Any, path: Any = None, **options: Any
    ) -> tuple[Any, Any]:
        """Open a virtual connection to a path."""
        _refuse_tls(options)
        await self._wires().dial(str(path))
        return self._wires().connect(protocol_factory, str(path))

    async def create_unix_server(
        self, protocol_factory: Any, path: Any = None, **options: Any
    ) -> Any:
        """Take virtual connections to a path; no file is made."""
        _refuse_tls(options)
        return self._wires().listen(protocol_factory, str(path))

    def _wires(self) -> Wires:
        if self.wires is None:
            raise OSError("this loop has no network")
        return self.wires


def _host_of(handle: asyncio.Handle) -> Host:
    """Which host a queued callback belongs to."""
    context: Context = handle._context  # type: ignore[attr-defined] # noqa: SLF001 - public from Python 3.12 on
    return context.get(HOST, OUTSIDE)


def _describe(task: asyncio.Task[Any]) -> str:
    """Name a task for a message, without its address."""
    coro = task.get_coro()
    return f"{task.get_name()} in {getattr(coro, '__qualname__', type(coro).__name__)}"


def _refuse_tls(options: dict[str, Any]) -> None:
    """Hold that nobody asks for TLS.

    Raises:
        NotImplementedError: Somebody does.
    """
    if options.get("ssl"):
        raise NotImplementedError("TLS on a virtual loop: its keys would be real randomness")
