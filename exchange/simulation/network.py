"""The virtual network: connections in memory, with the troubles of real ones, drawn from a seed.

A connection is a pair of asyncio transports. What one side writes reaches the other after the
latency and at the bandwidth of the link between their hosts, in order and whole, as TCP promises;
a link's draws come from a generator of its own, so that taking one order or one fault out of a
history leaves the other links as they were (`shrink` needs that). Troubles are data (`Trouble`):

- a *partition* holds everything back until it heals, in one direction, and each connection up to as long again,
  until its sender tries the lost packets once more;
- a *stall* holds one connection back, while others pass it;
- *slow* adds latency, and narrows the bandwidth;
- *refuse* refuses new connections;
- a *cut* breaks a connection in the middle of what it carries: the bytes before it arrive, and both sides learn it.

Flow control is kept (a reader that pauses fills its writer's buffer), half-closed connections too.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections import deque
from contextvars import copy_context
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, cast

from exchange.simulation.loop import HOST, OUTSIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextvars import Context

    from exchange.simulation.loop import Host, VirtualLoop

HIGH_WATER_BYTES: Final = 64 * 1024
FIRST_PORT: Final = 20_000
_EOF: Final = b""
_RESET_SECONDS: Final = 0.0005


class Trouble(Enum):
    """What may be wrong with a link for a while."""

    PARTITION = "partition"
    SLOW = "slow"
    REFUSE = "refuse"
    STALL = "stall"
    CUT = "cut"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """One trouble of one direction of one link.

    Attributes:
        trouble: What is wrong.
        source: Name of the host that sends; for `REFUSE`, that dials.
        target: Name of the host that receives.
        from_us: When it begins, microseconds of the loop's time.
        to_us: When it ends; a cut or a stall that found no connection until then is void.
        figure: `SLOW`: microseconds added; `STALL`: for how many microseconds; `CUT`: bytes that still
            arrive; else without meaning.
    """

    trouble: Trouble
    source: str
    target: str
    from_us: int
    to_us: int
    figure: int = 0

    def __post_init__(self) -> None:
        """Check that it ends after it began, since every trouble ends."""
        if not 0 <= self.from_us < self.to_us:
            raise ValueError(f"a trouble that does not end: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What links are like when nothing is wrong.

    Attributes:
        latency_us: Least and most time of one way, microseconds.
        spike_one_in: One delivery in so many takes `spike_us` longer; 0 for never.
        spike_us: How much longer, microseconds.
        bytes_per_second: Bandwidth of each direction of a connection.
    """

    latency_us: tuple[int, int] = (100, 900)
    spike_one_in: int = 200
    spike_us: int = 40_000
    bytes_per_second: int = 12_500_000


class Link:
    """One direction between two hosts."""

    __slots__ = (
        "_bytes_per_second",
        "_draw",
        "_least_us",
        "_spike_chance",
        "_spike_us",
        "_spread_us",
        "cuts",
        "name",
        "stalls",
        "tag",
        "troubles",
    )

    def __init__(self, name: str, conditions: Conditions, rng: random.Random) -> None:
        """Start untroubled."""
        self.name = name
        self.tag = name.encode()
        least_us, most_us = conditions.latency_us
        self._least_us, self._spread_us = least_us, most_us - least_us
        self._spike_chance = 1 / conditions.spike_one_in if conditions.spike_one_in else 0.0
        self._spike_us = conditions.spike_us
        self._bytes_per_second = conditions.bytes_per_second
        self._draw = rng.random
        self.troubles: list[Disturbance] = []
        self.cuts: list[Disturbance] = []
        self.stalls: list[Disturbance] = []

    def add(self, trouble: Disturbance) -> None:
        """Take a trouble, to come at its time."""
        match trouble.trouble:
            case Trouble.CUT:
                self.cuts.append(trouble)
            case Trouble.STALL:
                self.stalls.append(trouble)
            case _:
                self.troubles.append(trouble)

    def latency_seconds(self, now_us: int, size_bytes: int) -> float:
        """Draw how long one delivery takes."""
        latency_us = self._least_us + int(self._draw() * self._spread_us)
        if self._draw() < self._spike_chance:
            latency_us += self._spike_us
        for trouble in self.troubles:
            if trouble.trouble is Trouble.SLOW and trouble.from_us <= now_us < trouble.to_us:
                latency_us += trouble.figure
        return latency_us / 1e6 + size_bytes / self._bytes_per_second

    def healed_us(self, now_us: int) -> int:
        """When what is sent now can pass: now, or the end of the partition."""
        healed = now_us
        for trouble in self.troubles:
            if trouble.trouble is Trouble.PARTITION and trouble.from_us <= healed < trouble.to_us:
                healed = trouble.to_us
        return healed

    def resend_us(self, lost_us: int) -> int:
        """Draw how long after a partition of some length its sender tries again.

        The time between two tries doubles, so it is up to as long as the partition; what is sent
        afterwards on another connection may arrive before.
        """
        return int(self._draw() * lost_us)

    def refuses(self, now_us: int) -> bool:
        """Whether new connections are refused now."""
        return any(
            trouble.trouble is Trouble.REFUSE and trouble.from_us <= now_us < trouble.to_us
            for trouble in self.troubles
        )

    def take_cut(self, now_us: int) -> Disturbance | None:
        """Take the cut that is to hit what is delivered now, if there is one."""
        return _take(self.cuts, now_us) if self.cuts else None

    def take_stall(self, now_us: int) -> Disturbance | None:
        """Take the stall that is to hold back what is delivered now, if there is one."""
        return _take(self.stalls, now_us) if self.stalls else None


def _take(waiting: list[Disturbance], now_us: int) -> Disturbance | None:
    """Take the first of some troubles whose time it is."""
    for trouble in waiting:
        if trouble.from_us <= now_us < trouble.to_us:
            waiting.remove(trouble)
            return trouble
    return None


class _Pipe:
    """One direction of one connection: what is on its way, in order."""

    __slots__ = (
        "_broken",
        "_cut",
        "_left_bytes",
        "_link",
        "_loop",
        "_network",
        "_queue",
        "_timer",
        "queued_bytes",
        "source",
        "target",
    )

    def __init__(self, network: Network, link: Link) -> None:
        """Start empty; the two ends are set by `Endpoint`."""
        self._network = network
        self._loop = network.loop
        self._link = link
        self._timer: asyncio.TimerHandle | None = None
        self._cut: Disturbance | None = None
        self._left_bytes = 0
        self._queue: deque[tuple[float, bytes]] = deque()
        self._broken = False
        self.queued_bytes = 0
        self.source: Endpoint
        self.target: Endpoint

    def send(self, data: bytes) -> None:
        """Put bytes, or the end of them, on the way."""
        if self._broken:
            return
        loop = self._loop
        due = loop.now + self._link.latency_seconds(loop.now_us, len(data))
        if self._queue and self._queue[-1][0] > due:
            due = self._queue[-1][0]
        self._queue.append((due, data))
        self.queued_bytes += len(data)
        self.arm()

    def arm(self) -> None:
        """See to it that the first delivery happens when it is due."""
        if self._timer is None and self._queue and not self.target.paused:
            self._timer = self._loop.call_at(
                self._queue[0][0], self._deliver, context=self.target.context
            )

    def break_off(self) -> None:
        """Lose everything that is on the way, and take nothing more."""
        self._broken = True
        self._queue.clear()
        self.queued_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _deliver(self) -> None:
        """Hand over what is due, as far as troubles let it."""
        self._timer = None
        now_us = self._loop.now_us
        healed_us = self._link.healed_us(now_us) if self._link.troubles else now_us
        if healed_us > now_us:
            again_us = healed_us + self._link.resend_us(healed_us - now_us)
            self._timer = self._loop.call_at(
                again_us / 1e6, self._deliver, context=self.target.context
            )
            return
        if stall := self._link.take_stall(now_us):
            self._network.note("network.stalled", link=self._link.name)
            again = self._loop.now + stall.figure / 1e6
            self._timer = self._loop.call_at(again, self._deliver, context=self.target.context)
            return
        pieces: list[bytes] = []
        ended = False
        now = self._loop.now + 1e-9
        while self._queue and self._queue[0][0] <= now:
            ended = self._queue[0][1] == _EOF
            if ended and pieces:
                # The end is a packet of its own; whoever reads has begun with what came before.
                ended = False
                self._queue[0] = (self._loop.now + _RESET_SECONDS, _EOF)
                break
            pieces.append(self._queue.popleft()[1])
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.queued_bytes -= len(data)
        if self._cut is None and data and (cut := self._link.take_cut(now_us)):
            self._cut, self._left_bytes = cut, cut.figure
        broken = self._cut is not None and len(data) > self._left_bytes
        if broken:
            data = data[: self._left_bytes]
        self._left_bytes -= len(data)
        self._network.carried(self._link, data)
        if data:
            self.target.take(data)
        if broken:
            self._network.note("network.cut", link=self._link.name)
            self.source.reset_later()
            self.target.lose(_reset())
            return
        self.source.written(self.queued_bytes)
        if ended:
            self.target.take_end()
        self.arm()


class Endpoint(asyncio.Transport):
    """One side of a virtual connection."""

    def __init__(
        self,
        network: Network,
        *,
        out: _Pipe,
        inward: _Pipe,
        context: Context,
        names: dict[str, object],
    ) -> None:
        """Join the two pipes; `begin` gives it its protocol.

        Args:
            network: The network that knows it.
            out: Where it writes.
            inward: Where it reads.
            context: The context of its callbacks, which names its host.
            names: What `get_extra_info` tells.
        """
        super().__init__(names)
        self._network = network
        self._loop = network.loop
        self._out = out
        self._in = inward
        self._protocol: asyncio.Protocol
        self._closing = False
        self._lost = False
        self._ended = False
        self._writing_paused = False
        self._high = HIGH_WATER_BYTES
        self._low = HIGH_WATER_BYTES // 4
        self.context = context
        self.host = context.get(HOST, OUTSIDE)
        self.paused = False
        out.source = self
        inward.target = self

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        """Take a protocol and tell it."""
        self._protocol = cast("asyncio.Protocol", protocol)
        protocol.connection_made(self)

    # What the network does to it -------------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """Bytes arrived; an end that was closed answers them with a reset."""
        if self._closing:
            self._in.source.reset_later()
            return
        try:
            self._protocol.data_received(data)
        except Exception as error:  # noqa: BLE001 - as asyncio's transports do: report it and hang up
            self._loop.call_exception_handler(
                {"message": "protocol.data_received() failed", "exception": error}
            )
            self.abort()

    def take_end(self) -> None:
        """The other side will write no more."""
        if not self._closing and not self._protocol.eof_received():
            self.close()

    def written(self, left_bytes: int) -> None:
        """So many bytes are still on the way; a writer that waited may go on."""
        if self._writing_paused and left_bytes <= self._low:
            self._writing_paused = False
            self._loop.call_soon(self._protocol.resume_writing, context=self.context)
        if self._closing and not left_bytes and not self._lost:
            self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """Tell the protocol that the connection is gone, once."""
        self._closing = True
        if self._lost:
            return
        self._lost = True
        self._network.forget(self)
        self._in.break_off()
        if error is not None:
            self._out.break_off()
        self._loop.call_soon(self._protocol.connection_lost, error, context=self.context)

    def reset_later(self) -> None:
        """A reset from the other side is on its way."""
        if not self._lost:
            self._loop.call_later(_RESET_SECONDS, self.lose, _reset(), context=self.context)

    # What a protocol does with it ------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; those after the end of the connection are lost."""
        if self._ended:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing or not data:
            return
        self._out.send(bytes(data))
        if not self._writing_paused and self._out.queued_bytes > self._high:
            self._writing_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Send several pieces as one."""
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Say that nothing more will be written."""
        if not self._ended and not self._closing:
            self._ended = True
            self._out.send(_EOF)

    def can_write_eof(self) -> bool:
        """Half-closed connections exist."""
        return True

    def close(self) -> None:
        """Send what was written, then the end."""
        if self._closing:
            return
        self._closing = True
        if not self._ended:
            self._ended = True
            self._out.send(_EOF)
        if not self._out.queued_bytes:
            self.lose(None)

    def abort(self) -> None:
        """Drop what was written and reset."""
        if self._lost:
            return
        self._out.break_off()
        self._out.target.reset_later()
        self.lose(None)

    def is_closing(self) -> bool:
        """Whether `close` was called or the connection was lost."""
        return self._closing

    def pause_reading(self) -> None:
        """Leave what arrives in the pipe."""
        self.paused = True

    def resume_reading(self) -> None:
        """Take what waits in the pipe."""
        if self.paused:
            self.paused = False
            self._in.arm()

    def is_reading(self) -> bool:
        """Whether bytes are handed over as they arrive."""
        return not self.paused and not self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand over to another protocol."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol that is told."""
        return self._protocol

    def get_write_buffer_size(self) -> int:
        """Bytes that were written and have not arrived."""
        return self._out.queued_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Where writing resumes and pauses, in bytes."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set where writing pauses and resumes, in bytes."""
        self._high = HIGH_WATER_BYTES if high is None else high
        self._low = self._high // 4 if low is None else low


class _Door:
    """The address of a server, as its listening socket would tell it."""

    __slots__ = ("_address",)

    def __init__(self, address: object) -> None:
        self._address = address

    def getsockname(self) -> object:
        """Return the address that was bound."""
        return self._address


class VirtualServer(asyncio.AbstractServer):
    """A server that listens on the virtual network."""

    def __init__(
        self, network: Network, factory: Callable[[], asyncio.BaseProtocol], address: object
    ) -> None:
        """Listen at once, on the host that asks."""
        self._network = network
        self.factory = factory
        self.address = address
        self.context = copy_context()
        self.host = HOST.get()
        self.sockets: tuple[_Door, ...] = (_Door(address),)

    def close(self) -> None:
        """Take no new connections; the open ones stay."""
        if self.sockets:
            self.sockets = ()
            self._network.unlisten(self)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        return self._network.loop

    def is_serving(self) -> bool:
        """Whether connections are taken."""
        return bool(self.sockets)

    async def start_serving(self) -> None:
        """Connections are taken from the beginning."""

    async def serve_forever(self) -> None:
        """Wait until cancelled."""
        try:
            await self._network.loop.create_future()
        finally:
            self.close()

    async def wait_closed(self) -> None:
        """Everything is closed when `close` returns."""


class Network:
    """Hosts, links and connections of one history."""

    def __init__(
        self,
        loop: VirtualLoop,
        *,
        seed: str,
        conditions: Conditions | None = None,
        troubles: Iterable[Disturbance] = (),
        note: Callable[..., None] = lambda _, **__: None,
    ) -> None:
        """Become the network of a loop.

        Args:
            loop: The loop, which has none yet.
            seed: What every link's generator starts from, together with the names of its hosts.
            conditions: What links are like.
            troubles: What will be wrong with them.
            note: Takes a line for the trace: an event's name, and fields.
        """
        self.loop = loop
        self.note = note
        self._seed = seed
        self._conditions = conditions or Conditions()
        self._troubles = list(troubles)
        self._links: dict[tuple[str, str], Link] = {}
        self._servers: dict[object, VirtualServer] = {}
        self._open: dict[Endpoint, None] = {}
        self._last_port = FIRST_PORT
        self.checksum = 0
        self.carried_bytes = 0
        self.deliveries = 0
        loop.wires = self

    def now_us(self) -> int:
        """Return the loop's time in whole microseconds."""
        return self.loop.now_us

    def link(self, source: str, target: str) -> Link:
        """Return one direction between two hosts."""
        link = self._links.get((source, target))
        if link is None:
            name = f"{source}>{target}"
            rng = random.Random(f"{self._seed}/{name}")  # noqa: S311 - repeatable is the point
            link = self._links[source, target] = Link(name, self._conditions, rng)
            for trouble in self._troubles:
                if (trouble.source, trouble.target) == (source, target):
                    link.add(trouble)
        return link

    # What the loop asks --------------------------------------------------------------------------

    async def dial(self, address: object) -> None:
        """Wait for the round trip that opens a connection.

        Raises:
            ConnectionRefusedError: Nobody listens, or a trouble refuses.
        """
        source = HOST.get()
        server = self._find(address)
        target = server.host.name if server else "nobody"
        there, back = self.link(source.name, target), self.link(target, source.name)
        now_us = self.now_us()
        wait = there.latency_seconds(now_us, 0) + back.latency_seconds(now_us, 0)
        healed_us = back.healed_us(there.healed_us(now_us))
        await asyncio.sleep(wait + (healed_us - now_us) / 1e6)
        if self._find(address) is None or there.refuses(self.now_us()):
            self.note("network.refused", link=f"{source.name}>{target}")
            raise ConnectionRefusedError(111, f"Connect call failed {address!r}")

    def connect(
        self, factory: Callable[[], asyncio.BaseProtocol], address: object
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Open a connection that was dialled, on both sides at once.

        Raises:
            ConnectionRefusedError: The server left since.
        """
        server = self._find(address)
        if server is None:
            raise ConnectionRefusedError(111, f"Connect call failed {address!r}")
        context, host = copy_context(), HOST.get()
        there = _Pipe(self, self.link(host.name, server.host.name))
        back = _Pipe(self, self.link(server.host.name, host.name))
        here: object = ""
        if isinstance(address, tuple):
            self._last_port += 1
            here = (host.name, self._last_port)
        near = Endpoint(
            self,
            out=there,
            inward=back,
            context=context,
            names={"peername": address, "sockname": here},
        )
        far = Endpoint(
            self,
            out=back,
            inward=there,
            context=server.context.copy(),
            names={"peername": here, "sockname": server.address},
        )
        self._open[near] = self._open[far] = None
        far.context.run(far.begin, far.context.run(server.factory))
        protocol = factory()
        near.begin(protocol)
        return near, protocol

    def listen(self, factory: Callable[[], asyncio.BaseProtocol], address: object) -> VirtualServer:
        """Take connections to an address.

        Raises:
            OSError: Somebody listens there already.
        """
        if isinstance(address, tuple):
            host, port = address
            if not port:
                self._last_port += 1
                port = self._last_port
            address = (host, int(port))
        if address in self._servers:
            raise OSError(98, f"address already in use: {address!r}")
        server = self._servers[address] = VirtualServer(self, factory, address)
        return server

    def unlisten(self, server: VirtualServer) -> None:
        """Free an address."""
        if self._servers.get(server.address) is server:
            del self._servers[server.address]

    def _find(self, address: object) -> VirtualServer | None:
        """Return who listens at an address, or on every address of its port."""
        server = self._servers.get(address)
        if server is None and isinstance(address, tuple):
            server = self._servers.get(("0.0.0.0", address[1]))  # noqa: S104 - a virtual address
        return server

    # What the world does ---------------------------------------------------------------------------

    def hang_up(self, host: Host) -> None:
        """A host died: its kernel frees its addresses and resets its connections."""
        for server in [each for each in self._servers.values() if each.host is host]:
            self.unlisten(server)
        for end in [each for each in self._open if each.host is host]:
            end.abort()

    def close(self) -> None:
        """Reset every connection and free every address: the history is over."""
        self._servers.clear()
        for end in list(self._open):
            end.abort()

    def forget(self, end: Endpoint) -> None:
        """An end of a connection is gone."""
        self._open.pop(end, None)

    def carried(self, link: Link, data: bytes) -> None:
        """Count a delivery into the checksum that the trace ends with: every byte, when, and where."""
        self.deliveries += 1
        self.carried_bytes += len(data)
        told = link.tag + self.loop.now_us.to_bytes(8, "big")
        self.checksum = zlib.crc32(data, zlib.crc32(told, self.checksum))


def _reset() -> ConnectionResetError:
    """What a side sees whose peer is gone."""
    return ConnectionResetError(104, "Connection reset by peer")
