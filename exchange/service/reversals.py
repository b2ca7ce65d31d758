"""Reversals: having an order taken back that cleared, in part or whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exchange.store.journeys import fetch_journey_of_order
from schemas.values.ids import key_bytes
from schemas.values.reason import Reason
from settlement.core.command import Reverse
from settlement.service import inquiry
from settlement.service.clearing import PART

if TYPE_CHECKING:
    import uuid

    from asyncpg import Pool

    from exchange.service.links import LinkDesk
    from exchange.service.vaults import VaultDoor
    from schemas.wire.reversals import ReversalRequest
    from settlement.core.command import Entry
    from settlement.service.clearing import Clearing


_NO_ORDER: Final = 0
"""Sequence number that no event has: the writer answers that there is no such order."""


class ReversalDesk:
    """Each reversal is one command, decided with others in a group commit."""

    def __init__(self, *, clearing: Clearing, pool: Pool, links: LinkDesk, door: VaultDoor) -> None:
        """Take the writer, near or far, the database, who members are at merchants' own systems, and the vault."""
        self._door = door
        self._clearing = clearing
        self._links = links
        self._pool = pool

    async def reverse(
        self, order: uuid.UUID, wish: ReversalRequest, *, caller: int, key: str
    ) -> Entry:
        """Have an order taken back.

        Args:
            order: The order's id.
            wish: What of it.
            caller: Merchant number of the sender; 0 for the house.
            key: Idempotency key, already checked.

        Returns:
            The reversal, with figures below 0; or of kind REFUSED with the reason's number.

        Raises:
            Unavailable: The writer is away or its queue is full.

        Source: settlement/RULES.md, rules V1 to V6.
        """
        events = await inquiry.find_order(self._pool, order)
        order_seq = events[0]["seq"] if events else _NO_ORDER
        journey = await fetch_journey_of_order(self._pool, part=PART, order_seq=order_seq)
        member, reason = "", 0
        if journey is not None:
            travelled = journey.wanted.order
            place = travelled.member_no, travelled.issuer
            member = (await self._links.find([place])).get(place, "")
            if travelled.credited_units or not member:
                reason = Reason.REVERSAL_NOT_OFFERED.number
        command = Reverse(
            caller=caller,
            key=key_bytes(key),
            body=(await self._door.vault()).requests.of(wish.canonical(str(order))),
            order_seq=order_seq,
            units=int(wish.units or 0),
            reference=wish.reference,
            reason=reason,
            issuer_member=member,
        )
        [answer] = await self._clearing.submit([command])
        return answer[0]
