"""Orders that came as columns, as the writer holds them: which keys they carry, and what became of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from schemas.values.reason import Reason
from settlement.core.columns import (
    EntryColumns,
    entry_column,
    entry_table,
)
from settlement.core.command import Entry, unstored_refusal
from settlement.core.stretch import STRETCH_MIN, Stretch, stretches

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    import numpy.typing as npt

    from settlement.core.books import Books
    from settlement.core.columns import Int64s, OrderColumns
    from settlement.core.command import Answer, Command

    Known = tuple[bytes, Answer]
    """What was decided under a key: the body's digest, and the answer."""

CONFLICT: Final = entry_column(unstored_refusal(Reason.IDEMPOTENCY_CONFLICT))
_VERSION_7: Final = 7


class Decider(Protocol):
    """Whoever holds the lots; see `settlement.service.clearing.Rider`."""

    def decide(self, command: Command, books: Books) -> Answer:
        """Decide one order."""
        ...

    def decide_stretch(self, stretch: Stretch) -> None:
        """Decide plain orders one after the other."""
        ...


class Block:
    """One request of columns on its way through the writer.

    Attributes:
        orders: The request.
        rows: The first row of every key, by `key_name`.
        repeats: How many orders were answered with what was decided before.
    """

    def __init__(self, orders: OrderColumns) -> None:
        """Read the keys; nothing is decided yet."""
        self.orders = orders
        self._names = orders.names()
        count = len(self._names)
        # From the last to the first, so that of equal keys the first row stays.
        self.rows: dict[bytes, int] = dict(
            zip(reversed(self._names), range(count - 1, -1, -1), strict=True)
        )
        self._table: Int64s = entry_table(0)
        self._entries: dict[int, Entry] = {}
        self._cycle_no = 0
        self.repeats = 0

    def __len__(self) -> int:
        """How many orders there are."""
        return len(self._names)

    def wanted(
        self, remembered: Iterable[Collection[bytes]], *, since_ms: int, until_ms: int
    ) -> set[bytes]:
        """Keys that may have been used and must be looked up.

        Args:
            remembered: Keys that were used, as far as they are remembered.
            since_ms: A UUIDv7 made after this and not remembered is new.
            until_ms: Unless it tells a later time than this.
        """
        heads = np.frombuffer(self.orders.keys, ">u8")[::2].astype(np.int64)
        made_ms = heads >> 16 & (1 << 48) - 1
        new = (heads >> 12 & 0xF == _VERSION_7) & (since_ms < made_ms) & (made_ms <= until_ms)
        names = self._names
        wanted = {names[row] for row in np.flatnonzero(~new).tolist()}
        for used in remembered:
            if used:
                wanted |= self.rows.keys() & used
        return wanted

    def decide(
        self,
        books: Books,
        rider: Decider,
        known: Mapping[bytes, Known],
        same_body: Callable[[bytes, bytes], bool],
    ) -> Iterator[None]:
        """Decide every order in its turn; `answers` has the answers when it has ended.

        Gives way now and then, so that whoever drives it can let the loop turn.

        Args:
            books: The books.
            rider: Who holds the lots.
            known: What was decided before, of the keys that are in here.
            same_body: Whether a stored body and the one that is asked are one request's.
        """
        orders = self.orders
        self._cycle_no = books.cycle_no
        self._entries = {}
        table = self._table = entry_table(len(self))
        for rows, qualify in stretches(books, orders, self._undecided(known)):
            yield
            if qualify and len(rows) >= STRETCH_MIN:
                stretch = Stretch(books, orders, rows)
                if stretch.fits:
                    rider.decide_stretch(stretch)
                    table[:, rows] = stretch.finish()
                    continue
            for place, row in enumerate(rows.tolist(), start=1):
                if not place % STRETCH_MIN:
                    yield
                order = orders.order(row)
                ridden = order.hosted and not order.reason
                [entry] = rider.decide(order, books) if ridden else books.decide(order)
                self._entries[row] = entry
                table[:, row] = entry_column(entry)
        self.repeats = self._repeat(known, same_body)

    def _undecided(self, known: Collection[bytes]) -> npt.NDArray[np.intp]:
        """Rows that are to be decided: the first of every key that is not known."""
        if len(self.rows) == len(self) and not known:
            return np.arange(len(self))
        first = np.zeros(len(self), np.bool_)
        first[list(self.rows.values())] = True
        first[[self.rows[name] for name in known]] = False
        return np.flatnonzero(first)

    def _repeat(
        self, known: Mapping[bytes, Known], same_body: Callable[[bytes, bytes], bool]
    ) -> int:
        """Answer what was asked before: the same body gets the same answer, another is a conflict.

        Returns:
            How many orders that were.
        """
        orders, rows, table = self.orders, self.rows, self._table
        repeats = list(map(rows.__getitem__, known))
        if len(rows) < len(self):
            repeats += [row for row, name in enumerate(self._names) if rows[name] != row]
        for row in repeats:
            name = self._names[row]
            decided = known.get(name)
            if decided is None:
                first = rows[name]
                same = orders.body(first) == orders.body(row)
                table[:, row] = table[:, first] if same else CONFLICT
            else:
                body, answer = decided
                same = bool(answer) and same_body(body, orders.body(row))
                table[:, row] = entry_column(answer[0]) if same else CONFLICT
        return len(repeats)

    def known(self, name: bytes) -> Known | None:
        """What was decided here under a key."""
        row = self.rows.get(name)
        return None if row is None else (self.orders.body(row), [self._entry(row)])

    def _entry(self, row: int) -> Entry:
        """One answer as if the order had come alone."""
        entry = self._entries.get(row)
        if entry is not None:
            return entry
        order = self.orders.order(row)
        order_seq, kind, reason, at_us, *_ = self._table[:, row].tolist()
        return Entry(
            order_seq, order_seq, kind, reason, at_us, at_us, self._cycle_no, order.issuer,
            order.acceptor, order.units, order.debit_cu, order.value_cu, order.fee_cu, 0, 0,
            order.rate_no,
        )  # fmt: skip

    def answers(self) -> EntryColumns:
        """What became of the orders, each in its place."""
        return EntryColumns(self._table.tobytes())
