"""The master key: the one secret from which everything sealed can be opened; it wraps the house's keys.

It lies in a file, in an environment variable, or in a hardware module that never lets it out. Which of
them is said by a reference:

    file:/absolute/path     32 bytes in hexadecimal, readable by its owner alone
    env:NAME                the same in an environment variable
    pkcs11:token=…;object=…?module-path=…     an AES key behind PKCS #11 (RFC 7512); the PIN is in TONGDUI_PIN

Wrapping is AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits, the key's name as additional data.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from settlement.signing.module import ModuleAddress, ModuleUnusable, open_session
from settlement.signing.signer import KeyUnusable

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE_NAME: Final = "master.key"
VARIABLE: Final = "TONGDUI_MASTER_KEY"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16


class MasterKeyUnusable(Exception):  # noqa: N818 - a state of the installation, told to a person
    """The master key is missing, malformed, readable by others, or not the one that wrapped; says what to do."""


class MasterKey(Protocol):
    """Wraps and unwraps; the key itself cannot be asked for."""

    @property
    def master_id(self) -> str:
        """What the key is known by; tells nothing of it."""

    def wrap(self, secret: bytes, *, name: str) -> bytes:
        """Seal a key under its name."""

    def unwrap(self, wrapped: bytes, *, name: str) -> bytes:
        """Open what `wrap` sealed.

        Raises:
            MasterKeyUnusable: It was sealed by another master key, under another name, or altered.
        """


class LocalMasterKey:
    """A master key in this process's memory."""

    def __init__(self, secret: bytes) -> None:
        """Take 32 bytes.

        Raises:
            MasterKeyUnusable: There are more or fewer.
        """
        if len(secret) != KEY_BYTES:
            raise MasterKeyUnusable(f"a master key has {KEY_BYTES} bytes, not {len(secret)}")
        self._cipher = AESGCM(secret)
        self._id = "mk-" + hashlib.sha256(b"tongdui master key\0" + secret).hexdigest()[:16]

    @property
    def master_id(self) -> str:
        """`mk-` and 16 hex digits of a digest."""
        return self._id

    def wrap(self, secret: bytes, *, name: str) -> bytes:
        """Seal a key under its name."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, name.encode())

    def unwrap(self, wrapped: bytes, *, name: str) -> bytes:
        """Open what `wrap` sealed; see `MasterKey`."""
        try:
            return self._cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError) as error:
            raise MasterKeyUnusable(f"{self._id} does not open the key {name!r}") from error


class ModuleMasterKey:
    """A master key in a hardware module; each call opens a session, since it is called at start alone."""

    def __init__(self, uri: str, *, pin: str) -> None:
        """Take the key's RFC 7512 address.

        Raises:
            MasterKeyUnusable: The address lacks a part.
        """
        try:
            self._address = ModuleAddress.parse(uri)
        except ModuleUnusable as error:
            raise MasterKeyUnusable(str(error)) from error
        self._pin = pin

    @property
    def master_id(self) -> str:
        """The module's token and the key's label."""
        return str(self._address)

    def wrap(self, secret: bytes, *, name: str) -> bytes:
        """Seal a key under its name, inside the module."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._do("encrypt", secret, nonce, name)

    def unwrap(self, wrapped: bytes, *, name: str) -> bytes:
        """Open what `wrap` sealed, inside the module; see `MasterKey`."""
        return self._do("decrypt", wrapped[NONCE_BYTES:], wrapped[:NONCE_BYTES], name)

    def _do(self, what: str, data: bytes, nonce: bytes, name: str) -> bytes:
        try:
            with open_session(self._address, pin=self._pin) as (known, session):
                key = session.get_key(
                    object_class=known.constants.ObjectClass.SECRET_KEY, label=self._address.label
                )
                done: bytes = getattr(key, what)(
                    data,
                    mechanism=known.Mechanism.AES_GCM,
                    mechanism_param=known.GCMParams(nonce, name.encode(), TAG_BYTES * 8),
                )
                return done
        except ModuleUnusable as error:
            raise MasterKeyUnusable(f"the key {name!r}, {what}: {error}") from error


def open_master_key(folder: Path, *, environment: Mapping[str, str] | None = None) -> MasterKey:
    """Open the master key that `TONGDUI_MASTER_KEY` names; without it, the file in `folder`, made if need be.

    Raises:
        MasterKeyUnusable: It cannot be used; a key that is named is never made.
    """
    known = os.environ if environment is None else environment
    named = known.get(VARIABLE, "")
    if not named:
        path = folder / FILE_NAME
        if not path.exists():
            make_master_key(path)
        return _from_file(path)
    kind, _, rest = named.partition(":")
    if kind == "file":
        return _from_file(Path(rest))
    if kind == "env" and rest:
        return LocalMasterKey(_from_hex(known.get(rest, ""), f"the environment variable {rest}"))
    if kind == "pkcs11":
        return _behind_module(named, known)
    # Not quoted: somebody may have put the key itself there.
    raise MasterKeyUnusable(f"{VARIABLE} reads file:/absolute/path, env:NAME or pkcs11:…")


def _behind_module(uri: str, known: Mapping[str, str]) -> ModuleMasterKey:
    try:
        return ModuleMasterKey(uri, pin=ModuleAddress.parse(uri).pin(known))
    except KeyUnusable as error:
        raise MasterKeyUnusable(str(error)) from error


def make_master_key(path: Path) -> None:
    """Write a new key, for its owner alone; one that is there stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(work)
    finally:
        work.unlink(missing_ok=True)


def _from_file(path: Path) -> LocalMasterKey:
    try:
        if path.stat().st_mode & 0o077:
            raise MasterKeyUnusable(f"others may read {path}: run `chmod 600` on it")
        return LocalMasterKey(_from_hex(path.read_text(), str(path)))
    except (OSError, UnicodeDecodeError) as error:
        raise MasterKeyUnusable(f"cannot read the master key in {path}: {error}") from error


def _from_hex(text: str, place: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        # Without the cause, which would quote the key.
        raise MasterKeyUnusable(f"{place} holds no key of {KEY_BYTES * 2} hex digits") from None
