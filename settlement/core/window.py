"""Figures of an open cycle: bilateral gross of each pair, and the whole cycle of an arrangement beside the main one."""

from __future__ import annotations

Pair = tuple[int, int]


def unordered(one: int, other: int) -> Pair:
    """A pair of merchants whichever way points go between them: the lower number first."""
    return (one, other) if one < other else (other, one)


class Obligation:
    """Bilateral gross of an open cycle: what one issuer owes one acceptor, in CU."""

    __slots__ = ("debit", "fee", "orders", "value")

    def __init__(self, orders: int = 0, debit: int = 0, value: int = 0, fee: int = 0) -> None:
        """Start from what is stored."""
        self.orders = orders
        self.debit = debit
        self.value = value
        self.fee = fee

    @property
    def figures(self) -> tuple[int, int, int, int]:
        """Orders, debit, value, fee."""
        return self.orders, self.debit, self.value, self.fee


class Window:
    """The open cycle of one arrangement beside the main one; figures in CU.

    Attributes:
        cycle_no: Number of the cycle.
        gross: Whether money moves with each line, so that nothing is owed (rule T9).
        nets: Position of each party, the house's accounts included.
        obligations: (issuer, acceptor) to what cleared.
        reversed: The same of what reversals took back.
        moved: Pairs of `obligations` that changed since they were last written.
        taken: The same of `reversed`.
    """

    __slots__ = ("cycle_no", "gross", "moved", "nets", "obligations", "reversed", "taken")

    def __init__(self, cycle_no: int, *, gross: bool = False) -> None:
        """Open, without a figure."""
        self.cycle_no = cycle_no
        self.gross = gross
        self.nets: dict[int, int] = {}
        self.obligations: dict[Pair, Obligation] = {}
        self.reversed: dict[Pair, Obligation] = {}
        self.moved: set[Pair] = set()
        self.taken: set[Pair] = set()

    def net(self, party: int) -> int:
        """Position of a party, CU."""
        return self.nets.get(party, 0)

    def add(self, pair: Pair, debit_cu: int, value_cu: int, fee_cu: int) -> None:
        """Note a cleared order of a pair."""
        note(self.obligations, self.moved, pair, 1, debit_cu, value_cu, fee_cu)

    def take_back(self, pair: Pair, debit_cu: int, value_cu: int, fee_cu: int) -> None:
        """Note a reversal, by what it took back."""
        note(self.reversed, self.taken, pair, 1, debit_cu, value_cu, fee_cu)


def note(
    totals: dict[Pair, Obligation],
    moved: set[Pair],
    pair: Pair,
    orders: int,
    debit_cu: int,
    value_cu: int,
    fee_cu: int,
    /,
) -> None:
    """Add to a pair's bilateral gross what so many orders come to, and note that it moved."""
    total = totals.get(pair)
    if total is None:
        total = totals[pair] = Obligation()
    total.orders += orders
    total.debit += debit_cu
    total.value += value_cu
    total.fee += fee_cu
    moved.add(pair)
