"""Points that are owed, and breakage that is earned: a roll-forward of lots, and an integer formula.

IFRS 15, B44 to B47: unexercised rights are a liability; breakage that is expected is earned in proportion to the rights
that members exercise, and where none can be expected, only when exercise is remote, here: when the points lapsed.

Rights of one programme that expire in one month are a *cohort*. Of a cohort, in units:

    I = R + L + O        issued = redeemed + lapsed + outstanding
    b = ΣL / ΣI          over the cohorts of the programme that are over, in the last months; 0 without any
    E = max(L, min(floor(I * b), L + O))        breakage that is expected in all
    B = max(L, floor(E * R / (I - E)))          breakage that is earned; L where I = E
    liability = O - (B - L)

so B grows with R from 0 to E, and what is over has B = L and owes nothing.

Source: settlement/RULES.md, rules Y8 and Y9.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from math import gcd
from typing import TYPE_CHECKING, Final, NamedTuple

from settlement.core.event import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from schemas.values.rate import Rate

WINDOW_MONTHS: Final = 24
"""Cohorts so many months back tell how much breaks."""


class Flow(Enum):
    """Why points of a programme came or went, with the sign in the roll-forward and the Chinese name."""

    ISSUED = ("issued", 1, "发放")
    EXCHANGED = ("exchanged_in", 1, "兑入")
    RECEIVED = ("received", 1, "受让")
    RETURNED = ("returned", 1, "退回")
    REDEEMED = ("redeemed", -1, "核销")
    WITHDRAWN = ("withdrawn", -1, "收回")
    GIVEN = ("given", -1, "转出")
    LAPSED = ("lapsed", -1, "失效")

    @property
    def english(self) -> str:
        """Its name."""
        return self.value[0]

    @property
    def sign(self) -> int:
        """1 for what comes, -1 for what goes."""
        return self.value[1]

    @property
    def chinese(self) -> str:
        """Its Chinese name."""
        return self.value[2]


_MADE: Final = {
    Kind.CLEARED: Flow.EXCHANGED,
    Kind.CREDITED: Flow.EXCHANGED,
    Kind.RETURNED: Flow.RETURNED,
    Kind.REVERSED: Flow.RETURNED,
    Kind.RECEIVED: Flow.RECEIVED,
}
"""Why a lot was made; by any other event: issued."""
_TAKEN: Final = {
    Kind.LAPSED: Flow.LAPSED,
    Kind.GIVEN: Flow.GIVEN,
    Kind.CLEARED: Flow.REDEEMED,
    Kind.TAKEN: Flow.REDEEMED,
}
"""Why units left a lot; by any other event: withdrawn."""


_TOLD: Final = frozenset(
    {Kind.ACCRUED, Kind.RETURNED, Kind.WITHDRAWN, Kind.REVERSED, *_MADE, *_TAKEN}
)
"""Kinds whose units the journal tells by themselves."""


class LotFlow(NamedTuple):
    """Units of one programme and month of expiry that one kind of event moved.

    Attributes:
        merchant_no: The programme.
        month_no: Month of expiry: years times 12 plus month from 0, in Beijing.
        in_period: Whether it moved after the opening.
        kind: The kind of event.
        made: Whether it made lots; else it took units of lots, or put units back (below 0).
        units: How many.
    """

    merchant_no: int
    month_no: int
    in_period: bool
    kind: int
    made: bool
    units: int

    @property
    def flow(self) -> Flow:
        """Why they moved."""
        if self.made:
            return _MADE.get(Kind(self.kind), Flow.ISSUED)
        if self.units < 0:
            return Flow.RETURNED
        return _TAKEN.get(Kind(self.kind), Flow.WITHDRAWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Rights that expire in one month, in units: `issued = redeemed + lapsed + outstanding`.

    What was given away, taken back by a reversal, or went with a returned lot into another month was no right here.
    """

    month_no: int
    redeemed: int
    lapsed: int
    outstanding: int

    @property
    def issued(self) -> int:
        """All rights."""
        return self.redeemed + self.lapsed + self.outstanding

    def expected_breakage(self, ratio: tuple[int, int]) -> int:
        """Units that are expected to lapse in all, at a ratio (E)."""
        num, den = ratio
        open_end = self.lapsed + self.outstanding
        return max(self.lapsed, min(self.issued * num // den, open_end))

    def earned_breakage(self, ratio: tuple[int, int]) -> int:
        """Units whose breakage is earned, those that lapsed among them (B)."""
        expected = self.expected_breakage(ratio)
        exercised = self.issued - expected
        if exercised <= 0:
            return self.lapsed
        return max(self.lapsed, expected * max(0, self.redeemed) // exercised)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Where one programme stands at one instant, in units.

    Attributes:
        ratio: Share of rights that breaks, as an exact fraction.
        history: How many cohorts tell it.
        cohorts: All cohorts, by month.
    """

    ratio: tuple[int, int]
    history: int
    cohorts: tuple[Cohort, ...]

    @property
    def outstanding(self) -> int:
        """Rights that may still be exercised."""
        return sum(one.outstanding for one in self.cohorts)

    @property
    def earned(self) -> int:
        """Breakage that is earned, what lapsed included."""
        return sum(one.earned_breakage(self.ratio) for one in self.cohorts)

    @property
    def ahead(self) -> int:
        """Breakage that is earned of rights that are still outstanding."""
        return self.earned - sum(one.lapsed for one in self.cohorts)

    @property
    def to_be_redeemed(self) -> int:
        """Rights that are expected to be exercised yet."""
        return self.outstanding - sum(
            one.expected_breakage(self.ratio) - one.lapsed for one in self.cohorts
        )


def month_of(at_us: int) -> int:
    """The month of an instant, in Beijing: years times 12 plus month from 0."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=8, microseconds=at_us)
    return at.year * 12 + at.month - 1


def estimate(
    flows: Iterable[LotFlow], *, as_of_us: int, late_us: int, window_months: int = WINDOW_MONTHS
) -> Estimate:
    """Sum the cohorts of one programme, and tell from those that are over how much breaks.

    Args:
        flows: Everything that moved in its lots.
        as_of_us: The instant, microseconds since 1970.
        late_us: How long after its expiry a lot may still be spent (L6).
        window_months: How many months back cohorts tell the ratio.
    """
    sums: defaultdict[int, defaultdict[Flow, int]] = defaultdict(lambda: defaultdict(int))
    for one in flows:
        sums[one.month_no][one.flow if one.made or one.units > 0 else Flow.REDEEMED] += one.units
    cohorts = []
    for month_no, by in sorted(sums.items()):
        made = sum(by[flow] for flow in Flow if flow.sign > 0)
        gone = by[Flow.REDEEMED] + by[Flow.WITHDRAWN] + by[Flow.GIVEN] + by[Flow.LAPSED]
        cohorts.append(
            Cohort(
                month_no=month_no,
                redeemed=by[Flow.REDEEMED],
                lapsed=by[Flow.LAPSED],
                outstanding=made - gone,
            )
        )
    over_before = month_of(as_of_us - late_us)
    history = [one for one in cohorts if over_before - window_months <= one.month_no < over_before]
    lapsed, issued = sum(one.lapsed for one in history), sum(one.issued for one in history)
    common = gcd(lapsed, issued)
    return Estimate(
        ratio=(lapsed // common, issued // common) if issued > 0 else (0, 1),
        history=len(history),
        cohorts=tuple(cohorts),
    )


def roll_forward(flows: Iterable[LotFlow]) -> tuple[int, dict[Flow, int]]:
    """What was outstanding at the opening, and what came and went in the period, without signs; units."""
    opening = 0
    moved: dict[Flow, int] = dict.fromkeys(Flow, 0)
    for one in flows:
        units = abs(one.units)
        if one.in_period:
            moved[one.flow] += units
        else:
            opening += one.flow.sign * units
    return opening, moved


def unproven(
    flows: Iterable[LotFlow], told: Iterable[tuple[int, int, bool, int]]
) -> dict[tuple[int, int, bool], int]:
    """Units that lots moved and the journal does not tell, by programme, kind of event, and whether they came.

    Args:
        flows: What moved in lots.
        told: The same keys and units as the journal tells them; kinds that it never tells are left out.
    """
    off: defaultdict[tuple[int, int, bool], int] = defaultdict(int)
    for merchant_no, kind, came, units in told:
        off[merchant_no, kind, came] -= units
    for one in flows:
        if one.kind in _TOLD:
            off[one.merchant_no, one.kind, one.flow.sign > 0] += abs(one.units)
    return {key: units for key, units in off.items() if units}


def value_cu(found: Estimate, price: Rate | None) -> tuple[int, int]:
    """What is outstanding, rounded up, and what of it is earned as breakage, rounded down, CU; 0 without a price."""
    if price is None:
        return 0, 0
    return price.cu_ceil(found.outstanding), price.cu_floor(found.ahead)


def by_programme(flows: Iterable[LotFlow]) -> Mapping[int, list[LotFlow]]:
    """Flows by programme."""
    found: defaultdict[int, list[LotFlow]] = defaultdict(list)
    for one in flows:
        found[one.merchant_no].append(one)
    return found
