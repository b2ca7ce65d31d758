"""`tongdui demo`: its folder, and what a killed one leaves. What it prints is tested with README.md."""

import json
import os
import signal

import pytest

from exchange.cli.context import Home
from exchange.cli.demo import MARK, clean
from tests.cli.conftest import Command, assert_one_sentence

SIGNERS = (("operator", "public_key"), ("treasurer", "treasurer_key"))
"""Roles of who signs the demo's packages, and where its result names their public keys."""


def test_a_folder_that_no_demo_made_is_left_alone(private_tongdui, home):
    """Whatever else stands in the demo's place is not removed."""
    (home / "demo").mkdir()
    (home / "demo" / "precious").write_text("x")
    assert "move it away" in assert_one_sentence(private_tongdui("demo"))
    assert (home / "demo" / "precious").exists()


def test_what_an_earlier_demo_left_is_removed(private_tongdui, home):
    """A second run starts from a clean state: nothing of the first is in its folder."""
    demo = Home(folder=home / "demo")
    clean(demo)
    (demo.folder / "packages").mkdir()
    (demo.folder / "positions.csv").write_text("old")
    clean(demo)
    assert {path.name for path in demo.folder.iterdir()} == {MARK, "run"}


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.timeout(400)
def test_a_killed_demo_leaves_nothing_that_stops_the_next(private_tongdui: Command, home):
    """Kill -9 in the middle, with a database of somebody else's in DATABASE_URL: the next one is clean and good."""
    private_tongdui.database_url = "postgresql://nobody@127.0.0.1:1/nothing"
    process = private_tongdui.start("demo", "--gateways", 2)
    assert process.popen.stderr is not None
    while "Ready on" not in process.popen.stderr.readline():
        assert process.popen.poll() is None
    os.kill(process.popen.pid, signal.SIGKILL)
    process.popen.communicate()
    assert (home / "demo" / "database" / "data" / "postmaster.pid").exists()

    done = private_tongdui.apart("demo", "--gateways", 2, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["good"] is True
    assert (result["lines"], result["cleared"], result["refused"]) == (20_000, 15_206, 613)
    assert sum(int(each["gross_cu"]) for each in result["cycles"]) == 86_450_294
    assert sum(int(each["multilateral_net_cu"]) for each in result["cycles"]) == 24_580_194
    for cycle in result["cycles"]:
        assert sum(int(each["pay_fen"]) for each in cycle["payments"]) == 0
    assert result["bank_cu"] == result["books_cu"] == "0"
    assert [each["breaks"] for each in result["money"]] == [0] * 5
    assert sum(int(each["paid_in_fen"]) for each in result["money"]) == 245_794 + 721
    assert result["dispute"]["net_cu"] == "72200"
    assert len(result["packages"]) == 5
    keys = [f"{role}={result[name]}" for role, name in SIGNERS]
    for package in result["packages"]:
        for count, status in ((2, 0), (1, 1)):
            words = [word for key in keys[:count] for word in ("--key", key)]
            done = private_tongdui("verify", package, "--threshold", 2, *words)
            assert done.returncode == status, done.stdout
    assert not (home / "demo" / "database" / "data" / "postmaster.pid").exists()
    log = [json.loads(line) for line in (home / "demo" / "demo.log").read_text().splitlines()]
    assert {"writer.stopped", "gateway.stopped"} <= {line["event"] for line in log}
