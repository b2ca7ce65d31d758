"""Removing what was kept long enough: one statement for each kind, of which each removes some rows and counts them.

Rows that somebody else holds are passed over; the next run finds them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection
    from asyncpg.pool import PoolConnectionProxy

_STATEMENTS: Final = {
    "sessions": """
        WITH gone AS (
            DELETE FROM exchange.session WHERE digest IN (
                SELECT digest FROM exchange.session WHERE least(ended_at, ends_at) < $1
                 LIMIT $2 FOR UPDATE SKIP LOCKED)
            RETURNING true)
        SELECT count(*) FROM gone""",
    "attempts": """
        WITH gone AS (
            UPDATE exchange.person SET failures = 0 WHERE person_no IN (
                SELECT person_no FROM exchange.person WHERE failures > 0 AND next_try_at < $1
                 LIMIT $2 FOR UPDATE SKIP LOCKED)
            RETURNING true)
        SELECT count(*) FROM gone""",
    "credentials": """
        WITH gone AS (
            UPDATE exchange.person
               SET password_hash = NULL, totp_sealed = NULL, oidc_subject = NULL,
                   invitation = NULL, invitation_second = NULL, invited_until = NULL
             WHERE person_no IN (
                SELECT person_no FROM exchange.person
                 WHERE disabled_at < $1
                   AND (password_hash IS NOT NULL OR oidc_subject IS NOT NULL OR invitation IS NOT NULL)
                 LIMIT $2 FOR UPDATE SKIP LOCKED)
            RETURNING person_no),
        codes AS (DELETE FROM exchange.recovery_code WHERE person_no IN (SELECT person_no FROM gone))
        SELECT count(*) FROM gone""",
    "consents": """
        WITH gone AS (
            DELETE FROM exchange.consent WHERE consent_no IN (
                SELECT consent_no FROM exchange.consent WHERE withdrawn_at < $1
                 LIMIT $2 FOR UPDATE SKIP LOCKED)
            RETURNING true)
        SELECT count(*) FROM gone""",
    "memberships": """
        WITH gone AS (
            DELETE FROM exchange.household_member WHERE membership_no IN (
                SELECT membership_no FROM exchange.household_member
                 WHERE left_at < $1 OR (joined_at IS NULL AND invited_until < $1)
                 LIMIT $2 FOR UPDATE SKIP LOCKED)
            RETURNING true)
        SELECT count(*) FROM gone""",
    "links": """
        WITH gone AS (
            DELETE FROM exchange.member_link WHERE (member_no, merchant_no) IN (
                SELECT l.member_no, l.merchant_no FROM exchange.member_link AS l
                 WHERE l.linked_at < $1
                   AND NOT EXISTS (
                       SELECT FROM exchange.journey AS j
                        WHERE j.member_no = l.member_no AND l.merchant_no IN (j.issuer, j.acceptor)
                          AND (j.wanted_at >= $1 OR j.ended_at IS NULL))
                 LIMIT $2 FOR UPDATE OF l SKIP LOCKED)
            RETURNING true)
        SELECT count(*) FROM gone""",
    "dead_letters": """
        WITH gone AS (
            DELETE FROM exchange.dead_letter WHERE (endpoint_no, letter_no) IN (
                SELECT endpoint_no, letter_no FROM exchange.dead_letter
                 WHERE given_up_at < $1 AND NOT replay_wanted
                 LIMIT $2 FOR UPDATE SKIP LOCKED)
            RETURNING true)
        SELECT count(*) FROM gone""",
}


async def remove(
    conn: Connection | PoolConnectionProxy, *, name: str, before: datetime, limit: int | None
) -> int:
    """Remove rows of one kind whose time counts from before an instant; returns how many.

    Args:
        conn: A connection inside a transaction.
        name: The kind, as `exchange.core.retention.RETENTION` calls it.
        before: The instant.
        limit: At most so many; None for all.
    """
    count: int = await conn.fetchval(_STATEMENTS[name], before, limit)
    return count
