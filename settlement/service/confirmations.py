"""What merchants say about batches: entries that are only added, and where each batch stands with whom.

Source: settlement/RULES.md, rules Z1 to Z5.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.files.confirmation import read_confirmation
from schemas.files.manifest import read_manifest
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason, Refusal
from settlement.core.confirmation import CONFIRM_DAYS, Said, Standing, due_at, standing
from settlement.core.payment_id import batch_id
from settlement.core.trail import Change
from settlement.service.package_files import STATEMENTS
from settlement.service.trail import record
from settlement.signing.confirmation import Signed, open_signed
from settlement.store import confirmations as store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from schemas.files.confirmation import Confirmation, Verdict
    from settlement.core.trail import By

_NO_BOUND = 2**31 - 1
_PARSED_AT_ONCE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFacts:
    """A batch, and where it stands with the merchants that have lines in it.

    Attributes:
        cycle_no: Number of the cycle.
        cycle_id: Its id.
        sequence: Number of the package.
        manifest_sha256: Digest of its manifest, hex.
        closed_at: When the cycle closed.
        due_at: When the batch is to be confirmed.
        standings: By the merchant's code.
    """

    cycle_no: int
    cycle_id: str
    sequence: int
    manifest_sha256: str
    closed_at: datetime
    due_at: datetime
    standings: Mapping[str, Standing]

    @property
    def batch_id(self) -> str:
        """What payments call the batch."""
        return batch_id(sequence=self.sequence, manifest_sha256=self.manifest_sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that a merchant said.

    Attributes:
        number: Number of the entry.
        merchant: Code of the merchant.
        verdict: What it said.
        reason: Why it objects.
        orders: How many orders it names.
        received_at: When it was received.
        late: Whether that was after the batch was due.
        document: The signed document.
        public_key: The key that signed it, 32 bytes.
    """

    number: int
    merchant: str
    verdict: Verdict
    reason: str
    orders: int
    received_at: datetime
    late: bool
    document: str
    public_key: bytes


async def list_batches(
    pool: Pool,
    *,
    now: datetime,
    before: int | None = None,
    limit: int = 100,
    merchant_no: int | None = None,
    cycle_id: str | None = None,
) -> list[BatchFacts]:
    """List batches, newest first, and where each stands.

    Args:
        pool: Database.
        now: Instant.
        before: Number of a package before which to begin; None for the newest.
        limit: Most batches.
        merchant_no: Tell of this merchant alone; None for all.
        cycle_id: List the batch of this cycle alone.
    """
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        return await _batches(
            conn,
            now=now,
            before=_NO_BOUND if before is None else before,
            limit=limit,
            merchant_no=merchant_no,
            cycle_id=cycle_id,
        )


async def list_entries(
    pool: Pool, *, cycle_no: int, merchant_no: int | None = None, after: int = 0, limit: int = 100
) -> list[Entry]:
    """List what was said about a batch, oldest first: by one merchant, or by all."""
    async with pool.acquire() as conn:
        rows = await store.fetch_confirmations(
            conn, cycle_no=cycle_no, merchant_no=merchant_no, after=after, limit=limit
        )
    return [_entry(row) for row in rows]


async def enter_confirmation(
    pool: Pool,
    signed: Signed,
    public: Ed25519PublicKey,
    *,
    merchant: str,
    merchant_no: int,
    cycle_id: str,
    by: By,
    now: datetime,
) -> Entry | Refusal:
    """Enter what a merchant says about a batch; what it said before stays, and the same document is entered once.

    Args:
        pool: Database.
        signed: The document as it was sent.
        public: The merchant's key that it names.
        merchant: Code of the merchant whose key that is.
        merchant_no: Its number.
        cycle_id: Of which cycle's batch it is to be.
        by: Who brings the document.
        now: Instant.

    Returns:
        The entry, or CONFIRMATION_INVALID: the signature is not this key's, or the document is not of this merchant and
        a batch in which it has lines.

    Source: settlement/RULES.md, rules Z1 and Z3.
    """
    data = open_signed(signed, public)
    if data is None:
        return _invalid("the signature is not this key's over this document")
    try:
        said = read_confirmation(data)
    except SchemaError as error:
        return _invalid(f"the document cannot be read: {error}")
    if said.cycle_id != cycle_id:
        return _invalid(f"the document is of cycle {said.cycle_id}, not of {cycle_id}")
    async with pool.acquire() as conn, conn.transaction():
        await store.lock_confirmations(conn)
        digest = hashlib.sha256(signed.token.encode()).digest()
        known = await store.fetch_confirmation(conn, document_sha256=digest)
        if known is not None:
            return _entry(known)
        found = await _batches(
            conn,
            now=now,
            before=_NO_BOUND,
            limit=1,
            merchant_no=merchant_no,
            cycle_id=said.cycle_id,
        )
        why_not = _why_not(said, found[0] if found else None, merchant)
        if why_not:
            return _invalid(why_not)
        [batch] = found
        await store.insert_confirmation(
            conn,
            cycle_no=batch.cycle_no,
            merchant_no=merchant_no,
            verdict=said.verdict,
            reason=said.reason,
            orders=len(said.orders),
            received_at=now,
            due_at=batch.due_at,
            document=signed.token,
            document_sha256=digest,
            public_key=public.public_bytes_raw(),
        )
        entered = await store.fetch_confirmation(conn, document_sha256=digest)
        if entered is None:
            raise AssertionError("the entry that was just added is not there")
        change = Change(
            action="batch.confirm" if said.verdict == "confirmed" else "batch.object",
            subject=merchant,
            after={
                "cycle": said.cycle_id,
                "entry": entered["confirmation_no"],
                "document_sha256": digest.hex(),
            },
        )
        await record(conn, by, change, at=now)
        return _entry(entered)


def _why_not(said: Confirmation, batch: BatchFacts | None, merchant: str) -> str:
    """Why a document is not of this merchant and this batch; empty when it is."""
    if said.merchant != merchant:
        return f"the document is of {said.merchant}, and the key of {merchant}"
    if batch is None:
        return f"cycle {said.cycle_id} has no package"
    if (said.sequence, said.manifest_sha256) != (batch.sequence, batch.manifest_sha256):
        return f"the document names another manifest than that of cycle {said.cycle_id}"
    if merchant not in batch.standings:
        return f"{merchant} has no line in cycle {said.cycle_id}"
    return ""


def _invalid(detail: str) -> Refusal:
    return Refusal(Reason.CONFIRMATION_INVALID, detail)


async def _batches(
    conn: Connection | PoolConnectionProxy,
    *,
    now: datetime,
    before: int,
    limit: int,
    merchant_no: int | None,
    cycle_id: str | None,
) -> list[BatchFacts]:
    rows = await store.fetch_batches(conn, before=before, limit=limit, cycle_id=cycle_id)
    said: defaultdict[tuple[int, str], list[Said]] = defaultdict(list)
    for row in await store.fetch_said(
        conn, cycle_nos=[row["cycle_no"] for row in rows], merchant_no=merchant_no
    ):
        said[row["cycle_no"], row["code"]].append(Said(row["verdict"], row["received_at"]))
    if len(rows) <= _PARSED_AT_ONCE:
        return [_facts(row, said, now) for row in rows]
    # Manifests name every file: many of them are read aside.
    return await asyncio.to_thread(lambda: [_facts(row, said, now) for row in rows])


def _facts(row: Record, said: Mapping[tuple[int, str], list[Said]], now: datetime) -> BatchFacts:
    due = due_at(row["closed_at"], row["confirm_days"] or CONFIRM_DAYS)
    merchants = sorted(
        one.path.removeprefix(f"{STATEMENTS}/").removesuffix(".msgpack")
        for one in read_manifest(row["manifest"]).files
        if one.path.endswith(".msgpack")
    )
    return BatchFacts(
        cycle_no=row["cycle_no"],
        cycle_id=row["cycle_id"],
        sequence=row["sequence"],
        manifest_sha256=row["manifest_sha256"],
        closed_at=row["closed_at"],
        due_at=due,
        standings={
            code: standing(said.get((row["cycle_no"], code), []), due=due, now=now)
            for code in merchants
        },
    )


def _entry(row: Record) -> Entry:
    return Entry(
        number=row["confirmation_no"],
        merchant=row["code"],
        verdict=row["verdict"],
        reason=row["reason"],
        orders=row["orders"],
        received_at=row["received_at"],
        late=row["received_at"] >= row["due_at"],
        document=row["document"],
        public_key=row["public_key"],
    )
