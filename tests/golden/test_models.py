"""Files of cycles that are not multilateral: each is opened by its tool, and says what was signed."""

import hashlib
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from beancount import loader
from beancount.ops.validation import HARDCORE_VALIDATIONS
from lxml import etree

from schemas.files.statement import ACCEPTOR, ISSUER
from schemas.files.tables import read_instructions
from schemas.values.amounts import fen_text, yuan_text
from settlement.core.fen import FenRun
from settlement.core.instruction import HOUSE_LEG_CODE
from tests.golden.models import BILATERAL, GROSS
from tests.golden.packages import failed
from tests.golden.renderings import MERCHANTS, fen, make, opened, table
from tests.golden.test_bank_files import schema
from tests.golden.test_statement_files import cells, summary, texts

both = pytest.mark.parametrize("package", [BILATERAL, GROSS], ids=["bilateral", "gross"])


@both
def test_the_packages_verify(package: Path):
    """What the real writer closed and the packager signed passes every check offline."""
    assert failed(package) == []


@both
def test_workbooks_lead_to_the_signed_payment(models: SimpleNamespace, package: Path):
    """Rules F11 and F12: from the lines, over what lies beside them, to the payment and to each pair's."""
    legs = read_instructions((package / "instructions.csv").read_bytes())
    for merchant in MERCHANTS:
        path = models.folder / package.name / merchant / "statement.xlsx"
        rows = summary(path)
        own = [leg for leg in legs if leg.party == merchant]
        assert rows["difference 差额"][0] == 0
        paid = round(100 * (rows["receivable 应收"][0] - rows["payable 应付"][0]))
        assert paid == sum(leg.pay_fen for leg in own)
        signed = {
            leg.counterparty: [leg.carry_before_cu, leg.net_cu, leg.pay_fen, leg.carry_after_cu]
            for leg in own
            if leg.counterparty
        }
        shown = {
            code: [
                round(10_000 * before),
                round(10_000 * net),
                round(100 * (receivable - payable)),
                round(10_000 * after),
            ]
            for code in signed
            for before, net, payable, receivable, after in [rows[code][:5]]
        }
        assert shown == signed
        assert ("Payments by counterparty 逐对收付" in rows) == (package == BILATERAL)
        assert len(cells(path)["Lines 明细"]) == 1 + sum(1 for _ in opened(package).lines(merchant))


@both
def test_pages_lead_to_the_signed_payment(tmp_path: Path, package: Path):
    """The text of the pages holds the payment, what lies beside the lines, each pair's and each line's figures."""
    make(package, tmp_path / "made", merchants=("AIR",), kinds=("pdf",))
    first, *rest = texts(tmp_path / "made/AIR/statement.pdf")
    batch = opened(package).batch
    leg = batch.instructions["AIR"]
    payable, receivable = fen_text(max(0, -leg.pay_fen)), fen_text(max(0, leg.pay_fen))
    assert f"Payable 应付 {payable} Receivable 应收 {receivable}" in " ".join(first.split())
    *_, lines_payable, lines_receivable = re.findall(r"TOTAL 合计 (.*)", first)[0].split()
    beside = re.findall(r"(?:逐对结转|逐笔已结清) (\S+) yuan", first)[0]
    assert fen(lines_receivable) - fen(lines_payable) + fen(beside) == leg.pay_fen
    for pair in batch.pairs:
        if pair.party == "AIR":
            row = f"{pair.counterparty} {yuan_text(pair.carry_before_cu)} {yuan_text(pair.net_cu)}"
            assert row in " ".join(first.split())
    assert all(batch.manifest_sha256 in page for page in (first, *rest))
    for line in opened(package).lines("AIR"):
        (page,) = [page for page in rest if line.order in page]
        assert yuan_text(line.net_cu) in page
        assert line.role in {ISSUER, ACCEPTOR}


@both
def test_vouchers_balance_and_load(models: SimpleNamespace, package: Path):
    """Rules F4, F5 and F12: every voucher balances, passes `bean-check`, and ends at the signed payments.

    In a gross cycle what the lines moved stands on the settlement account of each merchant, never among the carries.
    """
    legs = read_instructions((package / "instructions.csv").read_bytes())
    paths = sorted((models.folder / package.name).glob("*/vouchers.beancount"))
    assert {path.parent.name for path in paths} == {*MERCHANTS, "_house"}
    for path in paths:
        assert loader.load_file(str(path), extra_validations=HARDCORE_VALIDATIONS)[1] == []
        rows = table(path.with_suffix(".csv"))
        moves = [(row, fen(row["借方金额"]) - fen(row["贷方金额"])) for row in rows]
        assert sum(amount for _, amount in moves) == 0
        own = [leg for leg in legs if leg.pay_fen and leg.party == path.parent.name]
        settled = [
            (row["往来单位"], amount) for row, amount in moves if row["科目编码"] == "1221.01"
        ]
        carried = sum(amount for row, amount in moves if row["科目编码"] == "2241.03")
        if package == BILATERAL:
            assert settled == [(leg.counterparty, leg.pay_fen) for leg in own]
            continue
        assert (own, carried) == ([], 0)
        nets = {
            one.party: int(one.net_cu) for one in opened(package).batch.manifest.netting.parties
        }
        if path.parent.name != "_house":
            assert settled == [("HOUSE:settlement", FenRun().take(nets[path.parent.name]))]
            continue
        owed = {row["往来单位"]: -amount for row, amount in moves if row["科目编码"] == "2241.01"}
        assert owed.keys() == set(MERCHANTS)
        assert all(abs(100 * owed[code] - nets[code]) < 200 for code in MERCHANTS)  # F2
    fees = table(models.folder / package.name / "_house/invoices.csv")
    house = opened(package).batch.manifest.totals.fee_cu
    assert sum(int(row["fee_cu 手续费(CU)"]) for row in fees) == int(house)


@both
def test_messages_are_valid_and_pay_each_pair(models: SimpleNamespace, package: Path):
    """Rules F7, F8 and F11: messages are valid by their schemas, each pair is one payment; gross cycles pay nothing."""
    schemas = {
        "pain.001": schema("pain001", "pain.001.001.09.xsd"),
        "camt.054": schema("camt053", "camt.054.001.08.xsd"),
    }
    ordered: Counter[int] = Counter()
    noticed: Counter[int] = Counter()
    for path in sorted((models.folder / package.name).glob("*/*.xml")):
        document: Any = etree.parse(path)
        kind = next(kind for kind in schemas if kind in path.name)
        schemas[kind].assertValid(document)
        name = "Amt" if kind == "camt.054" else "InstdAmt"
        amounts = document.xpath(f"//*[local-name()='{name}' and @Ccy]/text()")
        if kind == "camt.054":
            sign = -1 if "DBIT" in document.xpath("//*[local-name()='CdtDbtInd']/text()") else 1
            noticed[sign * fen(amounts[0])] += 1
            continue
        rows = table(path.with_name(path.name.replace("pain.001.xml", "bank.csv")))
        assert [row["金额(元)"] for row in rows] == amounts
        sign = 1 if path.parent.name == "_house" and path.name == "pain.001.xml" else -1
        ordered.update(sign * fen(amount) for amount in amounts)
    legs = read_instructions((package / "instructions.csv").read_bytes())
    assert ordered == Counter(leg.pay_fen for leg in legs if leg.pay_fen)
    assert noticed == Counter(
        leg.pay_fen for leg in legs if leg.pay_fen and leg.party != HOUSE_LEG_CODE
    )
    assert bool(ordered) == (package == BILATERAL)
    digest = hashlib.sha256((package / "manifest.json").read_bytes()).hexdigest()
    assert opened(package).batch.manifest_sha256 == digest
