"""What goes wrong at a simulated merchant, when, and how a person writes that down.

A simulator asks its plan once when a connection comes and once for each call, and does what it is
told. The plan knows nothing of protocols: a fault that a protocol cannot have is passed over there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping

    from adapters.kit.contract import Step

FAULT_HEADER: Final = "Tongdui-Sandbox-Fault"
"""Where the protocol has headers, a call may wish for its own fault: `timeout_after`, `latency=0.25`."""
CONNECT: Final = "connect"
"""Operation of an occasion that is a new connection and not yet a call."""
_SECONDS_MAX: Final = 3_600.0


class Fault(Enum):
    """One way to fail; the value is its public name."""

    LATENCY = "latency"
    """The answer comes, but `seconds` later."""
    TIMEOUT_BEFORE = "timeout_before"
    """No effect, and no answer."""
    TIMEOUT_AFTER = "timeout_after"
    """The effect, and no answer."""
    CUT = "cut"
    """The effect, and the connection is cut in the middle of the answer."""
    WRONG_AMOUNT = "wrong_amount"
    """The effect, and an answer that names one unit more."""
    GARBAGE = "garbage"
    """The effect, and bytes that are no answer."""
    TRUNCATED = "truncated"
    """The effect, and an answer that ends early but claims to be whole."""
    SLOW_BODY = "slow_body"
    """The effect, and an answer that trickles over `seconds`."""
    REPEAT_CALLBACK = "repeat_callback"
    """The callback comes more than once."""
    REORDER_CALLBACK = "reorder_callback"
    """The callback comes after the next one."""
    LATE_CALLBACK = "late_callback"
    """The callback comes `seconds` later."""
    WRONG_SIGNATURE = "wrong_signature"
    """The effect, and an answer or a callback that another key signed."""
    FORGET = "forget"
    """The effect and the answer, but the system does not know the reference when it is asked."""
    CLOCK_SKEW = "clock_skew"
    """The system's clock is `seconds` ahead in what it signs or reports."""
    MAINTENANCE = "maintenance"
    """No effect; the system says that it is closed."""
    TLS_FAILURE = "tls_failure"
    """The connection ends before a call can be sent on it."""
    DUPLICATE_FILE = "duplicate_file"
    """A response file comes twice."""
    LATE_FILE = "late_file"
    """A response file comes `seconds` later."""
    PARTIAL_FILE = "partial_file"
    """A response file is first seen half written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A fault, and how long it takes where that has a meaning.

    Attributes:
        fault: What goes wrong.
        seconds: Delay, trickle, or how far the clock is off.
    """

    fault: Fault
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """Something that a fault can befall.

    Attributes:
        operation: Name of the operation (`hold`, `status`, `statement`, …), or `CONNECT`.
        step: The step, for a call that moves points or asks about one.
        reference: The call's reference; empty where there is none.
        wish: Value of the header `FAULT_HEADER`; empty where there is none.
    """

    operation: str
    step: Step | None = None
    reference: str = ""
    wish: str = ""


class Plan(Protocol):
    """Says what befalls each occasion."""

    def draw(self, occasion: Occasion) -> Trouble | None:
        """What goes wrong now; None if nothing does."""
        ...


@dataclass(slots=True, kw_only=True)
class Rule:
    """Befalls some occasions: those that match, from the `nth` on, `times` times.

    Attributes:
        trouble: What befalls them.
        operation: Only this operation; any but a new connection if empty.
        step: Only this step; any if None.
        reference: Only this reference; any if empty.
        nth: The first matching occasion that is hit, counted from 1.
        times: How many are hit.
    """

    trouble: Trouble
    operation: str = ""
    step: Step | None = None
    reference: str = ""
    nth: int = 1
    times: int = 1
    _met: int = field(default=0, init=False)

    def hits(self, occasion: Occasion) -> bool:
        """Whether this occasion is hit; counts it if it matches."""
        named = self.operation or (occasion.operation if occasion.operation != CONNECT else "")
        matches = (
            occasion.operation == named
            and self.step in (None, occasion.step)
            and self.reference in ("", occasion.reference)
        )
        self._met += matches
        return matches and self.nth <= self._met < self.nth + self.times


class Scripted:
    """Rules in order; the first that hits decides."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        """Take the rules; more can be added while the simulator runs."""
        self._rules = list(rules)

    def add(self, rule: Rule) -> None:
        """Add one rule after the others."""
        self._rules.append(rule)

    def draw(self, occasion: Occasion) -> Trouble | None:
        """What the first rule that hits says; every rule counts every occasion that matches it."""
        hits = [rule.trouble for rule in self._rules if rule.hits(occasion)]
        return hits[0] if hits else None


class Seeded:
    """Faults drawn at given rates; the same seed and the same calls give the same faults."""

    def __init__(
        self, rng: random.Random, rates: Mapping[Fault, float], *, seconds: float = 0.5
    ) -> None:
        """Take the rates.

        Args:
            rng: Where faults are drawn from.
            rates: Share of occasions that each fault befalls, from 0 to 1.
            seconds: Longest delay; each is drawn between none and this.

        Raises:
            ValueError: A rate is no share, or they add up to more than 1.
        """
        if any(not 0 <= rate <= 1 for rate in rates.values()) or sum(rates.values()) > 1:
            raise ValueError(f"rates are shares of the whole: {dict(rates)}")
        self._rng = rng
        self._rates = sorted(rates.items(), key=lambda item: item[0].value)
        self._seconds = seconds

    def draw(self, occasion: Occasion) -> Trouble | None:
        """Draw; a new connection can only fail as connections do, and nothing else can fail so."""
        point = self._rng.random()
        for fault, rate in self._rates:
            if (fault is Fault.TLS_FAILURE) != (occasion.operation == CONNECT):
                continue
            if point < rate:
                return Trouble(fault=fault, seconds=self._rng.random() * self._seconds)
            point -= rate
        return None


class Wished:
    """Does what a call's own header wishes; what that does not say is left to another plan."""

    def __init__(self, other: Plan | None = None) -> None:
        """Take the plan for calls that wish for nothing."""
        self._other = other

    def draw(self, occasion: Occasion) -> Trouble | None:
        """The wish if there is one.

        Raises:
            SchemaError: The wish cannot be read.
        """
        if occasion.wish:
            return parse_trouble(occasion.wish)
        return self._other.draw(occasion) if self._other else None


def parse_trouble(text: str) -> Trouble:
    """Read a fault as a person writes it: its name, and after `=` the seconds where it takes some.

    Raises:
        SchemaError: No fault is called so, or the seconds are no number from 0 to 3600.
    """
    name, _, number = text.strip().partition("=")
    try:
        fault = Fault(name.strip())
    except ValueError:
        names = ", ".join(fault.value for fault in Fault)
        raise SchemaError(FAULT_HEADER, f"No fault is called {name!r}; there are {names}") from None
    try:
        seconds = float(number) if number else 0.0
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _SECONDS_MAX:
        raise SchemaError(FAULT_HEADER, f"Expected seconds from 0 to 3600 after {name}=")
    return Trouble(fault=fault, seconds=seconds)
