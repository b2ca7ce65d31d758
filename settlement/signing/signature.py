"""Signatures over exact bytes: raw Ed25519 (RFC 8032), SM2 with SM3 (GB/T 32918.2), detached JWS (RFC 7515, RFC 7797).

Verifying answers yes or no. Whatever a library makes of hostile bytes becomes "not valid" here.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import textwrap
from typing import TYPE_CHECKING, Final, TypeAlias

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

from adapters.kit import sm2
from adapters.kit.signers import der_in

if TYPE_CHECKING:
    from settlement.signing.signer import Signer

PublicKey: TypeAlias = Ed25519PublicKey | sm2.PublicKey
"""A key that verifies; which of both it is, its id tells."""
ALGORITHM: Final = "Ed25519"
"""Name of RFC 9864, which says which curve it is; `EdDSA` does not."""
SIGNATURE_BYTES: Final = 64
ED25519_BYTES: Final = 32
_JWS_CHARS_MAX: Final = 2_000
SM2_ALGORITHM: Final = "SM2-SM3"
_PREFIX: Final = "op-"
_SM2_PREFIX: Final = "sm-"
_HEADER_FIXED: Final = {"alg": ALGORITHM, "b64": False, "crit": ["b64"]}


def public_bytes(public: PublicKey) -> bytes:
    """Raw public key: 32 bytes of Ed25519, or the 65 of SM2's point."""
    return public.point if isinstance(public, sm2.PublicKey) else public.public_bytes_raw()


@functools.lru_cache(maxsize=64)
def public_from_bytes(raw: bytes) -> PublicKey:
    """Read what `public_bytes` wrote; each key once, since to see that a point is one of SM2's takes 40 ms.

    Raises:
        ValueError: It is no public key.
    """
    if len(raw) == ED25519_BYTES:
        return Ed25519PublicKey.from_public_bytes(raw)
    return sm2.PublicKey(raw)


def key_id(public: PublicKey) -> str:
    """Name a key by its own bytes: 16 hex digits of the SHA-256 of the raw key, behind `op-`, or `sm-` for SM2."""
    prefix = _SM2_PREFIX if isinstance(public, sm2.PublicKey) else _PREFIX
    return prefix + hashlib.sha256(public_bytes(public)).hexdigest()[:16]


def algorithm_of(name: str) -> str:
    """What a key of that id signs with."""
    return SM2_ALGORITHM if name.startswith(_SM2_PREFIX) else ALGORITHM


def public_pem(public: PublicKey) -> bytes:
    """Write a public key as PEM (SubjectPublicKeyInfo, RFC 5480 and RFC 8410), as OpenSSL reads it."""
    if isinstance(public, sm2.PublicKey):
        return write_pem("PUBLIC KEY", public.der())
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def write_pem(label: str, der: bytes) -> bytes:
    """Write DER as PEM (RFC 7468)."""
    lines = textwrap.wrap(binascii.b2a_base64(der, newline=False).decode("ascii"), 64)
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", "")).encode()


def read_public_key(data: bytes) -> PublicKey | None:
    """Read a public key of either kind from PEM; None if it is neither."""
    ed25519 = parse_public_pem(data)
    if ed25519 is not None:
        return ed25519
    try:
        return sm2.read_public_key(der_in(data))
    except ValueError:
        return None


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


def is_signed(public: PublicKey, data: bytes, signature: bytes) -> bool:
    """Tell whether the signature, raw or SM2's DER, is this key's over exactly these bytes."""
    if isinstance(public, sm2.PublicKey):
        return public.is_signed(data, signature)
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        public.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def sign_jws(signer: Signer, data: bytes) -> bytes:
    """Sign as a detached JWS with an unencoded payload (RFC 7797 §4.2, compact form).

    Made of the parts, since the key may lie where no library can ask for it.

    Args:
        signer: An Ed25519 key: SM2 has no name in JWS.
        data: What is signed.

    Returns:
        `header..signature`, ASCII without a line end; the header names the key in `kid`.
    """
    header = _encoded(msgspec.json.encode(_HEADER_FIXED | {"kid": signer.key_id}))
    return header + b".." + _encoded(signer.sign(header + b"." + data))


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


def is_jws_signed(public: PublicKey, data: bytes, token: bytes) -> bool:
    """Tell whether a detached JWS is this key's over exactly these bytes.

    Base64 has several spellings of the same bytes (RFC 4648 §3.5). joserfc takes only the canonical
    one, so no byte of the file can change unnoticed.
    """
    if isinstance(public, sm2.PublicKey) or jws_key_id(token) != key_id(public):
        return False
    try:
        jws.deserialize_compact(
            token, OKPKey.import_key(public), algorithms=[ALGORITHM], payload=data
        )
    except (JoseError, ValueError):
        return False
    return True


def _encoded(data: bytes) -> bytes:
    """Base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


_FROM_URL = bytes.maketrans(b"-_", b"+/")


def _padded(encoded: bytes) -> bytes:
    """Base64url without padding (RFC 7515 §2) in the form that the standard library reads."""
    return encoded.translate(_FROM_URL) + b"=" * (-len(encoded) % 4)
