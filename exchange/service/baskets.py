"""Baskets: several orders for one bill, priced here and decided by the writer as one command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.core.quote import Price, Terms, price, price_value, terms_for
from exchange.programme.core.command import Basket
from exchange.service.access import Forbidden
from exchange.service.orders import body_digest, known_members
from exchange.service.proof import with_proof
from schemas.values.amounts import CU_PER_FEN
from schemas.values.ids import HOUSE, key_bytes
from schemas.values.reason import Reason, Refusal
from settlement.core.command import Order

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.core.catalogue import Catalogue
    from exchange.programme.core.command import MemberOrder
    from exchange.service.members import Members
    from exchange.service.quote_keys import QuoteKeys
    from exchange.service.shelf import Shelf
    from schemas.wire.baskets import BasketPart, BasketRequest
    from settlement.core.command import Answer
    from settlement.service.clearing import Clearing


class BasketDesk:
    """Use cases of a bill that points of several hosted programmes pay."""

    def __init__(
        self,
        *,
        clearing: Clearing,
        shelf: Shelf,
        members: Members,
        quote_keys: QuoteKeys,
        now_us: Callable[[], int],
    ) -> None:
        """Take the writer, what is offered, who is enrolled, the keys of codes, and the clock."""
        self._clearing = clearing
        self._shelf = shelf
        self._members = members
        self._quote_keys = quote_keys
        self._now_us = now_us

    async def decide(self, wanted: BasketRequest, *, caller: int, key: str) -> Answer:
        """Have a basket decided.

        Args:
            wanted: The request, whose `check` has passed.
            caller: Merchant number of the sender; 0 for the house.
            key: Idempotency key, already checked.

        Returns:
            One event for each part; or a single refusal that is not stored.

        Raises:
            Forbidden: The sender is not the acceptor.
            Unavailable: The writer is away or its queue is full.

        Source: settlement/RULES.md, rules G1 to G4.
        """
        offer = await self._shelf.offer_with(
            wanted.acceptor, *(part.issuer for part in wanted.parts)
        )
        catalogue = offer.catalogue
        if caller not in (HOUSE, catalogue.by_code.get(wanted.acceptor)):
            raise Forbidden("a bill is sent by its acceptor")
        known = await known_members(self._members, [wanted.member])
        member_no = known.get(wanted.member, 0)
        body = body_digest(wanted.canonical())
        basket = Basket(
            caller=caller,
            key=key_bytes(key),
            body=body,
            orders=tuple(
                self._order(catalogue, wanted, part, (caller, key_bytes(key), body), member_no)
                for part in wanted.parts
            ),
            partial=wanted.partial,
        )
        [answer] = await self._clearing.submit([basket])
        return answer

    def _order(
        self,
        catalogue: Catalogue,
        wanted: BasketRequest,
        part: BasketPart,
        head: tuple[int, bytes, bytes],
        member_no: int,
    ) -> MemberOrder:
        """Make the order of one part; a refusal found here travels in it."""
        priced = self._price(catalogue, wanted, part) if member_no else Reason.UNKNOWN_MEMBER
        caller, key, body = head
        issuer = catalogue.by_code.get(part.issuer, 0)
        acceptor = catalogue.by_code.get(wanted.acceptor, 0)
        if isinstance(priced, Reason):
            order = Order(
                caller=caller, key=key, body=body, issuer=issuer, acceptor=acceptor,
                member_no=member_no, units=int(part.units or 0), debit_cu=0, value_cu=0, fee_cu=0,
                rate_no=0, reason=priced.number, hosted=True, reference=wanted.reference,
            )  # fmt: skip
        else:
            terms, figures = priced
            order = Order(
                caller=caller, key=key, body=body, issuer=issuer, acceptor=acceptor,
                member_no=member_no, units=figures.units, debit_cu=figures.debit_cu,
                value_cu=figures.value_cu, fee_cu=figures.fee_cu, rate_no=terms.spend.rate_no,
                hosted=True, reference=wanted.reference,
            )  # fmt: skip
        return with_proof(order, part.code, self._quote_keys)

    def _price(
        self, catalogue: Catalogue, wanted: BasketRequest, part: BasketPart
    ) -> tuple[Terms, Price] | Reason:
        """Price one part at the rates in force now."""
        terms = terms_for(
            catalogue,
            issuer=part.issuer,
            acceptor=wanted.acceptor,
            kind="redemption",
            at_us=self._now_us(),
        )
        if isinstance(terms, Refusal):
            return terms.reason
        if not terms.hosted:
            return Reason.NOT_HOSTED
        priced = (
            price_value(terms, int(part.value_fen) * CU_PER_FEN)
            if part.value_fen is not None
            else price(terms, int(part.units or 0))
        )
        return priced if isinstance(priced, Reason) else (terms, priced)
