"""What an order worker offers on its socket: orders, proofs of members, health and figures."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
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
    OrderAnswer,
    OrderMessage,
    OrderWish,
    ProofWish,
)
from schemas.values.faults import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.typedefs import Handler
    from prometheus_client import CollectorRegistry

    from exchange.service.journeys import Connected, Journeys

log = structlog.get_logger()

BODY_BYTES_MAX: Final = 64 * 1024
HANG_UP_SECONDS: Final = 1.0
"""How long a gateway may take to hang up, too."""
_MESSAGES: Final = msgspec.msgpack.Decoder(OrderMessage)
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
    gateways = _Gateways(journeys)

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
    app.router.add_get(ORDERS_PATH, gateways.get_orders)
    app.router.add_post(AUTHENTICATE_PATH, post_authenticate)
    app.router.add_get(HEALTH_PATH, get_healthz)
    app.router.add_get(METRICS_PATH, get_metrics)
    app.on_shutdown.append(gateways.hang_up)
    return app


class _Gateways:
    """The WebSockets on which gateways have orders driven; see `order_link`."""

    def __init__(self, journeys: Journeys) -> None:
        self._journeys = journeys
        self._sockets: set[web.WebSocketResponse] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def get_orders(self, request: web.Request) -> web.WebSocketResponse:
        """Take orders as they come, and answer each when its end is known."""
        socket = web.WebSocketResponse(
            max_msg_size=BODY_BYTES_MAX, timeout=HANG_UP_SECONDS, compress=False
        )
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            async for message in socket:
                asked = _MESSAGES.decode(message.data)
                task = asyncio.create_task(self._order(socket, asked), name="order")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            self._sockets.discard(socket)
        return socket

    async def _order(self, socket: web.WebSocketResponse, asked: OrderMessage) -> None:
        try:
            entry = await self._journeys.order(_ORDERS.decode(asked.wish).wanted())
            answer = OrderAnswer(asked.number, "", entry)
        except (Unavailable, msgspec.MsgspecError) as error:
            answer = OrderAnswer(asked.number, str(error) or type(error).__name__, None)
        except Exception as fault:
            log.exception("order.failed")
            answer = OrderAnswer(
                asked.number, f"the order worker failed: {type(fault).__name__}", None
            )
        # A gateway that is gone asks another worker, or again, under the same key.
        with contextlib.suppress(ConnectionError):
            await socket.send_bytes(ENCODER.encode(answer))

    async def hang_up(self, _: web.Application) -> None:
        """Answer no more: gateways ask the other workers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(socket.close() for socket in set(self._sockets)))


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
