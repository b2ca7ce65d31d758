"""SQL of disputes and their steps."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from datetime import datetime

    import asyncpg
    from asyncpg import Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection | PoolConnectionProxy


async def lock_disputes(conn: Connection) -> None:
    """Keep others from opening cases and taking steps until the transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('settlement.dispute', 0))")


async def insert_dispute(
    conn: Connection,
    *,
    part: int,
    order_seq: int,
    cycle_no: int,
    issuer: int,
    acceptor: int,
    opener: int,
    match_no: int | None,
    claim: tuple[int, int, int],
    text: str,
    who: str,
    opened_at: datetime,
    answer_due_at: datetime,
    deadline: datetime,
    key: bytes,
    body: bytes,
) -> int:
    """Add a case; returns its number."""
    number: int = await conn.fetchval(
        """
        INSERT INTO settlement.dispute
               (dispute_no, part, order_seq, cycle_no, issuer, acceptor, opener, match_no, debit_cu, value_cu, fee_cu,
                text, who, opened_at, answer_due_at, deadline, key, body)
        SELECT coalesce(max(dispute_no), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
               $16, $17
          FROM settlement.dispute
        RETURNING dispute_no
        """,
        part,
        order_seq,
        cycle_no,
        issuer,
        acceptor,
        opener,
        match_no,
        *claim,
        text,
        who,
        opened_at,
        answer_due_at,
        deadline,
        UUID(bytes=key),
        body,
    )
    return number


async def insert_step(
    conn: Connection,
    *,
    dispute_no: int,
    step: str,
    party: int,
    who: str,
    text: str,
    file: tuple[bytes, int] | None,
    figures: tuple[int, int, int],
    asked: bytes | None,
    at: datetime,
    key: bytes,
    body: bytes,
) -> None:
    """Add a step behind the case's last one."""
    file_sha256, file_bytes = file or (None, None)
    await conn.execute(
        """
        INSERT INTO settlement.dispute_step
               (dispute_no, step_no, step, party, who, text, file_sha256, file_bytes, debit_cu, value_cu, fee_cu,
                asked, at, key, body)
        SELECT $1, coalesce(max(step_no), 0) + 1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
          FROM settlement.dispute_step
         WHERE dispute_no = $1
        """,
        dispute_no,
        step,
        party,
        who,
        text,
        file_sha256,
        file_bytes,
        *figures,
        asked,
        at,
        UUID(bytes=key),
        body,
    )


async def fetch_by_key(conn: Connection, *, party: int, key: bytes) -> Record | None:
    """The case that was opened, or got a step, under a key: its number, and what was asked then."""
    return await conn.fetchrow(
        """
        SELECT dispute_no, body FROM settlement.dispute WHERE key = $2 AND opener = $1
         UNION ALL
        SELECT dispute_no, body FROM settlement.dispute_step WHERE key = $2 AND party = $1
        """,
        party,
        UUID(bytes=key),
    )


async def fetch_disputes(
    conn: Connection | Pool,
    *,
    party: int = 0,
    dispute_no: int | None = None,
    below: int | None = None,
    limit: int = 500,
) -> list[Record]:
    """Cases that concern a merchant (all for 0), newest first; with the event that a decision had booked."""
    return await conn.fetch(
        """
        SELECT
               d.dispute_no, d.part, d.order_seq, d.cycle_no, d.issuer, d.acceptor, d.opener, d.match_no, d.debit_cu,
               d.value_cu, d.fee_cu, d.text, d.who, d.opened_at, d.answer_due_at, d.deadline, d.key, d.body,
               (extract(epoch FROM f.at) * 1000000)::bigint AS order_at_us, coalesce(c.cycle_id, '') AS cycle_id,
               b.seq AS booked_seq, b.kind AS booked_kind, b.reason AS booked_reason, b.cycle_id AS booked_cycle,
               (extract(epoch FROM b.at) * 1000000)::bigint AS booked_at_us
          FROM settlement.dispute AS d
          LEFT JOIN settlement.event AS f ON f.part = d.part AND f.seq = d.order_seq
          LEFT JOIN settlement.cycle AS c ON c.part = d.part AND c.cycle_no = d.cycle_no
          LEFT JOIN LATERAL (
               SELECT e.seq, e.kind, e.reason, e.at, bc.cycle_id
                 FROM settlement.dispute_step AS s
                 JOIN settlement.event AS e ON e.key = s.key AND e.caller = 0 AND e.step = 0 AND e.part = d.part
                 LEFT JOIN settlement.cycle AS bc ON bc.part = e.part AND bc.cycle_no = e.cycle_no
                WHERE s.dispute_no = d.dispute_no AND s.step = 'accept'
          ) AS b ON true
         WHERE ($1 = 0 OR $1 IN (d.issuer, d.acceptor)) AND ($2::integer IS NULL OR d.dispute_no = $2)
           AND ($3::integer IS NULL OR d.dispute_no < $3)
         ORDER BY d.dispute_no DESC
         LIMIT $4
        """,
        party,
        dispute_no,
        below,
        limit,
    )


async def fetch_steps(conn: Connection | Pool, *, dispute_nos: list[int]) -> list[Record]:
    """Steps of cases, in order."""
    return await conn.fetch(
        """
        SELECT dispute_no, step_no, step, party, who, text, file_sha256, file_bytes, debit_cu, value_cu, fee_cu,
               asked, at, key
          FROM settlement.dispute_step
         WHERE dispute_no = ANY($1::integer[])
         ORDER BY dispute_no, step_no
        """,
        dispute_nos,
    )


async def match_exists(conn: Connection, *, match_no: int) -> bool:
    """Whether there is such a match of reconciliation."""
    found: bool = await conn.fetchval(
        "SELECT EXISTS (SELECT FROM settlement.match WHERE match_no = $1)", match_no
    )
    return found


async def fetch_of_order(conn: Connection, *, part: int, order_seq: int) -> list[Record]:
    """Numbers of the cases about an order."""
    return await conn.fetch(
        """
        SELECT dispute_no FROM settlement.dispute
         WHERE part = $1 AND order_seq = $2 AND order_seq > 0
         ORDER BY dispute_no
        """,
        part,
        order_seq,
    )
