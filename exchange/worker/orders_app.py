"""What an order worker offers on its socket: orders, proofs of members, health and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from adapters.kit.contract import NotSent
from exchange.service.order_link import (
    AUTHENTICATE_PATH,
    CONTENT_TYPE,
    ENCODER,
    HEALTH_PATH,
    METRICS_PATH,
    ORDERS_PATH,
    FoundAnswer,
    OrderWish,
    ProofWish,
)
from schemas.values.faults import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.typedefs import Handler
    from prometheus_client import CollectorRegistry

    from exchange.service.journeys import Connected, Journeys

BODY_BYTES_MAX: Final = 64 * 1024
_ORDERS: Final = msgspec.msgpack.Decoder(OrderWish)
_PROOFS: Final = msgspec.msgpack.Decoder(ProofWish)


def make_app(
    journeys: Journeys,
    merchants: Mapping[int, Connected],
    registry: CollectorRegistry | None = None,
) -> web.Application:
    """Make the application of one worker; it starts nothing and listens nowhere.

    Args:
        journeys: Drives orders; started by the caller.
        merchants: Systems by merchant number.
        registry: What `/metrics` shows; nothing if None.
    """

    async def post_orders(request: web.Request) -> web.Response:
        wish = _ORDERS.decode(await request.read())
        return _answer(await journeys.order(wish.wanted()))

    async def post_authenticate(request: web.Request) -> web.Response:
        wish = _PROOFS.decode(await request.read())
        merchant = merchants.get(wish.merchant_no)
        if merchant is None:
            raise Unavailable("the merchant's own system is not connected here")
        try:
            found = await merchant.system.authenticate(wish.member, wish.proof)
        except NotSent as error:
            raise Unavailable(error.detail) from error
        reason = found.reason.number if found.reason else 0
        return _answer(FoundAnswer(found.outcome, reason, found.member))

    async def get_healthz(_: web.Request) -> web.Response:
        return web.json_response({"merchants": len(merchants), "under_way": journeys.under_way})

    async def get_metrics(_: web.Request) -> web.Response:
        body = b"" if registry is None else generate_latest(registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_faults])
    app.router.add_post(ORDERS_PATH, post_orders)
    app.router.add_post(AUTHENTICATE_PATH, post_authenticate)
    app.router.add_get(HEALTH_PATH, get_healthz)
    app.router.add_get(METRICS_PATH, get_metrics)
    return app


def _answer(answer: object) -> web.Response:
    return web.Response(body=ENCODER.encode(answer), headers={"Content-Type": CONTENT_TYPE})


@web.middleware
async def _faults(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say what is unavailable; whatever else goes wrong is a fault of ours."""
    try:
        return await handler(request)
    except Unavailable as error:
        return web.Response(status=503, text=str(error))
    except msgspec.MsgspecError as error:
        return web.Response(status=400, text=str(error))
