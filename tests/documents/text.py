"""Reading the documents as data: tables, and what stands in backticks."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def table(document: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, without its head."""
    text = (ROOT / document).read_text(encoding="utf-8")
    match = re.search(rf"^#+ {re.escape(heading)}$", text, re.MULTILINE)
    assert match is not None, f"{document} has no heading {heading!r}"
    rows: list[list[str]] = []
    for line in text[match.end() :].splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            break
    assert len(rows) > 2, f"{document} has no table under {heading!r}"
    return rows[2:]


def plain(cell: str) -> str:
    """A cell without its backticks."""
    return cell.strip("`")
