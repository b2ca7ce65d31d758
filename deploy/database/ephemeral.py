"""A private server for as long as a benchmark or a test runs."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy.database.binaries import Binaries, ServerUnavailable
from deploy.database.embedded import EmbeddedServer

EPHEMERAL_PREFIX = "tongdui-pg-"


@contextlib.contextmanager
def ephemeral_server(
    *,
    settings: Mapping[str, str] | None = None,
    binaries: Binaries | None = None,
    under: Path | None = None,
) -> Iterator[EmbeddedServer]:
    """Use a server in a fresh folder that is removed afterwards: for benchmarks and tests.

    Args:
        settings: PostgreSQL settings over the defaults.
        binaries: The installation to use; default `find_binaries`.
        under: Folder to make it in; default /var/tmp, which lies on a disk where /tmp may be
            memory.
    """
    parent = under if under is not None else Path("/var/tmp")  # noqa: S108 - only for mkdtemp
    sweep_ephemeral(parent)
    folder = Path(tempfile.mkdtemp(prefix=EPHEMERAL_PREFIX, dir=parent))
    folder.chmod(0o755)
    server = EmbeddedServer(folder, settings=settings, binaries=binaries)
    try:
        with server:
            yield server
    finally:
        _remove_folder(folder)


def sweep_ephemeral(under: Path) -> None:
    """Stop and remove what killed runs left of `ephemeral_server` in `under`."""
    for folder in under.glob(f"{EPHEMERAL_PREFIX}*"):
        lock = folder / "users.lock"
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid() or not lock.exists():
                continue
            with (folder / "start.lock").open("ab") as start, lock.open("ab") as users:
                fcntl.flock(start, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # In use, or going away.
        with contextlib.suppress(ServerUnavailable):
            EmbeddedServer(folder).start().close()
        _remove_folder(folder)


def _remove_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):
        socket_dir = Path((folder / "socket-dir").read_text())
        if socket_dir.parent != folder:
            shutil.rmtree(socket_dir, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
