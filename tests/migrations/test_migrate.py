import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from deploy.database.embedded import EmbeddedServer
from deploy.database.migrate import MIGRATIONS, MigrationError, check, migrate, read_migrations
from tests.conftest import QUICK
from tests.places import quick_place


@pytest.fixture
def empty_dsn(every_server: EmbeddedServer, request: pytest.FixtureRequest):
    """Connection string of an empty database on each PostgreSQL of this machine."""
    yield every_server.create_database("empty")
    every_server.drop_database("empty")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two small migrations; the first takes a while."""
    (tmp_path / "0001_first.sql").write_text(
        "CREATE SCHEMA a; CREATE TABLE a.t (n integer); SELECT pg_sleep(0.3);"
    )
    (tmp_path / "0002_second.sql").write_text("INSERT INTO a.t VALUES (2);")
    return tmp_path


async def rows(dsn: str, sql: str) -> list[tuple[object, ...]]:
    """Return what `sql` yields."""
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


async def test_files_are_applied_once_in_order(empty_dsn, folder):
    """Every file is applied in the order of its number, and a second run has nothing to do."""
    assert await check(empty_dsn, folder=folder) != []
    assert await migrate(empty_dsn, folder=folder) == ["0001_first.sql", "0002_second.sql"]
    assert await migrate(empty_dsn, folder=folder) == []
    assert await check(empty_dsn, folder=folder) == []
    assert await rows(empty_dsn, "SELECT n FROM a.t") == [(2,)]


async def test_processes_that_migrate_at_once_apply_each_file_once(empty_dsn, folder):
    """Processes that migrate the same empty database at the same time apply every file exactly
    once in all.
    """
    code = (
        "import asyncio, sys; from pathlib import Path;"
        "from deploy.database.migrate import migrate;"
        "print(len(asyncio.run(migrate(sys.argv[1], folder=Path(sys.argv[2])))), file=sys.stderr)"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, empty_dsn, str(folder)], stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    said = [process.communicate()[1].decode() for process in running]
    assert [process.returncode for process in running] == [0] * 4, said
    assert sorted(int(each.split()[-1]) for each in said) in ([0, 0, 0, 2], [0, 0, 1, 1])
    assert await rows(empty_dsn, "SELECT n FROM a.t") == [(2,)]


async def test_databases_that_migrate_at_once_share_the_role(make_server, every_binaries, folder):
    """Databases of one server migrate at the same time although the application's role is theirs
    in common and none of them has it yet.
    """
    server: EmbeddedServer = make_server(
        binaries=every_binaries, settings=QUICK, under=quick_place()
    )
    for attempt in range(5):
        dsns = [server.create_database(f"twin_{attempt}_{number}") for number in range(4)]
        await asyncio.gather(*(migrate(dsn, folder=folder) for dsn in dsns))
        assert [await check(dsn, folder=folder) for dsn in dsns] == [[]] * len(dsns)
        for number in range(4):
            server.drop_database(f"twin_{attempt}_{number}")
        server.psql("DROP ROLE tongdui_app")


async def test_new_file_is_applied_on_top(empty_dsn, folder):
    """A file that is added later is applied alone."""
    await migrate(empty_dsn, folder=folder)
    (folder / "0003_third.sql").write_text("INSERT INTO a.t VALUES (3);")
    assert await check(empty_dsn, folder=folder) == ["0003_third.sql is not applied"]
    assert await migrate(empty_dsn, folder=folder) == ["0003_third.sql"]


async def test_changed_file_is_refused(empty_dsn, folder):
    """A file that changed after it was applied stops the migration before anything else is done."""
    await migrate(empty_dsn, folder=folder)
    with (folder / "0001_first.sql").open("a") as handle:
        handle.write(" ")
    (folder / "0003_third.sql").write_text("INSERT INTO a.t VALUES (3);")
    with pytest.raises(MigrationError, match=r"0001_first\.sql .* changed"):
        await migrate(empty_dsn, folder=folder)
    assert await rows(empty_dsn, "SELECT n FROM a.t") == [(2,)]
    assert any("changed" in problem for problem in await check(empty_dsn, folder=folder))


async def test_database_ahead_of_the_files_is_refused(empty_dsn, folder):
    """A database that has more than the files know is left alone: an old version must not work
    on it.
    """
    await migrate(empty_dsn, folder=folder)
    (folder / "0002_second.sql").unlink()
    with pytest.raises(MigrationError, match="ahead"):
        await migrate(empty_dsn, folder=folder)
    assert any("ahead" in problem for problem in await check(empty_dsn, folder=folder))


async def test_failing_file_leaves_nothing(empty_dsn, folder):
    """A file that fails half way leaves nothing of itself, and what came before it stays."""
    (folder / "0002_second.sql").write_text("INSERT INTO a.t VALUES (2); SELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty_dsn, folder=folder)
    assert await rows(empty_dsn, "SELECT n FROM a.t") == []
    assert await rows(empty_dsn, "SELECT name FROM public.migration") == [("0001_first.sql",)]


async def test_file_that_ends_its_transaction_is_refused(empty_dsn, folder):
    """A file with a COMMIT of its own is refused, since a failure behind it could not be undone."""
    (folder / "0002_second.sql").write_text("COMMIT;")
    with pytest.raises(MigrationError, match="ends its transaction"):
        await migrate(empty_dsn, folder=folder)


async def test_migration_gives_up_on_a_busy_table(empty_dsn, folder, monkeypatch):
    """A migration that cannot get a table within the lock timeout gives up, since orders queue
    behind it.
    """
    monkeypatch.setattr("deploy.database.migrate.LOCK_TIMEOUT_SECONDS", 1)
    await migrate(empty_dsn, folder=folder)
    (folder / "0003_third.sql").write_text("ALTER TABLE a.t ADD COLUMN m integer;")
    busy = await asyncpg.connect(empty_dsn)
    try:
        async with busy.transaction():
            await busy.execute("LOCK TABLE a.t IN ACCESS SHARE MODE")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await migrate(empty_dsn, folder=folder)
    finally:
        await busy.close()
    assert await migrate(empty_dsn, folder=folder) == ["0003_third.sql"]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["0001_a.sql", "0003_b.sql"], "0003_b.sql should have number 0002"),
        (["0002_a.sql"], "0002_a.sql should have number 0001"),
        (["0001_a.sql", "0001_b.sql"], "0001_b.sql should have number 0002"),
        (["1_a.sql"], "1_a.sql is not named"),
        (["0001_A.sql"], "0001_A.sql is not named"),
    ],
)
def test_files_out_of_order_are_refused(tmp_path, names, complaint):
    """A gap, a double number or another form of name is refused before a database is asked."""
    for name in names:
        (tmp_path / name).write_text("SELECT 1;")
    with pytest.raises(MigrationError, match=complaint):
        read_migrations(tmp_path)


async def test_owner_without_superuser_can_migrate(make_server, every_binaries):
    """A managed server's ordinary owner, who may create roles, migrates and can then become the
    program's role.
    """
    server: EmbeddedServer = make_server(
        binaries=every_binaries, settings=QUICK, under=quick_place()
    )
    server.psql("CREATE ROLE tenant LOGIN CREATEROLE")
    server.psql("CREATE DATABASE tenant OWNER tenant")
    # The embedded server lets only its own role in, so it plays the tenant.
    as_tenant = server.dsn("tenant") + "&options=-c%20role%3Dtenant"
    assert await migrate(as_tenant) == [each.name for each in read_migrations()]
    assert await check(as_tenant) == []
    server.psql("REVOKE tongdui_app FROM tenant CASCADE")
    assert any("grant it" in problem for problem in await check(as_tenant))


def test_migrate_as_a_command(every_server: EmbeddedServer):
    """`python -m deploy.database.migrate` takes DATABASE_URL, names what it applied, and checks."""
    dsn = every_server.create_database("by_command")
    command = [sys.executable, "-m", "deploy.database.migrate"]
    environ = os.environ | {"DATABASE_URL": dsn}
    before = subprocess.run(
        [*command, "--check"], env=environ, capture_output=True, text=True, check=False
    )
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    after = subprocess.run([*command, "--check", dsn], capture_output=True, text=True, check=False)
    every_server.drop_database("by_command")
    assert before.returncode == 1
    assert done.returncode == 0
    assert all(path.name in done.stdout for path in MIGRATIONS.glob("*.sql"))
    assert (after.returncode, after.stdout) == (0, "up to date\n")
