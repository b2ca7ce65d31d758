"""A merchant's statement as an XLSX workbook (ISO/IEC 29500).

Sheets: summary, subtotals by legal entity and outlet, and the lines, a million on each sheet. Totals
are formulas over the cells, with the signed figures beside them and the difference, which is 0.

A cell holds a double. Every amount that fits the books has at most 15 digits, so it is shown exactly,
but a sum of many could be off. The formulas therefore add whole numbers (`ROUND(cell*10000, 0)`),
which doubles add exactly, and divide once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import xlsxwriter  # type: ignore[import-untyped]
from xlsxwriter.utility import xl_rowcol_to_cell  # type: ignore[import-untyped]

from schemas.files.report import Form
from schemas.files.statement import ACCEPTOR, ISSUER
from schemas.values.amounts import CU_PER_YUAN
from settlement.render.batch import BEIJING_US
from settlement.render.columns import KIND_NAMES, LINE_COLUMNS, ROLE_NAMES, SUM_COLUMNS
from settlement.render.facts import beside_name, facts
from settlement.render.rows import Sums

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any

    from settlement.render.batch import Batch
    from settlement.render.rows import Row, Survey

LINES_A_SHEET: Final = 1_000_000
"""A sheet has 1,048,576 rows (ISO/IEC 29500-1 §18.3.1.73)."""
_FEN_PER_YUAN: Final = 100
_DAY_US: Final = 86_400_000_000
_A4: Final = 9
TEXT_MAX: Final = 32_767
"""A cell holds no longer text (ISO/IEC 29500-1 §18.4.12)."""
_DAYS_TO_1970: Final = 25_569
"""Days from the serial number 0 of spreadsheets to 1970-01-01."""
FORMATS: Final = {
    Form.TEXT: "@",
    Form.INSTANT: "yyyy-mm-dd hh:mm:ss",
    Form.COUNT: "#,##0",
    Form.YUAN: "#,##0.0000",
    Form.FEN: "#,##0.00",
}
HEAD: Final = {
    "bold": True, "text_wrap": True, "valign": "top", "bottom": 1, "bg_color": "#DDE6F0",
}  # fmt: skip
HEAD_POINTS: Final = 32
"""Height of a row of headings: two lines, since nothing makes a row higher that is written as it comes."""
SCALES: Final = {Form.COUNT: 1, Form.YUAN: CU_PER_YUAN, Form.FEN: _FEN_PER_YUAN}
_SUMMED: Final = tuple(heading.split(" ")[0] for heading, _ in SUM_COLUMNS[1:])
_PLACES: Final = {column.name: place for place, column in enumerate(LINE_COLUMNS)}


def write_workbook(
    path: Path,
    *,
    batch: Batch,
    merchant: str,
    survey: Survey,
    rows: Iterable[Row],
    lines_a_sheet: int = LINES_A_SHEET,
) -> None:
    """Write a statement.

    Args:
        path: The file; its folder exists.
        batch: The signed batch.
        merchant: Whose statement it is.
        survey: Its sums.
        rows: Its lines, streamed.
        lines_a_sheet: Where the lines go on on another sheet.
    """
    # Rows go to disk as they are written; text stands in the cells, so that no table of it grows.
    options = {"constant_memory": True, "strings_to_urls": False, "tmpdir": str(path.parent)}
    with xlsxwriter.Workbook(str(path), options) as book:
        _Book(book, batch, merchant, survey, lines_a_sheet).write(rows)


class _Book:
    """One workbook under way."""

    def __init__(
        self, book: Any, batch: Batch, merchant: str, survey: Survey, lines_a_sheet: int
    ) -> None:
        self._book = book
        self._batch = batch
        self._merchant = merchant
        self._survey = survey
        self._lines_a_sheet = lines_a_sheet
        self._formats = {form: book.add_format({"num_format": FORMATS[form]}) for form in Form}
        self._sums = {
            form: book.add_format({"num_format": FORMATS[form], "bold": True, "top": 1})
            for form in Form
        }
        self._head = book.add_format(HEAD)
        self._figure_head = book.add_format(HEAD | {"align": "right"})
        self._title = book.add_format({"bold": True, "font_size": 14})
        self._bold = book.add_format({"bold": True})
        self._left = book.add_format({"align": "left"})

    def write(self, rows: Iterable[Row]) -> None:
        closed = self._batch.closed_at
        self._book.set_properties(
            {
                "title": f"{self._merchant} {self._batch.manifest.cycle.id}",
                "comments": self._batch.source,
                "created": closed.replace(tzinfo=None),
            }
        )
        count = self._survey.total().lines
        sizes = [
            min(self._lines_a_sheet, count - start)
            for start in range(0, max(count, 1), self._lines_a_sheet)
        ]
        names = ["Lines 明细" if not n else f"Lines 明细 {n + 1}" for n in range(len(sizes))]
        self._summary(names, sizes)
        self._subtotals()
        row = iter(rows)
        for name, size in zip(names, sizes, strict=True):
            self._lines(name, size, row)

    def _sheet(self, name: str) -> Any:
        """Add a sheet that prints as wide as a page, with its headings and the manifest's digest on each."""
        sheet = self._book.add_worksheet(name)
        sheet.set_landscape()
        sheet.set_paper(_A4)
        sheet.fit_to_pages(1, 0)
        sheet.repeat_rows(0)
        sheet.set_footer(f"&L{self._batch.manifest_sha256}&R&P / &N")
        return sheet

    def _summary(self, names: list[str], sizes: list[int]) -> None:
        """Write what the statement comes to: formulas, signed figures, and their difference."""
        batch = self._batch
        sheet = self._sheet("Summary 汇总")
        sheet.set_column(0, 0, 44)
        sheet.set_column(1, len(SUM_COLUMNS), 20)
        party = batch.party(self._merchant)
        name = self._merchant if party is None else f"{self._merchant} {party.name}"
        sheet.write_string(0, 0, f"Settlement statement 结算对账单: {name}", self._title)
        told = facts(batch)
        for number, (label, value) in enumerate(told, 1):
            sheet.write_string(number, 0, label, self._bold)
            if isinstance(value, int):
                sheet.write_number(number, 1, value, self._left)
            else:
                sheet.write_string(number, 1, value)
        top = len(told) + 2
        sheet.set_row(top, HEAD_POINTS)
        sheet.write_string(top, 0, "Totals 合计", self._head)
        for place, (heading, _) in enumerate(SUM_COLUMNS, 1):
            sheet.write_string(top, place, heading, self._figure_head)
        roles = self._survey.roles()
        for number, role in enumerate((ISSUER, ACCEPTOR), top + 1):
            sheet.write_string(number, 0, ROLE_NAMES[role], self._formats[Form.TEXT])
            self._role_sums(sheet, number, role, roles[role], names, sizes)
        together = top + 3
        sheet.write_string(together, 0, "together 合计", self._sums[Form.TEXT])
        self._column_sums(sheet, together, 1, (top + 1, top + 2), self._survey.total())
        self._payment(sheet, together)
        sheet.freeze_panes(1, 0)

    def _role_sums(
        self, sheet: Any, row: int, role: int, sums: Sums, names: list[str], sizes: list[int]
    ) -> None:
        """Sum the lines of one role over all sheets of lines."""
        role_column = _PLACES["role"]
        tests = [
            f"({_range(name, role_column, size)}={_quoted(ROLE_NAMES[role])})"
            for name, size in zip(names, sizes, strict=True)
        ]
        for place, ((_, form), value) in enumerate(
            zip(SUM_COLUMNS, sums.figures(), strict=True), 1
        ):
            scale = SCALES[form]
            if form is Form.COUNT:
                parts = [f"SUMPRODUCT({test}*1)" for test in tests]
            else:
                column = _PLACES[_SUMMED[place - 2]]
                parts = [
                    f"SUMPRODUCT({test}*ROUND({_range(name, column, size)}*{scale},0))"
                    for test, name, size in zip(tests, names, sizes, strict=True)
                ]
            total = "+".join(parts)
            formula = f"={total}" if scale == 1 else f"=({total})/{scale}"
            sheet.write_formula(row, place, formula, self._formats[form], value / scale)

    def _column_sums(
        self, sheet: Any, row: int, first: int, span: tuple[int, int], sums: Sums
    ) -> None:
        """Add up the sums above."""
        for place, ((_, form), value) in enumerate(
            zip(SUM_COLUMNS, sums.figures(), strict=True), first
        ):
            self._sum_above(sheet, (row, place), span, form, value)

    def _sum_above(
        self, sheet: Any, at: tuple[int, int], span: tuple[int, int], form: Form, value: int
    ) -> None:
        """Add up the cells of a column, from the first row of the span to its last."""
        top, bottom = (xl_rowcol_to_cell(line, at[1]) for line in span)
        scale = SCALES[form]
        formula = f"=SUMPRODUCT(ROUND({top}:{bottom}*{scale},0))/{scale}"
        sheet.write_formula(*at, formula, self._sums[form], value / scale)

    def _payment(self, sheet: Any, together: int) -> None:
        """Lead from the lines to the payment, and hold both against what was signed."""
        leg = self._batch.instructions[self._merchant]
        net, payable, receivable = (xl_rowcol_to_cell(together, place) for place in (5, 6, 7))
        row = together + 2
        sheet.write_string(row, 0, "Payment 收付", self._head)
        sheet.write_string(row, 1, "yuan 元", self._figure_head)
        yuan, fen = self._formats[Form.YUAN], self._formats[Form.FEN]
        # What a bilateral cycle rounds by pair, and what a gross one paid before, stands in a line of its own.
        batch, signed_cu = self._batch, self._batch.figure(self._merchant)
        beside, further = batch.beside_lines(self._merchant), int(batch.bilateral or batch.gross)
        why = beside_name(batch)
        before, signed = (xl_rowcol_to_cell(row + place, 1) for place in (1, 3 + further))
        paid = f"{receivable}-{payable}"
        if further:
            paid += f"+{xl_rowcol_to_cell(row + 2, 1)}"
        # Lines of a gross cycle moved their whole figures, to the CU: none of it is carried.
        owed = f"({net}-{signed})" if batch.gross else net
        pay_yuan, after_yuan = leg.pay_fen / _FEN_PER_YUAN, leg.carry_after_cu / CU_PER_YUAN
        steps = (
            ("carry before 上期结转", None, leg.carry_before_cu / CU_PER_YUAN, yuan),
            *((why, None, beside / _FEN_PER_YUAN, fen) for _ in range(further)),
            ("net of the lines 明细净额", f"={net}", signed_cu / CU_PER_YUAN, yuan),
            ("net, signed 净额(已签名)", None, signed_cu / CU_PER_YUAN, yuan),
            ("difference 差额", f"=ROUND({net}-{signed},4)", 0, yuan),
            ("payable 应付", f"=MAX(0,-ROUND({paid},2))", max(0, -pay_yuan), fen),
            ("receivable 应收", f"=MAX(0,ROUND({paid},2))", max(0, pay_yuan), fen),
            ("payment, signed 收付额(已签名)", None, pay_yuan, fen),
            ("difference 差额", f"=ROUND({paid}-{xl_rowcol_to_cell(row + 7 + further, 1)},2)", 0, fen),
            ("carry after 结转下期", f"=ROUND({before}+{owed}-({paid}),4)", after_yuan, yuan),
        )  # fmt: skip
        for number, (label, formula, value, form) in enumerate(steps, row + 1):
            sheet.write_string(number, 0, label, self._bold)
            if formula is None:
                sheet.write_number(number, 1, value, form)
            else:
                sheet.write_formula(number, 1, formula, form, value)
        if batch.bilateral:
            self._pairs(sheet, row + len(steps) + 2)

    def _pairs(self, sheet: Any, top: int) -> None:
        """List what is paid to and by each counterparty; the sums are formulas."""
        sheet.write_string(top, 0, "Payments by counterparty 逐对收付", self._head)
        headings = (
            ("carry before 上期结转", Form.YUAN),
            ("net 净额", Form.YUAN),
            ("payable 应付", Form.FEN),
            ("receivable 应收", Form.FEN),
            ("carry after 结转下期", Form.YUAN),
        )
        for place, (heading, _) in enumerate(headings, 1):
            sheet.write_string(top, place, heading, self._head)
        legs = self._batch.legs_of(self._merchant)
        figures = [
            (
                leg.carry_before_cu,
                leg.net_cu,
                max(0, -leg.pay_fen),
                max(0, leg.pay_fen),
                leg.carry_after_cu,
            )
            for leg in legs
        ]
        for row, (leg, values) in enumerate(zip(legs, figures, strict=True), top + 1):
            sheet.write_string(row, 0, leg.counterparty)
            for place, ((_, form), value) in enumerate(zip(headings, values, strict=True), 1):
                sheet.write_number(row, place, value / SCALES[form], self._formats[form])
        total = top + 1 + len(legs)
        sheet.write_string(total, 0, "TOTAL 合计", self._sums[Form.TEXT])
        for place, ((_, form), *column) in enumerate(zip(headings, *figures, strict=True), 1):
            self._sum_above(sheet, (total, place), (top + 1, total - 1), form, sum(column))

    def _subtotals(self) -> None:
        """Write subtotals by outlet under each legal entity, and their total."""
        sheet = self._sheet("Subtotals 小计")
        sheet.set_column(0, 1, 28)
        sheet.set_column(2, 1 + len(SUM_COLUMNS), 18)
        headings = ("entity 法人主体", "outlet 门店", *(heading for heading, _ in SUM_COLUMNS))
        sheet.set_row(0, HEAD_POINTS)
        for place, heading in enumerate(headings):
            sheet.write_string(0, place, heading, self._figure_head if place > 1 else self._head)
        sheet.freeze_panes(1, 2)
        party = self._batch.party(self._merchant)
        outlets = {} if party is None else {one.code: one.name for one in party.outlet}
        row = 1
        totals = []
        for entity, places in self._survey.entities().items():
            first = row
            of_entity = Sums()
            for outlet, sums in places.items():
                sheet.write_string(row, 0, entity)
                sheet.write_string(row, 1, f"{outlet} {outlets.get(outlet, '')}".strip() or "–")
                self._figures(sheet, row, sums)
                of_entity.merge(sums)
                row += 1
            sheet.write_string(
                row, 0, f"{entity or self._merchant} TOTAL 合计", self._sums[Form.TEXT]
            )
            sheet.write_blank(row, 1, None, self._sums[Form.TEXT])
            self._column_sums(sheet, row, 2, (first, row - 1), of_entity)
            totals.append(row)
            row += 1
        sheet.write_string(row, 0, "TOTAL 合计", self._sums[Form.TEXT])
        sheet.write_blank(row, 1, None, self._sums[Form.TEXT])
        for place, ((_, form), value) in enumerate(
            zip(SUM_COLUMNS, self._survey.total().figures(), strict=True), 2
        ):
            scale = SCALES[form]
            cells = "+".join(f"ROUND({xl_rowcol_to_cell(one, place)}*{scale},0)" for one in totals)
            sheet.write_formula(
                row, place, f"=({cells or 0})/{scale}", self._sums[form], value / scale
            )

    def _figures(self, sheet: Any, row: int, sums: Sums) -> None:
        """Write sums as numbers."""
        for place, ((_, form), value) in enumerate(
            zip(SUM_COLUMNS, sums.figures(), strict=True), 2
        ):
            sheet.write_number(row, place, value / SCALES[form], self._formats[form])

    def _lines(self, name: str, size: int, rows: Any) -> None:
        """Write one sheet of lines."""
        sheet = self._sheet(name)
        sheet.set_row(0, HEAD_POINTS)
        for place, column in enumerate(LINE_COLUMNS):
            sheet.set_column(place, place, column.width)
            text = column.form in (Form.TEXT, Form.INSTANT)
            sheet.write_string(0, place, column.heading, self._head if text else self._figure_head)
        sheet.freeze_panes(1, 1)
        sheet.autofilter(0, 0, size, len(LINE_COLUMNS) - 1)
        formats = [self._formats[column.form] for column in LINE_COLUMNS]
        text, number = sheet.write_string, sheet.write_number
        for at, row in zip(range(1, size + 1), rows, strict=False):
            line = row.line
            values = (
                line.order,
                line.reference,
                serial(line.till_us),
                serial(line.cleared_us),
                KIND_NAMES[line.kind],
                ROLE_NAMES[line.role],
                row.outlet,
                row.entity,
                line.counterparty,
                line.units,
                f"{line.rate_num}/{line.rate_den}" if line.rate_den else "",
                line.gross_cu / CU_PER_YUAN,
                line.fee_cu / CU_PER_YUAN,
                line.remainder_cu / CU_PER_YUAN,
                line.net_cu / CU_PER_YUAN,
                row.payable_fen / _FEN_PER_YUAN,
                row.receivable_fen / _FEN_PER_YUAN,
                row.campaign,
                row.tax_code,
                line.leaf_index,
            )
            for place, value in enumerate(values):
                if isinstance(value, str):
                    if value:
                        text(at, place, value[:TEXT_MAX])
                else:
                    number(at, place, value, formats[place])


def serial(at_us: int) -> float:
    """Write an instant as spreadsheets count it: days, in Beijing time."""
    return (at_us + BEIJING_US) / _DAY_US + _DAYS_TO_1970


def _range(sheet: str, column: int, size: int) -> str:
    """Name a column's cells on a sheet of lines."""
    first = xl_rowcol_to_cell(1, column, row_abs=True, col_abs=True)
    last = xl_rowcol_to_cell(max(size, 1), column, row_abs=True, col_abs=True)
    return f"'{sheet}'!{first}:{last}"


def _quoted(text: str) -> str:
    """Write text in a formula."""
    return '"' + text.replace('"', '""') + '"'
