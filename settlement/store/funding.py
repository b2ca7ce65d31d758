"""What funding reads beside the books: movements of the bank that are not booked, alert levels, steps of a default."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    import asyncpg
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection | PoolConnectionProxy


async def fetch_unbooked(
    conn: Connection | asyncpg.Pool, *, part: int, account: str | None
) -> list[Record]:
    """Movements of an account (of all for None) that no event books, with the match that holds each, oldest first.

    What was on an account before its first statement stands there as that statement's entry 0. The key of a booking
    is made of the numbers of statement and entry; see `settlement.service.funding.booking_key`.
    """
    rows: list[Record] = await conn.fetch(
        """
        WITH moved AS (
            SELECT statement_no, entry_no, amount_fen, reference, party_name, party_account
              FROM settlement.bank_entry
             UNION ALL
            SELECT statement_no, 0, opening_fen, 'opening balance', '', ''
              FROM settlement.bank_statement
             WHERE follows IS NULL
        )
        SELECT e.statement_no, e.entry_no, s.number AS statement, e.amount_fen, e.reference, e.party_name,
               e.party_account, m.match_no,
               coalesce(m.difference IS NOT NULL AND m.accepted_at IS NULL, false) AS differs,
               m.match_no IS NULL AND EXISTS (
                   SELECT FROM settlement.match_entry AS u
                    WHERE u.statement_no = e.statement_no AND u.entry_no = e.entry_no) AS released,
               coalesce(again.refused, 0) AS refused
          FROM moved AS e
          JOIN settlement.bank_statement AS s USING (statement_no)
          LEFT JOIN settlement.match_entry AS h
            ON h.statement_no = e.statement_no AND h.entry_no = e.entry_no AND h.holds
          LEFT JOIN settlement.match AS m ON m.match_no = h.match_no
         CROSS JOIN LATERAL (
               SELECT lpad(to_hex(e.statement_no), 8, '0') || lpad(to_hex(e.entry_no), 8, '0') AS numbers
         ) AS named
          LEFT JOIN settlement.event AS first
            ON first.key = ('62616e6b00008000' || named.numbers)::uuid
           AND first.caller = 0 AND first.step = 0 AND first.part = $2
          LEFT JOIN LATERAL (
               SELECT count(*) FILTER (WHERE v.kind = 2) AS refused, bool_or(v.kind IN (23, 24)) AS booked
                 FROM generate_series(0, 15) AS attempt (number)
                 JOIN settlement.event AS v
                   ON v.key = ('62616e6b' || to_hex(attempt.number) || '0008000' || named.numbers)::uuid
                  AND v.caller = 0 AND v.step = 0 AND v.part = $2
          ) AS again ON first.kind = 2
         WHERE ($1::text IS NULL OR s.account = $1)
           AND e.amount_fen <> 0
           AND (first.kind IS NULL OR (first.kind = 2 AND NOT again.booked))
         ORDER BY e.statement_no, e.entry_no
        """,
        account,
        part,
    )
    return rows


async def fetch_closing(conn: Connection | asyncpg.Pool) -> dict[str, int]:
    """Closing balance of each account's last statement, fen, by account."""
    rows = await conn.fetch(
        """
        SELECT account, closing_fen
          FROM settlement.bank_statement AS s
         WHERE NOT EXISTS (SELECT FROM settlement.bank_statement AS n WHERE n.follows = s.statement_no)
         ORDER BY account
        """
    )
    return {row["account"]: row["closing_fen"] for row in rows}


async def fetch_collateral(conn: Connection | asyncpg.Pool, *, part: int) -> list[Record]:
    """Collateral by merchant."""
    rows: list[Record] = await conn.fetch(
        "SELECT merchant_no, collateral_cu FROM settlement.account WHERE part = $1", part
    )
    return rows


async def fetch_closed_nets(conn: Connection | asyncpg.Pool, *, part: int) -> list[Record]:
    """Positions of all cycles that are closed and not settled, with when they closed; none of gross ones."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT p.cycle_no, p.merchant_no, p.net_cu, c.closed_at
          FROM settlement.position AS p
          JOIN settlement.cycle AS c ON c.part = p.part AND c.cycle_no = p.cycle_no
          LEFT JOIN settlement.arrangement AS a
            ON a.part = c.part AND a.arrangement_no = c.arrangement_no
         WHERE p.part = $1 AND c.state = 'closed' AND p.net_cu <> 0
               AND a.model IS DISTINCT FROM 'gross'
         ORDER BY p.cycle_no, p.merchant_no
        """,
        part,
    )
    return rows


async def fetch_steps(conn: Connection | asyncpg.Pool, *, part: int, cycle_no: int) -> list[Record]:
    """Events that moved money for a cycle after it closed, in their order."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT e.seq, e.kind, (extract(epoch FROM e.at) * 1000000)::bigint AS at_us, e.issuer, e.acceptor,
               e.units, e.credited_units, e.debit_cu, e.value_cu, e.fee_cu
          FROM settlement.event AS e
          JOIN settlement.cycle AS c ON c.part = e.part AND c.cycle_no = e.cycle_no
         WHERE e.part = $1 AND e.cycle_no = $2 AND e.kind IN (15, 25, 26) AND e.seq > c.last_seq
         ORDER BY e.seq
        """,
        part,
        cycle_no,
    )
    return rows


async def fetch_levels(conn: Connection | asyncpg.Pool) -> list[Record]:
    """The alert level of each merchant that has one, as it is now."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT DISTINCT ON (merchant_no) merchant_no, level_cu
          FROM settlement.funds_level
         ORDER BY merchant_no, set_at DESC
        """
    )
    return rows


async def insert_level(conn: Connection, *, merchant_no: int, level_cu: int, at: datetime) -> None:
    """Set a merchant's alert level; what it was before stays."""
    await conn.execute(
        "INSERT INTO settlement.funds_level (merchant_no, set_at, level_cu) VALUES ($1, $2, $3)",
        merchant_no,
        at,
        level_cu,
    )


async def fetch_cycles_of(
    conn: Connection | asyncpg.Pool, *, part: int, merchant_no: int, after: int, limit: int
) -> list[Record]:
    """Cycles that a merchant has a figure in and that are not settled, or a payment for that the bank has not shown."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT c.cycle_no, c.cycle_id, c.state, c.closed_at, coalesce(a.code, 'main') AS arrangement,
               CASE WHEN a.model IS DISTINCT FROM 'gross' THEN coalesce(p.net_cu, 0) ELSE 0 END AS net_cu
          FROM settlement.cycle AS c
          LEFT JOIN settlement.arrangement AS a USING (part, arrangement_no)
          LEFT JOIN settlement.position AS p
            ON p.part = c.part AND p.cycle_no = c.cycle_no AND p.merchant_no = $2
         WHERE c.part = $1 AND c.cycle_no > $3
           AND ((c.state <> 'settled' AND p.net_cu <> 0 AND a.model IS DISTINCT FROM 'gross')
                OR EXISTS (
                   SELECT FROM settlement.instruction AS i
                    WHERE i.cycle_no = c.cycle_no AND i.merchant_no = $2 AND i.pay_fen <> 0
                      AND NOT EXISTS (
                          SELECT FROM settlement.match_instruction AS h
                           WHERE h.cycle_no = i.cycle_no AND h.merchant_no = i.merchant_no
                             AND h.counterparty_no = i.counterparty_no AND h.holds)))
         ORDER BY c.cycle_no
         LIMIT $4
        """,
        part,
        merchant_no,
        after,
        limit,
    )
    return rows


async def fetch_due(
    conn: Connection | asyncpg.Pool, *, merchant_no: int, cycle_nos: list[int]
) -> list[Record]:
    """A merchant's payments for some cycles that the bank has not shown."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT i.cycle_no, i.counterparty_no, i.pay_fen, b.sequence,
               encode(b.manifest_sha256, 'hex') AS manifest_sha256
          FROM settlement.instruction AS i
          JOIN settlement.batch AS b USING (cycle_no)
         WHERE i.cycle_no = ANY($2) AND i.merchant_no = $1 AND i.pay_fen <> 0
           AND NOT EXISTS (
               SELECT FROM settlement.match_instruction AS h
                WHERE h.cycle_no = i.cycle_no AND h.merchant_no = i.merchant_no
                  AND h.counterparty_no = i.counterparty_no AND h.holds)
         ORDER BY i.cycle_no, i.counterparty_no
        """,
        merchant_no,
        cycle_nos,
    )
    return rows
