"""Connections under the program's own role, which may add to the journal and never change it."""

from __future__ import annotations

import asyncpg

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

    Args:
        dsn: Where the migrated database is.
        size: Most connections.
    """
    return await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        server_settings=_SETTINGS | _BY_KEY,
        reset=_keep_as_it_is,
    )


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
