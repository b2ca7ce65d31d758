"""Baskets: several orders for one bill, priced here and decided by the writer as one command."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from exchange.core.journey import Wanted
from exchange.core.quote import Price, Terms, price, price_value, terms_for
from exchange.programme.core.command import Basket
from exchange.service.access import Forbidden
from exchange.service.orders import known_members
from exchange.service.passage import Traveller, travels
from exchange.service.proof import with_proof
from schemas.values.amounts import CU_PER_FEN
from schemas.values.ids import HOUSE, key_bytes, order_id
from schemas.values.reason import Reason, Refusal
from settlement.core.command import Order
from settlement.core.event import Kind
from settlement.service.clearing import PART

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exchange.core.catalogue import Catalogue
    from exchange.programme.core.command import MemberOrder
    from exchange.service.members import Members
    from exchange.service.passage import Passage
    from exchange.service.quote_keys import QuoteKeys
    from exchange.service.shelf import Shelf
    from exchange.service.vaults import VaultDoor
    from schemas.wire.baskets import BasketPart, BasketRequest
    from settlement.core.command import Answer, Entry
    from settlement.service.clearing import Clearing

log = structlog.get_logger()

WHOLE_REFUSALS: Final = frozenset(
    {Reason.IDEMPOTENCY_CONFLICT.number, Reason.CANNOT_BE_BOOKED.number}
)
"""Refusals that are not stored and concern the basket, not one of its parts."""


class BasketDesk:
    """Use cases of a bill that points of several issuers pay.

    Orders of hosted issuers are decided in the basket itself. An order of an issuer whose own system is
    reached is a *leg*: a journey that stands still once its issuer holds the points. When all legs are
    held, one command clears them and the hosted orders, or nothing; then the legs go on. A leg that hears
    nothing asks the books, so that it ends right whoever dies.
    """

    def __init__(
        self,
        *,
        clearing: Clearing,
        shelf: Shelf,
        members: Members,
        door: VaultDoor,
        quote_keys: QuoteKeys,
        passage: Passage,
        now_us: Callable[[], int],
    ) -> None:
        """Take the writer, the offer, who is enrolled, the vault, the keys of codes, the way out, and the clock."""
        self._clearing = clearing
        self._shelf = shelf
        self._members = members
        self._door = door
        self._quote_keys = quote_keys
        self._passage = passage
        self._now_us = now_us
        self._nudges: set[asyncio.Task[Entry]] = set()

    async def decide(
        self, wanted: BasketRequest, *, caller: int, key: str, fault: str = ""
    ) -> Answer:
        """Have a basket decided.

        Args:
            wanted: The request, whose `check` has passed.
            caller: Merchant number of the sender; 0 for the house.
            key: Idempotency key, already checked.
            fault: In a sandbox, what the till wishes to go wrong with every leg.

        Returns:
            One event for each part, in their order; or a single refusal that is not stored.

        Raises:
            Forbidden: The sender is not the acceptor.
            Unavailable: The writer or the order workers are away; the same key asks again.

        Source: settlement/RULES.md, rules G1 to G6.
        """
        offer = await self._shelf.offer_with(
            wanted.acceptor, *(part.issuer for part in wanted.parts)
        )
        catalogue = offer.catalogue
        if caller not in (HOUSE, catalogue.by_code.get(wanted.acceptor)):
            raise Forbidden("a bill is sent by its acceptor")
        known = await known_members(self._members, [wanted.member], caller=caller)
        digests = (await self._door.vault()).requests
        head = (caller, key_bytes(key), digests.of(wanted.canonical()))
        parts = [
            self._order(catalogue, wanted, part, head, known.get(wanted.member, 0))
            for part in wanted.parts
        ]
        places = [place for place, part in enumerate(parts) if travels(catalogue, part)]
        if not places:
            return await self._submit(head, parts, partial=wanted.partial)
        travellers = [
            Traveller(
                msgspec.structs.replace(parts[place], key=_leg_key(head[1], place)),
                wanted.decide_by_seconds,
                fault,
            )
            for place in places
        ]
        ready = dict(zip(places, await self._passage.prepare(catalogue, travellers), strict=True))
        for place, leg in ready.items():
            if isinstance(leg, Order):
                parts[place] = _refused(parts[place], leg.reason)
        legs = {place: leg for place, leg in ready.items() if isinstance(leg, Wanted)}
        if wanted.partial:
            return await self._decide_each(head, parts, legs)
        return await self._decide_whole(head, parts, legs)

    async def _submit(
        self,
        head: tuple[int, bytes, bytes],
        orders: Sequence[MemberOrder],
        *,
        accepted: Sequence[int] = (),
        partial: bool = False,
    ) -> Answer:
        caller, key, body = head
        basket = Basket(
            caller=caller,
            key=key,
            body=body,
            orders=tuple(orders),
            accepted=tuple(accepted),
            then=int(Kind.CLEARED),
            partial=partial,
        )
        [answer] = await self._clearing.submit([basket])
        return answer

    async def _decide_each(
        self,
        head: tuple[int, bytes, bytes],
        parts: Sequence[MemberOrder],
        legs: Mapping[int, Wanted],
    ) -> Answer:
        """Each part stands alone: legs are ordinary journeys, beside the rest."""
        rest = [part for place, part in enumerate(parts) if place not in legs]
        ends, others = await asyncio.gather(
            asyncio.gather(*(self._passage.send(leg) for leg in legs.values())),
            self._submit(head, rest, partial=True) if rest else _nothing(),
        )
        if whole := _whole_refusal([*others, *ends]):
            return whole
        return _in_places(len(parts), dict(zip(legs, ends, strict=True)), others)

    async def _decide_whole(
        self,
        head: tuple[int, bytes, bytes],
        parts: list[MemberOrder],
        legs: Mapping[int, Wanted],
    ) -> Answer:
        """All parts or none: once every leg is held, one command decides."""
        waiting = {place: replace(leg, waits=True) for place, leg in legs.items()}
        entries = dict(
            zip(
                waiting,
                await asyncio.gather(*(self._passage.send(leg) for leg in waiting.values())),
                strict=True,
            )
        )
        if whole := _whole_refusal(entries.values()):
            return whole
        rest = [part for place, part in enumerate(parts) if place not in legs]
        refused = any(entry.kind == Kind.REFUSED for entry in entries.values())
        if not rest and (
            any(entry.kind == Kind.CLEARED for entry in entries.values())
            or (refused and await self._cleared_before(entries.values()))
        ):
            # A basket of legs alone stands nowhere but in their ends.
            answer = [_cleared(entry) for entry in entries.values()]
        elif refused:
            for place, entry in entries.items():
                reason = entry.reason or Reason.BASKET_NOT_COVERED.number
                parts[place] = _refused(parts[place], reason)
            decided = await self._submit(head, parts)
            if whole := _whole_refusal(decided):
                return whole
            answer = await self._merge(len(parts), entries, decided)
        else:
            seqs = [entry.order_seq for entry in entries.values()]
            decided = await self._submit(head, rest, accepted=seqs)
            if whole := _whole_refusal(decided):
                return whole
            answer = await self._merge(len(parts), entries, decided)
        for leg in legs.values():
            # Asked for once more as one that does not wait, a leg goes on; else it does so by itself, later.
            nudge = asyncio.create_task(self._passage.send(leg), name="nudge")
            self._nudges.add(nudge)
            nudge.add_done_callback(self._nudged)
        return answer

    async def _merge(self, count: int, legs: Mapping[int, Entry], decided: Answer) -> Answer:
        """Put the answers to the parts into their places.

        A basket of which a leg was refused was asked for with all its parts as orders, and is answered so. Any
        other answer is for the hosted orders, then the legs; a repeat is answered for the former only, and
        what became of the legs is the same.
        """
        if len(decided) == count and all(
            entry.seq and entry.kind == Kind.REFUSED for entry in decided
        ):
            return decided
        others = decided[: count - len(legs)]
        ends = decided[len(others) :]
        if not ends or all(entry.kind == Kind.CLEARED for entry in ends):
            done = all(entry.kind == Kind.CLEARED for entry in others)
        else:
            gone = all(entry.reason == Reason.ORDER_NOT_FOUND.number for entry in ends)
            done = gone and not others and await self._cleared_before(legs.values())
        if done:
            ended = {place: _cleared(entry) for place, entry in legs.items()}
        else:
            reasons = [entry.reason for entry in ends] or [0] * len(legs)
            ended = {
                place: msgspec.structs.replace(
                    entry, kind=Kind.REFUSED, reason=reason or Reason.BASKET_NOT_COVERED.number
                )
                for (place, entry), reason in zip(legs.items(), reasons, strict=True)
            }
        return _in_places(count, ended, others)

    async def _cleared_before(self, legs: Iterable[Entry]) -> bool:
        """Whether a basket of legs alone had cleared them."""
        for leg in legs:
            events = await self._passage.events_of(order_id(leg.at_us, PART, leg.order_seq))
            if not events or events[-1]["kind"] != Kind.CLEARED:
                return False
        return True

    def _nudged(self, task: asyncio.Task[Entry]) -> None:
        self._nudges.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.info("basket.leg_goes_on_later", error=type(error).__name__)

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
                hosted=terms.hosted, reference=wanted.reference,
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
        if not terms.hosted and terms.issuer not in catalogue.connected:
            return Reason.NOT_HOSTED
        priced = (
            price_value(terms, int(part.value_fen) * CU_PER_FEN)
            if part.value_fen is not None
            else price(terms, int(part.units or 0))
        )
        return priced if isinstance(priced, Reason) else (terms, priced)


async def _nothing() -> Answer:
    return []


def _leg_key(key: bytes, place: int) -> bytes:
    """The key of a leg, made of its basket's key and its place."""
    return hashlib.sha256(b"tongdui leg\0" + key + bytes([place])).digest()[:16]


def _refused(part: MemberOrder, reason: int) -> MemberOrder:
    """The same part with the reason why it cannot be."""
    return msgspec.structs.replace(part, reason=reason, code=b"")


def _cleared(leg: Entry) -> Entry:
    """A leg that its basket cleared, with the instant of its acceptance, which is in its id."""
    return msgspec.structs.replace(leg, kind=Kind.CLEARED)


def _whole_refusal(entries: Iterable[Entry]) -> Answer:
    """The one answer to a basket that is none: another body under a used key, or what cannot be booked."""
    return [entry for entry in entries if not entry.seq and entry.reason in WHOLE_REFUSALS][:1]


def _in_places(count: int, legs: Mapping[int, Entry], others: Iterable[Entry]) -> Answer:
    """Answers to legs and to other parts, in the order of the request."""
    rest = iter(others)
    return [legs[place] if place in legs else next(rest) for place in range(count)]
