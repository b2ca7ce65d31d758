"""Netting of one cycle: from the bilateral gross to one figure for each party, and what that saved.

Every obligation is at most three payables of its issuer: to the acceptor `value - fee`, to the
house's fees `fee`, and to the house's rounding `debit - value`. Their sum is the debit, so the sum
of all debits is what would be paid if everything were paid gross.

A reversal takes an obligation back in part, at its own figures: the same three payables the other way
round. What of a pair was taken back in the cycle stands beside what was cleared and is not set off
against it, so gross figures stay what people saw.

- Bilateral: for each pair of parties only the difference of what they owe each other is paid. The
  house owes nobody but what a reversal gives back.
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
    """What one issuer owes for the lines of one cycle that went to one acceptor, or what of it was taken back.

    Attributes:
        issuer: Merchant whose points were spent.
        acceptor: Merchant where the value went.
        orders: Lines in the figure; greater than zero.
        debit_cu: What the issuer owes in all, CU.
        value_cu: What of it was credited to the acceptor before the fee, CU.
        fee_cu: What of the value is the house's fee, CU.
        reversal: Whether the lines are reversals, and the figures what they took back.
    """

    issuer: int
    acceptor: int
    orders: int
    debit_cu: int
    value_cu: int
    fee_cu: int
    reversal: bool = False

    def __post_init__(self) -> None:
        """Check what no code path may break; the table's constraints say the same."""
        if self.issuer <= 0 or self.acceptor <= 0 or self.issuer == self.acceptor:
            raise ValueError(f"an obligation is between two merchants: {self}")
        if self.orders <= 0:
            raise ValueError(f"an obligation without lines: {self}")
        if self.reversal:
            # Each part is a difference of floors, so that the value of one may pass its debit by 1 CU.
            if min(self.fee_cu, self.value_cu, self.debit_cu) < 0:
                raise ValueError(f"a reversal with a negative figure: {self}")
        elif not 0 <= self.fee_cu <= self.value_cu <= self.debit_cu:
            raise ValueError(f"0 <= fee <= value <= debit does not hold: {self}")

    @property
    def remainder_cu(self) -> int:
        """What conversion dropped, CU; the house's rounding account keeps it."""
        return self.debit_cu - self.value_cu

    @property
    def credit_cu(self) -> int:
        """What the acceptor is to receive, CU."""
        return self.value_cu - self.fee_cu

    @property
    def sign(self) -> int:
        """1 for what is owed, -1 for what was taken back."""
        return -1 if self.reversal else 1

    @property
    def gross_cu(self) -> int:
        """What would move if the three payables were paid alone, whichever way they go, CU."""
        return abs(self.credit_cu) + abs(self.fee_cu) + abs(self.remainder_cu)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over the lines of a cycle: of all that cleared, or of all that reversals took back. CU.

    Attributes:
        lines: How many they are.
        debit_cu: Sum of the debits.
        value_cu: Sum of the values credited before the fee.
        fee_cu: Sum of the fees.
    """

    lines: int = 0
    debit_cu: int = 0
    value_cu: int = 0
    fee_cu: int = 0

    @property
    def rounding_cu(self) -> int:
        """Sum of the remainders, CU."""
        return self.debit_cu - self.value_cu

    def plus(self, one: Obligation) -> Totals:
        """With one more obligation."""
        return Totals(
            lines=self.lines + one.orders,
            debit_cu=self.debit_cu + one.debit_cu,
            value_cu=self.value_cu + one.value_cu,
            fee_cu=self.fee_cu + one.fee_cu,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyPath:
    """How one party came from its lines to its figure: `net = credit - fee - debit`.

    Attributes:
        party: Merchant number; negative for an account of the house.
        issued_orders: Lines in which its points were spent, or given back by a reversal.
        debit_cu: What it owes for them, less what was taken back, CU.
        accepted_orders: Lines in which it was the acceptor, of orders or of reversals.
        credit_cu: Value that it was credited, before the fee, less what was taken back; for the house, what
            it takes. CU.
        fee_cu: Fee that it bears as an acceptor, less what was given back, CU.
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
        orders: Lines in the cycle, those of reversals among them.
        gross_cu: What would move if each pair paid its orders and its reversals alone.
        bilateral_net_cu: What would move if each pair of parties paid its difference.
        multilateral_net_cu: What moves: the sum of the positive figures.
        cleared: Sums over all that cleared.
        reversed: Sums over all that reversals took back.
        paths: One for each party, merchants by number, then the house's accounts.
    """

    orders: int
    gross_cu: int
    bilateral_net_cu: int
    multilateral_net_cu: int
    cleared: Totals
    reversed: Totals
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
        obligations: The cycle's bilateral gross, and what was taken back, in any order. Several of one
            pair add up.

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
    cleared = reversed_ = Totals()
    gross_cu = 0
    for one in obligations:
        if one.reversal:
            reversed_ = reversed_.plus(one)
        else:
            cleared = cleared.plus(one)
        gross_cu += one.gross_cu
        sign = one.sign
        owed[one.issuer, one.acceptor] += sign * one.credit_cu
        owed[one.issuer, HOUSE_FEES] += sign * one.fee_cu
        owed[one.issuer, HOUSE_ROUNDING] += sign * one.remainder_cu
        issued[one.issuer][0] += one.orders
        issued[one.issuer][1] += sign * one.debit_cu
        accepted[one.acceptor][0] += one.orders
        accepted[one.acceptor][1] += sign * one.value_cu
        accepted[one.acceptor][2] += sign * one.fee_cu
    payable, receivable = _bilateral(owed)
    taken = {
        HOUSE_FEES: cleared.fee_cu - reversed_.fee_cu,
        HOUSE_ROUNDING: cleared.rounding_cu - reversed_.rounding_cu,
    }
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
        orders=cleared.lines + reversed_.lines,
        gross_cu=gross_cu,
        bilateral_net_cu=sum(payable.values()),
        multilateral_net_cu=sum(path.net_cu for path in paths if path.net_cu > 0),
        cleared=cleared,
        reversed=reversed_,
        paths=tuple(paths),
    )


def _bilateral(
    owed: dict[tuple[int, int], int],
) -> tuple[defaultdict[int, int], defaultdict[int, int]]:
    """What each party would pay and receive if each pair settled only its difference, CU."""
    payable: defaultdict[int, int] = defaultdict(int)
    receivable: defaultdict[int, int] = defaultdict(int)
    for (debtor, creditor), cu in owed.items():
        other = owed.get((creditor, debtor))
        difference = cu - (other or 0)
        if difference > 0:
            payable[debtor] += difference
            receivable[creditor] += difference
        elif (
            other is None
        ):  # More was taken back than is owed, and the pair is met this way round only.
            payable[creditor] -= difference
            receivable[debtor] -= difference
    return payable, receivable
