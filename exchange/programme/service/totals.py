"""Figures over all hosted programmes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.programme.store.lots import fetch_lot_count

if TYPE_CHECKING:
    from asyncpg import Pool


async def count_lots(pool: Pool) -> int:
    """How many lots were ever made."""
    return await fetch_lot_count(pool)
