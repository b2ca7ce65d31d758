"""What happens in a history, drawn from its seed: who wants what when, and what goes wrong.

A plan is data, so that a failing one can be made smaller (`exchange.simulation.shrink`). Each order
and each fault is drawn from a generator of its own: leaving one out changes no other.

Every fault ends, and ends early enough that the promises hold which merchants give in their
manifests: nothing that a merchant's system calls unknown for good may still be on its way there.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from adapters.kit.simulator.faults import CONNECT, Fault
from exchange.simulation.hosted import HOSTED
from exchange.simulation.network import Disturbance, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

SECOND_US: Final = 1_000_000
CAST: Final = {
    "till-town": 5,
    "noodle-house": 3,
    "orbit-coffee": 3,
    "bright-optics": 2,
    "skyward-air": 2,
    "silk-road-mall": 1,
    HOSTED: 3,
}
"""Merchants that may appear, by the names of their folders, and how often: fewer of those whose protocol
costs a processor the most."""
CALL_BACK: Final = frozenset({"silk-road-mall"})
"""Those of them that can tell the outcome of a call by a callback alone."""
MERCHANTS_MAX: Final = 3
WORKERS: Final = ("worker-1", "worker-2")
WRITER: Final = "writer"
TILL: Final = "till"

_ORDERS_A_SECOND: Final = 10
_LEAST_SPAN_US: Final = 3 * SECOND_US
_RUSH: Final = 5
_RUSH_US: Final = 15_000
_RUSHED: Final = 20
"""In a history of more than so many orders they come in rushes of a few at a time, within a moment, so that they meet
in one commit, one frame and one queue."""
_AHEAD_US_MAX: Final = 20 * SECOND_US
"""How far a merchant's clock may be off all the time: less than any signature allows."""
_SKEW_SECONDS_MAX: Final = 900.0
_CLOSED_US_MAX: Final = 6 * SECOND_US
_FAULT_US_MAX: Final = (200_000, SECOND_US, 4 * SECOND_US)
"""Short, middling and long faults, at most. What a partition holds back comes up to twice as late, and
still before the shortest `final_after_seconds` of the cast has passed."""
_TROUBLES: Final = {
    Trouble.PARTITION: 2,
    Trouble.STALL: 4,
    Trouble.SLOW: 1,
    Trouble.REFUSE: 1,
    Trouble.CUT: 3,
}
_DELAYS: Final = (Trouble.PARTITION, Trouble.STALL, Trouble.SLOW)

_MISBEHAVIOURS: Final = (
    (Fault.LATENCY, 3),
    (Fault.TIMEOUT_BEFORE, 3),
    (Fault.TIMEOUT_AFTER, 5),
    (Fault.CUT, 4),
    (Fault.GARBAGE, 2),
    (Fault.TRUNCATED, 2),
    (Fault.SLOW_BODY, 2),
    (Fault.MAINTENANCE, 3),
    (Fault.REPEAT_CALLBACK, 2),
    (Fault.REORDER_CALLBACK, 2),
    (Fault.LATE_CALLBACK, 2),
    (Fault.CLOCK_SKEW, 2),
    (Fault.FORGET, 2),
    (Fault.WRONG_AMOUNT, 1),
)
"""How merchants' systems misbehave, and how often one is drawn rather than another. What only people can
mend, a wrong amount, the history's own people do."""
_AT_CONNECT: Final = (Fault.MAINTENANCE, Fault.CLOCK_SKEW, Fault.TLS_FAILURE)
"""How a new connection fails, where the protocol keeps one."""

_OPERATIONS: Final = {
    "hold": 3,
    "credit": 6,
    "capture": 3,
    "status": 3,
    "release": 2,
    "reverse_credit": 2,
    CONNECT: 1,
}
"""Where, and how often."""
_FORGETTABLE: Final = frozenset({"hold", "capture", "release", "reverse_credit"})
"""Calls that may be forgotten: of a credit that came too late, a system's `not found` is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A merchant that takes part, and what its system is like this time, whatever its manifest says.

    Attributes:
        code: Its code.
        cap_units: Its net debit cap, in units of its points.
        burns: Whether points are taken at once, and given back where the order does not stand; else held.
        reversible: Whether a credit can be taken back.
        tells: Whether it can be asked what became of a call.
        repeat_safe: Whether a repeat has no second effect; it must not where it cannot be asked.
        calls_back: Whether the outcome of a call is told by a callback alone.
        ahead_us: How far its clock is ahead of ours.
    """

    code: str
    cap_units: int
    burns: bool = False
    reversible: bool = True
    tells: bool = True
    repeat_safe: bool = True
    calls_back: bool = False
    ahead_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """A member at a till who wants to spend points.

    Attributes:
        no: Number of the order in its history, from 1.
        at_us: When, microseconds of the history.
        issuer: Place of the issuer in the plan's parts.
        acceptor: Place of the acceptor.
        member: Picks the member at the issuer, and at the acceptor.
        units: Smallest units to spend.
        credits: Whether new points are wanted at the acceptor; else the value pays for goods.
        decide_us: How long the till waits.
    """

    no: int
    at_us: int
    issuer: int
    acceptor: int
    member: int
    units: int
    credits: bool
    decide_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A process is killed, and started again a while later; or it is only frozen, and goes on where it was.

    Attributes:
        host: Which.
        at_us: When.
        down_us: For how long there is none.
        frozen: Whether the same process goes on.
    """

    host: str
    at_us: int
    down_us: int
    frozen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAway:
    """The store of journeys cannot be reached for a while."""

    from_us: int
    to_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Misbehaviour:
    """A merchant's system fails at some calls.

    Attributes:
        merchant: Its code.
        operation: At which operation.
        fault: How.
        seconds: For how long, where that has a meaning.
        nth: At the how manieth such call, from 1.
        times: At how many from there on.
    """

    merchant: str
    operation: str
    fault: Fault
    seconds: float
    nth: int
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """A merchant's system is closed for maintenance, and says so, to every call and new connection.

    Attributes:
        merchant: Its code.
        from_us: When it closes.
        to_us: When it opens.
    """

    merchant: str
    from_us: int
    to_us: int


Trial = Disturbance | Death | StoreAway | Misbehaviour | Closure
"""One thing that goes wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a history depends on.

    Attributes:
        seed: Names the generators of everything that is drawn on the way, such as latencies.
        parts: The merchants that take part.
        orders: What is wanted.
        trials: What goes wrong.
    """

    seed: int
    parts: tuple[Part, ...]
    orders: tuple[Spend, ...]
    trials: tuple[Trial, ...]


def draw_plan(seed: int, orders: int, *, faults: bool = True) -> Plan:
    """Draw the plan of a history.

    Args:
        seed: The seed.
        orders: How many orders are wanted.
        faults: Whether anything goes wrong.
    """
    rng = _rng(seed, "plan")
    merchants = _draw_cast(rng, rng.choice((2, 2, MERCHANTS_MAX)))
    span_us = max(_LEAST_SPAN_US, orders * SECOND_US // _ORDERS_A_SECOND)
    trials_count = rng.randrange(1, 6 + orders // 2) if faults else 0
    parts = tuple(_draw_part(_rng(seed, code), code, orders) for code in merchants)
    return Plan(
        seed=seed,
        parts=parts,
        orders=tuple(
            _draw_spend(
                _rng(seed, f"order {no}"), no, _rush_us(seed, no, span_us, orders), len(merchants)
            )
            for no in range(1, orders + 1)
        ),
        trials=_bounded(
            (
                _draw_trial(_rng(seed, f"trial {no}"), merchants, span_us, orders)
                for no in range(trials_count)
            ),
            unsafe={part.code for part in parts if not part.repeat_safe},
        ),
    )


def _bounded(trials: Iterable[Trial], *, unsafe: Container[str]) -> tuple[Trial, ...]:
    """Leave out what breaks the promises on which everything is built.

    One delay for each way is enough: two would hold bytes back too long; and one closure for each merchant, or a long
    history would be little else. A system that forgets must at
    least not book a repeat again, or nobody could know what it did.

    Args:
        trials: What was drawn.
        unsafe: Merchants whose systems book a repeat again.
    """
    kept: list[Trial] = []
    delayed: set[tuple[str, str]] = set()
    closed: set[str] = set()
    for trial in trials:
        if isinstance(trial, Disturbance) and trial.trouble in _DELAYS:
            way = trial.source, trial.target
            if way in delayed:
                continue
            delayed.add(way)
        if isinstance(trial, Closure):
            if trial.merchant in closed:
                continue
            closed.add(trial.merchant)
        if (
            isinstance(trial, Misbehaviour)
            and trial.fault is Fault.FORGET
            and (trial.merchant in unsafe or trial.operation not in _FORGETTABLE)
        ):
            continue
        kept.append(trial)
    return tuple(kept)


def describe(piece: Trial | Spend | Part) -> str:
    """Write a fault, an order or a merchant as people read it in a trace."""
    told = []
    for each in fields(piece):
        value: Any = getattr(piece, each.name)
        if each.name.endswith("_us"):
            told.append(f"{each.name.removesuffix('_us')}={value / SECOND_US:.6f}s")
        else:
            told.append(f"{each.name}={getattr(value, 'value', value)}")
    return " ".join((type(piece).__name__.lower(), *told))


def _rng(seed: int, what: str) -> random.Random:
    """Make the generator of one part of a history; a text seeds the same in every process."""
    return random.Random(f"tongdui {seed} {what}")  # noqa: S311 - repeatable is the point


def _draw_cast(rng: random.Random, count: int) -> tuple[str, ...]:
    """Draw merchants that all differ."""
    left = dict(CAST)
    drawn = []
    for _ in range(count):
        (code,) = rng.choices(list(left), list(left.values()))
        del left[code]
        drawn.append(code)
    return tuple(drawn)


def _draw_part(rng: random.Random, code: str, orders: int) -> Part:
    tells = rng.random() < 0.8
    return Part(
        code=code,
        # In a third of the histories some caps bind.
        cap_units=rng.choice((1_000_000, 1_000_000, 40 * orders)),
        burns=rng.random() < 0.3,
        reversible=rng.random() < 0.8,
        tells=tells,
        repeat_safe=not tells or rng.random() < 0.5,
        calls_back=code in CALL_BACK and rng.random() < 0.3,
        ahead_us=rng.choice((0, 0, rng.randrange(-_AHEAD_US_MAX, _AHEAD_US_MAX))),
    )


def _rush_us(seed: int, no: int, span_us: int, orders: int) -> tuple[int, int]:
    """From when to when an order may be wanted."""
    if orders <= _RUSHED:
        return 0, span_us
    from_us = _rng(seed, f"rush {no // _RUSH}").randrange(span_us)
    return from_us, from_us + _RUSH_US


def _draw_spend(rng: random.Random, no: int, within_us: tuple[int, int], merchants: int) -> Spend:
    issuer, acceptor = rng.sample(range(merchants), 2)
    return Spend(
        no=no,
        at_us=rng.randrange(*within_us),
        issuer=issuer,
        acceptor=acceptor,
        member=rng.randrange(1_000),
        # Mostly small, sometimes more than the member has.
        units=rng.choice((rng.randrange(1, 100), rng.randrange(1, 100), rng.randrange(1, 2_000))),
        credits=rng.random() < 0.7,
        decide_us=rng.choice((3_000_000, 1_000_000, 500_000, 10_000_000)),
    )


def _draw_trial(rng: random.Random, merchants: Sequence[str], span_us: int, orders: int) -> Trial:
    draw: Callable[..., Trial] = rng.choices(
        (_draw_disturbance, _draw_death, _draw_store_away, _draw_closure, _draw_misbehaviour),
        (4, 3, 1, 1, 6),
    )[0]
    return draw(rng, merchants, span_us, orders)


def _draw_length_us(rng: random.Random) -> int:
    return rng.randrange(1_000, rng.choice(_FAULT_US_MAX))


def _draw_disturbance(
    rng: random.Random, merchants: Sequence[str], span_us: int, _: int
) -> Disturbance:
    ends = [rng.choice(WORKERS), rng.choice((*merchants, *merchants, WRITER))]
    rng.shuffle(ends)
    (trouble,) = rng.choices(list(_TROUBLES), list(_TROUBLES.values()))
    from_us = rng.randrange(span_us)
    figure = 0
    match trouble:
        case Trouble.CUT:
            figure = rng.randrange(600)
        case Trouble.STALL:
            figure = rng.randrange(500_000, 6 * SECOND_US)
        case Trouble.SLOW:
            figure = rng.randrange(10_000, 2 * SECOND_US)
    return Disturbance(
        trouble=trouble,
        source=ends[0],
        target=ends[1],
        from_us=from_us,
        to_us=from_us + _draw_length_us(rng),
        figure=figure,
    )


def _draw_death(rng: random.Random, merchants: Sequence[str], span_us: int, _: int) -> Death:
    host = rng.choice((*WORKERS, *WORKERS, WRITER, rng.choice(merchants)))
    return Death(
        host=host,
        at_us=rng.randrange(span_us),
        down_us=_draw_length_us(rng),
        # A frozen writer is the clearing pipeline's to survive, and a frozen merchant is a slow one.
        frozen=host in WORKERS and rng.random() < 0.4,
    )


def _draw_store_away(rng: random.Random, _: Sequence[str], span_us: int, __: int) -> StoreAway:
    from_us = rng.randrange(span_us)
    return StoreAway(from_us=from_us, to_us=from_us + rng.randrange(1_000, SECOND_US))


def _draw_closure(rng: random.Random, merchants: Sequence[str], span_us: int, _: int) -> Closure:
    from_us = rng.randrange(span_us)
    return Closure(
        merchant=rng.choice(merchants),
        from_us=from_us,
        to_us=from_us + rng.randrange(1_000, _CLOSED_US_MAX),
    )


def _draw_misbehaviour(
    rng: random.Random, merchants: Sequence[str], _: int, orders: int
) -> Misbehaviour:
    faults, weights = zip(*_MISBEHAVIOURS, strict=True)
    operation = rng.choices(list(_OPERATIONS), list(_OPERATIONS.values()))[0]
    fault = rng.choices(faults, weights)[0]
    if operation == CONNECT:
        fault = rng.choice(_AT_CONNECT)
    return Misbehaviour(
        merchant=rng.choice(merchants),
        operation=operation,
        fault=fault,
        seconds=rng.random() * (_SKEW_SECONDS_MAX if fault is Fault.CLOCK_SKEW else 3),
        nth=rng.randrange(1, 2 + orders // 3),
        times=rng.choice((1, 1, 2, 5)),
    )
