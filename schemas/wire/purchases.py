"""Purchases and accruals of hosted programmes."""

from typing import Generic, Literal

import msgspec

from schemas.wire.fields import (
    AmountT,
    Count,
    Instant,
    Key,
    MemberName,
    MerchantName,
    Reference,
    UnitDigits,
    microseconds,
)
from schemas.wire.problems import ElementProblem


class BulkPurchase(
    msgspec.Struct,
    Generic[AmountT],
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    gc=False,
):
    """One purchase at the till: a discount paid with points of other programmes, then the accrual.

    Attributes:
        key: Idempotency key.
        member: Who bought.
        merchant: Where.
        amount_fen: What was paid; earns points of this merchant.
        discount_fen: What the member's points of other programmes shall pay, first to expire first.
        occurred_at: Till time; now where left out.
        reference: The merchant's own reference.
    """

    key: Key
    member: MemberName
    merchant: MerchantName
    amount_fen: AmountT
    discount_fen: AmountT | None = None
    occurred_at: Instant | None = None
    reference: Reference = ""

    def canonical(self) -> tuple[object, ...]:
        """The purchase without its key, the same whether it came as JSON or msgpack."""
        return (
            "purchase",
            self.member,
            self.merchant,
            int(self.amount_fen),
            int(self.discount_fen or 0),
            microseconds(self.occurred_at),
            self.reference,
        )


class PurchaseOrder(msgspec.Struct, Generic[AmountT], frozen=True, omit_defaults=True, gc=False):
    """One order that a purchase's discount made.

    Attributes:
        order_id: Its id.
        issuer: Whose points.
        status: Whether it cleared.
        units: Smallest point units.
        debit_cu: What the issuer owes.
        value_cu: What it pays of the discount.
        fee_cu: The house's fee.
        reason: Why it was refused; the next issuer was asked.
    """

    order_id: str
    issuer: str
    status: Literal["cleared", "refused"]
    units: AmountT
    debit_cu: AmountT
    value_cu: AmountT
    fee_cu: AmountT
    reason: str | None = None


class BulkPurchaseAnswer(
    msgspec.Struct, Generic[AmountT], frozen=True, omit_defaults=True, gc=False
):
    """The answer to one purchase, in its place.

    Attributes:
        status: Whether it was booked.
        earned_units: Points that it earned.
        unfunded_cu: What of the discount no points paid.
        lot_no: The lot that was made.
        orders: The orders that paid the discount, in the order in which they were tried.
        problem: Why it was not booked.
    """

    status: Literal["booked", "refused", "malformed"]
    earned_units: AmountT | None = None
    unfunded_cu: AmountT | None = None
    lot_no: AmountT | None = None
    orders: tuple[PurchaseOrder[AmountT], ...] = ()
    problem: ElementProblem | None = None


class AccrualRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Points that a hosted merchant gives a member.

    Attributes:
        member: Who gets them.
        merchant: Whose points; a merchant gives only its own.
        units: Smallest point units.
        occurred_at: Till time; now where left out.
        reference: The merchant's own reference.
    """

    member: MemberName
    merchant: MerchantName
    units: UnitDigits
    occurred_at: Instant | None = None
    reference: Reference = ""

    def canonical(self) -> tuple[object, ...]:
        """The accrual as its idempotency key's body."""
        return (
            "accrual",
            self.member,
            self.merchant,
            int(self.units),
            microseconds(self.occurred_at),
            self.reference,
        )


class AccrualAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Points that were given.

    Attributes:
        merchant: Whose points.
        units: Smallest point units.
        lot_no: The lot that was made.
        at: When it was written.
        expires_at: When the lot expires.
    """

    merchant: str
    units: Count
    lot_no: Count
    at: str
    expires_at: str
