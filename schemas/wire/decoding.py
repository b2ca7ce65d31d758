"""Reading request bodies, with the path of a bad field in every complaint.

A bulk request is decoded whole, which is fast; only when that fails is it read element by element, so
that one malformed element costs nobody else their answer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Generic, Protocol, TypeVar

import msgspec

from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BULK_MAX: Final = 10_000
"""Most elements of one bulk request."""

_COMMAS_MAX: Final = 64
"""Commas that an element of a broken JSON array may have, on average, to be read one by one; an order has about ten."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)
_AT = re.compile(r"\A(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?\Z", re.DOTALL)
_NAMED = re.compile(r"\AObject (?:contains unknown|missing required) field `(?P<name>[^`]*)`")


class _Decoder(Protocol[T_co]):
    def decode(self, buf: bytes, /) -> T_co: ...


def schema_error(error: Exception, *, under: str = "$") -> SchemaError:
    """Turn a decoder's complaint into ours.

    Args:
        error: What msgspec or a codec raised.
        under: Path of the element that was read; `$` for a whole body.
    """
    if isinstance(error, UnicodeDecodeError):
        return SchemaError(under, "Text is not valid UTF-8")
    if isinstance(error, RecursionError):
        return SchemaError(under, "Nested too deeply")
    if not isinstance(error, msgspec.ValidationError):
        return SchemaError(under, str(error))
    found = _AT.match(str(error))
    what, path = (found["what"], found["path"] or "$") if found else (str(error), "$")
    named = _NAMED.match(what)
    if named:
        path = f"{path}.{named['name']}"
    return SchemaError(under + path[1:], what)


def decode(decoder: _Decoder[T], body: bytes) -> T:
    """Read one whole body.

    Raises:
        SchemaError: It is malformed; names the field.
    """
    try:
        return decoder.decode(body)
    except _UNREADABLE as error:
        raise schema_error(error) from None


class BulkDecoder(Generic[T]):
    """Reads arrays of one kind of element, in JSON or in msgpack."""

    def __init__(
        self,
        element: object,
        *,
        packed: bool,
        unchecked: object = None,
        sound: Callable[[list[T]], bool] = lambda _: True,
    ) -> None:
        """Make the decoders once.

        Args:
            element: Type of an element, for example `BulkOrder[Units]`.
            packed: Whether bodies are msgpack instead of JSON.
            unchecked: A type like `element`, but without what costs much to check of each.
            sound: Checks that of all of them together.
        """
        self._sound = sound
        self._packed = packed
        whole = unchecked or element
        if packed:
            self._whole: _Decoder[list[T]] = msgspec.msgpack.Decoder(list[whole])  # type: ignore[valid-type]
            # The length stands before the elements: too long an array is refused without reading them.
            self._split: _Decoder[list[msgspec.Raw]] = msgspec.msgpack.Decoder(
                Annotated[list[msgspec.Raw], msgspec.Meta(max_length=BULK_MAX)]
            )
            self._one: _Decoder[T] = msgspec.msgpack.Decoder(element)
        else:
            self._whole = msgspec.json.Decoder(list[whole])  # type: ignore[valid-type]
            self._split = msgspec.json.Decoder(list[msgspec.Raw])
            self._one = msgspec.json.Decoder(element)

    def decode(self, body: bytes) -> Sequence[T | SchemaError]:
        """Read an array; a malformed element is answered by the error that names its path.

        Raises:
            SchemaError: The body is no array, is broken, is empty or is too long.
        """
        elements: Sequence[T | SchemaError]
        try:
            whole = self._whole.decode(body)
        except _UNREADABLE:
            elements = self._one_by_one(body)
        else:
            elements = whole if self._sound(whole) else self._one_by_one(body)
        if not elements:
            raise SchemaError("$", "Expected at least one element")
        if len(elements) > BULK_MAX:
            raise SchemaError("$", f"Expected at most {BULK_MAX} elements, got {len(elements)}")
        return elements

    def _one_by_one(self, body: bytes) -> list[T | SchemaError]:
        # Millions of tiny elements are refused before each of them is a thing of its own: that would be a gigabyte.
        if not self._packed and body.count(b",") > BULK_MAX * _COMMAS_MAX:
            raise SchemaError("$", f"Expected at most {BULK_MAX} elements")
        raws = decode(self._split, body)
        if len(raws) > BULK_MAX:
            raise SchemaError("$", f"Expected at most {BULK_MAX} elements, got {len(raws)}")
        elements: list[T | SchemaError] = []
        for place, raw in enumerate(raws):
            try:
                elements.append(self._one.decode(bytes(raw)))
            except _UNREADABLE as error:
                elements.append(schema_error(error, under=f"$[{place}]"))
        return elements
