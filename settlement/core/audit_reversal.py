"""Recomputing reversals and adjustments from the journal: what names an order takes no more than is left of it.

Shares no arithmetic with `settlement.core.reversal` and `settlement.core.adjustment`: what all reversals of an order
may have taken by now is recomputed from the order itself, and compared with the sum of what they say.

Source: settlement/RULES.md, rules V1 to V3 and J1 to J3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.ids import HOUSE
from settlement.core.event import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Finding = tuple[str, object, object]
"""A rule that does not hold: its name, what should be, what is."""


class Reversing(NamedTuple):
    """An event that cleared an order, took it back or corrected it; figures as the journal has them."""

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
    cycle_no: int = 0
    reference: bytes = b""

    @property
    def parties(self) -> tuple[int, ...]:
        """What a reversal must repeat: member, issuer, acceptor, rate."""
        return self.member_no, self.issuer, self.acceptor, self.rate_no

    @property
    def figures(self) -> tuple[int, ...]:
        """Units, debit, value, fee, new points."""
        return self.units, self.debit, self.value, self.fee, self.credited


class ReversalAudit:
    """Remembers the orders that reversals and adjustments name, and what was taken back of each."""

    def __init__(self, wanted: Iterable[int]) -> None:
        """Start before the first event.

        Args:
            wanted: Orders that some reversal or adjustment of the journal names.
        """
        self.wanted = frozenset(wanted)
        self._cleared: dict[int, Reversing] = {}
        self._sums: dict[int, list[int]] = {}
        self._adjusted: dict[int, list[int]] = {}

    def take(self, event: Reversing) -> Iterator[Finding]:
        """Take a clearing of an order that is `wanted`, a reversal, or an adjustment.

        Yields:
            What does not hold.
        """
        if event.kind == Kind.CLEARED:
            self._cleared[event.order_seq] = event
            return
        if event.kind == Kind.ADJUSTED:
            yield from self._adjustment(event)
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
        adjusted = self._adjusted.get(event.order_seq)
        if adjusted is not None:
            yield from _share(event, order, sums, adjusted)
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
            if adjusted is not None and name != "credited_units":
                continue  # its share of what the adjustments left was looked at above
            low, high = found * order.units, (found + 1) * order.units
            if not low <= whole * taken < high:
                yield (
                    f"{name} of all reversals (rule V2)",
                    f"{taken} of {order.units} of {whole}",
                    found,
                )

    def _adjustment(self, event: Reversing) -> Iterator[Finding]:
        """An adjustment: owed like an order or taken back like a reversal, and of an order no more than it has."""
        obliged = (event.issuer,) if event.value > 0 and not event.order_seq else ()
        if event.caller not in (HOUSE, *obliged):
            yield "caller", "the house, or the merchant that is obliged", event.caller
        if event.step or event.units or event.credited or event.member_no or event.rate_no:
            yield "step, units, new points, member, rate", 0, event
        figures = event.debit, event.value, event.fee
        owed = 0 <= event.fee <= event.value <= event.debit < AMOUNT_LIMIT and event.value > 0
        back = max(figures) <= 0 and any(figures) and min(figures) > -AMOUNT_LIMIT
        if not event.order_seq:
            back = back and event.debit < 0 and event.debit <= event.value <= event.fee
        if not (owed or back):
            yield "debit, value, fee (rule J1)", "owed, or taken back", figures
        if not event.order_seq:
            return
        order = self._cleared.get(event.order_seq)
        if order is None:
            yield "order_seq", "an order that had cleared", event.order_seq
            return
        if (event.issuer, event.acceptor) != (order.issuer, order.acceptor):
            yield "issuer, acceptor", (order.issuer, order.acceptor), (event.issuer, event.acceptor)
        link = f"#{order.cycle_no}/{order.seq}".encode()
        if event.reference.split(b" ")[0] != link:
            yield "reference (rule J2)", link, event.reference
        adjusted = self._adjusted.setdefault(event.order_seq, [0, 0, 0])
        for place, figure in enumerate(figures):
            adjusted[place] -= figure
        debit, value, fee = _left(order, self._sums.get(event.order_seq), adjusted)
        if not 0 <= fee <= value <= debit < AMOUNT_LIMIT:
            yield (
                "debit, value, fee that are left of the order (rule J2)",
                "those of an order",
                (debit, value, fee),
            )


def _left(order: Reversing, sums: list[int] | None, adjusted: list[int]) -> list[int]:
    """Debit, value and fee that stand of an order."""
    taken = sums[1:4] if sums else (0, 0, 0)
    return [
        whole - back - corrected
        for whole, back, corrected in zip(order.figures[1:4], taken, adjusted, strict=True)
    ]


def _share(
    event: Reversing, order: Reversing, sums: list[int], adjusted: list[int]
) -> Iterator[Finding]:
    """What a reversal of an adjusted order takes: its share of what is left, rounded down."""
    left_units = order.units - sums[0]
    for name, left, found in zip(
        ("debit_cu", "value_cu", "fee_cu"),
        _left(order, sums, adjusted),
        event.figures[1:4],
        strict=True,
    ):
        if not -found * left_units <= left * -event.units < (1 - found) * left_units:
            yield f"{name} (rule J3)", f"{-event.units} of {left_units} of {left}", -found
