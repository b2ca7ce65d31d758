"""Which orders travel between merchants' own systems, and handing them to the order workers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from exchange.core.journey import Wanted
from exchange.store.journeys import fetch_under_way
from schemas.values.reason import Reason
from schemas.wire.orders import HOLD_SECONDS_DEFAULT
from settlement.core.command import Order
from settlement.service import inquiry

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Sequence

    from asyncpg import Pool, Record

    from exchange.core.catalogue import Catalogue
    from exchange.service.links import LinkDesk
    from exchange.service.order_link import OrderLink
    from settlement.core.command import Entry

DECIDE_BY_SECONDS: Final = 3
"""When a till has its answer at the latest, unless it says otherwise."""
_US: Final = 1_000_000


class Traveller(NamedTuple):
    """An order that travels.

    Attributes:
        order: Its command.
        decide_by_seconds: When the till must have its answer; None for the usual time.
        fault: In a sandbox, what the till wishes to go wrong.
    """

    order: Order
    decide_by_seconds: int | None
    fault: str = ""


def travels(catalogue: Catalogue, order: Order) -> bool:
    """Whether an order is a journey (settlement/RULES.md, rule O1).

    It is if the issuer's own system is reached, or if new points are to be given in one. An order that
    was refused already goes to the books alone.
    """
    connected = catalogue.connected
    if order.reason or not connected:
        return False
    return order.issuer in connected or (order.credited_units > 0 and order.acceptor in connected)


class Passage:
    """The way of orders out of a gateway that are journeys."""

    def __init__(
        self, *, pool: Pool, links: LinkDesk, order_link: OrderLink, now_us: Callable[[], int]
    ) -> None:
        """Take what is needed."""
        self._pool = pool
        self._links = links
        self._order_link = order_link
        self._now_us = now_us

    async def depart(
        self, catalogue: Catalogue, travellers: Sequence[Traveller]
    ) -> list[asyncio.Task[Entry] | Order]:
        """Send orders to the workers.

        Args:
            catalogue: What is offered.
            travellers: The orders.

        Returns:
            For each, in its place: who waits for its answer (and may raise `Unavailable`), or the command
            that writes its refusal down.
        """
        return [
            ready
            if isinstance(ready, Order)
            else asyncio.create_task(self._order_link.order(ready), name="traveller")
            for ready in await self.prepare(catalogue, travellers)
        ]

    async def send(self, wanted: Wanted) -> Entry:
        """Have one order driven that was prepared; see `Journeys.order`."""
        return await self._order_link.order(wanted)

    async def events_of(self, order: uuid.UUID) -> list[Record]:
        """What the journal has of an order: its first event and, where there is one, its end."""
        return await inquiry.find_order(self._pool, order)

    async def prepare(
        self, catalogue: Catalogue, travellers: Sequence[Traveller]
    ) -> list[Wanted | Order]:
        """Say who the member is at the merchants of orders that travel.

        Args:
            catalogue: What is offered.
            travellers: The orders.

        Returns:
            For each, in its place: what the workers are told, or the command that writes its refusal down.
        """
        now_us = self._now_us()
        linked = await self._links.find(
            pair
            for order, *_ in travellers
            for pair in ((order.member_no, order.issuer), (order.member_no, order.acceptor))
            if pair[1] in catalogue.connected
        )
        ready: list[Wanted | Order] = []
        for order, seconds, fault in travellers:
            issuer_member = self._member(catalogue, linked, order, order.issuer)
            acceptor_member = (
                self._member(catalogue, linked, order, order.acceptor)
                if order.credited_units
                else ""
            )
            if issuer_member is None or acceptor_member is None:
                reason = Reason.MEMBER_NOT_AUTHORISED.number
                ready.append(msgspec.structs.replace(order, reason=reason))
                continue
            wanted = Wanted(
                order=msgspec.structs.replace(
                    order, hosted=False, hold_us=order.hold_us or HOLD_SECONDS_DEFAULT * _US
                ),
                issuer_member=issuer_member,
                acceptor_member=acceptor_member,
                decide_by_us=now_us + (seconds or DECIDE_BY_SECONDS) * _US,
                at_us=now_us,
                fault=fault,
            )
            ready.append(wanted)
        return ready

    async def under_way(self, order_seqs: Sequence[int]) -> set[int]:
        """Those of these orders that are journeys which have not ended; nobody else may clear them."""
        return await fetch_under_way(self._pool, order_seqs=order_seqs)

    def _member(
        self,
        catalogue: Catalogue,
        linked: dict[tuple[int, int], str],
        order: Order,
        merchant_no: int,
    ) -> str | None:
        """Who a member is at a merchant: linked at a system of its own, the surrogate in a hosted programme."""
        if merchant_no in catalogue.connected:
            return linked.get((order.member_no, merchant_no))
        return str(order.member_no)
