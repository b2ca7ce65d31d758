"""Households of members: their making, invitations, consents and leaving, and what programmes allow.

Every change of who is in a household locks the member, then the household, in this order.

Source: settlement/RULES.md, rules H1 to H3, H5 and H7; Personal Information Protection Law, articles 14 to 16.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from exchange.programme.core.household import INVITATION_DAYS, HouseholdRules
from exchange.service.access import Forbidden
from exchange.service.orders import known_members
from exchange.store import households as store
from exchange.store.members import lock_member
from schemas.values.faults import SchemaError
from schemas.values.ids import HOUSE
from schemas.values.reason import Reason, Refusal
from schemas.wire.fields import instant_text, microseconds
from schemas.wire.households import (
    HouseholdMemberView,
    HouseholdRulesAnswer,
    HouseholdsAnswer,
    HouseholdView,
)
from settlement.core.trail import Change
from settlement.service import trail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from asyncpg import Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from exchange.service.members import Members
    from exchange.service.shelf import Shelf
    from schemas.wire.households import (
        HouseholdRequest,
        HouseholdRulesRequest,
        InvitationRequest,
        JoinRequest,
        LeaveRequest,
    )
    from settlement.core.trail import By


class HouseholdDesk:
    """Use cases around households; transfers are the `TransferDesk`'s."""

    def __init__(
        self, *, pool: Pool, shelf: Shelf, members: Members, now: Callable[[], datetime]
    ) -> None:
        """Take what the desk works with."""
        self._pool = pool
        self._shelf = shelf
        self._members = members
        self._now = now

    # What programmes allow -------------------------------------------------------------------------

    async def set_rules(
        self, code: str, wanted: HouseholdRulesRequest, *, caller: int, by: By
    ) -> HouseholdRulesAnswer | Refusal:
        """Set what a programme allows its households; counts for every command that is decided after the answer.

        Returns:
            The rules; or UNKNOWN_MERCHANT, also for another merchant than the caller, HOUSEHOLD_NOT_OFFERED for
            one that keeps its own points.

        Raises:
            SchemaError: A figure is beyond the house's bounds.
        """
        wanted.check()
        merchant_no = await self._own(code, caller=caller)
        if isinstance(merchant_no, Refusal):
            return merchant_no
        rules = HouseholdRules(
            offered=wanted.offered,
            members_max=wanted.members_max,
            transfer_units_max=int(wanted.transfer_units_max),
            daily_units=int(wanted.daily_units),
            daily_transfers=wanted.daily_transfers,
            monthly_units=int(wanted.monthly_units),
            monthly_transfers=wanted.monthly_transfers,
            cooling_days=wanted.cooling_days,
        )
        async with self._pool.acquire() as conn, conn.transaction():
            before = await store.fetch_rules(conn, merchant_no=merchant_no)
            await store.insert_rules(conn, merchant_no=merchant_no, rules=rules, now=self._now())
            after = await store.fetch_rules(conn, merchant_no=merchant_no)
            assert after is not None
            change = Change(
                action="household_rules.set",
                subject=code,
                before=None if before is None else _terms(before),
                after=_terms(after),
            )
            await trail.record(conn, by, change, at=self._now())
        return _rules_answer(code, after)

    async def rules(self, code: str, *, caller: int) -> HouseholdRulesAnswer | Refusal:
        """What a programme allows its households; UNKNOWN_MERCHANT, or HOUSEHOLD_NOT_OFFERED where nothing is set."""
        merchant_no = await self._own(code, caller=caller)
        if isinstance(merchant_no, Refusal):
            return merchant_no
        found = await store.fetch_rules(self._pool, merchant_no=merchant_no)
        if found is None:
            return Refusal(Reason.HOUSEHOLD_NOT_OFFERED, f"{code} has set no rules for households")
        return _rules_answer(code, found)

    async def _own(self, code: str, *, caller: int) -> int | Refusal:
        """Number of the hosted programme that a caller speaks for."""
        catalogue = (await self._shelf.offer_with(code)).catalogue
        merchant_no = catalogue.by_code.get(code)
        if merchant_no is None or caller not in (HOUSE, merchant_no):
            return Refusal(Reason.UNKNOWN_MERCHANT, Reason.UNKNOWN_MERCHANT.english)
        if not catalogue.programmes[merchant_no].hosted:
            return Refusal(
                Reason.HOUSEHOLD_NOT_OFFERED,
                f"{code} keeps its own points, and its households with them",
            )
        return merchant_no

    # Who is in a household -------------------------------------------------------------------------

    async def make(self, wanted: HouseholdRequest, *, caller: int) -> HouseholdView | Refusal:
        """Make a household with its head's consent.

        Returns:
            The household; or UNKNOWN_MERCHANT, HOUSEHOLD_NOT_OFFERED, UNKNOWN_MEMBER, ALREADY_IN_HOUSEHOLD,
            HOUSEHOLD_COOLING, in this order.

        Raises:
            SchemaError: The house does not say whose programme.
            Forbidden: A merchant names another one.
        """
        offer = await self._shelf.offer()
        if wanted.merchant is None and caller == HOUSE:
            raise SchemaError("$.merchant", "Expected `merchant`: the house has no programme")
        code = wanted.merchant or offer.codes.get(caller, "")
        if caller != HOUSE and code != offer.codes.get(caller):
            raise Forbidden("a merchant makes households of its own programme only")
        merchant_no = await self._own(code, caller=caller)
        if isinstance(merchant_no, Refusal):
            return merchant_no
        head_no = await self._find(wanted.head, caller=caller)
        if isinstance(head_no, Refusal):
            return head_no
        household, now = uuid.uuid4(), self._now()
        async with self._pool.acquire() as conn, conn.transaction():
            why = await self._why_not_join(conn, head_no, merchant_no, now)
            if why is not None:
                return why
            await store.insert_household(
                conn, household=household, merchant_no=merchant_no, now=now
            )
            membership = await store.insert_invitation(
                conn, household=household, merchant_no=merchant_no, member_no=head_no, head=True,
                now=now, until=now,
            )  # fmt: skip
            await store.join(
                conn,
                membership_no=membership,
                purpose=wanted.purpose,
                text_version=wanted.text_version,
                now=now,
            )
        return await self._view(household, caller=caller)

    async def show(self, household: uuid.UUID, *, caller: int) -> HouseholdView | Refusal:
        """A household of the caller's programme, or HOUSEHOLD_NOT_FOUND."""
        return await self._view(household, caller=caller)

    async def of_member(self, token: str, *, caller: int) -> HouseholdsAnswer | Refusal:
        """Households of the caller's programme that a member is in or is invited to, or UNKNOWN_MEMBER."""
        member_no = await self._find(token, caller=caller)
        if isinstance(member_no, Refusal):
            return member_no
        found = [
            await self._view(household, caller=caller)
            for household in await store.fetch_households_of(
                self._pool, member_no=member_no, caller=caller, now=self._now()
            )
        ]
        return HouseholdsAnswer(
            households=[each for each in found if not isinstance(each, Refusal)]
        )

    async def invite(
        self, household: uuid.UUID, wanted: InvitationRequest, *, caller: int
    ) -> HouseholdView | Refusal:
        """Invite a member at the head's word; an invitation that is open or was taken up stays as it is.

        Returns:
            The household; or UNKNOWN_MEMBER, HOUSEHOLD_NOT_FOUND, HOUSEHOLD_NOT_OFFERED, HEAD_ONLY, HOUSEHOLD_FULL,
            in this order.
        """
        found = await self._find_both(wanted, caller=caller)
        if isinstance(found, Refusal):
            return found
        head_no, member_no = found
        now = self._now()
        async with self._pool.acquire() as conn, conn.transaction():
            if not await lock_member(conn, member_no=member_no):
                return _no(Reason.UNKNOWN_MEMBER)
            row = await store.lock_household(conn, household=household, caller=caller)
            if row is None:
                return _no(Reason.HOUSEHOLD_NOT_FOUND)
            rules = await store.fetch_rules(conn, merchant_no=row["merchant_no"])
            if rules is None or not rules["offered"]:
                return _no(Reason.HOUSEHOLD_NOT_OFFERED)
            members = await store.fetch_members(conn, household=household, now=now)
            if members[0]["member_no"] != head_no:
                return _no(Reason.HEAD_ONLY)
            if all(each["member_no"] != member_no for each in members):
                if len(members) >= rules["members_max"]:
                    return _no(Reason.HOUSEHOLD_FULL)
                await store.insert_invitation(
                    conn, household=household, merchant_no=row["merchant_no"], member_no=member_no,
                    head=False, now=now, until=now + timedelta(days=INVITATION_DAYS),
                )  # fmt: skip
        return await self._view(household, caller=caller)

    async def join(
        self, household: uuid.UUID, wanted: JoinRequest, *, caller: int
    ) -> HouseholdView | Refusal:
        """Have an invited member join by their consent; who has joined this household stays as they are.

        Returns:
            The household; or UNKNOWN_MEMBER, HOUSEHOLD_NOT_FOUND, NOT_INVITED, HOUSEHOLD_NOT_OFFERED,
            ALREADY_IN_HOUSEHOLD, HOUSEHOLD_COOLING, in this order.
        """
        member_no = await self._find(wanted.member, caller=caller)
        if isinstance(member_no, Refusal):
            return member_no
        now = self._now()
        async with self._pool.acquire() as conn, conn.transaction():
            if not await lock_member(conn, member_no=member_no):
                return _no(Reason.UNKNOWN_MEMBER)
            row = await store.lock_household(conn, household=household, caller=caller)
            if row is None:
                return _no(Reason.HOUSEHOLD_NOT_FOUND)
            members = await store.fetch_members(conn, household=household, now=now)
            mine = _of(members, member_no)
            if mine is None:
                return _no(Reason.NOT_INVITED)
            if mine["joined_at"] is None:
                why = await self._why_not_join(conn, member_no, row["merchant_no"], now)
                if why is not None:
                    return why
                await store.join(
                    conn,
                    membership_no=mine["membership_no"],
                    purpose=wanted.purpose,
                    text_version=wanted.text_version,
                    now=now,
                )
        return await self._view(household, caller=caller)

    async def leave(
        self, household: uuid.UUID, wanted: LeaveRequest, *, caller: int
    ) -> HouseholdView | Refusal:
        """Withdraw a consent or an invitation, decline one, or remove a member; the head's leaving dissolves it.

        Returns:
            What is left; or UNKNOWN_MEMBER, HOUSEHOLD_NOT_FOUND, HEAD_ONLY, NOT_IN_HOUSEHOLD, in this order.
        """
        found = await self._find_both(wanted, caller=caller)
        if isinstance(found, Refusal):
            return found
        by_no, member_no = found
        now = self._now()
        async with self._pool.acquire() as conn, conn.transaction():
            if await store.lock_household(conn, household=household, caller=caller) is None:
                return _no(Reason.HOUSEHOLD_NOT_FOUND)
            members = await store.fetch_members(conn, household=household, now=now)
            mine = _of(members, member_no)
            if by_no not in (member_no, members[0]["member_no"]):
                return _no(Reason.HEAD_ONLY)
            if mine is None:
                return _no(Reason.NOT_IN_HOUSEHOLD)
            own, joined = by_no == member_no, mine["joined_at"] is not None
            why = {
                (True, True): "left",
                (True, False): "declined",
                (False, True): "removed",
                (False, False): "withdrawn",
            }[own, joined]
            await store.leave(conn, membership_no=mine["membership_no"], why=why, now=now)
            if mine["head"]:
                await store.dissolve(conn, household=household, now=now)
        return await self._view(household, caller=caller)

    async def _why_not_join(
        self, conn: PoolConnectionProxy, member_no: int, merchant_no: int, now: datetime
    ) -> Refusal | None:
        """Say why a member may not join any household of a programme now, and lock them; None if they may."""
        rules = await store.fetch_rules(conn, merchant_no=merchant_no)
        if rules is None or not rules["offered"]:
            return _no(Reason.HOUSEHOLD_NOT_OFFERED)
        if not await lock_member(conn, member_no=member_no):
            return _no(Reason.UNKNOWN_MEMBER)
        joined, left_at = await store.fetch_standing(
            conn, member_no=member_no, merchant_no=merchant_no
        )
        if joined:
            return _no(Reason.ALREADY_IN_HOUSEHOLD)
        cooling = timedelta(days=rules["cooling_days"])
        if left_at is not None and now < left_at + cooling:
            until = instant_text(microseconds(left_at + cooling))
            return Refusal(Reason.HOUSEHOLD_COOLING, f"the member may join from {until} on")
        return None

    async def _find(self, name: str, *, caller: int) -> int | Refusal:
        member_no = (await known_members(self._members, (name,), caller=caller)).get(name)
        return _no(Reason.UNKNOWN_MEMBER) if member_no is None else member_no

    async def _find_both(
        self, wanted: InvitationRequest | LeaveRequest, *, caller: int
    ) -> tuple[int, int] | Refusal:
        """Who says so, and about whom."""
        names = (wanted.by, wanted.member)
        known = await known_members(self._members, names, caller=caller)
        by_no, member_no = (known.get(name) for name in names)
        if by_no is None or member_no is None:
            return _no(Reason.UNKNOWN_MEMBER)
        return by_no, member_no

    async def _view(self, household: uuid.UUID, *, caller: int) -> HouseholdView | Refusal:
        row = await store.fetch_household(self._pool, household=household, caller=caller)
        if row is None:
            return _no(Reason.HOUSEHOLD_NOT_FOUND)
        offer = await self._shelf.offer()
        members = await store.fetch_members(self._pool, household=household, now=self._now())
        tokens = await known_tokens(
            self._members, [each["member_no"] for each in members], caller=caller
        )
        return HouseholdView(
            household_id=str(household),
            merchant=offer.codes.get(row["merchant_no"], ""),
            state="active" if row["dissolved_at"] is None else "dissolved",
            made_at=_text(row["made_at"]),
            members=[
                HouseholdMemberView(
                    member=tokens.get(each["member_no"]),
                    head=each["head"],
                    state="invited" if each["joined_at"] is None else "joined",
                    since=_text(each["joined_at"] or each["invited_at"]),
                    invited_until=_text(each["invited_until"])
                    if each["joined_at"] is None
                    else None,
                )
                for each in members
            ],
        )


async def known_tokens(
    members: Members, member_nos: Sequence[int], *, caller: int
) -> dict[int, str]:
    """What a caller calls members, by surrogate; whom it does not know (any more) is missing."""
    tokens = {each: await members.token_for(each, merchant_no=caller) for each in member_nos}
    known = await members.find(list(tokens.values()), caller=caller)
    return {member_no: token for member_no, token in tokens.items() if token in known}


def _of(members: Sequence[Record], member_no: int) -> Record | None:
    return next((each for each in members if each["member_no"] == member_no), None)


def _no(reason: Reason) -> Refusal:
    return Refusal(reason, reason.english)


def _text(at: datetime) -> str:
    return instant_text(microseconds(at))


def _terms(row: Record) -> dict[str, str | int | bool]:
    """Rules as the trail is told: amounts as digits."""
    return {name: str(value) if "units" in name else value for name, value in row.items()}


def _rules_answer(code: str, row: Record) -> HouseholdRulesAnswer:
    return HouseholdRulesAnswer(merchant=code, **_terms(row))  # type: ignore[arg-type] # the columns are its fields
