"""What netting saves each party, and what the house earns of each pair.

Source: settlement/RULES.md, rules N1 to N6 and Y6.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.values.ids import HOUSE_FEES, HOUSE_ROUNDING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from settlement.core.netting import Netting, Obligation


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFees:
    """Lines of one pair in one cycle, and what the house has of them; CU.

    Attributes:
        issuer: Merchant whose points were spent.
        acceptor: Merchant where the value went; it bears the fee.
        orders: Lines that were owed.
        reversals: Lines that took back.
        gross_cu: Debits, less what was taken back.
        charged_cu: Fees of what was owed.
        given_back_cu: Fees of what was taken back.
        remainder_cu: What conversion dropped, less what was taken back.
    """

    issuer: int
    acceptor: int
    orders: int
    reversals: int
    gross_cu: int
    charged_cu: int
    given_back_cu: int
    remainder_cu: int

    @property
    def fee_cu(self) -> int:
        """What the house keeps, CU."""
        return self.charged_cu - self.given_back_cu


@dataclass(frozen=True, slots=True, kw_only=True)
class PartySaving:
    """What one party would pay in one cycle, CU: each line alone, each pair netted, all netted."""

    party: int
    gross_cu: int
    bilateral_cu: int
    multilateral_cu: int

    def moved_cu(self, model: str) -> int:
        """What the party pays by a model, CU."""
        return moved(model, self.gross_cu, self.bilateral_cu, self.multilateral_cu)


def moved(model: str, gross_cu: int, bilateral_cu: int, multilateral_cu: int) -> int:
    """Which of three figures is paid by a model of payment (rule T6), CU."""
    return {"gross": gross_cu, "bilateral": bilateral_cu}.get(model, multilateral_cu)


def pair_fees(obligations: Iterable[Obligation]) -> list[PairFees]:
    """Sum the obligations of one cycle by pair, in order of issuer and acceptor."""
    pairs: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [0] * 6)
    for one in obligations:
        sums = pairs[one.issuer, one.acceptor]
        sums[one.reversal] += one.orders
        sums[2] += one.sign * one.debit_cu
        sums[3 + one.reversal] += one.fee_cu
        sums[5] += one.sign * one.remainder_cu
    return [
        PairFees(
            issuer=issuer,
            acceptor=acceptor,
            orders=sums[0],
            reversals=sums[1],
            gross_cu=sums[2],
            charged_cu=sums[3],
            given_back_cu=sums[4],
            remainder_cu=sums[5],
        )
        for (issuer, acceptor), sums in sorted(pairs.items())
    ]


def party_savings(obligations: Iterable[Obligation], netting: Netting) -> list[PartySaving]:
    """What each party of one cycle would pay with and without netting; those that pay nothing anyway are left out.

    Args:
        obligations: What the cycle owes and took back.
        netting: Their netting.
    """
    gross: defaultdict[int, int] = defaultdict(int)
    for one in obligations:
        for creditor, cu in (
            (one.acceptor, one.sign * one.credit_cu),
            (HOUSE_FEES, one.sign * one.fee_cu),
            (HOUSE_ROUNDING, one.sign * one.remainder_cu),
        ):
            # What a reversal takes back goes the other way: whoever received it pays.
            gross[one.issuer if cu > 0 else creditor] += abs(cu)
    found = (
        PartySaving(
            party=path.party,
            gross_cu=gross[path.party],
            bilateral_cu=path.payable_bilateral_cu,
            multilateral_cu=max(0, -path.net_cu),
        )
        for path in netting.paths
    )
    return [one for one in found if one.gross_cu or one.bilateral_cu or one.multilateral_cu]
