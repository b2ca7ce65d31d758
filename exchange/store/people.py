"""People: who they are, what they may do, and how they prove who they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy


async def insert_person(
    conn: Connection | PoolConnectionProxy,
    *,
    name: str,
    merchant_no: int,
    roles: list[str],
    now: datetime,
) -> int | None:
    """Add a person without credentials; returns the number, or None if the name is taken."""
    person_no: int | None = await conn.fetchval(
        """
        INSERT INTO exchange.person (name, merchant_no, roles, made_at, next_try_at)
        VALUES ($1, $2, $3, $4, $4)
            ON CONFLICT (name) DO NOTHING
        RETURNING person_no
        """,
        name,
        merchant_no,
        roles,
        now,
    )
    return person_no


async def fetch_person(
    conn: Connection | PoolConnectionProxy | Pool, *, name: str
) -> Record | None:
    """A person by name, with everything."""
    return await conn.fetchrow("SELECT * FROM exchange.person WHERE name = $1", name)


async def fetch_people(
    conn: Connection | PoolConnectionProxy | Pool, *, after: str = "", limit: int | None = None
) -> list[Record]:
    """Everybody after a name, by name, without anything secret; `merchant` is the code, null for the house."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT p.person_no, p.name, m.code AS merchant, p.roles, p.made_at, p.disabled_at, p.invited_until,
               p.password_hash IS NOT NULL OR p.oidc_subject IS NOT NULL AS ready,
               CASE WHEN p.failures >= 5 THEN p.next_try_at END AS locked_until
          FROM exchange.person AS p
          LEFT JOIN settlement.merchant AS m USING (merchant_no)
         WHERE p.name > $1
         ORDER BY p.name
         LIMIT $2
        """,
        after,
        limit,
    )
    return rows


async def set_invitation(
    conn: Connection | PoolConnectionProxy,
    *,
    person_no: int,
    invitation: bytes,
    second: bytes | None,
    until: datetime,
    now: datetime,
) -> None:
    """Invite a person, by the digests of what they will bring; what they had before counts no more."""
    await conn.execute(
        """
        UPDATE exchange.person
           SET invitation = $2, invitation_second = $3, invited_until = $4,
               password_hash = NULL, totp_sealed = NULL, failures = 0
         WHERE person_no = $1
        """,
        person_no,
        invitation,
        second,
        until,
    )
    await _end_sessions(conn, person_no=person_no, now=now)


async def fetch_invited(
    conn: Connection | PoolConnectionProxy, *, invitation: bytes, now: datetime
) -> Record | None:
    """The person whose open invitation this is, locked; None if there is none."""
    return await conn.fetchrow(
        """
        SELECT person_no, name, invitation_second FROM exchange.person
         WHERE invitation = $1 AND invited_until > $2 AND disabled_at IS NULL
           FOR UPDATE
        """,
        invitation,
        now,
    )


async def set_credentials(
    conn: Connection | PoolConnectionProxy,
    *,
    person_no: int,
    password_hash: str,
    totp_sealed: bytes,
    recovery: list[bytes],
) -> None:
    """Give a person who accepted the invitation their credentials; older ones are forgotten."""
    await conn.execute(
        """
        UPDATE exchange.person
           SET invitation = NULL, invitation_second = NULL, invited_until = NULL, password_hash = $2,
               totp_sealed = $3, totp_step = 0, failures = 0
         WHERE person_no = $1
        """,
        person_no,
        password_hash,
        totp_sealed,
    )
    await conn.execute("DELETE FROM exchange.recovery_code WHERE person_no = $1", person_no)
    await conn.executemany(
        "INSERT INTO exchange.recovery_code (digest, person_no) VALUES ($1, $2)",
        [(digest, person_no) for digest in recovery],
    )


async def set_roles(
    conn: Connection | PoolConnectionProxy, *, person_no: int, roles: list[str]
) -> None:
    """Change what a person may do; it counts from their next request on."""
    await conn.execute(
        "UPDATE exchange.person SET roles = $2 WHERE person_no = $1", person_no, roles
    )


async def set_subject(
    conn: Connection | PoolConnectionProxy, *, person_no: int, subject: str
) -> bool:
    """Say who a person is at the identity provider; False where somebody else is that."""
    taken = await conn.fetchval(
        "SELECT true FROM exchange.person WHERE oidc_subject = $1 AND person_no <> $2",
        subject,
        person_no,
    )
    if not taken:
        await conn.execute(
            "UPDATE exchange.person SET oidc_subject = $2 WHERE person_no = $1", person_no, subject
        )
    return not taken


async def fetch_by_subject(conn: Connection | Pool, *, subject: str) -> int | None:
    """Number of the person who is this at the identity provider and is not shut out."""
    person_no: int | None = await conn.fetchval(
        "SELECT person_no FROM exchange.person WHERE oidc_subject = $1 AND disabled_at IS NULL",
        subject,
    )
    return person_no


async def disable(conn: Connection | PoolConnectionProxy, *, person_no: int, now: datetime) -> None:
    """Shut a person out for good, and end their sessions."""
    await conn.execute(
        """
        UPDATE exchange.person
           SET disabled_at = $2, invitation = NULL, invitation_second = NULL, invited_until = NULL
         WHERE person_no = $1
        """,
        person_no,
        now,
    )
    await _end_sessions(conn, person_no=person_no, now=now)


async def _end_sessions(
    conn: Connection | PoolConnectionProxy, *, person_no: int, now: datetime
) -> None:
    await conn.execute(
        "UPDATE exchange.session SET ended_at = $2 WHERE person_no = $1 AND ended_at IS NULL",
        person_no,
        now,
    )


async def count_checkers(conn: Connection | PoolConnectionProxy, *, roles: list[str]) -> int:
    """How many people could sign in now in one of these roles."""
    count: int = await conn.fetchval(
        """
        SELECT count(*) FROM exchange.person
         WHERE roles && $1::text[] AND disabled_at IS NULL
           AND (password_hash IS NOT NULL OR oidc_subject IS NOT NULL)
        """,
        roles,
    )
    return count


# --- attempts to sign in ---


async def claim_attempt(
    conn: Connection | Pool, *, name: str, now: datetime, waits: list[int]
) -> Record | None:
    """Count an attempt before it is looked at, so that attempts at once cannot pass the limit together.

    Args:
        conn: Where.
        name: Who is said to be there.
        now: Instant.
        waits: Seconds until the next attempt, by number of failures in a row; the last for more.

    Returns:
        The person, or None for nobody, for one who must wait, and for one who cannot sign in.
    """
    return await conn.fetchrow(
        """
        UPDATE exchange.person
           SET failures = failures + 1,
               next_try_at = $2 + ($3::int[])[least(failures + 2, array_length($3::int[], 1))] * interval '1 second'
         WHERE name = $1 AND next_try_at <= $2 AND disabled_at IS NULL AND password_hash IS NOT NULL
        RETURNING person_no, name, password_hash, totp_sealed, totp_step, failures
        """,
        name,
        now,
        waits,
    )


async def use_totp_step(conn: Connection | Pool, *, person_no: int, step: int) -> bool:
    """Use a time step up; False if it, or a later one, was used before."""
    return bool(
        await conn.fetchval(
            """
            UPDATE exchange.person SET totp_step = $2 WHERE person_no = $1 AND totp_step < $2
            RETURNING true
            """,
            person_no,
            step,
        )
    )


async def use_recovery_code(conn: Connection | Pool, *, person_no: int, digest: bytes) -> bool:
    """Use a recovery code up; False if it is none."""
    return bool(
        await conn.fetchval(
            "DELETE FROM exchange.recovery_code WHERE person_no = $1 AND digest = $2 RETURNING true",
            person_no,
            digest,
        )
    )


async def forgive(conn: Connection | PoolConnectionProxy, *, person_no: int, now: datetime) -> None:
    """Forget the failures of who signed in."""
    await conn.execute(
        "UPDATE exchange.person SET failures = 0, next_try_at = $2 WHERE person_no = $1",
        person_no,
        now,
    )


# --- sessions ---


async def insert_session(
    conn: Connection | PoolConnectionProxy,
    *,
    digest: bytes,
    person_no: int,
    now: datetime,
    ends_at: datetime,
) -> None:
    """Open a session."""
    await conn.execute(
        """
        INSERT INTO exchange.session (digest, person_no, opened_at, seen_at, ends_at)
        VALUES ($1, $2, $3, $3, $4)
        """,
        digest,
        person_no,
        now,
        ends_at,
    )


async def fetch_session(
    conn: Connection | PoolConnectionProxy | Pool,
    *,
    digest: bytes,
    now: datetime,
    seen_after: datetime,
) -> Record | None:
    """A session that is open now, was seen after an instant, and whose person is not shut out."""
    return await conn.fetchrow(
        """
        SELECT s.digest, s.seen_at, s.ends_at, p.person_no, p.name, p.merchant_no, p.roles
          FROM exchange.session AS s
          JOIN exchange.person AS p USING (person_no)
         WHERE s.digest = $1 AND s.ended_at IS NULL AND s.ends_at > $2 AND s.seen_at > $3
           AND p.disabled_at IS NULL
        """,
        digest,
        now,
        seen_after,
    )


async def touch_session(conn: Connection | Pool, *, digest: bytes, now: datetime) -> None:
    """Note that a session was seen."""
    await conn.execute("UPDATE exchange.session SET seen_at = $2 WHERE digest = $1", digest, now)


async def end_session(conn: Connection | Pool, *, digest: bytes, now: datetime) -> bool:
    """End a session; False if none was open."""
    status = await conn.execute(
        "UPDATE exchange.session SET ended_at = $2 WHERE digest = $1 AND ended_at IS NULL",
        digest,
        now,
    )
    return bool(status == "UPDATE 1")
