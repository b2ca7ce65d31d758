"""The key under which the seeds of one-time codes lie in the database: a file of the installation, never in a dump."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from exchange.service.access import write_once

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME: Final = "people.key"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class VaultUnusable(Exception):  # noqa: N818 - a state of the file, told to a person
    """The key file cannot be used, or is not the one that sealed; the message says what to do."""


class Vault:
    """Seals and opens short secrets, each bound to whom it belongs to (AES-256-GCM, NIST SP 800-38D)."""

    def __init__(self, folder: Path) -> None:
        """Open the key file in `folder`, and make it if there is none; several processes may start at once.

        Raises:
            VaultUnusable: It cannot be read, or others may read it.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / FILE_NAME
        if not path.exists():
            write_once(path, secrets.token_hex(_KEY_BYTES))
        try:
            if path.stat().st_mode & 0o077:
                raise VaultUnusable(f"others may read {path}: run `chmod 600` on it")
            key = bytes.fromhex(path.read_text("ascii"))
        except (OSError, ValueError) as error:
            raise VaultUnusable(f"cannot use {path}: {error}") from error
        if len(key) != _KEY_BYTES:
            raise VaultUnusable(f"{path} holds no key of {_KEY_BYTES} bytes")
        self._cipher = AESGCM(key)

    def seal(self, secret: bytes, owner: str) -> bytes:
        """Seal a secret for its owner."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, owner.encode())

    def open(self, sealed: bytes, owner: str) -> bytes:
        """Open what was sealed for this owner.

        Raises:
            VaultUnusable: It was sealed under another key or for somebody else, or was changed.
        """
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, rest, owner.encode())
        except InvalidTag as error:
            raise VaultUnusable(
                f"{FILE_NAME} is not the key that sealed for {owner}; bring it back"
            ) from error
