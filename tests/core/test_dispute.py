"""What can happen to a dispute, and what goes back of remainders."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.values.faults import SchemaError
from schemas.values.reason import Reason
from settlement.core.dispute import TABLE, Case, Figures, State, Step, Taken, diagram
from settlement.core.remainders import Quarter, plan

AT = datetime(2026, 3, 1, tzinfo=UTC)
DUE, END = AT + timedelta(days=7), AT + timedelta(days=30)


def case(*steps: tuple[Step, int], opener: int = 1) -> Case:
    """A case between 1 and 2 that had these steps."""
    return Case(
        opener=opener,
        issuer=1,
        acceptor=2,
        claim=Figures(-10, -9, -1),
        answer_due_at=DUE,
        deadline=END,
        steps=[Taken(step=step, party=party, at=AT) for step, party in steps],
    )


@given(
    st.lists(st.tuples(st.sampled_from(Step), st.sampled_from([0, 1, 2, 3])), max_size=8),
    st.integers(0, 2),
)
def test_only_what_the_table_allows_happens(wishes, opener):
    """Rules W2 and W3: whatever is tried, a case ends at most once, and after its end nothing is added."""
    steps: list[tuple[Step, int]] = []
    for step, party in wishes:
        before = case(*steps, opener=opener)
        reason = before.why_not(step, party, DUE)
        if reason is None:
            assert TABLE[before.state(DUE), step]
            assert party in (0, 1, 2)
            steps.append((step, party))
    last = case(*steps, opener=opener)
    ends = [step for step, _ in steps if step in (Step.ACCEPT, Step.REJECT, Step.WITHDRAW)]
    assert len(ends) <= 1
    ended = last.state(DUE) not in (State.OPENED, State.ANSWERED)
    assert ended == bool(ends)
    assert (last.state(END) is State.LAPSED) == (not ended)
    assert all(last.why_not(step, party, END) for step in Step for party in (0, 1, 2))


@pytest.mark.parametrize(
    ("opener", "answers", "heard"),
    [(1, (), False), (1, (2,), True), (2, (1,), True), (0, (1,), False), (0, (1, 2), True)],
)
def test_nobody_decides_before_the_other_side_was_heard(opener, answers, heard):
    """Rule W3: a decision waits for each side that did not open the case, or until its time to answer is over."""
    one = case(*((Step.ANSWER, party) for party in answers), opener=opener)
    for step in (Step.ACCEPT, Step.REJECT):
        assert one.why_not(step, 0, AT) is (None if heard else Reason.DISPUTE_NOT_HEARD)
        assert one.why_not(step, 0, DUE) is None
        assert one.why_not(step, opener or 1, DUE) is Reason.DISPUTE_STEP_NOT_YOURS


@pytest.mark.parametrize(
    ("part", "fits"),
    [((-10, -9, -1), True), ((-1, 0, 0), True), ((-11, 0, 0), False), ((1, 0, 0), False), ((0, 0, -2), False)],
)  # fmt: skip
def test_a_grant_is_part_of_the_claim(part, fits):
    """Rule W3: no figure of a grant passes the claim's, or goes the other way."""
    assert Figures(*part).is_part_of(Figures(-10, -9, -1)) is fits


def test_the_diagram_holds_every_line_of_the_table():
    """The diagram is printed from the table and leaves nothing out."""
    lines = diagram().splitlines()
    assert [line.strip() for line in lines if ": " in line] == [
        f"{state} --> {after}: {step}" for (state, step), after in TABLE.items()
    ]
    assert sum(line.endswith("--> [*]") for line in lines) == 4


@pytest.mark.parametrize(
    ("text", "end"),
    [("2026Q1", "2026-04-01"), ("2026Q3", "2026-10-01"), ("2026Q4", "2027-01-01")],
)
def test_a_quarter_ends_in_beijing(text, end):
    """Rule W6: a quarter is over at midnight in Beijing, eight hours before it is in Greenwich."""
    quarter = Quarter.parse(text)
    assert str(quarter) == text
    assert quarter.end.isoformat() == f"{end}T00:00:00+08:00"


@pytest.mark.parametrize("text", ["", "2026Q5", "2026q1", "26Q1", "2026Q1 ", "1999Q4"])
def test_what_is_no_quarter_is_refused(text):
    """A quarter is four digits, Q, and 1 to 4."""
    with pytest.raises(SchemaError):
        Quarter.parse(text)


PAIRS = st.dictionaries(st.tuples(st.integers(1, 3), st.integers(4, 6)), st.integers(-50, 50))


@given(PAIRS, PAIRS)
def test_each_issuer_gets_its_sum_and_no_pair_more_than_it_brought(collected, returned):
    """Rule W6: an issuer gets exactly what is due over all its pairs, nothing where that is below 0."""
    due: Counter[int] = Counter()
    for (issuer, _), cu in collected.items():
        due[issuer] += cu
    for (issuer, _), cu in returned.items():
        due[issuer] -= cu
    planned = plan(collected, returned)
    got: Counter[int] = Counter()
    for pair, cu in planned.items():
        assert 0 < cu <= collected.get(pair, 0) - returned.get(pair, 0)
        got[pair[0]] += cu
    assert got == {issuer: cu for issuer, cu in due.items() if cu > 0}
