"""Connections to the database: a pooler that stands between is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from deploy.database.connection import open_direct_pool

if TYPE_CHECKING:
    from pathlib import Path

_KEY_DATA = b"K" + struct.pack(">i", 12)
"""How BackendKeyData begins, which tells a client the process id (PostgreSQL 18, section 54.7)."""


async def test_statements_are_kept_only_on_direct_connections(dsn: str, tmp_path: Path):
    """Behind somebody who tells process ids of its own, as a pooler does, no statement is given a name."""
    parts = urlsplit(dsn)
    [folder] = parse_qs(parts.query)["host"]

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{port}")

        async def back() -> None:
            while data := await theirs.read(65_536):
                at = data.find(_KEY_DATA)
                if at >= 0:
                    data = data[: at + 5] + struct.pack(">i", 7) + data[at + 9 :]
                writer.write(data)
            writer.close()

        backward = asyncio.create_task(back())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                ours.write(data)
        ours.close()
        await backward

    [port] = parse_qs(parts.query).get("port", ["5432"])
    server = await asyncio.start_unix_server(relay, tmp_path / f".s.PGSQL.{port}")
    named = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE '\\_\\_asyncpg%'"
    async with server:
        for address, kept in ((dsn, 1), (dsn.replace(folder, str(tmp_path)), 0)):
            pool = await open_direct_pool(address, size=1)
            await pool.fetchval("SELECT 1")
            assert (await pool.fetchval(named) > 0) is bool(kept)
            await pool.close()
