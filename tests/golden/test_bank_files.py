"""Vouchers, invoices, orders and notices: what ledgers, tax offices and banks read."""

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openpyxl
import pytest
from beancount import loader
from beancount.core.data import Transaction
from beancount.ops.validation import HARDCORE_VALIDATIONS
from lxml import etree

from schemas.files.csv_text import read_table
from schemas.files.statement import LINE_FIELDS, STATEMENT_COLUMNS
from schemas.files.tables import (
    BILATERAL_COLUMNS,
    INSTRUCTION_COLUMNS,
    OBLIGATION_COLUMNS,
    POSITION_COLUMNS,
)
from settlement.render.columns import LINE_COLUMNS
from settlement.render.invoices import INVOICE_COLUMNS, tax_in
from settlement.render.payments import BANK_COLUMNS
from settlement.render.vouchers import VOUCHER_COLUMNS
from tests.golden.packages import FIRST, FOLDER, SECOND
from tests.golden.renderings import (
    MERCHANTS,
    fen,
    payment,
    table,
)


@pytest.mark.parametrize("cycle", [FIRST, SECOND])
def test_vouchers_balance_and_end_at_the_payment(made: SimpleNamespace, cycle: str):
    """Rules F4 and F5: debit and credit are equal in fen, and the settlement account moves by the signed payment."""
    settled = 0
    for path in sorted((made.folder / cycle).glob("*/vouchers.csv")):
        rows = table(path)
        assert list(rows[0]) == list(VOUCHER_COLUMNS)
        debit, credit = (sum(fen(row[name]) for row in rows) for name in ("借方金额", "贷方金额"))
        assert debit == credit > 0
        if path.parent.name != "_house":
            moved = [row for row in rows if row["科目编码"] == "1221.01"]
            paid = sum(fen(row["借方金额"]) - fen(row["贷方金额"]) for row in moved)
            assert paid == payment(cycle, path.parent.name)
            settled += paid
    if cycle == FIRST:  # nothing reaches a whole fen in the second
        rows = table(made.folder / cycle / "_house/vouchers.csv")
        owed = [row for row in rows if row["科目编码"] == "2241.01"]
        assert sum(fen(row["贷方金额"]) - fen(row["借方金额"]) for row in owed) == settled


def test_beancount_accepts_the_vouchers(made: SimpleNamespace):
    """Every file loads without an error under all checks of `bean-check`, and says what the CSV says."""
    paths = sorted((made.folder / FIRST).glob("*/vouchers.beancount"))
    assert len(paths) == len(MERCHANTS) + 1
    for path in paths:
        entries, errors, _ = loader.load_file(str(path), extra_validations=HARDCORE_VALIDATIONS)
        assert errors == []
        (transaction,) = [entry for entry in entries if isinstance(entry, Transaction)]
        assert transaction.meta["manifest"] == made.listed[FIRST].manifest_sha256
        rows = table(path.with_suffix(".csv"))
        assert [
            int(posting.units.number * 100)  # type: ignore[union-attr,operator]  # each posting has an amount
            for posting in transaction.postings
        ] == [fen(row["借方金额"]) - fen(row["贷方金额"]) for row in rows]


def test_many_vouchers_make_one_ledger(made: SimpleNamespace, tmp_path: Path):
    """Vouchers of several cycles or parties can be included in one ledger: none opens an account for itself."""
    ledger = tmp_path / "ledger.beancount"
    ledger.write_text(
        'plugin "beancount.plugins.auto_accounts"\n'
        + "".join(
            f'include "{made.folder / FIRST / code}/vouchers.beancount"\n' for code in MERCHANTS
        )
    )
    entries, errors, _ = loader.load_file(str(ledger))
    assert errors == []
    assert sum(isinstance(entry, Transaction) for entry in entries) == len(MERCHANTS)


@pytest.mark.parametrize(
    ("gross", "rate", "tax"),
    [
        (106, 600, 6),
        (0, 600, 0),
        (100, 600, 6),
        (-106, 600, -6),
        (113, 0, 0),
        (9, 600, 1),
        (8, 600, 0),
    ],
)
def test_tax_is_in_the_fee(gross: int, rate: int, tax: int):
    """Rule F6: the tax is taken out of the fee, rounded half away from zero."""
    assert tax_in(gross, rate_bps=rate) == tax


def test_invoices_are_of_the_fees(made: SimpleNamespace):
    """Rule F6: whole fen and what is left are the fee, and go to the legal entity that bore it."""
    rows = table(made.folder / FIRST / "_house/invoices.csv")
    assert [row["buyer_name 购方名称"] for row in rows] == [
        "云上航空股份有限公司", "老街面馆一号店有限公司", "明亮眼镜有限公司",
    ]  # fmt: skip
    for row in rows:
        amount = fen(row["amount_yuan 价税合计(元)"])
        assert 100 * amount + int(row["rest_cu 不足一分(CU)"]) == int(row["fee_cu 手续费(CU)"])
        assert fen(row["net_yuan 不含税金额(元)"]) + fen(row["tax_yuan 税额(元)"]) == amount
    assert sum(int(row["fee_cu 手续费(CU)"]) for row in rows) == 81


def test_the_dictionary_names_every_column(made: SimpleNamespace):
    """Each column of each file has a line in the dictionary, and the dictionary has no other."""
    told: dict[str, list[str]] = {}
    for row in table(made.folder / FIRST / "dictionary.csv"):
        assert all(row.values())
        told.setdefault(row["file 文件"], []).append(row["field 字段"])
    assert told == {
        "positions.csv": list(POSITION_COLUMNS),
        "obligations.csv": list(OBLIGATION_COLUMNS),
        "instructions.csv": list(INSTRUCTION_COLUMNS),
        "instructions.csv of a bilateral cycle": list(BILATERAL_COLUMNS[1:2]),
        "statements/*.csv": list(STATEMENT_COLUMNS),
        "statements/*.msgpack": list(LINE_FIELDS),
        "*/statement.xlsx, */statement.pdf": [column.heading for column in LINE_COLUMNS],
        "*/vouchers.csv": list(VOUCHER_COLUMNS),
        "*/invoices.csv": list(INVOICE_COLUMNS),
        "*/bank.csv, */bank.xlsx": list(BANK_COLUMNS),
    }


def schema(package: str, name: str) -> etree.XMLSchema:
    """A schema of ISO 20022, as a package for tests ships it; nothing of that package is imported."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    (path,) = Path(spec.origin).parent.rglob(name)
    return etree.XMLSchema(etree.parse(path))


def bank_book(order: Path) -> list[list[str]]:
    """Rows of the bank's form as a workbook, beside an order; every cell but the amount must be text."""
    book = openpyxl.load_workbook(order.with_name(order.name.replace("pain.001.xml", "bank.xlsx")))
    head, *rows = book["付款"].iter_rows()
    assert [cell.value for cell in head] == list(BANK_COLUMNS)
    assert {cell.data_type for row in rows for cell in row if cell.column != 5} == {"s"}
    return [
        [f"{cell.value:.2f}" if cell.column == 5 else str(cell.value) for cell in row]
        for row in rows
    ]


def test_messages_are_valid_and_say_the_payments(made: SimpleNamespace):
    """Rules F7 and F8: every message is valid against its schema; orders and notices are the instructions."""
    schemas = {
        "pain.001.xml": schema("pain001", "pain.001.001.09.xsd"),
        "camt.054.xml": schema("camt053", "camt.054.001.08.xsd"),
    }
    for cycle in (FIRST, SECOND):
        ordered: dict[str, int] = {}
        noticed: dict[str, int] = {}
        for one in made.listed[cycle].files:
            path = made.folder / cycle / one.path
            if path.suffix != ".xml":
                continue
            document: Any = etree.parse(path)
            schemas[path.name.removeprefix("own-")].assertValid(document)
            texts = {
                text.getparent().tag.split("}")[1]: text
                for text in document.xpath("//text()[normalize-space()]")
            }
            assert made.listed[cycle].manifest_sha256 in texts["Ustrd"]
            if "camt" in path.name:
                sign = {"CRDT": 1, "DBIT": -1}[texts["CdtDbtInd"]]
                noticed[texts["EndToEndId"]] = sign * fen(texts["Amt"])
                continue
            amounts = document.xpath("//*[local-name()='InstdAmt']/text()")
            ids = document.xpath("//*[local-name()='EndToEndId']/text()")
            sign = 1 if path.parent.name == "_house" and path.name == "pain.001.xml" else -1
            assert {fen(each) for each in document.xpath("//*[local-name()='CtrlSum']/text()")} == {
                sum(map(fen, amounts))
            }
            ordered |= {name: sign * fen(amount) for name, amount in zip(ids, amounts, strict=True)}
            rows = table(path.with_name(path.name.replace("pain.001.xml", "bank.csv")))
            assert [row["金额(元)"] for row in rows] == amounts
            assert bank_book(path) == [list(row.values()) for row in rows]
            assert {row["附言"] for row in rows} == {texts["Ustrd"].split(" ")[0]}
        legs = read_table((FOLDER / cycle / "instructions.csv").read_bytes(), INSTRUCTION_COLUMNS)
        signed = [int(leg[3]) for leg in legs[:-1] if leg[3] != "0"]
        assert sorted(ordered.values()) == sorted(signed)
        assert sum(ordered.values()) == 0
        assert noticed == {name: each for name, each in ordered.items() if not name.endswith("-0")}
