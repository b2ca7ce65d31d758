"""What is offered at an instant: merchants, their programmes, exact rates, the house's fee.

A snapshot of reference data; the services load it anew when it may have changed.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

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
        own_names: Whether the merchant calls members by names of its own, which mean nothing to others.
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
    own_names: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedRate:
    """A rate as it is stored: its number, and the instant from which it is in force."""

    rate_no: int
    effective_at_us: int
    rate: Rate


Authority = Literal["none", "code", "issuer"]
"""Which proof a programme asks for that a member agreed to a spend: none, a spending code (or the issuer's own
order), or the issuer's own order only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRules:
    """What protects the members of one programme (settlement/RULES.md, rules A1 to A6).

    Attributes:
        effective_at_us: From when they are in force, microseconds since 1970.
        authority: Which proof a spend needs.
        daily_cu: Most debit of one member in 24 hours, CU; 0 for no such limit.
        daily_orders: Most orders of one member in 24 hours; 0 for no such limit.
    """

    effective_at_us: int
    authority: Authority = "none"
    daily_cu: int = 0
    daily_orders: int = 0

    @property
    def limited(self) -> bool:
        """Whether anything of a member's orders is limited."""
        return bool(self.daily_cu or self.daily_orders)


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Reference data as of one load.

    Attributes:
        programmes: By merchant number.
        by_code: Merchant number by code.
        spend: Rates for points spent, by merchant, in order of effect.
        issue: Rates for points issued, by merchant, in order of effect.
        tariff: (effective_at_us, fee in basis points), in order of effect.
        member_rules: What protects members, by merchant, in order of effect; most merchants have none.
        connected: Merchants whose own system is reached through an adapter (rule O1).
    """

    programmes: Mapping[int, Programme] = field(default_factory=dict)
    by_code: Mapping[str, int] = field(default_factory=dict)
    spend: Mapping[int, Sequence[NumberedRate]] = field(default_factory=dict)
    issue: Mapping[int, Sequence[NumberedRate]] = field(default_factory=dict)
    tariff: Sequence[tuple[int, int]] = ()
    member_rules: Mapping[int, Sequence[MemberRules]] = field(default_factory=dict)
    connected: frozenset[int] = frozenset()

    def keeps_points(self, merchant_no: int) -> bool:
        """Whether points of a merchant can be given: they are kept here, or in a system that is reached."""
        return self.programmes[merchant_no].hosted or merchant_no in self.connected

    def spend_rate(self, merchant_no: int, at_us: int) -> NumberedRate | None:
        """The rate in force for spending a merchant's points; None where none is."""
        return _in_force(self.spend.get(merchant_no, ()), at_us)

    def issue_rate(self, merchant_no: int, at_us: int) -> NumberedRate | None:
        """The rate in force for issuing a merchant's points; None where none is."""
        return _in_force(self.issue.get(merchant_no, ()), at_us)

    def rules_of(self, merchant_no: int, at_us: int) -> MemberRules | None:
        """What protects the members of a programme at an instant; None where nothing does."""
        return _in_force(self.member_rules.get(merchant_no, ()), at_us)

    def fee_bps(self, at_us: int) -> int:
        """The house's fee in basis points; 0 before the first tariff."""
        tariff = self.tariff
        if len(tariff) == 1 and tariff[0][0] <= at_us:
            return tariff[0][1]
        place = bisect_right(tariff, at_us, key=lambda row: row[0])
        return tariff[place - 1][1] if place else 0


class _Effective(Protocol):
    """What is in force from an instant on."""

    @property
    def effective_at_us(self) -> int: ...


_EffectiveT = TypeVar("_EffectiveT", bound=_Effective)


def _in_force(terms: Sequence[_EffectiveT], at_us: int) -> _EffectiveT | None:
    """The last of several terms whose effect began at or before `at_us`."""
    if len(terms) == 1:
        return terms[0] if terms[0].effective_at_us <= at_us else None
    place = bisect_right(terms, at_us, key=lambda term: term.effective_at_us)
    return terms[place - 1] if place else None
