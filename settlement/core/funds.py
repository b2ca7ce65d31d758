"""Funds: whose the money is that lies at the bank, and what of a closed cycle it settles.

The house holds no money itself; these figures mirror what named bank accounts hold. Each party has funds
(a merchant's settlement account), a merchant collateral and a share of the default fund besides. What came
in and went out at the bank is booked as it was; everything else moves money between parties, so funds and
collateral together always are what the bank holds (settlement/RULES.md, rules U1 to U11).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.ids import (
    HOUSE,
    HOUSE_DEFAULT_FUND,
    HOUSE_FEES,
    HOUSE_ROUNDING,
    HOUSE_TRANSIT,
)
from schemas.values.reason import Reason
from settlement.core import account, headroom
from settlement.core.command import Deposit, Discharge, PayOut, Pot, Transfer
from settlement.core.event import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from settlement.core.books import Books
    from settlement.core.command import Answer, Command, Entry, FundsCommand

SLACK_CU: Final = 99
"""Payments are in whole fen, and what is below one is carried: so much may funds lie below zero."""
BALANCE_LIMIT: Final = 2**62
OWN_PARTIES: Final = frozenset({HOUSE_FEES, HOUSE_ROUNDING, HOUSE_TRANSIT})
"""Parties of the house that have funds of their own."""


class Discharged(NamedTuple):
    """What a pair of merchants came to in a closed cycle, settled before the rest of it; CU, summing to zero."""

    one: int
    other: int
    one_cu: int
    other_cu: int
    fees_cu: int
    rounding_cu: int

    def legs(self) -> tuple[tuple[int, int], ...]:
        """Party and CU of each of the four legs."""
        return (
            (self.one, self.one_cu),
            (self.other, self.other_cu),
            (HOUSE_FEES, self.fees_cu),
            (HOUSE_ROUNDING, self.rounding_cu),
        )


@dataclass(slots=True)
class Funds:
    """Everybody's money, CU.

    Attributes:
        balances: Funds by party; of the default fund the total.
        contributions: Whose the default fund is; party 0 is the house.
        debts: What a debtor owes to a creditor because the creditor's money settled a cycle for it.
        discharged: By closed, unsettled cycle, the pairs that were settled before the rest.
        kept: Whether a movement of the bank was ever booked: from then on cycles are settled from funds (rule U13).
    """

    balances: dict[int, int] = field(default_factory=dict)
    contributions: dict[int, int] = field(default_factory=dict)
    debts: dict[tuple[int, int], int] = field(default_factory=dict)
    discharged: dict[int, dict[tuple[int, int], Discharged]] = field(default_factory=dict)
    kept: bool = False
    _begun: bool = False
    _moved: set[int] = field(default_factory=set)
    _contributed: set[int] = field(default_factory=set)
    _owing: set[tuple[int, int]] = field(default_factory=set)
    _new: list[tuple[int, Discharged]] = field(default_factory=list)

    def of(self, party: int) -> int:
        """A party's funds."""
        return self.balances.get(party, 0)

    def add(self, party: int, cu: int) -> None:
        """Change a party's funds."""
        self.balances[party] = self.balances.get(party, 0) + cu
        self._moved.add(party)

    def keep(self) -> None:
        """Note that a movement of the bank was booked."""
        self._begun |= not self.kept
        self.kept = True

    def contribute(self, party: int, cu: int) -> None:
        """Change a party's share of the default fund, and with it the fund."""
        self.contributions[party] = self.contributions.get(party, 0) + cu
        self._contributed.add(party)
        self.add(HOUSE_DEFAULT_FUND, cu)

    def owe(self, debtor: int, creditor: int, cu: int) -> None:
        """Change what a debtor owes a creditor."""
        self.debts[debtor, creditor] = self.debts.get((debtor, creditor), 0) + cu
        self._owing.add((debtor, creditor))

    def discharge(self, cycle_no: int, pair: Discharged) -> None:
        """Move what a pair of a closed cycle comes to into the funds."""
        self.discharged.setdefault(cycle_no, {})[pair.one, pair.other] = pair
        self._new.append((cycle_no, pair))
        for party, cu in pair.legs():
            self.add(party, cu)

    def residual(self, cycle_no: int, nets: Mapping[int, int]) -> dict[int, int]:
        """What of a closed cycle's positions no pair has settled yet."""
        left = dict(nets)
        for pair in self.discharged.get(cycle_no, {}).values():
            for party, cu in pair.legs():
                left[party] = left.get(party, 0) - cu
        return {party: cu for party, cu in left.items() if cu}

    def take(self) -> FundsChange | None:
        """What changed since the last call; None where nothing did."""
        if not (self._moved or self._owing or self._begun):
            return None
        change = FundsChange(
            balances={party: self.balances[party] for party in self._moved},
            contributions={party: self.contributions[party] for party in self._contributed},
            debts={pair: self.debts[pair] for pair in self._owing},
            discharged=self._new,
            begun=self._begun,
        )
        self._begun = False
        self._moved, self._contributed, self._owing, self._new = set(), set(), set(), []
        return change


@dataclass(frozen=True, slots=True, kw_only=True)
class FundsChange:
    """New figures of everybody whose money moved in one flush, CU; as in `Funds`.

    `begun` says that the flush booked the ledger's first movement of the bank.
    """

    balances: dict[int, int]
    contributions: dict[int, int]
    debts: dict[tuple[int, int], int]
    discharged: list[tuple[int, Discharged]]
    begun: bool


def decide(books: Books, command: FundsCommand) -> Answer:
    """Decide one command that moves money, or refuse it.

    Source: settlement/RULES.md, rules U1 to U11.
    """
    if isinstance(command, Discharge):
        return _discharge(books, command)
    if not 0 < command.cu < AMOUNT_LIMIT:
        raise ValueError(f"not an amount to move: {command.cu} CU")
    reason = (
        _why_no_transfer(books, command)
        if isinstance(command, Transfer)
        else _why_not_booked(books, command)
    )
    if reason:
        party = command.giver if isinstance(command, Transfer) else command.party
        return [books.refuse(command, reason, merchant_no=max(0, party))]
    if isinstance(command, Transfer):
        return [_transfer(books, command)]
    arrived = isinstance(command, Deposit)
    books.funds.keep()
    _put(books, command.party, command.pot, command.cu if arrived else -command.cu)
    return [
        write(
            books,
            command,
            Kind.DEPOSITED if arrived else Kind.PAID_OUT,
            command.party,
            HOUSE,
            (0, command.cu, 0),
            pots=(command.pot, 0),
            reference=command.reference,
        )
    ]


def missing_for(books: Books, cycle_no: int) -> dict[int, int]:
    """Who lacks the money to settle a closed cycle, and how much, CU.

    Source: settlement/RULES.md, rule U6.
    """
    left = books.funds.residual(cycle_no, books.unsettled[cycle_no])
    return missing_of(left, books.funds.balances)


def missing_of(residual: Mapping[int, int], balances: Mapping[int, int]) -> dict[int, int]:
    """Who pays more than the funds at hand, lowest number first, and how much more, at most what it pays; CU."""
    return {
        party: needed_of(residual, balances, party)
        for party in sorted(residual)
        if party > 0
        and residual[party] < 0
        and balances.get(party, 0) + residual[party] < -SLACK_CU
    }


def needed_of(residual: Mapping[int, int], balances: Mapping[int, int], party: int) -> int:
    """What a party's funds lack for what it pays, to the last CU; at most what it pays."""
    left = residual.get(party, 0)
    return max(0, min(-left - balances.get(party, 0), -left))


def settle(books: Books, cycle_no: int, nets: Mapping[int, int]) -> int:
    """Move what is left of a closed cycle into the funds; returns what was paid in all, CU."""
    left = books.funds.residual(cycle_no, nets)
    books.funds.discharged.pop(cycle_no, None)
    for party, cu in left.items():
        books.funds.add(party, cu)
    return sum(cu for cu in left.values() if cu > 0)


def has_pot(party: int, pot: int, merchants: Iterable[int]) -> bool:
    """Whether a party has such a pot."""
    if party in merchants:
        return pot in (Pot.FUNDS, Pot.COLLATERAL, Pot.DEFAULT_FUND)
    return (party == HOUSE and pot == Pot.DEFAULT_FUND) or (
        party in OWN_PARTIES and pot == Pot.FUNDS
    )


def _in_pot(books: Books, party: int, pot: int) -> int:
    if pot == Pot.COLLATERAL:
        return books.accounts[party].collateral
    if pot == Pot.DEFAULT_FUND:
        return books.funds.contributions.get(party, 0)
    return books.funds.of(party)


def _put(books: Books, party: int, pot: int, cu: int) -> None:
    if pot == Pot.COLLATERAL:
        account.add_collateral(books, party, cu)
    elif pot == Pot.DEFAULT_FUND:
        books.funds.contribute(party, cu)
    else:
        books.funds.add(party, cu)


def _why_too_much(books: Books, party: int, pot: int, cu: int) -> Reason | None:
    """Why a pot cannot take so much more, if it cannot."""
    limit = AMOUNT_LIMIT if pot == Pot.COLLATERAL else BALANCE_LIMIT
    return Reason.AMOUNT_ABOVE_MAXIMUM if _in_pot(books, party, pot) + cu >= limit else None


def _why_not_booked(books: Books, command: Deposit | PayOut) -> Reason | None:
    """Why a movement of the bank cannot be booked so; collateral and default fund never go below zero (U3)."""
    if not has_pot(command.party, command.pot, books.accounts):
        return Reason.UNKNOWN_MERCHANT
    if isinstance(command, Deposit):
        return _why_too_much(books, command.party, command.pot, command.cu)
    left = _in_pot(books, command.party, command.pot) - command.cu
    if (command.pot != Pot.FUNDS and left < 0) or left <= -BALANCE_LIMIT:
        return Reason.FUNDS_INSUFFICIENT
    return None


def _why_no_transfer(books: Books, command: Transfer) -> Reason | None:
    """Why money cannot be counted for somebody else, if it cannot (rules U4 and U10)."""
    giver, pot, taker, cu = command.giver, command.giver_pot, command.taker, command.cu
    if not (
        has_pot(giver, pot, books.accounts) and has_pot(taker, command.taker_pot, books.accounts)
    ):
        return Reason.UNKNOWN_MERCHANT
    if (giver, pot) == (taker, command.taker_pot):
        return Reason.SAME_MERCHANT
    if command.cycle_no:
        return _why_no_help(books, command)
    if _pays_another(giver, taker) and books.funds.debts.get((giver, taker), 0) < cu:
        # Nobody pays another here, but for what a default made them owe.
        return Reason.AMOUNT_ABOVE_MAXIMUM
    if giver != HOUSE_TRANSIT and _spare(books, giver, pot) < cu:
        collateral = pot == Pot.COLLATERAL and books.accounts[giver].collateral >= cu
        return Reason.NET_DEBIT_CAP_EXCEEDED if collateral else Reason.FUNDS_INSUFFICIENT
    if taker == HOUSE_TRANSIT and pot == Pot.FUNDS and _at_hand(books) < cu:
        return Reason.FUNDS_INSUFFICIENT
    return _why_too_much(books, taker, command.taker_pot, cu)


def _pays_another(giver: int, taker: int) -> bool:
    """Whether money would be somebody else's: not on its way to or from the bank, nor the house's own."""
    return HOUSE_TRANSIT not in (giver, taker) and max(0, giver) != max(0, taker)


def _why_no_help(books: Books, command: Transfer) -> Reason | None:
    """Why a pot cannot help to settle a closed cycle, if it cannot."""
    if command.cycle_no not in books.unsettled:
        return Reason.CYCLE_NOT_CLOSED
    own = command.giver == command.taker
    if command.taker < 1 or command.taker_pot != Pot.FUNDS or command.giver_pot == Pot.FUNDS:
        raise ValueError("only collateral and default fund help to settle a cycle")
    if command.giver_pot == Pot.COLLATERAL and not own:
        raise ValueError("nobody's collateral pays for another")
    if _in_pot(books, command.giver, command.giver_pot) < command.cu:
        return Reason.FUNDS_INSUFFICIENT
    left = books.funds.residual(command.cycle_no, books.unsettled[command.cycle_no])
    # What is below one fen is no reason to settle nothing, but it may be paid all the same.
    if needed_of(left, books.funds.balances, command.taker) < command.cu:
        return Reason.FUNDS_MOVED
    return None


def _spare(books: Books, party: int, pot: int) -> int:
    """What a party may take out of a pot of its own accord (rules C5 and U4)."""
    inside = _in_pot(books, party, pot)
    if party < 1:
        return inside
    figures = books.accounts[party]
    if pot == Pot.COLLATERAL:
        return min(inside, figures.base + min(0, figures.open))
    if pot != Pot.FUNDS:
        return inside
    reserved = books.reserved.get(party, 0)
    closed = figures.unsettled - reserved - headroom.owed_beside(books, party)
    return inside + closed - reserved


def _at_hand(books: Books) -> int:
    """Money of all funds together but the default fund: what is below zero somewhere lacks here too."""
    return sum(cu for party, cu in books.funds.balances.items() if party != HOUSE_DEFAULT_FUND)


def _transfer(books: Books, command: Transfer) -> Entry:
    giver, taker, cu = command.giver, command.taker, command.cu
    _put(books, giver, command.giver_pot, -cu)
    _put(books, taker, command.taker_pot, cu)
    if _pays_another(giver, taker):
        if command.cycle_no:
            books.funds.owe(taker, giver, cu)
        else:
            books.funds.owe(giver, taker, -cu)
    return write(
        books,
        command,
        Kind.TRANSFERRED,
        giver,
        taker,
        (0, cu, 0),
        pots=(command.giver_pot, command.taker_pot),
        cycle_no=command.cycle_no,
        reference=command.reference,
    )


def _discharge(books: Books, command: Discharge) -> Answer:
    """Settle pairs of a closed cycle, all or none of them; nobody ends below zero (rule U7).

    Raises:
        ValueError: A pair is none, comes twice, or does not sum to zero: whoever planned it was wrong.
    """
    if command.cycle_no not in books.unsettled:
        return [books.refuse(command, Reason.CYCLE_NOT_CLOSED)]
    if command.cycle_no in books.gross_closed:
        return [books.refuse(command, Reason.FUNDS_MOVED)]
    pairs = [Discharged(*pair) for pair in command.pairs]
    done = books.funds.discharged.get(command.cycle_no, {})
    after: dict[int, int] = {}
    for pair in pairs:
        if (
            not 0 < pair.one < pair.other
            or sum(cu for _, cu in pair.legs()) != 0
            or any(abs(cu) >= BALANCE_LIMIT for _, cu in pair.legs())
        ):
            raise ValueError(f"no pair of a cycle: {pair}")
        for party, cu in pair.legs():
            after[party] = after.get(party, books.funds.of(party)) + cu
    names = {(pair.one, pair.other) for pair in pairs}
    if len(names) != len(pairs) or not pairs:
        raise ValueError("no pairs, or one of them twice")
    if names & done.keys():
        return [books.refuse(command, Reason.FUNDS_MOVED)]
    for party, cu in sorted(after.items()):
        if party > 0 and cu < -SLACK_CU and cu < books.funds.of(party):
            return [books.refuse(command, Reason.FUNDS_INSUFFICIENT, merchant_no=party)]
    answer: Answer = []
    for pair in pairs:
        books.funds.discharge(command.cycle_no, pair)
        answer.append(
            write(
                books,
                command,
                Kind.DISCHARGED,
                pair.one,
                pair.other,
                (pair.one_cu, pair.other_cu, pair.fees_cu),
                step=len(answer),
                cycle_no=command.cycle_no,
            )
        )
    return answer


def write(
    books: Books,
    command: Command,
    kind: Kind,
    giver: int,
    taker: int,
    figures: tuple[int, int, int],
    /,
    *,
    pots: tuple[int, int] = (0, 0),
    step: int = 0,
    cycle_no: int = 0,
    reference: str = "",
) -> Entry:
    """Write down that money moved.

    Args:
        books: The books.
        command: Who wants it, and under which key.
        kind: `DEPOSITED`, `PAID_OUT`, `TRANSFERRED` or `DISCHARGED`.
        giver: Whose money; of a pair, the merchant with the lower number.
        taker: Whose it is then; of a pair, the other merchant; 0 where the bank stands on the other side.
        figures: `debit_cu`, `value_cu` and `fee_cu`: of a pair, what the one, the other and the fees
            come to; else only the second, the amount.
        pots: From which pot, to which.
        step: Place among the events of one request.
        cycle_no: The closed cycle that it helps to settle; 0 for none.
        reference: Where the bank says so, or what it is for.
    """
    return books.write(
        command, step, kind, 0, -1, 0, 0, 0, pots[0], *figures, pots[1], 0, giver, taker, 0,
        reference, cycle_no or None,
    )  # fmt: skip
