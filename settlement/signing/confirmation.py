"""Confirmations as JWS in compact form (RFC 7515), signed by merchants with Ed25519."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from schemas.files.confirmation import CONFIRMATION_TYPE
from settlement.signing.signature import ALGORITHM

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

CHARS_MAX: Final = 48_000
"""A document of 500 orders has 27,000."""
_ALGORITHMS: Final = [ALGORITHM]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the protected header must say, and nothing else."""

    alg: str
    kid: str
    typ: str


class Signed(NamedTuple):
    """A document that claims to be signed by a key.

    Attributes:
        key_id: The key.
        token: The JWS.
    """

    key_id: str
    token: str


def sign_confirmation(private: Ed25519PrivateKey, key_id: str, data: bytes) -> str:
    """Sign a document.

    Args:
        private: The merchant's key.
        key_id: Under which it is registered.
        data: The document's canonical bytes.
    """
    header = {"alg": ALGORITHM, "kid": key_id, "typ": CONFIRMATION_TYPE}
    return jws.serialize_compact(header, data, OKPKey.import_key(private), algorithms=_ALGORITHMS)


def read_signed(token: str) -> Signed | None:
    """Read which key a token names; None if it is not one of the form that is made here."""
    if len(token) > CHARS_MAX or not token.isascii():
        return None
    try:
        header = msgspec.convert(jws.extract_compact(token.encode()).headers(), _Header)
    except (JoseError, ValueError, msgspec.ValidationError):
        return None
    if (header.alg, header.typ) != (ALGORITHM, CONFIRMATION_TYPE):
        return None
    return Signed(header.kid, token)


def open_signed(signed: Signed, public: Ed25519PublicKey) -> bytes | None:
    """The document's bytes, if the key signed exactly them; else None."""
    try:
        found = jws.deserialize_compact(
            signed.token, OKPKey.import_key(public), algorithms=_ALGORITHMS
        )
    except (JoseError, ValueError):
        return None
    return found.payload
