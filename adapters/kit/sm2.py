"""SM2 signatures with SM3 (GB/T 32918.2, GM/T 0009), as gateways in China ask for them.

The curve's arithmetic is `gmalg`'s; this module reads keys and writes signatures in the forms that
gateways and OpenSSL use: keys as PEM or bare Base64 (PKCS #8, SEC 1 §C.4, or SubjectPublicKeyInfo of
RFC 5480 with the curve's identifier 1.2.156.10197.1.301), a signature as the DER of (r, s).

`gmalg` is plain Python: 25 ms a signature and 55 ms to verify one on a slow core, and the time is
not independent of the key. A merchant whose calls are many, or whose host may be listened to, keeps
its SM2 key in a device and puts its own signer in the place of this one.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Annotated, Final

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.x509 import ObjectIdentifier
from gmalg import SM2  # type: ignore[import-untyped] # it has no type information
from gmalg.errors import GMError  # type: ignore[import-untyped] # the same

if TYPE_CHECKING:
    from collections.abc import Callable

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

    __slots__ = ("_draw_bits", "_number", "_point")

    def __init__(
        self, number: bytes, *, draw_bits: Callable[[int], int] = secrets.randbits
    ) -> None:
        """Take the private number.

        Args:
            number: Its 32 bytes, big-endian.
            draw_bits: Draws that many random bits; only a simulation gives another one, since a
                signature whose draw is known gives the key away.

        Raises:
            ValueError: It is not a private number of the curve.
        """
        if len(number) != _COORDINATE_BYTES or not 0 < int.from_bytes(number) < _ORDER - 1:
            raise ValueError("not a private number of the SM2 curve")
        self._number = number
        self._draw_bits = draw_bits
        self._point: bytes = SM2().generate_pk(number)

    def public_key(self) -> PublicKey:
        """The key that verifies what this one signs."""
        return PublicKey(self._point)

    def sign(self, data: bytes) -> bytes:
        """Sign exactly these bytes; the DER of (r, s)."""
        # One object of gmalg's for each signature: it hashes in a state of its own, and threads share keys.
        r, s = SM2(self._number, USER_ID, self._point, rnd_fn=self._draw_bits).sign(data)
        return encode_dss_signature(int.from_bytes(r), int.from_bytes(s))


class PublicKey:
    """Verifies."""

    __slots__ = ("point",)

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

    def is_signed(self, data: bytes, signature: bytes) -> bool:
        """Tell whether the signature, the DER of (r, s), is this key's over exactly these bytes."""
        try:
            r, s = decode_dss_signature(signature)
            both = r.to_bytes(_COORDINATE_BYTES), s.to_bytes(_COORDINATE_BYTES)
            return bool(SM2(uid=USER_ID, pk=self.point).verify(data, *both))
        except (ValueError, OverflowError, GMError):
            return False


def read_private_key(
    der: bytes, *, draw_bits: Callable[[int], int] = secrets.randbits
) -> PrivateKey:
    """Read a private key from DER: PKCS #8, or SEC 1 as OpenSSL writes it.

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
    private = PrivateKey(key.number, draw_bits=draw_bits)
    if key.point is not None and key.point.as_bytes() != private.public_key().point:
        raise ValueError("the private key and the public key beside it do not belong together")
    return private


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
