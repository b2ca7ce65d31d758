"""What a route says of itself, and what several families of routes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exchange.gateway import event_handlers
from exchange.gateway.formats import JSON_TYPE, RECORD_TYPES
from exchange.gateway.gate import BODY_BYTES_MAX, Who
from exchange.gateway.paging import CURSOR_PATTERN
from schemas.values.ids import MERCHANT_CODE_PATTERN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp import web

    from exchange.core.quota import Policy
    from exchange.gateway.gate import Call
    from schemas.values.reason import Reason

STREAM_TYPE: Final = event_handlers.STREAM_TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter in the path or in the query.

    Attributes:
        name: Its name.
        text: What it means.
        pattern: What it must match.
        query: Whether it stands in the query, where it may be left out.
        example: One that could be.
    """

    name: str
    text: str
    pattern: str
    query: bool = False
    example: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One line of the table.

    Attributes:
        method: HTTP method.
        path: Path, with names in braces.
        summary: One sentence.
        who: Who may call it.
        handler: What does the work; its name is the route's name.
        response: What is answered, by content type; None for bytes. A record for JSON is answered in msgpack as
            well, with the same fields, unless msgpack has a record of its own.
        request: What is sent, by content type; empty for nothing. As for the response.
        status: Status of a success.
        optional: Whether the body may be left out.
        keyed: Whether the header `Idempotency-Key` is needed.
        repeat: Of what may change something and takes no key: why a repeat does no harm.
        parameters: In the path and in the query.
        refusals: Business refusals that it may answer.
        body_bytes_max: Most bytes of a body.
        policy: Which of the caller's quotas it counts against.
    """

    method: str
    path: str
    summary: str
    who: Who
    handler: Callable[[Call], Awaitable[web.StreamResponse]]
    response: dict[str, object]
    request: dict[str, object]
    status: int = 200
    optional: bool = False
    keyed: bool = False
    repeat: str = ""
    parameters: tuple[Parameter, ...] = ()
    refusals: tuple[Reason, ...] = ()
    body_bytes_max: int = BODY_BYTES_MAX
    policy: Policy = "requests"

    @property
    def tagged(self) -> bool:
        """Whether its answer carries an entity tag, by which it need not be sent again."""
        return self.method == "GET" and JSON_TYPE in self.response

    @staticmethod
    def forms(table: dict[str, object]) -> tuple[str, ...]:
        """Content types of a request or a response: a record for JSON has the same form in msgpack."""
        if table.get(JSON_TYPE, dict) is dict:
            return tuple(table)
        return (*RECORD_TYPES, *(each for each in table if each not in RECORD_TYPES))

    @property
    def offers(self) -> tuple[str, ...]:
        """Content types among which the caller chooses; empty where the answer has one alone."""
        return self.forms(self.response) if self.response.get(JSON_TYPE, dict) is not dict else ()

    @property
    def tag(self) -> str:
        """What it is about: the first words of its path."""
        first, *rest = self.path.strip("/").split("/")
        if first != "v1":
            return "gateway"
        return rest[1] if rest[0] == "admin" else rest[0]

    @property
    def paged(self) -> bool:
        """Whether its answer is a page of a list."""
        return "limit" in self.query

    @property
    def query(self) -> frozenset[str]:
        """Parameters that its query may have."""
        return frozenset(each.name for each in self.parameters if each.query)

    @property
    def name(self) -> str:
        """Name in metrics and in the document."""
        return self.handler.__name__


ORDER_ID = Parameter(
    name="order_id",
    example="0190f8a0-5c00-7001-8000-00000000002a",
    text="The order's id.",
    pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
)

CODE = Parameter(
    name="code",
    example="AIR",
    text="The merchant's code; HOUSE for the house.",
    pattern=MERCHANT_CODE_PATTERN,
)

LIMIT = Parameter(
    name="limit",
    text="Most lines of a page.",
    pattern=r"^([1-9][0-9]?|[1-4][0-9]{2}|500)$",
    query=True,
)

PAGED = (
    Parameter(
        name="after",
        text="Where the page begins, as `next` of the page before gave it out; the first page where left out.",
        pattern=CURSOR_PATTERN,
        query=True,
    ),
    LIMIT,
)


def choice(name: str, text: str, words: Sequence[str]) -> Parameter:
    """A filter of a list."""
    return Parameter(name=name, text=text, pattern=f"^({'|'.join(words)})$", query=True)
