"""The files for people and banks whose bytes are committed, and how they are made.

`python -m tests.golden.renderings` writes them anew, after a wanted change of a form. Workbooks and pages
are not among them: their bytes change with every version of the libraries that write them.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import tempfile
from pathlib import Path

from schemas.files.csv_text import read_table
from schemas.files.parties import Parties, parse_parties, parties_digest
from schemas.files.renderings import Renderings
from schemas.files.tables import INSTRUCTION_COLUMNS
from settlement.service.package_reading import Package, open_package
from settlement.service.renderings import Wanted, plan_renderings, write_files
from tests.golden.packages import FIRST, FOLDER, TRUSTED

RENDERINGS_FOLDER = Path(__file__).parent / "renderings"
PARTIES = (Path(__file__).parent / "parties.toml").read_bytes()
SMALL = ("vouchers", "payments")
MERCHANTS = ("AIR", "NOODLES", "SPECTACLES")


def opened(folder: Path, *, parties: Parties | None = None) -> Package:
    """A package of which files are made."""
    return open_package(folder, trusted=TRUSTED, parties=parties)


def make(folder: Path, target: Path, **wanted) -> Renderings:
    """Write the files of a package, with the parties' file."""
    package = opened(folder, parties=parse_parties(PARTIES))
    digest = parties_digest(PARTIES)
    return write_files(plan_renderings(package, Wanted(parties_sha256=digest, **wanted)), target)


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file by the whole heading of their column."""
    head, *rows = csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""))
    return [dict(zip(head, row, strict=True)) for row in rows]


def fen(text: str) -> int:
    """Yuan with two decimals as fen."""
    assert re.fullmatch(r"-?\d+\.\d\d", text), text
    return int(text.replace(".", ""))


def payment(cycle: str, party: str) -> int:
    """What a party is paid (or pays: below 0) by the signed instructions, fen."""
    rows = read_table((FOLDER / cycle / "instructions.csv").read_bytes(), INSTRUCTION_COLUMNS)
    return next(int(row[3]) for row in rows if row[0] == party)


def _regenerate() -> None:
    with tempfile.TemporaryDirectory() as folder:
        make(FOLDER / FIRST, Path(folder) / "made", kinds=SMALL)
        shutil.rmtree(RENDERINGS_FOLDER, ignore_errors=True)
        shutil.copytree(Path(folder) / "made", RENDERINGS_FOLDER / FIRST)


if __name__ == "__main__":
    _regenerate()
