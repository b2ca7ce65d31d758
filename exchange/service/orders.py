"""Quotes and orders: pricing what is wanted, and having it decided by the writer.

What is refused before the queue (no rate, a quote past its deadline) still goes to the writer: a refusal
is a durable event and final for its key, and a repeated key must get its first answer, whatever the
gateway thinks of the request by now.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.core.quote import (
    Price,
    Quote,
    Terms,
    make_quote,
    offers,
    price,
    seal,
    terms_for,
    unseal,
)
from exchange.service.access import Forbidden
from exchange.service.passage import Traveller, travels
from exchange.service.proof import with_proof
from schemas.values.faults import SchemaError
from schemas.values.ids import HOUSE, key_bytes, order_place
from schemas.values.reason import Reason, Refusal
from schemas.wire.fields import microseconds
from schemas.wire.orders import HOLD_SECONDS_DEFAULT, BulkOrder, OrderTerms
from settlement.core.command import End, Order, unstored_refusal
from settlement.core.event import Kind
from settlement.service.clearing import PART

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exchange.core.request_digest import RequestDigests
    from exchange.service.members import Members
    from exchange.service.passage import Passage
    from exchange.service.quote_keys import QuoteKeys
    from exchange.service.shelf import Offer, Shelf
    from exchange.service.vaults import VaultDoor
    from schemas.wire.quotes import QuoteRequest
    from settlement.core.command import Answer, Entry
    from settlement.service.clearing import Clearing

QUOTE_SECONDS: Final = 60
"""How long a quote is firm. The house carries the rate's risk for that long, so it is short."""
SENT_TOGETHER: Final = 2_500
"""Commands of one request that go to the writer at once."""
_NO_BODY: Final = bytes(16)
_NOT_ASKED: Final = (SchemaError, Forbidden)

AnyTerms = OrderTerms[int] | OrderTerms[str]
AnyBulkOrder = BulkOrder[int] | BulkOrder[str]
TermsByPair = dict[tuple[int, str | None, str | None, str | None], Terms | Refusal | Forbidden]


class Wish(NamedTuple):
    """One order that somebody wants: who (0 for the house), under which key, and its terms.

    In a sandbox `fault` says what is to go wrong with it (`exchange/service/sandbox.py`).
    """

    caller: int
    key: str
    terms: AnyTerms
    fault: str = ""


class Ending(NamedTuple):
    """One accepted order that somebody wants to end: who, which, and the kind of its end."""

    caller: int
    order: uuid.UUID
    kind: int


_PENDING: Final = unstored_refusal(Reason.ORDER_NOT_FOUND)
_NO_ORDER: Final = 0
"""Sequence number that no event has: the writer answers that there is no such order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """A quote that is offered.

    Attributes:
        terms: The terms behind it.
        deadline_us: Until when it is firm, microseconds since 1970.
        offers: Prices with their tokens, first the one that leaves no remainder.
    """

    terms: Terms
    deadline_us: int
    offers: list[tuple[Price, str]]


async def known_members(
    members: Members, names: Iterable[str], *, caller: int
) -> Mapping[str, int]:
    """Surrogates of those names that can be a member's at all and are, as the caller names them."""
    return await members.find(
        [name for name in names if name.isascii() and name.isprintable()], caller=caller
    )


class OrderDesk:
    """Use cases around one order; each is one command, decided with others in a group commit."""

    def __init__(
        self,
        *,
        clearing: Clearing,
        shelf: Shelf,
        members: Members,
        door: VaultDoor,
        quote_keys: QuoteKeys,
        now_us: Callable[[], int],
        passage: Passage | None = None,
        quote_seconds: int = QUOTE_SECONDS,
    ) -> None:
        """Take what the desk works with.

        Args:
            clearing: The writer, near or far.
            shelf: What is offered.
            members: Who is enrolled.
            door: The vault, which digests requests.
            quote_keys: Keys that seal quotes.
            now_us: Clock, microseconds since 1970.
            passage: The way to merchants' own systems; without one no order takes it.
            quote_seconds: How long a quote is firm.
        """
        self._passage = passage
        self._door = door
        self._clearing = clearing
        self._shelf = shelf
        self._members = members
        self._quote_keys = quote_keys
        self._now_us = now_us
        self._quote_us = quote_seconds * 1_000_000

    async def quote(self, wanted: QuoteRequest, *, caller: int) -> Quoted | Refusal:
        """Price what is wanted; nothing is reserved and nothing is written.

        Args:
            wanted: The request, whose `check` has passed.
            caller: Merchant number of the sender; 0 for the house.

        Raises:
            Forbidden: The sender is neither issuer nor acceptor.
        """
        offer = await self._shelf.offer_with(wanted.issuer, wanted.acceptor)
        now_us = self._now_us()
        if not _may_order(offer, caller, wanted.issuer, wanted.acceptor):
            raise Forbidden("a merchant gets quotes as issuer or acceptor only")
        terms = terms_for(
            offer.catalogue,
            issuer=wanted.issuer,
            acceptor=wanted.acceptor,
            kind=wanted.kind,
            at_us=now_us,
        )
        if isinstance(terms, Refusal):
            return terms
        priced = offers(
            terms,
            units=None if wanted.units is None else int(wanted.units),
            value_cu=None if wanted.value_fen is None else int(wanted.value_fen) * 100,
            debit_max_cu=offer.debit_max_cu.get(terms.issuer, 0),
        )
        if isinstance(priced, Refusal):
            return priced
        deadline_us = now_us + self._quote_us
        key = self._quote_keys.newest
        return Quoted(
            terms=terms,
            deadline_us=deadline_us,
            offers=[
                (
                    each,
                    seal(make_quote(terms, each, caller=caller, deadline_us=deadline_us), key),
                )
                for each in priced
            ],
        )

    async def accept(self, wish: AnyTerms, *, caller: int, key: str, fault: str = "") -> Entry:
        """Have one order decided.

        Args:
            wish: The order.
            caller: Merchant number of the sender; 0 for the house.
            key: Idempotency key, already checked.
            fault: In a sandbox, what the till wishes to go wrong.

        Returns:
            The order's first event; of kind REFUSED with the reason's number for a refusal.

        Raises:
            SchemaError: The terms contradict each other.
            Forbidden: The sender is neither issuer nor acceptor.
            Unavailable: The writer is away or its queue is full.
        """
        [decided] = await self.decide([Wish(caller, key, wish, fault)])
        if isinstance(decided, asyncio.Task):
            return await decided
        if isinstance(decided, SchemaError | Forbidden):
            raise decided
        return decided

    async def accept_bulk(
        self, wishes: Sequence[AnyBulkOrder | SchemaError], *, caller: int
    ) -> list[Entry | SchemaError | Forbidden]:
        """Have orders decided strictly in their order; each is answered in its place.

        Raises:
            Unavailable: The writer is away or its queue is full. What was decided before that is
                final, and found by its keys when the request is sent again.
        """
        under_way = await self.decide(
            [
                wish if isinstance(wish, SchemaError) else Wish(caller, wish.key, wish)
                for wish in wishes
            ]
        )
        await asyncio.gather(
            *(each for each in under_way if isinstance(each, asyncio.Task)), return_exceptions=True
        )
        decided = [each.result() if isinstance(each, asyncio.Task) else each for each in under_way]
        return [
            SchemaError(f"$[{place}]{each.path[1:]}", each.detail)
            if isinstance(each, SchemaError) and each is not wishes[place]
            else each
            for place, each in enumerate(decided)
        ]

    async def end(self, order: uuid.UUID, *, kind: Kind, caller: int) -> Entry:
        """Clear or void an accepted order; again is harmless.

        Args:
            order: The order's id.
            kind: `Kind.CLEARED` or `Kind.VOIDED`.
            caller: Who accepted it; 0 for the house.

        Returns:
            The end, or a refusal.

        Raises:
            Unavailable: The writer is away or its queue is full.
        """
        [decided] = await self.decide([Ending(caller, order, int(kind))])
        if isinstance(decided, SchemaError | Forbidden):
            raise decided
        return await decided if isinstance(decided, asyncio.Task) else decided

    async def decide(
        self, asked: Sequence[Wish | Ending | SchemaError]
    ) -> list[Entry | SchemaError | Forbidden | asyncio.Task[Entry]]:
        """Have what many callers ask decided in one go, in this order.

        Args:
            asked: Orders and ends of orders; what was malformed is handed through.

        Returns:
            One answer for each, in its place: an event (of kind REFUSED for a refusal), or why it was not
            even asked of the writer. For an order between merchants' own systems, who waits for its answer;
            that one may raise `Unavailable`.

        Raises:
            Unavailable: The writer is away or its queue is full. What of a large request was decided
                before that is final, and found by its keys when the request is sent again.
        """
        terms = [each.terms for each in asked if isinstance(each, Wish)]
        offer = await self._shelf.offer_with(
            *{code for each in terms for code in (each.issuer, each.acceptor) if code is not None}
        )
        names: dict[int, set[str]] = {}
        for each in asked:
            if isinstance(each, Wish):
                names.setdefault(each.caller, set()).add(each.terms.member)
        known = {
            caller: await known_members(self._members, wanted, caller=caller)
            for caller, wanted in names.items()
        }
        digests = (await self._door.vault()).requests
        now_us = self._now_us()
        cache: TermsByPair = {}
        answers: list[Entry | SchemaError | Forbidden | asyncio.Task[Entry]] = []
        places: list[int] = []
        travelling: list[tuple[int, Traveller]] = []
        passage = self._passage if offer.catalogue.connected else None
        kept = await _kept(passage, asked)
        commands: list[Order | End] = []
        sent: list[asyncio.Future[list[Answer]]] = []
        for each in asked:
            command: Order | End | SchemaError | Forbidden
            if isinstance(each, Wish):
                command = each.terms.fault() or self.command(
                    offer,
                    each,
                    known=known[each.caller],
                    digests=digests,
                    cache=cache,
                    now_us=now_us,
                )
            elif isinstance(each, Ending):
                command = _end_command(each)
            else:
                command = each
            if isinstance(command, _NOT_ASKED):
                answers.append(command)
                continue
            if passage is not None:
                if isinstance(command, End) and command.order_seq in kept:
                    answers.append(unstored_refusal(Reason.ORDER_UNDER_WAY, command.order_seq))
                    continue
                if isinstance(command, Order) and travels(offer.catalogue, command):
                    assert isinstance(each, Wish)
                    seconds = each.terms.decide_by_seconds
                    traveller = Traveller(command, seconds, each.fault)
                    travelling.append((len(answers), traveller))
                    answers.append(_PENDING)
                    continue
            places.append(len(answers))
            commands.append(command)
            answers.append(_PENDING)
            if len(commands) >= SENT_TOGETHER:
                # The writer works on these while the rest is priced.
                sent.append(asyncio.ensure_future(self._clearing.submit(commands)))
                commands = []
                await asyncio.sleep(0)
        if passage is not None and travelling:
            departed = await passage.depart(offer.catalogue, [each for _, each in travelling])
            for (place, _), left in zip(travelling, departed, strict=True):
                if isinstance(left, asyncio.Task):
                    answers[place] = left
                else:
                    places.append(place)
                    commands.append(left)
        if commands:
            sent.append(asyncio.ensure_future(self._clearing.submit(commands)))
        decided = await asyncio.gather(*sent, return_exceptions=True)
        for part in decided:
            if isinstance(part, BaseException):
                raise part
        answered = (answer for part in decided if isinstance(part, list) for answer in part)
        for place, answer in zip(places, answered, strict=True):
            answers[place] = answer[0]
        return answers

    def command(
        self,
        offer: Offer,
        asked: Wish,
        *,
        known: Mapping[str, int],
        digests: RequestDigests,
        cache: TermsByPair,
        now_us: int,
    ) -> Order | Forbidden:
        """Make the command for one order; a refusal found here travels in it.

        Args:
            offer: What is offered now.
            asked: The order, whose terms have no `fault`.
            known: Surrogates of members, that of this one among them if there is one.
            digests: Digests the request.
            cache: Terms that other orders of the same request found.
            now_us: The clock.
        """
        caller, key, wish, _ = asked
        body = digests.of(wish.canonical())
        if wish.quote is not None:
            return self._quoted_order(
                offer, wish, caller=caller, key=key, body=body, known=known, now_us=now_us
            )
        pair = (caller, wish.issuer, wish.acceptor, wish.kind)
        terms = cache.get(pair)
        if terms is None:
            terms = cache[pair] = _terms(offer, wish, caller, now_us)
        units = int(wish.units or 0)
        member_no = known.get(wish.member, 0)
        if isinstance(terms, Terms):
            priced = price(terms, units) if member_no else Reason.UNKNOWN_MEMBER
            if isinstance(priced, Price):
                hosted = terms.hosted
                _, debit_cu, value_cu, fee_cu, credited_units = priced
                # By position, in the order of `Order`: by name it costs ten times as much.
                order = Order(
                    caller,
                    key_bytes(key),
                    body,
                    terms.issuer,
                    terms.acceptor,
                    member_no,
                    units,
                    debit_cu,
                    value_cu,
                    fee_cu,
                    terms.spend.rate_no,
                    microseconds(wish.occurred_at) if wish.occurred_at else 0,
                    _hold_us(wish, hosted=hosted),
                    credited_units,
                    0,
                    hosted,
                    wish.reference,
                )
                if terms.protected or wish.code is not None:
                    return with_proof(order, wish.code, self._quote_keys)
                return order
            reason = priced
        elif isinstance(terms, Forbidden):
            return terms
        else:
            reason = terms.reason
        by_code = offer.catalogue.by_code
        return _refused(
            wish,
            reason,
            caller=caller,
            key=key,
            body=body,
            issuer=by_code.get(wish.issuer or "", 0),
            acceptor=by_code.get(wish.acceptor or "", 0),
            member_no=member_no,
            units=units,
        )

    def _quoted_order(
        self,
        offer: Offer,
        wish: AnyTerms,
        *,
        caller: int,
        key: str,
        body: bytes,
        known: Mapping[str, int],
        now_us: int,
    ) -> Order:
        """Make the command for an order at quoted terms, whatever rate came since."""
        token = wish.quote or ""
        quote = unseal(token, self._quote_keys.for_token(token))
        member_no = known.get(wish.member, 0)
        reason = _quote_reason(quote, caller=caller, now_us=now_us)
        if isinstance(quote, Refusal):
            return _refused(
                wish, quote.reason, caller=caller, key=key, body=body, member_no=member_no
            )
        programme = offer.catalogue.programmes.get(quote.issuer)
        if reason is None and programme is None:
            reason = Reason.UNKNOWN_MERCHANT
        if reason is None and not member_no:
            reason = Reason.UNKNOWN_MEMBER
        if reason is not None or programme is None:
            return _refused(
                wish,
                reason or Reason.UNKNOWN_MERCHANT,
                caller=caller,
                key=key,
                body=body,
                issuer=quote.issuer,
                acceptor=quote.acceptor,
                member_no=member_no,
                units=quote.units,
            )
        order = Order(
            caller=caller,
            key=key_bytes(key),
            body=body,
            issuer=quote.issuer,
            acceptor=quote.acceptor,
            member_no=member_no,
            units=quote.units,
            debit_cu=quote.debit_cu,
            value_cu=quote.value_cu,
            fee_cu=quote.fee_cu,
            rate_no=quote.rate_no,
            occurred_at_us=microseconds(wish.occurred_at),
            hold_us=_hold_us(wish, hosted=programme.hosted),
            credited_units=quote.credited_units,
            hosted=programme.hosted,
            reference=wish.reference,
        )
        if quote.issuer in offer.catalogue.member_rules or wish.code is not None:
            return with_proof(order, wish.code, self._quote_keys)
        return order


async def _kept(passage: Passage | None, asked: Sequence[Wish | Ending | SchemaError]) -> set[int]:
    """Orders among those to be cleared that only their journey may clear."""
    ends = [each for each in asked if isinstance(each, Ending) and each.kind == Kind.CLEARED]
    if passage is None or not ends:
        return set()
    return await passage.under_way([_end_command(each).order_seq for each in ends])


def _end_command(asked: Ending) -> End:
    """The command that ends an order; an id that was never given out ends nothing."""
    try:
        part, order_seq = order_place(asked.order)
    except ValueError:
        part, order_seq = PART, _NO_ORDER
    if part != PART:
        order_seq = _NO_ORDER
    return End(
        caller=asked.caller,
        key=asked.order.bytes,
        body=_NO_BODY,
        order_seq=order_seq,
        kind=asked.kind,
    )


def _may_order(offer: Offer, caller: int, issuer: str | None, acceptor: str | None) -> bool:
    """A merchant acts for itself only: as issuer or as acceptor."""
    by_code = offer.catalogue.by_code
    return caller == HOUSE or caller in (by_code.get(issuer or ""), by_code.get(acceptor or ""))


def _terms(offer: Offer, wish: AnyTerms, caller: int, now_us: int) -> Terms | Refusal | Forbidden:
    """Find the terms of a pair once for all orders of a request."""
    if not _may_order(offer, caller, wish.issuer, wish.acceptor):
        return Forbidden("a merchant orders as issuer or acceptor only")
    return terms_for(
        offer.catalogue,
        issuer=wish.issuer or "",
        acceptor=wish.acceptor or "",
        kind=wish.kind or "redemption",
        at_us=now_us,
    )


def _hold_us(wish: AnyTerms, *, hosted: bool) -> int:
    """How long the order may wait for its end; a hold at a hosted issuer is passed on to be refused."""
    return (wish.hold_seconds or (0 if hosted else HOLD_SECONDS_DEFAULT)) * 1_000_000


def _quote_reason(quote: Quote | Refusal, *, caller: int, now_us: int) -> Reason | None:
    """Why a token is not honoured, if it is not (rules Q8 and Q9)."""
    if isinstance(quote, Refusal):
        return quote.reason
    if caller not in (quote.caller, HOUSE):
        return Reason.QUOTE_INVALID
    if now_us > quote.deadline_us:
        return Reason.QUOTE_EXPIRED
    return None


def _refused(
    wish: AnyTerms,
    reason: Reason,
    *,
    caller: int,
    key: str,
    body: bytes,
    issuer: int = 0,
    acceptor: int = 0,
    member_no: int = 0,
    units: int = 0,
) -> Order:
    """The command that writes a refusal down."""
    return Order(
        caller=caller,
        key=key_bytes(key),
        body=body,
        issuer=issuer,
        acceptor=acceptor,
        member_no=member_no,
        units=units,
        debit_cu=0,
        value_cu=0,
        fee_cu=0,
        rate_no=0,
        reason=reason.number,
        reference=wish.reference,
    )
