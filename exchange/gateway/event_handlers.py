"""Handlers of events and of endpoints; like the others, they decide nothing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from exchange.core.feed import START, Cursor, project
from exchange.gateway.formats import JSON
from exchange.gateway.paging import Listing, linked, query_number
from exchange.service.endpoints import checked_cursor, checked_types
from exchange.service.webhook_keys import open_webhook_keys, public_keys
from schemas.values.faults import Unavailable
from schemas.values.reason import Refusal
from schemas.wire.events import (
    DeadLettersAnswer,
    EndpointRemoved,
    EndpointRequest,
    EndpointsAnswer,
    EventsAnswer,
    ReplayAnswer,
    ReplayRequest,
    WebhookKeysAnswer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.gateway.gate import Call
    from exchange.service.feed import Page

log = structlog.get_logger()

ENDPOINTS: Final = Listing("endpoints", int)
DEAD_LETTERS: Final = Listing("dead-letters", int, usual=50)
EVENTS_MAX: Final = 500
EVENTS_USUAL: Final = 100
STREAM_TYPE: Final = "text/event-stream"
LISTENERS_MAX: Final = 10_000
"""Listeners of one gateway process; more are told to come back."""
RECONNECT_MS: Final = 2_000


# --- events ---


async def get_events(call: Call) -> web.StreamResponse:
    """Show a page of events, or stream them to whoever asks for a stream."""
    types = checked_types(call.request.query.get("types", ""))
    after = call.request.query.get("after")
    field = "?after"
    if after is None and "Last-Event-ID" in call.request.headers:
        after, field = call.request.headers["Last-Event-ID"], "Last-Event-ID"
    cursor = None if after is None else checked_cursor(after, field)
    if call.chosen == STREAM_TYPE:
        return await _stream(call, cursor, types)
    limit = query_number(call, "limit", most=EVENTS_MAX) or EVENTS_USUAL
    feed = call.services.feed
    if not feed.listeners:
        await feed.look()
    page = await feed.page(call.caller, cursor or START, types=types, limit=limit)
    codes = await call.services.shelf.codes_of(each for _, each in page.events)
    answer = EventsAnswer(
        events=[project(each, call.caller, codes) for _, each in page.events],
        next=str(page.cursor),
        more=page.more,
    )
    return linked(call, call.answer(answer), answer.next if page.more else None)


async def _stream(call: Call, cursor: Cursor | None, types: Sequence[str]) -> web.StreamResponse:
    """Send events as they come, until the listener leaves or this gateway stops.

    A listener has no queue: it is a place in the stream, and the next page is read when the one before was taken. A
    heartbeat is an event without data, which readers do not show, and which moves the place from which they resume.
    """
    feed = call.services.feed
    if feed.listeners >= LISTENERS_MAX:
        raise Unavailable("too many listen", retry_after_seconds=5)
    response = web.StreamResponse(
        headers={
            "Content-Type": STREAM_TYPE,
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            "X-Request-Id": call.request_id,
        }
    )
    async with feed.listening():
        if cursor is None:
            await feed.look()
            cursor = feed.head
        await response.prepare(call.request)
        with contextlib.suppress(ConnectionError), call.aside():
            await response.write(b"retry: %d\nid: %s\n\n" % (RECONNECT_MS, str(cursor).encode()))
            while not feed.is_stopping():
                page = await feed.page(call.caller, cursor, types=types, limit=EVENTS_USUAL)
                if page.events:
                    await response.write(await _chunk(call, page))
                cursor = page.cursor
                if not page.more and not await feed.wait(
                    call.caller, cursor, seconds=call.gate.heartbeat_seconds
                ):
                    await response.write(b"id: %s\n\n" % str(cursor).encode())
            await response.write_eof()
    return response


async def _chunk(call: Call, page: Page) -> bytes:
    codes = await call.services.shelf.codes_of(each for _, each in page.events)
    return b"".join(
        b"id: %s\nevent: %s\ndata: %s\n\n"
        % (
            str(cursor).encode(),
            each.event_type.encode(),
            JSON.encode(project(each, call.caller, codes)),
        )
        for cursor, each in page.events
    )


async def get_webhook_keys(call: Call) -> web.StreamResponse:
    """Public keys that sign webhooks."""
    now = call.services.now()
    keyring = open_webhook_keys(call.services.key_folder, now=now)
    return call.answer(WebhookKeysAnswer(keys=public_keys(keyring, now=now)))


# --- endpoints ---


def _endpoint(call: Call) -> int:
    """The endpoint that the path names; 0, which no endpoint has, for what cannot be one."""
    text: str = call.request.match_info["endpoint"]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


async def post_endpoints(call: Call) -> web.StreamResponse:
    """Register an endpoint."""
    wanted = await call.read(EndpointRequest)
    view = await call.services.endpoints.register(
        wanted, caller=call.caller, by=call.principal.by()
    )
    if isinstance(view, Refusal):
        return call.refuse(view.reason, view.detail)
    log.info("endpoint.registered", request_id=call.request_id, endpoint=view.endpoint)
    return call.answer(view, 201)


async def get_endpoints(call: Call) -> web.StreamResponse:
    """List the caller's endpoints."""
    after, limit = ENDPOINTS.window(call)
    views = await call.services.endpoints.of_caller(
        caller=call.caller, after=after or 0, limit=limit + 1
    )
    return ENDPOINTS.answer(
        call,
        views,
        lambda view: view.endpoint,
        lambda page, cursor: EndpointsAnswer(endpoints=page, next=cursor),
    )


async def get_endpoint(call: Call) -> web.StreamResponse:
    """Show one endpoint."""
    view = await call.services.endpoints.show(_endpoint(call), caller=call.caller)
    return call.not_found() if view is None else call.answer(view)


async def delete_endpoint(call: Call) -> web.StreamResponse:
    """Send an endpoint nothing more."""
    number = _endpoint(call)
    if not await call.services.endpoints.remove(number, caller=call.caller, by=call.principal.by()):
        return call.not_found()
    log.info("endpoint.removed", request_id=call.request_id, endpoint=number)
    return call.answer(EndpointRemoved(endpoint=number))


async def post_endpoint_resume(call: Call) -> web.StreamResponse:
    """Send at once what is next."""
    view = await call.services.endpoints.resume(
        _endpoint(call), caller=call.caller, by=call.principal.by()
    )
    if view is None:
        return call.not_found()
    log.info("endpoint.resumed", request_id=call.request_id, endpoint=view.endpoint)
    return call.answer(view)


async def get_dead_letters(call: Call) -> web.StreamResponse:
    """Show a page of what an endpoint did not take."""
    after, limit = DEAD_LETTERS.window(call)
    found = await call.services.endpoints.dead_letters(
        _endpoint(call), caller=call.caller, after=after or 0, limit=limit + 1
    )
    if found is None:
        return call.not_found()
    return DEAD_LETTERS.answer(
        call,
        found,
        lambda letter: letter[0],
        lambda page, cursor: DeadLettersAnswer(
            dead_letters=[letter for _, letter in page], next=cursor
        ),
    )


async def post_dead_letters_replay(call: Call) -> web.StreamResponse:
    """Have dead letters tried once more."""
    wanted = await call.read(ReplayRequest, optional=True)
    count = await call.services.endpoints.replay(
        _endpoint(call), caller=call.caller, ids=wanted.ids, by=call.principal.by()
    )
    return call.not_found() if count is None else call.answer(ReplayAnswer(replayed=count))
