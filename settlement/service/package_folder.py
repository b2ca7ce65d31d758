"""A package's folder: written aside, made durable, and put in place at once.

A half-written package is never seen under its own name, whenever the process dies: the work happens
in a hidden folder beside it, which the next cut removes.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.files.manifest import FileFacts
from settlement.service.package_files import (
    JWS,
    MANIFEST,
    STATEMENTS,
    TIMESTAMP,
    further_signature_name,
    signature_name,
)
from settlement.signing.signature import is_jws_signed, is_signed, sign_jws

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from settlement.signing.keyring import Keyring

_WORK_SUFFIX: Final = ".cutting"
_OLD_SUFFIX: Final = ".replaced"


class PackageDiffers(Exception):  # noqa: N818 - a state of the folder, told to a person
    """A package that stands already is not the one that the books give; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFolder:
    """Where a package is written and where it will stand.

    Attributes:
        work: Hidden folder in which it is written.
        target: Its place.
    """

    work: Path
    target: Path

    @classmethod
    def begin(cls, out: Path, cycle_id: str) -> PackageFolder:
        """Make an empty work folder; what an earlier, broken cut left behind is removed."""
        folder = cls(work=out / f".{cycle_id}{_WORK_SUFFIX}", target=out / cycle_id)
        folder.discard()
        folder.statements.mkdir(parents=True)
        return folder

    @property
    def statements(self) -> Path:
        """Work folder of the statements."""
        return self.work / STATEMENTS

    def write(self, name: str, data: bytes) -> FileFacts:
        """Write one file durably."""
        with (self.work / name).open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return FileFacts(path=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    def require_same_or_absent(self, manifest: bytes) -> None:
        """Refuse to replace another package.

        Raises:
            PackageDiffers: A package with another manifest stands there.
        """
        standing = self.target / MANIFEST
        if self.target.exists() and (not standing.exists() or standing.read_bytes() != manifest):
            raise PackageDiffers(
                f"{self.target} holds something else than this cycle's package; move it away first."
            )

    def sign(self, manifest: bytes, signing_keys: list[str], keyring: Keyring) -> None:
        """Write the manifest and its signatures.

        A good signature that stands is kept: its key may be gone, and SM2 signs differently every time. So is what
        others added since: further signers' signatures and the timestamp.

        Raises:
            KeyringUnusable: A signature can be neither made nor kept.
            KeyUnusable: A key's keeper does not sign now.
        """
        self.write(MANIFEST, manifest)
        for name in signing_keys:
            file_name = signature_name(signing_keys, name)
            kept = self._standing(file_name)
            if kept is not None and is_signed(keyring.entry(name).public, manifest, kept):
                self.write(file_name, kept)
            else:
                self.write(file_name, keyring.signing_key(name).sign(manifest))
        self._sign_jws(manifest, keyring, signing_keys[0])
        for entry in keyring.keys:
            file_name = further_signature_name(entry.key_id)
            kept = self._standing(file_name)
            if (
                entry.key_id not in signing_keys
                and kept is not None
                and is_signed(entry.public, manifest, kept)
            ):
                self.write(file_name, kept)
        stamp = self._standing(TIMESTAMP)
        if stamp is not None:
            self.write(TIMESTAMP, stamp)

    def publish(self) -> None:
        """Put the package in its place; one with the same manifest that stands there is replaced."""
        sync_folder(self.statements)
        sync_folder(self.work)
        old = self.target.with_name(f".{self.target.name}{_OLD_SUFFIX}")
        if self.target.exists():
            shutil.rmtree(old, ignore_errors=True)
            self.target.rename(old)
        self.work.rename(self.target)
        sync_folder(self.target.parent)
        shutil.rmtree(old, ignore_errors=True)

    def discard(self) -> None:
        """Remove the work folder."""
        shutil.rmtree(self.work, ignore_errors=True)

    def _sign_jws(self, manifest: bytes, keyring: Keyring, name: str) -> None:
        """Write the active key's detached JWS; the one that stands, if its key is gone."""
        public = keyring.entry(name).public
        kept = self._standing(JWS)
        if kept is not None and is_jws_signed(public, manifest, kept):
            self.write(JWS, kept)
        else:
            self.write(JWS, sign_jws(keyring.signing_key(name), manifest))

    def _standing(self, name: str) -> bytes | None:
        path = self.target / name
        return path.read_bytes() if path.is_file() else None


@asynccontextmanager
async def only_cutter(out: Path) -> AsyncIterator[None]:
    """Let one process at a time write packages into a folder, which is made if it is missing."""
    descriptor = _open_folder(out)
    try:
        # A lock of the file system, so that other processes count too: it can only be asked.
        while not _try_lock(descriptor):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _open_folder(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync_folder(folder: Path) -> None:
    """Make durable what was put into a folder, or taken out."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
