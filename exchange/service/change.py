"""A change that needs two people: what every kind of it can do, and what an approval brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from exchange.store.catalogue import fetch_catalogue
from schemas.values.faults import SchemaError
from schemas.values.ids import HOUSE

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Pool
    from asyncpg.pool import PoolConnectionProxy

    from schemas.files.trail import Terms
    from schemas.values.reason import Refusal
    from settlement.core.trail import By
    from settlement.service.clearing import Clearing


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What a change is made with.

    Attributes:
        pool: Reads beside the transaction.
        conn: The transaction of the approval.
        keys: Folder of the operator's keys.
        by: Maker, checker and reason.
        now: Instant.
        second: Digest of an invitation's second part, which only the checker gets.
    """

    pool: Pool
    conn: PoolConnectionProxy
    keys: Path
    by: By
    now: datetime
    second: bytes


class Controlled(Protocol):
    """One kind of change."""

    terms: Any
    """The struct that its terms are."""

    def subject(self, terms: Any) -> str:
        """What it is about, as the trail names it."""
        ...

    async def current(self, pool: Pool, terms: Any, now: datetime) -> Terms | None:
        """What is in force now; an approval counts only while that is what the maker saw.

        Raises:
            SchemaError: The terms cannot be.
        """
        ...

    async def enact(self, approval: Approval, terms: Any) -> bytes | Refusal:
        """Write the change and its entry; returns the entry's digest, or why it cannot be."""
        ...

    async def carry_out(
        self,
        pool: Pool,
        clearing: Clearing,
        terms: Any,
        *,
        proposal_no: int,
        body: bytes,
        keys: Path,
    ) -> Refusal | None:
        """Have the books carry it out, under a key that makes a repeat harmless; `keys` opens the vault."""
        ...


async def merchant_of(pool: Pool, code: str) -> int:
    """Number of a merchant.

    Raises:
        SchemaError: There is none.
    """
    found = (await fetch_catalogue(pool)).by_code.get(code)
    if found is None:
        raise SchemaError("$.terms.merchant", f"no merchant has the code {code}")
    return found


class OfMerchant:
    """What most changes have in common: a merchant as subject, and nothing for the books."""

    def subject(self, terms: Any) -> str:
        """The merchant's code."""
        return str(terms.merchant)

    async def carry_out(
        self,
        pool: Pool,
        clearing: Clearing,
        terms: Any,
        *,
        proposal_no: int,
        body: bytes,
        keys: Path,
    ) -> Refusal | None:
        """Nothing: the approval's transaction did it."""


async def party_of(pool: Pool, code: str) -> int:
    """Number of a merchant; 0 for HOUSE."""
    return HOUSE if code == "HOUSE" else await merchant_of(pool, code)
