"""A storm of faults over HTTP: whatever happens on the way, both sides end with the same books."""

import asyncio
import random
from dataclasses import replace

import msgspec
import pytest

from adapters.kit import registry
from adapters.kit.context import Context
from adapters.kit.contract import NotSent, Outcome, Receipt
from adapters.kit.figures import CallFigures
from adapters.kit.guard import Guarded
from adapters.kit.secret import Secrets
from adapters.kit.simulator.faults import Fault, Seeded
from adapters.kit.simulator.stage import set_stage
from schemas.values.reason import Reason
from tests.adapters.scene import DAY, DAY_US, hold

CALLS = 60
STORM = dict.fromkeys(
    (Fault.CUT, Fault.GARBAGE, Fault.TRUNCATED, Fault.MAINTENANCE, Fault.FORGET), 0.06
) | dict.fromkeys(
    (
        Fault.TIMEOUT_BEFORE,
        Fault.TIMEOUT_AFTER,
        Fault.SLOW_BODY,
        Fault.TLS_FAILURE,
        Fault.REPEAT_CALLBACK,
        Fault.REORDER_CALLBACK,
        Fault.LATE_CALLBACK,
        Fault.WRONG_SIGNATURE,
    ),
    0.03,
)


UNKNOWN = Receipt(outcome=Outcome.UNKNOWN)


class Storm(Seeded):
    """Faults at their rates, until it is over."""

    over = False

    def draw(self, occasion):
        """What goes wrong now."""
        return None if self.over else super().draw(occasion)


async def settled(system, call, late):
    """What became of a call: ask until it is known, ever more seldom, and send again only what is not there.

    Who asks at once with all others on a busy machine is answered by none in time, again and again.
    """
    ask = system.hold
    pick = random.Random(call.reference)
    for asked in range(100):
        try:
            receipt = await ask(call)
        except NotSent:
            receipt = UNKNOWN
        receipt = late.get(call.reference, receipt)
        if receipt.outcome is not Outcome.UNKNOWN and receipt.reason is not Reason.CALL_NOT_FOUND:
            return receipt
        ask = system.hold if receipt.reason is Reason.CALL_NOT_FOUND else system.status
        await asyncio.sleep(pick.uniform(0, 0.01 + 0.02 * asked))
    raise AssertionError("never settled")


@pytest.mark.parametrize("code", ["noodle-house", "orbit-coffee", "bright-optics"])
@pytest.mark.parametrize("seed", [1, 2])
async def test_storm_ends_with_the_merchants_books(code, seed):
    """Every call ends as the merchant booked it, none twice; late answers and the statement agree."""
    folder = registry.find(code)
    limits = msgspec.structs.replace(
        folder.manifest.limits,
        deadline_seconds=0.25,
        breaker_failures=1_000,
        per_second=100_000,
        burst=1_000,
    )
    folder = replace(folder, manifest=msgspec.structs.replace(folder.manifest, limits=limits))
    late: dict[str, Receipt] = {}

    async def take(reference, receipt):
        assert late.setdefault(reference, receipt) == receipt

    plan = Storm(random.Random(seed), STORM, seconds=0.1)
    stage = set_stage(folder, plan=plan, now_us=lambda: DAY_US, rng=random.Random(seed))
    rich, poor, *_ = folder.manifest.sandbox.members
    half = folder.manifest.sandbox.members[poor] // 2
    calls = [hold(rich, 5 + place) if place % 4 else hold(poor, half) for place in range(CALLS)]
    async with registry.simulator(folder)(folder, stage) as running:
        world = Context(
            answers=take,
            now_us=lambda: DAY_US,
            random=random.Random(seed),
            secrets=Secrets(running.secrets),
        )
        adapter = registry.build(folder.with_settings(running.settings), world)
        system = Guarded(adapter, folder.manifest, now_us=lambda: DAY_US, figures=CallFigures())
        await system.start()
        try:
            ends = await asyncio.gather(*(settled(system, call, late) for call in calls))
            plan.over = True
            lines = {line.reference: line.units async for line in system.statement(DAY)}
        finally:
            await system.close()
    pairs = zip(calls, ends, strict=True)
    done = {call.reference: call.units for call, end in pairs if end.outcome is Outcome.DONE}
    assert {entry.reference: entry.moved for entry in stage.ledger.entries} == done == lines
    assert len(done) == CALLS * 3 // 4 + 2
    assert stage.ledger.doubled() == set()
    stage.ledger.check()
    assert all((receipt.outcome is Outcome.DONE) == (ref in done) for ref, receipt in late.items())
    assert bool(late) == (code == "bright-optics")
