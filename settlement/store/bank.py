"""SQL of bank statements, and of matches between their entries and instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import asyncpg
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from schemas.files.bank_statement import BankEntry, BankStatement

    Connection = asyncpg.Connection | PoolConnectionProxy


async def lock_bank(conn: Connection) -> None:
    """Keep others from importing and matching until the transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('settlement.bank', 0))")


async def fetch_statement(
    conn: Connection, *, account: str, number: str, opened_on: object
) -> Record | None:
    """Read a statement by what the bank calls it."""
    return await conn.fetchrow(
        """
        SELECT statement_no, content_sha256
          FROM settlement.bank_statement
         WHERE account = $1 AND number = $2 AND opened_on = $3
        """,
        account,
        number,
        opened_on,
    )


async def fetch_statement_of(conn: Connection, *, content_sha256: bytes) -> Record | None:
    """Read the statement that has exactly this content."""
    return await conn.fetchrow(
        "SELECT statement_no FROM settlement.bank_statement WHERE content_sha256 = $1",
        content_sha256,
    )


async def fetch_last_statement(conn: Connection, *, account: str) -> Record | None:
    """Read the newest statement of an account: the one that none follows."""
    return await conn.fetchrow(
        """
        SELECT statement_no, number, closed_on, closing_fen
          FROM settlement.bank_statement AS s
         WHERE account = $1
           AND NOT EXISTS (SELECT FROM settlement.bank_statement AS n WHERE n.follows = s.statement_no)
        """,
        account,
    )


async def insert_statement(
    conn: Connection,
    *,
    statement: BankStatement,
    follows: int | None,
    content_sha256: bytes,
    at: datetime,
) -> int:
    """Add a statement; returns its number."""
    number: int = await conn.fetchval(
        """
        INSERT INTO settlement.bank_statement
               (statement_no, account, number, opened_on, closed_on, opening_fen, closing_fen, entries, follows,
                content_sha256, imported_at)
        SELECT coalesce(max(statement_no), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10
          FROM settlement.bank_statement
        RETURNING statement_no
        """,
        statement.account,
        statement.number,
        statement.opened_on,
        statement.closed_on,
        statement.opening_fen,
        statement.closing_fen,
        len(statement.entries),
        follows,
        content_sha256,
        at,
    )
    return number


async def copy_entries(conn: Connection, *, statement_no: int, statement: BankStatement) -> None:
    """Add the entries of a statement, numbered from 1."""
    await conn.copy_records_to_table(
        "bank_entry",
        schema_name="settlement",
        columns=(
            "statement_no", "entry_no", "place", "amount_fen", "booked_on", "reference",
            "bank_reference", "party_name", "party_account", "is_return",
        ),
        records=(
            (
                statement_no, number, one.place, one.amount_fen, one.booked_on, one.reference,
                one.bank_reference, one.party_name, one.party_account, one.is_return,
            )
            for number, one in enumerate(statement.entries, start=1)
        ),
    )  # fmt: skip


async def fetch_open_entries(conn: Connection, *, account: str) -> list[Record]:
    """Read what moved on an account and belongs to nothing yet, oldest first; `released` was let go by a person."""
    return await conn.fetch(
        """
        SELECT e.statement_no, e.entry_no, e.place, e.amount_fen, e.booked_on, e.reference,
               e.bank_reference, e.party_name, e.party_account, s.number AS statement,
               EXISTS (SELECT FROM settlement.match_entry AS u
                        WHERE u.statement_no = e.statement_no AND u.entry_no = e.entry_no
                          AND NOT u.holds) AS released
          FROM settlement.bank_entry AS e
          JOIN settlement.bank_statement AS s USING (statement_no)
         WHERE s.account = $1
           AND e.amount_fen <> 0
           AND NOT EXISTS (SELECT FROM settlement.match_entry AS m
                            WHERE m.statement_no = e.statement_no AND m.entry_no = e.entry_no AND m.holds)
         ORDER BY e.statement_no, e.entry_no
        """,
        account,
    )


async def fetch_open_instructions(conn: Connection) -> list[Record]:
    """Read what should move and has not been seen on an account, oldest first."""
    return await conn.fetch(
        """
        SELECT i.cycle_no, i.merchant_no, i.counterparty_no, i.pay_fen, b.sequence, m.code,
               encode(b.manifest_sha256, 'hex') AS manifest_sha256,
               (SELECT (max(c.closed_at) AT TIME ZONE 'Asia/Shanghai')::date
                  FROM settlement.cycle AS c WHERE c.cycle_no = i.cycle_no) AS closed_on
          FROM settlement.instruction AS i
          JOIN settlement.batch AS b USING (cycle_no)
          LEFT JOIN settlement.merchant AS m USING (merchant_no)
         WHERE i.pay_fen <> 0
           AND NOT EXISTS (SELECT FROM settlement.match_instruction AS h
                            WHERE h.cycle_no = i.cycle_no AND h.merchant_no = i.merchant_no
                                  AND h.counterparty_no = i.counterparty_no AND h.holds)
         ORDER BY i.cycle_no, i.merchant_no, i.counterparty_no
        """
    )


async def fetch_closed_instructions(conn: Connection, *, sequences: list[int]) -> list[Record]:
    """Read what should move for these packages and was seen, with what moved; the parts of a split are left out."""
    return await conn.fetch(
        """
        SELECT i.cycle_no, i.merchant_no, i.counterparty_no, i.pay_fen, b.sequence, m.code,
               encode(b.manifest_sha256, 'hex') AS manifest_sha256, e.amount_fen AS moved_fen,
               (SELECT (max(c.closed_at) AT TIME ZONE 'Asia/Shanghai')::date
                  FROM settlement.cycle AS c WHERE c.cycle_no = i.cycle_no) AS closed_on
          FROM settlement.batch AS b
          JOIN settlement.match_instruction AS h USING (cycle_no)
          JOIN settlement.match AS n USING (match_no)
          JOIN settlement.instruction AS i
            ON (i.cycle_no, i.merchant_no, i.counterparty_no) = (h.cycle_no, h.merchant_no, h.counterparty_no)
          JOIN settlement.match_entry AS x USING (match_no)
          JOIN settlement.bank_entry AS e USING (statement_no, entry_no)
          LEFT JOIN settlement.merchant AS m ON m.merchant_no = i.merchant_no
         WHERE b.sequence = ANY($1) AND h.holds AND n.difference IS DISTINCT FROM 'split'
         ORDER BY h.match_no, i.merchant_no, i.counterparty_no, e.statement_no, e.entry_no
        """,
        sequences,
    )


async def count_known(conn: Connection, *, account: str, entries: Sequence[BankEntry]) -> int:
    """Count the entries that an account has already, by the bank's reference, amount and day."""
    many: int = await conn.fetchval(
        """
        SELECT count(*)
          FROM unnest($2::text[], $3::bigint[], $4::date[]) AS t (bank_reference, amount_fen, booked_on)
         WHERE (bank_reference, amount_fen, booked_on) IN (
               SELECT e.bank_reference, e.amount_fen, e.booked_on
                 FROM settlement.bank_entry AS e JOIN settlement.bank_statement AS s USING (statement_no)
                WHERE s.account = $1)
        """,
        account,
        [one.bank_reference for one in entries],
        [one.amount_fen for one in entries],
        [one.booked_on for one in entries],
    )
    return many


async def insert_matches(
    conn: Connection,
    *,
    matches: Sequence[tuple[str, str | None]],
    at: datetime,
    by: str,
    lines_of: tuple[int, int] | None = None,
) -> list[int]:
    """Add matches, each with its step and what differs; returns their numbers in the same order.

    Args:
        conn: A connection inside a transaction that holds the lock.
        matches: Step and difference of each.
        at: Instant.
        by: Who made them.
        lines_of: Cycle and merchant whose lines are matched; None for payments and bank entries.
    """
    first: int = await conn.fetchval("SELECT coalesce(max(match_no), 0) + 1 FROM settlement.match")
    await conn.copy_records_to_table(
        "match",
        schema_name="settlement",
        columns=(
            "match_no", "step", "difference", "made_at", "made_by", "cycle_no", "merchant_no",
        ),
        records=(
            (number, step, difference, at, by, *(lines_of or (None, None)))
            for number, (step, difference) in enumerate(matches, start=first)
        ),
    )  # fmt: skip
    return list(range(first, first + len(matches)))


async def copy_matched(
    conn: Connection,
    *,
    instructions: Sequence[tuple[int, int, int, int]],
    entries: Sequence[tuple[int, int, int]],
) -> None:
    """Add what matches hold.

    Args:
        conn: A connection inside a transaction.
        instructions: Number of the match, cycle, merchant, counterparty.
        entries: Number of the match, statement, entry.
    """
    await conn.copy_records_to_table(
        "match_instruction",
        schema_name="settlement",
        columns=("match_no", "cycle_no", "merchant_no", "counterparty_no"),
        records=instructions,
    )
    await conn.copy_records_to_table(
        "match_entry",
        schema_name="settlement",
        columns=("match_no", "statement_no", "entry_no"),
        records=entries,
    )


async def fetch_match(conn: Connection, *, match_no: int) -> Record | None:
    """Read a match."""
    return await conn.fetchrow(
        """
        SELECT match_no, step, difference, accepted_at IS NOT NULL AS accepted, undone_at IS NOT NULL AS undone
          FROM settlement.match
         WHERE match_no = $1
        """,
        match_no,
    )


async def fetch_differing(conn: Connection) -> list[Record]:
    """Read the matches of payments in which something differs and nobody has let it stand."""
    return await conn.fetch(
        """
        SELECT match_no, step, difference
          FROM settlement.match
         WHERE difference IS NOT NULL AND accepted_at IS NULL AND undone_at IS NULL AND cycle_no IS NULL
         ORDER BY match_no
        """
    )


async def fetch_matched_instructions(conn: Connection, *, match_nos: list[int]) -> list[Record]:
    """Read the instructions that matches hold or held."""
    return await conn.fetch(
        """
        SELECT h.match_no, i.cycle_no, i.merchant_no, i.counterparty_no, i.pay_fen, b.sequence, m.code,
               encode(b.manifest_sha256, 'hex') AS manifest_sha256,
               (SELECT (max(c.closed_at) AT TIME ZONE 'Asia/Shanghai')::date
                  FROM settlement.cycle AS c WHERE c.cycle_no = i.cycle_no) AS closed_on
          FROM settlement.match_instruction AS h
          JOIN settlement.instruction AS i USING (cycle_no, merchant_no, counterparty_no)
          JOIN settlement.batch AS b USING (cycle_no)
          LEFT JOIN settlement.merchant AS m USING (merchant_no)
         WHERE h.match_no = ANY($1)
         ORDER BY h.match_no, i.cycle_no, i.merchant_no, i.counterparty_no
        """,
        match_nos,
    )


async def fetch_matched_entries(conn: Connection, *, match_nos: list[int]) -> list[Record]:
    """Read the entries that matches hold or held."""
    return await conn.fetch(
        """
        SELECT h.match_no, e.statement_no, e.entry_no, e.place, e.amount_fen, e.booked_on, e.reference,
               e.bank_reference, e.party_name, e.party_account, s.number AS statement
          FROM settlement.match_entry AS h
          JOIN settlement.bank_entry AS e USING (statement_no, entry_no)
          JOIN settlement.bank_statement AS s USING (statement_no)
         WHERE h.match_no = ANY($1)
         ORDER BY h.match_no, e.statement_no, e.entry_no
        """,
        match_nos,
    )


async def accept_match(conn: Connection, *, match_no: int, at: datetime) -> None:
    """Let what differs in a match stand."""
    await conn.execute(
        "UPDATE settlement.match SET accepted_at = $2 WHERE match_no = $1", match_no, at
    )


async def undo_match(conn: Connection, *, match_no: int, at: datetime) -> None:
    """Let go of what a match holds; its row stays."""
    await conn.execute(
        "UPDATE settlement.match SET undone_at = $2 WHERE match_no = $1", match_no, at
    )
    for table in ("match_instruction", "match_entry", "match_leaf", "match_line"):
        await conn.execute(
            f"UPDATE settlement.{table} SET holds = false WHERE match_no = $1 AND holds",  # noqa: S608 - one of these four
            match_no,
        )


async def fetch_last_account(conn: Connection | asyncpg.Pool) -> str:
    """Account of the statement that was imported last; empty before the first."""
    account: str | None = await conn.fetchval(
        "SELECT account FROM settlement.bank_statement ORDER BY statement_no DESC LIMIT 1"
    )
    return account or ""
