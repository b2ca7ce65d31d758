"""Journeys in memory, behind the protocol that their runner has of PostgreSQL.

Every method is one transaction: what it changes, it changes at one instant. Between asking and that
instant, and between that instant and the answer, virtual time passes, in which the asker may be
killed and the store may go away: then the asker does not learn whether its transaction took place.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from adapters.kit.contract import Step
from exchange.core.journey import Committed, Journey, Line, Source, Verdict
from exchange.core.order import AT_ISSUER, ENDS, LET_GO
from exchange.simulation.writer import PART
from schemas.values.faults import Unavailable
from schemas.values.ids import order_id, order_place
from settlement.core.event import unpack_event

if TYPE_CHECKING:
    import random
    import uuid
    from collections.abc import Callable, Sequence

    from exchange.core.journey import Change, Wanted
    from exchange.simulation.writer import Disk

_LATE_LINES: Final = (Source.CALLBACK, Source.PEOPLE)
Moved = tuple[Journey, Journey]
"""A journey before and after a change."""


class Journeys:
    """The rows: what is durable of the journeys and of the workers' leases.

    Attributes:
        by_no: Every journey by its number.
        open: Numbers of those that have not ended, in order.
    """

    def __init__(self, books: Disk) -> None:
        """Start empty, beside the books that are in the same database."""
        self.by_no: dict[int, Journey] = {}
        self.open: dict[int, None] = {}
        self._lines: dict[int, list[tuple[int, Line]]] = {}
        self._books = books
        self._by_key: dict[tuple[int, bytes], int] = {}
        self._lease_until_us: dict[uuid.UUID, int] = {}
        self._last_line_no = 0

    def begin(self, worker: uuid.UUID, wanted: Wanted) -> Journey:
        """Insert a journey unless its sender and key are known."""
        key = wanted.order.caller, wanted.order.key
        journey_no = self._by_key.setdefault(key, len(self.by_no) + 1)
        if journey_no not in self.by_no:
            self.by_no[journey_no] = Journey(
                journey_no=journey_no, worker=worker, claim_no=1, wanted=wanted
            )
            self.open[journey_no] = None
            self._lines[journey_no] = []
            # The intent of the hold is written with the wish.
            self._add(journey_no, Line(step=Step.HOLD, source=Source.INTENT, at_us=wanted.at_us))
        return self.by_no[journey_no]

    def find(self, keys: Sequence[tuple[int, bytes]]) -> list[Journey]:
        """Journeys by sender and key."""
        return [self.by_no[self._by_key[key]] for key in keys if key in self._by_key]

    def change(self, change: Change) -> Moved | None:
        """Write a change, unless its claim was lost."""
        before = self.by_no[change.journey_no]
        if before.claim_no != change.claim_no:
            return None
        forward = before.verdict is Verdict.OPEN and change.verdict is Verdict.FORWARD
        after = self.by_no[change.journey_no] = replace(
            before,
            state=change.state,
            order_seq=change.order_seq,
            accepted_at_us=change.accepted_at_us,
            reason=change.reason,
            verdict=Verdict.FORWARD if forward else before.verdict,
            stuck_since_us=change.stuck_since_us,
            stuck_why=change.stuck_why,
        )
        if after.state in ENDS:
            self.open.pop(after.journey_no, None)
        for line in change.lines:
            self._add(after.journey_no, line)
        return before, after

    def mark_late(self, journey_no: int) -> Verdict:
        """Settle that the till hears that it is too late, unless it is settled otherwise, or refused."""
        journey = self.by_no[journey_no]
        if journey.verdict is Verdict.OPEN and journey.state not in LET_GO:
            journey = self.by_no[journey_no] = replace(journey, verdict=Verdict.LATE)
        return journey.verdict

    def lease(self, worker: uuid.UUID, until_us: int) -> None:
        """Begin a lease."""
        self._lease_until_us[worker] = until_us

    def renew(self, worker: uuid.UUID, now_us: int, until_us: int) -> bool:
        """Prolong a lease that has not run out."""
        if self._lease_until_us.get(worker, 0) < now_us:
            return False
        self._lease_until_us[worker] = until_us
        return True

    def leave(self, worker: uuid.UUID) -> None:
        """End a lease."""
        self._lease_until_us.pop(worker, None)

    def take_over(
        self, worker: uuid.UUID, now_us: int, limit: int
    ) -> list[tuple[Journey, list[Line]]]:
        """Claim journeys whose worker's lease ran out; such a lease is gone for good."""
        for other, until_us in list(self._lease_until_us.items()):
            if until_us < now_us:
                del self._lease_until_us[other]
        taken: list[tuple[Journey, list[Line]]] = []
        for journey_no in self.open:
            if len(taken) == limit:
                break
            journey = self.by_no[journey_no]
            if journey.worker in self._lease_until_us:
                continue
            claimed = replace(journey, worker=worker, claim_no=journey.claim_no + 1)
            self.by_no[journey_no] = claimed
            lines = [replace(line, line_no=no) for no, line in self._lines[journey_no]]
            taken.append((claimed, lines))
        return taken

    def answer(self, order: uuid.UUID, line: Line, *, merchant_no: int) -> int:
        """Add a line for an order, found by its first event in the books; 0 if the merchant has no say in it."""
        try:
            _, order_seq = order_place(order)
        except ValueError:
            return 0
        if not 0 < order_seq <= len(self._books.events):
            return 0
        event = unpack_event(self._books.events[order_seq - 1])
        if merchant_no != (event.issuer if line.step in AT_ISSUER else event.acceptor):
            return 0
        journey_no = self._by_key.get((event.caller, event.key), 0)
        if journey_no and order_id(event.at_us, PART, order_seq) == order:
            self._add(journey_no, line)
            return journey_no
        return 0

    def resolve(self, journey_no: int, line: Line) -> None:
        """Add what people found out."""
        self._add(journey_no, line)

    def answers(self, journey_nos: Sequence[int]) -> list[tuple[int, Line]]:
        """Lines that callbacks and people added."""
        return [
            (journey_no, replace(line, line_no=no))
            for journey_no in journey_nos
            for no, line in self._lines.get(journey_no, ())
            if line.source in _LATE_LINES
        ]

    def _add(self, journey_no: int, line: Line) -> None:
        self._last_line_no += 1
        self._lines[journey_no].append((self._last_line_no, line))


class VirtualStore:
    """A `JourneyStore` on those rows, some virtual time away."""

    def __init__(
        self,
        journeys: Journeys,
        *,
        rng: random.Random,
        away: Callable[[], bool],
        changed: Callable[[Journey, Journey], None],
        commit_seconds: tuple[float, float] = (0.0005, 0.003),
    ) -> None:
        """Open a connection for one worker.

        Args:
            journeys: The rows.
            rng: Draws how long transactions take.
            away: Whether the store cannot be reached now.
            changed: Told each change at the instant at which it becomes durable.
            commit_seconds: Least and most time of one half of a transaction.
        """
        self._rows = journeys
        self._rng = rng
        self._away = away
        self._changed = changed
        self._commit_seconds = commit_seconds

    async def commit(
        self,
        *,
        worker: uuid.UUID,
        begin: Sequence[Wanted],
        changes: Sequence[Change],
        late: Sequence[int],
    ) -> Committed:
        """Write for many journeys at once."""
        await self._pass()
        done = Committed(begun=[self._rows.begin(worker, wanted) for wanted in begin])
        for change in changes:
            moved = self._rows.change(change)
            if moved is not None:
                self._changed(*moved)
                done.verdicts[change.journey_no] = moved[1].verdict
        for journey_no in late:
            done.verdicts[journey_no] = self._rows.mark_late(journey_no)
        await self._pass()
        return done

    async def find(self, keys: Sequence[tuple[int, bytes]]) -> list[Journey]:
        """Journeys by sender and key."""
        await self._pass()
        return self._rows.find(keys)

    async def enter(self, worker: uuid.UUID, *, now_us: int, lease_until_us: int) -> None:  # noqa: ARG002 - the protocol's shape
        """Begin a worker's lease."""
        await self._pass()
        self._rows.lease(worker, lease_until_us)
        await self._pass()

    async def renew(self, worker: uuid.UUID, *, now_us: int, lease_until_us: int) -> bool:
        """Prolong a lease that has not run out."""
        await self._pass()
        renewed = self._rows.renew(worker, now_us, lease_until_us)
        await self._pass()
        return renewed

    async def leave(self, worker: uuid.UUID) -> None:
        """End a lease."""
        await self._pass()
        self._rows.leave(worker)

    async def take_over(
        self, worker: uuid.UUID, *, now_us: int, limit: int
    ) -> list[tuple[Journey, list[Line]]]:
        """Claim journeys whose worker's lease ran out."""
        await self._pass()
        taken = self._rows.take_over(worker, now_us, limit)
        await self._pass()
        return taken

    async def answer(self, order: uuid.UUID, line: Line, *, merchant_no: int) -> int:
        """Add a line for an order, if it is the merchant's to say."""
        await self._pass()
        journey_no = self._rows.answer(order, line, merchant_no=merchant_no)
        await self._pass()
        return journey_no

    async def answers(self, journey_nos: Sequence[int]) -> list[tuple[int, Line]]:
        """Lines that callbacks and people added."""
        await self._pass()
        return self._rows.answers(journey_nos)

    async def _pass(self) -> None:
        """Let the time of half a transaction pass.

        Raises:
            Unavailable: The store is away then.
        """
        least, most = self._commit_seconds
        await asyncio.sleep(least + self._rng.random() * (most - least))
        if self._away():
            raise Unavailable("the store is away")
