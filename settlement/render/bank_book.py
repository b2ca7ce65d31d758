"""The form in which banks take many payments at once, as a workbook.

A spreadsheet that opens the CSV takes an account of 19 digits for a number and keeps 15 of them: whoever
saves it then pays somebody else. Here account and branch are text, and only the amount is a number.

Source: settlement/RULES.md, rule F7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import xlsxwriter  # type: ignore[import-untyped]

from schemas.files.report import Form
from settlement.render.payments import BANK_COLUMNS
from settlement.render.workbook import FORMATS, HEAD, SCALES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from settlement.render.batch import Batch
    from settlement.render.payments import Payment

_WIDTHS: Final = (44, 36, 44, 16, 18, 26)


def write_bank_book(path: Path, batch: Batch, payments: Sequence[Payment]) -> None:
    """Write payments in the columns of `payments.bank_form`.

    Args:
        path: The file; its folder exists.
        batch: The signed batch.
        payments: What to pay.
    """
    with xlsxwriter.Workbook(str(path), {"strings_to_urls": False}) as book:
        created = batch.closed_at.replace(tzinfo=None)
        book.set_properties({"title": batch.batch_id, "comments": batch.source, "created": created})
        text = book.add_format({"num_format": FORMATS[Form.TEXT]})
        amount = book.add_format({"num_format": FORMATS[Form.FEN]})
        sheet = book.add_worksheet("付款")
        head = book.add_format(HEAD)
        for place, (name, width) in enumerate(zip(BANK_COLUMNS, _WIDTHS, strict=True)):
            sheet.set_column(place, place, width)
            sheet.write_string(0, place, name, head)
        sheet.freeze_panes(1, 0)
        for row, one in enumerate(payments, 1):
            to = one.creditor
            for place, value in enumerate((to.holder, to.number, to.bank, to.cnaps)):
                sheet.write_string(row, place, value, text)
            sheet.write_number(row, 4, one.fen / SCALES[Form.FEN], amount)
            sheet.write_string(row, 5, batch.batch_id, text)
