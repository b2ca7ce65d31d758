"""Endpoints of webhooks, as merchants and operators register, look at, resume and remove them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from exchange.core.feed import START, Cursor, parse_cursor
from exchange.core.webhook import why_not_url
from exchange.store import endpoints as store
from exchange.store.feed import fetch_head
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason, Refusal
from schemas.wire.events import DeadLetter, EndpointView, EventType
from schemas.wire.fields import instant_text
from settlement.core.trail import By, Change
from settlement.service import trail
from settlement.service.clearing import PART

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from schemas.files.trail import Terms
    from schemas.wire.events import EndpointRequest

ENDPOINTS_MAX: Final = 10
"""Of one merchant: each is a copy of the stream that is sent."""
_TYPES: Final = frozenset(get_args(EventType))


class EndpointDesk:
    """Use cases around endpoints; a merchant sees its own, the house (0) its own too."""

    def __init__(self, pool: Pool, *, now: Callable[[], datetime], private: bool = False) -> None:
        """Take what the desk works with.

        Args:
            pool: The database.
            now: Clock.
            private: Whether closed networks and plain HTTP are taken, as in a sandbox.
        """
        self._pool = pool
        self._now = now
        self._private = private

    async def register(
        self, wanted: EndpointRequest, *, caller: int, by: By
    ) -> EndpointView | Refusal:
        """Register an endpoint; it is told of everything after `wanted.after`, or from now on.

        Returns:
            The endpoint, or ENDPOINT_LIMIT_REACHED.

        Raises:
            SchemaError: The address cannot be called, or the place lies ahead of the stream.
        """
        why_not = why_not_url(wanted.url, private=self._private)
        if why_not:
            raise SchemaError("$.url", why_not)
        head = await fetch_head(self._pool, part=PART) or START
        now = self._now()
        cursor = head if wanted.after is None else _place(wanted.after, head)
        async with self._pool.acquire() as conn, conn.transaction():
            if await store.lock_merchant_endpoints(conn, merchant_no=caller) >= ENDPOINTS_MAX:
                return Refusal(
                    Reason.ENDPOINT_LIMIT_REACHED, f"there are {ENDPOINTS_MAX} endpoints already"
                )
            number = await store.insert_endpoint(
                conn,
                merchant_no=caller,
                url=wanted.url,
                types=sorted(set(wanted.types)),
                cursor=cursor,
                now=now,
            )
            terms: Terms = {"url": wanted.url, "types": " ".join(sorted(set(wanted.types)))}
            await self._note(conn, "endpoint.register", number, by, now, after=terms)
        view = await self.show(number, caller=caller)
        assert view is not None
        return view

    async def of_caller(
        self, *, caller: int, after: int = 0, limit: int | None = None
    ) -> list[EndpointView]:
        """A caller's endpoints after one, by number."""
        return [
            _view(row)
            for row in await store.fetch_endpoints(
                self._pool, merchant_no=caller, after_no=after, limit=limit
            )
        ]

    async def show(self, endpoint: int, *, caller: int) -> EndpointView | None:
        """One endpoint; None if the caller has no such one."""
        rows = await store.fetch_endpoints(self._pool, merchant_no=caller, endpoint_no=endpoint)
        return _view(rows[0]) if rows else None

    async def remove(self, endpoint: int, *, caller: int, by: By) -> bool:
        """Send it nothing more; False if the caller has no such endpoint."""
        now = self._now()
        async with self._pool.acquire() as conn, conn.transaction():
            removed = await store.remove_endpoint(
                conn, merchant_no=caller, endpoint_no=endpoint, now=now
            )
            if removed:
                await self._note(conn, "endpoint.remove", endpoint, by, now)
        return removed

    async def resume(self, endpoint: int, *, caller: int, by: By) -> EndpointView | None:
        """Send at once what is next, be it paused or waiting; None if the caller has no such endpoint."""
        now = self._now()
        async with self._pool.acquire() as conn, conn.transaction():
            resumed = await store.resume_endpoint(
                conn, merchant_no=caller, endpoint_no=endpoint, now=now
            )
            if resumed:
                await self._note(conn, "endpoint.resume", endpoint, by, now)
        return await self.show(endpoint, caller=caller) if resumed else None

    async def _note(
        self,
        conn: Connection | PoolConnectionProxy,
        action: str,
        endpoint: int,
        by: By,
        now: datetime,
        *,
        after: Terms | None = None,
    ) -> None:
        change = Change(action=action, subject=str(endpoint), after=after)
        await trail.record(conn, by, change, at=now)

    async def dead_letters(
        self, endpoint: int, *, caller: int, after: int, limit: int
    ) -> list[tuple[int, DeadLetter]] | None:
        """Events that it did not take, by number; None if the caller has no such endpoint."""
        if await self.show(endpoint, caller=caller) is None:
            return None
        rows = await store.fetch_dead_letters(
            self._pool, endpoint_no=endpoint, after_no=after, limit=limit
        )
        return [
            (
                row["letter_no"],
                DeadLetter(
                    id=row["event_id"],
                    given_up_at=instant_text(row["given_up_at_us"]),
                    attempts=row["attempts"],
                    last_error=row["last_error"],
                    replay_wanted=row["replay_wanted"],
                    delivered_at=_instant(row["delivered_at_us"]),
                ),
            )
            for row in rows
        ]

    async def replay(
        self, endpoint: int, *, caller: int, ids: Sequence[str] | None, by: By
    ) -> int | None:
        """Have dead letters tried once more; how many. None if the caller has no such endpoint."""
        if await self.show(endpoint, caller=caller) is None:
            return None
        async with self._pool.acquire() as conn, conn.transaction():
            count = await store.want_replay(conn, endpoint_no=endpoint, event_ids=ids)
            if count:
                terms: Terms = {"dead_letters": count}
                await self._note(conn, "endpoint.replay", endpoint, by, self._now(), after=terms)
        return count

    async def everybody(self) -> list[tuple[int, EndpointView]]:
        """All endpoints with whose they are, for operators."""
        rows = await store.fetch_endpoints(self._pool)
        return [(row["merchant_no"], _view(row)) for row in rows]

    async def owner(self, endpoint: int) -> int | None:
        """Whose an endpoint is (0: the house's), for operators; None if there is no such endpoint."""
        rows = await store.fetch_endpoints(self._pool, endpoint_no=endpoint)
        return rows[0]["merchant_no"] if rows else None


def checked_types(text: str) -> list[str]:
    """Types of events that a query names, separated by commas; none for all.

    Raises:
        SchemaError: One of them is none.
    """
    types = [each for each in text.split(",") if each]
    for each in types:
        if each not in _TYPES:
            raise SchemaError("?types", "Expected types of events, separated by commas")
    return types


def checked_cursor(text: str, field: str) -> Cursor:
    """A place in the stream, as a caller names it.

    Raises:
        SchemaError: It is none; names the field.
    """
    cursor = parse_cursor(text)
    if cursor is None:
        raise SchemaError(field, "Expected a place in the stream, as it was given out")
    return cursor


def _place(text: str, head: Cursor) -> Cursor:
    cursor = checked_cursor(text, "$.after")
    if cursor.seq > head.seq or cursor.notice_no > head.notice_no:
        raise SchemaError("$.after", "Expected a place that the stream has reached")
    return cursor


def _instant(at_us: int | None) -> str | None:
    return None if at_us is None else instant_text(at_us)


def _view(row: Record) -> EndpointView:
    waits = row["attempts"] > 0 and row["paused_at_us"] is None
    return EndpointView(
        endpoint=row["endpoint_no"],
        url=row["url"],
        types=row["types"],
        created_at=instant_text(row["created_at_us"]),
        cursor=str(Cursor(row["seq"], row["notice_no"])),
        failures=row["attempts"],
        next_at=instant_text(row["next_at_us"]) if waits else None,
        paused_at=_instant(row["paused_at_us"]),
        last_error=row["last_error"] or None,
        dead_letters=row["dead_letters"],
    )
