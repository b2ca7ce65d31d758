"""Pages of lists: `limit` and `after` in the query, `next` in the answer and `Link: <…>; rel="next"` (RFC 8288).

A cursor names the last line of a page by what the list is sorted by, so a page begins where the one before ended,
whatever was added or ended in between, and an index leads there. It is opaque to callers: the list's name and that
key as msgpack in base64url. It is not signed, since it grants nothing: a list shows a caller its own lines, wherever
the page begins. What is not such a text, or is another list's, is refused.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec

from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp import web

    from exchange.gateway.gate import Call

AFTER: Final = "after"
LIMIT: Final = "limit"
CURSOR_PATTERN: Final = r"^[A-Za-z0-9_-]{1,400}$"
"""Long enough for a name of 64 characters of four bytes each."""

Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, msgspec.Meta(max_length=64, pattern=r"\A[^\x00]*\Z")]
_HELD: Final[dict[type, object]] = {int: Number, str: Name}
KeyT = TypeVar("KeyT", int, str)
RowT = TypeVar("RowT")


class Listing(Generic[KeyT]):
    """One list that is read page by page.

    Attributes:
        name: Its name, which stands in its cursors.
        usual: Lines of a page where the caller says nothing.
        most: Most lines of a page.
    """

    __slots__ = ("_decoder", "most", "name", "usual")

    def __init__(self, name: str, key: type[KeyT], *, usual: int = 100, most: int = 500) -> None:
        """Say what it is sorted by: `int` or `str`."""
        self.name = name
        self.usual = usual
        self.most = most
        shape: Any = tuple[Literal[name], _HELD[key]]  # type: ignore[valid-type] # made for this list
        self._decoder: msgspec.msgpack.Decoder[tuple[str, KeyT]] = msgspec.msgpack.Decoder(shape)

    def cursor(self, key: KeyT) -> str:
        """The text that stands for the place behind a line."""
        return urlsafe_b64encode(msgspec.msgpack.encode((self.name, key))).rstrip(b"=").decode()

    def place(self, text: str) -> KeyT:
        """What a cursor names.

        Raises:
            SchemaError: It is none that this list gave out.
        """
        if re.match(CURSOR_PATTERN, text):
            padded = text + "=" * (-len(text) % 4)
            try:
                _, key = self._decoder.decode(urlsafe_b64decode(padded))
            except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError):
                pass
            else:
                if self.cursor(key) == text:
                    return key
        raise SchemaError(f"?{AFTER}", "Expected a `next` that this list gave out")

    def window(self, call: Call) -> tuple[KeyT | None, int]:
        """Where a page begins and how many lines it has, by the query.

        Raises:
            SchemaError: One of them cannot be.
        """
        text = call.request.query.get(AFTER)
        limit = query_number(call, LIMIT, most=self.most) or self.usual
        return None if text is None else self.place(text), limit

    def answer(
        self,
        call: Call,
        rows: Sequence[RowT],
        key: Callable[[RowT], KeyT],
        make: Callable[[list[RowT], str | None], object],
    ) -> web.Response:
        """Answer with a page.

        Args:
            call: The request.
            rows: What was read, one line more than the page has if there are so many.
            key: What the list is sorted by, of a line.
            make: Makes the answer of the lines and the cursor of the next page, None on the last.
        """
        _, limit = self.window(call)
        lines, cursor = list(rows[:limit]), None
        if len(rows) > limit:
            cursor = self.cursor(key(lines[-1]))
        return linked(call, call.answer(make(lines, cursor)), cursor)


def linked(call: Call, response: web.Response, cursor: str | None) -> web.Response:
    """Add the link to the next page, relative to the gateway that answered, if there is one."""
    if cursor is not None:
        url = call.request.rel_url.update_query({AFTER: cursor})
        response.headers["Link"] = f'<{url.raw_path_qs}>; rel="next"'
    return response


def query_number(call: Call, name: str, *, most: int) -> int | None:
    """A positive whole number from the query.

    Raises:
        SchemaError: It is something else, or above `most`.
    """
    text: str | None = call.request.query.get(name)
    if text is None:
        return None
    if not re.match(r"\A[0-9]{1,19}\Z", text) or not 1 <= int(text) <= most:
        raise SchemaError(f"?{name}", f"Expected a number from 1 to {most}")
    return int(text)


def query_choice(call: Call, name: str, choices: Sequence[str]) -> str | None:
    """One of a few words from the query; None where it is left out.

    Raises:
        SchemaError: It is another.
    """
    text: str | None = call.request.query.get(name)
    if text is not None and text not in choices:
        raise SchemaError(f"?{name}", f"Expected one of {', '.join(choices)}")
    return text
