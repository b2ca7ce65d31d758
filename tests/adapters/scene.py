"""A merchant's simulator on a real socket, and its adapter behind the guard, for one test."""

import asyncio
import datetime as dt
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec

from adapters.kit import registry
from adapters.kit.context import Context
from adapters.kit.contract import Adapter, Call, Outcome, Receipt, Step
from adapters.kit.figures import CallFigures
from adapters.kit.folder import Folder
from adapters.kit.guard import Guarded
from adapters.kit.reference import reference_of
from adapters.kit.secret import Secrets
from adapters.kit.simulator.faults import Fault, Occasion, Rule, Scripted, Trouble
from adapters.kit.simulator.ledger import Ledger
from adapters.kit.simulator.stage import Running, Stage, set_stage

DAY_US = 1_772_413_200_000_000
"""2026-03-02 09:00 in Shanghai."""
DAY = dt.date(2026, 3, 2)
QUICK_SECONDS = 0.5
"""Deadline of a call that gets no answer: some hundred times what one takes here."""
PATIENT_SECONDS = 10.0
"""Deadline of every other call: a busy machine is no fault."""


class Recorded(Scripted):
    """A script that remembers what it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.occasions: list[Occasion] = []

    def draw(self, occasion: Occasion) -> Trouble | None:
        """What the script says."""
        self.occasions.append(occasion)
        return super().draw(occasion)


class Clock:
    """The time of both sides; a test moves it."""

    def __init__(self) -> None:
        self.us = DAY_US

    def __call__(self) -> int:
        """Microseconds since 1970 UTC."""
        return self.us


class Scene:
    """What a test looks at."""

    def __init__(self, folder: Folder, running: Running, plan: Recorded, clock: Clock) -> None:
        self.folder = folder.with_settings(running.settings)
        self.running = running
        self.stage: Stage = running.stage
        self.ledger: Ledger = running.stage.ledger
        self.plan = plan
        self.clock = clock
        self.late: list[tuple[str, Receipt]] = []
        """Answers that came later."""
        self.sink_fails = 0
        """How many of the next late answers are not taken."""
        self.came = asyncio.Event()
        self.figures = CallFigures()

    def fails(self, fault: Fault, seconds: float = 0.0, **where: Any) -> None:
        """From now on let this go wrong, once unless `times` says otherwise."""
        self.plan.add(Rule(trouble=Trouble(fault=fault, seconds=seconds), **where))

    def asked(self, operation: str) -> int:
        """How often an operation came to the merchant's system."""
        return sum(occasion.operation == operation for occasion in self.plan.occasions)

    async def take(self, reference: str, receipt: Receipt) -> None:
        """The sink of late answers."""
        if self.sink_fails:
            self.sink_fails -= 1
            raise ConnectionError("the store is away")
        self.late.append((reference, receipt))
        self.came.set()

    async def late_answers(self, count: int) -> list[tuple[str, Receipt]]:
        """Wait until that many late answers came."""
        async with asyncio.timeout(30):
            while len(self.late) < count:
                self.came.clear()
                await self.came.wait()
        return self.late

    def context(self, **more: Any) -> Context:
        """The adapter's world."""
        given: dict[str, Any] = {
            "answers": self.take,
            "now_us": self.clock,
            "random": random.Random(11),
            "secrets": Secrets(self.running.secrets),
        }
        return Context(**(given | more))

    def bare(self, **more: Any) -> Adapter:
        """An adapter that no guard stands before; the test starts and closes it."""
        return registry.build(self.folder, self.context(**more))

    def guarded(self, adapter: Adapter) -> Guarded:
        """The adapter behind its merchant's limits."""
        manifest = self.folder.manifest
        return Guarded(adapter, manifest, now_us=self.clock, figures=self.figures)


@asynccontextmanager
async def scene(
    code: str,
    change: Callable[[Folder], Folder] | None = None,
    *,
    seconds: float = PATIENT_SECONDS,
    **settings: Any,
) -> AsyncIterator[tuple[Scene, Guarded]]:
    """A merchant that runs, and its guarded adapter, started.

    Args:
        code: The merchant.
        change: Changes its manifest before anything is built.
        seconds: The deadline of each call.
        settings: Changed settings.
    """
    folder = registry.find(code).with_settings(settings)
    limits = msgspec.structs.replace(
        folder.manifest.limits, deadline_seconds=seconds, breaker_failures=1_000
    )
    folder = with_manifest(folder, limits=limits)
    folder = change(folder) if change else folder
    plan = Recorded()
    clock = Clock()
    stage = set_stage(folder, plan=plan, now_us=clock, rng=random.Random(7))
    async with registry.simulator(folder)(folder, stage) as running:
        made = Scene(folder, running, plan, clock)
        system = made.guarded(made.bare())
        await system.start()
        try:
            yield made, system
        finally:
            await system.close()
            made.ledger.check()


async def told(ask: Callable[[Call], Awaitable[Receipt]], call: Call) -> Receipt:
    """What is answered in the end: on a busy machine even an inquiry may take too long."""
    for _ in range(20):
        receipt = await ask(call)
        if receipt.outcome is not Outcome.UNKNOWN:
            return receipt
    raise AssertionError(f"{call} stays unknown")


def with_manifest(folder: Folder, **changed: Any) -> Folder:
    """The folder with another manifest."""
    return replace(folder, manifest=msgspec.structs.replace(folder.manifest, **changed))


def hold(member: str, units: int = 1_234, order: uuid.UUID | None = None) -> Call:
    """A hold of an order."""
    reference = reference_of(order or uuid.uuid4(), Step.HOLD)
    return Call(step=Step.HOLD, reference=reference, member=member, units=units, at_us=DAY_US)


def credit(member: str, units: int = 1_234, order: uuid.UUID | None = None) -> Call:
    """A credit of an order."""
    reference = reference_of(order or uuid.uuid4(), Step.CREDIT)
    return Call(step=Step.CREDIT, reference=reference, member=member, units=units, at_us=DAY_US)


def ending(step: Step, call: Call, number: str = "") -> Call:
    """The step that ends an earlier one."""
    return Call(
        step=step,
        reference=call.reference[:-1] + step.value,
        member=call.member,
        units=call.units,
        of=call.reference,
        of_receipt=number,
        at_us=DAY_US,
    )
