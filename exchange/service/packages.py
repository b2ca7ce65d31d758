"""Settlement packages as they are handed out: the whole folder to the house, its own part to a merchant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.files.manifest import CYCLE_ID_PATTERN
from schemas.files.renderings import RENDERINGS, read_renderings
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from pathlib import Path

_CYCLE_ID: Final = re.compile(CYCLE_ID_PATTERN)
_FOR_ALL: Final = re.compile(r"\A(manifest\..+|positions\.csv|instructions\.csv)\Z")


def package_files(packages: Path, *, cycle: str, merchant: str | None) -> list[tuple[str, Path]]:
    """List what a caller gets of a cycle's package.

    Args:
        packages: Folder of all packages.
        cycle: The cycle's id, as the caller gave it.
        merchant: Code of the merchant, which gets the manifest, its signatures, positions, instructions and
            its own statements; None for the house, which gets everything.

    Returns:
        Names inside the package and where the files are, sorted; empty if there is no such package.
    """
    if not _CYCLE_ID.match(cycle):
        return []
    folder = packages / cycle
    if not (folder / "manifest.json").is_file():
        return []
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    named = [(path.relative_to(folder).as_posix(), path) for path in files]
    if merchant is None:
        return named
    # A code may itself contain dots, so only what stands before the last one is compared.
    own = f"statements/{merchant}"
    return [
        (name, path)
        for name, path in named
        if _FOR_ALL.match(name) or name.rpartition(".")[0] == own
    ]


class BatchFile(NamedTuple):
    """A file that can be fetched.

    Attributes:
        path: Where it is.
        size: Its length in bytes.
        signed: Whether it is part of the signed package; else it was made of it.
    """

    path: Path
    size: int
    signed: bool


def batch_files(
    packages: Path, *, cycle: str, manifest_sha256: str, merchant: str | None
) -> dict[str, BatchFile]:
    """List the files of a batch, one by one: those of the package, and what was made of it for a merchant.

    What the house makes for merchants (`tongdui package render`) is handed out if it lies in the folder `renderings`
    beside that of the packages, under the cycle's id, and names exactly this batch's manifest.

    Args:
        packages: Folder of all packages.
        cycle: The cycle's id.
        manifest_sha256: Digest of the batch's manifest.
        merchant: Code of the merchant; None for the house.

    Returns:
        By the last part of its name, which is unique: merchants' codes have capital letters.
    """
    found = {
        name.rpartition("/")[2]: BatchFile(path, path.stat().st_size, signed=True)
        for name, path in package_files(packages, cycle=cycle, merchant=merchant)
    }
    made = packages.parent / "renderings" / cycle
    if merchant is None or not _made_of(made, manifest_sha256):
        return found
    return {
        path.name: BatchFile(path, path.stat().st_size, signed=False)
        for path in (made / merchant).glob("*")
        if path.is_file()
    } | found


def _made_of(folder: Path, manifest_sha256: str) -> bool:
    """Whether the files in a folder were made of this batch."""
    try:
        listed = read_renderings((folder / RENDERINGS).read_bytes())
    except (OSError, SchemaError):
        return False
    return listed.manifest_sha256 == manifest_sha256
