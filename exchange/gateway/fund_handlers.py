"""Handlers of funds: a merchant sees its own money, people of the house everybody's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from exchange.gateway.paging import Listing
from schemas.wire.funds import FundsAnswer

if TYPE_CHECKING:
    from aiohttp import web

    from exchange.gateway.gate import Call

FUNDS: Final = Listing("funds", int)
ALL_FUNDS: Final = Listing("all_funds", str)


async def get_funds(call: Call) -> web.StreamResponse:
    """Show the caller's money, and page by page what cycles need of it."""
    after, limit = FUNDS.window(call)
    funds, found = await call.services.fund_desk.own(call.caller, after=after or 0, limit=limit + 1)
    return FUNDS.answer(
        call,
        found,
        lambda each: each[0],
        lambda page, cursor: FundsAnswer(
            funds=funds, cycles=[view for _, view in page], next=cursor
        ),
    )


async def get_admin_funds(call: Call) -> web.StreamResponse:
    """Show everybody's money, page by page, and what blocks releases."""
    after, limit = ALL_FUNDS.window(call)
    found = await call.services.fund_desk.all()
    views = [each for each in found.merchants if after is None or each.code > after]
    return ALL_FUNDS.answer(
        call,
        views[: limit + 1],
        lambda view: view.code,
        lambda page, cursor: msgspec.structs.replace(found, merchants=page, next=cursor),
    )
