"""Reports for finance: tables with the facts and checks that are needed to read them."""

import msgspec

from schemas.files.instant import instant_text
from schemas.files.report import Cell, Form, Report, ReportColumn, ReportTable


class FactView(msgspec.Struct, frozen=True, kw_only=True):
    """What a report is of, or how it was made.

    Attributes:
        name: In English.
        chinese: In Chinese.
        text: What is said.
    """

    name: str
    chinese: str
    text: str


class CheckView(msgspec.Struct, frozen=True, kw_only=True):
    """One sum that must hold.

    Attributes:
        name: In English.
        chinese: In Chinese.
        holds: Whether it does.
        detail: The figures where it does not.
    """

    name: str
    chinese: str
    holds: bool
    detail: str


class ColumnView(msgspec.Struct, frozen=True, kw_only=True):
    """One column.

    Attributes:
        name: Its name in the rows; `_cu` and `_fen` say the unit of an amount.
        chinese: In Chinese.
        form: How people are shown it.
    """

    name: str
    chinese: str
    form: str


Row = dict[str, str | None]
"""A row by the names of its columns; amounts and counts are digits, instants RFC 3339."""


class TableView(msgspec.Struct, frozen=True, kw_only=True):
    """One table.

    Attributes:
        name: Its name.
        chinese: In Chinese.
        columns: Its columns.
        rows: Its rows.
        totals: Sums of the columns that have one; null where none has.
    """

    name: str
    chinese: str
    columns: list[ColumnView]
    rows: list[Row]
    totals: Row | None


class ReportAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A report.

    Attributes:
        report: Its name.
        title: In English.
        chinese: In Chinese.
        as_of: The instant that it is of.
        holds: Whether every check holds.
        facts: What it is of, and how it was made.
        checks: What was proven of it.
        tables: The figures; the first table is the report, the others explain it.
    """

    report: str
    title: str
    chinese: str
    as_of: str
    holds: bool
    facts: list[FactView]
    checks: list[CheckView]
    tables: list[TableView]


def report_answer(report: Report) -> ReportAnswer:
    """A report as programs get it."""
    return ReportAnswer(
        report=report.name,
        title=report.title,
        chinese=report.chinese,
        as_of=instant_text(report.as_of_us),
        holds=report.ok,
        facts=[
            FactView(name=each.name, chinese=each.chinese, text=each.text) for each in report.facts
        ],
        checks=[
            CheckView(name=each.name, chinese=each.chinese, holds=each.ok, detail=each.detail)
            for each in report.checks
        ],
        tables=[_table(each) for each in report.tables],
    )


def _table(table: ReportTable) -> TableView:
    totals = table.totals()
    return TableView(
        name=table.name,
        chinese=table.chinese,
        columns=[
            ColumnView(name=each.field, chinese=each.chinese, form=each.form.value)
            for each in table.columns
        ],
        rows=[_row(table.columns, row) for row in table.rows],
        totals=None
        if totals is None
        else {
            column.field: str(cell)
            for column, cell in zip(table.columns, totals, strict=True)
            if column.summed
        },
    )


def _row(columns: tuple[ReportColumn, ...], row: tuple[Cell, ...]) -> Row:
    return {
        column.field: _text(column.form, cell) for column, cell in zip(columns, row, strict=True)
    }


def _text(form: Form, cell: Cell) -> str | None:
    if cell is None or isinstance(cell, str):
        return cell
    return instant_text(cell) if form is Form.INSTANT else str(cell)
