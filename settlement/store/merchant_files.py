"""SQL of merchants' own files, and of matches between their lines and ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from datetime import datetime

    import asyncpg
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from schemas.files.merchant_file import Basis, FileLine

    Connection = asyncpg.Connection | PoolConnectionProxy


async def fetch_batch_of(conn: Connection, *, cycle_id: str) -> Record | None:
    """Read a cycle's batch by the cycle's id."""
    return await conn.fetchrow(
        """
        SELECT cycle_no, cycle_id, sequence, manifest, encode(manifest_sha256, 'hex') AS manifest_sha256
          FROM settlement.batch
         WHERE cycle_id = $1
        """,
        cycle_id,
    )


async def fetch_merchant_no(conn: Connection, *, code: str) -> int | None:
    """Read a merchant's number; None if there is no such merchant."""
    number: int | None = await conn.fetchval(
        "SELECT merchant_no FROM settlement.merchant WHERE code = $1", code
    )
    return number


async def fetch_files(conn: Connection, *, cycle_no: int, merchant_no: int) -> list[Record]:
    """Read the files of a merchant and batch that count, oldest first."""
    return await conn.fetch(
        """
        SELECT file_no, name, lines, amount_cu, figure, clock, rounding, content_sha256, imported_at
          FROM settlement.merchant_file
         WHERE cycle_no = $1 AND merchant_no = $2 AND withdrawn_at IS NULL
         ORDER BY file_no
        """,
        cycle_no,
        merchant_no,
    )


async def fetch_filed(conn: Connection | asyncpg.Pool) -> list[Record]:
    """Read which merchants gave files of which batches that count: codes and cycles' ids, oldest batch first."""
    return await conn.fetch(
        """
        SELECT DISTINCT b.cycle_no, b.cycle_id, m.code
          FROM settlement.merchant_file AS f
          JOIN settlement.merchant AS m USING (merchant_no)
          JOIN settlement.batch AS b USING (cycle_no)
         WHERE f.withdrawn_at IS NULL
         ORDER BY b.cycle_no, m.code
        """
    )


async def fetch_file(conn: Connection, *, file_no: int) -> Record | None:
    """Read one file."""
    return await conn.fetchrow(
        """
        SELECT f.file_no, f.cycle_no, f.merchant_no, m.code, b.cycle_id, f.withdrawn_at IS NOT NULL AS withdrawn
          FROM settlement.merchant_file AS f
          JOIN settlement.merchant AS m USING (merchant_no)
          JOIN settlement.batch AS b USING (cycle_no)
         WHERE f.file_no = $1
        """,
        file_no,
    )


async def insert_file(
    conn: Connection,
    *,
    cycle_no: int,
    merchant_no: int,
    name: str,
    lines: int,
    amount_cu: int,
    basis: Basis,
    content_sha256: bytes,
    at: datetime,
) -> int:
    """Add a file; returns its number."""
    number: int = await conn.fetchval(
        """
        INSERT INTO settlement.merchant_file
               (file_no, cycle_no, merchant_no, name, lines, amount_cu, figure, clock, rounding, content_sha256,
                imported_at)
        SELECT coalesce(max(file_no), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10
          FROM settlement.merchant_file
        RETURNING file_no
        """,
        cycle_no,
        merchant_no,
        name,
        lines,
        amount_cu,
        basis.figure,
        basis.clock,
        basis.rounding,
        content_sha256,
        at,
    )
    return number


async def copy_lines(
    conn: Connection, *, file_no: int, first: int, lines: Iterable[FileLine]
) -> None:
    """Add lines of a file, numbered from `first` on."""
    await conn.copy_records_to_table(
        "merchant_line",
        schema_name="settlement",
        columns=(
            "file_no", "line_no", "place", "order_id", "reference", "day", "amount_cu", "units", "counterparty",
        ),
        records=(
            (
                file_no, number, one.place, one.order, one.reference, one.day, one.amount_cu, one.units,
                one.counterparty,
            )
            for number, one in enumerate(lines, start=first)
        ),
    )  # fmt: skip


async def stream_open_lines(
    conn: Connection, *, cycle_no: int, merchant_no: int
) -> AsyncIterator[Record]:
    """Stream the lines of a merchant's files that belong to nothing yet; `released` was let go by a person."""
    async for row in conn.cursor(
        """
        SELECT l.file_no, l.line_no, l.place, l.order_id, l.reference, l.day, l.amount_cu, l.units,
               l.counterparty,
               EXISTS (SELECT FROM settlement.match_line AS u
                        WHERE u.file_no = l.file_no AND u.line_no = l.line_no AND NOT u.holds) AS released
          FROM settlement.merchant_line AS l
          JOIN settlement.merchant_file AS f USING (file_no)
         WHERE f.cycle_no = $1 AND f.merchant_no = $2 AND f.withdrawn_at IS NULL AND l.amount_cu <> 0
           AND NOT EXISTS (SELECT FROM settlement.match_line AS m
                            WHERE m.file_no = l.file_no AND m.line_no = l.line_no AND m.holds)
         ORDER BY l.file_no, l.line_no
        """,
        cycle_no,
        merchant_no,
        prefetch=5_000,
    ):
        yield row


async def stream_matched_names(
    conn: Connection, *, cycle_no: int, merchant_no: int
) -> AsyncIterator[Record]:
    """Stream what the merchant's lines that a match holds one by one are called, and their amounts."""
    async for row in conn.cursor(
        """
        SELECT l.order_id, l.reference, l.amount_cu
          FROM settlement.match AS m
          JOIN settlement.match_line AS h USING (match_no)
          JOIN settlement.merchant_line AS l USING (file_no, line_no)
         WHERE m.cycle_no = $1 AND m.merchant_no = $2 AND h.holds
           AND m.step IN ('exact', 'reference', 'person') AND m.difference IS DISTINCT FROM 'split'
        """,
        cycle_no,
        merchant_no,
        prefetch=5_000,
    ):
        yield row


async def stream_held_leaves(
    conn: Connection, *, cycle_no: int, merchant_no: int
) -> AsyncIterator[int]:
    """Stream which of our lines are held by a match."""
    async for row in conn.cursor(
        """
        SELECT leaf_index
          FROM settlement.match_leaf
         WHERE cycle_no = $1 AND merchant_no = $2 AND holds
        """,
        cycle_no,
        merchant_no,
        prefetch=5_000,
    ):
        yield row["leaf_index"]


async def fetch_differing(conn: Connection, *, cycle_no: int, merchant_no: int) -> list[Record]:
    """Read the matches of lines in which something differs and nobody has let it stand."""
    return await conn.fetch(
        """
        SELECT match_no, step, difference
          FROM settlement.match
         WHERE cycle_no = $1 AND merchant_no = $2
           AND difference IS NOT NULL AND accepted_at IS NULL AND undone_at IS NULL
         ORDER BY match_no
        """,
        cycle_no,
        merchant_no,
    )


async def fetch_matched_leaves(conn: Connection, *, match_nos: list[int]) -> list[Record]:
    """Read which of our lines matches hold or held."""
    return await conn.fetch(
        """
        SELECT match_no, leaf_index
          FROM settlement.match_leaf
         WHERE match_no = ANY($1)
         ORDER BY match_no, leaf_index
        """,
        match_nos,
    )


async def fetch_matched_lines(conn: Connection, *, match_nos: list[int]) -> list[Record]:
    """Read which lines of the merchant's files matches hold or held."""
    return await conn.fetch(
        """
        SELECT h.match_no, l.file_no, l.line_no, l.place, l.order_id, l.reference, l.day, l.amount_cu,
               l.units, l.counterparty
          FROM settlement.match_line AS h
          JOIN settlement.merchant_line AS l USING (file_no, line_no)
         WHERE h.match_no = ANY($1)
         ORDER BY h.match_no, l.file_no, l.line_no
        """,
        match_nos,
    )


async def copy_matched(
    conn: Connection,
    *,
    leaves: Sequence[tuple[int, int, int, int]],
    lines: Sequence[tuple[int, int, int]],
) -> None:
    """Add what matches hold.

    Args:
        conn: A connection inside a transaction.
        leaves: Number of the match, cycle, merchant, number of the leaf.
        lines: Number of the match, file, line.
    """
    await conn.copy_records_to_table(
        "match_leaf",
        schema_name="settlement",
        columns=("match_no", "cycle_no", "merchant_no", "leaf_index"),
        records=leaves,
    )
    await conn.copy_records_to_table(
        "match_line",
        schema_name="settlement",
        columns=("match_no", "file_no", "line_no"),
        records=lines,
    )


async def fetch_matches_of_file(conn: Connection, *, file_no: int) -> list[int]:
    """Read the matches that hold lines of a file."""
    rows = await conn.fetch(
        "SELECT DISTINCT match_no FROM settlement.match_line WHERE file_no = $1 AND holds ORDER BY match_no",
        file_no,
    )
    return [row["match_no"] for row in rows]


async def undo_matches(conn: Connection, *, match_nos: list[int], at: datetime) -> None:
    """Let go of what matches hold; their rows stay."""
    await conn.execute(
        "UPDATE settlement.match SET undone_at = $2 WHERE match_no = ANY($1)", match_nos, at
    )
    await conn.execute(
        "UPDATE settlement.match_leaf SET holds = false WHERE match_no = ANY($1) AND holds",
        match_nos,
    )
    await conn.execute(
        "UPDATE settlement.match_line SET holds = false WHERE match_no = ANY($1) AND holds",
        match_nos,
    )


async def withdraw_file(conn: Connection, *, file_no: int, at: datetime) -> None:
    """Let a file count no more; its lines stay."""
    await conn.execute(
        "UPDATE settlement.merchant_file SET withdrawn_at = $2 WHERE file_no = $1", file_no, at
    )
