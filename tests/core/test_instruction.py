"""Payments in whole fen: nothing is lost over any number of cycles."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement.core.funds import missing_of
from settlement.core.instruction import (
    HOUSE_LEG,
    Instruction,
    instruct,
    instruct_pairs,
    nets_of_pairs,
)
from settlement.core.netting import Obligation, net


@st.composite
def figures(draw) -> dict[int, int]:
    """Net figures of some merchants and the house, which sum to zero."""
    merchants = draw(st.dictionaries(st.integers(1, 5), st.integers(-(10**6), 10**6), max_size=5))
    fees = draw(st.integers(0, 1000))
    return merchants | {-1: fees, -2: -sum(merchants.values()) - fees}


@given(st.lists(figures(), max_size=8))
def test_nothing_is_lost_over_many_cycles(cycles) -> None:
    """Rules N9 and N10: what was paid and what is carried is the sum of the figures, merchant by merchant."""
    carries: dict[int, int] = {}
    paid: defaultdict = defaultdict(int)
    owed: defaultdict = defaultdict(int)
    for nets in cycles:
        instructions = instruct(nets=nets, carries=carries)
        assert sum(one.pay_fen for one in instructions) == 0
        assert instructions[-1].party == HOUSE_LEG
        for one in instructions:
            paid[one.party] += one.pay_fen
        for party, cu in nets.items():
            owed[party if party > 0 else HOUSE_LEG] += cu
        carries = {one.party: one.carry_after_cu for one in instructions if one.party > 0}
        assert all(abs(cu) < 100 for cu in carries.values())
        assert instructions[-1].carry_after_cu == -sum(carries.values())
    for party, cu in owed.items():
        house_carry = -sum(carries.values())
        carry = house_carry if party == HOUSE_LEG else carries.get(party, 0)
        assert paid[party] * 100 + carry == cu


@pytest.mark.parametrize(
    ("carry", "net_cu", "pay", "rest"),
    [
        (0, 199, 1, 99),
        (0, -199, -1, -99),
        (99, 1, 1, 0),
        (-99, -1, -1, 0),
        (50, -100, 0, -50),
        (-30, 129, 0, 99),
        (0, 0, 0, 0),
    ],
)
def test_pay_is_truncated_toward_zero(carry, net_cu, pay, rest) -> None:
    """Rule N8, example by example."""
    first, house = instruct(nets={1: net_cu, -1: -net_cu}, carries={1: carry})
    assert (first.pay_fen, first.carry_after_cu) == (pay, rest)
    assert house.pay_fen == -pay


def test_a_carry_stays_visible_without_a_figure() -> None:
    """Rule N7: a merchant that only carries is instructed too, so that the chain has no gap."""
    instructions = instruct(nets={-1: 0, -2: 0}, carries={4: 42, 5: 0})
    assert [one.party for one in instructions] == [4, HOUSE_LEG]
    assert instructions[0] == Instruction(
        party=4, net_cu=0, carry_before_cu=42, pay_fen=0, carry_after_cu=42
    )


def test_figures_that_do_not_sum_to_zero_are_not_paid() -> None:
    """Money would come from nowhere."""
    with pytest.raises(ValueError, match="sum to zero"):
        instruct(nets={1: 1}, carries={})


@pytest.mark.parametrize("wrong", [{"pay_fen": 2}, {"pay_fen": 0, "carry_after_cu": 150}])
def test_an_instruction_that_does_not_add_up_is_not_built(wrong) -> None:
    """What the table's constraints forbid cannot be built either."""
    right = {
        "party": 1, "net_cu": 150, "carry_before_cu": 0, "pay_fen": 1, "carry_after_cu": 50,
    }  # fmt: skip
    Instruction(**right)
    with pytest.raises(ValueError, match="party=1"):
        Instruction(**right | wrong)


_owed = st.builds(
    lambda pair, value, fee, rest, taken: Obligation(
        issuer=pair[0], acceptor=pair[1], orders=1, debit_cu=value + rest, value_cu=value,
        fee_cu=min(fee, value), reversal=taken,
    ),
    st.sampled_from([(one, other) for one in (1, 2, 3) for other in (1, 2, 3) if one != other]),
    st.integers(0, 5_000),
    st.integers(0, 60),
    st.integers(0, 60),
    st.booleans(),
)  # fmt: skip


@given(st.lists(st.lists(_owed, max_size=8), min_size=1, max_size=5))
def test_each_pair_pays_its_difference_and_nothing_drifts(cycles):
    """Rule N12: over any cycles each pair has paid, to the fen, what its orders came to; both say the same.

    What is summed here is summed order by order, apart from the code.
    """
    came_to: Counter[tuple[int, int]] = Counter()
    paid: Counter[tuple[int, int]] = Counter()
    carries: dict[tuple[int, int], int] = {}
    for owed in cycles:
        for one in owed:
            sign = -1 if one.reversal else 1
            for creditor, cu in (
                (one.acceptor, one.value_cu - one.fee_cu),
                (HOUSE_LEG, one.fee_cu + one.debit_cu - one.value_cu),
            ):
                came_to[one.issuer, creditor] -= sign * cu
                came_to[creditor, one.issuer] += sign * cu
        instructions = instruct_pairs(nets=nets_of_pairs(owed), carries=carries)
        assert sum(one.net_cu for one in instructions) == 0
        by_pair = {(one.party, one.counterparty): one for one in instructions}
        assert len(by_pair) == len(instructions)
        for (party, counterparty), one in by_pair.items():
            assert by_pair[counterparty, party].net_cu == -one.net_cu
            assert one.carry_before_cu == carries.get((party, counterparty), 0)
            assert 0 <= one.carry_after_cu < 100
            paid[party, counterparty] += one.pay_fen
        positions = net(owed).positions
        for party in (1, 2, 3):
            assert sum(one.net_cu for one in instructions if one.party == party) == positions.get(
                party, 0
            )
        # As the books store them: none of zero.
        carries = {pair: one.carry_after_cu for pair, one in by_pair.items() if one.carry_after_cu}
        for pair, cu in came_to.items():
            # Nobody has paid less, or been paid more, than its orders came to; to the fen.
            assert 0 <= cu - 100 * paid[pair] < 100


def test_a_pair_that_disagrees_is_not_paid():
    """Rule N12: the two of a pair see the same figure."""
    with pytest.raises(ValueError, match="different"):
        instruct_pairs(nets={(1, 2): 5, (2, 1): -4}, carries={})


def test_who_pays_what_it_is_told_has_the_money_of_a_bilateral_cycle():
    """Rules N12 and U6: with however many counterparties, what was paid in covers the position."""
    nets = {(1, other): -150 for other in range(2, 60)}
    instructions = instruct_pairs(nets=nets | {pair[::-1]: 150 for pair in nets}, carries={})
    paid_in = -100 * sum(one.pay_fen for one in instructions if one.party == 1)
    assert missing_of({1: sum(nets.values())}, {1: paid_in}) == {}
    assert paid_in - 150 * len(nets) < 100 * len(nets)
