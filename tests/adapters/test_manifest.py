"""What a manifest may say, and how it is refused."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from adapters.kit.manifest import Hours, parse_manifest
from schemas.values.faults import SchemaError

SMALLEST = """
[merchant]
code = "noodle-house"
name = "面馆"
protocol = "http-mapping"
[points]
[spend]
way = "hold"
[credit]
way = "credit"
"""
SHANGHAI = ZoneInfo("Asia/Shanghai")


def test_smallest_manifest_has_cautious_defaults():
    """Four tables are enough; what is left out gets limits and waits."""
    manifest = parse_manifest(SMALLEST)
    assert manifest.limits.deadline_seconds == 2.0
    assert manifest.status.repeat_safe
    assert manifest.hours.wait_seconds(0) == 0.0


@pytest.mark.parametrize(
    ("changed", "path", "about"),
    [
        (SMALLEST.replace('way = "hold"', 'way = "lend"'), "$.spend.way", "lend"),
        (SMALLEST + "[limits]\nconcurrency = 0", "$.limits.concurrency", ">= 1"),
        (SMALLEST + "[limits]\nspeed = 3", "$.limits.speed", "unknown field"),
        (SMALLEST.replace("[credit]", "[debit]"), "$.debit", "unknown field"),
        (SMALLEST.replace('name = "面馆"\n', ""), "$.merchant.name", "missing"),
        (SMALLEST.replace("noodle-house", "noodle house"), "$.merchant.code", "regex"),
        (SMALLEST + "[hours]\nopen = ['9-17']", "$.hours.open[0]", "regex"),
        (SMALLEST + "[hours]\nzone = 'Asia/Atlantis'", "$.hours", "Atlantis"),
        (
            SMALLEST.replace("[points]", "[points]\nunits_min = 5\nunits_max = 4"),
            "$.points",
            "below",
        ),
        (SMALLEST + "[limits]\ninquiry_first_seconds = 60", "$.limits", "inquiry_max_seconds"),
        (
            SMALLEST + "[status]\nway = 'none'\nrepeat_safe = false",
            "$.status",
            "can never be known",
        ),
        (SMALLEST + "[", "$", "Not TOML"),
    ],
)
def test_refused_manifest_names_the_key(changed, path, about):
    """What is unknown, missing or out of range is refused with the path of the key."""
    with pytest.raises(SchemaError, match=about) as refused:
        parse_manifest(changed)
    assert refused.value.path == path


def test_settings_are_replaced_table_by_table():
    """A simulator's address replaces one setting and leaves its neighbours."""
    manifest = parse_manifest(SMALLEST + "[settings]\na = 1\n[settings.auth]\nkind = 'x'\nb = 2")
    changed = manifest.with_settings({"auth": {"b": 3}, "c": 4})
    assert changed.settings == {"a": 1, "auth": {"kind": "x", "b": 3}, "c": 4}
    assert manifest.settings["auth"]["b"] == 2


@pytest.mark.parametrize(
    ("hours", "local", "wait_seconds"),
    [
        (Hours(open=("09:00-17:00",)), "2026-03-02T08:59:00", 60.0),
        (Hours(open=("09:00-17:00",)), "2026-03-02T09:00:00", 0.0),
        (Hours(open=("09:00-17:00",)), "2026-03-02T17:00:00", 16 * 3600.0),
        (Hours(open=("22:00-02:00",)), "2026-03-02T01:00:00", 0.0),
        (Hours(open=("22:00-02:00",)), "2026-03-02T02:00:00", 20 * 3600.0),
        (Hours(open=("08:00-24:00",)), "2026-03-02T23:59:59", 0.0),
        (Hours(weekdays=(1, 2, 3, 4, 5)), "2026-03-07T12:00:00", 36 * 3600.0),
        (Hours(weekdays=(1,), open=("09:00-10:00",)), "2026-03-02T10:00:00", 167 * 3600.0),
    ],
)
def test_wait_until_calls_are_taken(hours, local, wait_seconds):
    """Spans may pass midnight, and days may have none; the wait runs to the next span's start."""
    at = datetime.fromisoformat(local).replace(tzinfo=SHANGHAI)
    assert hours.wait_seconds(int(at.timestamp()) * 1_000_000) == wait_seconds
