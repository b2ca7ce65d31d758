"""The page on which people read the contract and, in a sandbox, try it; it needs no other host."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiohttp import web

    from exchange.gateway.gate import Call

FILES: Final = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
}
"""What the page loads, and nothing else of the folder."""
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a browser lets the page do: speak to this gateway alone, and stand in nobody's frame."""


@cache
def _read(name: str) -> bytes:
    return files(__package__).joinpath("docs", name).read_bytes()


async def get_docs(call: Call) -> web.StreamResponse:
    """The page."""
    response = call.send(_read("index.html"), "text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


async def get_docs_file(call: Call) -> web.StreamResponse:
    """What the page loads."""
    name = call.request.match_info["file"]
    if name not in FILES:
        return call.not_found()
    response = call.send(_read(name), FILES[name])
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
