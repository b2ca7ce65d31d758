"""Recomputing orders from the journal: caps, figures and postings, of reversals and adjustments too.

Source: settlement/RULES.md, rules B1 to B3, C2, T6, T9, V1 to V4 and J1 to J3.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.reason import Reason
from settlement.core import audit_cycle
from settlement.core.event import Kind

if TYPE_CHECKING:
    from settlement.core.audit import JournalAudit
    from settlement.core.audit_figures import CycleFigures
    from settlement.core.audit_reversal import Reversing

TAKES_BACK: Final = frozenset({int(Kind.REVERSED), int(Kind.ADJUSTED)})
"""Kinds that take an order, or what is owed, back; an adjustment may also add to it."""
_CAP_REASON: Final = Reason.NET_DEBIT_CAP_EXCEEDED.number
_FUNDS_REASON: Final = Reason.FUNDS_INSUFFICIENT.number


def clear(
    journal: JournalAudit,
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
    debtor = journal.accounts.get(issuer) or journal.account(seq, issuer)
    cycle = audit_cycle.cycle_of(journal, issuer, acceptor)
    headroom = debtor.base + _standing(journal, issuer, cycle) - debit
    if cycle is not None and cycle.gross:
        check_funds(journal, seq, issuer, debit)
    elif headroom < 0:
        journal.differ(seq, "headroom after the order (rule C2)", ">= 0", headroom)
    check_figures(journal, seq, units, debit, value, fee)
    book(journal, seq, issuer, acceptor, debit, value, fee, cycle_no)
    journal.report.orders += 1


def check_funds(journal: JournalAudit, seq: int, issuer: int, debit: int) -> None:
    """An order at a gross pair needs the money, free of what others reserve (rule T9)."""
    left = journal.funds.free(issuer) - debit
    if left < 0:
        journal.differ(seq, "funds after the order (rule T9)", ">= 0", left)


def check_figures(
    journal: JournalAudit, seq: int, units: int, debit: int, value: int, fee: int
) -> None:
    """The figures of an order fit each other (rule B1)."""
    if not (units > 0 and 0 <= fee <= value <= debit and 0 < debit < AMOUNT_LIMIT):
        journal.differ(
            seq,
            "units, debit, value, fee",
            "0 <= fee <= value <= debit, units > 0",
            (units, debit, value, fee),
        )


def book(
    journal: JournalAudit,
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
    cycle = audit_cycle.cycle_of(journal, issuer, acceptor)
    if cycle is None or cycle.cycle_no != cycle_no:
        journal.differ(seq, "cycle_no", cycle.cycle_no if cycle else "an open cycle", cycle_no)
        if cycle is None:
            return
    if issuer == acceptor:
        journal.differ(seq, "acceptor", "another party than the issuer", acceptor)
    if acceptor not in journal.accounts:
        journal.account(seq, acceptor)
    pair = cycle.pairs.get((issuer, acceptor))
    if pair is None:
        pair = cycle.pairs[issuer, acceptor] = [0, 0, 0, 0]
    pair[0] += 1
    pair[1] += debit
    pair[2] += value
    pair[3] += fee
    if cycle.gross:
        journal.funds.move_at_once(seq, issuer, acceptor, debit, value, fee)
        return
    positions = cycle.positions
    positions[issuer] = positions.get(issuer, 0) - debit
    positions[acceptor] = positions.get(acceptor, 0) + value - fee


def reverse(journal: JournalAudit, one: Reversing) -> None:
    """What names an order (rules V1 to V4, J1 to J3), then its postings; or an order that is named later."""
    for rule, expected, found in journal.reversals.take(one):
        journal.differ(one.seq, rule, expected, found)
    if one.kind not in TAKES_BACK:
        return
    if one.kind == Kind.ADJUSTED:
        journal.report.adjustments += 1
        if one.value > 0:
            book(
                journal,
                one.seq,
                one.issuer,
                one.acceptor,
                one.debit,
                one.value,
                one.fee,
                one.cycle_no,
            )
            return
    else:
        journal.report.reversals += 1
    cycle = audit_cycle.in_open_cycle(journal, one.seq, one.issuer, one.acceptor, one.cycle_no)
    if cycle is None:
        return
    pair = cycle.reversed.setdefault((one.issuer, one.acceptor), [0, 0, 0, 0])
    pair[0] += 1
    pair[1] -= one.debit
    pair[2] -= one.value
    pair[3] -= one.fee
    if cycle.gross:
        journal.funds.move_at_once(one.seq, one.issuer, one.acceptor, one.debit, one.value, one.fee)
        return
    positions = cycle.positions
    positions[one.issuer] = positions.get(one.issuer, 0) - one.debit
    positions[one.acceptor] = positions.get(one.acceptor, 0) + one.value - one.fee


def _standing(journal: JournalAudit, merchant_no: int, cycle: CycleFigures | None) -> int:
    """What open cycles add to the base for an order of one of them: the others where they are below 0."""
    total = cycle.positions.get(merchant_no, 0) if cycle else 0
    for other in journal.open.values():
        if other is not cycle:
            total += min(0, other.positions.get(merchant_no, 0))
    return total


def debts(journal: JournalAudit, merchant_no: int) -> int:
    """What a merchant owes in open cycles, those that are above 0 left out."""
    return sum(min(0, each.positions.get(merchant_no, 0)) for each in journal.open.values())


def refuse(
    journal: JournalAudit, seq: int, step: int, issuer: int, debit: int, reason: int
) -> None:
    """A refusal for the cap or for funds needs a ground: even the stricter rule C3 must have been broken.

    Orders of one request that were refused together (rule G2) were looked at one beside the other.
    """
    if step == 0 or seq != journal.refused_seq + 1:
        journal.refused_debits = defaultdict(int)
    journal.refused_seq = seq
    journal.refused_debits[issuer] += debit
    debtor = journal.accounts.get(issuer)
    if debtor is not None and reason == _FUNDS_REASON:
        left = journal.funds.free(issuer) - journal.refused_debits[issuer]
        if left >= 0:
            journal.differ(seq, "funds that were left to a refused order", "< 0", left)
    if debtor is None or reason != _CAP_REASON:
        return
    headroom = debtor.base + debts(journal, issuer) - journal.refused_debits[issuer]
    if headroom >= 0:
        journal.differ(seq, "headroom that the cap left to a refused order", "< 0", headroom)
