"""What is offered at an instant: merchants, their programmes, exact rates, the house's fee.

A snapshot of reference data; the services load it anew when it may have changed.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from schemas.values.rate import Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """A merchant's points.

    Attributes:
        merchant_no: The merchant.
        code: Its public code.
        name: Its name for people.
        hosted: Whether the lots are kept here.
        unit: What one point is called.
        scale: Decimal places that a member sees.
        earn_num: Smallest point units earned for `earn_den` fen spent.
        earn_den: Fen.
        valid_days: Life of an earned lot in days of 24 hours.
        units_min: Fewest smallest units that one order may spend.
        units_max: Most smallest units that one order may spend.
    """

    merchant_no: int
    code: str
    name: str
    hosted: bool
    unit: str
    scale: int
    earn_num: int
    earn_den: int
    valid_days: int
    units_min: int
    units_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedRate:
    """A rate as it is stored: its number, and the instant from which it is in force."""

    rate_no: int
    effective_at_us: int
    rate: Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Reference data as of one load.

    Attributes:
        programmes: By merchant number.
        by_code: Merchant number by code.
        spend: Rates for points spent, by merchant, in order of effect.
        issue: Rates for points issued, by merchant, in order of effect.
        tariff: (effective_at_us, fee in basis points), in order of effect.
    """

    programmes: Mapping[int, Programme] = field(default_factory=dict)
    by_code: Mapping[str, int] = field(default_factory=dict)
    spend: Mapping[int, Sequence[NumberedRate]] = field(default_factory=dict)
    issue: Mapping[int, Sequence[NumberedRate]] = field(default_factory=dict)
    tariff: Sequence[tuple[int, int]] = ()

    def spend_rate(self, merchant_no: int, at_us: int) -> NumberedRate | None:
        """The rate in force for spending a merchant's points; None where none is."""
        return _in_force(self.spend.get(merchant_no, ()), at_us)

    def issue_rate(self, merchant_no: int, at_us: int) -> NumberedRate | None:
        """The rate in force for issuing a merchant's points; None where none is."""
        return _in_force(self.issue.get(merchant_no, ()), at_us)

    def fee_bps(self, at_us: int) -> int:
        """The house's fee in basis points; 0 before the first tariff."""
        tariff = self.tariff
        if len(tariff) == 1 and tariff[0][0] <= at_us:
            return tariff[0][1]
        place = bisect_right(tariff, at_us, key=lambda row: row[0])
        return tariff[place - 1][1] if place else 0


def _in_force(rates: Sequence[NumberedRate], at_us: int) -> NumberedRate | None:
    """The last rate whose effect began at or before `at_us`."""
    if len(rates) == 1:
        return rates[0] if rates[0].effective_at_us <= at_us else None
    place = bisect_right(rates, at_us, key=lambda rate: rate.effective_at_us)
    return rates[place - 1] if place else None
