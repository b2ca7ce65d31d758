"""Deciding a stretch of plain orders at once: each is decided in its turn, but written down by columns.

One by one, most of an order's cost is not its decision but what follows from it: an event packed, an
answer built, four figures moved. A stretch decides with plain integers in arrival order, exactly as
`Books.clear` would, and does the rest for all of its orders together:

    stretches  which orders of a request qualify
    turns      the orders one after the other, for whoever holds the lots
    clears     one order in its turn: does its issuer's headroom carry it (rule C2)?
    finish     events, positions, obligations and answers of the whole stretch

Whatever does not qualify is left to the one-by-one path, which refuses it or raises as it always did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from schemas.values.amounts import AMOUNT_LIMIT, SUM_LIMIT
from schemas.values.reason import Reason
from settlement.core.books import BACKDATE_US
from settlement.core.columns import FIGURES, entry_table
from settlement.core.command import KEY_BYTES
from settlement.core.event import EPOCH_2000_US, Kind
from settlement.core.event_array import empty_events, join_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from settlement.core.books import Books
    from settlement.core.columns import Int64s, OrderColumns

STRETCH_MIN: Final = 100
"""Fewer orders are decided one by one: numpy's calls cost as much as so many orders do."""
STRETCH_MAX: Final = 2_500
"""More orders are decided in several stretches, so that a writer can look up in between."""
CAP_EXCEEDED: Final = Reason.NET_DEBIT_CAP_EXCEEDED.number
_DEBIT: Final = FIGURES.index("debit_cu")
_LOW_32: Final = (1 << 32) - 1
_TILL_TIME: Final = Reason.TILL_TIME_OUT_OF_RANGE.number


def stretches(
    books: Books, orders: OrderColumns, rows: npt.NDArray[np.intp]
) -> list[tuple[npt.NDArray[np.intp], bool]]:
    """Cut rows, in their order, where orders that qualify for a stretch and others meet.

    What does not qualify: an order that is not plain, or not of the main arrangement, a party that the books do
    not know, amounts that contradict each other, a figure that its column cannot hold, a till time that would
    move the clock.

    Args:
        books: The books as they stand.
        orders: The request.
        rows: Rows that are to be decided, ascending.

    Returns:
        Consecutive parts of `rows`, each with whether its orders qualify.
    """
    if not len(rows):
        return []
    issuer, acceptor, _, units, debit, value, fee, rate, occurred, reason = orders.table()[:, rows]
    known = np.array(list(books.accounts), np.int64)
    sound = (
        np.isin(issuer, known)
        & np.isin(acceptor, known)
        & (issuer != acceptor)
        & (units > 0)
        & (fee >= 0)
        & (fee <= value)
        & (value <= debit)
        & (debit > 0)
        & (debit < AMOUNT_LIMIT)
        & bool(books.cycle_no)
    )
    if books.arranged:
        beside = np.array([one << 32 | other for one, other in books.arranged], np.int64)
        sound &= ~np.isin(issuer << 32 | acceptor, beside)
    held = (rate >> 31 == 0) & (reason >> 15 == 0) & (occurred >> 62 == 0)
    held &= (issuer >> 31 == 0) & (acceptor >> 31 == 0)
    if books.caller_clock:
        held &= occurred == 0
    qualifies = held & (sound | (reason != 0))
    if orders.others:
        qualifies &= ~np.isin(rows, list(orders.others))
    turns = np.flatnonzero(qualifies[1:] != qualifies[:-1]) + 1
    cuts = sorted({*turns.tolist(), *range(STRETCH_MAX, len(rows), STRETCH_MAX)})
    return [
        (part, bool(qualifies[at]))
        for part, at in zip(np.split(rows, cuts), (0, *cuts), strict=True)
    ]


class Stretch:
    """Plain orders of one request that follow each other, while they are decided.

    Attributes:
        rows: Their rows in the request.
        reasons: For each why it is refused, by number; 0 if nothing speaks against it so far. Whoever
            decides puts the reasons in.
        first_seq: Sequence number of the first one's event; each makes one event.
    """

    def __init__(self, books: Books, orders: OrderColumns, rows: npt.NDArray[np.intp]) -> None:
        """Take rows that `stretches` found, with the books as they stand now."""
        self._books = books
        self._orders = orders
        self.rows = rows
        self._table = table = orders.table()[:, rows]
        self.first_seq = books.seq + 1
        self.reasons: list[int] = _reasons(books, table).tolist()
        self._room = {
            number: account.base + account.open for number, account in books.accounts.items()
        }

    @property
    def fits(self) -> bool:
        """Whether no sum of the cycle can leave what the books hold, whatever clears."""
        debit = self._table[_DEBIT]
        most = int(debit.max(initial=0))
        if most * len(debit) >= SUM_LIMIT:
            return False
        highest = max((each.debit for each in self._books.obligations.values()), default=0)
        return highest + int(debit.sum()) < SUM_LIMIT

    def turns(self) -> Iterator[tuple[int, int, int, int, int, int, int]]:
        """The orders in their turn: issuer, acceptor, member, units, debit, credit, till time.

        The debit is what the issuer owes and the credit what the acceptor gets, in CU; the till time
        is the writer's clock where none was given.
        """
        issuer, acceptor, member, units, debit, value, fee, _, occurred, _ = self._table
        at = np.where(occurred, occurred, self._books.clock_us)
        columns = (issuer, acceptor, member, units, debit, value - fee, at)
        return zip(*(column.tolist() for column in columns), strict=True)

    def clears(self, issuer: int, acceptor: int, debit_cu: int, credit_cu: int, /) -> bool:
        """Debit an order if its issuer's headroom carries it (rule C2)."""
        room = self._room
        left = room[issuer] - debit_cu
        if left < 0:
            return False
        room[issuer] = left
        room[acceptor] += credit_cu
        return True

    def finish(self) -> Int64s:
        """Write everything down.

        Returns:
            The answers, a column for each order as `ENTRY_FIGURES` has it.
        """
        books, table = self._books, self._table
        issuer, acceptor, member, units, debit, value, fee, rate, occurred, _ = table
        count = len(self.rows)
        at_us = books.clock_us
        reason = np.array(self.reasons, np.int64)
        cleared = reason == 0
        seq = np.arange(self.first_seq, self.first_seq + count)
        events = empty_events(count)
        events["seq"] = events["order_seq"] = seq
        events["at"] = events["due_at"] = at_us - EPOCH_2000_US
        events["occurred_at"] = np.where(occurred, occurred, at_us) - EPOCH_2000_US
        events["member_no"], events["units"] = member, units
        events["debit_cu"], events["value_cu"], events["fee_cu"] = debit, value, fee
        events["key"] = _sixteens(self._orders.keys)[self.rows]
        events["body"] = _sixteens(self._orders.bodies)[self.rows]
        events["cycle_no"], events["caller"] = books.cycle_no, self._orders.caller
        events["issuer"], events["acceptor"], events["rate_no"] = issuer, acceptor, rate
        events["part"] = books.part
        events["kind"] = kind = np.where(cleared, int(Kind.CLEARED), int(Kind.REFUSED))
        events["reason"] = reason
        given = self._orders.references
        references = [given[row] for row in self.rows.tolist()] if given else []
        books.append(join_events(events, references), count)
        self._move(cleared)
        answers = entry_table(count)
        answers[0], answers[1], answers[2], answers[3] = seq, kind, reason, at_us
        answers[4], answers[5], answers[6] = debit, value, fee
        return answers

    def _move(self, cleared: npt.NDArray[np.bool_]) -> None:
        """Move the figures of the open cycle by what cleared."""
        books = self._books
        issuer, acceptor, _, _, debit, value, fee, *_ = self._table[:, cleared]
        for number, left in self._room.items():
            account = books.accounts[number]
            account.open = left - account.base
        pairs = issuer << 32 | acceptor
        by_pair = np.argsort(pairs, kind="stable")
        pairs = pairs[by_pair]
        first = np.flatnonzero(np.diff(pairs, prepend=-1))
        sums = (
            np.add.reduceat(each[by_pair], first).tolist() if len(first) else []
            for each in (np.ones_like(debit), debit, value, fee)
        )
        for pair, *moved in zip(pairs[first].tolist(), *sums, strict=True):
            books.move((pair >> 32, pair & _LOW_32), *moved)


def _reasons(books: Books, table: Int64s) -> Int64s:
    """Reasons that are known before any order's turn: those that came with it, and its till time."""
    occurred, reason = table[-2:]
    clock_us = books.clock_us
    early_or_late = (occurred <= clock_us - BACKDATE_US) | (occurred > clock_us)
    return np.where((reason == 0) & (occurred != 0) & early_or_late, _TILL_TIME, reason)


def _sixteens(data: bytes) -> npt.NDArray[np.void]:
    """Keys or digests, without a copy."""
    return np.frombuffer(data, f"V{KEY_BYTES}")
