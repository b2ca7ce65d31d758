"""Many histories, one for each seed, on every processor; and the shortest failing one."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from exchange.simulation.plan import describe, draw_plan
from exchange.simulation.shrink import shrink
from exchange.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.simulation.plan import Plan
    from exchange.simulation.world import History

CHUNK_ORDERS: Final = 100
"""Orders that a process plays before it tells how they went, in one history at least."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """How some histories went.

    Attributes:
        histories: How many were played.
        orders: How many orders they had.
        trials: How many things were to go wrong in them.
        ends: How many orders ended in each way.
        steps: After how many steps everything was checked.
        seconds: Their virtual time.
        failed: What did not hold, by seed.
    """

    histories: int = 0
    orders: int = 0
    trials: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    seconds: float = 0.0
    failed: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Add another tally to this one."""
        self.histories += other.histories
        self.orders += other.orders
        self.trials += other.trials
        self.ends += other.ends
        self.steps += other.steps
        self.seconds += other.seconds
        self.failed |= other.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortest:
    """The smallest plan that was found to fail in the same way as a seed's own, and its history.

    Attributes:
        plan: The plan.
        lines: Its trace.
    """

    plan: Plan
    lines: list[str]

    def told(self) -> list[str]:
        """What is left in the plan, for people: merchants, orders, faults."""
        return [
            *(describe(part) for part in self.plan.parts),
            *(describe(spend) for spend in self.plan.orders),
            *(describe(trial) for trial in self.plan.trials),
        ]


def play(plan: Plan) -> History:
    """Play one plan in a world of its own."""
    return World(plan).run()


def play_seeds(
    first: int, count: int, *, orders: int, faults: bool = True, jobs: int = 0
) -> Iterator[Tally]:
    """Play the histories of consecutive seeds.

    Args:
        first: The first seed.
        count: How many seeds.
        orders: Orders in each history.
        faults: Whether anything goes wrong.
        jobs: Processes to use; 0 for one for each processor.

    Yields:
        Tallies of some seeds each, in whatever order they are done.
    """
    size = max(1, CHUNK_ORDERS // orders)
    chunks = [
        (start, min(size, first + count - start), orders, faults)
        for start in range(first, first + count, size)
    ]
    jobs = min(jobs or os.cpu_count() or 1, len(chunks))
    if jobs == 1:
        yield from map(_play_chunk, chunks)
        return
    # A fresh interpreter: a forked one would share what the parent's threads hold.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_play_chunk, chunk) for chunk in chunks]):
            yield done.result()


def find_shortest(seed: int, *, orders: int, faults: bool = True) -> Shortest:
    """Make the plan of a failing seed as small as it gets.

    Raises:
        ValueError: The seed does not fail.
    """
    plan, history = shrink(draw_plan(seed, orders, faults=faults), play)
    return Shortest(plan=plan, lines=history.lines())


def _play_chunk(chunk: tuple[int, int, int, bool]) -> Tally:
    first, count, orders, faults = chunk
    tally = Tally()
    for seed in range(first, first + count):
        plan = draw_plan(seed, orders, faults=faults)
        history = play(plan)
        tally.add(
            Tally(
                histories=1,
                orders=len(plan.orders),
                trials=len(plan.trials),
                ends=Counter(history.ends),
                steps=history.steps,
                seconds=history.seconds,
                failed={seed: history.broken} if history.broken else {},
            )
        )
    return tally
