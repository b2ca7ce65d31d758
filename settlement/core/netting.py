"""Netting of one cycle: from the bilateral gross to one figure for each party, and what that saved.

Every obligation is at most three payables of its issuer: to the acceptor `value - fee`, to the
house's fees `fee`, and to the house's rounding `debit - value`. Their sum is the debit, so the sum
of all debits is what would be paid if everything were paid gross.

- Bilateral: for each pair of parties only the difference of what they owe each other is paid. The
  house owes nobody, so its two accounts take part in pairs that never shrink.
- Multilateral: each party pays or receives only its net figure against everybody.

Source: settlement/RULES.md, rules N1 to N6.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.values.ids import HOUSE_FEES, HOUSE_ROUNDING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, kw_only=True)
class Obligation:
    """What one issuer owes for the lines of one cycle that went to one acceptor.

    Attributes:
        issuer: Merchant whose points were spent.
        acceptor: Merchant where the value went.
        orders: Lines in the figure; greater than zero.
        debit_cu: What the issuer owes in all, CU.
        value_cu: What of it was credited to the acceptor before the fee, CU.
        fee_cu: What of the value is the house's fee, CU.
    """

    issuer: int
    acceptor: int
    orders: int
    debit_cu: int
    value_cu: int
    fee_cu: int

    def __post_init__(self) -> None:
        """Check what no code path may break; the table's constraints say the same."""
        if self.issuer <= 0 or self.acceptor <= 0 or self.issuer == self.acceptor:
            raise ValueError(f"an obligation is between two merchants: {self}")
        if self.orders <= 0:
            raise ValueError(f"an obligation without lines: {self}")
        if not 0 <= self.fee_cu <= self.value_cu <= self.debit_cu:
            raise ValueError(f"0 <= fee <= value <= debit does not hold: {self}")

    @property
    def remainder_cu(self) -> int:
        """What conversion dropped, CU; the house's rounding account keeps it."""
        return self.debit_cu - self.value_cu

    @property
    def credit_cu(self) -> int:
        """What the acceptor is to receive, CU."""
        return self.value_cu - self.fee_cu


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyPath:
    """How one party came from its lines to its figure: `net = credit - fee - debit`.

    Attributes:
        party: Merchant number; negative for an account of the house.
        issued_orders: Lines in which its points were spent.
        debit_cu: What it owes for them, CU.
        accepted_orders: Lines in which it was the acceptor.
        credit_cu: Value that it was credited, before the fee; for the house, what it takes. CU.
        fee_cu: Fee that it bears as an acceptor, CU.
        payable_bilateral_cu: What it would pay if each pair settled its difference, CU.
        receivable_bilateral_cu: What it would receive then, CU.
        net_cu: Its figure: to receive (positive) or to pay (negative), CU.
    """

    party: int
    issued_orders: int
    debit_cu: int
    accepted_orders: int
    credit_cu: int
    fee_cu: int
    payable_bilateral_cu: int
    receivable_bilateral_cu: int
    net_cu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Netting:
    """The result of one cycle, with its explanation. All figures in CU.

    Attributes:
        orders: Lines in the cycle.
        gross_cu: What would move if every line were paid alone: the sum of all debits.
        bilateral_net_cu: What would move if each pair of parties paid its difference.
        multilateral_net_cu: What moves: the sum of the positive figures.
        value_cu: Sum of the values credited before the fee.
        fee_cu: Sum of the fees.
        rounding_cu: Sum of the remainders.
        paths: One for each party, merchants by number, then the house's accounts.
    """

    orders: int
    gross_cu: int
    bilateral_net_cu: int
    multilateral_net_cu: int
    value_cu: int
    fee_cu: int
    rounding_cu: int
    paths: tuple[PartyPath, ...]

    @property
    def saved_bilateral_cu(self) -> int:
        """Funding that pairwise netting saves against gross, CU."""
        return self.gross_cu - self.bilateral_net_cu

    @property
    def saved_multilateral_cu(self) -> int:
        """Funding that netting against everybody saves on top of that, CU."""
        return self.bilateral_net_cu - self.multilateral_net_cu

    @property
    def positions(self) -> dict[int, int]:
        """Net figure of each party, CU; the figures sum to zero."""
        return {path.party: path.net_cu for path in self.paths}


def net(obligations: Iterable[Obligation]) -> Netting:
    """Net everybody against everybody for one cycle.

    Args:
        obligations: The cycle's bilateral gross, in any order. Several of one pair add up.

    Returns:
        The same for every order of the input; for no obligations a netting of zeros, which still
        lists the house's two accounts.

    Raises:
        ArithmeticError: The figures do not sum to zero: a fault of this module.

    Source: settlement/RULES.md, rules N1 to N6.
    """
    owed: defaultdict[tuple[int, int], int] = defaultdict(int)
    issued: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
    accepted: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    orders = gross_cu = value_cu = fee_cu = 0
    for one in obligations:
        orders += one.orders
        gross_cu += one.debit_cu
        value_cu += one.value_cu
        fee_cu += one.fee_cu
        owed[one.issuer, one.acceptor] += one.credit_cu
        owed[one.issuer, HOUSE_FEES] += one.fee_cu
        owed[one.issuer, HOUSE_ROUNDING] += one.remainder_cu
        issued[one.issuer][0] += one.orders
        issued[one.issuer][1] += one.debit_cu
        accepted[one.acceptor][0] += one.orders
        accepted[one.acceptor][1] += one.value_cu
        accepted[one.acceptor][2] += one.fee_cu
    payable, receivable = _bilateral(owed)
    taken = {HOUSE_FEES: fee_cu, HOUSE_ROUNDING: gross_cu - value_cu}
    paths = []
    for party in (*sorted(issued.keys() | accepted.keys()), HOUSE_FEES, HOUSE_ROUNDING):
        issued_orders, debit = issued.get(party, (0, 0))
        accepted_orders, value, fee = accepted.get(party, (0, taken.get(party, 0), 0))
        paths.append(
            PartyPath(
                party=party,
                issued_orders=issued_orders,
                debit_cu=debit,
                accepted_orders=accepted_orders,
                credit_cu=value,
                fee_cu=fee,
                payable_bilateral_cu=payable[party],
                receivable_bilateral_cu=receivable[party],
                net_cu=value - fee - debit,
            )
        )
    if sum(path.net_cu for path in paths) != 0:
        raise ArithmeticError(f"the figures do not sum to zero: {paths}")
    return Netting(
        orders=orders,
        gross_cu=gross_cu,
        bilateral_net_cu=sum(payable.values()),
        multilateral_net_cu=sum(path.net_cu for path in paths if path.net_cu > 0),
        value_cu=value_cu,
        fee_cu=fee_cu,
        rounding_cu=gross_cu - value_cu,
        paths=tuple(paths),
    )


def _bilateral(
    owed: dict[tuple[int, int], int],
) -> tuple[defaultdict[int, int], defaultdict[int, int]]:
    """What each party would pay and receive if each pair settled only its difference, CU."""
    payable: defaultdict[int, int] = defaultdict(int)
    receivable: defaultdict[int, int] = defaultdict(int)
    for (debtor, creditor), cu in owed.items():
        difference = cu - owed.get((creditor, debtor), 0)
        if difference > 0:
            payable[debtor] += difference
            receivable[creditor] += difference
    return payable, receivable
