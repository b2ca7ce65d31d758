"""Members: the one place where a reference stands beside its surrogate."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection, Pool


async def insert_members(
    conn: Connection | Pool, *, references: list[str], surrogates: list[int], now: datetime
) -> None:
    """Add members that are not there yet."""
    await conn.execute(
        """
        INSERT INTO exchange.member (reference, member_no, enrolled_at)
        SELECT wanted.reference, wanted.member_no, $3
          FROM unnest($1::text[], $2::bigint[]) AS wanted (reference, member_no)
            ON CONFLICT (reference) DO NOTHING
        """,
        references,
        surrogates,
        now,
    )


async def fetch_surrogates(conn: Connection | Pool, *, references: list[str]) -> dict[str, int]:
    """Surrogates of the members that are enrolled, by reference."""
    rows = await conn.fetch(
        "SELECT reference, member_no FROM exchange.member WHERE reference = ANY($1::text[])",
        references,
    )
    return {row["reference"]: row["member_no"] for row in rows}


async def is_enrolled(conn: Connection | Pool, *, member_no: int) -> bool:
    """Whether somebody is enrolled under a surrogate."""
    found: bool = await conn.fetchval(
        "SELECT EXISTS (SELECT FROM exchange.member WHERE member_no = $1)", member_no
    )
    return found
