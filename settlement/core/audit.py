"""Recomputing the books from the journal, and saying where what is stored differs.

Shares no decision with `settlement.core.books`: an audit that ran the writer's own code would repeat
its mistakes. It reads canonical bytes in order of sequence, as `COPY … TO STDOUT (FORMAT binary)`
gives them, and keeps only what is open: accounts, open holds, the open cycle of each arrangement, and of
closed cycles what is not settled. So its memory does not grow with the journal.

Where a row differs, the audit goes on from what is stored, so that one broken row is one difference
and not a thousand.

Source: settlement/RULES.md, rules B1 to B8, C1 to C4, U1 to U11.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.ids import HOUSE_FEES, HOUSE_ROUNDING
from schemas.values.reason import Reason
from settlement.core.audit_funds import MONEY, FundsAudit, MoneyMoved
from settlement.core.audit_reversal import ReversalAudit, Reversing
from settlement.core.chain import GENESIS
from settlement.core.event import EPOCH_2000_US, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DIFFERENCES_MAX: Final = 1_000
"""Differences that are kept word for word; further ones are counted."""

COPY_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
COPY_HEADER_BYTES: Final = len(COPY_SIGNATURE) + 8

# An event's canonical bytes up to its reference. `x` passes over lengths, lot number, key and body: what
# they hold is covered by the chain of digests, which is taken over the very bytes.
_ROW: Final = struct.Struct(">h" + "4xq" * 11 + "12x" + "20x" * 2 + "4xi" * 5 + "4xh" * 4 + "i")
_FLUSH_HEADER: Final = struct.Struct(">hqqqiq")

_ACCEPTED, _REFUSED, _CLEARED, _VOIDED, _EXPIRED, _ADJUSTED, _ACCRUED, _LAPSED, _PINNED = range(
    1, 10
)
_TAKES_BACK: Final = frozenset({int(Kind.REVERSED), _ADJUSTED})
_POINTS: Final = frozenset(
    {
        *(_ACCRUED, _LAPSED, Kind.TAKEN, Kind.RETURNED, Kind.CREDITED, Kind.WITHDRAWN),
        *(Kind.GIVEN, Kind.RECEIVED),
    }
)
"""Kinds that move points and no value: the audit of lots looks at them."""
_MAIN: Final = 0
_GROSS: Final = 2
_CAP_REASON: Final = Reason.NET_DEBIT_CAP_EXCEEDED.number
_FUNDS_REASON: Final = Reason.FUNDS_INSUFFICIENT.number
_BASIS_DATE: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One place where what is stored is not what the journal says.

    Attributes:
        table: Table of the row, for example `settlement.position`.
        key: Which row, for example `cycle 3, merchant 5`.
        field: Which column or rule.
        expected: What the journal says; `-` where there should be no row.
        found: What is stored; `-` where the row is missing.
    """

    table: str
    key: str
    field: str
    expected: str
    found: str


@dataclass(slots=True, kw_only=True)
class AuditReport:
    """What an audit went through, and where the rows differ.

    Attributes:
        part: Partition.
        events: Events read.
        flushes: Flushes whose digest was recomputed.
        orders: Orders that cleared.
        reversals: Reversals, whole or in part.
        adjustments: Adjustments.
        cycles: Cycles that were opened.
        holds: Holds that are open.
        batches: Batches whose place in the chain of manifests was checked.
        lots: Lots that were recomputed.
        head: Digest of the last flush, recomputed.
        differences: The first `DIFFERENCES_MAX` differences.
        differences_count: How many there are.
    """

    part: int
    events: int = 0
    flushes: int = 0
    orders: int = 0
    reversals: int = 0
    adjustments: int = 0
    cycles: int = 0
    holds: int = 0
    batches: int = 0
    lots: int = 0
    head: bytes = GENESIS
    differences: list[Difference] = field(default_factory=list)
    differences_count: int = 0

    @property
    def clean(self) -> bool:
        """Whether every row is what the journal says."""
        return self.differences_count == 0

    def differ(self, table: str, key: str, column: str, expected: object, found: object) -> None:
        """Note one difference; `None` stands for a row that is not there."""
        self.differences_count += 1
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(
                Difference(
                    table=table, key=key, field=column, expected=_text(expected), found=_text(found)
                )
            )

    def compare_rows(
        self,
        table: str,
        columns: Sequence[str],
        expected: Mapping[str, Sequence[object]],
        found: Mapping[str, Sequence[object]],
    ) -> None:
        """Compare rows by key, column by column, and note what differs.

        Args:
            table: Name of the table.
            columns: Names of the values, in their order.
            expected: Values by key, as the journal says.
            found: Values by key, as they are stored.
        """
        for key in expected.keys() | found.keys():
            should, is_ = expected.get(key), found.get(key)
            if should is None or is_ is None:
                self.differ(table, key, "row", _row_text(columns, should), _row_text(columns, is_))
                continue
            for column, one, other in zip(columns, should, is_, strict=True):
                if one != other:
                    self.differ(table, key, column, one, other)

    def add(self, other: AuditReport) -> None:
        """Take the counts and differences of another audit of the same ledger into this one."""
        self.events += other.events
        self.lots += other.lots
        self.differences_count += other.differences_count
        self.differences += other.differences[: DIFFERENCES_MAX - len(self.differences)]


def _text(value: object) -> str:
    if value is None:
        return "-"
    return value.hex() if isinstance(value, bytes) else str(value)


def _row_text(columns: Sequence[str], values: Sequence[object] | None) -> str | None:
    if values is None:
        return None
    return ", ".join(
        f"{column} {_text(value)}" for column, value in zip(columns, values, strict=True)
    )


def instant_text(at_us: int) -> str:
    """Microseconds since 1970-01-01 UTC as ISO 8601, for people who read a difference."""
    return (_BASIS_DATE + timedelta(microseconds=at_us)).isoformat()


class FlushRow(NamedTuple):
    """One row of the flush log; `at_us` counts from 1970."""

    flush_no: int
    epoch: int
    first_seq: int
    events: int
    at_us: int
    digest: bytes


@dataclass(slots=True, kw_only=True)
class AccountFigures:
    """One merchant's figures, CU; `unsettled` sums its negative closed and unsettled positions.

    `reserved` is the part of `held` that is of pairs in gross arrangements: it reserves funds, and no headroom.
    """

    cap: int
    collateral: int = 0
    held: int = 0
    unsettled: int = 0
    reserved: int = 0

    @property
    def base(self) -> int:
        """Headroom before the open position counts (rule C1)."""
        return self.cap + self.collateral + self.unsettled - self.held + self.reserved


class Figures(NamedTuple):
    """What the end of an order must repeat of its acceptance."""

    occurred_at: int
    member_no: int
    units: int
    debit: int
    value: int
    fee: int
    credited: int
    caller: int
    issuer: int
    acceptor: int
    rate_no: int
    reference: bytes


class OpenHold(NamedTuple):
    """An accepted order that has not ended.

    Attributes:
        due_at: When it ends by itself, microseconds from 2000, as the bytes have it.
        figures: What was accepted.
        pinned_seq: Event that pinned it; None while nothing did.
    """

    due_at: int
    figures: Figures
    pinned_seq: int | None = None


@dataclass(slots=True, kw_only=True)
class CycleFigures:
    """One cycle as the journal tells it.

    Attributes:
        cycle_no: Its number.
        cycle_id: Its id.
        opened_at_us: When it was opened.
        first_seq: Event that opened it.
        state: `open`, `closed` or `settled`.
        closed_at_us: When it was closed; None while it is open.
        last_seq: Event that closed it; None while it is open.
        settled_at_us: When it counted as paid.
        pairs: (issuer, acceptor) to orders, debit, value and fee; dropped once they are compared.
        reversed: The same of what reversals took back.
        debts: Merchant to its negative net figure, until the cycle is settled.
        arrangement_no: The arrangement that it is a cycle of.
        positions: Merchant to its position, while the cycle is open; none of a gross cycle, where nothing is owed.
        gross: Whether each line moved its money itself (rule T9).
    """

    cycle_no: int
    cycle_id: str
    opened_at_us: int
    first_seq: int
    state: str = "open"
    closed_at_us: int | None = None
    last_seq: int | None = None
    settled_at_us: int | None = None
    pairs: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    reversed: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    debts: dict[int, int] = field(default_factory=dict)
    arrangement_no: int = _MAIN
    positions: dict[int, int] = field(default_factory=dict)
    gross: bool = False

    def nets(self) -> dict[int, int]:
        """Net figure of every party that an order concerned, the house's accounts included."""
        nets: dict[int, int] = defaultdict(int)
        for pairs, sign in ((self.pairs, 1), (self.reversed, -1)):
            for (issuer, acceptor), (_, debit, value, fee) in pairs.items():
                nets[issuer] -= sign * debit
                nets[acceptor] += sign * (value - fee)
                nets[HOUSE_FEES] += sign * fee
                nets[HOUSE_ROUNDING] += sign * (debit - value)
        return dict(nets)


class JournalAudit:
    """Replays a journal's bytes and recomputes everything that is derived from them."""

    def __init__(self, report: AuditReport, *, reversed_orders: Iterable[int] = ()) -> None:
        """Start before the first event; differences go into `report`.

        Args:
            report: Where differences go.
            reversed_orders: Orders that some reversal or adjustment names, so that what they cleared is remembered.
        """
        self.report = report
        self.reversals = ReversalAudit(reversed_orders)
        self.accounts: dict[int, AccountFigures] = {}
        self.funds = FundsAudit(self.accounts, self._event)
        self.holds: dict[int, OpenHold] = {}
        self.cycles: dict[int, CycleFigures] = {}
        self.cycle_ids: set[str] = set()
        self.finished_cycles: list[CycleFigures] = []
        self.open: dict[int, CycleFigures] = {}
        self.last_cycle_no = 0
        self.main_cycle_no = 0
        self.arrangements: dict[int, tuple[str, int]] = {}
        self.pairs: dict[tuple[int, int], int] = {}
        self.turning: dict[tuple[int, int], int] = {}
        self.last_seq = 0
        self.last_at = -(1 << 63)
        self.last_flush: FlushRow | None = None
        self._refused_seq = 0
        self._refused_debits: dict[int, int] = defaultdict(int)
        self._flushes: list[FlushRow] = []
        self._flush_place = 0
        self._digest = hashlib.sha256()
        self._rest = b""
        self._begun = False
        self._ended = False

    # The stream -------------------------------------------------------------------------------

    def expect(self, flushes: Iterable[FlushRow]) -> None:
        """Announce the flushes whose events come next, and begin a new COPY stream."""
        self._flushes = list(flushes)
        self._flush_place = 0
        self._begin_flush()
        self._rest = b""
        self._begun = self._ended = False

    def feed(self, piece: bytes) -> int:
        """Take the next piece of the stream, wherever it ends.

        Returns:
            How many events it completed.

        Raises:
            ValueError: The stream is not a binary COPY of the journal.
        """
        data = self._rest + piece if self._rest else piece
        place = 0
        if not self._begun:
            if len(data) < COPY_HEADER_BYTES:
                self._rest = data
                return 0
            if not data.startswith(COPY_SIGNATURE):
                raise ValueError("not a binary COPY stream")
            self._begun = True
            place = COPY_HEADER_BYTES
        place, count = self._events(data, place)
        self._rest = data[place:]
        if self._rest == b"\xff\xff":
            self._rest, self._ended = b"", True
        return count

    def end_stream(self) -> None:
        """The stream is over: the flushes that were announced must be complete.

        Raises:
            ValueError: It was cut short.
        """
        if not self._ended:
            raise ValueError("the COPY stream was cut short")
        self.funds.check(self.last_seq + 1)
        while self._flush_place < len(self._flushes):
            self._finish_flush()

    def _events(self, data: bytes, place: int) -> tuple[int, int]:
        """Apply the whole events in `data` from `place`; returns where the rest begins, and how many."""
        unpack, row_bytes, size = _ROW.unpack_from, _ROW.size, len(data)
        reversed_orders = self.reversals.wanted
        view = memoryview(data)
        report, part = self.report, self.report.part
        chained = place
        count = 0
        expected_seq = self.last_seq + 1
        last_at = self.last_at
        flush_end = self._flush_end()
        while place + row_bytes <= size:
            (
                columns, seq, order_seq, at, occurred_at, due_at, member_no, units, debit, value, fee,
                credited, cycle_no, caller, issuer, acceptor, rate_no, row_part, kind, step,
                reason, length,
            ) = unpack(data, place)  # fmt: skip
            end = place + row_bytes + length
            if end > size:
                break
            if columns != 24 or length < 0:
                raise ValueError(f"a row of {columns} columns in the COPY stream")
            count += 1
            if seq != expected_seq:
                report.differ("settlement.event", f"seq {expected_seq}", "row", "present", None)
                if seq > expected_seq + 1:
                    report.differ(
                        "settlement.event", f"seq {expected_seq + 1} to {seq - 1}", "row", "present", None
                    )  # fmt: skip
            expected_seq = seq + 1
            if seq > flush_end:
                # Events that no flush announces still count for the books, never for a digest.
                while seq > flush_end:
                    self._chain(view[chained:place])
                    chained = place
                    self._finish_flush()
                    flush_end = self._flush_end()
            if at < last_at or row_part != part:
                self._misplaced(seq, at, last_at, row_part)
            last_at = at
            if kind in _TAKES_BACK or (kind == _CLEARED and order_seq in reversed_orders):
                self._reversal(
                    Reversing(
                        seq, order_seq, kind, step, caller, member_no, issuer, acceptor, rate_no,
                        units, debit, value, fee, credited, cycle_no, data[place + row_bytes : end],
                    )
                )  # fmt: skip
            if kind == _CLEARED and order_seq == seq:
                self._clear(seq, issuer, acceptor, units, debit, value, fee, cycle_no)
            elif kind in (_CLEARED, _VOIDED, _EXPIRED, _PINNED):
                figures = Figures(
                    occurred_at, member_no, units, debit, value, fee, credited, caller, issuer,
                    acceptor, rate_no, data[place + row_bytes : end],
                )  # fmt: skip
                if kind == _PINNED:
                    self._pin(seq, order_seq, at, step, figures, cycle_no)
                else:
                    self._end(seq, order_seq, at, kind, step, figures, cycle_no)
            elif kind == _ACCEPTED:
                figures = Figures(
                    occurred_at, member_no, units, debit, value, fee, credited, caller, issuer,
                    acceptor, rate_no, data[place + row_bytes : end],
                )  # fmt: skip
                self._accept(seq, order_seq, due_at, figures, cycle_no)
            elif kind == _REFUSED:
                if order_seq:
                    self._refused(seq, step, issuer, debit, reason)
            elif kind in MONEY:
                self.funds.take(
                    MoneyMoved(
                        seq, kind, step, issuer, acceptor, units, credited, (debit, value, fee), cycle_no
                    ),
                    self._debts(issuer),
                )  # fmt: skip
            elif kind not in _POINTS and kind not in _TAKES_BACK:
                text = data[place + row_bytes : end].decode(errors="replace")
                if kind == Kind.PAIR_ARRANGED:
                    self._arrange_pair(seq, issuer, acceptor, value)
                elif kind == Kind.ARRANGEMENT_MADE:
                    self._make_arrangement(seq, value, fee, text)
                else:
                    self._administer(seq, at, kind, issuer, value, cycle_no, text)
            place = end
            if seq == flush_end:
                self._chain(view[chained:place])
                chained = place
                self._finish_flush()
                flush_end = self._flush_end()
        self._chain(view[chained:place])
        self.last_seq = expected_seq - 1
        self.last_at = last_at
        report.events += count
        return place, count

    # The chain --------------------------------------------------------------------------------

    def _flush_end(self) -> int:
        """Number of the last event of the flush that is being read; beyond every event after the last."""
        if self._flush_place == len(self._flushes):
            return 1 << 63
        flush = self._flushes[self._flush_place]
        return flush.first_seq + flush.events - 1

    def _begin_flush(self) -> None:
        if self._flush_place == len(self._flushes):
            return
        flush, before = self._flushes[self._flush_place], self.last_flush
        key = f"flush {flush.flush_no}"
        number = before.flush_no + 1 if before else 1
        if flush.flush_no != number:
            self.report.differ("settlement.flush", f"flush {number}", "row", "present", None)
        first_seq = before.first_seq + before.events if before else 1
        if flush.first_seq != first_seq:
            self.report.differ("settlement.flush", key, "first_seq", first_seq, flush.first_seq)
        if before and flush.epoch < before.epoch:
            self.report.differ("settlement.flush", key, "epoch", f">= {before.epoch}", flush.epoch)
        if before and flush.at_us < before.at_us:
            self.report.differ(
                "settlement.flush", key, "at",
                f">= {instant_text(before.at_us)}", instant_text(flush.at_us),
            )  # fmt: skip
        self._digest = hashlib.sha256(before.digest if before else GENESIS)
        self._digest.update(
            _FLUSH_HEADER.pack(
                self.report.part,
                flush.flush_no,
                flush.epoch,
                flush.first_seq,
                flush.events,
                flush.at_us - EPOCH_2000_US,
            )
        )

    def _chain(self, events: memoryview) -> None:
        if self._flush_place < len(self._flushes) and events:
            self._digest.update(events)

    def _finish_flush(self) -> None:
        """Compare the digest of the flush that was read, and go on from the one that is stored."""
        flush = self._flushes[self._flush_place]
        digest = self._digest.digest()
        if digest != flush.digest:
            self.report.differ(
                "settlement.flush", f"flush {flush.flush_no}", "digest", digest, flush.digest
            )
        self.report.flushes += 1
        self.report.head = digest
        self.last_flush = flush
        self._flush_place += 1
        self._begin_flush()

    # Events -----------------------------------------------------------------------------------

    def _event(self, seq: int, rule: str, expected: object, found: object) -> None:
        self.report.differ("settlement.event", f"seq {seq}", rule, expected, found)

    def _misplaced(self, seq: int, at: int, before: int, part: int) -> None:
        if part != self.report.part:
            self._event(seq, "part", self.report.part, part)
        if at < before:
            self._event(
                seq,
                "at",
                f">= {instant_text(before + EPOCH_2000_US)}",
                instant_text(at + EPOCH_2000_US),
            )

    def _account(self, seq: int, merchant_no: int) -> AccountFigures:
        account = self.accounts.get(merchant_no)
        if account is None:
            self._event(seq, "merchant", "an account that was opened", merchant_no)
            account = self.accounts[merchant_no] = AccountFigures(cap=0)
        return account

    def _clear(
        self,
        seq: int,
        issuer: int,
        acceptor: int,
        units: int,
        debit: int,
        value: int,
        fee: int,
        cycle_no: int,
        /,
    ) -> None:
        """An order that cleared at once: rule C2, then its postings."""
        debtor = self.accounts.get(issuer) or self._account(seq, issuer)
        cycle = self._cycle_of(issuer, acceptor)
        headroom = debtor.base + self._standing(issuer, cycle) - debit
        if cycle is not None and cycle.gross:
            self._check_funds(seq, issuer, debit)
        elif headroom < 0:
            self._event(seq, "headroom after the order (rule C2)", ">= 0", headroom)
        self._check_figures(seq, units, debit, value, fee)
        self._book(seq, issuer, acceptor, debit, value, fee, cycle_no)
        self.report.orders += 1

    def _check_funds(self, seq: int, issuer: int, debit: int) -> None:
        left = self.funds.free(issuer) - debit
        if left < 0:
            self._event(seq, "funds after the order (rule T9)", ">= 0", left)

    def _check_figures(self, seq: int, units: int, debit: int, value: int, fee: int) -> None:
        if not (units > 0 and 0 <= fee <= value <= debit and 0 < debit < AMOUNT_LIMIT):
            self._event(
                seq,
                "units, debit, value, fee",
                "0 <= fee <= value <= debit, units > 0",
                (units, debit, value, fee),
            )

    def _book(
        self,
        seq: int,
        issuer: int,
        acceptor: int,
        debit: int,
        value: int,
        fee: int,
        cycle_no: int,
        /,
    ) -> None:
        """The postings of an order, in the cycle that is open for its pair."""
        cycle = self._cycle_of(issuer, acceptor)
        if cycle is None or cycle.cycle_no != cycle_no:
            self._event(seq, "cycle_no", cycle.cycle_no if cycle else "an open cycle", cycle_no)
            if cycle is None:
                return
        if issuer == acceptor:
            self._event(seq, "acceptor", "another party than the issuer", acceptor)
        if acceptor not in self.accounts:
            self._account(seq, acceptor)
        pair = cycle.pairs.get((issuer, acceptor))
        if pair is None:
            pair = cycle.pairs[issuer, acceptor] = [0, 0, 0, 0]
        pair[0] += 1
        pair[1] += debit
        pair[2] += value
        pair[3] += fee
        if cycle.gross:
            self.funds.move_at_once(seq, issuer, acceptor, debit, value, fee)
            return
        positions = cycle.positions
        positions[issuer] = positions.get(issuer, 0) - debit
        positions[acceptor] = positions.get(acceptor, 0) + value - fee

    def _reversal(self, one: Reversing) -> None:
        """What names an order (rules V1 to V4, J1 to J3), then its postings; or an order that is named later."""
        for rule, expected, found in self.reversals.take(one):
            self._event(one.seq, rule, expected, found)
        if one.kind not in _TAKES_BACK:
            return
        if one.kind == _ADJUSTED:
            self.report.adjustments += 1
            if one.value > 0:
                self._book(
                    one.seq, one.issuer, one.acceptor, one.debit, one.value, one.fee, one.cycle_no
                )
                return
        else:
            self.report.reversals += 1
        cycle = self._in_open_cycle(one.seq, one.issuer, one.acceptor, one.cycle_no)
        if cycle is None:
            return
        pair = cycle.reversed.setdefault((one.issuer, one.acceptor), [0, 0, 0, 0])
        pair[0] += 1
        pair[1] -= one.debit
        pair[2] -= one.value
        pair[3] -= one.fee
        if cycle.gross:
            self.funds.move_at_once(
                one.seq, one.issuer, one.acceptor, one.debit, one.value, one.fee
            )
            return
        positions = cycle.positions
        positions[one.issuer] = positions.get(one.issuer, 0) - one.debit
        positions[one.acceptor] = positions.get(one.acceptor, 0) + one.value - one.fee

    def _accept(
        self, seq: int, order_seq: int, due_at: int, figures: Figures, cycle_no: int
    ) -> None:
        """An order that was accepted: rule C3, then its hold."""
        issuer, debit = figures.issuer, figures.debit
        if order_seq != seq:
            self._event(seq, "order_seq", seq, order_seq)
        cycle = self._in_open_cycle(seq, issuer, figures.acceptor, cycle_no)
        self._check_figures(seq, figures.units, debit, figures.value, figures.fee)
        debtor = self._account(seq, issuer)
        headroom = debtor.base + self._debts(issuer) - debit
        if cycle is not None and cycle.gross:
            self._check_funds(seq, issuer, debit)
            debtor.reserved += debit
        elif headroom < 0:
            self._event(seq, "headroom after the hold (rule C3)", ">= 0", headroom)
        debtor.held += debit
        self.holds[seq] = OpenHold(due_at, figures)

    def _end(
        self,
        seq: int,
        order_seq: int,
        at: int,
        kind: int,
        step: int,
        figures: Figures,
        cycle_no: int,
        /,
    ) -> None:
        """The end of a hold: once, with the figures that were accepted, in time (rules C4 and C7)."""
        hold = self.holds.pop(order_seq, None)
        if hold is None:
            self._event(seq, "order_seq", "an order with an open hold", order_seq)
            return
        debtor = self.accounts[hold.figures.issuer]
        debtor.held -= hold.figures.debit
        if self._is_gross(self._arrangement_of(hold.figures.issuer, hold.figures.acceptor)):
            debtor.reserved -= hold.figures.debit
        self._follow(seq, hold, step, -1, figures)
        if kind == _EXPIRED and hold.pinned_seq:
            self._event(
                seq, "kind", f"no expiry after the pin of event {hold.pinned_seq}", "expired"
            )
        if kind == _EXPIRED and at < hold.due_at:
            self._event(
                seq, "at", f"expiry at {instant_text(hold.due_at + EPOCH_2000_US)} or later",
                instant_text(at + EPOCH_2000_US),
            )  # fmt: skip
        if kind != _EXPIRED and not hold.pinned_seq:
            self._in_time(seq, hold, at)
        if kind == _CLEARED:
            self._book(
                seq,
                figures.issuer,
                figures.acceptor,
                figures.debit,
                figures.value,
                figures.fee,
                cycle_no,
            )
            self.report.orders += 1
        else:
            self._in_open_cycle(seq, figures.issuer, figures.acceptor, cycle_no)

    def _pin(
        self, seq: int, order_seq: int, at: int, step: int, figures: Figures, cycle_no: int, /
    ) -> None:
        """The pin of a hold: at most once, with the figures that were accepted, in time (rule C7)."""
        hold = self.holds.get(order_seq)
        if hold is None or hold.pinned_seq:
            self._event(
                seq, "order_seq", "an order with an open hold that is not pinned", order_seq
            )
            return
        self._follow(seq, hold, step, -2, figures)
        self._in_time(seq, hold, at)
        self._in_open_cycle(seq, figures.issuer, figures.acceptor, cycle_no)
        self.holds[order_seq] = hold._replace(pinned_seq=seq)

    def _follow(self, seq: int, hold: OpenHold, step: int, expected: int, figures: Figures) -> None:
        """What every later event of an accepted order must repeat."""
        if hold.figures != figures:
            self._event(seq, "figures", hold.figures, figures)
        if step != expected:
            self._event(seq, "step", expected, step)

    def _in_time(self, seq: int, hold: OpenHold, at: int) -> None:
        if at >= hold.due_at:
            self._event(
                seq, "at", f"before the expiry at {instant_text(hold.due_at + EPOCH_2000_US)}",
                instant_text(at + EPOCH_2000_US),
            )  # fmt: skip

    def _cycle_of(self, issuer: int, acceptor: int) -> CycleFigures | None:
        """The cycle that is open for a pair, by its arrangement (rule T6)."""
        return self.open.get(self._arrangement_of(issuer, acceptor))

    def _arrangement_of(self, issuer: int, acceptor: int) -> int:
        if not self.pairs:
            return _MAIN
        return self.pairs.get((min(issuer, acceptor), max(issuer, acceptor)), _MAIN)

    def _is_gross(self, arrangement_no: int) -> bool:
        return self.arrangements.get(arrangement_no, ("", 0))[1] == _GROSS

    def _give(self, pair: tuple[int, int], arrangement_no: int) -> None:
        """A pair belongs to an arrangement from now on; what its holds reserve follows (rule T9)."""
        was, is_ = self._is_gross(self.pairs.get(pair, _MAIN)), self._is_gross(arrangement_no)
        self.pairs[pair] = arrangement_no
        for hold in self.holds.values() if was != is_ else ():
            figures = hold.figures
            if {figures.issuer, figures.acceptor} == set(pair):
                sign = 1 if is_ else -1
                self.accounts[figures.issuer].reserved += sign * figures.debit

    def _standing(self, merchant_no: int, cycle: CycleFigures | None) -> int:
        """What open cycles add to the base for an order of one of them: the others where they are below 0."""
        total = cycle.positions.get(merchant_no, 0) if cycle else 0
        for other in self.open.values():
            if other is not cycle:
                total += min(0, other.positions.get(merchant_no, 0))
        return total

    def _debts(self, merchant_no: int) -> int:
        """What a merchant owes in open cycles, those that are above 0 left out."""
        return sum(min(0, each.positions.get(merchant_no, 0)) for each in self.open.values())

    def _in_open_cycle(
        self, seq: int, issuer: int, acceptor: int, cycle_no: int
    ) -> CycleFigures | None:
        cycle = self._cycle_of(issuer, acceptor)
        if cycle is None or cycle.cycle_no != cycle_no:
            self._event(seq, "cycle_no", cycle.cycle_no if cycle else "an open cycle", cycle_no)
        return cycle

    def _refused(self, seq: int, step: int, issuer: int, debit: int, reason: int) -> None:
        """A refusal for the cap or for funds needs a ground: even the stricter rule C3 must have been broken.

        Orders of one request that were refused together (rule G2) were looked at one beside the other.
        """
        if step == 0 or seq != self._refused_seq + 1:
            self._refused_debits = defaultdict(int)
        self._refused_seq = seq
        self._refused_debits[issuer] += debit
        debtor = self.accounts.get(issuer)
        if debtor is not None and reason == _FUNDS_REASON:
            left = self.funds.free(issuer) - self._refused_debits[issuer]
            if left >= 0:
                self._event(seq, "funds that were left to a refused order", "< 0", left)
        if debtor is None or reason != _CAP_REASON:
            return
        headroom = debtor.base + self._debts(issuer) - self._refused_debits[issuer]
        if headroom >= 0:
            self._event(seq, "headroom that the cap left to a refused order", "< 0", headroom)

    def _administer(
        self,
        seq: int,
        at: int,
        kind: int,
        merchant_no: int,
        figure: int,
        cycle_no: int,
        text: str,
        /,
    ) -> None:
        if kind == Kind.JOINED:
            if merchant_no in self.accounts:
                self._event(seq, "merchant", "one without an account", merchant_no)
            self.accounts[merchant_no] = AccountFigures(cap=figure)
        elif kind == Kind.CAP_SET:
            self._account(seq, merchant_no).cap = figure
        elif kind == Kind.COLLATERAL_SET:
            account = self._account(seq, merchant_no)
            withdrawn = account.collateral - figure
            left = account.base + self._debts(merchant_no) - withdrawn
            if withdrawn > 0 and left < 0:
                self._event(seq, "headroom after the withdrawal", ">= 0", left)
            account.collateral = figure
        elif kind == Kind.CYCLE_OPENED:
            self._open_cycle(seq, at, cycle_no, figure, text)
        elif kind == Kind.CYCLE_CLOSED:
            self._close_cycle(seq, at, cycle_no)
        elif kind == Kind.CYCLE_SETTLED:
            self._settle_cycle(seq, at, cycle_no, figure)
        else:
            self._event(seq, "kind", "a kind of event that exists", kind)

    def _open_cycle(
        self, seq: int, at: int, cycle_no: int, arrangement_no: int, cycle_id: str, /
    ) -> None:
        standing = self.open.get(arrangement_no)
        if standing is not None:
            self._event(seq, "kind", f"cycle {standing.cycle_no} closed first", "cycle_opened")
        if arrangement_no != _MAIN and arrangement_no not in self.arrangements:
            self._event(seq, "arrangement", "one that was made", arrangement_no)
        if cycle_no != self.last_cycle_no + 1:
            self._event(seq, "cycle_no", self.last_cycle_no + 1, cycle_no)
        if cycle_id in self.cycle_ids:
            self._event(seq, "reference", "an id that no cycle had before", cycle_id)
        self.cycle_ids.add(cycle_id)
        self.last_cycle_no = cycle_no
        if arrangement_no == _MAIN:
            self.main_cycle_no = cycle_no
        self.open[arrangement_no] = self.cycles[cycle_no] = CycleFigures(
            cycle_no=cycle_no,
            cycle_id=cycle_id,
            opened_at_us=at + EPOCH_2000_US,
            first_seq=seq,
            arrangement_no=arrangement_no,
            gross=self._is_gross(arrangement_no),
        )
        self.report.cycles += 1

    def _close_cycle(self, seq: int, at: int, cycle_no: int) -> None:
        cycle = self.cycles.get(cycle_no)
        if cycle is None or self.open.get(cycle.arrangement_no) is not cycle:
            self._event(seq, "cycle_no", "an open cycle", cycle_no)
            return
        cycle.state = "closed"
        cycle.closed_at_us = at + EPOCH_2000_US
        cycle.last_seq = seq
        cycle.debts = {merchant_no: net for merchant_no, net in cycle.positions.items() if net < 0}
        for merchant_no, net in cycle.debts.items():
            self.accounts[merchant_no].unsettled += net
        self.funds.close(cycle)
        self.finished_cycles.append(cycle)
        del self.open[cycle.arrangement_no]
        cycle.positions = {}
        for pair in list(self.turning):
            if self.pairs.get(pair, _MAIN) == cycle.arrangement_no:
                self._give(pair, self.turning.pop(pair))

    def _make_arrangement(self, seq: int, arrangement_no: int, model: int, code: str) -> None:
        """An arrangement: the next number, and a code that none had before."""
        if arrangement_no != len(self.arrangements) + 1:
            self._event(seq, "arrangement", len(self.arrangements) + 1, arrangement_no)
        if code in {known for known, _ in self.arrangements.values()}:
            self._event(seq, "reference", "a code that no arrangement had before", code)
        self.arrangements[arrangement_no] = (code, model)

    def _arrange_pair(self, seq: int, one: int, other: int, arrangement_no: int) -> None:
        """A pair gets another arrangement: when its cycle turns, or at once where none is open (rule T7)."""
        pair = (min(one, other), max(one, other))
        if arrangement_no != _MAIN and arrangement_no not in self.open:
            self._event(seq, "arrangement", "one with an open cycle", arrangement_no)
        present = self.pairs.setdefault(pair, _MAIN)
        self.turning.pop(pair, None)
        if present not in self.open:
            self._give(pair, arrangement_no)
        elif present != arrangement_no:
            self.turning[pair] = arrangement_no

    def _settle_cycle(self, seq: int, at: int, cycle_no: int, figure: int) -> None:
        cycle = self.cycles.get(cycle_no)
        if cycle is None or cycle.state != "closed":
            state = cycle.state if cycle else "unknown"
            self._event(seq, "cycle_no", "a closed, unsettled cycle", f"{cycle_no} ({state})")
            return
        for merchant_no, net in cycle.debts.items():
            self.accounts[merchant_no].unsettled -= net
        cycle.debts = {}
        self.funds.settle(seq, cycle_no, figure)
        cycle.state = "settled"
        cycle.settled_at_us = at + EPOCH_2000_US

    # Comparing --------------------------------------------------------------------------------

    def take_finished_cycles(self) -> list[CycleFigures]:
        """Cycles that closed since the last call; once compared, their figures are `drop`ped."""
        finished, self.finished_cycles = self.finished_cycles, []
        return finished


def position_rows(cycle: CycleFigures) -> dict[str, tuple[int]]:
    """Rows of `settlement.position` that a cycle must have, by key."""
    return {position_key(cycle.cycle_no, party): (net,) for party, net in cycle.nets().items()}


def obligation_rows(cycle: CycleFigures) -> dict[str, tuple[int, ...]]:
    """Rows of `settlement.obligation` that a cycle must have, by key."""
    return _pair_rows(cycle.cycle_no, cycle.pairs)


def reversed_rows(cycle: CycleFigures) -> dict[str, tuple[int, ...]]:
    """Rows of `settlement.reversed_obligation` that a cycle must have, by key."""
    return _pair_rows(cycle.cycle_no, cycle.reversed)


def _pair_rows(
    cycle_no: int, pairs: Mapping[tuple[int, int], Sequence[int]]
) -> dict[str, tuple[int, ...]]:
    return {
        obligation_key(cycle_no, issuer, acceptor): tuple(figures)
        for (issuer, acceptor), figures in pairs.items()
    }


def position_key(cycle_no: int, merchant_no: int) -> str:
    """How a difference names a row of `settlement.position`."""
    return f"cycle {cycle_no}, merchant {merchant_no}"


def obligation_key(cycle_no: int, issuer: int, acceptor: int) -> str:
    """How a difference names a row of `settlement.obligation`."""
    return f"cycle {cycle_no}, issuer {issuer}, acceptor {acceptor}"
