"""Many orders in one command, and their answers, by columns.

A bulk request is ten thousand orders that differ in a few figures. As objects each of them would be
built, packed and unpacked several times on its way; as columns they are a few blocks of bytes that
numpy reads where they lie. What they mean is exactly what as many single `Order` commands would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

import msgspec
import numpy as np

from settlement.core.command import KEY_BYTES, Entry, Order, key_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    Int64s = npt.NDArray[np.int64]

FIGURES: Final = (
    "issuer", "acceptor", "member_no", "units", "debit_cu", "value_cu", "fee_cu", "rate_no",
    "occurred_at_us", "reason",
)  # fmt: skip
"""Columns of plain orders, in the order in which they lie; each as the attribute of `Order`."""
ENTRY_FIGURES: Final = (
    "order_seq", "kind", "reason", "at_us", "debit_cu", "value_cu", "fee_cu", "credited_units",
)  # fmt: skip
"""Columns of answers, in the order in which they lie; each as the attribute of `Entry`."""
_CALLER_BYTES: Final = 4
_MEMBER, _REASON = FIGURES.index("member_no"), FIGURES.index("reason")
_INT64: Final = np.dtype("<i8")


class OrderColumns(msgspec.Struct, frozen=True, gc=False, tag="orders"):
    """Orders of one sender, to be decided strictly in their order.

    A plain order clears at once from hosted lots (`hosted` without `hold_us` or `credited_units`), or
    carries the reason of its refusal. Any other is given whole; its figures in the columns are 0.

    Attributes:
        caller: Merchant number of the sender; 0 for the house.
        keys: Idempotency keys, 16 bytes each.
        bodies: Digests of the canonical requests, 16 bytes each.
        figures: The columns of `FIGURES`, each of int64 in little-endian order.
        references: The merchants' own references; empty if no order has one.
        others: Orders that are not plain, by their row.
    """

    caller: int
    keys: bytes
    bodies: bytes
    figures: bytes
    references: list[str]
    others: dict[int, Order]

    @classmethod
    def of(cls, orders: Sequence[Order]) -> Self:
        """Put orders of one sender into columns.

        Raises:
            ValueError: There is none, or they have several senders.
        """
        if len({order.caller for order in orders}) != 1:
            raise ValueError("columns hold orders of one sender")
        others = {row: order for row, order in enumerate(orders) if not is_plain(order)}
        return cls(
            orders[0].caller,
            b"".join(order.key for order in orders),
            b"".join(order.body for order in orders),
            np.array(
                [
                    [
                        0 if row in others else getattr(order, name)
                        for row, order in enumerate(orders)
                    ]
                    for name in FIGURES
                ],
                _INT64,
            ).tobytes(),
            [order.reference for order in orders] if any(o.reference for o in orders) else [],
            others,
        )

    def __len__(self) -> int:
        """How many orders there are."""
        return len(self.keys) // KEY_BYTES

    def check(self) -> None:
        """Hold what the types cannot say.

        Raises:
            ValueError: The columns have different lengths.
        """
        count = len(self)
        if (
            len(self.keys) != count * KEY_BYTES
            or len(self.bodies) != count * KEY_BYTES
            or len(self.figures) != count * len(FIGURES) * _INT64.itemsize
            or len(self.references) not in (0, count)
            or any(not 0 <= row < count for row in self.others)
        ):
            raise ValueError("columns of different lengths")

    def table(self) -> Int64s:
        """The figures: a row for each name of `FIGURES`, a column for each order; read-only."""
        return np.frombuffer(self.figures, _INT64).reshape(len(FIGURES), len(self))

    def spenders(self) -> list[int]:
        """Members whose hosted lots the plain orders would spend, as often as they do."""
        table = self.table()
        spenders: list[int] = table[_MEMBER, (table[_REASON] == 0) & (table[_MEMBER] != 0)].tolist()
        return spenders

    def names(self) -> list[bytes]:
        """What the keys are known by; see `key_name`."""
        names = np.empty((len(self), KEY_BYTES + _CALLER_BYTES), np.uint8)
        names[:, :KEY_BYTES] = np.frombuffer(self.keys, np.uint8).reshape(-1, KEY_BYTES)
        sender = key_name(self.caller, bytes(KEY_BYTES))[KEY_BYTES:]
        names[:, KEY_BYTES:] = np.frombuffer(sender, np.uint8)
        listed: list[bytes] = names.view(f"V{names.shape[1]}").ravel().tolist()
        return listed

    def key(self, row: int) -> bytes:
        """Idempotency key of one order."""
        return self.keys[row * KEY_BYTES : (row + 1) * KEY_BYTES]

    def body(self, row: int) -> bytes:
        """Digest of one order's canonical request."""
        return self.bodies[row * KEY_BYTES : (row + 1) * KEY_BYTES]

    def reference(self, row: int) -> str:
        """The merchant's own reference of one order."""
        return self.references[row] if self.references else ""

    def order(self, row: int) -> Order:
        """One order as a command of its own."""
        other = self.others.get(row)
        if other is not None:
            return other
        (
            issuer, acceptor, member_no, units, debit_cu, value_cu, fee_cu, rate_no,
            occurred_at_us, reason,
        ) = self.table()[:, row].tolist()  # fmt: skip
        return Order(
            self.caller, self.key(row), self.body(row), issuer, acceptor, member_no, units, debit_cu,
            value_cu, fee_cu, rate_no, occurred_at_us, 0, 0, reason, not reason, self.reference(row),
        )  # fmt: skip

    def only(self, kept: npt.NDArray[np.bool_]) -> Self:
        """The orders that are kept, in their order."""
        rows = np.flatnonzero(kept).tolist()
        sixteen = f"V{KEY_BYTES}"
        return type(self)(
            self.caller,
            np.frombuffer(self.keys, sixteen)[kept].tobytes(),
            np.frombuffer(self.bodies, sixteen)[kept].tobytes(),
            self.table()[:, kept].tobytes(),
            [self.references[row] for row in rows] if self.references else [],
            {place: self.others[row] for place, row in enumerate(rows) if row in self.others},
        )

    def orders(self) -> Iterator[Order]:
        """All of them as commands of their own."""
        return map(self.order, range(len(self)))


class EntryColumns(msgspec.Struct, frozen=True, gc=False, tag="entries"):
    """What became of orders that were sent as columns, each in its place.

    Attributes:
        figures: The columns of `ENTRY_FIGURES`, each of int64 in little-endian order.
    """

    figures: bytes

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Self:
        """Put answers of single orders into columns."""
        return cls(np.array([entry_column(entry) for entry in entries], _INT64).T.tobytes())

    def table(self) -> Int64s:
        """The figures: a row for each name of `ENTRY_FIGURES`, a column for each order; read-only."""
        return np.frombuffer(self.figures, _INT64).reshape(len(ENTRY_FIGURES), -1)


def is_plain(order: Order) -> bool:
    """Whether the columns can say all of an order: it is what they would give back."""
    return order == Order(
        order.caller, order.key, order.body, order.issuer, order.acceptor, order.member_no,
        order.units, order.debit_cu, order.value_cu, order.fee_cu, order.rate_no,
        order.occurred_at_us, 0, 0, order.reason, not order.reason, order.reference,
    )  # fmt: skip


def entry_table(count: int) -> Int64s:
    """A table of answers to be filled; all 0."""
    return np.zeros((len(ENTRY_FIGURES), count), _INT64)


def entry_column(entry: Entry) -> tuple[int, ...]:
    """One answer as a column of such a table."""
    return (
        entry.order_seq, entry.kind, entry.reason, entry.at_us, entry.debit_cu, entry.value_cu,
        entry.fee_cu, entry.credited_units,
    )  # fmt: skip
