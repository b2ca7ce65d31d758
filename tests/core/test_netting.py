"""Netting against a slow and obvious one that pays every leg into dicts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from settlement.core.netting import Obligation, net
from settlement.core.savings import pair_fees, party_savings

FEES, ROUNDING = -1, -2


@st.composite
def obligation(draw) -> Obligation:
    """Any obligation that can be."""
    issuer = draw(st.integers(1, 6))
    acceptor = draw(st.integers(1, 6).filter(lambda other: other != issuer))
    debit, value, fee = sorted(draw(st.lists(st.integers(0, 10**14), min_size=3, max_size=3)))[::-1]
    return Obligation(
        issuer=issuer, acceptor=acceptor, orders=draw(st.integers(1, 10**6)),
        debit_cu=debit, value_cu=value, fee_cu=fee,
    )  # fmt: skip


obligations = st.lists(obligation(), max_size=40)


def obvious(cycle: list[Obligation]) -> tuple[dict, int, int, int]:
    """Positions, gross, bilateral and multilateral net, one leg after the other."""
    position: defaultdict = defaultdict(int)
    owes: defaultdict = defaultdict(int)
    gross = 0
    for one in cycle:
        for creditor, cu in (
            (one.acceptor, one.value_cu - one.fee_cu),
            (FEES, one.fee_cu),
            (ROUNDING, one.debit_cu - one.value_cu),
        ):
            position[one.issuer] -= cu
            position[creditor] += cu
            owes[one.issuer, creditor] += cu
            gross += cu
    parties = {party for pair in owes for party in pair}
    bilateral = sum(abs(owes[a, b] - owes[b, a]) for a in parties for b in parties if a < b)
    return position, gross, bilateral, sum(cu for cu in position.values() if cu > 0)


@given(obligations, st.randoms(use_true_random=False))
def test_net_ignores_the_order_of_the_obligations(cycle, rng) -> None:
    """Rule N1: the same obligations give the same result, in whatever order they came."""
    assert net(rng.sample(cycle, len(cycle))) == net(cycle)


@given(obligations)
def test_figures_sum_to_zero(cycle) -> None:
    """Rule N5: what is owed is owed to somebody."""
    assert sum(net(cycle).positions.values()) == 0


@given(obligations)
def test_net_agrees_with_the_obvious_one(cycle) -> None:
    """Rules N3 to N5, leg by leg."""
    found = net(cycle)
    position, gross, bilateral, multilateral = obvious(cycle)
    assert {party: cu for party, cu in found.positions.items() if cu} == {
        party: cu for party, cu in position.items() if cu
    }
    assert (found.gross_cu, found.bilateral_net_cu, found.multilateral_net_cu) == (
        gross, bilateral, multilateral,
    )  # fmt: skip
    assert found.orders == sum(one.orders for one in cycle)


@given(obligations)
def test_each_step_saves_and_never_costs(cycle) -> None:
    """Rule N6: gross is at least the bilateral net, and that at least the multilateral."""
    found = net(cycle)
    assert found.gross_cu >= found.bilateral_net_cu >= found.multilateral_net_cu >= 0
    assert found.saved_bilateral_cu + found.saved_multilateral_cu == (
        found.gross_cu - found.multilateral_net_cu
    )


@given(obligations)
def test_every_path_leads_to_its_figure(cycle) -> None:
    """Rule N6: lines, pairs and the net figure of a party tell the same."""
    found = net(cycle)
    for path in found.paths:
        assert path.credit_cu - path.fee_cu - path.debit_cu == path.net_cu
        assert path.receivable_bilateral_cu - path.payable_bilateral_cu == path.net_cu
    assert sum(path.payable_bilateral_cu for path in found.paths) == found.bilateral_net_cu
    assert sum(path.receivable_bilateral_cu for path in found.paths) == found.bilateral_net_cu


def test_an_empty_cycle_nets_to_zero() -> None:
    """A zero-value cycle settles too; the house's accounts are still listed."""
    found = net([])
    assert found.positions == {FEES: 0, ROUNDING: 0}
    assert (found.gross_cu, found.bilateral_net_cu, found.multilateral_net_cu) == (0, 0, 0)


def test_a_ring_of_debts_needs_no_money() -> None:
    """Three who owe each other in a ring save all in the multilateral step, nothing in pairs."""
    ring = [
        Obligation(issuer=a, acceptor=b, orders=1, debit_cu=100, value_cu=100, fee_cu=0)
        for a, b in ((1, 2), (2, 3), (3, 1))
    ]
    found = net(ring)
    assert (found.gross_cu, found.bilateral_net_cu, found.multilateral_net_cu) == (300, 300, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"acceptor": 1},
        {"issuer": 0},
        {"acceptor": -1},
        {"orders": 0},
        {"fee_cu": 10},
        {"value_cu": 11},
        {"fee_cu": -1},
    ],
)
def test_an_impossible_obligation_is_not_built(wrong) -> None:
    """What the table's constraints forbid cannot be built either."""
    right: dict[str, Any] = {
        "issuer": 1, "acceptor": 2, "orders": 1, "debit_cu": 10, "value_cu": 9, "fee_cu": 1,
    }  # fmt: skip
    Obligation(**right)
    with pytest.raises(ValueError, match="issuer="):
        Obligation(**right | wrong)


@settings(max_examples=60)
@given(
    st.lists(
        st.builds(lambda one, back: replace(one, reversal=back), obligation(), st.booleans()),
        max_size=12,
    )
)
def test_parties_pay_what_the_cycle_moves(cycle) -> None:
    """Rule Y6: gross, bilateral and multilateral of the parties come to the cycle's; who was paid pays a reversal."""
    netting = net(cycle)
    pays: defaultdict = defaultdict(int)
    for one in cycle:
        legs = (
            (one.acceptor, one.value_cu - one.fee_cu),
            (FEES, one.fee_cu),
            (ROUNDING, one.debit_cu - one.value_cu),
        )
        for creditor, cu in legs:
            pays[creditor if one.reversal else one.issuer] += cu
    found = party_savings(cycle, netting)
    assert {one.party: one.gross_cu for one in found if one.gross_cu} == {
        party: cu for party, cu in pays.items() if cu
    }
    assert sum(one.gross_cu for one in found) == netting.gross_cu
    assert sum(one.bilateral_cu for one in found) == netting.bilateral_net_cu
    assert sum(one.multilateral_cu for one in found) == netting.multilateral_net_cu
    fees = pair_fees(cycle)
    assert sum(one.fee_cu for one in fees) == netting.positions[FEES]
    assert sum(one.remainder_cu for one in fees) == netting.positions[ROUNDING]
    assert sum(one.orders + one.reversals for one in fees) == netting.orders
