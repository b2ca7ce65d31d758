"""The calls of one journey: how each is made, and what is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from adapters.kit.contract import Call, Outcome, Receipt, Step
from adapters.kit.reference import REFERENCE_LENGTH, reference_of
from exchange.core.journey import Source
from exchange.core.order import AT_ISSUER, Means
from schemas.values.faults import Unavailable
from schemas.values.ids import order_id
from settlement.service.clearing import PART

if TYPE_CHECKING:
    import uuid
    from collections.abc import Awaitable, Callable

    from adapters.kit.contract import Adapter
    from exchange.core.journey import Line, Wanted
    from exchange.service.journey_roads import Connected, Roads

_US: Final = 1_000_000
_OF_REVERSAL: Final = Means(captures=False, credits=True, reversible=False)


class Calls:
    """What one journey asks of its two merchants.

    Attributes:
        intents: Calls whose intent is durable.
        doubtful: Of them, those of an earlier driver, which may have been sent.
        numbers: The merchant's own number of each call that is done.
        never: Calls that certainly never happened, although they were sent.
        breached: Calls of which the merchant said that it moved other units.
    """

    def __init__(self, roads: Roads, wanted: Wanted, *, reversal: bool = False) -> None:
        """Begin with the intent of the hold, which is durable with the journey itself.

        Args:
            roads: What is shared.
            wanted: The order.
            reversal: Whether it takes an order back: then its acceptor's system is all that it needs.
        """
        self._roads = roads
        self._wanted = wanted
        self._reversal = reversal
        self._means: tuple[Connected, Connected | None, Means] | None = None
        self._order: uuid.UUID | None = None
        self._letters = ""
        self._at_us = 0
        self._made: dict[Step, Call] = {}
        self._sent_us: dict[Step, int] = {}
        self._by_others: set[Step] = set()
        self.intents: set[Step] = {Step.HOLD}
        self.doubtful: set[Step] = set()
        self.numbers: dict[Step, str] = {}
        self.never: set[Step] = set()
        self.breached: set[Step] = set()

    def accepted(self, order_seq: int, at_us: int) -> None:
        """Learn the place and the instant of the order in the books; calls are named after them."""
        self._order = order_id(at_us, PART, order_seq)
        self._letters = reference_of(self._order, Step.HOLD)[: REFERENCE_LENGTH - 1]
        self._at_us = at_us

    def recall(self, line: Line) -> None:
        """Read a line that an earlier driver wrote; an intent may have been sent, until just now."""
        if line.source is Source.INTENT:
            self.intents.add(line.step)
            self.doubtful.add(line.step)
            self._by_others.add(line.step)
            self._sent_us[line.step] = self._roads.now_us()
        elif line.outcome is Outcome.DONE:
            self.numbers[line.step] = line.number
        elif line.units is not None:
            self.breached.add(line.step)

    @property
    def order(self) -> uuid.UUID:
        """The order's id.

        Raises:
            ValueError: The books have not accepted it.
        """
        if self._order is None:
            raise ValueError("the order has no id before the books accepted it")
        return self._order

    def means(self) -> Means:
        """What the two systems can do.

        Raises:
            Unavailable: This worker has no adapter for one of them.
        """
        if self._reversal:
            return _OF_REVERSAL
        order = self._wanted.order
        credits_ = order.credited_units > 0
        issuer = self._roads.merchant(order.issuer)
        acceptor = self._roads.merchant(order.acceptor) if credits_ else None
        known = self._means
        if known is not None and known[0] is issuer and known[1] is acceptor:
            return known[2]
        means = Means(
            captures=issuer.manifest.spend.way == "hold",
            credits=credits_,
            reversible=acceptor is not None and acceptor.manifest.credit.reversible,
            waits=self._wanted.waits,
        )
        self._means = issuer, acceptor, means
        return means

    def at(self, step: Step) -> Connected:
        """The merchant whose system takes a call.

        Raises:
            Unavailable: This worker has no adapter for it.
        """
        order = self._wanted.order
        return self._roads.merchant(order.issuer if step in AT_ISSUER else order.acceptor)

    def call(self, step: Step) -> Call:
        """The call of a step: the same at every repeat."""
        of = _ENDED_BY.get(step)
        of_receipt = self.numbers.get(of, "") if of else ""
        made = self._made.get(step)
        if made is None or made.of_receipt != of_receipt:
            wanted, at_issuer = self._wanted, step in AT_ISSUER
            made = self._made[step] = Call(
                step=step,
                reference=self._letters + step.value,
                member=wanted.issuer_member if at_issuer else wanted.acceptor_member,
                units=wanted.order.units if at_issuer else wanted.order.credited_units,
                of=self._letters + of.value if of else "",
                of_receipt=of_receipt,
                at_us=self._at_us,
            )
        return made

    async def make(self, step: Step) -> Receipt:
        """Make a call; when it may have been sent at the latest is remembered.

        Raises:
            NotSent: Certainly nothing was sent.
            Unavailable: The worker's lease is about to run out, and others may think that it is gone; it is
                renewed, or this drive is dropped.
        """
        if not self._roads.may_send():
            raise Unavailable("the worker's lease is not renewed")
        receipt = await _MAKE[step](self.at(step).system)(self.call(step))
        # It may have waited for its turn: it was sent by now at the latest.
        self._by_others.discard(step)
        self._sent_us[step] = self._roads.now_us()
        return receipt

    async def ask(self, step: Step) -> Receipt:
        """Ask what became of a call.

        Raises:
            NotSent: It was not asked.
        """
        return await self.at(step).system.status(self.call(step))

    def was_sent(self, step: Step) -> bool:
        """Whether a call was sent, or may have been."""
        return step in self._sent_us

    def final_seconds(self, step: Step) -> float:
        """Seconds until a call that is not found can never arrive any more; 0 or less once it cannot."""
        manifest = self.at(step).manifest
        now_us = self._roads.now_us()
        final_seconds = manifest.status.final_after_seconds
        if step in self._by_others:
            # Whoever drove before may have had the call on its way still.
            final_seconds += manifest.limits.deadline_seconds
        return final_seconds - (now_us - self._sent_us.get(step, now_us)) / _US


_MAKE: Final[dict[Step, Callable[[Adapter], Callable[[Call], Awaitable[Receipt]]]]] = {
    Step.HOLD: lambda system: system.hold,
    Step.CAPTURE: lambda system: system.capture,
    Step.RELEASE: lambda system: system.release,
    Step.CREDIT: lambda system: system.credit,
    Step.REVERSE_CREDIT: lambda system: system.reverse_credit,
}
_ENDED_BY: Final = {
    Step.CAPTURE: Step.HOLD,
    Step.RELEASE: Step.HOLD,
    Step.REVERSE_CREDIT: Step.CREDIT,
}
