"""Arrangements: by which model, and in which cycles, a pair of merchants settles.

Each pair belongs to one arrangement at a time, by default to the main one. Each arrangement has its own
chain of cycles; the books keep the main one's open figures where every order finds them, and those of
each other arrangement in a `Window`.

Source: settlement/RULES.md, rules T6 to T9.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.reason import Reason
from settlement.core import headroom, posting
from settlement.core.event import Kind
from settlement.core.posting import contradiction
from settlement.core.window import unordered

if TYPE_CHECKING:
    from settlement.core.books import Books
    from settlement.core.command import ArrangePair, Command, Entry, MakeArrangement
    from settlement.core.window import Pair, Window

MAIN: Final = 0
"""Number of the arrangement that every pair belongs to unless it was given another."""
MAIN_CODE: Final = "main"
CODE_PATTERN: Final = r"\A[a-z][a-z0-9-]{0,19}\Z"


class Model(IntEnum):
    """How what is owed becomes payments; numbers are permanent."""

    MULTILATERAL = 0
    BILATERAL = 1
    GROSS = 2


class Arrangement(NamedTuple):
    """A model under a name.

    Attributes:
        arrangement_no: Its number, from 1 without a gap; `MAIN` is no row and no event.
        code: Its name, as cycles and people call it.
        model: How its cycles are paid.
    """

    arrangement_no: int
    code: str
    model: Model


def restore_pair(books: Books, pair: Pair, arrangement_no: int, next_no: int | None) -> None:
    """Put back the arrangement of a pair, and the one that it gets when its cycle turns."""
    _arrange(books, pair, arrangement_no)
    if next_no is not None:
        books.turning[pair] = next_no


def restore_window(books: Books, arrangement_no: int, window: Window) -> None:
    """Put back the open cycle of an arrangement beside the main one."""
    books.windows[arrangement_no] = window
    for party, net_cu in window.nets.items():
        if party > 0 and not window.gross:
            books.accounts[party].unsettled += min(0, net_cu)


def is_gross(books: Books, arrangement_no: int) -> bool:
    """Whether money moves with each line of an arrangement (rule T9)."""
    return arrangement_no != MAIN and books.arrangements[arrangement_no].model is Model.GROSS


def make(books: Books, command: MakeArrangement) -> Entry:
    """Make an arrangement under a code that none had before (rule T6)."""
    if command.code == MAIN_CODE or any(
        made.code == command.code for made in books.arrangements.values()
    ):
        return books.refuse(command, Reason.ARRANGEMENT_EXISTS)
    made = Arrangement(len(books.arrangements) + 1, command.code, Model(command.model))
    books.arrangements[made.arrangement_no] = made
    books.changes.arrangements.append(made)
    return books.write(
        command, 0, Kind.ARRANGEMENT_MADE, 0, -1, 0, 0, 0, 0, 0, made.arrangement_no, made.model,
        0, 0, 0, 0, 0, made.code,
    )  # fmt: skip


def give(books: Books, command: ArrangePair) -> Entry:
    """Give a pair another arrangement, from the turn of the cycle that is open for it (rule T7)."""
    pair, number = unordered(command.one, command.other), command.arrangement_no
    for merchant_no in pair:
        if merchant_no not in books.accounts:
            return books.refuse(command, Reason.UNKNOWN_MERCHANT, merchant_no=merchant_no)
    if pair[0] == pair[1]:
        return books.refuse(command, Reason.SAME_MERCHANT, merchant_no=pair[0])
    if number != MAIN and number not in books.windows:
        return books.refuse(command, Reason.CYCLE_NOT_OPEN)
    present = books.arranged.get(pair, MAIN)
    if present == MAIN and not books.cycle_no:
        present = number
        _arrange(books, pair, number)
    if present == number:
        books.turning.pop(pair, None)
    else:
        books.turning[pair] = number
    books.changes.pairs[pair] = (present, books.turning.get(pair))
    return books.write(
        command, 0, Kind.PAIR_ARRANGED, 0, -1, 0, 0, 0, 0, 0, number, 0, 0, 0, *pair, 0, ""
    )


def turn(books: Books, arrangement_no: int) -> None:
    """A cycle of an arrangement has closed: pairs that were given another one belong to that now."""
    for pair, number in list(books.turning.items()):
        if books.arranged.get(pair, MAIN) == arrangement_no:
            del books.turning[pair]
            _arrange(books, pair, number)
            books.changes.pairs[pair] = (number, None)


def _arrange(books: Books, pair: Pair, arrangement_no: int) -> None:
    """Let the orders of a pair, whichever way they go, belong to an arrangement from now on.

    What its open holds reserve, funds or headroom, follows (rule T9).
    """
    was, is_ = (
        is_gross(books, number) for number in (books.arranged.get(pair, MAIN), arrangement_no)
    )
    if was != is_:
        for hold in books.holds.values():
            if unordered(hold.issuer, hold.acceptor) == pair:
                headroom.reserve(books, hold.issuer, hold.debit_cu if is_ else -hold.debit_cu)
    for way in (pair, pair[::-1]):
        if arrangement_no == MAIN:
            books.arranged.pop(way, None)
        else:
            books.arranged[way] = arrangement_no


def clear(
    books: Books,
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
    """Clear an order of a pair that does not settle in the main arrangement, as `Books.clear` does."""
    if units <= 0 or not 0 <= fee_cu <= value_cu <= debit_cu or not 0 < debit_cu < AMOUNT_LIMIT:
        raise contradiction(units, debit_cu, value_cu, fee_cu)
    window = books.windows[books.arranged[issuer, acceptor]]
    reason = headroom.why_not_clear(books, issuer, acceptor, debit_cu, beside_cu=0)
    if reason is not None:
        return books.write(
            command, step, Kind.REFUSED, reason.number, 0, occurred_at_us, 0, member_no, units,
            debit_cu, value_cu, fee_cu, 0, 0, issuer, acceptor, rate_no, reference,
        )  # fmt: skip
    posting.credit(books, window, issuer, acceptor, debit_cu, value_cu, fee_cu)
    return books.write(
        command, step, Kind.CLEARED, 0, 0, occurred_at_us, due_at_us, member_no, units,
        debit_cu, value_cu, fee_cu, credited_units, lot_no, issuer, acceptor, rate_no, reference,
        window.cycle_no,
    )  # fmt: skip
