"""Pricing many redemptions at once; figure by figure what `exchange.core.quote.price` says of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from schemas.values.amounts import AMOUNT_LIMIT, CU_PER_FEN
from schemas.values.rate import FEE_BPS_LIMIT

if TYPE_CHECKING:
    import numpy.typing as npt

    from exchange.core.catalogue import Catalogue

    Int64s = npt.NDArray[np.int64]

_INT64_LIMIT: Final = 2**63


class PriceColumns(NamedTuple):
    """Prices of redemptions, in CU.

    Attributes:
        priced: Which of them have one here; never those of an issuer that protects its members or has a
            system of its own that is reached. Whatever else there is to say of an order, `terms_for` and
            `price` say it.
        hosted: Whether the issuer's points are kept by the house.
        rate_no: The issuer's rate.
        debit_cu: What the issuer owes.
        value_cu: What the acceptor is credited before the fee.
        fee_cu: The house's fee.
    """

    priced: npt.NDArray[np.bool_]
    hosted: npt.NDArray[np.bool_]
    rate_no: Int64s
    debit_cu: Int64s
    value_cu: Int64s
    fee_cu: Int64s


def price_redemptions(
    catalogue: Catalogue, *, issuers: Int64s, units: Int64s, at_us: int
) -> PriceColumns:
    """Price redemptions of points of many issuers; the acceptor plays no part in it.

    Args:
        catalogue: What is offered.
        issuers: Numbers of the merchants whose points are spent; one that nobody has gets no price.
        units: Smallest point units, below the limit of amounts.
        at_us: Instant, microseconds since 1970.

    Source: settlement/RULES.md, rules Q1 to Q3.
    """
    numbers = sorted(set(issuers.tolist()))
    which = np.searchsorted(np.array(numbers, np.int64), issuers)
    fee_bps = catalogue.fee_bps(at_us)
    rows = []
    for number in numbers:
        programme = catalogue.programmes.get(number)
        spend = catalogue.spend_rate(number, at_us)
        special = number in catalogue.member_rules or number in catalogue.connected
        if programme is None or spend is None or special:
            rows.append((0, 1, 1, 0, 0, 0))
        else:
            rows.append(
                (
                    spend.rate.num, spend.rate.den, programme.units_min, programme.units_max,
                    spend.rate_no, programme.hosted,
                )
            )  # fmt: skip
    num, den, units_min, units_max, rate_no, hosted = np.array(rows, np.int64).T.reshape(6, -1)
    # A product that might not fit int64 is left to Python's integers, all of them at once.
    if int(num.max(initial=0)) * int(units.max(initial=0)) < _INT64_LIMIT:
        debit_cu = units * num[which] // den[which]
    else:
        debit_cu = np.zeros_like(units)
    fits = debit_cu < AMOUNT_LIMIT
    value_cu = np.where(fits, debit_cu - debit_cu % CU_PER_FEN, 0)
    fits &= value_cu <= (_INT64_LIMIT - 1) // max(1, fee_bps)
    return PriceColumns(
        priced=fits & (units >= units_min[which]) & (units <= units_max[which]) & (value_cu > 0),
        hosted=hosted[which] > 0,
        rate_no=rate_no[which],
        debit_cu=debit_cu,
        value_cu=value_cu,
        fee_cu=np.where(fits, value_cu, 0) * fee_bps // FEE_BPS_LIMIT,
    )
