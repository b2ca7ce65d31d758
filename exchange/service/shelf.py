"""What is offered now: a snapshot of reference data that is at most two seconds old."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from exchange.core.feed import Happening
from exchange.store.catalogue import fetch_catalogue
from exchange.store.limits import fetch_limits
from schemas.values.ids import HOUSE, HOUSE_CODES
from settlement.service import parties

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from asyncpg import Pool

    from exchange.core.catalogue import Catalogue
    from exchange.core.feed import Notice
    from exchange.core.quota import Limits

FRESH_SECONDS = 1.0
STALE_SECONDS = 2.0
HASTE_SECONDS = 0.1
"""Whoever names an unknown merchant has a newer snapshot read, but not more often than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Reference data as of one load.

    Attributes:
        catalogue: Programmes, rates, tariff.
        debit_max_cu: Cap and collateral of each merchant that has an account: no debit can exceed it.
        codes: Codes of all parties by number, the house's accounts among them.
        limits: What callers may ask in a time, by merchant, where anything was set.
    """

    catalogue: Catalogue
    debit_max_cu: Mapping[int, int]
    codes: Mapping[int, str]
    limits: Mapping[int, Limits]


class Shelf:
    """Keeps the snapshot fresh, however many ask at once."""

    def __init__(self, pool: Pool) -> None:
        """Start without a snapshot; the first who asks waits for it."""
        self._pool = pool
        self._offer: Offer | None = None
        self._read_at = 0.0
        self._reading: asyncio.Task[Offer] | None = None
        self._tasks: set[asyncio.Task[Offer]] = set()

    async def offer(self) -> Offer:
        """The snapshot; a fresh one is read ahead while the one before still serves.

        Raises:
            Unavailable: There is none yet, and the database does not answer.
        """
        age = monotonic() - self._read_at
        offer = self._offer
        if offer is not None:
            if age <= FRESH_SECONDS:
                return offer
            if age <= STALE_SECONDS:
                _ = self._begin()
                return offer
        return await asyncio.shield(self._begin())

    def at_hand(self) -> Offer | None:
        """The last snapshot however old, for what must not wait; a newer one is on its way then. None at the start."""
        if self._offer is not None and monotonic() - self._read_at > FRESH_SECONDS:
            _ = self._begin()
        return self._offer

    async def scope_of(self, merchant_no: int) -> int:
        """Whose names a merchant calls members by: its own number, or 0 for the house's."""
        if merchant_no == HOUSE:
            return HOUSE
        programme = (await self.offer()).catalogue.programmes.get(merchant_no)
        return merchant_no if programme is not None and programme.own_names else HOUSE

    async def offer_with(self, *codes: str) -> Offer:
        """The snapshot, read anew if it does not know one of these merchants and may be behind."""
        offer = await self.offer()
        by_code = offer.catalogue.by_code
        if (
            any(code not in by_code for code in codes)
            and monotonic() - self._read_at > HASTE_SECONDS
        ):
            return await asyncio.shield(self._begin())
        return offer

    async def codes_of(self, happened: Iterable[Happening | Notice]) -> Mapping[int, str]:
        """Codes of all parties by number, those of these events among them.

        Whoever stands in the journal joined before, so a snapshot that lacks one is behind and is read anew.
        """
        codes = (await self.offer()).codes
        named = {
            number
            for each in happened
            if isinstance(each, Happening)
            for number in (each.issuer, each.acceptor)
        }
        if any(number > HOUSE and number not in codes for number in named):
            self.expire()
            codes = (await self.offer()).codes
        return codes

    def expire(self) -> None:
        """Let the next who asks read a new snapshot: something was just changed here.

        What is being read now may lack the change, so it is not what the next waits for, nor what is kept.
        """
        self._read_at = 0.0
        self._reading = None

    def _begin(self) -> asyncio.Task[Offer]:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="shelf")
            self._tasks.add(self._reading)
            self._reading.add_done_callback(self._done)
        return self._reading

    def _done(self, task: asyncio.Task[Offer]) -> None:
        """Let go of a task; who served the old snapshot does not wait, so a fault is met by the next who has to."""
        self._tasks.discard(task)
        _ = task.cancelled() or task.exception()

    async def _read(self) -> Offer:
        began = monotonic()
        catalogue = await fetch_catalogue(self._pool)
        rows = await parties.list_parties(self._pool)
        limits = await fetch_limits(self._pool)
        offer = Offer(
            catalogue=catalogue,
            debit_max_cu={
                row["merchant_no"]: row["cap_cu"] + row["collateral_cu"]
                for row in rows
                if row["cap_cu"] is not None
            },
            codes={row["merchant_no"]: row["code"] for row in rows} | HOUSE_CODES,
            limits=limits,
        )
        if self._reading is asyncio.current_task():
            self._offer, self._read_at = offer, began
        return offer
