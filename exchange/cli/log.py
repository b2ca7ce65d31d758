"""Log lines: one JSON object each, for programs to read and people to grep."""

from __future__ import annotations

import logging
import sys
from typing import IO, BinaryIO, cast

import orjson
import structlog

INFO = 20
WARNING = 30


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
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(cast("BinaryIO", stream or sys.stderr.buffer)),
        cache_logger_on_first_use=once,
    )
    # Libraries speak through the standard library, with tracebacks for what is waited for anyway.
    logging.basicConfig(handlers=[_Forward(level)], level=level, force=True)


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
