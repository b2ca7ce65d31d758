"""`tongdui person`: people join and sign in at the command line, and act under their own name."""

import os
import re
import subprocess
import sys
from urllib.parse import parse_qs, urlsplit

from tests.cli.conftest import Command, assert_one_sentence


def _with_input(command: Command, *args: str, lines: str) -> subprocess.CompletedProcess[str]:
    """Run as a process of its own that reads what it asks for from a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "exchange.cli", *args],
        env=command.environ,
        input=lines,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_a_person_acts_under_their_own_name(with_ledger, home):
    """Who signed in stands in the trail, may do what the roles say, and no more after signing out."""
    invitation = with_ledger("person", "add", "anna", "--role", "operator").stdout.strip()
    assert [each["state"] for each in with_ledger.json("person", "list")] == ["invited"]
    accepted = _with_input(
        with_ledger, "person", "accept", lines=f"{invitation}\ncorrect horse battery\n"
    )
    assert accepted.returncode == 0, accepted.stderr
    codes = re.findall(r"^[a-z2-7]{4}(?:-[a-z2-7]{4}){3}$", accepted.stdout, re.MULTILINE)
    assert len(codes) == 10
    [uri] = re.findall(r"^otpauth://.*$", accepted.stdout, re.MULTILINE)
    assert parse_qs(urlsplit(uri).query)["issuer"] == ["Tongdui"]
    wrong = _with_input(with_ledger, "person", "sign-in", "anna", lines=f"guess\n{codes[0]}\n")
    assert "too many attempts" in assert_one_sentence(wrong, status=1)
    signed = _with_input(
        with_ledger, "person", "sign-in", "anna", lines=f"correct horse battery\n{codes[0]}\n"
    )
    [(name, token)] = re.findall(r"^export (\w+)=(tds_\S+)$", signed.stdout)
    with_ledger.extra = {name: token}
    added = with_ledger("merchant", "add", "EYE", "--spend", "1/1", "--cap", "5")
    assert added.returncode == 0, added.stderr
    who = {each["action"]: each["who"] for each in with_ledger.json("trail", "list")}
    assert who["merchant.join"] == who["person.accept"] == "person:anna"
    assert who["person.add"].startswith("local:")

    assert with_ledger("person", "roles", "anna", "--role", "auditor").returncode == 0
    refused = with_ledger("merchant", "protect", "EYE", "--daily-orders", "4")
    assert "this is for operator" in assert_one_sentence(refused)
    files = {path: path.stat().st_mtime_ns for path in (home / "keys").rglob("*")}
    for words in (("keys", "rotate"), ("keys", "generate"), ("webhooks", "rotate-keys")):
        assert "this is for operator" in assert_one_sentence(with_ledger(*words))
    assert {path: path.stat().st_mtime_ns for path in (home / "keys").rglob("*")} == files
    assert with_ledger("person", "sign-out").stdout == f"unset {name}\n"
    refused = with_ledger("merchant", "protect", "EYE", "--daily-orders", "4")
    assert "has ended" in assert_one_sentence(refused)
    with_ledger.extra = {}
    assert with_ledger("person", "disable", "anna").returncode == 0
    assert "disabled" in with_ledger("person", "list").stdout
    assert "nobody is called" in assert_one_sentence(
        with_ledger("person", "invite", "anna"), status=1
    )
    assert (home / "keys" / "master.key").stat().st_mode & 0o077 == 0
    assert not (home / "keys" / "people.key").exists()
    assert os.environ.get(name) is None


def test_names_and_roles_that_cannot_be_are_refused(with_ledger):
    """A name that is none, a merchant's role at the house, and an auditor with another role are refused."""
    for args, why in (
        (("Anna", "--role", "operator"), "a name is"),
        (("anna", "--role", "merchant-finance"), "no role of the house's people"),
        (("anna", "--role", "auditor", "--role", "operator"), "an auditor has no other role"),
        (("anna", "--role", "support", "--merchant", "NONE"), "no merchant NONE"),
    ):
        assert why in assert_one_sentence(with_ledger("person", "add", *args))
    assert with_ledger.json("person", "list") == []


def test_a_change_at_the_command_line_needs_two_people(with_ledger, dsn):
    """Once there are two people, one alone changes nothing; what one proposes the other approves, with both named."""
    with_ledger("merchant", "add", "EYE", "--spend", "1/1", "--cap", "5")
    sessions = {}
    for name, role in (("anna", "operator"), ("ben", "treasurer")):
        invitation = with_ledger("person", "add", name, "--role", role).stdout.strip()
        accepted = _with_input(
            with_ledger, "person", "accept", lines=f"{invitation}\ncorrect horse battery\n"
        )
        code = re.findall(r"^[a-z2-7]{4}(?:-[a-z2-7]{4}){3}$", accepted.stdout, re.MULTILINE)[0]
        signed = _with_input(
            with_ledger, "person", "sign-in", name, lines=f"correct horse battery\n{code}\n"
        )
        sessions[name] = dict(re.findall(r"^export (\w+)=(\S+)$", signed.stdout))
    alone = ("merchant", "apikey", "add", "EYE")
    assert "needs a second person" in assert_one_sentence(with_ledger(*alone), status=1)
    terms = '{"merchant": "EYE", "cap_cu": "70000"}'
    made = ("proposal", "make", "cap.set", terms, "--why", "contract 12")
    assert "is done by a person" in assert_one_sentence(with_ledger(*made))

    with_ledger.extra = sessions["anna"]
    assert "needs a second person" in assert_one_sentence(with_ledger(*alone), status=1)
    number, digest = re.findall(r"proposal (\d+) digest (\w+)", with_ledger(*made).stdout)[0]
    approve = ("proposal", "approve", number, digest)
    assert "own_proposal" in assert_one_sentence(with_ledger(*approve), status=1)
    key = with_ledger(
        *("proposal", "make", "api_key.issue", '{"merchant": "EYE"}', "--why", "till 7")
    ).stdout.split()
    assert key[-1].startswith("tdk_")
    assert with_ledger("proposal", "reject", key[1], "--why", "not yet").returncode == 0

    with_ledger.extra = sessions["ben"]
    assert with_ledger.json("proposal", "list")[1]["why"] == "contract 12"
    assert with_ledger(*approve).stdout == f"proposal {number} is done\n"
    assert "proposal_decided" in assert_one_sentence(with_ledger(*approve), status=1)
    assert '"state": "done"' in with_ledger("proposal", "show", number).stdout
    [row] = with_ledger.json("merchant", "list")
    assert row["cap_cu"] == "70000"
    entry = next(each for each in with_ledger.json("trail", "list") if each["action"] == "cap.set")
    assert (entry["who"], entry["second"]) == ("person:anna", "person:ben")
    assert with_ledger.json("audit")["clean"] is True
