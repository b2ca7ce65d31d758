"""What an audit keeps of the journal: accounts, open holds and cycles, and the rows that a cycle must have."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.values.ids import HOUSE_FEES, HOUSE_ROUNDING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAIN: Final = 0
"""Number of the main arrangement."""
GROSS: Final = 2
"""The model in which each line moves its money itself."""


@dataclass(slots=True, kw_only=True)
class AccountFigures:
    """One merchant's figures, CU; `unsettled` sums its negative closed and unsettled positions.

    `reserved` is the part of `held` that is of pairs in gross arrangements: it reserves funds, and no headroom.
    """

    cap: int
    collateral: int = 0
    held: int = 0
    unsettled: int = 0
    reserved: int = 0

    @property
    def base(self) -> int:
        """Headroom before the open position counts (rule C1)."""
        return self.cap + self.collateral + self.unsettled - self.held + self.reserved


class Figures(NamedTuple):
    """What the end of an order must repeat of its acceptance."""

    occurred_at: int
    member_no: int
    units: int
    debit: int
    value: int
    fee: int
    credited: int
    caller: int
    issuer: int
    acceptor: int
    rate_no: int
    reference: bytes


class OpenHold(NamedTuple):
    """An accepted order that has not ended.

    Attributes:
        due_at: When it ends by itself, microseconds from 2000, as the bytes have it.
        figures: What was accepted.
        pinned_seq: Event that pinned it; None while nothing did.
    """

    due_at: int
    figures: Figures
    pinned_seq: int | None = None


@dataclass(slots=True, kw_only=True)
class CycleFigures:
    """One cycle as the journal tells it.

    Attributes:
        cycle_no: Its number.
        cycle_id: Its id.
        opened_at_us: When it was opened.
        first_seq: Event that opened it.
        state: `open`, `closed` or `settled`.
        closed_at_us: When it was closed; None while it is open.
        last_seq: Event that closed it; None while it is open.
        settled_at_us: When it counted as paid.
        pairs: (issuer, acceptor) to orders, debit, value and fee; dropped once they are compared.
        reversed: The same of what reversals took back.
        debts: Merchant to its negative net figure, until the cycle is settled.
        arrangement_no: The arrangement that it is a cycle of.
        positions: Merchant to its position, while the cycle is open; none of a gross cycle, where nothing is owed.
        gross: Whether each line moved its money itself (rule T9).
    """

    cycle_no: int
    cycle_id: str
    opened_at_us: int
    first_seq: int
    state: str = "open"
    closed_at_us: int | None = None
    last_seq: int | None = None
    settled_at_us: int | None = None
    pairs: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    reversed: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    debts: dict[int, int] = field(default_factory=dict)
    arrangement_no: int = MAIN
    positions: dict[int, int] = field(default_factory=dict)
    gross: bool = False

    def nets(self) -> dict[int, int]:
        """Net figure of every party that an order concerned, the house's accounts included."""
        nets: dict[int, int] = defaultdict(int)
        for pairs, sign in ((self.pairs, 1), (self.reversed, -1)):
            for (issuer, acceptor), (_, debit, value, fee) in pairs.items():
                nets[issuer] -= sign * debit
                nets[acceptor] += sign * (value - fee)
                nets[HOUSE_FEES] += sign * fee
                nets[HOUSE_ROUNDING] += sign * (debit - value)
        return dict(nets)


def position_rows(cycle: CycleFigures) -> dict[str, tuple[int]]:
    """Rows of `settlement.position` that a cycle must have, by key."""
    return {position_key(cycle.cycle_no, party): (net,) for party, net in cycle.nets().items()}


def obligation_rows(cycle: CycleFigures) -> dict[str, tuple[int, ...]]:
    """Rows of `settlement.obligation` that a cycle must have, by key."""
    return _pair_rows(cycle.cycle_no, cycle.pairs)


def reversed_rows(cycle: CycleFigures) -> dict[str, tuple[int, ...]]:
    """Rows of `settlement.reversed_obligation` that a cycle must have, by key."""
    return _pair_rows(cycle.cycle_no, cycle.reversed)


def _pair_rows(
    cycle_no: int, pairs: Mapping[tuple[int, int], Sequence[int]]
) -> dict[str, tuple[int, ...]]:
    return {
        obligation_key(cycle_no, issuer, acceptor): tuple(figures)
        for (issuer, acceptor), figures in pairs.items()
    }


def position_key(cycle_no: int, merchant_no: int) -> str:
    """How a difference names a row of `settlement.position`."""
    return f"cycle {cycle_no}, merchant {merchant_no}"


def obligation_key(cycle_no: int, issuer: int, acceptor: int) -> str:
    """How a difference names a row of `settlement.obligation`."""
    return f"cycle {cycle_no}, issuer {issuer}, acceptor {acceptor}"
