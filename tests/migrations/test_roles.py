import asyncpg
import pytest

from deploy.database.embedded import EmbeddedServer

JOURNAL = [
    *("settlement.event", "settlement.flush", "settlement.batch", "settlement.instruction"),
    *("exchange.journey_line", "exchange.connection", "exchange.notice", "settlement.trail"),
    *(
        "settlement.four_eyes",
        "exchange.proposal",
        "exchange.proposal_decision",
        "exchange.proposal_done",
    ),
]


@pytest.fixture(scope="module")
def shared_dsn(every_server: EmbeddedServer):
    """Connection string of one database for all these tests, which change nothing."""
    yield every_server.clone_database("migrated", "roles")
    every_server.drop_database("roles")


@pytest.fixture
async def program(shared_dsn: str):
    """A connection as the program makes it."""
    connection = await asyncpg.connect(shared_dsn, server_settings={"role": "tongdui_app"})
    yield connection
    await connection.close()


@pytest.mark.parametrize("table", JOURNAL)
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE {0} SET {1} = {1}",
        "DELETE FROM {0}",
        "TRUNCATE {0}",
        "MERGE INTO {0} AS t USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE",
        "SELECT 1 FROM {0} FOR UPDATE",
        "ALTER TABLE {0} ADD COLUMN x integer",
        "DROP TABLE {0}",
        "CREATE RULE r AS ON INSERT TO {0} DO INSTEAD NOTHING",
        "COPY {0} TO PROGRAM 'true'",
    ],
    ids=lambda sql: sql.split()[0].lower(),
)
async def test_program_cannot_change_what_is_written(
    program: asyncpg.Connection, table: str, sql: str
):
    """DESIGN 4: the program's role can neither change nor remove a row of the journal, nor its
    table.
    """
    column = await program.fetchval(
        """
        SELECT attname FROM pg_attribute
         WHERE attrelid = $1::text::regclass AND attnum > 0 AND attidentity = ''
         ORDER BY attnum
        """,
        table,
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await program.execute(sql.format(table, column))


@pytest.mark.parametrize("table", JOURNAL)
async def test_program_can_read_and_append(program: asyncpg.Connection, table: str):
    """The program's role can read the journal and append to it, and holds no other right on it."""
    rights = await program.fetch(
        """
        SELECT privilege_type FROM information_schema.role_table_grants
         WHERE grantee = 'tongdui_app' AND table_schema || '.' || table_name = $1
        """,
        table,
    )
    assert {row["privilege_type"] for row in rights} == {"SELECT", "INSERT"}
    columns = await program.fetchval(
        """
        SELECT count(*) FROM information_schema.column_privileges
         WHERE grantee = 'tongdui_app' AND table_schema || '.' || table_name = $1
           AND privilege_type NOT IN ('SELECT', 'INSERT')
        """,
        table,
    )
    assert columns == 0


async def test_program_owns_nothing(program: asyncpg.Connection):
    """The program's role owns nothing, may log in nowhere, and may make neither roles nor
    schemas.
    """
    owned = await program.fetchval(
        "SELECT count(*) FROM pg_class WHERE relowner = 'tongdui_app'::regrole"
    )
    assert owned == 0
    role = await program.fetchrow("SELECT * FROM pg_roles WHERE rolname = 'tongdui_app'")
    assert role is not None
    assert not any(
        role[name]
        for name in ("rolcanlogin", "rolsuper", "rolcreaterole", "rolcreatedb", "rolbypassrls")
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await program.execute("CREATE SCHEMA mine")


async def test_program_cannot_touch_the_ledger_of_migrations(program: asyncpg.Connection):
    """The program's role sees which migrations were applied and cannot forge it."""
    assert await program.fetchval("SELECT count(*) FROM public.migration") > 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await program.execute("DELETE FROM public.migration")
