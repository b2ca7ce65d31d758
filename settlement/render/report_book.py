"""A report as an XLSX workbook (ISO/IEC 29500): a sheet of facts, then one for each table.

Totals are formulas over whole numbers, as in `settlement.render.workbook`, which says why.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Final

import xlsxwriter  # type: ignore[import-untyped]
from xlsxwriter.utility import xl_rowcol_to_cell  # type: ignore[import-untyped]

from schemas.files.report import Form
from settlement.render.workbook import FORMATS, HEAD, HEAD_POINTS, SCALES, TEXT_MAX, serial

if TYPE_CHECKING:
    from typing import Any

    from schemas.files.report import Report, ReportTable

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WIDTHS: Final = {Form.TEXT: 24, Form.COUNT: 14, Form.INSTANT: 20, Form.YUAN: 20, Form.FEN: 18}
_FACT_WIDTHS: Final = (44, 100)


def write_report_book(report: Report) -> bytes:
    """Write a report; the same report gives the same bytes."""
    target = BytesIO()
    with xlsxwriter.Workbook(target, {"in_memory": True, "strings_to_urls": False}) as book:
        created = _EPOCH + timedelta(microseconds=report.as_of_us)
        book.set_properties(
            {"title": f"{report.title} {report.chinese}", "created": created.replace(tzinfo=None)}
        )
        styles = {form: book.add_format({"num_format": FORMATS[form]}) for form in Form}
        sums = {
            form: book.add_format({"num_format": FORMATS[form], "bold": True, "top": 1})
            for form in Form
        }
        head = book.add_format(HEAD)
        for table in (*report.tables, report.facts_table()):
            _sheet(book.add_worksheet(f"{table.name} {table.chinese}"), table, head, styles, sums)
    return target.getvalue()


def _sheet(sheet: Any, table: ReportTable, head: Any, styles: Any, sums: Any) -> None:
    """Write one table."""
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(0)
    sheet.set_footer("&R&P / &N")
    sheet.freeze_panes(1, 1)
    sheet.set_row(0, HEAD_POINTS)
    facts = len(table.columns) == len(_FACT_WIDTHS) and not any(
        column.form is not Form.TEXT for column in table.columns
    )
    for place, column in enumerate(table.columns):
        sheet.set_column(place, place, _FACT_WIDTHS[place] if facts else _WIDTHS[column.form])
        sheet.write_string(0, place, column.heading, head)
    for at, row in enumerate(table.rows, 1):
        for place, (column, cell) in enumerate(zip(table.columns, row, strict=True)):
            if isinstance(cell, str):
                sheet.write_string(at, place, cell[:TEXT_MAX])
            elif cell is not None:
                sheet.write_number(at, place, _number(column.form, cell), styles[column.form])
    totals = table.totals()
    if totals is None:
        return
    row_no = len(table.rows) + 1
    for place, (column, cell) in enumerate(zip(table.columns, totals, strict=True)):
        if isinstance(cell, str):
            sheet.write_string(row_no, place, cell, sums[Form.TEXT])
        elif cell is None:
            sheet.write_blank(row_no, place, None, sums[Form.TEXT])
        else:
            scale = SCALES[column.form]
            first = xl_rowcol_to_cell(1, place)
            last = xl_rowcol_to_cell(max(1, len(table.rows)), place)
            formula = f"=SUMPRODUCT(ROUND({first}:{last}*{scale},0))/{scale}"
            if not table.rows:
                formula = "=0"
            sheet.write_formula(row_no, place, formula, sums[column.form], cell / scale)


def _number(form: Form, cell: int) -> float:
    return serial(cell) if form is Form.INSTANT else cell / SCALES[form]
