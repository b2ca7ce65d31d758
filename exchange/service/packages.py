"""Settlement packages as they are handed out: the whole folder to the house, its own part to a merchant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from schemas.files.manifest import CYCLE_ID_PATTERN

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
