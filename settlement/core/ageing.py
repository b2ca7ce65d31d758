"""Breaks and open disputes by age: how many, whose, of what kind, and for how much.

Source: settlement/RULES.md, rules X14 and Y7.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.values.ids import HOUSE
from settlement.core.dispute import State, Step

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from settlement.core.breaks import Break
    from settlement.core.dispute import Case
    from settlement.core.own_lines import LineBreak

BUCKETS: Final = ((7, "0-7"), (30, "8-30"), (90, "31-90"))
"""Most days of each bucket but the last, and its name."""
OLDEST: Final = ">90"


class Difference(NamedTuple):
    """A break, whatever it is between.

    Attributes:
        age_days: How old it is.
        kind: What differs.
        owner: Who must act.
        expected: What should be there: fen on the house's account, or CU of our lines; signed.
        found: What is there.
    """

    age_days: int
    kind: str
    owner: str
    expected: int
    found: int


class Aged(NamedTuple):
    """Breaks of one bucket, kind and owner; amounts as in `Difference`.

    Attributes:
        bucket: Days, as `8-30`.
        kind: What differs.
        owner: Who must act.
        breaks: How many.
        expected: What should be there.
        found: What is there.
    """

    bucket: str
    kind: str
    owner: str
    breaks: int
    expected: int
    found: int


def bucket_of(age_days: int) -> str:
    """The bucket of an age in days."""
    return next((name for days, name in BUCKETS if age_days <= days), OLDEST)


def of_payment(one: Break) -> Difference:
    """A break between payments and movements, fen."""
    return Difference(
        one.age_days,
        one.kind.value,
        one.owner,
        sum(payment.amount_fen for payment in one.payments),
        sum(movement.amount_fen for movement in one.movements),
    )


def of_lines(one: LineBreak) -> Difference:
    """A break between our lines and a merchant's own, CU."""
    return Difference(
        one.age_days,
        one.kind.value,
        one.owner,
        sum(line.amount_cu for line in one.ours),
        sum(line.amount_cu for line in one.theirs),
    )


def age(differences: Iterable[Difference]) -> list[Aged]:
    """Sum breaks by bucket, kind and owner: the youngest bucket first, then by kind and owner."""
    sums: defaultdict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for one in differences:
        row = sums[bucket_of(one.age_days), one.kind, one.owner]
        for place, figure in enumerate((1, one.expected, one.found)):
            row[place] += figure
    order = [*(name for _, name in BUCKETS), OLDEST]
    return [
        Aged(bucket, kind, owner, count, expected, found)
        for (bucket, kind, owner), (count, expected, found) in sorted(
            sums.items(), key=lambda item: (order.index(item[0][0]), item[0][1:])
        )
    ]


def must_act(case: Case, now: datetime) -> int:
    """Who must act in an open dispute: whoever has not answered and still may, else the house (0)."""
    if case.is_heard(now):
        return HOUSE
    answered = {taken.party for taken in case.steps if taken.step is Step.ANSWER}
    return min({case.issuer, case.acceptor} - {case.opener} - answered)


def age_disputes(
    cases: Iterable[tuple[datetime, Case]], now: datetime
) -> list[tuple[str, str, int, int, int]]:
    """Sum open disputes by bucket, state and who must act; those that have ended are left out.

    Args:
        cases: When each was opened, and the case.
        now: The instant that ages are counted to.

    Returns:
        Bucket, state, who must act, how many, and what they claim as debit, CU, owed less taken back.
    """
    sums: defaultdict[tuple[str, str, int], list[int]] = defaultdict(lambda: [0, 0])
    for opened_at, case in cases:
        state = case.state(now)
        if state in (State.OPENED, State.ANSWERED):
            row = sums[bucket_of((now - opened_at).days), state.value, must_act(case, now)]
            row[0] += 1
            row[1] += case.claim.debit_cu
    order = [*(name for _, name in BUCKETS), OLDEST]
    return [
        (bucket, state, party, count, claimed_cu)
        for (bucket, state, party), (count, claimed_cu) in sorted(
            sums.items(), key=lambda item: (order.index(item[0][0]), item[0])
        )
    ]
