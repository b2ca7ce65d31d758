"""Who a client is, and whom it trusts: Ed25519 keys in PEM files, as OpenSSL writes them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from exchange.signing.keys import make_csr, thumbprint
from settlement.signing.signature import key_id as operator_key_id
from settlement.signing.signature import parse_public_pem

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class IdentityUnusable(Exception):  # noqa: N818 - a state of a file, told to a person
    """A key file cannot be used; the message says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A key that signs requests.

    Attributes:
        private: The key; its text form is never shown.
    """

    private: Ed25519PrivateKey = field(repr=False)

    @property
    def key_id(self) -> str:
        """The id under which it is registered: its thumbprint (RFC 7638)."""
        return thumbprint(self.private.public_key())

    def csr(self, code: str) -> str:
        """The certification request that registers it for a merchant (`HOUSE` for the operator)."""
        return make_csr(self.private, code)


def make_identity(path: Path) -> Identity:
    """Make a key and write it to a file that only its owner may read.

    Raises:
        IdentityUnusable: The file exists, or cannot be written.
    """
    identity = Identity(Ed25519PrivateKey.generate())
    data = identity.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise IdentityUnusable(f"{path} cannot be made: {error.strerror}.") from error
    return identity


def load_identity(path: Path) -> Identity:
    """Read a private key (PKCS #8, as `openssl genpkey -algorithm ed25519` writes it).

    Raises:
        IdentityUnusable: It is missing, readable by others, or no such key.
    """
    try:
        mode = path.stat().st_mode & 0o777
        data = path.read_bytes()
    except OSError as error:
        raise IdentityUnusable(f"{path} cannot be read: {error.strerror}.") from error
    if mode & 0o077:
        raise IdentityUnusable(
            f"{path} may be used by others (mode {mode:04o}); run `chmod 600 {path}`."
        )
    try:
        private = load_pem_private_key(data, password=None)
    except Exception as error:
        raise IdentityUnusable(f"{path} is not a private key in PEM.") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise IdentityUnusable(f"{path} holds no Ed25519 key.")
    return Identity(private)


def load_trusted(paths: Iterable[Path]) -> dict[str, Ed25519PublicKey]:
    """Read the operator's public keys, as `tongdui keys export` writes them, by their ids.

    Raises:
        IdentityUnusable: One is missing, or no such key.
    """
    trusted: dict[str, Ed25519PublicKey] = {}
    for path in paths:
        try:
            public = parse_public_pem(path.read_bytes())
        except OSError as error:
            raise IdentityUnusable(f"{path} cannot be read: {error.strerror}.") from error
        if public is None:
            raise IdentityUnusable(f"{path} holds no Ed25519 public key in PEM.")
        trusted[operator_key_id(public)] = public
    return trusted
