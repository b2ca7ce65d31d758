"""A journey: the stored life of one order, and one line for everything that was asked and answered.

Source: settlement/RULES.md, rules O1 to O9.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from exchange.core.order import State
from schemas.values.ids import order_id
from settlement.core.command import Entry
from settlement.core.event import Kind

if TYPE_CHECKING:
    import uuid

    from adapters.kit.contract import Outcome, Step
    from settlement.core.command import Order


class Verdict(IntEnum):
    """What the till may still hear. It is set once, by whoever comes first; numbers are stored."""

    OPEN = 0
    FORWARD = 1
    LATE = 2


class Source(IntEnum):
    """Where a line of a journey comes from. Numbers are stored."""

    INTENT = 0
    CALL = 1
    INQUIRY = 2
    CALLBACK = 3
    PEOPLE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An order that somebody wants.

    Attributes:
        order: The command for the books: sender, key, digest of the body, figures, `hold_us`.
        issuer_member: The member's id at the issuer.
        acceptor_member: The member's id at the acceptor; empty where nothing is credited.
        decide_by_us: When the till must have its answer, microseconds since 1970.
        at_us: When it was wanted.
        fault: In a sandbox, what its till wishes to go wrong; it is not stored.
        waits: Whether it is a leg of a basket: once its issuer holds the points, it goes on when the basket
            was decided, or when `decide_by` has passed.
    """

    order: Order
    issuer_member: str
    acceptor_member: str
    decide_by_us: int
    at_us: int
    fault: str = ""
    waits: bool = False

    def held(self, order_seq: int, accepted_at_us: int) -> Entry:
        """What is answered of a leg that waits for its basket: the event of its acceptance."""
        order = self.order
        return Entry(
            order_seq, order_seq, Kind.ACCEPTED, 0, accepted_at_us, accepted_at_us + order.hold_us, 0,
            order.issuer, order.acceptor, order.units, order.debit_cu, order.value_cu, order.fee_cu,
            order.credited_units, 0, order.rate_no,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a journey: the intent of a call, or what was answered. Lines are only added.

    Attributes:
        step: The call.
        source: Intent, or where the answer comes from.
        at_us: When, microseconds since 1970.
        outcome: What was answered; None for an intent.
        reason: Number of the reason of a refusal; 0 otherwise.
        number: The merchant's own number for what was done.
        units: Smallest units that the merchant said it moved; None where it did not say.
        detail: One sentence for people.
        line_no: Place in the store; 0 until it is there.
    """

    step: Step
    source: Source
    at_us: int
    outcome: Outcome | None = None
    reason: int = 0
    number: str = ""
    units: int | None = None
    detail: str = ""
    line_no: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """A journey as it is stored.

    Attributes:
        journey_no: Its number, made by the store.
        worker: Who drives it.
        claim_no: Rises with each take-over; a write under an older one changes nothing.
        wanted: What is wanted.
        state: Where the order stands.
        order_seq: Number of the order's first event in the books; 0 before they accepted.
        accepted_at_us: Instant of that event; 0 before.
        verdict: What the till may still hear.
        reason: Number of the reason why it is or was undone; 0 otherwise.
        stuck_since_us: Since when people are asked; 0 for not.
        stuck_why: What they are told.
    """

    journey_no: int
    worker: uuid.UUID
    claim_no: int
    wanted: Wanted
    state: State = State.WANTED
    order_seq: int = 0
    accepted_at_us: int = 0
    verdict: Verdict = Verdict.OPEN
    reason: int = 0
    stuck_since_us: int = 0
    stuck_why: str = ""

    def order_id(self, part: int) -> uuid.UUID | None:
        """The order's id; None before the books accepted it."""
        if not self.order_seq:
            return None
        return order_id(self.accepted_at_us, part, self.order_seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What the driver of a journey writes: its new state, and lines.

    Attributes:
        journey_no: The journey.
        claim_no: The driver's claim.
        state: New state.
        order_seq: As in `Journey`.
        accepted_at_us: As in `Journey`.
        reason: As in `Journey`.
        verdict: FORWARD to settle that the till hears how it ends, unless it is LATE already; else OPEN.
        stuck_since_us: As in `Journey`.
        stuck_why: As in `Journey`.
        lines: Lines to add.
        at_us: When.
    """

    journey_no: int
    claim_no: int
    state: State
    order_seq: int
    accepted_at_us: int
    reason: int
    verdict: Verdict
    stuck_since_us: int
    stuck_why: str
    lines: tuple[Line, ...]
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What one commit did.

    Attributes:
        begun: For each order wanted, in order, the journey that stands under its key: a new one, or the one
            that was there.
        verdicts: Verdict of each journey that was changed or marked late, after the commit. A change whose
            claim was lost is missing.
    """

    begun: list[Journey] = field(default_factory=list)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
