"""Flows of lots on real PostgreSQL: which month a lot is of."""

from datetime import UTC, datetime, timedelta

import asyncpg

from exchange.programme.core.liability import month_of
from exchange.programme.store.liability import fetch_flows, fetch_left
from schemas.files.instant import microseconds
from tests.builders import BooksBuilder


async def test_lots_are_of_the_month_in_which_they_expire_in_beijing(dsn):
    """Rule Y9: a month begins and ends at midnight in Beijing, sixteen hours after that of the day before in UTC."""
    books = BooksBuilder()
    merchant = books.merchant("AIR")
    books.open_cycle("c1")
    midnight = datetime(2026, 2, 28, 16, tzinfo=UTC)
    expiries = [
        midnight - timedelta(microseconds=1),
        midnight,
        datetime(2026, 12, 31, 15, 59, 59, tzinfo=UTC),
        datetime(2026, 12, 31, 16, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
    ]
    conn = await asyncpg.connect(dsn)
    try:
        await books.write(conn)
        await conn.executemany(
            "INSERT INTO exchange.lot VALUES ($1, 7, $2, $3, 1, $4, 1)",
            [(number, 10**number, at, merchant) for number, at in enumerate(expiries, 1)],
        )
        rows = await fetch_flows(conn, part=1, opening_seq=0, through_seq=1, merchant_no=None)
        left = await fetch_left(conn, part=1, through_seq=1, merchant_no=merchant)
        none = await fetch_flows(conn, part=1, opening_seq=0, through_seq=1, merchant_no=99)
    finally:
        await conn.close()
    assert {row["month_no"]: row["units"] for row in rows} == {
        2026 * 12 + 1: 10,
        2026 * 12 + 2: 100,
        2026 * 12 + 11: 1_000,
        2027 * 12: 110_000,
    }
    assert {row["month_no"] for row in rows} == {month_of(microseconds(at)) for at in expiries}
    assert left == {merchant: 111_110}
    assert none == []
