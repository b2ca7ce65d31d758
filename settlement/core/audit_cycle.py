"""Recomputing from the journal cycles, and which pairs settle in which.

Source: settlement/RULES.md, rules C1, T1 to T9, U5 and U6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from settlement.core.audit_figures import GROSS, MAIN, CycleFigures
from settlement.core.event import EPOCH_2000_US

if TYPE_CHECKING:
    from settlement.core.audit import JournalAudit


def cycle_of(journal: JournalAudit, issuer: int, acceptor: int) -> CycleFigures | None:
    """The cycle that is open for a pair, by its arrangement (rule T6)."""
    return journal.open.get(arrangement_of(journal, issuer, acceptor))


def arrangement_of(journal: JournalAudit, issuer: int, acceptor: int) -> int:
    """The arrangement of a pair, whichever way points go (rule T6)."""
    if not journal.pairs:
        return MAIN
    return journal.pairs.get((min(issuer, acceptor), max(issuer, acceptor)), MAIN)


def is_gross(journal: JournalAudit, arrangement_no: int) -> bool:
    """Whether money moves with each line of an arrangement (rule T9)."""
    return journal.arrangements.get(arrangement_no, ("", 0))[1] == GROSS


def _give(journal: JournalAudit, pair: tuple[int, int], arrangement_no: int) -> None:
    """A pair belongs to an arrangement from now on; what its holds reserve follows (rule T9)."""
    was, is_ = is_gross(journal, journal.pairs.get(pair, MAIN)), is_gross(journal, arrangement_no)
    journal.pairs[pair] = arrangement_no
    for hold in journal.holds.values() if was != is_ else ():
        figures = hold.figures
        if {figures.issuer, figures.acceptor} == set(pair):
            sign = 1 if is_ else -1
            journal.accounts[figures.issuer].reserved += sign * figures.debit


def in_open_cycle(
    journal: JournalAudit, seq: int, issuer: int, acceptor: int, cycle_no: int
) -> CycleFigures | None:
    """The cycle that is open for a pair; an event that names another one is noted (rule T2)."""
    cycle = cycle_of(journal, issuer, acceptor)
    if cycle is None or cycle.cycle_no != cycle_no:
        journal.differ(seq, "cycle_no", cycle.cycle_no if cycle else "an open cycle", cycle_no)
    return cycle


def open_cycle(
    journal: JournalAudit, seq: int, at: int, cycle_no: int, arrangement_no: int, cycle_id: str, /
) -> None:
    """The next cycle of an arrangement: numbered without a gap, under an id that none had (rules T1 and T6)."""
    standing = journal.open.get(arrangement_no)
    if standing is not None:
        journal.differ(seq, "kind", f"cycle {standing.cycle_no} closed first", "cycle_opened")
    if arrangement_no != MAIN and arrangement_no not in journal.arrangements:
        journal.differ(seq, "arrangement", "one that was made", arrangement_no)
    if cycle_no != journal.last_cycle_no + 1:
        journal.differ(seq, "cycle_no", journal.last_cycle_no + 1, cycle_no)
    if cycle_id in journal.cycle_ids:
        journal.differ(seq, "reference", "an id that no cycle had before", cycle_id)
    journal.cycle_ids.add(cycle_id)
    journal.last_cycle_no = cycle_no
    if arrangement_no == MAIN:
        journal.main_cycle_no = cycle_no
    journal.open[arrangement_no] = journal.cycles[cycle_no] = CycleFigures(
        cycle_no=cycle_no,
        cycle_id=cycle_id,
        opened_at_us=at + EPOCH_2000_US,
        first_seq=seq,
        arrangement_no=arrangement_no,
        gross=is_gross(journal, arrangement_no),
    )
    journal.report.cycles += 1


def close_cycle(journal: JournalAudit, seq: int, at: int, cycle_no: int) -> None:
    """The end of an open cycle: what is owed in it weighs on the base, and pairs turn (rules C1 and T7)."""
    cycle = journal.cycles.get(cycle_no)
    if cycle is None or journal.open.get(cycle.arrangement_no) is not cycle:
        journal.differ(seq, "cycle_no", "an open cycle", cycle_no)
        return
    cycle.state = "closed"
    cycle.closed_at_us = at + EPOCH_2000_US
    cycle.last_seq = seq
    cycle.debts = {merchant_no: net for merchant_no, net in cycle.positions.items() if net < 0}
    for merchant_no, net in cycle.debts.items():
        journal.accounts[merchant_no].unsettled += net
    journal.funds.close(cycle)
    journal.finished_cycles.append(cycle)
    del journal.open[cycle.arrangement_no]
    cycle.positions = {}
    for pair in list(journal.turning):
        if journal.pairs.get(pair, MAIN) == cycle.arrangement_no:
            _give(journal, pair, journal.turning.pop(pair))


def make_arrangement(
    journal: JournalAudit, seq: int, arrangement_no: int, model: int, code: str
) -> None:
    """An arrangement: the next number, and a code that none had before."""
    if arrangement_no != len(journal.arrangements) + 1:
        journal.differ(seq, "arrangement", len(journal.arrangements) + 1, arrangement_no)
    if code in {known for known, _ in journal.arrangements.values()}:
        journal.differ(seq, "reference", "a code that no arrangement had before", code)
    journal.arrangements[arrangement_no] = (code, model)


def arrange_pair(
    journal: JournalAudit, seq: int, one: int, other: int, arrangement_no: int
) -> None:
    """A pair gets another arrangement: when its cycle turns, or at once where none is open (rule T7)."""
    pair = (min(one, other), max(one, other))
    if arrangement_no != MAIN and arrangement_no not in journal.open:
        journal.differ(seq, "arrangement", "one with an open cycle", arrangement_no)
    present = journal.pairs.setdefault(pair, MAIN)
    journal.turning.pop(pair, None)
    if present not in journal.open:
        _give(journal, pair, arrangement_no)
    elif present != arrangement_no:
        journal.turning[pair] = arrangement_no


def settle_cycle(journal: JournalAudit, seq: int, at: int, cycle_no: int, figure: int) -> None:
    """The settlement of a closed cycle, once: it weighs no more, and its money moves (rules S1 and U5)."""
    cycle = journal.cycles.get(cycle_no)
    if cycle is None or cycle.state != "closed":
        state = cycle.state if cycle else "unknown"
        journal.differ(seq, "cycle_no", "a closed, unsettled cycle", f"{cycle_no} ({state})")
        return
    for merchant_no, net in cycle.debts.items():
        journal.accounts[merchant_no].unsettled -= net
    cycle.debts = {}
    journal.funds.settle(seq, cycle_no, figure)
    cycle.state = "settled"
    cycle.settled_at_us = at + EPOCH_2000_US
