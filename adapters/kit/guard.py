"""What stands between the order's life and every adapter, so that one merchant cannot hurt another.

A call passes, in this order: the merchant's opening hours, its circuit breaker, its bulkhead (calls
under way), its rate limit, and then has its deadline. What is held back before the adapter was asked
raises `NotSent`: it certainly did not happen. What was asked and not answered is UNKNOWN. Nothing is
ever sent twice from here: whether a call is repeated, the order's life decides, after an inquiry.
"""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import structlog
from aiolimiter import AsyncLimiter

from adapters.kit.circuit import Circuit
from adapters.kit.contract import (
    Balance,
    Call,
    Finding,
    Found,
    Incomplete,
    NotSent,
    Outcome,
    Receipt,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import date

    from adapters.kit.context import Clock
    from adapters.kit.contract import Adapter, StatementLine
    from adapters.kit.figures import CallFigures
    from adapters.kit.manifest import Manifest

__all__ = ["Guarded", "NotSent", "breached", "checked"]

log = structlog.get_logger()

AnswerT = TypeVar("AnswerT", Receipt, Found, Balance)

_UNKNOWN: Final = Receipt(outcome=Outcome.UNKNOWN, detail=Finding("The adapter failed."))
_LATE: Final = Receipt(outcome=Outcome.UNKNOWN, detail=Finding("No answer before the deadline."))


def breached(call: Call, receipt: Receipt) -> bool:
    """Whether the merchant's system says that it moved other units than were asked."""
    return receipt.units not in (None, call.units)


def checked(call: Call, receipt: Receipt) -> Receipt:
    """The receipt, or an unknown one that keeps the units if they are not those that were asked.

    Such a receipt is nothing that time or inquiry mends: people must look. Every answer passes here, that of a call
    as those that come later by a callback, a file or people.
    """
    if receipt.outcome is Outcome.UNKNOWN or not breached(call, receipt):
        return receipt
    detail = Finding(f"Asked for {call.units} units, the merchant's system says {receipt.units}.")
    return replace(receipt, outcome=Outcome.UNKNOWN, reason=None, detail=detail)


class Guarded:
    """An adapter behind its merchant's limits; itself an `Adapter`, whose calls may raise `NotSent`."""

    def __init__(
        self, adapter: Adapter, manifest: Manifest, *, now_us: Clock, figures: CallFigures
    ) -> None:
        """Guard an adapter.

        Args:
            adapter: The adapter, which nobody else calls.
            manifest: Its limits and hours.
            now_us: The clock of opening hours; waits and deadlines are the running loop's.
            figures: Where calls are counted.
        """
        limits = manifest.limits
        self.manifest = manifest
        self._adapter = adapter
        self._merchant = manifest.merchant.code
        self._hours = manifest.hours
        self._limits = limits
        self._now_us = now_us
        self._figures = figures
        self._circuit = Circuit(failures=limits.breaker_failures, seconds=limits.breaker_seconds)
        self._places = asyncio.Semaphore(limits.concurrency)
        self._rate = AsyncLimiter(limits.burst, limits.burst / limits.per_second)
        self._under_way = 0
        figures.watch(self._merchant, lambda: self._under_way, lambda: self._circuit.closed)

    async def start(self) -> None:
        """Open what the adapter keeps open."""
        await self._adapter.start()

    async def close(self) -> None:
        """Close everything."""
        await self._adapter.close()

    async def look_up(self, member: str) -> Found:
        """Find a member.

        Raises:
            NotSent: As for `hold`.
        """
        late = Found(outcome=Outcome.UNKNOWN)
        return await self._ask("look_up", lambda: self._adapter.look_up(member), late, late)

    async def authenticate(self, member: str, proof: str) -> Found:
        """Check what a member presented.

        Raises:
            NotSent: As for `hold`.
        """
        late = Found(outcome=Outcome.UNKNOWN)
        return await self._ask(
            "authenticate", lambda: self._adapter.authenticate(member, proof), late, late
        )

    async def hold(self, call: Call) -> Receipt:
        """Reserve or burn points.

        Raises:
            NotSent: The merchant is closed, its circuit is open, too many calls are under way or
                wait, or no connection was had: the call certainly did not happen.
        """
        return await self._move("hold", call, lambda: self._adapter.hold(call))

    async def capture(self, call: Call) -> Receipt:
        """Spend points that are held.

        Raises:
            NotSent: As for `hold`.
        """
        return await self._move("capture", call, lambda: self._adapter.capture(call))

    async def release(self, call: Call) -> Receipt:
        """Give held or burnt points back.

        Raises:
            NotSent: As for `hold`.
        """
        return await self._move("release", call, lambda: self._adapter.release(call))

    async def credit(self, call: Call) -> Receipt:
        """Give new points.

        Raises:
            NotSent: As for `hold`.
        """
        return await self._move("credit", call, lambda: self._adapter.credit(call))

    async def reverse_credit(self, call: Call) -> Receipt:
        """Take credited points back.

        Raises:
            NotSent: As for `hold`.
        """
        return await self._move("reverse_credit", call, lambda: self._adapter.reverse_credit(call))

    async def status(self, call: Call) -> Receipt:
        """Ask what became of a call.

        Raises:
            NotSent: As for `hold`; about the inquiry, not about the call.
        """
        return await self._move("status", call, lambda: self._adapter.status(call))

    async def balance(self, member: str) -> Balance:
        """What a member could spend now.

        Raises:
            NotSent: As for `hold`.
        """
        late = Balance(outcome=Outcome.UNKNOWN)
        return await self._ask("balance", lambda: self._adapter.balance(member), late, late)

    async def statement(self, day: date) -> AsyncIterator[StatementLine]:
        """Everything booked on one day; the statement has a deadline of its own, and no place is taken.

        Raises:
            Incomplete: It could not be read whole, for whatever reason.
            NotSent: It was not asked for.
        """
        loop = asyncio.get_running_loop()
        self._hold_back_if_closed()
        self._hold_back_if_broken(loop)
        started = loop.time()
        lines = aiter(self._adapter.statement(day))
        ended = Outcome.DONE
        try:
            while True:
                left = started + self._limits.statement_seconds - loop.time()
                async with asyncio.timeout(left):
                    line = await anext(lines)
                yield line
        except StopAsyncIteration:
            return
        except (Incomplete, NotSent):
            ended = Outcome.UNKNOWN
            raise
        except TimeoutError:
            ended = Outcome.UNKNOWN
            raise Incomplete("The statement did not end before its deadline.") from None
        except Exception as error:
            ended = Outcome.UNKNOWN
            self._log_failure("statement", error)
            raise Incomplete("The adapter failed.") from error
        finally:
            self._figures.answered(self._merchant, "statement", ended, loop.time() - started)

    async def _move(
        self, operation: str, call: Call, ask: Callable[[], Awaitable[Receipt]]
    ) -> Receipt:
        """Make one call about points, and check what it says that it moved."""
        receipt = await self._ask(operation, ask, _UNKNOWN, _LATE, call.reference)
        if receipt.outcome is Outcome.DONE and breached(call, receipt):
            self._figures.breached(self._merchant)
            log.error(
                "merchant.breached",
                merchant=self._merchant,
                operation=operation,
                reference=call.reference,
                units=call.units,
                units_said=receipt.units,
            )
        return checked(call, receipt)

    async def _ask(
        self,
        operation: str,
        ask: Callable[[], Awaitable[AnswerT]],
        failed: AnswerT,
        late: AnswerT,
        reference: str = "",
    ) -> AnswerT:
        """Make one call within its deadline, and write down how it ended.

        Args:
            operation: Its name.
            ask: Begins the call.
            failed: The answer if the adapter raises.
            late: The answer if there is none in time.
            reference: The call's reference, for the log.
        """
        loop = asyncio.get_running_loop()
        await self._enter(loop)
        started = loop.time()
        try:
            async with asyncio.timeout(self._limits.deadline_seconds):
                answer = await ask()
        except NotSent:
            self._circuit.failed(loop.time())
            self._figures.held_back(self._merchant, "transport")
            raise
        except TimeoutError:
            answer = late
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises, the call may have happened
            self._log_failure(operation, error)
            answer = failed
        except BaseException:
            self._circuit.abandoned()
            raise
        finally:
            self._under_way -= 1
            self._places.release()
        ended = loop.time()
        self._note(answer, ended)
        seconds = ended - started
        self._figures.answered(self._merchant, operation, answer.outcome, seconds)
        write = log.debug if answer.outcome is Outcome.DONE else log.info
        write(
            "call.answered",
            merchant=self._merchant,
            operation=operation,
            reference=reference,
            outcome=answer.outcome.value,
            reason="" if answer.reason is None else answer.reason.code,
            milliseconds=round(seconds * 1_000),
        )
        return answer

    def _note(self, answer: Receipt | Found | Balance, now: float) -> None:
        """Tell the circuit; an answer that is known to come later is an answer."""
        expected = isinstance(answer, Receipt) and answer.expected
        if answer.outcome is not Outcome.UNKNOWN or expected:
            self._circuit.succeeded()
            return
        was_closed = self._circuit.closed
        self._circuit.failed(now)
        if was_closed and not self._circuit.closed:
            log.warning(
                "circuit.opened", merchant=self._merchant, seconds=self._limits.breaker_seconds
            )

    async def _enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """Pass everything that may hold a call back; there is no wait between the last of it and the call.

        Who has passed is under way, and gives its place back.

        Raises:
            NotSent: It is held back.
        """
        self._hold_back_if_closed()
        self._hold_back_if_broken(loop)
        if self._places.locked():
            await self._wait_for(self._places.acquire, "bulkhead", "Too many calls are under way.")
        else:
            await self._places.acquire()
        try:
            if self._rate.has_capacity():
                await self._rate.acquire()
            else:
                detail = "Too many calls wait for their turn."
                await self._wait_for(self._rate.acquire, "rate", detail)
            self._hold_back_if_broken(loop)
        except BaseException:
            self._places.release()
            raise
        self._circuit.admit()
        self._under_way += 1

    async def _wait_for(
        self, acquire: Callable[[], Awaitable[object]], why: str, detail: str
    ) -> None:
        """Wait for a place, but no longer than a call may take."""
        try:
            async with asyncio.timeout(self._limits.deadline_seconds):
                await acquire()
        except TimeoutError:
            raise self._held_back(why, detail, self._limits.deadline_seconds) from None

    def _hold_back_if_closed(self) -> None:
        wait_seconds = self._hours.wait_seconds(self._now_us())
        if wait_seconds > 0:
            raise self._held_back("hours", "The merchant's system is closed now.", wait_seconds)

    def _hold_back_if_broken(self, loop: asyncio.AbstractEventLoop) -> None:
        wait_seconds = self._circuit.wait_seconds(loop.time())
        if wait_seconds > 0:
            raise self._held_back("circuit", "Calls failed; none is sent for now.", wait_seconds)

    def _held_back(self, why: str, detail: str, retry_after_seconds: float) -> NotSent:
        self._figures.held_back(self._merchant, why)
        return NotSent(Finding(detail), retry_after_seconds=retry_after_seconds)

    def _log_failure(self, operation: str, error: Exception) -> None:
        """Say what kind of failure it was and where; its text may hold a member's id or a secret."""
        last = traceback.extract_tb(error.__traceback__)[-1]
        log.error(
            "adapter.failed",
            merchant=self._merchant,
            operation=operation,
            error=type(error).__name__,
            file=Path(last.filename).name,
            line=last.lineno,
        )
