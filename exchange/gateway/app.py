"""The aiohttp application of one gateway process."""

from __future__ import annotations

import functools
import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from exchange.gateway import problems
from exchange.gateway.gate import (
    BULK_BYTES_MAX,
    GATE,
    IN_FLIGHT_MAX,
    Call,
    Gate,
    Who,
    finish_head,
)
from exchange.gateway.matrix import matrix_of
from exchange.gateway.metrics import HouseCollector, Metrics
from exchange.gateway.openapi import make_openapi
from exchange.gateway.routes import ROUTES

if TYPE_CHECKING:
    from exchange.gateway.services import Services

_SHAPES: Final = [
    (re.compile(re.sub(r"\{\w+\}", "[^/]+", route.path) + r"\Z"), route.method) for route in ROUTES
]


def create_app(services: Services, *, in_flight_max: int = IN_FLIGHT_MAX) -> web.Application:
    """Make the application.

    Args:
        services: What its handlers ask.
        in_flight_max: Most requests at once; more are answered 503.
    """
    metrics = Metrics()
    gate = Gate(services=services, metrics=metrics, in_flight_max=in_flight_max)
    gate.openapi = _openapi_document()
    gate.allowed = _allowed()
    metrics.gauge(
        "tongdui_requests_in_flight", "Requests now.", lambda: gate.in_flight + gate.strangers
    )
    waiting = getattr(services.clearing, "waiting", None)
    if isinstance(waiting, int):
        metrics.gauge(
            "tongdui_commands_waiting",
            "Commands in the writer's queue, or on their way to it.",
            lambda: float(getattr(services.clearing, "waiting", 0)),
        )
    metrics.registry.register(HouseCollector(services.house_watch))
    app = web.Application(client_max_size=BULK_BYTES_MAX)
    app[GATE] = gate
    app.on_response_prepare.append(finish_head)
    for route in ROUTES:
        app.router.add_route(
            route.method,
            route.path,
            gate.guard(
                route.name,
                route.who,
                route.handler,
                body_bytes_max=route.body_bytes_max,
                policy=route.policy,
                offers=route.offers,
                query=route.query if route.who is not Who.ANYBODY else frozenset(),
            ),
        )
    app.router.add_route("*", "/{rest:.*}", gate.guard("elsewhere", Who.ANYBODY, _elsewhere))
    return app


@functools.cache
def _allowed() -> dict[str, frozenset[str]]:
    """The access matrix by name of the route; a route without a row keeps the gateway from starting."""
    names = {f"{route.method} {route.path}": route.name for route in ROUTES}
    return {names[path]: columns for path, columns in matrix_of(names).items()}


@functools.cache
def _openapi_document() -> bytes:
    """The OpenAPI document as it is served; the routes are the same for every application of a process."""
    return msgspec.json.encode(make_openapi(ROUTES, version=version("tongdui")))


async def _elsewhere(call: Call) -> web.StreamResponse:
    """Answer a path or a method that is not in the table."""
    path = call.request.path
    allowed = sorted({method for shape, method in _SHAPES if shape.match(path)})
    if not allowed:
        return call.not_found()
    problem = problems.fault_problem(
        problems.METHOD_NOT_ALLOWED, instance=path, request_id=call.request_id
    )
    return problems.respond(problem, {"Allow": ", ".join(allowed)}, writing=call.writing)
