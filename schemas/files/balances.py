"""Members and their points as a CSV file: what a merchant brings when it joins, and takes when it leaves.

`member,units,expires_at`, one line for each lot, and last a line with the control totals. A file whose
totals do not add up is refused whole.

Source: schemas/FORMAT.md, "Balances".
"""

from __future__ import annotations

import csv
import re
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.files.csv_text import BOM, LINE_END, TOTAL, plain_text, text_field
from schemas.files.instant import instant_text, microseconds
from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COLUMNS: Final = ("member", "units", "expires_at")
_UNITS: Final = re.compile(r"\A[0-9]{1,15}\Z", re.ASCII)
_MEMBER: Final = re.compile(r"\A[\x21-\x7e]{1,64}\Z", re.ASCII)


class BalanceLine(NamedTuple):
    """One lot of one member.

    Attributes:
        line_no: Number of the line in the file; the header is line 1.
        member: The member's reference.
        units: Smallest units; 0 only enrols the member.
        expires_at_us: When they expire, microseconds since 1970 UTC; 0 as the programme says.
    """

    line_no: int
    member: str
    units: int
    expires_at_us: int


def read_balances(lines: Iterable[str], *, now_us: int) -> list[BalanceLine]:
    """Read a whole file; nothing of it counts before its totals have been compared.

    Args:
        lines: The file's lines, header first.
        now_us: Points that expired by then are malformed, since they cannot be given.

    Raises:
        SchemaError: A line is malformed or the totals do not add up; the path names line and field.
    """
    try:
        rows = list(csv.reader(lines, strict=True))
    except csv.Error as error:
        raise SchemaError("file", f"not a CSV file: {error}") from None
    except UnicodeDecodeError:
        raise SchemaError("file", "not UTF-8") from None
    header = [field.removeprefix(BOM) for field in rows[0]] if rows else []
    if header != list(COLUMNS):
        raise SchemaError("line 1, header", f"expected {','.join(COLUMNS)}, found {header}")
    *body, total = rows[1:] or [[]]
    if not total or total[0] != TOTAL:
        raise SchemaError(
            f"line {len(rows)}, member", f"expected {TOTAL!r} and the control totals at the end"
        )
    balances = [_line(number, row, now_us) for number, row in enumerate(body, start=2)]
    _check_totals(len(rows), total, balances)
    return balances


def write_balances(balances: Iterable[tuple[str, int, int]]) -> Iterator[str]:
    """Write what `read_balances` reads, in pieces, for a file opened with `newline=""`.

    Args:
        balances: Member, smallest units, and expiry in microseconds since 1970 UTC (0 for none).
    """
    yield BOM + ",".join(COLUMNS) + LINE_END
    lines = total = 0
    for member, units, expires_at_us in balances:
        expires = instant_text(expires_at_us) if expires_at_us else ""
        lines += 1
        total += units
        yield f"{text_field(member)},{units},{expires}{LINE_END}"
    yield f"{TOTAL},{total},{lines}{LINE_END}"


def _line(number: int, row: list[str], now_us: int) -> BalanceLine:
    if len(row) != len(COLUMNS):
        raise SchemaError(
            f"line {number}, {COLUMNS[min(len(row), len(COLUMNS) - 1)]}",
            f"expected {len(COLUMNS)} fields, found {len(row)}",
        )
    written, units, expires = row
    member = plain_text(written)
    if not _MEMBER.match(member):
        raise SchemaError(f"line {number}, member", f"not a reference: {member[:80]!r}")
    if not _UNITS.match(units) or int(units) >= AMOUNT_LIMIT:
        raise SchemaError(f"line {number}, units", f"not a whole number of units: {units[:40]!r}")
    return BalanceLine(number, member, int(units), _expiry(number, expires, now_us))


def _expiry(number: int, text: str, now_us: int) -> int:
    """An instant with a zone; 0 for an empty field."""
    if not text:
        return 0
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = datetime.min  # noqa: DTZ901 - without a zone, so the next line refuses it
    if at.tzinfo is None:
        raise SchemaError(
            f"line {number}, expires_at",
            f"not an instant such as 2027-06-30T00:00:00Z: {text[:40]!r}",
        )
    expires_at_us = microseconds(at)
    if expires_at_us <= now_us:
        raise SchemaError(f"line {number}, expires_at", f"these points have expired: {text}")
    return expires_at_us


def _check_totals(number: int, row: list[str], balances: list[BalanceLine]) -> None:
    if len(row) != len(COLUMNS):
        raise SchemaError(f"line {number}, totals", f"expected {len(COLUMNS)} fields")
    for place, name, truth in (
        (1, "units", sum(line.units for line in balances)),
        (2, "expires_at", len(balances)),
    ):
        if row[place] != str(truth):
            what = "units in all" if name == "units" else "lines"
            raise SchemaError(
                f"line {number}, {name}",
                f"the control total says {row[place][:40]!r} {what}, the lines make {truth}",
            )
