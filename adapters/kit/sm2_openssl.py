"""SM2 signatures by the machine's own OpenSSL 3, where there is one that knows them.

It signs in a millisecond where plain Python needs 30, and other threads run meanwhile.
Python's own `ssl` needs the same library, so on Linux it is nearly always there; a build without SM2,
or a Python with OpenSSL inside it, has none: then there is no key, and `adapters.kit.sm2` does it itself.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_LIBRARY: Final = "libcrypto.so.3"
_SIGNATURE_BYTES_MAX: Final = 80
_pointer = ctypes.c_void_p
_size = ctypes.c_size_t
_PROTOTYPES: Final[dict[str, tuple[Any, ...]]] = {
    # Name: result, then arguments (OpenSSL 3.0 manual pages, sections of the same names).
    "EVP_sm3": (_pointer,),
    "d2i_AutoPrivateKey": (_pointer, _pointer, ctypes.POINTER(ctypes.c_char_p), ctypes.c_long),
    "d2i_PUBKEY": (_pointer, _pointer, ctypes.POINTER(ctypes.c_char_p), ctypes.c_long),
    "EVP_PKEY_is_a": (ctypes.c_int, _pointer, ctypes.c_char_p),
    "EVP_PKEY_free": (None, _pointer),
    "EVP_PKEY_CTX_new": (_pointer, _pointer, _pointer),
    "EVP_PKEY_CTX_set1_id": (ctypes.c_int, _pointer, ctypes.c_char_p, ctypes.c_int),
    "EVP_PKEY_CTX_free": (None, _pointer),
    "EVP_MD_CTX_new": (_pointer,),
    "EVP_MD_CTX_set_pkey_ctx": (None, _pointer, _pointer),
    "EVP_MD_CTX_free": (None, _pointer),
    "EVP_DigestSignInit": (ctypes.c_int, _pointer, _pointer, _pointer, _pointer, _pointer),
    "EVP_DigestSign": (
        ctypes.c_int,
        _pointer,
        ctypes.c_char_p,
        ctypes.POINTER(_size),
        ctypes.c_char_p,
        _size,
    ),
    "EVP_DigestVerifyInit": (ctypes.c_int, _pointer, _pointer, _pointer, _pointer, _pointer),
    "EVP_DigestVerify": (ctypes.c_int, _pointer, ctypes.c_char_p, _size, ctypes.c_char_p, _size),
    "ERR_clear_error": (None,),
}


class Key:
    """A key in OpenSSL's memory; many threads may use it at once."""

    def __init__(self, library: ctypes.CDLL, handle: int) -> None:
        """Take over a key, which is freed with this object."""
        self._library = library
        self._handle = handle
        weakref.finalize(self, library.EVP_PKEY_free, handle)

    def sign(self, data: bytes, user_id: bytes) -> bytes:
        """Sign exactly these bytes; the DER of (r, s).

        Raises:
            RuntimeError: OpenSSL could not, as with a public key.
        """
        signature = ctypes.create_string_buffer(_SIGNATURE_BYTES_MAX)
        length = _size(_SIGNATURE_BYTES_MAX)
        with ExitStack() as stack:
            context = self._context(stack, user_id, self._library.EVP_DigestSignInit)
            done = self._library.EVP_DigestSign(
                context, signature, ctypes.byref(length), data, len(data)
            )
        self._library.ERR_clear_error()
        if done != 1:
            raise RuntimeError("OpenSSL does not sign with this key")
        return signature.raw[: length.value]

    def is_signed(self, data: bytes, signature: bytes, user_id: bytes) -> bool:
        """Tell whether the signature, the DER of (r, s), is this key's over exactly these bytes."""
        with ExitStack() as stack:
            context = self._context(stack, user_id, self._library.EVP_DigestVerifyInit)
            done = self._library.EVP_DigestVerify(
                context, signature, len(signature), data, len(data)
            )
        self._library.ERR_clear_error()
        return bool(done == 1)

    def _context(self, stack: ExitStack, user_id: bytes, begin: Callable[..., int]) -> int:
        """A digest context with the user id; freed with the stack.

        Raises:
            RuntimeError: OpenSSL made none.
        """
        library = self._library
        digest: int | None = library.EVP_MD_CTX_new()
        stack.callback(library.EVP_MD_CTX_free, digest)
        inner: int | None = library.EVP_PKEY_CTX_new(self._handle, None)
        stack.callback(library.EVP_PKEY_CTX_free, inner)
        if digest is None or inner is None:
            raise RuntimeError("OpenSSL has no memory")
        named = library.EVP_PKEY_CTX_set1_id(inner, user_id, len(user_id))
        library.EVP_MD_CTX_set_pkey_ctx(digest, inner)
        if named != 1 or begin(digest, None, library.EVP_sm3(), None, self._handle) != 1:
            raise RuntimeError("OpenSSL does not know SM2 with SM3")
        return digest


def private_key(der: bytes) -> Key | None:
    """A private key from SEC 1 or PKCS #8; None if there is no OpenSSL that can use it."""
    return _key("d2i_AutoPrivateKey", der)


def public_key(der: bytes) -> Key | None:
    """A public key from SubjectPublicKeyInfo; None if there is no OpenSSL that can use it."""
    return _key("d2i_PUBKEY", der)


def _key(reader: str, der: bytes) -> Key | None:
    library = _library()
    if library is None:
        return None
    begin = ctypes.c_char_p(der)
    handle = getattr(library, reader)(None, ctypes.byref(begin), len(der))
    library.ERR_clear_error()
    if handle is None:
        return None
    key = Key(library, handle)
    return key if library.EVP_PKEY_is_a(handle, b"SM2") == 1 else None


@functools.cache
def _library() -> ctypes.CDLL | None:
    """The library, with every function that is needed; None if there is none like that."""
    try:
        library = ctypes.CDLL(_LIBRARY)
        for name, (result, *arguments) in _PROTOTYPES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    return library
