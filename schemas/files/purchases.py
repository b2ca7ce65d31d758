"""Purchases as a CSV file: `occurred_at,member,merchant,amount_fen,discount_fen`.

Source: schemas/FORMAT.md, "Purchases".
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COLUMNS = ("occurred_at", "member", "merchant", "amount_fen", "discount_fen")
_TEXT = r'[^\s,"\x00-\x1f\x7f]{1,64}'
_AMOUNT = "[0-9]{1,13}"
_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_LINE = re.compile(
    rf"({_DAY})T([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]),({_TEXT}),({_TEXT}),({_AMOUNT}),({_AMOUNT})[\r\n]*\Z"
)
_CHECKS = (
    (re.compile(rf"{_DAY}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}\Z"), "a time as YYYY-MM-DDTHH:MM:SS"),
    (re.compile(rf"{_TEXT}\Z"), "a reference"),
    (re.compile(rf"{_TEXT}\Z"), "a code"),
    (re.compile(rf"{_AMOUNT}\Z"), "a whole number of fen"),
    (re.compile(rf"{_AMOUNT}\Z"), "a whole number of fen"),
)
"""What each column must be."""


class PurchaseLine(msgspec.Struct, frozen=True, gc=False):
    """One line: what a member bought at one merchant.

    Attributes:
        line_no: Number of the line in the file; the header is line 1.
        occurred_at_us: Till time, microseconds since 1970-01-01 UTC.
        week: Monday of that time's week, `YYYY-MM-DD`.
        member: The member's reference.
        merchant: The merchant's code.
        amount_fen: What was paid.
        discount_fen: What points of other programmes shall pay.
    """

    line_no: int
    occurred_at_us: int
    week: str
    member: str
    merchant: str
    amount_fen: int
    discount_fen: int


def parse_purchases(lines: Iterable[str]) -> Iterator[PurchaseLine]:
    """Read purchases line by line.

    Args:
        lines: The file's lines, header first.

    Raises:
        SchemaError: A line is malformed; the path names line and field, such as `line 7, amount_fen`.
            Times that decrease are malformed.
    """
    rows = iter(lines)
    header = next(rows, "").rstrip("\r\n")
    if header != ",".join(COLUMNS):
        raise SchemaError("line 1, header", f"expected {','.join(COLUMNS)}, found {header[:80]!r}")
    last_day, last_us, midnight_us, week = "", 0, 0, ""
    match = _LINE.match
    for line_no, row in enumerate(rows, start=2):
        found = match(row)
        if found is None:
            raise _fault(line_no, row)
        day, hour, minute, second, member, merchant, amount, discount = found.groups()
        if day != last_day:
            try:
                midnight_us, week = _day(day)
            except ValueError:
                raise _not_so(line_no, 0, row[:19]) from None
            last_day = day
        at_us = midnight_us + (int(hour) * 3600 + int(minute) * 60 + int(second)) * 1_000_000
        if at_us < last_us:
            raise SchemaError(
                f"line {line_no}, occurred_at", f"{row[:19]} lies before the line above"
            )
        last_us = at_us
        yield PurchaseLine(line_no, at_us, week, member, merchant, int(amount), int(discount))


def _day(text: str) -> tuple[int, str]:
    """A day's midnight in microseconds, and its week's Monday.

    Raises:
        ValueError: There is no such day.
    """
    midnight = datetime.fromisoformat(text).replace(tzinfo=UTC)
    monday = midnight - timedelta(days=midnight.weekday())
    return int(midnight.timestamp()) * 1_000_000, monday.strftime("%Y-%m-%d")


def _fault(line_no: int, row: str) -> SchemaError:
    """Say which field of a malformed line is the first that is wrong."""
    fields = row.rstrip("\r\n").split(",")
    if len(fields) != len(COLUMNS):
        return SchemaError(
            f"line {line_no}, {COLUMNS[min(len(fields), len(COLUMNS) - 1)]}",
            f"expected {len(COLUMNS)} fields, found {len(fields)}",
        )
    for place, (field, (form, _)) in enumerate(zip(fields, _CHECKS, strict=True)):
        if not form.match(field):
            return _not_so(line_no, place, field)
    # Every field has its form, so the hour, the minute or the second does not exist.
    return _not_so(line_no, 0, fields[0])


def _not_so(line_no: int, place: int, field: str) -> SchemaError:
    return SchemaError(
        f"line {line_no}, {COLUMNS[place]}", f"not {_CHECKS[place][1]}: {field[:80]!r}"
    )
