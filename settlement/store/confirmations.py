"""SQL of what merchants say about batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    import asyncpg
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from schemas.files.confirmation import Verdict

    Connection = asyncpg.Connection | PoolConnectionProxy
    Reader = Connection | asyncpg.Pool


async def fetch_batches(
    conn: Connection, *, before: int, limit: int, cycle_id: str | None = None
) -> list[Record]:
    """Read batches whose number is smaller, newest first; one where a cycle is named.

    The calendar in force when its cycle opened says how many days merchants have to confirm; null where none does.
    """
    return await conn.fetch(
        """
        SELECT b.cycle_no, b.cycle_id, b.sequence, b.manifest, encode(b.manifest_sha256, 'hex') AS manifest_sha256,
               c.closed_at,
               (SELECT (k.terms ->> 'confirm_days')::integer
                  FROM settlement.calendar AS k
                 WHERE k.arrangement = c.arrangement AND k.effective_at <= c.opened_at
                 ORDER BY k.effective_at DESC, k.calendar_no DESC
                 LIMIT 1) AS confirm_days
          FROM settlement.batch AS b
         CROSS JOIN LATERAL (
               SELECT max(of.closed_at) AS closed_at, min(of.opened_at) AS opened_at,
                      coalesce(max(a.code), 'main') AS arrangement
                 FROM settlement.cycle AS of
                 LEFT JOIN settlement.arrangement AS a USING (part, arrangement_no)
                WHERE of.cycle_no = b.cycle_no
         ) AS c
         WHERE b.sequence < $1 AND ($3::text IS NULL OR b.cycle_id = $3)
         ORDER BY b.sequence DESC
         LIMIT $2
        """,
        before,
        limit,
        cycle_id,
    )


async def fetch_said(
    conn: Connection, *, cycle_nos: list[int], merchant_no: int | None
) -> list[Record]:
    """Read the entries of batches, oldest first: one merchant's, or all."""
    return await conn.fetch(
        """
        SELECT c.cycle_no, m.code, c.verdict, c.received_at
          FROM settlement.confirmation AS c
          JOIN settlement.merchant AS m USING (merchant_no)
         WHERE c.cycle_no = ANY($1) AND ($2::integer IS NULL OR c.merchant_no = $2)
         ORDER BY c.confirmation_no
        """,
        cycle_nos,
        merchant_no,
    )


async def fetch_confirmations(
    conn: Connection, *, cycle_no: int, merchant_no: int | None, after: int, limit: int
) -> list[Record]:
    """Read the entries of one batch with their documents, oldest first: one merchant's, or all."""
    return await conn.fetch(
        """
        SELECT c.confirmation_no, m.code, c.verdict, c.reason, c.orders, c.received_at, c.due_at, c.document,
               c.public_key
          FROM settlement.confirmation AS c
          JOIN settlement.merchant AS m USING (merchant_no)
         WHERE c.cycle_no = $1 AND ($2::integer IS NULL OR c.merchant_no = $2) AND c.confirmation_no > $3
         ORDER BY c.confirmation_no
         LIMIT $4
        """,
        cycle_no,
        merchant_no,
        after,
        limit,
    )


async def fetch_confirmation(conn: Connection, *, document_sha256: bytes) -> Record | None:
    """Read the entry of a document."""
    return await conn.fetchrow(
        """
        SELECT c.confirmation_no, m.code, c.verdict, c.reason, c.orders, c.received_at, c.due_at, c.document,
               c.public_key
          FROM settlement.confirmation AS c
          JOIN settlement.merchant AS m USING (merchant_no)
         WHERE c.document_sha256 = $1
        """,
        document_sha256,
    )


async def fetch_objectors(conn: Reader, *, cycle_no: int) -> list[str]:
    """Codes of the merchants whose last entry about a batch is an objection, in order."""
    rows = await conn.fetch(
        """
        SELECT m.code
          FROM (
               SELECT DISTINCT ON (merchant_no) merchant_no, verdict
                 FROM settlement.confirmation
                WHERE cycle_no = $1
                ORDER BY merchant_no, confirmation_no DESC
          ) AS last
          JOIN settlement.merchant AS m USING (merchant_no)
         WHERE last.verdict = 'objected'
         ORDER BY m.code
        """,
        cycle_no,
    )
    return [row["code"] for row in rows]


async def lock_confirmations(conn: Connection) -> None:
    """Let entries be added one after the other, until the transaction ends."""
    await conn.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('settlement.confirmation', 0))"
    )


async def insert_confirmation(
    conn: Connection,
    *,
    cycle_no: int,
    merchant_no: int,
    verdict: Verdict,
    reason: str,
    orders: int,
    received_at: datetime,
    due_at: datetime,
    document: str,
    document_sha256: bytes,
    public_key: bytes,
) -> None:
    """Add an entry."""
    await conn.execute(
        """
        INSERT INTO settlement.confirmation
               (confirmation_no, cycle_no, merchant_no, verdict, reason, orders, received_at, due_at, document,
                document_sha256, public_key)
        SELECT coalesce(max(confirmation_no), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10
          FROM settlement.confirmation
        """,
        cycle_no,
        merchant_no,
        verdict,
        reason,
        orders,
        received_at,
        due_at,
        document,
        document_sha256,
        public_key,
    )
