"""Values of any shape: what is no plain JSON, or nests too deeply, is refused where it stands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.service.controlled import terms_of
from schemas.values.faults import SchemaError
from schemas.wire.plain import DEPTH_MAX, check_plain

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(value=PLAIN)
def test_what_json_says_passes_and_survives_it(value: Any):
    """Whatever is plain passes, and is the same after it was written and read as JSON."""
    check_plain(value, at="$")
    assert msgspec.json.decode(msgspec.json.encode(value)) == value


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, b"x"]}, "$.a[1]"),
        ({"a": datetime(2026, 1, 1, tzinfo=UTC)}, "$.a"),
        ({"a": {1: 2}}, "$.a"),
        ({"a": {(1, 2): 3}}, "$.a"),
        ([float("nan")], "$[0]"),
        ([float("inf")], "$[0]"),
        ({"a": "x\0"}, "$.a"),
        ({"\0": 1}, "$"),
        ((1, 2), "$"),
    ],
)
def test_what_json_does_not_say_is_named(value: Any, place: str):
    """Binary, instants, other keys, NaN and U+0000 are refused, and the complaint names the place."""
    with pytest.raises(SchemaError) as caught:
        check_plain(value, at="$")
    assert caught.value.path == place


def nested(levels: int) -> Any:
    """Arrays and objects inside each other."""
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def test_depth_has_an_end():
    """Sixteen levels pass and seventeen do not, however many there are."""
    check_plain(nested(DEPTH_MAX), at="$")
    for levels in (DEPTH_MAX + 1, 100_000):
        value = nested(levels)
        with pytest.raises(SchemaError, match="deeply"):
            check_plain(value, at="$")
        # Taken apart by hand: the interpreter would do it one inside the other.
        while isinstance(value, list | dict):
            [value] = value if isinstance(value, list) else value.values()


def test_a_proposals_terms_are_plain():
    """A proposal with settings that no JSON could hold is refused before anything is looked at or stored."""
    terms = {"merchant": "A", "settings": {"a": {(1,): 2}}}
    with pytest.raises(SchemaError) as caught:
        terms_of("merchant.connect", terms)
    assert caught.value.path == "$.terms.settings.a"
