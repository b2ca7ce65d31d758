"""What is stored of one journey, as its driver knows it, and what the next write adds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from adapters.kit.contract import own_words
from exchange.core.journey import Change, Line, Source, Verdict
from exchange.service.journey_roads import Lost

if TYPE_CHECKING:
    from adapters.kit.contract import Receipt, Step
    from exchange.core.journey import Journey
    from exchange.core.order import State
    from exchange.service.journey_roads import Roads
    from schemas.values.reason import Reason

log = structlog.get_logger()

PENDING_MAX: Final = 20
"""Most receipts that wait for the next write; of a call that stays unknown, the first say enough."""


class Record:
    """One journey's row and lines; attributes as in `Journey`, ahead of the store by what is not written yet.

    Attributes:
        state: The state that is durable.
        sticky: Whether people stay asked, however the order goes on.
    """

    def __init__(self, roads: Roads, journey: Journey) -> None:
        """Begin with what is stored."""
        self._roads = roads
        self._claim_no = journey.claim_no
        self._pending: list[Line] = []
        self._noted: Receipt | None = None
        self.journey_no = journey.journey_no
        self.state = journey.state
        self.verdict = journey.verdict
        self.order_seq = journey.order_seq
        self.accepted_at_us = journey.accepted_at_us
        self.reason = journey.reason
        self.stuck_since_us = journey.stuck_since_us
        self.stuck_why = journey.stuck_why
        self.sticky = self.stuck and self.verdict is Verdict.LATE

    @property
    def stuck(self) -> bool:
        """Whether people are asked."""
        return self.stuck_since_us > 0

    @property
    def pending(self) -> bool:
        """Whether there are receipts that are not written yet."""
        return bool(self._pending)

    def mark_stuck(self, state: State, why: str) -> None:
        """Have people look, from the next write on."""
        self.stuck_since_us = self.stuck_since_us or self._roads.now_us()
        self.stuck_why = why[:200]
        log.warning("journey.stuck", journey_no=self.journey_no, state=state.name, why=why)

    def moved(self) -> None:
        """The order has moved on: people need not look, and whatever is answered now is news."""
        self._noted = None
        if not self.sticky:
            self.stuck_since_us, self.stuck_why = 0, ""

    def undo_for(self, reason: Reason) -> None:
        """Remember why, if nothing was the reason before."""
        if not self.reason:
            self.reason = reason.number

    def note(self, step: Step, receipt: Receipt, source: Source) -> None:
        """Write a receipt down with the next write; what is durable already, or was just noted, is not."""
        durable = source in (Source.CALLBACK, Source.PEOPLE)
        if durable or receipt == self._noted or len(self._pending) >= PENDING_MAX:
            return
        self._noted = receipt
        self._pending.append(
            Line(
                step=step,
                source=source,
                at_us=self._roads.now_us(),
                outcome=receipt.outcome,
                reason=receipt.reason.number if receipt.reason else 0,
                number=receipt.number[:64],
                units=receipt.units,
                detail=own_words(receipt.detail)[:200],
            )
        )

    async def late(self) -> Verdict:
        """Settle that it is too late, unless it is settled otherwise.

        Raises:
            Lost: There is no such journey any more.
        """
        verdict = await self._roads.scribe.late(self.journey_no)
        if verdict is None:
            raise Lost
        self.verdict = verdict
        return verdict

    async def write(self, state: State, *, intent: Step | None, forward: bool) -> None:
        """Make a state and what is pending durable.

        Args:
            state: Where the order stands.
            intent: A call whose intent is written with it.
            forward: Settle that the till hears how the order ends, unless it is told that it is late.

        Raises:
            Lost: The journey is another driver's.
        """
        now_us = self._roads.now_us()
        lines = self._pending[:]
        if intent is not None:
            lines.append(Line(step=intent, source=Source.INTENT, at_us=now_us))
        noted = len(self._pending)
        verdict = await self._roads.scribe.change(
            Change(
                journey_no=self.journey_no,
                claim_no=self._claim_no,
                state=state,
                order_seq=self.order_seq,
                accepted_at_us=self.accepted_at_us,
                reason=self.reason,
                verdict=Verdict.FORWARD if forward else Verdict.OPEN,
                stuck_since_us=self.stuck_since_us,
                stuck_why=self.stuck_why,
                lines=tuple(lines),
                at_us=now_us,
            )
        )
        if verdict is None:
            raise Lost
        del self._pending[:noted]
        self.state = state
        if self.verdict is Verdict.OPEN:
            self.verdict = verdict
