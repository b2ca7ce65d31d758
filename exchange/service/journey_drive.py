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
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from adapters.kit.contract import NotSent, Outcome, Receipt, Step, own_words
from adapters.kit.guard import checked
from exchange.core.journey import Line, Source, Verdict
from exchange.core.order import (
    BOOKED,
    CALLS,
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
from exchange.service.journey_books import end_of, event_of, order_of, pin_of, refusal_of
from exchange.service.journey_calls import Calls
from exchange.service.journey_inbox import Inbox
from exchange.service.journey_record import Record
from exchange.service.journey_roads import Lost, Roads
from schemas.values.faults import Unavailable
from schemas.values.reason import REASON_BY_NUMBER, Reason
from settlement.core.event import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exchange.core.journey import Journey
    from settlement.core.command import Command, Entry

log = structlog.get_logger()

BOOKS_RETRY_SECONDS: Final = 0.05
BOOKS_RETRY_SECONDS_MAX: Final = 1.0
FAULT_SECONDS: Final = 5.0
BASKET_GRACE_SECONDS: Final = 1.0
"""How much longer than `decide_by` a leg waits for its basket, so that one that is just decided finds it."""
_US: Final = 1_000_000


class Drive:
    """One journey on its way."""

    def __init__(self, roads: Roads, journey: Journey, lines: Iterable[Line] | None = None) -> None:
        """Begin a new journey, or go on with one that was taken over.

        Args:
            roads: What is shared.
            journey: As it is stored.
            lines: None for a new journey; else all its lines.
        """
        self.wanted = journey.wanted
        self.state = journey.state
        self.record = Record(roads, journey)
        self.told: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        self._roads = roads
        self._calls = Calls(roads, journey.wanted, reversal=journey.state in REVERSAL)
        self._inbox = Inbox()
        self._wake = asyncio.Event()
        self._attempts = 0
        self._since_us = 0
        self._wait_seconds: float | None = None
        self._entry: Entry | None = None
        self._decided = False
        if journey.order_seq:
            self._calls.accepted(journey.order_seq, journey.accepted_at_us)
        if lines is not None:
            self._resume(lines)

    def _resume(self, lines: Iterable[Line]) -> None:
        """Read what earlier drivers wrote."""
        if self.state in BOOKED | LET_GO:
            self.told.set_result(None)  # The store knows the answer.
        for line in lines:
            if line.source in (Source.CALLBACK, Source.PEOPLE):
                self.deliver(line)
            else:
                self._calls.recall(line)

    # What others see ------------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether a merchant's answer is awaited, or that it takes a call at all."""
        return self.state in WAITING or self.record.stuck

    def deliver(self, line: Line) -> None:
        """Take an answer that is durable already: of a callback, or of people."""
        if self._inbox.put(line):
            self._wake.set()

    def go_on(self) -> None:
        """Hear that the basket was decided."""
        self._decided = True
        self._wake.set()

    def mark_late(self) -> None:
        """Hear that the till was told no."""
        self.record.verdict = Verdict.LATE
        self._wake.set()

    # The loop -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Drive to the end, or until the claim is lost; nothing else ends it but cancelling."""
        delay_seconds = BOOKS_RETRY_SECONDS
        try:
            while self.state not in ENDS or self.record.state is not self.state:
                try:
                    await self._step()
                except Unavailable:
                    await asyncio.sleep(delay_seconds)
                    delay_seconds = min(BOOKS_RETRY_SECONDS_MAX, delay_seconds * 2)
                except Lost:
                    raise
                except Exception as error:
                    # A fault of ours must strand no order: people see it, and it is tried again.
                    log.exception("journey.failed", journey_no=self.record.journey_no)
                    with contextlib.suppress(Unavailable):
                        await self._escalate(f"our own fault: {type(error).__name__}")
                    await asyncio.sleep(FAULT_SECONDS)
                else:
                    delay_seconds = BOOKS_RETRY_SECONDS
        except Lost:
            log.warning("journey.lost", journey_no=self.record.journey_no)
        finally:
            if not self.told.done():
                self.told.set_result(None)

    async def _step(self) -> None:
        """Do one thing."""
        if self.state in ENDS:
            await self._write()
            return
        means = self._calls.means()
        self._sort_inbox()
        do = next_step(self.state, means, was=self._was())
        if do is Ask.BASKET:
            await self._wait_for_basket(means)
            return
        if isinstance(do, Send) and (
            do.step in self._calls.doubtful or self._inbox.has_of_people(do.step)
        ):
            # An earlier driver may have sent it, or people know: nothing is sent before that is clear.
            self._calls.doubtful.discard(do.step)
            self._move(Event.SENT)
            return
        if self.state in LATE_STATES and await self._is_late():
            event = too_late(self.state, means)
            assert event is not None
            self.record.undo_for(Reason.DECIDED_TOO_LATE)
            if self.state is State.ACCEPTED and self._calls.was_sent(Step.HOLD):
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
        if self.record.state is not self.state:
            await self._write(intent=intent_with(self.state, means))
        self._tell(self.wanted.held(self.record.order_seq, self.record.accepted_at_us))
        until_us = self.wanted.decide_by_us + round(BASKET_GRACE_SECONDS * _US)
        left_seconds = (until_us - self._roads.now_us()) / _US
        if left_seconds > 0 and not self._decided:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_seconds):
                    await self._wake.wait()
            return
        self.record.undo_for(Reason.BASKET_NOT_COVERED)
        self._move(Event.LATE)

    async def _is_late(self) -> bool:
        if self.record.verdict is Verdict.OPEN and self._roads.now_us() >= self.wanted.decide_by_us:
            await self.record.late()
        return self.record.verdict is Verdict.LATE

    def _move(self, event: Event) -> None:
        """Follow the table."""
        self.state = advance(self.state, event)
        self._attempts = 0 if event is not Event.SENT else self._attempts
        if event is not Event.SENT:
            self._since_us = 0
            self.record.moved()
        if self.state in BOOKED and self.wanted.waits:
            self.record.reason = 0  # Its basket had cleared it.
        if self.state in BOOKED and self.record.verdict is not Verdict.LATE:
            self._tell(self._entry)

    def _was(self) -> Event:
        if Step.REVERSE_CREDIT in self._calls.numbers:
            return Event.WAS_REVERSED
        if self.record.reason == Reason.HOLD_EXPIRED.number:
            return Event.WAS_EXPIRED
        return Event.WAS_REFUSED

    # The store ------------------------------------------------------------------------------------

    async def _write(self, *, intent: Step | None = None, forward: bool = False) -> None:
        """Make state and lines durable; tell the till, if this was what it waited for.

        Args:
            intent: A call whose intent is written with it, unless it is durable already.
            forward: As in `Record.write`.

        Raises:
            Lost: The journey is another driver's.
        """
        fresh = None if intent in self._calls.intents else intent
        await self.record.write(self.state, intent=fresh, forward=forward)
        if fresh is not None:
            self._calls.intents.add(fresh)
        if self.state in LET_GO:
            reason = REASON_BY_NUMBER[self.record.reason or Reason.DECIDED_TOO_LATE.number]
            self._tell(refusal_of(reason, self.record.order_seq, self.record.accepted_at_us))

    def _tell(self, entry: Entry | None) -> None:
        if entry is not None and not self.told.done():
            self.told.set_result(entry)

    # The books ------------------------------------------------------------------------------------

    async def _ask_books(self, ask: Ask, means: Means) -> None:
        """Ask the books; what must be durable before their answer is used is written first or beside it."""
        if ask is Ask.PIN:
            _, entry = await asyncio.gather(
                self._write(intent=intent_with(self.state, means)), self._submit_pin()
            )
        elif ask is Ask.POST:
            if self.record.verdict is not Verdict.FORWARD or self.record.state is not self.state:
                await self._write(intent=intent_with(self.state, means), forward=True)
                if self.record.verdict is Verdict.LATE and self.state in LATE_STATES:
                    return
            entry = await self._submit_end(Kind.CLEARED)
        elif ask is Ask.ACCEPT:
            wanted = self.wanted.order
            spend = self._roads.merchant(wanted.issuer).manifest.spend
            entry = await self._submit(order_of(wanted, spend))
        else:
            entry = await self._submit_end(Kind.VOIDED, proven=ask is Ask.VOID_PROVEN)
        if entry.kind == Kind.REFUSED and entry.reason == Reason.ORDER_ALREADY_CLEARED.number:
            # An earlier driver cleared it: read the event of the clearing.
            entry = await self._submit_end(Kind.CLEARED)
        self._take_entry(ask, entry)

    async def _submit(self, command: Command) -> Entry:
        [answer] = await self._roads.clearing.submit([command])
        return answer[0]

    async def _submit_pin(self) -> Entry:
        caller = self.wanted.order.caller
        return await self._submit(pin_of(caller, self._calls.order, self.record.order_seq))

    async def _submit_end(self, kind: Kind, *, proven: bool = False) -> Entry:
        caller, order = self.wanted.order.caller, self._calls.order
        return await self._submit(end_of(caller, order, self.record.order_seq, kind, proven=proven))

    def _take_entry(self, ask: Ask, entry: Entry) -> None:
        """Move on by what the books answered."""
        if ask is Ask.ACCEPT:
            if entry.seq:
                self.record.order_seq, self.record.accepted_at_us = entry.order_seq, entry.at_us
                self._calls.accepted(entry.order_seq, entry.at_us)
            if entry.kind == Kind.ACCEPTED:
                if self.wanted.fault and self._roads.wished:
                    self._roads.wished(self._calls.order, self.wanted.fault)
                self._move(Event.ACCEPTED)
            elif entry.kind == Kind.REFUSED:
                self.record.reason = entry.reason
                self._move(Event.DENIED)
            else:
                # The key's order had cleared before the merchant was connected.
                self._entry = entry
                self._move(Event.POSTED)
            return
        event = event_of(self.state, ask, entry)
        if event is Event.GONE:
            self.record.undo_for(REASON_BY_NUMBER[entry.reason])
        if entry.kind == Kind.CLEARED:
            self._entry = msgspec.structs.replace(entry, at_us=self.record.accepted_at_us)
        self._move(event)

    # The merchants --------------------------------------------------------------------------------

    async def _send(self, step: Step) -> None:
        """Send a call; its intent is durable before."""
        if step not in self._calls.intents:
            await self._write(intent=step)
        self._since_us = self._since_us or self._roads.now_us()
        try:
            receipt = await self._calls.make(step)
        except NotSent as error:
            await self._turned_away(error)
            return
        self._move(Event.SENT)
        await self._take(step, receipt, Source.CALL)

    async def _turned_away(self, error: NotSent) -> None:
        """Nothing was sent: give the order up where that is possible, else wait."""
        if (self.state, Event.TURNED_AWAY) in TABLE:
            self.record.undo_for(Reason.MERCHANT_UNAVAILABLE)
            before = self.state is State.ACCEPTED and self._calls.was_sent(Step.HOLD)
            self._move(Event.NOT_FOUND if before else Event.TURNED_AWAY)
            return
        self._attempts += 1
        await self._escalate_if_due(_sentence("no call is taken", error.detail))
        await self._pause(max(self._backoff_seconds(), error.retry_after_seconds))

    async def _inquire(self, step: Step) -> None:
        """Wait a little, then ask what became of a call; an answer that comes by itself ends the wait."""
        self._since_us = self._since_us or self._roads.now_us()
        if await self._take_delivered(step):
            return
        if not await self._pause(self._wait_seconds or self._backoff_seconds()):
            return
        if step in self._calls.breached:
            return  # What the merchant's system says cannot be relied upon: people must say.
        self._wait_seconds = None
        self._attempts += 1
        try:
            if self._calls.at(step).manifest.status.way == "reference":
                receipt = await self._calls.ask(step)
                source = Source.INQUIRY
            elif self.state is State.DOUBTED:
                # Nothing can be asked, and a repeat would hold anew: once the call cannot arrive any
                # more, give back what may be held; what never was held is released too.
                if self._calls.final_seconds(step) <= 0:
                    self._calls.numbers.setdefault(step, "")
                    self._move(Event.DONE)
                return
            else:
                receipt, source = await self._calls.make(step), Source.CALL
        except NotSent as error:
            await self._escalate_if_due(_sentence("no inquiry is taken", error.detail))
            return
        await self._take(step, receipt, source)
        if self.state in WAITING:
            await self._escalate_if_due(
                _sentence(f"{step.name} is {receipt.outcome.value}", receipt.detail)
            )

    def _sort_inbox(self) -> None:
        """Drop what says what is known, and have people look at what contradicts it."""
        calls, waiting = self._calls, WAITING.get(self.state)
        for line in self._inbox:
            if line.step is waiting:
                continue
            if line.step is CALLS.get(self.state) and line.source is Source.PEOPLE:
                continue
            known = line.step in calls.numbers
            done = line.outcome is Outcome.DONE
            settled = known or line.step in calls.never
            if (
                not settled
                and self.state not in ENDS
                and line.step in calls.doubtful | calls.intents
            ):
                continue  # It answers a call that is on its way, or that is not asked about yet.
            self._inbox.drop(line)
            if done != known and settled and line.outcome is not Outcome.UNKNOWN:
                self.record.sticky = True
                self.record.mark_stuck(
                    self.state,
                    f"{line.step.name} was told to be {line.outcome.value if line.outcome else ''} "
                    "after the opposite was certain",
                )

    async def _take_delivered(self, step: Step) -> bool:
        """Take an answer to this very call out of the inbox, if there is one."""
        line = self._inbox.take(step)
        if line is None or line.outcome is None:
            return False
        if step in self._calls.breached and line.source is not Source.PEOPLE:
            return True
        refused = line.outcome is Outcome.REFUSED
        reason = REASON_BY_NUMBER.get(line.reason, Reason.MERCHANT_REFUSED)
        receipt = Receipt(
            outcome=line.outcome,
            reason=reason if refused else None,
            number=line.number,
            units=line.units,
            detail=line.detail,
        )
        await self._take(step, receipt, line.source)
        return True

    async def _take(self, step: Step, receipt: Receipt, source: Source) -> None:
        """Take an answer in."""
        receipt = checked(self._calls.call(step), receipt)
        if receipt.outcome is Outcome.DONE:
            self._calls.numbers[step] = receipt.number
            self.record.note(step, receipt, source)
            if self.state is State.CREDITING_LATE and not self._calls.means().reversible:
                await self._stand()
            else:
                self._move(Event.DONE)
        elif receipt.outcome is Outcome.REFUSED:
            await self._take_refusal(step, receipt, source)
        else:
            self.record.note(step, receipt, source)
            if receipt.expected:
                self._wait_seconds = self._calls.at(step).manifest.answers.seconds
            if receipt.units is not None:
                self._calls.breached.add(step)
                await self._escalate(
                    _sentence(f"{step.name} moved {receipt.units} units", receipt.detail)
                )

    async def _take_refusal(self, step: Step, receipt: Receipt, source: Source) -> None:
        """Take a no in: weigh a call that is not found, and keep what only people can mend."""
        reason = receipt.reason or Reason.MERCHANT_REFUSED
        if source is Source.INQUIRY and reason is Reason.CALL_NOT_FOUND:
            final_seconds = self._calls.final_seconds(step)
            if final_seconds > 0:
                # It may still be on its way; ask again when it cannot be any more.
                self._wait_seconds = min(self._backoff_seconds(), final_seconds)
            elif (self.state, Event.NOT_FOUND) in TABLE:
                self.record.note(step, receipt, source)
                if self.state is State.CREDITING_LATE:
                    self._calls.never.add(step)
                attempts = self._attempts
                self._move(Event.NOT_FOUND)
                self._attempts = attempts
            return
        if step is Step.RELEASE and reason is Reason.CALL_NOT_FOUND:
            self.record.note(step, receipt, source)
            self._move(Event.DONE)  # A hold that never was is released too.
            return
        self.record.note(step, receipt, source)
        if source is Source.PEOPLE and (self.state, Event.CONCEDED) in TABLE:
            self._move(Event.CONCEDED)
        elif (self.state, Event.REFUSED) in TABLE:
            self._calls.never.add(step)
            self.record.undo_for(reason)
            if self.state is State.REVERSING:
                self.record.sticky = True
                self.record.mark_stuck(self.state, _STANDS.format(why=reason.code))
            self._move(Event.REFUSED)
        else:
            await self._escalate(f"{step.name} was refused: {reason.code}")

    async def _stand(self) -> None:
        """A credit came too late and cannot be taken back: go forward, and have people told."""
        self.record.sticky = True
        self.record.mark_stuck(self.state, _STANDS.format(why="it is not reversible"))
        self._move(Event.STANDS)

    # Time -----------------------------------------------------------------------------------------

    def _backoff_seconds(self) -> float:
        """Twice as long each time, up to the merchant's limit, less a random part of up to a half."""
        step = WAITING.get(self.state)
        limits = self._calls.at(step or CALLS[self.state]).manifest.limits
        longest = min(
            limits.inquiry_max_seconds,
            limits.inquiry_first_seconds * float(1 << min(self._attempts, 30)),
        )
        return longest * (1 - 0.5 * self._roads.random.random())

    async def _pause(self, seconds: float) -> bool:
        """Wait; True if the whole time has passed, False if something is to be seen to before."""
        until_seconds = seconds
        if self.state in LATE_STATES and self.record.verdict is Verdict.OPEN:
            left_us = self.wanted.decide_by_us - self._roads.now_us()
            until_seconds = min(seconds, max(0.0, left_us / _US))
        elif self.state in LATE_STATES and self.record.verdict is Verdict.LATE:
            return False
        self._wake.clear()
        step = WAITING.get(self.state) or CALLS.get(self.state)
        if self._inbox.has(step):
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(until_seconds):
                await self._wake.wait()
                return False
        return until_seconds == seconds

    async def _escalate_if_due(self, why: str) -> None:
        """Ask people when the merchant's attempts are used up, or the time is."""
        step = WAITING.get(self.state) or CALLS[self.state]
        waited_us = self._roads.now_us() - self._since_us
        if (
            self._attempts >= self._calls.at(step).manifest.limits.attempts
            or waited_us >= self._roads.escalate_seconds * _US
        ):
            await self._escalate(why)

    async def _escalate(self, why: str) -> None:
        """Have people look; the order goes on trying."""
        if self.record.stuck_why == why or (self.record.stuck_since_us and not self.record.pending):
            return
        self.record.mark_stuck(self.state, why)
        await self._write()


def _sentence(what: str, detail: str) -> str:
    """What people are told, with the reason where it is in our own words."""
    told = own_words(detail)
    return f"{what}: {told}" if told else what


_STANDS: Final = "the till heard no, but the credit stands ({why}): the order goes forward"
