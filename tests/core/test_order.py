"""The life of an order is a table: what it allows, what it cannot do, and what it asks."""

import itertools
from collections import deque

import pytest

from adapters.kit.contract import Step
from exchange.core.order import (
    AT_ISSUER,
    BOOKED,
    ENDS,
    LATE_STATES,
    LET_GO,
    MEANING,
    REVERSAL,
    TABLE,
    WAITING,
    Ask,
    Event,
    Inquire,
    Means,
    Send,
    State,
    advance,
    diagram,
    intent_with,
    next_step,
    too_late,
)

ALL_MEANS = [
    Means(captures=captures, credits=credits_, reversible=reversible, waits=waits)
    for captures, credits_, reversible, waits in itertools.product((True, False), repeat=4)
]
FULL = Means(captures=True, credits=True, reversible=True)


def reachable(start: State, without: frozenset[Event] = frozenset()) -> set[State]:
    """States that can follow."""
    seen, queue = {start}, deque([start])
    while queue:
        state = queue.popleft()
        for (before, event), after in TABLE.items():
            if before is state and event not in without and after not in seen:
                seen.add(after)
                queue.append(after)
    return seen


def test_every_state_is_explained_and_reached():
    """Each state has its sentence, is reached from a wish or a reversal, and no event leads out of an end."""
    assert set(MEANING) == set(State)
    assert reachable(State.WANTED) == set(State) - REVERSAL
    assert not {state for state, _ in TABLE} & ENDS


def test_every_state_can_still_end():
    """From every state an end can be reached: no order is stranded by the table."""
    for state in State:
        assert reachable(state) & ENDS, state


@pytest.mark.parametrize("means", ALL_MEANS)
def test_every_state_asks_something_that_moves_it(means: Means):
    """Whatever the merchants can do, each state but the ends asks for something, and an answer moves it on."""
    for state in State:
        asked = next_step(state, means)
        if state in ENDS:
            assert asked is None
            continue
        assert asked is not None
        answers = {event for before, event in TABLE if before is state}
        match asked:
            case Ask():
                assert answers & {Event.ACCEPTED, Event.PINNED, Event.POSTED, Event.VOIDED}
            case Send():
                assert Event.SENT in answers
                assert WAITING[advance(state, Event.SENT)] is asked.step
            case Inquire():
                assert Event.DONE in answers
            case Event():
                assert asked in answers


def test_point_of_no_return():
    """Once the acceptor gave points that stand, the order ends cleared, or after they were taken back."""
    kept = reachable(State.CREDITED, frozenset({Event.LATE}))
    assert kept & ENDS == {State.CLEARED}
    assert reachable(State.RECALLING) & ENDS == {
        *(State.CLEARED, State.REVERSED),
        *(State.REFUSED, State.EXPIRED),  # names of what is undone; the journey knows which
    }
    for before, event in TABLE:
        if TABLE[before, event] is State.UNPINNING:
            assert event in {
                Event.REFUSED,
                Event.NOT_FOUND,
                Event.DONE,
                Event.TURNED_AWAY,
                Event.LATE,
            }
            if event is Event.DONE:
                assert before is State.REVERSING
            if event in {Event.TURNED_AWAY, Event.LATE}:
                assert before is State.PINNED


def test_a_reversal_only_goes_forward():
    """Rule V6: what the books took back is given back to the member, or people settle it; nothing else follows."""
    assert reachable(State.OWING) == REVERSAL
    assert {event for before, event in TABLE if before in REVERSAL} == {
        *(Event.SENT, Event.DONE, Event.NOT_FOUND, Event.CONCEDED),
    }


def test_books_that_cleared_are_never_voided():
    """After the clearing nothing is undone: only the capture is left."""
    assert reachable(State.POSTED) == BOOKED


def test_books_let_go_before_a_merchant_gives_back():
    """A release is asked only after the books voided, so that the writer's queue decides first."""
    before = {state for (state, _), after in TABLE.items() if after is State.VOIDED}
    for state in before - {State.RELEASING, State.DOUBTED}:
        events = {e for (s, e), after in TABLE.items() if s is state and after is State.VOIDED}
        assert events <= {Event.VOIDED, Event.GONE}, state
    assert State.VOIDED in LET_GO


def test_release_waits_for_the_hold():
    """Nothing is given back while it is not known whether the issuer holds: a release must not overtake its hold."""
    for (state, event), after in TABLE.items():
        if state in {State.HOLDING, State.DOUBTED} and after is State.VOIDED:
            assert event in {Event.DONE, Event.NOT_FOUND}
    assert next_step(State.DOUBTED, FULL) == Inquire(step=Step.HOLD)


def test_unknown_is_ended_by_the_merchants_word_alone():
    """A call whose outcome is not known is resolved by an answer, never by time: being late asks on."""
    for state, step in WAITING.items():
        for (before, event), after in TABLE.items():
            if before is not state:
                continue
            if event is Event.LATE:
                still = {State.DOUBTING, State.CREDITING_LATE}
                assert after in still, (state, step)
            else:
                assert event in {
                    *(Event.DONE, Event.REFUSED, Event.NOT_FOUND),
                    *(Event.STANDS, Event.CONCEDED),
                }


def test_late_credit_is_never_sent_again():
    """After the till was told no, a credit that never happened is not sent again."""
    assert TABLE[State.CREDITING_LATE, Event.NOT_FOUND] is State.UNPINNING
    assert State.PINNED not in reachable(State.CREDITING_LATE)


@pytest.mark.parametrize(
    ("means", "path"),
    [
        (FULL, [Step.HOLD, Ask.PIN, Step.CREDIT, Ask.POST, Step.CAPTURE]),
        (
            Means(captures=False, credits=True, reversible=True),
            [Step.HOLD, Ask.PIN, Step.CREDIT, Ask.POST],
        ),
        (
            Means(captures=True, credits=False, reversible=False),
            [Step.HOLD, Ask.POST, Step.CAPTURE],
        ),
        (Means(captures=False, credits=False, reversible=False), [Step.HOLD, Ask.POST]),
    ],
)
def test_what_merchants_can_do_shapes_the_way(means: Means, path: list[Step | Ask]):
    """A manifest alone decides which calls an order makes, and in which order."""
    happy = {
        Ask.ACCEPT: Event.ACCEPTED,
        Ask.PIN: Event.PINNED,
        Ask.POST: Event.POSTED,
    }
    state = State.WANTED
    asked: list[object] = []
    while (do := next_step(state, means)) is not None:
        match do:
            case Ask():
                state = advance(state, happy[do])
                asked.append(do)
            case Send():
                asked.append(do.step)
                state = advance(advance(state, Event.SENT), Event.DONE)
            case Event():
                state = advance(state, do)
    assert state is State.CLEARED
    assert asked == [Ask.ACCEPT, *path]


def test_intent_travels_with_the_state_before_the_books():
    """The first call after each question to the books is durable with the state that was written before it."""
    assert intent_with(State.WANTED, FULL) is Step.HOLD
    assert intent_with(State.HELD, FULL) is Step.CREDIT
    assert intent_with(State.CREDITED, FULL) is Step.CAPTURE
    redemption = Means(captures=True, credits=False, reversible=True)
    assert intent_with(State.HELD, redemption) is Step.CAPTURE
    assert intent_with(State.POSTED, FULL) is None


def test_too_late():
    """`decide_by` undoes what is not settled; a credit that cannot be taken back stands."""
    assert too_late(State.HOLDING, FULL) is Event.LATE
    assert too_late(State.POSTED, FULL) is None
    assert too_late(State.CREDITED, FULL) is Event.LATE
    hard = Means(captures=True, credits=True, reversible=False)
    assert advance(State.CREDITED, too_late(State.CREDITED, hard) or Event.LATE) is State.STANDING
    assert not LATE_STATES & (BOOKED | LET_GO | ENDS)


def test_impossible_events_are_refused():
    """What the table does not hold raises, and names state and event."""
    with pytest.raises(ValueError, match=r"CLEARED can take SENT"):
        advance(State.CLEARED, Event.SENT)


def test_diagram_holds_every_line():
    """The diagram is printed from the table and leaves nothing out."""
    text = diagram()
    for (state, event), after in TABLE.items():
        assert any(
            line.strip().startswith(f"{state.name} --> {after.name}:") and event.name in line
            for line in text.splitlines()
        )
    assert text.count("--> [*]") == len(ENDS)


def test_steps_and_sides():
    """Hold, capture and release are the issuer's; credit and its reversal the acceptor's."""
    assert set(Step) - AT_ISSUER == {Step.CREDIT, Step.REVERSE_CREDIT}
