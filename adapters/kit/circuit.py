"""A circuit breaker: after failures in a row nothing is sent for a while, then one call tries.

Plain arithmetic on a clock that the caller reads, so that it follows a virtual event loop too. That,
and letting exactly one call try, is why it is no library's: those found read the machine's clock, and
let every waiting caller through at once when the while is over.
"""

from __future__ import annotations


class Circuit:
    """Closed, open, or trying: the state of the way to one merchant's system.

    | From | Event | To |
    |---|---|---|
    | closed | as many failures in a row as allowed | open |
    | open | its time is over, and a call asks | trying |
    | trying | the call succeeds | closed |
    | trying | the call fails | open |
    | trying | the call was not made | open, and its time is over |
    """

    def __init__(self, *, failures: int, seconds: float) -> None:
        """Start closed.

        Args:
            failures: Failures in a row that open it.
            seconds: How long it stays open.
        """
        self._failures_max = failures
        self._seconds = seconds
        self._failures = 0
        self._open_until: float | None = None
        self._trying = False

    @property
    def closed(self) -> bool:
        """Whether every call may go through."""
        return self._open_until is None

    def wait_seconds(self, now: float) -> float:
        """Seconds until a call may go through; 0 if one may now.

        Args:
            now: The loop's clock, seconds.
        """
        if self._open_until is None:
            return 0.0
        if self._trying:
            return self._seconds
        return max(0.0, self._open_until - now)

    def admit(self) -> None:
        """Let a call through, for which `wait_seconds` was 0; it must be told how that call ended."""
        self._trying = self._open_until is not None

    def succeeded(self) -> None:
        """A call was answered."""
        self._failures = 0
        self._open_until = None
        self._trying = False

    def failed(self, now: float) -> None:
        """A call was not answered, or not with sense."""
        self._failures += 1
        was_open = self._open_until is not None and not self._trying
        if self._trying or (self._failures >= self._failures_max and not was_open):
            self._open_until = now + self._seconds
        self._trying = False

    def abandoned(self) -> None:
        """A call that was let through told nothing: it was cancelled."""
        self._trying = False
