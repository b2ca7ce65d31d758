"""Merchants as parties of the clearing house: adding one, opening its account, listing them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from schemas.values.ids import HOUSE, key_bytes
from settlement.core.command import Join
from settlement.store import merchants as store

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from settlement.service.clearing import Clearing


async def add_party(
    conn: Connection | PoolConnectionProxy, *, code: str, name: str, now: datetime
) -> int | None:
    """Add a merchant inside the caller's transaction.

    Returns:
        Its number; None if the code is taken.
    """
    return await store.insert_merchant(conn, code=code, name=name, now=now)


async def open_account(clearing: Clearing, *, code: str, merchant_no: int, cap_cu: int) -> None:
    """Open a merchant's account in the books; a second time changes nothing."""
    body = hashlib.sha256(f"join {code} {merchant_no}".encode()).digest()[:16]
    await clearing.submit(
        [
            Join(
                caller=HOUSE,
                key=key_bytes(f"join:{code}"),
                body=body,
                merchant_no=merchant_no,
                cap_cu=cap_cu,
            )
        ]
    )


async def list_parties(pool: Pool) -> list[Record]:
    """All merchants with cap, collateral and open holds (null where no account was opened yet)."""
    return await store.fetch_merchants(pool)
