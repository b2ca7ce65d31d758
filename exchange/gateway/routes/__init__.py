"""The one route table: the router and the OpenAPI document are both made from it."""

from __future__ import annotations

from typing import Final

from exchange.gateway.routes import events, members, merchants, orders, public, settlement, staff
from exchange.gateway.routes.route import Parameter, Route

__all__ = ["ROUTES", "Parameter", "Route"]

ROUTES: Final[tuple[Route, ...]] = (
    *orders.ROUTES,
    *members.ROUTES,
    *merchants.ROUTES,
    *settlement.ROUTES,
    *staff.ROUTES,
    *events.ROUTES,
    *public.ROUTES,
)
