"""Handlers of keys: those with which callers sign, and the operator's public ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exchange.gateway.paging import Listing
from schemas.values.reason import Refusal
from schemas.wire.keys import KeyRequest, KeysAnswer

if TYPE_CHECKING:
    from aiohttp import web

    from exchange.gateway.gate import Call

KEYS: Final = Listing("keys", str)


async def get_keys(call: Call) -> web.StreamResponse:
    """List keys with which the caller signs."""
    services = call.services
    offer = await services.shelf.offer()
    after, limit = KEYS.window(call)
    views = await services.keys.keys(
        caller=call.caller, codes=offer.codes, now=services.now(), after=after, limit=limit + 1
    )
    return KEYS.answer(
        call,
        views,
        lambda view: view.kid,
        lambda page, cursor: KeysAnswer(keys=page, next=cursor),
    )


async def post_keys(call: Call) -> web.StreamResponse:
    """Register a key."""
    wanted = await call.read(KeyRequest)
    services = call.services
    offer = await services.shelf.offer()
    outcome = await services.keys.register(
        wanted.csr,
        caller=call.caller,
        codes=offer.codes,
        label=wanted.label,
        overlap_hours=wanted.overlap_hours,
        by=call.principal.by(),
        now=services.now(),
    )
    if isinstance(outcome, Refusal):
        return call.refuse(outcome.reason, outcome.detail)
    return call.answer(outcome, 201)


async def post_key_revoke(call: Call) -> web.StreamResponse:
    """Revoke a key."""
    services = call.services
    offer = await services.shelf.offer()
    outcome = await services.keys.revoke(
        call.request.match_info["key_id"],
        caller=call.caller,
        codes=offer.codes,
        by=call.principal.by(),
        now=services.now(),
    )
    return call.not_found() if outcome is None else call.answer(outcome)


async def get_jwks(call: Call) -> web.StreamResponse:
    """Publish the operator's keys."""
    response = call.answer(call.services.answer_keys.published())
    response.headers["Cache-Control"] = "public, max-age=300"
    return response
