"""Merchants' confirmations of batches: the key that signed one must be the merchant's, and count now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from exchange.store.signing_keys import fetch_signing_key
from schemas.values.reason import Reason, Refusal
from settlement.service.confirmations import Entry, enter_confirmation
from settlement.signing.confirmation import read_signed

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Pool

    from settlement.core.trail import By


async def confirm_batch(
    pool: Pool,
    token: str,
    *,
    merchant_no: int,
    merchant: str,
    cycle_id: str,
    by: By,
    now: datetime,
) -> Entry | Refusal:
    """Enter a confirmation or an objection that a merchant signed.

    Whoever brings it is only its courier: what counts is the document's own signature, which anybody can check later.

    Args:
        pool: Database.
        token: The signed document.
        merchant_no: The merchant that brings it.
        merchant: Its code.
        cycle_id: Of which cycle's batch it is to be.
        by: Who brings it.
        now: Instant.

    Returns:
        The entry, or CONFIRMATION_INVALID.

    Source: settlement/RULES.md, rule Z1.
    """
    signed = read_signed(token)
    if signed is None:
        return Refusal(Reason.CONFIRMATION_INVALID, "this is no signed document of this kind")
    row = await fetch_signing_key(pool, key_id=signed.key_id)
    if (
        row is None
        or row["merchant_no"] != merchant_no
        or row["revoked_at"] is not None
        or (row["retires_at"] is not None and row["retires_at"] <= now)
    ):
        return Refusal(
            Reason.CONFIRMATION_INVALID, f"{merchant} has no key that is called so and counts now"
        )
    return await enter_confirmation(
        pool,
        signed,
        Ed25519PublicKey.from_public_bytes(row["public_key"]),
        merchant=merchant,
        merchant_no=merchant_no,
        cycle_id=cycle_id,
        by=by,
        now=now,
    )
