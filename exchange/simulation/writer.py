"""The real books behind a group commit in memory, on a disk that a crash leaves as it was.

What `settlement.service.clearing` is on PostgreSQL, this is on virtual time: it decides what waits in
arrival order, writes the group in one step after a while, and answers only then. Everything but the
`Disk` is lost when its host is killed; what was decided and not yet written never happened, and what
was written and not yet answered did.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from exchange.programme.core.calls import BY_CALL, CALLS
from exchange.programme.core.command import Accrual
from exchange.simulation.hosted import LotDisk, audit_lots, catalogue_of
from schemas.values.ids import HOUSE, HOUSE_FEES, HOUSE_ROUNDING
from schemas.values.reason import Reason
from settlement.core.account import Account
from settlement.core.audit import (
    COPY_SIGNATURE,
    AuditReport,
    FlushRow,
    JournalAudit,
    obligation_key,
    obligation_rows,
    position_key,
    position_rows,
)
from settlement.core.books import Books
from settlement.core.chain import GENESIS, chain_digest
from settlement.core.columns import EntryColumns
from settlement.core.command import UNKEYED, Answer, End, Entry, Pin, unstored_refusal
from settlement.core.cycle import restore_closed
from settlement.core.event import Kind, unpack_event
from settlement.core.hold import Hold, restore_hold, restore_pin
from settlement.core.window import Obligation

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from exchange.core.catalogue import Catalogue
    from exchange.programme.core.lotbook import LotChanges
    from settlement.core.changes import Changes
    from settlement.core.columns import OrderColumns
    from settlement.core.command import Command

PART: Final = 1
COPY_HEADER: Final = COPY_SIGNATURE + bytes(8)
COPY_TRAILER: Final = b"\xff\xff"
WHY_ENDED: Final = {
    Kind.CLEARED: Reason.ORDER_ALREADY_CLEARED,
    Kind.VOIDED: Reason.ORDER_ALREADY_VOIDED,
    Kind.EXPIRED: Reason.HOLD_EXPIRED,
    Kind.REFUSED: Reason.ORDER_REFUSED,
}
Key = tuple[int, bytes]


@dataclass(slots=True, kw_only=True)
class Disk:
    """What the writer has committed: the journal, and the rows that follow from it.

    Attributes:
        epoch: Rises with each writer that starts.
        events: Canonical bytes of the events, in order.
        flushes: The flush log.
        answers: Key to the request's digest and its answer.
        lives: Number of an order's first event to its sender and its entries so far.
        accounts: Merchant to (cap, collateral, held), CU.
        positions: (cycle, merchant) to net CU.
        obligations: (cycle, issuer, acceptor) to (orders, debit, value, fee).
        holds: Open holds by the number of their order.
        pins: What pinned them, for those that are.
        cycles: Cycle to its id and state.
        lots: Lots of hosted programmes.
    """

    epoch: int = 0
    clock_us: int = 0
    cycle_no: int = 0
    events: list[bytes] = field(default_factory=list)
    flushes: list[FlushRow] = field(default_factory=list)
    answers: dict[Key, tuple[bytes, Answer]] = field(default_factory=dict)
    lives: dict[int, tuple[int, list[Entry]]] = field(default_factory=dict)
    accounts: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    positions: dict[tuple[int, int], int] = field(default_factory=dict)
    obligations: dict[tuple[int, int, int], tuple[int, int, int, int]] = field(default_factory=dict)
    holds: dict[int, Hold] = field(default_factory=dict)
    pins: dict[int, Entry] = field(default_factory=dict)
    cycles: dict[int, tuple[str, str]] = field(default_factory=dict)
    lots: LotDisk = field(default_factory=LotDisk)

    def load(self) -> Books:
        """Build the books as the last flush left them."""
        books = Books(part=PART)
        books.start_after(len(self.events))
        books.clock_us = self.clock_us
        books.cycle_no = self.cycle_no
        books.cycle_ids = {cycle_id for cycle_id, _ in self.cycles.values()}
        for merchant_no, figures in self.accounts.items():
            books.accounts[merchant_no] = Account(*figures)
        for (cycle_no, issuer, acceptor), sums in self.obligations.items():
            if cycle_no == self.cycle_no:
                books.obligations[issuer, acceptor] = Obligation(*sums)
        unsettled: dict[int, dict[int, int]] = {
            cycle_no: {} for cycle_no, (_, state) in self.cycles.items() if state == "closed"
        }
        for (cycle_no, merchant_no), net_cu in self.positions.items():
            if cycle_no in unsettled:
                unsettled[cycle_no][merchant_no] = net_cu
            elif cycle_no != self.cycle_no:
                continue
            elif merchant_no == HOUSE_FEES:
                books.fees_cu = net_cu
            elif merchant_no == HOUSE_ROUNDING:
                books.rounding_cu = net_cu
            else:
                books.accounts[merchant_no].open = net_cu
        for cycle_no, nets in unsettled.items():
            restore_closed(books, cycle_no, nets)
        for hold in self.holds.values():
            restore_hold(books, hold)
        for pin in self.pins.values():
            restore_pin(books, pin)
        return books

    def write(
        self,
        changes: Changes,
        answers: dict[Key, tuple[bytes, Answer]],
        books: Books,
        lots: LotChanges,
    ) -> list[Entry]:
        """Take one flush, whole.

        Returns:
            The entries of its events, in order.
        """
        if not changes.events:
            return []
        self.clock_us, self.cycle_no = books.clock_us, books.cycle_no
        self.flushes.append(
            FlushRow(
                len(self.flushes) + 1,
                self.epoch,
                changes.first_seq,
                len(changes.events),
                books.clock_us,
                chain_digest(
                    self.flushes[-1].digest if self.flushes else GENESIS,
                    b"".join(changes.events),
                    part=PART,
                    flush_no=len(self.flushes) + 1,
                    epoch=self.epoch,
                    first_seq=changes.first_seq,
                    count=len(changes.events),
                    at_us=books.clock_us,
                ),
            )
        )
        self.events += changes.events
        self.lots.write(lots)
        self.answers |= answers
        self.positions |= changes.positions
        self.obligations |= changes.obligations
        self.accounts |= changes.accounts
        for order_seq in changes.ended:
            del self.holds[order_seq]
            self.pins.pop(order_seq, None)
        self.holds |= {hold.order_seq: hold for hold in changes.opened}
        self.pins |= {order_seq: books.pins[order_seq] for order_seq in changes.pinned}
        for change in changes.cycles:
            cycle_id, state = self.cycles.get(change.cycle_no, (change.cycle_id, "open"))
            if change.kind is not Kind.CYCLE_OPENED:
                state = "closed" if change.kind is Kind.CYCLE_CLOSED else "settled"
            self.cycles[change.cycle_no] = cycle_id, state
        return self._note_lives(changes.events)

    def _note_lives(self, events: list[bytes]) -> list[Entry]:
        entries = []
        for data in events:
            e = unpack_event(data)
            entry = Entry(
                e.seq, e.order_seq, e.kind, e.reason, e.at_us, e.due_at_us, e.cycle_no, e.issuer,
                e.acceptor, e.units, e.debit_cu, e.value_cu, e.fee_cu, e.credited_units, e.lot_no,
                e.rate_no,
            )  # fmt: skip
            entries.append(entry)
            if e.kind in (Kind.RETURNED, Kind.WITHDRAWN):
                self.lots.undone.add(e.order_seq)
            # The refusal of a hold that was released before it came stands under the hold's own key.
            self.answers.setdefault((e.caller, e.key), (e.body, [entry]))
            if e.order_seq and e.kind not in BY_CALL:
                self.lives.setdefault(e.order_seq, (e.caller, []))[1].append(entry)
        return entries

    def key_of(self, order_seq: int) -> Key:
        """Sender and key of an order's first event."""
        event = unpack_event(self.events[order_seq - 1])
        return event.caller, event.key

    def audit(self) -> list[str]:
        """Recompute the rows from the journal, with code that shares nothing with the books."""
        report = AuditReport(part=PART)
        journal = JournalAudit(report)
        journal.expect(self.flushes)
        journal.feed(b"".join((COPY_HEADER, *self.events, COPY_TRAILER)))
        journal.end_stream()
        report.compare_rows(
            "account",
            ("cap", "collateral", "held"),
            {
                str(merchant_no): (account.cap, account.collateral, account.held)
                for merchant_no, account in journal.accounts.items()
            },
            {str(merchant_no): figures for merchant_no, figures in self.accounts.items()},
        )
        positions: dict[str, tuple[int]] = {}
        obligations: dict[str, tuple[int, ...]] = {}
        for cycle in journal.cycles.values():
            positions |= position_rows(cycle)
            obligations |= obligation_rows(cycle)
        report.compare_rows(
            "position",
            ("net_cu",),
            positions,
            {position_key(*key): (net_cu,) for key, net_cu in self.positions.items()},
        )
        report.compare_rows(
            "obligation",
            ("orders", "debit_cu", "value_cu", "fee_cu"),
            obligations,
            {obligation_key(*key): figures for key, figures in self.obligations.items()},
        )
        report.compare_rows(
            "hold",
            ("pinned_seq",),
            {str(order_seq): (hold.pinned_seq,) for order_seq, hold in journal.holds.items()},
            {
                str(order_seq): (self.pins[order_seq].seq if order_seq in self.pins else None,)
                for order_seq in self.holds
            },
        )
        audit_lots(self.lots, self.events, report)
        return [
            f"{each.table} {each.key} {each.field}: expected {each.expected}, found {each.found}"
            for each in report.differences
        ]


class VirtualWriter:
    """The one writer of the partition; a `Clearing`."""

    def __init__(
        self,
        disk: Disk,
        *,
        now_us: Callable[[], int],
        rng: random.Random,
        flush_seconds: tuple[float, float] = (0.001, 0.004),
        flushed: Callable[[list[Entry]], None] = lambda _: None,
        catalogue: Catalogue | None = None,
    ) -> None:
        """Take over what the disk holds.

        Args:
            disk: What survives.
            now_us: The writer's clock, microseconds since 1970.
            rng: Draws how long commits take.
            flush_seconds: Least and most time of one commit.
            flushed: Told the entries of each commit, at the instant at which they become durable.
            catalogue: The hosted programmes, if there are any.
        """
        disk.epoch += 1
        self._disk = disk
        self._epoch = disk.epoch
        self._books = disk.load()
        self._lots = disk.lots.load(catalogue or catalogue_of(()))
        self._now_us = now_us
        self._rng = rng
        self._flush_seconds = flush_seconds
        self._flushed = flushed
        self._queue: deque[tuple[Sequence[Command], asyncio.Future[list[Answer]]]] = deque()
        self._wake = asyncio.Event()

    async def submit(self, commands: Sequence[Command]) -> list[Answer]:
        """Have commands decided in order, and wait until they are durable."""
        done: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._queue.append((commands, done))
        self._wake.set()
        return await done

    async def submit_columns(self, orders: OrderColumns) -> EntryColumns:
        """Have the orders of one large request decided, one by one."""
        answers = await self.submit(list(orders.orders()))
        return EntryColumns.of(answer[0] for answer in answers)

    async def run(self) -> None:
        """Decide and commit, group by group, for ever."""
        while True:
            while not self._queue:
                self._wake.clear()
                await self._wake.wait()
            group, self._queue = list(self._queue), deque()
            self._books.tick(self._now_us())
            fresh: dict[Key, tuple[bytes, Answer]] = {}
            for commands, _ in group:
                self._disk.lots.read_for(self._lots, commands, self._disk.answers)
            decided = [
                (done, [self._decide(command, fresh) for command in commands])
                for commands, done in group
            ]
            await self._commit(self._books.take(), self._lots.take(), fresh, decided)

    async def _commit(
        self,
        changes: Changes,
        lots: LotChanges,
        fresh: dict[Key, tuple[bytes, Answer]],
        decided: list[tuple[asyncio.Future[list[Answer]], list[Answer]]],
    ) -> None:
        """Write a group and answer it; a kill at either wait leaves it unwritten, or unanswered."""
        least, most = self._flush_seconds
        await asyncio.sleep(least + self._rng.random() * (most - least))
        self._flushed(self._disk.write(changes, fresh, self._books, lots))
        # Ends are looked up on the disk from now on.
        self._books.recent_ends.clear()
        await asyncio.sleep(0)
        for done, answers in decided:
            if not done.done():
                done.set_result(answers)

    def _decide(self, command: Command, fresh: dict[Key, tuple[bytes, Answer]]) -> Answer:
        if type(command) in UNKEYED:
            return [self._decide_open(command)]  # type: ignore[arg-type] # its type was just compared
        key = command.caller, command.key
        known = fresh.get(key) or self._disk.answers.get(key)
        if known is not None:
            same = known[0] == command.body
            return known[1] if same else [unstored_refusal(Reason.IDEMPOTENCY_CONFLICT)]
        if isinstance(command, (Accrual, *CALLS)):
            answer = self._lots.decide(command, self._books)
        else:
            answer = self._books.decide(command)  # type: ignore[arg-type] # nothing else of the rider's is sent here
        fresh[key] = command.body, answer
        return answer

    def _decide_open(self, command: End | Pin) -> Entry:
        """End or pin an open hold; for one that has ended, repeat or refuse by how it ended."""
        order_seq = command.order_seq
        if order_seq in self._books.holds:
            return self._books.decide(command)[0]
        ended: tuple[int, Entry] | None = None
        if recent := self._books.recent_ends.get(order_seq):
            ended = recent[0].caller, recent[1]
        elif order_seq in self._disk.lives:
            caller, entries = self._disk.lives[order_seq]
            ended = caller, entries[-1]
        if ended is None or command.caller not in (ended[0], HOUSE):
            return unstored_refusal(Reason.ORDER_NOT_FOUND, order_seq)
        entry = ended[1]
        if isinstance(command, End) and entry.kind == command.kind:
            return entry
        return unstored_refusal(WHY_ENDED[Kind(entry.kind)], order_seq)
