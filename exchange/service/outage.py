"""Telling an outage of the database from a fault of ours."""

from __future__ import annotations

import asyncpg

_CONNECTION_CLASSES = ("08", "57")
"""SQLSTATE classes: connection exception, operator intervention (PostgreSQL appendix A)."""


def is_outage(error: BaseException) -> bool:
    """Whether the database was away or going down: trying again is right."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in _CONNECTION_CLASSES
    return isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError | ConnectionError)
