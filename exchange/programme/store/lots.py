"""Lots in the database, on the writer's own connections (instants as microseconds)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from exchange.programme.core.lots import Lot, Use

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from asyncpg import Connection, Pool

_EPOCH_2000_US = 946_684_800_000_000
_LOT = struct.Struct(">h" + "iq" * 5 + "ii" + "ih")
_LOT_COLUMNS = (
    "lot_no", "member_no", "earned_units", "expires_at", "made_seq", "merchant_no", "part",
)  # fmt: skip
_USE_COLUMNS = ("lot_no", "seq", "units", "left_units", "part")
_USE = np.dtype(
    [
        ("columns", ">i2"),
        *(
            (name, form)
            for each in _USE_COLUMNS[:-1]
            for name, form in ((f"{each} bytes", ">i4"), (each, ">i8"))
        ),
        ("part bytes", ">i4"),
        ("part", ">i2"),
    ]
)
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = b"\xff\xff"


async def fetch_live_lots(
    conn: Connection, *, part: int, members: list[int], expires_after_us: int
) -> list[Lot]:
    """Read the lots of `members` that have units left and expire later, in order of spending."""
    rows = await conn.fetch(
        """
        SELECT found.*
          FROM unnest($2::bigint[]) AS wanted (member_no)
         CROSS JOIN LATERAL (
               SELECT l.lot_no, l.member_no, l.merchant_no, l.earned_units, l.units, l.expires_at,
                      l.made_seq
                 FROM exchange.lot_balance AS l
                WHERE l.part = $1 AND l.member_no = wanted.member_no AND l.units > 0 AND l.expires_at > $3
               OFFSET 0 -- one look-up in lot_of_member for each member
         ) AS found
         ORDER BY found.expires_at, found.lot_no
        """,
        part,
        members,
        expires_after_us,
    )
    return [Lot(*row.values()) for row in rows]


async def fetch_uses(
    conn: Connection, *, part: int, events: Sequence[tuple[int, int]]
) -> dict[int, list[Use]]:
    """Read what events took of lots, in order of spending.

    Args:
        conn: A connection.
        part: Partition.
        events: Number and member of each event; it is found through the member's lots.

    Returns:
        By event; one that took nothing is missing.
    """
    rows = await conn.fetch(
        """
        SELECT u.seq, l.lot_no, l.earned_units, l.expires_at, l.made_seq, u.units
          FROM unnest($2::bigint[], $3::bigint[]) AS wanted (seq, member_no)
          JOIN exchange.lot AS l ON l.part = $1 AND l.member_no = wanted.member_no
          JOIN exchange.lot_use AS u ON u.part = l.part AND u.lot_no = l.lot_no AND u.seq = wanted.seq
         WHERE u.units > 0
         ORDER BY l.expires_at, l.lot_no
        """,
        part,
        [seq for seq, _ in events],
        [member_no for _, member_no in events],
    )
    found: dict[int, list[Use]] = {}
    for seq, *figures in (row.values() for row in rows):
        found.setdefault(seq, []).append(Use(*figures))
    return found


async def fetch_expired_lots(
    conn: Connection, *, part: int, as_of_us: int, limit: int
) -> list[Lot]:
    """Read lots that expired by `as_of_us` with units left, since the last run, first to expire first."""
    rows = await conn.fetch(
        """
        SELECT lot_no, member_no, merchant_no, earned_units, units, expires_at, made_seq
          FROM exchange.lot_balance
         WHERE part = $1 AND expires_at <= $2 AND units > 0
               AND expires_at >= coalesce(
                   (SELECT through FROM exchange.expiry_run WHERE part = $1), '-infinity')
         ORDER BY expires_at, lot_no
         LIMIT $3
        """,
        part,
        as_of_us,
        limit,
    )
    return [Lot(*row.values()) for row in rows]


async def write_expiry_run(conn: Connection, *, part: int, through_us: int) -> None:
    """Note how far the expiry run has come; it never goes back."""
    await conn.execute(
        """
        INSERT INTO exchange.expiry_run (part, through) VALUES ($1, $2)
            ON CONFLICT (part) DO UPDATE SET through = greatest(expiry_run.through, EXCLUDED.through)
        """,
        part,
        through_us,
    )


async def fetch_last_lot_no(conn: Connection, *, part: int) -> int:
    """Number of the newest lot; 0 before the first."""
    lot_no: int = await conn.fetchval(
        "SELECT coalesce(max(lot_no), 0) FROM exchange.lot WHERE part = $1", part
    )
    return lot_no


def pack_lot(part: int, lot: Lot) -> bytes:
    """One new lot as a PostgreSQL binary COPY tuple."""
    return _LOT.pack(
        7, 8, lot.lot_no, 8, lot.member_no, 8, lot.earned_units, 8, lot.expires_at_us - _EPOCH_2000_US,
        8, lot.made_seq, 4, lot.merchant_no, 2, part,
    )  # fmt: skip


def pack_uses(part: int, uses: Sequence[int]) -> bytes:
    """What events took of lots, and what they left, as PostgreSQL binary COPY tuples.

    Sorted by lot, so that what goes into one page of the index goes there in one visit.

    Args:
        part: Partition.
        uses: Four numbers for each use: lot, event, units taken, units left.
    """
    figures = np.array(uses, np.int64).reshape(-1, 4)
    rows = np.empty(len(figures), _USE)
    rows["columns"], rows["part bytes"], rows["part"] = len(_USE_COLUMNS), 2, part
    by_lot = figures[np.argsort(figures[:, 0], kind="stable")]
    for name, column in zip(_USE_COLUMNS, by_lot.T, strict=False):
        rows[f"{name} bytes"], rows[name] = 8, column
    return rows.tobytes()


async def copy_lots(conn: Connection, rows: list[bytes]) -> None:
    """Add new lots from their COPY tuples."""
    await _copy(conn, "lot", _LOT_COLUMNS, rows)


async def copy_uses(conn: Connection, rows: bytes) -> None:
    """Add uses of lots from their COPY tuples."""
    await _copy(conn, "lot_use", _USE_COLUMNS, [rows])


async def _once(data: bytes) -> AsyncIterator[bytes]:
    """Give everything at once; asyncpg would read a file in a thread, at twice the cost."""
    yield data


async def _copy(conn: Connection, table: str, columns: tuple[str, ...], rows: list[bytes]) -> None:
    await conn.copy_to_table(
        table,
        schema_name="exchange",
        columns=columns,
        format="binary",
        source=_once(b"".join((_COPY_HEADER, *rows, _COPY_TRAILER))),
    )


async def fetch_lot_count(conn: Connection | Pool) -> int:
    """How many lots were ever made."""
    count: int = await conn.fetchval("SELECT count(*) FROM exchange.lot")
    return count
