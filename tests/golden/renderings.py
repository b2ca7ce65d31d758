"""The files for people and banks whose bytes are committed, and how they are made.

`python -m tests.golden.renderings` writes them anew, after a wanted change of a form. Workbooks and pages
are not among them: their bytes change with every version of the libraries that write them.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from schemas.files.parties import Parties, parse_parties, parties_digest
from schemas.files.renderings import Renderings
from settlement.service.package_reading import Package, open_package
from settlement.service.renderings import Wanted, plan_renderings, write_files
from tests.golden.packages import FIRST, FOLDER, TRUSTED

RENDERINGS_FOLDER = Path(__file__).parent / "renderings"
PARTIES = (Path(__file__).parent / "parties.toml").read_bytes()
SMALL = ("vouchers", "payments")


def opened(folder: Path, *, parties: Parties | None = None) -> Package:
    """A package of which files are made."""
    return open_package(folder, trusted=TRUSTED, parties=parties)


def make(folder: Path, target: Path, **wanted) -> Renderings:
    """Write the files of a package, with the parties' file."""
    package = opened(folder, parties=parse_parties(PARTIES))
    digest = parties_digest(PARTIES)
    return write_files(plan_renderings(package, Wanted(parties_sha256=digest, **wanted)), target)


def _regenerate() -> None:
    with tempfile.TemporaryDirectory() as folder:
        make(FOLDER / FIRST, Path(folder) / "made", kinds=SMALL)
        shutil.rmtree(RENDERINGS_FOLDER, ignore_errors=True)
        shutil.copytree(Path(folder) / "made", RENDERINGS_FOLDER / FIRST)


if __name__ == "__main__":
    _regenerate()
