"""Handlers of callers' quotas; like the others, they decide nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.core.quota import Limits, Quota
from exchange.service.limits import limits_of, set_limits
from schemas.values.ids import HOUSE
from schemas.wire.limits import LimitsAnswer, LimitsRequest, QuotaTerms

if TYPE_CHECKING:
    from aiohttp import web

    from exchange.gateway.gate import Call


async def get_limits(call: Call) -> web.StreamResponse:
    """Show what a merchant may ask."""
    found = await _named(call)
    if found is None or call.caller not in (HOUSE, found):
        return call.not_found()
    return call.answer(_answer(call, await limits_of(call.services.pool, found)))


async def put_limits(call: Call) -> web.StreamResponse:
    """Set what a merchant may ask."""
    wanted = await call.read(LimitsRequest)
    found = await _named(call)
    if found is None:
        return call.not_found()
    limits = Limits(orders=_quota(wanted.orders), requests=_quota(wanted.requests))
    await set_limits(
        call.services.pool,
        merchant_no=found,
        code=call.request.match_info["code"],
        limits=limits,
        by=call.principal.by(),
        now=call.services.now(),
    )
    call.services.shelf.expire()
    await call.services.shelf.offer()
    return call.answer(_answer(call, limits))


async def _named(call: Call) -> int | None:
    """Number of the merchant that the path names; 0 for the house, None for nobody."""
    code = call.request.match_info["code"]
    if code == "HOUSE":
        return HOUSE
    return (await call.services.shelf.offer_with(code)).catalogue.by_code.get(code)


def _quota(terms: QuotaTerms | None) -> Quota | None:
    if terms is None:
        return None
    return Quota(units=terms.units, window_seconds=terms.window_seconds)


def _told(quota: Quota | None) -> QuotaTerms | None:
    if quota is None:
        return None
    return QuotaTerms(units=quota.units, window_seconds=quota.window_seconds)


def _answer(call: Call, limits: Limits) -> LimitsAnswer:
    return LimitsAnswer(
        merchant=call.request.match_info["code"],
        orders=_told(limits.orders),
        requests=_told(limits.requests),
    )
