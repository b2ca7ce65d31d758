"""What compensation costs the merchant at fault, for whoever asks before and for the books that book it.

Source: settlement/RULES.md, rule W7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from exchange.core.catalogue import Catalogue


def cost_of(
    catalogue: Catalogue, *, at_fault: int, merchant_no: int, units: int, at_us: int
) -> int | Reason:
    """The cost of some points in CU, `ceil(units * issue rate)`; 0 for the points of the merchant at fault itself.

    Args:
        catalogue: The rates in force.
        at_fault: Number of the merchant at fault.
        merchant_no: Number of the merchant whose points they are.
        units: Points, above 0.
        at_us: Instant, microseconds since 1970.

    Returns:
        The cost; or RATE_NOT_OFFERED, or AMOUNT_ABOVE_MAXIMUM.
    """
    if at_fault == merchant_no:
        return 0
    rate = catalogue.issue_rate(merchant_no, at_us)
    if rate is None:
        return Reason.RATE_NOT_OFFERED
    cost_cu = rate.rate.cu_ceil(units)
    return cost_cu if cost_cu < AMOUNT_LIMIT else Reason.AMOUNT_ABOVE_MAXIMUM
