"""Where a batch stands with a merchant: confirmed, objected to, waited for, or silent.

Source: settlement/RULES.md, rules Z1 to Z5.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from schemas.files.confirmation import Verdict

CONFIRM_DAYS: Final = 7
"""So many days after the day on which its cycle closed, a batch is to be confirmed, unless its calendar differs."""
_BEIJING: Final = timezone(timedelta(hours=8))


@unique
class State(StrEnum):
    """Where a batch stands with a merchant."""

    WAITING = "waiting"
    """It has said nothing, and need not yet."""
    CONFIRMED = "confirmed"
    OBJECTED = "objected"
    SILENT = "silent"
    """It has said nothing in time. That is no consent, and counts for none."""


class Said(NamedTuple):
    """An entry: what a merchant said, and when it was received."""

    verdict: Verdict
    received_at: datetime


class Standing(NamedTuple):
    """Where a batch stands with a merchant.

    Attributes:
        state: By the last entry.
        late: Whether the first entry came after the batch was due.
        since: When the last entry was received; None where there is none.
    """

    state: State
    late: bool
    since: datetime | None


def due_at(closed_at: datetime, days: int = CONFIRM_DAYS) -> datetime:
    """When a batch is to be confirmed: the end of the last of so many days in Beijing (Z2).

    Args:
        closed_at: When its cycle closed.
        days: What the calendar says that was in force when its cycle opened.
    """
    last = (closed_at.astimezone(_BEIJING) - timedelta(microseconds=1)).date()
    return datetime.combine(last + timedelta(days=days + 1), time(), _BEIJING)


def standing(said: list[Said], *, due: datetime, now: datetime) -> Standing:
    """Say where a batch stands with a merchant (Z3, Z4).

    Args:
        said: The merchant's entries, oldest first.
        due: When the batch is to be confirmed.
        now: Instant.
    """
    if not said:
        return Standing(State.SILENT if now >= due else State.WAITING, late=now >= due, since=None)
    last = said[-1]
    return Standing(State(last.verdict), late=said[0].received_at >= due, since=last.received_at)
