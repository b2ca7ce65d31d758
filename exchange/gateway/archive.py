"""A folder as a ZIP stream: nothing is compressed, nothing is kept, so memory stays flat."""

from __future__ import annotations

import asyncio
import zipfile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

PIECE_BYTES: Final = 1 << 18
_FIXED_TIME: Final = (1980, 1, 1, 0, 0, 0)
"""What was signed says when; an archive of the same files is the same bytes, whenever it is made."""


class _Outlet:
    """A file that cannot be sought: `zipfile` writes into it, and what it wrote is taken out at once."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Keep a piece until it is taken."""
        self._pieces.append(bytes(data))
        return len(data)

    def seekable(self) -> bool:
        """Never: lengths and checksums follow each file."""
        return False

    def close(self) -> None:
        """Nothing is held."""

    def flush(self) -> None:
        """Nothing waits here."""

    def take(self) -> bytes:
        """Everything since the last call."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


async def zip_stream(files: Iterable[tuple[str, Path]]) -> AsyncIterator[bytes]:
    """Yield a ZIP archive of `files` (name in the archive, path) piece by piece."""
    outlet = _Outlet()
    with zipfile.ZipFile(outlet, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files:
            info = zipfile.ZipInfo(name, date_time=_FIXED_TIME)
            info.external_attr = 0o644 << 16
            info.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(info, "w") as target:
                while piece := await asyncio.to_thread(source.read, PIECE_BYTES):
                    target.write(piece)
                    yield outlet.take()
            yield outlet.take()
    yield outlet.take()
