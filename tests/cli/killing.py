"""Commands that are killed with kill -9 in the middle of a transaction, wherever a test wants it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.cli.conftest import Command

OTHERS = """
    SELECT count(*)
      FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
WAITS = """
    SELECT count(*)
      FROM pg_locks AS waiting
      JOIN pg_locks AS held USING (pid)
     WHERE NOT waiting.granted AND held.mode = 'RowExclusiveLock' AND held.relation = $1::text::regclass
"""


def killed_while_it_waits(command: Command, locked: str, written: str, *words: object) -> None:
    """Start a command while nobody may write one table, and kill it when it waits for that with another one written.

    Args:
        command: The command.
        locked: Table of `settlement` that the command comes to last.
        written: Table of `settlement` into which its transaction has written by then.
        words: Arguments.
    """

    async def work(conn: asyncpg.Connection) -> None:
        async with conn.transaction():
            await conn.execute(f"LOCK TABLE settlement.{locked} IN SHARE MODE")
            process = command.start(*words)
            while not await conn.fetchval(WAITS, f"settlement.{written}"):
                assert process.popen.poll() is None, process.popen.communicate()
                await asyncio.sleep(0.02)
            process.popen.kill()
            process.popen.communicate()
        while await conn.fetchval(OTHERS):
            await asyncio.sleep(0.02)

    on_database(command, work)


def on_database(command: Command, work: Callable[[asyncpg.Connection], Awaitable[Any]]) -> Any:
    """Do something on the command's database."""

    async def connected() -> Any:
        conn = await asyncpg.connect(command.database_url)
        try:
            return await work(conn)
        finally:
            await conn.close()

    return asyncio.run(asyncio.wait_for(connected(), 120))
