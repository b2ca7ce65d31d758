"""`schema.sql`: what all migrations together make, for people to read.

Made by `pg_dump` from a freshly migrated database, with what depends on versions and machines taken
out, and each table's keys, indexes and grants put right behind it. The order still loads: foreign
keys come last.

Run `python -m deploy.database.schema` after a new migration; with `--check` it only says whether
the file is right.
"""

import asyncio
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.database.binaries import Binaries, find_binaries
from deploy.database.ephemeral import ephemeral_server
from deploy.database.migrate import MIGRATIONS, migrate

SCHEMA_FILE = Path(__file__).resolve().parent / "schema.sql"

_HEADER = """\
-- What the migrations make, for reading; the migrations are what runs.
-- Made by `python -m deploy.database.schema`; do not edit.
"""
_ENTRY = re.compile(
    r"^--\n-- Name: (.*?); Type: (.*?); Schema: (.*?); Owner: .*\n--\n", re.MULTILINE
)
_SETTING = re.compile(
    r"^(SET .*|SELECT pg_catalog\.set_config.*|\\(un)?restrict .*|--.*)\n", re.MULTILINE
)
_INDEXED_TABLE = re.compile(r"^CREATE (?:UNIQUE )?INDEX \S+ ON (?:ONLY )?(\S+)", re.MULTILINE)
_FOREIGN_KEY = "FK CONSTRAINT"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One object of a dump: its kind, the object that it belongs to, and its statements."""

    kind: str
    of: str
    sql: str


def dump_schema(dsn: str, *, binaries: Binaries) -> str:
    """Return the schema of a database as `schema.sql` would say it.

    Args:
        dsn: The database.
        binaries: Whose `pg_dump` to use; not older than the server.

    Raises:
        subprocess.CalledProcessError: `pg_dump` failed.
    """
    dump = subprocess.run(
        [binaries.bin_dir / "pg_dump", "--schema-only", "--no-owner", dsn],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    entries = _entries(dump)
    tables = dict.fromkeys(entry.of for entry in entries if entry.kind != _FOREIGN_KEY)
    ordered = [e for of in tables for e in entries if e.of == of and e.kind != _FOREIGN_KEY]
    ordered += [e for e in entries if e.kind == _FOREIGN_KEY]
    return _HEADER + "".join(f"\n{entry.sql}\n" for entry in ordered)


def _entries(dump: str) -> list[_Entry]:
    """Split a dump at the headings that pg_dump gives each object."""
    parts = _ENTRY.split(dump)
    entries = []
    for name, kind, schema, body in zip(*(iter(parts[1:]),) * 4, strict=True):
        sql = re.sub(r"\n{2,}", "\n", _SETTING.sub("", body)).strip()
        indexed = _INDEXED_TABLE.search(sql)
        if indexed is not None:
            of = indexed.group(1)
        elif kind in {"SCHEMA", "ACL", "COMMENT"} and schema == "-":
            of = name.removeprefix("SCHEMA ")
        elif kind in {"ACL", "COMMENT"}:
            # `TABLE event` or `COLUMN event.key`.
            of = f"{schema}.{name.split(' ')[-1].split('.')[0]}"
        else:
            # A constraint is headed by its table and its own name.
            of = f"{schema}.{name.split(' ')[0]}"
        # pg_dump quotes a name in some headings only.
        of = of.replace('"', "")
        entries.append(_Entry(kind=kind, of=of, sql=sql))
    return entries


def make_schema(*, binaries: Binaries | None = None, folder: Path = MIGRATIONS) -> str:
    """Return `schema.sql` for the migrations in `folder`, from a server of this call's own."""
    chosen = binaries if binaries is not None else find_binaries()
    with ephemeral_server(binaries=chosen, settings={"fsync": "off"}) as server:
        asyncio.run(migrate(server.dsn(), folder=folder))
        return dump_schema(server.dsn(), binaries=chosen)


def main(argv: list[str]) -> int:
    """Write `schema.sql`, or with `--check` compare it."""
    text = make_schema()
    if "--check" not in argv:
        SCHEMA_FILE.write_text(text)
        print(f"wrote {SCHEMA_FILE}")
        return 0
    if SCHEMA_FILE.exists() and SCHEMA_FILE.read_text() == text:
        return 0
    print(f"{SCHEMA_FILE} is not what the migrations make: python -m deploy.database.schema")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
