"""The day's statement of a form-and-sign gateway: CSV in its charset, with control totals.

The last row holds the number of rows and the sum of their points. A statement without it was cut; one
whose totals differ was altered, or mixes days; either is refused whole.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from adapters.kit.amount import units_of
from adapters.kit.contract import Incomplete, StatementLine

if TYPE_CHECKING:
    from adapters.kit.protocols.form_sign.settings import Settings

INSTANT: Final = "%Y-%m-%d %H:%M:%S"
"""How these gateways write an instant, in their own zone."""
_TOTAL_FIELDS: Final = 3


def read_bill(
    data: bytes, settings: Settings, *, day: dt.date, zone: str, scale: int
) -> list[StatementLine]:
    """Read one statement.

    Args:
        data: The file.
        settings: The merchant's words.
        day: The merchant's own day that was asked for.
        zone: The merchant's time zone.
        scale: Decimal places of its figures.

    Raises:
        Incomplete: A row cannot be read, or the totals are missing or differ; names the row.
    """
    try:
        text = data.decode(settings.charset)
    except UnicodeDecodeError:
        raise Incomplete("The statement is not of the charset agreed") from None
    reader = _Rows(settings, day, ZoneInfo(zone), scale)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for fields in rows:
            reader.take(fields)
    except (ValueError, csv.Error) as error:
        raise Incomplete(f"Line {rows.line_num} of the statement: {error}") from error
    return reader.lines()


class _Rows:
    """Takes row after row: the header, the movements, the totals."""

    def __init__(self, settings: Settings, day: dt.date, zone: ZoneInfo, scale: int) -> None:
        self._words = settings.statement
        self._steps = settings.statement.step_names()
        self._day = day
        self._zone = zone
        self._scale = scale
        self._columns: dict[str, int] | None = None
        self._lines: list[StatementLine] = []
        self._total: tuple[int, int] | None = None

    def take(self, fields: list[str]) -> None:
        """Take one row.

        Raises:
            ValueError: It cannot be read.
        """
        if not fields:
            return
        if self._total is not None:
            raise ValueError("it follows the totals")
        if self._columns is None:
            self._columns = self._header(fields)
        elif fields[0] == self._words.total:
            self._total = self._totals(fields)
        else:
            self._lines.append(self._line(fields, self._columns))

    def lines(self) -> list[StatementLine]:
        """The movements, if the totals say that these are all.

        Raises:
            Incomplete: They say otherwise, or there are none.
        """
        if self._total is None:
            raise Incomplete("The statement ends without its totals")
        found = len(self._lines), sum(line.units for line in self._lines)
        if self._total != found:
            raise Incomplete(
                f"The statement's totals are {self._total[0]} rows and {self._total[1]} units; "
                f"its rows are {found[0]} and make {found[1]}"
            )
        return self._lines

    def _header(self, fields: list[str]) -> dict[str, int]:
        words = self._words
        wanted = (
            words.reference,
            words.step,
            words.member,
            words.amount,
            words.booked,
            words.number,
        )
        for name in wanted:
            if fields.count(name) != 1:
                raise ValueError(f"expected one column {name!r}")
        return {name: fields.index(name) for name in wanted}

    def _totals(self, fields: list[str]) -> tuple[int, int]:
        if len(fields) != _TOTAL_FIELDS:
            raise ValueError(f"the totals have {len(fields)} fields, not {_TOTAL_FIELDS}")
        return units_of(fields[1], 0), units_of(fields[2], self._scale)

    def _line(self, fields: list[str], columns: dict[str, int]) -> StatementLine:
        words = self._words
        if len(fields) <= max(columns.values()):
            raise ValueError(f"it has {len(fields)} fields only")
        step = self._steps.get(fields[columns[words.step]])
        if step is None:
            raise ValueError(f"the column {words.step!r} holds no kind that is known")
        reference = fields[columns[words.reference]].strip()
        member = fields[columns[words.member]].strip()
        if not reference or not member:
            raise ValueError("it names no call or no member")
        units = units_of(fields[columns[words.amount]].strip(), self._scale)
        booked = fields[columns[words.booked]].strip()
        local = dt.datetime.strptime(booked, INSTANT).replace(tzinfo=self._zone)
        if units == 0 or local.date() != self._day:
            raise ValueError("it moves nothing, or is of another day")
        return StatementLine(
            reference=reference,
            step=step,
            member=member,
            units=units,
            at_us=int(local.timestamp()) * 1_000_000,
            number=fields[columns[words.number]].strip(),
        )
