"""`tongdui doctor` finds faults that were planted, says why they matter and what to do."""

import asyncio
import json
import shutil
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from deploy.database.embedded import EmbeddedServer
from deploy.database.health import DatabaseFacts, examine
from exchange.cli.checks import Finding, check_clock, judge_database
from settlement.signing.keyring import Keyring
from settlement.signing.signer import make_key
from tests.cli.conftest import Command


def wrong(command: Command, *args: object) -> list[dict[str, str]]:
    """Findings that need something to be done; the status says whether there are any."""
    done = command("doctor", "--json", *args)
    report = json.loads(done.stdout)
    findings = [each for each in report["findings"] if each["state"] == "wrong"]
    assert done.returncode == (1 if findings else 0), done.stderr
    assert report["wrong"] == len(findings)
    assert all(each["what"] and each["why"] and each["todo"] for each in findings)
    return findings


def execute(dsn: str, *statements: str) -> None:
    """Run statements as the owner."""

    async def work() -> None:
        connection = await asyncpg.connect(dsn)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(work())


@pytest.fixture
def port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest.fixture
def keyring(home: Path) -> Keyring:
    """Good keys."""
    return Keyring.create(home / "keys", at=datetime.now(UTC) - timedelta(hours=1))


def found(findings: list[dict[str, str]], check: str, text: str) -> dict[str, str]:
    """The one finding of a check that speaks of something."""
    [finding] = [each for each in findings if each["check"] == check and text in each["what"]]
    return finding


# The session's server runs without fsync, on purpose; that is itself something doctor must see.


def test_a_server_without_fsync_is_found(tongdui, keyring, port):
    """A server that may lose acknowledged orders is wrong; everything else about it is well."""
    findings = wrong(tongdui, "--port", port)
    assert {each["what"] for each in findings} == {"fsync is off", "full_page_writes is off"}
    assert "lost" in found(findings, "database", "fsync")["why"]


def test_an_empty_home_is_not_wrong(private_tongdui, port):
    """A new machine lacks a ledger and keys, which is worth a note and no more."""
    assert wrong(private_tongdui, "--port", port) == []
    text = private_tongdui("doctor", "--port", port).stdout
    assert "there is no ledger" in text
    assert "Nothing is wrong" in text


@pytest.mark.parametrize("name", ["keys", "keys/keyring.json", "keys/{key}.pem", "operator.key"])
def test_secrets_that_others_may_read_are_found(tongdui, home, keyring, port, name):
    """A mode wider than 0600 (folders: 0700) is found, with the chmod that mends it."""
    (home / "operator.key").write_text("x")
    (home / "operator.key").chmod(0o600)
    path = home / name.format(key=keyring.keys[0].key_id)
    path.chmod(path.stat().st_mode | 0o044)
    wanted = 0o700 if path.is_dir() else 0o600
    finding = found(wrong(tongdui, "--port", port), "keys", str(path))
    assert f"may be used by others (mode {wanted | 0o044:04o})" in finding["what"]
    assert f"chmod {wanted:o} {path}`" in finding["todo"]


def test_a_missing_private_key_is_found(tongdui, home, keyring, port):
    """An index that names a key whose file is gone is found."""
    (home / "keys" / f"{keyring.keys[0].key_id}.pem").unlink()
    assert (
        "cannot be read"
        in found(wrong(tongdui, "--port", port), "keys", keyring.keys[0].key_id)["what"]
    )


def test_a_damaged_index_is_found(tongdui, home, keyring, port):
    """An index that is no JSON is found."""
    (home / "keys" / "keyring.json").write_text("{")
    assert found(wrong(tongdui, "--port", port), "keys", "is damaged")


def test_a_threshold_that_nobody_can_reach_is_found(tongdui, keyring, port):
    """Rule K34: a signer whose key was revoked leaves fewer roles than must sign."""
    now = datetime.now(UTC) - timedelta(minutes=1)
    treasurer = make_key()[1]
    both = keyring.add(treasurer.public, role="treasurer", at=now).set_threshold(2, at=now)
    assert not [each for each in wrong(tongdui, "--port", port) if each["check"] == "keys"]
    both.revoke(treasurer.key_id, at=now)
    assert found(wrong(tongdui, "--port", port), "keys", "2 roles must sign a package")


def test_revoked_keys_leave_none_that_signs(tongdui, keyring, port):
    """When the only key was revoked, nothing signs."""
    keyring.revoke(keyring.keys[0].key_id, at=datetime.now(UTC))
    assert found(wrong(tongdui, "--port", port), "keys", "signs at")


def test_an_overlap_that_ends_soon_is_noted(tongdui, keyring, port):
    """A key that retires within days is a note while its successor signs."""
    keyring.rotate(at=datetime.now(UTC), overlap=timedelta(days=3))
    assert not [each for each in wrong(tongdui, "--port", port) if each["check"] == "keys"]
    assert f"{keyring.keys[0].key_id} retires" in tongdui("doctor", "--port", port).stdout


def test_a_missing_role_is_found(tongdui, cluster, keyring, port):
    """A database without the program's role is found; the role belongs to the cluster, so it has its own here."""
    with EmbeddedServer(cluster) as server:
        tongdui.database_url = server.create_database("bare")
        findings = wrong(tongdui, "--port", port)
    assert "run the migrations" in found(findings, "database", "tongdui_app is missing")["what"]
    assert found(findings, "database", "the database is empty")


def test_a_migration_that_is_missing_is_found(tongdui, dsn, keyring, port):
    """A database that is behind the files is found, by the file's name."""
    execute(
        dsn,
        "DELETE FROM public.migration WHERE number = (SELECT max(number) FROM public.migration)",
    )
    assert found(wrong(tongdui, "--port", port), "database", ".sql is not applied")


def test_a_journal_that_can_be_changed_is_found(tongdui, dsn, keyring, port):
    """A program whose role may update the journal is found."""
    execute(dsn, "GRANT UPDATE ON settlement.event TO tongdui_app")
    assert (
        "REVOKE"
        in found(wrong(tongdui, "--port", port), "database", "can change the journal")["todo"]
    )


def test_a_ledger_ahead_of_the_clock_is_found(tongdui, dsn, keyring, port):
    """A machine whose clock was set back behind the ledger's is found."""
    execute(
        dsn,
        """
        INSERT INTO settlement.partition (part, epoch, flush_no, last_seq, digest, clock, clock_source, cycle_no)
        VALUES (1, 0, 0, 0, sha256(''), now() + interval '1 hour', 'wall', 0)
        """,
    )
    assert (
        "never runs back"
        in found(wrong(tongdui, "--port", port), "clock", "s ahead of this machine's")["why"]
    )


def test_a_server_that_does_not_answer_is_found(tongdui, keyring, port):
    """A DATABASE_URL where nobody listens is found, and nothing else fails for it."""
    tongdui.database_url = f"postgresql://nobody@127.0.0.1:{port}/nothing"
    assert found(wrong(tongdui, "--port", port), "database", "does not let us in")


def test_a_url_that_is_none_is_found(tongdui, keyring, port):
    """A DATABASE_URL that cannot be read is found."""
    tongdui.database_url = "nonsense"
    assert found(wrong(tongdui, "--port", port), "database", "does not let us in")


def test_a_port_in_use_is_found(tongdui, keyring, port):
    """Somebody else's socket on the gateways' port is found."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        finding = found(wrong(tongdui, "--port", port), "processes", f"port {port}")
    assert "--port" in finding["todo"]


def test_a_private_server_that_does_not_start_is_found(private_tongdui, home, port, cluster):
    """Damaged private data are found and not touched."""
    subprocess.run(["cp", "-a", cluster, home / "database"], check=True)
    control = home / "database" / "data" / "global" / "pg_control"
    shutil.copy(control, home / "pg_control")
    control.write_bytes(b"\0" * 8192)
    assert (
        "untouched"
        in found(wrong(private_tongdui, "--port", port), "database", "does not start")["todo"]
    )
    assert control.read_bytes() == b"\0" * 8192


async def test_facts_are_what_the_server_says(dsn):
    """The look at a database agrees with the database."""
    facts = await examine(dsn)
    assert facts.version_num >= 150_000
    assert facts.encoding == "UTF8"
    assert facts.may_alter_journal is False
    assert facts.clock_ahead_seconds is None
    assert abs(facts.skew_seconds) <= facts.skew_error_seconds


GOOD = DatabaseFacts(
    version_num=180_006,
    encoding="UTF8",
    settings={"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"},
    skew_seconds=0.0,
    skew_error_seconds=0.001,
    in_recovery=False,
    may_alter_journal=False,
    clock_ahead_seconds=-5.0,
)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"version_num": 140_011}, "PostgreSQL 14.11"),
        ({"encoding": "SQL_ASCII"}, "encoding is SQL_ASCII"),
        ({"settings": GOOD.settings | {"synchronous_commit": "off"}}, "synchronous_commit is off"),
        ({"skew_seconds": -2.5}, "2.500 s behind"),
        ({"in_recovery": True}, "is a standby"),
    ],
)
def test_each_property_of_a_database_is_judged(changed, words):
    """Each property alone makes exactly one finding; a good database makes none."""
    from dataclasses import replace

    def bad(facts: DatabaseFacts) -> list[Finding]:
        return [each for each in judge_database(facts, where="it") if each.state == "wrong"]

    assert bad(GOOD) == []
    [finding] = bad(replace(GOOD, **changed))
    assert words in finding.what


def test_a_skew_within_the_error_of_its_measurement_is_not_wrong():
    """A slow round trip cannot prove a skew."""
    from dataclasses import replace

    slow = replace(GOOD, skew_seconds=1.4, skew_error_seconds=1.0)
    assert all(each.state == "ok" for each in judge_database(slow, where="it"))


def test_a_clock_that_jumps_is_found(monkeypatch):
    """A wall clock that is set in steps is found by the even one beside it."""
    walls, evens = iter([1000.0, 1000.75]), iter([5.0, 5.25])
    monkeypatch.setattr(time, "time", lambda: next(walls))
    monkeypatch.setattr(time, "monotonic", lambda: next(evens))
    findings = [each for each in check_clock(sample_seconds=0) if each.state == "wrong"]
    assert [each.check for each in findings] == ["clock"]
    assert "jumped by +0.5" in findings[0].what
