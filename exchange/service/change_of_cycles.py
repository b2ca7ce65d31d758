"""Changes of cycles and of money that need two people: calendars, arrangements, settling, defaults and funds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from exchange.service.change import Approval, Controlled, OfMerchant, merchant_of
from exchange.store.catalogue import fetch_catalogue
from schemas.values.faults import SchemaError
from schemas.values.ids import key_bytes
from schemas.values.reason import Reason, Refusal
from schemas.wire import proposals as wire
from settlement.core.arrangement import MAIN_CODE, Model
from settlement.core.calendar import CalendarChange
from settlement.core.command import Pot
from settlement.service import cycles, funding, settling, trail
from settlement.service.arrangements import carry_out_arrangement, enact_arrangement, list_pairs
from settlement.service.objections import open_objections

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Pool

    from schemas.files.trail import Terms
    from settlement.service.clearing import Clearing
    from settlement.service.objections import Objections


class _Calendar(OfMerchant):
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


class _Arrangement(OfMerchant):
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
                (await merchant_of(pool, one), await merchant_of(pool, other))
                for one, other in terms.pairs
            ],
            body=body,
        )


class _Settle(OfMerchant):
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


class _Default(OfMerchant):
    """A merchant's default: the entry allows `tongdui settle --default`, which takes the steps."""

    terms = wire.DefaultTerms

    def subject(self, terms: wire.DefaultTerms) -> str:
        return terms.cycle

    async def current(self, pool: Pool, terms: wire.DefaultTerms, now: datetime) -> Terms | None:
        del now
        await merchant_of(pool, terms.debtor)
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


class _Funds(OfMerchant):
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


OF_CYCLES: Final[Mapping[str, Controlled]] = {
    "calendar.set": _Calendar(),
    "arrangement.set": _Arrangement(),
    "cycle.settle": _Settle(),
    "cycle.default": _Default(),
    "funds.move": _Funds(),
}
"""Each change, by its name in the trail."""
