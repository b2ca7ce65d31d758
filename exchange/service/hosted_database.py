"""What is read of hosted programmes, in PostgreSQL; and which programmes there are."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from exchange.programme.store.calls import fetch_day
from exchange.service.outage import is_outage
from exchange.store.balances import fetch_balances
from exchange.store.members import is_enrolled
from schemas.values.faults import Unavailable
from settlement.core.event import Kind
from settlement.service.clearing import PART

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from asyncpg import Pool

KNOWN_MAX: Final = 100_000


class DatabaseRecords:
    """`exchange.service.hosted.Records` over a pool.

    Members are remembered: whoever is erased meanwhile gets no new orders, and what was begun is ended.
    """

    def __init__(self, pool: Pool, *, now_us: Callable[[], int]) -> None:
        """Take the pool, and the clock that says which points live."""
        self._pool = pool
        self._now_us = now_us
        self._known: set[int] = set()

    async def is_member(self, member_no: int) -> bool:
        """Whether somebody is enrolled under a surrogate."""
        if member_no in self._known:
            return True
        with _reading():
            found = await is_enrolled(self._pool, member_no=member_no)
        if found:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known.add(member_no)
        return found

    async def live_units(self, *, merchant_no: int, member_no: int) -> int:
        """Smallest units that a member could spend now."""
        with _reading():
            rows = await fetch_balances(
                self._pool,
                part=PART,
                member_no=member_no,
                at_us=self._now_us(),
                merchant_no=merchant_no,
            )
        return sum(row["units"] for row in rows)

    async def moved(
        self, *, merchant_no: int, from_us: int, until_us: int
    ) -> AsyncIterator[tuple[Kind, int, int, int, str, int]]:
        """What calls moved at a programme: kind, number, surrogate, units, reference, instant."""
        with _reading():
            async for row in fetch_day(
                self._pool, part=PART, merchant_no=merchant_no, from_us=from_us, until_us=until_us
            ):
                yield (
                    Kind(row["kind"]),
                    row["seq"],
                    row["member_no"],
                    row["units"],
                    row["reference"],
                    row["at_us"],
                )


@contextmanager
def _reading() -> Iterator[None]:
    """Say `Unavailable` of a database that is away."""
    try:
        yield
    except Exception as error:
        if is_outage(error):
            raise Unavailable("the database does not answer") from error
        raise
