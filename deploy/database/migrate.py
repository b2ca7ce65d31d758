"""Ordered migrations: plain SQL files, applied once each, remembered with their digests.

Each file is one transaction, opened by a transaction-level advisory lock: such a lock works through
PgBouncer, and whoever waited for it looks again at what is applied before it does anything. So any
number of processes may migrate at once. A file that was applied may never change, since what it did
is done; the next file repairs it.

Run as `python -m deploy.database.migrate [DSN]`, or with `--check` to see only what is wrong.
"""

import asyncio
import hashlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import structlog

log = structlog.get_logger()

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
APP_ROLE = "tongdui_app"
LOCK_KEY = 0x746F6E67647569
"""The advisory lock of migrations: the name of the project in ASCII."""
LOCK_TIMEOUT_SECONDS = 5
"""How long one statement may wait for a table: a queue of orders stands behind it."""

_FILE_NAME = re.compile(r"\A(\d{4})_[a-z0-9_]+\.sql\Z")

_CREATE_LEDGER = """
CREATE TABLE IF NOT EXISTS public.migration (
    number integer PRIMARY KEY CHECK (number > 0),
    name text NOT NULL UNIQUE,
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    applied_at timestamptz NOT NULL DEFAULT transaction_timestamp()
);
GRANT SELECT ON public.migration TO tongdui_app;
"""

# Roles belong to the whole cluster, and advisory locks to one database: two databases that migrate
# at once collide here, and the loser finds what it wanted.
_CREATE_APP_ROLE = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = 'tongdui_app') THEN
        BEGIN
            CREATE ROLE tongdui_app NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
END
$$
"""

# Whoever migrates must be able to become the program's role. A superuser can already.
_JOIN_APP_ROLE = """
DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT tongdui_app TO %I', current_user);
    END IF;
END
$$
"""


# Since version 16 a member may lack the right to become the role.
_MAY_BECOME = """
SELECT pg_has_role(
    $1, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END
)
"""


class MigrationError(Exception):
    """The database and the migration files do not fit; the message names what differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One migration file.

    Attributes:
        number: Its place in the order, from 1.
        name: Its file name.
        sql: Its text.
        sha256: Digest of its bytes, in hexadecimal.
    """

    number: int
    name: str
    sql: str
    sha256: str


def read_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """Return the migrations in `folder`, in order.

    Raises:
        MigrationError: A name is not `NNNN_name.sql`, or the numbers are not 1, 2, 3 and so on.
    """
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = _FILE_NAME.match(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is not named NNNN_name.sql")
        body = path.read_bytes()
        found.append(
            Migration(
                number=int(match.group(1)),
                name=path.name,
                sql=body.decode(),
                sha256=hashlib.sha256(body).hexdigest(),
            )
        )
    for expected, migration in enumerate(found, start=1):
        if migration.number != expected:
            raise MigrationError(f"{migration.name} should have number {expected:04d}")
    return found


async def migrate(dsn: str, *, folder: Path = MIGRATIONS) -> list[str]:
    """Bring the database to the newest migration; safe to run from several processes at once.

    Args:
        dsn: The database, named with the role that owns it.
        folder: Where the files are.

    Returns:
        Names of the files that this call applied, in order; empty when there was nothing to do.

    Raises:
        MigrationError: A file changed after it was applied, the database is ahead of the files, or
            a file
            ended the transaction that it runs in. Nothing of the file in question is kept.
        asyncpg.PostgresError: A file's SQL failed; nothing of it is kept, files before it are.
    """
    migrations = read_migrations(folder)
    # No cached statements: they would outlive their transaction, which PgBouncer does not allow.
    connection = await asyncpg.connect(dsn, statement_cache_size=0)
    try:
        applied = []
        while (name := await _apply_next(connection, migrations)) is not None:
            applied.append(name)
        return applied
    finally:
        await connection.close()


async def check(dsn: str, *, folder: Path = MIGRATIONS) -> list[str]:
    """Return what keeps the program from working on this database; empty when all is well."""
    migrations = read_migrations(folder)
    connection = await asyncpg.connect(dsn, statement_cache_size=0)
    try:
        problems = []
        if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", APP_ROLE):
            problems.append(f"the role {APP_ROLE} is missing: run the migrations")
        elif not await connection.fetchval(_MAY_BECOME, APP_ROLE):
            problems.append(f"the connecting role may not become {APP_ROLE}: grant it")
        if await connection.fetchval("SELECT to_regclass('public.migration')") is None:
            problems.append("the database is empty: run the migrations")
            return problems
        applied = await _applied(connection)
    finally:
        await connection.close()
    problems += _differences(migrations, applied)
    problems += [f"{each.name} is not applied" for each in migrations if each.number not in applied]
    return problems


async def _apply_next(connection: asyncpg.Connection, migrations: list[Migration]) -> str | None:
    """Apply the first migration that is missing, in one transaction; None when there is none."""
    async with connection.transaction():
        # Another migrator may be busy for long; only the tables' locks have a limit.
        await connection.execute("SET LOCAL lock_timeout = 0")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK_KEY)
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
        if await connection.fetchval("SELECT to_regclass('public.migration')") is None:
            await connection.execute(_CREATE_APP_ROLE)
            await connection.execute(_JOIN_APP_ROLE)
            await connection.execute(_CREATE_LEDGER)
        applied = await _applied(connection)
        problems = _differences(migrations, applied)
        if problems:
            raise MigrationError("; ".join(problems))
        for migration in migrations:
            if migration.number in applied:
                continue
            # Files name their schemas: what they do must not depend on who runs them.
            await connection.execute("SET LOCAL search_path = ''")
            await connection.execute(migration.sql)
            if not connection.is_in_transaction():
                raise MigrationError(f"{migration.name} ends its transaction; it must not")
            await connection.execute(
                "INSERT INTO public.migration (number, name, sha256) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.sha256,
            )
            log.info("migration.applied", name=migration.name)
            return migration.name
    return None


async def _applied(connection: asyncpg.Connection) -> dict[int, tuple[str, str]]:
    rows = await connection.fetch("SELECT number, name, sha256 FROM public.migration")
    return {row["number"]: (row["name"], row["sha256"]) for row in rows}


def _differences(migrations: list[Migration], applied: dict[int, tuple[str, str]]) -> list[str]:
    """Return where what was applied is not what the files say."""
    problems = []
    files = {migration.number: migration for migration in migrations}
    for number, (name, sha256) in sorted(applied.items()):
        file = files.get(number)
        if file is None:
            problems.append(
                f"the database is ahead: it has {name}, which this version does not know"
            )
        elif (file.name, file.sha256) != (name, sha256):
            problems.append(
                f"{file.name} is not the {name} that was applied: it changed afterwards"
            )
    return problems


def main(argv: list[str]) -> int:
    """Migrate or check the database named on the command line or in DATABASE_URL."""
    checking = "--check" in argv
    named = [word for word in argv if not word.startswith("-")]
    dsn = named[0] if named else os.environ.get("DATABASE_URL", "")
    if not dsn:
        print("name a database: python -m deploy.database.migrate [--check] DSN", file=sys.stderr)
        return 2
    if checking:
        problems = asyncio.run(check(dsn))
        print("\n".join(problems) or "up to date")
        return 1 if problems else 0
    applied = asyncio.run(migrate(dsn))
    print("\n".join(applied) or "nothing to do")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
