"""What a database says about itself, for `doctor`: facts only, the judgement is the reader's."""

from __future__ import annotations

import time
from dataclasses import dataclass

import asyncpg

from deploy.database.migrate import APP_ROLE

CONNECT_SECONDS_MAX = 10
WRITER_NAME = "tongdui-writer"
"""The `application_name` of a writer's connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """One look at a database.

    Attributes:
        version_num: As PostgreSQL counts, such as 180006 for 18.6.
        encoding: Of the database; must be able to hold any reference.
        settings: Values of the settings that durability hangs on.
        skew_seconds: The database's clock less ours.
        skew_error_seconds: How far off that may be, from the length of the round trip.
        in_recovery: Whether it is a standby, which takes no writes.
        may_alter_journal: Whether the program's role could change or delete journal rows; None before the migrations.
        clock_ahead_seconds: How far the ledger's clock lies ahead of ours; None where there is no ledger, or where
            its time comes from the callers.
    """

    version_num: int
    encoding: str
    settings: dict[str, str]
    skew_seconds: float
    skew_error_seconds: float
    in_recovery: bool
    may_alter_journal: bool | None
    clock_ahead_seconds: float | None


async def examine(dsn: str) -> DatabaseFacts:
    """Look at a database, migrated or not.

    Raises:
        OSError: It cannot be reached.
        asyncpg.PostgresError: It does not let us in.
    """
    connection = await asyncpg.connect(dsn, statement_cache_size=0, timeout=CONNECT_SECONDS_MAX)
    try:
        settings = {
            row["name"]: row["setting"]
            for row in await connection.fetch(
                """
                SELECT name, setting FROM pg_catalog.pg_settings
                 WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'data_checksums', 'max_connections')
                """
            )
        }
        # The shortest of a few round trips bounds the error best.
        skew_seconds, error_seconds = 0.0, float("inf")
        for _ in range(5):
            asked = time.time()
            theirs = float(
                await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())")
            )
            answered = time.time()
            if answered - asked < error_seconds:
                error_seconds = answered - asked
                skew_seconds = theirs - (asked + answered) / 2
        may_alter_journal = clock_ahead_seconds = None
        if await connection.fetchval("SELECT to_regclass('settlement.event')") is not None:
            if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", APP_ROLE):
                may_alter_journal = await connection.fetchval(
                    """
                    SELECT bool_or(has_table_privilege($1, name, right_))
                      FROM unnest(ARRAY['settlement.event', 'settlement.flush']) AS name,
                           unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE']) AS right_
                    """,
                    APP_ROLE,
                )
            clock = await connection.fetchval(
                """
                SELECT max(extract(epoch FROM clock)) FROM settlement.partition WHERE clock_source = 'wall'
                """
            )
            if clock is not None:
                clock_ahead_seconds = float(clock) - time.time()
        return DatabaseFacts(
            version_num=connection.get_server_version().major * 10_000
            + connection.get_server_version().minor,
            encoding=await connection.fetchval("SHOW server_encoding"),
            settings=settings,
            skew_seconds=skew_seconds,
            skew_error_seconds=error_seconds,
            in_recovery=await connection.fetchval("SELECT pg_is_in_recovery()"),
            may_alter_journal=may_alter_journal,
            clock_ahead_seconds=clock_ahead_seconds,
        )
    finally:
        await connection.close()


async def has_live_writer(dsn: str) -> bool:
    """Say whether a writer is connected to the database, wherever it runs.

    Seen are the sessions of the role that `dsn` names, which is the one that every process of an installation uses.
    """
    connection = await asyncpg.connect(dsn, statement_cache_size=0, timeout=CONNECT_SECONDS_MAX)
    try:
        found: bool = await connection.fetchval(
            """
            SELECT EXISTS (
                   SELECT FROM pg_catalog.pg_stat_activity
                    WHERE datname = current_database() AND application_name = $1)
            """,
            WRITER_NAME,
        )
    finally:
        await connection.close()
    return found
