"""Sure pairs: what is taken out of the lists before they are matched changes nothing of what matching comes to."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from settlement.core.matching import Difference, Match, Outcome, Step, match
from settlement.core.own_lines import Names, OurLine, TheirLine, items
from settlement.core.sure_lines import LineColumns, sure_pairs

DAYS_MAX = 1
names = st.sampled_from(["", "a", "b", "c", "d", "e"])
amounts = st.sampled_from([-2, -1, 1, 2, 3])
days = st.integers(1, 4)
units = st.sampled_from([1, 2])
our_lines = st.lists(
    st.builds(
        OurLine, st.just(0), names.filter(bool), names, days, amounts, units, st.just("X")
    ),
    max_size=7,
    unique_by=lambda line: line.order,
)  # fmt: skip
their_lines = st.lists(
    st.builds(
        TheirLine, st.just(1), st.just(1), st.just(""), names, names, days, amounts,
        st.one_of(st.none(), units), st.sampled_from(["", "X"]),
    ),
    max_size=7,
)  # fmt: skip


def columns(lines: Sequence[OurLine] | Sequence[TheirLine]) -> LineColumns:
    """Lines as columns."""
    found = LineColumns()
    for line in lines:
        found.add(line.order, line.reference, line.day, line.amount_cu, line.units)
    return found


def matched(ours: list[OurLine], theirs: list[TheirLine]) -> Outcome:
    """What matching comes to."""
    return match(*items(ours, theirs, Names(ours, theirs)), days_max=DAYS_MAX)


def words(outcome: Outcome, left: list[int], right: list[int]) -> Counter[object]:
    """Everything that an outcome says, by places in the whole lists."""
    said: Counter[object] = Counter()
    found: tuple[Match | Difference, ...] = (*outcome.matches, *outcome.differences)
    for one in found:
        what = one.step if isinstance(one, Match) else (one.kind, one.candidates)
        mine, other = (left[each] for each in one.ours), (right[each] for each in one.theirs)
        said[what, tuple(sorted(mine)), tuple(sorted(other))] += 1
    return said


@settings(max_examples=50)
@given(our_lines, their_lines)
def test_without_sure_pairs_matching_comes_to_the_same(
    ours: list[OurLine], theirs: list[TheirLine]
):
    """Rules X17 and X18: sure pairs and what matching finds in the rest are what it finds in the whole."""
    mine, other = sure_pairs(columns(ours), columns(theirs), days_max=DAYS_MAX)
    left = [place for place in range(len(ours)) if place not in mine]
    right = [place for place in range(len(theirs)) if place not in other]
    rest = matched([ours[each] for each in left], [theirs[each] for each in right])
    sure = Counter((Step.EXACT, (one,), (two,)) for one, two in zip(mine, other, strict=True))
    whole = matched(ours, theirs)
    said = words(whole, [*range(len(ours))], [*range(len(theirs))])
    assert words(rest, left, right) + sure == said


def test_what_agrees_in_everything_is_a_sure_pair():
    """By order, else by reference, once on each side; what has a second, or another amount, day or points, is none."""
    ours = [OurLine(0, f"o{n}", f"B{n}", 5, 100 + n, 7, "X") for n in range(9)]

    def told(number: int, **changes: Any) -> TheirLine:
        line = TheirLine(1, 1, "", f"o{number}", f"B{number}", 5, 100 + number, 7, "X")
        return line._replace(**changes)

    theirs = [
        told(8),
        told(0, order=""),
        told(1, reference="", units=None),
        told(2, day=6),
        told(3, order="another", reference=" 'B3 "),
        told(4, amount_cu=1),
        told(5, day=7),
        told(6, units=8),
        told(7),
        told(7, day=9),
        told(8, order=""),
    ]
    assert sure_pairs(columns(ours), columns(theirs), days_max=DAYS_MAX) == (
        [0, 1, 2, 3, 8],
        [1, 2, 3, 4, 0],
    )
    assert sure_pairs(columns([]), columns(theirs), days_max=DAYS_MAX) == ([], [])
