"""Merchants as parties of the clearing house: adding one, opening its account, listing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from schemas.values.ids import HOUSE, key_bytes
from settlement.core.command import Join
from settlement.store import merchants as store

if TYPE_CHECKING:
    from collections.abc import Sequence
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


class NewAccount(NamedTuple):
    """An account to be opened; `cap_cu` is the net debit cap, `body` names the trail's entry that asks for it."""

    code: str
    merchant_no: int
    cap_cu: int
    body: bytes


async def open_accounts(clearing: Clearing, accounts: Sequence[NewAccount]) -> None:
    """Open merchants' accounts in the books, together; a second time changes nothing."""
    await clearing.submit(
        [
            Join(
                caller=HOUSE,
                key=key_bytes(f"join:{code}"),
                body=body,
                merchant_no=merchant_no,
                cap_cu=cap_cu,
            )
            for code, merchant_no, cap_cu, body in accounts
        ]
    )


async def list_parties(pool: Pool, *, numbers: Sequence[int] | None = None) -> list[Record]:
    """All merchants, or some, with cap, collateral and open holds (null where no account was opened yet)."""
    return await store.fetch_merchants(pool, numbers=numbers)
