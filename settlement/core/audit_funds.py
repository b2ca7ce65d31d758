"""Recomputing whose the money is, from the journal's events; shares no decision with `settlement.core.funds`.

Source: settlement/RULES.md, rules U1 to U13.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from settlement.core.event import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from settlement.core.audit_figures import AccountFigures, CycleFigures

    Differ = Callable[[int, str, object, object], None]

_FEES, _ROUNDING, _FUND, _TRANSIT = -1, -2, -3, -4
_FUNDS, _COLLATERAL, _SHARE = 0, 1, 2
_TOLERATED: Final = -99
MONEY: Final = frozenset({23, 24, 25, 26})
"""Kinds of events that move money alone."""


class MoneyMoved(NamedTuple):
    """One event of kinds 23 to 26; figures as in `settlement.core.event.Event`."""

    seq: int
    kind: int
    step: int
    giver: int
    taker: int
    giver_pot: int
    taker_pot: int
    figures: tuple[int, int, int]
    cycle_no: int


class FundsAudit:
    """Everybody's funds, as the events say."""

    def __init__(self, accounts: Mapping[int, AccountFigures], differ: Differ) -> None:
        """Start before the first event.

        Args:
            accounts: The merchants' accounts, which the audit of the journal keeps up to date.
            differ: Takes the event's number, the rule, what is expected and what was found.
        """
        self.balances: dict[int, int] = defaultdict(int)
        self.shares: dict[int, int] = defaultdict(int)
        self.debts: dict[tuple[int, int], int] = defaultdict(int)
        self.discharged: dict[tuple[int, int, int], tuple[int, int, int, int]] = {}
        self.kept = False
        self._accounts = accounts
        self._differ = differ
        self._left: dict[int, dict[int, int]] = {}
        self._pairs: dict[int, dict[tuple[int, int], list[int]]] = {}
        self._lowered: dict[int, int] = {}
        self._unwound: dict[int, int] = defaultdict(int)

    def close(self, cycle: CycleFigures) -> None:
        """Remember what a cycle came to until it is settled."""
        if cycle.gross:
            # Its lines moved the money themselves.
            self._left[cycle.cycle_no] = {}
            return
        self._left[cycle.cycle_no] = cycle.nets()
        pairs: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for totals, sign in ((cycle.pairs, 1), (cycle.reversed, -1)):
            for (issuer, acceptor), (_, debit, value, fee) in totals.items():
                first, second = sorted((issuer, acceptor))
                sums = pairs[first, second]
                sums[issuer > acceptor] -= sign * debit
                sums[issuer < acceptor] += sign * (value - fee)
                sums[2] += sign * fee
                sums[3] += sign * (debit - value)
        self._pairs[cycle.cycle_no] = dict(pairs)

    def move_at_once(
        self, seq: int, issuer: int, acceptor: int, debit: int, value: int, fee: int, /
    ) -> None:
        """A line of a gross cycle moves its four legs with itself (rule T9)."""
        self.check(seq)
        for party, cu in (
            (issuer, -debit),
            (acceptor, value - fee),
            (_FEES, fee),
            (_ROUNDING, debit - value),
        ):
            self.balances[party] += cu

    def free(self, merchant_no: int) -> int:
        """Funds that no accepted order of a gross arrangement reserves."""
        account = self._accounts.get(merchant_no)
        return self.balances[merchant_no] - (account.reserved if account else 0)

    def take(self, one: MoneyMoved, position: int) -> None:
        """Apply one event.

        Args:
            one: The event.
            position: The giver's position in the open cycle, CU.
        """
        if one.kind != Kind.DISCHARGED or one.step == 0:
            self.check(one.seq)
        if one.kind == Kind.DISCHARGED:
            self._discharge(one)
            return
        if one.kind in (Kind.DEPOSITED, Kind.PAID_OUT):
            self.kept = True
        cu = one.figures[1]
        if one.figures[0] or one.figures[2] or cu <= 0:
            self._differ(one.seq, "debit, value, fee", "0, an amount above 0, 0", one.figures)
        if one.kind == Kind.DEPOSITED:
            self._move(one.seq, one.giver, one.giver_pot, cu)
            return
        if one.kind == Kind.TRANSFERRED and one.cycle_no not in self._left:
            self._check_spare(one, position)
        self._move(one.seq, one.giver, one.giver_pot, -cu)
        if one.kind == Kind.PAID_OUT:
            return
        self._move(one.seq, one.taker, one.taker_pot, cu)
        giver, taker = max(0, one.giver), max(0, one.taker)
        if _TRANSIT in (one.giver, one.taker) or giver == taker:
            return
        if one.cycle_no in self._left:
            self.debts[one.taker, one.giver] += cu
            if one.giver_pot == _FUNDS:
                self._unwound[one.taker] += cu
        else:
            self.debts[one.giver, one.taker] -= cu
            if self.debts[one.giver, one.taker] < 0:
                self._differ(one.seq, "debt that is paid back", f">= {cu}", "less")

    def settle(self, seq: int, cycle_no: int, figure: int) -> None:
        """What is left of a cycle moves into the funds; a figure says that the money had to be there."""
        self.check(seq)
        left = self._left.pop(cycle_no, {})
        self._pairs.pop(cycle_no, None)
        paid = sum(cu for cu in left.values() if cu > 0)
        for party, cu in left.items():
            if not cu:
                continue
            self.balances[party] += cu
            lowered = cu + self._unwound[party] < 0
            if figure and party > 0 and lowered and self.balances[party] < _TOLERATED:
                self._differ(
                    seq,
                    f"funds of merchant {party} after the settlement",
                    f">= {_TOLERATED}",
                    self.balances[party],
                )
        self._unwound.clear()
        if figure and figure != paid:
            self._differ(seq, "value_cu", paid, figure)
        if self.kept and paid and not figure:
            self._differ(seq, "settlement where funds are kept (rule U13)", paid, "on a word")

    def check(self, seq: int) -> None:
        """Nobody whom a run of discharged pairs lowered is below zero after it."""
        for party, before in self._lowered.items():
            now = self.balances[party]
            if now < _TOLERATED and now < before:
                self._differ(
                    seq - 1, f"funds of merchant {party} after the run", f">= {_TOLERATED}", now
                )
        self._lowered = {}

    def _discharge(self, one: MoneyMoved) -> None:
        pair = one.giver, one.taker
        key = one.cycle_no, *pair
        owed = self._pairs.get(one.cycle_no, {}).get(pair, [0, 0, 0, 0])
        sums = (*one.figures, -sum(one.figures))
        if key in self.discharged:
            self._differ(one.seq, "issuer, acceptor", "a pair that was not settled before", pair)
        if tuple(owed) != sums:
            self._differ(one.seq, "figures of the pair", tuple(owed), sums)
        self.discharged[key] = sums
        left = self._left.setdefault(one.cycle_no, {})
        for party, cu in zip((*pair, _FEES, _ROUNDING), sums, strict=True):
            if party > 0:
                self._lowered.setdefault(party, self.balances[party])
            self.balances[party] += cu
            left[party] = left.get(party, 0) - cu

    def _check_spare(self, one: MoneyMoved, position: int) -> None:
        """What somebody takes out of a pot of its own accord must be there to spare."""
        account, cu = self._accounts.get(one.giver), one.figures[1]
        if account is None:
            return
        spare = cu
        if one.giver_pot == _FUNDS:
            spare = self.free(one.giver) + account.unsettled
        elif one.giver_pot == _COLLATERAL:
            spare = account.base + min(0, position)
        if spare < cu:
            self._differ(one.seq, "what the giver has to spare", f">= {cu}", spare)

    def _move(self, seq: int, party: int, pot: int, cu: int) -> None:
        account = self._accounts.get(party)
        known = account is not None or party in (_FEES, _ROUNDING, _TRANSIT)
        if pot == _COLLATERAL and account is not None:
            account.collateral += cu
            after = account.collateral
        elif pot == _SHARE and (account is not None or party == 0):
            self.balances[_FUND] += cu
            self.shares[party] += cu
            after = self.shares[party]
        elif pot == _FUNDS and known:
            self.balances[party] += cu
            after = 0
        else:
            self._differ(seq, "party and pot", "ones that there are", (party, pot))
            return
        if after < 0:
            self._differ(seq, f"pot {pot} of party {party}", ">= 0", after)
