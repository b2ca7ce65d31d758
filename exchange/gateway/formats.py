"""Formats of bodies: JSON and msgpack, chosen by `Content-Type` and `Accept` (RFC 9110 §12); no handler knows them.

Both carry the same records, field by field. The two bulk routes alone have amounts as integers in msgpack: there an
amount is read ten thousand times; everywhere else one record has one form, and amounts are digits in both formats.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from schemas.wire.decoding import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

JSON_TYPE: Final = "application/json"
MSGPACK_TYPE: Final = "application/msgpack"

T = TypeVar("T")

_ALIASES: Final = {
    "application/x-msgpack": MSGPACK_TYPE,
    "application/vnd.msgpack": MSGPACK_TYPE,
    "application/problem+json": JSON_TYPE,
    "application/problem+msgpack": MSGPACK_TYPE,
}
"""Other names of a format; whoever takes its problems takes the format."""
_RANGE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+")
_WEIGHT: Final = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_ELEMENTS_MAX: Final = 64


class MediaTypeError(Exception):
    """The body comes in a content type that is not taken."""


class NotAcceptableError(Exception):
    """The caller takes none of the forms that the answer has."""

    def __init__(self, offers: Sequence[str]) -> None:
        """Say which forms it has."""
        super().__init__(f"take {' or '.join(f'`{each}`' for each in offers)}")


class Format:
    """One form of a body.

    Attributes:
        media_type: Content type of answers.
        problem_type: Content type of answers that say no (RFC 9457).
        encode: Writes a record.
    """

    __slots__ = ("_decoders", "_make", "encode", "media_type", "problem_type")

    def __init__(
        self,
        media_type: str,
        problem_type: str,
        encode: Callable[[object], bytes],
        make: Callable[[Any], Any],
    ) -> None:
        """Take what reads and writes it."""
        self.media_type = media_type
        self.problem_type = problem_type
        self.encode = encode
        self._make = make
        self._decoders: dict[object, Any] = {}

    def decode(self, wanted: type[T], body: bytes) -> T:
        """Read a whole body.

        Raises:
            SchemaError: It is malformed; names the field.
        """
        decoder = self._decoders.get(wanted)
        if decoder is None:
            decoder = self._decoders[wanted] = self._make(wanted)
        read: T = decode(decoder, body)
        return read


def _no_extension(code: int, _: memoryview) -> object:
    raise msgspec.ValidationError(f"Extension type {code} is not taken")


def _packed_decoder(wanted: Any) -> Any:
    return msgspec.msgpack.Decoder(wanted, ext_hook=_no_extension)


JSON: Final = Format(
    JSON_TYPE, "application/problem+json", msgspec.json.Encoder().encode, msgspec.json.Decoder
)
MSGPACK: Final = Format(
    MSGPACK_TYPE, "application/problem+msgpack", msgspec.msgpack.Encoder().encode, _packed_decoder
)
RECORD_TYPES: Final = (JSON_TYPE, MSGPACK_TYPE)
"""What every record can be written as, the usual one first."""


def format_of(content_type: str | None) -> Format:
    """The format of a body; one without a type is taken for JSON.

    Raises:
        MediaTypeError: It is another one.
    """
    if content_type is None or content_type == JSON_TYPE:
        return JSON
    media_type = content_type.partition(";")[0].strip(" \t").lower()
    media_type = _ALIASES.get(media_type, media_type)
    if media_type == JSON_TYPE:
        return JSON
    if media_type == MSGPACK_TYPE:
        return MSGPACK
    raise MediaTypeError(f"send `{JSON_TYPE}` or `{MSGPACK_TYPE}`")


def check_acceptable(chosen: str | None, offers: Sequence[str]) -> None:
    """Go on where there was something to choose from, and something was chosen.

    Raises:
        NotAcceptableError: The caller takes none of what is offered.
    """
    if chosen is None and offers:
        raise NotAcceptableError(offers)


def answer_format(chosen: str | None) -> Format:
    """The format of an answer whose content type was chosen; JSON for the problems of any other."""
    return MSGPACK if chosen == MSGPACK_TYPE else JSON


@lru_cache(maxsize=512)
def choose(accept: str | None, offers: Sequence[str], sent: str | None = None) -> str | None:
    """Choose the content type of an answer (RFC 9110 §12.5.1).

    Args:
        accept: Header `Accept`; None where there is none.
        offers: Content types that the answer can have, the usual one first.
        sent: Content type of the request's body: an answer comes in the same, unless the caller prefers another.

    Returns:
        The offer with the highest weight; among equals the one that is named more exactly, then the request's own,
        then the first. None if the caller takes none of them.
    """
    own = "" if sent is None else sent.partition(";")[0].strip(" \t").lower()
    own = _ALIASES.get(own, own)
    ranked = sorted(offers, key=lambda offer: offer != own)
    weights = _weights(accept)
    if weights is None:
        return ranked[0]
    best: tuple[float, int] = (0.0, 0)
    chosen = None
    for offer in ranked:
        weight = _weight(weights, offer)
        if weight[0] > 0 and weight > best:
            best, chosen = weight, offer
    return chosen


def _weights(accept: str | None) -> dict[str, float] | None:
    """Weight of each range that a header names; None where it names nothing that can be read."""
    if accept is None:
        return None
    weights: dict[str, float] = {}
    for element in accept.split(",", _ELEMENTS_MAX)[:_ELEMENTS_MAX]:
        name, *parameters = (part.strip(" \t").lower() for part in element.split(";"))
        weight = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        if _RANGE.fullmatch(name) and _WEIGHT.fullmatch(weight):
            name = _ALIASES.get(name, name)
            weights[name] = max(float(weight), weights.get(name, 0.0))
    return weights or None


def _weight(weights: dict[str, float], offer: str) -> tuple[float, int]:
    """Weight of an offer, by the range that names it most exactly, and how exactly that does."""
    for exactness, name in ((2, offer), (1, offer.partition("/")[0] + "/*"), (0, "*/*")):
        if name in weights:
            return weights[name], exactness
    return 0.0, 0
