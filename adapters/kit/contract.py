"""What the exchange asks of a merchant's own points system, and the three answers that there are.

Distributed points are hard for one reason: a call that got no answer may or may not have happened.
So the contract has three outcomes and not two, every call that moves points carries a reference that
names this step of this order for ever, and `status` can be asked about any reference at any time.

The rules that every adapter keeps, each a clause of the conformance kit (`adapters.kit.conformance`):

- A call repeated under its reference has no second effect and gets the first answer.
- `REFUSED` says that the call did not take effect and never will under this reference. An adapter
  that is not certain of both says `UNKNOWN`; it never guesses and never resends by itself.
- `DONE` says that exactly the units asked were moved. If the merchant's system reports another
  number, the adapter says so in `Receipt.units`, and the order's life stops and asks people.
- An adapter translates and does nothing else: deadlines, retries, circuits, secrets and logs belong
  to the kit. No method raises for what a merchant's system does; a bug of the adapter may raise, and
  the kit then takes the outcome as unknown. The one exception that means something is `NotSent`: no
  byte of the call left us, or the system says that it did not take it (too many requests), so it
  certainly did not happen and may be made later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator

    from schemas.values.reason import Reason


class Outcome(Enum):
    """How a call to a merchant's system ended, as far as it is known."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Step(Enum):
    """What a call does to a member's points; the letter ends the call's reference."""

    HOLD = "H"
    CAPTURE = "C"
    RELEASE = "R"
    CREDIT = "K"
    REVERSE_CREDIT = "V"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One step of one order, to be done at a merchant's system.

    Attributes:
        step: What is to be done.
        reference: Names this step of this order; the same for every repeat (`adapters.kit.reference`).
        member: The member, by the merchant's own member id.
        units: Smallest point units to move, more than 0.
        of: Reference of the earlier call that this one ends: the hold's for a capture or a release,
            the credit's for a reversed credit; empty for a hold or a credit.
        of_receipt: The merchant's own number for that earlier call; empty where it gave none.
        at_us: When the order was accepted, microseconds since 1970 UTC.
    """

    step: Step
    reference: str
    member: str
    units: int
    of: str = ""
    of_receipt: str = ""
    at_us: int = 0

    def __post_init__(self) -> None:
        """Check what no code path may break."""
        if self.units <= 0:
            raise ValueError(f"a call moves {self.units} units")
        if (self.step in (Step.HOLD, Step.CREDIT)) == bool(self.of):
            raise ValueError(f"{self.step.name} with the earlier reference {self.of!r}")


class Finding(str):
    """A sentence about an answer that is the program's own: made of its words and of figures, never of a merchant's.

    Nothing else that an adapter says in words is kept or logged, since a merchant may name a member in its own.
    """

    __slots__ = ()


def own_words(detail: str) -> str:
    """The sentence if it is a `Finding`; nothing of any other."""
    return detail if isinstance(detail, Finding) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a merchant's system answered.

    Attributes:
        outcome: Done, refused for good, or unknown.
        reason: Why it was refused, from the one catalogue; None unless refused.
        number: The merchant's own number for what was done; empty where it gives none.
        units: Smallest units that the merchant says it moved; None where it does not say.
        expected: Whether the system took the call and will tell the outcome later, by a callback or
            a file, so that asking before the manifest's `answers.seconds` is of no use.
        detail: One English sentence for people; never a member's id, a secret or a foreign body. Only a `Finding`
            is kept; of a merchant's own words the order's records have the mapped reason alone.
    """

    outcome: Outcome
    reason: Reason | None = None
    number: str = ""
    units: int | None = None
    expected: bool = False
    detail: str = ""

    def __post_init__(self) -> None:
        """Check what no code path may break."""
        if (self.outcome is Outcome.REFUSED) != (self.reason is not None):
            raise ValueError(f"{self.outcome.value} with reason {self.reason}")
        if self.expected and self.outcome is not Outcome.UNKNOWN:
            raise ValueError(f"{self.outcome.value}, and an answer is expected")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Answer to `look_up` and `authenticate`.

    Attributes:
        outcome: DONE: there is such a member and the proof, if one was asked, holds.
        reason: Why not, for REFUSED: `UNKNOWN_MEMBER`, or `MEMBER_NOT_AUTHORISED`.
        member: The member id to use from now on, as the merchant's system spells it.
    """

    outcome: Outcome
    reason: Reason | None = None
    member: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Answer to `balance`: smallest units that the member could spend now; None unless DONE."""

    outcome: Outcome
    units: int | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLine:
    """One movement of points, as the merchant's system booked it.

    Attributes:
        reference: Our reference of the call.
        step: What was done.
        member: The merchant's member id.
        units: Smallest units, more than 0.
        at_us: When the merchant's system booked it, microseconds since 1970 UTC.
        number: The merchant's own number; empty where it gives none.
    """

    reference: str
    step: Step
    member: str
    units: int
    at_us: int
    number: str = ""


class Incomplete(Exception):  # noqa: N818 - it says what the statement is
    """A statement could not be read whole; what was yielded before must not be relied upon."""


class NotSent(Exception):  # noqa: N818 - it says what happened
    """A call was not sent: certainly nothing of it took effect, and the same call may be made later.

    Attributes:
        detail: Why, one English sentence for people; only a `Finding` is kept.
        retry_after_seconds: When it is worth trying again; 0 if nothing is known about that.
    """

    def __init__(self, detail: str, *, retry_after_seconds: float = 0.0) -> None:
        """Say why, and when to try again."""
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


Answers = Callable[[str, Receipt], Awaitable[None]]
"""Where an adapter puts answers that come later: the call's reference, and the receipt. It returns
when the answer is durable; only then may the adapter acknowledge it to the merchant."""


class Adapter(Protocol):
    """A merchant's points system, as the exchange sees it. Every unit is the programme's smallest."""

    async def start(self) -> None:
        """Open what the adapter keeps open: listeners for callbacks, a multiplexed connection."""
        ...

    async def close(self) -> None:
        """Close everything; calls in flight end as unknown."""
        ...

    async def look_up(self, member: str) -> Found:
        """Find a member and say whether points may be moved; changes nothing."""
        ...

    async def authenticate(self, member: str, proof: str) -> Found:
        """Check what the member presented (a one-time code, a signed token) at the merchant's system."""
        ...

    async def hold(self, call: Call) -> Receipt:
        """Reserve points, or burn them where the manifest says `spend.way = "burn"`."""
        ...

    async def capture(self, call: Call) -> Receipt:
        """Spend points that are held, for good. Not asked where the manifest says "burn"."""
        ...

    async def release(self, call: Call) -> Receipt:
        """Give held points back, or give back what was burnt. A hold that never was is released too."""
        ...

    async def credit(self, call: Call) -> Receipt:
        """Give points to the member: new ones, or those of an order that was reversed here after its capture."""
        ...

    async def reverse_credit(self, call: Call) -> Receipt:
        """Take back points that were credited; refused where they are already spent."""
        ...

    async def status(self, call: Call) -> Receipt:
        """What became of a call: DONE, REFUSED (it did not and will not happen), or UNKNOWN."""
        ...

    async def balance(self, member: str) -> Balance:
        """What the member could spend now."""
        ...

    def statement(self, day: dt.date) -> AsyncIterator[StatementLine]:
        """Everything booked for us on one day of the merchant's own calendar, in any order.

        Raises:
            Incomplete: The statement could not be read whole, or its control totals do not add up.
        """
        ...
