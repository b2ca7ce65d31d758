"""SM2 signatures with SM3 (GB/T 32918.2, GM/T 0009), as gateways in China ask for them.

This module reads keys and writes signatures in the forms that gateways and OpenSSL use: keys as PEM or
bare Base64 (PKCS #8, SEC 1 §C.4, or SubjectPublicKeyInfo of RFC 5480 with the curve's identifier
1.2.156.10197.1.301), a signature as the DER of (r, s).

The arithmetic is OpenSSL's where the machine has one that knows SM2 (`adapters.kit.sm2_openssl`), else
`gmalg`'s: plain Python, some 30 ms a signature and twice that to verify one, in a time that is not independent of
the key. A merchant whose calls are many needs the former.
"""

from __future__ import annotations

import functools
import secrets
from typing import Annotated, Final

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.x509 import ObjectIdentifier
from gmalg import SM2  # type: ignore[import-untyped] # it has no type information
from gmalg.errors import GMError  # type: ignore[import-untyped] # the same

from adapters.kit import sm2_openssl

USER_ID: Final = b"1234567812345678"
"""The user id that GM/T 0009 §10 prescribes where the parties agree on no other."""
_COORDINATE_BYTES: Final = 32
_ORDER: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
"""Of the curve's base point (GB/T 32918.5)."""
_EC_PUBLIC_KEY: Final = ObjectIdentifier("1.2.840.10045.2.1")
_SM2_CURVE: Final = ObjectIdentifier("1.2.156.10197.1.301")


@asn1.sequence
class _Algorithm:
    algorithm: ObjectIdentifier
    curve: ObjectIdentifier


_SM2: Final = _Algorithm(algorithm=_EC_PUBLIC_KEY, curve=_SM2_CURVE)


@asn1.sequence
class _PublicKeyInfo:
    algorithm: _Algorithm
    point: asn1.BitString


@asn1.sequence
class _PrivateKeyInfo:
    version: int
    algorithm: _Algorithm
    private_key: bytes


@asn1.sequence
class _EcPrivateKey:
    version: int
    number: bytes
    curve: Annotated[ObjectIdentifier | None, asn1.Explicit(0)]
    point: Annotated[asn1.BitString | None, asn1.Explicit(1)]


class PrivateKey:
    """Signs; its repr does not show the key."""

    __slots__ = ("_number", "_openssl", "_point")

    def __init__(self, number: bytes) -> None:
        """Take the private number: 32 bytes, big-endian.

        Raises:
            ValueError: It is not a private number of the curve.
        """
        if len(number) != _COORDINATE_BYTES or not 0 < int.from_bytes(number) < _ORDER - 1:
            raise ValueError("not a private number of the SM2 curve")
        self._number = number
        self._point: bytes = SM2().generate_pk(number)
        der = asn1.encode_der(
            _EcPrivateKey(
                version=1,
                number=number,
                curve=_SM2_CURVE,
                point=asn1.BitString(self._point, 0),
            )
        )
        self._openssl = sm2_openssl.private_key(der)

    @classmethod
    def generate(cls) -> PrivateKey:
        """Draw a key from the system's randomness."""
        return cls((1 + secrets.randbelow(_ORDER - 2)).to_bytes(_COORDINATE_BYTES))

    def public_key(self) -> PublicKey:
        """The key that verifies what this one signs."""
        return PublicKey(self._point)

    def der(self) -> bytes:
        """PKCS #8, as OpenSSL writes it."""
        point = asn1.BitString(self._point, 0)
        inner = _EcPrivateKey(version=1, number=self._number, curve=None, point=point)
        return asn1.encode_der(
            _PrivateKeyInfo(version=0, algorithm=_SM2, private_key=asn1.encode_der(inner))
        )

    def sign(self, data: bytes) -> bytes:
        """Sign exactly these bytes; the DER of (r, s)."""
        if self._openssl is not None:
            return self._openssl.sign(data, USER_ID)
        # One object of gmalg's for each signature: it hashes in a state of its own, and threads share keys.
        r, s = SM2(self._number, USER_ID, self._point).sign(data)
        return encode_dss_signature(int.from_bytes(r), int.from_bytes(s))


class PublicKey:
    """Verifies."""

    __slots__ = ("_openssl", "point")

    def __init__(self, point: bytes) -> None:
        """Take the public point: 65 bytes, uncompressed.

        Raises:
            ValueError: It is not a point of the curve.
        """
        if len(point) != 1 + 2 * _COORDINATE_BYTES or point[0] != 4:
            raise ValueError("an SM2 public key is an uncompressed point of 65 bytes")
        if not SM2().verify_pk(point):
            raise ValueError("the point does not lie on the SM2 curve")
        self.point = point
        self._openssl = sm2_openssl.public_key(self.der())

    def der(self) -> bytes:
        """SubjectPublicKeyInfo."""
        return asn1.encode_der(_PublicKeyInfo(algorithm=_SM2, point=asn1.BitString(self.point, 0)))

    def is_signed(self, data: bytes, signature: bytes) -> bool:
        """Tell whether the signature, the DER of (r, s), is this key's over exactly these bytes."""
        if self._openssl is not None:
            return self._openssl.is_signed(data, signature, USER_ID)
        try:
            r, s = decode_dss_signature(signature)
            both = r.to_bytes(_COORDINATE_BYTES), s.to_bytes(_COORDINATE_BYTES)
            return bool(SM2(uid=USER_ID, pk=self.point).verify(data, *both))
        except (ValueError, OverflowError, GMError):
            return False


@functools.lru_cache(maxsize=16)
def read_private_key(der: bytes) -> PrivateKey:
    """Read a private key from DER: PKCS #8, or SEC 1 as OpenSSL writes it; each key once, for it takes long.

    Raises:
        ValueError: It is neither, or of another curve.
    """
    try:
        info = asn1.decode_der(_PrivateKeyInfo, der)
    except ValueError:
        inner, curve = der, None
    else:
        inner, curve = info.private_key, info.algorithm.curve
    try:
        key = asn1.decode_der(_EcPrivateKey, inner)
    except ValueError as error:
        raise ValueError("not an SM2 private key") from error
    if (curve or key.curve) != _SM2_CURVE:
        raise ValueError("a private key of another curve than SM2")
    private = PrivateKey(key.number)
    if key.point is not None and key.point.as_bytes() != private.public_key().point:
        raise ValueError("the private key and the public key beside it do not belong together")
    return private


@functools.lru_cache(maxsize=16)
def read_public_key(der: bytes) -> PublicKey:
    """Read a public key from DER (SubjectPublicKeyInfo).

    Raises:
        ValueError: It is not one, or of another curve.
    """
    try:
        info = asn1.decode_der(_PublicKeyInfo, der)
    except ValueError as error:
        raise ValueError("not an SM2 public key") from error
    if (info.algorithm.algorithm, info.algorithm.curve) != (_EC_PUBLIC_KEY, _SM2_CURVE):
        raise ValueError("a public key of another curve than SM2")
    return PublicKey(info.point.as_bytes())
