"""The stream of events of one process: reads the journal's tail once for everybody who listens.

Whoever listens holds nothing but a place in the stream and waits for a future that the next look resolves; so a slow
listener costs its own place and nobody's memory. New events are looked for by asking the partition's row a few times
a second: a notification from the database would cost every flush a lock, and nobody waits here for milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from exchange.core.feed import EVERYBODY, KINDS, START, TYPES, Cursor, Happening, Notice
from exchange.service.outage import is_outage
from exchange.store import feed as store
from schemas.values.ids import HOUSE
from settlement.service.clearing import PART

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable

    from asyncpg import Pool

log = structlog.get_logger()

LOOK_SECONDS: Final = 0.25
SCANNED_MAX: Final = 20_000
"""Rows of the journal that one read goes through for somebody who is behind."""
TAIL_MAX: Final = 10_000
"""Events that are kept for whoever is nearly up to date."""
_SEQ = itemgetter(0)


class Page(NamedTuple):
    """Some of the stream.

    Attributes:
        events: Each with the place after it.
        cursor: The place after everything that was gone through, also what concerned somebody else.
        more: Whether the stream goes on already.
    """

    events: list[tuple[Cursor, Happening | Notice]]
    cursor: Cursor
    more: bool


class Feed:
    """Reads the stream, and wakes whoever waits for more of it."""

    def __init__(self, pool: Pool, *, look_seconds: float = LOOK_SECONDS) -> None:
        """Begin without having looked.

        Args:
            pool: The database.
            look_seconds: How often it looks for what is new, while somebody listens.
        """
        self._look_seconds = look_seconds
        self._pool = pool
        self._head = START
        self._tail: list[Happening] = []
        self._by_party: dict[int, list[Happening]] = {}
        self._tail_after = self._tail_through = 0
        self._looked = False
        self._waiting: dict[int, set[asyncio.Future[None]]] = {}
        self._listeners = 0
        self._looking: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def head(self) -> Cursor:
        """The newest place as of the last look."""
        return self._head

    @property
    def listeners(self) -> int:
        """How many listen."""
        return self._listeners

    def is_stopping(self) -> bool:
        """Whether listeners are to leave."""
        return self._stopping

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen for the block: looks are taken while somebody does."""
        self._listeners += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._keep_looking(), name="feed")
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners and self._looking is not None:
                self._looking.cancel()
                self._looking = None
                self._forget()

    def stop(self) -> None:
        """Wake everybody, to leave."""
        self._stopping = True
        self._wake(set(self._waiting))

    def nudge(self, merchant_no: int) -> None:
        """Wake a merchant's listeners: something else than an event is there for them."""
        self._wake({merchant_no})

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:
                if not is_outage(error):
                    log.exception("feed.failed")
                else:
                    log.warning("feed.waits", detail=type(error).__name__)
            await asyncio.sleep(self._look_seconds)

    async def look(self) -> None:
        """See how far the stream has come, and wake those whom something new concerns."""
        head = await store.fetch_head(self._pool, part=PART) or START
        if head == self._head and self._looked:
            return
        concerned = await self._extend_tail(head.seq) if self._listeners else {EVERYBODY}
        if head.notice_no > self._head.notice_no:
            concerned = {EVERYBODY}
        self._head = head
        self._wake(set(self._waiting) if EVERYBODY in concerned else concerned | {HOUSE})

    async def _extend_tail(self, through_seq: int) -> set[int]:
        """Read what is new into the tail; returns whom it concerns."""
        if not self._looked or through_seq - self._tail_through > TAIL_MAX:
            # Too much to keep, or nothing is kept yet: whoever is behind reads for himself.
            self._forget()
            self._tail_after = self._tail_through = through_seq
            self._looked = True
            return {EVERYBODY}
        fresh = await store.fetch_happenings(
            self._pool,
            part=PART,
            after_seq=self._tail_through,
            through_seq=through_seq,
            kinds=KINDS,
            merchant_no=HOUSE,
            limit=TAIL_MAX,
        )
        self._tail_through = through_seq
        self._tail += fresh
        if len(self._tail) > 2 * TAIL_MAX:
            self._tail_after = self._tail[-TAIL_MAX - 1].seq
            self._tail = self._tail[-TAIL_MAX:]
            self._by_party = {}
            self._sort_in(self._tail)
        else:
            self._sort_in(fresh)
        return {party for each in fresh for party in each.parties}

    def _sort_in(self, fresh: Iterable[Happening]) -> None:
        for each in fresh:
            for party in each.parties:
                self._by_party.setdefault(party, []).append(each)

    def _forget(self) -> None:
        self._tail, self._by_party, self._looked = [], {}, False

    def _wake(self, parties: Collection[int]) -> None:
        for party in parties:
            for future in self._waiting.pop(party, ()):
                if not future.done():
                    future.set_result(None)

    async def wait(self, merchant_no: int, cursor: Cursor, *, seconds: float) -> bool:
        """Wait until something may concern a merchant; False when the time is over or listeners are to leave.

        Args:
            merchant_no: The merchant; 0 for the house.
            cursor: Up to where it has gone.
            seconds: For how long at most.
        """
        if self._stopping:
            return False
        if self._behind(cursor):
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(merchant_no, set())
        waiting.add(future)
        timer = asyncio.get_running_loop().call_later(seconds, future.cancel)
        try:
            await future
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return False
        finally:
            timer.cancel()
            waiting.discard(future)
        return not self._stopping

    def _behind(self, cursor: Cursor) -> bool:
        return cursor.seq < self._head.seq or cursor.notice_no < self._head.notice_no

    async def page(
        self,
        merchant_no: int,
        cursor: Cursor,
        *,
        types: Collection[str] = (),
        limit: int,
    ) -> Page:
        """What of the stream concerns a merchant after a place, as of the last look.

        Args:
            merchant_no: The merchant; 0 for the house.
            cursor: Up to where it has gone.
            types: Types of events; empty for all.
            limit: Most events.
        """
        head = self._head
        wanted = frozenset(types or TYPES)
        events: list[tuple[Cursor, Happening | Notice]] = []
        seq, notice_no = cursor
        if notice_no < head.notice_no:
            notices = await store.fetch_notices(
                self._pool,
                after_no=notice_no,
                through_no=head.notice_no,
                event_types=wanted,
                merchant_no=merchant_no,
                limit=limit,
            )
            events += [(Cursor(seq, each.notice_no), each) for each in notices]
            notice_no = notices[-1].notice_no if len(notices) == limit else head.notice_no
        room = limit - len(events)
        if seq < head.seq and room:
            kinds = [kind for kind, event_type in KINDS.items() if event_type in wanted]
            found, seq = await self._happenings(merchant_no, seq, head.seq, kinds, room)
            events += [(Cursor(each.seq, notice_no), each) for each in found]
        cursor = Cursor(seq, notice_no)
        return Page(events, cursor, cursor.seq < head.seq or cursor.notice_no < head.notice_no)

    async def _happenings(
        self, merchant_no: int, after_seq: int, head_seq: int, kinds: Collection[int], limit: int
    ) -> tuple[list[Happening], int]:
        """Events of the journal, and the number up to which that is all of them."""
        through = head_seq
        if self._looked and self._tail_after <= after_seq:
            found = self._from_tail(merchant_no, after_seq, kinds, limit)
        elif not kinds:
            found = []
        else:
            through = min(head_seq, after_seq + SCANNED_MAX)
            found = await store.fetch_happenings(
                self._pool,
                part=PART,
                after_seq=after_seq,
                through_seq=through,
                kinds=kinds,
                merchant_no=merchant_no,
                limit=limit,
            )
        return found, found[-1].seq if len(found) == limit else through

    def _from_tail(
        self, merchant_no: int, after_seq: int, kinds: Collection[int], limit: int
    ) -> list[Happening]:
        lists = (
            [self._tail]
            if merchant_no == HOUSE
            else [self._by_party.get(party, []) for party in (merchant_no, EVERYBODY)]
        )
        later = (each[bisect_right(each, after_seq, key=_SEQ) :] for each in lists)
        found: list[Happening] = []
        for each in merge(*later, key=_SEQ):
            if each.kind in kinds:
                found.append(each)
                if len(found) == limit:
                    break
        return found

    async def find(
        self, seq: int, notice_no: int, *, merchant_no: int
    ) -> Happening | Notice | None:
        """One event by its number, if it concerns a merchant."""
        if seq:
            found = await store.fetch_happenings(
                self._pool,
                part=PART,
                after_seq=seq - 1,
                through_seq=seq,
                kinds=KINDS,
                merchant_no=merchant_no,
                limit=1,
            )
            return found[0] if found else None
        notices = await store.fetch_notices(
            self._pool,
            after_no=notice_no - 1,
            through_no=notice_no,
            event_types=TYPES,
            merchant_no=merchant_no,
            limit=1,
        )
        return notices[0] if notices else None
