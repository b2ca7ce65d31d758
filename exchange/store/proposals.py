"""Proposals and what became of them: rows are only added."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from schemas.files.trail import Terms


async def lock_proposal(conn: Connection | PoolConnectionProxy, *, proposal_no: int) -> None:
    """Hold a proposal until the transaction ends: whoever decides it waits for who decides it now."""
    await conn.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('exchange.proposal', $1))", proposal_no
    )


async def insert_proposal(
    conn: Connection | PoolConnectionProxy,
    *,
    action: str,
    subject: str,
    terms: Terms,
    before: Terms | None,
    why: str,
    maker: str,
    now: datetime,
    expires_at: datetime,
    digest: bytes,
) -> int:
    """Add a proposal; returns its number."""
    proposal_no: int = await conn.fetchval(
        """
        INSERT INTO exchange.proposal
               (action, subject, terms, before, why, maker, made_at, expires_at, digest)
        VALUES ($1, $2, $3::text::jsonb, $4::text::jsonb, $5, $6, $7, $8, $9)
        RETURNING proposal_no
        """,
        action,
        subject,
        msgspec.json.encode(terms).decode(),
        None if before is None else msgspec.json.encode(before).decode(),
        why,
        maker,
        now,
        expires_at,
        digest,
    )
    return proposal_no


async def fetch_proposals(
    conn: Connection | PoolConnectionProxy | Pool,
    *,
    now: datetime,
    proposal_no: int | None = None,
    below: int | None = None,
    state: str | None = None,
    limit: int = 500,
) -> list[Record]:
    """The newest proposals with what became of them; `terms` and `before` are JSON text.

    Args:
        conn: A connection.
        now: Who was not decided by then may have expired.
        proposal_no: This one alone.
        below: Those with a lower number alone.
        state: Those alone that stand so: open, expired, rejected, approved, done or refused.
        limit: Most of them.
    """
    rows: list[Record] = await conn.fetch(
        """
        SELECT * FROM (
        SELECT p.proposal_no, p.action, p.subject, p.terms::text AS terms, p.before::text AS before, p.why,
               p.maker, p.made_at, p.expires_at, p.digest, d.decision, d.decider, d.decided_at, d.body,
               e.done_at, e.refused,
               CASE WHEN d.decision IS NULL AND p.expires_at > $2 THEN 'open'
                    WHEN d.decision IS NULL THEN 'expired'
                    WHEN d.decision = 'rejected' THEN 'rejected'
                    WHEN e.done_at IS NULL THEN 'approved'
                    WHEN e.refused <> '' THEN 'refused'
                    ELSE 'done' END AS state
          FROM exchange.proposal AS p
          LEFT JOIN exchange.proposal_decision AS d USING (proposal_no)
          LEFT JOIN exchange.proposal_done AS e USING (proposal_no)
         WHERE ($1::int IS NULL OR p.proposal_no = $1) AND ($3::int IS NULL OR p.proposal_no < $3)
        ) AS told
         WHERE $4::text IS NULL OR state = $4
         ORDER BY proposal_no DESC
         LIMIT $5
        """,
        proposal_no,
        now,
        below,
        state,
        limit,
    )
    return rows


async def fetch_unfinished(conn: Connection | PoolConnectionProxy | Pool) -> list[int]:
    """Proposals that were approved and not yet carried out to their end."""
    return [
        row["proposal_no"]
        for row in await conn.fetch(
            """
            SELECT d.proposal_no
              FROM exchange.proposal_decision AS d
              LEFT JOIN exchange.proposal_done AS e USING (proposal_no)
             WHERE d.decision = 'approved' AND e.proposal_no IS NULL
             ORDER BY d.proposal_no
            """
        )
    ]


async def insert_decision(
    conn: Connection | PoolConnectionProxy,
    *,
    proposal_no: int,
    maker: str,
    decision: str,
    decider: str,
    why: str,
    body: bytes | None,
    now: datetime,
) -> None:
    """Decide a proposal, once; the caller holds it."""
    await conn.execute(
        """
        INSERT INTO exchange.proposal_decision (proposal_no, maker, decision, decider, decided_at, why, body)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        proposal_no,
        maker,
        decision,
        decider,
        now,
        why,
        body,
    )


async def insert_done(
    conn: Connection | Pool, *, proposal_no: int, refused: str, now: datetime
) -> None:
    """Note that an approved proposal was carried out, or that the books refused it; a second time changes nothing."""
    await conn.execute(
        """
        INSERT INTO exchange.proposal_done (proposal_no, done_at, refused) VALUES ($1, $2, $3)
            ON CONFLICT (proposal_no) DO NOTHING
        """,
        proposal_no,
        now,
        refused,
    )
