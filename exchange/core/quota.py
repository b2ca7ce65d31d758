"""How often somebody may ask: a quota over a window, kept as a leaky bucket in whole numbers.

A quota of 300 in 10 seconds lets 300 units in at once and 30 a second from then on. This is the generic cell rate
algorithm (ITU-T I.371, as a virtual schedule): what is remembered is the instant at which everything that was let
in will have drained. Time is counted in nanoseconds times the quota's units, so a unit drains in exactly
`window_seconds` times a billion of them: nothing is rounded, and nothing drifts.

A request is let in while at least one unit is left; what it takes beyond that is owed, and keeps the next one out for
longer. So a large request of orders needs no quota of its own size, and it never waits for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Policy = Literal["orders", "requests"]
"""What is counted: orders and other commands to the books, each element of a large request; or all other requests."""

_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """At most so many units in a window.

    Attributes:
        units: How many; greater than zero.
        window_seconds: Length of the window; greater than zero.
    """

    units: int
    window_seconds: int

    def __post_init__(self) -> None:
        """Check what no code path may break."""
        if self.units < 1 or self.window_seconds < 1:
            raise ValueError(f"a quota lets something in: {self}")

    def __str__(self) -> str:
        """As the command line takes it, and as the trail keeps it."""
        return f"{self.units}/{self.window_seconds}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one merchant may ask; None is no limit.

    Attributes:
        orders: Commands to the books: orders and their ends, reversals, baskets' parts, purchases, accruals, transfers.
        requests: All other requests.
    """

    orders: Quota | None
    requests: Quota | None


USUAL: Final = Limits(
    orders=Quota(units=30_000, window_seconds=10),
    requests=Quota(units=3_000, window_seconds=10),
)
"""What a merchant may ask for whom nothing else was set: three full large requests at once, 3,000 orders a second."""
UNLIMITED: Final = Limits(orders=None, requests=None)
"""What the house may ask of itself."""


class Bucket:
    """What is left of one quota."""

    __slots__ = ("_capacity", "_cost", "_drained", "_rate")

    def __init__(self, quota: Quota) -> None:
        """Begin with the whole quota."""
        self._rate = quota.units
        self._cost = quota.window_seconds * _SECOND
        self._capacity = self._rate * self._cost
        self._drained = 0

    def take(self, units: int, now_ns: int) -> bool:
        """Take units, if at least one is left; what is taken beyond the rest is owed.

        Args:
            units: How many; 0 only asks.
            now_ns: Clock that never runs back, nanoseconds.
        """
        now = now_ns * self._rate
        drained = max(self._drained, now)
        if drained - now + self._cost > self._capacity:
            return False
        self._drained = drained + units * self._cost
        return True

    def left(self, now_ns: int) -> tuple[int, int]:
        """Whole units that are left, and the seconds, rounded up, until there is one more; 0 where all are there."""
        owed = self._drained - now_ns * self._rate
        if owed <= 0:
            return self._rate, 0
        left = max(0, (self._capacity - owed) // self._cost)
        one_more = self._capacity - (left + 1) * self._cost
        return left, -((one_more - owed) // (self._rate * _SECOND))
