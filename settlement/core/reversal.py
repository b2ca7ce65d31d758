"""Taking a cleared order back, in part or whole: what of it still stands, and what a part comes to.

A reversal is at the order's own figures, whatever rates came since. Debit, value, fee and new points
of all reversals of an order together are `floor(whole * reversed units / units)`; the newest gets
what the earlier ones have not. So parts never add up to more than the whole, and the last part leaves
nothing behind (settlement/RULES.md, rules V1 to V3). Of an order that adjustments have corrected, a reversal
takes its share of what they left (rule J3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.values.amounts import SUM_LIMIT
from schemas.values.ids import HOUSE
from schemas.values.reason import REASON_BY_NUMBER, Reason
from settlement.core import posting
from settlement.core.event import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from settlement.core.books import Books
    from settlement.core.command import Entry, Reverse
    from settlement.core.hold import Hold


class Amounts(NamedTuple):
    """Figures of an order, or of a part of it: smallest point units and CU."""

    units: int
    debit_cu: int
    value_cu: int
    fee_cu: int
    credited_units: int


NOTHING: Final = Amounts(0, 0, 0, 0, 0)


class Past(NamedTuple):
    """An order that did not clear, or not yet: where its value would have gone, and how it stands."""

    acceptor: int
    kind: Kind


UNKNOWN: Final = Past(HOUSE, Kind.JOINED)
"""Stands for an order that there is not."""
WHY_NOT: Final[Mapping[Kind, Reason]] = {
    Kind.ACCEPTED: Reason.ORDER_NOT_CLEARED,
    Kind.VOIDED: Reason.ORDER_ALREADY_VOIDED,
    Kind.EXPIRED: Reason.HOLD_EXPIRED,
    Kind.REFUSED: Reason.ORDER_REFUSED,
    UNKNOWN.kind: Reason.ORDER_NOT_FOUND,
}
"""Why an order that stands so cannot be reversed."""


class Cleared(NamedTuple):
    """An order that cleared, and what of it was taken back.

    Attributes:
        order_seq: Number of the order's first event.
        cleared_seq: Number of the event that cleared it.
        caller: Who sent the order.
        issuer: Whose points were spent.
        acceptor: Where the value went.
        member_no: The member's surrogate.
        rate_no: The issuer's rate.
        lot_no: The lot of new points that an exchange made here; 0 for none.
        reference: The sender's own reference.
        whole: What was cleared.
        reversed: What all its reversals have taken back, as positive figures.
        last_seq: Number of its newest reversal or adjustment; 0 before the first.
        cycle_no: The cycle in which it cleared.
        adjusted: What all its adjustments have taken back, less what they added; never units.
        adjustments: How many they are.
    """

    order_seq: int
    cleared_seq: int
    caller: int
    issuer: int
    acceptor: int
    member_no: int
    rate_no: int
    lot_no: int
    reference: str
    whole: Amounts
    reversed: Amounts = NOTHING
    last_seq: int = 0
    cycle_no: int = 0
    adjusted: Amounts = NOTHING
    adjustments: int = 0

    @property
    def left_units(self) -> int:
        """Units that no reversal has taken back."""
        return self.whole.units - self.reversed.units

    @property
    def left(self) -> Amounts:
        """What of it stands, after its reversals and adjustments."""
        return Amounts(
            *(
                whole - taken - corrected
                for whole, taken, corrected in zip(
                    self.whole, self.reversed, self.adjusted, strict=True
                )
            )
        )

    def share(self, units: int) -> Amounts:
        """What taking `units` more back comes to.

        Args:
            units: At least 1 and at most `left_units`.

        Raises:
            ValueError: There are fewer units left: the caller did not look.

        Source: settlement/RULES.md, rules V2 and J3.
        """
        if not 0 < units <= self.left_units:
            raise ValueError(f"{units} of {self.left_units} units")
        total = self.reversed.units + units
        part = Amounts(
            units,
            *(
                figure * total // self.whole.units - before
                for figure, before in zip(self.whole[1:], self.reversed[1:], strict=True)
            ),
        )
        if not self.adjustments:
            return part
        left = self.left
        return part._replace(
            debit_cu=left.debit_cu * units // self.left_units,
            value_cu=left.value_cu * units // self.left_units,
            fee_cu=left.fee_cu * units // self.left_units,
        )

    def without(self, part: Amounts, seq: int) -> Cleared:
        """The order after one more reversal, which is event `seq`."""
        taken = Amounts(*(one + more for one, more in zip(self.reversed, part, strict=True)))
        return self._replace(reversed=taken, last_seq=seq)

    def corrected(self, part: Amounts, seq: int) -> Cleared:
        """The order after one more adjustment that takes `part` back, or adds what of it is below 0."""
        taken = Amounts(*(one + more for one, more in zip(self.adjusted, part, strict=True)))
        return self._replace(adjusted=taken, adjustments=self.adjustments + 1, last_seq=seq)


def find(books: Books, command: Reverse) -> tuple[Cleared, Amounts] | Reason:
    """Find the order that a reversal is of, and what the part that is taken back comes to.

    Args:
        books: The books, which hold the order: it was loaded, or cleared just now.
        command: What is wanted.

    Returns:
        Both, or why there is no such part: ORDER_NOT_FOUND, how the order ended otherwise, what was found
        before the queue, or REVERSAL_EXCEEDS_ORDER.

    Source: settlement/RULES.md, rule V1.
    """
    order = _order_of(books, command)
    if isinstance(order, Reason):
        return order
    if command.reason:
        return REASON_BY_NUMBER[command.reason]
    units = command.units or order.left_units
    if not 0 < units <= order.left_units:
        return Reason.REVERSAL_EXCEEDS_ORDER
    part = order.share(units)
    if taken_back(books, order.issuer, order.acceptor) + part.debit_cu >= SUM_LIMIT:
        return Reason.AMOUNT_ABOVE_MAXIMUM
    return order, part


def _order_of(books: Books, command: Reverse) -> Cleared | Reason:
    """The order that a reversal is of, or why it cannot be reversed."""
    order, acceptor = standing(books, command.order_seq)
    if command.caller not in (acceptor, HOUSE):
        return Reason.ORDER_NOT_FOUND
    return order


def standing(books: Books, order_seq: int) -> tuple[Cleared | Reason, int]:
    """The order that these books have loaded, or why there is nothing to take of it; and its acceptor."""
    order = books.cleared.get(order_seq)
    ended = books.recent_ends.get(order_seq)
    if order is None and ended is not None and ended[1].kind == Kind.CLEARED:
        order = _cleared_just_now(*ended)
    if order is not None:
        state = Past(order.acceptor, Kind.CLEARED)
    elif hold := books.holds.get(order_seq):
        state = Past(hold.acceptor, Kind.ACCEPTED)
    elif ended is not None:
        state = Past(ended[0].acceptor, Kind(ended[1].kind))
    else:
        state = books.past.get(order_seq, UNKNOWN)
    return order or WHY_NOT[state.kind], state.acceptor


def _cleared_just_now(hold: Hold, end: Entry) -> Cleared:
    """An order that cleared from its hold, and whose clearing may not be stored yet."""
    return Cleared(
        hold.order_seq, end.seq, hold.caller, hold.issuer, hold.acceptor, hold.member_no,
        hold.rate_no, 0, hold.reference,
        Amounts(hold.units, hold.debit_cu, hold.value_cu, hold.fee_cu, hold.credited_units),
        cycle_no=end.cycle_no,
    )  # fmt: skip


def take_back(
    books: Books,
    command: Reverse,
    order: Cleared,
    part: Amounts,
    *,
    lot_no: int = 0,
    due_at_us: int = 0,
) -> Entry:
    """Take an order back at its own figures, in the open cycle; no cap refuses that (rules V2 to V4).

    Args:
        books: The books.
        command: Who wants it, and under which key.
        order: The order as it stands, as `find` found it.
        part: What of it is taken back.
        lot_no: The lot that is made of points that come back too late for their own; 0 for none.
        due_at_us: When that lot expires; 0 for none.
    """
    window = books.window_of(order.issuer, order.acceptor)
    posting.take_back(
        books, order.issuer, order.acceptor, part.debit_cu, part.value_cu, part.fee_cu
    )
    entry = books.write(
        command, 0, Kind.REVERSED, 0, order.order_seq, 0, due_at_us, order.member_no, -part.units,
        -part.debit_cu, -part.value_cu, -part.fee_cu, -part.credited_units, lot_no,
        order.issuer, order.acceptor, order.rate_no, command.reference or order.reference,
        window.cycle_no if window else None,
    )  # fmt: skip
    books.cleared[order.order_seq] = order.without(part, entry.seq)
    return entry


def taken_back(books: Books, issuer: int, acceptor: int) -> int:
    """What reversals took back of a pair in the cycle that is open for it: the debits, CU."""
    window = books.window_of(issuer, acceptor)
    taken = (books.reversed if window is None else window.reversed).get((issuer, acceptor))
    return taken.debit if taken else 0


def forget(books: Books, through_seq: int) -> None:
    """Forget the orders of reversals that are stored: they are read again when somebody names them."""
    books.past = {}
    books.cleared = {
        order_seq: order
        for order_seq, order in books.cleared.items()
        if order.last_seq > through_seq
    }
