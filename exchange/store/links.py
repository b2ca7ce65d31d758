"""Who a member is at a merchant's own system, once that system has authenticated them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from asyncpg import Connection, Pool


async def write_link(
    conn: Connection | Pool,
    *,
    member_no: int,
    merchant_no: int,
    merchant_member: str,
    now: datetime,
) -> None:
    """Link a member; a link that is there is replaced."""
    await conn.execute(
        """
        INSERT INTO exchange.member_link (member_no, merchant_no, merchant_member, linked_at)
        VALUES ($1, $2, $3, $4)
            ON CONFLICT (member_no, merchant_no)
            DO UPDATE SET merchant_member = EXCLUDED.merchant_member, linked_at = EXCLUDED.linked_at
        """,
        member_no,
        merchant_no,
        merchant_member,
        now,
    )


async def fetch_links(
    conn: Connection | Pool, *, pairs: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], str]:
    """Ids at merchants' systems by (member, merchant); who is not linked is missing."""
    rows = await conn.fetch(
        """
        SELECT l.member_no, l.merchant_no, l.merchant_member
          FROM unnest($1::bigint[], $2::int[]) AS p (member_no, merchant_no)
          JOIN exchange.member_link AS l USING (member_no, merchant_no)
        """,
        [member_no for member_no, _ in pairs],
        [merchant_no for _, merchant_no in pairs],
    )
    return {(row["member_no"], row["merchant_no"]): row["merchant_member"] for row in rows}
