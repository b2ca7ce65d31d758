"""Figures in fen: running sums that end at the payment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.values.amounts import AMOUNT_LIMIT, CU_PER_FEN
from settlement.core.fen import FenRun, in_fen, trunc_fen
from settlement.core.instruction import HOUSE_LEG, instruct

amounts = st.one_of(st.integers(-250, 250), st.integers(-AMOUNT_LIMIT + 1, AMOUNT_LIMIT - 1))
carries = st.integers(-CU_PER_FEN + 1, CU_PER_FEN - 1)


@pytest.mark.parametrize(
    ("cu", "fen"),
    [(0, 0), (99, 0), (-99, 0), (100, 1), (-100, -1), (199, 1), (-199, -1), (-12_345, -123)],
)
def test_truncation_is_toward_zero(cu: int, fen: int):
    """Rule N8: whole fen are truncated toward zero, on both sides of it."""
    assert trunc_fen(cu) == fen


def test_small_figures_are_not_lost():
    """Rule F1: figures below one fen become a fen when their running sum does."""
    assert in_fen([60, 60, 60, -30, -60]) == [0, 1, 0, 0, -1]
    assert in_fen([60, 60], carry_cu=80) == [1, 1]


@given(st.lists(amounts, max_size=30), carries)
def test_figures_in_fen_add_up_to_the_payment(figures: list[int], carry: int):
    """Rules F1 and F2: they add up to the truncated sum of carry and figures, and no prefix is a fen away from it."""
    fen = in_fen(figures, carry_cu=carry)
    assert sum(fen) == trunc_fen(carry + sum(figures))
    for end in range(len(figures) + 1):
        exact = carry + sum(figures[:end])
        assert abs(exact - CU_PER_FEN * sum(fen[:end])) < CU_PER_FEN
    for shown, figure in zip(fen, figures, strict=True):
        assert abs(CU_PER_FEN * shown - figure) < 2 * CU_PER_FEN


@given(st.lists(st.lists(amounts, max_size=6), min_size=1, max_size=12), carries)
def test_cycles_go_on_where_the_last_one_ended(cycles: list[list[int]], carry: int):
    """Rule F3: over many cycles, what was paid and the last carry are what was owed, to the CU."""
    paid, first = 0, carry
    for figures in cycles:
        run = FenRun(carry)
        paid += sum(run.take(figure) for figure in figures)
        carry = run.carry_cu
        assert abs(carry) < CU_PER_FEN
    assert paid * CU_PER_FEN + carry == first + sum(map(sum, cycles))


@given(
    st.lists(
        st.lists(st.integers(-(10**9), 10**9), min_size=3, max_size=3), min_size=1, max_size=12
    )
)
def test_lines_in_fen_and_instructions_agree_over_many_cycles(cycles: list[list[int]]):
    """Rules F1, N8 to N10: each cycle's lines in fen add up to what the bank moves, and all legs to zero."""
    before: dict[int, int] = {}
    for figures in cycles:
        nets = {1: figures[0], 2: figures[1] + figures[2], -1: -sum(figures)}
        legs = {leg.party: leg for leg in instruct(nets=nets, carries=before)}
        assert sum(leg.pay_fen for leg in legs.values()) == 0
        assert legs[HOUSE_LEG].pay_fen == -sum(
            leg.pay_fen for party, leg in legs.items() if party != HOUSE_LEG
        )
        for party, lines in ((1, figures[:1]), (2, figures[1:])):
            assert sum(in_fen(lines, carry_cu=before.get(party, 0))) == legs[party].pay_fen
        before = {party: leg.carry_after_cu for party, leg in legs.items() if party != HOUSE_LEG}
