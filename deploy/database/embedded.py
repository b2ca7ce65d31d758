"""The private PostgreSQL server of an installation that names none.

How it is shared. Every process that uses the server holds a shared `flock` on `users.lock`;
starting and stopping happen under an exclusive one on `start.lock`. Whoever lets go under
`start.lock` and then gets `users.lock` for itself was the last one, and stops the server. The
kernel drops the locks of a process that is killed, so no count can go wrong: the server may outlive
a killed last user, and then serves the next one.

Who may connect. The server listens on a socket only, in a folder of mode 0700, and asks the kernel
who is calling (`peer`): root and the server's own user are let in, as the role `tongdui`, and
nobody else. There is no password to lose, and `trust` would hand the books to every local account.

Who runs it. PostgreSQL refuses to run as root, so for root the server runs under a system user
without a login, with its data under a folder which that user can reach; if the binaries lie behind
a closed folder (an environment below /root), they are copied beside the data once. For anyone else
it runs as that user.

What is durable. `fsync`, `synchronous_commit` and `full_page_writes` stay on, and `max_wal_size` is
kept small enough for crash recovery to end within seconds.
"""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

import psutil
import structlog

from deploy.database.account import Account, account_for, can_run, closed_folder
from deploy.database.binaries import Binaries, ServerUnavailable, find_binaries

log = structlog.get_logger()

OWNER_ROLE = "tongdui"
"""The database role that owns everything and runs migrations."""
DATABASE = "tongdui"
PORT = 5432
"""Only a part of the socket's file name: nothing listens on TCP."""
SOCKET_PATH_MAX = 100
"""The kernel allows 107 bytes; some room is left for clients that count differently."""
LOCK_SECONDS_MAX = 120.0
START_SECONDS_MAX = 300
STOP_SECONDS_MAX = 60
LOG_BYTES_MAX = 10_000_000

_NAME = re.compile(r"\A[a-z_][a-z0-9_]{0,62}\Z")


# --- places ---


def default_home() -> Path:
    """Return the folder of this installation: `TONGDUI_HOME`, or the usual place for the caller."""
    named = os.environ.get("TONGDUI_HOME")
    if named:
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/tongdui")
    data_home = os.environ.get("XDG_DATA_HOME")
    return (Path(data_home) if data_home else Path.home() / ".local" / "share") / "tongdui"


def default_data_dir() -> Path:
    """Return where the installation's own server keeps its data."""
    return default_home() / "database"


# --- the server ---


class EmbeddedServer:
    """One use of a private server: `start` starts or joins it, and the last `close` stops it.

    Use as a context manager, or call `start` and `close`. Safe with other processes and with other
    objects of the same process on the same folder. After a `fork`, only the process that started
    may let go.

    Args:
        data_dir: Folder of the server: `data`, `run` (the socket), locks and log. Default: the
            installation's.
        settings: PostgreSQL settings over the defaults; they hold when this call is what starts the
            server.
        binaries: The installation to use; default is the one that fits the data, else
            `find_binaries`.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        binaries: Binaries | None = None,
    ) -> None:
        self.data_dir = (data_dir if data_dir is not None else default_data_dir()).absolute()
        self._settings = dict(settings or {})
        self._wanted = binaries
        self._binaries: Binaries | None = None
        self._socket_dir: Path | None = None
        self._account: Account | None = None
        self._users: IO[bytes] | None = None
        self._owner_pid: int | None = None

    # What a caller asks it.

    @property
    def bin_dir(self) -> Path:
        """Folder of the server's own programs: `psql`, `pgbench`, `pg_dump`."""
        return self._running_binaries.bin_dir

    @property
    def version(self) -> str:
        """The server's version, such as `18.6`."""
        return self._running_binaries.version

    @property
    def socket_dir(self) -> Path:
        """Folder of the server's socket: what libpq calls the host."""
        if self._socket_dir is None:
            raise ValueError("the server was not started")
        return self._socket_dir

    @property
    def port(self) -> int:
        """The number in the socket's file name."""
        return PORT

    @property
    def pid(self) -> int:
        """Process id of the postmaster.

        Raises:
            ServerUnavailable: It does not run.
        """
        pid = self._live_postmaster()
        if pid is None:
            raise ServerUnavailable(f"the server in {self.data_dir} does not run")
        return pid

    @property
    def log_file(self) -> Path:
        """The server's log."""
        return self.data_dir / "postgres.log"

    def dsn(self, database: str = DATABASE) -> str:
        """Return a connection string for asyncpg, psql and pgbench alike."""
        # `sslmode` is named so that a PGSSLMODE meant for another server does not reach this
        # socket.
        return (
            f"postgresql://{OWNER_ROLE}@/{_checked(database)}"
            f"?host={quote(str(self.socket_dir), safe='/')}&port={PORT}&sslmode=disable"
        )

    # Life.

    def start(self) -> Self:
        """Start the server, or join it when it runs; on return it accepts connections.

        Raises:
            ServerUnavailable: It cannot be started; carries PostgreSQL's own words.
            ValueError: This object is started already.
        """
        if self._users is not None:
            raise ValueError("started already; one object is one use")
        self._prepare_folder()
        with self._start_lock():
            users = self._open_lock("users.lock")
            try:
                _flock(users, fcntl.LOCK_SH, what=str(self.data_dir / "users.lock"))
                self._ensure_cluster()
                self._ensure_running()
                self._ensure_database()
            except BaseException:
                self._stop_if_unused(users)
                users.close()
                raise
            self._users = users
            self._owner_pid = os.getpid()
        return self

    def close(self) -> None:
        """Let go of the server; stop it when nobody else uses it. A second call does nothing."""
        users, self._users = self._users, None
        if users is None:
            return
        if self._owner_pid != os.getpid():
            # A forked child shares the parent's lock: closing its copy leaves the parent's in
            # force.
            users.close()
            return
        with users, self._start_lock():
            self._stop_if_unused(users)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Databases.

    def create_database(self, name: str) -> str:
        """Make an empty database and return its connection string."""
        self._psql(f"CREATE DATABASE {_checked(name)}")
        return self.dsn(name)

    def clone_database(self, template: str, name: str) -> str:
        """Copy `template`, to which nobody is connected; return the copy's connection string."""
        # Copying files costs a checkpoint and no log: measured half the time of the default.
        self._psql(
            f"CREATE DATABASE {_checked(name)} TEMPLATE {_checked(template)} STRATEGY FILE_COPY"
        )
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Remove a database if it is there, and throw out whoever is connected to it."""
        self._psql(f"DROP DATABASE IF EXISTS {_checked(name)} WITH (FORCE)")

    def psql(self, sql: str, *, database: str = DATABASE) -> str:
        """Run `sql` through psql and return what it prints, unaligned and without headers.

        Raises:
            ServerUnavailable: The statement failed, or the server does not answer.
        """
        return self._psql(sql, database=database)

    # Below: how it is done.

    @property
    def _running_binaries(self) -> Binaries:
        if self._binaries is None:
            raise ValueError("the server was not started")
        return self._binaries

    @property
    def _cluster(self) -> Path:
        return self.data_dir / "data"

    @property
    def _server_account(self) -> Account:
        if self._account is None:
            self._account = account_for(self._cluster)
        return self._account

    def _prepare_folder(self) -> None:
        created = [
            folder for folder in (self.data_dir, *self.data_dir.parents) if not folder.exists()
        ]
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ServerUnavailable(
                f"cannot make {self.data_dir}: {error.strerror}; "
                f"name another folder in TONGDUI_HOME"
            ) from error
        account = self._server_account
        if os.geteuid() == 0:
            # Root's umask must not shut out the server's user; `data` and `run` are closed
            # themselves.
            for folder in created:
                folder.chmod(0o755)
            closed = closed_folder(self.data_dir, account)
            if closed is not None:
                raise ServerUnavailable(
                    f"{closed} is closed to the user {account.name}, who runs the server for root; "
                    f"name another folder in TONGDUI_HOME"
                )

    def _open_lock(self, name: str) -> IO[bytes]:
        path = self.data_dir / name
        try:
            # Closed to others, since whoever can open a file can lock it.
            handle = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
        except OSError as error:
            raise ServerUnavailable(
                f"cannot open {path}: {error.strerror}; this server belongs to another user"
            ) from error
        if os.geteuid() == 0:
            # So that the server's own user may share what root has started.
            os.fchown(handle.fileno(), self._server_account.uid, self._server_account.gid)
        return handle

    @contextlib.contextmanager
    def _start_lock(self) -> Iterator[None]:
        with self._open_lock("start.lock") as handle:
            _flock(handle, fcntl.LOCK_EX, what=str(self.data_dir / "start.lock"))
            yield

    def _ensure_cluster(self) -> None:
        """Make the cluster if there is none, and settle which binaries serve it."""
        version_file = self._cluster / "PG_VERSION"
        if version_file.exists():
            major = int(version_file.read_text().split(".")[0])
            if self._wanted is not None and self._wanted.major != major:
                raise ServerUnavailable(
                    f"the data in {self._cluster} are of PostgreSQL {major}, "
                    f"not {self._wanted.major}: "
                    f"dump them with the old version and load them with the new"
                )
            self._binaries = self._reachable(self._wanted or find_binaries(major=major))
            return
        if self._cluster.exists():
            raise ServerUnavailable(
                f"{self._cluster} is there but holds no PostgreSQL data; move it away"
            )
        self._binaries = self._reachable(self._wanted or find_binaries())
        for half in self.data_dir.glob("data.new-*"):
            shutil.rmtree(half, ignore_errors=True)
        # Renamed when whole, so that a launcher killed in between leaves no half cluster behind.
        fresh = Path(tempfile.mkdtemp(prefix="data.new-", dir=self.data_dir))
        self._give_to_server(fresh)
        started = time.monotonic()
        self._tool(
            "initdb",
            *("--pgdata", str(fresh), "--username", OWNER_ROLE, "--auth", "peer"),
            # The C locale orders text by code point, on every machine and in every version.
            *("--encoding", "UTF8", "--locale", "C", "--data-checksums"),
            *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
        )
        with (fresh / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude_if_exists 'tongdui.conf'  # written anew at each start\n")
            conf.write("include_if_exists 'local.conf'    # yours; it wins\n")
        fresh.rename(self._cluster)
        log.info(
            "cluster.created",
            data_dir=str(self.data_dir),
            version=self._binaries.version,
            took_ms=_milliseconds(started),
        )

    def _reachable(self, binaries: Binaries) -> Binaries:
        """Return `binaries`, or a copy of them that the server's user can reach."""
        if os.geteuid() != 0 or can_run(binaries.bin_dir, self._server_account):
            return binaries
        root = binaries.bin_dir.parent
        stamp = (binaries.bin_dir / "postgres").stat()
        home = (
            default_home()
            if closed_folder(default_home(), self._server_account) is None
            else self.data_dir
        )
        copy = home / "binaries" / f"{binaries.version}-{stamp.st_size:x}-{stamp.st_mtime_ns:x}"
        target = copy / root.parent.name / root.name
        if not target.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            for folder in (home, copy.parent):
                folder.chmod(folder.stat().st_mode | 0o755)
            half = Path(tempfile.mkdtemp(prefix="new-", dir=copy.parent))
            shutil.copytree(root, half / root.parent.name / root.name, symlinks=True)
            # The wheel's programs look for their libraries beside the package.
            libraries = root.parent.parent / f"{root.parent.name}.libs"
            if libraries.is_dir():
                shutil.copytree(libraries, half / libraries.name)
            for path in (half, *half.rglob("*")):
                if not path.is_symlink():
                    mode = stat.S_IMODE(path.stat().st_mode)
                    path.chmod(mode | 0o055 if path.is_dir() or mode & 0o100 else mode | 0o044)
            with contextlib.suppress(OSError):  # Another launcher may have been first.
                half.rename(copy)
            shutil.rmtree(half, ignore_errors=True)
            log.info("binaries.copied", source=str(root), target=str(copy))
        return Binaries(bin_dir=target / "bin", version=binaries.version, source=binaries.source)

    def _ensure_running(self) -> None:
        """Bring the server to where it accepts connections; `start.lock` is held."""
        started = time.monotonic()
        deadline = started + START_SECONDS_MAX
        while True:
            if self._live_postmaster() is not None:
                # Another user's server, or the child of a launcher that was killed while starting
                # it.
                self._socket_dir = self._recorded_socket_dir()
                if self._answers(deadline):
                    return
                continue
            self._end_orphans()
            self._socket_dir = self._make_socket_dir()
            self._write_configuration()
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)
            offset = self._rotate_log()
            done = self._run_tool(
                *("pg_ctl", "start", "--wait", "--timeout", str(START_SECONDS_MAX), "--silent"),
                *("--pgdata", str(self._cluster), "--log", str(self.log_file)),
            )
            if done.returncode == 0:
                log.info(
                    "server.started",
                    data_dir=str(self.data_dir),
                    version=self._running_binaries.version,
                    took_ms=_milliseconds(started),
                )
                return
            said = self._log_since(offset)
            # A launcher that was killed while starting the server may have left one on its way up.
            passing = "still in use" in said or "already exists" in said
            if not passing or time.monotonic() > deadline:
                words = (done.stderr + said).strip()[-2000:]
                raise ServerUnavailable(f"PostgreSQL did not start in {self.data_dir}:\n{words}")
            time.sleep(0.05)

    def _answers(self, deadline: float) -> bool:
        """Wait until the running server accepts connections; False when it went away instead."""
        while self._run_client("pg_isready", "--quiet").returncode != 0:
            if self._live_postmaster() is None:
                return False
            if time.monotonic() > deadline:
                raise ServerUnavailable(
                    f"the server in {self.data_dir} runs but does not answer "
                    f"on {self._socket_dir}; see {self.log_file}"
                )
            time.sleep(0.02)
        return True

    def _end_orphans(self) -> None:
        """End what a killed postmaster left running.

        An idle child notices by itself and exits. One in a long statement does not, and no server
        starts while it holds the old shared memory. Ending it is the same crash that the postmaster
        had.
        """
        for attempt in range(200):
            orphans = self._processes()
            if not orphans:
                return
            for orphan in orphans:
                with contextlib.suppress(psutil.NoSuchProcess):
                    orphan.send_signal(signal.SIGQUIT if attempt < 50 else signal.SIGKILL)
            time.sleep(0.01)

    def _processes(self) -> list[psutil.Process]:
        """Return what works in the cluster's folder, dead ones that nobody has buried left out."""
        place = str(self._cluster.resolve())
        return [
            each
            for each in psutil.process_iter(["cwd", "status"])
            if each.info["cwd"] == place and each.info["status"] != psutil.STATUS_ZOMBIE
        ]

    def _ensure_database(self) -> None:
        names = self._psql("SELECT datname FROM pg_database").split()
        if DATABASE not in names:
            self._psql(f"CREATE DATABASE {DATABASE}")

    def _stop_if_unused(self, users: IO[bytes]) -> None:
        """Let go of `users`, and stop the server if that was the last one; `start.lock` is held."""
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(users, fcntl.LOCK_UN)
            return
        if self._binaries is not None and (pid := self._live_postmaster()) is not None:
            self._stop(pid)

    def _stop(self, pid: int) -> None:
        said = ""
        for mode in ("fast", "immediate"):
            done = self._run_tool(
                *("pg_ctl", "stop", "--wait", "--timeout", str(STOP_SECONDS_MAX), "--silent"),
                *("--mode", mode, "--pgdata", str(self._cluster)),
            )
            if done.returncode == 0 or self._live_postmaster() is None:
                # pg_ctl returns with the pid file's end, a moment before the process's.
                _await_end(pid)
                log.info("server.stopped", data_dir=str(self.data_dir), mode=mode)
                return
            said = done.stderr.strip()
        raise ServerUnavailable(f"PostgreSQL in {self.data_dir} does not stop: {said}")

    def _live_postmaster(self) -> int | None:
        """Return the process id of this cluster's postmaster, or None when none is alive.

        The pid file of a killed postmaster stays, and its number may belong to somebody else by
        now.
        """
        try:
            pid = int((self._cluster / "postmaster.pid").read_text().split("\n", 1)[0])
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            # A postmaster works in its own data folder.
            return pid if Path(process.cwd()) == self._cluster.resolve() else None
        except (OSError, ValueError, psutil.Error):
            return None

    def _make_socket_dir(self) -> Path:
        """Return a folder for the socket: closed to other users, and with a short path."""
        record = self.data_dir / "socket-dir"
        own = self.data_dir / "run"
        if len(str(own / f".s.PGSQL.{PORT}")) > SOCKET_PATH_MAX:
            with contextlib.suppress(OSError):
                recorded = Path(record.read_text())
                held = recorded.lstat()
                if stat.S_ISDIR(held.st_mode) and held.st_uid == self._server_account.uid:
                    return recorded
            # Made with a name that nobody can foresee, and remembered for those who join.
            own = Path(tempfile.mkdtemp(prefix="tongdui-", dir="/tmp"))
        own.mkdir(mode=0o700, exist_ok=True)
        self._give_to_server(own)
        record.write_text(str(own))
        return own

    def _recorded_socket_dir(self) -> Path:
        return Path((self.data_dir / "socket-dir").read_text())

    def _write_configuration(self) -> None:
        settings = default_settings() | self._settings
        settings["port"] = str(PORT)
        settings["unix_socket_directories"] = str(self._socket_dir)
        lines = [
            f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n"
            for name, value in settings.items()
        ]
        users = {self._server_account.name, "root"}
        ident = [f"tongdui {user} {OWNER_ROLE}\n" for user in sorted(users)]
        self._write_as_server("tongdui.conf", "".join(lines))
        self._write_as_server("pg_hba.conf", f"local all {OWNER_ROLE} peer map=tongdui\n")
        self._write_as_server("pg_ident.conf", "".join(ident))

    def _write_as_server(self, name: str, text: str) -> None:
        # Renamed into place: in a folder of the server's user, root must not write through a link.
        number, fresh = tempfile.mkstemp(prefix=f"{name}.", dir=self._cluster)
        with os.fdopen(number, "w") as handle:
            handle.write(text)
        self._give_to_server(Path(fresh))
        Path(fresh).replace(self._cluster / name)

    def _give_to_server(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, self._server_account.uid, self._server_account.gid)

    def _rotate_log(self) -> int:
        """Return where the log's next words will begin; a log that has grown long is replaced."""
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_BYTES_MAX:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        self.log_file.touch(mode=0o600)
        self._give_to_server(self.log_file)
        return self.log_file.stat().st_size

    def _log_since(self, offset: int) -> str:
        with self.log_file.open("rb") as handle:
            handle.seek(offset)
            return handle.read().decode(errors="replace")

    # Running programs.

    def _run_tool(self, name: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run one of the server's programs as the server's user."""
        account = self._server_account
        as_server = os.geteuid() == 0
        return subprocess.run(
            [self._running_binaries.bin_dir / name, *args],
            cwd=self.data_dir,
            env=_plain_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            umask=0o077,
            user=account.uid if as_server else None,
            group=account.gid if as_server else None,
            extra_groups=[] if as_server else None,
        )

    def _tool(self, name: str, *args: str) -> None:
        done = self._run_tool(name, *args)
        if done.returncode != 0:
            raise ServerUnavailable(
                f"{name} failed:\n{(done.stderr or done.stdout).strip()[-2000:]}"
            )

    def _run_client(self, name: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a client program as the caller."""
        return subprocess.run(
            [self._running_binaries.bin_dir / name, *args],
            env=_plain_environment()
            | {
                "PGHOST": str(self.socket_dir),
                "PGPORT": str(PORT),
                "PGUSER": OWNER_ROLE,
                "PGDATABASE": "postgres",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )

    def _psql(self, sql: str, *, database: str = "postgres") -> str:
        done = self._run_client(
            *(
                "psql",
                "--no-psqlrc",
                "--quiet",
                "--no-align",
                "--tuples-only",
                "--set",
                "ON_ERROR_STOP=1",
            ),
            *("--dbname", database, "--command", sql),
        )
        if done.returncode != 0:
            raise ServerUnavailable(f"{sql}: {done.stderr.strip()}")
        return done.stdout


def default_settings() -> dict[str, str]:
    """Return the settings of an embedded server: durable, local, sized for a small machine."""
    memory_bytes = psutil.virtual_memory().total
    return {
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        # An eighth of the memory, within reason: the hot tables are small, and the rest is the page
        # cache's.
        "shared_buffers": f"{min(512, max(128, memory_bytes // 8 // 2**20))}MB",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        # Measured: 160 MB of log are redone in a second, so a crash costs five at the worst.
        "max_wal_size": "768MB",
        "min_wal_size": "256MB",
        "wal_buffers": "16MB",
        "checkpoint_timeout": "5min",
        "checkpoint_completion_target": "0.9",
        # Statements are short and fixed; compiling them costs more than they do.
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %d ",
        # Details of errors quote rows, in which a member's id may stand.
        "log_error_verbosity": "terse",
    }


# --- ways in ---


@contextlib.contextmanager
def embedded_server(
    data_dir: Path | None = None,
    *,
    settings: Mapping[str, str] | None = None,
    binaries: Binaries | None = None,
) -> Iterator[EmbeddedServer]:
    """Use the server in `data_dir` (default: the installation's own) during a `with` block."""
    with EmbeddedServer(data_dir, settings=settings, binaries=binaries) as server:
        yield server


@contextlib.contextmanager
def database_dsn(
    url: str | None = None,
    *,
    data_dir: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Yield a connection string: `url`, else `DATABASE_URL`, else that of the embedded server.

    Args:
        url: What the caller was told on its command line, if anything.
        data_dir: Where the embedded server lives if it is needed.
        settings: Settings of the embedded server if this call starts it.

    Raises:
        ServerUnavailable: No server is named, and the embedded one cannot be started.
    """
    named = url or os.environ.get("DATABASE_URL")
    if named:
        yield named
        return
    with embedded_server(data_dir, settings=settings) as server:
        yield server.dsn()


# --- helpers ---


def _checked(name: str) -> str:
    """Return a database's `name`, which is safe to stand in SQL and in a URL.

    Raises:
        ValueError: It is not.
    """
    if not _NAME.match(name):
        raise ValueError(f"not a database name: {name!r}")
    return name


def _milliseconds(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def _plain_environment() -> dict[str, str]:
    """Return the environment without what would point PostgreSQL's programs elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return kept | {"LANG": "C", "LC_ALL": "C"}


def _await_end(pid: int) -> None:
    """Return once the process is gone, or dead and not yet buried, or `STOP_SECONDS_MAX` passed."""
    deadline = time.monotonic() + STOP_SECONDS_MAX
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.002)


def _flock(handle: IO[bytes], mode: int, *, what: str) -> None:
    """Take a lock, giving up after a while: a hung launcher must not hang everybody silently."""
    deadline = time.monotonic() + LOCK_SECONDS_MAX
    while True:
        try:
            fcntl.flock(handle, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ServerUnavailable(
                    f"another process has held {what} for {LOCK_SECONDS_MAX:.0f} s"
                ) from None
            time.sleep(0.01)
        else:
            return
