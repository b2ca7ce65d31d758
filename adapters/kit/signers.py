"""The two signatures of form-and-sign gateways: RSA2 (SHA256withRSA, RFC 8017 §8.2) and SM2 with SM3.

Both travel as Base64 over exact bytes. Keys come as PEM, or as the bare Base64 of the DER that the
gateways' consoles hand out. Verifying answers yes or no, whatever the bytes are.
"""

from __future__ import annotations

import asyncio
import binascii
import functools
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Literal, ParamSpec, Protocol, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from adapters.kit import sm2
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

SignType = Literal["RSA2", "SM2"]
RSA_BITS_MIN: Final = 2048
_SM2_THREAD: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sm2")
"""Starts with the first SM2 signature."""
_PEM_BLOCK: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----([^-]*)-----END [A-Z0-9 ]+-----")


class Signer(Protocol):
    """Signs exact bytes."""

    def sign(self, data: bytes) -> str:
        """The signature, in Base64."""
        ...


class Verifier(Protocol):
    """Verifies signatures of one key."""

    def is_signed(self, data: bytes, signature: str) -> bool:
        """Tell whether the Base64 signature is this key's over exactly these bytes."""
        ...


class _RsaSigner:
    def __init__(self, private: RSAPrivateKey) -> None:
        self._private = private

    def sign(self, data: bytes) -> str:
        return _base64(self._private.sign(data, PKCS1v15(), SHA256()))


class _RsaVerifier:
    def __init__(self, public: RSAPublicKey) -> None:
        self._public = public

    def is_signed(self, data: bytes, signature: str) -> bool:
        try:
            self._public.verify(_unbase64(signature), data, PKCS1v15(), SHA256())
        except (InvalidSignature, ValueError):
            return False
        return True


class _Sm2Signer:
    def __init__(self, private: sm2.PrivateKey) -> None:
        self._private = private

    def sign(self, data: bytes) -> str:
        return _base64(self._private.sign(data))


class _Sm2Verifier:
    def __init__(self, public: sm2.PublicKey) -> None:
        self._public = public

    def is_signed(self, data: bytes, signature: str) -> bool:
        try:
            return self._public.is_signed(data, _unbase64(signature))
        except ValueError:
            return False


async def aside(
    sign_type: SignType, work: Callable[P, ResultT], /, *args: P.args, **kwargs: P.kwargs
) -> ResultT:
    """Do work that signs or verifies once; SM2's takes so long that the loop must not wait for it.

    All of it takes turns in one thread: where it is Python, more threads would do no more of it, and
    each would make the loop, and with it every other merchant's calls, wait for another turn.
    """
    if sign_type != "SM2":
        return work(*args, **kwargs)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_SM2_THREAD, functools.partial(work, *args, **kwargs))


def read_signer(sign_type: SignType, key: bytes, *, where: str) -> Signer:
    """Make a signer of a private key.

    Args:
        sign_type: RSA2 or SM2.
        key: PEM or bare Base64 of PKCS #8, or of the older PKCS #1 (RSA) and SEC 1 (SM2).
        where: Path of the field that names the key, for complaints.

    Raises:
        SchemaError: It is no private key for this kind of signature, or is too short.
    """
    try:
        if sign_type == "SM2":
            return _Sm2Signer(sm2.read_private_key(der_in(key)))
        private = _checked_private_key(der_in(key))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # What the loader complains about is not quoted: it may quote the key.
        raise SchemaError(where, f"Not a private key for {sign_type}") from None
    if not isinstance(private, RSAPrivateKey) or private.key_size < RSA_BITS_MIN:
        raise SchemaError(where, f"RSA2 needs an RSA key of at least {RSA_BITS_MIN} bits")
    return _RsaSigner(private)


def read_verifier(sign_type: SignType, key: bytes, *, where: str) -> Verifier:
    """Make a verifier of a public key.

    Args:
        sign_type: RSA2 or SM2.
        key: PEM or bare Base64 of a SubjectPublicKeyInfo.
        where: Path of the field that names the key, for complaints.

    Raises:
        SchemaError: It is no public key for this kind of signature, or is too short.
    """
    try:
        if sign_type == "SM2":
            return _Sm2Verifier(sm2.read_public_key(der_in(key)))
        public = load_der_public_key(der_in(key))
    except (ValueError, UnsupportedAlgorithm):
        raise SchemaError(where, f"Not a public key for {sign_type}") from None
    if not isinstance(public, RSAPublicKey) or public.key_size < RSA_BITS_MIN:
        raise SchemaError(where, f"RSA2 needs an RSA key of at least {RSA_BITS_MIN} bits")
    return _RsaVerifier(public)


@functools.lru_cache(maxsize=16)
def _checked_private_key(der: bytes) -> PrivateKeyTypes:
    """Read a private key once: checking that an RSA key is one takes longer than a hundred signatures."""
    return load_der_private_key(der, password=None)


def der_in(key: bytes) -> bytes:
    """The DER in PEM (the last block: OpenSSL writes the curve's parameters before it) or Base64.

    Raises:
        ValueError: It is neither.
    """
    blocks = _PEM_BLOCK.findall(key)
    if blocks:
        key = blocks[-1]
    return binascii.a2b_base64(b"".join(key.split()), strict_mode=True)


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def _unbase64(text: str) -> bytes:
    """Strict Base64.

    Raises:
        ValueError: It is not (`binascii.Error` is one).
    """
    return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
