"""What `doctor` looks at. Each check returns findings: what is so, why it matters, what to do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import resource
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from exchange.cli.context import Home, Unusable, is_locked, run
from exchange.cli.supervise import is_socket_served

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.database.health import DatabaseFacts

State = Literal["ok", "note", "wrong"]

CORES_MIN: Final = 2
MEMORY_BYTES_MIN: Final = 1 << 30
DISK_BYTES_MIN: Final = 2 << 30
FILES_MIN: Final = 1024
VERSION_NUM_MIN: Final = 150_000
SKEW_SECONDS_MAX: Final = 1.0
AHEAD_SECONDS_MAX: Final = 1.0
JUMP_SECONDS_MAX: Final = 0.05
BUILT: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""No clock that is right says a time before this program was written."""
RETIRES_SOON: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: Which: `machine`, `database`, `clock`, `keys`, `processes`.
        state: `wrong` needs something to be done; `note` is worth knowing.
        what: What is so.
        why: Why it matters; empty when all is well.
        todo: What to do; empty when nothing is.
    """

    check: str
    state: State
    what: str
    why: str = ""
    todo: str = ""


Findings = Iterator[Finding]


def examine_everything(home: Home, *, host: str, port: int) -> list[Finding]:
    """Run every check; one that fails in an unforeseen way is itself a finding."""
    checks: tuple[tuple[str, Callable[[], Findings]], ...] = (
        ("machine", lambda: check_machine(home)),
        ("database", lambda: check_database(home)),
        ("clock", check_clock),
        ("keys", lambda: check_keys(home)),
        ("processes", lambda: check_processes(home, host=host, port=port)),
    )
    findings: list[Finding] = []
    for name, check in checks:
        try:
            findings += check()
        except Exception as error:  # noqa: BLE001 - a doctor who faints helps nobody
            findings.append(
                Finding(
                    check=name,
                    state="wrong",
                    what=f"this could not be examined: {type(error).__name__}: {error}",
                    why="what cannot be examined cannot be trusted",
                    todo="run the command as the user that runs `tongdui serve`",
                )
            )
    return findings


# --- machine ---


def check_machine(home: Home) -> Findings:
    """Python, cores, memory, disk, open files."""
    import psutil

    version = platform.python_version()
    if sys.version_info >= (3, 11) and sys.maxsize > 2**32:
        yield Finding(check="machine", state="ok", what=f"Python {version}, {platform.machine()}")
    else:
        yield Finding(
            check="machine",
            state="wrong",
            what=f"Python {version} of {sys.maxsize.bit_length() + 1} bits",
            why="amounts need 64 bits, and the program is written for Python 3.11",
            todo="install a 64-bit Python 3.11 or newer and run `python3 run.py setup` with it",
        )
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if cores >= CORES_MIN:
        yield Finding(check="machine", state="ok", what=f"{cores} cores")
    else:
        yield Finding(
            check="machine",
            state="note",
            what=f"{cores} core",
            why="writer, gateways and PostgreSQL take turns on it, so everything takes longer",
            todo=f"give the machine {CORES_MIN} cores or more",
        )
    memory = psutil.virtual_memory()
    yield _enough(
        "machine",
        f"{_gib(memory.available)} of {_gib(memory.total)} memory free",
        memory.available >= MEMORY_BYTES_MIN,
        why="the kernel ends the writer or PostgreSQL when memory runs out",
        todo=f"free memory: {_gib(MEMORY_BYTES_MIN)} should be available",
    )
    place = next(each for each in (home.folder, *home.folder.parents) if each.exists())
    free = shutil.disk_usage(place).free
    yield _enough(
        "machine",
        f"{_gib(free)} free on the disk of {home.folder}",
        free >= DISK_BYTES_MIN,
        why="the journal only grows, and a full disk stops every order",
        todo=f"free disk space ({_gib(DISK_BYTES_MIN)} at least) or name another folder in TONGDUI_HOME",
    )
    owner = place if home.folder.exists() else next(p for p in home.folder.parents if p.exists())
    yield _enough(
        "machine",
        f"{home.folder} can be written"
        if os.access(owner, os.W_OK | os.X_OK)
        else f"{owner} cannot be written",
        os.access(owner, os.W_OK | os.X_OK),
        why="database, keys and packages lie there",
        todo="run as the folder's owner, or name another folder in TONGDUI_HOME",
    )
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield _enough(
        "machine",
        f"{files} open files allowed",
        files == resource.RLIM_INFINITY or files >= FILES_MIN,
        why="every caller of a gateway needs one",
        todo="raise the limit: `ulimit -n 65536`",
    )


# --- database ---


def check_database(home: Home) -> Findings:
    """The server that is named, or the private one: reachable, new enough, durable, migrated, roles as they must be."""
    from deploy.database.binaries import ServerUnavailable, find_binaries
    from deploy.database.embedded import embedded_server

    named = os.environ.get("DATABASE_URL")
    if named:
        yield from _check_dsn(named, where="the server named in DATABASE_URL")
        return
    try:
        binaries = find_binaries()
    except ServerUnavailable as error:
        yield Finding(
            check="database",
            state="wrong",
            what=f"no PostgreSQL of our own: {error}",
            why="without DATABASE_URL the program runs a private server",
            todo="run `python3 run.py setup`, install PostgreSQL 15 or newer, or set DATABASE_URL",
        )
        return
    yield Finding(
        check="database",
        state="ok",
        what=f"PostgreSQL {binaries.version} ({binaries.source}) can be run",
    )
    if not (home.database / "data").exists():
        yield Finding(
            check="database",
            state="note",
            what=f"there is no ledger in {home.folder} yet",
            why="nothing has run here so far",
            todo="`tongdui serve` makes one",
        )
        return
    try:
        with embedded_server(home.database) as server:
            yield from _check_dsn(server.dsn(), where=f"the private server in {home.database}")
    except ServerUnavailable as error:
        yield Finding(
            check="database",
            state="wrong",
            what=f"the private server does not start: {error}",
            why="the books are in it",
            todo=f"read {home.database / 'postgres.log'}; the data are untouched",
        )


def _check_dsn(dsn: str, *, where: str) -> Findings:
    import asyncpg

    from deploy.database.health import examine
    from deploy.database.migrate import check

    try:
        facts = run(examine(dsn))
        problems = run(check(dsn))
    except (
        OSError,
        TimeoutError,
        ValueError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
    ) as error:
        yield Finding(
            check="database",
            state="wrong",
            what=f"{where} does not let us in: {' '.join(str(error).split()) or type(error).__name__}",
            why="nothing works without the books",
            todo="check address, user, password and database in DATABASE_URL, and that the server runs",
        )
        return
    yield from judge_database(facts, where=where)
    for problem in problems:
        yield Finding(
            check="database",
            state="wrong",
            what=problem,
            why="the program works on the schema that it was written for, under a role that cannot change the journal",
            todo="`tongdui serve` applies migrations when it starts; the role in DATABASE_URL must own the database",
        )
    if not problems:
        yield Finding(
            check="database", state="ok", what="every migration is applied, the role is there"
        )


def judge_database(facts: DatabaseFacts, *, where: str) -> Findings:
    """Judge what a database says about itself."""
    version = f"{facts.version_num // 10_000}.{facts.version_num % 10_000}"
    yield _enough(
        "database",
        f"{where} is PostgreSQL {version}",
        facts.version_num >= VERSION_NUM_MIN,
        why="the SQL needs PostgreSQL 15",
        todo="upgrade the server to PostgreSQL 15 or newer",
    )
    if facts.in_recovery:
        yield Finding(
            check="database",
            state="wrong",
            what=f"{where} is a standby",
            why="it takes no writes",
            todo="name the primary in DATABASE_URL",
        )
    for name, wanted in (("fsync", "on"), ("full_page_writes", "on"), ("synchronous_commit", None)):
        value = facts.settings.get(name, "")
        good = value == wanted if wanted else value not in ("off", "")
        yield _enough(
            "database",
            f"{name} is {value or 'unknown'}",
            good,
            why="an order that was acknowledged could be lost when the machine fails",
            todo=f"set {name} to {wanted or 'on'} in the server's configuration and restart it",
        )
    yield _enough(
        "database",
        f"the database's encoding is {facts.encoding}",
        facts.encoding == "UTF8",
        why="references and names may hold any character",
        todo="make the database anew with ENCODING 'UTF8'",
    )
    if facts.may_alter_journal is not None:
        yield _enough(
            "database",
            "the program's role "
            + (
                "can change the journal" if facts.may_alter_journal else "cannot change the journal"
            ),
            not facts.may_alter_journal,
            why="what is written in the books must stay written",
            todo="REVOKE UPDATE, DELETE, TRUNCATE ON settlement.event, settlement.flush FROM tongdui_app",
        )
    sure_seconds = max(0.0, abs(facts.skew_seconds) - facts.skew_error_seconds / 2)
    yield _enough(
        "clock",
        f"the database's clock is {abs(facts.skew_seconds):.3f} s "
        f"{'ahead of' if facts.skew_seconds >= 0 else 'behind'} ours",
        sure_seconds <= SKEW_SECONDS_MAX,
        why="deadlines of quotes and holds are judged by the writer, reports by the database",
        todo="synchronise both machines (chrony or systemd-timesyncd)",
    )
    ahead = facts.clock_ahead_seconds
    if ahead is not None:
        yield _enough(
            "clock",
            f"the ledger's clock is {ahead:.0f} s ahead of this machine's"
            if ahead > AHEAD_SECONDS_MAX
            else "the ledger's clock is not ahead of this machine's",
            ahead <= AHEAD_SECONDS_MAX,
            why="the ledger's time never runs back: until this clock has caught up, it stands still",
            todo="set this machine's clock right; if the ledger's is wrong, wait before you close a cycle",
        )


# --- clock ---


def check_clock(sample_seconds: float = 0.1) -> Findings:
    """The machine's clock says a plausible time and runs evenly."""
    now = datetime.now(UTC)
    yield _enough(
        "clock",
        f"the clock says {now:%Y-%m-%d %H:%M:%S} UTC",
        now >= BUILT,
        why="events, cut-offs and signatures carry its time",
        todo="set the clock and keep it synchronised (chrony or systemd-timesyncd)",
    )
    wall, even = time.time(), time.monotonic()
    time.sleep(sample_seconds)
    jump = (time.time() - wall) - (time.monotonic() - even)
    yield _enough(
        "clock",
        "the clock runs evenly"
        if abs(jump) <= JUMP_SECONDS_MAX
        else f"the clock jumped by {jump:+.3f} s within {sample_seconds} s",
        abs(jump) <= JUMP_SECONDS_MAX,
        why="something sets it in steps; holds and quotes would end too early or too late",
        todo="let one service alone slew the clock, and look for a second one that sets it",
    )


# --- keys ---


def check_keys(home: Home, now: datetime | None = None) -> Findings:
    """Files that only their owner may read, and a key that signs."""
    from settlement.signing.keyring import INDEX, Keyring, KeyringUnusable

    now = now or datetime.now(UTC)
    secrets: list[Path] = [home.operator_key] if home.operator_key.exists() else []
    if home.keys.exists():
        secrets += [home.keys, *sorted(home.keys.iterdir())]
    exposed = [finding for path in secrets for finding in _check_private(path)]
    yield from exposed
    if exposed:
        # The keyring itself refuses to work with them, for the same reason.
        return
    if not (home.keys / INDEX).exists():
        yield Finding(
            check="keys",
            state="note",
            what=f"there are no signing keys in {home.keys} yet",
            why="packages are signed with them",
            todo="`tongdui serve` makes the first one, or `tongdui keys generate`",
        )
        return
    try:
        keyring = Keyring.open(home.keys)
        signers = keyring.signers(now)
    except KeyringUnusable as error:
        yield Finding(
            check="keys",
            state="wrong",
            what=str(error),
            why="without a key no package can be signed",
            todo="do what the sentence says, or restore the folder from its backup",
        )
        return
    newest = keyring.entry(signers[0].key_id)
    if newest.retires_at is not None and newest.retires_at - now < RETIRES_SOON:
        yield Finding(
            check="keys",
            state="wrong",
            what=f"{newest.key_id} retires at {newest.retires_at:%Y-%m-%d %H:%M} UTC and has no successor",
            why="from then on no package can be signed",
            todo="`tongdui keys rotate`, and give partners the new public key",
        )
    else:
        yield Finding(check="keys", state="ok", what=f"{newest.key_id} signs")
    roles = keyring.roles(now)
    if len(roles) < keyring.threshold:
        yield Finding(
            check="keys",
            state="wrong",
            what=f"{keyring.threshold} roles must sign a package, and keys of {len(roles)} do ({', '.join(roles)})",
            why="no money moves on the packages that are cut until then",
            todo="`tongdui keys add` the new signer's public key, or `tongdui keys threshold` with fewer",
        )
    for entry in keyring.keys:
        retires_at = entry.retires_at
        if entry is not newest and retires_at is not None and now < retires_at < now + RETIRES_SOON:
            yield Finding(
                check="keys",
                state="note",
                what=f"{entry.key_id} retires at {retires_at:%Y-%m-%d %H:%M} UTC",
                why="whoever trusts only this key cannot check packages after that",
                todo="see that every partner has the newer public key: `tongdui keys export`",
            )


def _check_private(path: Path) -> Findings:
    """A file or folder of secrets is its owner's alone."""
    held = path.lstat()
    folder = stat.S_ISDIR(held.st_mode)
    mode = stat.S_IMODE(held.st_mode)
    wanted = 0o700 if folder else 0o600
    if mode & ~wanted:
        yield Finding(
            check="keys",
            state="wrong",
            what=f"{path} may be used by others (mode {mode:04o})",
            why="whoever reads a key can sign packages or send orders in the house's name",
            todo=f"`chmod {wanted:03o} {path}`; if anybody could have read it, rotate and revoke its keys",
        )
    elif held.st_uid not in (os.geteuid(), 0):
        yield Finding(
            check="keys",
            state="wrong",
            what=f"{path} belongs to user id {held.st_uid}",
            why="its owner can read it and replace it",
            todo=f"`chown {os.geteuid()} {path}`",
        )


# --- processes ---


def check_processes(home: Home, *, host: str, port: int) -> Findings:
    """The writer's socket answers where a server runs, and the port is free where none does."""
    path = home.writer_socket()
    serving = is_locked(home.serve_lock)
    answers = path.exists() and asyncio.run(is_socket_served(str(path)))
    if serving:
        yield _enough(
            "processes",
            "the writer answers on its socket" if answers else f"nobody answers on {path}",
            answers,
            why="`tongdui serve` runs, but gateways cannot reach the writer: orders get 503",
            todo="look into its log; it restarts the writer by itself, else restart `tongdui serve`",
        )
    elif answers:
        yield Finding(
            check="processes",
            state="wrong",
            what=f"a writer answers on {path}, but no `tongdui serve` supervises it",
            why="nobody restarts it, and the next server takes its ledger over",
            todo="find it with `ps` and stop it with SIGTERM",
        )
    else:
        yield Finding(check="processes", state="ok", what="no server runs on this folder")
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield Finding(
            check="processes",
            state="wrong",
            what=f"{path} may be used by others",
            why="whoever connects to it can book orders",
            todo=f"`chmod 600 {path}`",
        )
    if serving:
        return
    try:
        reserve_port(host, port).close()
    except Unusable as error:
        yield Finding(
            check="processes",
            state="wrong",
            what=str(error),
            why="the gateways listen there",
            todo="stop what uses it, or choose another with `tongdui serve --port`",
        )
    else:
        yield Finding(check="processes", state="ok", what=f"port {port} of {host} is free")


def reserve_port(host: str, port: int) -> socket.socket:
    """Hold a TCP port that several gateways of ours may share; port 0 takes any free one.

    The socket never listens, so the kernel gives it no connection; it only keeps the port ours.

    Raises:
        Unusable: Somebody else uses it, or the address is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        if port:
            # Without SO_REUSEPORT the port must be free of everybody's sockets, another server's of ours too.
            with contextlib.closing(socket.socket(family, kind, protocol)) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        held = socket.socket(family, kind, protocol)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    except (OSError, OverflowError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise Unusable(f"port {port} of {host} cannot be used: {words}") from error
    return held


# --- helpers ---


def _enough(check: str, what: str, good: bool, *, why: str, todo: str) -> Finding:  # noqa: FBT001 - the third word of a sentence
    if good:
        return Finding(check=check, state="ok", what=what)
    return Finding(check=check, state="wrong", what=what, why=why, todo=todo)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
