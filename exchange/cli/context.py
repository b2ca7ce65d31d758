"""What every command needs: the installation's folder, its database, its writer, and faults in plain words."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from asyncpg import Pool

    from settlement.service.clearing import Clearing
    from settlement.signing.keyring import Keyring

T = TypeVar("T")

SOCKET_PATH_MAX: Final = 90
"""The kernel allows 107 bytes; the writer binds a longer name beside the socket first."""


class Unusable(click.ClickException):
    """The input or the environment cannot be used; the message is one sentence that says what to do."""

    exit_code = 2


def expected_fault(error: BaseException) -> tuple[int, str] | None:
    """Return exit status and sentence for a fault that is the environment's or the input's; None for one of ours.

    1 where the clearing house, or a check of its books, says no; 2 where something cannot be used.
    """
    import asyncpg

    from deploy.database.binaries import ServerUnavailable
    from deploy.database.migrate import MigrationError
    from exchange.cli.client import Refused
    from exchange.client import AnswerNotTrusted, IdentityUnusable
    from exchange.service.access import Forbidden
    from exchange.service.completejourney import DataPackageMissing
    from exchange.service.quote_keys import QuoteKeysUnusable
    from exchange.vault.master import MasterKeyUnusable
    from exchange.vault.sealing import SealBroken
    from schemas.values.faults import SchemaError, Unavailable
    from settlement.core.report import CheckFailed
    from settlement.core.trail import SecondPersonNeeded
    from settlement.service.batches import BooksDiffer
    from settlement.service.checkpoints import NotOurCheckpoint
    from settlement.service.package_folder import PackageDiffers
    from settlement.service.witness import WitnessRefused
    from settlement.signing.signer import KeyUnusable

    # PostgreSQL's details quote rows, in which a member's id may stand.
    sentence = " ".join(str(error).partition("\nDETAIL:")[0].split()) or type(error).__name__
    no = (
        *(BooksDiffer, CheckFailed, PackageDiffers, NotOurCheckpoint, WitnessRefused),
        *(Refused, AnswerNotTrusted, SecondPersonNeeded, Forbidden),
    )
    if isinstance(error, no):
        return 1, sentence
    told = (
        *(IdentityUnusable, ServerUnavailable, MigrationError, KeyUnusable, QuoteKeysUnusable),
        *(SchemaError, DataPackageMissing, MasterKeyUnusable, SealBroken),
    )
    if isinstance(error, told):
        return 2, sentence
    if isinstance(error, Unavailable):
        return 2, f"the clearing house does not answer: {sentence}"
    if isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError)):
        return 2, f"the database cannot be used: {sentence}; `tongdui doctor` says more"
    if isinstance(error, FileExistsError) and error.filename:
        return 2, f"{error.filename} is there already: name another, or take it away"
    if isinstance(error, OSError):
        return 2, sentence
    return None


# --- places ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The folder of one installation, and where everything lies in it.

    Attributes:
        folder: `TONGDUI_HOME`, or the usual place for the caller.
    """

    folder: Path

    @property
    def database(self) -> Path:
        """Folder of the private PostgreSQL server."""
        return self.folder / "database"

    @property
    def keys(self) -> Path:
        """Folder of the operator's keys."""
        return self.folder / "keys"

    @property
    def packages(self) -> Path:
        """Folder of the settlement packages."""
        return self.folder / "packages"

    @property
    def parties(self) -> Path:
        """File that says who the house and its merchants are for banks, if somebody put one there."""
        return self.folder / "parties.toml"

    @property
    def operator_key(self) -> Path:
        """File with the API key that the command line itself uses."""
        return self.folder / "operator.key"

    @property
    def operator_identity(self) -> Path:
        """File with the private key with which the command line itself signs for the house."""
        return self.folder / "operator.pem"

    @property
    def run(self) -> Path:
        """Folder of the sockets and locks of the processes that run now."""
        own = self.folder / "run"
        if len(bytes(own)) + len("/writer-1.sock") <= SOCKET_PATH_MAX:
            return own
        # A socket's path is short by the kernel's law; who may use it is decided by its folder's mode.
        name = hashlib.sha256(bytes(own)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"tongdui-{os.geteuid()}-{name}"

    @property
    def serve_lock(self) -> Path:
        """Locked while `tongdui serve` runs on this folder; holds its process id."""
        return self.run / "serve.lock"

    def writer_socket(self, part: int = 1) -> Path:
        """Socket of a partition's writer."""
        return self.run / f"writer-{part}.sock"

    def orders_socket(self, number: int) -> Path:
        """Socket of an order worker, counted from 1."""
        return self.run / f"orders-{number}.sock"

    def make(self) -> None:
        """Make the folder and the closed ones in it.

        Raises:
            Unusable: It cannot be made, or the sockets' folder belongs to somebody else.
        """
        created = [each for each in (self.folder, *self.folder.parents) if not each.exists()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for each in created:
                # The private server runs under a user of its own for root, and must find its way in.
                each.chmod(0o755)
            self.run.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = self.run.lstat()
        except OSError as error:
            raise Unusable(
                f"cannot make {error.filename or self.folder}: {error.strerror}; "
                "name another folder in TONGDUI_HOME"
            ) from error
        if not stat.S_ISDIR(held.st_mode) or held.st_uid != os.geteuid():
            raise Unusable(
                f"{self.run} belongs to another user; name another folder in TONGDUI_HOME"
            )
        self.run.chmod(0o700)


def this_home() -> Home:
    """Return the installation that this command is about; from here on only warnings are logged."""
    from deploy.database.embedded import default_home
    from exchange.cli.log import WARNING, log_to

    log_to(level=WARNING)
    return Home(folder=default_home())


# --- the database ---


@contextmanager
def database(home: Home, *, make: bool = False) -> Iterator[str]:
    """Yield the connection string of the installation's database.

    Args:
        home: The installation.
        make: Make the database and bring it to the newest migration; without it, a ledger must be there.

    Raises:
        Unusable: There is no ledger yet, or it needs a migration.
    """
    from deploy.database.embedded import database_dsn
    from deploy.database.migrate import check, migrate

    if not make and not has_ledger(home):
        raise Unusable(f"there is no ledger in {home.folder} yet: `tongdui serve` makes one")
    with database_dsn(data_dir=home.database) as dsn:
        if make:
            run(migrate(dsn))
        elif problems := run(check(dsn)):
            raise Unusable(f"the database cannot be used: {'; '.join(problems)}")
        yield dsn


def has_ledger(home: Home) -> bool:
    """Say whether a database is named, or a private one was made."""
    return bool(os.environ.get("DATABASE_URL")) or (home.database / "data").exists()


@asynccontextmanager
async def pool_of(dsn: str, *, size: int = 2) -> AsyncIterator[Pool]:
    """A small pool under the program's role."""
    from deploy.database.connection import open_pool

    pool = await open_pool(dsn, size=size)
    try:
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def clearing_of(home: Home, dsn: str) -> AsyncIterator[Clearing]:
    """The writer that runs, or one of our own for the moment when none does.

    Only one may write: while no server runs here, its lock is held, so that none starts meanwhile.

    Raises:
        Unusable: A writer on another machine, or of another home, serves this database; ours would fence it off.
    """
    from deploy.database.health import has_live_writer

    home.make()
    with _try_lock(home.serve_lock) as ours:
        if ours:
            if await has_live_writer(dsn):
                raise Unusable(
                    "a writer that was not started from this home serves the database; "
                    "run the command there, or send the request to its gateway"
                )
            async with own_writer(dsn) as clearing:
                yield clearing
        else:
            from settlement.service.link import RemoteClearing

            remote = RemoteClearing(home.writer_socket())
            await remote.start(wait_seconds=5.0)
            try:
                yield remote
            finally:
                await remote.stop()


@asynccontextmanager
async def own_writer(dsn: str) -> AsyncIterator[Clearing]:
    """A writer in this process, while no other one runs."""
    from time import time_ns

    from deploy.database.connection import open_writer_connection
    from exchange.programme.service.rider import ProgrammeRider
    from settlement.service.clearing import Writer

    writer = Writer(
        connect=lambda: open_writer_connection(dsn),
        now_us=lambda: time_ns() // 1000,
        rider=ProgrammeRider(),
    )
    await writer.start()
    try:
        yield writer
    finally:
        await writer.stop()


# --- keys ---


def keyring_of(home: Home, *, make: bool = False) -> Keyring:
    """Open the operator's keys; `make` generates the first one.

    Raises:
        KeyringUnusable: There are none, or they cannot be used.
    """
    from datetime import UTC, datetime

    from settlement.signing.keyring import INDEX, Keyring

    if make and not (home.keys / INDEX).exists():
        return Keyring.create(home.keys, at=datetime.now(UTC))
    return Keyring.open(home.keys)


# --- processes ---


@contextmanager
def _try_lock(path: Path, *, patience_seconds: float = 0.0) -> Iterator[bool]:
    """Hold the lock for the block if it is free; say whether it is held.

    Whoever wants to keep it is a little patient, since others hold it for a moment to see whether they can.
    """
    deadline = time.monotonic() + patience_seconds
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    yield False
                    return
                time.sleep(0.02)
            else:
                yield True
                return
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(path: Path, *, busy: str) -> Iterator[None]:
    """Hold a lock that carries our process id.

    Args:
        path: The lock file.
        busy: Sentence for the case that another process holds it; `{pid}` is put in.

    Raises:
        Unusable: Another process holds it.
    """
    with _try_lock(path, patience_seconds=0.5) as ours:
        if not ours:
            pid = path.read_text(errors="replace").strip() or "unknown"
            raise Unusable(busy.format(pid=pid))
        path.write_text(f"{os.getpid()}\n")
        yield


def is_locked(path: Path) -> bool:
    """Say whether another process holds a lock that was taken by `exclusive`."""
    if not path.exists():
        return False
    with _try_lock(path) as ours:
        return not ours


def run(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine to its end on a fast loop."""
    factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


async def number_of(pool: Pool, code: str) -> int:
    """Number of the merchant with this code; 0 for HOUSE.

    Raises:
        Unusable: There is none.
    """
    from settlement.service.parties import list_parties

    if code == "HOUSE":
        return 0
    for row in await list_parties(pool):
        if row["code"] == code:
            return int(row["merchant_no"])
    raise Unusable(f"no merchant {code} takes part; `tongdui merchant list` shows who does")
