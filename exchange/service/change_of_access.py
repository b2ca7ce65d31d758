"""Changes of who may do what that need two people: keys and people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from exchange.service import people
from exchange.service.access import enact_key
from exchange.service.change import Approval, Controlled, OfMerchant, party_of
from exchange.service.signing_keys import enact_registration
from exchange.signing.keys import read_csr
from exchange.store.people import fetch_person
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason, Refusal
from schemas.wire import proposals as wire

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from asyncpg import Pool

    from exchange.signing.keys import KeyRequest
    from schemas.files.trail import Terms


class _Key(OfMerchant):
    terms = wire.KeyTerms

    async def current(self, pool: Pool, terms: wire.KeyTerms, now: datetime) -> Terms | None:
        del now
        await party_of(pool, terms.merchant)
        return None

    async def enact(self, approval: Approval, terms: wire.KeyTerms) -> bytes | Refusal:
        digest = await enact_key(
            approval.conn,
            bytes.fromhex(terms.sha256),
            merchant_no=await party_of(approval.pool, terms.merchant),
            code=terms.merchant,
            label=terms.label,
            by=approval.by,
            now=approval.now,
        )
        return digest or Refusal(Reason.PROPOSAL_OUTDATED, "this key is there already")


class _CallerKey(OfMerchant):
    terms = wire.CallerKeyTerms

    def subject(self, terms: wire.CallerKeyTerms) -> str:
        return self._request(terms).code

    async def current(self, pool: Pool, terms: wire.CallerKeyTerms, now: datetime) -> Terms | None:
        del now
        await party_of(pool, self._request(terms).code)
        return None

    async def enact(self, approval: Approval, terms: wire.CallerKeyTerms) -> bytes | Refusal:
        wanted = self._request(terms)
        return await enact_registration(
            approval.conn,
            wanted,
            merchant_no=await party_of(approval.pool, wanted.code),
            label=terms.label,
            overlap_hours=None,
            action="caller_key.register",
            by=approval.by,
            now=approval.now,
        )

    def _request(self, terms: wire.CallerKeyTerms) -> KeyRequest:
        wanted = read_csr(terms.csr)
        if wanted is None:
            raise SchemaError("$.terms.csr", "Expected a PKCS #10 request of an Ed25519 key (PEM)")
        return wanted


class _Person(OfMerchant):
    terms: Any = wire.PersonTerms

    def subject(self, terms: Any) -> str:
        return str(terms.name)

    async def current(self, pool: Pool, terms: Any, now: datetime) -> Terms | None:
        del now
        row = await fetch_person(pool, name=terms.name)
        return None if row is None else {"roles": list(row["roles"])}

    async def enact(self, approval: Approval, terms: Any) -> bytes | Refusal:
        return await people.add_person(
            approval.conn,
            name=terms.name,
            roles=terms.roles,
            merchant_no=await party_of(approval.pool, terms.merchant),
            merchant=terms.merchant,
            invitation=bytes.fromhex(terms.invitation_sha256),
            second=approval.second,
            by=approval.by,
            now=approval.now,
        )


class _Invite(_Person):
    terms = wire.InviteTerms

    async def enact(self, approval: Approval, terms: wire.InviteTerms) -> bytes | Refusal:
        return await people.invite_person(
            approval.conn,
            name=terms.name,
            invitation=bytes.fromhex(terms.invitation_sha256),
            second=approval.second,
            by=approval.by,
            now=approval.now,
        )


class _Link(_Person):
    terms = wire.LinkTerms

    async def enact(self, approval: Approval, terms: wire.LinkTerms) -> bytes | Refusal:
        return await people.link_person(
            approval.conn,
            name=terms.name,
            subject=terms.subject,
            by=approval.by,
            now=approval.now,
        )


class _Roles(_Person):
    terms = wire.RolesTerms

    async def enact(self, approval: Approval, terms: wire.RolesTerms) -> bytes | Refusal:
        return await people.set_roles(
            approval.conn, name=terms.name, roles=terms.roles, by=approval.by, now=approval.now
        )


OF_ACCESS: Final[Mapping[str, Controlled]] = {
    "api_key.issue": _Key(),
    "caller_key.register": _CallerKey(),
    "person.add": _Person(),
    "person.invite": _Invite(),
    "person.link": _Link(),
    "person.set_roles": _Roles(),
}
"""Each change, by its name in the trail."""
