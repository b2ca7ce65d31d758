"""Notices: events that follow from figures, written once by whichever worker looks first.

A package is told of when its folder stands, so that whoever hears of it can fetch it. How much of its cap a merchant
has used is looked at about once a second; a notice is written when the level changes, and eases only well below the
line, so that a merchant that moves around it is not told again and again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from exchange.store import feed as store
from schemas.wire.events import BatchFacts, CapFacts, FundsFacts, Why
from settlement.service import cycles, funding, inquiry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Connection, Pool
    from asyncpg.pool import PoolConnectionProxy

    from exchange.service.shelf import Shelf

log = structlog.get_logger()

NEAR_PERCENT: Final = 80
EASED_PERCENT: Final = 70
NEAR: Final = "merchant.cap_near"
BREACHED: Final = "merchant.cap_breached"
EASED: Final = "merchant.cap_eased"
LOW: Final = "merchant.funds_low"
ENOUGH: Final = "merchant.funds_enough"
_TOLD: Final[Mapping[str, Why]] = {"overdue": "overdue", "below_level": "below_level"}
"""Alerts of which a merchant hears; what it is to pay in before it is due says the instruction."""


def cap_level(before: str, *, limit_cu: int, headroom_cu: int) -> str:
    """The level at which a merchant stands now.

    Args:
        before: The level of its last notice; `EASED` if it never had one.
        limit_cu: Net debit cap and collateral, CU.
        headroom_cu: What an order that clears at once may still debit, CU.
    """
    if headroom_cu < 0:
        return BREACHED
    used = 100 * (limit_cu - headroom_cu)
    if used >= NEAR_PERCENT * limit_cu and limit_cu:
        return NEAR
    if before == EASED or used < EASED_PERCENT * limit_cu or not limit_cu:
        return EASED
    return NEAR


async def write_notices(pool: Pool, *, shelf: Shelf, packages: Path, now: datetime) -> int:
    """Write what is new; how many notices. Nothing, while another worker does it.

    Args:
        pool: The database.
        shelf: Who the merchants are.
        packages: Folder of the settlement packages.
        now: The instant that the notices carry.
    """
    offer = await shelf.offer()
    async with pool.acquire() as conn, conn.transaction():
        if not await store.lock_notices(conn):
            return 0
        written = await _tell_batches(conn, packages, now)
        head = await cycles.ledger_head(pool)
        if head is None:
            return written
        written += await _tell_funds(conn, pool, now)
        levels = await store.fetch_cap_levels(conn)
        for row in await inquiry.standing(pool, cycle_no=head["cycle_no"]):
            if row["cap_cu"] is None:
                continue
            before = levels.get(row["merchant_no"], EASED)
            limit_cu = row["cap_cu"] + row["collateral_cu"]
            headroom_cu = limit_cu + row["unsettled_cu"] - row["held_cu"] + row["net_cu"]
            level = cap_level(before, limit_cu=limit_cu, headroom_cu=headroom_cu)
            if level == before:
                continue
            facts = CapFacts(
                merchant=offer.codes.get(row["merchant_no"], ""),
                limit_cu=str(limit_cu),
                headroom_cu=str(headroom_cu),
            )
            await store.insert_notice(
                conn, event_type=level, merchant_no=row["merchant_no"], facts=facts, now=now
            )
            written += 1
    return written


async def _tell_batches(
    conn: Connection | PoolConnectionProxy, packages: Path, now: datetime
) -> int:
    written = 0
    for row in await store.fetch_untold_batches(conn):
        if not (packages / row["cycle_id"] / "manifest.json").is_file():
            break
        facts = BatchFacts(
            cycle=row["cycle_id"],
            sequence=row["sequence"],
            manifest_sha256=row["manifest_sha256"].hex(),
        )
        await store.insert_notice(
            conn, event_type="batch.published", merchant_no=0, facts=facts, now=now
        )
        written += 1
    return written


async def _tell_funds(conn: Connection | PoolConnectionProxy, pool: Pool, now: datetime) -> int:
    """Tell merchants whose funds are low, or late, and those whose funds are enough again."""
    written = 0
    before = await store.fetch_funds_levels(conn)
    for one in (await funding.purses(pool, at=now)).merchants:
        level: str = LOW if one.alert in _TOLD else ENOUGH
        if level == before.get(one.merchant_no, ENOUGH):
            continue
        facts = FundsFacts(
            merchant=one.code,
            funds_cu=str(one.funds_cu),
            needs_cu=str(one.needs_cu),
            why=_TOLD.get(one.alert, ""),
        )
        await store.insert_notice(
            conn, event_type=level, merchant_no=one.merchant_no, facts=facts, now=now
        )
        log.warning("funds.low" if level == LOW else "funds.enough", merchant_no=one.merchant_no,
                    funds_cu=one.funds_cu, needs_cu=one.needs_cu, why=one.alert)  # fmt: skip
        written += 1
    return written
