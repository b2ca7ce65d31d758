"""Signatures over exact bytes: raw Ed25519 (RFC 8032) and detached JWS (RFC 7515, RFC 7797).

Verifying answers yes or no. Whatever a library makes of hostile bytes becomes "not valid" here.
"""

from __future__ import annotations

import binascii
import hashlib
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

ALGORITHM: Final = "Ed25519"
"""Name of RFC 9864, which says which curve it is; `EdDSA` does not."""
SIGNATURE_BYTES: Final = 64
_JWS_CHARS_MAX: Final = 2_000
_KEY_ID_PREFIX: Final = "op-"
_HEADER_FIXED: Final = {"alg": ALGORITHM, "b64": False, "crit": ["b64"]}


def key_id(public: Ed25519PublicKey) -> str:
    """Name a key by its own bytes: `op-` and 16 hex digits of the SHA-256 of the raw public key."""
    return _KEY_ID_PREFIX + hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def public_pem(public: Ed25519PublicKey) -> bytes:
    """Write a public key as PEM (SubjectPublicKeyInfo, RFC 8410), as OpenSSL reads it."""
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def parse_public_pem(data: bytes) -> Ed25519PublicKey | None:
    """Read a public key from PEM; None if it is not an Ed25519 key."""
    try:
        public = load_pem_public_key(data)
    except ValueError:
        return None
    except Exception:  # noqa: BLE001 - the loader's errors are many (UnsupportedAlgorithm, …); each means: no key
        return None
    return public if isinstance(public, Ed25519PublicKey) else None


def sign(private: Ed25519PrivateKey, data: bytes) -> bytes:
    """Sign exactly these bytes; 64 bytes, the same for every repetition."""
    return private.sign(data)


def is_signed(public: Ed25519PublicKey, data: bytes, signature: bytes) -> bool:
    """Tell whether the signature is this key's over exactly these bytes."""
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        public.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def sign_jws(private: Ed25519PrivateKey, data: bytes) -> bytes:
    """Sign as a detached JWS with an unencoded payload (RFC 7797 §4.2, compact form).

    Returns:
        `header..signature`, ASCII without a line end; the header names the key in `kid`.
    """
    header = _HEADER_FIXED | {"kid": key_id(private.public_key())}
    token = jws.serialize_compact(header, data, OKPKey.import_key(private), algorithms=[ALGORITHM])
    encoded_header, _, rest = token.partition(".")
    return f"{encoded_header}..{rest.rpartition('.')[2]}".encode("ascii")


def jws_key_id(token: bytes) -> str | None:
    """Read which key a detached JWS names; None if it is not one in the form that is made here."""
    parts = token.split(b".")
    if len(token) > _JWS_CHARS_MAX or len(parts) != 3 or parts[1]:
        return None
    try:
        header = msgspec.json.decode(binascii.a2b_base64(_padded(parts[0]), strict_mode=True))
    except (msgspec.DecodeError, binascii.Error, ValueError):
        return None
    if not isinstance(header, dict) or not isinstance(header.get("kid"), str):
        return None
    kid: str = header["kid"]
    return kid if header == _HEADER_FIXED | {"kid": kid} else None


def is_jws_signed(public: Ed25519PublicKey, data: bytes, token: bytes) -> bool:
    """Tell whether a detached JWS is this key's over exactly these bytes.

    Base64 has several spellings of the same bytes (RFC 4648 §3.5). joserfc takes only the canonical
    one, so no byte of the file can change unnoticed.
    """
    if jws_key_id(token) != key_id(public):
        return False
    try:
        jws.deserialize_compact(
            token, OKPKey.import_key(public), algorithms=[ALGORITHM], payload=data
        )
    except (JoseError, ValueError):
        return False
    return True


_FROM_URL = bytes.maketrans(b"-_", b"+/")


def _padded(encoded: bytes) -> bytes:
    """Base64url without padding (RFC 7515 §2) in the form that the standard library reads."""
    return encoded.translate(_FROM_URL) + b"=" * (-len(encoded) % 4)
