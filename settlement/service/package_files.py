"""Reading the files of a package that somebody else may have made."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Final

from settlement.core.report import CheckFailed

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
JWS: Final = "manifest.jws"
TIMESTAMP: Final = "manifest.tsr"
STATEMENTS: Final = "statements"
TABLE_BYTES_MAX: Final = 256 * 1024 * 1024
"""No manifest and no table is longer; statements, which may be, are streamed."""
SIGNATURE_BYTES_MAX: Final = 64 * 1024


def signature_name(signing_keys: list[str], name: str) -> str:
    """File name of one signer's raw signature: the active key's is `manifest.sig`."""
    return SIGNATURE if name == signing_keys[0] else further_signature_name(name)


def further_signature_name(name: str) -> str:
    """File name of the raw signature of any signer but the active key."""
    return f"manifest.{name}.sig"


def read_whole(path: Path, *, limit: int = TABLE_BYTES_MAX) -> bytes:
    """Read a file that is small by its nature.

    Raises:
        CheckFailed: It is larger than any file of its kind.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise CheckFailed(f"{path.name} is too long.", f"{path.name} 过长。")
    return data


def length_and_digest(path: Path) -> tuple[int, str]:
    """Length and SHA-256 of a file, streamed."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def names_in(folder: Path) -> set[str]:
    """Name of everything in a package; what is no regular file says so in its name."""
    found: set[str] = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == STATEMENTS and entry.is_dir(follow_symlinks=False):
                with os.scandir(entry) as inner:
                    found.update(f"{STATEMENTS}/{_name(one)}" for one in inner)
            else:
                found.add(_name(entry))
    return found


def _name(entry: os.DirEntry[str]) -> str:
    regular = stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode)
    return entry.name if regular else f"{entry.name} (not a regular file)"
