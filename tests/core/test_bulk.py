"""What large requests do by columns is, figure by figure and byte by byte, what single orders get."""

import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exchange.core.catalogue import Catalogue, NumberedRate, Programme
from exchange.core.price_columns import price_redemptions
from exchange.core.quote import Price, Terms, price, terms_for
from exchange.gateway.render import _order_ids
from exchange.service.bulk import _Texts
from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.faults import SchemaError
from schemas.values.ids import key_bytes, keys_bytes, order_text
from schemas.values.rate import Rate
from schemas.wire import fields
from schemas.wire.decoding import BulkDecoder
from schemas.wire.orders import BulkOrder, UncheckedOrder, texts_are_sound
from schemas.wire.purchases import BulkPurchase

AT_US = 1_772_000_000_000_000
CODES = ("AIR", "EYE", "NIL")

names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
uuids = st.uuids().map(str)


@given(st.lists(st.one_of(uuids, uuids.map(str.upper), names), max_size=6))
@example(["0190f8a0-0000-7000-8000-00000000000g"])
@example(["0190f8a0-0000-7000-8000-0000000-0001"])
@example(["0190f8a0-0000-7000-8000-000000000001", "0190f8a00-000-7000-8000-00000000001"])
@example(["-" * 36, "0" * 36])
def test_many_keys_are_stored_as_each_would_be(keys):
    """Rule I1: a key's sixteen bytes do not depend on the company in which it came."""
    assert keys_bytes(keys) == b"".join(map(key_bytes, keys))


@given(
    st.lists(
        st.builds(
            BulkOrder[int],
            key=st.just("k"),
            member=names,
            quote=st.none() | names,
            issuer=st.none() | names,
            acceptor=st.none() | names,
            units=st.none() | st.integers(1, AMOUNT_LIMIT - 1),
            kind=st.sampled_from([None, "redemption", "exchange"]),
            occurred_at=st.none()
            | st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)).map(  # noqa: DTZ001 - aware in the next step
                lambda at: at.replace(tzinfo=UTC)
            ),
            hold_seconds=st.none() | st.integers(1, 100),
            reference=st.text(max_size=35),
        ),
        max_size=5,
    )
)
def test_columns_are_what_the_orders_say(orders):
    """Rule I3: an order in a large request has the canonical form that it has alone, whatever its form."""
    assert list(_Texts.of(orders).canonical()) == [order.canonical() for order in orders]
    usual = [
        order.quote is order.hold_seconds is None
        and order.kind != "exchange"
        and None not in (order.issuer, order.acceptor, order.units)
        for order in orders
    ]
    assert _Texts.of(orders).usual().tolist() == usual


@given(
    units=st.lists(st.integers(1, AMOUNT_LIMIT - 1) | st.integers(1, 300), min_size=1, max_size=8),
    rates=st.lists(
        st.builds(Rate, num=st.integers(1, 10**6), den=st.integers(1, 10**6))
        | st.just(Rate(num=10**14, den=1)),
        min_size=2,
        max_size=2,
    ),
    limits=st.sampled_from([(1, AMOUNT_LIMIT - 1), (5, 200)]),
    fee_bps=st.sampled_from([0, 7, 10_000]),
)
def test_columns_are_priced_as_each_order_is(units, rates, limits, fee_bps):
    """Rules Q1 to Q3: what columns price is the price of the order; what they do not is left to it."""
    numbers = dict(zip(CODES, (1, 2, 3), strict=True))
    catalogue = Catalogue(
        programmes={
            number: Programme(
                merchant_no=number, code=code, name=code, hosted=number != 2, unit="point", scale=0,
                earn_num=1, earn_den=1, valid_days=1, units_min=limits[0], units_max=limits[1],
            )
            for code, number in numbers.items()
        },
        by_code=numbers,
        spend={
            number: [NumberedRate(rate_no=10 + number, effective_at_us=0, rate=rate)]
            for number, rate in enumerate(rates, start=1)
        },
        tariff=[(0, fee_bps)],
    )  # fmt: skip
    for code in (*CODES, "?"):
        issuer = numbers.get(code, 0)
        columns = price_redemptions(
            catalogue,
            issuers=np.full(len(units), issuer),
            units=np.array(units, np.int64),
            at_us=AT_US,
        )
        terms = terms_for(
            catalogue,
            issuer=code,
            acceptor="EYE" if code != "EYE" else "AIR",
            kind="redemption",
            at_us=AT_US,
        )
        exact = max(units) * max(rate.num for rate in rates) < 2**63
        for each, priced, *figures in zip(units, *(c.tolist() for c in columns), strict=True):
            alone = price(terms, each) if isinstance(terms, Terms) else None
            if not priced:
                # Every price that int64 surely holds is found here.
                assert not (exact and isinstance(alone, Price) and alone.value_cu < 10**14)
            else:
                assert isinstance(terms, Terms)
                assert isinstance(alone, Price)
                assert figures == [
                    terms.hosted, terms.spend.rate_no, alone.debit_cu, alone.value_cu, alone.fee_cu
                ]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"key": "a b"},
        {"key": "ä"},
        {"key": "a\x7f"},
        {"key": ""},
        {"key": "k" * 65},
        {"reference": "小票"},
        {"reference": "a\n"},
        {"reference": "a\x9f"},
        {"reference": "r" * 36},
    ],
)
def test_texts_are_held_against_their_patterns_all_at_once(changes):
    """A text that breaks its pattern is told with its path, though patterns are checked by the column."""
    good = {"key": "k-1", "member": "m", "issuer": "A", "acceptor": "B", "units": 1}
    body = msgspec.msgpack.encode([good, good | changes, good])
    strict: BulkDecoder[Any] = BulkDecoder(BulkOrder[fields.Units], packed=True)
    quick: BulkDecoder[Any] = BulkDecoder(
        BulkOrder[fields.Units],
        packed=True,
        unchecked=UncheckedOrder[fields.Units],
        sound=texts_are_sound,
    )
    told, expected = quick.decode(body), strict.decode(body)
    assert [_plainly(each) for each in told] == [_plainly(each) for each in expected]


def _plainly(each: object) -> object:
    if isinstance(each, SchemaError):
        return each.path, each.detail
    return msgspec.to_builtins(each)


@given(st.lists(st.tuples(st.integers(0, 2**62 - 1), st.integers(0, 5)), min_size=1, max_size=5))
def test_ids_of_many_orders_are_written_as_each_is(orders):
    """An order's id is the same text in every answer."""
    at_us = [
        int(AT_US + timedelta(milliseconds=late) / timedelta(microseconds=1)) for _, late in orders
    ]
    seqs = [seq for seq, _ in orders]
    assert _order_ids(np.array(seqs), np.array(at_us)) == [
        order_text(at, 1, seq) for at, seq in zip(at_us, seqs, strict=True)
    ]


@pytest.mark.parametrize("packed", [False, True], ids=["json", "msgpack"])
@pytest.mark.parametrize("element", ["order", "purchase"])
def test_millions_of_tiny_elements_cost_no_memory(packed: bool, element: str):
    """A body full of elements of one byte is refused before each of them becomes a thing of its own."""
    kind: Any = BulkOrder[fields.Units] if element == "order" else BulkPurchase[fields.Fen]
    decoder: BulkDecoder[Any] = BulkDecoder(kind, packed=packed)
    count = 2**24 // (1 if packed else 2) - 8
    body = (
        b"\xdd" + count.to_bytes(4, "big") + b"\x01" * count
        if packed
        else b"[" + b"1," * count + b"1]"
    )
    tracemalloc.start()
    with pytest.raises(SchemaError, match="10000"):
        decoder.decode(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
