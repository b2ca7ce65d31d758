"""Canonical bytes of events, and the chain over them."""

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement.core.chain import GENESIS, chain_digest
from settlement.core.event import (
    COLUMNS,
    EPOCH_2000_US,
    Event,
    pack_event,
    repack_event,
    unpack_event,
)

int64 = st.integers(-(2**63), 2**63 - 1)
instant = st.integers(-(2**62), 2**62)
int32 = st.integers(-(2**31), 2**31 - 1)
int16 = st.integers(-(2**15), 2**15 - 1)
uuid_bytes = st.binary(min_size=16, max_size=16)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
events = st.builds(
    Event,
    seq=int64, order_seq=int64, at_us=instant, occurred_at_us=instant, due_at_us=instant,
    member_no=int64, units=int64, debit_cu=int64, value_cu=int64, fee_cu=int64,
    credited_units=int64, lot_no=int64, key=uuid_bytes, body=uuid_bytes, cycle_no=int32,
    caller=int32, issuer=int32, acceptor=int32, rate_no=int32, part=int16, kind=int16, step=int16,
    reason=int16, reference=texts,
)  # fmt: skip


@given(events)
def test_an_event_comes_back_from_its_bytes(event: Event):
    """FORMAT.md, "Event": bytes to event and back lose nothing, whatever the figures."""
    data = repack_event(event)
    assert unpack_event(data) == event
    assert repack_event(unpack_event(data)) == data


@given(events, st.data())
def test_bytes_that_are_no_event_are_refused(event: Event, data: st.DataObject):
    """A length, a count or an end that is not canonical is refused; there is one spelling of an event."""
    whole = repack_event(event)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ValueError, match="canonical"):
        unpack_event(whole[:cut])
    with pytest.raises(ValueError, match="canonical"):
        unpack_event(whole + b"\0")
    place = data.draw(st.sampled_from([0, 2, 14, 146, 166, 186, 226]))
    forged = bytearray(whole)
    forged[place + 1] ^= 1
    with pytest.raises(ValueError, match="canonical"):
        unpack_event(bytes(forged))


@given(events, events)
def test_two_events_never_share_their_bytes(one: Event, other: Event):
    """Different events have different bytes, also when they are joined, so a chain cannot be read two ways."""
    assert (repack_event(one) == repack_event(other)) == (one == other)


@pytest.mark.parametrize(
    "column", [name for name in COLUMNS if name not in ("key", "body", "reference")]
)
def test_a_figure_that_does_not_fit_is_no_event(column: str):
    """A figure that its column cannot hold stops the packing; it is never cut to fit."""
    fields = {name.removesuffix("_us"): 1 for name in COLUMNS}
    values = {
        **fields, column: 2**63 + EPOCH_2000_US, "key": bytes(16), "body": bytes(16), "reference": "",
    }  # fmt: skip
    with pytest.raises(struct.error):
        pack_event(*(values[name] for name in COLUMNS))  # type: ignore[arg-type] # of many types


def test_the_columns_are_the_events_attributes():
    """The order of the columns is the order of the attributes."""
    names = [name.removesuffix("_us") for name in Event.__struct_fields__]
    assert names == list(COLUMNS)


HEADER = {"part": 1, "flush_no": 7, "epoch": 3, "first_seq": 100, "count": 2, "at_us": 10**15}


@given(events, events, st.sampled_from(sorted(HEADER)))
def test_the_digest_of_a_flush_covers_everything(one: Event, other: Event, name: str):
    """Rule B6: another event, order of events, header field or digest before gives another digest."""
    first, second = repack_event(one), repack_event(other)
    digest = chain_digest(GENESIS, first + second, **HEADER)
    assert len(digest) == 32
    assert digest == chain_digest(GENESIS, first + second, **HEADER)
    assert digest != chain_digest(GENESIS, first + second, **(HEADER | {name: HEADER[name] + 1}))
    assert digest != chain_digest(b"\1" * 32, first + second, **HEADER)
    assert digest != chain_digest(GENESIS, first, **HEADER)
    if first != second:
        assert digest != chain_digest(GENESIS, second + first, **HEADER)
    changed = msgspec.structs.replace(one, debit_cu=one.debit_cu ^ 1)
    assert digest != chain_digest(GENESIS, repack_event(changed) + second, **HEADER)
