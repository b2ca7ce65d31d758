"""Baskets: one bill that a member's points of several issuers pay."""

from typing import Annotated, Literal

import msgspec

from schemas.values.faults import SchemaError
from schemas.wire.fields import (
    Count,
    CuDigits,
    MemberName,
    MerchantName,
    PositiveFenDigits,
    Reference,
    UnitDigits,
)
from schemas.wire.orders import DecideBySeconds, Token
from schemas.wire.problems import ElementProblem

PARTS_MAX = 16


class BasketPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one issuer's points pay of the bill.

    Attributes:
        issuer: Whose points are spent.
        units: Smallest point units to spend; this or `value_fen`.
        value_fen: Value that is wanted at the acceptor, in fen; the fewest points that are worth it are spent.
        code: A spending code, where the issuer's programme asks for one.
    """

    issuer: MerchantName
    units: UnitDigits | None = None
    value_fen: PositiveFenDigits | None = None
    code: Token | None = None

    def canonical(self) -> tuple[object, ...]:
        """What tells it from another part."""
        return (
            self.issuer,
            None if self.units is None else int(self.units),
            None if self.value_fen is None else int(self.value_fen),
            self.code,
        )


class BasketRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One bill at one acceptor.

    Attributes:
        member: Whose points.
        acceptor: Where the value goes.
        parts: What each issuer's points pay; an issuer may stand in several.
        partial: Whether each part stands alone; else all parts are done, or none.
        reference: The acceptor's own reference.
        decide_by_seconds: Where points of merchants' own systems are among them: when the till must have its
            final answer; 3 seconds where left out.
    """

    member: MemberName
    acceptor: MerchantName
    parts: Annotated[list[BasketPart], msgspec.Meta(min_length=1, max_length=PARTS_MAX)]
    partial: bool = False
    reference: Reference = ""
    decide_by_seconds: DecideBySeconds | None = None

    def check(self) -> None:
        """Check what no field can say alone.

        Raises:
            SchemaError: A part does not have exactly one amount.
        """
        for place, part in enumerate(self.parts):
            if part.units is None and part.value_fen is None:
                raise SchemaError(f"$.parts[{place}].units", "Expected `units` or `value_fen`")
            if part.units is not None and part.value_fen is not None:
                raise SchemaError(
                    f"$.parts[{place}].value_fen",
                    "Expected either `units` or `value_fen`, not both",
                )

    def canonical(self) -> tuple[object, ...]:
        """The basket without its key, the same however it was spelt."""
        return (
            "basket",
            self.member,
            self.acceptor,
            [part.canonical() for part in self.parts],
            self.partial,
            self.reference,
            self.decide_by_seconds,
        )


class BasketPartAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one part.

    Attributes:
        issuer: Whose points.
        status: What became of it.
        order_id: Its order; a refused one has an id too, unless it was refused before the books saw it.
        units: Smallest point units.
        debit_cu: What the issuer owes.
        value_cu: What the acceptor is credited before the fee.
        fee_cu: The house's fee.
        remainder_cu: What went to the rounding account.
        problem: Why it was not done; `basket_not_covered` if for another part.
    """

    issuer: str
    status: Literal["cleared", "refused"]
    order_id: str | None
    units: CuDigits
    debit_cu: CuDigits
    value_cu: CuDigits
    fee_cu: CuDigits
    remainder_cu: CuDigits
    problem: ElementProblem | None = None


class BasketAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A bill as it was decided.

    Attributes:
        status: `cleared` if every part is done, `partial` if some are, `refused` if none is.
        value_cu: What of the bill is paid, CU.
        value_yuan: The same in yuan.
        parts: In the order of the request.
    """

    status: Literal["cleared", "partial", "refused"]
    value_cu: Count
    value_yuan: str
    parts: list[BasketPartAnswer]
