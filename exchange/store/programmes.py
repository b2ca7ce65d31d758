"""Programmes, rates and the tariff: adding to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection, Pool
    from asyncpg.pool import PoolConnectionProxy


async def insert_programme(
    conn: Connection | PoolConnectionProxy,
    *,
    merchant_no: int,
    hosted: bool,
    unit: str,
    scale: int,
    earn: tuple[int, int],
    valid_days: int,
    units_min: int,
    units_max: int,
    own_names: bool,
) -> None:
    """Add a merchant's programme; `earn` is smallest units for so many fen."""
    await conn.execute(
        """
        INSERT INTO exchange.programme
               (merchant_no, hosted, unit, scale, earn_num, earn_den, valid_days, units_min, units_max,
                own_names)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        """,
        merchant_no,
        hosted,
        unit,
        scale,
        *earn,
        valid_days,
        units_min,
        units_max,
        own_names,
    )


async def insert_rate(
    conn: Connection | PoolConnectionProxy,
    *,
    merchant_no: int,
    side: str,
    num: int,
    den: int,
    effective_at: datetime,
) -> int:
    """Add a rate for points spent or issued, in force from `effective_at`; returns its number."""
    rate_no: int = await conn.fetchval(
        """
        INSERT INTO exchange.rate (merchant_no, side, num, den, effective_at)
        VALUES ($1, $2, $3, $4, $5)
        RETURNING rate_no
        """,
        merchant_no,
        side,
        num,
        den,
        effective_at,
    )
    return rate_no


async def insert_member_rules(
    conn: Connection | PoolConnectionProxy | Pool,
    *,
    merchant_no: int,
    authority: str,
    daily_cu: int,
    daily_orders: int,
    effective_at: datetime,
) -> None:
    """Add what protects a programme's members, in force from `effective_at`."""
    await conn.execute(
        """
        INSERT INTO exchange.member_rules (merchant_no, authority, daily_cu, daily_orders, effective_at)
        VALUES ($1, $2, $3, $4, $5)
        """,
        merchant_no,
        authority,
        daily_cu,
        daily_orders,
        effective_at,
    )


async def insert_tariff(
    conn: Connection | PoolConnectionProxy, *, fee_bps: int, effective_at: datetime
) -> bool:
    """Add the house's fee, in force from `effective_at`; False where that instant has one already."""
    status = await conn.execute(
        """
        INSERT INTO exchange.tariff (effective_at, fee_bps) VALUES ($2, $1)
            ON CONFLICT (effective_at) DO NOTHING
        """,
        fee_bps,
        effective_at,
    )
    return bool(status == "INSERT 0 1")
