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
from settlement.service.package_files import JWS, MANIFEST, SIGNATURE, STATEMENTS, signature_name
from settlement.signing.keyring import KeyringUnusable
from settlement.signing.signature import is_signed, sign, sign_jws

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from settlement.signing.keyring import Keyring, SigningKey

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

        A key that is gone signs nothing; then the signature that stands is kept, if it is good.

        Raises:
            KeyringUnusable: A signature can be neither made nor kept.
        """
        self.write(MANIFEST, manifest)
        for name in signing_keys:
            file_name = signature_name(signing_keys, name)
            try:
                key = keyring.signing_key(name)
            except KeyringUnusable:
                public = keyring.entry(name).public
                kept = self._standing(file_name)
                if kept is None or not is_signed(public, manifest, kept):
                    raise
                self.write(file_name, kept)
                if name == signing_keys[0]:
                    self.write(JWS, self._standing(JWS) or b"")
            else:
                self._sign_with(key, file_name, manifest)

    def publish(self) -> None:
        """Put the package in its place; one with the same manifest that stands there is replaced."""
        _sync_folder(self.statements)
        _sync_folder(self.work)
        old = self.target.with_name(f".{self.target.name}{_OLD_SUFFIX}")
        if self.target.exists():
            shutil.rmtree(old, ignore_errors=True)
            self.target.rename(old)
        self.work.rename(self.target)
        _sync_folder(self.target.parent)
        shutil.rmtree(old, ignore_errors=True)

    def discard(self) -> None:
        """Remove the work folder."""
        shutil.rmtree(self.work, ignore_errors=True)

    def _sign_with(self, key: SigningKey, file_name: str, manifest: bytes) -> None:
        self.write(file_name, sign(key.private, manifest))
        if file_name == SIGNATURE:
            self.write(JWS, sign_jws(key.private, manifest))

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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
