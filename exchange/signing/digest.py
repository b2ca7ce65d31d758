"""The field `Content-Digest` (RFC 9530 §2): SHA-256 of the bytes of a body, in one spelling."""

from __future__ import annotations

import hashlib
from base64 import b64encode


def content_digest(body: bytes | bytearray) -> str:
    """Write the digest of a body as the field has it."""
    return f"sha-256=:{b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"


def is_digest_of(field: str, body: bytes | bytearray) -> bool:
    """Tell whether the field is the digest of exactly this body."""
    return field == content_digest(body)
