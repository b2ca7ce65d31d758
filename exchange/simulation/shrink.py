"""Makes a failing plan smaller until nothing can be left out: what is left is what it takes.

Delta debugging (A. Zeller, R. Hildebrandt, Simplifying and Isolating Failure-Inducing Input, IEEE TSE
28(2), 2002): leave out ever smaller parts of the faults, then of the orders, and keep what still fails
in the same way.

Source: https://doi.org/10.1109/32.988498.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from exchange.simulation.plan import Misbehaviour

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exchange.simulation.plan import Plan


class Failing(Protocol):
    """A history, as far as this search looks at it."""

    @property
    def broken(self) -> tuple[str, ...]:
        """What did not hold; empty if all held."""
        ...


T = TypeVar("T")
HistoryT = TypeVar("HistoryT", bound=Failing)

RUNS_MAX: Final = 400
"""Histories that one search may play."""
_FIGURES: Final = re.compile(r"\b[A-Z2-7]{27}\b|\d+")


def way_of(history: Failing) -> str:
    """In what way a history failed: its first complaint without the figures in it; empty if it held."""
    return _FIGURES.sub("#", history.broken[0]) if history.broken else ""


def shrink(
    plan: Plan, play: Callable[[Plan], HistoryT], *, runs_max: int = RUNS_MAX
) -> tuple[Plan, HistoryT]:
    """Find a small plan that fails in the same way.

    Args:
        plan: A plan that fails.
        play: Plays a plan.
        runs_max: Histories that may be played.

    Returns:
        The smallest plan that was found, and its history.

    Raises:
        ValueError: The plan does not fail.
    """
    search = _Search(play, play(plan), runs_max)
    if not search.way:
        raise ValueError(f"the history of seed {plan.seed} holds")
    size = 0
    while size != len(plan.orders) + len(plan.trials) and search.runs_left:
        size = len(plan.orders) + len(plan.trials)
        plan = search.smaller(plan, plan.trials, lambda plan, kept: replace(plan, trials=kept))
        plan = search.smaller(plan, plan.orders, lambda plan, kept: replace(plan, orders=kept))
        plan = search.sooner(plan)
    return plan, search.history


class _Search(Generic[HistoryT]):
    """How a plan failed, and how many more may be tried."""

    def __init__(self, play: Callable[[Plan], HistoryT], history: HistoryT, runs_max: int) -> None:
        self._play = play
        self.way = way_of(history)
        self.history = history
        self.runs_left = runs_max

    def smaller(
        self, plan: Plan, parts: Sequence[T], keep: Callable[[Plan, tuple[T, ...]], Plan]
    ) -> Plan:
        """Leave out halves of the parts, then quarters, and so on down to single ones.

        Args:
            plan: The plan.
            parts: Its parts of one kind.
            keep: Makes the plan that has only some of them.
        """
        left = tuple(parts)
        count = 2
        while left and self.runs_left:
            size = max(1, len(left) // count)
            for start in range(0, len(left), size):
                fewer = left[:start] + left[start + size :]
                if self._fails(tried := keep(plan, fewer)):
                    plan, left = tried, fewer
                    count = max(2, count - 1)
                    break
            else:
                if size == 1:
                    break
                count = min(len(left), count * 2)
        return plan

    def sooner(self, plan: Plan) -> Plan:
        """Let misbehaviours hit the first call that they could, and only once."""
        for place, trial in enumerate(plan.trials):
            if not isinstance(trial, Misbehaviour):
                continue
            for simpler in (replace(trial, nth=1, times=1), replace(trial, nth=1)):
                if simpler == trial:
                    break
                trials = (*plan.trials[:place], simpler, *plan.trials[place + 1 :])
                if self._fails(tried := replace(plan, trials=trials)):
                    plan = tried
                    break
        return plan

    def _fails(self, plan: Plan) -> bool:
        """Whether a plan still fails in the same way; its history is kept if it does."""
        if not self.runs_left:
            return False
        self.runs_left -= 1
        history = self._play(plan)
        same = way_of(history) == self.way
        if same:
            self.history = history
        return same
