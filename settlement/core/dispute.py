"""Disputes: a merchant says that a line is wrong, both sides are heard, and somebody decides in time.

A case is a list of steps that only grows; its state follows from them and from the time. It ends in an adjustment of
the open cycle that names the line (`settlement.core.adjustment`), or in nothing with a reason.

Source: settlement/RULES.md, rules W1 to W4.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.ids import HOUSE
from schemas.values.reason import Reason
from settlement.core.adjustment import is_owed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

ANSWER_TIME: Final = timedelta(days=7)
"""How long the other side is waited for."""
DECISION_TIME: Final = timedelta(days=30)
"""After so long a case that nobody decided has lapsed."""
TEXT_MAX: Final = 2_000
STEPS_MAX: Final = 100
FILE_BYTES_MAX: Final = 100_000_000


class State(StrEnum):
    """How a case stands."""

    OPENED = "opened"
    ANSWERED = "answered"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"


class Step(StrEnum):
    """What happens to a case."""

    ANSWER = "answer"
    EVIDENCE = "evidence"
    ACCEPT = "accept"
    REJECT = "reject"
    WITHDRAW = "withdraw"
    LAPSE = "lapse"


TABLE: Final[Mapping[tuple[State, Step], State]] = {
    (State.OPENED, Step.ANSWER): State.ANSWERED,
    (State.OPENED, Step.EVIDENCE): State.OPENED,
    (State.OPENED, Step.ACCEPT): State.ACCEPTED,
    (State.OPENED, Step.REJECT): State.REJECTED,
    (State.OPENED, Step.WITHDRAW): State.WITHDRAWN,
    (State.OPENED, Step.LAPSE): State.LAPSED,
    (State.ANSWERED, Step.ANSWER): State.ANSWERED,
    (State.ANSWERED, Step.EVIDENCE): State.ANSWERED,
    (State.ANSWERED, Step.ACCEPT): State.ACCEPTED,
    (State.ANSWERED, Step.REJECT): State.REJECTED,
    (State.ANSWERED, Step.WITHDRAW): State.WITHDRAWN,
    (State.ANSWERED, Step.LAPSE): State.LAPSED,
}
"""What follows; whatever does not stand here cannot happen. `LAPSE` is the deadline's and nobody's."""


class Figures(NamedTuple):
    """What an adjustment comes to, CU: owed (none below 0) or taken back (none above 0)."""

    debit_cu: int
    value_cu: int
    fee_cu: int

    @property
    def can_be(self) -> bool:
        """Whether they are of one direction and not all 0 (rule J1)."""
        return is_owed(*self) or (-AMOUNT_LIMIT < min(self) <= max(self) <= 0 and any(self))

    def is_part_of(self, claim: Figures) -> bool:
        """Whether they go the claim's way and no further than it, figure by figure."""
        return all(
            0 <= part <= whole or whole <= part <= 0
            for part, whole in zip(self, claim, strict=True)
        )


NOTHING: Final = Figures(0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One step that was taken.

    Attributes:
        step: What it was.
        party: Merchant number of who took it; 0 for the house.
        at: When.
    """

    step: Step
    party: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A dispute with its steps.

    Attributes:
        opener: Merchant number of who opened it; 0 for the house.
        issuer: Issuer of the line.
        acceptor: Acceptor of the line.
        claim: What the opener wants booked.
        answer_due_at: Until when the other side is waited for.
        deadline: When it lapses.
        steps: What happened, in order.
    """

    opener: int
    issuer: int
    acceptor: int
    claim: Figures
    answer_due_at: datetime
    deadline: datetime
    steps: Sequence[Taken] = ()

    def state(self, now: datetime) -> State:
        """How it stands at an instant.

        Raises:
            ValueError: Its steps cannot have happened so.
        """
        state = State.OPENED
        for taken in self.steps:
            after = TABLE.get((state, taken.step))
            if after is None:
                raise ValueError(f"{taken.step} of a case that is {state}")
            state = after
        if now >= self.deadline:
            state = TABLE.get((state, Step.LAPSE), state)
        return state

    def is_heard(self, now: datetime) -> bool:
        """Whether both sides had their say: whoever did not open it has answered, or had the time to."""
        others = {self.issuer, self.acceptor} - {self.opener}
        answered = {taken.party for taken in self.steps if taken.step is Step.ANSWER}
        return others <= answered or now >= self.answer_due_at

    def why_not(self, step: Step, party: int, now: datetime) -> Reason | None:
        """Say why a party cannot take a step now, if it cannot.

        Returns:
            None, or DISPUTE_NOT_FOUND for a stranger, DISPUTE_ENDED, DISPUTE_NOT_HEARD, DISPUTE_STEP_NOT_YOURS, or
            DISPUTE_FULL.

        Source: settlement/RULES.md, rules W2 and W3.
        """
        if party not in (HOUSE, self.issuer, self.acceptor):
            return Reason.DISPUTE_NOT_FOUND
        if (self.state(now), step) not in TABLE:
            return Reason.DISPUTE_ENDED
        theirs = {
            Step.ANSWER: party not in (HOUSE, self.opener),
            Step.EVIDENCE: True,
            Step.WITHDRAW: party == self.opener,
            Step.ACCEPT: party == HOUSE,
            Step.REJECT: party == HOUSE,
            Step.LAPSE: False,
        }
        if not theirs[step]:
            return Reason.DISPUTE_STEP_NOT_YOURS
        if step in (Step.ACCEPT, Step.REJECT) and not self.is_heard(now):
            return Reason.DISPUTE_NOT_HEARD
        if step is Step.EVIDENCE and len(self.steps) >= STEPS_MAX:
            return Reason.DISPUTE_FULL
        return None


def diagram() -> str:
    """The table as a Mermaid state diagram, for ARCHITECTURE.md."""
    lines = [f"    [*] --> {State.OPENED}"]
    lines += [f"    {state} --> {after}: {step}" for (state, step), after in TABLE.items()]
    ends = sorted(set(State) - {state for state, _ in TABLE}, key=list(State).index)
    lines += [f"    {state} --> [*]" for state in ends]
    return "\n".join(("stateDiagram-v2", *lines, ""))
