"""Exact rates between a programme's points and common units.

A rate is a pair of integers, CU per smallest point unit. Nothing rounds silently: each conversion
names its rounding, and the caller books what was dropped.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """CU per smallest unit of a programme's points, as the exact ratio `num / den`.

    Attributes:
        num: Common units; greater than zero.
        den: Smallest point units; greater than zero.
    """

    num: int
    den: int

    def __post_init__(self) -> None:
        """Refuse a ratio that cannot price anything.

        Raises:
            ValueError: One of the two is not positive.
        """
        if self.num <= 0 or self.den <= 0:
            raise ValueError(f"a rate needs two positive integers: {self.num}/{self.den}")

    def cu_floor(self, units: int) -> int:
        """Value `units` in whole CU, dropping the fraction (what spending them debits the issuer).

        Source: settlement/RULES.md, rule R1.
        """
        return units * self.num // self.den

    def cu_ceil(self, units: int) -> int:
        """Value `units` in whole CU, rounded up (what issuing them costs the one who pays).

        Source: settlement/RULES.md, rule R2.
        """
        return -(-units * self.num // self.den)

    def units_floor(self, cu: int) -> int:
        """Most units whose issue `cu` pays for in full.

        Source: settlement/RULES.md, rule R2.
        """
        return cu * self.den // self.num

    def units_ceil(self, cu: int) -> int:
        """Fewest units that are worth at least `cu`.

        Source: settlement/RULES.md, rule R1.
        """
        return -(-cu * self.den // self.num)


FEE_BPS_LIMIT = 10_000


def fee_floor(value_cu: int, fee_bps: int) -> int:
    """Fee of the house on a value, in whole CU, rounded down in the acceptor's favour.

    Args:
        value_cu: What the acceptor is credited before the fee, in CU.
        fee_bps: Basis points, 0 to 10,000.

    Source: settlement/RULES.md, rule R3.
    """
    return value_cu * fee_bps // FEE_BPS_LIMIT
