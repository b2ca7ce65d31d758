"""Merchants join: the party, its programme, its rates, and its account in the books."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exchange.store import programmes as store
from exchange.store.catalogue import fetch_catalogue
from schemas.files.instant import microseconds
from schemas.values.reason import Reason, Refusal
from settlement.core.trail import By, Change
from settlement.service import parties, trail
from settlement.service.trail import BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from asyncpg import Pool
    from asyncpg.pool import PoolConnectionProxy

    from exchange.core.catalogue import MemberRules
    from schemas.files.trail import Terms
    from schemas.values.rate import Rate
    from settlement.service.clearing import Clearing


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantTerms:
    """What a merchant joins with.

    Attributes:
        code: Public code.
        name: Name for people.
        hosted: Whether the house keeps its lots.
        unit: What one point is called.
        scale: Decimal places that a member sees.
        spend: CU per smallest unit when points are spent.
        issue: CU per smallest unit when points are issued; never below `spend`, or a round trip would gain (rule P7).
        earn: Smallest units for so many fen.
        valid_days: Life of an earned lot.
        cap_cu: Net debit cap, CU.
        units_min: Fewest smallest units an order may spend.
        units_max: Most smallest units an order may spend.
        own_names: Whether the merchant calls members by names of its own, which mean nothing to others.
    """

    code: str
    name: str
    hosted: bool
    unit: str
    scale: int
    spend: Rate
    issue: Rate
    earn: tuple[int, int]
    valid_days: int
    cap_cu: int
    units_min: int = 1
    units_max: int = 10**12
    own_names: bool = False

    def __post_init__(self) -> None:
        """Refuse terms under which a round trip gains.

        Raises:
            ValueError: The issue rate is below the spend rate.
        """
        if self.issue.num * self.spend.den < self.spend.num * self.issue.den:
            raise ValueError(f"{self.code}: the issue rate is below the spend rate")


async def protect_members(
    pool: Pool, *, code: str, rules: MemberRules, by: By, now: datetime, effective_at: datetime
) -> Refusal | None:
    """Put rules in force that protect a programme's members; those before stay in the books.

    Args:
        pool: Connections of the program.
        code: The merchant.
        rules: The rules; the instant in them is not read.
        by: Who changes them.
        now: Instant of the change.
        effective_at: From when they are in force. Gateways and writer know them within two seconds.

    Returns:
        None, or UNKNOWN_MERCHANT.

    Source: settlement/RULES.md, rule A1.
    """
    catalogue = await fetch_catalogue(pool)
    merchant_no = catalogue.by_code.get(code)
    if merchant_no is None:
        return Refusal(Reason.UNKNOWN_MERCHANT, f"no merchant has the code {code}")
    before = catalogue.rules_of(merchant_no, microseconds(effective_at))
    async with pool.acquire() as conn, conn.transaction():
        await enact_rules(
            conn,
            code=code,
            merchant_no=merchant_no,
            rules=rules,
            before=None if before is None else rules_terms(before),
            by=by,
            now=now,
            effective_at=effective_at,
        )
    return None


async def enact_rules(
    conn: PoolConnectionProxy,
    *,
    code: str,
    merchant_no: int,
    rules: MemberRules,
    before: Terms | None,
    by: By,
    now: datetime,
    effective_at: datetime,
) -> bytes:
    """The same inside the caller's transaction; returns the trail's digest."""
    await store.insert_member_rules(
        conn,
        merchant_no=merchant_no,
        authority=rules.authority,
        daily_cu=rules.daily_cu,
        daily_orders=rules.daily_orders,
        effective_at=effective_at,
    )
    change = Change(
        action="member_rules.set",
        subject=code,
        before=before,
        after=rules_terms(rules) | {"effective_at": effective_at.isoformat()},
    )
    return await trail.record(conn, by, change, at=now)


def rules_terms(rules: MemberRules) -> Terms:
    """Rules as the trail shows them."""
    return {
        "authority": rules.authority,
        "daily_cu": str(rules.daily_cu),
        "daily_orders": rules.daily_orders,
    }


async def set_tariff(
    pool: Pool, *, fee_bps: int, by: By, now: datetime, effective_at: datetime
) -> None:
    """Put the house's fee in force; at an instant that has one already, nothing changes.

    Args:
        pool: Connections of the program.
        fee_bps: The fee, basis points of a value.
        by: Who changes it.
        now: Instant of the change.
        effective_at: From when it is in force.
    """
    async with pool.acquire() as conn, conn.transaction():
        await enact_tariff(conn, fee_bps=fee_bps, by=by, now=now, effective_at=effective_at)


async def enact_tariff(
    conn: PoolConnectionProxy, *, fee_bps: int, by: By, now: datetime, effective_at: datetime
) -> bytes | None:
    """The same inside the caller's transaction; the trail's digest, or None where nothing changed."""
    if not await store.insert_tariff(conn, fee_bps=fee_bps, effective_at=effective_at):
        return None
    after = {"fee_bps": fee_bps, "effective_at": effective_at.isoformat()}
    change = Change(action="tariff.set", subject="HOUSE", after=after)
    return await trail.record(conn, by, change, at=now)


async def enact_rate(
    conn: PoolConnectionProxy,
    *,
    code: str,
    merchant_no: int,
    side: str,
    rate: Rate,
    before: Terms | None,
    by: By,
    now: datetime,
    effective_at: datetime,
) -> bytes:
    """Put a rate in force inside the caller's transaction; those before stay in the books. Returns the trail's digest.

    Source: settlement/RULES.md, rule P7.
    """
    await store.insert_rate(
        conn,
        merchant_no=merchant_no,
        side=side,
        num=rate.num,
        den=rate.den,
        effective_at=effective_at,
    )
    after = {
        "side": side,
        "rate": f"{rate.num}/{rate.den}",
        "effective_at": effective_at.isoformat(),
    }
    change = Change(action="rate.set", subject=code, before=before, after=after)
    return await trail.record(conn, by, change, at=now)


async def register_merchant(
    pool: Pool,
    clearing: Clearing,
    terms: MerchantTerms,
    *,
    by: By,
    now: datetime,
    effective_at: datetime,
) -> int | Refusal:
    """Register a merchant; repeated after a fault, it finishes what is missing.

    Args:
        pool: Connections of the program.
        clearing: The writer, which opens the account.
        terms: What it joins with.
        by: Who registers it.
        now: Instant of the registration.
        effective_at: From when its rates are in force.

    Returns:
        The merchant's number, or MERCHANT_EXISTS.
    """
    [outcome] = await register_merchants(
        pool, clearing, [terms], by=by, now=now, effective_at=effective_at
    )
    return outcome


async def register_merchants(
    pool: Pool,
    clearing: Clearing,
    terms: Sequence[MerchantTerms],
    *,
    by: By,
    now: datetime,
    effective_at: datetime,
) -> list[int | Refusal]:
    """Register merchants together, numbered in their order: one transaction, then one group of commands.

    Args:
        pool: Connections of the program.
        clearing: The writer, which opens the accounts.
        terms: What they join with; no code twice.
        by: Who registers them.
        now: Instant of the registration.
        effective_at: From when their rates are in force.

    Returns:
        The number of each, or MERCHANT_EXISTS.
    """
    wishes = [join_change(one, effective_at) for one in terms]
    async with pool.acquire() as conn, conn.transaction():
        numbers = [
            await add_merchant(conn, one, now=now, effective_at=effective_at) for one in terms
        ]
        bodies = [
            None if number is None else await trail.record(conn, by, wish, at=now)
            for number, wish in zip(numbers, wishes, strict=True)
        ]
    # Accounts are opened after the rows are durable, so a fault in between leaves merchants without
    # one; registering them again finishes that.
    known = {}
    if None in numbers:
        known = {row["code"]: row for row in await parties.list_parties(pool)}
    outcomes: list[int | Refusal] = []
    accounts: list[parties.NewAccount] = []
    for one, number, wish, recorded in zip(terms, numbers, wishes, bodies, strict=True):
        if number is None and known[one.code]["cap_cu"] is not None:
            outcomes.append(Refusal(Reason.MERCHANT_EXISTS, f"{one.code} takes part already"))
            continue
        merchant_no = int(known[one.code]["merchant_no"]) if number is None else number
        outcomes.append(merchant_no)
        body = recorded or await trail.ask(pool, by, wish, at=now)
        accounts.append(parties.NewAccount(one.code, merchant_no, one.cap_cu, body[:BODY_BYTES]))
    await parties.open_accounts(clearing, accounts)
    return outcomes


def join_change(terms: MerchantTerms, effective_at: datetime) -> Change:
    """The entry of the trail that lets a merchant join."""
    after = {
        "name": terms.name,
        "hosted": terms.hosted,
        "unit": terms.unit,
        "scale": terms.scale,
        "spend": f"{terms.spend.num}/{terms.spend.den}",
        "issue": f"{terms.issue.num}/{terms.issue.den}",
        "earn": "{}/{}".format(*terms.earn),
        "valid_days": terms.valid_days,
        "cap_cu": str(terms.cap_cu),
        "units_min": str(terms.units_min),
        "units_max": str(terms.units_max),
        "effective_at": effective_at.isoformat(),
    }
    return Change(action="merchant.join", subject=terms.code, after=after)


async def add_merchant(
    conn: PoolConnectionProxy, terms: MerchantTerms, *, now: datetime, effective_at: datetime
) -> int | None:
    """Add a merchant's rows inside the caller's transaction; its number, or None if the code is taken."""
    merchant_no = await parties.add_party(conn, code=terms.code, name=terms.name, now=now)
    if merchant_no is None:
        return None
    await store.insert_programme(
        conn,
        merchant_no=merchant_no,
        hosted=terms.hosted,
        unit=terms.unit,
        scale=terms.scale,
        earn=terms.earn,
        valid_days=terms.valid_days,
        units_min=terms.units_min,
        units_max=terms.units_max,
        own_names=terms.own_names,
    )
    for side, rate in (("spend", terms.spend), ("issue", terms.issue)):
        await store.insert_rate(
            conn,
            merchant_no=merchant_no,
            side=side,
            num=rate.num,
            den=rate.den,
            effective_at=effective_at,
        )
    return merchant_no
