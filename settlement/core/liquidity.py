"""The liquidity-saving run: which obligations of a cycle settle with the money that is there.

What two merchants came to between them is one obligation, settled whole or not at all: the smallest sum that
both would have to pay if everybody else were gone, so nobody's part of it can be argued about. Chosen is the set
of the largest value after which nobody is below zero. Finding it is a knapsack problem, so the search is exact
while it stays within a number of steps, and says so; beyond that it gives the best set that it found, and a bound
that no set can exceed.

The bound: a merchant that lacks `d` must have obligations of at least `d` left out in which it pays, whatever
happens to others, and each payment has one payer. So no set settles more than everything less what all lack.

No draw, no clock: the same figures give the same set, whatever their order (settlement/RULES.md, rule U8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from settlement.core.funds import SLACK_CU, Discharged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STEPS_MAX: Final = 20_000
"""Nodes that the exact search may look at: about a second for fifty merchants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """An obligation that does not settle, and why.

    Attributes:
        pair: The obligation.
        merchant: Who would be below zero with it, beside what settles.
        missing_cu: By how much, CU.
    """

    pair: Discharged
    merchant: int
    missing_cu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What settles.

    Attributes:
        settled: The obligations that settle, by their merchants.
        left_out: Those that do not.
        value_cu: What is paid by those that settle, CU.
        bound_cu: What no set can exceed, CU.
        exact: Whether the search came to its end: then no set settles more.
    """

    settled: tuple[Discharged, ...]
    left_out: tuple[LeftOut, ...]
    value_cu: int
    bound_cu: int
    exact: bool


def save_liquidity(
    pairs: Iterable[Discharged], balances: Mapping[int, int], *, steps_max: int = STEPS_MAX
) -> Run:
    """Choose the obligations of the largest value that settle with the funds at hand.

    Args:
        pairs: What each pair of merchants came to, each pair once.
        balances: Funds of each merchant, CU.
        steps_max: How many nodes the exact search may look at.

    Source: settlement/RULES.md, rule U8.
    """
    search = _Search(sorted(pairs), balances, steps_max)
    chosen = search.run()
    settled = tuple(pair for place, pair in enumerate(search.pairs) if place in chosen)
    sums = search.sums(chosen)
    left_out = tuple(
        LeftOut(pair=pair, merchant=merchant, missing_cu=missing_cu)
        for place, pair in enumerate(search.pairs)
        if place not in chosen
        for merchant, missing_cu in [_blocked(search, sums, place)]
    )
    value_cu = search.value(chosen)
    return Run(
        settled=settled,
        left_out=left_out,
        value_cu=value_cu,
        bound_cu=value_cu if search.complete else search.bound_cu,
        exact=search.complete or value_cu == search.bound_cu,
    )


def paid_cu(pair: Discharged) -> int:
    """What is paid when an obligation settles: the sum of its legs below zero, CU."""
    return -sum(min(0, cu) for _, cu in pair.legs())


def _blocked(search: _Search, sums: dict[int, int], place: int) -> tuple[int, int]:
    """Who would be below zero if one more obligation settled, and by how much."""
    return max(
        (
            (merchant, search.floor[merchant] - sums[merchant] - cu)
            for merchant, cu in search.legs[place]
            if cu < 0
        ),
        key=lambda found: (found[1], -found[0]),
    )


class _Search:
    """One run; obligations are known by their place in the list."""

    def __init__(
        self, pairs: list[Discharged], balances: Mapping[int, int], steps_max: int
    ) -> None:
        self.pairs = pairs
        self.legs = [[(party, cu) for party, cu in pair.legs() if party > 0] for pair in pairs]
        self.values = [paid_cu(pair) for pair in pairs]
        merchants = {party for legs in self.legs for party, _ in legs}
        self.funds = {merchant: balances.get(merchant, 0) for merchant in merchants}
        self.floor = {merchant: min(-SLACK_CU, cu) for merchant, cu in self.funds.items()}
        self.paying: dict[int, list[tuple[int, int]]] = {merchant: [] for merchant in merchants}
        for place, legs in enumerate(self.legs):
            for merchant, cu in legs:
                if cu < 0:
                    self.paying[merchant].append((cu, place))
        for each in self.paying.values():
            each.sort()
        self.steps_left = steps_max
        self.complete = True
        everything = set(range(len(pairs)))
        lacking = self.lacking(self.sums(everything))
        self.bound_cu = self.value(everything) - sum(lacking.values())
        self.best: set[int] = set()
        self.best_cu = -1

    def sums(self, chosen: Iterable[int]) -> dict[int, int]:
        """Funds after a set has settled."""
        after = dict(self.funds)
        for place in chosen:
            for merchant, cu in self.legs[place]:
                after[merchant] += cu
        return after

    def value(self, chosen: Iterable[int]) -> int:
        """What is paid by a set."""
        return sum(self.values[place] for place in chosen)

    def lacking(self, sums: Mapping[int, int]) -> dict[int, int]:
        """Who would be below zero, and by how much."""
        return {
            merchant: self.floor[merchant] - cu
            for merchant, cu in sorted(sums.items())
            if cu < self.floor[merchant]
        }

    def run(self) -> set[int]:
        """Begin with a good set, then look for a better one until none is possible or the steps are used up."""
        chosen = set(range(len(self.pairs)))
        self._keep(self._filled(self._relieved(chosen, frozenset())))
        self._branch(chosen, self.sums(chosen), self.value(chosen), frozenset())
        # A set that a bound cut short may still take some more.
        return self._filled(self.best)

    def _keep(self, chosen: set[int]) -> None:
        value_cu = self.value(chosen)
        if value_cu > self.best_cu:
            self.best, self.best_cu = chosen, value_cu

    def _relieved(self, chosen: set[int], kept: frozenset[int]) -> set[int]:
        """Leave obligations out until nobody is below zero: of whoever lacks most, the one that fits best."""
        chosen = set(chosen)
        sums = self.sums(chosen)
        while lacking := self.lacking(sums):
            merchant = max(lacking, key=lambda one: (lacking[one], -one))
            there = [one for one in self.paying[merchant] if one[1] in chosen - kept]
            enough = [one for one in there if -one[0] >= lacking[merchant]]
            _, place = enough[-1] if enough else there[0]
            chosen.remove(place)
            for party, cu in self.legs[place]:
                sums[party] -= cu
        return chosen

    def _filled(self, chosen: set[int]) -> set[int]:
        """Add what still fits, the largest first, until nothing does."""
        chosen = set(chosen)
        sums = self.sums(chosen)
        order = sorted(range(len(self.pairs)), key=lambda place: (-self.values[place], place))
        grown = True
        while grown:
            grown = False
            for place in order:
                fits = all(
                    cu >= 0 or sums[party] + cu >= self.floor[party]
                    for party, cu in self.legs[place]
                )
                if place not in chosen and fits:
                    chosen.add(place)
                    grown = True
                    for party, cu in self.legs[place]:
                        sums[party] += cu
        return chosen

    def _branch(
        self, chosen: set[int], sums: dict[int, int], value_cu: int, kept: frozenset[int]
    ) -> None:
        """Search below one node: `chosen` less what must still go; `kept` may not go.

        A stack of its own, since a path is as long as there are obligations.
        """
        stack = [(chosen, sums, value_cu, kept)]
        while stack:
            chosen, sums, value_cu, kept = stack.pop()
            lacking = self.lacking(sums)
            if value_cu - sum(lacking.values()) <= self.best_cu:
                continue
            if not lacking:
                self.best, self.best_cu = chosen, value_cu
                continue
            if not self.steps_left:
                self.complete = False
                return
            self.steps_left -= 1
            merchant = max(lacking, key=lambda one: (lacking[one], -one))
            there = [
                one for one in self.paying[merchant] if one[1] in chosen and one[1] not in kept
            ]
            if -sum(cu for cu, _ in there) < lacking[merchant]:
                continue
            place = there[0][1]
            without = dict(sums)
            for party, cu in self.legs[place]:
                without[party] -= cu
            stack.append((chosen, sums, value_cu, kept | {place}))
            stack.append((chosen - {place}, without, value_cu - self.values[place], kept))
