"""The accounts of the books at one instant: summed from the journal, or as the projections have them.

Both ways lead to the same `Ledger`, so that one can be held against the other.

Source: settlement/RULES.md, rules Y1 to Y5.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from schemas.values.amounts import yuan_text
from schemas.values.ids import (
    HOUSE,
    HOUSE_CODES,
    HOUSE_DEFAULT_FUND,
    HOUSE_FEES,
    HOUSE_ROUNDING,
    HOUSE_TRANSIT,
)
from settlement.core.arrangement import Model
from settlement.core.command import Pot
from settlement.core.event import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BANK: Final = -10
"""Stands for the bank as the party of the contra account; no party of the books has this number."""
PARTY_CODES: Final = {
    **HOUSE_CODES,
    HOUSE: "HOUSE",
    HOUSE_TRANSIT: "HOUSE:transit",
    BANK: "HOUSE:bank",
}


KeyT = TypeVar("KeyT")


class CycleState(Enum):
    """Where a cycle stands."""

    OPEN = "open"
    CLOSED = "closed"
    SETTLED = "settled"


class Account(Enum):
    """Kinds of accounts, in the order in which they are shown; with their Chinese names."""

    POSITION = "position 结算头寸"
    FUNDS = "funds 结算账户"
    COLLATERAL = "collateral 保证金"
    DEFAULT_FUND = "default fund 违约基金"
    BANK = "bank 银行存款"


class Moved(NamedTuple):
    """Sums over the lines of one cycle and pair, or over the holds of one issuer; CU.

    Attributes:
        line: Whether these are lines; else acceptances and ends of holds, and `cycle_no` and `acceptor` are 0.
        cycle_no: The cycle.
        issuer: Whose points.
        acceptor: Where the value went.
        debit_cu: Sum of the debits, signed.
        value_cu: Sum of the values, signed.
        fee_cu: Sum of the fees, signed.
        held_cu: What was held, less what ended.
    """

    line: bool
    cycle_no: int
    issuer: int
    acceptor: int
    debit_cu: int
    value_cu: int
    fee_cu: int
    held_cu: int


class Administered(NamedTuple):
    """One administrative event, as `settlement.core.event.Event` has it."""

    kind: int
    cycle_no: int
    issuer: int
    acceptor: int
    units: int
    credited_units: int
    debit_cu: int
    value_cu: int
    fee_cu: int
    reference: str


class Balance(NamedTuple):
    """What one account holds: positive is owed to the party, negative by it. CU.

    Attributes:
        account: Its kind.
        cycle_no: Of a position, its cycle; 0 otherwise.
        party: Merchant number, an account of the house, `BANK`, or 0 for the house's share of the default fund.
        cu: The balance.
    """

    account: Account
    cycle_no: int
    party: int
    cu: int


@dataclass(slots=True, kw_only=True)
class Ledger:
    """Everything that the books hold at one instant; figures in CU.

    Attributes:
        cycles: Id and state of each cycle, by number.
        positions: By cycle and party, of cycles that are not settled; without what pairs settled before the rest.
        funds: By party; without the default fund, which is its shares.
        collateral: By merchant.
        shares: Whose the default fund is; 0 for the house.
        bank_cu: The contra account of what banks hold; zero or below.
        caps: Net debit cap of each merchant that has an account.
        held: Sum of open holds of each issuer: a memo, since nothing has moved.
        debts: What a debtor owes to a creditor whose money settled a cycle for it: a memo as well.
        settled: What the positions of a settled cycle came to, by its id; 0 in books that are right.
        gross: Numbers of gross arrangements; the positions of their cycles are in the funds line by line.
        at_once: Their cycles.
    """

    cycles: dict[int, tuple[str, CycleState]] = field(default_factory=dict)
    positions: defaultdict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    funds: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    collateral: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    shares: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    bank_cu: int = 0
    caps: dict[int, int] = field(default_factory=dict)
    held: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    debts: defaultdict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    settled: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    gross: set[int] = field(default_factory=set)
    at_once: set[int] = field(default_factory=set)

    def balances(self) -> list[Balance]:
        """Every account that holds something; funds and collateral, which each party always has, also at zero."""
        always = (*self.caps, HOUSE_FEES, HOUSE_ROUNDING)
        found = [
            Balance(Account.POSITION, cycle_no, party, self.positions[cycle_no, party])
            for cycle_no, party in sorted(key for key, cu in self.positions.items() if cu)
        ]
        for account, pot, owners in (
            (Account.FUNDS, self.funds, always),
            (Account.COLLATERAL, self.collateral, self.caps),
            (Account.DEFAULT_FUND, self.shares, ()),
        ):
            parties = {*owners, *(party for party, cu in pot.items() if cu)}
            found += [Balance(account, 0, party, pot[party]) for party in sorted(parties)]
        found.append(Balance(Account.BANK, 0, BANK, self.bank_cu))
        return found

    def differences(self) -> dict[str, int]:
        """Sums that are not zero and must be: of all accounts (`ledger`), and of each cycle's positions by its id."""
        sums = self.settled.copy()
        for (cycle_no, _), cu in self.positions.items():
            sums[self.cycles[cycle_no][0] if cycle_no in self.cycles else str(cycle_no)] += cu
        sums["ledger"] = sum(one.cu for one in self.balances())
        return {name: cu for name, cu in sums.items() if cu}

    def same_as(self, other: Ledger) -> bool:
        """Whether every account, every cap and every hold is the same."""
        return (
            self.cycles == other.cycles
            and self.balances() == other.balances()
            and self.caps == other.caps
            and _not_zero(self.held) == _not_zero(other.held)
            and _not_zero(self.debts) == _not_zero(other.debts)
        )


def _not_zero(sums: Mapping[KeyT, int]) -> dict[KeyT, int]:
    return {key: cu for key, cu in sums.items() if cu}


def fold_journal(moved: Iterable[Moved], administered: Iterable[Administered]) -> Ledger:
    """Come from the journal to the accounts.

    Args:
        moved: Sums over everything that moved or held value, each event once.
        administered: Administrative events in their order.

    Source: settlement/RULES.md, rules B2, B3, N1 and Y2.
    """
    ledger = Ledger()
    for event in administered:
        _administer(ledger, event)
    for row in moved:
        ledger.held[row.issuer] += row.held_cu
        if row.line:
            for party, cu in (
                (row.issuer, -row.debit_cu),
                (row.acceptor, row.value_cu - row.fee_cu),
                (HOUSE_FEES, row.fee_cu),
                (HOUSE_ROUNDING, row.debit_cu - row.value_cu),
            ):
                ledger.positions[row.cycle_no, party] += cu
    _settle(ledger)
    return ledger


def _administer(ledger: Ledger, event: Administered) -> None:
    match event.kind:
        case Kind.JOINED | Kind.CAP_SET:
            ledger.caps[event.issuer] = event.value_cu
        case Kind.COLLATERAL_SET:
            ledger.bank_cu -= event.value_cu - ledger.collateral[event.issuer]
            ledger.collateral[event.issuer] = event.value_cu
        case Kind.DEPOSITED:
            ledger.bank_cu -= event.value_cu
            _pot(ledger, event.units)[event.issuer] += event.value_cu
        case Kind.PAID_OUT:
            ledger.bank_cu += event.value_cu
            _pot(ledger, event.units)[event.issuer] -= event.value_cu
        case Kind.TRANSFERRED:
            _transfer(ledger, event)
        case Kind.DISCHARGED:
            rounding_cu = -(event.debit_cu + event.value_cu + event.fee_cu)
            for party, cu in (
                (event.issuer, event.debit_cu),
                (event.acceptor, event.value_cu),
                (HOUSE_FEES, event.fee_cu),
                (HOUSE_ROUNDING, rounding_cu),
            ):
                ledger.positions[event.cycle_no, party] -= cu
                ledger.funds[party] += cu
        case Kind.ARRANGEMENT_MADE:
            if event.fee_cu == Model.GROSS:
                ledger.gross.add(event.value_cu)
        case Kind.CYCLE_OPENED:
            ledger.cycles[event.cycle_no] = event.reference, CycleState.OPEN
            if event.value_cu in ledger.gross:
                ledger.at_once.add(event.cycle_no)
        case Kind.CYCLE_CLOSED:
            ledger.cycles[event.cycle_no] = ledger.cycles[event.cycle_no][0], CycleState.CLOSED
        case Kind.CYCLE_SETTLED:
            ledger.cycles[event.cycle_no] = ledger.cycles[event.cycle_no][0], CycleState.SETTLED


def _pot(ledger: Ledger, pot: int) -> defaultdict[int, int]:
    return {Pot.FUNDS: ledger.funds, Pot.COLLATERAL: ledger.collateral}.get(Pot(pot), ledger.shares)


def _transfer(ledger: Ledger, event: Administered) -> None:
    """Count money for somebody else; between two parties it makes a debt, or pays one back (rule U10)."""
    _pot(ledger, event.units)[event.issuer] -= event.value_cu
    _pot(ledger, event.credited_units)[event.acceptor] += event.value_cu
    giver, taker = event.issuer, event.acceptor
    if HOUSE_TRANSIT in (giver, taker) or max(0, giver) == max(0, taker):
        return
    if ledger.cycles.get(event.cycle_no, ("", None))[1] is CycleState.CLOSED:
        ledger.debts[taker, giver] += event.value_cu
    else:
        ledger.debts[giver, taker] -= event.value_cu


def _settle(ledger: Ledger) -> None:
    """Move positions of settled cycles (rule U5), and of gross ones in any state (T9), into the funds."""
    for key in list(ledger.positions):
        cycle_no, party = key
        cycle_id, state = ledger.cycles[cycle_no]
        if state is CycleState.SETTLED or cycle_no in ledger.at_once:
            cu = ledger.positions.pop(key)
            ledger.settled[cycle_id] += cu
            ledger.funds[party] += cu


def stored_ledger(
    *,
    cycles: Mapping[int, tuple[str, CycleState]],
    positions: Iterable[tuple[int, int, int]],
    accounts: Iterable[tuple[int, int, int, int]],
    funds: Mapping[int, int],
    shares: Mapping[int, int],
    debts: Mapping[tuple[int, int], int],
    discharged: Iterable[tuple[int, tuple[tuple[int, int], ...]]],
) -> Ledger:
    """The accounts as the projections have them; the bank's is what all money comes to.

    Args:
        cycles: Id and state of each cycle.
        positions: Cycle, party and CU, of cycles that are not settled; without those of gross arrangements.
        accounts: Merchant, cap, collateral and open holds, CU.
        funds: By party; of the default fund the total, which its shares tell.
        shares: Of the default fund, by party.
        debts: By debtor and creditor.
        discharged: Cycle, and party and CU of each leg, of pairs that were settled before the rest.
    """
    ledger = Ledger(cycles=dict(cycles))
    for cycle_no, party, cu in positions:
        ledger.positions[cycle_no, party] = cu
    for cycle_no, legs in discharged:
        for party, cu in legs:
            if cycles[cycle_no][1] is not CycleState.SETTLED:
                ledger.positions[cycle_no, party] -= cu
    for merchant_no, cap_cu, collateral_cu, held_cu in accounts:
        ledger.caps[merchant_no] = cap_cu
        ledger.collateral[merchant_no] = collateral_cu
        ledger.held[merchant_no] = held_cu
    ledger.funds.update({party: cu for party, cu in funds.items() if party != HOUSE_DEFAULT_FUND})
    ledger.shares.update(shares)
    ledger.debts.update(debts)
    ledger.bank_cu = -sum(
        sum(pot.values()) for pot in (ledger.funds, ledger.collateral, ledger.shares)
    )
    return ledger


def difference_text(differences: Mapping[str, int]) -> str:
    """Differences in yuan, one after the other; empty where there is none."""
    return ", ".join(f"{name} {yuan_text(cu)}" for name, cu in differences.items())
