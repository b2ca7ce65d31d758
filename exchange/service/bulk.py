"""Large requests of orders: priced by columns, and sent to the writer as columns.

Most orders of a large request are redemptions of hosted points at the rate in force, and differ in a few
figures. Those are looked up, priced and digested column by column. Every other order goes the way of a
single one, through `OrderDesk.command`, and travels in its place among them.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from exchange.core.price_columns import price_redemptions
from exchange.service.orders import Wish, known_members
from exchange.service.passage import travels
from schemas.values.faults import SchemaError
from schemas.values.ids import HOUSE, keys_bytes
from schemas.wire.fields import microseconds
from settlement.core.columns import FIGURES, EntryColumns, OrderColumns, is_plain
from settlement.core.command import Entry, Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from exchange.service.access import Forbidden
    from exchange.service.members import Members
    from exchange.service.orders import AnyBulkOrder, OrderDesk, TermsByPair
    from exchange.service.shelf import Offer, Shelf
    from exchange.service.vaults import VaultDoor
    from settlement.core.columns import Int64s
    from settlement.service.clearing import Clearing

_REDEMPTIONS: Final = frozenset({None, "redemption"})


class Decided(NamedTuple):
    """What became of a large request.

    Attributes:
        entries: Answers of the writer.
        faults: Why elements were not even asked of the writer, by their place in the request; the
            answers are those of all other elements, in order.
    """

    entries: EntryColumns
    faults: dict[int, SchemaError | Forbidden]


class _Texts(NamedTuple):
    """The fields of many orders as they came, field by field."""

    keys: list[str]
    members: list[str]
    quotes: list[str | None]
    issuers: list[str | None]
    acceptors: list[str | None]
    units: list[int | None]
    kinds: list[str | None]
    occurred_us: list[int]
    hold_seconds: list[int | None]
    references: list[str]

    @classmethod
    def of(cls, wishes: Sequence[AnyBulkOrder]) -> _Texts:
        """Take the fields out."""
        units: list[int | str | None] = [wish.units for wish in wishes]
        occurred = [wish.occurred_at for wish in wishes]
        return cls(
            [wish.key for wish in wishes],
            [wish.member for wish in wishes],
            [wish.quote for wish in wishes],
            [wish.issuer for wish in wishes],
            [wish.acceptor for wish in wishes],
            [None if each is None else int(each) for each in units],
            [wish.kind for wish in wishes],
            [microseconds(each) for each in occurred] if any(occurred) else [0] * len(wishes),
            [wish.hold_seconds for wish in wishes],
            [wish.reference for wish in wishes],
        )

    def canonical(self) -> Iterator[tuple[object, ...]]:
        """The requests in canonical form: each is what `OrderTerms.canonical` says."""
        return zip(
            repeat("order"), self.members, self.quotes, self.issuers, self.acceptors, self.units,
            self.kinds, self.occurred_us, self.hold_seconds, self.references, strict=False,
        )  # fmt: skip

    def usual(self) -> npt.NDArray[np.bool_]:
        """Which orders are redemptions at plain terms that name no hold."""
        count = len(self.keys)
        complete = [None not in column for column in (self.issuers, self.acceptors, self.units)]
        if (
            all(complete)
            and self.quotes.count(None) == self.hold_seconds.count(None) == count
            and _REDEMPTIONS.issuperset(self.kinds)
        ):
            return np.ones(count, np.bool_)
        return np.fromiter(
            (
                quote is hold is None and kind in _REDEMPTIONS and None not in terms
                for quote, hold, kind, *terms in zip(
                    self.quotes, self.hold_seconds, self.kinds, self.issuers, self.acceptors,
                    self.units, strict=True,
                )
            ),
            np.bool_,
            count,
        )  # fmt: skip


class BulkDesk:
    """The use case around a large request of orders."""

    def __init__(
        self,
        *,
        clearing: Clearing,
        shelf: Shelf,
        members: Members,
        door: VaultDoor,
        orders: OrderDesk,
        now_us: Callable[[], int],
    ) -> None:
        """Take what the desk works with.

        Args:
            clearing: The writer, near or far.
            shelf: What is offered.
            members: Who is enrolled.
            door: The vault, which digests requests.
            orders: The desk of single orders.
            now_us: Clock, microseconds since 1970.
        """
        self._clearing = clearing
        self._shelf = shelf
        self._members = members
        self._door = door
        self._orders = orders
        self._now_us = now_us

    async def accept(self, wishes: Sequence[AnyBulkOrder | SchemaError], *, caller: int) -> Decided:
        """Have orders decided strictly in their order; each is answered in its place.

        Args:
            wishes: Orders, and what was malformed among them.
            caller: Merchant number of the sender; 0 for the house.

        Raises:
            Unavailable: The writer is away or its queue is full. What was decided before that is
                final, and found by its keys when the request is sent again.
        """
        faults: dict[int, SchemaError | Forbidden] = {
            place: wish for place, wish in enumerate(wishes) if isinstance(wish, SchemaError)
        }
        sound = [wish for wish in wishes if not isinstance(wish, SchemaError)]
        if not sound:
            return Decided(EntryColumns(b""), faults)
        codes = [wish.code for wish in sound]
        if any(codes) or any(wish.decide_by_seconds for wish in sound):
            return await self._one_by_one(wishes, caller=caller)
        texts = _Texts.of(sound)
        offer = await self._shelf.offer_with(
            *{code for code in {*texts.issuers, *texts.acceptors} if code is not None}
        )
        known: Mapping[str, int] = await self._members.find((), caller=caller)
        if None in map(known.get, texts.members):
            known = await known_members(self._members, set(texts.members), caller=caller)
        digests = (await self._door.vault()).requests
        now_us = self._now_us()
        table, plain = _plain_orders(offer, texts, known=known, caller=caller, now_us=now_us)
        others: dict[int, Order] = {}
        not_asked: dict[int, SchemaError | Forbidden] = {}
        cache: TermsByPair = {}
        for row in np.flatnonzero(~plain).tolist():
            wish = sound[row]
            command = wish.fault() or self._orders.command(
                offer,
                Wish(caller, wish.key, wish),
                known=known,
                digests=digests,
                cache=cache,
                now_us=now_us,
            )
            if not isinstance(command, Order):
                not_asked[row] = command
            elif type(command) is not Order or travels(offer.catalogue, command):
                return await self._one_by_one(wishes, caller=caller)
            elif is_plain(command):
                table[:, row] = [getattr(command, name) for name in FIGURES]
            else:
                others[row] = command
        orders = OrderColumns(
            caller,
            keys_bytes(texts.keys),
            digests.of_all(texts.canonical()),
            table.tobytes(),
            texts.references if any(texts.references) else [],
            others,
        )
        if not_asked:
            asked = np.array([row not in not_asked for row in range(len(sound))])
            places = [place for place in range(len(wishes)) if place not in faults]
            faults |= {places[row]: _in_place(why, places[row]) for row, why in not_asked.items()}
            orders = orders.only(asked)
        if not len(orders):
            return Decided(EntryColumns(b""), faults)
        return Decided(await self._clearing.submit_columns(orders), faults)

    async def _one_by_one(
        self, wishes: Sequence[AnyBulkOrder | SchemaError], *, caller: int
    ) -> Decided:
        """Have a request decided that holds what columns cannot say: the proof of a member, or a journey."""
        decided = await self._orders.accept_bulk(wishes, caller=caller)
        faults = {place: each for place, each in enumerate(decided) if not isinstance(each, Entry)}
        entries = [each for each in decided if isinstance(each, Entry)]
        return Decided(EntryColumns.of(entries), faults)


def _plain_orders(
    offer: Offer, texts: _Texts, *, known: Mapping[str, int], caller: int, now_us: int
) -> tuple[Int64s, npt.NDArray[np.bool_]]:
    """Price the redemptions of hosted points that nothing stands against.

    Returns:
        The columns of `FIGURES`, 0 for every other order; and which orders are in them.
    """
    count = len(texts.keys)
    by_code = offer.catalogue.by_code
    issuer, acceptor = _numbers(by_code, texts.issuers), _numbers(by_code, texts.acceptors)
    member = _numbers(known, texts.members)
    usual = texts.usual()
    units = np.array(
        texts.units if usual.all() else [each or 0 for each in texts.units], dtype=np.int64
    )
    prices = price_redemptions(offer.catalogue, issuers=issuer, units=units, at_us=now_us)
    plain = usual & prices.priced & prices.hosted
    plain &= (member > 0) & (acceptor > 0) & (issuer != acceptor)
    if caller != HOUSE:
        plain &= (issuer == caller) | (acceptor == caller)
    occurred_us = np.array(texts.occurred_us, np.int64)
    table = np.stack(
        [
            issuer, acceptor, member, units, prices.debit_cu, prices.value_cu, prices.fee_cu,
            prices.rate_no, occurred_us, np.zeros(count, np.int64),
        ]
    )  # fmt: skip
    return table * plain, plain


def _numbers(known: Mapping[str, int], texts: Sequence[str | None]) -> Int64s:
    """The number behind each text, 0 for none."""
    number: Callable[[Any, int], int] = known.get
    return np.fromiter(map(number, texts, repeat(0)), np.int64, len(texts))


def _in_place(why: SchemaError | Forbidden, place: int) -> SchemaError | Forbidden:
    """Say where in the request a field is that contradicts another."""
    if isinstance(why, SchemaError):
        return SchemaError(f"$[{place}]{why.path[1:]}", why.detail)
    return why
