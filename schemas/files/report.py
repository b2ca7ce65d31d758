"""A report as plain tables: what every form of it (CSV, workbook, JSON) is made of.

Figures are integers in the smallest unit of their form, and sums are taken of those; a form only writes them.

Source: schemas/FORMAT.md, "Reports".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from schemas.files.csv_text import BOM, LINE_END, TOTAL, text_field
from schemas.files.instant import instant_text
from schemas.values.amounts import fen_text, yuan_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Cell = str | int | None
"""Text, a figure in the smallest unit of its column's form, or nothing."""

FACTS: Final = "facts"
"""Name of the table that says what a report is of, and which checks it passed."""


class Form(Enum):
    """How a column's values are shown."""

    TEXT = "text"
    INSTANT = "instant, Beijing time"
    COUNT = "whole number"
    YUAN = "yuan, four decimals"
    FEN = "yuan, two decimals"


_UNITS: Final = {Form.YUAN: ("_yuan", "(元)", "_cu"), Form.FEN: ("_yuan", "(元)", "_fen")}
"""Of forms with a unit: what names carry for people, in English and Chinese, and for programs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportColumn:
    """One column of a report.

    Attributes:
        name: Its English name, without a unit.
        chinese: Its Chinese name.
        form: How its values are written.
        summed: Whether the column has a total.
    """

    name: str
    chinese: str
    form: Form = Form.TEXT
    summed: bool = False

    @property
    def heading(self) -> str:
        """Both names with the unit that people read."""
        english, chinese, _ = _UNITS.get(self.form, ("", "", ""))
        return f"{self.name}{english} {self.chinese}{chinese}"

    @property
    def field(self) -> str:
        """The name with the unit in which programs get the figure."""
        return self.name + _UNITS.get(self.form, ("", "", ""))[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTable:
    """One table of a report.

    Attributes:
        name: Its name, in small letters.
        chinese: Its Chinese name.
        columns: Its columns; the first is text.
        rows: One cell for each column; no figure is missing where the column has a total.
    """

    name: str
    chinese: str
    columns: tuple[ReportColumn, ...]
    rows: Sequence[tuple[Cell, ...]]

    def totals(self) -> tuple[Cell, ...] | None:
        """The row of totals; None where no column has one."""
        if not any(column.summed for column in self.columns):
            return None
        sums: list[Cell] = [
            sum(int(row[place] or 0) for row in self.rows) if column.summed else None
            for place, column in enumerate(self.columns)
        ]
        return (TOTAL, *sums[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that a reader of the report must know: an instant, a method, a parameter."""

    name: str
    chinese: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportCheck:
    """One sum that must hold, whether it does, and the figures where it does not."""

    name: str
    chinese: str
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return not self.detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report with everything that is needed to read it.

    Attributes:
        name: What it is asked for by.
        title: Its English title.
        chinese: Its Chinese title.
        as_of_us: The instant that it is of, microseconds since 1970.
        facts: What it is of, and how it was made.
        checks: What was proven of it.
        tables: The figures; the first table is the report, the others explain it.
    """

    name: str
    title: str
    chinese: str
    as_of_us: int
    facts: tuple[Fact, ...]
    checks: tuple[ReportCheck, ...]
    tables: tuple[ReportTable, ...] = field(default_factory=tuple)

    @property
    def ok(self) -> bool:
        """Whether every sum holds."""
        return all(check.ok for check in self.checks)

    def table(self, name: str | None) -> ReportTable | None:
        """A table by its name, the first one for None; `facts` is one too. None if there is no such table."""
        if name == FACTS:
            return self.facts_table()
        for table in self.tables:
            if name in (None, table.name):
                return table
        return None

    def facts_table(self) -> ReportTable:
        """Facts and checks as a table."""
        columns = (
            ReportColumn(name="fact", chinese="项目"),
            ReportColumn(name="value", chinese="内容"),
        )
        rows = [
            ("report 报表", f"{self.title} {self.chinese}"),
            ("as_of 截至", instant_text(self.as_of_us)),
            *((f"{fact.name} {fact.chinese}", fact.text) for fact in self.facts),
            *(
                (f"{check.name} {check.chinese}", check.detail or "holds 成立")
                for check in self.checks
            ),
        ]
        return ReportTable(name=FACTS, chinese="说明", columns=columns, rows=rows)


def cell_text(form: Form, cell: Cell) -> str:
    """Write a cell for people; nothing for None."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if form is Form.YUAN:
        return yuan_text(cell)
    if form is Form.FEN:
        return fen_text(cell)
    return instant_text(cell) if form is Form.INSTANT else str(cell)


def write_report_csv(table: ReportTable) -> bytes:
    """Write one table of a report as CSV: header, rows, totals."""
    lines = [",".join(column.heading for column in table.columns), *_lines(table), ""]
    return (BOM + LINE_END.join(lines)).encode()


def _lines(table: ReportTable) -> Iterator[str]:
    totals = table.totals()
    for row in (*table.rows, *(() if totals is None else (totals,))):
        yield ",".join(
            text_field(cell) if isinstance(cell, str) else cell_text(column.form, cell)
            for column, cell in zip(table.columns, row, strict=True)
        )
