"""Transfers of points inside a household: one command each, decided with others in a group commit.

Source: settlement/RULES.md, rules P5, H4 and H6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.programme.core.command import Transfer
from exchange.programme.core.household import LOTS_MAX
from exchange.service.households import known_tokens
from exchange.service.orders import known_members
from exchange.store import households as store
from schemas.values.ids import key_bytes, order_id, order_place
from schemas.values.reason import REASON_BY_NUMBER, Reason, Refusal
from schemas.wire.fields import instant_text
from schemas.wire.households import TransferLot, TransferView
from settlement.core.event import Kind
from settlement.service.clearing import PART

if TYPE_CHECKING:
    import uuid

    from asyncpg import Pool

    from exchange.service.members import Members
    from exchange.service.shelf import Shelf
    from exchange.service.vaults import VaultDoor
    from schemas.wire.households import TransferRequest
    from settlement.service.clearing import Clearing


class TransferDesk:
    """Use cases around transfers."""

    def __init__(
        self, *, pool: Pool, clearing: Clearing, shelf: Shelf, members: Members, door: VaultDoor
    ) -> None:
        """Take the database, the writer, what is offered, who is enrolled, and the vault for digests."""
        self._pool = pool
        self._clearing = clearing
        self._shelf = shelf
        self._members = members
        self._door = door

    async def give(
        self, household: uuid.UUID, wish: TransferRequest, *, caller: int, key: str
    ) -> TransferView | Refusal:
        """Have points given; a refusal is final for its key as well.

        Args:
            household: The household.
            wish: Who gives whom how much.
            caller: Merchant number of the sender; 0 for the house.
            key: Idempotency key, already checked.

        Raises:
            Unavailable: The writer is away or its queue is full.
        """
        row = await store.fetch_household(self._pool, household=household, caller=caller)
        known = await known_members(self._members, (wish.giver, wish.receiver), caller=caller)
        giver_no, receiver_no = (known.get(name, 0) for name in (wish.giver, wish.receiver))
        reason = 0
        if row is None:
            reason = Reason.HOUSEHOLD_NOT_FOUND.number
        elif not giver_no or not receiver_no:
            reason = Reason.UNKNOWN_MEMBER.number
        command = Transfer(
            caller=caller,
            key=key_bytes(key),
            body=(await self._door.vault()).requests.of(wish.canonical(str(household))),
            household=household.bytes,
            merchant_no=row["merchant_no"] if row else caller,
            giver_no=giver_no,
            receiver_no=receiver_no,
            units=0 if reason else int(wish.units),
            reason=reason,
        )
        [answer] = await self._clearing.submit((command,))
        first, *received = answer
        if first.kind == Kind.REFUSED:
            refused = REASON_BY_NUMBER[first.reason]
            return Refusal(refused, refused.english)
        order = order_id(first.at_us, PART, first.seq)
        lots = [(each.units, each.lot_no, each.due_at_us) for each in received]
        return await self._view(
            household, order, first.issuer, first.at_us, (giver_no, receiver_no), lots, caller
        )

    async def show(
        self, household: uuid.UUID, order: uuid.UUID, *, caller: int
    ) -> TransferView | Refusal:
        """A transfer of a household of the caller's; or HOUSEHOLD_NOT_FOUND, ORDER_NOT_FOUND."""
        row = await store.fetch_household(self._pool, household=household, caller=caller)
        if row is None:
            return Refusal(Reason.HOUSEHOLD_NOT_FOUND, Reason.HOUSEHOLD_NOT_FOUND.english)
        missing = Refusal(Reason.ORDER_NOT_FOUND, "the household has no such transfer")
        try:
            part, seq = order_place(order)
        except ValueError:
            return missing
        events = await store.fetch_transfer(
            self._pool, part=PART, order_seq=seq, events_max=LOTS_MAX + 1
        )
        if part != PART or not events or order_id(events[0]["at_us"], PART, seq) != order:
            return missing
        first, *received = events
        if first["reference"] != household.hex or first["issuer"] != row["merchant_no"]:
            return missing
        lots = [(each["units"], each["lot_no"], each["due_at_us"]) for each in received]
        sides = first["member_no"], received[0]["member_no"]
        return await self._view(
            household, order, first["issuer"], first["at_us"], sides, lots, caller
        )

    async def _view(
        self,
        household: uuid.UUID,
        order: uuid.UUID,
        merchant_no: int,
        at_us: int,
        sides: tuple[int, int],
        lots: list[tuple[int, int, int]],
        caller: int,
        /,
    ) -> TransferView:
        offer = await self._shelf.offer()
        tokens = await known_tokens(self._members, sides, caller=caller)
        giver_no, receiver_no = sides
        return TransferView(
            order_id=str(order),
            household_id=str(household),
            merchant=offer.codes.get(merchant_no, ""),
            state="cleared",
            at=instant_text(at_us),
            units=str(sum(units for units, _, _ in lots)),
            lots=[
                TransferLot(units=str(units), lot_no=str(lot_no), expires_at=instant_text(due_us))
                for units, lot_no, due_us in lots
            ],
            giver=tokens.get(giver_no),
            receiver=tokens.get(receiver_no),
        )
