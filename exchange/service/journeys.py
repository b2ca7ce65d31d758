"""Orders on their way between merchants' own systems: many journeys, driven side by side by one worker.

Nothing here waits for one merchant: each journey is a task of its own, each merchant's guard bounds
what is under way there, and the one thing that all share, the group commit, asks no merchant.

A worker holds a lease. Journeys of a worker whose lease ran out are taken over by any other, at most
a third of a lease later. A worker that finds its own lease run out drops what it drives and begins
again under a new name.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import operator
import uuid
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from adapters.kit.contract import own_words
from adapters.kit.reference import step_of
from exchange.core.journey import Line, Source, Verdict
from exchange.core.order import BOOKED, LET_GO, State
from exchange.service.journey_books import end_of, refusal_of
from exchange.service.journey_drive import Drive
from exchange.service.journey_roads import Connected, Roads
from exchange.service.journey_store import GroupCommit, JourneyStore
from schemas.values.faults import Unavailable
from schemas.values.reason import REASON_BY_NUMBER, Reason
from settlement.core.command import unstored_refusal
from settlement.core.event import Kind
from settlement.service.clearing import PART

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from adapters.kit.contract import Answers, Receipt
    from exchange.core.journey import Journey, Wanted
    from settlement.core.command import Entry
    from settlement.service.clearing import Clearing

log = structlog.get_logger()

LEASE_SECONDS: Final = 6.0
POLL_SECONDS: Final = 0.25
GRACE_SECONDS: Final = 2.0
"""How much longer than `decide_by` a till waits for an order that can only go forward any more."""
ESCALATE_SECONDS: Final = 300.0
STOP_SECONDS: Final = 3.0
TAKEN_MAX: Final = 500
REMEMBERED: Final = 10_000
LEASE_MARGIN: Final = 0.25
"""Part of a lease in which nothing is sent any more, so that what was sent has left before it ends."""
_US: Final = 1_000_000


class Journeys:
    """All journeys of one worker."""

    def __init__(
        self,
        *,
        store: JourneyStore,
        clearing: Clearing,
        merchants: Mapping[int, Connected],
        now_us: Callable[[], int],
        random: random.Random,
        lease_seconds: float = LEASE_SECONDS,
        poll_seconds: float = POLL_SECONDS,
        escalate_seconds: float = ESCALATE_SECONDS,
        wished: Callable[[uuid.UUID, str], None] | None = None,
        same: Callable[[bytes, bytes], bool] = operator.eq,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            store: Where journeys are kept.
            clearing: The books.
            merchants: Systems by merchant number; may change while this runs.
            now_us: Clock, microseconds since 1970; waiting is the event loop's.
            random: Draws the worker's names and jitter.
            lease_seconds: How long others wait before they take over what this worker drives.
            poll_seconds: How often answers that came elsewhere are looked for.
            escalate_seconds: How long a call may stay unresolved before people are asked.
            wished: In a sandbox, told what tills wish to go wrong with their orders.
            same: Whether two bodies under one key, a stored one and the one that is asked, are one request's.
        """
        self._same = same
        self._wished = wished
        self._store = store
        self._clearing = clearing
        self._now_us = now_us
        self._random = random
        self._lease_us = round(lease_seconds * _US)
        self._poll_seconds = poll_seconds
        self._lease_until_us = 0
        self._worker = self._new_name()
        self._commit = GroupCommit(store, self._worker)
        self._merchants = merchants
        self._escalate_seconds = escalate_seconds
        self._drives: dict[int, Drive] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._remembered: OrderedDict[int, None] = OrderedDict()
        self._keepers: list[asyncio.Task[None]] = []
        self._accepting = False
        self.taken_over = 0

    # What others see ------------------------------------------------------------------------------

    @property
    def under_way(self) -> int:
        """Journeys that this worker drives now."""
        return len(self._drives)

    @property
    def stuck(self) -> int:
        """Those of them that people are asked about."""
        return sum(drive.record.stuck for drive in self._drives.values())

    @property
    def commits(self) -> int:
        """Transactions so far, for metrics; compare with `rows`."""
        return self._commit.commits

    @property
    def rows(self) -> int:
        """Journeys written so far, in all transactions."""
        return self._commit.rows

    async def start(self) -> None:
        """Enter, take over what nobody drives, and accept orders.

        Raises:
            Unavailable: The store does not answer.
        """
        await self._enter()
        self._commit.start()
        await self._take_over()
        self._keepers = [
            asyncio.create_task(self._keep_lease(), name="keep lease"),
            asyncio.create_task(self._keep_looking(), name="look for answers"),
        ]
        self._accepting = True

    async def stop(self, *, within_seconds: float = STOP_SECONDS) -> None:
        """Accept nothing new, let what is nearly done end, and leave the rest to others."""
        self._accepting = False
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=within_seconds)
        await self.kill()
        with contextlib.suppress(Unavailable):
            await self._store.leave(self._worker)

    async def kill(self) -> None:
        """End as a process dies: between two awaits, and without a word."""
        self._accepting = False
        tasks = [*self._keepers, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._commit.stop()
        self._drives.clear()
        self._tasks.clear()

    async def order(self, wanted: Wanted) -> Entry:
        """Have an order driven, and wait for the till's answer.

        Args:
            wanted: The order. Under a key that is known, it is the journey that stands there; a leg that waits
                for its basket goes on if it is asked for once more as one that does not wait.

        Returns:
            The event of its clearing (with the instant of its acceptance), or of kind REFUSED with the reason's
            number. By `decide_by` it is refused with DECIDED_TOO_LATE. Of a leg that its issuer holds, the event
            of its acceptance.

        Raises:
            Unavailable: Whether it stands cannot be said now; the same key asks again.
        """
        if not self._accepting:
            raise Unavailable("this worker is stopping")
        journey = await self._commit.begin(wanted)
        if not self._same(journey.wanted.order.body, wanted.order.body):
            return unstored_refusal(Reason.IDEMPOTENCY_CONFLICT)
        number = journey.journey_no
        drive = self._drives.get(number)
        if drive is None and self._is_new(journey):
            drive = self._begin(Drive(self._roads(), replace(journey, wanted=wanted)))
        if drive is not None:
            if journey.wanted.waits and not wanted.waits:
                drive.go_on()
            return await self._wait(drive)
        return await self._wait_elsewhere(journey)

    def answers_of(self, merchant_no: int) -> Answers:
        """Where the adapter of one merchant puts answers that its system gives by itself.

        A merchant is heard about calls at its own system only, whoever's signature is good.
        """
        return functools.partial(self._answered, merchant_no)

    async def _answered(self, merchant_no: int, reference: str, receipt: Receipt) -> None:
        """Take an answer that a merchant's system gives by itself; returns when it is durable.

        Raises:
            LookupError: No call of ours at this merchant has this reference; nothing may be acknowledged.
            Unavailable: It could not be made durable.
        """
        try:
            order, step = step_of(reference)
        except ValueError as error:
            raise LookupError(f"no call of ours: {reference[:40]!r}") from error
        line = Line(
            step=step,
            source=Source.CALLBACK,
            at_us=self._now_us(),
            outcome=receipt.outcome,
            reason=receipt.reason.number if receipt.reason else 0,
            number=receipt.number[:64],
            units=receipt.units,
            detail=own_words(receipt.detail)[:200],
        )
        journey_no = await self._store.answer(order, line, merchant_no=merchant_no)
        if not journey_no:
            raise LookupError(f"no call at this merchant has the reference {reference}")
        drive = self._drives.get(journey_no)
        if drive is not None:
            drive.deliver(line)

    # Journeys -------------------------------------------------------------------------------------

    def _is_new(self, journey: Journey) -> bool:
        """Whether our own begin made it: ours, never taken over, and never driven here."""
        return (
            journey.worker == self._worker
            and journey.claim_no == 1
            and journey.journey_no not in self._remembered
            and self._accepting
        )

    def _begin(self, drive: Drive) -> Drive:
        number = drive.record.journey_no
        self._remembered[number] = None
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        self._drives[number] = drive
        task = asyncio.create_task(drive.run(), name=f"journey {number}")
        self._tasks[number] = task
        task.add_done_callback(lambda done: self._ended(number, drive, done))
        return drive

    def _ended(self, number: int, drive: Drive, task: asyncio.Task[None]) -> None:
        if self._drives.get(number) is drive:
            del self._drives[number]
            del self._tasks[number]
        if not task.cancelled() and (error := task.exception()):
            log.error("journey.ended", journey_no=number, error=repr(error))

    async def _wait(self, drive: Drive) -> Entry:
        """Wait for the answer of a journey that is driven here."""
        entry: Entry | None = None
        if drive.record.verdict is not Verdict.LATE:
            entry = await self._told(drive, drive.wanted.decide_by_us)
            if entry is not None:
                return entry
        if not drive.told.done() and await self._is_late(drive.record.journey_no):
            drive.mark_late()
            return refusal_of(
                Reason.DECIDED_TOO_LATE, drive.record.order_seq, drive.record.accepted_at_us
            )
        grace_until_us = drive.wanted.decide_by_us + round(GRACE_SECONDS * _US)
        entry = await self._told(drive, grace_until_us)
        if entry is not None:
            return entry
        [journey] = await self._store.find([_key(drive.wanted)])
        return await self._wait_elsewhere(journey)

    async def _told(self, drive: Drive, until_us: int) -> Entry | None:
        """What the till is told, if it is known by then."""
        if not drive.told.done():
            left_seconds = (until_us - self._now_us()) / _US
            await asyncio.wait((drive.told,), timeout=max(0.0, left_seconds))
        return drive.told.result() if drive.told.done() else None

    async def _wait_elsewhere(self, journey: Journey) -> Entry:
        """Wait for the answer of a journey that another worker drives, or that has ended."""
        decide_by_us = journey.wanted.decide_by_us
        while True:
            entry = await self._answer(journey)
            if entry is not None:
                return entry
            now_us = self._now_us()
            if (
                journey.verdict is Verdict.OPEN
                and now_us >= decide_by_us
                and await self._is_late(journey.journey_no)
            ):
                return refusal_of(
                    Reason.DECIDED_TOO_LATE, journey.order_seq, journey.accepted_at_us
                )
            if now_us >= decide_by_us + round(GRACE_SECONDS * _US):
                raise Unavailable("the order is under way; ask again under the same key")
            await asyncio.sleep(min(self._poll_seconds, 0.1))
            [journey] = await self._store.find([_key(journey.wanted)])

    async def _is_late(self, journey_no: int) -> bool:
        """Settle that it is too late, unless something else is settled.

        Raises:
            Unavailable: Nothing can be settled now.
        """
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                return await self._commit.late(journey_no) is Verdict.LATE
        except TimeoutError:
            raise Unavailable("the order is under way; ask again under the same key") from None

    async def _answer(self, journey: Journey) -> Entry | None:
        """What a till hears of a stored journey; None while it is open."""
        if journey.verdict is Verdict.LATE:
            return refusal_of(Reason.DECIDED_TOO_LATE, journey.order_seq, journey.accepted_at_us)
        if journey.state in LET_GO:
            reason = REASON_BY_NUMBER[journey.reason or Reason.ORDER_ALREADY_VOIDED.number]
            return refusal_of(reason, journey.order_seq, journey.accepted_at_us)
        if journey.wanted.waits and journey.state is State.HELD:
            return journey.wanted.held(journey.order_seq, journey.accepted_at_us)
        order = journey.order_id(PART)
        if journey.state not in BOOKED or order is None:
            return None
        end = end_of(journey.wanted.order.caller, order, journey.order_seq, Kind.CLEARED)
        [answer] = await self._clearing.submit([end])
        return msgspec.structs.replace(answer[0], at_us=journey.accepted_at_us)

    # The lease ------------------------------------------------------------------------------------

    def _new_name(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128), version=4)

    def _roads(self) -> Roads:
        worker = self._worker
        margin_us = round(self._lease_us * LEASE_MARGIN)

        def may_send() -> bool:
            ours = self._worker == worker
            return ours and self._now_us() < self._lease_until_us - margin_us

        return Roads(
            scribe=self._commit,
            clearing=self._clearing,
            merchants=self._merchants,
            now_us=self._now_us,
            random=self._random,
            may_send=may_send,
            escalate_seconds=self._escalate_seconds,
            wished=self._wished,
        )

    async def _enter(self) -> None:
        now_us = self._now_us()
        until_us = now_us + self._lease_us
        await self._store.enter(self._worker, now_us=now_us, lease_until_us=until_us)
        self._lease_until_us = until_us

    async def _keep_lease(self) -> None:
        """Renew the lease and take over what nobody drives, three times a lease."""
        while True:
            await asyncio.sleep(self._lease_us / _US / 3)
            try:
                now_us = self._now_us()
                until_us = now_us + self._lease_us
                if await self._store.renew(self._worker, now_us=now_us, lease_until_us=until_us):
                    self._lease_until_us = until_us
                else:
                    await self._begin_again()
                await self._take_over()
            except Unavailable as error:
                log.warning("worker.waits", detail=str(error))
            except Exception:
                # Whatever it was, a worker without a keeper would lose its journeys for nothing.
                log.exception("worker.failed")

    async def _begin_again(self) -> None:
        """Our lease ran out, and what we drove is others' by now: drop it and take a new name."""
        log.warning("worker.lease_lost", journeys=len(self._drives))
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._commit.stop()
        self._worker = self._new_name()
        self._commit = GroupCommit(self._store, self._worker)
        await self._enter()
        self._commit.start()

    async def _take_over(self) -> None:
        """Drive on what a worker that is gone has left."""
        while True:
            taken = await self._store.take_over(
                self._worker, now_us=self._now_us(), limit=TAKEN_MAX
            )
            for journey, lines in taken:
                self._begin(Drive(self._roads(), journey, lines))
            self.taken_over += len(taken)
            if taken:
                log.info("worker.took_over", journeys=len(taken))
            if len(taken) < TAKEN_MAX:
                return

    async def _keep_looking(self) -> None:
        """Look for answers that callbacks at other workers, or people, wrote down."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            waiting = [number for number, drive in self._drives.items() if drive.waits]
            if not waiting:
                continue
            try:
                for journey_no, line in await self._store.answers(waiting):
                    drive = self._drives.get(journey_no)
                    if drive is not None:
                        drive.deliver(line)
            except Unavailable:
                continue
            except Exception:
                log.exception("worker.failed")


def _key(wanted: Wanted) -> tuple[int, bytes]:
    return wanted.order.caller, wanted.order.key


__all__ = ["Connected", "Journeys"]
