"""Answers that came by themselves, of callbacks and of people: durable, and not looked at yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.core.journey import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapters.kit.contract import Step
    from exchange.core.journey import Line


class Inbox:
    """What was told to one journey."""

    def __init__(self) -> None:
        """Begin empty."""
        self._lines: list[Line] = []
        self._seen: set[int] = set()

    def __iter__(self) -> Iterator[Line]:
        """The lines that were there at the beginning, so that one may be dropped on the way."""
        return iter(tuple(self._lines))

    def put(self, line: Line) -> bool:
        """Take a line; False if it was here before."""
        if line.line_no in self._seen:
            return False
        if line.line_no:
            self._seen.add(line.line_no)
        self._lines.append(line)
        return True

    def drop(self, line: Line) -> None:
        """Look at a line no more."""
        self._lines.remove(line)

    def take(self, step: Step) -> Line | None:
        """The first answer to a call, which is here no more; None if there is none."""
        for line in self._lines:
            if line.step is step and line.outcome is not None:
                self._lines.remove(line)
                return line
        return None

    def has(self, step: Step | None) -> bool:
        """Whether anything about a call is here."""
        return any(line.step is step for line in self._lines)

    def has_of_people(self, step: Step) -> bool:
        """Whether people have said what became of a call."""
        return any(line.step is step and line.source is Source.PEOPLE for line in self._lines)
