"""Reversals: having an order taken back that cleared, in part or whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exchange.service.links import find_links
from exchange.store.journeys import fetch_travelled
from schemas.values.ids import key_bytes
from schemas.values.reason import Reason
from settlement.core.command import Reverse
from settlement.service import inquiry
from settlement.service.clearing import PART

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection

    from asyncpg import Pool

    from exchange.service.vaults import VaultDoor
    from schemas.wire.reversals import ReversalRequest
    from settlement.core.command import Entry
    from settlement.service.clearing import Clearing


_NO_ORDER: Final = 0
"""Sequence number that no event has: the writer answers that there is no such order."""


async def owners_of(pool: Pool, order_seqs: Collection[int]) -> dict[int, tuple[int, int] | None]:
    """To whom merchants' own systems would give back what these orders took there (rule V6).

    Returns:
        Member and issuer, by the order's first event; None for an exchange between systems, which is not taken back.
        An order that went through no such system is missing.
    """
    travelled = await fetch_travelled(pool, part=PART, order_seqs=order_seqs)
    return {
        seq: None if credited_units else (member_no, issuer)
        for seq, (member_no, issuer, credited_units) in travelled.items()
    }


async def members_of(pool: Pool, door: VaultDoor, order_seqs: Collection[int]) -> dict[int, str]:
    """Who the members of these orders are at the issuers' own systems, which give the points back (rule V6).

    Returns:
        By the order's first event; empty where the order is not taken back here. One that went through no such system
        is missing.
    """
    owners = await owners_of(pool, order_seqs)
    linked = await find_links(pool, door, [owner for owner in owners.values() if owner])
    return {seq: linked.get(owner, "") if owner else "" for seq, owner in owners.items()}


class ReversalDesk:
    """Each reversal is one command, decided with others in a group commit."""

    def __init__(self, *, clearing: Clearing, pool: Pool, door: VaultDoor) -> None:
        """Take the writer, near or far, the database, and the vault."""
        self._door = door
        self._clearing = clearing
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
        members = await members_of(self._pool, self._door, [order_seq])
        member = members.get(order_seq)
        command = Reverse(
            caller=caller,
            key=key_bytes(key),
            body=(await self._door.vault()).requests.of(wish.canonical(str(order))),
            order_seq=order_seq,
            units=int(wish.units or 0),
            reference=wish.reference,
            reason=Reason.REVERSAL_NOT_OFFERED.number if member == "" else 0,
            issuer_member=member or "",
        )
        [answer] = await self._clearing.submit([command])
        return answer[0]
