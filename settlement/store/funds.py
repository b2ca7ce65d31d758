"""Funds, shares of the default fund, debts, and what of closed cycles was settled before the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from settlement.core.funds import Discharged, Funds

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from settlement.core.funds import FundsChange

    Reader = Connection | PoolConnectionProxy | Pool


async def load_funds(conn: Reader, *, part: int) -> Funds:
    """Everybody's money as the last committed flush left it; of settled cycles nothing is kept."""
    funds = Funds()
    funds.kept = await fetch_kept(conn, part=part)
    funds.balances = {row["party"]: row["cu"] for row in await fetch_funds(conn, part=part)}
    funds.contributions = {
        row["party"]: row["cu"] for row in await fetch_contributions(conn, part=part)
    }
    funds.debts = {
        (row["debtor"], row["creditor"]): row["cu"] for row in await fetch_debts(conn, part=part)
    }
    for cycle_no, *pair in await conn.fetch(
        """
        SELECT d.cycle_no, d.one, d.other, d.one_cu, d.other_cu, d.fees_cu, d.rounding_cu
          FROM settlement.discharge AS d
          JOIN settlement.cycle AS c ON c.part = d.part AND c.cycle_no = d.cycle_no
         WHERE d.part = $1 AND c.state = 'closed'
        """,
        part,
    ):
        done = Discharged(*pair)
        funds.discharged.setdefault(cycle_no, {})[done.one, done.other] = done
    return funds


async def write_funds(conn: Connection, *, part: int, change: FundsChange) -> None:
    """Write what one flush moved."""
    await conn.execute(
        """
        WITH contributions AS (
            INSERT INTO settlement.contribution (part, party, cu)
            SELECT $1, * FROM unnest($2::int[], $3::bigint[])
                ON CONFLICT (part, party) DO UPDATE SET cu = EXCLUDED.cu
        ), begun AS (
            UPDATE settlement.partition SET funds_kept = true WHERE part = $1 AND $9
        ), debts AS (
            INSERT INTO settlement.debt (part, debtor, creditor, cu)
            SELECT $1, * FROM unnest($4::int[], $5::int[], $6::bigint[])
                ON CONFLICT (part, debtor, creditor) DO UPDATE SET cu = EXCLUDED.cu
        )
        INSERT INTO settlement.funds (part, party, cu)
        SELECT $1, * FROM unnest($7::int[], $8::bigint[])
            ON CONFLICT (part, party) DO UPDATE SET cu = EXCLUDED.cu
        """,
        part,
        list(change.contributions),
        list(change.contributions.values()),
        [debtor for debtor, _ in change.debts],
        [creditor for _, creditor in change.debts],
        list(change.debts.values()),
        list(change.balances),
        list(change.balances.values()),
        change.begun,
    )
    await conn.executemany(
        """
        INSERT INTO settlement.discharge
               (part, cycle_no, one, other, one_cu, other_cu, fees_cu, rounding_cu)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        [(part, cycle_no, *pair) for cycle_no, pair in change.discharged],
    )


async def fetch_kept(conn: Reader, *, part: int) -> bool:
    """Whether a movement of the bank was ever booked (rule U13)."""
    return bool(
        await conn.fetchval("SELECT funds_kept FROM settlement.partition WHERE part = $1", part)
    )


async def fetch_funds(conn: Reader, *, part: int) -> list[Record]:
    """Funds by party."""
    rows: list[Record] = await conn.fetch(
        "SELECT party, cu FROM settlement.funds WHERE part = $1 ORDER BY party", part
    )
    return rows


async def fetch_contributions(conn: Reader, *, part: int) -> list[Record]:
    """Shares of the default fund by party."""
    rows: list[Record] = await conn.fetch(
        "SELECT party, cu FROM settlement.contribution WHERE part = $1 ORDER BY party", part
    )
    return rows


async def fetch_debts(conn: Reader, *, part: int) -> list[Record]:
    """What debtors owe those whose money settled a cycle for them."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT debtor, creditor, cu
          FROM settlement.debt
         WHERE part = $1
         ORDER BY debtor, creditor
        """,
        part,
    )
    return rows


async def fetch_discharges(conn: Reader, *, part: int) -> list[Record]:
    """Pairs of merchants that were settled before the rest of their cycle."""
    rows: list[Record] = await conn.fetch(
        """
        SELECT cycle_no, one, other, one_cu, other_cu, fees_cu, rounding_cu
          FROM settlement.discharge
         WHERE part = $1
         ORDER BY cycle_no, one, other
        """,
        part,
    )
    return rows
