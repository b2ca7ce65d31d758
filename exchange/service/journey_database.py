"""Journeys in PostgreSQL: the store that the order workers use."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from exchange.core.journey import Committed, Journey
from exchange.service.outage import is_outage
from exchange.store import journeys as store
from schemas.values.faults import Unavailable
from schemas.values.ids import order_id, order_place
from settlement.service.clearing import PART

if TYPE_CHECKING:
    import uuid
    from collections.abc import AsyncIterator, Sequence

    from asyncpg import Connection, Pool

    from exchange.core.journey import Change, Line, Verdict, Wanted

_PASSING = ("40", "53", "55")
"""SQLSTATE classes of what passes (PostgreSQL appendix A): a transaction that lost against another one, resources that
are used up, and something that is not yet or not now in the state for it, as a database that takes no connections."""


class DatabaseJourneys:
    """A `JourneyStore` on a pool of connections."""

    def __init__(self, pool: Pool) -> None:
        """Take the pool."""
        self._pool = pool

    async def commit(
        self,
        *,
        worker: uuid.UUID,
        begin: Sequence[Wanted],
        changes: Sequence[Change],
        late: Sequence[int],
    ) -> Committed:
        """Write for many journeys in one transaction; see `JourneyStore.commit`."""
        begun: list[Journey] = []
        verdicts: dict[int, Verdict] = {}
        # New journeys alone, or changes alone, are one statement, which is a transaction by itself.
        alone = not late and not (begin and changes)
        async with self._connection() if alone else self._transaction() as conn:
            if begin:
                begun = await _begin(conn, worker, begin)
            if changes:
                verdicts = await store.update_journeys(conn, changes=changes)
            if late:
                await store.mark_late(conn, journey_nos=late)
                verdicts |= await store.fetch_verdicts(conn, journey_nos=late)
        return Committed(begun=begun, verdicts=verdicts)

    async def find(self, keys: Sequence[tuple[int, bytes]]) -> list[Journey]:
        """Journeys by sender and key."""
        async with self._connection() as conn:
            return await store.fetch_journeys(conn, keys=keys)

    async def enter(self, worker: uuid.UUID, *, now_us: int, lease_until_us: int) -> None:
        """Begin a lease."""
        async with self._connection() as conn:
            await store.insert_worker(
                conn, worker=worker, now_us=now_us, lease_until_us=lease_until_us
            )

    async def renew(self, worker: uuid.UUID, *, now_us: int, lease_until_us: int) -> bool:
        """Prolong a lease; False if it has run out."""
        async with self._connection() as conn:
            return await store.renew_worker(
                conn, worker=worker, now_us=now_us, lease_until_us=lease_until_us
            )

    async def leave(self, worker: uuid.UUID) -> None:
        """End a lease."""
        async with self._connection() as conn:
            await store.delete_worker(conn, worker=worker)

    async def take_over(
        self, worker: uuid.UUID, *, now_us: int, limit: int
    ) -> list[tuple[Journey, list[Line]]]:
        """Claim what nobody with a lease drives."""
        async with self._transaction() as conn:
            await store.delete_lapsed_workers(conn, now_us=now_us)
            journeys = await store.claim_journeys(conn, worker=worker, limit=limit)
            lines: dict[int, list[Line]] = {journey.journey_no: [] for journey in journeys}
            if journeys:
                for journey_no, line in await store.fetch_lines(conn, journey_nos=list(lines)):
                    lines[journey_no].append(line)
        return [(journey, lines[journey.journey_no]) for journey in journeys]

    async def answer(self, order: uuid.UUID, line: Line, *, merchant_no: int) -> int:
        """Add a line for an order, if it is the merchant's to say."""
        try:
            part, order_seq = order_place(order)
        except ValueError:
            return 0
        at_us = (order.int >> 80) * 1000
        if part != PART or order_id(at_us, part, order_seq) != order:
            return 0
        async with self._connection() as conn:
            return await store.insert_line_of_order(
                conn,
                part=part,
                order_seq=order_seq,
                at_us=at_us,
                line=line,
                merchant_no=merchant_no,
            )

    async def answers(self, journey_nos: Sequence[int]) -> list[tuple[int, Line]]:
        """Lines that callbacks and people added."""
        async with self._connection() as conn:
            return await store.fetch_answers(conn, journey_nos=journey_nos)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """One connection; an outage becomes `Unavailable`."""
        try:
            async with self._pool.acquire() as conn:
                yield conn  # type: ignore[misc] # a pool's proxy of a connection is one
        except Exception as error:
            if _passes(error):
                raise Unavailable(f"the database does not answer: {error}") from error
            raise

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with self._connection() as conn, conn.transaction():
            yield conn


async def _begin(conn: Connection, worker: uuid.UUID, wanted: Sequence[Wanted]) -> list[Journey]:
    """Insert what is new, and read what stood under its key before."""
    added = await store.insert_journeys(conn, worker=worker, wanted=wanted)
    keys = [(each.order.caller, each.order.key) for each in wanted]
    # Whoever wants something under a key that another one of this very group has wanted gets that one's.
    firsts = dict(zip(reversed(keys), reversed(wanted), strict=True))
    found = {
        key: Journey(journey_no=journey_no, worker=worker, claim_no=1, wanted=firsts[key])
        for key, journey_no in added.items()
    }
    stood = [key for key in firsts if key not in found]
    if stood:
        found |= {
            (journey.wanted.order.caller, journey.wanted.order.key): journey
            for journey in await store.fetch_journeys(conn, keys=stood)
        }
    return [found[key] for key in keys]


def _passes(error: Exception) -> bool:
    """Whether the same transaction may succeed later."""
    sqlstate = getattr(error, "sqlstate", None) or ""
    return is_outage(error) or isinstance(error, OSError) or sqlstate[:2] in _PASSING
