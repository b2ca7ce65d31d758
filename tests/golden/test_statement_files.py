"""Statements for people: workbook and pages say what was signed, and their totals are right elsewhere too."""

import hashlib
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import msgspec
import openpyxl
import pypdfium2 as pdfium  # type: ignore[import-untyped]
import pytest

from schemas.files.csv_text import read_table
from schemas.files.instant import instant_text
from schemas.files.manifest import Approval, Signatory
from schemas.files.parties import parse_parties
from schemas.files.report import Report
from schemas.files.statement import STATEMENT_COLUMNS
from schemas.values.amounts import fen_text, yuan_text
from settlement.core.balances import CycleState, Ledger
from settlement.render import pages
from settlement.render.columns import LINE_COLUMNS
from settlement.render.report_book import write_report_book
from settlement.render.rows import Row, RowMaker, survey
from settlement.render.workbook import write_workbook
from settlement.service.package_reading import Package
from settlement.service.reports import Standing, trial_balance
from tests.golden.packages import FIRST, FOLDER, SECOND
from tests.golden.renderings import (
    MERCHANTS,
    PARTIES,
    fen,
    make,
    opened,
    payment,
)


def rows_of(package: Package) -> Iterator[Row]:
    """The rows of one statement."""
    carry = package.batch.instructions["AIR"].carry_before_cu
    maker = RowMaker(carry_cu=carry, party=package.batch.party("AIR"), tax_code="")
    return maker.rows(package.lines("AIR"))


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
        beijing = (
            int(shown["cleared_time"].replace(tzinfo=UTC).timestamp()) - 8 * 3600
        ) * 1_000_000
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
        assert rows["Signatures needed 需签名方数"][0] == 1
        assert rows["Key of 签名密钥: operator"][0] == "op-acde940683b68c0e (Ed25519)"
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


def test_points_are_spent_at_no_outlet():
    """Only a line as acceptor has an outlet and a campaign: the issuer's programme has none."""
    package = opened(FOLDER / FIRST, parties=parse_parties(PARTIES))
    maker = RowMaker(carry_cu=0, party=package.batch.party("NOODLES"), tax_code="1")
    found = [
        (row.line.reference, row.outlet, row.campaign) for row in maker.rows(package.lines("AIR"))
    ]
    assert found[0] == ("bon-1", "", "")


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


def without_values(book: Path, to: Path) -> int:
    """Copy a workbook without the values of its formulas; how many they were."""
    removed = 0
    with zipfile.ZipFile(book) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            if name.startswith("xl/worksheets/"):
                text, count = re.subn(rb"</f><v>[^<]*</v>", b"</f>", text)
                removed += count
            new.writestr(name, text)
    return removed


def trial_balance_report() -> Report:
    """A trial balance whose figures no double adds up exactly."""
    ledger = Ledger(
        cycles={1: ("c1", CycleState.OPEN)}, caps=dict.fromkeys(range(1, 40), 10**13 - 1)
    )
    for party in range(1, 40):
        ledger.positions[1, party] = 10**13 // 3 + party
        ledger.positions[1, -2] -= 10**13 // 3 + party
    stand = Standing(ledger=ledger, codes={}, as_of_us=0, last_seq=1, source="=1+1")
    assert trial_balance(stand).ok
    return trial_balance(stand)


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
def test_another_program_computes_the_same_totals(
    split: Path, models: SimpleNamespace, tmp_path: Path
):
    """LibreOffice, given the formulas without their values, comes to every value that was written, in every model."""
    of_report = tmp_path / "report.xlsx"
    of_report.write_bytes(write_report_book(trial_balance_report()))
    of_models = [
        models.folder / f"{model}/{merchant}/statement.xlsx"
        for model in ("bilateral", "gross")
        for merchant in MERCHANTS[:2]
    ]
    books = [split, of_report, *of_models]
    bare = [tmp_path / f"bare-{number}.xlsx" for number in range(len(books))]
    removed = [without_values(book, copy) for book, copy in zip(books, bare, strict=True)]
    expected = [formula_cells(book) for book in books]
    assert removed == [len(cells_) for cells_ in expected]
    assert removed[1] == 5
    assert all(count > 30 for count in removed[:1] + removed[2:])
    subprocess.run(
        ["soffice", f"-env:UserInstallation=file://{tmp_path}/profile", "--headless", "--convert-to",
         "xlsx:Calc MS Excel 2007 XML", "--outdir", str(tmp_path / "out"), *map(str, bare)],
        check=True, capture_output=True, timeout=100,
    )  # fmt: skip
    for copy, wanted in zip(bare, expected, strict=True):
        computed = openpyxl.load_workbook(tmp_path / "out" / copy.name, data_only=True)
        found = {(sheet, cell): computed[sheet][cell].value for sheet, cell in wanted}
        assert found == pytest.approx(wanted, abs=1e-9)


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
    assert "page 页 2/2" in first
    assert "page 页 1/1" in second


LONG = "长" * 70
"""As long as a name may be."""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Text of the pages of a line with odd characters, of a merchant with a long name, in a batch that two sign."""
    named = PARTIES.decode().replace("云上航空股份有限公司", LONG)
    package = opened(FOLDER / FIRST, parties=parse_parties(named.encode()))
    approval = Approval(
        threshold=2,
        signers=[Signatory(key_id=f"sm-{'0' * 16}", role="treasurer")],
    )
    batch = replace(
        package.batch, manifest=msgspec.structs.replace(package.batch.manifest, approval=approval)
    )
    line = next(package.lines("AIR"))
    line = msgspec.structs.replace(line, reference="a\x00b😀c\ufffe\u202e")
    row = Row(line, "", LONG, "", "", 37, 0)
    path = tmp_path_factory.mktemp("odd") / "odd.pdf"
    pages.write_pages(path, batch=batch, merchant="AIR", survey=survey([row]), rows=[row])
    return texts(path)


def test_characters_without_a_glyph_are_seen(odd: list[str]):
    """What the font lacks, or what cannot be printed, is a box: it is not left out."""
    assert "a□b□c□□" in odd[1]


def test_a_long_name_is_cut_on_the_page(odd: list[str]):
    """A name that is wider than the page ends in dots; a subtotal keeps what tells it from those beside it."""
    titles = [next(line for line in page.splitlines() if "结算对账单" in line) for page in odd]
    assert all(title.endswith("长…") for title in titles)
    assert "长… –" in odd[0]
    assert "长… TOTAL 合计" in odd[0]


def test_pages_name_everybody_who_signs(odd: list[str]):
    """Each role's keys with what they sign with, and how many roles must have signed, for whoever verifies it."""
    said = " ".join(odd[0].split())
    assert "Signatures needed 需签名方数 2" in said
    assert "Key of 签名密钥: operator op-acde940683b68c0e (Ed25519)" in said
    assert "Key of 签名密钥: treasurer sm-0000000000000000 (SM2/SM3)" in said
    assert "tongdui verify PACKAGE --threshold 2" in said
    assert "Opened 开始(北京) 2017-01-02 08:00:01" in said


def test_the_font_is_in_the_pages(paged: Path):
    """A subset of a Chinese font is embedded: nothing is asked of the reader's system."""
    assert b"/FontFile3" in paged.read_bytes()
    assert paged.stat().st_size < 100_000
