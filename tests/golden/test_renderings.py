"""Files for people and banks, made of the committed packages: each says what was signed, and names its manifest."""

import csv
import hashlib
import io
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openpyxl
import pypdfium2 as pdfium  # type: ignore[import-untyped]
import pytest
from beancount import loader
from beancount.core.data import Transaction
from beancount.ops.validation import HARDCORE_VALIDATIONS
from lxml import etree

from schemas.files.csv_text import read_table
from schemas.files.instant import instant_text
from schemas.files.parties import parse_parties
from schemas.files.renderings import write_renderings
from schemas.files.statement import LINE_FIELDS, STATEMENT_COLUMNS
from schemas.files.tables import INSTRUCTION_COLUMNS, OBLIGATION_COLUMNS, POSITION_COLUMNS
from schemas.values.amounts import fen_text, yuan_text
from schemas.values.faults import SchemaError
from settlement.core.report import CheckFailed
from settlement.render import pages
from settlement.render.columns import LINE_COLUMNS
from settlement.render.invoices import INVOICE_COLUMNS, tax_in
from settlement.render.payments import BANK_COLUMNS
from settlement.render.rows import Row, RowMaker, survey
from settlement.render.vouchers import VOUCHER_COLUMNS
from settlement.render.workbook import write_workbook
from settlement.service.package_reading import Package
from settlement.service.renderings import (
    KINDS,
    RENDERINGS,
    RenderingRefused,
    Wanted,
    plan_renderings,
)
from tests.golden.packages import FIRST, FOLDER, SECOND, edit, files_of
from tests.golden.renderings import PARTIES, RENDERINGS_FOLDER, SMALL, make, opened

MERCHANTS = ("AIR", "NOODLES", "SPECTACLES")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """All files of both packages but the pages, made once."""
    folder = tmp_path_factory.mktemp("renderings")
    kinds = tuple(kind for kind in KINDS if kind != "pdf")  # a font for each would take seconds
    listed = {cycle: make(FOLDER / cycle, folder / cycle, kinds=kinds) for cycle in (FIRST, SECOND)}
    return SimpleNamespace(folder=folder, listed=listed)


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file by the whole heading of their column."""
    head, *rows = csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""))
    return [dict(zip(head, row, strict=True)) for row in rows]


def rows_of(package: Package) -> Iterator[Row]:
    """The rows of one statement."""
    carry = package.batch.instructions["AIR"].carry_before_cu
    maker = RowMaker(carry_cu=carry, party=package.batch.party("AIR"), tax_code="")
    return maker.rows(package.lines("AIR"))


def fen(text: str) -> int:
    """Yuan with two decimals as fen."""
    assert re.fullmatch(r"-?\d+\.\d\d", text), text
    return int(text.replace(".", ""))


def payment(cycle: str, party: str) -> int:
    """What a party is paid (or pays: below 0) by the signed instructions, fen."""
    rows = read_table((FOLDER / cycle / "instructions.csv").read_bytes(), INSTRUCTION_COLUMNS)
    return next(int(row[3]) for row in rows if row[0] == party)


# --- the set ---


@pytest.mark.parametrize("cycle", [FIRST, SECOND])
def test_every_file_names_the_manifest(made: SimpleNamespace, cycle: str):
    """Rule F9: each file holds the digest of its package's manifest, or (a bank's form) the batch's id."""
    digest = hashlib.sha256((FOLDER / cycle / "manifest.json").read_bytes()).hexdigest()
    assert made.listed[cycle].manifest_sha256 == digest
    for one in made.listed[cycle].files:
        data = (made.folder / cycle / one.path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (one.bytes, one.sha256)
        if one.path.endswith(".xlsx"):
            with zipfile.ZipFile(io.BytesIO(data)) as parts:
                data = parts.read("docProps/core.xml")
        if one.path.endswith(("bank.csv", "dictionary.csv")):
            continue  # a bank's form has a test of its own; the dictionary is the same for all
        assert digest.encode() in data, one.path


def test_files_are_made_again_byte_for_byte(made: SimpleNamespace, tmp_path: Path):
    """Rule F10: whoever has the package and the parties' file makes the same bytes."""
    again = make(
        FOLDER / FIRST,
        tmp_path / "again",
        merchants=("NOODLES",),
        kinds=("xlsx", "vouchers", "payments"),
    )
    first = {one.path: one for one in made.listed[FIRST].files}
    assert {one.path for one in again.files} == {
        path for path in first if path.startswith("NOODLES/")
    } | {"dictionary.csv"}
    assert all(first[one.path] == one for one in again.files)
    assert (tmp_path / "again" / RENDERINGS).read_bytes() == write_renderings(again)


def test_small_files_are_the_committed_bytes(tmp_path: Path):
    """Vouchers, invoices, messages, forms, dictionary and list are byte for byte what is committed."""
    make(FOLDER / FIRST, tmp_path / "made", kinds=SMALL)
    assert files_of(tmp_path / "made") == files_of(RENDERINGS_FOLDER / FIRST)


def test_a_merchant_makes_its_files_of_its_own_part(package: Path, tmp_path: Path):
    """Rule F9: manifest, signatures, instructions and the own statement are enough."""
    for path in [*(package / "statements").glob("*.csv"), *package.glob("[op]*.csv")]:
        path.unlink()
    for merchant in ("AIR", "SPECTACLES"):
        (package / f"statements/{merchant}.msgpack").unlink()
    listed = make(package, tmp_path / "own", merchants=("NOODLES",), kinds=("vouchers",))
    assert {one.path.split("/")[0] for one in listed.files} == {"NOODLES", "dictionary.csv"}
    with pytest.raises(CheckFailed, match=r"AIR\.msgpack is missing"):
        plan_renderings(opened(package), Wanted())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda package: edit(package / "instructions.csv", "0.84", "0.85"), "instructions.csv is not"),
        (lambda package: edit(package / "manifest.json", '"sequence":1', '"sequence":2'), "manifest.sig is not"),
        (lambda package: (package / "statements/AIR.msgpack").write_bytes(b"\x80"), "AIR.msgpack is not"),
        (lambda package: shutil.rmtree(package / "statements"), "AIR.msgpack is missing"),
    ],
    ids=["instructions", "manifest", "statement", "gone"],
)  # fmt: skip
def test_what_was_not_signed_is_not_shown(
    package: Path, tmp_path: Path, spoil: Callable[[Path], object], said: str
):
    """Rule F9: of a package that is not what was signed no file is made."""
    spoil(package)
    with pytest.raises(CheckFailed, match=said):
        make(package, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_stays(tmp_path: Path):
    """Files made earlier are replaced; a folder that holds anything else is not touched."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    with pytest.raises(RenderingRefused, match="holds something else"):
        make(FOLDER / FIRST, tmp_path / "out", kinds=("vouchers",))
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]
    for _ in range(2):
        make(FOLDER / FIRST, tmp_path / "own", kinds=("vouchers",))
    assert {path.name for path in tmp_path.iterdir()} == {"out", "own"}


def test_merchants_must_be_there(package: Path):
    """A merchant without a statement, or without a place in the parties' file, is named."""
    with pytest.raises(RenderingRefused, match="HOTEL has no statement"):
        plan_renderings(opened(package), Wanted(merchants=("HOTEL",)))
    parties = parse_parties(PARTIES.replace(b'code = "AIR"', b'code = "AIRLINE"'))
    with pytest.raises(RenderingRefused, match="does not name AIR"):
        plan_renderings(opened(package, parties=parties), Wanted())


def test_without_parties_it_says_what_is_left_out():
    """Nothing is asked for that a package does not hold; what needs bank accounts is left out, and that is said."""
    plan = plan_renderings(opened(FOLDER / FIRST), Wanted())
    assert len(plan.left_out) == 2
    assert not [
        path for path in plan.files if "pain" in path or "bank" in path or "invoice" in path
    ]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('cnaps = "102290000011"', 'cnaps = "10229000001"', "$.house.account.cnaps"),
        ('code = "NOODLES"', 'code = "AIR"', "$.merchant[1].code"),
        ('entity = "老街面馆一号店有限公司"', "", "$.merchant[1].outlet[0]"),
        ("rate_bps = 600", "rate_bps = 600\ncolour = 1", "$.house.invoice"),
        ("[house]", "[house", "$"),
    ],
)
def test_parties_are_refused_with_the_place(old: str, new: str, place: str):
    """A malformed file of parties is refused with the path of the field."""
    with pytest.raises(SchemaError) as refused:
        parse_parties(PARTIES.decode().replace(old, new, 1).encode())
    assert refused.value.path == place


# --- the workbook ---


def cells(path: Path) -> dict[str, list[list]]:
    """Values of every sheet, as a reader that computes nothing sees them."""
    book = openpyxl.load_workbook(path, data_only=True)
    return {sheet.title: [list(row) for row in sheet.iter_rows(values_only=True)] for sheet in book}


@pytest.mark.parametrize("merchant", MERCHANTS)
def test_the_workbook_holds_every_line(made: SimpleNamespace, merchant: str):
    """Each line of the signed CSV stands in the workbook with the same figures, typed."""
    path = made.folder / FIRST / merchant / "statement.xlsx"
    head, *rows = cells(path)["Lines 明细"]
    assert head == [column.heading for column in LINE_COLUMNS]
    signed = read_table(
        (FOLDER / FIRST / f"statements/{merchant}.csv").read_bytes(), STATEMENT_COLUMNS
    )[:-3]
    assert len(rows) == len(signed)
    for row, line in zip(rows, signed, strict=True):
        shown = dict(zip((column.name for column in LINE_COLUMNS), row, strict=True))
        told = dict(zip((name.split(" ")[0] for name in STATEMENT_COLUMNS), line, strict=True))
        assert shown["order"] == told["order"]
        assert (shown["reference"] or "") == told["reference"].removeprefix("'")
        assert shown["kind"].split(" ")[0] == told["kind"]
        assert shown["role"].split(" ")[0] == told["role"]
        assert (shown["counterparty"], shown["leaf"]) == (told["counterparty"], int(told["leaf"]))
        assert shown["units"] == int(told["units"])
        for name in ("gross", "fee", "remainder", "net"):
            assert round(shown[f"{name}_yuan"] * 10_000) == int(told[f"{name}_cu"])
        # 8 hours later in Beijing; seconds are what a spreadsheet's serial number holds exactly enough.
        beijing = (int(shown["cleared_time"].timestamp()) - 8 * 3600) * 1_000_000
        assert instant_text(beijing)[:19] == told["cleared_time"][:19]
    paid = sum(round(100 * ((row[16] or 0) - (row[15] or 0))) for row in rows)
    assert paid == payment(FIRST, merchant)


def test_references_are_text(made: SimpleNamespace):
    """What a merchant wrote into a reference is never a formula."""
    book = openpyxl.load_workbook(made.folder / FIRST / "NOODLES/statement.xlsx")
    sheet = book["Lines 明细"]
    assert sheet["B3"].value == '=HYPERLINK("http://x","y")'
    assert sheet["B3"].data_type in ("s", "inlineStr")
    assert sheet.freeze_panes == "B2"


def formula_cells(path: Path) -> dict[tuple[str, str], object]:
    """Every cell that is a formula, with the value that was written beside it."""
    values = openpyxl.load_workbook(path, data_only=True)
    return {
        (sheet.title, cell.coordinate): values[sheet.title][cell.coordinate].value
        for sheet in openpyxl.load_workbook(path)
        for row in sheet.iter_rows()
        for cell in row
        if cell.data_type == "f"
    }


def summary(path: Path) -> dict[str, list]:
    """Rows of the summary by their first cell."""
    return {row[0]: row[1:] for row in cells(path)["Summary 汇总"] if row[0]}


@pytest.mark.parametrize("cycle", [FIRST, SECOND])
def test_the_summary_ends_at_the_signed_payment(made: SimpleNamespace, cycle: str):
    """Rule F1: the summary names the manifest, and leads from the lines to the signed payment without a difference."""
    for path in sorted((made.folder / cycle).glob("*/statement.xlsx")):
        rows = summary(path)
        assert rows["Manifest SHA-256 清单摘要"][0] == made.listed[cycle].manifest_sha256
        assert rows["difference 差额"][0] == 0
        paid = round(100 * (rows["receivable 应收"][0] - rows["payable 应付"][0]))
        assert paid == payment(cycle, path.parent.name)


def test_subtotals_go_by_entity_and_outlet(made: SimpleNamespace):
    """Outlet and campaign come from the merchant's own reference; each legal entity has its subtotals."""
    sheets = cells(made.folder / FIRST / "NOODLES/statement.xlsx")
    _, *lines = sheets["Lines 明细"]
    assert [(row[6], row[7], row[17]) for row in lines] == [
        ("1", "老街面馆一号店有限公司", "bon"),
        (None, "老街面馆有限公司", None),
    ]
    _, *rows = sheets["Subtotals 小计"]
    assert [(row[0], row[1], row[2]) for row in rows] == [
        ("老街面馆一号店有限公司", "1 一号店", 1),
        ("老街面馆一号店有限公司 TOTAL 合计", None, 1),
        ("老街面馆有限公司", "–", 1),
        ("老街面馆有限公司 TOTAL 合计", None, 1),
        ("TOTAL 合计", None, 2),
    ]
    assert round(100 * (rows[-1][8] - rows[-1][7])) == payment(FIRST, "NOODLES")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A statement whose lines go on on a second sheet."""
    package = opened(FOLDER / FIRST, parties=parse_parties(PARTIES))
    path = tmp_path_factory.mktemp("split") / "statement.xlsx"
    write_workbook(
        path,
        batch=package.batch,
        merchant="AIR",
        survey=survey(rows_of(package)),
        rows=rows_of(package),
        lines_a_sheet=2,
    )
    return path


def test_lines_go_on_on_another_sheet(made: SimpleNamespace, split: Path):
    """Where a sheet is full the lines go on on the next, and the summary is of all of them."""
    whole, parts = cells(made.folder / FIRST / "AIR/statement.xlsx"), cells(split)
    assert [name for name in parts if name.startswith("Lines")] == ["Lines 明细", "Lines 明细 2"]
    lines = parts["Lines 明细"][1:] + parts["Lines 明细 2"][1:]
    assert [row[0] for row in lines] == [row[0] for row in whole["Lines 明细"][1:]]
    assert parts["Summary 汇总"] == whole["Summary 汇总"]


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
def test_another_program_computes_the_same_totals(split: Path, tmp_path: Path):
    """LibreOffice, given the formulas without their values, comes to every value that was written."""
    bare = tmp_path / "bare.xlsx"
    removed = 0
    with zipfile.ZipFile(split) as old, zipfile.ZipFile(bare, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            if name.startswith("xl/worksheets/"):
                text, count = re.subn(rb"</f><v>[^<]*</v>", b"</f>", text)
                removed += count
            new.writestr(name, text)
    expected = formula_cells(split)
    assert removed == len(expected) > 30
    subprocess.run(
        ["soffice", f"-env:UserInstallation=file://{tmp_path}/profile", "--headless", "--convert-to",
         "xlsx:Calc MS Excel 2007 XML", "--outdir", str(tmp_path / "out"), str(bare)],
        check=True, capture_output=True, timeout=100,
    )  # fmt: skip
    computed = openpyxl.load_workbook(tmp_path / "out/bare.xlsx", data_only=True)
    found = {(sheet, cell): computed[sheet][cell].value for sheet, cell in expected}
    assert found == pytest.approx(expected, abs=1e-9)


# --- the pages ---


def texts(path: Path) -> list[str]:
    """Text of each page."""
    document = pdfium.PdfDocument(path)
    try:
        return [document[number].get_textpage().get_text_range() for number in range(len(document))]
    finally:
        document.close()


@pytest.fixture(scope="module")
def paged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of a statement that goes on in a second file."""
    folder = tmp_path_factory.mktemp("pages") / "made"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "write_pages", partial(pages.write_pages, lines_a_file=2))
        listed = make(FOLDER / FIRST, folder, merchants=("AIR",), kinds=("pdf",))
    assert [one.path for one in listed.files] == [
        "AIR/statement-2.pdf",
        "AIR/statement.pdf",
        "dictionary.csv",
    ]
    return folder / "AIR/statement.pdf"


def test_pages_say_what_was_signed(paged: Path):
    """Each line with its figures, the payment, the manifest's digest on each page, and how to verify it."""
    first, *rest = texts(paged) + texts(paged.with_stem("statement-2"))
    digest = hashlib.sha256((FOLDER / FIRST / "manifest.json").read_bytes()).hexdigest()
    assert all(digest in page for page in (first, *rest))
    assert f"Receivable 应收 {fen_text(payment(FIRST, 'AIR'))}" in first
    assert "openssl pkeyutl -verify" in first
    assert "核验" in first
    assert "云上航空股份有限公司 TOTAL 合计" in first
    signed = read_table((FOLDER / FIRST / "statements/AIR.csv").read_bytes(), STATEMENT_COLUMNS)
    for line in signed[:-3]:
        (page,) = [page for page in rest if line[0] in page]
        assert all(yuan_text(int(line[place])) in page for place in (10, 11, 12, 13))


def test_pages_carry_totals_on(paged: Path):
    """Each page ends with its own totals and those so far, also in the next file; both files count all files."""
    (_, first), (second,) = texts(paged), texts(paged.with_stem("statement-2"))
    so_far = [re.findall(r"So far 累计: (\d+) lines 笔(.*)", page)[0] for page in (first, second)]
    assert [count for count, _ in so_far] == ["2", "3"]
    *_, payable, receivable = so_far[1][1].split()
    assert fen(receivable) - fen(payable) == payment(FIRST, "AIR")
    assert "file 文件 1/2" in first
    assert "file 文件 2/2" in second


def test_the_font_is_in_the_pages(paged: Path):
    """A subset of a Chinese font is embedded: nothing is asked of the reader's system."""
    assert b"/FontFile3" in paged.read_bytes()
    assert paged.stat().st_size < 100_000


# --- vouchers, invoices, dictionary ---


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
        "statements/*.csv": list(STATEMENT_COLUMNS),
        "statements/*.msgpack": list(LINE_FIELDS),
        "*/statement.xlsx, */statement.pdf": [column.heading for column in LINE_COLUMNS],
        "*/vouchers.csv": list(VOUCHER_COLUMNS),
        "*/invoices.csv": list(INVOICE_COLUMNS),
        "*/bank.csv": list(BANK_COLUMNS),
    }


# --- what banks read ---


def schema(package: str, name: str) -> etree.XMLSchema:
    """A schema of ISO 20022, as a package for tests ships it; nothing of that package is imported."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    (path,) = Path(spec.origin).parent.rglob(name)
    return etree.XMLSchema(etree.parse(path))


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
            assert {row["附言"] for row in rows} == {texts["Ustrd"].split(" ")[0]}
        legs = read_table((FOLDER / cycle / "instructions.csv").read_bytes(), INSTRUCTION_COLUMNS)
        signed = [int(leg[3]) for leg in legs[:-1] if leg[3] != "0"]
        assert sorted(ordered.values()) == sorted(signed)
        assert sum(ordered.values()) == 0
        assert noticed == {name: each for name, each in ordered.items() if not name.endswith("-0")}
