"""A merchant's folder: its manifest, the files beside it, and the digest that a certificate names."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from adapters.kit.manifest import MANIFEST_FILE, Manifest, parse_manifest
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FILE_BYTES_MAX: Final = 4 * 1024 * 1024
_DIGEST_DOMAIN: Final = b"tongdui adapter folder 1\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """One merchant's folder, with its manifest already read and checked."""

    path: Path
    manifest: Manifest

    @property
    def code(self) -> str:
        """The merchant's code."""
        return self.manifest.merchant.code

    def with_settings(self, changed: dict[str, Any]) -> Folder:
        """The same folder with other settings; its digest stays that of the files."""
        return replace(self, manifest=self.manifest.with_settings(changed))

    def where(self, name: str) -> str:
        """How a complaint about a file of this folder begins."""
        return f"{self.path.name}/{name}: $"

    def text(self, name: str) -> str:
        """A file of the folder.

        Raises:
            SchemaError: It is not there, is not UTF-8, or is too large.
        """
        return _text(self.path, name)


def open_folder(path: Path) -> Folder:
    """Read a merchant's folder.

    Raises:
        SchemaError: There is no manifest in it, or the manifest is malformed.
    """
    text = _text(path, MANIFEST_FILE)
    manifest = parse_manifest(text, where=f"{path.name}/{MANIFEST_FILE}: $")
    return Folder(path=path, manifest=manifest)


def digest_of(path: Path) -> str:
    """SHA-256 of everything in a folder that decides what its adapter does, as 64 hex digits.

    Covers the relative path and the bytes of every file, in the order of the paths; caches of
    Python and hidden files are no part of it.

    Raises:
        SchemaError: A file is a symbolic link, whose target the digest would not hold.
    """
    whole = hashlib.sha256(_DIGEST_DOMAIN)
    for file in sorted(_files(path), key=lambda file: file.relative_to(path).as_posix()):
        name = file.relative_to(path).as_posix().encode()
        content = hashlib.sha256(file.read_bytes()).digest()
        whole.update(len(name).to_bytes(4, "big") + name + content)
    return whole.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    for file in path.iterdir():
        if file.name.startswith(".") or file.name == "__pycache__":
            continue
        if file.is_symlink():
            raise SchemaError(f"{path.name}/{file.name}", "A symbolic link cannot be certified")
        if file.is_dir():
            yield from _files(file)
        else:
            yield file


def _text(path: Path, name: str) -> str:
    where = f"{path.name}/{name}"
    try:
        with (path / name).open("rb") as file:
            raw = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise SchemaError(where, f"Cannot be read: {error.strerror}") from None
    if len(raw) > _FILE_BYTES_MAX:
        raise SchemaError(where, f"Larger than {_FILE_BYTES_MAX} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise SchemaError(where, "Text is not valid UTF-8") from None
