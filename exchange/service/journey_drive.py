"""The drive of one journey: asks what the table says comes next, and takes in what is answered.

A driver may die at any `await`. What follows from that:

- What is about to be asked of a merchant is durable before it is asked (an *intent*). A driver that
  takes a journey over finds intents and treats each as a call that may have been sent: it inquires.
- A call is sent only under a lease that has not run out, and every write carries the claim's number, so
  of two drivers that both believe in themselves only one moves the journey on.
- The verdict, what the till may still hear, is set once in the store: FORWARD before the books clear,
  LATE by whoever finds that `decide_by` has passed. So a till that heard no never pays.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import structlog

from adapters.kit.contract import Call, NotSent, Outcome, Receipt, Step
from adapters.kit.reference import reference_of
from exchange.core.journey import Change, Line, Source, Verdict
from exchange.core.order import (
    AT_ISSUER,
    BOOKED,
    ENDS,
    LATE_STATES,
    LET_GO,
    REVERSAL,
    TABLE,
    WAITING,
    Ask,
    Event,
    Inquire,
    Means,
    Send,
    State,
    advance,
    intent_with,
    next_step,
    too_late,
)
from schemas.values.faults import Unavailable
from schemas.values.ids import order_id
from schemas.values.reason import REASON_BY_NUMBER, Reason
from settlement.core.command import End, Order, Pin, unstored_refusal
from settlement.core.event import Kind
from settlement.service.clearing import PART

if TYPE_CHECKING:
    import random
    import uuid
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from adapters.kit.contract import Adapter
    from adapters.kit.manifest import Manifest
    from exchange.core.journey import Journey
    from settlement.core.command import Command, Entry
    from settlement.service.clearing import Clearing

log = structlog.get_logger()

BOOKS_RETRY_SECONDS: Final = 0.05
BOOKS_RETRY_SECONDS_MAX: Final = 1.0
FAULT_SECONDS: Final = 5.0
BASKET_GRACE_SECONDS: Final = 1.0
"""How much longer than `decide_by` a leg waits for its basket, so that one that is just decided finds it."""
PENDING_MAX: Final = 20
"""Most receipts that wait for the next write; of a call that stays unknown, the first say enough."""
_NO_BODY: Final = bytes(16)
_US: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A merchant whose own system is reached.

    Attributes:
        system: Its adapter behind its guard; calls may raise `NotSent`.
        manifest: What it can do.
    """

    system: Adapter
    manifest: Manifest


class Scribe(Protocol):
    """What a drive writes with: `GroupCommit`."""

    async def change(self, change: Change) -> Verdict | None:
        """Write a change; its verdict, or None if the claim was lost."""
        ...

    async def late(self, journey_no: int) -> Verdict | None:
        """Settle that it is too late, unless it is settled otherwise; the verdict."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Roads:
    """What all drives of a worker share.

    Attributes:
        scribe: Makes what they write durable.
        clearing: The books.
        merchants: Systems by merchant number.
        now_us: Clock, microseconds since 1970.
        random: Draws jitter.
        may_send: Whether this worker's lease still runs.
        escalate_seconds: How long a call may stay unresolved before people are asked.
        wished: In a sandbox, told what a till wishes to go wrong with its order, before anything is sent.
    """

    scribe: Scribe
    clearing: Clearing
    merchants: Mapping[int, Connected]
    now_us: Callable[[], int]
    random: random.Random
    may_send: Callable[[], bool]
    escalate_seconds: float
    wished: Callable[[uuid.UUID, str], None] | None = None


class Lost(Exception):  # noqa: N818 - it says what happened to the claim
    """The journey is another driver's by now."""


class Drive:
    """One journey on its way."""

    def __init__(self, roads: Roads, journey: Journey, lines: Iterable[Line] | None = None) -> None:
        """Begin a new journey, or go on with one that was taken over.

        Args:
            roads: What is shared.
            journey: As it is stored.
            lines: None for a new journey; else all its lines.
        """
        self.journey_no = journey.journey_no
        self.wanted = journey.wanted
        self.state = journey.state
        self.verdict = journey.verdict
        self.told: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        self._roads = roads
        self._claim_no = journey.claim_no
        self.order_seq = journey.order_seq
        self.accepted_at_us = journey.accepted_at_us
        self._reason = journey.reason
        self._stuck_since_us = journey.stuck_since_us
        self._stuck_why = journey.stuck_why
        self._stored = journey.state
        self._pending: list[Line] = []
        self._intents: set[Step] = {Step.HOLD}
        self._doubtful: set[Step] = set()
        self._numbers: dict[Step, str] = {}
        self._never: set[Step] = set()
        self._sent_us: dict[Step, int] = {}
        self._inbox: list[Line] = []
        self._seen: set[int] = set()
        self._wake = asyncio.Event()
        self._attempts = 0
        self._since_us = 0
        self._wait_seconds: float | None = None
        self._noted: Receipt | None = None
        self._entry: Entry | None = None
        self._sticky = False
        self._decided = False
        self._by_others: set[Step] = set()
        self._breached: set[Step] = set()
        if lines is not None:
            self._resume(lines)

    def _resume(self, lines: Iterable[Line]) -> None:
        """Read what earlier drivers wrote; every intent may have been sent, until just now."""
        now_us = self._roads.now_us()
        self._sticky = self.stuck and self.verdict is Verdict.LATE
        if self.state in BOOKED | LET_GO:
            self.told.set_result(None)  # The store knows the answer.
        for line in lines:
            if line.source is Source.INTENT:
                self._intents.add(line.step)
                self._doubtful.add(line.step)
                self._by_others.add(line.step)
                self._sent_us[line.step] = now_us
            elif line.source in (Source.CALLBACK, Source.PEOPLE):
                self.deliver(line)
            elif line.outcome is Outcome.DONE:
                self._numbers[line.step] = line.number
            elif line.units is not None:
                self._breached.add(line.step)

    # What others see ------------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether a merchant's answer is awaited, or that it takes a call at all."""
        return self.state in WAITING or self.stuck

    @property
    def stuck(self) -> bool:
        """Whether people are asked."""
        return self._stuck_since_us > 0

    def deliver(self, line: Line) -> None:
        """Take an answer that is durable already: of a callback, or of people."""
        if line.line_no in self._seen:
            return
        if line.line_no:
            self._seen.add(line.line_no)
        self._inbox.append(line)
        self._wake.set()

    def go_on(self) -> None:
        """Hear that the basket was decided."""
        self._decided = True
        self._wake.set()

    def mark_late(self) -> None:
        """Hear that the till was told no."""
        self.verdict = Verdict.LATE
        self._wake.set()

    # The loop -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Drive to the end, or until the claim is lost; nothing else ends it but cancelling."""
        delay_seconds = BOOKS_RETRY_SECONDS
        try:
            while self.state not in ENDS or self._stored is not self.state:
                try:
                    await self._step()
                except Unavailable:
                    await asyncio.sleep(delay_seconds)
                    delay_seconds = min(BOOKS_RETRY_SECONDS_MAX, delay_seconds * 2)
                except Lost:
                    raise
                except Exception as error:
                    # A fault of ours must strand no order: people see it, and it is tried again.
                    log.exception("journey.failed", journey_no=self.journey_no)
                    with contextlib.suppress(Unavailable):
                        await self._escalate(f"our own fault: {type(error).__name__}")
                    await asyncio.sleep(FAULT_SECONDS)
                else:
                    delay_seconds = BOOKS_RETRY_SECONDS
        except Lost:
            log.warning("journey.lost", journey_no=self.journey_no)
        finally:
            if not self.told.done():
                self.told.set_result(None)

    async def _step(self) -> None:
        """Do one thing."""
        if self.state in ENDS:
            await self._write()
            return
        means = self._means()
        self._sort_inbox()
        do = next_step(self.state, means, was=self._was())
        if do is Ask.BASKET:
            await self._wait_for_basket(means)
            return
        if isinstance(do, Send) and (do.step in self._doubtful or self._said_by_people(do.step)):
            # An earlier driver may have sent it, or people know: nothing is sent before that is clear.
            self._doubtful.discard(do.step)
            self._move(Event.SENT)
            return
        if self.state in LATE_STATES and await self._is_late():
            event = too_late(self.state, means)
            assert event is not None
            self._undo_for(Reason.DECIDED_TOO_LATE)
            if self.state is State.ACCEPTED and Step.HOLD in self._sent_us:
                # It was sent, and not found: nothing is lost by a release, and a lot if it was held.
                event = Event.NOT_FOUND
            if event is Event.STANDS:
                await self._stand()
            else:
                self._move(event)
            return
        match do:
            case Ask():
                await self._ask_books(do, means)
            case Send():
                await self._send(do.step)
            case Inquire():
                await self._inquire(do.step)
            case Event():
                self._move(do)
            case None:
                raise AssertionError(f"nothing to do for an order that is {self.state.name}")

    async def _wait_for_basket(self, means: Means) -> None:
        """Stand still until the basket was decided; then ask the books to void, which says how.

        If the basket cleared this order, the books answer that, and it goes forward; nothing here clears it.
        """
        if self._stored is not self.state:
            await self._write(intent=intent_with(self.state, means))
        self._tell(self.wanted.held(self.order_seq, self.accepted_at_us))
        until_us = self.wanted.decide_by_us + round(BASKET_GRACE_SECONDS * _US)
        left_seconds = (until_us - self._roads.now_us()) / _US
        if left_seconds > 0 and not self._decided:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_seconds):
                    await self._wake.wait()
            return
        self._undo_for(Reason.BASKET_NOT_COVERED)
        self._move(Event.LATE)

    async def _is_late(self) -> bool:
        if self.verdict is Verdict.OPEN and self._roads.now_us() >= self.wanted.decide_by_us:
            verdict = await self._roads.scribe.late(self.journey_no)
            if verdict is None:
                raise Lost
            self.verdict = verdict
        return self.verdict is Verdict.LATE

    def _move(self, event: Event) -> None:
        """Follow the table."""
        self.state = advance(self.state, event)
        self._attempts = 0 if event is not Event.SENT else self._attempts
        if event is not Event.SENT:
            self._since_us = 0
            self._noted = None
            if not self._sticky:
                self._stuck_since_us, self._stuck_why = 0, ""
        if self.state in BOOKED and self.wanted.waits:
            self._reason = 0  # Its basket had cleared it.
        if self.state in BOOKED and self.verdict is not Verdict.LATE:
            self._tell(self._entry)

    def _was(self) -> Event:
        if Step.REVERSE_CREDIT in self._numbers:
            return Event.WAS_REVERSED
        if self._reason == Reason.HOLD_EXPIRED.number:
            return Event.WAS_EXPIRED
        return Event.WAS_REFUSED

    def _undo_for(self, reason: Reason) -> None:
        """Remember why, if nothing was the reason before."""
        if not self._reason:
            self._reason = reason.number

    def _means(self) -> Means:
        """What the two systems can do.

        Raises:
            Unavailable: This worker has no adapter for one of them.
        """
        order = self.wanted.order
        if self.state in REVERSAL:
            return Means(captures=False, credits=True, reversible=False)
        issuer = self._merchant(order.issuer).manifest
        credits_ = order.credited_units > 0
        reversible = credits_ and self._merchant(order.acceptor).manifest.credit.reversible
        return Means(
            captures=issuer.spend.way == "hold",
            credits=credits_,
            reversible=reversible,
            waits=self.wanted.waits,
        )

    def _merchant(self, merchant_no: int) -> Connected:
        found = self._roads.merchants.get(merchant_no)
        if found is None:
            raise Unavailable(f"no adapter of merchant {merchant_no} runs here")
        return found

    # The store ------------------------------------------------------------------------------------

    async def _write(self, *, intent: Step | None = None, forward: bool = False) -> None:
        """Make state and lines durable; tell the till, if this was what it waited for.

        Args:
            intent: A call whose intent is written with it.
            forward: Settle that the till hears how the order ends, unless it is told that it is late.

        Raises:
            Lost: The journey is another driver's.
        """
        now_us = self._roads.now_us()
        noted = len(self._pending)
        lines = list(self._pending)
        if intent is not None and intent not in self._intents:
            lines.append(Line(step=intent, source=Source.INTENT, at_us=now_us))
        state = self.state
        verdict = await self._roads.scribe.change(
            Change(
                journey_no=self.journey_no,
                claim_no=self._claim_no,
                state=state,
                order_seq=self.order_seq,
                accepted_at_us=self.accepted_at_us,
                reason=self._reason,
                verdict=Verdict.FORWARD if forward else Verdict.OPEN,
                stuck_since_us=self._stuck_since_us,
                stuck_why=self._stuck_why,
                lines=tuple(lines),
                at_us=now_us,
            )
        )
        if verdict is None:
            raise Lost
        del self._pending[:noted]
        if intent is not None:
            self._intents.add(intent)
        self._stored = state
        if self.verdict is Verdict.OPEN:
            self.verdict = verdict
        if self.state in LET_GO:
            self._tell(self._refusal())

    def _tell(self, entry: Entry | None) -> None:
        if entry is not None and not self.told.done():
            self.told.set_result(entry)

    def _refusal(self) -> Entry:
        reason = REASON_BY_NUMBER[self._reason or Reason.DECIDED_TOO_LATE.number]
        refusal = unstored_refusal(reason, self.order_seq)
        return msgspec.structs.replace(refusal, at_us=self.accepted_at_us)

    # The books ------------------------------------------------------------------------------------

    async def _ask_books(self, ask: Ask, means: Means) -> None:
        """Ask the books; what must be durable before their answer is used is written first or beside it."""
        if ask is Ask.PIN:
            _, entry = await asyncio.gather(
                self._write(intent=intent_with(self.state, means)), self._submit(self._pin())
            )
        elif ask is Ask.POST:
            if self.verdict is not Verdict.FORWARD or self._stored is not self.state:
                await self._write(intent=intent_with(self.state, means), forward=True)
                if self.verdict is Verdict.LATE and self.state in LATE_STATES:
                    return
            entry = await self._submit(self._end(Kind.CLEARED))
        elif ask is Ask.ACCEPT:
            entry = await self._submit(self._order())
        else:
            entry = await self._submit(self._end(Kind.VOIDED, proven=ask is Ask.VOID_PROVEN))
        if entry.kind == Kind.REFUSED and entry.reason == Reason.ORDER_ALREADY_CLEARED.number:
            # An earlier driver cleared it: read the event of the clearing.
            entry = await self._submit(self._end(Kind.CLEARED))
        self._take_entry(ask, entry)

    async def _submit(self, command: Command) -> Entry:
        [answer] = await self._roads.clearing.submit([command])
        return answer[0]

    def _order(self) -> Order:
        """The order as the books accept it: held here no longer than the issuer's system holds."""
        spend = self._merchant(self.wanted.order.issuer).manifest.spend
        order = self.wanted.order
        if spend.way != "hold":
            return order
        hold_us = min(order.hold_us, spend.hold_seconds_max * _US)
        return msgspec.structs.replace(order, hold_us=hold_us)

    def _pin(self) -> Pin:
        return Pin(
            caller=self.wanted.order.caller,
            key=self._order_id().bytes,
            body=_NO_BODY,
            order_seq=self.order_seq,
        )

    def _end(self, kind: Kind, *, proven: bool = False) -> End:
        return End(
            caller=self.wanted.order.caller,
            key=self._order_id().bytes,
            body=_NO_BODY,
            order_seq=self.order_seq,
            kind=int(kind),
            proven=proven,
        )

    def _take_entry(self, ask: Ask, entry: Entry) -> None:
        """Move on by what the books answered."""
        if ask is Ask.ACCEPT:
            if entry.seq:
                self.order_seq, self.accepted_at_us = entry.order_seq, entry.at_us
            if entry.kind == Kind.ACCEPTED:
                if self.wanted.fault and self._roads.wished:
                    self._roads.wished(self._order_id(), self.wanted.fault)
                self._move(Event.ACCEPTED)
            elif entry.kind == Kind.REFUSED:
                self._reason = entry.reason
                self._move(Event.DENIED)
            else:
                # The key's order had cleared before the merchant was connected.
                self._entry = entry
                self._move(Event.POSTED)
            return
        if entry.kind == Kind.REFUSED:
            event = _OF_REFUSAL.get(REASON_BY_NUMBER[entry.reason])
            if event is None or (self.state, event) not in TABLE:
                raise ValueError(
                    f"the books refuse to {ask.name} what is {self.state.name}: {entry.reason}"
                )
            if event is Event.GONE:
                self._undo_for(REASON_BY_NUMBER[entry.reason])
            self._move(event)
            return
        if entry.kind == Kind.CLEARED:
            self._entry = msgspec.structs.replace(entry, at_us=self.accepted_at_us)
        self._move(_OF_KIND[Kind(entry.kind)])

    # The merchants --------------------------------------------------------------------------------

    def _order_id(self) -> uuid.UUID:
        return order_id(self.accepted_at_us, PART, self.order_seq)

    def _at(self, step: Step) -> Connected:
        order = self.wanted.order
        return self._merchant(order.issuer if step in AT_ISSUER else order.acceptor)

    def _call(self, step: Step) -> Call:
        """The call of a step: the same at every repeat."""
        order_uuid, of = self._order_id(), _ENDED_BY.get(step)
        at_issuer = step in AT_ISSUER
        return Call(
            step=step,
            reference=reference_of(order_uuid, step),
            member=self.wanted.issuer_member if at_issuer else self.wanted.acceptor_member,
            units=self.wanted.order.units if at_issuer else self.wanted.order.credited_units,
            of=reference_of(order_uuid, of) if of else "",
            of_receipt=self._numbers.get(of, "") if of else "",
            at_us=self.accepted_at_us,
        )

    async def _send(self, step: Step) -> None:
        """Send a call; its intent is durable before."""
        if step not in self._intents:
            await self._write(intent=step)
        self._check_lease()
        self._since_us = self._since_us or self._roads.now_us()
        try:
            receipt = await self._make(step)
        except NotSent as error:
            await self._turned_away(error)
            return
        self._move(Event.SENT)
        await self._take(step, receipt, Source.CALL)

    def _check_lease(self) -> None:
        """Send nothing when others may think that we are gone.

        Raises:
            Unavailable: The lease is about to run out; it is renewed, or this drive is dropped.
        """
        if not self._roads.may_send():
            raise Unavailable("the worker's lease is not renewed")

    async def _make(self, step: Step) -> Receipt:
        """Make a call; when it may have been sent at the latest is remembered."""
        system, call = self._at(step).system, self._call(step)
        make: Callable[[Call], Awaitable[Receipt]] = {
            Step.HOLD: system.hold,
            Step.CAPTURE: system.capture,
            Step.RELEASE: system.release,
            Step.CREDIT: system.credit,
            Step.REVERSE_CREDIT: system.reverse_credit,
        }[step]
        receipt = await make(call)
        # It may have waited for its turn: it was sent by now at the latest.
        self._by_others.discard(step)
        self._sent_us[step] = self._roads.now_us()
        return receipt

    async def _turned_away(self, error: NotSent) -> None:
        """Nothing was sent: give the order up where that is possible, else wait."""
        if (self.state, Event.TURNED_AWAY) in TABLE:
            self._undo_for(Reason.MERCHANT_UNAVAILABLE)
            before = self.state is State.ACCEPTED and Step.HOLD in self._sent_us
            self._move(Event.NOT_FOUND if before else Event.TURNED_AWAY)
            return
        self._attempts += 1
        await self._escalate_if_due(f"no call is taken: {error.detail}")
        await self._pause(max(self._backoff_seconds(), error.retry_after_seconds))

    async def _inquire(self, step: Step) -> None:
        """Wait a little, then ask what became of a call; an answer that comes by itself ends the wait."""
        self._since_us = self._since_us or self._roads.now_us()
        if await self._take_delivered(step):
            return
        if not await self._pause(self._wait_seconds or self._backoff_seconds()):
            return
        if step in self._breached:
            return  # What the merchant's system says cannot be relied upon: people must say.
        self._wait_seconds = None
        self._attempts += 1
        manifest = self._at(step).manifest
        try:
            if manifest.status.way == "reference":
                receipt = await self._at(step).system.status(self._call(step))
                source = Source.INQUIRY
            elif self.state is State.DOUBTED:
                # Nothing can be asked, and a repeat would hold anew: once the call cannot arrive any
                # more, give back what may be held; what never was held is released too.
                if self._is_final(step):
                    self._numbers.setdefault(step, "")
                    self._move(Event.DONE)
                return
            else:
                self._check_lease()
                receipt, source = await self._make(step), Source.CALL
        except NotSent as error:
            await self._escalate_if_due(f"no inquiry is taken: {error.detail}")
            return
        await self._take(step, receipt, source)
        if self.state in WAITING:
            await self._escalate_if_due(f"{step.name} is {receipt.outcome.value}: {receipt.detail}")

    def _sort_inbox(self) -> None:
        """Drop what says what is known, and have people look at what contradicts it."""
        waiting = WAITING.get(self.state)
        for line in [line for line in self._inbox if line.step is not waiting]:
            if line.step is _CALL_OF.get(self.state) and line.source is Source.PEOPLE:
                continue
            known = line.step in self._numbers
            done = line.outcome is Outcome.DONE
            settled = known or line.step in self._never
            if (
                not settled
                and self.state not in ENDS
                and line.step in self._doubtful | self._intents
            ):
                continue  # It answers a call that is on its way, or that is not asked about yet.
            self._inbox.remove(line)
            if done != known and settled and line.outcome is not Outcome.UNKNOWN:
                self._sticky = True
                self._mark_stuck(
                    f"{line.step.name} was told to be {line.outcome.value if line.outcome else ''} "
                    "after the opposite was certain"
                )

    def _said_by_people(self, step: Step) -> bool:
        """Whether people have said what became of a call."""
        return any(line.step is step and line.source is Source.PEOPLE for line in self._inbox)

    async def _take_delivered(self, step: Step) -> bool:
        """Take an answer to this very call out of the inbox, if there is one."""
        for line in self._inbox:
            if line.step is step and line.outcome is not None:
                self._inbox.remove(line)
                if step in self._breached and line.source is not Source.PEOPLE:
                    return True
                refused = line.outcome is Outcome.REFUSED
                reason = REASON_BY_NUMBER.get(line.reason, Reason.MERCHANT_REFUSED)
                await self._take(
                    step,
                    Receipt(
                        outcome=line.outcome,
                        reason=reason if refused else None,
                        number=line.number,
                        units=line.units,
                        detail=line.detail,
                    ),
                    line.source,
                )
                return True
        return False

    async def _take(self, step: Step, receipt: Receipt, source: Source) -> None:
        """Take an answer in."""
        if receipt.units not in (None, self._call(step).units):
            receipt = replace(receipt, outcome=Outcome.UNKNOWN, reason=None)
        if receipt.outcome is Outcome.DONE:
            self._numbers[step] = receipt.number
            self._note(step, receipt, source)
            if self.state is State.CREDITING_LATE and not self._means().reversible:
                await self._stand()
            else:
                self._move(Event.DONE)
        elif receipt.outcome is Outcome.REFUSED:
            await self._take_refusal(step, receipt, source)
        else:
            self._note(step, receipt, source)
            if receipt.expected:
                self._wait_seconds = self._at(step).manifest.answers.seconds
            if receipt.units is not None:
                self._breached.add(step)
                await self._escalate(f"{step.name} moved {receipt.units} units: {receipt.detail}")

    async def _take_refusal(self, step: Step, receipt: Receipt, source: Source) -> None:
        """Take a no in: weigh a call that is not found, and keep what only people can mend."""
        reason = receipt.reason or Reason.MERCHANT_REFUSED
        if source is Source.INQUIRY and reason is Reason.CALL_NOT_FOUND:
            if not self._is_final(step):
                # It may still be on its way; ask again when it cannot be any more.
                self._wait_seconds = min(self._backoff_seconds(), self._final_seconds(step))
            elif (self.state, Event.NOT_FOUND) in TABLE:
                self._note(step, receipt, source)
                if self.state is State.CREDITING_LATE:
                    self._never.add(step)
                attempts = self._attempts
                self._move(Event.NOT_FOUND)
                self._attempts = attempts
            return
        if step is Step.RELEASE and reason is Reason.CALL_NOT_FOUND:
            self._note(step, receipt, source)
            self._move(Event.DONE)  # A hold that never was is released too.
            return
        self._note(step, receipt, source)
        if source is Source.PEOPLE and (self.state, Event.CONCEDED) in TABLE:
            self._move(Event.CONCEDED)
        elif (self.state, Event.REFUSED) in TABLE:
            self._never.add(step)
            self._undo_for(reason)
            if self.state is State.REVERSING:
                self._sticky = True
                self._mark_stuck(_STANDS.format(why=reason.code))
            self._move(Event.REFUSED)
        else:
            await self._escalate(f"{step.name} was refused: {reason.code}")

    async def _stand(self) -> None:
        """A credit came too late and cannot be taken back: go forward, and have people told."""
        self._sticky = True
        self._mark_stuck(_STANDS.format(why="it is not reversible"))
        self._move(Event.STANDS)

    def _note(self, step: Step, receipt: Receipt, source: Source) -> None:
        """Write a receipt down with the next write; what is durable already, or was just noted, is not."""
        durable = source in (Source.CALLBACK, Source.PEOPLE)
        if durable or receipt == self._noted or len(self._pending) >= PENDING_MAX:
            return
        self._noted = receipt
        self._pending.append(
            Line(
                step=step,
                source=source,
                at_us=self._roads.now_us(),
                outcome=receipt.outcome,
                reason=receipt.reason.number if receipt.reason else 0,
                number=receipt.number[:64],
                units=receipt.units,
                detail=receipt.detail[:200],
            )
        )

    # Time -----------------------------------------------------------------------------------------

    def _is_final(self, step: Step) -> bool:
        return self._final_seconds(step) <= 0

    def _final_seconds(self, step: Step) -> float:
        """Seconds until a call that is not found can never arrive any more."""
        manifest = self._at(step).manifest
        sent_us = self._sent_us.get(step, self._roads.now_us())
        final_seconds = manifest.status.final_after_seconds
        if step in self._by_others:
            # Whoever drove before may have had the call on its way still.
            final_seconds += manifest.limits.deadline_seconds
        return final_seconds - (self._roads.now_us() - sent_us) / _US

    def _backoff_seconds(self) -> float:
        """Twice as long each time, up to the merchant's limit, less a random part of up to a half."""
        step = WAITING.get(self.state)
        limits = self._at(step or _CALL_OF[self.state]).manifest.limits
        longest = min(
            limits.inquiry_max_seconds,
            limits.inquiry_first_seconds * float(1 << min(self._attempts, 30)),
        )
        return longest * (1 - 0.5 * self._roads.random.random())

    async def _pause(self, seconds: float) -> bool:
        """Wait; True if the whole time has passed, False if something is to be seen to before."""
        until_seconds = seconds
        if self.state in LATE_STATES and self.verdict is Verdict.OPEN:
            left_us = self.wanted.decide_by_us - self._roads.now_us()
            until_seconds = min(seconds, max(0.0, left_us / _US))
        elif self.state in LATE_STATES and self.verdict is Verdict.LATE:
            return False
        self._wake.clear()
        step = WAITING.get(self.state) or _CALL_OF.get(self.state)
        if any(line.step is step for line in self._inbox):
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(until_seconds):
                await self._wake.wait()
                return False
        return until_seconds == seconds

    async def _escalate_if_due(self, why: str) -> None:
        """Ask people when the merchant's attempts are used up, or the time is."""
        step = WAITING.get(self.state) or _CALL_OF[self.state]
        waited_us = self._roads.now_us() - self._since_us
        if (
            self._attempts >= self._at(step).manifest.limits.attempts
            or waited_us >= self._roads.escalate_seconds * _US
        ):
            await self._escalate(why)

    async def _escalate(self, why: str) -> None:
        """Have people look; the order goes on trying."""
        if self._stuck_why == why or (self._stuck_since_us and not self._pending):
            return
        self._mark_stuck(why)
        await self._write()

    def _mark_stuck(self, why: str) -> None:
        self._stuck_since_us = self._stuck_since_us or self._roads.now_us()
        self._stuck_why = why[:200]
        log.warning("journey.stuck", journey_no=self.journey_no, state=self.state.name, why=why)


_STANDS: Final = "the till heard no, but the credit stands ({why}): the order goes forward"
_ENDED_BY: Final = {
    Step.CAPTURE: Step.HOLD,
    Step.RELEASE: Step.HOLD,
    Step.REVERSE_CREDIT: Step.CREDIT,
}
_CALL_OF: Final = {
    State.ACCEPTED: Step.HOLD,
    State.PINNED: Step.CREDIT,
    State.POSTED: Step.CAPTURE,
    State.VOIDED: Step.RELEASE,
    State.RECALLING: Step.REVERSE_CREDIT,
    State.OWING: Step.CREDIT,
}
_OF_KIND: Final = {Kind.PINNED: Event.PINNED, Kind.CLEARED: Event.POSTED, Kind.VOIDED: Event.VOIDED}
_OF_REFUSAL: Final = {
    Reason.ORDER_ALREADY_VOIDED: Event.GONE,
    Reason.HOLD_EXPIRED: Event.GONE,
    Reason.CREDIT_UNDER_WAY: Event.PINNED,
}
