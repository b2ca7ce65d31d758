"""`tongdui report`: what finance opens, on a machine without books and on real ones."""

import asyncio
import csv
import io
import json

import asyncpg
import openpyxl
import pytest

from tests.builders import small_books
from tests.cli.conftest import Command, assert_one_sentence


async def _execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def _write(dsn: str) -> None:
    books = small_books()
    connection = await asyncpg.connect(dsn)
    try:
        await books.write(connection)
        await connection.execute(
            "INSERT INTO settlement.partition VALUES (1, 1, NULL, 1, $1, $2, now(), 'wall', 3)",
            books.seq,
            bytes(32),
        )
    finally:
        await connection.close()


@pytest.fixture
def with_books(tongdui: Command, dsn: str) -> Command:
    """The command on two closed cycles, one settled, and an open one."""
    asyncio.run(_write(dsn))
    return tongdui


def rows(text: str) -> list[dict[str, str]]:
    """A CSV's lines by its English headings."""
    head, *lines = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    names = [each.split(" ")[0] for each in head]
    return [dict(zip(names, line, strict=True)) for line in lines]


def test_a_trial_balance_without_books_says_how_to_begin(private_tongdui, home):
    """On a fresh machine the report is of zeros, and says what to do; nothing is made."""
    for name in ("trial-balance", "balances", "fees", "savings", "ageing", "liability"):
        done = private_tongdui("report", name)
        assert done.returncode == 0, done.stderr
        assert "0.00" in done.stdout
        assert "tongdui serve" in done.stdout
    assert not (home / "database").exists()


def test_a_trial_balance_sums_to_zero_in_every_form(with_books, dsn, tmp_path):
    """Rules Y1 and Y4: both columns come to the same, in CSV, workbook and JSON; a figure that is off ends with 1."""
    done = with_books("report", "trial-balance", "--format", "csv")
    assert done.returncode == 0, done.stderr
    *lines, total = rows(done.stdout)
    assert total["debit_yuan"] == total["credit_yuan"] == "0.0027"
    assert {line["cycle"] for line in lines} == {"2017-01-09", ""}
    told = json.loads(with_books("report", "trial-balance", "--format", "json").stdout)
    assert told["holds"]
    assert told["tables"][0]["totals"] == {"debit_cu": "27", "credit_cu": "27"}
    file = tmp_path / "book.xlsx"
    assert with_books("report", "trial-balance", "-o", file).returncode == 0
    again = assert_one_sentence(with_books("report", "trial-balance", "-o", file))
    assert f"{file} is there already" in again
    assert with_books("report", "trial-balance", "-o", tmp_path / "book.doc").returncode == 2
    sheet = openpyxl.load_workbook(file, data_only=True)["accounts 科目余额"]
    *_, last = sheet.iter_rows(values_only=True)
    assert last[-2:] == (0.0027, 0.0027)
    assert sheet.freeze_panes == "B2"
    before = rows(
        with_books("report", "balances", "--cycle", "2017-01-02", "--format", "csv").stdout
    )
    found = {
        line["party"]: line["balance_yuan"] for line in before if line["cycle"] == "2017-01-02"
    }
    assert found == {
        "AIR": "0.8459", "NOODLES": "0.3232", "SPECTACLES": "-1.1821", "HOUSE:fees": "0.0081",
        "HOUSE:rounding": "0.0049",
    }  # fmt: skip
    asyncio.run(
        _execute(dsn, "UPDATE settlement.position SET net_cu = net_cu + 1 WHERE cycle_no = 2")
    )
    wrong = with_books("report", "trial-balance")
    assert wrong.returncode == 1
    assert "debits equal credits: ledger 0.000" in wrong.stderr


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("--cycle", "never"), "there is no cycle never"),
        (("--at", "2999-01-01T00:00:00Z"), "the instant lies in the future"),
        (("--format", "csv", "--table", "x"), "it has accounts, memo, debts, facts"),
    ],
)
def test_what_cannot_be_reported_is_2(with_books, args, why):
    """Rule Y3: a cycle, an instant or a table that there is not makes one sentence."""
    assert why in assert_one_sentence(with_books("report", "trial-balance", *args))


def test_fees_and_savings_are_told_by_cycle(with_books, dsn):
    """Rule Y6: by pair and party, of one cycle or a span; a fee that is not in the books ends with 1."""
    done = with_books("report", "fees", "--format", "csv", "--to", "2017-01-02T00:00:12Z")
    assert done.returncode == 0, done.stderr
    *lines, total = rows(done.stdout)
    assert {line["cycle"] for line in lines} == {"2017-01-02"}
    assert (total["orders"], total["fee_yuan"], total["remainder_yuan"]) == (
        "4",
        "0.0081",
        "0.0049",
    )
    *lines, total = rows(with_books("report", "savings", "--format", "csv").stdout)
    assert [line["cycle"] for line in lines] == ["2017-01-02", "2017-01-09", "2017-01-16"]
    assert (total["gross_yuan"], total["multilateral_yuan"]) == ("1.6602", "1.1848")
    assert with_books("report", "savings").returncode == 0
    asyncio.run(_execute(dsn, "UPDATE settlement.obligation SET fee_cu = 0 WHERE cycle_no = 1"))
    wrong = with_books("report", "fees", "--cycle", "2017-01-02")
    assert wrong.returncode == 1
    assert "2017-01-02 HOUSE:fees -0.0081" in wrong.stderr
    with_reversal = "INSERT INTO settlement.reversed_obligation VALUES (1, 3, 1, 2, 1, 50, 40, 2)"
    asyncio.run(_execute(dsn, with_reversal))
    told = with_books.json("cycle", "show", "2017-01-16")
    assert {each["party"]: each["net_cu"] for each in told["parties"]} == {
        "AIR": "50", "NOODLES": "-38", "HOUSE:fees": "-2", "HOUSE:rounding": "-10",
    }  # fmt: skip
