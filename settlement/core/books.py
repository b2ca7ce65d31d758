"""The books of one partition, as its writer holds them: headroom, positions, holds, the open cycle.

Plain state and plain arithmetic. Each command is decided in arrival order, changes the state, and appends the
canonical bytes of the events that say so; nothing here waits, reads a clock or writes. `take` hands over what
changed since it was last called, and the caller writes that in one transaction. If the write fails, the object
is thrown away and loaded again.

`Books` owns the state and decides orders that clear at once; everything else is decided by functions that take it,
each subject in its module:

    account      joining, caps and collateral (rules C1 and C5)
    headroom     what a merchant may still owe (C1 to C4)
    posting      the four legs of an order (B1 to B3)
    hold         orders in two phases (C3, C4, C7)
    reversal     taking an order back (V1 to V4)
    adjustment   correcting what is owed (J1 to J4)
    cycle        closing and settling (T1 to T6, U5, U6, U11, U13)
    arrangement  pairs that settle otherwise (T6 to T9)
    funds        whose the money at the bank is (U1 to U11)
    points       points that move without value
    changes      what a flush writes
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.values.amounts import AMOUNT_LIMIT, SUM_LIMIT
from schemas.values.ids import HOUSE_FEES, HOUSE_ROUNDING
from schemas.values.reason import Reason
from settlement.core import account, adjustment, arrangement, changes, cycle, funds, hold
from settlement.core.changes import Changes
from settlement.core.command import (
    Adjust,
    Answer,
    ArrangePair,
    CloseCycle,
    End,
    Entry,
    ExpireHolds,
    FundsCommand,
    Join,
    MakeArrangement,
    Order,
    Pin,
    SettleCycle,
    Unwind,
)
from settlement.core.event import EPOCH_2000_US, PACK, Kind
from settlement.core.funds import Funds
from settlement.core.posting import contradiction
from settlement.core.window import Obligation, note

if TYPE_CHECKING:
    from settlement.core.account import Account
    from settlement.core.arrangement import Arrangement
    from settlement.core.command import BooksCommand, Command
    from settlement.core.hold import Hold
    from settlement.core.reversal import Cleared, Past
    from settlement.core.window import Pair, Window

BACKDATE_US: Final = 7 * 86_400_000_000
"""An offline order may be this late; hosted lots are kept, and do not lapse, until then."""


class Books:
    """State of one partition, and the decisions on orders that clear at once; every `_cu` figure counts whole CU.

    Attributes:
        part: Partition.
        caller_clock: Whether time is the business time that callers give.
        seq: Number of the last event.
        clock_us: The writer's clock, microseconds since 1970.
        accounts: Merchant to its figures.
        fees_cu: The house's fees in the open cycle of the main arrangement.
        rounding_cu: The house's rounding there.
        cycle_no: The open cycle of the main arrangement; 0 before the first.
        last_cycle_no: The highest number that any cycle has.
        cycle_ids: Ids that cycles have, so that none is used twice.
        obligations: (issuer, acceptor) to what cleared in the open cycle of the main arrangement.
        reversed: The same of what reversals and adjustments took back.
        unsettled: Closed, unsettled cycle to the positions in it.
        gross_closed: Which of those were settled line by line.
        arrangements: Arrangements beside the main one, by number.
        windows: Arrangement to its open cycle.
        arranged: (issuer, acceptor) to the arrangement, both ways; pairs of the main one are not in it.
        turning: Pair to the arrangement that it gets when its cycle turns.
        funds: Whose the money at the bank is.
        reserved: Merchant to what accepted orders of gross arrangements hold of its funds.
        holds: Accepted orders that are open, by the number of their first event.
        pins: Event that pinned an open hold.
        due: Heap of (instant, hold); holds that ended otherwise stay in it until their turn.
        recent_ends: Holds that ended and whose end may not be stored yet.
        cleared: Orders that reversals and adjustments name, as they stand.
        past: Orders that they name and that did not clear.
        events: Canonical bytes since the last `take`, and `first_seq` the number of the first.
        moved_pairs: Pairs of `obligations` that changed since then.
        reversed_pairs: Pairs of `reversed` that changed.
        moved_accounts: Merchants whose cap, collateral or held total changed.
        opened: Holds that were opened since then and are open.
        ended: Stored holds that ended since then.
        changes: Whatever else changed since then.
    """

    # More than thirty attributes without slots would each be looked up in a dictionary, for every order anew.
    __slots__ = (
        "accounts",
        "arranged",
        "arrangements",
        "caller_clock",
        "changes",
        "cleared",
        "clock_us",
        "cycle_ids",
        "cycle_no",
        "due",
        "ended",
        "events",
        "fees_cu",
        "first_seq",
        "funds",
        "gross_closed",
        "holds",
        "last_cycle_no",
        "moved_accounts",
        "moved_pairs",
        "obligations",
        "opened",
        "part",
        "past",
        "pins",
        "recent_ends",
        "reserved",
        "reversed",
        "reversed_pairs",
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
        self.due: list[tuple[int, int]] = []
        self.events: list[bytes] = []
        self.first_seq = 1
        self.moved_pairs: set[tuple[int, int]] = set()
        self.reversed_pairs: set[tuple[int, int]] = set()
        self.moved_accounts: set[int] = set()
        self.opened: dict[int, Hold] = {}
        self.ended: list[int] = []
        self.changes = Changes()

    def start_after(self, seq: int) -> None:
        """Number the next event `seq + 1`."""
        self.seq = seq
        self.first_seq = seq + 1

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
            return arrangement.clear(
                self,
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
            raise contradiction(units, debit_cu, value_cu, fee_cu)
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
                self.moved_pairs.add(pair)
                seq = self.seq = self.seq + 1
                at_us = self.clock_us
                due = due_at_us or at_us
                text = reference.encode() if reference else b""
                self.events.append(
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
        return self.write(
            command, step, Kind.REFUSED, reason.number, 0, occurred_at_us, 0, member_no, units,
            debit_cu, value_cu, fee_cu, 0, 0, issuer, acceptor, rate_no, reference,
        )  # fmt: skip

    def refuse_order(self, order: Order, reason: int, step: int = 0) -> Entry:
        """Write down that an order is refused; final for its key."""
        return self.write(
            order, step, Kind.REFUSED, reason, 0, order.occurred_at_us, 0, order.member_no, order.units,
            order.debit_cu, order.value_cu, order.fee_cu, 0, 0, order.issuer, order.acceptor,
            order.rate_no, order.reference,
        )  # fmt: skip

    def refuse(self, command: Command, reason: Reason, *, merchant_no: int = 0) -> Entry:
        """Write down that an administrative or points command is refused; final for its key."""
        return self.write(
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
        self.events.append(events)
        self.seq += count

    def move(
        self, pair: tuple[int, int], orders: int, debit_cu: int, value_cu: int, fee_cu: int, /
    ) -> None:
        """Book what cleared orders of one pair come to; the two merchants' positions were moved with them."""
        self.fees_cu += fee_cu
        self.rounding_cu += debit_cu - value_cu
        note(self.obligations, self.moved_pairs, pair, orders, debit_cu, value_cu, fee_cu)

    # Commands without a rider -------------------------------------------------------------------

    def decide(self, command: BooksCommand) -> Answer:
        """Decide one command of the books; orders of hosted issuers go to the rider instead."""
        if isinstance(command, Order):
            return [self._decide_order(command)]
        if isinstance(command, End | Pin):
            return [hold.decide(self, command)]
        if isinstance(command, ExpireHolds):
            return hold.expire(self, command)
        if isinstance(command, CloseCycle):
            return cycle.close(self, command)
        if isinstance(command, SettleCycle):
            return [cycle.decide_settlement(self, command)]
        if isinstance(command, MakeArrangement):
            return [arrangement.make(self, command)]
        if isinstance(command, ArrangePair):
            return [arrangement.give(self, command)]
        if isinstance(command, Join):
            return [account.join(self, command)]
        if isinstance(command, Adjust):
            return [adjustment.decide(self, command)]
        if isinstance(command, Unwind):
            return cycle.unwind(self, command)
        if isinstance(command, FundsCommand):
            return funds.decide(self, command)
        return [account.change(self, command)]

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
            return hold.accept(self, order)
        return self.clear(
            order, 0, order.issuer, order.acceptor, order.member_no, order.units, order.debit_cu,
            order.value_cu, order.fee_cu, order.rate_no, order.occurred_at_us or self.clock_us,
            0, 0, 0, order.reference,
        )  # fmt: skip

    def window_of(self, issuer: int, acceptor: int) -> Window | None:
        """The open cycle that a pair's lines go to; None for the main arrangement's."""
        if not self.arranged:
            return None
        number = self.arranged.get((issuer, acceptor))
        return None if number is None else self.windows[number]

    # Writing ----------------------------------------------------------------------------------

    def take(self) -> Changes:
        """Hand over everything that changed since the last call, and start collecting anew."""
        return changes.take(self)

    def house(self) -> dict[int, int]:
        """The house's own positions in the open cycle of the main arrangement, CU."""
        return {HOUSE_FEES: self.fees_cu, HOUSE_ROUNDING: self.rounding_cu}

    def administer(
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
        """Write down an administrative command: whose account, or which cycle, and one figure."""
        return self.write(
            command, step, kind, 0, -1, 0, 0, 0, 0, 0, figure_cu, 0, 0, 0, merchant_no, 0, 0,
            reference, cycle_no,
        )  # fmt: skip

    def write(
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
        self.events.append(
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
