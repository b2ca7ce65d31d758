"""Quotes: what points are worth at an acceptor, itemised, and firm until a deadline."""

from typing import Annotated, Literal

import msgspec

from schemas.values.faults import SchemaError
from schemas.wire.fields import (
    CuDigits,
    MerchantName,
    PositiveFenDigits,
    UnitDigits,
)

OrderKind = Literal["redemption", "exchange"]


class QuoteRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody would like to spend, or to have paid.

    Attributes:
        issuer: Whose points are spent.
        acceptor: Where the value goes.
        kind: Goods or a bill at the acceptor (`redemption`), or new points there (`exchange`).
        units: Smallest point units to spend; this or `value_fen`.
        value_fen: Value wanted at the acceptor, in fen; only for a redemption.
    """

    issuer: MerchantName
    acceptor: MerchantName
    kind: OrderKind = "redemption"
    units: UnitDigits | None = None
    value_fen: PositiveFenDigits | None = None

    def check(self) -> None:
        """Check what no field can say alone.

        Raises:
            SchemaError: Not exactly one of the two amounts is given, or an exchange names a value.
        """
        if self.units is None and self.value_fen is None:
            raise SchemaError("$.units", "Expected `units` or `value_fen`")
        if self.units is not None and self.value_fen is not None:
            raise SchemaError("$.value_fen", "Expected either `units` or `value_fen`, not both")
        if self.value_fen is not None and self.kind != "redemption":
            raise SchemaError("$.value_fen", "An exchange is asked for in `units`")


class QuoteOffer(msgspec.Struct, frozen=True, kw_only=True):
    """One amount that is offered, item by item; debit = value + remainder, acceptor gets value - fee.

    Attributes:
        units: Smallest point units that are spent.
        debit_cu: What the issuer owes.
        value_cu: What the acceptor is credited before the fee.
        value_yuan: The same in yuan.
        fee_cu: The house's fee, borne by the acceptor.
        remainder_cu: What the conversion leaves over; it goes to the rounding account.
        remainder_yuan: The same in yuan.
        credited_units: New points at the acceptor; 0 for a redemption.
        token: Give this with an order; firm until the deadline.
    """

    units: UnitDigits
    debit_cu: CuDigits
    value_cu: CuDigits
    value_yuan: str
    fee_cu: CuDigits
    remainder_cu: CuDigits
    remainder_yuan: str
    credited_units: CuDigits
    token: str


class QuoteAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The offers, first the one that leaves no remainder.

    Attributes:
        issuer: Whose points are spent.
        acceptor: Where the value goes.
        kind: Redemption or exchange.
        rate_cu: CU for `rate_units` smallest units, the exact rate.
        rate_units: Smallest units.
        deadline: Until when the tokens are honoured, whatever rate comes since.
        reserves: What the quote sets aside: nothing, neither points nor headroom.
        offers: One or two amounts.
    """

    issuer: str
    acceptor: str
    kind: OrderKind
    rate_cu: CuDigits
    rate_units: CuDigits
    deadline: str
    offers: Annotated[list[QuoteOffer], msgspec.Meta(min_length=1, max_length=2)]
    reserves: Literal["nothing"] = "nothing"
