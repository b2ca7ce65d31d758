"""Hosted programmes under the clauses that every merchant's adapter keeps, on a real writer and PostgreSQL."""

import json
import random
import subprocess
import sys

import pytest

from adapters.kit.conformance.clauses import CLAUSES
from adapters.kit.conformance.examination import Finding
from adapters.kit.contract import Outcome, Receipt
from deploy.database.embedded import EmbeddedServer
from exchange.service import hosted
from exchange.service.hosted import PROTOCOL
from exchange.service.hosted_trial import EXEMPT, Proving
from schemas.values.reason import Reason
from tests.simulation.ground import open_house


async def examined(server: EmbeddedServer, *only: str) -> dict[str, Finding]:
    """What was seen of each clause."""
    dsn = server.clone_database("migrated", "proving")
    async with open_house(dsn) as house:
        proving = Proving(
            house.pool, house.writer, now_us=house.clock, random=random.SystemRandom()
        )
        findings = await proving.examine(only=only)
    server.drop_database("proving")
    return {finding.id: finding for finding in findings}


async def test_a_hosted_programme_keeps_every_clause(server: EmbeddedServer):
    """Each clause that applies to what the manifest declares is kept, and nothing that is logged names a member."""
    findings = await examined(server)
    assert {name: each.seen for name, each in findings.items() if each.verdict == "failed"} == {}
    passed = {name for name, each in findings.items() if each.verdict == "passed"}
    bound = {
        clause.id for clause in CLAUSES if not clause.id.startswith(("late.", "hold.captured"))
    }
    assert passed == bound - EXEMPT | {"log.silent"}


async def test_a_broken_hosted_programme_fails(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
):
    """An adapter that takes a lost answer for a no is caught by the clauses about unknown outcomes."""
    no = Receipt(outcome=Outcome.REFUSED, reason=Reason.MERCHANT_REFUSED)
    monkeypatch.setattr(hosted, "_NO_ANSWER", no)
    findings = await examined(server, "unknown.cut", "status.spoilt", "hold.reserves")
    assert [each.verdict for each in findings.values()] == ["passed", "failed", "failed"]


def test_the_command_line_tries_hosted_programmes():
    """`adapter check hosted` makes a server of its own and prints nothing but its report; the name is no folder's."""
    command = [sys.executable, "-m", "exchange.cli", "adapter"]
    ran = subprocess.run(
        [*command, "check", PROTOCOL, "--only", "status.done", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    [told] = json.loads(ran.stdout)
    assert (told["adapter"], told["passed"]) == (PROTOCOL, True)
    assert [clause["verdict"] for clause in told["clauses"]] == ["passed"]
    new = subprocess.run(
        [*command, "new", PROTOCOL, "--protocol", "soap"], capture_output=True, check=False
    )
    assert new.returncode == 2
