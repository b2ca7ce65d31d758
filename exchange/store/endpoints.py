"""Endpoints of webhooks: where events are sent, how far each has been told, and what it did not take."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence
    from datetime import datetime

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from exchange.core.feed import Cursor


# --- for merchants and operators ---


async def lock_merchant_endpoints(
    conn: Connection | PoolConnectionProxy, *, merchant_no: int
) -> int:
    """How many endpoints a merchant has; nobody adds one before the transaction ends."""
    await conn.execute(
        "SELECT pg_advisory_xact_lock(hashtext('exchange.endpoint'), $1)", merchant_no
    )
    count: int = await conn.fetchval(
        "SELECT count(*) FROM exchange.endpoint WHERE merchant_no = $1 AND removed_at IS NULL",
        merchant_no,
    )
    return count


async def insert_endpoint(
    conn: Connection | PoolConnectionProxy,
    *,
    merchant_no: int,
    url: str,
    types: Sequence[str],
    cursor: Cursor,
    now: datetime,
) -> int:
    """Add an endpoint; its number."""
    number: int = await conn.fetchval(
        """
        INSERT INTO exchange.endpoint
               (merchant_no, url, types, created_at, seq, notice_no, attempts, next_at, last_error, silent,
                replay_wanted, claim_no, lease_until)
        VALUES ($1, $2, $3::text[], $4, $5, $6, 0, $4, '', false, false, 0, $4)
        RETURNING endpoint_no
        """,
        merchant_no,
        url,
        list(types),
        now,
        cursor.seq,
        cursor.notice_no,
    )
    return number


async def fetch_endpoints(
    conn: Connection | PoolConnectionProxy | Pool,
    *,
    merchant_no: int | None = None,
    endpoint_no: int | None = None,
    after_no: int = 0,
    limit: int | None = None,
) -> list[Record]:
    """Endpoints that were not removed, after one: of a merchant, or one of them, or all for None."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT e.endpoint_no, e.merchant_no, e.url, e.types, e.seq, e.notice_no, e.attempts, e.last_error,
               (extract(epoch FROM e.created_at) * 1000000)::bigint AS created_at_us,
               (extract(epoch FROM e.next_at) * 1000000)::bigint AS next_at_us,
               (extract(epoch FROM e.paused_at) * 1000000)::bigint AS paused_at_us,
               (SELECT count(*) FROM exchange.dead_letter AS d
                 WHERE d.endpoint_no = e.endpoint_no AND d.delivered_at IS NULL) AS dead_letters
          FROM exchange.endpoint AS e
         WHERE e.removed_at IS NULL AND ($1::integer IS NULL OR e.merchant_no = $1)
           AND ($2::integer IS NULL OR e.endpoint_no = $2) AND e.endpoint_no > $3
         ORDER BY e.endpoint_no
         LIMIT $4
        """,
        merchant_no,
        endpoint_no,
        after_no,
        limit,
    )
    return rows


async def remove_endpoint(
    conn: Connection | PoolConnectionProxy | Pool,
    *,
    merchant_no: int,
    endpoint_no: int,
    now: datetime,
) -> bool:
    """Tell an endpoint nothing more; False if the merchant has no such endpoint."""
    status = await conn.execute(
        """
        UPDATE exchange.endpoint SET removed_at = $3
         WHERE endpoint_no = $2 AND merchant_no = $1 AND removed_at IS NULL
        """,
        merchant_no,
        endpoint_no,
        now,
    )
    return bool(status == "UPDATE 1")


async def resume_endpoint(
    conn: Connection | PoolConnectionProxy | Pool,
    *,
    merchant_no: int,
    endpoint_no: int,
    now: datetime,
) -> bool:
    """Send at once what is next, be the endpoint paused or waiting; False if the merchant has no such endpoint."""
    status = await conn.execute(
        """
        UPDATE exchange.endpoint SET paused_at = NULL, silent = false, attempts = 0, next_at = $3
         WHERE endpoint_no = $2 AND merchant_no = $1 AND removed_at IS NULL
        """,
        merchant_no,
        endpoint_no,
        now,
    )
    return bool(status == "UPDATE 1")


async def fetch_dead_letters(
    conn: Connection | PoolConnectionProxy | Pool, *, endpoint_no: int, after_no: int, limit: int
) -> list[Record]:
    """Events that an endpoint did not take, oldest first."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT letter_no, event_id, attempts, last_error, replay_wanted,
               (extract(epoch FROM given_up_at) * 1000000)::bigint AS given_up_at_us,
               (extract(epoch FROM delivered_at) * 1000000)::bigint AS delivered_at_us
          FROM exchange.dead_letter
         WHERE endpoint_no = $1 AND letter_no > $2
         ORDER BY letter_no
         LIMIT $3
        """,
        endpoint_no,
        after_no,
        limit,
    )
    return rows


async def want_replay(
    conn: Connection | PoolConnectionProxy | Pool,
    *,
    endpoint_no: int,
    event_ids: Sequence[str] | None,
) -> int:
    """Have dead letters tried once more, also at an endpoint that waits; how many."""
    count: int = await conn.fetchval(
        """
        WITH wanted AS (
            UPDATE exchange.dead_letter SET replay_wanted = true
             WHERE endpoint_no = $1 AND delivered_at IS NULL
               AND ($2::text[] IS NULL OR event_id = ANY($2))
            RETURNING 1
        ), told AS (
            UPDATE exchange.endpoint SET replay_wanted = true
             WHERE endpoint_no = $1 AND EXISTS (SELECT FROM wanted)
        )
        SELECT count(*) FROM wanted
        """,
        endpoint_no,
        None if event_ids is None else list(event_ids),
    )
    return count


# --- for the workers that deliver ---


async def claim_endpoints(
    conn: Connection | PoolConnectionProxy | Pool,
    *,
    worker: uuid.UUID,
    now: datetime,
    lease_until: datetime,
    limit: int,
) -> list[Record]:
    """Take endpoints over that are due and that nobody serves now."""
    rows: list[Record] = await conn.fetch(
        """
        UPDATE exchange.endpoint AS e
           SET worker = $1, lease_until = $3, claim_no = e.claim_no + 1
          FROM (
                SELECT endpoint_no FROM exchange.endpoint
                 WHERE removed_at IS NULL AND paused_at IS NULL AND (next_at <= $2 OR replay_wanted)
                   AND lease_until <= $2
                 ORDER BY next_at, endpoint_no
                 LIMIT $4
                   FOR UPDATE SKIP LOCKED
               ) AS due
         WHERE e.endpoint_no = due.endpoint_no
        RETURNING e.endpoint_no, e.merchant_no, e.url, e.types, e.seq, e.notice_no, e.attempts, e.silent,
                  e.replay_wanted, e.claim_no, e.next_at <= $2 AS due
        """,
        worker,
        now,
        lease_until,
        limit,
    )
    return rows


async def renew_leases(
    conn: Connection | PoolConnectionProxy | Pool,
    *,
    worker: uuid.UUID,
    now: datetime,
    lease_until: datetime,
) -> dict[int, Record]:
    """Keep the endpoints that a worker serves and that are still to be served, by number.

    A lease that has run out stays so: somebody else may have taken the endpoint over.
    """
    rows = await conn.fetch(
        """
        UPDATE exchange.endpoint SET lease_until = $3
         WHERE worker = $1 AND lease_until > $2 AND removed_at IS NULL AND paused_at IS NULL
        RETURNING endpoint_no, claim_no, replay_wanted
        """,
        worker,
        now,
        lease_until,
    )
    return {row["endpoint_no"]: row for row in rows}


async def write_progress(
    conn: Connection | PoolConnectionProxy | Pool,
    *,
    endpoint_no: int,
    claim_no: int,
    cursor: Cursor,
) -> bool:
    """Write how far an endpoint has been told; False if another worker serves it by now."""
    status = await conn.execute(
        """
        UPDATE exchange.endpoint SET seq = $3, notice_no = $4, attempts = 0, silent = false
         WHERE endpoint_no = $1 AND claim_no = $2
        """,
        endpoint_no,
        claim_no,
        cursor.seq,
        cursor.notice_no,
    )
    return bool(status == "UPDATE 1")


async def write_failure(
    conn: Connection | PoolConnectionProxy | Pool,
    *,
    endpoint_no: int,
    claim_no: int,
    cursor: Cursor,
    attempts: int,
    next_at: datetime,
    error: str,
    paused_at: datetime | None,
) -> None:
    """Write that the event after `cursor` was not taken, and let go of the endpoint until `next_at`."""
    await conn.execute(
        """
        UPDATE exchange.endpoint
           SET seq = $3, notice_no = $4, attempts = $5, next_at = $6, last_error = $7, paused_at = $8,
               lease_until = LEAST(lease_until, $6), worker = NULL
         WHERE endpoint_no = $1 AND claim_no = $2
        """,
        endpoint_no,
        claim_no,
        cursor.seq,
        cursor.notice_no,
        attempts,
        next_at,
        error,
        paused_at,
    )


async def write_dead_letter(
    conn: Connection | PoolConnectionProxy | Pool,
    *,
    endpoint_no: int,
    claim_no: int,
    cursor: Cursor,
    event_id: str,
    attempts: int,
    error: str,
    now: datetime,
) -> None:
    """Give an event up and go past it, in one stroke; nothing if another worker serves the endpoint by now."""
    await conn.execute(
        """
        WITH gone_past AS (
            UPDATE exchange.endpoint
               SET seq = $3, notice_no = $4, attempts = 0, silent = true, last_error = $7
             WHERE endpoint_no = $1 AND claim_no = $2
            RETURNING endpoint_no
        )
        INSERT INTO exchange.dead_letter
               (endpoint_no, event_id, given_up_at, attempts, last_error, replay_wanted)
        SELECT endpoint_no, $5, $8, $6, $7, false FROM gone_past
            ON CONFLICT (endpoint_no, event_id) DO NOTHING
        """,
        endpoint_no,
        claim_no,
        cursor.seq,
        cursor.notice_no,
        event_id,
        attempts,
        error,
        now,
    )


async def release_endpoint(
    conn: Connection | PoolConnectionProxy | Pool, *, endpoint_no: int, claim_no: int, now: datetime
) -> None:
    """Let go of one endpoint; nothing if another worker serves it by now."""
    await conn.execute(
        """
        UPDATE exchange.endpoint SET lease_until = $3, worker = NULL
         WHERE endpoint_no = $1 AND claim_no = $2
        """,
        endpoint_no,
        claim_no,
        now,
    )


async def release_endpoints(
    conn: Connection | PoolConnectionProxy | Pool, *, worker: uuid.UUID, now: datetime
) -> None:
    """Let go of everything that a worker serves, for others to take over at once."""
    await conn.execute(
        "UPDATE exchange.endpoint SET lease_until = $2, worker = NULL WHERE worker = $1 AND lease_until > $2",
        worker,
        now,
    )


async def take_replays(
    conn: Connection | PoolConnectionProxy | Pool, *, endpoint_no: int, limit: int
) -> list[Record]:
    """Dead letters that somebody wants to be tried once more; the last page of them clears the wish."""
    rows: list[Record] = await conn.fetch(
        """
        WITH wanted AS (
            SELECT letter_no, event_id FROM exchange.dead_letter
             WHERE endpoint_no = $1 AND replay_wanted AND delivered_at IS NULL
             ORDER BY letter_no
             LIMIT $2
        ), told AS (
            UPDATE exchange.endpoint SET replay_wanted = false
             WHERE endpoint_no = $1 AND (SELECT count(*) FROM wanted) < $2
        )
        SELECT letter_no, event_id FROM wanted ORDER BY letter_no
        """,
        endpoint_no,
        limit,
    )
    return rows


async def write_replay(
    conn: Connection | PoolConnectionProxy | Pool,
    *,
    endpoint_no: int,
    letter_no: int,
    delivered_at: datetime | None,
    error: str,
) -> None:
    """Write what became of a replay."""
    await conn.execute(
        """
        UPDATE exchange.dead_letter
           SET replay_wanted = false, attempts = attempts + 1, delivered_at = $3,
               last_error = CASE WHEN $3::timestamptz IS NULL THEN $4 ELSE last_error END
         WHERE endpoint_no = $1 AND letter_no = $2
        """,
        endpoint_no,
        letter_no,
        delivered_at,
        error,
    )
