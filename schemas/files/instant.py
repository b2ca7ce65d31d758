"""Instants as files write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

INSTANT_US_MIN: Final = -62_135_596_800_000_000
INSTANT_US_LIMIT: Final = 253_402_300_800_000_000
"""Years 1 to 9999, in microseconds since 1970-01-01 UTC."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@lru_cache(maxsize=4096)
def _second_text(second: int) -> str:
    """Date and time to the second; lines come in runs of the same one."""
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")


def instant_text(at_us: int) -> str:
    """Write an instant as RFC 3339 with six decimals in UTC.

    Args:
        at_us: Microseconds since 1970-01-01 UTC; years 1 to 9999.
    """
    second, us = divmod(at_us, 1_000_000)
    return f"{_second_text(second)}.{us:06d}Z"


def microseconds(at: datetime) -> int:
    """Whole microseconds since 1970-01-01 UTC of a time with a zone."""
    return (at - _EPOCH) // _MICROSECOND
