"""The keys of a clearing house: a folder that only its owner may read.

`keyring.json` says which keys there are, in which role, for how long they sign, and how many roles a package needs. A
key's private part is a PKCS #8 PEM file of its own in the folder, or behind PKCS #11, or elsewhere with its signer
alone, and then only the public part is known here.

The keys of one lineage, which is one role in one kind of keeping, rotate with overlap: from the rotation until the old
key retires both sign, so that each can be checked on its own. A retired key signs nothing new and stays
trusted for what it signed; a revoked key is never trusted again.

Every time is an argument; nothing here reads a clock.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Meta

from schemas.files.manifest import OPERATOR, ROLE_PATTERN, SIGNERS_MAX, Approval, Signatory
from settlement.signing.module import SCHEME, ModuleKey
from settlement.signing.signature import (
    ALGORITHM,
    PublicKey,
    algorithm_of,
    key_id,
    public_bytes,
    public_from_bytes,
    public_pem,
)
from settlement.signing.signer import (
    KeyUnusable,
    Signer,
    SigningKey,
    make_key,
    open_key_file,
    read_private_file,
    require_mode,
    write_private_file,
)
from settlement.signing.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

INDEX: Final = "keyring.json"
FILE: Final = "file"
ELSEWHERE: Final = "elsewhere"
_FORMAT: Final = "tongdui-keyring/1"
_FOLDER_MODE: Final = 0o700


class KeyringUnusable(KeyUnusable):
    """The keys cannot be used; the message says what is wrong and what to do."""


class KeyEntry(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What the index says about one key. Times carry a zone.

    Attributes:
        key_id: `op-`, or `sm-` for SM2, and 16 hex digits.
        public_hex: Raw public key: 64 hex digits, or the 130 of SM2's point.
        made_at: When it was made; it signs from then on.
        retires_at: From then on it signs nothing new; None while no successor is there.
        revoked_at: When it was revoked; None if it was not.
        role: In which role it signs packages.
        held: Where the private part is: `file`, `elsewhere`, or an address behind PKCS #11.
    """

    key_id: str
    public_hex: str
    made_at: datetime
    retires_at: datetime | None = None
    revoked_at: datetime | None = None
    role: Annotated[str, Meta(pattern=ROLE_PATTERN)] = OPERATOR
    held: str = FILE

    @property
    def public(self) -> PublicKey:
        """The public key."""
        return public_from_bytes(bytes.fromhex(self.public_hex))

    @property
    def online(self) -> bool:
        """Whether it is one of those that sign all that the house says: the operator's Ed25519 keys in files."""
        return (
            self.role == OPERATOR and self.held == FILE and algorithm_of(self.key_id) == ALGORITHM
        )

    def signs_at(self, at: datetime) -> bool:
        """Tell whether the key signs new manifests at that instant."""
        return (
            self.made_at <= at
            and self.revoked_at is None
            and (self.retires_at is None or at < self.retires_at)
        )

    @property
    def lineage(self) -> tuple[str, str, str]:
        """What a successor of the key has in common with it: role, algorithm, and how it is kept."""
        return self.role, algorithm_of(self.key_id), self.held.partition(":")[0]


class _Index(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The file `keyring.json`."""

    format: str
    keys: list[KeyEntry]
    threshold: Annotated[int, Meta(ge=1, le=SIGNERS_MAX)] = 1
    threshold_set_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The keys of one folder, as they were when it was opened. Changes return a new one.

    Attributes:
        folder: Where the keys are.
        keys: All of them, oldest first.
        threshold: How many roles must sign a package before anything is done on its word.
        threshold_set_at: When that was said; None if it never was.
    """

    folder: Path
    keys: tuple[KeyEntry, ...]
    threshold: int = 1
    threshold_set_at: datetime | None = None

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
        _checked_mode(folder)
        try:
            index = msgspec.json.decode(_read_index(folder / INDEX), type=_Index)
            keyring = cls(
                folder=folder,
                keys=tuple(index.keys),
                threshold=index.threshold,
                threshold_set_at=index.threshold_set_at,
            )
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
        """Keys that sign all that the house says at that instant, the newest first: the operator's Ed25519 in files.

        Raises:
            KeyringUnusable: No such key signs at that instant, or a file cannot be used.
        """
        keys = [
            self.signing_key(entry.key_id)
            for entry in reversed(self.keys)
            if entry.online and entry.signs_at(at)
        ]
        if not keys:
            raise KeyringUnusable(
                f"No key in {self.folder} signs at {at.isoformat()}; rotate to make a new one."
            )
        return [key for key in keys if isinstance(key, SigningKey)]

    def roles(self, at: datetime) -> list[str]:
        """Roles that can sign at that instant, in order."""
        return sorted({entry.role for entry in self.keys if entry.signs_at(at)})

    def package_signers(self, at: datetime) -> list[str]:
        """Ids of the operator's keys that sign a package which is cut at that instant.

        The newest of Ed25519, which is the active one, comes first; SM2 keys come last.

        Raises:
            KeyringUnusable: No Ed25519 key signs at that instant.
        """
        entries = [
            entry
            for entry in reversed(self.keys)
            if entry.role == OPERATOR and entry.held != ELSEWHERE and entry.signs_at(at)
        ]
        names = sorted(
            (entry.key_id for entry in entries), key=lambda name: algorithm_of(name) != ALGORITHM
        )
        if not names or algorithm_of(names[0]) != ALGORITHM:
            raise KeyringUnusable(
                f"No key in {self.folder} signs at {at.isoformat()}; rotate to make a new one."
            )
        return names

    def approval(self, at: datetime) -> Approval | None:
        """What a package that is cut at that instant says of its signers; None where the operator's word is enough."""
        entries = [entry for entry in self.keys if entry.signs_at(at)]
        if self.threshold == 1 and all(entry.role == OPERATOR for entry in entries):
            return None
        return Approval(
            threshold=self.threshold,
            signers=sorted(
                (Signatory(key_id=entry.key_id, role=entry.role) for entry in entries),
                key=lambda one: (one.role, one.key_id),
            ),
        )

    def signing_key(self, name: str) -> Signer:
        """Open one private key, also a retired one: a manifest that it signed may be written again.

        Raises:
            KeyringUnusable: It was revoked, is elsewhere, is missing, damaged or readable by others.
        """
        entry = self.entry(name)
        if entry.revoked_at is not None:
            raise KeyringUnusable(f"The key {name} was revoked and signs nothing.")
        if entry.held == ELSEWHERE:
            raise KeyringUnusable(f"The key {name} lies with its signer, not in {self.folder}.")
        where = entry.held if entry.held.startswith(SCHEME) else str(_key_path(self.folder, name))
        key = _usable(where, self.folder, name)
        if key.key_id != name:
            raise KeyringUnusable(f"{where} holds another key than its name says.")
        return key

    def trusted(self) -> dict[str, Ed25519PublicKey]:
        """Keys by id in which all that the house says is trusted: the operator's of Ed25519, but the revoked ones."""
        return {
            entry.key_id: public
            for entry in self.keys
            if entry.role == OPERATOR
            and entry.revoked_at is None
            and isinstance(public := entry.public, Ed25519PublicKey)
        }

    def package_trust(self) -> Trust:
        """Whose signatures on packages count: every key but the revoked ones, each in its role."""
        entries = [entry for entry in self.keys if entry.revoked_at is None]
        return Trust(
            keys={entry.key_id: entry.public for entry in entries},
            roles={entry.key_id: entry.role for entry in entries},
        )

    def export(self, name: str) -> bytes:
        """Public key as PEM, for partners and for `openssl`.

        Raises:
            KeyringUnusable: There is no such key.
        """
        return public_pem(self.entry(name).public)

    def rotate(
        self,
        *,
        at: datetime,
        overlap: timedelta,
        of_sm2: bool = False,
        module: str | None = None,
    ) -> Keyring:
        """Take a new key of the operator's; its lineage's older ones sign on for the overlap, then retire.

        Args:
            at: When the new key begins.
            overlap: For how long the older keys sign too; zero for a hard change.
            of_sm2: Make a key of SM2 instead of Ed25519.
            module: Make none, take the Ed25519 key at this address behind PKCS #11.

        Raises:
            KeyringUnusable: The folder cannot be used.
            KeyUnusable: The module cannot be used.
            ValueError: The overlap is negative.
        """
        if overlap < timedelta():
            raise ValueError(f"negative overlap: {overlap}")
        with _locked(self.folder):
            current = Keyring.open(self.folder)
            if module is not None:
                key = ModuleKey.open(module)
                entry = _entry(key.public, at, held=module)
                return _write_index(_with(current, entry, retires_at=at + overlap))
            return _with_new_key(current, at, of_sm2=of_sm2, retires_at=at + overlap)

    def add(
        self,
        public: PublicKey,
        *,
        role: str,
        at: datetime,
        replaces: str | None = None,
        overlap: timedelta = timedelta(),
    ) -> Keyring:
        """Take the public key of a signer whose private key lies elsewhere.

        Args:
            public: The key.
            role: In which role its signer signs.
            at: From when it counts.
            replaces: Key of the same role that retires when the overlap is over.
            overlap: For how long that one signs on.

        Raises:
            KeyringUnusable: The key is known already, or what it replaces is unknown or of another role.
            ValueError: The overlap is negative, or the role is none.
        """
        if overlap < timedelta():
            raise ValueError(f"negative overlap: {overlap}")
        with _locked(self.folder):
            current = Keyring.open(self.folder)
            entry = _entry(public, at, role=role, held=ELSEWHERE)
            if replaces is None:
                return _write_index(_with(current, entry))
            old = current.entry(replaces)
            if old.role != role:
                raise KeyringUnusable(f"{replaces} signs as {old.role}, not as {role}.")
            return _write_index(_with(_retiring(current, [old], at + overlap), entry))

    def retire(self, name: str, *, at: datetime) -> Keyring:
        """Let a key sign nothing new; what it signed stays trusted.

        Raises:
            KeyringUnusable: There is no such key, or the house could say nothing any more.
        """
        with _locked(self.folder):
            current = Keyring.open(self.folder)
            after = _retiring(current, [current.entry(name)], at)
            if not any(entry.online and entry.signs_at(at) for entry in after.keys):
                raise KeyringUnusable(
                    f"{name} is the last that signs for the house; rotate instead."
                )
            return _write_index(_checked_threshold(after, at))

    def set_threshold(self, threshold: int, *, at: datetime) -> Keyring:
        """Say how many roles must sign a package.

        Raises:
            KeyringUnusable: There are fewer roles whose keys sign.
        """
        with _locked(self.folder):
            current = Keyring.open(self.folder)
            after = replace(current, threshold=threshold, threshold_set_at=at)
            return _write_index(_checked_threshold(after, at))

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
            keyring = _write_index(replace(current, keys=keys))
            _key_path(self.folder, name).unlink(missing_ok=True)
            return keyring


def _with(keyring: Keyring, entry: KeyEntry, *, retires_at: datetime | None = None) -> Keyring:
    """The same keys and one more, behind which the older ones of its lineage retire."""
    if any(one.key_id == entry.key_id for one in keyring.keys):
        raise KeyringUnusable(f"The key {entry.key_id} is in {keyring.folder} already.")
    known = keyring
    if retires_at is not None:
        older = [one for one in keyring.keys if one.lineage == entry.lineage]
        known = _retiring(keyring, older, retires_at)
    return replace(known, keys=(*known.keys, entry))


def _retiring(keyring: Keyring, gone: Iterable[KeyEntry], at: datetime) -> Keyring:
    """The same keys, of which some retire at `at`; no life is lengthened."""
    names = {entry.key_id for entry in gone if entry.retires_at is None or entry.retires_at > at}
    return replace(
        keyring,
        keys=tuple(
            msgspec.structs.replace(entry, retires_at=at) if entry.key_id in names else entry
            for entry in keyring.keys
        ),
    )


def _checked_threshold(keyring: Keyring, at: datetime) -> Keyring:
    """The same, if enough roles can sign."""
    roles = keyring.roles(at)
    if not 1 <= keyring.threshold <= len(roles):
        raise KeyringUnusable(
            f"{keyring.threshold} roles must sign, and keys of {len(roles)} do ({', '.join(roles)})."
        )
    return keyring


def _entry(public: PublicKey, at: datetime, *, role: str = OPERATOR, held: str = FILE) -> KeyEntry:
    if at.tzinfo is None:
        raise ValueError(f"a time without a zone: {at}")
    return KeyEntry(
        key_id=key_id(public),
        public_hex=public_bytes(public).hex(),
        made_at=at,
        role=role,
        held=held,
    )


def _with_new_key(
    keyring: Keyring, at: datetime, *, of_sm2: bool = False, retires_at: datetime | None = None
) -> Keyring:
    """Write a new key, then the index that names it: a crash leaves at most an unused file."""
    pem, key = make_key(of_sm2=of_sm2)
    entry = _entry(key.public, at)
    write_private_file(_key_path(keyring.folder, key.key_id), pem)
    return _write_index(_with(keyring, entry, retires_at=retires_at))


def _usable(where: str, folder: Path, name: str) -> Signer:
    """Open what the index names; whatever is wrong with it is wrong with the keyring."""
    try:
        return (
            ModuleKey.open(where)
            if where.startswith(SCHEME)
            else open_key_file(_key_path(folder, name))
        )
    except KeyringUnusable:
        raise
    except KeyUnusable as error:
        raise KeyringUnusable(str(error)) from error


def _write_index(keyring: Keyring) -> Keyring:
    """Write `keyring.json`."""
    index = msgspec.json.encode(
        _Index(
            format=_FORMAT,
            keys=list(keyring.keys),
            threshold=keyring.threshold,
            threshold_set_at=keyring.threshold_set_at,
        )
    )
    write_private_file(keyring.folder / INDEX, msgspec.json.format(index) + b"\n")
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


def _checked_mode(folder: Path) -> None:
    """See that the folder is its owner's alone."""
    try:
        require_mode(folder, _FOLDER_MODE)
    except KeyUnusable as error:
        raise KeyringUnusable(str(error)) from error


def _read_index(path: Path) -> bytes:
    try:
        return read_private_file(path)
    except KeyUnusable as error:
        raise KeyringUnusable(str(error)) from error
