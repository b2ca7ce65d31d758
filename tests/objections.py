"""An objection as it stands in the books, without the merchant's key that would have signed it."""

from datetime import UTC, datetime

import asyncpg

from settlement.store.confirmations import insert_confirmation


async def object_to(pool: asyncpg.Pool, *, cycle_no: int, merchant_no: int) -> None:
    """Let a merchant object to a batch, now."""
    now = datetime.now(UTC)
    async with pool.acquire() as conn, conn.transaction():
        await insert_confirmation(
            conn, cycle_no=cycle_no, merchant_no=merchant_no, verdict="objected", reason="wrong", orders=0,
            received_at=now, due_at=now, document="signed", document_sha256=bytes(32), public_key=bytes(32),
        )  # fmt: skip
