"""Faults that are nobody's wish: the sender's malformed message, and the world's absence."""

from __future__ import annotations


class SchemaError(ValueError):
    """What was sent is malformed.

    Attributes:
        path: Where, in the notation `$.orders[3].units`.
        detail: What is wrong there, one sentence.
    """

    def __init__(self, path: str, detail: str) -> None:
        """Keep path and detail apart, so that an answer can name the field."""
        super().__init__(f"{path}: {detail}")
        self.path = path
        self.detail = detail


class Unavailable(Exception):  # noqa: N818 - it is a state of the world, as DNS and HTTP name it
    """Something that is needed does not answer now; nothing was refused, and trying again is right.

    Attributes:
        retry_after_seconds: When to try again.
    """

    def __init__(self, detail: str, *, retry_after_seconds: int = 1) -> None:
        """Say what does not answer."""
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds
