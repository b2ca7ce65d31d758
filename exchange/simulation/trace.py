"""What happened, line by line: everything that the real code logs, and what the world does to it.

A line is kept as it came and written out only when somebody reads it, since most histories are run for
their checks alone.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from exchange.simulation.loop import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.simulation.loop import VirtualLoop


class Trace:
    """The lines of one history."""

    def __init__(self, loop: VirtualLoop) -> None:
        """Start empty, on the clock of a loop."""
        self._loop = loop
        self._lines: list[tuple[float, str, str, dict[str, Any]]] = []
        self._ended = False

    def end(self) -> None:
        """Take no more lines: the history is over, and what is wound up now belongs to no history."""
        self._ended = True

    def note(self, event: str, /, **fields: Any) -> None:
        """Take one line; it belongs to the host that runs."""
        if not self._ended:
            self._lines.append((self._loop.time(), HOST.get().name, event, fields))

    def __len__(self) -> int:
        return len(self._lines)

    def lines(self) -> list[str]:
        """Write the lines out: instant, host, event, fields in the order given."""
        return [
            " ".join(
                (
                    f"{seconds:12.6f}",
                    host.ljust(12),
                    event,
                    *(f"{name}={_text(value)}" for name, value in fields.items()),
                )
            )
            for seconds, host, event, fields in self._lines
        ]

    def digest(self) -> str:
        """SHA-256 of the lines, as 64 hex digits."""
        return hashlib.sha256("\n".join(self.lines()).encode()).hexdigest()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take every log line of the real code for the length of the block, and print none."""
        before = structlog.get_config()
        disabled = logging.root.manager.disable
        structlog.configure(
            processors=[],
            wrapper_class=_Recorder,  # type: ignore[arg-type] # of its protocol, what is logged with is here
            logger_factory=lambda *_: self,
            context_class=dict,
            cache_logger_on_first_use=False,
        )
        # Libraries log what they were made to meet; what nobody caught comes to the loop's handler.
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)
            structlog.configure(**before)


class _Recorder:
    """What the real code logs with: the shortest way from an event to its line."""

    __slots__ = ("_bound", "_trace")

    def __init__(self, trace: Trace, processors: object, context: dict[str, Any]) -> None:  # noqa: ARG002 - structlog's shape
        self._trace = trace
        self._bound = context

    def bind(self, **fields: Any) -> _Recorder:
        """Have fields in every line."""
        return _Recorder(self._trace, None, self._bound | fields)

    def debug(self, event: str, **fields: Any) -> None:
        """Take a line of every day."""
        self._trace.note(event, **self._bound, **fields)

    info = debug

    def warning(self, event: str, **fields: Any) -> None:
        """Take a line that says how grave it is."""
        self._trace.note(event, **self._bound, **fields, level="warning")

    def error(self, event: str, **fields: Any) -> None:
        """Take a line that says how grave it is."""
        self._trace.note(event, **self._bound, **fields, level="error")

    def exception(self, event: str, **fields: Any) -> None:
        """Take a line that says how grave it is; the exception itself is no matter of the trace."""
        self._trace.note(event, **self._bound, **fields, level="exception")


def _text(value: object) -> str:
    """Write one value without spaces that could be mistaken for the next field."""
    text = value.hex() if isinstance(value, bytes) else str(value)
    return repr(text) if not text or " " in text else text
