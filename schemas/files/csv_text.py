"""CSV as every file of a package writes it: RFC 4180, UTF-8 with a mark, safe to open in a spreadsheet.

A spreadsheet takes text that begins with `=`, `+`, `-` or `@` for a formula, also out of a quoted
field. Text from outside that begins so (or with a tab, a line end, a full-width form of these, or an
apostrophe) is therefore written with an apostrophe before it. A reader takes exactly one leading
apostrophe away and has the text back; figures of our own are never touched.

Source: schemas/FORMAT.md, "CSV".
"""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, Final

from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BOM: Final = "\ufeff"
"""Byte order mark: without it, spreadsheets read Chinese text as something else."""
LINE_END: Final = "\r\n"
TOTAL: Final = "TOTAL 合计"
"""First field of a row of totals; no merchant's code holds a space."""

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .:/#-]*\Z")
_RISKY_FIRST = frozenset("=+-@\t\r\n'＝＋－＠")
_NEEDS_QUOTES = re.compile(r'[",\r\n\x00-\x1f]|^\s|\s$')


def text_field(text: str) -> str:
    """Write text from outside as one field: no formula, quoted where RFC 4180 §2 asks for it."""
    if not text or (_PLAIN.match(text) and text[-1] != " "):
        return text
    if text[0] in _RISKY_FIRST:
        text = f"'{text}"
    if _NEEDS_QUOTES.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def plain_text(field: str) -> str:
    """Take the apostrophe away that `text_field` put before a field."""
    return field.removeprefix("'")


def write_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Write a small table whose fields need no quotes.

    Args:
        header: Names of the columns.
        rows: Codes of parties and figures.
    """
    lines = [",".join(header)]
    lines.extend(",".join(map(str, row)) for row in rows)
    lines.append("")
    return (BOM + LINE_END.join(lines)).encode()


def read_table(data: bytes, header: Sequence[str]) -> list[list[str]]:
    """Read what `write_table` wrote, without the header.

    Raises:
        SchemaError: It is not UTF-8, not CSV, has another header, or a row of another length.
    """
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SchemaError("$", f"not a CSV file: {error}") from error
    if not rows or rows[0] != list(header):
        raise SchemaError("$[0]", "the header is not the one of this file")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(header):
            raise SchemaError(f"$[{number}]", f"{len(row)} fields, not {len(header)}")
    return rows[1:]
