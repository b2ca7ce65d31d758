"""Consents: what members agreed to, by pair of merchants, with purpose and time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection, Pool, Record


async def insert_consent(
    conn: Connection | Pool,
    *,
    member_no: int,
    giver: int,
    receiver: int,
    purpose: str,
    now: datetime,
) -> int:
    """Record a consent; its number."""
    number: int = await conn.fetchval(
        """
        INSERT INTO exchange.consent (member_no, giver, receiver, purpose, given_at)
        VALUES ($1, $2, $3, $4, $5) RETURNING consent_no
        """,
        member_no,
        giver,
        receiver,
        purpose,
        now,
    )
    return number


async def withdraw_consent(
    conn: Connection | Pool, *, member_no: int, consent_no: int, caller: int, now: datetime
) -> bool:
    """End a consent that the caller is a side of, or the house; whether there is such a one. The first end stands."""
    found = await conn.fetchval(
        """
        UPDATE exchange.consent SET withdrawn_at = coalesce(withdrawn_at, greatest($4, given_at))
         WHERE consent_no = $2 AND member_no = $1 AND ($3 = 0 OR giver = $3 OR receiver = $3)
        RETURNING consent_no
        """,
        member_no,
        consent_no,
        caller,
        now,
    )
    return found is not None


async def fetch_consents(
    conn: Connection | Pool,
    *,
    member_no: int,
    caller: int,
    below: int | None = None,
    limit: int | None = None,
) -> list[Record]:
    """Consents of a member that the caller is a side of, below a number, newest first; the house sees all."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT consent_no, giver, receiver, purpose, given_at, withdrawn_at
          FROM exchange.consent
         WHERE member_no = $1 AND ($2 = 0 OR giver = $2 OR receiver = $2)
           AND ($3::bigint IS NULL OR consent_no < $3)
         ORDER BY consent_no DESC
         LIMIT $4
        """,
        member_no,
        caller,
        below,
        limit,
    )
    return rows
