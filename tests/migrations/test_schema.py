import subprocess

from deploy.database.binaries import all_binaries, find_binaries
from deploy.database.embedded import EmbeddedServer
from deploy.database.schema import SCHEMA_FILE, dump_schema


def test_schema_file_is_what_the_migrations_make(every_dsn: str):
    """`schema.sql` is exactly what all migrations together make, on each PostgreSQL of this
    machine.
    """
    # The newest pg_dump reads every older server.
    assert SCHEMA_FILE.read_text() == dump_schema(every_dsn, binaries=find_binaries())


def test_each_pg_dump_says_the_same(dsn: str, every_server: EmbeddedServer):
    """`schema.sql` does not depend on which version wrote it."""
    every_server.drop_database("loaded")
    loaded = every_server.create_database("loaded")
    try:
        subprocess.run(
            [
                every_server.bin_dir / "psql",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-f",
                SCHEMA_FILE,
                loaded,
            ],
            capture_output=True,
            check=True,
        )
        own = next(each for each in all_binaries() if each.bin_dir == every_server.bin_dir)
        assert dump_schema(loaded, binaries=own) == SCHEMA_FILE.read_text()
    finally:
        every_server.drop_database("loaded")
