"""Changes of a merchant that need two people: joining, connecting, rates, tariffs, members' rules, caps, collateral."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from exchange.core.catalogue import MemberRules
from exchange.service import onboarding
from exchange.service.access import enact_key
from exchange.service.certification import check_certificate
from exchange.service.change import Approval, Controlled, OfMerchant, merchant_of
from exchange.service.connecting import connection_terms, enact_connection
from exchange.service.connections import open_connection
from exchange.service.terms import merchant_terms
from exchange.store.catalogue import fetch_catalogue
from schemas.files.instant import microseconds
from schemas.values.faults import SchemaError
from schemas.values.ids import HOUSE, key_bytes
from schemas.values.rate import Rate
from schemas.values.reason import REASON_BY_NUMBER, Reason, Refusal
from schemas.wire import proposals as wire
from settlement.core.command import SetCap, SetCollateral
from settlement.core.event import Kind
from settlement.core.trail import Change
from settlement.service import parties, trail
from settlement.signing.keyring import Keyring

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Pool

    from schemas.files.trail import Terms
    from settlement.service.clearing import Clearing


class _Rate(OfMerchant):
    terms = wire.RateChange

    async def current(self, pool: Pool, terms: wire.RateChange, now: datetime) -> Terms | None:
        catalogue = await fetch_catalogue(pool)
        merchant_no = await merchant_of(pool, terms.merchant)
        at_us = microseconds(terms.effective_at or now)
        if terms.effective_at is not None and terms.effective_at < now:
            raise SchemaError("$.terms.effective_at", "a rate is not put in force for the past")
        both = {"spend": catalogue.spend_rate, "issue": catalogue.issue_rate}
        in_force = {side: rate_at(merchant_no, at_us) for side, rate_at in both.items()}
        wanted = {side: found.rate for side, found in in_force.items() if found}
        wanted[terms.side] = Rate(num=int(terms.rate.cu), den=int(terms.rate.units))
        spend, issue = wanted.get("spend"), wanted.get("issue")
        if spend and issue and issue.num * spend.den < spend.num * issue.den:
            raise SchemaError("$.terms.rate", "the issue rate would be below the spend rate")
        now_in_force = in_force[terms.side]
        if now_in_force is None:
            return None
        return {
            "side": terms.side,
            "rate": f"{now_in_force.rate.num}/{now_in_force.rate.den}",
        }

    async def enact(self, approval: Approval, terms: wire.RateChange) -> bytes | Refusal:
        return await onboarding.enact_rate(
            approval.conn,
            code=terms.merchant,
            merchant_no=await merchant_of(approval.pool, terms.merchant),
            side=terms.side,
            rate=Rate(num=int(terms.rate.cu), den=int(terms.rate.units)),
            before=await self.current(approval.pool, terms, approval.now),
            by=approval.by,
            now=approval.now,
            effective_at=terms.effective_at or approval.now,
        )


class _Account(OfMerchant):
    """A cap or a collateral: the writer's to change."""

    def __init__(self, terms: Any, column: str, command: type[SetCap | SetCollateral]) -> None:
        self.terms, self._column, self._command = terms, column, command

    async def current(self, pool: Pool, terms: Any, now: datetime) -> Terms | None:
        del now
        for row in await parties.list_parties(pool):
            if row["code"] == terms.merchant and row[self._column] is not None:
                return {self._column: str(row[self._column])}
        raise SchemaError("$.terms.merchant", f"no merchant has the code {terms.merchant}")

    async def enact(self, approval: Approval, terms: Any) -> bytes | Refusal:
        change = Change(
            action=f"{self._column.removesuffix('_cu')}.set",
            subject=terms.merchant,
            before=await self.current(approval.pool, terms, approval.now),
            after={self._column: getattr(terms, self._column)},
        )
        return await trail.record(approval.conn, approval.by, change, at=approval.now)

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
        del keys
        figures = {self._column: int(getattr(terms, self._column))}
        command = self._command(
            caller=HOUSE,
            key=key_bytes(f"proposal:{proposal_no}"),
            body=body,
            merchant_no=await merchant_of(pool, terms.merchant),
            **figures,
        )
        [[entry]] = await clearing.submit([command])
        if entry.kind == Kind.REFUSED:
            reason = REASON_BY_NUMBER[entry.reason]
            return Refusal(reason, reason.english)
        return None


class _Tariff(OfMerchant):
    terms = wire.TariffChange

    def subject(self, terms: Any) -> str:
        del terms
        return "HOUSE"

    async def current(self, pool: Pool, terms: wire.TariffChange, now: datetime) -> Terms | None:
        del terms
        return {"fee_bps": (await fetch_catalogue(pool)).fee_bps(microseconds(now))}

    async def enact(self, approval: Approval, terms: wire.TariffChange) -> bytes | Refusal:
        digest = await onboarding.enact_tariff(
            approval.conn,
            fee_bps=terms.fee_bps,
            by=approval.by,
            now=approval.now,
            effective_at=approval.now,
        )
        return digest or Refusal(Reason.PROPOSAL_OUTDATED, "a fee begins at this very instant")


class _Rules(OfMerchant):
    terms = wire.RulesChange

    async def current(self, pool: Pool, terms: wire.RulesChange, now: datetime) -> Terms | None:
        merchant_no = await merchant_of(pool, terms.merchant)
        rules = (await fetch_catalogue(pool)).rules_of(merchant_no, microseconds(now))
        return None if rules is None else onboarding.rules_terms(rules)

    async def enact(self, approval: Approval, terms: wire.RulesChange) -> bytes | Refusal:
        return await onboarding.enact_rules(
            approval.conn,
            code=terms.merchant,
            merchant_no=await merchant_of(approval.pool, terms.merchant),
            rules=MemberRules(
                effective_at_us=0,
                authority=terms.authority,
                daily_cu=int(terms.daily_cu),
                daily_orders=terms.daily_orders,
            ),
            before=await self.current(approval.pool, terms, approval.now),
            by=approval.by,
            now=approval.now,
            effective_at=approval.now,
        )


class _Join(OfMerchant):
    terms = wire.JoinTerms

    def subject(self, terms: wire.JoinTerms) -> str:
        return terms.merchant.code

    async def current(self, pool: Pool, terms: wire.JoinTerms, now: datetime) -> Terms | None:
        del now
        merchant_terms(terms.merchant, at="$.terms.merchant")
        if terms.merchant.code in (await fetch_catalogue(pool)).by_code:
            raise SchemaError("$.terms.merchant.code", f"{terms.merchant.code} takes part already")
        return None

    async def enact(self, approval: Approval, terms: wire.JoinTerms) -> bytes | Refusal:
        wanted = merchant_terms(terms.merchant, at="$.terms.merchant")
        effective_at = terms.merchant.effective_at or approval.now
        merchant_no = await onboarding.add_merchant(
            approval.conn, wanted, now=approval.now, effective_at=effective_at
        )
        if merchant_no is None:
            return Refusal(Reason.MERCHANT_EXISTS, f"{wanted.code} takes part already")
        change = onboarding.join_change(wanted, effective_at)
        digest = await trail.record(approval.conn, approval.by, change, at=approval.now)
        if terms.api_key_sha256 is not None:
            await enact_key(
                approval.conn,
                bytes.fromhex(terms.api_key_sha256),
                merchant_no=merchant_no,
                code=wanted.code,
                label="first",
                by=approval.by,
                now=approval.now,
            )
        return digest

    async def carry_out(
        self,
        pool: Pool,
        clearing: Clearing,
        terms: wire.JoinTerms,
        *,
        proposal_no: int,
        body: bytes,
        keys: Path,
    ) -> Refusal | None:
        del proposal_no, keys
        code = terms.merchant.code
        merchant_no = await merchant_of(pool, code)
        account = parties.NewAccount(code, merchant_no, int(terms.merchant.cap_cu), body)
        await parties.open_accounts(clearing, [account])
        return None


class _Connect(OfMerchant):
    terms = wire.ConnectTerms

    async def current(self, pool: Pool, terms: wire.ConnectTerms, now: datetime) -> Terms | None:
        del now
        merchant_no = await merchant_of(pool, terms.merchant)
        if (await fetch_catalogue(pool)).programmes[merchant_no].hosted:
            raise SchemaError("$.terms.merchant", f"the points of {terms.merchant} are kept here")
        return await connection_terms(pool, merchant_no)

    async def enact(self, approval: Approval, terms: wire.ConnectTerms) -> bytes | Refusal:
        folder = open_connection(terms.adapter, terms.settings)
        if folder.code != terms.merchant:
            return Refusal(
                Reason.MERCHANT_NOT_CERTIFIED,
                f"the adapter is that of {folder.code}, not of {terms.merchant}",
            )
        certificate = terms.certificate.encode()
        answer = check_certificate(
            certificate,
            bytes.fromhex(terms.signature),
            trusted=Keyring.open(approval.keys).trusted(),
            folder=folder,
            at=approval.now,
        )
        if isinstance(answer, Refusal):
            return answer
        return await enact_connection(
            approval.conn,
            merchant_no=await merchant_of(approval.pool, terms.merchant),
            code=terms.merchant,
            folder=terms.adapter,
            settings=terms.settings,
            certificate_digest=hashlib.sha256(certificate).digest(),
            by=approval.by,
            now=approval.now,
        )


OF_MERCHANTS: Final[Mapping[str, Controlled]] = {
    "merchant.join": _Join(),
    "merchant.connect": _Connect(),
    "rate.set": _Rate(),
    "tariff.set": _Tariff(),
    "member_rules.set": _Rules(),
    "cap.set": _Account(wire.CapChange, "cap_cu", SetCap),
    "collateral.set": _Account(wire.CollateralChange, "collateral_cu", SetCollateral),
}
"""Each change, by its name in the trail."""
