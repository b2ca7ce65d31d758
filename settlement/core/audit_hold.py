"""Recomputing holds from the journal: accepted under the cap, pinned and ended once, in time, with the same figures.

Source: settlement/RULES.md, rules C3, C4, C7 and T9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from settlement.core import audit_cycle, audit_order
from settlement.core.audit_figures import OpenHold
from settlement.core.audit_report import instant_text
from settlement.core.event import EPOCH_2000_US, Kind

if TYPE_CHECKING:
    from settlement.core.audit import JournalAudit
    from settlement.core.audit_figures import Figures


def accept(
    journal: JournalAudit, seq: int, order_seq: int, due_at: int, figures: Figures, cycle_no: int
) -> None:
    """An order that was accepted: rule C3, then its hold."""
    issuer, debit = figures.issuer, figures.debit
    if order_seq != seq:
        journal.differ(seq, "order_seq", seq, order_seq)
    cycle = audit_cycle.in_open_cycle(journal, seq, issuer, figures.acceptor, cycle_no)
    audit_order.check_figures(journal, seq, figures.units, debit, figures.value, figures.fee)
    debtor = journal.account(seq, issuer)
    headroom = debtor.base + audit_order.debts(journal, issuer) - debit
    if cycle is not None and cycle.gross:
        audit_order.check_funds(journal, seq, issuer, debit)
        debtor.reserved += debit
    elif headroom < 0:
        journal.differ(seq, "headroom after the hold (rule C3)", ">= 0", headroom)
    debtor.held += debit
    journal.holds[seq] = OpenHold(due_at, figures)


def end(
    journal: JournalAudit,
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
    hold = journal.holds.pop(order_seq, None)
    if hold is None:
        journal.differ(seq, "order_seq", "an order with an open hold", order_seq)
        return
    debtor = journal.accounts[hold.figures.issuer]
    debtor.held -= hold.figures.debit
    if audit_cycle.is_gross(
        journal, audit_cycle.arrangement_of(journal, hold.figures.issuer, hold.figures.acceptor)
    ):
        debtor.reserved -= hold.figures.debit
    _follow(journal, seq, hold, step, -1, figures)
    if kind == Kind.EXPIRED and hold.pinned_seq:
        journal.differ(
            seq, "kind", f"no expiry after the pin of event {hold.pinned_seq}", "expired"
        )
    if kind == Kind.EXPIRED and at < hold.due_at:
        journal.differ(
            seq, "at", f"expiry at {instant_text(hold.due_at + EPOCH_2000_US)} or later",
            instant_text(at + EPOCH_2000_US),
        )  # fmt: skip
    if kind != Kind.EXPIRED and not hold.pinned_seq:
        _in_time(journal, seq, hold, at)
    if kind == Kind.CLEARED:
        audit_order.book(
            journal,
            seq,
            figures.issuer,
            figures.acceptor,
            figures.debit,
            figures.value,
            figures.fee,
            cycle_no,
        )
        journal.report.orders += 1
    else:
        audit_cycle.in_open_cycle(journal, seq, figures.issuer, figures.acceptor, cycle_no)


def pin(
    journal: JournalAudit,
    seq: int,
    order_seq: int,
    at: int,
    step: int,
    figures: Figures,
    cycle_no: int,
    /,
) -> None:
    """The pin of a hold: at most once, with the figures that were accepted, in time (rule C7)."""
    hold = journal.holds.get(order_seq)
    if hold is None or hold.pinned_seq:
        journal.differ(seq, "order_seq", "an order with an open hold that is not pinned", order_seq)
        return
    _follow(journal, seq, hold, step, -2, figures)
    _in_time(journal, seq, hold, at)
    audit_cycle.in_open_cycle(journal, seq, figures.issuer, figures.acceptor, cycle_no)
    journal.holds[order_seq] = hold._replace(pinned_seq=seq)


def _follow(
    journal: JournalAudit, seq: int, hold: OpenHold, step: int, expected: int, figures: Figures
) -> None:
    """What every later event of an accepted order must repeat."""
    if hold.figures != figures:
        journal.differ(seq, "figures", hold.figures, figures)
    if step != expected:
        journal.differ(seq, "step", expected, step)


def _in_time(journal: JournalAudit, seq: int, hold: OpenHold, at: int) -> None:
    if at >= hold.due_at:
        journal.differ(
            seq, "at", f"before the expiry at {instant_text(hold.due_at + EPOCH_2000_US)}",
            instant_text(at + EPOCH_2000_US),
        )  # fmt: skip
