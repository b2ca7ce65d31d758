"""Field types that the endpoint families share.

JSON carries every amount as a string of digits, because a JSON number is a float to many readers;
msgpack has real integers and carries those. A record with amounts is therefore written once, generic
in its amount: `BulkOrder[Units]` is what msgpack decodes, `BulkOrder[UnitDigits]` what JSON decodes.
`int()` reads both exactly, since the patterns admit only the digits of a value in range.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Final, TypeVar

from msgspec import Meta

from schemas.values.amounts import AMOUNT_LIMIT, CU_PER_FEN
from schemas.values.ids import KEY_PATTERN, MERCHANT_CODE_PATTERN

AmountT = TypeVar("AmountT", bound=int | str)

FEN_LIMIT: Final = AMOUNT_LIMIT // CU_PER_FEN
MEMBER_PATTERN: Final = r"\A(?!mt_)[\x21-\x7e]{1,64}\Z"
"""References of members stand in partners' systems, so they are visible ASCII; `mt_` begins a token."""
MEMBER_TOKEN_PATTERN: Final = r"\Amt_[a-z2-7]{26}\Z"  # noqa: S105 - what one looks like
REFERENCE_FORBIDDEN: Final = r"\x00-\x1f\x7f-\x9f\ud800-\udfff"
REFERENCE_PATTERN: Final = rf"\A[^{REFERENCE_FORBIDDEN}]{{0,35}}\Z"
"""35 characters is what ISO 20022 leaves for a reference; a control character has no place in one."""

Units = Annotated[
    int, Meta(ge=1, lt=AMOUNT_LIMIT, description="Smallest point units; greater than zero.")
]
UnitDigits = Annotated[
    str,
    Meta(
        pattern=r"\A[1-9][0-9]{0,14}\Z",
        description="Smallest point units, as digits without leading zeros; greater than zero.",
        examples=["250"],
    ),
]
Fen = Annotated[int, Meta(ge=0, lt=FEN_LIMIT, description="Fen; 100 are one yuan.")]
FenDigits = Annotated[
    str,
    Meta(
        pattern=r"\A(0|[1-9][0-9]{0,12})\Z",
        description="Fen, as digits without leading zeros; 100 are one yuan.",
        examples=["1990"],
    ),
]
PositiveFenDigits = Annotated[
    str,
    Meta(
        pattern=r"\A[1-9][0-9]{0,12}\Z",
        description="Fen, as digits without leading zeros; greater than zero.",
        examples=["1990"],
    ),
]
CuDigits = Annotated[
    str,
    Meta(
        pattern=r"\A(0|[1-9][0-9]{0,14})\Z",
        description="Common units (CU), as digits: 1 CU is 0.0001 yuan.",
        examples=["1250000"],
    ),
]
PositiveDigits = Annotated[
    str, Meta(pattern=r"\A[1-9][0-9]{0,14}\Z", description="A positive whole number, as digits.")
]
Count = Annotated[str, Meta(pattern=r"\A[0-9]{1,19}\Z", description="A whole number, as digits.")]
SignedCu = Annotated[
    str,
    Meta(
        pattern=r"\A-?[0-9]{1,19}\Z",
        description="Common units (CU): positive is to receive (应收), negative to pay (应付).",
    ),
]

MerchantName = Annotated[str, Meta(min_length=1, max_length=48, description="A merchant's code.")]
"""As callers name a merchant: an unknown code is a refusal, so no pattern slows a bulk request down."""
MerchantCode = Annotated[
    str, Meta(pattern=MERCHANT_CODE_PATTERN, description="A merchant's public code.")
]
MemberName = Annotated[
    str,
    Meta(
        min_length=1, max_length=64, description="A member's token, or a reference of the caller's."
    ),
]
"""As callers name a member who may not exist; who is enrolled has a `MemberReference`."""
MemberToken = Annotated[
    str,
    Meta(
        pattern=MEMBER_TOKEN_PATTERN,
        description="What the caller calls a member in URLs and answers.",
    ),
]
MemberReference = Annotated[
    str, Meta(pattern=MEMBER_PATTERN, description="A member's reference: visible ASCII.")
]
Key = Annotated[
    str,
    Meta(
        pattern=KEY_PATTERN,
        description="Idempotency key: visible ASCII; a UUIDv7 is best. Kept as long as the journal.",
        examples=["0190f8a0-0000-7000-8000-000000000001"],
    ),
]
Reference = Annotated[
    str, Meta(pattern=REFERENCE_PATTERN, description="The merchant's own reference.")
]
Instant = Annotated[
    datetime, Meta(tz=True, description="An instant with its offset (RFC 3339 §5.6).")
]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(at: datetime | None) -> int:
    """An instant as microseconds since 1970, exactly; 0 for none."""
    if at is None:
        return 0
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def instant_text(at_us: int) -> str:
    """Microseconds since 1970 as RFC 3339 text in UTC; the fraction only where there is one."""
    second, fraction = divmod(at_us, 1_000_000)
    return f"{_second_text(second)}.{fraction:06d}Z" if fraction else f"{_second_text(second)}Z"


@lru_cache(maxsize=1024)
def _second_text(second: int) -> str:
    """Date and time to the second; answers come in runs of the same one."""
    return (_EPOCH + timedelta(seconds=second)).isoformat()[:19]
