"""What one flush writes: the events that were decided, and the projections that they moved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.values.ids import HOUSE_FEES, HOUSE_ROUNDING
from settlement.core.arrangement import MAIN

if TYPE_CHECKING:
    from settlement.core.arrangement import Arrangement
    from settlement.core.books import Books
    from settlement.core.event import Kind
    from settlement.core.funds import FundsChange
    from settlement.core.hold import Hold
    from settlement.core.window import Pair, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleChange:
    """A cycle that was opened, closed or settled by the events just taken."""

    cycle_no: int
    kind: Kind
    at_us: int
    seq: int
    cycle_id: str = ""
    cut_off_us: int = 0
    arrangement_no: int = MAIN


@dataclass(slots=True, kw_only=True)
class Changes:
    """What one flush writes: events, and the projections that they moved.

    Attributes:
        events: Canonical bytes in order of sequence, in pieces of one event or more.
        count: How many events they are.
        first_seq: Sequence number of the first event.
        positions: (cycle, merchant) to net CU.
        obligations: (cycle, issuer, acceptor) to (orders, debit, value, fee).
        reversed: The same of what reversals and adjustments took back.
        accounts: merchant to (cap, collateral, held).
        opened: Holds that were opened and are still open.
        pinned: Open hold to the sequence number of the event that pinned it.
        ended: Sequence numbers of stored holds that ended.
        cycles: Cycles that changed, in order.
        breached: Merchants that were left below their cap, or below zero by a line of a gross arrangement, to
            the CU that are missing.
        funds: Whose money moved; None where nobody's did.
        arrangements: Arrangements that were made.
        pairs: Pairs whose arrangement changed, to the one they have and the one they get at its cycle's turn.
    """

    events: list[bytes] = field(default_factory=list)
    count: int = 0
    first_seq: int = 0
    positions: dict[tuple[int, int], int] = field(default_factory=dict)
    obligations: dict[tuple[int, int, int], tuple[int, int, int, int]] = field(default_factory=dict)
    reversed: dict[tuple[int, int, int], tuple[int, int, int, int]] = field(default_factory=dict)
    accounts: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    opened: list[Hold] = field(default_factory=list)
    pinned: dict[int, int] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)
    cycles: list[CycleChange] = field(default_factory=list)
    breached: dict[int, int] = field(default_factory=dict)
    funds: FundsChange | None = None
    arrangements: list[Arrangement] = field(default_factory=list)
    pairs: dict[Pair, tuple[int, int | None]] = field(default_factory=dict)


def take(books: Books) -> Changes:
    """Hand over everything that changed since the last call, and start collecting anew."""
    collect(books)
    changes = books.changes
    changes.events = books.events
    changes.count = books.seq + 1 - books.first_seq
    changes.first_seq = books.first_seq
    changes.accounts = {
        number: (account.cap, account.collateral, account.held)
        for number in books.moved_accounts
        for account in (books.accounts[number],)
    }
    changes.opened = list(books.opened.values())
    changes.ended = books.ended
    changes.funds = books.funds.take()
    books.events = []
    books.first_seq = books.seq + 1
    books.moved_accounts = set()
    books.opened = {}
    books.ended = []
    books.changes = Changes()
    return changes


def collect(books: Books) -> None:
    """Note the figures of open cycles that moved, before a cycle or the flush ends."""
    for window in books.windows.values():
        _collect_window(books, window)
    if not (books.moved_pairs or books.reversed_pairs):
        return
    cycle_no, changes = books.cycle_no, books.changes
    positions = changes.positions
    for moved, totals, changed in (
        (books.moved_pairs, books.obligations, changes.obligations),
        (books.reversed_pairs, books.reversed, changes.reversed),
    ):
        for pair in moved:
            o = totals[pair]
            changed[cycle_no, *pair] = (o.orders, o.debit, o.value, o.fee)
            for merchant_no in pair:
                positions[cycle_no, merchant_no] = books.accounts[merchant_no].open
    for merchant_no, net_cu in books.house().items():
        positions[cycle_no, merchant_no] = net_cu
    books.moved_pairs, books.reversed_pairs = set(), set()


def _collect_window(books: Books, window: Window) -> None:
    """Note the figures of one cycle beside the main one that moved."""
    changes, cycle_no = books.changes, window.cycle_no
    for moved, totals, changed in (
        (window.moved, window.obligations, changes.obligations),
        (window.taken, window.reversed, changes.reversed),
    ):
        for pair in moved:
            changed[cycle_no, *pair] = totals[pair].figures
            for party in (*pair, HOUSE_FEES, HOUSE_ROUNDING):
                changes.positions[cycle_no, party] = window.net(party)
        moved.clear()
