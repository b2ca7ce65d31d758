"""Reading the plainest HTTP/1.1 requests for single orders, straight from their bytes.

What is not exactly of this kind is not judged here: the caller hands it to the full parser. So a
request is taken only if no two readers could disagree about it (RFC 9112 §11.2): one request line,
headers that end in CRLF, no body but one of a stated length, and each header that matters just once.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple

from exchange.signing.request import RequestHead

HEAD_BYTES_MAX: Final = 8 * 1024
_LENGTH_DIGITS_MAX: Final = 6

_START: Final = b"POST /v1/orders"
_TARGET: Final = re.compile(
    rb"POST (/v1/orders(?:/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/(clear|void))?) HTTP/1\.1\r\n"
)
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_READ: Final = frozenset(
    {
        *(b"host", b"content-length", b"content-type", b"accept", b"authorization"),
        *(b"idempotency-key", b"content-digest", b"signature-input", b"signature"),
    }
)
_STRANGE: Final = frozenset(
    {
        *(b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"trailer", b"te"),
        b"tongdui-sandbox-fault",
    }
)
"""Headers that change how a request is read, or what it asks: whoever sends one gets the full parser."""


class Part(Enum):
    """Why there is no request yet."""

    INCOMPLETE = "incomplete"
    NOT_PLAIN = "not plain"


class Plain(NamedTuple):
    """One plain request.

    Attributes:
        path: Its path.
        order_id: The order to end; None for a new order.
        end: `clear` or `void`; None for a new order.
        authorization: Header of that name.
        key: Header `Idempotency-Key`.
        content_type: Header of that name.
        body: Its body.
        size: Bytes that it took, so that what follows can be told apart.
        host: Header of that name.
        digest: Header `Content-Digest`.
        signature_input: Header of that name.
        signature: Header of that name.
        accept: Header of that name.
    """

    path: str
    order_id: str | None
    end: str | None
    authorization: str | None
    key: str | None
    content_type: str | None
    body: bytes
    size: int
    host: str = ""
    digest: str | None = None
    signature_input: str | None = None
    signature: str | None = None
    accept: str | None = None

    @property
    def head(self) -> RequestHead:
        """What is signed of it."""
        return RequestHead(
            "POST",
            self.host,
            self.path,
            self.digest,
            self.content_type,
            self.key,
            self.signature_input,
            self.signature,
        )


def read_plain(data: bytes, *, body_max: int) -> Plain | Part:
    """Read one request from the beginning of `data`.

    Args:
        data: What arrived and was not read yet.
        body_max: Most bytes of a body; a larger one is not plain.
    """
    target = _TARGET.match(data)
    if target is None:
        shorter = min(len(data), len(_START))
        begins = data[:shorter] == _START[:shorter]
        whole_line = b"\n" in data or len(data) > HEAD_BYTES_MAX
        return Part.INCOMPLETE if begins and not whole_line else Part.NOT_PLAIN
    end = data.find(b"\r\n\r\n", target.end() - 2)
    if end < 0:
        return Part.NOT_PLAIN if len(data) > HEAD_BYTES_MAX else Part.INCOMPLETE
    if end > HEAD_BYTES_MAX:
        return Part.NOT_PLAIN
    headers = _read_headers(data[target.end() : end])
    if headers is None:
        return Part.NOT_PLAIN
    digits = headers.get(b"content-length", b"0")
    if not digits.isdigit() or len(digits) > _LENGTH_DIGITS_MAX:
        return Part.NOT_PLAIN
    length = int(digits)
    size = end + 4 + length
    if length > body_max or b"host" not in headers:
        return Part.NOT_PLAIN
    if len(data) < size:
        return Part.INCOMPLETE
    path, order_id, kind = target.groups()
    return Plain(
        path.decode(),
        order_id.decode() if order_id else None,
        kind.decode() if kind else None,
        _text(headers.get(b"authorization")),
        _text(headers.get(b"idempotency-key")),
        _text(headers.get(b"content-type")),
        data[end + 4 : size],
        size,
        _text(headers[b"host"]) or "",
        _text(headers.get(b"content-digest")),
        _text(headers.get(b"signature-input")),
        _text(headers.get(b"signature")),
        _text(headers.get(b"accept")),
    )


def _read_headers(block: bytes) -> dict[bytes, bytes] | None:
    """Headers that matter; None if anything in the block asks for the full parser."""
    lines = block.split(b"\r\n")
    if block.count(b"\n") != len(lines) - 1 or block.count(b"\r") != len(lines) - 1:
        return None
    if b"\0" in block:
        return None
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or not _NAME.match(name) or name in _STRANGE:
            return None
        if name in _READ:
            if name in headers:
                return None
            headers[name] = value.strip(b" \t")
        elif name == b"connection" and value.strip(b" \t").lower() != b"keep-alive":
            return None
    return headers


def _text(value: bytes | None) -> str | None:
    """A header as text, as the full parser gives it out."""
    return None if value is None else value.decode("utf-8", "surrogateescape")
