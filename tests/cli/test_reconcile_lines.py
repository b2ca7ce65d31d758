"""`tongdui reconcile merchant` and its like: a merchant's own file is tried, brought in, and what differs resolved."""

import asyncio
import csv
from datetime import date
from pathlib import Path

import asyncpg
import pytest

from schemas.files.bank_statement import BankEntry
from schemas.files.line_breaks import LINE_BREAK_COLUMNS
from tests.bank_files import camt053
from tests.cli.conftest import Command, assert_one_sentence
from tests.cli.killing import killed_while_it_waits, on_database
from tests.merchant_files import CYCLE, HEAD, MAPPING, MERCHANT, Planted, cut, plant

PARTIES = Path("tests/golden/parties.toml")
OF = ("--merchant", MERCHANT, "--cycle", CYCLE)


@pytest.fixture
def planted() -> Planted:
    """Thirty orders, and the merchant's rows with six faults."""
    return plant(30, seed=4, faults=6)


@pytest.fixture
def with_batch(dsn: str, tmp_path: Path, planted: Planted) -> Command:
    """The command on books with one batch."""
    (tmp_path / "home").mkdir()
    asyncio.run(cut(dsn, planted.books, tmp_path / "home"))
    return Command(tmp_path / "home", database_url=dsn)


def _file(folder: Path, planted: Planted) -> tuple[object, ...]:
    """The merchant's file and its mapping, as the command's arguments."""
    rows = [row.text() for row in planted.rows]
    file, mapping = folder / "own.csv", folder / "own.toml"
    file.write_bytes("\n".join([HEAD, *rows, f"合计,{len(rows)},,,,,,"]).encode("gb18030"))
    mapping.write_text(MAPPING, "utf-8")
    return file, *OF, "--mapping", mapping


def test_a_merchants_file_is_tried_brought_in_and_resolved(with_batch, planted, tmp_path):
    """Dry run, import, list, export, decisions: each says what it did, and the status says whether breaks are left."""
    bring = ("reconcile", "merchant", *_file(tmp_path, planted))
    tried = with_batch.json(*bring, "--dry-run", status=1)
    assert with_batch.json("reconcile", "lines", *OF) == []
    done = with_batch.json(*bring, status=1)
    assert (done["file"], tried["file"], done["lines"]) == (1, None, len(planted.rows))
    assert done["breaks"] == tried["breaks"] == with_batch.json("reconcile", "lines", *OF, status=1)
    again = with_batch(*bring)
    assert (again.returncode, "known before as file 1" in again.stdout) == (1, True)

    ways = with_batch.json("reconcile", "cycle", CYCLE, status=1)
    [side] = [each for each in ways if each["merchant"] == MERCHANT]
    assert (side["differs"], side["own"]["unexplained_cu"]) == (["money", "file"], "0")
    assert "商户文件" in with_batch("reconcile", "cycle", CYCLE).stdout
    table = tmp_path / "ways.csv"
    assert with_batch("reconcile", "cycle", CYCLE, "--out", table).returncode == 1
    [row] = [
        each
        for each in csv.DictReader(table.read_text("utf-8-sig").splitlines())
        if each["merchant"] == MERCHANT
    ]
    assert (row["agrees"], row["their_lines"]) == ("no", str(len(planted.rows)))
    assert_one_sentence(with_batch("reconcile", "cycle", "none"))

    target = tmp_path / "breaks.csv"
    assert with_batch("reconcile", "lines", *OF, "--out", target).returncode == 1
    rows = list(csv.DictReader(target.read_text("utf-8-sig").splitlines()))
    assert tuple(rows[0]) == LINE_BREAK_COLUMNS
    assert [row["kind"] for row in rows] == [row["kind"] for row in done["breaks"]]

    [number, *_] = [row["match_no"] for row in rows if row["match_no"]]
    assert_one_sentence(with_batch("reconcile", "accept", number))
    assert with_batch("reconcile", "accept", number, "--why", "known at the till").returncode == 0
    left = with_batch.json("reconcile", "lines", *OF, status=1)
    assert len(left) < len(rows)
    assert with_batch("reconcile", "undo", number, "--why", "not so").returncode == 0
    undone = with_batch.json("reconcile", "lines", *OF, status=1)
    leaf = next(row["leaf"] for row in undone if row not in left and row["leaf"] is not None)
    entry = next(row["entry"] for row in undone if row not in left and row["entry"])
    pair = ("reconcile", "pair", *OF, "--leaf", leaf, "--line", entry, "--why", "the same")
    assert with_batch(*pair).stdout.startswith("match ")
    assert (
        "file 1 withdrawn" in with_batch("reconcile", "withdraw", 1, "--why", "wrong week").stdout
    )
    assert with_batch("reconcile", "lines", *OF).stdout == "no breaks 无差异\n"
    assert_one_sentence(with_batch("reconcile", "lines", "--merchant", "NOBODY", "--cycle", CYCLE))
    no_map = with_batch.home / "own.csv"
    no_map.write_text("order,amount\n")
    assert "a CSV needs --mapping" in assert_one_sentence(
        with_batch("reconcile", "merchant", no_map, *OF)
    )
    statement = with_batch.home / "packages" / CYCLE / "statements" / f"{MERCHANT}.msgpack"
    statement.unlink()
    missing = assert_one_sentence(with_batch("reconcile", "cycle", CYCLE), status=1)
    assert f"statements/{MERCHANT}.msgpack is missing" in missing


@pytest.mark.slow
def test_an_import_killed_in_its_middle_is_brought_again_and_nothing_is_doubled(
    with_batch, planted, tmp_path
):
    """Kill -9 before the end of an import, of a merchant's file and of a bank's: nothing stands; a repeat is whole."""
    due = with_batch.json("reconcile", "breaks", "--parties", PARTIES, status=1)
    payments = [payment for one in due for payment in one["payments"]]
    entries = [
        BankEntry(
            place="",
            amount_fen=int(one["amount_fen"]),
            booked_on=date.fromisoformat(one["due_on"]),
            reference=one["id"],
        )
        for one in payments
    ]
    bank = tmp_path / "bank.xml"
    bank.write_text(camt053(entries, account="1001000000000000001"), "utf-8")
    for words, tables in (
        (
            ("merchant", *_file(tmp_path, planted)),
            ("merchant_file", "merchant_line", "match_leaf", "match_line"),
        ),
        (
            ("bank", bank, "--parties", PARTIES),
            ("bank_statement", "bank_entry", "match_instruction", "match_entry"),
        ),
    ):
        bring = ("reconcile", *words)
        before = _rows(with_batch, *tables)
        killed_while_it_waits(with_batch, "trail", tables[-1], *bring)
        assert _rows(with_batch, *tables) == before == [0, 0, 0, 0]
        done = with_batch.json(*bring, status=0 if words[0] == "bank" else 1)
        rows = _rows(with_batch, *tables)
        assert rows[:2] == [1, len(entries) if words[0] == "bank" else len(planted.rows)]
        with_batch.json(*bring, status=0 if words[0] == "bank" else 1)
        assert _rows(with_batch, *tables) == rows
        assert done["matches"]
    actions = [one["action"] for one in with_batch.json("trail", "list")]
    assert actions == ["merchant_file.import", "bank.import"]


def _rows(command: Command, *tables: str) -> list[int]:
    """How many rows each table has."""

    async def work(conn: asyncpg.Connection) -> list[int]:
        return [await conn.fetchval(f"SELECT count(*) FROM settlement.{each}") for each in tables]

    found: list[int] = on_database(command, work)
    return found
