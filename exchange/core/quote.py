"""Pricing points, and quotes as sealed tokens.

A conversion is exact arithmetic on integers and names what it drops (settlement/RULES.md, rules Q1 to
Q9). A quote is not stored: its figures travel in a token under a MAC, so any gateway that shares the
key honours it, and a quote costs no write.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from exchange.core import token as token_form
from schemas.values.amounts import AMOUNT_LIMIT, CU_PER_FEN
from schemas.values.rate import FEE_BPS_LIMIT
from schemas.values.reason import Reason, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exchange.core.catalogue import Catalogue, NumberedRate
    from schemas.values.rate import Rate

Kind = Literal["redemption", "exchange"]

# --- terms ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one issuer's points are worth at one acceptor at an instant.

    Attributes:
        issuer: Whose points are spent.
        acceptor: Where the value goes.
        spend: The issuer's rate for points spent.
        issue: The acceptor's rate for points issued; None for a redemption.
        fee_bps: The house's fee in basis points of the value.
        units_min: Fewest smallest units of one order.
        units_max: Most smallest units of one order.
        hosted: Whether the issuer's points are kept by the house.
        protected: Whether the issuer has rules for its members (settlement/RULES.md, rules A1 to A6).
    """

    issuer: int
    acceptor: int
    spend: NumberedRate
    issue: Rate | None
    fee_bps: int
    units_min: int
    units_max: int
    hosted: bool
    protected: bool = False


def terms_for(
    catalogue: Catalogue, *, issuer: str, acceptor: str, kind: Kind, at_us: int
) -> Terms | Refusal:
    """Find the terms under which an issuer's points are taken at an acceptor.

    Args:
        catalogue: What is offered.
        issuer: Code of the merchant whose points are spent.
        acceptor: Code of the merchant where the value goes.
        kind: Redemption, or exchange for new points at the acceptor.
        at_us: Instant, microseconds since 1970.

    Returns:
        The terms, or UNKNOWN_MERCHANT, SAME_MERCHANT, NOT_HOSTED, RATE_NOT_OFFERED, in this order.

    Source: settlement/RULES.md, rule Q1.
    """
    issuer_no = catalogue.by_code.get(issuer)
    acceptor_no = catalogue.by_code.get(acceptor)
    if issuer_no is None:
        return Refusal(Reason.UNKNOWN_MERCHANT, "no merchant has the issuer's code")
    if acceptor_no is None:
        return Refusal(Reason.UNKNOWN_MERCHANT, "no merchant has the acceptor's code")
    if issuer_no == acceptor_no:
        return Refusal(Reason.SAME_MERCHANT, f"{issuer} is both issuer and acceptor")
    programme = catalogue.programmes[issuer_no]
    issue = None
    if kind == "exchange":
        for code, number in ((acceptor, acceptor_no), (issuer, issuer_no)):
            if not catalogue.keeps_points(number):
                return Refusal(Reason.NOT_HOSTED, f"{code} keeps its points in its own system")
        issued = catalogue.issue_rate(acceptor_no, at_us)
        if issued is None:
            return Refusal(Reason.RATE_NOT_OFFERED, f"{acceptor} issues no points now")
        issue = issued.rate
    spend = catalogue.spend_rate(issuer_no, at_us)
    if spend is None:
        return Refusal(Reason.RATE_NOT_OFFERED, f"points of {issuer} have no rate now")
    return Terms(
        issuer=issuer_no,
        acceptor=acceptor_no,
        spend=spend,
        issue=issue,
        fee_bps=catalogue.fee_bps(at_us),
        units_min=programme.units_min,
        units_max=programme.units_max,
        hosted=programme.hosted,
        protected=issuer_no in catalogue.member_rules,
    )


# --- prices ---


class Price(NamedTuple):
    """One amount, item by item; figures in CU unless they are units. Hot path, so a plain tuple.

    Attributes:
        units: Smallest point units spent.
        debit_cu: What the issuer owes.
        value_cu: What the acceptor is credited before the fee.
        fee_cu: The house's fee.
        credited_units: New points at the acceptor; 0 for a redemption.
    """

    units: int
    debit_cu: int
    value_cu: int
    fee_cu: int
    credited_units: int

    @property
    def remainder_cu(self) -> int:
        """What the conversion leaves over; the rounding account gets it."""
        return self.debit_cu - self.value_cu


def price(terms: Terms, units: int) -> Price | Reason:
    """Price `units` of the issuer's points.

    A redemption credits whole fen, an exchange what the new points cost to issue; the rest of the debit
    is the remainder. (The reason alone is returned for a refusal: bulk requests price thousands.)

    Args:
        terms: What the points are worth.
        units: Smallest point units; greater than zero.

    Returns:
        The price, or AMOUNT_BELOW_MINIMUM, AMOUNT_ABOVE_MAXIMUM, CONVERTS_TO_NOTHING.

    Source: settlement/RULES.md, rules Q2 to Q4.
    """
    if units < terms.units_min:
        return Reason.AMOUNT_BELOW_MINIMUM
    if units > terms.units_max:
        return Reason.AMOUNT_ABOVE_MAXIMUM
    rate = terms.spend.rate
    debit_cu = units * rate.num // rate.den
    if debit_cu >= AMOUNT_LIMIT:
        return Reason.AMOUNT_ABOVE_MAXIMUM
    issue = terms.issue
    if issue is None:
        credited_units = 0
        value_cu = debit_cu - debit_cu % CU_PER_FEN
    else:
        credited_units = issue.units_floor(debit_cu)
        if credited_units >= AMOUNT_LIMIT:
            return Reason.AMOUNT_ABOVE_MAXIMUM
        value_cu = issue.cu_ceil(credited_units)
    if not value_cu:
        return Reason.CONVERTS_TO_NOTHING
    return Price(
        units, debit_cu, value_cu, value_cu * terms.fee_bps // FEE_BPS_LIMIT, credited_units
    )


def price_value(terms: Terms, value_cu: int) -> Price | Reason:
    """Price the fewest points that pay exactly `value_cu` at the acceptor; a redemption.

    Args:
        terms: What the points are worth.
        value_cu: Value wanted in CU, whole fen; greater than zero.

    Returns:
        The price, with all that the points are worth beyond the value as the remainder; or
        AMOUNT_BELOW_MINIMUM, AMOUNT_ABOVE_MAXIMUM.

    Source: settlement/RULES.md, rule Q5.
    """
    units = terms.spend.rate.units_ceil(value_cu)
    priced = price(terms, units)
    if isinstance(priced, Reason):
        return priced
    fee_cu = value_cu * terms.fee_bps // FEE_BPS_LIMIT
    return priced._replace(value_cu=value_cu, fee_cu=fee_cu)


def exact_step(terms: Terms) -> int:
    """Fewest units that convert without any remainder; so does each multiple of them, and nothing else.

    Source: settlement/RULES.md, rule Q6.
    """
    rate = terms.spend.rate
    divisor = gcd(rate.num, rate.den)
    whole_units, whole_cu = rate.den // divisor, rate.num // divisor
    issue = terms.issue
    if issue is None:
        return whole_units * (CU_PER_FEN // gcd(whole_cu, CU_PER_FEN))
    return whole_units * (issue.num // gcd(whole_cu * issue.den, issue.num))


def offers(
    terms: Terms, *, units: int | None, value_cu: int | None, debit_max_cu: int
) -> list[Price] | Refusal:
    """Price what was asked, and before it the largest amount up to it that leaves no remainder.

    Args:
        terms: What the points are worth.
        units: Smallest point units to spend; or None, and `value_cu` says the value wanted.
        value_cu: Value wanted, whole fen; None if `units` says what is asked.
        debit_max_cu: The most that the issuer's cap and collateral could ever carry.

    Returns:
        One or two prices; or why the amount asked cannot be had: what `price` refuses, and
        NET_DEBIT_CAP_EXCEEDED for a debit that no state of the books would let pass.

    Raises:
        ValueError: Not exactly one of `units` and `value_cu` is given: the caller skipped validation.

    Source: settlement/RULES.md, rules Q6 and Q7.
    """
    if (units is None) == (value_cu is None):
        raise ValueError("a quote is for units or for a value")
    if units is not None:
        asked = price(terms, units)
        most = units
    else:
        assert value_cu is not None
        asked = price_value(terms, value_cu)
        most = terms.spend.rate.units_floor(value_cu)
    if isinstance(asked, Reason):
        return Refusal(asked, _detail(terms, asked))
    if asked.debit_cu > debit_max_cu:
        return Refusal(
            Reason.NET_DEBIT_CAP_EXCEEDED,
            f"needs {asked.debit_cu} CU, the issuer's cap and collateral are {debit_max_cu} CU",
        )
    step = exact_step(terms)
    clean = price(terms, most - most % step) if asked.remainder_cu and most >= step else None
    return [clean, asked] if isinstance(clean, Price) else [asked]


def _detail(terms: Terms, reason: Reason) -> str:
    """Say the limit that was crossed, as far as there is one."""
    if reason is Reason.AMOUNT_BELOW_MINIMUM:
        return f"at least {terms.units_min} units of these points are taken"
    if reason is Reason.AMOUNT_ABOVE_MAXIMUM:
        return f"at most {terms.units_max} units of these points are taken"
    return reason.english


# --- tokens ---

_VERSION: Final = 1
_CONTEXT: Final = b"tongdui quote\0"


class Quote(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a token says; figures as in `Price`.

    Attributes:
        version: Form of the token.
        caller: The merchant that asked; only it (or the house) may order with the token.
        issuer: Whose points.
        acceptor: Where the value goes.
        units: Smallest point units.
        debit_cu: What the issuer owes.
        value_cu: What the acceptor is credited before the fee.
        fee_cu: The house's fee.
        credited_units: New points at the acceptor.
        rate_no: The issuer's rate.
        deadline_us: Honoured up to and including this instant, microseconds since 1970.
    """

    version: int
    caller: int
    issuer: int
    acceptor: int
    units: int
    debit_cu: int
    value_cu: int
    fee_cu: int
    credited_units: int
    rate_no: int
    deadline_us: int


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Quote)


def make_quote(terms: Terms, priced: Price, *, caller: int, deadline_us: int) -> Quote:
    """Put a price and its deadline together."""
    return Quote(
        _VERSION, caller, terms.issuer, terms.acceptor, priced.units, priced.debit_cu, priced.value_cu,
        priced.fee_cu, priced.credited_units, terms.spend.rate_no, deadline_us,
    )  # fmt: skip


def seal(quote: Quote, key: bytes) -> str:
    """Write a quote as a URL-safe token under the MAC of `key`.

    Source: settlement/RULES.md, rule Q8.
    """
    return token_form.seal(_ENCODER.encode(quote), context=_CONTEXT, key=key)


def unseal(token: str, keys: Mapping[bytes, bytes]) -> Quote | Refusal:
    """Read a token back.

    Args:
        token: What the sender gave.
        keys: Keys that are honoured, by their id.

    Returns:
        The quote, whose deadline is still to be looked at; or QUOTE_INVALID.

    Source: settlement/RULES.md, rule Q8.
    """
    invalid = Refusal(Reason.QUOTE_INVALID, "the token was not made here, or was altered")
    payload = token_form.unseal(token, context=_CONTEXT, keys=keys)
    if payload is None:
        return invalid
    try:
        quote = _DECODER.decode(payload)
    except msgspec.DecodeError:
        return invalid
    return quote if quote.version == _VERSION else invalid
