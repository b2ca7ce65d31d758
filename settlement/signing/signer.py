"""Keys that sign, wherever they lie: one small protocol, and the two kinds that lie in files.

A private key in a file is PKCS #8 in PEM, as `openssl genpkey` writes it, and readable by its owner alone. Keys behind
PKCS #11 are in `settlement.signing.module`.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from adapters.kit import sm2
from adapters.kit.signers import der_in
from settlement.signing.signature import PublicKey, key_id, sign, write_pem

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_MODE: Final = 0o600


class KeyUnusable(Exception):  # noqa: N818 - a state of the key, told to a person
    """A key cannot be used; the message says what is wrong and what to do."""


class Signer(Protocol):
    """A key that is ready to sign; the private part itself cannot be asked for."""

    @property
    def key_id(self) -> str:
        """Its name."""

    @property
    def public(self) -> PublicKey:
        """The key that verifies what this one signs."""

    def sign(self, data: bytes) -> bytes:
        """Sign exactly these bytes: 64 raw bytes of Ed25519, or the DER of SM2's (r, s).

        Raises:
            KeyUnusable: The key's keeper does not sign now.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """An Ed25519 key in this process.

    Attributes:
        key_id: Its name.
        private: The key itself; its text form is never shown.
    """

    key_id: str
    private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> SigningKey:
        """Name a key after itself."""
        return cls(key_id=key_id(private.public_key()), private=private)

    @property
    def public(self) -> PublicKey:
        """The key that verifies what this one signs."""
        return self.private.public_key()

    def sign(self, data: bytes) -> bytes:
        """Sign exactly these bytes; see `Signer`."""
        return sign(self.private, data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sm2SigningKey:
    """An SM2 key in this process; signs with SM3 and the user id of GM/T 0009.

    Attributes:
        key_id: Its name.
        private: The key itself; its text form is never shown.
    """

    key_id: str
    private: sm2.PrivateKey = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """The key that verifies what this one signs."""
        return self.private.public_key()

    def sign(self, data: bytes) -> bytes:
        """Sign exactly these bytes; see `Signer`."""
        return self.private.sign(data)


def make_key(*, of_sm2: bool = False) -> tuple[bytes, SigningKey | Sm2SigningKey]:
    """Draw a key; its PEM (PKCS #8), and the key."""
    if of_sm2:
        drawn = sm2.PrivateKey.generate()
        key = Sm2SigningKey(key_id=key_id(drawn.public_key()), private=drawn)
        return write_pem("PRIVATE KEY", drawn.der()), key
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, SigningKey.of(private)


def read_key(pem: bytes) -> SigningKey | Sm2SigningKey | None:
    """Read a private key of either kind from PEM; None if it is neither. No error is quoted: it may quote the key."""
    try:
        private = load_pem_private_key(pem, password=None)
    except Exception:  # noqa: BLE001 - the loader's errors are many; it also knows nothing of SM2
        return _read_sm2(pem)
    if isinstance(private, Ed25519PrivateKey):
        return SigningKey.of(private)
    return None


def _read_sm2(pem: bytes) -> Sm2SigningKey | None:
    try:
        private = sm2.read_private_key(der_in(pem))
    except ValueError:
        return None
    return Sm2SigningKey(key_id=key_id(private.public_key()), private=private)


def require_mode(path: Path, mode: int = PRIVATE_MODE) -> None:
    """Refuse a path that anybody but its owner can use.

    Raises:
        KeyUnusable: Its permissions are wider than `mode`.
    """
    found = stat.S_IMODE(path.stat().st_mode)
    if found & ~mode:
        raise KeyUnusable(
            f"{path} may be used by others (mode {found:04o}); run `chmod {mode:03o} {path}`, "
            "and if anybody could have read it, rotate and revoke its keys."
        )


def read_private_file(path: Path) -> bytes:
    """Read a file that only its owner may read.

    Raises:
        KeyUnusable: It is missing, unreadable, or others may read it.
    """
    try:
        require_mode(path)
        return path.read_bytes()
    except OSError as error:
        raise KeyUnusable(f"{path} cannot be read: {error.strerror}.") from error


def open_key_file(path: Path) -> SigningKey | Sm2SigningKey:
    """Open a private key in a file.

    Raises:
        KeyUnusable: It is missing, readable by others, or no key of either kind.
    """
    key = read_key(read_private_file(path))
    if key is None:
        raise KeyUnusable(f"{path} is not a private key of Ed25519 or SM2 in PEM.")
    return key


def write_private_file(path: Path, data: bytes) -> None:
    """Put a file in place at once or not at all, durably, never readable by others."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
