"""The house's keys, wrapped under the master key."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from asyncpg import Connection, Pool


async def fetch_house_keys(conn: Connection | Pool) -> dict[str, tuple[bytes, str]]:
    """Wrapped keys and the id of the master key that wrapped them, by name."""
    rows = await conn.fetch("SELECT name, wrapped, master_id FROM exchange.house_key")
    return {row["name"]: (row["wrapped"], row["master_id"]) for row in rows}


async def insert_house_keys(
    conn: Connection | Pool, *, keys: Mapping[str, bytes], master_id: str, now: datetime
) -> None:
    """Store keys that are not there yet; of several who do so at once, one statement wins whole."""
    await conn.execute(
        """
        INSERT INTO exchange.house_key (name, wrapped, master_id, wrapped_at)
        SELECT w.name, w.wrapped, $3, $4 FROM unnest($1::text[], $2::bytea[]) AS w (name, wrapped)
         ORDER BY w.name
            ON CONFLICT (name) DO NOTHING
        """,
        list(keys),
        list(keys.values()),
        master_id,
        now,
    )


async def update_house_keys(
    conn: Connection | Pool, *, keys: Mapping[str, bytes], master_id: str, now: datetime
) -> None:
    """Replace the wrapped form of keys, all at once."""
    await conn.execute(
        """
        UPDATE exchange.house_key AS k SET wrapped = w.wrapped, master_id = $3, wrapped_at = $4
          FROM unnest($1::text[], $2::bytea[]) AS w (name, wrapped) WHERE k.name = w.name
        """,
        list(keys),
        list(keys.values()),
        master_id,
        now,
    )
