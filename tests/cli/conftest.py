"""The `tongdui` command on a folder of its own: called in this process for speed, or started as users start it."""

import asyncio
import contextlib
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import asyncpg
import pytest
import structlog

from deploy.database.embedded import EmbeddedServer
from exchange.cli import main
from settlement.service.ledger import open_ledger


@dataclass
class Command:
    """Runs `tongdui` on one home; `database_url` makes it use that server instead of a private one."""

    home: Path
    database_url: str | None = None
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        """Environment of the command: ours without what would point it elsewhere."""
        environ = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "TONGDUI_HOME")}
        environ["TONGDUI_HOME"] = str(self.home)
        if self.database_url:
            environ["DATABASE_URL"] = self.database_url
        return environ | self.extra

    def __call__(self, *args: object) -> subprocess.CompletedProcess[str]:
        """Call the command's entrance in this process, to its end."""
        words = [str(arg) for arg in args]
        status: object = None
        configuration = structlog.get_config()
        handlers, level = logging.root.handlers[:], logging.root.level
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with (
            patch.dict(os.environ, self.environ, clear=True),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                main(words)
            except SystemExit as ended:
                status = ended.code
            finally:
                # A command sets logging up for its own process; this one is also the tests'.
                structlog.configure(**configuration)
                logging.basicConfig(handlers=handlers, level=level, force=True)
        assert isinstance(status, int)
        printed = [each.buffer.getvalue().decode() for each in (out, err)]
        return subprocess.CompletedProcess(words, status, *printed)

    def apart(self, *args: object, timeout: float = 280) -> subprocess.CompletedProcess[str]:
        """Run as a process of its own, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "exchange.cli", *map(str, args)],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def json(self, *args: object, status: int = 0) -> Any:
        """Run with `--json`, and read what it printed."""
        done = self(*args, "--json")
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)

    def start(self, *args: object) -> "Process":
        """Start in the background."""
        return Process(
            subprocess.Popen(
                [sys.executable, "-m", "exchange.cli", *map(str, args)],
                env=self.environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )


@dataclass
class Process:
    """A command in the background."""

    popen: subprocess.Popen[str]

    def read_line(self) -> str:
        """Wait for one line on stdout."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            told = self.popen.communicate()[1]
            raise AssertionError(f"ended with {self.popen.returncode}: {told}")
        return line


def assert_one_sentence(done: subprocess.CompletedProcess[str], status: int = 2) -> str:
    """An expected fault: its status, one line on stderr, and no traceback."""
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("tongdui: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture
def make_home() -> Iterator[Callable[[], Path]]:
    """A function that returns one more empty home, which the private server's user can enter too."""
    made: list[Path] = []

    def make() -> Path:
        made.append(Path(tempfile.mkdtemp(prefix="tongdui-test-", dir="/var/tmp")))
        made[-1].chmod(0o755)
        return made[-1]

    yield make
    for home in made:
        for database in (home / "database", home / "demo" / "database"):
            if (database / "data" / "postmaster.pid").exists():
                EmbeddedServer(database).start().close()
        shutil.rmtree(home)


@pytest.fixture
def home(make_home: Callable[[], Path]) -> Path:
    """An empty home."""
    return make_home()


@pytest.fixture
def tongdui(home: Path, dsn: str) -> Command:
    """The command on an empty home and a fresh, migrated database of the session's server."""
    return Command(home=home, database_url=dsn)


@pytest.fixture
def private_tongdui(home: Path) -> Command:
    """The command on an empty home, without a server of somebody else."""
    return Command(home=home)


@pytest.fixture
def with_ledger(tongdui: Command, dsn: str) -> Command:
    """The command on a ledger that was served once."""

    async def work() -> None:
        connection = await asyncpg.connect(dsn, server_settings={"role": "tongdui_app"})
        await open_ledger(connection)
        await connection.close()

    asyncio.run(work())
    return tongdui
