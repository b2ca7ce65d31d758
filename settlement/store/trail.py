"""The audit trail: rows are only added, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from schemas.files.trail import GENESIS, TrailEntry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

_AT_A_TIME = 1_000


async def lock_trail(conn: Connection | PoolConnectionProxy) -> tuple[int, bytes]:
    """Hold the trail's end until the transaction ends; returns the last entry's number and digest (0 for none)."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('settlement.trail', 0))")
    row = await conn.fetchrow(
        "SELECT entry_no, digest FROM settlement.trail ORDER BY entry_no DESC LIMIT 1"
    )
    return (row["entry_no"], row["digest"]) if row else (0, GENESIS)


async def has_four_eyes(conn: Connection | PoolConnectionProxy) -> bool:
    """Whether controlled changes need a second person."""
    return bool(await conn.fetchval("SELECT true FROM settlement.four_eyes"))


async def begin_four_eyes(conn: Connection | PoolConnectionProxy, *, since: datetime) -> bool:
    """Put four eyes in force for good; False where they are already."""
    status = await conn.execute(
        "INSERT INTO settlement.four_eyes (one, since) VALUES (true, $1) ON CONFLICT DO NOTHING",
        since,
    )
    return bool(status == "INSERT 0 1")


async def insert_entry(
    conn: Connection | PoolConnectionProxy, *, entry: TrailEntry, digest: bytes
) -> None:
    """Add an entry behind the last one, which the caller has locked."""
    await conn.execute(
        """
        INSERT INTO settlement.trail (entry_no, at, who, second, action, subject, before, after, why, digest)
        VALUES ($1, timestamptz 'epoch' + $2::bigint * interval '1 microsecond', $3, $4, $5, $6,
                $7::text::jsonb, $8::text::jsonb, $9, $10)
        """,
        entry.entry_no,
        entry.at_us,
        entry.who,
        entry.second,
        entry.action,
        entry.subject,
        _json(entry.before),
        _json(entry.after),
        entry.why,
        digest,
    )


async def fetch_same(
    conn: Connection | PoolConnectionProxy | Pool, *, action: str, subject: str, after: str
) -> bytes | None:
    """Digest of the first entry that says this very change (`after` is JSON text); None if none does."""
    digest: bytes | None = await conn.fetchval(
        """
        SELECT digest FROM settlement.trail
         WHERE action = $1 AND subject = $2 AND after = $3::text::jsonb
         ORDER BY entry_no
         LIMIT 1
        """,
        action,
        subject,
        after,
    )
    return digest


async def stream_entries(
    conn: Connection | PoolConnectionProxy | Pool, *, after: int = 0
) -> AsyncIterator[tuple[TrailEntry, bytes]]:
    """Every entry behind number `after` with its stored digest, oldest first, some at a time."""
    while True:
        rows: list[Record] = await conn.fetch(
            """
            SELECT entry_no, (extract(epoch FROM at) * 1000000)::bigint AS at_us, who, second, action, subject,
                   before::text AS before, after::text AS after, why, digest
              FROM settlement.trail
             WHERE entry_no > $1
             ORDER BY entry_no
             LIMIT $2
            """,
            after,
            _AT_A_TIME,
        )
        for row in rows:
            yield _entry(row)
        if len(rows) < _AT_A_TIME:
            return
        after = rows[-1]["entry_no"]


async def fetch_entries(
    conn: Connection | PoolConnectionProxy | Pool,
    *,
    after: int,
    limit: int,
    who: str | None,
    action: str | None,
    subject: str | None,
    since: datetime | None,
    until: datetime | None,
) -> list[tuple[TrailEntry, bytes]]:
    """Entries behind number `after` that fit, with their digests, oldest first; what is None fits all."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT entry_no, (extract(epoch FROM at) * 1000000)::bigint AS at_us, who, second, action, subject,
               before::text AS before, after::text AS after, why, digest
          FROM settlement.trail
         WHERE entry_no > $1
           AND ($3::text IS NULL OR who = $3 OR second = $3)
           AND ($4::text IS NULL OR action = $4)
           AND ($5::text IS NULL OR subject = $5)
           AND ($6::timestamptz IS NULL OR at >= $6)
           AND ($7::timestamptz IS NULL OR at < $7)
         ORDER BY entry_no
         LIMIT $2
        """,
        after,
        limit,
        who,
        action,
        subject,
        since,
        until,
    )
    return [_entry(row) for row in rows]


async def fetch_administration(conn: Connection | PoolConnectionProxy | Pool) -> list[Record]:
    """Events that opened or changed accounts, turned cycles or adjusted, since there is a trail, in their order.

    `merchant` is the code that the event names, `cycle_id` the cycle that it closed or settled.
    """
    rows: list[Record] = await conn.fetch(
        """
        SELECT e.seq, e.kind, e.body, e.value_cu, m.code AS merchant, c.cycle_id
          FROM settlement.event AS e
          LEFT JOIN settlement.trail_base AS b ON b.part = e.part
          LEFT JOIN settlement.merchant AS m ON m.merchant_no = e.issuer
          LEFT JOIN settlement.cycle AS c ON c.part = e.part AND c.cycle_no = e.cycle_no
         WHERE e.kind IN (6, 10, 11, 12, 14, 15, 23, 24, 25, 26) AND e.seq > coalesce(b.last_seq, 0)
           AND (e.kind <> 6 OR e.caller = 0)
         ORDER BY e.seq
        """
    )
    return rows


def _entry(row: Record) -> tuple[TrailEntry, bytes]:
    fields = dict(row)
    digest: bytes = fields.pop("digest")
    for name in ("before", "after"):
        fields[name] = None if fields[name] is None else msgspec.json.decode(fields[name])
    return TrailEntry(**fields), digest


def _json(terms: object) -> str | None:
    return None if terms is None else msgspec.json.encode(terms).decode()
