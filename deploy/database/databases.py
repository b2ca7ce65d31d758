"""Databases beside the one that is named: a replay has its own, on the same server."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

import asyncpg

_NAME = re.compile(r"\A[a-z_][a-z0-9_]{0,62}\Z")


def sibling_dsn(dsn: str, name: str) -> str:
    """Return the connection string of the database `name` on the server of `dsn`.

    Raises:
        ValueError: It is no name that may stand in SQL and in a URL, or `dsn` is no URL.
    """
    if not _NAME.match(name):
        raise ValueError(f"not a database name: {name!r}")
    parts = urlsplit(dsn)
    if parts.scheme not in ("postgres", "postgresql"):
        raise ValueError("DATABASE_URL must begin with postgresql://")
    return urlunsplit(parts._replace(path=f"/{name}"))


async def make_database(dsn: str, name: str) -> str:
    """Make the empty database `name` on the server of `dsn` and return its connection string.

    Raises:
        asyncpg.PostgresError: The role may not make databases, or the name is taken.
    """
    made = sibling_dsn(dsn, name)
    await _execute(dsn, f"CREATE DATABASE {name}")
    return made


async def drop_database(dsn: str, name: str) -> None:
    """Remove the database `name` from the server of `dsn`, if it is there."""
    sibling_dsn(dsn, name)
    await _execute(dsn, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


async def has_database(dsn: str, name: str) -> bool:
    """Say whether the server of `dsn` has a database `name`."""
    connection = await asyncpg.connect(dsn, statement_cache_size=0)
    try:
        found: bool = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)", name
        )
    finally:
        await connection.close()
    return found


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn, statement_cache_size=0)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
