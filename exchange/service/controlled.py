"""The changes that need two people: how each is checked, written, and carried out in the books.

What a change does by SQL happens in the transaction of its approval. What the writer decides is asked for by the entry
of the trail in that transaction, and by a key that is made of the proposal's number or of what happens once anyway, so
asking again after a fault has no second effect.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from exchange.core.catalogue import MemberRules
from exchange.service import onboarding, people
from exchange.service.access import enact_key
from exchange.service.certification import check_certificate
from exchange.service.compensating import GiveCompensation
from exchange.service.connecting import connection_terms, enact_connection
from exchange.service.connections import open_connection
from exchange.service.correcting import DecideDispute, ReturnRemainders, TakeCorrections
from exchange.service.signing_keys import enact_registration
from exchange.service.terms import merchant_terms
from exchange.signing.keys import read_csr
from exchange.store.catalogue import fetch_catalogue
from exchange.store.people import fetch_person
from schemas.files.instant import microseconds
from schemas.values.faults import SchemaError
from schemas.values.ids import HOUSE, key_bytes
from schemas.values.rate import Rate
from schemas.values.reason import REASON_BY_NUMBER, Reason, Refusal
from schemas.wire import proposals as wire
from schemas.wire.plain import check_plain
from settlement.core.arrangement import MAIN_CODE, Model
from settlement.core.calendar import CalendarChange
from settlement.core.command import Pot, SetCap, SetCollateral
from settlement.core.event import Kind
from settlement.core.trail import By, Change
from settlement.service import cycles, funding, parties, settling, trail
from settlement.service.arrangements import carry_out_arrangement, enact_arrangement, list_pairs
from settlement.service.objections import open_objections
from settlement.service.trail import BODY_BYTES
from settlement.signing.keyring import Keyring

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Pool
    from asyncpg.pool import PoolConnectionProxy

    from exchange.signing.keys import KeyRequest
    from schemas.files.trail import Terms
    from settlement.service.clearing import Clearing
    from settlement.service.objections import Objections


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


async def _merchant(pool: Pool, code: str) -> int:
    """Number of a merchant.

    Raises:
        SchemaError: There is none.
    """
    found = (await fetch_catalogue(pool)).by_code.get(code)
    if found is None:
        raise SchemaError("$.terms.merchant", f"no merchant has the code {code}")
    return found


class _Change:
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


class _Rate(_Change):
    terms = wire.RateChange

    async def current(self, pool: Pool, terms: wire.RateChange, now: datetime) -> Terms | None:
        catalogue = await fetch_catalogue(pool)
        merchant_no = await _merchant(pool, terms.merchant)
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
            merchant_no=await _merchant(approval.pool, terms.merchant),
            side=terms.side,
            rate=Rate(num=int(terms.rate.cu), den=int(terms.rate.units)),
            before=await self.current(approval.pool, terms, approval.now),
            by=approval.by,
            now=approval.now,
            effective_at=terms.effective_at or approval.now,
        )


class _Account(_Change):
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
            merchant_no=await _merchant(pool, terms.merchant),
            **figures,
        )
        [[entry]] = await clearing.submit([command])
        if entry.kind == Kind.REFUSED:
            reason = REASON_BY_NUMBER[entry.reason]
            return Refusal(reason, reason.english)
        return None


class _Tariff(_Change):
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


class _Rules(_Change):
    terms = wire.RulesChange

    async def current(self, pool: Pool, terms: wire.RulesChange, now: datetime) -> Terms | None:
        merchant_no = await _merchant(pool, terms.merchant)
        rules = (await fetch_catalogue(pool)).rules_of(merchant_no, microseconds(now))
        return None if rules is None else onboarding.rules_terms(rules)

    async def enact(self, approval: Approval, terms: wire.RulesChange) -> bytes | Refusal:
        return await onboarding.enact_rules(
            approval.conn,
            code=terms.merchant,
            merchant_no=await _merchant(approval.pool, terms.merchant),
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


class _Join(_Change):
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
        merchant_no = await _merchant(pool, code)
        account = parties.NewAccount(code, merchant_no, int(terms.merchant.cap_cu), body)
        await parties.open_accounts(clearing, [account])
        return None


class _Connect(_Change):
    terms = wire.ConnectTerms

    async def current(self, pool: Pool, terms: wire.ConnectTerms, now: datetime) -> Terms | None:
        del now
        merchant_no = await _merchant(pool, terms.merchant)
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
            merchant_no=await _merchant(approval.pool, terms.merchant),
            code=terms.merchant,
            folder=terms.adapter,
            settings=terms.settings,
            certificate_digest=hashlib.sha256(certificate).digest(),
            by=approval.by,
            now=approval.now,
        )


class _Calendar(_Change):
    """When cycles cut off, of those that open from then on (rule T4)."""

    terms = CalendarChange

    def subject(self, terms: CalendarChange) -> str:
        return "HOUSE" if terms.arrangement == MAIN_CODE else terms.arrangement

    async def current(self, pool: Pool, terms: CalendarChange, now: datetime) -> Terms | None:
        try:
            terms.next_cut_off(now)
        except ValueError as error:
            raise SchemaError("$.terms", str(error)) from error
        # As it is read again from what was proposed: lists, not tuples.
        in_force: Terms = msgspec.json.decode(
            msgspec.json.encode(await cycles.calendar_at(pool, now, arrangement=terms.arrangement))
        )
        return in_force

    async def enact(self, approval: Approval, terms: CalendarChange) -> bytes | Refusal:
        return await cycles.enact_calendar(
            approval.conn,
            terms.calendar,
            before=await cycles.calendar_at(
                approval.pool, approval.now, arrangement=terms.arrangement
            ),
            by=approval.by,
            now=approval.now,
            effective_at=approval.now,
            arrangement=terms.arrangement,
        )


class _Arrangement(_Change):
    """Which pairs settle by which model, from the turn of their cycle on (rule T7)."""

    terms = wire.ArrangementChange

    def subject(self, terms: wire.ArrangementChange) -> str:
        return terms.arrangement

    async def current(
        self, pool: Pool, terms: wire.ArrangementChange, now: datetime
    ) -> Terms | None:
        del now
        made = {row["code"]: row["model"] for row in await cycles.list_open(pool)}
        model = made.get(terms.arrangement)
        if model is None and terms.model is None:
            raise SchemaError("$.terms.model", f"{terms.arrangement} is new and needs a model")
        if model is not None and terms.model not in (None, model):
            raise SchemaError("$.terms.model", f"{terms.arrangement} is {model}, and stays so")
        for place, (one, other) in enumerate(terms.pairs):
            if one == other:
                raise SchemaError(f"$.terms.pairs[{place}]", "a pair is of two merchants")
            for side, code in enumerate((one, other)):
                if code not in (await fetch_catalogue(pool)).by_code:
                    raise SchemaError(
                        f"$.terms.pairs[{place}][{side}]", f"no merchant has the code {code}"
                    )
        has = {frozenset((row["one"], row["other"])): row for row in await list_pairs(pool)}
        present = [has.get(frozenset(pair)) for pair in terms.pairs]
        return {
            "model": model,
            "pairs": [
                [*pair, row["arrangement"] if row else MAIN_CODE, row["next"] if row else None]
                for pair, row in zip(terms.pairs, present, strict=True)
            ],
        }

    async def enact(self, approval: Approval, terms: wire.ArrangementChange) -> bytes | Refusal:
        before = await self.current(approval.pool, terms, approval.now)
        assert before is not None
        return await enact_arrangement(
            approval.conn,
            arrangement=terms.arrangement,
            before=before,
            after={
                "model": terms.model or before["model"],
                "pairs": [[one, other] for one, other in terms.pairs],
            },
            by=approval.by,
            now=approval.now,
        )

    async def carry_out(
        self,
        pool: Pool,
        clearing: Clearing,
        terms: wire.ArrangementChange,
        *,
        proposal_no: int,
        body: bytes,
        keys: Path,
    ) -> Refusal | None:
        del proposal_no, keys
        return await carry_out_arrangement(
            pool,
            clearing,
            arrangement=terms.arrangement,
            model=Model[(terms.model or "multilateral").upper()],
            pairs=[
                (await _merchant(pool, one), await _merchant(pool, other))
                for one, other in terms.pairs
            ],
            body=body,
        )


class _Settle(_Change):
    """A closed cycle counts as paid; where funds are kept, the entry allows `tongdui settle`, which looks at them."""

    terms = wire.SettleTerms

    def subject(self, terms: wire.SettleTerms) -> str:
        return terms.cycle

    async def current(self, pool: Pool, terms: wire.SettleTerms, now: datetime) -> Terms | None:
        del now
        for row in await cycles.list_cycles(pool):
            if row["cycle_id"] == terms.cycle:
                if row["state"] != "closed":
                    raise SchemaError("$.terms.cycle", f"{terms.cycle} is {row['state']}")
                objections = await open_objections(
                    pool, cycle_no=row["cycle_no"], cycle_id=terms.cycle
                )
                return {
                    "state": "closed",
                    "orders": row["orders"],
                    "gross_cu": str(row["gross_cu"]),
                } | _objecting(objections)
        raise SchemaError("$.terms.cycle", f"there is no cycle {terms.cycle}")

    async def enact(self, approval: Approval, terms: wire.SettleTerms) -> bytes | Refusal:
        objections = await _objections(approval.pool, terms.cycle)
        if refused := objections.why_not(despite=terms.despite_objections):
            return refused
        change = settling.settle_change(objections)
        return await trail.record(approval.conn, approval.by, change, at=approval.now)

    async def carry_out(
        self,
        pool: Pool,
        clearing: Clearing,
        terms: wire.SettleTerms,
        *,
        proposal_no: int,
        body: bytes,
        keys: Path,
    ) -> Refusal | None:
        del proposal_no, keys
        if await cycles.why_not_on_word(pool):
            return None
        for row in await cycles.list_cycles(pool):
            if row["cycle_id"] == terms.cycle:
                outcome = await cycles.settle_cycle(clearing, cycle_no=row["cycle_no"], body=body)
                return outcome if isinstance(outcome, Refusal) else None
        return Refusal(Reason.CYCLE_NOT_CLOSED, f"there is no cycle {terms.cycle}")


async def _objections(pool: Pool, cycle_id: str) -> Objections:
    """Who objects to the batch of a cycle that there is."""
    [cycle_no] = [
        row["cycle_no"] for row in await cycles.list_cycles(pool) if row["cycle_id"] == cycle_id
    ]
    return await open_objections(pool, cycle_no=cycle_no, cycle_id=cycle_id)


def _objecting(objections: Objections) -> Terms:
    """Who objects, for whoever approves; nothing where nobody does."""
    return {"objections": list(objections.merchants)} if objections.merchants else {}


class _Default(_Change):
    """A merchant's default: the entry allows `tongdui settle --default`, which takes the steps."""

    terms = wire.DefaultTerms

    def subject(self, terms: wire.DefaultTerms) -> str:
        return terms.cycle

    async def current(self, pool: Pool, terms: wire.DefaultTerms, now: datetime) -> Terms | None:
        del now
        await _merchant(pool, terms.debtor)
        state = await settling.standing(pool, cycle_id=terms.cycle)
        if state is None or state.state != "closed":
            raise SchemaError("$.terms.cycle", f"there is no closed cycle {terms.cycle}")
        return {"state": "closed"} | _objecting(await settling.objections_to(pool, state))

    async def enact(self, approval: Approval, terms: wire.DefaultTerms) -> bytes | Refusal:
        objections = await _objections(approval.pool, terms.cycle)
        if refused := objections.why_not(despite=terms.despite_objections):
            return refused
        change = settling.default_change(objections, terms.debtor)
        return await trail.record(approval.conn, approval.by, change, at=approval.now)


class _Funds(_Change):
    terms = wire.FundsMove

    def subject(self, terms: wire.FundsMove) -> str:
        return terms.giver

    async def current(self, pool: Pool, terms: wire.FundsMove, now: datetime) -> Terms | None:
        del now
        await self._wanted(pool, terms)
        return None

    async def enact(self, approval: Approval, terms: wire.FundsMove) -> bytes | Refusal:
        wanted = await self._wanted(approval.pool, terms)
        if refused := await funding.why_no_move(approval.pool, wanted):
            return refused
        names = {wanted.giver: terms.giver, wanted.taker: terms.taker}
        change = funding.move_change(wanted, names)
        return await trail.record(approval.conn, approval.by, change, at=approval.now)

    async def carry_out(
        self,
        pool: Pool,
        clearing: Clearing,
        terms: wire.FundsMove,
        *,
        proposal_no: int,
        body: bytes,
        keys: Path,
    ) -> Refusal | None:
        del keys
        wanted = await self._wanted(pool, terms)
        return await funding.move(
            clearing, wanted, key=key_bytes(f"proposal:{proposal_no}"), body=body
        )

    async def _wanted(self, pool: Pool, terms: wire.FundsMove) -> funding.Moved:
        if terms.cu == "0":
            raise SchemaError("$.terms.cu", "Expected an amount above 0")
        numbers = {**(await fetch_catalogue(pool)).by_code, **funding.PARTY_OF_WORD}
        for field in ("giver", "taker"):
            if getattr(terms, field) not in numbers:
                raise SchemaError(f"$.terms.{field}", f"nobody is called {getattr(terms, field)}")
        return funding.Moved(
            giver=numbers[terms.giver],
            giver_pot=Pot[terms.giver_pot.upper()],
            taker=numbers[terms.taker],
            taker_pot=Pot[terms.taker_pot.upper()],
            cu=int(terms.cu),
        )


class _Key(_Change):
    terms = wire.KeyTerms

    async def current(self, pool: Pool, terms: wire.KeyTerms, now: datetime) -> Terms | None:
        del now
        await _party(pool, terms.merchant)
        return None

    async def enact(self, approval: Approval, terms: wire.KeyTerms) -> bytes | Refusal:
        digest = await enact_key(
            approval.conn,
            bytes.fromhex(terms.sha256),
            merchant_no=await _party(approval.pool, terms.merchant),
            code=terms.merchant,
            label=terms.label,
            by=approval.by,
            now=approval.now,
        )
        return digest or Refusal(Reason.PROPOSAL_OUTDATED, "this key is there already")


class _CallerKey(_Change):
    terms = wire.CallerKeyTerms

    def subject(self, terms: wire.CallerKeyTerms) -> str:
        return self._request(terms).code

    async def current(self, pool: Pool, terms: wire.CallerKeyTerms, now: datetime) -> Terms | None:
        del now
        await _party(pool, self._request(terms).code)
        return None

    async def enact(self, approval: Approval, terms: wire.CallerKeyTerms) -> bytes | Refusal:
        wanted = self._request(terms)
        return await enact_registration(
            approval.conn,
            wanted,
            merchant_no=await _party(approval.pool, wanted.code),
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


class _Person(_Change):
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
            merchant_no=await _party(approval.pool, terms.merchant),
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


async def _party(pool: Pool, code: str) -> int:
    """Number of a merchant; 0 for HOUSE."""
    return HOUSE if code == "HOUSE" else await _merchant(pool, code)


ACTIONS: Final[Mapping[str, Controlled]] = {
    "merchant.join": _Join(),
    "merchant.connect": _Connect(),
    "rate.set": _Rate(),
    "tariff.set": _Tariff(),
    "member_rules.set": _Rules(),
    "cap.set": _Account(wire.CapChange, "cap_cu", SetCap),
    "collateral.set": _Account(wire.CollateralChange, "collateral_cu", SetCollateral),
    "calendar.set": _Calendar(),
    "arrangement.set": _Arrangement(),
    "cycle.settle": _Settle(),
    "cycle.default": _Default(),
    "funds.move": _Funds(),
    "api_key.issue": _Key(),
    "caller_key.register": _CallerKey(),
    "person.add": _Person(),
    "person.invite": _Invite(),
    "person.link": _Link(),
    "person.set_roles": _Roles(),
    "dispute.decide": DecideDispute(),
    "corrections.take": TakeCorrections(),
    "remainders.return": ReturnRemainders(),
    "compensation.give": GiveCompensation(),
}
"""Every change that can be proposed, by its name in the trail."""

INVITING: Final = frozenset({"person.add", "person.invite"})
"""Those whose checker gets the second part of an invitation."""
MONEY: Final = frozenset(
    {
        *("rate.set", "tariff.set", "cap.set", "collateral.set"),
        *("cycle.settle", "cycle.default", "funds.move"),
        *("dispute.decide", "corrections.take", "remainders.return", "compensation.give"),
    }
)
"""Those that a treasurer must approve."""


def terms_of(action: str, terms: object) -> Any:
    """Read the terms of a change.

    Raises:
        SchemaError: There is no such change, or its terms are malformed.
    """
    if action not in ACTIONS:
        raise SchemaError("$.action", f"Expected one of {', '.join(ACTIONS)}")
    check_plain(terms, at="$.terms")
    try:
        return msgspec.convert(terms, ACTIONS[action].terms)
    except msgspec.ValidationError as error:
        detail, _, path = str(error).partition(" - at `")
        place = path.removesuffix("`").removeprefix("$")
        raise SchemaError(f"$.terms{place}", detail) from None


async def set_alone(
    pool: Pool,
    clearing: Clearing,
    action: str,
    terms: object,
    *,
    keys: Path,
    by: By,
    now: datetime,
) -> Refusal | None:
    """Make a change for one person, who may as long as four eyes are not in force.

    Args:
        pool: Connections of the program.
        clearing: The writer.
        action: One of `ACTIONS` that invites nobody.
        terms: Its terms, as a proposal has them.
        keys: Folder of the operator's keys.
        by: Who makes it.
        now: Instant.

    Returns:
        None, or why it cannot be.

    Raises:
        SchemaError: The terms cannot be.
        SecondPersonNeeded: Four eyes are in force.
    """
    wanted, change = terms_of(action, terms), ACTIONS[action]
    await change.current(pool, wanted, now)
    async with pool.acquire() as conn, conn.transaction():
        approval = Approval(pool=pool, conn=conn, keys=keys, by=by, now=now, second=b"")
        digest = await change.enact(approval, wanted)
    if isinstance(digest, Refusal):
        return digest
    return await change.carry_out(
        pool, clearing, wanted, proposal_no=0, body=body_of(digest), keys=keys
    )


def body_of(digest: bytes) -> bytes:
    """What a command carries of an entry's digest."""
    return digest[:BODY_BYTES]
