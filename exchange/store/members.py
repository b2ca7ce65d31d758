"""Members, their keys, and what they are called: names stand here sealed, found by a keyed digest."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy


class SealedName(NamedTuple):
    """A new member's name.

    Attributes:
        digest: What it is found by, 32 bytes.
        member_no: The member's surrogate.
        scope: Whose name it is: a merchant's number, 0 for the house.
        sealed: The name under the member's key.
        wrapped: The member's key under the house's.
    """

    digest: bytes
    member_no: int
    scope: int
    sealed: bytes
    wrapped: bytes


async def insert_members(
    conn: Connection | Pool, *, names: Sequence[SealedName], now: datetime
) -> None:
    """Add members whose names are not there yet, each with a key."""
    await conn.execute(
        """
        WITH named AS (
            INSERT INTO exchange.member_name (digest, member_no, scope, sealed, named_at)
            SELECT w.digest, w.member_no, w.scope, w.sealed, $6
              FROM unnest($1::bytea[], $2::bigint[], $3::int[], $4::bytea[])
                AS w (digest, member_no, scope, sealed)
                ON CONFLICT (digest) DO NOTHING
            RETURNING member_no
        ), enrolled AS (
            INSERT INTO exchange.member (member_no, enrolled_at) SELECT member_no, $6 FROM named
        )
        INSERT INTO exchange.member_key (member_no, wrapped, made_at)
        SELECT w.member_no, w.wrapped, $6
          FROM unnest($2::bigint[], $5::bytea[]) AS w (member_no, wrapped)
          JOIN named USING (member_no)
        """,
        *map(list, zip(*names, strict=True)),
        now,
    )


async def fetch_named(conn: Connection | Pool, *, digests: Sequence[bytes]) -> dict[bytes, int]:
    """Surrogates of the members that are known by these digests."""
    rows = await conn.fetch(
        "SELECT digest, member_no FROM exchange.member_name WHERE digest = ANY($1::bytea[])",
        digests,
    )
    return {row["digest"]: row["member_no"] for row in rows}


async def fetch_known_to(
    conn: Connection | Pool, *, merchant_no: int, scope: int, member_nos: Sequence[int]
) -> set[int]:
    """Those members whom a merchant may know: named in the scope it names in, or consenting; the house knows all."""
    rows = await conn.fetch(
        """
        SELECT m.member_no
          FROM unnest($2::bigint[]) AS w (member_no)
          JOIN exchange.member AS m USING (member_no)
         WHERE m.erased_at IS NULL
               AND ($1 = 0
                    OR EXISTS (SELECT FROM exchange.member_name AS n
                                WHERE n.member_no = m.member_no AND n.scope = $3)
                    OR EXISTS (SELECT FROM exchange.consent AS c
                                WHERE c.member_no = m.member_no AND c.receiver = $1
                                      AND c.withdrawn_at IS NULL))
        """,
        merchant_no,
        member_nos,
        scope,
    )
    return {row["member_no"] for row in rows}


async def fetch_keys(conn: Connection | Pool, *, member_nos: Sequence[int]) -> dict[int, bytes]:
    """Wrapped keys of members; who was erased has none."""
    rows = await conn.fetch(
        "SELECT member_no, wrapped FROM exchange.member_key WHERE member_no = ANY($1::bigint[])",
        member_nos,
    )
    return {row["member_no"]: row["wrapped"] for row in rows}


async def is_enrolled(conn: Connection | Pool, *, member_no: int) -> bool:
    """Whether somebody is enrolled under a surrogate, and was not erased."""
    found: bool = await conn.fetchval(
        "SELECT EXISTS (SELECT FROM exchange.member WHERE member_no = $1 AND erased_at IS NULL)",
        member_no,
    )
    return found


async def fetch_forgotten(
    conn: Connection | Pool, *, since: datetime
) -> tuple[datetime, list[int]]:
    """Members who were erased, or withdrew a consent, since an instant; and the database's clock."""
    row = await conn.fetchrow(
        """
        SELECT clock_timestamp() AS now, ARRAY(
            SELECT member_no FROM exchange.member WHERE erased_at >= $1
             UNION SELECT member_no FROM exchange.consent WHERE withdrawn_at >= $1
        ) AS member_nos
        """,
        since,
    )
    assert row is not None
    return row["now"], row["member_nos"]


# --- references of before ---


async def fetch_unsealed(conn: Connection, *, limit: int) -> dict[int, str]:
    """Members whose reference still stands open, locked; from before names were sealed."""
    rows = await conn.fetch(
        """
        SELECT member_no, reference FROM exchange.member
         WHERE reference IS NOT NULL ORDER BY member_no LIMIT $1 FOR UPDATE
        """,
        limit,
    )
    return {row["member_no"]: row["reference"] for row in rows}


async def seal_references(conn: Connection, *, names: Sequence[SealedName], now: datetime) -> None:
    """Replace open references by sealed names."""
    digests, member_nos, scopes, sealed, wrapped = map(list, zip(*names, strict=True))
    await conn.execute(
        """
        INSERT INTO exchange.member_name (digest, member_no, scope, sealed, named_at)
        SELECT w.digest, w.member_no, w.scope, w.sealed, $5
          FROM unnest($1::bytea[], $2::bigint[], $3::int[], $4::bytea[]) AS w (digest, member_no, scope, sealed)
        """,
        digests,
        member_nos,
        scopes,
        sealed,
        now,
    )
    await conn.execute(
        """
        INSERT INTO exchange.member_key (member_no, wrapped, made_at)
        SELECT w.member_no, w.wrapped, $3 FROM unnest($1::bigint[], $2::bytea[]) AS w (member_no, wrapped)
        """,
        member_nos,
        wrapped,
        now,
    )
    await conn.execute(
        "UPDATE exchange.member SET reference = NULL WHERE member_no = ANY($1::bigint[])",
        member_nos,
    )


# --- opening names again ---


async def fetch_names(
    conn: Connection | Pool, *, member_nos: Sequence[int], scopes: Sequence[int] | None = None
) -> list[Record]:
    """Sealed names with their members' wrapped keys, oldest first; of all scopes, or of some."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT n.member_no, n.scope, n.sealed, n.named_at, k.wrapped
          FROM exchange.member_name AS n JOIN exchange.member_key AS k USING (member_no)
         WHERE n.member_no = ANY($1::bigint[]) AND ($2::int[] IS NULL OR n.scope = ANY($2))
         ORDER BY n.named_at, n.digest
        """,
        member_nos,
        scopes,
    )
    return rows


async def fetch_dossier(conn: Connection, *, part: int, member_no: int) -> dict[str, list[Record]]:
    """Everything else that stands about a member, by kind."""
    statements = {
        "links": """
            SELECT merchant_no, sealed, linked_at FROM exchange.member_link WHERE member_no = $1
             ORDER BY merchant_no""",
        "lots": """
            SELECT lot_no, merchant_no, earned_units, units, expires_at FROM exchange.lot_balance
             WHERE member_no = $1 AND part = $2 ORDER BY lot_no""",
        "events": """
            SELECT seq, order_seq, kind, at, occurred_at, issuer, acceptor, units, credited_units, debit_cu,
                   value_cu, reason, reference
              FROM settlement.event WHERE member_no = $1 AND part = $2 ORDER BY seq""",
    }
    found = {"links": await conn.fetch(statements["links"], member_no)}
    for kind in ("lots", "events"):
        found[kind] = await conn.fetch(statements[kind], member_no, part)
    return found


# --- erasing ---


async def lock_member(conn: Connection | PoolConnectionProxy, *, member_no: int) -> bool:
    """Lock a member against a second erasure; False if there is none, or it was erased."""
    return bool(
        await conn.fetchval(
            "SELECT true FROM exchange.member WHERE member_no = $1 AND erased_at IS NULL FOR UPDATE",
            member_no,
        )
    )


async def fetch_open_business(conn: Connection, *, part: int, member_no: int) -> tuple[int, int]:
    """How many orders of a member are under way, and how many live units it has, of all programmes."""
    row = await conn.fetchrow(
        """
        SELECT (SELECT count(*) FROM exchange.journey WHERE member_no = $1 AND ended_at IS NULL)
               + (SELECT count(*) FROM settlement.hold AS h
                    JOIN settlement.event AS e ON e.seq = h.order_seq AND e.part = h.part
                   WHERE h.part = $2 AND e.member_no = $1) AS orders,
               (SELECT coalesce(sum(units), 0) FROM exchange.lot_balance
                 WHERE member_no = $1 AND part = $2 AND expires_at > clock_timestamp())::bigint AS units
        """,
        member_no,
        part,
    )
    assert row is not None
    return row["orders"], row["units"]


async def erase_member(conn: Connection, *, member_no: int, now: datetime) -> None:
    """Destroy a member's key and everything that it sealed; the surrogate stays in the journal."""
    for statement in (
        "DELETE FROM exchange.member_link WHERE member_no = $1",
        "DELETE FROM exchange.member_name WHERE member_no = $1",
        "DELETE FROM exchange.member_key WHERE member_no = $1",
    ):
        await conn.execute(statement, member_no)
    await conn.execute(
        """
        UPDATE exchange.consent SET withdrawn_at = greatest($2, given_at)
         WHERE member_no = $1 AND withdrawn_at IS NULL
        """,
        member_no,
        now,
    )
    await conn.execute(
        "UPDATE exchange.member SET erased_at = $2 WHERE member_no = $1", member_no, now
    )
