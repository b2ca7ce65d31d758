"""Keys with which merchants and the house sign their requests: registered, rotated with overlap, revoked at once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from exchange.signing.keys import coordinate, read_csr, thumbprint
from exchange.store import signing_keys as store
from schemas.values.faults import SchemaError
from schemas.values.ids import HOUSE
from schemas.values.reason import Reason, Refusal
from schemas.wire.fields import instant_text
from schemas.wire.keys import KeyView
from settlement.core.trail import Change
from settlement.service import trail

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from asyncpg import Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from exchange.signing.keys import KeyRequest
    from schemas.wire.keys import KeyState
    from settlement.core.trail import By
    from settlement.service.nonces import Nonces

log = structlog.get_logger()

LIVE_KEYS_MAX: Final = 16
HOUSE_CODE: Final = "HOUSE"


class KeyDesk:
    """Registers, shows and revokes keys."""

    def __init__(self, pool: Pool, nonces: Nonces | None) -> None:
        """Take what is asked.

        Args:
            pool: The database.
            nonces: The writer, through which every gateway hears of a revocation; None where none runs.
        """
        self._pool = pool
        self._nonces = nonces

    async def register(
        self,
        csr: str,
        *,
        caller: int,
        codes: Mapping[int, str],
        label: str,
        overlap_hours: int | None,
        by: By,
        now: datetime,
    ) -> KeyView | Refusal:
        """Register a key whose holder proves to hold it.

        Args:
            csr: Certification request in the name of a merchant, signed with the key.
            caller: Who registers: the merchant itself, or the house for anybody.
            codes: Merchants' codes by number.
            label: What it is for.
            overlap_hours: For how long the merchant's other keys count on; None for as long as they did.
            by: Who registers it, for the trail.
            now: Instant.

        Returns:
            The key; UNKNOWN_MERCHANT; or SIGNING_KEY_NOT_TAKEN where it was registered before, or there are too many.

        Raises:
            SchemaError: It is no such request, or in the name of somebody else than the caller.
        """
        wanted = read_csr(csr)
        if wanted is None:
            raise SchemaError(
                "$.csr",
                "Expected a certification request (PKCS #10, PEM) of an Ed25519 key, with one common name",
            )
        merchant_no = _number_of(wanted.code, codes)
        if caller not in (HOUSE, merchant_no):
            raise SchemaError("$.csr", "Expected the caller's own code as the common name")
        if merchant_no is None:
            return Refusal(Reason.UNKNOWN_MERCHANT, f"No merchant {wanted.code} takes part.")
        key_id = thumbprint(wanted.public)
        async with self._pool.acquire() as conn, conn.transaction():
            enacted = await enact_registration(
                conn,
                wanted,
                merchant_no=merchant_no,
                label=label,
                overlap_hours=overlap_hours,
                action="caller_key.register" if caller == HOUSE else "caller_key.rotate",
                by=by,
                now=now,
            )
            if isinstance(enacted, Refusal):
                return enacted
        if overlap_hours is not None:
            await self._tell()
        log.info("signing_key.registered", merchant=wanted.code, key_id=key_id)
        row = await store.fetch_signing_key(self._pool, key_id=key_id)
        assert row is not None
        return _view(row, codes, now)

    async def revoke(
        self, key_id: str, *, caller: int, codes: Mapping[int, str], by: By, now: datetime
    ) -> KeyView | None:
        """Withdraw a key for good; when this returns, no gateway takes it any more.

        Returns:
            The key, also if it had been revoked before; None if the caller has none of this id.

        Raises:
            Unavailable: The writer is away: the key is revoked for what a gateway has not seen yet, and for all
                once the next writer starts; asking again is right.
        """
        row = await store.fetch_signing_key(self._pool, key_id=key_id)
        if row is None or caller not in (HOUSE, row["merchant_no"]):
            return None
        async with self._pool.acquire() as conn, conn.transaction():
            if await store.revoke_signing_key(conn, key_id=key_id, now=now):
                code = codes.get(row["merchant_no"], HOUSE_CODE)
                change = Change(action="caller_key.revoke", subject=code, before={"key": key_id})
                await trail.record(conn, by, change, at=now)
        await self._tell()
        log.info("signing_key.revoked", merchant_no=row["merchant_no"], key_id=key_id)
        row = await store.fetch_signing_key(self._pool, key_id=key_id)
        assert row is not None
        return _view(row, codes, now)

    async def keys(
        self,
        *,
        caller: int,
        codes: Mapping[int, str],
        now: datetime,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[KeyView]:
        """The caller's keys after one, everybody's for the house; revoked ones too."""
        merchant_no = None if caller == HOUSE else caller
        rows = await store.fetch_signing_keys(
            self._pool, merchant_no=merchant_no, after=after, limit=limit
        )
        return [_view(row, codes, now) for row in rows]

    async def _tell(self) -> None:
        """Have every gateway look keys up anew."""
        if self._nonces is not None:
            await self._nonces.keys_changed()


async def enact_registration(
    conn: PoolConnectionProxy,
    wanted: KeyRequest,
    *,
    merchant_no: int,
    label: str,
    overlap_hours: int | None,
    action: str,
    by: By,
    now: datetime,
) -> bytes | Refusal:
    """Register a key inside the caller's transaction.

    Args:
        conn: A connection inside a transaction.
        wanted: The key and whose it is, proven by its holder.
        merchant_no: The number of that merchant.
        label: What it is for.
        overlap_hours: For how long the merchant's other keys count on; None for as long as they did.
        action: `caller_key.register` by the house, `caller_key.rotate` by the merchant itself.
        by: Who registers it.
        now: Instant.

    Returns:
        The trail's digest, or SIGNING_KEY_NOT_TAKEN.
    """
    key_id = thumbprint(wanted.public)
    await store.lock_merchant_keys(conn, merchant_no=merchant_no)
    rows = await store.fetch_signing_keys(conn, merchant_no=merchant_no)
    live = [row for row in rows if state_of(row, now) in ("active", "retiring")]
    if len(live) >= LIVE_KEYS_MAX:
        return Refusal(
            Reason.SIGNING_KEY_NOT_TAKEN,
            f"{wanted.code} has {len(live)} keys that count; revoke one first.",
        )
    added = await store.insert_signing_key(
        conn,
        key_id=key_id,
        merchant_no=merchant_no,
        public_key=wanted.public.public_bytes_raw(),
        label=label,
        now=now,
    )
    if not added:
        return Refusal(Reason.SIGNING_KEY_NOT_TAKEN, f"{key_id} was registered before.")
    if overlap_hours is not None:
        until = now + timedelta(hours=overlap_hours)
        await store.retire_signing_keys(conn, merchant_no=merchant_no, but=key_id, at=until)
    after = {"key": key_id, "label": label, "overlap_hours": overlap_hours}
    change = Change(action=action, subject=wanted.code, after=after)
    return await trail.record(conn, by, change, at=now)


def state_of(row: Record, now: datetime) -> KeyState:
    """Say where a key stands in its life."""
    if row["revoked_at"] is not None:
        return "revoked"
    if row["retires_at"] is None:
        return "active"
    return "retiring" if now < row["retires_at"] else "retired"


def _number_of(code: str, codes: Mapping[int, str]) -> int | None:
    if code == HOUSE_CODE:
        return HOUSE
    return next((number for number, each in codes.items() if each == code and number > HOUSE), None)


def _view(row: Record, codes: Mapping[int, str], now: datetime) -> KeyView:
    public = Ed25519PublicKey.from_public_bytes(row["public_key"])
    retires_at, revoked_at = (
        None if row[name] is None else _text(row[name]) for name in ("retires_at", "revoked_at")
    )
    return KeyView(
        x=coordinate(public),
        kid=row["key_id"],
        merchant=codes.get(row["merchant_no"], HOUSE_CODE),
        label=row["label"],
        state=state_of(row, now),
        registered_at=_text(row["registered_at"]),
        retires_at=retires_at,
        revoked_at=revoked_at,
    )


def _text(at: datetime) -> str:
    """An instant to the second."""
    return instant_text(int(at.timestamp()) * 1_000_000)
