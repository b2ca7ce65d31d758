"""Purchases and accruals of hosted programmes, as the writer's commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.programme.core.command import Accrual, Compensate, Purchase
from exchange.service.access import Forbidden
from exchange.service.orders import known_members
from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.faults import SchemaError
from schemas.values.ids import HOUSE, key_bytes
from schemas.values.reason import Reason
from schemas.wire.fields import microseconds
from schemas.wire.purchases import AccrualRequest, BulkPurchase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exchange.core.catalogue import Programme
    from exchange.core.request_digest import RequestDigests
    from exchange.service.members import Members
    from exchange.service.shelf import Shelf
    from exchange.service.vaults import VaultDoor
    from schemas.wire.compensations import CompensationRequest
    from settlement.core.command import Answer, Entry
    from settlement.service.clearing import Clearing

AnyPurchase = BulkPurchase[int] | BulkPurchase[str]


class PurchaseDesk:
    """Use cases of the till of a hosted merchant."""

    def __init__(
        self, *, clearing: Clearing, shelf: Shelf, members: Members, door: VaultDoor
    ) -> None:
        """Take the writer, what is offered, who is enrolled, and the vault."""
        self._door = door
        self._clearing = clearing
        self._shelf = shelf
        self._members = members

    async def accept_purchases(
        self, wishes: Sequence[AnyPurchase | SchemaError], *, caller: int
    ) -> list[Answer | SchemaError | Forbidden]:
        """Have purchases decided strictly in their order; each is answered in its place.

        Args:
            wishes: Purchases, and what was malformed among them.
            caller: Merchant number of the sender; 0 for the house.

        Raises:
            Unavailable: The writer is away or its queue is full; nothing was decided.
        """
        offer = await self._shelf.offer_with(
            *{wish.merchant for wish in wishes if not isinstance(wish, SchemaError)}
        )
        by_code, programmes = offer.catalogue.by_code, offer.catalogue.programmes
        known = await known_members(
            self._members,
            {wish.member for wish in wishes if not isinstance(wish, SchemaError)},
            caller=caller,
        )
        digests = (await self._door.vault()).requests
        forbidden = Forbidden("a merchant sends its own purchases only")
        answers: list[Answer | SchemaError | Forbidden] = []
        places: list[int] = []
        commands: list[Purchase | Accrual] = []
        for place, wish in enumerate(wishes):
            if isinstance(wish, SchemaError):
                answers.append(wish)
                continue
            merchant_no = by_code.get(wish.merchant, 0)
            if caller not in (HOUSE, merchant_no):
                answers.append(forbidden)
                continue
            answers.append([])
            places.append(place)
            commands.append(
                _purchase(
                    wish,
                    caller=caller,
                    programme=programmes.get(merchant_no),
                    known=known,
                    digests=digests,
                )
            )
        decided = await self._clearing.submit(commands) if commands else []
        for place, answer in zip(places, decided, strict=True):
            answers[place] = answer
        return answers

    async def accrue(self, wish: AccrualRequest, *, caller: int, key: str) -> Entry:
        """Give a member points.

        Returns:
            The accrual, or its refusal.

        Raises:
            Forbidden: A merchant gives its own points only.
            Unavailable: The writer is away or its queue is full.
        """
        offer = await self._shelf.offer_with(wish.merchant)
        merchant_no = offer.catalogue.by_code.get(wish.merchant, 0)
        if caller not in (HOUSE, merchant_no):
            raise Forbidden("a merchant gives its own points only")
        programme = offer.catalogue.programmes.get(merchant_no)
        known = await known_members(self._members, (wish.member,), caller=caller)
        member_no = known.get(wish.member, 0)
        reason = 0
        if programme is None:
            reason = Reason.UNKNOWN_MERCHANT.number
        elif not programme.hosted:
            reason = Reason.NOT_HOSTED.number
        elif not member_no:
            reason = Reason.UNKNOWN_MEMBER.number
        command = Accrual(
            caller=caller,
            key=key_bytes(key),
            body=(await self._door.vault()).requests.of(wish.canonical()),
            member_no=member_no,
            merchant_no=merchant_no,
            units=0 if reason else int(wish.units),
            occurred_at_us=microseconds(wish.occurred_at),
            reason=reason,
            reference=wish.reference,
        )
        [answer] = await self._clearing.submit((command,))
        return answer[0]

    async def compensate(self, wish: CompensationRequest, *, caller: int, key: str) -> Answer:
        """Give a member points at the cost of the merchant that says it was at fault.

        Returns:
            What the caller owes for them, where they are another's, and the accrual; or the refusal.

        Raises:
            Forbidden: The house was at no till; it decides about an order (`exchange.service.compensating`).
            Unavailable: The writer is away or its queue is full.

        Source: settlement/RULES.md, rule W7.
        """
        if caller == HOUSE:
            raise Forbidden(
                "a merchant compensates at its own cost; the house proposes compensation.give"
            )
        offer = await self._shelf.offer_with(wish.merchant)
        merchant_no = offer.catalogue.by_code.get(wish.merchant, 0)
        programme = offer.catalogue.programmes.get(merchant_no)
        known = await known_members(self._members, (wish.member,), caller=caller)
        member_no = known.get(wish.member, 0)
        reason = None
        if programme is None:
            reason = Reason.UNKNOWN_MERCHANT
        elif not programme.hosted:
            reason = Reason.NOT_HOSTED
        elif not member_no:
            reason = Reason.UNKNOWN_MEMBER
        command = Compensate(
            caller=caller,
            key=key_bytes(key),
            body=(await self._door.vault()).requests.of(wish.canonical()),
            member_no=member_no,
            merchant_no=merchant_no,
            units=0 if reason else int(wish.units),
            reason=reason.number if reason else 0,
            reference=f"compensation {wish.choice} {wish.reference}".rstrip(),
            at_fault=caller,
        )
        [answer] = await self._clearing.submit((command,))
        return answer


def _purchase(
    wish: AnyPurchase,
    *,
    caller: int,
    programme: Programme | None,
    known: Mapping[str, int],
    digests: RequestDigests,
) -> Purchase | Accrual:
    """Make the command for one purchase; one that is refused here is written down as an accrual of nothing."""
    member_no = known.get(wish.member, 0)
    amount_fen = int(wish.amount_fen)
    key, body = key_bytes(wish.key), digests.of(wish.canonical())
    if programme is None:
        reason = Reason.UNKNOWN_MERCHANT
    elif not member_no:
        reason = Reason.UNKNOWN_MEMBER
    elif amount_fen * programme.earn_num // programme.earn_den >= AMOUNT_LIMIT:
        reason = Reason.AMOUNT_ABOVE_MAXIMUM
    else:
        return Purchase(
            caller=caller,
            key=key,
            body=body,
            member_no=member_no,
            merchant_no=programme.merchant_no,
            amount_fen=amount_fen,
            discount_fen=int(wish.discount_fen or 0),
            occurred_at_us=microseconds(wish.occurred_at),
            reference=wish.reference,
        )
    return Accrual(
        caller=caller,
        key=key,
        body=body,
        member_no=member_no,
        merchant_no=programme.merchant_no if programme else 0,
        units=0,
        reason=reason.number,
        reference=wish.reference,
    )
