"""What happens when a merchant does not pay in: a published order of steps, each planned from figures alone.

Each step is one command of the books. After every step the plan is made anew from the books as they are then, so a
run that was interrupted goes on where it ended (settlement/RULES.md, rule U9).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from schemas.values.ids import HOUSE, HOUSE_DEFAULT_FUND
from settlement.core.command import Pot
from settlement.core.funds import Discharged, missing_of
from settlement.core.liquidity import save_liquidity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class StepKind(Enum):
    """The steps, in their order."""

    PREFUNDED = "prefunded"
    COLLATERAL = "collateral"
    LIQUIDITY = "liquidity_saving_run"
    OWN_SHARE = "defaulters_contribution"
    HOUSE_SHARE = "house_contribution"
    OTHERS_SHARE = "others_contributions"
    UNWIND = "unwind"
    SETTLE = "settle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A closed, unsettled cycle, and the money there is; CU.

    Attributes:
        residual: What of each party's figure is not settled.
        balances: Funds by party.
        collateral: By merchant.
        shares: Whose the default fund is; party 0 is the house.
        pairs: What each pair of merchants came to and has not settled.
        run: Whether a liquidity-saving run was made for this default already.
    """

    residual: Mapping[int, int]
    balances: Mapping[int, int]
    collateral: Mapping[int, int]
    shares: Mapping[int, int]
    pairs: tuple[Discharged, ...]
    run: bool = False

    def missing(self) -> dict[int, int]:
        """Who lacks money, and how much."""
        return missing_of(self.residual, self.balances)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One step.

    Attributes:
        kind: Which.
        cu: What it brings towards what is missing; of a run, what settles; of an unwind, what is not paid.
        missing_cu: What the debtor lacks before it.
        moves: Who gives how much: (party, CU).
        pot: Out of which pot.
        pairs: Of a run, what settles.
    """

    kind: StepKind
    cu: int
    missing_cu: int
    moves: tuple[tuple[int, int], ...] = ()
    pot: int = Pot.FUNDS
    pairs: tuple[Discharged, ...] = ()


def plan(figures: Figures, debtor: int) -> list[Planned]:
    """The steps of a default from here on, each as if those before it had been done.

    Args:
        figures: As they are now.
        debtor: Who does not pay in; nobody else lacks money.

    Returns:
        The steps; the last one settles the cycle.

    Raises:
        ValueError: Another merchant lacks money too.

    Source: settlement/RULES.md, rule U9.
    """
    missing = figures.missing()
    if missing.keys() - {debtor}:
        raise ValueError(f"others lack money too: {sorted(missing)}")
    left = missing.get(debtor, 0)
    had = figures.balances.get(debtor, 0)
    used = max(0, min(had, -figures.residual.get(debtor, 0)))
    steps = [Planned(kind=StepKind.PREFUNDED, cu=used, missing_cu=left + used)]
    balances = dict(figures.balances)
    sources: tuple[tuple[StepKind, Pot, dict[int, int]], ...] = (
        (StepKind.COLLATERAL, Pot.COLLATERAL, {debtor: figures.collateral.get(debtor, 0)}),
        (StepKind.LIQUIDITY, Pot.FUNDS, {}),
        (StepKind.OWN_SHARE, Pot.DEFAULT_FUND, _only(figures.shares, debtor)),
        (StepKind.HOUSE_SHARE, Pot.DEFAULT_FUND, _only(figures.shares, HOUSE)),
        (StepKind.OTHERS_SHARE, Pot.DEFAULT_FUND, _others(figures.shares, debtor)),
    )
    residual = dict(figures.residual)
    for kind, pot, has in sources:
        if not left:
            break
        if kind is StepKind.LIQUIDITY:
            step = None if figures.run else _run(figures.pairs, balances, left)
            for pair in step.pairs if step else ():
                for party, cu in pair.legs():
                    balances[party] = balances.get(party, 0) + cu
                    residual[party] = residual.get(party, 0) - cu
        else:
            step = _help(kind, pot, has, left)
            balances[debtor] = balances.get(debtor, 0) + (step.cu if step else 0)
        if step:
            steps.append(step)
        left = missing_of(residual, balances).get(debtor, 0)
    if not left:
        return [*steps, Planned(kind=StepKind.SETTLE, cu=0, missing_cu=0)]
    credit = {party: cu for party, cu in residual.items() if cu > 0 and party != debtor}
    moves = share_out(left, credit)
    return [*steps, Planned(kind=StepKind.UNWIND, cu=left, missing_cu=left, moves=moves)]


def share_out(cu: int, weights: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
    """Divide an amount pro rata in whole CU, the largest remainders first; of equal ones the lower number.

    Args:
        cu: What is divided; at most the sum of the weights, so nobody's part exceeds its weight.
        weights: By party; above zero.

    Returns:
        Party and part, by party, without parts of zero; together exactly the amount.

    Raises:
        ValueError: The amount is more than the weights.
    """
    total = sum(weights.values())
    if cu > total:
        raise ValueError(f"{cu} CU among weights of {total}")
    if not cu:
        return ()
    parts = {party: cu * weight // total for party, weight in weights.items()}
    order = sorted(weights, key=lambda party: (-(cu * weights[party] % total), party))
    for party in order[: cu - sum(parts.values())]:
        parts[party] += 1
    return tuple((party, part) for party, part in sorted(parts.items()) if part)


def _only(shares: Mapping[int, int], party: int) -> dict[int, int]:
    return {party: shares.get(party, 0)}


def _others(shares: Mapping[int, int], debtor: int) -> dict[int, int]:
    return {
        party: cu
        for party, cu in shares.items()
        if cu > 0 and party not in (debtor, HOUSE, HOUSE_DEFAULT_FUND)
    }


def _help(kind: StepKind, pot: Pot, has: Mapping[int, int], left: int) -> Planned | None:
    """What some pots give; None where there is nothing in them."""
    cu = min(left, sum(has.values()))
    if not cu:
        return None
    moves = share_out(cu, {party: each for party, each in has.items() if each > 0})
    return Planned(kind=kind, cu=cu, missing_cu=left, moves=moves, pot=pot)


def _run(pairs: Iterable[Discharged], balances: Mapping[int, int], left: int) -> Planned | None:
    """What settles before the rest with the money there is now; None where nothing does."""
    found = save_liquidity(pairs, balances)
    if not found.settled:
        return None
    return Planned(kind=StepKind.LIQUIDITY, cu=found.value_cu, missing_cu=left, pairs=found.settled)
