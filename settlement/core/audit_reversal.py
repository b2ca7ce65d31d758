"""Recomputing reversals from the journal: each names an order that cleared, and takes no more than is left.

Shares no arithmetic with `settlement.core.reversal`: what all reversals of an order may have taken by now
is recomputed from the order itself, and compared with the sum of what they say.

Source: settlement/RULES.md, rules V1 to V3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from schemas.values.ids import HOUSE
from settlement.core.event import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Finding = tuple[str, object, object]
"""A rule that does not hold: its name, what should be, what is."""


class Reversing(NamedTuple):
    """An event that cleared an order or took it back; figures as the journal has them."""

    seq: int
    order_seq: int
    kind: int
    step: int
    caller: int
    member_no: int
    issuer: int
    acceptor: int
    rate_no: int
    units: int
    debit: int
    value: int
    fee: int
    credited: int

    @property
    def parties(self) -> tuple[int, ...]:
        """What a reversal must repeat: member, issuer, acceptor, rate."""
        return self.member_no, self.issuer, self.acceptor, self.rate_no

    @property
    def figures(self) -> tuple[int, ...]:
        """Units, debit, value, fee, new points."""
        return self.units, self.debit, self.value, self.fee, self.credited


class ReversalAudit:
    """Remembers the orders that reversals name, and what was taken back of each."""

    def __init__(self, wanted: Iterable[int]) -> None:
        """Start before the first event.

        Args:
            wanted: Orders that some reversal of the journal names.
        """
        self.wanted = frozenset(wanted)
        self._cleared: dict[int, Reversing] = {}
        self._sums: dict[int, list[int]] = {}

    def take(self, event: Reversing) -> Iterator[Finding]:
        """Take a clearing of an order that is `wanted`, or a reversal.

        Yields:
            What does not hold.
        """
        if event.kind == Kind.CLEARED:
            self._cleared[event.order_seq] = event
            return
        order = self._cleared.get(event.order_seq)
        if order is None:
            yield "order_seq", "an order that had cleared", event.order_seq
            return
        if event.parties != order.parties:
            yield "member, issuer, acceptor, rate", order.parties, event.parties
        if event.caller not in (order.acceptor, HOUSE):
            yield "caller", f"the acceptor {order.acceptor} or the house", event.caller
        if event.step:
            yield "step", 0, event.step
        if event.units >= 0:
            yield "units", "below 0", event.units
        sums = self._sums.setdefault(event.order_seq, [0, 0, 0, 0, 0])
        for place, figure in enumerate(event.figures):
            sums[place] -= figure
        taken = sums[0]
        if taken > order.units:
            yield "units of all reversals (rule V1)", f"<= {order.units}", taken
        # One by one, how many whole figures the units that were taken amount to: no floor, no ratio.
        for name, whole, found in zip(
            ("debit_cu", "value_cu", "fee_cu", "credited_units"),
            order.figures[1:],
            sums[1:],
            strict=True,
        ):
            low, high = found * order.units, (found + 1) * order.units
            if not low <= whole * taken < high:
                yield (
                    f"{name} of all reversals (rule V2)",
                    f"{taken} of {order.units} of {whole}",
                    found,
                )
