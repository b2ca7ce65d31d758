"""Compensation: points for a member because a merchant was at fault, at that merchant's cost."""

from typing import Literal

import msgspec

from schemas.wire.disputes import OrderId
from schemas.wire.fields import (
    Count,
    CuDigits,
    MemberName,
    MerchantCode,
    MerchantName,
    Reference,
    UnitDigits,
)

Choice = Literal["points", "bonus"]


class CompensationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a merchant that was at fault gives a member, as the member chose.

    Attributes:
        member: Who gets it.
        merchant: Whose points; of a hosted programme, the caller's own or another's.
        choice: `points` for points that were lost, `bonus` for points in place of something else.
        units: Smallest point units.
        reference: The merchant's own reference.
    """

    member: MemberName
    merchant: MerchantName
    choice: Choice
    units: UnitDigits
    reference: Reference = ""

    def canonical(self) -> tuple[object, ...]:
        """What tells it from another request under the same key."""
        return (
            "compensation", self.member, self.merchant, self.choice, int(self.units), self.reference,
        )  # fmt: skip


class CompensationTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`compensation.give`: what the house has a merchant give, of which it found that it was at fault.

    Attributes:
        order_id: The order that it is about; its member gets the points.
        at_fault: Which of the order's two merchants pays.
        merchant: Whose points; of a hosted programme.
        choice: `points` for points that were lost, `bonus` for points in place of something else.
        units: Smallest point units.
        reference: What it is known by; two compensations about one order that are alike differ in it.
    """

    order_id: OrderId
    at_fault: MerchantCode
    merchant: MerchantCode
    choice: Choice
    units: UnitDigits
    reference: Reference = ""


class CompensationAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was given, and what it costs.

    Attributes:
        merchant: Whose points.
        units: Smallest point units.
        lot_no: The lot that was made.
        at: When it was written.
        expires_at: When the points expire.
        cost_cu: What the caller owes that merchant for them; 0 for its own points.
        adjustment_id: Id of the line that says so in the open cycle; left out for the caller's own points.
        cycle: That cycle; left out likewise.
    """

    merchant: str
    units: Count
    lot_no: Count
    at: str
    expires_at: str
    cost_cu: CuDigits
    adjustment_id: str | None = None
    cycle: str | None = None
