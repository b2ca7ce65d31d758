"""Used codes and members' orders in the database, on the writer's own connections.

Instants are microseconds and uuids are bytes there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.programme.core.guard import WINDOW_US, Counted

if TYPE_CHECKING:
    from asyncpg import Connection


async def fetch_codes(conn: Connection, *, part: int, since_us: int) -> dict[bytes, int]:
    """Read the used codes that count until `since_us` or longer; digest to their last instant."""
    return {
        row["code"]: row["until"]
        for row in await conn.fetch(
            "SELECT code, until FROM exchange.code_use WHERE part = $1 AND until >= $2 ORDER BY until",
            part,
            since_us,
        )
    }


async def fetch_counted(
    conn: Connection, *, part: int, members: list[int], after_us: int
) -> list[Counted]:
    """Read the orders of `members` after an instant that count: all but those that were released."""
    rows = await conn.fetch(
        """
        SELECT found.*
          FROM unnest($2::bigint[]) AS wanted (member_no)
         CROSS JOIN LATERAL (
               SELECT e.member_no, e.issuer, e.seq, e.at, e.debit_cu, e.kind = 1 AND ended.kind IS NULL AS held
                 FROM exchange.member_order AS o
                 JOIN settlement.event AS e ON e.part = o.part AND e.seq = o.seq
                 LEFT JOIN settlement.event AS ended
                   ON ended.part = o.part AND ended.order_seq = o.seq AND ended.kind IN (3, 4, 5)
                      AND ended.order_seq <> ended.seq
                WHERE o.part = $1 AND o.member_no = wanted.member_no AND o.at > $3
                      AND coalesce(ended.kind, 3) = 3
               OFFSET 0 -- one look-up in member_order_of_member for each member
         ) AS found
         ORDER BY found.seq
        """,
        part,
        members,
        after_us,
    )
    return [
        Counted(
            row["member_no"],
            row["issuer"],
            row["seq"],
            row["at"],
            row["debit_cu"],
            held=row["held"],
        )
        for row in rows
    ]


async def fetch_ends(conn: Connection, *, part: int, order_seqs: list[int]) -> dict[int, int]:
    """Read how accepted orders ended; order to the kind of its end, for those that have."""
    rows = await conn.fetch(
        """
        SELECT found.*
          FROM unnest($2::bigint[]) AS wanted (order_seq)
         CROSS JOIN LATERAL (
               SELECT e.order_seq, e.kind
                 FROM settlement.event AS e
                WHERE e.part = $1 AND e.order_seq = wanted.order_seq AND e.kind IN (3, 4, 5)
                      AND e.order_seq <> e.seq
               OFFSET 0 -- one look-up in event_end for each order
         ) AS found
        """,
        part,
        order_seqs,
    )
    return {row["order_seq"]: row["kind"] for row in rows}


async def insert_codes(conn: Connection, *, part: int, codes: list[tuple[bytes, int, int]]) -> None:
    """Note used codes: digest, until when they would have counted, and the order's event."""
    await conn.execute(
        """
        INSERT INTO exchange.code_use (code, until, seq, part)
        SELECT used.code, used.until, used.seq, $1
          FROM unnest($2::uuid[], $3::timestamptz[], $4::bigint[]) AS used (code, until, seq)
        """,
        part,
        [code for code, _, _ in codes],
        [until_us for _, until_us, _ in codes],
        [seq for _, _, seq in codes],
    )


async def insert_counted(conn: Connection, *, part: int, counted: list[Counted]) -> None:
    """Note orders that count against their members' limits."""
    await conn.execute(
        """
        INSERT INTO exchange.member_order (member_no, at, seq, part)
        SELECT counted.member_no, counted.at, counted.seq, $1
          FROM unnest($2::bigint[], $3::timestamptz[], $4::bigint[]) AS counted (member_no, at, seq)
        """,
        part,
        [one.member_no for one in counted],
        [one.at_us for one in counted],
        [one.seq for one in counted],
    )


async def forget(conn: Connection, *, part: int, before_us: int) -> None:
    """Forget codes that would have expired before an instant, and orders that are a day older than it."""
    await conn.execute(
        "DELETE FROM exchange.code_use WHERE part = $1 AND until < $2", part, before_us
    )
    await conn.execute(
        "DELETE FROM exchange.member_order WHERE part = $1 AND at <= $2",
        part,
        before_us - WINDOW_US,
    )
