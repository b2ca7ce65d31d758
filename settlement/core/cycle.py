"""Settlement cycles: closing one opens the next of its arrangement, and a closed one is settled once.

Source: settlement/RULES.md, rules T1 to T6, U5, U6, U11 and U13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.values.reason import Reason
from settlement.core import arrangement, changes, funds
from settlement.core.arrangement import MAIN
from settlement.core.changes import CycleChange
from settlement.core.command import SettleCycle
from settlement.core.event import Kind
from settlement.core.window import Window

if TYPE_CHECKING:
    from settlement.core.books import Books
    from settlement.core.command import Answer, CloseCycle, Entry, Unwind


def restore_closed(
    books: Books, cycle_no: int, nets: dict[int, int], *, gross: bool = False
) -> None:
    """Put back the positions of a closed, unsettled cycle; those of a gross one were settled line by line."""
    if gross:
        books.gross_closed.add(cycle_no)
        nets = {}
    books.unsettled[cycle_no] = nets
    for merchant_no, net_cu in nets.items():
        if merchant_no > 0:
            books.accounts[merchant_no].unsettled += min(0, net_cu)


def close(books: Books, command: CloseCycle) -> Answer:
    """Close the open cycle of an arrangement, if there is one, and open its next, in one step (rules T1 to T3)."""
    if reason := books.business_time(command.at_us):
        return [books.refuse(command, reason)]
    number = command.arrangement_no
    if number == MAIN:
        open_no = books.cycle_no
    else:
        window = books.windows.get(number)
        open_no = window.cycle_no if window else 0
    if command.cycle_no != open_no or (number != MAIN and number not in books.arrangements):
        return [books.refuse(command, Reason.CYCLE_NOT_OPEN)]
    if command.next_id in books.cycle_ids:
        return [books.refuse(command, Reason.CYCLE_EXISTS)]
    books.cycle_ids.add(command.next_id)
    answer: Answer = []
    if open_no:
        closed = books.administer(command, 0, Kind.CYCLE_CLOSED, 0, 0, "", cycle_no=open_no)
        answer.append(closed)
        _fence(books, closed, number)
    next_no = books.last_cycle_no = max(books.last_cycle_no, books.cycle_no) + 1
    if number == MAIN:
        books.cycle_no = next_no
    else:
        books.windows[number] = Window(next_no, gross=arrangement.is_gross(books, number))
    arrangement.turn(books, number)
    opened = books.administer(
        command, len(answer), Kind.CYCLE_OPENED, 0, number, command.next_id, cycle_no=next_no
    )
    books.changes.cycles.append(
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


def _fence(books: Books, closed: Entry, arrangement_no: int) -> None:
    """Freeze an open cycle's figures: nothing is written into it after `closed`."""
    changes.collect(books)
    if arrangement_no == MAIN:
        nets = {number: account.open for number, account in books.accounts.items()}
        nets |= books.house()
        for account in books.accounts.values():
            account.unsettled += min(0, account.open)
            account.open = 0
        books.fees_cu = books.rounding_cu = 0
        books.obligations, books.reversed = {}, {}
    else:
        window = books.windows.pop(arrangement_no)
        nets = {} if window.gross else window.nets  # its debts weigh already
        if window.gross:
            books.gross_closed.add(closed.cycle_no)
    books.unsettled[closed.cycle_no] = {party: net_cu for party, net_cu in nets.items() if net_cu}
    books.changes.cycles.append(
        CycleChange(
            cycle_no=closed.cycle_no, kind=Kind.CYCLE_CLOSED, at_us=closed.at_us, seq=closed.seq
        )
    )


def decide_settlement(books: Books, command: SettleCycle) -> Entry:
    """Settle a closed cycle, from funds or on somebody's word, or refuse to (rules U5, U6 and U13)."""
    if command.cycle_no not in books.unsettled:
        return books.refuse(command, Reason.CYCLE_NOT_CLOSED)
    if books.funds.kept and not command.funded:
        return books.refuse(command, Reason.SETTLE_FROM_FUNDS)
    if command.funded and (missing := funds.missing_for(books, command.cycle_no)):
        return books.refuse(command, Reason.FUNDS_INSUFFICIENT, merchant_no=min(missing))
    return settle(books, command)


def settle(books: Books, command: SettleCycle | Unwind, *, step: int = 0) -> Entry:
    """Move a closed cycle into the parties' funds; it weighs on no cap from then on (rules U5 and U6)."""
    nets = books.unsettled.pop(command.cycle_no)
    books.gross_closed.discard(command.cycle_no)
    for merchant_no, net_cu in nets.items():
        if merchant_no > 0:
            books.accounts[merchant_no].unsettled -= min(0, net_cu)
    paid_cu = funds.settle(books, command.cycle_no, nets)
    funded = not isinstance(command, SettleCycle) or command.funded
    entry = books.administer(
        command,
        step,
        Kind.CYCLE_SETTLED,
        0,
        paid_cu if funded else 0,
        "",
        cycle_no=command.cycle_no,
    )
    books.changes.cycles.append(
        CycleChange(
            cycle_no=command.cycle_no, kind=Kind.CYCLE_SETTLED, at_us=entry.at_us, seq=entry.seq
        )
    )
    return entry


def unwind(books: Books, command: Unwind) -> Answer:
    """Settle a closed cycle whose debtor lacks money (rule U11).

    Raises:
        ValueError: A share is none: whoever planned it was wrong.
    """
    if command.cycle_no not in books.unsettled:
        return [books.refuse(command, Reason.CYCLE_NOT_CLOSED)]
    left = books.funds.residual(command.cycle_no, books.unsettled[command.cycle_no])
    shares = dict(command.shares)
    if len(shares) != len(command.shares) or any(
        creditor == command.debtor or cu < 1 for creditor, cu in shares.items()
    ):
        raise ValueError(f"no shares: {command.shares}")
    missing = funds.missing_of(left, books.funds.balances)
    if missing.keys() != {command.debtor}:
        return [books.refuse(command, Reason.FUNDS_INSUFFICIENT, merchant_no=command.debtor)]
    if missing[command.debtor] != sum(shares.values()) or any(
        cu > left.get(creditor, 0) for creditor, cu in shares.items()
    ):
        return [books.refuse(command, Reason.FUNDS_MOVED, merchant_no=command.debtor)]
    answer: Answer = []
    for creditor, cu in sorted(shares.items()):
        books.funds.add(creditor, -cu)
        books.funds.add(command.debtor, cu)
        books.funds.owe(command.debtor, creditor, cu)
        answer.append(
            funds.write(
                books,
                command,
                Kind.TRANSFERRED,
                creditor,
                command.debtor,
                (0, cu, 0),
                step=len(answer),
                cycle_no=command.cycle_no,
            )
        )
    return [*answer, settle(books, command, step=len(answer))]
