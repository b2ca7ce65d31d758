"""What a merchant or the house may see: orders, members' points, positions, cycles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from adapters.kit.reference import step_of
from exchange.core.journey import Verdict
from exchange.core.order import LET_GO
from exchange.programme.core.calls import BY_CALL
from exchange.store.balances import fetch_balances, fetch_history
from exchange.store.journeys import fetch_journey_of_order
from schemas.files.instant import microseconds
from schemas.values.ids import HOUSE, order_id
from schemas.values.reason import REASON_BY_NUMBER, Reason, Refusal
from schemas.wire.adjustments import AdjustmentView
from schemas.wire.cycles import CycleView, PositionsAnswer, PositionView
from schemas.wire.fields import instant_text
from schemas.wire.members import BalancesAnswer, BalanceView, HistoryLine, LotView
from schemas.wire.merchants import MerchantView
from schemas.wire.orders import OrderView
from schemas.wire.problems import reason_problem
from schemas.wire.reversals import ReversalView
from settlement.core.arrangement import MAIN_CODE
from settlement.core.event import Kind
from settlement.service import cycles, inquiry, parties
from settlement.service.clearing import PART

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Pool, Record

    from exchange.core.journey import Journey
    from exchange.service.members import Members
    from exchange.service.shelf import Shelf

KIND_NAMES: Final = {
    Kind.ACCEPTED: "accepted",
    Kind.REFUSED: "refused",
    Kind.CLEARED: "cleared",
    Kind.VOIDED: "voided",
    Kind.EXPIRED: "expired",
    Kind.ACCRUED: "accrued",
    Kind.LAPSED: "lapsed",
    Kind.TAKEN: "taken",
    Kind.RETURNED: "returned",
    Kind.CREDITED: "credited",
    Kind.WITHDRAWN: "withdrawn",
    Kind.REVERSED: "reversed",
    Kind.GIVEN: "given",
    Kind.RECEIVED: "received",
}
_LAST_SEQ: Final = 2**63 - 1


class Reports:
    """Reads for one caller at a time; a merchant (number above 0) sees what concerns it, the house everything."""

    def __init__(
        self,
        *,
        pool: Pool,
        shelf: Shelf,
        members: Members,
        packages: Path,
        now_us: Callable[[], int],
    ) -> None:
        """Take what is read from.

        Args:
            pool: The database.
            shelf: What is offered.
            members: Who is enrolled.
            packages: Folder of the settlement packages.
            now_us: Clock, microseconds since 1970.
        """
        self._pool = pool
        self._shelf = shelf
        self._members = members
        self._packages = packages
        self._now_us = now_us
        self._cycle_names: dict[int, str] = {}

    # Orders ---------------------------------------------------------------------------------------

    async def cycle_name(self, cycle_no: int) -> str:
        """Id of a cycle; read once, since it never changes. Empty before the first cycle."""
        name = self._cycle_names.get(cycle_no)
        if name is None:
            for row in await cycles.list_cycles(self._pool):
                self._cycle_names[row["cycle_no"]] = row["cycle_id"]
            name = self._cycle_names.get(cycle_no, "")
        return name

    async def order(self, order: uuid.UUID, *, caller: int) -> OrderView | Refusal:
        """One order as the journal has it.

        Returns:
            The order, or ORDER_NOT_FOUND, also for an order in which the caller has no part.
        """
        rows = await inquiry.find_order(self._pool, order)
        if (
            not rows
            or rows[0]["kind"] == Kind.GIVEN
            or caller
            not in (
                HOUSE,
                rows[0]["caller"],
                rows[0]["issuer"],
                rows[0]["acceptor"],
            )
        ):
            return Refusal(Reason.ORDER_NOT_FOUND, "no such order is known to this caller")
        first, last = rows[0], rows[-1]
        offer = await self._shelf.offer()
        rate = next(
            (
                numbered.rate
                for numbered in offer.catalogue.spend.get(first["issuer"], ())
                if numbered.rate_no == first["rate_no"]
            ),
            None,
        )
        refused = last["kind"] == Kind.REFUSED
        reason = REASON_BY_NUMBER[last["reason"]] if refused else None
        journey = None
        if offer.catalogue.connected:
            journey = await fetch_journey_of_order(self._pool, part=PART, order_seq=first["seq"])
        if journey is not None and reason is None:
            reason = _why_undone(journey)
        reversals: list[ReversalView] = []
        adjustments: list[AdjustmentView] = []
        if last["kind"] == Kind.CLEARED:
            reversals = [
                await self._reversal(row, travels=journey is not None)
                for row in await inquiry.find_reversals(self._pool, first["seq"])
            ]
            adjustments = [
                await self._adjustment(row)
                for row in await inquiry.find_adjustments(self._pool, first["seq"])
            ]
        return OrderView(
            order_id=str(order),
            status=KIND_NAMES[last["kind"]],  # type: ignore[arg-type] # an order's kinds are these
            cycle=await self.cycle_name(last["cycle_no"]),
            occurred_at=instant_text(first["occurred_at_us"]),
            accepted_at=instant_text(first["at_us"]),
            ended_at=instant_text(last["at_us"]) if last["kind"] != Kind.ACCEPTED else None,
            hold_until=instant_text(first["due_at_us"]) if first["kind"] == Kind.ACCEPTED else None,
            issuer=offer.codes.get(first["issuer"], ""),
            acceptor=offer.codes.get(first["acceptor"], ""),
            units=str(first["units"]),
            debit_cu=str(first["debit_cu"]),
            value_cu=str(first["value_cu"]),
            fee_cu=str(first["fee_cu"]),
            remainder_cu=str(first["debit_cu"] - first["value_cu"]),
            credited_units=str(first["credited_units"]),
            rate_cu=str(rate.num) if rate else None,
            rate_units=str(rate.den) if rate else None,
            reference=first["reference"] if caller in (HOUSE, first["caller"]) else None,
            problem=reason_problem(reason) if reason else None,
            journey=journey.state.name.lower() if journey else None,
            stuck=journey is not None and journey.stuck_since_us > 0,
            reversed_units=str(sum(int(each.units) for each in reversals)) if reversals else None,
            reversals=reversals,
            adjustments=adjustments,
        )

    async def _reversal(self, row: Record, *, travels: bool) -> ReversalView:
        journey = None
        if travels:
            journey = await fetch_journey_of_order(self._pool, part=PART, order_seq=row["seq"])
        return ReversalView(
            reversal_id=str(order_id(row["at_us"], PART, row["seq"])),
            at=instant_text(row["at_us"]),
            cycle=await self.cycle_name(row["cycle_no"]),
            units=str(row["units"]),
            debit_cu=str(row["debit_cu"]),
            value_cu=str(row["value_cu"]),
            fee_cu=str(row["fee_cu"]),
            remainder_cu=str(row["debit_cu"] - row["value_cu"]),
            credited_units=str(row["credited_units"]) if row["credited_units"] else None,
            new_lot_until=instant_text(row["due_at_us"]) if row["lot_no"] else None,
            journey=journey.state.name.lower() if journey else None,
        )

    async def _adjustment(self, row: Record) -> AdjustmentView:
        return AdjustmentView(
            adjustment_id=str(order_id(row["at_us"], PART, row["seq"])),
            at=instant_text(row["at_us"]),
            cycle=await self.cycle_name(row["cycle_no"]),
            debit_cu=str(row["debit_cu"]),
            value_cu=str(row["value_cu"]),
            fee_cu=str(row["fee_cu"]),
            remainder_cu=str(row["debit_cu"] - row["value_cu"]),
            reference=row["reference"],
        )

    # Members --------------------------------------------------------------------------------------

    async def balances(self, token: str, *, caller: int) -> BalancesAnswer | Refusal:
        """Live points of a member, or UNKNOWN_MEMBER; a merchant sees its own programme only."""
        member_no = (await self._members.find([token], caller=caller)).get(token)
        if member_no is None:
            return Refusal(Reason.UNKNOWN_MEMBER, Reason.UNKNOWN_MEMBER.english)
        wall_us = self._now_us()
        now_us = await inquiry.ledger_now_us(self._pool, now_us=wall_us)
        offer = await self._shelf.offer()
        lots: dict[int, list[LotView]] = {}
        totals: dict[int, int] = {}
        for row in await fetch_balances(
            self._pool, part=PART, member_no=member_no, at_us=now_us, merchant_no=caller
        ):
            merchant_no = row["merchant_no"]
            totals[merchant_no] = totals.get(merchant_no, 0) + row["units"]
            lots.setdefault(merchant_no, []).append(
                LotView(units=str(row["units"]), expires_at=instant_text(row["expires_at_us"]))
            )
        views: list[BalanceView] = []
        for merchant_no, units in totals.items():
            programme = offer.catalogue.programmes[merchant_no]
            rate = offer.catalogue.spend_rate(merchant_no, wall_us)
            views.append(
                BalanceView(
                    merchant=programme.code,
                    unit=programme.unit,
                    scale=programme.scale,
                    units=str(units),
                    worth_cu=str(rate.rate.cu_floor(units) if rate else 0),
                    lots=lots[merchant_no],
                )
            )
        views.sort(key=lambda view: view.merchant)
        return BalancesAnswer(member=token, as_of=instant_text(now_us), balances=views)

    async def history(
        self, token: str, *, caller: int, before: int | None, limit: int
    ) -> list[HistoryLine] | Refusal:
        """What happened to a member's points, newest first, or UNKNOWN_MEMBER.

        Args:
            token: The member, as the caller names them.
            caller: A merchant sees the events in which it is issuer or acceptor.
            before: Sequence number below which to begin; None for the newest.
            limit: Most lines.
        """
        member_no = (await self._members.find([token], caller=caller)).get(token)
        if member_no is None:
            return Refusal(Reason.UNKNOWN_MEMBER, Reason.UNKNOWN_MEMBER.english)
        rows = await fetch_history(
            self._pool,
            part=PART,
            member_no=member_no,
            before_seq=_LAST_SEQ if before is None else min(before, _LAST_SEQ),
            merchant_no=caller,
            limit=limit,
        )
        offer = await self._shelf.offer()
        return [_history_line(row, offer.codes.get) for row in rows]

    # Merchants ------------------------------------------------------------------------------------

    async def merchants(
        self, *, caller: int, after: str, hosted: bool | None, limit: int
    ) -> list[MerchantView]:
        """Merchants after a code, hosted ones or others alone; the figures under the cap only for the house."""
        offer = await self._shelf.offer()
        by_code = sorted(
            (programme.code, merchant_no)
            for merchant_no, programme in offer.catalogue.programmes.items()
            if programme.code > after and hosted in (None, programme.hosted)
        )
        numbers = [merchant_no for _, merchant_no in by_code[:limit]]
        views: list[MerchantView] = []
        for row in await parties.list_parties(self._pool, numbers=numbers):
            programme = offer.catalogue.programmes[row["merchant_no"]]
            view = MerchantView(
                code=row["code"],
                name=row["name"],
                hosted=programme.hosted,
                unit=programme.unit,
                scale=programme.scale,
            )
            if caller == HOUSE and row["cap_cu"] is not None:
                view = msgspec.structs.replace(
                    view,
                    cap_cu=str(row["cap_cu"]),
                    collateral_cu=str(row["collateral_cu"]),
                    held_cu=str(row["held_cu"]),
                )
            views.append(view)
        return sorted(views, key=lambda view: view.code)

    # Cycles ---------------------------------------------------------------------------------------

    async def positions(
        self, cycle: str | None, *, caller: int, after: str | None, limit: int
    ) -> PositionsAnswer | None:
        """Where those after a party stand in a cycle (the open one for None); None if there is no such cycle.

        The database tells everybody's figures at once, which is one statement for any page: parties are hundreds.
        """
        found = await self._cycle(cycle)
        if found is None:
            return None
        offer = await self._shelf.offer()
        is_open = found["state"] == "open"
        views = [
            _position(row, offer.codes.get(row["merchant_no"], ""), is_open=is_open)
            for row in await inquiry.standing(self._pool, cycle_no=found["cycle_no"])
            if caller in (HOUSE, row["merchant_no"])
        ]
        views = sorted(
            (each for each in views if after is None or each.party > after),
            key=lambda view: view.party,
        )
        return PositionsAnswer(
            cycle=found["cycle_id"], state=found["state"], positions=views[:limit], next=None
        )

    async def cycles(
        self, *, caller: int, after: int, state: str | None, limit: int
    ) -> list[CycleView]:
        """Cycles after a number, oldest first, in one state alone; counts and gross only for the house."""
        return [
            self._cycle_view(row, caller)
            for row in await cycles.page_of_cycles(
                self._pool, after_no=after, state=state, limit=limit
            )
        ]

    async def cycle(self, cycle: str, *, caller: int) -> CycleView | None:
        """One cycle; None if there is no such one."""
        found = await self._cycle(cycle)
        return None if found is None else self._cycle_view(found, caller)

    async def _cycle(self, cycle: str | None) -> Record | None:
        for row in reversed(await cycles.list_cycles(self._pool)):
            if cycle == row["cycle_id"]:
                return row
            if cycle is None and row["state"] == "open" and row["arrangement"] == MAIN_CODE:
                return row
        return None

    def _cycle_view(self, row: Record, caller: int) -> CycleView:
        house = caller == HOUSE
        return CycleView(
            cycle=row["cycle_id"],
            number=row["cycle_no"],
            state=row["state"],
            arrangement=row["arrangement"],
            opened_at=_text(row["opened_at"]) or "",
            cut_off_at=_text(row["cut_off_at"]),
            closed_at=_text(row["closed_at"]),
            settled_at=_text(row["settled_at"]),
            package=(self._packages / row["cycle_id"] / "manifest.json").is_file(),
            orders=str(row["orders"]) if house else None,
            gross_cu=str(row["gross_cu"]) if house else None,
        )


def _why_undone(journey: Journey) -> Reason | None:
    """Why a till heard no of an order between merchants' own systems; None if it did not."""
    if journey.verdict is Verdict.LATE:
        return Reason.DECIDED_TOO_LATE
    return REASON_BY_NUMBER.get(journey.reason) if journey.state in LET_GO else None


def _text(at: datetime | None) -> str | None:
    return None if at is None else instant_text(microseconds(at))


def _position(row: Record, party: str, *, is_open: bool) -> PositionView:
    view = PositionView(party=party, net_cu=str(row["net_cu"]))
    if row["cap_cu"] is None:
        return view
    headroom_cu = (
        row["cap_cu"] + row["collateral_cu"] + row["unsettled_cu"] - row["held_cu"] + row["net_cu"]
    )
    return msgspec.structs.replace(
        view,
        cap_cu=str(row["cap_cu"]),
        collateral_cu=str(row["collateral_cu"]),
        held_cu=str(row["held_cu"]),
        headroom_cu=str(headroom_cu) if is_open else None,
    )


def _history_line(row: Record, code: Callable[[int, str], str]) -> HistoryLine:
    kind = row["kind"]
    of_order = kind in (Kind.CLEARED, Kind.REVERSED)
    order = None
    if of_order or kind in (Kind.GIVEN, Kind.RECEIVED):
        order = order_id(row["accepted_at_us"], PART, row["order_seq"])
    elif kind in BY_CALL:
        order, _ = step_of(row["reference"])
    return HistoryLine(
        seq=str(row["seq"]),
        at=instant_text(row["at_us"]),
        occurred_at=instant_text(row["occurred_at_us"]),
        kind=KIND_NAMES[kind],  # type: ignore[arg-type] # the statement reads these kinds only
        issuer=code(row["issuer"], ""),
        units=str(abs(row["units"])),
        acceptor=code(row["acceptor"], "") if of_order else None,
        value_cu=str(abs(row["value_cu"])) if of_order else None,
        credited_units=str(abs(row["credited_units"])) if row["credited_units"] else None,
        order_id=str(order) if order else None,
    )
