"""Log lines: one JSON object each, for programs to read and people to grep."""

from __future__ import annotations

import logging
import sys
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

INFO = 20
WARNING = 30
_ROW = "\nDETAIL:"
"""Where a message of PostgreSQL's begins to quote the row that it is about."""


def log_to(stream: IO[bytes] | None = None, *, level: int = INFO, once: bool = False) -> None:
    """Send log lines to a binary stream, never to standard output, which is for results.

    Args:
        stream: Standard error if None.
        level: What is below it is not written.
        once: Whether this is the process's last word on it, so that loggers need not look it up for each line, and
            one that is not written costs next to nothing.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            without_rows,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(cast("BinaryIO", stream or sys.stderr.buffer)),
        cache_logger_on_first_use=once,
    )
    # Libraries speak through the standard library, with tracebacks for what is waited for anyway.
    logging.basicConfig(handlers=[_Forward(level)], level=level, force=True)


def without_rows(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Leave out what PostgreSQL's errors quote of rows: a member's id may stand there."""
    for name, value in line.items():
        if isinstance(value, str) and _ROW in value:
            line[name] = value.partition(_ROW)[0]
    said = line.get("exc_info")
    error = said if isinstance(said, BaseException) else sys.exc_info()[1] if said else None
    for each in _chain(error):
        if getattr(each, "sqlstate", None) and getattr(each, "detail", None):
            each.detail = None  # type: ignore[attr-defined] # it has one
    return line


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came from."""
    seen: set[int] = set()
    open_ = [error]
    while open_:
        each = open_.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            open_ += [each.__cause__, each.__context__]
            if isinstance(each, BaseExceptionGroup):
                open_ += each.exceptions


class _Forward(logging.Handler):
    """Turns a library's log record into one of our lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line."""
        error = record.exc_info[1] if record.exc_info else None
        structlog.get_logger().log(
            record.levelno,
            "library.logged",
            library=record.name,
            detail=record.getMessage(),
            error=f"{type(error).__name__}: {error}" if error else "",
        )
