"""Connections under the program's own role, which may add to the journal and never change it."""

from __future__ import annotations

import asyncpg
import structlog

log = structlog.get_logger()

APP_ROLE = "tongdui_app"
_SETTINGS = {"role": APP_ROLE, "application_name": "tongdui", "timezone": "UTC"}
_BY_KEY = {
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}
"""For who looks single rows up by key and keeps statements: a plan that scans would be right for the empty tables that
it was made on and ruinous an hour later, so scans are discouraged and plans are made once."""


async def open_pool(dsn: str, *, size: int = 4) -> asyncpg.Pool:
    """Open a pool of connections for reads and for everything that is not the writer's.

    Statements are not cached by name, so that PgBouncer in transaction mode may stand between.

    Args:
        dsn: Where the migrated database is.
        size: Most connections.
    """
    return await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        statement_cache_size=0,
        server_settings=_SETTINGS,
        reset=_keep_as_it_is,
    )


async def _keep_as_it_is(_: asyncpg.Connection) -> None:
    """Nothing here changes a session, so giving a connection back costs no round trip."""


async def open_direct_pool(dsn: str, *, size: int = 4) -> asyncpg.Pool:
    """Open a pool of direct connections for a process that runs the same few statements all day, all of them by key.

    Statements are kept, which saves a round trip and the planning of each; only a direct connection can keep them.
    Where a pooler such as PgBouncer stands between, which is found out first, it is a pool as of `open_pool`.

    Args:
        dsn: Where the migrated database is.
        size: Most connections.
    """
    if await _is_pooled(dsn):
        log.warning(
            "database.pooled", detail="a direct connection would save each statement's planning"
        )
        return await open_pool(dsn, size=size)
    return await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        server_settings=_SETTINGS | _BY_KEY,
        reset=_keep_as_it_is,
    )


async def _is_pooled(dsn: str) -> bool:
    """Whether somebody stands between who gives a connection to one client after the other.

    A pooler tells each client a process id that it made up, by which it knows whose query is to be cancelled
    (PostgreSQL's frontend protocol, BackendKeyData); the server's own process says another one.
    """
    connection = await asyncpg.connect(dsn, statement_cache_size=0)
    try:
        process: int = await connection.fetchval("SELECT pg_backend_pid()")
        return process != connection.get_server_pid()
    finally:
        await connection.close()


async def open_writer_connection(dsn: str) -> asyncpg.Connection:
    """Open a direct connection for a writer, whose statements always look single rows up by key."""
    return await asyncpg.connect(
        dsn,
        server_settings=_SETTINGS
        | _BY_KEY
        | {
            "application_name": "tongdui-writer",
            # A frozen writer must not keep its successor waiting for the partition's row for ever.
            "idle_in_transaction_session_timeout": "5s",
            "statement_timeout": "30s",
            "synchronous_commit": "on",
        },
    )
