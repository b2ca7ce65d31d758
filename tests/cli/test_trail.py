"""`tongdui trail`: what people changed is written down with who and why, and nobody changes that unnoticed."""

import asyncio
import csv
import json
from pathlib import Path

import asyncpg
import pytest

from exchange.cli.who import local_user
from schemas.files.trail import COLUMNS
from tests.cli.conftest import Command, assert_one_sentence


def _as_owner(dsn: str, sql: str) -> None:
    """Change rows as only the database's owner can."""

    async def work() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(sql)
        await connection.close()

    asyncio.run(work())


@pytest.fixture
def changed(with_ledger: Command) -> Command:
    """A ledger with a merchant that joined and whose members are protected."""
    added = ("merchant", "add", "EYE", "--spend", "1/1", "--cap", "5", "--why", "contract 12")
    assert with_ledger(*added).returncode == 0
    assert with_ledger("merchant", "protect", "EYE", "--daily-orders", "3").returncode == 0
    return with_ledger


def test_every_change_on_the_command_line_is_in_the_trail(changed, tmp_path):
    """Each command that changes something leaves an entry: who, what, before and after, why; and the books agree."""
    me = f"local:{local_user()}"
    file = tmp_path / "in.csv"
    file.write_text("member,units,expires_at\nTOTAL 合计,0,0\n", encoding="utf-8")
    changed("merchant", "protect", "EYE", "--daily-orders", "4", "--why", "too few")
    changed("merchant", "apikey", "add", "EYE", "--label", "till")
    key = changed.json("merchant", "apikey", "list", "EYE")[1]["id"]
    changed("merchant", "apikey", "revoke", "EYE", key, "--why", "lost")
    changed("keys", "generate")
    changed("keys", "rotate", "--why", "yearly")
    changed("merchant", "export", "EYE", "--out", tmp_path / "out")
    entries = changed.json("trail", "list")
    assert [(each["action"], each["subject"], each["why"]) for each in entries[:6]] == [
        ("merchant.join", "EYE", "contract 12"),
        ("api_key.issue", "EYE", "contract 12"),
        ("member_rules.set", "EYE", ""),
        ("member_rules.set", "EYE", "too few"),
        ("api_key.issue", "EYE", ""),
        ("api_key.revoke", "EYE", "lost"),
    ]
    assert entries[0]["after"]["cap_cu"] == "50000"
    assert (entries[3]["before"]["daily_orders"], entries[3]["after"]["daily_orders"]) == (3, 4)
    assert entries[4]["after"] == {"key": key, "label": "till"}
    keys = [each for each in entries if each["action"] == "signing_key.set"]
    assert [each["why"] for each in keys] == ["", "yearly", "yearly"]
    assert entries[-1]["action"] == "points.export"
    assert {each["who"] for each in entries} == {me}
    report = changed.json("audit")
    assert (report["clean"], report["trail_entries"]) == (True, len(entries))
    assert report["trail_head"] == entries[-1]["digest"]
    assert "too few" in changed("trail", "list").stdout


def test_a_reason_is_one_short_line(with_ledger):
    """A reason that is too long, or no line, is refused before anything is done."""
    for why in ("x" * 501, "one\ntwo"):
        done = with_ledger("keys", "generate", "--why", why)
        assert done.returncode == 2
        assert "one line" in done.stderr
    assert with_ledger.json("trail", "list") == []


def test_an_exported_trail_can_be_verified_by_itself(changed, tmp_path):
    """The export verifies; with a line changed, left out, doubled or moved it does not, and the line is named."""
    file = tmp_path / "trail.jsonl"
    assert changed("trail", "export", "--out", file).returncode == 0
    assert changed("trail", "verify", file, "--here").returncode == 0
    lines = file.read_bytes().splitlines(keepends=True)
    for place, wrong in (
        (1, [lines[0].replace(b"50000", b"60000"), *lines[1:]]),
        (2, [lines[0], *lines[2:]]),
        (2, [lines[0], *lines]),
        (1, [lines[1], lines[0], lines[2]]),
        (3, [*lines[:2], lines[2][:-20] + b"\n"]),
    ):
        file.write_bytes(b"".join(wrong))
        assert f"line {place}" in assert_one_sentence(changed("trail", "verify", file), status=1)
    file.write_bytes(b"".join(lines[:2]))
    assert changed("trail", "verify", file, "--here").returncode == 0


def test_a_trail_of_somebody_else_is_told_apart(changed, tmp_path, dsn):
    """An export that verifies by itself and is not what this trail was is refused by `--here`."""
    file = tmp_path / "trail.jsonl"
    changed("trail", "export", "--out", file)
    _as_owner(dsn, "DELETE FROM settlement.trail WHERE entry_no = 3")
    assert changed("trail", "verify", file).returncode == 0
    assert "is not what" in assert_one_sentence(
        changed("trail", "verify", file, "--here"), status=1
    )


def test_the_trail_opens_in_a_spreadsheet(changed, tmp_path):
    """The CSV holds every field of every entry, and none of them is a formula."""
    changed("merchant", "protect", "EYE", "--why", "=1+1")
    file: Path = tmp_path / "trail.csv"
    changed("trail", "export", "--csv", "--out", file)
    rows = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["action"] for row in rows] == [
        each["action"] for each in changed.json("trail", "list")
    ]
    assert json.loads(rows[0]["after"])["cap_cu"] == "50000"
    assert rows[-1]["why"] == "'=1+1"


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("UPDATE settlement.trail SET who = 'person:eve' WHERE entry_no = 1", {"digest"}),
        (
            """UPDATE settlement.trail SET after = after || '{"cap_cu": "9"}' WHERE entry_no = 1""",
            {"digest", "cap_cu"},
        ),
        ("DELETE FROM settlement.trail WHERE entry_no = 2", {"entry_no", "digest"}),
        ("DELETE FROM settlement.trail", {"row"}),
        ("UPDATE settlement.trail SET subject = 'AIR' WHERE entry_no = 1", {"digest", "change"}),
    ],
)
def test_the_audit_finds_a_trail_that_was_changed(changed, dsn, sql, found):
    """What the owner of the database changes in the trail is found, also when everything is taken away."""
    assert changed.json("audit")["clean"] is True
    _as_owner(dsn, sql)
    report = changed.json("audit", status=1)
    assert {each["field"] for each in report["differences"]} == found
    assert {each["table"] for each in report["differences"]} == {"settlement.trail"}
