"""Reversals: taking back an order that cleared, in part or whole."""

from typing import Annotated

import msgspec

from schemas.wire.fields import Count, CuDigits, Reference, UnitDigits

_Remainder = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A(0|-1|[1-9][0-9]{0,14})\Z",
        description="Common units (CU), as digits; one below 0 where the parts of an order are rounded so.",
    ),
]


class ReversalRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of an order is to be taken back.

    Attributes:
        units: Smallest point units of the order to take back; all that are left where it is left out.
        reference: The merchant's own reference of this reversal; the order's where it is left out.
    """

    units: UnitDigits | None = None
    reference: Reference = ""

    def canonical(self, order_id: str) -> tuple[object, ...]:
        """What tells it from another request under the same key."""
        units = None if self.units is None else int(self.units)
        return ("reverse", order_id, units, self.reference)


class ReversalView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One reversal: what it took back, in figures without a sign.

    Attributes:
        reversal_id: Its id.
        at: When it was written.
        cycle: Id of the cycle that was open then, and that it belongs to.
        units: Smallest point units that came back to the member.
        debit_cu: What the issuer owes less.
        value_cu: What the acceptor is credited less, before the fee.
        fee_cu: What of the house's fee was given back.
        remainder_cu: What came back from the rounding account; 1 CU below 0 where floors of a part fall so.
        credited_units: New points at the acceptor that were taken back; left out for none.
        new_lot_until: When the points expire that came back too late for the lots that they had come from; left
            out where there are none.
        journey: Of points that the issuer's own system gives back: `owing`, `returning`, or `returned`.
    """

    reversal_id: str
    at: str
    cycle: str
    units: Count
    debit_cu: CuDigits
    value_cu: CuDigits
    fee_cu: CuDigits
    remainder_cu: _Remainder
    credited_units: CuDigits | None = None
    new_lot_until: str | None = None
    journey: str | None = None


class ReversalAnswer(ReversalView, frozen=True, kw_only=True, omit_defaults=True):
    """A reversal, and the order that it takes back.

    Attributes:
        order_id: The order.
        issuer: Whose points came back.
        acceptor: Whose credit was taken back.
    """

    order_id: str
    issuer: str
    acceptor: str
