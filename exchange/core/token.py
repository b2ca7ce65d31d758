"""Sealed tokens: a payload and its MAC under a key that the gateways share, as URL-safe text.

The context says what kind of token it is, so that none passes for another; it may also hold what
the token is bound to without saying it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEY_ID_BYTES: Final = 4
_MAC_BYTES: Final = 16
"""Half of HMAC-SHA256: the shortest that RFC 2104 §5 allows, and 128 bits are no one's to guess."""


def key_id(key: bytes) -> bytes:
    """Four bytes that name a MAC key without telling it."""
    return hashlib.sha256(b"tongdui quote key\0" + key).digest()[:_KEY_ID_BYTES]


def seal(payload: bytes, *, context: bytes, key: bytes) -> str:
    """Write a payload as a URL-safe token under the MAC of `key`."""
    named = key_id(key) + payload
    return base64.urlsafe_b64encode(named + _mac(key, context, named)).rstrip(b"=").decode()


def named_key(token: str) -> bytes | None:
    """Id of the key under which a token was sealed, if it is one; nothing is checked yet."""
    raw = _raw(token)
    return raw[:_KEY_ID_BYTES] if raw else None


def unseal(token: str, *, context: bytes, keys: Mapping[bytes, bytes]) -> bytes | None:
    """Read a payload back.

    Args:
        token: What the sender gave.
        context: What it must have been sealed under.
        keys: Keys that are honoured, by their id.

    Returns:
        The payload; None if the token was not made here or was altered.
    """
    raw = _raw(token)
    if raw is None:
        return None
    named, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
    key = keys.get(named[:_KEY_ID_BYTES])
    if key is None or not hmac.compare_digest(_mac(key, context, named), mac):
        return None
    return named[_KEY_ID_BYTES:]


def _mac(key: bytes, context: bytes, named: bytes) -> bytes:
    return hmac.digest(key, context + named, "sha256")[:_MAC_BYTES]


def _raw(token: str) -> bytes | None:
    """Bytes of a token in its one canonical spelling; base64 alone would accept several."""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        return None
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != token:
        return None
    return raw if len(raw) > _KEY_ID_BYTES + _MAC_BYTES else None
