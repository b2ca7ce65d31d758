"""The life of an order whose issuer or acceptor keeps points in a system of its own, as a table.

Between the books here and two systems elsewhere nothing can be done at once, and a call may have
happened without an answer. So each step is: write down what will be asked, ask, write down what was
answered; and a call that got no answer is a state of its own, which only the merchant's word ends.

- States named by a participle (`ACCEPTED`, `HELD`) say what is certain. The next thing is asked there.
- States named by a gerund (`HOLDING`, `CREDITING`) say that a call was sent, or may have been, and that
  its outcome is not known. Nothing but an inquiry is asked there.
- `PINNED` is the point of no return: from there on the books keep the hold until the credit is proven
  to have failed. Before it everything is undone, after the credit the order only goes forward.
- The till hears its answer by an instant, `decide_by`. What comes later is undone (`LATE`).

A reversal of an order that cleared is a journey of its own: it begins `OWING`, written with the reversal
in the books, and its one call credits the points at the order's issuer, which is its acceptor.

This module is the one place that says what follows from what. It knows no clock and no merchant:
what a merchant's system can do comes in as `Means`.

Source: settlement/RULES.md, rules O1 to O9.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Final

from adapters.kit.contract import Step

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(IntEnum):
    """Where an order stands. Numbers are stored and permanent."""

    WANTED = 1
    ACCEPTED = 2
    HOLDING = 3
    HELD = 4
    PINNED = 5
    CREDITING = 6
    CREDITED = 7
    POSTED = 8
    CAPTURING = 9

    CREDITING_LATE = 10
    RECALLING = 11
    REVERSING = 12
    UNPINNING = 13
    VOIDING = 14
    DOUBTING = 15
    DOUBTED = 16
    DROPPING = 17
    VOIDED = 18
    RELEASING = 19
    UNDONE = 20
    STANDING = 21

    OWING = 22
    RETURNING = 23

    CLEARED = 30
    REFUSED = 31
    EXPIRED = 32
    REVERSED = 33
    RETURNED = 34


MEANING: Final[Mapping[State, str]] = {
    State.WANTED: "the wish is durable; the books have not answered",
    State.ACCEPTED: "the books hold the debit; the issuer was not asked yet",
    State.HOLDING: "the issuer was asked to hold; its answer is not known",
    State.HELD: "the issuer holds the points",
    State.PINNED: "the point of no return: the hold in the books stays until the credit is decided",
    State.CREDITING: "the acceptor was asked to credit; its answer is not known",
    State.CREDITED: "the acceptor gave the points; the order only goes forward",
    State.POSTED: "cleared in the books; the issuer's hold is still to be captured",
    State.CAPTURING: "the issuer was asked to capture; its answer is not known",
    State.CREDITING_LATE: "as crediting, and the till was told no: a credit is taken back",
    State.RECALLING: "a credit that came too late is to be taken back",
    State.REVERSING: "the acceptor was asked to take it back; its answer is not known",
    State.STANDING: "the till was told no, but the credit cannot be taken back: people are told",
    State.UNPINNING: "no credit stands; the books are asked to void the pinned hold",
    State.VOIDING: "the books are asked to void; the issuer holds the points",
    State.DOUBTING: "the books are asked to void; whether the issuer holds is not known",
    State.DOUBTED: "void in the books; whether the issuer holds is not known",
    State.DROPPING: "the books are asked to void; the issuer holds nothing",
    State.VOIDED: "void in the books; the issuer is to give the points back",
    State.RELEASING: "the issuer was asked to give back; its answer is not known",
    State.UNDONE: "nothing of the order stands anywhere",
    State.OWING: "a reversal stands in the books; the issuer is to give the points back",
    State.RETURNING: "the issuer was asked to give them back; its answer is not known",
    State.CLEARED: "end: value and points have moved",
    State.REFUSED: "end: nothing moved",
    State.EXPIRED: "end: the hold ran out in the books, nothing moved",
    State.REVERSED: "end: a credit came too late and was taken back",
    State.RETURNED: "end: a reversed order's points are back",
}
"""One line for each state."""


class Event(Enum):
    """What moves an order on."""

    # Of the books.
    ACCEPTED = "the books accept"
    DENIED = "the books refuse"
    PINNED = "the books pin"
    POSTED = "the books clear"
    VOIDED = "the books void"
    GONE = "the books say: it was voided or expired before"
    # Of a merchant's system.
    SENT = "a call is sent, or may have been"
    DONE = "it is done"
    REFUSED = "it is refused, and will not happen"
    NOT_FOUND = "it never happened, and will not unless it is sent again"
    TURNED_AWAY = "the merchant takes no calls now; nothing was sent"
    SPARED = "this merchant needs no such call"
    STANDS = "it came too late and cannot be taken back"
    CONCEDED = "people settled it outside"
    # Of the clock, and of what came before.
    LATE = "`decide_by` has passed"
    WAS_REFUSED = "for a refusal"
    WAS_EXPIRED = "for the hold's time in the books"
    WAS_REVERSED = "after a credit was taken back"


TABLE: Final[Mapping[tuple[State, Event], State]] = {
    # Forward.
    (State.WANTED, Event.ACCEPTED): State.ACCEPTED,
    (State.WANTED, Event.DENIED): State.REFUSED,
    (State.WANTED, Event.POSTED): State.CLEARED,
    (State.ACCEPTED, Event.SENT): State.HOLDING,
    (State.HOLDING, Event.DONE): State.HELD,
    (State.HOLDING, Event.NOT_FOUND): State.ACCEPTED,
    (State.HELD, Event.PINNED): State.PINNED,
    (State.HELD, Event.POSTED): State.POSTED,
    (State.PINNED, Event.SENT): State.CREDITING,
    (State.CREDITING, Event.DONE): State.CREDITED,
    (State.CREDITING, Event.NOT_FOUND): State.PINNED,
    (State.CREDITED, Event.POSTED): State.POSTED,
    (State.POSTED, Event.SENT): State.CAPTURING,
    (State.POSTED, Event.SPARED): State.CLEARED,
    (State.CAPTURING, Event.DONE): State.CLEARED,
    (State.CAPTURING, Event.NOT_FOUND): State.POSTED,
    (State.CAPTURING, Event.CONCEDED): State.CLEARED,
    # Back, before anything was sent to the acceptor.
    (State.ACCEPTED, Event.TURNED_AWAY): State.DROPPING,
    (State.ACCEPTED, Event.LATE): State.DROPPING,
    (State.ACCEPTED, Event.NOT_FOUND): State.VOIDING,
    (State.HOLDING, Event.REFUSED): State.DROPPING,
    (State.HOLDING, Event.LATE): State.DOUBTING,
    (State.HELD, Event.LATE): State.VOIDING,
    (State.HELD, Event.GONE): State.VOIDED,
    (State.VOIDING, Event.VOIDED): State.VOIDED,
    (State.VOIDING, Event.GONE): State.VOIDED,
    (State.VOIDING, Event.PINNED): State.PINNED,
    (State.VOIDING, Event.POSTED): State.POSTED,
    (State.DOUBTING, Event.VOIDED): State.DOUBTED,
    (State.DOUBTING, Event.GONE): State.DOUBTED,
    (State.DOUBTING, Event.PINNED): State.PINNED,
    (State.DOUBTING, Event.POSTED): State.POSTED,
    (State.DOUBTED, Event.DONE): State.VOIDED,
    (State.DOUBTED, Event.REFUSED): State.UNDONE,
    (State.DOUBTED, Event.NOT_FOUND): State.VOIDED,
    (State.DROPPING, Event.VOIDED): State.UNDONE,
    (State.DROPPING, Event.GONE): State.UNDONE,
    (State.VOIDED, Event.SENT): State.RELEASING,
    (State.RELEASING, Event.DONE): State.UNDONE,
    (State.RELEASING, Event.NOT_FOUND): State.VOIDED,
    (State.RELEASING, Event.CONCEDED): State.UNDONE,
    # Back, after the pin: only with the acceptor's word.
    (State.PINNED, Event.TURNED_AWAY): State.UNPINNING,
    (State.PINNED, Event.LATE): State.UNPINNING,
    (State.CREDITING, Event.REFUSED): State.UNPINNING,
    (State.CREDITING, Event.LATE): State.CREDITING_LATE,
    (State.CREDITING_LATE, Event.REFUSED): State.UNPINNING,
    (State.CREDITING_LATE, Event.NOT_FOUND): State.UNPINNING,
    (State.CREDITING_LATE, Event.DONE): State.RECALLING,
    (State.CREDITING_LATE, Event.STANDS): State.STANDING,
    (State.CREDITED, Event.LATE): State.RECALLING,
    (State.CREDITED, Event.STANDS): State.STANDING,
    (State.RECALLING, Event.SENT): State.REVERSING,
    (State.REVERSING, Event.DONE): State.UNPINNING,
    (State.REVERSING, Event.NOT_FOUND): State.RECALLING,
    (State.REVERSING, Event.REFUSED): State.STANDING,
    (State.STANDING, Event.POSTED): State.POSTED,
    (State.UNPINNING, Event.VOIDED): State.VOIDED,
    (State.UNPINNING, Event.GONE): State.VOIDED,
    # A reversal that stands in the books: it only goes forward.
    (State.OWING, Event.SENT): State.RETURNING,
    (State.RETURNING, Event.DONE): State.RETURNED,
    (State.RETURNING, Event.NOT_FOUND): State.OWING,
    (State.RETURNING, Event.CONCEDED): State.RETURNED,
    # How what was undone is called.
    (State.UNDONE, Event.WAS_REFUSED): State.REFUSED,
    (State.UNDONE, Event.WAS_EXPIRED): State.EXPIRED,
    (State.UNDONE, Event.WAS_REVERSED): State.REVERSED,
}
"""What follows from what; whatever is not here cannot happen."""

ENDS: Final = frozenset(
    {State.CLEARED, State.REFUSED, State.EXPIRED, State.REVERSED, State.RETURNED}
)
"""Nothing is asked in these."""

BOOKED: Final = frozenset({State.POSTED, State.CAPTURING, State.CLEARED})
"""The order stands in the books."""

LET_GO: Final = frozenset(
    {
        *(State.VOIDED, State.RELEASING, State.DOUBTED, State.UNDONE),
        *(State.REFUSED, State.EXPIRED, State.REVERSED),
    }
)
"""The books have let go of the order: whatever a merchant still holds is given back."""

REVERSAL: Final = frozenset({State.OWING, State.RETURNING, State.RETURNED})
"""States of a reversal, whose acceptor is the issuer of the order that it takes back."""

WAITING: Final[Mapping[State, Step]] = {
    State.HOLDING: Step.HOLD,
    State.DOUBTED: Step.HOLD,
    State.CREDITING: Step.CREDIT,
    State.CREDITING_LATE: Step.CREDIT,
    State.CAPTURING: Step.CAPTURE,
    State.RELEASING: Step.RELEASE,
    State.REVERSING: Step.REVERSE_CREDIT,
    State.RETURNING: Step.CREDIT,
}
"""States in which a call's outcome is not known, and which call it is."""

LATE_STATES: Final = frozenset(state for state, event in TABLE if event is Event.LATE)
"""States that `decide_by` ends; what it finds elsewhere goes on."""


class Ask(Enum):
    """What is asked of the books."""

    ACCEPT = "hold the debit"
    PIN = "keep the hold until the credit is decided"
    POST = "clear"
    VOID = "void, unless the credit is under way"
    VOID_PROVEN = "void: no credit stands"
    BASKET = "nothing yet: its basket is asked for this order and others together"


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A call is to be sent to a merchant's system."""

    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquire:
    """A merchant's system is to be asked what became of a call."""

    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What the two systems of an order can do, as far as its life depends on it.

    Attributes:
        captures: The issuer's hold must be captured; without it the hold itself takes the points.
        credits: The acceptor must be asked to give points; without it the clearing is all.
        reversible: A credit at the acceptor can be taken back.
        waits: A basket clears the order, together with others, once its points are held.
    """

    captures: bool
    credits: bool
    reversible: bool
    waits: bool = False


Next = Ask | Send | Inquire | Event
"""What an order does next: ask the books, send a call, inquire, or move on by itself."""

_OF_BOOKS: Final[Mapping[State, Ask]] = {
    State.WANTED: Ask.ACCEPT,
    State.CREDITED: Ask.POST,
    State.STANDING: Ask.POST,
    State.VOIDING: Ask.VOID,
    State.DOUBTING: Ask.VOID,
    State.DROPPING: Ask.VOID,
    State.UNPINNING: Ask.VOID_PROVEN,
}
CALLS: Final[Mapping[State, Step]] = {
    State.ACCEPTED: Step.HOLD,
    State.PINNED: Step.CREDIT,
    State.POSTED: Step.CAPTURE,
    State.VOIDED: Step.RELEASE,
    State.RECALLING: Step.REVERSE_CREDIT,
    State.OWING: Step.CREDIT,
}
"""States that call for something to be sent, and which call it is."""
_SENDS: Final = {state: Send(step=step) for state, step in CALLS.items()}
_INQUIRIES: Final = {state: Inquire(step=step) for state, step in WAITING.items()}
AT_ISSUER: Final = frozenset({Step.HOLD, Step.CAPTURE, Step.RELEASE})
"""Steps that the issuer's system takes; the acceptor's takes the others."""


def advance(state: State, event: Event) -> State:
    """The state that follows.

    Raises:
        ValueError: The event cannot happen in this state.
    """
    after = TABLE.get((state, event))
    if after is None:
        raise ValueError(f"no order that is {state.name} can take {event.name}")
    return after


def next_step(state: State, means: Means, *, was: Event = Event.WAS_REFUSED) -> Next | None:
    """What an order does next in a state; None at its end.

    Args:
        state: Where it stands.
        means: What the systems can do.
        was: Why it was undone, once it is: WAS_REFUSED, WAS_EXPIRED or WAS_REVERSED.
    """
    if state in WAITING:
        return _INQUIRIES[state]
    if state is State.HELD and means.waits:
        return Ask.BASKET
    if state is State.HELD:
        return Ask.PIN if means.credits else Ask.POST
    if state is State.POSTED and not means.captures:
        return Event.SPARED
    if state in CALLS:
        return _SENDS[state]
    if state is State.UNDONE:
        return was
    return _OF_BOOKS.get(state)


def intent_with(state: State, means: Means) -> Step | None:
    """The call that is sent next without another write, so that its intent is written with this state.

    `WANTED`, `HELD` and `CREDITED` are written before the books are asked; what the books' yes leads
    to is sent at once. Every other call writes its own intent first.
    """
    if state is State.WANTED:
        return Step.HOLD
    if state is State.HELD and means.credits:
        return Step.CREDIT
    if state in (State.HELD, State.CREDITED) and means.captures:
        return Step.CAPTURE
    return None


def too_late(state: State, means: Means) -> Event | None:
    """The event of `decide_by` in a state; None where it changes nothing."""
    if state not in LATE_STATES:
        return None
    if state is State.CREDITED and not means.reversible:
        return Event.STANDS
    return Event.LATE


TIME_OUTS: Final = (
    (
        "`decide_by`",
        LATE_STATES,
        "LATE: the till hears `decided_too_late`, and nothing of the order will stand",
    ),
    (
        "the hold's time in the books",
        frozenset({State.HELD}),
        "GONE, unless the hold was pinned or cleared before: the writer's queue decides",
    ),
    (
        "the inquiry's backoff",
        frozenset(WAITING),
        "the merchant is asked again what became of the call",
    ),
    (
        "the manifest's `final_after_seconds`",
        frozenset(WAITING),
        "NOT_FOUND, if the merchant's system still knows no such call",
    ),
    (
        "the escalation",
        frozenset(set(WAITING) | set(CALLS)),
        "the order is shown by `tongdui orders stuck`, and goes on trying",
    ),
)
"""Which time-outs there are, where they count, and what they do."""


def diagram() -> str:
    """The table as a Mermaid state diagram, for documents."""
    lines = ["stateDiagram-v2", "    [*] --> WANTED", "    [*] --> OWING"]
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, event), after in TABLE.items():
        arrows.setdefault((state, after), []).append(event.name)
    lines += [
        f"    {state.name} --> {after.name}: {', '.join(events)}"
        for (state, after), events in arrows.items()
    ]
    lines += [f"    {state.name} --> [*]" for state in State if state in ENDS]
    return "\n".join(lines) + "\n"
