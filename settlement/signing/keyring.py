"""The operator's Ed25519 keys: a folder that only its owner may read.

`keyring.json` says which keys there are and for how long they sign; each private key is a PKCS #8
PEM file of its own. Keys rotate with overlap: from the rotation until the old key retires both
sign, so that each can be checked on its own. A retired key signs nothing new and stays
trusted for what it signed; a revoked key is never trusted again.

Every time is an argument; nothing here reads a clock.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from settlement.signing.signature import key_id, public_pem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INDEX: Final = "keyring.json"
_FORMAT: Final = "tongdui-keyring/1"
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600


class KeyringUnusable(Exception):  # noqa: N818 - a state of the folder, told to a person
    """The keys cannot be used; the message says what is wrong and what to do."""


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the index says about one key. Times carry a zone.

    Attributes:
        key_id: `op-` and 16 hex digits.
        public_hex: Raw public key, 64 hex digits.
        made_at: When it was made; it signs from then on.
        retires_at: From then on it signs nothing new; None while no successor is there.
        revoked_at: When it was revoked; None if it was not.
    """

    key_id: str
    public_hex: str
    made_at: datetime
    retires_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def public(self) -> Ed25519PublicKey:
        """The public key."""
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.public_hex))

    def signs_at(self, at: datetime) -> bool:
        """Tell whether the key signs new manifests at that instant."""
        return (
            self.made_at <= at
            and self.revoked_at is None
            and (self.retires_at is None or at < self.retires_at)
        )


class _Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file `keyring.json`."""

    format: str
    keys: list[KeyEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A key that is ready to sign.

    Attributes:
        key_id: Its name.
        private: The key itself; its text form is never shown.
    """

    key_id: str
    private: Ed25519PrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The keys of one folder, as they were when it was opened. Changes return a new one.

    Attributes:
        folder: Where the keys are.
        keys: All of them, oldest first.
    """

    folder: Path
    keys: tuple[KeyEntry, ...]

    @classmethod
    def create(cls, folder: Path, *, at: datetime) -> Keyring:
        """Make the folder with a first key.

        Raises:
            KeyringUnusable: There is a keyring already.
        """
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        folder.chmod(_FOLDER_MODE)
        with _locked(folder):
            if (folder / INDEX).exists():
                raise KeyringUnusable(
                    f"{folder} holds keys already; rotate instead of starting anew."
                )
            return _with_new_key(cls(folder=folder, keys=()), at)

    @classmethod
    def open(cls, folder: Path) -> Keyring:
        """Read the index.

        Raises:
            KeyringUnusable: There is none, it is damaged, or others may read the folder.
        """
        if not folder.is_dir():
            raise KeyringUnusable(
                f"There are no keys in {folder}; make some with `tongdui keys generate`."
            )
        _require_mode(folder, _FOLDER_MODE)
        try:
            index = msgspec.json.decode(_read_private_file(folder / INDEX), type=_Index)
            keyring = cls(folder=folder, keys=tuple(index.keys))
            consistent = index.format == _FORMAT and all(
                key_id(entry.public) == entry.key_id and entry.made_at.tzinfo is not None
                for entry in index.keys
            )
        except (msgspec.MsgspecError, ValueError) as error:
            raise KeyringUnusable(f"{folder / INDEX} is damaged: {error}.") from error
        if not consistent:
            raise KeyringUnusable(
                f"{folder / INDEX} is damaged: ids and keys do not belong together."
            )
        return keyring

    def entry(self, name: str) -> KeyEntry:
        """Look one key up.

        Raises:
            KeyringUnusable: There is no such key.
        """
        for entry in self.keys:
            if entry.key_id == name:
                return entry
        raise KeyringUnusable(f"There is no key {name} in {self.folder}.")

    def signers(self, at: datetime) -> list[SigningKey]:
        """Keys that sign at that instant, the active one (the newest) first.

        Raises:
            KeyringUnusable: No key signs at that instant, or a file cannot be used.
        """
        entries = [entry for entry in self.keys if entry.signs_at(at)]
        if not entries:
            raise KeyringUnusable(
                f"No key in {self.folder} signs at {at.isoformat()}; rotate to make a new one."
            )
        return [self.signing_key(entry.key_id) for entry in reversed(entries)]

    def signing_key(self, name: str) -> SigningKey:
        """Open one private key, also a retired one: a manifest that it signed may be written again.

        Raises:
            KeyringUnusable: It was revoked, is missing, damaged or readable by others.
        """
        entry = self.entry(name)
        if entry.revoked_at is not None:
            raise KeyringUnusable(f"The key {name} was revoked and signs nothing.")
        path = _key_path(self.folder, name)
        data = _read_private_file(path)
        try:
            private = load_pem_private_key(data, password=None)
        except Exception as error:
            raise KeyringUnusable(f"{path} is not a private key.") from error
        if not isinstance(private, Ed25519PrivateKey) or key_id(private.public_key()) != name:
            raise KeyringUnusable(f"{path} holds another key than its name says.")
        return SigningKey(key_id=name, private=private)

    def trusted(self) -> dict[str, Ed25519PublicKey]:
        """Public keys by id that a verifier trusts: every key but the revoked ones."""
        return {entry.key_id: entry.public for entry in self.keys if entry.revoked_at is None}

    def export(self, name: str) -> bytes:
        """Public key as PEM, for partners and for `openssl`.

        Raises:
            KeyringUnusable: There is no such key.
        """
        return public_pem(self.entry(name).public)

    def rotate(self, *, at: datetime, overlap: timedelta) -> Keyring:
        """Make a new active key; those that signed until now go on for the overlap, then retire.

        Args:
            at: When the new key begins.
            overlap: For how long the older keys sign too; zero for a hard change.

        Raises:
            KeyringUnusable: The folder cannot be used.
            ValueError: The overlap is negative.
        """
        if overlap < timedelta():
            raise ValueError(f"negative overlap: {overlap}")
        with _locked(self.folder):
            current = Keyring.open(self.folder)
            retires_at = at + overlap
            keys = tuple(
                msgspec.structs.replace(entry, retires_at=retires_at)
                if entry.retires_at is None or entry.retires_at > retires_at
                else entry
                for entry in current.keys
            )
            return _with_new_key(Keyring(folder=self.folder, keys=keys), at)

    def revoke(self, name: str, *, at: datetime) -> Keyring:
        """Withdraw trust in a key for good, and destroy its private part.

        Raises:
            KeyringUnusable: There is no such key, or the folder cannot be used.
        """
        with _locked(self.folder):
            current = Keyring.open(self.folder)
            gone = current.entry(name)
            if gone.revoked_at is not None:
                return current
            revoked = msgspec.structs.replace(gone, revoked_at=at)
            keys = tuple(revoked if entry is gone else entry for entry in current.keys)
            keyring = _write_index(Keyring(folder=self.folder, keys=keys))
            _key_path(self.folder, name).unlink(missing_ok=True)
            return keyring


def _with_new_key(keyring: Keyring, at: datetime) -> Keyring:
    """Write a new key, then the index that names it: a crash leaves at most an unused file."""
    if at.tzinfo is None:
        raise ValueError(f"a time without a zone: {at}")
    private = Ed25519PrivateKey.generate()
    name = key_id(private.public_key())
    _write_private_file(
        _key_path(keyring.folder, name),
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
    entry = KeyEntry(
        key_id=name, public_hex=private.public_key().public_bytes_raw().hex(), made_at=at
    )
    return _write_index(Keyring(folder=keyring.folder, keys=(*keyring.keys, entry)))


def _write_index(keyring: Keyring) -> Keyring:
    """Write `keyring.json`."""
    index = msgspec.json.encode(_Index(format=_FORMAT, keys=list(keyring.keys)))
    _write_private_file(keyring.folder / INDEX, msgspec.json.format(index) + b"\n")
    return keyring


def _key_path(folder: Path, name: str) -> Path:
    """Where the private part of a key is."""
    return folder / f"{name}.pem"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep two rotations from losing each other's key."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _require_mode(path: Path, mode: int) -> None:
    """Refuse a path that anybody but its owner can use.

    Raises:
        KeyringUnusable: Its permissions are wider than `mode`.
    """
    found = stat.S_IMODE(path.stat().st_mode)
    if found & ~mode:
        raise KeyringUnusable(
            f"{path} may be used by others (mode {found:04o}); run `chmod {mode:03o} {path}`, "
            "and if anybody could have read it, rotate and revoke its keys."
        )


def _read_private_file(path: Path) -> bytes:
    """Read a file that only its owner may read.

    Raises:
        KeyringUnusable: It is missing, unreadable, or others may read it.
    """
    try:
        _require_mode(path, _FILE_MODE)
        return path.read_bytes()
    except OSError as error:
        raise KeyringUnusable(f"{path} cannot be read: {error.strerror}.") from error


def _write_private_file(path: Path, data: bytes) -> None:
    """Put a file in place at once or not at all, durably, never readable by others."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
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
