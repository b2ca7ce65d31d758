"""What a sandbox's ledger begins with: all shipped merchants, test members with their accounts, an API key."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from adapters.kit import registry
from exchange.service.access import issue_api_key
from exchange.service.connecting import connect_merchant
from exchange.service.links import link
from exchange.service.members import Members
from exchange.service.onboarding import MerchantTerms, register_merchant
from exchange.service.shelf import Shelf
from exchange.store.catalogue import fetch_catalogue
from schemas.values.rate import Rate
from schemas.values.reason import Refusal
from settlement.core.trail import PROGRAM

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Pool

    from adapters.kit.folder import Folder
    from exchange.service.vaults import VaultDoor
    from settlement.service.clearing import Clearing

TILL: Final = "noodle-house"
"""Whose till the sandbox's API key is."""
MEMBERS: Final = ("anna", "ben")
"""Test members: the first has the richest test account of each merchant, the second the next."""
CAP_CU: Final = 10_000_000_000
FEN_CU: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A sandbox that is ready.

    Attributes:
        merchants: Codes of its merchants.
        api_key: A new key of `TILL`; keys of earlier starts count on.
    """

    merchants: list[str]
    api_key: str


async def is_empty(pool: Pool) -> bool:
    """Whether no merchant takes part yet."""
    return not (await fetch_catalogue(pool)).by_code


async def prepare_sandbox(
    pool: Pool, clearing: Clearing, door: VaultDoor, *, now: datetime
) -> Prepared:
    """Register, connect and link whatever is missing; a second time only a new key is made.

    Args:
        pool: The database.
        clearing: The writer.
        door: The vault.
        now: Instant.
    """
    codes = registry.names()
    members = Members(pool, door, Shelf(pool), lambda: now)
    known = await members.enrol(MEMBERS)
    by_code = (await fetch_catalogue(pool)).by_code
    for code in codes:
        if code in by_code:
            continue
        folder = registry.find(code)
        merchant_no = await _register(pool, clearing, folder, now=now)
        await connect_merchant(
            pool,
            merchant_no=merchant_no,
            code=code,
            folder=code,
            settings={},
            certificate_digest=None,
            by=PROGRAM,
            now=now,
        )
        accounts = folder.manifest.sandbox.members
        richest = sorted(accounts, key=lambda member: (-accounts[member], member))
        for member, theirs in zip(MEMBERS, richest, strict=False):
            await link(
                pool,
                await door.vault(),
                member_no=known[member],
                merchant_no=merchant_no,
                merchant_member=theirs,
                now=now,
            )
    by_code = (await fetch_catalogue(pool)).by_code
    label = f"sandbox {secrets.token_hex(3)}"
    key = await issue_api_key(
        pool, merchant_no=by_code[TILL], code=TILL, label=label, by=PROGRAM, now=now
    )
    return Prepared(merchants=codes, api_key=key)


async def _register(pool: Pool, clearing: Clearing, folder: Folder, *, now: datetime) -> int:
    """Let a merchant join; one point of it is worth one fen, and its smallest unit its part of that.

    Raises:
        AssertionError: It is refused, which an empty ledger gives no reason for.
    """
    manifest = folder.manifest
    rate = Rate(num=FEN_CU, den=10**manifest.points.scale)
    terms = MerchantTerms(
        code=folder.code,
        name=manifest.merchant.name,
        hosted=False,
        unit="point",
        scale=manifest.points.scale,
        spend=rate,
        issue=rate,
        earn=(0, 1),
        valid_days=365,
        cap_cu=CAP_CU,
        units_min=manifest.points.units_min,
        units_max=manifest.points.units_max,
    )
    outcome = await register_merchant(pool, clearing, terms, by=PROGRAM, now=now, effective_at=now)
    if isinstance(outcome, Refusal):
        raise AssertionError(f"{folder.code}: {outcome.detail}")  # noqa: TRY004 - no type is wrong, our own terms are
    return outcome
