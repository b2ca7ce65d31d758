"""Adding a file to a package that stands: a further signature, or a timestamp."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from settlement.core.report import CheckFailed
from settlement.service.package_files import MANIFEST, read_whole
from settlement.service.package_folder import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def add_file(folder: Path, name: str, content: bytes, *, over: bytes) -> None:
    """Put one more file into a package, durably and at once or not at all; a cut waits meanwhile.

    Args:
        folder: The package's folder.
        name: The file.
        content: What it holds.
        over: The manifest that it belongs to.

    Raises:
        CheckFailed: Another package stands there by now.
        OSError: It cannot be written.
    """
    # Made beside the package: whoever verifies in this moment must not find a file that no manifest lists.
    fresh = folder.parent / f".{folder.name}.{name}.adding"
    with _locked(folder.parent):
        if read_whole(folder / MANIFEST) != over:
            raise CheckFailed(f"{folder} is another package by now.", f"{folder} 已是另一结算包。")
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(folder / name)
        sync_folder(folder)
        sync_folder(folder.parent)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep cuts out of a folder of packages; see `only_cutter`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
