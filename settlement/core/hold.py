"""Holds: orders in two phases, whose value is reserved until they are cleared, voided or expired.

Source: settlement/RULES.md, rules C3, C4, C7 and T9.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.ids import HOUSE, order_id
from schemas.values.reason import Reason
from settlement.core import arrangement, headroom, posting
from settlement.core.arrangement import MAIN
from settlement.core.command import Command, Pin, unstored_refusal
from settlement.core.event import Kind
from settlement.core.posting import contradiction

if TYPE_CHECKING:
    from settlement.core.books import Books
    from settlement.core.command import Answer, End, Entry, ExpireHolds, Order

NO_KEY: Final = bytes(16)
HOLD_US_MAX: Final = 35 * 86_400_000_000
"""No hold is longer than keys are kept."""
END_STEP: Final = -1
"""Step of the event that ends a hold; no request of a client reaches it, whatever its key."""
PIN_STEP: Final = -2
"""Step of the event that pins a hold."""


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


def restore_hold(books: Books, hold: Hold) -> None:
    """Put back an open hold that is stored; the account's held total is loaded with the account."""
    books.holds[hold.order_seq] = hold
    if books.arranged and arrangement.is_gross(
        books, books.arranged.get((hold.issuer, hold.acceptor), MAIN)
    ):
        headroom.reserve(books, hold.issuer, hold.debit_cu)
    heapq.heappush(books.due, (hold.due_at_us, hold.order_seq))
    if len(books.due) > 2 * len(books.holds) + 1000:
        books.due = [(hold.due_at_us, hold.order_seq) for hold in books.holds.values()]
        heapq.heapify(books.due)


def restore_pin(books: Books, pin: Entry) -> None:
    """Put back what pinned an open hold."""
    books.pins[pin.order_seq] = pin


def accept(books: Books, order: Order) -> Entry:
    """Reserve the value of a two-phase order under its issuer's cap (rule C3) or funds (T9), or refuse it."""
    if (
        order.issuer == order.acceptor
        or order.units <= 0
        or not 0 <= order.fee_cu <= order.value_cu <= order.debit_cu
        or not 0 < order.debit_cu < AMOUNT_LIMIT
    ):
        raise contradiction(order.units, order.debit_cu, order.value_cu, order.fee_cu)
    if not 0 < order.hold_us <= HOLD_US_MAX:
        raise ValueError(f"a hold of {order.hold_us} microseconds")
    debtor = books.accounts.get(order.issuer)
    if debtor is None or order.acceptor not in books.accounts:
        return books.refuse_order(order, Reason.UNKNOWN_MERCHANT.number)
    window = books.window_of(order.issuer, order.acceptor)
    if window is None and not books.cycle_no:
        return books.refuse_order(order, Reason.CYCLE_NOT_OPEN.number)
    if window is not None and window.gross:
        if headroom.free_funds(books, order.issuer) < order.debit_cu:
            return books.refuse_order(order, Reason.FUNDS_INSUFFICIENT.number)
    elif debtor.base + min(0, debtor.open) < order.debit_cu:
        return books.refuse_order(order, Reason.NET_DEBIT_CAP_EXCEEDED.number)
    debtor.held += order.debit_cu
    books.moved_accounts.add(order.issuer)
    due_at_us = books.clock_us + order.hold_us
    occurred_at_us = order.occurred_at_us or books.clock_us
    entry = books.write(
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
    restore_hold(books, hold)
    books.opened[entry.seq] = hold
    return entry


def end(books: Books, hold: Hold, kind: Kind) -> Entry:
    """End a hold: its value becomes an obligation of the open cycle, or is released (rule C4).

    Clearing tests no cap: the value was reserved when the order was accepted.
    """
    del books.holds[hold.order_seq]
    if books.pins.pop(hold.order_seq, None) is not None:
        books.changes.pinned.pop(hold.order_seq, None)
    if books.opened.pop(hold.order_seq, None) is None:
        books.ended.append(hold.order_seq)
    debtor = books.accounts[hold.issuer]
    debtor.held -= hold.debit_cu
    if books.arranged and arrangement.is_gross(
        books, books.arranged.get((hold.issuer, hold.acceptor), MAIN)
    ):
        headroom.reserve(books, hold.issuer, -hold.debit_cu)
    books.moved_accounts.add(hold.issuer)
    if kind is Kind.CLEARED:
        window = books.window_of(hold.issuer, hold.acceptor)
        if window is None:
            debtor.open -= hold.debit_cu
        posting.credit(
            books, window, hold.issuer, hold.acceptor, hold.debit_cu, hold.value_cu, hold.fee_cu
        )
    entry = _write(books, hold, END_STEP, kind)
    books.recent_ends[hold.order_seq] = (hold, entry)
    return entry


def pin(books: Books, hold: Hold) -> Entry:
    """Keep a hold until its order is cleared, or proven never to be (rule C7)."""
    entry = books.pins[hold.order_seq] = _write(books, hold, PIN_STEP, Kind.PINNED)
    books.changes.pinned[hold.order_seq] = entry.seq
    return entry


def _write(books: Books, hold: Hold, step: int, kind: Kind) -> Entry:
    """Write one more event of an accepted order; it repeats the figures of the acceptance."""
    order = order_id(hold.accepted_at_us, books.part, hold.order_seq)
    command = Command(caller=hold.caller, key=order.bytes, body=NO_KEY)
    window = books.window_of(hold.issuer, hold.acceptor)
    return books.write(
        command, step, kind, 0, hold.order_seq, hold.occurred_at_us, 0, hold.member_no, hold.units,
        hold.debit_cu, hold.value_cu, hold.fee_cu, hold.credited_units, 0,
        hold.issuer, hold.acceptor, hold.rate_no, hold.reference,
        window.cycle_no if window else None,
    )  # fmt: skip


def why_not_open(books: Books, order_seq: int, caller: int) -> Reason | None:
    """Say why an accepted order can be neither pinned nor cleared now, if it cannot."""
    hold = books.holds.get(order_seq)
    if hold is None or caller not in (hold.caller, HOUSE):
        return Reason.ORDER_NOT_FOUND
    if order_seq not in books.pins and hold.due_at_us <= books.clock_us:
        return Reason.HOLD_EXPIRED
    return None


def decide(books: Books, command: End | Pin) -> Entry:
    """End or pin an open hold; which of several comes first decides, expiry included (rule C7).

    Raises:
        ValueError: The wish is for an end that nobody can ask for.
    """
    hold = books.holds.get(command.order_seq)
    if hold is None or command.caller not in (hold.caller, HOUSE):
        return unstored_refusal(Reason.ORDER_NOT_FOUND, command.order_seq)
    pinned = books.pins.get(command.order_seq)
    if pinned is None and hold.due_at_us <= books.clock_us:
        end(books, hold, Kind.EXPIRED)
        return unstored_refusal(Reason.HOLD_EXPIRED, command.order_seq)
    if isinstance(command, Pin):
        return pinned or pin(books, hold)
    if command.kind not in (Kind.CLEARED, Kind.VOIDED):
        raise ValueError(f"no end that can be asked for: {command.kind}")
    if pinned is not None and command.kind == Kind.VOIDED and not command.proven:
        return unstored_refusal(Reason.CREDIT_UNDER_WAY, command.order_seq)
    return end(books, hold, Kind(command.kind))


def expire(books: Books, command: ExpireHolds) -> Answer:
    """End holds whose time is over and that nothing pins, the first due first (rule C4)."""
    before_us = books.clock_us
    if reason := books.business_time(command.at_us):
        return [unstored_refusal(reason)]
    answer: Answer = []
    while books.due and books.due[0][0] <= books.clock_us and len(answer) < command.limit:
        _, order_seq = heapq.heappop(books.due)
        hold = books.holds.get(order_seq)
        if hold is not None and order_seq not in books.pins:
            answer.append(end(books, hold, Kind.EXPIRED))
    if not answer and books.caller_clock:
        # Nothing that is written says that this time had come, so it has not.
        books.clock_us = before_us
    return answer
