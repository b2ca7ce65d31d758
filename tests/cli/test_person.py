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
        timeout=100,
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
    assert with_ledger("person", "sign-out").stdout == f"unset {name}\n"
    refused = with_ledger("merchant", "protect", "EYE", "--daily-orders", "4")
    assert "has ended" in assert_one_sentence(refused)
    with_ledger.extra = {}
    assert with_ledger("person", "disable", "anna").returncode == 0
    assert "disabled" in with_ledger("person", "list").stdout
    assert "nobody is called" in assert_one_sentence(
        with_ledger("person", "invite", "anna"), status=1
    )
    assert (home / "keys" / "people.key").stat().st_mode & 0o077 == 0
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
