"""The accounts of the books at one instant: summed from the journal, or as the projections have them.

Both ways lead to the same `Ledger`, so that one can be held against the other.

Source: settlement/RULES.md, rules Y1 to Y5.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.values.amounts import yuan_text
from schemas.values.ids import HOUSE_CODES, HOUSE_FEES, HOUSE_ROUNDING
from settlement.core.event import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BANK: Final = -10
"""Stands for the bank as the party of the contra account; no party of the books has this number."""
BANK_CODE: Final = "HOUSE:bank"
PARTY_CODES: Final = {**HOUSE_CODES, BANK: BANK_CODE}


class CycleState(Enum):
    """Where a cycle stands."""

    OPEN = "open"
    CLOSED = "closed"
    SETTLED = "settled"


class Account(Enum):
    """Kinds of accounts, in the order in which they are shown; with their Chinese names."""

    POSITION = "position 结算头寸"
    COLLATERAL = "collateral 保证金"
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

    seq: int
    kind: int
    cycle_no: int
    issuer: int
    value_cu: int
    reference: str


class Balance(NamedTuple):
    """What one account holds: positive is owed to the party, negative by it. CU.

    Attributes:
        account: Its kind.
        cycle_no: Of a position, its cycle; 0 otherwise.
        party: Merchant number, an account of the house, or `BANK`.
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
        positions: By cycle and party, of cycles that are not settled.
        collateral: By merchant.
        bank_cu: The contra account of what banks hold; zero or below.
        caps: Net debit cap of each merchant that has an account.
        held: Sum of open holds of each issuer: a memo, since nothing has moved.
        unpaid: What the positions of a settled cycle came to, by its id; 0 in books that are right.
    """

    cycles: dict[int, tuple[str, CycleState]] = field(default_factory=dict)
    positions: defaultdict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    collateral: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    bank_cu: int = 0
    caps: dict[int, int] = field(default_factory=dict)
    held: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    unpaid: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def balances(self) -> list[Balance]:
        """Every account that holds something, and those of the open cycle and of collateral also at zero."""
        always = (*self.caps, HOUSE_FEES, HOUSE_ROUNDING)
        keys = {key for key, cu in self.positions.items() if cu}
        for cycle_no, (_, state) in self.cycles.items():
            if state is CycleState.OPEN:
                keys.update((cycle_no, party) for party in always)
        found = [
            Balance(Account.POSITION, cycle_no, party, self.positions[cycle_no, party])
            for cycle_no, party in sorted(keys)
        ]
        found += [
            Balance(Account.COLLATERAL, 0, party, self.collateral[party])
            for party in sorted({*self.caps, *self.collateral})
        ]
        found.append(Balance(Account.BANK, 0, BANK, self.bank_cu))
        return found

    def differences(self) -> dict[str, int]:
        """Sums that are not zero and must be: of all accounts (`ledger`), and of each cycle's positions by its id."""
        sums = self.unpaid.copy()
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
            and _held(self) == _held(other)
        )


def _held(ledger: Ledger) -> dict[int, int]:
    return {party: cu for party, cu in ledger.held.items() if cu}


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
        case Kind.CYCLE_OPENED:
            ledger.cycles[event.cycle_no] = event.reference, CycleState.OPEN
        case Kind.CYCLE_CLOSED:
            ledger.cycles[event.cycle_no] = ledger.cycles[event.cycle_no][0], CycleState.CLOSED
        case Kind.CYCLE_SETTLED:
            ledger.cycles[event.cycle_no] = ledger.cycles[event.cycle_no][0], CycleState.SETTLED


def _settle(ledger: Ledger) -> None:
    """Take settled positions off: they are paid. What they do not come to zero by stays as a difference."""
    for key in list(ledger.positions):
        cycle_id, state = ledger.cycles[key[0]]
        if state is CycleState.SETTLED:
            ledger.unpaid[cycle_id] += ledger.positions.pop(key)


def stored_ledger(
    *,
    cycles: Mapping[int, tuple[str, CycleState]],
    positions: Mapping[tuple[int, int], int],
    accounts: Iterable[tuple[int, int, int, int]],
) -> Ledger:
    """The accounts as the projections have them.

    Args:
        cycles: Id and state of each cycle.
        positions: Of cycles that are not settled.
        accounts: Merchant, cap, collateral and open holds, CU.
    """
    ledger = Ledger(cycles=dict(cycles), positions=defaultdict(int, positions))
    for merchant_no, cap_cu, collateral_cu, held_cu in accounts:
        ledger.caps[merchant_no] = cap_cu
        ledger.collateral[merchant_no] = collateral_cu
        ledger.held[merchant_no] = held_cu
    ledger.bank_cu = -sum(ledger.collateral.values())
    return ledger


def difference_text(differences: Mapping[str, int]) -> str:
    """Differences in yuan, one after the other; empty where there is none."""
    return ", ".join(f"{name} {yuan_text(cu)}" for name, cu in differences.items())
