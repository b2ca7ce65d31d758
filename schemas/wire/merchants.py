"""Merchants: registering one with its programme, and listing them."""

from typing import Annotated

import msgspec

from schemas.values.amounts import AMOUNT_LIMIT
from schemas.wire.fields import CuDigits, Instant, MerchantCode, PositiveDigits

PersonText = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,80}\Z")]


class RateTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An exact rate.

    Attributes:
        cu: Common units.
        units: Smallest point units that they are worth.
    """

    cu: PositiveDigits
    units: PositiveDigits


class MerchantRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a merchant joins with.

    Attributes:
        code: Public code.
        name: Name for people.
        hosted: Whether the house keeps its points.
        unit: What one point is called.
        scale: Decimal places that a member sees.
        spend: Rate for points spent.
        issue: Rate for points issued; the spend rate where left out, and never below it.
        earn_units: Smallest units earned for `earn_fen`.
        earn_fen: Fen spent.
        valid_days: Life of an earned lot, in days of 24 hours.
        cap_cu: Net debit cap.
        units_min: Fewest smallest units of one order.
        units_max: Most smallest units of one order.
        own_names: Whether the merchant calls members by names of its own; else by their references at the house.
        effective_at: From when the rates are in force; now where left out.
    """

    code: MerchantCode
    name: PersonText
    spend: RateTerms
    cap_cu: CuDigits
    unit: PersonText = "point"
    scale: Annotated[int, msgspec.Meta(ge=0, le=9)] = 0
    hosted: bool = True
    issue: RateTerms | None = None
    earn_units: CuDigits = "0"
    earn_fen: PositiveDigits = "1"
    valid_days: Annotated[int, msgspec.Meta(ge=1, le=36_500)] = 365
    units_min: PositiveDigits = "1"
    units_max: PositiveDigits = str(AMOUNT_LIMIT // 1000)
    own_names: bool = False
    effective_at: Instant | None = None


class MerchantAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A merchant that was registered.

    Attributes:
        code: Public code.
        merchant_no: Its number in the books.
        api_key: Its first API key; shown this once.
    """

    code: str
    merchant_no: int
    api_key: str


class MerchantView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A merchant as everybody may see it; the figures only as the house sees them.

    Attributes:
        code: Public code.
        name: Name for people.
        hosted: Whether the house keeps its points.
        unit: What one point is called.
        scale: Decimal places that a member sees.
        cap_cu: Net debit cap.
        collateral_cu: What a bank holds for it.
        held_cu: Open holds against it.
    """

    code: str
    name: str
    hosted: bool
    unit: str
    scale: int
    cap_cu: CuDigits | None = None
    collateral_cu: CuDigits | None = None
    held_cu: CuDigits | None = None


class MerchantsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of merchants.

    Attributes:
        merchants: By code.
        next: Cursor of the next page; null on the last.
    """

    merchants: list[MerchantView]
    next: str | None
