"""The clearing pipeline: one writer decides commands in arrival order and commits them in groups.

Merchants are few and hot, so one transaction for each order would spend its time waiting for the
same rows. Here callers enqueue and wait; the writer keeps headroom in memory, decides everything
that waits, and writes it in one transaction, while it already decides the next group.

What makes that safe:

- A flush begins by taking the next flush number under the writer's epoch. A writer that was taken
  over finds another epoch and stops (`Fenced`).
- Nobody is answered before the transaction has committed. If the connection is lost at COMMIT, the
  writer takes over from itself: the epoch rises, which waits for the lost transaction to end. Then
  everything that was not answered is decided again, and what had committed is found by its key.
- A command that no transaction can hold (a fault of ours: the core or the gateway should have refused
  it) must not stop the others. A group that aborts for such a reason is halved until the one command
  stands alone; that one is answered with `cannot_be_booked`.
- Keys that may have been used are looked up before deciding. A key that carries a time after this
  writer began to remember (UUIDv7) and is not remembered is new; the unique index is the backstop
  for clients whose clock runs ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import asyncpg
import structlog

from schemas.values.faults import Unavailable
from schemas.values.ids import HOUSE, key_milliseconds
from schemas.values.reason import Reason
from settlement.core import reversal
from settlement.core.chain import chain_digest
from settlement.core.columns import EntryColumns
from settlement.core.command import (
    ADMINISTRATIVE,
    UNKEYED,
    Adjust,
    Command,
    End,
    Order,
    Pin,
    Reverse,
    key_name,
    unstored_refusal,
)
from settlement.core.event import Kind
from settlement.service.block import Block
from settlement.store import funds, journal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from settlement.core.books import Books
    from settlement.core.changes import Changes
    from settlement.core.columns import OrderColumns
    from settlement.core.command import Answer, Entry
    from settlement.core.reversal import Cleared
    from settlement.core.stretch import Stretch
    from settlement.store.journal import Fence

log = structlog.get_logger()

PART = 1
"""The one partition there is today; it stands in every key and in every statement of a flush."""

FLUSH_LIMIT = 10_000
WORTH_COMMANDS = 1_000
"""A group of so many is decided while a flush is in flight; a smaller one first grows until that has landed."""
TURN_COMMANDS = 100
"""Commands that are decided before the loop turns."""
REMEMBERED_KEYS = 250_000
BLOCKED_SECONDS = 6.0
"""A take-over that waits longer for the partition's row ends whoever holds it: longer than the time-out
that ends a transaction of a frozen writer by itself."""
_LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_LOST_CLASSES = frozenset({"08", "25", "40", "53", "55", "57", "58"})
"""SQLSTATE classes that say nothing about what was to be written: connection, transaction state,
rollback, resources, lock, operator, system."""


class Fenced(Exception):  # noqa: N818 - it names what happened to this writer
    """Another writer has taken the partition over; this one must not write again."""


class Clearing(Protocol):
    """What a gateway, a replay or a timer sees of the writer, near or far."""

    async def submit(self, commands: Sequence[Command]) -> list[Answer]:
        """Have commands decided strictly in their order, and wait until they are durable.

        Returns:
            One answer for each command.

        Raises:
            Unavailable: The queue is full or the writer is away. Sent again under the same keys,
                the commands take effect once.
        """
        ...

    async def submit_columns(self, orders: OrderColumns) -> EntryColumns:
        """Have the orders of one large request decided; the same as `submit` with each of them.

        Raises:
            Unavailable: As for `submit`.
        """
        ...


class Rider(Protocol):
    """What travels with a flush but belongs to another package: the hosted programme's lots."""

    def needs_quiet(self, commands: Sequence[Command]) -> bool:
        """Whether these commands read what the flush in flight may be changing."""
        ...

    async def load(
        self,
        conn: asyncpg.Connection,
        commands: Sequence[Command],
        columns: Sequence[OrderColumns],
        reversals: Sequence[Cleared],
        at_us: int,
    ) -> None:
        """Read what these commands and plain orders need, in one set-based read.

        `reversals` are the orders that commands want to take back; `at_us` is the ledger's clock so far.
        """
        ...

    def decide(self, command: Command, books: Books) -> Answer:
        """Decide one command on the loaded lots and on the books; pure but for that state."""
        ...

    def decide_stretch(self, stretch: Stretch) -> None:
        """Decide plain orders one after the other, as `decide` would; the books' part is the stretch's."""
        ...

    def take(self) -> object:
        """Hand over what changed since the last call."""
        ...

    async def write(self, conn: asyncpg.Connection, part: int, changed: object) -> None:
        """Write what was taken, inside the flush's transaction."""
        ...

    def discard(self) -> None:
        """Forget everything: a flush was lost."""
        ...


class NoRider:
    """For a ledger without a hosted programme."""

    def needs_quiet(self, commands: Sequence[Command]) -> bool:  # noqa: ARG002 - the protocol's shape
        """Nothing is read."""
        return False

    async def load(
        self,
        conn: asyncpg.Connection,
        commands: Sequence[Command],
        columns: Sequence[OrderColumns],
        reversals: Sequence[Cleared],
        at_us: int,
    ) -> None:
        """Nothing is read."""

    def decide(self, command: Command, books: Books) -> Answer:
        """Refuse what only a hosted programme could do; a reversal moves value alone."""
        if isinstance(command, Order):
            return [books.refuse_order(command, Reason.NOT_HOSTED.number)]
        if isinstance(command, Reverse):
            found = reversal.find(books, command)
            if isinstance(found, Reason):
                return [books.refuse(command, found)]
            if command.issuer_member:
                return [books.refuse(command, Reason.REVERSAL_NOT_OFFERED)]
            return [reversal.take_back(books, command, *found)]
        return [books.refuse(command, Reason.NOT_HOSTED)]

    def decide_stretch(self, stretch: Stretch) -> None:
        """Refuse all of them for the same reason."""
        not_hosted = Reason.NOT_HOSTED.number
        stretch.reasons = [reason or not_hosted for reason in stretch.reasons]

    def take(self) -> object:
        """Nothing changed."""
        return None

    async def write(self, conn: asyncpg.Connection, part: int, changed: object) -> None:
        """Nothing to write."""

    def discard(self) -> None:
        """Nothing to forget."""


@dataclass(slots=True, kw_only=True)
class _Batch:
    """Commands that were submitted together, and who waits for them."""

    commands: Sequence[Command | Block]
    count: int
    done: asyncio.Future[list[Answer | EntryColumns]]
    answers: list[Answer | EntryColumns] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _Flush:
    """A decided group on its way into the database."""

    batches: list[_Batch]
    changes: Changes
    ridden: object
    keys: list[bytes]
    blocks: list[Block]
    clock_us: int
    cycle_no: int
    last_seq: int
    quiet: bool = False


@dataclass(slots=True, kw_only=True)
class WriterFigures:
    """Counts for metrics; they start at 0 with the process."""

    commands: int = 0
    events: int = 0
    flushes: int = 0
    duplicates: int = 0
    takeovers: int = 0
    breaches: int = 0


class Writer:
    """The one writer of a partition; an in-process `Clearing`."""

    def __init__(
        self,
        *,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        now_us: Callable[[], int],
        rider: Rider | None = None,
        part: int = PART,
        queue_limit: int = 100_000,
    ) -> None:
        """Prepare; `start` takes the partition over.

        Args:
            connect: Opens a direct connection under the program's role.
            now_us: The writer's clock, microseconds since 1970.
            rider: The hosted programme, if there is one.
            part: Partition.
            queue_limit: Most commands that may wait; more are turned away as unavailable.
        """
        self._connect = connect
        self._now_us = now_us
        self._rider: Rider = rider or NoRider()
        self._part = part
        self._queue_limit = queue_limit
        self._queue: deque[_Batch] = deque()
        self._queued = 0
        self._wake = asyncio.Event()
        self._accepting = False
        self._books: Books | None = None
        self._fence: Fence | None = None
        self._write_conn: asyncpg.Connection | None = None
        self._read_conn: asyncpg.Connection | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self._in_flight: asyncio.Task[None] | None = None
        self._flush: _Flush | None = None
        self._retry: list[_Batch] = []
        self._pending: dict[bytes, tuple[bytes, Answer]] = {}
        self._blocks: list[Block] = []
        self._recent: set[bytes] = set()
        self._older: set[bytes] = set()
        self._remember_from_ms = 0
        self._recent_from_ms = 0
        self._look_everywhere = False
        self._identity = uuid.uuid4().bytes
        self.figures = WriterFigures()
        self.same: Callable[[bytes, bytes], bool] = operator.eq
        """Whether two bodies under one key, the stored one and the one that is asked, are one request's."""

    # The face that callers see -------------------------------------------------------------------

    async def start(self) -> None:
        """Take the partition over and begin to decide.

        Raises:
            Unavailable: The database does not answer.
        """
        try:
            await self._take_over(expected=None)
        except _LOST as error:
            raise Unavailable(f"the database does not answer: {error}") from error
        self._accepting = True
        self._loop_task = asyncio.create_task(self._run(), name="writer")

    async def submit(self, commands: Sequence[Command]) -> list[Answer]:
        """Have commands decided strictly in their order; see `Clearing.submit`."""
        return await self._enqueue(commands, len(commands)) if commands else []  # type: ignore[return-value] # no block, no columns

    async def submit_columns(self, orders: OrderColumns) -> EntryColumns:
        """Have the orders of one large request decided; see `Clearing.submit_columns`."""
        [answer] = await self._enqueue([Block(orders)], len(orders))
        assert isinstance(answer, EntryColumns)
        return answer

    async def _enqueue(
        self, commands: Sequence[Command | Block], count: int
    ) -> list[Answer | EntryColumns]:
        """Put what counts as so many commands into the queue, and wait for the answers."""
        if not self._accepting:
            raise Unavailable("the writer is stopping or was taken over")
        if self._queued and self._queued + count > self._queue_limit:
            raise Unavailable("the writer's queue is full")
        done: asyncio.Future[list[Answer | EntryColumns]]
        done = asyncio.get_running_loop().create_future()
        self._queue.append(_Batch(commands=commands, count=count, done=done))
        self._queued += count
        self._wake.set()
        return await done

    async def stop(self, *, within_seconds: float = 30.0) -> None:
        """Accept nothing new, commit everything that was accepted, and end.

        Args:
            within_seconds: After that, whoever still waits is told that the writer is unavailable:
                the database is away.
        """
        self._accepting = False
        self._wake.set()
        if self._loop_task:
            _, late = await asyncio.wait({self._loop_task}, timeout=within_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)
        await self._disconnect()

    async def wait_ended(self) -> None:
        """Wait until the writer ends by itself; raises `Fenced` when it was taken over."""
        if self._loop_task:
            await asyncio.shield(self._loop_task)

    @property
    def waiting(self) -> int:
        """Commands in the queue, for metrics."""
        return self._queued

    @property
    def epoch(self) -> int:
        """The epoch under which this writer writes; 0 before it took over."""
        return self._fence.epoch if self._fence else 0

    @property
    def open_cycle(self) -> int:
        """Number of the open cycle; 0 before the first."""
        return self._books.cycle_no if self._books else 0

    # The loop -----------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while True:
                try:
                    if not await self._step():
                        return
                except Fenced:
                    raise
                except Exception as error:  # noqa: BLE001 - whatever went wrong, every caller gets an answer
                    await self._recover(error)
        except BaseException as error:
            self._accepting = False
            self._fail_everybody(Unavailable(f"the writer ended: {error}"))
            raise

    async def _step(self) -> bool:
        """Decide one group and hand it to the database; False when all is done and stopping."""
        if not self._retry:
            self._retry = self._next_batches()
        if not self._retry:
            if self._in_flight:
                await self._gather(self._in_flight)
                return True
            if not self._accepting and not self._queue:
                return False
            self._wake.clear()
            await self._wake.wait()
            return True
        batches = self._retry
        commands, blocks = _sorted_out(batches)
        quiet = self._rider.needs_quiet(commands)
        if self._flush and (quiet or self._flush.quiet):
            await self._land()
        stored, orders = await self._load(commands, blocks)
        flush = await self._decide(batches, stored, orders)
        flush.quiet = quiet
        await self._land()
        self._flush, self._retry = flush, []
        self._in_flight = asyncio.create_task(self._commit(flush))
        self._in_flight.add_done_callback(lambda _: self._wake.set())
        return True

    async def _gather(self, in_flight: asyncio.Task[None]) -> None:
        """Wait for a group that is worth deciding beside the flush in flight, or until that has landed."""
        while not in_flight.done() and self._queued < WORTH_COMMANDS:
            self._wake.clear()
            await self._wake.wait()
        if in_flight.done():
            await self._land()

    def _next_batches(self) -> list[_Batch]:
        """Take what waits, up to a limit, in arrival order."""
        batches: list[_Batch] = []
        count = 0
        while self._queue and (not batches or count + self._queue[0].count <= FLUSH_LIMIT):
            batch = self._queue.popleft()
            count += batch.count
            batches.append(batch)
        self._queued -= count
        return batches

    async def _land(self) -> None:
        """Wait for the flush in flight; then its keys are in the database and need no memory here."""
        if self._in_flight is None or self._flush is None:
            return
        await self._in_flight
        flush, self._flush, self._in_flight = self._flush, None, None
        self._remember(flush)

    def _remember(self, flush: _Flush) -> None:
        """A committed flush: its keys are in the database now, and need no answers in memory."""
        for key in flush.keys:
            self._pending.pop(key, None)
        if self._books and self._books.recent_ends:
            self._books.recent_ends = {
                order_seq: end
                for order_seq, end in self._books.recent_ends.items()
                if end[1].seq > flush.last_seq
            }
        if self._books and (self._books.cleared or self._books.past):
            reversal.forget(self._books, flush.last_seq)
        self._recent.update(flush.keys)
        for block in flush.blocks:
            self._blocks.remove(block)
            self._recent.update(block.rows)
        if len(self._recent) > REMEMBERED_KEYS:
            self._older, self._recent = self._recent, set()
            self._remember_from_ms, self._recent_from_ms = (
                self._recent_from_ms,
                self._now_us() // 1000,
            )

    # Deciding -----------------------------------------------------------------------------------

    async def _load(
        self, commands: list[Command], blocks: list[Block]
    ) -> tuple[dict[bytes, tuple[bytes, Answer]], dict[int, tuple[int, list[Entry]]]]:
        """Read what deciding needs: used keys, ended orders, hosted lots."""
        assert self._read_conn is not None
        assert self._books is not None
        wanted: set[bytes] = set()
        ends: set[int] = set()
        pending, recent, older = self._pending, self._recent, self._older
        since_ms = self._remember_from_ms
        reversals: set[int] = set()
        adjusted: set[int] = set()
        # A key from a clock that runs ahead tells nothing about when it was used.
        until_ms = self._now_us() // 1000 + 1000
        for command in commands:
            kind = type(command)
            if kind is not Order and kind in UNKEYED:
                order_seq: int = command.order_seq  # type: ignore[attr-defined] # its type was just compared
                if order_seq not in self._books.holds:
                    ends.add(order_seq)
                continue
            if kind is Reverse:
                reversals.add(command.order_seq)  # type: ignore[attr-defined] # its type was just compared
            elif kind is Adjust and command.order_seq:  # type: ignore[attr-defined] # as above
                adjusted.add(command.order_seq)  # type: ignore[attr-defined] # as above
            key = key_name(command.caller, command.key)
            if key in pending:
                continue
            if key not in recent and key not in older and not self._look_everywhere:
                made_ms = key_milliseconds(command.key)
                if made_ms is not None and since_ms < made_ms <= until_ms:
                    continue
            wanted.add(key)
        for block in blocks:
            since_block_ms = until_ms if self._look_everywhere else since_ms
            wanted |= block.wanted((recent, older), since_ms=since_block_ms, until_ms=until_ms)
        stored: dict[bytes, tuple[bytes, Answer]] = {}
        if wanted:
            stored = await journal.fetch_by_keys(
                self._read_conn,
                part=self._part,
                names=wanted,
            )
        orders: dict[int, tuple[int, list[Entry]]] = {}
        if ends:
            orders = await journal.fetch_orders(
                self._read_conn, part=self._part, order_seqs=list(ends)
            )
        if unknown := (reversals | adjusted) - self._books.cleared.keys():
            cleared, past = await journal.fetch_reversible(
                self._read_conn, part=self._part, order_seqs=sorted(unknown)
            )
            self._books.cleared |= cleared
            self._books.past |= past
        for block in blocks:
            commands.extend(block.orders.others.values())
        columns = [block.orders for block in blocks]
        known = self._books.cleared
        taken_back = [known[order_seq] for order_seq in sorted(reversals) if order_seq in known]
        await self._rider.load(self._read_conn, commands, columns, taken_back, self._books.clock_us)
        return stored, orders

    async def _decide(
        self,
        batches: list[_Batch],
        stored: dict[bytes, tuple[bytes, Answer]],
        orders: dict[int, tuple[int, list[Entry]]],
    ) -> _Flush:
        """Decide a group in arrival order.

        Nothing is waited for, but the loop turns now and then: the flush in flight is more bytes than its socket
        takes at once, and the database would wait for the rest until the whole group is decided.
        """
        assert self._books is not None
        assert self._fence is not None
        books, rider, pending = self._books, self._rider, self._pending
        books.tick(self._now_us())
        keys: list[bytes] = []
        blocks: list[Block] = []
        conflict = [unstored_refusal(Reason.IDEMPOTENCY_CONFLICT)]
        remember = keys.append
        for batch in batches:
            answers = batch.answers = []
            answer_with = answers.append
            self.figures.commands += batch.count
            for place, command in enumerate(batch.commands, start=1):
                if not place % TURN_COMMANDS:
                    await asyncio.sleep(0)
                kind = type(command)
                if isinstance(command, Block):
                    answer_with(await self._decide_block(command, stored))
                    blocks.append(command)
                    continue
                if kind is not Order and kind in UNKEYED:
                    answer_with([self._end(command, orders)])  # type: ignore[arg-type] # its type was just compared
                    continue
                key = key_name(command.caller, command.key)
                known = pending.get(key)
                if known is None and stored:
                    known = stored.get(key)
                if known is None and self._blocks:
                    known = self._in_blocks(key)
                if known is not None:
                    self.figures.duplicates += 1
                    answer_with(known[1] if self.same(known[0], command.body) else conflict)
                    continue
                ridden = kind not in ADMINISTRATIVE
                if kind is Order:
                    ridden = command.hosted and not command.reason  # type: ignore[attr-defined] # its type was just compared
                answer = rider.decide(command, books) if ridden else books.decide(command)  # type: ignore[arg-type] # narrowed by the lines above
                pending[key] = (command.body, answer)
                remember(key)
                answer_with(answer)
        self._look_everywhere = False
        return _Flush(
            batches=batches,
            changes=books.take(),
            ridden=rider.take(),
            keys=keys,
            blocks=blocks,
            clock_us=books.clock_us,
            cycle_no=books.cycle_no,
            last_seq=books.seq,
        )

    def _in_blocks(self, key: bytes) -> tuple[bytes, Answer] | None:
        """What was decided under a key in a request of columns that is not in the database yet."""
        for block in self._blocks:
            if known := block.known(key):
                return known
        return None

    async def _decide_block(
        self, block: Block, stored: dict[bytes, tuple[bytes, Answer]]
    ) -> EntryColumns:
        """Decide the orders of one request of columns, each in its turn."""
        books = self._books
        assert books is not None
        known: dict[bytes, tuple[bytes, Answer]] = {}
        for decided in (stored, self._pending):
            known |= {name: decided[name] for name in block.rows.keys() & decided.keys()}
        for earlier in self._blocks:
            for name in block.rows.keys() & earlier.rows.keys():
                known.setdefault(name, earlier.known(name))  # type: ignore[arg-type] # it is in there
        for _ in block.decide(books, self._rider, known, self.same):
            await asyncio.sleep(0)
        self.figures.duplicates += block.repeats
        self._blocks.append(block)
        return block.answers()

    def _end(self, command: End | Pin, orders: dict[int, tuple[int, list[Entry]]]) -> Entry:
        """End or pin an open hold; for one that has ended, repeat or refuse according to how it ended."""
        assert self._books is not None
        if command.order_seq in self._books.holds:
            return self._books.decide(command)[0]
        ended: tuple[int, Entry] | None = None
        if recent := self._books.recent_ends.get(command.order_seq):
            ended = recent[0].caller, recent[1]
        elif command.order_seq in orders:
            caller, entries = orders[command.order_seq]
            ended = caller, entries[-1]
        if ended is None or command.caller not in (ended[0], HOUSE):
            return unstored_refusal(Reason.ORDER_NOT_FOUND, command.order_seq)
        entry = ended[1]
        if entry.kind == Kind.ACCEPTED:
            # Stored as open, and not open in these books: another writer accepted it.
            raise Fenced(f"order {command.order_seq} was accepted by a later writer")
        if isinstance(command, End) and entry.kind == command.kind:
            self.figures.duplicates += 1
            return entry
        return unstored_refusal(_WHY_ENDED[Kind(entry.kind)], command.order_seq)

    # Writing ------------------------------------------------------------------------------------

    async def _commit(self, flush: _Flush) -> None:
        """Write one flush in one transaction, then answer everybody in it."""
        changes = flush.changes
        if changes.events:
            conn, fence = self._write_conn, self._fence
            assert conn is not None
            assert fence is not None
            events = b"".join(changes.events)
            digest = chain_digest(
                fence.digest,
                events,
                part=self._part,
                flush_no=fence.flush_no + 1,
                epoch=fence.epoch,
                first_seq=changes.first_seq,
                count=changes.count,
                at_us=flush.clock_us,
            )
            async with conn.transaction():
                if not await journal.advance_partition(
                    conn,
                    fence=fence,
                    books_seq=flush.last_seq,
                    clock_us=flush.clock_us,
                    cycle_no=flush.cycle_no,
                    digest=digest,
                ):
                    raise Fenced(f"part {self._part} was taken over from epoch {fence.epoch}")
                await journal.copy_events(conn, events)
                await self._rider.write(conn, self._part, flush.ridden)
                if changes.ended:
                    await journal.delete_holds(conn, part=self._part, order_seqs=changes.ended)
                if changes.opened:
                    await journal.insert_holds(conn, part=self._part, holds=changes.opened)
                if changes.pinned:
                    await journal.pin_holds(conn, part=self._part, pinned=changes.pinned)
                if changes.reversed:
                    await journal.write_reversed(conn, part=self._part, reversed_=changes.reversed)
                if changes.funds:
                    await funds.write_funds(conn, part=self._part, change=changes.funds)
                if changes.cycles:
                    await journal.write_cycles(conn, part=self._part, changes=changes)
                if changes.arrangements or changes.pairs:
                    await journal.write_arrangements(conn, part=self._part, changes=changes)
                await journal.write_projections(
                    conn,
                    part=self._part,
                    changes=changes,
                    flush_no=fence.flush_no + 1,
                    epoch=fence.epoch,
                    at_us=flush.clock_us,
                    digest=digest,
                )
            self._fence = journal.Fence(
                part=self._part, epoch=fence.epoch, flush_no=fence.flush_no + 1, digest=digest
            )
            self.figures.flushes += 1
            self.figures.events += changes.count
            for merchant_no, missing_cu in changes.breached.items():
                self.figures.breaches += 1
                log.warning("cap.breached", merchant_no=merchant_no, missing_cu=missing_cu)
        elif not await self._still_ours():
            # Repeats and refusals of ends write nothing, but a fenced writer must not give them either.
            raise Fenced(f"part {self._part} was taken over")
        for batch in flush.batches:
            if not batch.done.done():
                batch.done.set_result(batch.answers)

    async def _still_ours(self) -> bool:
        assert self._write_conn is not None
        assert self._fence is not None
        epoch = await journal.fetch_epoch(self._write_conn, part=self._part)
        return epoch == self._fence.epoch

    # Faults -------------------------------------------------------------------------------------

    async def _take_over(self, *, expected: int | None) -> None:
        """Raise the epoch, then load the books as the last committed flush left them."""
        await self._disconnect()
        self._write_conn = await self._connect()
        self._read_conn = await self._connect()
        for conn in (self._write_conn, self._read_conn):
            await journal.prepare_writer_connection(conn)
        raising = asyncio.ensure_future(
            journal.raise_epoch(
                self._write_conn, part=self._part, expected=expected, writer=self._identity
            )
        )
        while not (await asyncio.wait({raising}, timeout=BLOCKED_SECONDS))[0]:
            await journal.end_blockers(self._read_conn, pid=self._write_conn.get_server_pid())
        fence = await raising
        if fence is None:
            raise Fenced(f"part {self._part} has another writer, or was never opened")
        self._fence = fence
        self._books = await journal.load_books(self._write_conn, self._part)
        self._rider.discard()
        self._pending = {}
        self._blocks = []
        self._recent = set()
        self._older = set()
        self._remember_from_ms = self._recent_from_ms = self._now_us() // 1000
        self.figures.takeovers += 1
        log.info("writer.took_over", part=self._part, epoch=fence.epoch, flush_no=fence.flush_no)

    async def _recover(self, error: Exception) -> None:
        """After a lost connection or an aborted flush: take over from oneself and decide again."""
        log.warning("writer.lost_flush", error=type(error).__name__, detail=str(error))
        if self._in_flight:
            with contextlib.suppress(Exception):
                await self._in_flight
            self._in_flight = None
        if self._flush:
            undone = [batch for batch in self._flush.batches if not batch.done.done()]
            self._retry = undone + [batch for batch in self._retry if batch not in undone]
            self._flush = None
        await self._take_over_again()
        if _is_poison(error):
            while self._retry:
                answers = await self._isolate(self._retry[0].commands)
                batch = self._retry.pop(0)
                if not batch.done.done():
                    batch.done.set_result(answers)

    async def _take_over_again(self) -> None:
        """Take over from oneself, waiting for a database that is away; then trust no memory of keys."""
        delay_seconds = 0.05
        while True:
            try:
                await self._take_over(expected=self.epoch)
            except _LOST as still:
                log.warning("writer.waits_for_database", detail=str(still))
                await asyncio.sleep(delay_seconds)
                delay_seconds = min(2.0, delay_seconds * 2)
            else:
                self._look_everywhere = True
                return

    async def _isolate(self, commands: Sequence[Command | Block]) -> list[Answer | EntryColumns]:
        """Commit commands that may hold one that cannot be booked, halving them until it is alone."""
        if len(commands) == 1 and isinstance(commands[0], Block):
            alone = await self._isolate(list(commands[0].orders.orders()))
            return [EntryColumns.of(answer[0] for answer in alone if isinstance(answer, list))]
        while True:
            done = asyncio.get_running_loop().create_future()
            batch = _Batch(commands=commands, count=len(commands), done=done)
            try:
                self._look_everywhere = True
                flush = await self._decide([batch], *await self._load(*_sorted_out([batch])))
                await self._commit(flush)
                self._remember(flush)
            except Fenced:
                raise
            except Exception as error:  # noqa: BLE001 - the search for it is what this is for
                await self._take_over_again()
                if not _is_poison(error):
                    continue
                if len(commands) == 1:
                    log.warning(
                        "command.not_booked", command=type(commands[0]).__name__, error=repr(error)
                    )
                    return [[unstored_refusal(Reason.CANNOT_BE_BOOKED)]]
                middle = len(commands) // 2
                return await self._isolate(commands[:middle]) + await self._isolate(
                    commands[middle:]
                )
            else:
                return batch.answers

    async def _disconnect(self) -> None:
        for conn in (self._write_conn, self._read_conn):
            if conn is not None:
                conn.terminate()
        self._write_conn = self._read_conn = None

    def _fail_everybody(self, error: Exception) -> None:
        batches = [*self._retry, *(self._flush.batches if self._flush else ()), *self._queue]
        self._queue.clear()
        self._queued = 0
        for batch in batches:
            if not batch.done.done():
                batch.done.set_exception(error)


def _sorted_out(batches: list[_Batch]) -> tuple[list[Command], list[Block]]:
    """The single commands of batches, and the requests of columns."""
    commands: list[Command] = []
    blocks: list[Block] = []
    for batch in batches:
        for command in batch.commands:
            if isinstance(command, Block):
                blocks.append(command)
            else:
                commands.append(command)
    return commands, blocks


_WHY_ENDED = {
    Kind.CLEARED: Reason.ORDER_ALREADY_CLEARED,
    Kind.VOIDED: Reason.ORDER_ALREADY_VOIDED,
    Kind.EXPIRED: Reason.HOLD_EXPIRED,
    Kind.REFUSED: Reason.ORDER_REFUSED,
    Kind.ACCEPTED: Reason.ORDER_NOT_FOUND,
    Kind.GIVEN: Reason.ORDER_NOT_FOUND,  # a transfer has an order's id, and no end
}


def _is_poison(error: Exception) -> bool:
    """Whether a group failed for what is in it, and would fail again."""
    if isinstance(error, asyncpg.UniqueViolationError):
        # A key that was believed to be new: looked up, it is answered as the duplicate that it is.
        return error.constraint_name != "event_key"
    if isinstance(error, asyncpg.DataError | asyncpg.ProtocolViolationError):
        return True  # A value that its column cannot read; in a COPY that is a breach of protocol.
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] not in _LOST_CLASSES
    return not isinstance(error, _LOST)
