"""Payment instructions of one batch: whole fen, and the rest carried to the next one.

A multilateral cycle has one for each party, a bilateral one for each party and each of its counterparties.
Those of a gross cycle move nothing.

Source: settlement/RULES.md, rules N7 to N10, N12 and N13.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.values.amounts import CU_PER_FEN
from settlement.core.fen import FenRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from settlement.core.netting import Obligation

HOUSE_LEG: Final = -9
"""Number of the house's one bank account in instructions: its accounts are paid in one sum."""
HOUSE_LEG_CODE: Final = "HOUSE:settlement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What one party pays in (negative) or is paid out (positive) for one cycle.

    `carry_before + net = 100 * pay + carry_after` holds for every party. A merchant's carries stay
    below one fen; the house's are minus the sum of the merchants', so they may be larger.

    Attributes:
        party: Merchant number, or `HOUSE_LEG`.
        net_cu: Its figure of the cycle, CU.
        carry_before_cu: What earlier instructions left over, CU.
        pay_fen: What the bank moves, fen; negative when the merchant pays in.
        carry_after_cu: What is left for the next instruction, CU.
        counterparty: Whom it is settled with, as `party`; 0 where that is everybody.
    """

    party: int
    net_cu: int
    carry_before_cu: int
    pay_fen: int
    carry_after_cu: int
    counterparty: int = 0

    def __post_init__(self) -> None:
        """Check what no code path may break; the table's constraints say the same."""
        if self.carry_before_cu + self.net_cu != self.pay_fen * CU_PER_FEN + self.carry_after_cu:
            raise ValueError(f"the carry does not explain the payment: {self}")
        if (self.party != HOUSE_LEG or self.counterparty) and abs(
            self.carry_after_cu
        ) >= CU_PER_FEN:
            raise ValueError(f"a whole fen is carried: {self}")


def instruct(*, nets: Mapping[int, int], carries: Mapping[int, int]) -> list[Instruction]:
    """Turn the figures of one cycle into payments.

    Args:
        nets: Net figure of each party, CU; sums to zero. Negative parties are the house's.
        carries: What each merchant's earlier instructions left over, CU.

    Returns:
        The merchants by number, each that has a figure or a carry, then the house.

    Raises:
        ValueError: The figures do not sum to zero.

    Source: settlement/RULES.md, rules N7 to N10.
    """
    if sum(nets.values()) != 0:
        raise ValueError("figures that do not sum to zero cannot be paid")
    merchants = {party for party in nets if party > 0} | {
        party for party, carry_cu in carries.items() if carry_cu != 0
    }
    instructions = [
        _instruct_merchant(party, nets.get(party, 0), carries.get(party, 0))
        for party in sorted(merchants)
    ]
    house = Instruction(
        party=HOUSE_LEG,
        net_cu=sum(net_cu for party, net_cu in nets.items() if party < 0),
        carry_before_cu=-sum(one.carry_before_cu for one in instructions),
        pay_fen=-sum(one.pay_fen for one in instructions),
        carry_after_cu=-sum(one.carry_after_cu for one in instructions),
    )
    return [*instructions, house]


def nets_of_pairs(obligations: Iterable[Obligation]) -> dict[tuple[int, int], int]:
    """What each party is to receive (positive) from each other one for a cycle, CU.

    The house is one counterparty, `HOUSE_LEG`, for its fees and its rounding. Both ways round stand in it, so the
    figures sum to zero by pair.
    """
    nets: defaultdict[tuple[int, int], int] = defaultdict(int)
    for one in obligations:
        for creditor, cu in (
            (one.acceptor, one.credit_cu),
            (HOUSE_LEG, one.debit_cu - one.credit_cu),
        ):
            nets[one.issuer, creditor] -= one.sign * cu
            nets[creditor, one.issuer] += one.sign * cu
    return dict(nets)


def instruct_pairs(
    *, nets: Mapping[tuple[int, int], int], carries: Mapping[tuple[int, int], int]
) -> list[Instruction]:
    """Turn the figures of a bilateral cycle into payments: each pair pays its difference and nothing else.

    Payments are rounded down, which for who pays in is away from zero. So no carry is below 0, and whoever pays what
    it is told is never short, however many counterparties it has; the fen that this leaves at the bank are carries.

    Args:
        nets: Party and counterparty to what the one is to receive from the other, CU; as `nets_of_pairs` has it.
        carries: What earlier instructions left over for the first of the two, CU.

    Returns:
        For each pair that has a figure or a carry both ways round; by party and counterparty, the house's last.

    Raises:
        ValueError: The two of a pair see different figures.

    Source: settlement/RULES.md, rule N12.
    """
    for (party, counterparty), cu in nets.items():
        if nets.get((counterparty, party)) != -cu:
            raise ValueError(f"{party} and {counterparty} see different figures")
    known = nets.keys() | {pair for pair, cu in carries.items() if cu}
    pairs = known | {pair[::-1] for pair in known}
    instructions = []
    for pair in sorted(pairs, key=lambda pair: (pair[0] < 0, pair[0], pair[1] < 0, pair[1])):
        net_cu, carry_cu = nets.get(pair, 0), carries.get(pair, 0)
        pay_fen, left_cu = divmod(carry_cu + net_cu, CU_PER_FEN)
        instructions.append(
            Instruction(
                party=pair[0],
                net_cu=net_cu,
                carry_before_cu=carry_cu,
                pay_fen=pay_fen,
                carry_after_cu=left_cu,
                counterparty=pair[1],
            )
        )
    return instructions


def instruct_nothing(parties: Iterable[int]) -> list[Instruction]:
    """Instructions of a gross cycle: each line moved its money itself, so nobody pays and nothing is carried.

    Args:
        parties: Numbers of the parties that have a figure; negative ones are the house's.

    Source: settlement/RULES.md, rule N13.
    """
    merchants = sorted(party for party in parties if party > 0)
    return [
        Instruction(party=party, net_cu=0, carry_before_cu=0, pay_fen=0, carry_after_cu=0)
        for party in (*merchants, HOUSE_LEG)
    ]


def _instruct_merchant(party: int, net_cu: int, carry_cu: int) -> Instruction:
    """Pay the whole fen of carry and figure, truncated toward zero, and carry the rest."""
    run = FenRun(carry_cu)
    pay_fen = run.take(net_cu)
    return Instruction(
        party=party,
        net_cu=net_cu,
        carry_before_cu=carry_cu,
        pay_fen=pay_fen,
        carry_after_cu=run.carry_cu,
    )
