"""The books of one partition, as its writer holds them: headroom, positions, holds, the open cycle.

Plain state and plain arithmetic. Each method decides one thing in arrival order, changes the state,
and appends the canonical bytes of the events that say so; nothing here waits, reads a clock or
writes. `take` hands over what changed since it was last called, and the caller writes that in one
transaction. If the write fails, the object is thrown away and loaded again.

Headroom (settlement/RULES.md, rules C1 to C4), all in CU:

    base = cap + collateral + sum of min(0, each closed and unsettled position) - held
    an order that clears at once needs        base + open position           - debit >= 0
    an order that is accepted first needs     base + min(0, open position)   - debit >= 0
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from schemas.values.amounts import AMOUNT_LIMIT, SUM_LIMIT
from schemas.values.ids import HOUSE, HOUSE_FEES, HOUSE_ROUNDING, order_id
from schemas.values.reason import Reason
from settlement.core import adjustment, funds
from settlement.core.arrangement import (
    MAIN,
    MAIN_CODE,
    Arrangement,
    Model,
    Obligation,
    Pair,
    Window,
    unordered,
)
from settlement.core.command import (
    Adjust,
    Answer,
    ArrangePair,
    CloseCycle,
    Command,
    End,
    Entry,
    ExpireHolds,
    FundsCommand,
    Join,
    MakeArrangement,
    Order,
    Pin,
    SetCap,
    SetCollateral,
    SettleCycle,
    unstored_refusal,
)
from settlement.core.event import EPOCH_2000_US, PACK, Kind
from settlement.core.funds import Funds
from settlement.core.reversal import NOTHING

if TYPE_CHECKING:
    from settlement.core.command import BooksCommand, Reverse, Unwind
    from settlement.core.funds import FundsChange
    from settlement.core.reversal import Amounts, Cleared, Past

NO_KEY = bytes(16)
BACKDATE_US = 7 * 86_400_000_000
"""An offline order may be this late; hosted lots are kept, and do not lapse, until then."""
HOLD_US_MAX = 35 * 86_400_000_000
"""No hold is longer than keys are kept."""
END_STEP = -1
"""Step of the event that ends a hold; no request of a client reaches it, whatever its key."""
PIN_STEP = -2
"""Step of the event that pins a hold."""


class Account:
    """One merchant's figures in the open cycle; every one counts whole CU.

    Attributes:
        cap: Net debit cap.
        collateral: What a bank holds for the merchant.
        held: Sum of open holds against it.
        unsettled: Sum of its negative positions in closed, unsettled cycles, and in open cycles other than the
            main one, none of a gross arrangement; what is held by `Books.reserved` is added back.
        open: Position in the open cycle of the main arrangement, signed.
    """

    __slots__ = ("cap", "collateral", "held", "open", "unsettled")

    def __init__(self, cap: int, collateral: int = 0, held: int = 0) -> None:
        """Start without a position."""
        self.cap = cap
        self.collateral = collateral
        self.held = held
        self.unsettled = 0
        self.open = 0

    @property
    def base(self) -> int:
        """Headroom before the open position counts; negative after a breach."""
        return self.cap + self.collateral + self.unsettled - self.held


class Hold(NamedTuple):
    """An accepted order whose value is reserved under its issuer's cap; figures as in `Event`."""

    order_seq: int
    accepted_at_us: int
    occurred_at_us: int
    due_at_us: int
    member_no: int
    units: int
    debit_cu: int
    value_cu: int
    fee_cu: int
    credited_units: int
    caller: int
    issuer: int
    acceptor: int
    rate_no: int
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleChange:
    """A cycle that was opened, closed or settled by the events just taken."""

    cycle_no: int
    kind: Kind
    at_us: int
    seq: int
    cycle_id: str = ""
    cut_off_us: int = 0
    arrangement_no: int = MAIN


@dataclass(slots=True, kw_only=True)
class Changes:
    """What one flush writes: events, and the projections that they moved.

    Attributes:
        events: Canonical bytes in order of sequence, in pieces of one event or more.
        count: How many events they are.
        first_seq: Sequence number of the first event.
        positions: (cycle, merchant) to net CU.
        obligations: (cycle, issuer, acceptor) to (orders, debit, value, fee).
        reversed: The same of what reversals and adjustments took back.
        accounts: merchant to (cap, collateral, held).
        opened: Holds that were opened and are still open.
        pinned: Open hold to the sequence number of the event that pinned it.
        ended: Sequence numbers of stored holds that ended.
        cycles: Cycles that changed, in order.
        breached: Merchants that were left below their cap, or below zero by a line of a gross arrangement, to
            the CU that are missing.
        funds: Whose money moved; None where nobody's did.
        arrangements: Arrangements that were made.
        pairs: Pairs whose arrangement changed, to the one they have and the one they get at its cycle's turn.
    """

    events: list[bytes] = field(default_factory=list)
    count: int = 0
    first_seq: int = 0
    positions: dict[tuple[int, int], int] = field(default_factory=dict)
    obligations: dict[tuple[int, int, int], tuple[int, int, int, int]] = field(default_factory=dict)
    reversed: dict[tuple[int, int, int], tuple[int, int, int, int]] = field(default_factory=dict)
    accounts: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    opened: list[Hold] = field(default_factory=list)
    pinned: dict[int, int] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)
    cycles: list[CycleChange] = field(default_factory=list)
    breached: dict[int, int] = field(default_factory=dict)
    funds: FundsChange | None = None
    arrangements: list[Arrangement] = field(default_factory=list)
    pairs: dict[Pair, tuple[int, int | None]] = field(default_factory=dict)


class Books:
    """State of one partition and the decisions on it."""

    # More than thirty attributes without slots would each be looked up in a dictionary, for every order anew.
    __slots__ = (
        "_changes",
        "_due",
        "_ended",
        "_events",
        "_first_seq",
        "_moved_accounts",
        "_moved_pairs",
        "_opened",
        "_reversed_pairs",
        "accounts",
        "arranged",
        "arrangements",
        "caller_clock",
        "cleared",
        "clock_us",
        "cycle_ids",
        "cycle_no",
        "fees_cu",
        "funds",
        "gross_closed",
        "holds",
        "last_cycle_no",
        "obligations",
        "part",
        "past",
        "pins",
        "recent_ends",
        "reserved",
        "reversed",
        "rounding_cu",
        "seq",
        "turning",
        "unsettled",
        "windows",
    )

    def __init__(self, *, part: int, caller_clock: bool = False) -> None:
        """Start empty, before the first event.

        Args:
            part: Partition.
            caller_clock: Whether time is the business time that callers give (a ledger made for
                replay) instead of the writer's own clock.
        """
        self.part = part
        self.caller_clock = caller_clock
        self.seq = 0
        self.clock_us = 0
        self.cycle_no = 0
        self.last_cycle_no = 0
        self.arrangements: dict[int, Arrangement] = {}
        self.windows: dict[int, Window] = {}
        self.arranged: dict[Pair, int] = {}
        self.turning: dict[Pair, int] = {}
        self.accounts: dict[int, Account] = {}
        self.fees_cu = 0
        self.rounding_cu = 0
        self.obligations: dict[tuple[int, int], Obligation] = {}
        self.reversed: dict[tuple[int, int], Obligation] = {}
        self.holds: dict[int, Hold] = {}
        self.pins: dict[int, Entry] = {}
        self.recent_ends: dict[int, tuple[Hold, Entry]] = {}
        self.cleared: dict[int, Cleared] = {}
        self.past: dict[int, Past] = {}
        self.cycle_ids: set[str] = set()
        self.unsettled: dict[int, dict[int, int]] = {}
        self.gross_closed: set[int] = set()
        self.reserved: dict[int, int] = {}
        self.funds = Funds()
        self._due: list[tuple[int, int]] = []
        self._events: list[bytes] = []
        self._first_seq = 1
        self._moved_pairs: set[tuple[int, int]] = set()
        self._reversed_pairs: set[tuple[int, int]] = set()
        self._moved_accounts: set[int] = set()
        self._opened: dict[int, Hold] = {}
        self._ended: list[int] = []
        self._changes = Changes()

    # Loading ----------------------------------------------------------------------------------

    def restore_hold(self, hold: Hold) -> None:
        """Put back an open hold that is stored; the account's held total is loaded with the account."""
        self.holds[hold.order_seq] = hold
        if self.arranged and self._is_gross(self.arranged.get((hold.issuer, hold.acceptor), MAIN)):
            self._reserve(hold.issuer, hold.debit_cu)
        heapq.heappush(self._due, (hold.due_at_us, hold.order_seq))
        if len(self._due) > 2 * len(self.holds) + 1000:
            self._due = [(hold.due_at_us, hold.order_seq) for hold in self.holds.values()]
            heapq.heapify(self._due)

    def restore_pin(self, pin: Entry) -> None:
        """Put back what pinned an open hold."""
        self.pins[pin.order_seq] = pin

    def restore_unsettled(
        self, cycle_no: int, nets: dict[int, int], *, gross: bool = False
    ) -> None:
        """Put back the positions of a closed, unsettled cycle; those of a gross one were settled line by line."""
        if gross:
            self.gross_closed.add(cycle_no)
            nets = {}
        self.unsettled[cycle_no] = nets
        for merchant_no, net_cu in nets.items():
            if merchant_no > 0:
                self.accounts[merchant_no].unsettled += min(0, net_cu)

    def restore_pair(self, pair: Pair, arrangement_no: int, next_no: int | None) -> None:
        """Put back the arrangement of a pair, and the one that it gets when its cycle turns."""
        self._arrange(pair, arrangement_no)
        if next_no is not None:
            self.turning[pair] = next_no

    def restore_window(self, arrangement_no: int, window: Window) -> None:
        """Put back the open cycle of an arrangement beside the main one."""
        self.windows[arrangement_no] = window
        for party, net_cu in window.nets.items():
            if party > 0 and not window.gross:
                self.accounts[party].unsettled += min(0, net_cu)

    def start_after(self, seq: int) -> None:
        """Number the next event `seq + 1`."""
        self.seq = seq
        self._first_seq = seq + 1

    # Time -------------------------------------------------------------------------------------

    def tick(self, now_us: int) -> None:
        """Advance the writer's clock to `max(last, now)`; a ledger made for replay ignores it."""
        if not self.caller_clock and now_us > self.clock_us:
            self.clock_us = now_us

    def business_time(self, at_us: int) -> Reason | None:
        """Take the caller's time into the clock, where the ledger allows that.

        Returns:
            None, or why the time is refused.
        """
        if at_us == 0:
            return None
        if not self.caller_clock:
            return Reason.BUSINESS_TIME_NOT_ACCEPTED
        if at_us < self.clock_us:
            return Reason.CLOCK_RUNS_BACK
        self.clock_us = at_us
        return None

    def till_time(self, occurred_at_us: int) -> Reason | None:
        """Check a till time; a ledger made for replay takes it as the business time.

        Elsewhere an offline order may be `BACKDATE_US` late, and never from the future.

        Args:
            occurred_at_us: Microseconds since 1970; 0 for now.

        Returns:
            None, or why the time is refused.
        """
        if self.caller_clock:
            return self.business_time(occurred_at_us)
        if occurred_at_us and not self.clock_us - BACKDATE_US < occurred_at_us <= self.clock_us:
            return Reason.TILL_TIME_OUT_OF_RANGE
        return None

    # Orders -----------------------------------------------------------------------------------

    def clear(
        self,
        command: Command,
        step: int,
        issuer: int,
        acceptor: int,
        member_no: int,
        units: int,
        debit_cu: int,
        value_cu: int,
        fee_cu: int,
        rate_no: int,
        occurred_at_us: int,
        credited_units: int = 0,
        lot_no: int = 0,
        due_at_us: int = 0,
        reference: str = "",
        /,
    ) -> Entry:
        """Clear an order at once, or refuse it for its issuer's cap (rule C2).

        Written out in one piece, down to the event's bytes: every order passes here, and each call
        that is spared is a few percent of the whole pipeline.
        """
        if self.arranged and (issuer, acceptor) in self.arranged:
            return self._clear_beside(
                command, step, issuer, acceptor, member_no, units, debit_cu, value_cu, fee_cu, rate_no,
                occurred_at_us, credited_units, lot_no, due_at_us, reference,
            )  # fmt: skip
        debtor = self.accounts.get(issuer)
        creditor = self.accounts.get(acceptor)
        if debtor is None or creditor is None:
            reason = Reason.UNKNOWN_MERCHANT
        elif not self.cycle_no:
            reason = Reason.CYCLE_NOT_OPEN
        elif (
            issuer == acceptor
            or units <= 0
            or not 0 <= fee_cu <= value_cu <= debit_cu
            or not 0 < debit_cu < AMOUNT_LIMIT
        ):
            raise _contradiction(units, debit_cu, value_cu, fee_cu)
        elif (
            debtor.cap + debtor.collateral + debtor.unsettled - debtor.held + debtor.open < debit_cu
        ):
            reason = Reason.NET_DEBIT_CAP_EXCEEDED
        else:
            pair = (issuer, acceptor)
            obligation = self.obligations.get(pair)
            if obligation is None:
                obligation = self.obligations[pair] = Obligation()
            if obligation.debit + debit_cu < SUM_LIMIT:
                debtor.open -= debit_cu
                creditor.open += value_cu - fee_cu
                self.fees_cu += fee_cu
                self.rounding_cu += debit_cu - value_cu
                obligation.orders += 1
                obligation.debit += debit_cu
                obligation.value += value_cu
                obligation.fee += fee_cu
                self._moved_pairs.add(pair)
                seq = self.seq = self.seq + 1
                at_us = self.clock_us
                due = due_at_us or at_us
                text = reference.encode() if reference else b""
                self._events.append(
                    PACK(
                        24, 8, seq, 8, seq, 8, at_us - EPOCH_2000_US, 8, occurred_at_us - EPOCH_2000_US,
                        8, due - EPOCH_2000_US, 8, member_no, 8, units, 8, debit_cu, 8, value_cu,
                        8, fee_cu, 8, credited_units, 8, lot_no, 16, command.key, 16, command.body,
                        4, self.cycle_no, 4, command.caller, 4, issuer, 4, acceptor, 4, rate_no,
                        2, self.part, 2, 3, 2, step, 2, 0, len(text),
                    )
                    + text
                )  # fmt: skip
                return Entry(
                    seq, seq, 3, 0, at_us, due, self.cycle_no, issuer, acceptor, units, debit_cu,
                    value_cu, fee_cu, credited_units, lot_no, rate_no,
                )  # fmt: skip
            reason = Reason.AMOUNT_ABOVE_MAXIMUM
        return self._write(
            command, step, Kind.REFUSED, reason.number, 0, occurred_at_us, 0, member_no, units,
            debit_cu, value_cu, fee_cu, 0, 0, issuer, acceptor, rate_no, reference,
        )  # fmt: skip

    def why_not_clear(
        self, issuer: int, acceptor: int, debit_cu: int, *, beside_cu: int
    ) -> Reason | None:
        """Say why an order could not clear at once now, if it could not; nothing changes.

        Args:
            issuer: Whose points.
            acceptor: Where the value goes.
            debit_cu: What the issuer would owe, CU.
            beside_cu: What else the issuer would owe the acceptor before it, CU.

        Returns:
            None, or what `clear` would refuse it with.
        """
        debtor = self.accounts.get(issuer)
        if debtor is None or acceptor not in self.accounts:
            return Reason.UNKNOWN_MERCHANT
        window = self.window_of(issuer, acceptor)
        if window is None and not self.cycle_no:
            return Reason.CYCLE_NOT_OPEN
        if window is not None and window.gross:
            if self.free_funds(issuer) - beside_cu < debit_cu:
                return Reason.FUNDS_INSUFFICIENT
        elif self._room(issuer, debtor, window) - beside_cu < debit_cu:
            return Reason.NET_DEBIT_CAP_EXCEEDED
        obligations = self.obligations if window is None else window.obligations
        obligation = obligations.get((issuer, acceptor))
        if (obligation.debit if obligation else 0) + beside_cu + debit_cu >= SUM_LIMIT:
            return Reason.AMOUNT_ABOVE_MAXIMUM
        return None

    def why_not_open(self, order_seq: int, caller: int) -> Reason | None:
        """Say why an accepted order can be neither pinned nor cleared now, if it cannot."""
        hold = self.holds.get(order_seq)
        if hold is None or caller not in (hold.caller, HOUSE):
            return Reason.ORDER_NOT_FOUND
        if order_seq not in self.pins and hold.due_at_us <= self.clock_us:
            return Reason.HOLD_EXPIRED
        return None

    def accept(self, order: Order) -> Entry:
        """Reserve the value of a two-phase order under its issuer's cap (rule C3) or funds (T9), or refuse it."""
        if (
            order.issuer == order.acceptor
            or order.units <= 0
            or not 0 <= order.fee_cu <= order.value_cu <= order.debit_cu
            or not 0 < order.debit_cu < AMOUNT_LIMIT
        ):
            raise _contradiction(order.units, order.debit_cu, order.value_cu, order.fee_cu)
        if not 0 < order.hold_us <= HOLD_US_MAX:
            raise ValueError(f"a hold of {order.hold_us} microseconds")
        debtor = self.accounts.get(order.issuer)
        if debtor is None or order.acceptor not in self.accounts:
            return self.refuse_order(order, Reason.UNKNOWN_MERCHANT.number)
        window = self.window_of(order.issuer, order.acceptor)
        if window is None and not self.cycle_no:
            return self.refuse_order(order, Reason.CYCLE_NOT_OPEN.number)
        if window is not None and window.gross:
            if self.free_funds(order.issuer) < order.debit_cu:
                return self.refuse_order(order, Reason.FUNDS_INSUFFICIENT.number)
        elif debtor.base + min(0, debtor.open) < order.debit_cu:
            return self.refuse_order(order, Reason.NET_DEBIT_CAP_EXCEEDED.number)
        debtor.held += order.debit_cu
        self._moved_accounts.add(order.issuer)
        due_at_us = self.clock_us + order.hold_us
        occurred_at_us = order.occurred_at_us or self.clock_us
        entry = self._write(
            order, 0, Kind.ACCEPTED, 0, 0, occurred_at_us, due_at_us, order.member_no, order.units,
            order.debit_cu, order.value_cu, order.fee_cu, order.credited_units, 0,
            order.issuer, order.acceptor, order.rate_no, order.reference,
            window.cycle_no if window else None,
        )  # fmt: skip
        hold = Hold(
            entry.seq, entry.at_us, occurred_at_us, due_at_us, order.member_no, order.units,
            order.debit_cu, order.value_cu, order.fee_cu, order.credited_units, order.caller,
            order.issuer, order.acceptor, order.rate_no, order.reference,
        )  # fmt: skip
        self.restore_hold(hold)
        self._opened[entry.seq] = hold
        return entry

    def end(self, hold: Hold, kind: Kind) -> Entry:
        """End a hold: its value becomes an obligation of the open cycle, or is released (rule C4).

        Clearing tests no cap: the value was reserved when the order was accepted.
        """
        del self.holds[hold.order_seq]
        if self.pins.pop(hold.order_seq, None) is not None:
            self._changes.pinned.pop(hold.order_seq, None)
        if self._opened.pop(hold.order_seq, None) is None:
            self._ended.append(hold.order_seq)
        debtor = self.accounts[hold.issuer]
        debtor.held -= hold.debit_cu
        if self.arranged and self._is_gross(self.arranged.get((hold.issuer, hold.acceptor), MAIN)):
            self._reserve(hold.issuer, -hold.debit_cu)
        self._moved_accounts.add(hold.issuer)
        if kind is Kind.CLEARED:
            window = self.window_of(hold.issuer, hold.acceptor)
            if window is None:
                debtor.open -= hold.debit_cu
            self._credit(
                window, hold.issuer, hold.acceptor, hold.debit_cu, hold.value_cu, hold.fee_cu
            )
        entry = self._write_of_hold(hold, END_STEP, kind)
        self.recent_ends[hold.order_seq] = (hold, entry)
        return entry

    def pin(self, hold: Hold) -> Entry:
        """Keep a hold until its order is cleared, or proven never to be (rule C7)."""
        entry = self.pins[hold.order_seq] = self._write_of_hold(hold, PIN_STEP, Kind.PINNED)
        self._changes.pinned[hold.order_seq] = entry.seq
        return entry

    def _write_of_hold(self, hold: Hold, step: int, kind: Kind) -> Entry:
        """Write one more event of an accepted order; it repeats the figures of the acceptance."""
        order = order_id(hold.accepted_at_us, self.part, hold.order_seq)
        command = Command(caller=hold.caller, key=order.bytes, body=NO_KEY)
        window = self.window_of(hold.issuer, hold.acceptor)
        return self._write(
            command, step, kind, 0, hold.order_seq, hold.occurred_at_us, 0, hold.member_no, hold.units,
            hold.debit_cu, hold.value_cu, hold.fee_cu, hold.credited_units, 0,
            hold.issuer, hold.acceptor, hold.rate_no, hold.reference,
            window.cycle_no if window else None,
        )  # fmt: skip

    def refuse_order(self, order: Order, reason: int, step: int = 0) -> Entry:
        """Write down that an order is refused; final for its key."""
        return self._write(
            order, step, Kind.REFUSED, reason, 0, order.occurred_at_us, 0, order.member_no, order.units,
            order.debit_cu, order.value_cu, order.fee_cu, 0, 0, order.issuer, order.acceptor,
            order.rate_no, order.reference,
        )  # fmt: skip

    def refuse(self, command: Command, reason: Reason, *, merchant_no: int = 0) -> Entry:
        """Write down that an administrative or points command is refused; final for its key."""
        return self._write(
            command,
            0,
            Kind.REFUSED,
            reason.number,
            -1,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            merchant_no,
            0,
            0,
            "",
        )

    def append(self, events: bytes, count: int) -> None:
        """Add the next `count` events, whose bytes already carry their sequence numbers."""
        self._events.append(events)
        self.seq += count

    def move(
        self, pair: tuple[int, int], orders: int, debit_cu: int, value_cu: int, fee_cu: int, /
    ) -> None:
        """Book what cleared orders of one pair come to; the two merchants' positions were moved with them."""
        self._moved_pairs.add(pair)
        self.fees_cu += fee_cu
        self.rounding_cu += debit_cu - value_cu
        obligation = self.obligations.get(pair)
        if obligation is None:
            obligation = self.obligations[pair] = Obligation()
        obligation.orders += orders
        obligation.debit += debit_cu
        obligation.value += value_cu
        obligation.fee += fee_cu

    # Reversals --------------------------------------------------------------------------------

    def take_back(
        self,
        command: Reverse,
        order: Cleared,
        part: Amounts,
        *,
        lot_no: int = 0,
        due_at_us: int = 0,
    ) -> Entry:
        """Take an order back at its own figures, in the open cycle; no cap refuses that (rules V2 to V4).

        Args:
            command: Who wants it, and under which key.
            order: The order as it stands, as `settlement.core.reversal.find` found it.
            part: What of it is taken back.
            lot_no: The lot that is made of points that come back too late for their own; 0 for none.
            due_at_us: When that lot expires; 0 for none.
        """
        window = self.window_of(order.issuer, order.acceptor)
        self._book_back(order.issuer, order.acceptor, part.debit_cu, part.value_cu, part.fee_cu)
        entry = self._write(
            command, 0, Kind.REVERSED, 0, order.order_seq, 0, due_at_us, order.member_no, -part.units,
            -part.debit_cu, -part.value_cu, -part.fee_cu, -part.credited_units, lot_no,
            order.issuer, order.acceptor, order.rate_no, command.reference or order.reference,
            window.cycle_no if window else None,
        )  # fmt: skip
        self.cleared[order.order_seq] = order.without(part, entry.seq)
        return entry

    def _book_back(
        self, issuer: int, acceptor: int, debit_cu: int, value_cu: int, fee_cu: int, /
    ) -> None:
        """Take an obligation, or a part of one, back; the figures are positive."""
        pair = (issuer, acceptor)
        window = self.window_of(issuer, acceptor)
        if window is not None:
            window.take_back(pair, debit_cu, value_cu, fee_cu)
            self._post_beside(window, *pair, -debit_cu, -value_cu, -fee_cu)
        else:
            self.accounts[issuer].open += debit_cu
            self.accounts[acceptor].open -= value_cu - fee_cu
            self.fees_cu -= fee_cu
            self.rounding_cu -= debit_cu - value_cu
            taken = self.reversed.get(pair)
            if taken is None:
                taken = self.reversed[pair] = Obligation()
            taken.orders += 1
            taken.debit += debit_cu
            taken.value += value_cu
            taken.fee += fee_cu
            self._reversed_pairs.add(pair)
        self._note_breach(acceptor, window)

    def _note_breach(self, merchant_no: int, window: Window | None) -> None:
        """Tell whoever waits for it that a merchant is below its cap; of a gross cycle its funds are told."""
        if window is not None and window.gross:
            return
        missing_cu = -self._room(merchant_no, self.accounts[merchant_no], window)
        if missing_cu > 0:
            self._changes.breached[merchant_no] = missing_cu

    def _adjust(self, command: Adjust) -> Entry:
        """Correct what one merchant owes another; no cap refuses that (rules J1 to J4)."""
        order = adjustment.find(self, command)
        if isinstance(order, Reason):
            return self.refuse(command, order, merchant_no=command.issuer)
        figures = command.debit_cu, command.value_cu, command.fee_cu
        window = self.window_of(command.issuer, command.acceptor)
        if command.value_cu > 0:
            if window is None:
                self.accounts[command.issuer].open -= command.debit_cu
            self._credit(window, command.issuer, command.acceptor, *figures)
            self._note_breach(command.issuer, window)
        else:
            self._book_back(command.issuer, command.acceptor, *(-figure for figure in figures))
        reference = command.reference
        if order is not None:
            reference = adjustment.link_text(order, reference)
        entry = self._write(
            command, 0, Kind.ADJUSTED, 0, command.order_seq or -1, 0, 0, 0, 0, *figures, 0, 0,
            command.issuer, command.acceptor, 0, reference, window.cycle_no if window else None,
        )  # fmt: skip
        if order is not None:
            part = NOTHING._replace(
                debit_cu=-command.debit_cu, value_cu=-command.value_cu, fee_cu=-command.fee_cu
            )
            self.cleared[command.order_seq] = order.corrected(part, entry.seq)
        return entry

    def taken_back(self, issuer: int, acceptor: int) -> int:
        """What reversals took back of a pair in the cycle that is open for it: the debits, CU."""
        window = self.window_of(issuer, acceptor)
        taken = (self.reversed if window is None else window.reversed).get((issuer, acceptor))
        return taken.debit if taken else 0

    def forget_cleared(self, through_seq: int) -> None:
        """Forget the orders of reversals that are stored: they are read again when somebody names them."""
        self.past = {}
        self.cleared = {
            order_seq: order
            for order_seq, order in self.cleared.items()
            if order.last_seq > through_seq
        }

    # Points -----------------------------------------------------------------------------------

    def accrue(
        self,
        command: Command,
        step: int,
        merchant_no: int,
        member_no: int,
        units: int,
        lot_no: int,
        expires_at_us: int,
        occurred_at_us: int,
        unfunded_cu: int = 0,
        reference: str = "",
        /,
    ) -> Entry:
        """Write down points earned (possibly none), and what of a discount stayed unfunded."""
        return self._write(
            command, step, Kind.ACCRUED, 0, -1, occurred_at_us, expires_at_us, member_no, units,
            0, unfunded_cu, 0, 0, lot_no, merchant_no, merchant_no, 0, reference,
        )  # fmt: skip

    def lapse(
        self,
        command: Command,
        step: int,
        merchant_no: int,
        member_no: int,
        units: int,
        lot_no: int,
        expires_at_us: int,
        worth_cu: int,
        rate_no: int,
        /,
    ) -> Entry:
        """Write down breakage: the points of a lot that expired unused, and what they were worth."""
        return self._write(
            command, step, Kind.LAPSED, 0, -1, 0, expires_at_us, member_no, units,
            0, worth_cu, 0, 0, lot_no, merchant_no, 0, rate_no, "",
        )  # fmt: skip

    def move_points(
        self,
        command: Command,
        kind: Kind,
        merchant_no: int,
        member_no: int,
        units: int,
        /,
        *,
        of_seq: int = 0,
        first: bool = False,
        step: int = 0,
        fresh_units: int = 0,
        lot_no: int = 0,
        due_at_us: int = 0,
        reference: str = "",
    ) -> Entry:
        """Write down points that moved without value, by a call on a hosted programme or inside a household.

        Args:
            command: The call, or the transfer.
            kind: What happened to them: `TAKEN`, `RETURNED`, `CREDITED`, `WITHDRAWN`, `GIVEN` or `RECEIVED`.
            merchant_no: Whose points.
            member_no: The member's surrogate.
            units: Smallest point units; 0 if there was nothing to return.
            of_seq: The order's first event, or the event that is undone; 0 for none.
            first: Whether this is the first event of an order.
            step: Place among the events of one request.
            fresh_units: Units that are returned into a new lot.
            lot_no: The lot that was made or withdrawn.
            due_at_us: When the new lot expires; 0 without one.
            reference: The call's reference; the household.
        """
        return self._write(
            command, step, kind, 0, 0 if first else of_seq or -1, 0, due_at_us, member_no, units, 0, 0, 0, fresh_units,
            lot_no, merchant_no, 0, 0, reference,
        )  # fmt: skip

    # Commands without a rider -------------------------------------------------------------------

    def decide(self, command: BooksCommand) -> Answer:
        """Decide one command of the books; orders of hosted issuers go to the rider instead."""
        if isinstance(command, Order):
            return [self._decide_order(command)]
        if isinstance(command, End | Pin):
            return [self._decide_open(command)]
        if isinstance(command, ExpireHolds):
            return self._expire_holds(command)
        if isinstance(command, CloseCycle):
            return self._close_cycle(command)
        if isinstance(command, SettleCycle):
            return [self._settle_cycle(command)]
        if isinstance(command, MakeArrangement):
            return [self._make_arrangement(command)]
        if isinstance(command, ArrangePair):
            return [self._arrange_pair(command)]
        if isinstance(command, Join):
            return [self._join(command)]
        if isinstance(command, Adjust):
            return [self._adjust(command)]
        if isinstance(command, FundsCommand):
            return funds.decide(self, command)
        return [self._change_account(command)]

    def _decide_order(self, order: Order) -> Entry:
        reason = order.reason
        if not reason and (refused := self.till_time(order.occurred_at_us)):
            reason = refused.number
        elif not reason and order.credited_units and not order.hold_us:
            # New points here are lots, and only the rider that holds them can make one; those of an
            # order in two phases are credited at the acceptor's own system before it clears.
            reason = Reason.NOT_HOSTED.number
        if reason:
            return self.refuse_order(order, reason)
        if order.hold_us:
            return self.accept(order)
        return self.clear(
            order, 0, order.issuer, order.acceptor, order.member_no, order.units, order.debit_cu,
            order.value_cu, order.fee_cu, order.rate_no, order.occurred_at_us or self.clock_us,
            0, 0, 0, order.reference,
        )  # fmt: skip

    def _decide_open(self, command: End | Pin) -> Entry:
        """End or pin an open hold; which of several comes first decides, expiry included (rule C7).

        Raises:
            ValueError: The wish is for an end that nobody can ask for.
        """
        hold = self.holds.get(command.order_seq)
        if hold is None or command.caller not in (hold.caller, HOUSE):
            return unstored_refusal(Reason.ORDER_NOT_FOUND, command.order_seq)
        pin = self.pins.get(command.order_seq)
        if pin is None and hold.due_at_us <= self.clock_us:
            self.end(hold, Kind.EXPIRED)
            return unstored_refusal(Reason.HOLD_EXPIRED, command.order_seq)
        if isinstance(command, Pin):
            return pin or self.pin(hold)
        if command.kind not in (Kind.CLEARED, Kind.VOIDED):
            raise ValueError(f"no end that can be asked for: {command.kind}")
        if pin is not None and command.kind == Kind.VOIDED and not command.proven:
            return unstored_refusal(Reason.CREDIT_UNDER_WAY, command.order_seq)
        return self.end(hold, Kind(command.kind))

    def _expire_holds(self, command: ExpireHolds) -> Answer:
        before_us = self.clock_us
        if reason := self.business_time(command.at_us):
            return [unstored_refusal(reason)]
        answer: Answer = []
        while self._due and self._due[0][0] <= self.clock_us and len(answer) < command.limit:
            _, order_seq = heapq.heappop(self._due)
            hold = self.holds.get(order_seq)
            if hold is not None and order_seq not in self.pins:
                answer.append(self.end(hold, Kind.EXPIRED))
        if not answer and self.caller_clock:
            # Nothing that is written says that this time had come, so it has not.
            self.clock_us = before_us
        return answer

    def _close_cycle(self, command: CloseCycle) -> Answer:
        if reason := self.business_time(command.at_us):
            return [self.refuse(command, reason)]
        number = command.arrangement_no
        if number == MAIN:
            open_no = self.cycle_no
        else:
            window = self.windows.get(number)
            open_no = window.cycle_no if window else 0
        if command.cycle_no != open_no or (number != MAIN and number not in self.arrangements):
            return [self.refuse(command, Reason.CYCLE_NOT_OPEN)]
        if command.next_id in self.cycle_ids:
            return [self.refuse(command, Reason.CYCLE_EXISTS)]
        self.cycle_ids.add(command.next_id)
        answer: Answer = []
        if open_no:
            closed = self._administer(command, 0, Kind.CYCLE_CLOSED, 0, 0, "", cycle_no=open_no)
            answer.append(closed)
            self._fence(closed, number)
        next_no = self.last_cycle_no = max(self.last_cycle_no, self.cycle_no) + 1
        if number == MAIN:
            self.cycle_no = next_no
        else:
            self.windows[number] = Window(next_no, gross=self._is_gross(number))
        self._turn_pairs(number)
        opened = self._administer(
            command, len(answer), Kind.CYCLE_OPENED, 0, number, command.next_id, cycle_no=next_no
        )
        self._changes.cycles.append(
            CycleChange(
                cycle_no=next_no,
                kind=Kind.CYCLE_OPENED,
                at_us=opened.at_us,
                seq=opened.seq,
                cycle_id=command.next_id,
                cut_off_us=command.next_cut_off_us,
                arrangement_no=number,
            )
        )
        answer.append(opened)
        return answer

    def _fence(self, closed: Entry, arrangement_no: int) -> None:
        """Freeze an open cycle's figures: nothing is written into it after `closed`."""
        self._collect_open()
        if arrangement_no == MAIN:
            nets = {number: account.open for number, account in self.accounts.items()}
            nets |= self._house()
            for account in self.accounts.values():
                account.unsettled += min(0, account.open)
                account.open = 0
            self.fees_cu = self.rounding_cu = 0
            self.obligations, self.reversed = {}, {}
        else:
            window = self.windows.pop(arrangement_no)
            nets = {} if window.gross else window.nets  # its debts weigh already
            if window.gross:
                self.gross_closed.add(closed.cycle_no)
        self.unsettled[closed.cycle_no] = {
            party: net_cu for party, net_cu in nets.items() if net_cu
        }
        self._changes.cycles.append(
            CycleChange(
                cycle_no=closed.cycle_no, kind=Kind.CYCLE_CLOSED, at_us=closed.at_us, seq=closed.seq
            )
        )

    def _settle_cycle(self, command: SettleCycle) -> Entry:
        if command.cycle_no not in self.unsettled:
            return self.refuse(command, Reason.CYCLE_NOT_CLOSED)
        if command.funded and (missing := funds.missing_for(self, command.cycle_no)):
            return self.refuse(command, Reason.FUNDS_INSUFFICIENT, merchant_no=min(missing))
        return self.settle(command)

    def settle(self, command: SettleCycle | Unwind, *, step: int = 0) -> Entry:
        """Move a closed cycle into the parties' funds; it weighs on no cap from then on (rules U5 and U6)."""
        nets = self.unsettled.pop(command.cycle_no)
        self.gross_closed.discard(command.cycle_no)
        for merchant_no, net_cu in nets.items():
            if merchant_no > 0:
                self.accounts[merchant_no].unsettled -= min(0, net_cu)
        paid_cu = funds.settle(self, command.cycle_no, nets)
        funded = not isinstance(command, SettleCycle) or command.funded
        entry = self._administer(
            command,
            step,
            Kind.CYCLE_SETTLED,
            0,
            paid_cu if funded else 0,
            "",
            cycle_no=command.cycle_no,
        )
        self._changes.cycles.append(
            CycleChange(
                cycle_no=command.cycle_no, kind=Kind.CYCLE_SETTLED, at_us=entry.at_us, seq=entry.seq
            )
        )
        return entry

    # Money ------------------------------------------------------------------------------------

    def add_collateral(self, merchant_no: int, cu: int) -> None:
        """Change a merchant's collateral; whether it may is decided by whoever asks."""
        self.accounts[merchant_no].collateral += cu
        self._moved_accounts.add(merchant_no)

    def move_money(
        self,
        command: Command,
        kind: Kind,
        giver: int,
        taker: int,
        figures: tuple[int, int, int],
        /,
        *,
        pots: tuple[int, int] = (0, 0),
        step: int = 0,
        cycle_no: int = 0,
        reference: str = "",
    ) -> Entry:
        """Write down that money moved; whose and where is told by `settlement.core.funds`.

        Args:
            command: Who wants it, and under which key.
            kind: `DEPOSITED`, `PAID_OUT`, `TRANSFERRED` or `DISCHARGED`.
            giver: Whose money; of a pair, the merchant with the lower number.
            taker: Whose it is then; of a pair, the other merchant; 0 where the bank stands on the other side.
            figures: `debit_cu`, `value_cu` and `fee_cu`: of a pair, what the one, the other and the fees
                come to; else only the second, the amount.
            pots: From which pot, to which.
            step: Place among the events of one request.
            cycle_no: The closed cycle that it helps to settle; 0 for none.
            reference: Where the bank says so, or what it is for.
        """
        return self._write(
            command, step, kind, 0, -1, 0, 0, 0, pots[0], *figures, pots[1], 0, giver, taker, 0,
            reference, cycle_no or None,
        )  # fmt: skip

    def _join(self, command: Join) -> Entry:
        if command.merchant_no in self.accounts:
            return self.refuse(command, Reason.MERCHANT_EXISTS, merchant_no=command.merchant_no)
        _check_amount(command.cap_cu)
        if command.merchant_no < 1:
            raise ValueError(f"not a merchant's number: {command.merchant_no}")
        self.accounts[command.merchant_no] = Account(command.cap_cu)
        self._moved_accounts.add(command.merchant_no)
        return self._administer(command, 0, Kind.JOINED, command.merchant_no, command.cap_cu, "")

    # Arrangements -----------------------------------------------------------------------------

    def window_of(self, issuer: int, acceptor: int) -> Window | None:
        """The open cycle that a pair's lines go to; None for the main arrangement's."""
        if not self.arranged:
            return None
        number = self.arranged.get((issuer, acceptor))
        return None if number is None else self.windows[number]

    def owed_beside(self, number: int) -> int:
        """What a merchant owes in the open cycles beside the main one, CU; never positive."""
        return sum(
            min(0, window.net(number)) for window in self.windows.values() if not window.gross
        )

    def free_funds(self, number: int) -> int:
        """What a merchant's funds hold that no accepted order of a gross arrangement reserves, CU (rule T9)."""
        return self.funds.of(number) - self.reserved.get(number, 0)

    def _is_gross(self, arrangement_no: int) -> bool:
        return arrangement_no != MAIN and self.arrangements[arrangement_no].model is Model.GROSS

    def _reserve(self, issuer: int, cu: int) -> None:
        """Hold an order's value against its issuer's funds instead of the cap, which it leaves alone."""
        self.reserved[issuer] = self.reserved.get(issuer, 0) + cu
        self.accounts[issuer].unsettled += cu

    def _room(self, number: int, account: Account, window: Window | None) -> int:
        """What a merchant may still owe in one open cycle; each other counts where it is below 0 (rule C2)."""
        if window is None:
            return account.base + account.open
        return account.base + min(0, account.open) + max(0, window.net(number))

    def _clear_beside(
        self,
        command: Command,
        step: int,
        issuer: int,
        acceptor: int,
        member_no: int,
        units: int,
        debit_cu: int,
        value_cu: int,
        fee_cu: int,
        rate_no: int,
        occurred_at_us: int,
        credited_units: int,
        lot_no: int,
        due_at_us: int,
        reference: str,
        /,
    ) -> Entry:
        """Clear an order of a pair that does not settle in the main arrangement, as `clear` does."""
        if units <= 0 or not 0 <= fee_cu <= value_cu <= debit_cu or not 0 < debit_cu < AMOUNT_LIMIT:
            raise _contradiction(units, debit_cu, value_cu, fee_cu)
        window = self.windows[self.arranged[issuer, acceptor]]
        reason = self.why_not_clear(issuer, acceptor, debit_cu, beside_cu=0)
        if reason is not None:
            return self._write(
                command, step, Kind.REFUSED, reason.number, 0, occurred_at_us, 0, member_no, units,
                debit_cu, value_cu, fee_cu, 0, 0, issuer, acceptor, rate_no, reference,
            )  # fmt: skip
        self._credit(window, issuer, acceptor, debit_cu, value_cu, fee_cu)
        return self._write(
            command, step, Kind.CLEARED, 0, 0, occurred_at_us, due_at_us, member_no, units,
            debit_cu, value_cu, fee_cu, credited_units, lot_no, issuer, acceptor, rate_no, reference,
            window.cycle_no,
        )  # fmt: skip

    def _post_beside(
        self,
        window: Window,
        issuer: int,
        acceptor: int,
        debit_cu: int,
        value_cu: int,
        fee_cu: int,
        /,
    ) -> None:
        """Move the figures of a cycle beside the main one; what falls below 0 there weighs on every cap.

        In a gross cycle the money moves with them, and nothing weighs (rule T9).
        """
        for party, cu in (
            (issuer, -debit_cu),
            (acceptor, value_cu - fee_cu),
            (HOUSE_FEES, fee_cu),
            (HOUSE_ROUNDING, debit_cu - value_cu),
        ):
            before = window.net(party)
            after = window.nets[party] = before + cu
            if window.gross:
                self._move_at_once(party, cu)
            elif party > 0:
                self.accounts[party].unsettled += min(0, after) - min(0, before)

    def _move_at_once(self, party: int, cu: int) -> None:
        """Move a leg of a gross line into the funds; a merchant that it leaves below zero is told of."""
        if not cu:
            return
        self.funds.add(party, cu)
        left_cu = self.funds.of(party)
        if party > 0 and cu < 0 and left_cu < 0:
            self._changes.breached[party] = -left_cu

    def _make_arrangement(self, command: MakeArrangement) -> Entry:
        if command.code == MAIN_CODE or any(
            made.code == command.code for made in self.arrangements.values()
        ):
            return self.refuse(command, Reason.ARRANGEMENT_EXISTS)
        made = Arrangement(len(self.arrangements) + 1, command.code, Model(command.model))
        self.arrangements[made.arrangement_no] = made
        self._changes.arrangements.append(made)
        return self._write(
            command, 0, Kind.ARRANGEMENT_MADE, 0, -1, 0, 0, 0, 0, 0, made.arrangement_no, made.model,
            0, 0, 0, 0, 0, made.code,
        )  # fmt: skip

    def _arrange_pair(self, command: ArrangePair) -> Entry:
        """Give a pair another arrangement, from the turn of the cycle that is open for it (rule T7)."""
        pair, number = unordered(command.one, command.other), command.arrangement_no
        for merchant_no in pair:
            if merchant_no not in self.accounts:
                return self.refuse(command, Reason.UNKNOWN_MERCHANT, merchant_no=merchant_no)
        if pair[0] == pair[1]:
            return self.refuse(command, Reason.SAME_MERCHANT, merchant_no=pair[0])
        if number != MAIN and number not in self.windows:
            return self.refuse(command, Reason.CYCLE_NOT_OPEN)
        present = self.arranged.get(pair, MAIN)
        if present == MAIN and not self.cycle_no:
            present = number
            self._arrange(pair, number)
        if present == number:
            self.turning.pop(pair, None)
        else:
            self.turning[pair] = number
        self._changes.pairs[pair] = (present, self.turning.get(pair))
        return self._write(
            command, 0, Kind.PAIR_ARRANGED, 0, -1, 0, 0, 0, 0, 0, number, 0, 0, 0, *pair, 0, ""
        )

    def _turn_pairs(self, arrangement_no: int) -> None:
        """A cycle of an arrangement has closed: pairs that were given another one belong to that now."""
        for pair, number in list(self.turning.items()):
            if self.arranged.get(pair, MAIN) == arrangement_no:
                del self.turning[pair]
                self._arrange(pair, number)
                self._changes.pairs[pair] = (number, None)

    def _arrange(self, pair: Pair, arrangement_no: int) -> None:
        """Let the orders of a pair, whichever way they go, belong to an arrangement from now on.

        What its open holds reserve, funds or headroom, follows (rule T9).
        """
        was, is_ = (
            self._is_gross(number) for number in (self.arranged.get(pair, MAIN), arrangement_no)
        )
        if was != is_:
            for hold in self.holds.values():
                if unordered(hold.issuer, hold.acceptor) == pair:
                    self._reserve(hold.issuer, hold.debit_cu if is_ else -hold.debit_cu)
        for way in (pair, pair[::-1]):
            if arrangement_no == MAIN:
                self.arranged.pop(way, None)
            else:
                self.arranged[way] = arrangement_no

    def _change_account(self, command: SetCap | SetCollateral) -> Entry:
        account = self.accounts.get(command.merchant_no)
        if account is None:
            return self.refuse(command, Reason.UNKNOWN_MERCHANT, merchant_no=command.merchant_no)
        if isinstance(command, SetCap):
            _check_amount(command.cap_cu)
            account.cap = command.cap_cu
            kind, figure = Kind.CAP_SET, command.cap_cu
        else:
            _check_amount(command.collateral_cu)
            withdrawn = account.collateral - command.collateral_cu
            if withdrawn > 0 and account.base + min(0, account.open) < withdrawn:
                return self.refuse(
                    command, Reason.NET_DEBIT_CAP_EXCEEDED, merchant_no=command.merchant_no
                )
            account.collateral = command.collateral_cu
            kind, figure = Kind.COLLATERAL_SET, command.collateral_cu
        self._moved_accounts.add(command.merchant_no)
        return self._administer(command, 0, kind, command.merchant_no, figure, "")

    # Writing ----------------------------------------------------------------------------------

    def take(self) -> Changes:
        """Hand over everything that changed since the last call, and start collecting anew."""
        self._collect_open()
        changes = self._changes
        changes.events = self._events
        changes.count = self.seq + 1 - self._first_seq
        changes.first_seq = self._first_seq
        changes.accounts = {
            number: (account.cap, account.collateral, account.held)
            for number in self._moved_accounts
            for account in (self.accounts[number],)
        }
        changes.opened = list(self._opened.values())
        changes.ended = self._ended
        changes.funds = self.funds.take()
        self._events = []
        self._first_seq = self.seq + 1
        self._moved_accounts = set()
        self._opened = {}
        self._ended = []
        self._changes = Changes()
        return changes

    def _collect_open(self) -> None:
        """Note the figures of open cycles that moved, before a cycle or the flush ends."""
        for window in self.windows.values():
            self._collect_window(window)
        if not (self._moved_pairs or self._reversed_pairs):
            return
        cycle_no, changes = self.cycle_no, self._changes
        positions = changes.positions
        for moved, totals, changed in (
            (self._moved_pairs, self.obligations, changes.obligations),
            (self._reversed_pairs, self.reversed, changes.reversed),
        ):
            for pair in moved:
                o = totals[pair]
                changed[cycle_no, *pair] = (o.orders, o.debit, o.value, o.fee)
                for merchant_no in pair:
                    positions[cycle_no, merchant_no] = self.accounts[merchant_no].open
        for merchant_no, net_cu in self._house().items():
            positions[cycle_no, merchant_no] = net_cu
        self._moved_pairs, self._reversed_pairs = set(), set()

    def _collect_window(self, window: Window) -> None:
        """Note the figures of one cycle beside the main one that moved."""
        changes, cycle_no = self._changes, window.cycle_no
        for moved, totals, changed in (
            (window.moved, window.obligations, changes.obligations),
            (window.taken, window.reversed, changes.reversed),
        ):
            for pair in moved:
                changed[cycle_no, *pair] = totals[pair].figures
                for party in (*pair, HOUSE_FEES, HOUSE_ROUNDING):
                    changes.positions[cycle_no, party] = window.net(party)
            moved.clear()

    def _house(self) -> dict[int, int]:
        """The house's own positions in the open cycle of the main arrangement, CU."""
        return {HOUSE_FEES: self.fees_cu, HOUSE_ROUNDING: self.rounding_cu}

    def _credit(
        self,
        window: Window | None,
        issuer: int,
        acceptor: int,
        debit_cu: int,
        value_cu: int,
        fee_cu: int,
        /,
    ) -> None:
        """Book the credits of a cleared order and its bilateral gross; in a window its debit too."""
        pair = (issuer, acceptor)
        if window is not None:
            window.add(pair, debit_cu, value_cu, fee_cu)
            if window.obligations[pair].debit >= SUM_LIMIT:
                raise _too_much(pair)
            self._post_beside(window, issuer, acceptor, debit_cu, value_cu, fee_cu)
            return
        self.accounts[acceptor].open += value_cu - fee_cu
        self.fees_cu += fee_cu
        self.rounding_cu += debit_cu - value_cu
        self._moved_pairs.add(pair)
        obligation = self.obligations.get(pair)
        if obligation is None:
            obligation = self.obligations[pair] = Obligation()
        if obligation.debit + debit_cu >= SUM_LIMIT:
            raise _too_much(pair)
        obligation.orders += 1
        obligation.debit += debit_cu
        obligation.value += value_cu
        obligation.fee += fee_cu

    def _administer(
        self,
        command: Command,
        step: int,
        kind: Kind,
        merchant_no: int,
        figure_cu: int,
        reference: str,
        *,
        cycle_no: int | None = None,
    ) -> Entry:
        return self._write(
            command, step, kind, 0, -1, 0, 0, 0, 0, 0, figure_cu, 0, 0, 0, merchant_no, 0, 0,
            reference, cycle_no,
        )  # fmt: skip

    def _write(
        self,
        command: Command,
        step: int,
        kind: int,
        reason: int,
        order_seq: int,
        occurred_at_us: int,
        due_at_us: int,
        member_no: int,
        units: int,
        debit_cu: int,
        value_cu: int,
        fee_cu: int,
        credited_units: int,
        lot_no: int,
        issuer: int,
        acceptor: int,
        rate_no: int,
        reference: str,
        cycle_no: int | None = None,
        /,
    ) -> Entry:
        """Number one event, append its bytes, and return what the sender gets to see.

        `order_seq` 0 means that the event is its order's first, -1 that it concerns no order.
        """
        seq = self.seq = self.seq + 1
        at_us = self.clock_us
        order = seq if order_seq == 0 else max(0, order_seq)
        due = due_at_us or at_us
        if cycle_no is None:
            cycle_no = self.cycle_no
        text = reference.encode() if reference else b""
        self._events.append(
            PACK(
                24, 8, seq, 8, order, 8, at_us - EPOCH_2000_US,
                8, (occurred_at_us or at_us) - EPOCH_2000_US, 8, due - EPOCH_2000_US, 8, member_no,
                8, units, 8, debit_cu, 8, value_cu, 8, fee_cu, 8, credited_units, 8, lot_no,
                16, command.key, 16, command.body, 4, cycle_no, 4, command.caller, 4, issuer,
                4, acceptor, 4, rate_no, 2, self.part, 2, kind, 2, step, 2, reason, len(text),
            )
            + text
        )  # fmt: skip
        return Entry(
            seq, order, kind, reason, at_us, due, cycle_no, issuer, acceptor, units, debit_cu,
            value_cu, fee_cu, credited_units, lot_no, rate_no,
        )  # fmt: skip


def settled_until(books: Books) -> int:
    """The instant before which no order can come any more.

    Where time is the wall clock's, an offline order may still be on its way.
    """
    return books.clock_us if books.caller_clock else books.clock_us - BACKDATE_US


def _contradiction(units: int, debit_cu: int, value_cu: int, fee_cu: int) -> ValueError:
    """What `event_amounts_add_up` holds in the database is broken: whoever priced the order was wrong."""
    return ValueError(
        f"no order: {units} units, debit {debit_cu}, value {value_cu}, fee {fee_cu} CU"
    )


def _too_much(pair: Pair) -> OverflowError:
    return OverflowError(f"obligations of {pair} pass what the books can hold in one cycle")


def _check_amount(cu: int) -> None:
    """Hold what every cap and collateral must be.

    Raises:
        ValueError: It is negative or passes the limit of amounts.
    """
    if not 0 <= cu < AMOUNT_LIMIT:
        raise ValueError(f"not an amount: {cu} CU")
