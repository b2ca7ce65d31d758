"""Recomputing from the journal what the house administers: accounts, caps, collateral, and the turn of cycles.

Source: settlement/RULES.md, rules C1 and C5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from settlement.core import audit_cycle, audit_order
from settlement.core.audit_figures import AccountFigures
from settlement.core.event import Kind

if TYPE_CHECKING:
    from settlement.core.audit import JournalAudit


def administer(
    journal: JournalAudit,
    seq: int,
    at: int,
    kind: int,
    merchant_no: int,
    figure: int,
    cycle_no: int,
    text: str,
    /,
) -> None:
    """An event of the house: a merchant joins, a cap or collateral is set (rule C5), or a cycle turns."""
    if kind == Kind.JOINED:
        if merchant_no in journal.accounts:
            journal.differ(seq, "merchant", "one without an account", merchant_no)
        journal.accounts[merchant_no] = AccountFigures(cap=figure)
    elif kind == Kind.CAP_SET:
        journal.account(seq, merchant_no).cap = figure
    elif kind == Kind.COLLATERAL_SET:
        account = journal.account(seq, merchant_no)
        withdrawn = account.collateral - figure
        left = account.base + audit_order.debts(journal, merchant_no) - withdrawn
        if withdrawn > 0 and left < 0:
            journal.differ(seq, "headroom after the withdrawal", ">= 0", left)
        account.collateral = figure
    elif kind == Kind.CYCLE_OPENED:
        audit_cycle.open_cycle(journal, seq, at, cycle_no, figure, text)
    elif kind == Kind.CYCLE_CLOSED:
        audit_cycle.close_cycle(journal, seq, at, cycle_no)
    elif kind == Kind.CYCLE_SETTLED:
        audit_cycle.settle_cycle(journal, seq, at, cycle_no, figure)
    else:
        journal.differ(seq, "kind", "a kind of event that exists", kind)
