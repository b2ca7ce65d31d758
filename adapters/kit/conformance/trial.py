"""One adapter on trial: against its simulator, whose books tell the truth, or against a real system.

A clause asks the adapter something, often after telling the simulator what shall go wrong, and compares
what the adapter says with what the simulator booked.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
import uuid
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from adapters.kit import registry
from adapters.kit.context import Context, wall_us
from adapters.kit.contract import Call, NotSent, Outcome, Receipt, Step
from adapters.kit.reference import reference_of
from adapters.kit.secret import Secrets
from adapters.kit.simulator.faults import CONNECT, Fault, Occasion, Rule, Scripted, Trouble
from adapters.kit.simulator.stage import set_stage
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from adapters.kit.contract import Adapter
    from adapters.kit.folder import Folder
    from adapters.kit.simulator.ledger import Booked, Ledger

    Build = Callable[[Folder, Context], Adapter]

DEADLINE_SECONDS_MAX: Final = 1.5
"""On loopback nothing takes longer, and a system that never answers is met many times."""
SETTLING_SECONDS: Final = 12.0
_ASK_EVERY_SECONDS: Final = 0.05
_UNKNOWN: Final = Receipt(outcome=Outcome.UNKNOWN, detail="no answer within the deadline")


class Failed(Exception):  # noqa: N818 - it says how a clause ended
    """The adapter does not keep the clause; the message says what was seen."""


class Counted(Scripted):
    """A script that counts what came, so that a resend shows."""

    def __init__(self) -> None:
        """Start without rules."""
        super().__init__()
        self.calls: Counter[tuple[str, str]] = Counter()

    def draw(self, occasion: Occasion) -> Trouble | None:
        """Count the occasion, then see what befalls it."""
        if occasion.operation != CONNECT:
            self.calls[occasion.operation, occasion.reference] += 1
        return super().draw(occasion)


@dataclass(slots=True, kw_only=True)
class Trial:
    """An adapter that was started, and what is known of the system that it speaks to.

    Attributes:
        folder: The merchant's folder, with settings that lead to the system.
        adapter: The adapter itself, without the kit's guard.
        plan: The simulator's script; rules can be added.
        books: The simulator's books; None against a real system.
        secrets: Every secret in use, which must appear nowhere.
    """

    folder: Folder
    adapter: Adapter
    plan: Counted
    books: Ledger | None
    secrets: dict[str, bytes]
    told: dict[str, list[Receipt]] = field(default_factory=dict)
    deaf: bool = False
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _random: random.Random = field(default_factory=random.SystemRandom)

    # What the clause says -----------------------------------------------------------------------

    @property
    def truth(self) -> Ledger:
        """The simulator's books."""
        if self.books is None:
            raise Failed("this clause needs the simulator's books")
        return self.books

    @property
    def member(self) -> str:
        """The test member with the most points."""
        members = self.folder.manifest.sandbox.members
        return max(members, key=lambda member: members[member])

    @property
    def units(self) -> int:
        """A number of units that every limit allows, and that is not round."""
        return self.folder.manifest.points.units_min + 36

    @property
    def deadline_seconds(self) -> float:
        """How long one call may take here."""
        return min(self.folder.manifest.limits.deadline_seconds, DEADLINE_SECONDS_MAX)

    def befall(
        self, fault: Fault, operation: str, *, seconds: float = 0.0, nth: int = 1, times: int = 1
    ) -> None:
        """Tell the simulator what shall go wrong with an operation."""
        trouble = Trouble(fault=fault, seconds=seconds)
        self.plan.add(Rule(trouble=trouble, operation=operation, nth=nth, times=times))

    def today(self) -> dt.date:
        """The day of the merchant's own calendar."""
        zone = ZoneInfo(self.folder.manifest.hours.zone)
        now_us = self.books.now_us() if self.books else wall_us()
        return dt.datetime.fromtimestamp(now_us // 1_000_000, dt.UTC).astimezone(zone).date()

    def start(self, step: Step, *, units: int | None = None, member: str | None = None) -> Call:
        """A call that begins something: a hold or a credit of a new order."""
        order = uuid.UUID(int=self._random.getrandbits(128))
        return Call(
            step=step,
            reference=reference_of(order, step),
            member=member or self.member,
            units=units or self.units,
            at_us=self.books.now_us() if self.books else wall_us(),
        )

    def follow(self, step: Step, first: Call, receipt: Receipt | None = None) -> Call:
        """A call that ends an earlier one of the same order."""
        return replace(
            first,
            step=step,
            reference=first.reference[:-1] + step.value,
            of=first.reference,
            of_receipt=receipt.number if receipt else "",
        )

    # What the adapter does ----------------------------------------------------------------------

    async def send(self, call: Call) -> Receipt:
        """Make the call once; no answer in time is an unknown outcome.

        Raises:
            NotSent: No byte of the call left us.
            Failed: The adapter raised.
        """
        return await self._ask(getattr(self.adapter, call.step.name.lower()), call)

    async def status(self, call: Call) -> Receipt:
        """Ask once what became of a call."""
        return await self._ask(self.adapter.status, call)

    async def settle(self, call: Call) -> Receipt:
        """Make the call, and find out what became of it as the order's life does."""
        return await self.resolve(call, await self.send(call))

    async def done(self, call: Call) -> Receipt:
        """Make a call that must be done.

        Raises:
            Failed: It was not.
        """
        receipt = await self.settle(call)
        if receipt.reason is Reason.CALL_NOT_FOUND:
            # Given up before it had arrived, on a machine that is busy: it is sent again, as an order's life does.
            receipt = await self.settle(call)
        if receipt.outcome is not Outcome.DONE:
            raise Failed(f"{call.step.name.lower()} ended {in_words(receipt)} instead of done")
        return receipt

    async def resolve(self, call: Call, receipt: Receipt) -> Receipt:
        """Find out an unknown outcome: by the answer that is expected, by inquiry, or by a safe repeat."""
        if receipt.outcome is not Outcome.UNKNOWN:
            return receipt
        loop = asyncio.get_running_loop()
        until = loop.time() + SETTLING_SECONDS
        manifest = self.folder.manifest
        ask_at = loop.time() + (manifest.answers.seconds if receipt.expected else 0.0)
        while loop.time() < until:
            if told := self.told.get(call.reference):
                return told[-1]
            if loop.time() >= ask_at:
                by_status = manifest.status.way == "reference"
                # A connection that broke with the call is being made anew: ask again a little later.
                with contextlib.suppress(NotSent):
                    receipt = await (self.status(call) if by_status else self.send(call))
                if receipt.outcome is not Outcome.UNKNOWN:
                    return receipt
            await asyncio.sleep(_ASK_EVERY_SECONDS)
        return receipt

    async def take(self, reference: str, receipt: Receipt) -> None:
        """The sink of late answers; while it is deaf it fails, so nothing may be acknowledged."""
        if self.deaf:
            raise ConnectionError("the answer could not be stored")
        self.told.setdefault(reference, []).append(receipt)

    def booked(self, call: Call) -> Booked | None:
        """What the merchant's system really holds under a call's reference; None if nothing moved."""
        found = [entry for entry in self.truth.entries if entry.reference == call.reference]
        return found[0] if found else None

    async def _ask(self, method: Callable[[Call], object], call: Call) -> Receipt:
        try:
            async with asyncio.timeout(self.deadline_seconds):
                receipt = await method(call)  # type: ignore[misc] # every method of the contract is a coroutine
        except TimeoutError:
            return _UNKNOWN
        except NotSent:
            raise
        except Exception as error:
            raise Failed(f"the adapter raised {type(error).__name__}: {error}") from error
        if not isinstance(receipt, Receipt):
            raise Failed(f"the adapter answered {type(receipt).__name__} instead of a receipt")
        return receipt


def in_words(receipt: Receipt) -> str:
    """An outcome and its reason, for a report."""
    return f"{receipt.outcome.value}" + (f" ({receipt.reason.code})" if receipt.reason else "")


@asynccontextmanager
async def on_trial(folder: Folder, *, build: Build | None = None) -> AsyncIterator[Trial]:
    """Start a merchant's simulator and its adapter, and wire them together.

    Args:
        folder: The merchant's folder.
        build: Builds the adapter; the folder's own way if None.
    """
    plan = Counted()
    stage = set_stage(folder, plan=plan)
    async with registry.simulator(folder)(folder, stage) as running:
        there = folder.with_settings(running.settings)
        async with _started(there, Secrets(running.secrets), build) as trial:
            trial.plan, trial.books, trial.secrets = plan, stage.ledger, running.secrets
            yield trial


@asynccontextmanager
async def against(folder: Folder, *, build: Build | None = None) -> AsyncIterator[Trial]:
    """Start an adapter alone, against whatever system its settings name."""
    async with _started(folder, Secrets(), build) as trial:
        yield trial


@asynccontextmanager
async def _started(folder: Folder, secrets: Secrets, build: Build | None) -> AsyncIterator[Trial]:
    trials: list[Trial] = []

    async def answers(reference: str, receipt: Receipt) -> None:
        await trials[0].take(reference, receipt)

    adapter = (build or registry.build)(folder, Context(answers=answers, secrets=secrets))
    trials.append(Trial(folder=folder, adapter=adapter, plan=Counted(), books=None, secrets={}))
    await adapter.start()
    try:
        yield trials[0]
    finally:
        await adapter.close()
