"""The field `Content-Digest` (RFC 9530 §2): SHA-256 of the bytes of a body, in one spelling."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterable


def content_digest(body: bytes | bytearray) -> str:
    """Write the digest of a body as the field has it."""
    return _field(hashlib.sha256(body).digest())


async def digest_of_stream(pieces: AsyncIterable[bytes]) -> str:
    """Write the digest of a body that comes in pieces."""
    digest = hashlib.sha256()
    async for piece in pieces:
        digest.update(piece)
    return _field(digest.digest())


def is_digest_of(field: str, body: bytes | bytearray) -> bool:
    """Tell whether the field is the digest of exactly this body."""
    return field == content_digest(body)


def _field(digest: bytes) -> str:
    return f"sha-256=:{b64encode(digest).decode('ascii')}:"
