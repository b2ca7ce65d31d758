"""Health, metrics, problems and documents."""

from __future__ import annotations

from typing import Final

from exchange.gateway import docs_handlers, handlers
from exchange.gateway.formats import JSON_TYPE
from exchange.gateway.gate import Who
from exchange.gateway.routes.route import Parameter, Route
from schemas.wire import health, problems

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/healthz",
        summary="Whether this process lives.",
        who=Who.ANYBODY,
        handler=handlers.get_healthz,
        request={},
        response={JSON_TYPE: health.HealthAnswer},
    ),
    Route(
        method="GET",
        path="/readyz",
        summary="Whether orders can be taken now.",
        who=Who.ANYBODY,
        handler=handlers.get_readyz,
        request={},
        response={JSON_TYPE: health.ReadyAnswer},
    ),
    Route(
        method="GET",
        path="/metrics",
        summary="Figures of this process for Prometheus, and counts of what waits for people.",
        who=Who.ANYBODY,
        handler=handlers.get_metrics,
        request={},
        response={"text/plain": None},
    ),
    Route(
        method="GET",
        path="/problems/{code}",
        summary="What a problem means and what to do about it; a page for `Accept: text/html`.",
        who=Who.ANYBODY,
        handler=handlers.get_problem,
        request={},
        response={JSON_TYPE: problems.ProblemPage, "text/html": None},
        parameters=(
            Parameter(
                name="code",
                example="insufficient_points",
                text="The problem's code.",
                pattern=r"^[a-z][a-z_]{0,47}$",
            ),
        ),
    ),
    Route(
        method="GET",
        path="/openapi.json",
        summary="This document.",
        who=Who.ANYBODY,
        handler=handlers.get_openapi,
        request={},
        response={JSON_TYPE: dict},
    ),
    Route(
        method="GET",
        path="/docs",
        summary="A page on which to read this document and, in a sandbox, to try it.",
        who=Who.ANYBODY,
        handler=docs_handlers.get_docs,
        request={},
        response={"text/html": None},
    ),
    Route(
        method="GET",
        path="/docs/{file}",
        summary="What that page loads.",
        who=Who.ANYBODY,
        handler=docs_handlers.get_docs_file,
        request={},
        response={"text/javascript": None, "text/css": None},
        parameters=(
            Parameter(
                name="file",
                text="Name of the file.",
                pattern=r"^[a-z.-]{1,40}$",
                example="start.js",
            ),
        ),
    ),
)
