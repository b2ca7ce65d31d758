"""Pricing and sealing quotes, against the obvious definitions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from exchange.core.catalogue import Catalogue, NumberedRate, Programme
from exchange.core.quote import (
    Price,
    Terms,
    exact_step,
    make_quote,
    offers,
    price,
    price_value,
    seal,
    terms_for,
    unseal,
)
from exchange.core.token import key_id, named_key
from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.rate import Rate
from schemas.values.reason import Reason, Refusal

KEY = bytes(range(32))
NO_LIMIT_CU = 10**15

rates = st.builds(Rate, num=st.integers(1, 10**6), den=st.integers(1, 10**4))
some_units = st.integers(1, 10**7)


def make_terms(
    spend: Rate,
    issue: Rate | None = None,
    *,
    fee_bps: int = 0,
    units_min: int = 1,
    units_max: int = 10**12,
) -> Terms:
    """Terms between merchants 1 and 2."""
    return Terms(
        issuer=1,
        acceptor=2,
        spend=NumberedRate(rate_no=7, effective_at_us=0, rate=spend),
        issue=issue,
        fee_bps=fee_bps,
        units_min=units_min,
        units_max=units_max,
        hosted=True,
    )


def programme(merchant_no: int, code: str, *, hosted: bool = True) -> Programme:
    """A programme without limits."""
    return Programme(
        merchant_no=merchant_no,
        code=code,
        name=code,
        hosted=hosted,
        unit="point",
        scale=0,
        earn_num=1,
        earn_den=100,
        valid_days=365,
        units_min=1,
        units_max=10**12,
    )


# --- prices ---


@given(rates, some_units, st.integers(0, 10_000))
def test_redemption_books_every_cu(rate, units, fee_bps):
    """Rule Q3: debit is the floor of the exact worth, value its whole fen, fee a floor of the value."""
    priced = price(make_terms(rate, fee_bps=fee_bps), units)
    worth = Fraction(units * rate.num, rate.den)
    if worth < 100:
        assert priced is Reason.CONVERTS_TO_NOTHING
        return
    assert isinstance(priced, Price)
    assert priced.debit_cu <= worth < priced.debit_cu + 1
    assert priced.value_cu % 100 == 0
    assert 0 <= priced.remainder_cu < 100
    assert priced.fee_cu <= Fraction(priced.value_cu * fee_bps, 10_000) < priced.fee_cu + 1
    assert priced.credited_units == 0


@example(Rate(num=34_233, den=1), Rate(num=1, den=10_000), 2_921_158)
@given(rates, rates, some_units)
def test_exchange_gives_the_most_units_that_the_debit_pays(spend, issue, units):
    """Rule Q4: the new points cost no more than the debit, and one more point would; too many are none (Q2)."""
    priced = price(make_terms(spend, issue), units)
    debit_cu, cost = units * spend.num // spend.den, Fraction(issue.num, issue.den)
    if isinstance(priced, Reason):
        if debit_cu // cost >= AMOUNT_LIMIT:
            assert priced is Reason.AMOUNT_ABOVE_MAXIMUM
        else:
            assert priced is Reason.CONVERTS_TO_NOTHING
            assert debit_cu < cost
        return
    assert priced.credited_units * cost <= priced.value_cu <= priced.debit_cu
    assert priced.value_cu - priced.credited_units * cost < 1
    assert (priced.credited_units + 1) * cost > priced.debit_cu


@given(rates, st.integers(1, 10**6))
def test_value_wanted_is_met_exactly_with_the_fewest_units(rate, fen):
    """Rule Q5: the acceptor gets what was asked, and one unit less would not have paid it."""
    priced = price_value(make_terms(rate, units_max=10**15), fen * 100)
    assert isinstance(priced, Price)
    assert priced.value_cu == fen * 100 <= priced.debit_cu
    assert Fraction((priced.units - 1) * rate.num, rate.den) < fen * 100


@pytest.mark.parametrize(
    ("units", "reason"),
    [
        (9, Reason.AMOUNT_BELOW_MINIMUM),
        (10, None),
        (1000, None),
        (1001, Reason.AMOUNT_ABOVE_MAXIMUM),
    ],
)
def test_limits_are_inclusive(units, reason):
    """Rule Q2: minimum and maximum themselves are taken."""
    priced = price(make_terms(Rate(num=100, den=1), units_min=10, units_max=1000), units)
    assert priced is reason if reason else isinstance(priced, Price)


def test_amounts_that_leave_int64_are_refused():
    """Rule Q2: a debit or a credit of 10^15 or more is above every maximum."""
    dear = make_terms(Rate(num=10**14, den=1))
    assert price(dear, 10) is Reason.AMOUNT_ABOVE_MAXIMUM
    assert isinstance(price(dear, 9), Price)
    cheap = make_terms(Rate(num=10**9, den=1), Rate(num=1, den=10**6))
    assert price(cheap, 1) is Reason.AMOUNT_ABOVE_MAXIMUM


# --- offers ---


@given(rates, st.integers(1, 5000), st.booleans(), rates)
def test_first_offer_is_the_largest_exact_amount(rate, units, is_exchange, issue):
    """Rule Q6: the first offer leaves nothing, not even a fraction of a CU, and no larger one would."""
    terms = make_terms(rate, issue if is_exchange else None)
    outcome = offers(terms, units=units, value_cu=None, debit_max_cu=NO_LIMIT_CU)
    assume(not isinstance(outcome, Refusal))
    assert isinstance(outcome, list)

    def exact(count: int) -> bool:
        worth = Fraction(count * rate.num, rate.den)
        if is_exchange:
            return (worth * issue.den / issue.num).denominator == 1 and worth.denominator == 1
        return (worth / 100).denominator == 1

    best = next((count for count in range(units, 0, -1) if exact(count)), None)
    asked = outcome[-1]
    assert asked.units == units
    if asked.remainder_cu and best:
        assert [each.units for each in outcome] == [best, units]
        assert outcome[0].remainder_cu == 0
    else:
        assert len(outcome) == 1


@given(rates, st.integers(1, 10**5))
@example(Rate(num=500, den=1), 3)
def test_exact_offer_never_pays_more_than_the_bill(rate, fen):
    """Rule Q6: for a value wanted, the amount without remainder stays within the value."""
    terms = make_terms(rate, units_max=10**15)
    outcome = offers(terms, units=None, value_cu=fen * 100, debit_max_cu=NO_LIMIT_CU)
    assert isinstance(outcome, list)
    assert all(each.value_cu <= fen * 100 for each in outcome)
    assert outcome[-1].value_cu == fen * 100


@given(rates, rates, st.integers(1, 10**6))
def test_steps_of_the_exact_amount_are_exact(spend, issue, times):
    """Rule Q6: every multiple of the step converts without a remainder, also in an exchange."""
    for terms in (make_terms(spend), make_terms(spend, issue)):
        units = exact_step(terms) * times
        priced = price(terms, units)
        if isinstance(priced, Price):
            assert priced.remainder_cu == 0
            assert priced.debit_cu * spend.den == units * spend.num


def test_debit_beyond_the_cap_is_refused_at_the_quote():
    """Rule Q7: what no state of the books could let pass is not quoted."""
    terms = make_terms(Rate(num=100, den=1))
    assert isinstance(offers(terms, units=50, value_cu=None, debit_max_cu=5000), list)
    outcome = offers(terms, units=51, value_cu=None, debit_max_cu=5000)
    assert isinstance(outcome, Refusal)
    assert outcome.reason is Reason.NET_DEBIT_CAP_EXCEEDED


def test_one_amount_is_asked():
    """Units and value together, or neither, are a fault of the caller."""
    terms = make_terms(Rate(num=100, den=1))
    for units, value_cu in ((None, None), (1, 100)):
        with pytest.raises(ValueError, match="units or for a value"):
            offers(terms, units=units, value_cu=value_cu, debit_max_cu=1)


# --- terms ---


@pytest.mark.parametrize(
    ("issuer", "acceptor", "kind", "at_us", "reason"),
    [
        ("NONE", "NONE", "redemption", 10, Reason.UNKNOWN_MERCHANT),
        ("AIR", "NONE", "redemption", 10, Reason.UNKNOWN_MERCHANT),
        ("AIR", "AIR", "redemption", 10, Reason.SAME_MERCHANT),
        ("AIR", "OWN", "exchange", 10, Reason.NOT_HOSTED),
        ("OWN", "AIR", "exchange", 10, Reason.NOT_HOSTED),
        ("TWO", "AIR", "exchange", 10, None),
        ("AIR", "TWO", "exchange", 10, None),
        ("OWN", "TWO", "exchange", 10, Reason.NOT_HOSTED),
        ("ONE", "TWO", "exchange", 10, None),
        ("AIR", "EYE", "exchange", 10, Reason.RATE_NOT_OFFERED),
        ("AIR", "EYE", "redemption", 9, Reason.RATE_NOT_OFFERED),
        ("AIR", "EYE", "redemption", 10, None),
        ("OWN", "EYE", "redemption", 10, None),
        ("EYE", "AIR", "exchange", 10, None),
    ],
)
def test_terms_are_refused_in_order_of_precedence(issuer, acceptor, kind, at_us, reason):
    """Rule Q1: unknown, then same, then not hosted, then without a rate at that instant."""
    rate = NumberedRate(rate_no=1, effective_at_us=10, rate=Rate(num=100, den=1))
    catalogue = Catalogue(
        programmes={
            1: programme(1, "AIR"),
            2: programme(2, "EYE"),
            3: programme(3, "OWN", hosted=False),
            4: programme(4, "ONE", hosted=False),
            5: programme(5, "TWO", hosted=False),
        },
        by_code={"AIR": 1, "EYE": 2, "OWN": 3, "ONE": 4, "TWO": 5},
        spend={number: [rate] for number in range(1, 6)},
        issue={1: [rate], 5: [rate]},
        connected=frozenset({4, 5}),
    )
    outcome = terms_for(catalogue, issuer=issuer, acceptor=acceptor, kind=kind, at_us=at_us)
    assert (outcome.reason if isinstance(outcome, Refusal) else None) is reason


# --- tokens ---


def sealed(key: bytes = KEY) -> str:
    """A token."""
    terms = make_terms(Rate(num=333, den=1), fee_bps=50)
    priced = price(terms, 250)
    assert isinstance(priced, Price)
    return seal(make_quote(terms, priced, caller=2, deadline_us=1_800_000_000_000_000), key)


def test_token_carries_its_figures():
    """Rule Q8: what was sealed is what is read."""
    quote = unseal(sealed(), {key_id(KEY): KEY})
    assert not isinstance(quote, Refusal)
    assert (quote.units, quote.debit_cu, quote.value_cu, quote.fee_cu) == (250, 83250, 83200, 416)
    assert (quote.caller, quote.rate_no, quote.deadline_us) == (2, 7, 1_800_000_000_000_000)
    assert named_key(sealed()) == key_id(KEY)


def test_every_altered_character_is_noticed():
    """Rule Q8: no other text is honoured, not even another spelling of the same bytes."""
    token = sealed()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for place, old in enumerate(token):
        for new in alphabet:
            if new != old:
                altered = token[:place] + new + token[place + 1 :]
                assert isinstance(unseal(altered, {key_id(KEY): KEY}), Refusal), (place, new)


@pytest.mark.parametrize("units", [250, 70_000, 5_000_000_000])
def test_another_spelling_of_the_same_bytes_is_noticed(units):
    """Rule Q8: characters that base64 would pass over, and bits that it would drop, are refused."""
    priced = price(make_terms(Rate(num=333, den=1), fee_bps=50), units)
    assert isinstance(priced, Price)
    quote = make_quote(make_terms(Rate(num=333, den=1)), priced, caller=2, deadline_us=1)
    token = seal(quote, KEY)
    keys = {key_id(KEY): KEY}
    assert unseal(token, keys) == quote
    spellings = [token + "=", token + "\n", "!" + token, token[:9] + "." + token[9:], token + "A"]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings += [token[:-1] + last for last in alphabet if last != token[-1]]
    for spelling in spellings:
        assert isinstance(unseal(spelling, keys), Refusal), spelling


@given(st.text(max_size=200) | st.binary(max_size=90).map(lambda raw: raw.hex()))
def test_anything_else_is_no_token(text):
    """Rule Q8: text that was not sealed is refused, never a fault."""
    outcome = unseal(text, {key_id(KEY): KEY})
    assert isinstance(outcome, Refusal)
    assert outcome.reason is Reason.QUOTE_INVALID
    assert isinstance(named_key(text), bytes | None)


def test_token_of_a_forgotten_key_is_refused():
    """Rule Q8: a key that is no longer honoured opens nothing."""
    other = bytes(32)
    assert isinstance(unseal(sealed(other), {key_id(KEY): KEY}), Refusal)
    assert not isinstance(unseal(sealed(other), {key_id(KEY): KEY, key_id(other): other}), Refusal)
