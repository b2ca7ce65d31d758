"""Single-use spending codes: a member's word that points may go to one acceptor, up to a maximum.

A code is not stored when it is made. Its maximum and deadline travel in a token under a MAC; whose
points they are and where they may go is bound by the MAC without standing in the token, so a code
tells a stranger nothing. Whether it was used is decided by the writer, by the code's digest.

Source: settlement/RULES.md, rules A1 to A4.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from exchange.core import token

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSION: Final = 1
_CONTEXT: Final = b"tongdui code\0"


class Binding(NamedTuple):
    """What a code is bound to: merchant numbers and the member's surrogate."""

    issuer: int
    acceptor: int
    member_no: int


class Code(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a token says.

    Attributes:
        version: Form of the token.
        units_max: Most smallest point units; 0 for no such limit.
        value_cu_max: Most value at the acceptor before the fee, CU; 0 for no such limit.
        deadline_us: Honoured up to and including this instant, microseconds since 1970.
        nonce: Random bytes, so that no two codes are the same.
    """

    version: int
    units_max: int
    value_cu_max: int
    deadline_us: int
    nonce: bytes

    def covers(self, *, units: int, value_cu: int) -> bool:
        """Whether an order of this size is within both maxima."""
        return units <= (self.units_max or units) and value_cu <= (self.value_cu_max or value_cu)


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Code)


def make_code(*, units_max: int, value_cu_max: int, deadline_us: int, nonce: bytes) -> Code:
    """Put a code together; see `Code`."""
    return Code(_VERSION, units_max, value_cu_max, deadline_us, nonce)


def seal_code(code: Code, binding: Binding, key: bytes) -> str:
    """Write a code as a URL-safe token, bound under the MAC of `key`."""
    return token.seal(_ENCODER.encode(code), context=_context(binding), key=key)


def unseal_code(text: str, binding: Binding, keys: Mapping[bytes, bytes]) -> Code | None:
    """Read a code back.

    Args:
        text: What the sender gave.
        binding: The order's issuer, acceptor and member.
        keys: Keys that are honoured, by their id.

    Returns:
        The code, whose maxima and deadline are still to be looked at; None if it was not made
        here, was altered, or is bound to something else.
    """
    payload = token.unseal(text, context=_context(binding), keys=keys)
    if payload is None:
        return None
    try:
        code = _DECODER.decode(payload)
    except msgspec.DecodeError:
        return None
    return code if code.version == _VERSION else None


def code_digest(text: str) -> bytes:
    """What a used code is remembered by: 16 bytes of the SHA-256 of its token."""
    return hashlib.sha256(text.encode()).digest()[:16]


def _context(binding: Binding) -> bytes:
    return _CONTEXT + _ENCODER.encode(binding)
