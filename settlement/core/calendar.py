"""Calendars: when cycles cut off.

Source: settlement/RULES.md, rules T1 to T4 and T8.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec

from settlement.core.arrangement import CODE_PATTERN, MAIN_CODE
from settlement.core.confirmation import CONFIRM_DAYS

HORIZON_DAYS = 400
"""How far ahead a cut-off is looked for; a calendar that is closed for longer is refused."""


class Calendar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When cycles cut off, in the wall time of a named zone.

    Attributes:
        zone: IANA name of the time zone.
        times: Local times of day, `HH:MM`; several make intraday cycles.
        weekdays: Days on which there are cut-offs, 1 for Monday to 7 for Sunday.
        holidays: Local dates without a cut-off; their orders belong to the next cycle.
        confirm_days: So many days after the day on which a cycle closed, its batch is to be confirmed (Z2).
    """

    zone: str = "Asia/Shanghai"
    times: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=r"\A([01][0-9]|2[0-3]):[0-5][0-9]\Z")], ...],
        msgspec.Meta(min_length=1),
    ] = ("00:00",)
    weekdays: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=1, le=7)], ...], msgspec.Meta(min_length=1)
    ] = (1, 2, 3, 4, 5, 6, 7)
    holidays: tuple[date, ...] = ()
    confirm_days: Annotated[int, msgspec.Meta(ge=1, le=60)] = CONFIRM_DAYS

    def next_cut_off(self, after: datetime) -> datetime:
        """The first cut-off later than `after`, in UTC.

        A local time that the zone skips is read with the offset before the change; one that happens
        twice is taken the first time (PEP 495, fold 0).

        Raises:
            ValueError: None within 400 days, or the zone is unknown.
        """
        try:
            zone = ZoneInfo(self.zone)
        except (KeyError, OSError, ValueError) as error:
            raise ValueError(f"unknown time zone: {self.zone}") from error
        day = after.astimezone(zone).date() - timedelta(days=1)
        for _ in range(HORIZON_DAYS):
            if day.isoweekday() in self.weekdays and day not in self.holidays:
                for text in sorted(self.times):
                    local = datetime.combine(day, time.fromisoformat(text), zone)
                    at = local.astimezone(UTC)
                    if at > after:
                        return at
            day += timedelta(days=1)
        raise ValueError(f"no cut-off within {HORIZON_DAYS} days after {after.isoformat()}")


class CalendarChange(Calendar, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A calendar that somebody wants, and whose it is.

    Attributes:
        arrangement: Code of the arrangement whose cycles follow it.
    """

    arrangement: Annotated[str, msgspec.Meta(pattern=CODE_PATTERN)] = MAIN_CODE

    @property
    def calendar(self) -> Calendar:
        """The calendar alone."""
        return Calendar(
            zone=self.zone,
            times=self.times,
            weekdays=self.weekdays,
            holidays=self.holidays,
            confirm_days=self.confirm_days,
        )


def cycle_id(cut_off: datetime, calendar: Calendar, arrangement: str = MAIN_CODE) -> str:
    """Id of the cycle that ends at `cut_off`: its local minute, so that ids sort as cycles do.

    Cycles of another arrangement than the main one have its code before that.
    """
    minute = cut_off.astimezone(ZoneInfo(calendar.zone)).strftime("%Y-%m-%dT%H%M")
    return minute if arrangement == MAIN_CODE else f"{arrangement}-{minute}"
