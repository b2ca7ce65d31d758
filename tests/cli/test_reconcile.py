"""`tongdui reconcile`: a bank's file is tried, brought in, and what differs is listed, exported and resolved."""

import asyncio
import csv
from datetime import date
from pathlib import Path

import asyncpg
import pytest

from deploy.database.connection import open_pool
from schemas.files.bank_statement import BankEntry
from schemas.files.breaks import COLUMNS
from settlement.service.batches import CutBatch, cut_batch
from tests.bank_files import ACCOUNT, camt053, mt940
from tests.builders import small_books
from tests.cli.conftest import Command, assert_one_sentence
from tests.golden.packages import golden_keyring

PARTIES = Path("tests/golden/parties.toml")
HOUSE_ACCOUNT = "1001000000000000001"


@pytest.fixture
def with_batch(dsn: str, tmp_path: Path) -> Command:
    """The command on books with one batch, which nobody has paid yet."""

    async def make() -> None:
        owner = await asyncpg.connect(dsn)
        await small_books().write(owner)
        await owner.close()
        pool = await open_pool(dsn)
        made = await cut_batch(
            pool, cycle_no=1, keyring=golden_keyring(tmp_path / "keys"), out=tmp_path / "packages"
        )
        assert isinstance(made, CutBatch)
        await pool.close()

    asyncio.run(make())
    return Command(tmp_path / "home", database_url=dsn)


def _listed(command: Command) -> list[dict]:
    return command.json("reconcile", "breaks", "--parties", PARTIES, status=1)


def _bank_file(path: Path, breaks: list[dict], *, more_fen: int) -> Path:
    """What the bank says when everything was paid, but for `more_fen` too much in one and a fee of 3 fen."""
    payments = [payment for one in breaks for payment in one["payments"]]
    payments.sort(key=lambda one: -abs(int(one["amount_fen"])))
    day = date.fromisoformat(payments[0]["due_on"])
    entries = [
        BankEntry(
            place="",
            amount_fen=int(one["amount_fen"]) + (more_fen if one is payments[0] else 0),
            booked_on=day,
            reference=one["id"],
        )
        for one in payments
    ]
    fee = BankEntry(place="", amount_fen=-3, booked_on=day, reference="fee")
    path.write_text(camt053([*entries, fee], account=HOUSE_ACCOUNT), "utf-8")
    return path


def test_a_bank_file_is_tried_brought_in_and_resolved(with_batch, tmp_path):
    """Dry run, import, export, decisions: each says what it did, and the status says whether breaks are left."""
    due = _listed(with_batch)
    assert {one["kind"] for one in due} == {"missing"}
    file = _bank_file(tmp_path / "bank.xml", due, more_fen=4)
    bring = ("reconcile", "bank", file, "--parties", PARTIES, "--days", "31")
    tried = with_batch.json(*bring, "--dry-run", status=1)
    assert _listed(with_batch) == due
    done = with_batch.json(*bring, status=1)
    assert [one["payments"] for one in done["matches"]] == [
        one["payments"] for one in tried["matches"]
    ]
    assert (done["imported"], sorted(one["kind"] for one in done["breaks"])) == (
        [1],
        ["amount", "extra"],
    )
    again = with_batch(*bring)
    assert (again.returncode, "0 statements (1 known before)" in again.stdout) == (1, True)
    assert "amount 金额不符" in again.stdout

    target = tmp_path / "breaks.csv"
    assert with_batch("reconcile", "breaks", "--parties", PARTIES, "--out", target).returncode == 1
    rows = list(csv.DictReader(target.read_text("utf-8-sig").splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert [row["moved_yuan"] for row in rows if row["kind"] == "extra"] == ["-0.03"]

    [number] = [one["match_no"] for one in done["breaks"] if one["match_no"]]
    assert_one_sentence(with_batch("reconcile", "accept", number))
    assert with_batch("reconcile", "accept", number, "--why", "rounded up").returncode == 0
    assert [one["kind"] for one in _listed(with_batch)] == ["extra"]
    assert with_batch("reconcile", "undo", number, "--why", "not rounded").returncode == 0
    undone = _listed(with_batch)
    [payment] = [each["id"] for one in undone for each in one["payments"]]
    [entry] = [
        each["entry"] for one in undone for each in one["entries"] if each["reference"] == payment
    ]
    by_hand = ("reconcile", "match", "--parties", PARTIES, "--payment", payment, "--entry", entry)
    assert with_batch(*by_hand, "--why", "the same").stdout == f"match {len(due) + 1}\n"
    actions = [one["action"] for one in with_batch.json("trail", "list")]
    assert actions == ["bank.import", "match.accept", "match.undo", "match.make"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (HOUSE_ACCOUNT, "1001000000000000009", "account: expected 1001000000000000001"),
        ("<?xml", "?", "neither camt.053 nor MT940"),
        ("CRDT", "CREDIT", "expected CRDT or DBIT"),
    ],
)
def test_a_file_that_is_refused_says_where(with_batch, tmp_path, old, new, says):
    """One sentence with file, line and field; nothing is imported."""
    entry = BankEntry(place="", amount_fen=5, booked_on=date(2026, 3, 2), reference="x")
    file = tmp_path / "bank.xml"
    file.write_text(camt053([entry], account=HOUSE_ACCOUNT).replace(old, new, 1), "utf-8")
    assert says in assert_one_sentence(with_batch("reconcile", "bank", file, "--parties", PARTIES))


def test_a_mapping_and_an_encoding_are_blamed_by_name(with_batch, tmp_path):
    """What is wrong in the mapping is told of the mapping; an MT940 that is not UTF-8 says how to name its encoding."""
    entry = BankEntry(place="", amount_fen=5, booked_on=date(2026, 3, 2), party_name="老街面馆")
    text = mt940([entry]).replace(ACCOUNT, HOUSE_ACCOUNT)
    file, mapping = tmp_path / "bank.sta", tmp_path / "bank.toml"
    file.write_bytes(b"BANKCNBJ\r\n940\r\n" + text.encode("gb18030"))
    mapping.write_bytes('account = "户"'.encode("gb18030"))
    bring = ("reconcile", "bank", file, "--parties", PARTIES, "--dry-run")
    assert "--encoding" in assert_one_sentence(with_batch(*bring))
    assert with_batch.json(*bring, "--encoding", "gb18030", status=1)["imported"] == [1]
    for option, says in (
        (("--encoding", "gbk-9"), "no encoding is called gbk-9"),
        (("--mapping", mapping), f"{mapping}: byte 11 is not UTF-8"),
    ):
        assert says in assert_one_sentence(with_batch(*bring, *option))
