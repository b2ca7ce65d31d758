"""Where journeys are kept, and how many journeys' rows become durable in one commit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import structlog

from exchange.core.journey import Change
from schemas.values.faults import Unavailable

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from exchange.core.journey import Committed, Journey, Line, Verdict, Wanted

log = structlog.get_logger()

COMMIT_MAX = 500
RETRY_SECONDS = 0.05
RETRY_SECONDS_MAX = 1.0


class JourneyStore(Protocol):
    """What a runner needs of a store. Every method is one transaction, and may raise `Unavailable`."""

    async def commit(
        self,
        *,
        worker: uuid.UUID,
        begin: Sequence[Wanted],
        changes: Sequence[Change],
        late: Sequence[int],
    ) -> Committed:
        """Write for many journeys at once.

        Args:
            worker: Who writes, and drives what is begun.
            begin: Orders to begin. One whose sender and key are known begins nothing.
            changes: New states with their lines; one whose claim was lost changes nothing. FORWARD becomes the
                verdict where it is still OPEN.
            late: Journeys whose verdict becomes LATE where it is still OPEN and the books have not let go
                (`exchange.core.order.LET_GO`), whoever drives them.
        """
        ...

    async def find(self, keys: Sequence[tuple[int, bytes]]) -> list[Journey]:
        """Journeys by sender and key, those that there are."""
        ...

    async def enter(self, worker: uuid.UUID, *, now_us: int, lease_until_us: int) -> None:
        """Begin a worker's lease."""
        ...

    async def renew(self, worker: uuid.UUID, *, now_us: int, lease_until_us: int) -> bool:
        """Prolong a lease that has not run out; False if it has."""
        ...

    async def leave(self, worker: uuid.UUID) -> None:
        """End a lease, so that others may take the worker's journeys over at once."""
        ...

    async def take_over(
        self, worker: uuid.UUID, *, now_us: int, limit: int
    ) -> list[tuple[Journey, list[Line]]]:
        """Claim journeys that have not ended and whose worker's lease ran out, with all their lines.

        A lease that has run out and was met here can never be renewed.
        """
        ...

    async def answer(self, order: uuid.UUID, line: Line, *, merchant_no: int) -> int:
        """Add a line for an order, whoever drives it.

        Args:
            order: The order's id.
            line: What was told.
            merchant_no: Who told it; only a call at that merchant's own system is its to speak of.

        Returns:
            The journey's number; 0 if there is no such call at this merchant.
        """
        ...

    async def answers(self, journey_nos: Sequence[int]) -> list[tuple[int, Line]]:
        """Lines of these journeys that callbacks and people added."""
        ...


class _Wish(NamedTuple):
    """One thing to be written, and who waits for it: the journey that stands, or its verdict."""

    what: Wanted | Change | int
    done: asyncio.Future[Any]


class _Lane:
    """What waits for the next commit of one kind."""

    def __init__(self) -> None:
        self.waiting: list[_Wish] = []
        self.wake = asyncio.Event()

    def add(self, wish: _Wish) -> None:
        self.waiting.append(wish)
        self.wake.set()

    async def group(self) -> list[_Wish]:
        """Wait for something to write, and take it."""
        if not self.waiting:
            self.wake.clear()
            await self.wake.wait()
        # Whoever runs in this turn of the loop still gets into the group.
        await asyncio.sleep(0)
        group, self.waiting = self.waiting[:COMMIT_MAX], self.waiting[COMMIT_MAX:]
        return group


class GroupCommit:
    """Gathers what drivers write, and commits it together.

    New journeys and changes are committed side by side, each kind one group after the other: either alone is one
    statement, and needs no transaction around it.
    """

    def __init__(self, store: JourneyStore, worker: uuid.UUID) -> None:
        """Take the store, and who writes."""
        self._store = store
        self._worker = worker
        self._new, self._changed = _Lane(), _Lane()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False
        self.commits = 0
        self.rows = 0

    def start(self) -> None:
        """Begin to commit."""
        self._tasks = [
            asyncio.create_task(self._run(lane), name="group commit")
            for lane in (self._new, self._changed)
        ]

    async def stop(self) -> None:
        """Stop; who still waits, or comes later, hears that the store is away."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in (self._new, self._changed):
            _fail(lane.waiting, Unavailable("this worker has stopped"))
            lane.waiting = []

    async def begin(self, wanted: Wanted) -> Journey:
        """Begin a journey, or get the one that stands under its key."""
        return cast("Journey", await self._write(self._new, wanted))

    async def change(self, change: Change) -> Verdict | None:
        """Write a change; its verdict, or None if the claim was lost."""
        return cast("Verdict | None", await self._write(self._changed, change))

    async def late(self, journey_no: int) -> Verdict | None:
        """Settle that the till hears that it is too late, unless it is settled otherwise; the verdict."""
        return cast("Verdict | None", await self._write(self._changed, journey_no))

    async def _write(self, lane: _Lane, what: Wanted | Change | int) -> object:
        if self._stopped:
            raise Unavailable("this worker has stopped")
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        lane.add(_Wish(what, done))
        return await done

    async def _run(self, lane: _Lane) -> None:
        while True:
            group = await lane.group()
            try:
                await self._commit(group)
            except BaseException:
                _fail(group, Unavailable("this worker has stopped"))
                raise

    async def _commit(self, group: list[_Wish]) -> None:
        """Commit a group; one that cannot be written is halved until what is wrong stands alone."""
        begin = [wish for wish in group if not isinstance(wish.what, int | Change)]
        changes = [wish.what for wish in group if isinstance(wish.what, Change)]
        late = [wish.what for wish in group if isinstance(wish.what, int)]
        try:
            done = await self._committed(
                [cast("Wanted", wish.what) for wish in begin], changes, late
            )
        except Exception as error:
            if len(group) == 1:
                log.exception("journey.not_written", error=type(error).__name__)
                _fail(group, error)
                return
            middle = len(group) // 2
            await self._commit(group[:middle])
            await self._commit(group[middle:])
            return
        self.commits += 1
        self.rows += len(group)
        journeys = iter(done.begun)
        for wish in group:
            answer: object
            if isinstance(wish.what, Change):
                answer = done.verdicts.get(wish.what.journey_no)
            elif isinstance(wish.what, int):
                answer = done.verdicts.get(wish.what)
            else:
                answer = next(journeys)
            if not wish.done.done():
                wish.done.set_result(answer)

    async def _committed(
        self, begin: list[Wanted], changes: list[Change], late: list[int]
    ) -> Committed:
        """Commit, again and again while the store is away: every write may be repeated."""
        delay_seconds = RETRY_SECONDS
        while True:
            try:
                return await self._store.commit(
                    worker=self._worker, begin=begin, changes=changes, late=late
                )
            except Unavailable as error:
                log.warning("journeys.store_away", detail=str(error))
                await asyncio.sleep(delay_seconds)
                delay_seconds = min(RETRY_SECONDS_MAX, delay_seconds * 2)


def _fail(group: list[_Wish], error: Exception) -> None:
    for wish in group:
        if not wish.done.done():
            wish.done.set_exception(error)
