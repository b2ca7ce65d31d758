"""Ids, keys, rates and amounts."""

import uuid
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.values.amounts import fen_text, yuan_text
from schemas.values.ids import (
    key_bytes,
    key_milliseconds,
    new_uuid7,
    order_id,
    order_place,
    order_text,
)
from schemas.values.rate import Rate, fee_floor
from schemas.values.reason import REASON_BY_NUMBER, Reason

instants = st.integers(0, 2**48 * 1000 - 1)
parts = st.integers(0, 2**12 - 1)
numbers = st.integers(0, 2**62 - 1)
positive = st.integers(1, 10**15)
rates = st.builds(Rate, num=positive, den=positive)
units = st.integers(0, 10**15)


@given(instants, parts, numbers)
def test_an_order_id_says_where_the_order_stands(at_us, part, seq):
    """RFC 9562 §5.7: an order's id is a UUIDv7 of its time, and gives its place in the journal back."""
    order = order_id(at_us, part, seq)
    assert (order.version, order.variant) == (7, uuid.RFC_4122)
    assert order_place(order) == (part, seq)
    assert order_text(at_us, part, seq) == str(order)
    assert key_milliseconds(order.bytes) == at_us // 1000


@given(instants, instants, parts, numbers, numbers)
def test_order_ids_sort_by_time(one, other, part, first, second):
    """Ids of later milliseconds sort after those of earlier ones."""
    if one // 1000 < other // 1000:
        assert order_id(one, part, first).int < order_id(other, part, second).int


@pytest.mark.parametrize(("part", "seq"), [(4096, 1), (-1, 1), (1, 2**62), (1, -1)])
def test_a_place_that_no_id_can_tell_is_refused(part, seq):
    """A part or number that does not fit its bits makes no id."""
    with pytest.raises(ValueError, match="no order"):
        order_id(0, part, seq)


def test_only_ids_of_this_kind_name_an_order():
    """A UUID of another version was not made here."""
    with pytest.raises(ValueError, match="not an order id"):
        order_place(uuid.uuid4())


keys = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)


@given(keys, keys)
@example("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8")
@example("6ba7b8109dad11d180b400c04fd430c8", "6ba7b810-9dad-11d1-80b4-00c04fd430c8")
def test_two_keys_are_the_same_only_if_they_are_the_same_text_or_uuid(one, other):
    """Different keys have different bytes; a UUID in capitals is the same UUID."""
    same = one == other or (
        len(one) == len(other) == 36 and one.lower() == other.lower() and _is_uuid(one)
    )
    assert (key_bytes(one) == key_bytes(other)) == same
    assert len(key_bytes(one)) == 16


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


@given(st.uuids())
def test_a_uuid_stands_for_itself(key):
    """A key that is a UUID is stored as its own bytes, so time-ordered keys stay so."""
    assert key_bytes(str(key)) == key.bytes


@given(keys)
def test_a_text_key_tells_no_time(key):
    """A key that is no UUID becomes a UUIDv8 (RFC 9562 §5.8) and carries no time."""
    if not _is_uuid(key):
        stored = uuid.UUID(bytes=key_bytes(key))
        assert (stored.version, stored.variant) == (8, uuid.RFC_4122)
        assert key_milliseconds(stored.bytes) is None


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**62 - 1))
def test_a_new_key_carries_its_time(milliseconds, bits):
    """A recommended key is a UUIDv7 of now."""
    key = new_uuid7(lambda width: bits & (1 << width) - 1, lambda: milliseconds * 1_000_000)
    assert key.version == 7
    assert key_milliseconds(key.bytes) == milliseconds


@given(rates, units)
def test_converting_drops_less_than_one(rate, count):
    """Rules R1 and R2: floor and ceiling are exact to the last unit, with no float on the way."""
    worth = Fraction(rate.num, rate.den) * count
    assert rate.cu_floor(count) <= worth < rate.cu_floor(count) + 1
    assert rate.cu_ceil(count) - 1 < worth <= rate.cu_ceil(count)
    points = Fraction(rate.den, rate.num) * count
    assert rate.units_floor(count) <= points < rate.units_floor(count) + 1
    assert rate.units_ceil(count) - 1 < points <= rate.units_ceil(count)


@given(rates, units)
def test_the_fewest_units_are_enough_and_one_less_is_not(rate, cu):
    """Rule R1: the units asked for a value are worth it, and one unit less is worth less."""
    count = rate.units_ceil(cu)
    assert rate.cu_floor(count) >= cu or Fraction(rate.num, rate.den) * count >= cu
    if count:
        assert Fraction(rate.num, rate.den) * (count - 1) < cu


@given(rates, units)
def test_no_round_trip_gains(rate, count):
    """Rule P7: points to money and back at one rate never gives more points."""
    assert rate.units_floor(rate.cu_floor(count)) <= count
    assert rate.cu_floor(rate.units_floor(count)) <= count


@given(st.integers(0, 10**15), st.integers(0, 10_000))
def test_a_fee_is_never_above_its_share(value, bps):
    """Rule R3: the fee is rounded down and lies between 0 and the value."""
    fee = fee_floor(value, bps)
    assert 0 <= fee <= value
    assert fee * 10_000 <= value * bps < (fee + 1) * 10_000


@pytest.mark.parametrize(("num", "den"), [(0, 1), (1, 0), (-1, 1), (1, -1)])
def test_a_rate_that_prices_nothing_is_refused(num, den):
    """A rate needs two positive integers."""
    with pytest.raises(ValueError, match="two positive"):
        Rate(num=num, den=den)


@given(st.integers(-(10**18), 10**18))
def test_amounts_are_written_exactly(amount):
    """Yuan with four places are CU, with two places fen: nothing is rounded in the text."""
    assert Fraction(yuan_text(amount)) * 10_000 == amount
    assert Fraction(fen_text(amount)) * 100 == amount


def test_reasons_have_one_number_each():
    """A reason's number is in the journal for ever: it is given once, and small enough for its column."""
    assert len(REASON_BY_NUMBER) == len(Reason)
    assert all(0 < number < 2**15 for number in REASON_BY_NUMBER)
