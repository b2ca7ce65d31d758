"""Purchases as a CSV file: `occurred_at,member,merchant,amount_fen,discount_fen`.

Source: schemas/FORMAT.md, "Purchases".
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COLUMNS = ("occurred_at", "member", "merchant", "amount_fen", "discount_fen")
_TIME = re.compile(r"\A\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\Z", re.ASCII)
_AMOUNT = re.compile(r"\A[0-9]{1,13}\Z", re.ASCII)
_TEXT = re.compile(r'\A[^\s,"\x00-\x1f\x7f]{1,64}\Z')


class PurchaseLine(NamedTuple):
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
    last_text, last_us, week = "", 0, ""
    for line_no, row in enumerate(rows, start=2):
        fields = row.rstrip("\r\n").split(",")
        if len(fields) != len(COLUMNS):
            raise SchemaError(
                f"line {line_no}, {COLUMNS[min(len(fields), len(COLUMNS) - 1)]}",
                f"expected {len(COLUMNS)} fields, found {len(fields)}",
            )
        text, member, merchant, amount, discount = fields
        if text != last_text:
            occurred_at_us, week = _instant(line_no, text)
            if occurred_at_us < last_us:
                raise SchemaError(
                    f"line {line_no}, occurred_at",
                    f"{text} lies before the line above ({last_text})",
                )
            last_text, last_us = text, occurred_at_us
        if not _TEXT.match(member):
            raise SchemaError(f"line {line_no}, member", f"not a reference: {member[:80]!r}")
        if not _TEXT.match(merchant):
            raise SchemaError(f"line {line_no}, merchant", f"not a code: {merchant[:80]!r}")
        if not _AMOUNT.match(amount):
            raise SchemaError(
                f"line {line_no}, amount_fen", f"not a whole number of fen: {amount[:80]!r}"
            )
        if not _AMOUNT.match(discount):
            raise SchemaError(
                f"line {line_no}, discount_fen", f"not a whole number of fen: {discount[:80]!r}"
            )
        yield PurchaseLine(line_no, last_us, week, member, merchant, int(amount), int(discount))


def _instant(line_no: int, text: str) -> tuple[int, str]:
    """Read a time as UTC; gives it in microseconds, and its week's Monday."""
    if not _TIME.match(text):
        raise _not_a_time(line_no, text)
    try:
        midnight_us, week = _day(text[:10])
    except ValueError:
        raise _not_a_time(line_no, text) from None
    hour, minute, second = int(text[11:13]), int(text[14:16]), int(text[17:])
    if hour > 23 or minute > 59 or second > 59:
        raise _not_a_time(line_no, text)
    return midnight_us + (hour * 3600 + minute * 60 + second) * 1_000_000, week


@lru_cache(maxsize=64)
def _day(text: str) -> tuple[int, str]:
    """A day's midnight in microseconds, and its week's Monday; days repeat line after line.

    Raises:
        ValueError: There is no such day.
    """
    midnight = datetime.fromisoformat(text).replace(tzinfo=UTC)
    monday = midnight - timedelta(days=midnight.weekday())
    return int(midnight.timestamp()) * 1_000_000, monday.strftime("%Y-%m-%d")


def _not_a_time(line_no: int, text: str) -> SchemaError:
    return SchemaError(
        f"line {line_no}, occurred_at", f"not a time as YYYY-MM-DDTHH:MM:SS: {text[:80]!r}"
    )
