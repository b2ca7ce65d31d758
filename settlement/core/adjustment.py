"""Correcting what merchants owe each other: an entry of the open cycle that names the line it corrects.

Nothing that was written changes. What one merchant owes another is made more, at figures like an order's, or less,
at figures like a reversal's; where an order is corrected, all its reversals and adjustments together never take back
more than it has, and what is left of it is figures of an order again (settlement/RULES.md, rules J1 to J3).

The event's reference begins with the line that it corrects, so that the signed bytes say so: `#17/40213 D12` corrects
event 40213 of cycle 17.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.values.amounts import AMOUNT_LIMIT, SUM_LIMIT
from schemas.values.ids import HOUSE
from schemas.values.reason import Reason
from settlement.core import headroom, posting
from settlement.core.event import Kind
from settlement.core.reversal import NOTHING, Cleared, standing

if TYPE_CHECKING:
    from settlement.core.books import Books
    from settlement.core.command import Adjust, Entry

_LINK: Final = re.compile(r"#([1-9][0-9]{0,9})/([1-9][0-9]{0,18})(?: |\Z)")


class Link(NamedTuple):
    """The line that an adjustment corrects: its cycle, and the event that cleared it."""

    cycle_no: int
    seq: int


def link_text(order: Cleared, reference: str) -> str:
    """Reference of an adjustment of an order: the line that it corrects, then what it is known by."""
    return f"#{order.cycle_no}/{order.cleared_seq} {reference}".rstrip()


def read_link(reference: str) -> Link | None:
    """The line that an adjustment's reference names; None if it names none."""
    found = _LINK.match(reference)
    return Link(int(found[1]), int(found[2])) if found else None


def is_owed(debit_cu: int, value_cu: int, fee_cu: int) -> bool:
    """Whether figures could be an order's that has a value: `0 <= fee <= value <= debit`, value above 0."""
    return 0 <= fee_cu <= value_cu <= debit_cu < AMOUNT_LIMIT and value_cu > 0


def decide(books: Books, command: Adjust) -> Entry:
    """Correct what one merchant owes another; no cap refuses that (rules J1 to J4)."""
    order = find(books, command)
    if isinstance(order, Reason):
        return books.refuse(command, order, merchant_no=command.issuer)
    figures = command.debit_cu, command.value_cu, command.fee_cu
    window = books.window_of(command.issuer, command.acceptor)
    if command.value_cu > 0:
        if window is None:
            books.accounts[command.issuer].open -= command.debit_cu
        posting.credit(books, window, command.issuer, command.acceptor, *figures)
        headroom.note_breach(books, command.issuer, window)
    else:
        posting.take_back(books, command.issuer, command.acceptor, *(-figure for figure in figures))
    reference = command.reference
    if order is not None:
        reference = link_text(order, reference)
    entry = books.write(
        command, 0, Kind.ADJUSTED, 0, command.order_seq or -1, 0, 0, 0, 0, *figures, 0, 0,
        command.issuer, command.acceptor, 0, reference, window.cycle_no if window else None,
    )  # fmt: skip
    if order is not None:
        part = NOTHING._replace(
            debit_cu=-command.debit_cu, value_cu=-command.value_cu, fee_cu=-command.fee_cu
        )
        books.cleared[command.order_seq] = order.corrected(part, entry.seq)
    return entry


def find(books: Books, command: Adjust) -> Cleared | Reason | None:
    """Find the order that an adjustment corrects.

    Args:
        books: The books, which hold the order: it was loaded, or cleared just now.
        command: What is wanted.

    Returns:
        The order, or None where no order is named; or why nothing is adjusted: CYCLE_NOT_OPEN, UNKNOWN_MERCHANT,
        ORDER_NOT_FOUND (also of other merchants than the command says), how the order ended otherwise,
        ADJUSTMENT_EXCEEDS_ORDER, or AMOUNT_ABOVE_MAXIMUM.

    Raises:
        ValueError: Neither the house asks nor a merchant that obliges itself, or the figures are neither owed nor
            taken back.

    Source: settlement/RULES.md, rules J1 and J2.
    """
    figures = command.debit_cu, command.value_cu, command.fee_cu
    owed = is_owed(*figures)
    own = owed and not command.order_seq and command.caller == command.issuer
    if not (own or command.caller == HOUSE) or not (owed or (max(figures) <= 0 and any(figures))):
        raise ValueError(f"no adjustment: {figures} CU of {command.caller}")
    if not books.cycle_no:
        return Reason.CYCLE_NOT_OPEN
    pair = command.issuer, command.acceptor
    totals = (books.obligations if owed else books.reversed).get(pair)
    if totals is not None and totals.debit + abs(command.debit_cu) >= SUM_LIMIT:
        return Reason.AMOUNT_ABOVE_MAXIMUM
    if command.order_seq:
        return _order_of(books, command)
    if command.issuer == command.acceptor or not (owed or is_taken_back_alone(*figures)):
        raise ValueError(f"no adjustment between {pair}: {figures} CU")
    if any(number not in books.accounts for number in pair):
        return Reason.UNKNOWN_MERCHANT
    return None


def is_taken_back_alone(debit_cu: int, value_cu: int, fee_cu: int) -> bool:
    """Whether figures could be taken back where no order says what there was: each part of the one before."""
    return -AMOUNT_LIMIT < debit_cu < 0 and debit_cu <= value_cu <= fee_cu <= 0


def _order_of(books: Books, command: Adjust) -> Cleared | Reason:
    """The order that is named, if what the adjustment leaves of it is figures of an order again."""
    order, _ = standing(books, command.order_seq)
    if isinstance(order, Reason):
        return order
    if (order.issuer, order.acceptor) != (command.issuer, command.acceptor):
        return Reason.ORDER_NOT_FOUND
    left = order.left
    debit_cu = left.debit_cu + command.debit_cu
    value_cu = left.value_cu + command.value_cu
    fee_cu = left.fee_cu + command.fee_cu
    if not 0 <= fee_cu <= value_cu <= debit_cu:
        return Reason.ADJUSTMENT_EXCEEDS_ORDER
    if debit_cu >= AMOUNT_LIMIT:
        return Reason.AMOUNT_ABOVE_MAXIMUM
    return order
