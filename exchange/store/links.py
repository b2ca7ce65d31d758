"""Who a member is at a merchant's own system, once that system has authenticated them; stands here sealed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from asyncpg import Connection, Pool


class SealedLink(NamedTuple):
    """A member's id at a merchant, under the member's key, and that key under the house's."""

    sealed: bytes
    wrapped: bytes


async def write_link(
    conn: Connection | Pool, *, member_no: int, merchant_no: int, sealed: bytes, now: datetime
) -> None:
    """Link a member; a link that is there is replaced."""
    await conn.execute(
        """
        INSERT INTO exchange.member_link (member_no, merchant_no, sealed, linked_at)
        VALUES ($1, $2, $3, $4)
            ON CONFLICT (member_no, merchant_no)
            DO UPDATE SET merchant_member = NULL, sealed = EXCLUDED.sealed, linked_at = EXCLUDED.linked_at
        """,
        member_no,
        merchant_no,
        sealed,
        now,
    )


async def fetch_links(
    conn: Connection | Pool, *, pairs: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], SealedLink]:
    """Ids at merchants' systems by (member, merchant); who is not linked is missing."""
    rows = await conn.fetch(
        """
        SELECT l.member_no, l.merchant_no, l.sealed, k.wrapped
          FROM unnest($1::bigint[], $2::int[]) AS p (member_no, merchant_no)
          JOIN exchange.member_link AS l USING (member_no, merchant_no)
          JOIN exchange.member_key AS k USING (member_no)
         WHERE l.sealed IS NOT NULL
        """,
        [member_no for member_no, _ in pairs],
        [merchant_no for _, merchant_no in pairs],
    )
    return {
        (row["member_no"], row["merchant_no"]): SealedLink(row["sealed"], row["wrapped"])
        for row in rows
    }


async def fetch_unsealed(conn: Connection, *, limit: int) -> list[tuple[int, int, str]]:
    """Member, merchant and open id of links from before ids were sealed, locked."""
    rows = await conn.fetch(
        """
        SELECT member_no, merchant_no, merchant_member FROM exchange.member_link
         WHERE merchant_member IS NOT NULL ORDER BY member_no, merchant_no LIMIT $1 FOR UPDATE
        """,
        limit,
    )
    return [tuple(row) for row in rows]


async def seal_links(conn: Connection, *, links: Sequence[tuple[int, int, bytes]]) -> None:
    """Replace open ids by sealed ones."""
    await conn.executemany(
        """
        UPDATE exchange.member_link SET merchant_member = NULL, sealed = $3
         WHERE member_no = $1 AND merchant_no = $2
        """,
        links,
    )
