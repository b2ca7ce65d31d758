"""Calendars: when cycles cut off (settlement/RULES.md, rules T1 to T4)."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement.core.calendar import Calendar, cycle_id

SHANGHAI = ZoneInfo("Asia/Shanghai")


def at(text: str) -> datetime:
    """An instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("calendar", "after", "cut_off"),
    [
        (Calendar(), "2026-03-02T15:59:59", "2026-03-02T16:00:00"),
        (Calendar(), "2026-03-02T16:00:00", "2026-03-03T16:00:00"),
        (Calendar(weekdays=(1,)), "2026-03-02T00:00:00", "2026-03-08T16:00:00"),
        (Calendar(times=("09:00", "21:00")), "2026-03-02T00:59:00", "2026-03-02T01:00:00"),
        (Calendar(times=("21:00", "09:00")), "2026-03-02T01:00:00", "2026-03-02T13:00:00"),
        (
            Calendar(holidays=(date(2026, 3, 3), date(2026, 3, 4))),
            "2026-03-02T12:00:00",
            "2026-03-04T16:00:00",
        ),
        # New York leaves 02:30 out on 8 March 2026: read with the offset before the change.
        (
            Calendar(zone="America/New_York", times=("02:30",)),
            "2026-03-08T00:00:00",
            "2026-03-08T07:30:00",
        ),
        # And has 01:30 twice on 1 November 2026: the first time counts, once.
        (
            Calendar(zone="America/New_York", times=("01:30",)),
            "2026-11-01T00:00:00",
            "2026-11-01T05:30:00",
        ),
        (
            Calendar(zone="America/New_York", times=("01:30",)),
            "2026-11-01T05:30:00",
            "2026-11-02T06:30:00",
        ),
    ],
)
def test_cut_off_is_the_next_local_time_that_counts(calendar, after, cut_off):
    """Rule T1: daily, weekly and intraday cut-offs, holidays left out, in the calendar's own zone."""
    assert calendar.next_cut_off(at(after)) == at(cut_off)


@given(
    st.integers(946_684_800, 3_786_912_000),
    st.sets(st.sampled_from(["00:00", "06:30", "12:00", "23:59"]), min_size=1),
    st.sets(st.integers(1, 7), min_size=1),
    st.sampled_from(["Asia/Shanghai", "Europe/Berlin", "America/New_York", "UTC"]),
)
def test_cut_offs_advance_and_none_is_skipped(seconds, times, weekdays, zone):
    """Rule T1: the next cut-off lies later, on a day and at a time of the calendar, with none in between."""
    calendar = Calendar(zone=zone, times=tuple(times), weekdays=tuple(weekdays))
    start = datetime.fromtimestamp(seconds, UTC)
    cut_off = calendar.next_cut_off(start)
    local = cut_off.astimezone(ZoneInfo(zone))
    assert start < cut_off <= start + timedelta(days=9)
    assert local.isoweekday() in weekdays
    assert f"{local:%H:%M}" in times
    assert calendar.next_cut_off(cut_off - timedelta(microseconds=1)) == cut_off
    assert calendar.next_cut_off(cut_off) > cut_off


def test_a_calendar_without_a_cut_off_is_refused():
    """A zone nobody knows, or a calendar that is closed for more than a year, raises with the reason."""
    with pytest.raises(ValueError, match="unknown time zone: Mars/Olympus"):
        Calendar(zone="Mars/Olympus").next_cut_off(at("2026-01-01T00:00:00"))
    closed = tuple(date(2026, 1, 1) + timedelta(days=day) for day in range(500))
    with pytest.raises(ValueError, match="no cut-off within 400 days"):
        Calendar(holidays=closed).next_cut_off(at("2026-01-02T00:00:00"))


def test_ids_of_cycles_sort_as_the_cycles_do():
    """A cycle is named by its cut-off's local minute."""
    calendar = Calendar(times=("09:00", "21:00"))
    first = calendar.next_cut_off(at("2026-12-31T00:00:00"))
    ids = []
    for _ in range(6):
        ids.append(cycle_id(first, calendar))
        first = calendar.next_cut_off(first)
    assert ids[0] == "2026-12-31T0900"
    assert ids == sorted(ids)
