"""Breaks and open disputes by age: how many, whose, of what kind, and for how much.

Source: settlement/RULES.md, rules X14 and Y7.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.values.ids import HOUSE
from settlement.core.dispute import State, Step

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from settlement.core.breaks import Break
    from settlement.core.dispute import Case

BUCKETS: Final = ((7, "0-7"), (30, "8-30"), (90, "31-90"))
"""Most days of each bucket but the last, and its name."""
OLDEST: Final = ">90"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aged:
    """Breaks of one bucket, kind and owner; amounts in fen, signed as on the house's account.

    Attributes:
        bucket: Days, as `8-30`.
        kind: What differs.
        owner: Who must act.
        breaks: How many.
        expected_fen: What should have moved.
        moved_fen: What did.
    """

    bucket: str
    kind: str
    owner: str
    breaks: int
    expected_fen: int
    moved_fen: int


def bucket_of(age_days: int) -> str:
    """The bucket of an age in days."""
    return next((name for days, name in BUCKETS if age_days <= days), OLDEST)


def figures_of(one: Break) -> tuple[int, int]:
    """What should have moved and what did, fen."""
    return (
        sum(payment.amount_fen for payment in one.payments),
        sum(movement.amount_fen for movement in one.movements),
    )


def age(breaks: Iterable[Break]) -> list[Aged]:
    """Sum breaks by bucket, kind and owner: the youngest bucket first, then by kind and owner."""
    sums: defaultdict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for one in breaks:
        expected_fen, moved_fen = figures_of(one)
        row = sums[bucket_of(one.age_days), one.kind.value, one.owner]
        for place, figure in enumerate((1, expected_fen, moved_fen)):
            row[place] += figure
    order = [*(name for _, name in BUCKETS), OLDEST]
    return [
        Aged(
            bucket=bucket, kind=kind, owner=owner, breaks=row[0], expected_fen=row[1],
            moved_fen=row[2],
        )
        for (bucket, kind, owner), row in sorted(
            sums.items(), key=lambda item: (order.index(item[0][0]), item[0][1:])
        )
    ]  # fmt: skip


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
