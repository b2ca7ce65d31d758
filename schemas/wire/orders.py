"""Orders: spending points of an issuer for value at an acceptor."""

import re
from collections.abc import Sequence
from typing import Annotated, Final, Generic, Literal

import msgspec

from schemas.values.faults import SchemaError
from schemas.wire.adjustments import AdjustmentView
from schemas.wire.fields import (
    REFERENCE_FORBIDDEN,
    AmountT,
    Count,
    CuDigits,
    Instant,
    Key,
    MemberName,
    MerchantName,
    Reference,
    microseconds,
)
from schemas.wire.problems import ElementProblem
from schemas.wire.quotes import OrderKind
from schemas.wire.reversals import ReversalView

HOLD_SECONDS_DEFAULT = 15 * 60
HOLD_SECONDS_MAX = 7 * 24 * 3600
_NOT_IN_A_REFERENCE: Final = re.compile(f"[{REFERENCE_FORBIDDEN}]")

HoldSeconds = Annotated[
    int,
    msgspec.Meta(
        ge=1, le=HOLD_SECONDS_MAX, description="How long an accepted order may wait for its end."
    ),
]
DecideBySeconds = Annotated[
    int,
    msgspec.Meta(ge=1, le=30, description="When the till must have its final answer."),
]
Token = Annotated[
    str, msgspec.Meta(min_length=1, max_length=400, description="A token, as it was given.")
]


class OrderTerms(
    msgspec.Struct,
    Generic[AmountT],
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    gc=False,
):
    """An order: either a quote's token, or plain terms at the rate in force.

    Attributes:
        member: Whose points.
        quote: Token of a quote; then the terms below are left out.
        issuer: Whose points are spent.
        acceptor: Where the value goes.
        units: Smallest point units to spend.
        kind: Redemption or exchange; with a quote, the quote says it.
        occurred_at: Till time of an order that was taken offline.
        hold_seconds: For an issuer with its own system: how long the order may stay accepted before
            it is cleared or voided; 15 minutes where left out. An order of a hosted issuer clears at
            once and is refused with `hold_not_offered` if it names a hold.
        reference: The merchant's own reference.
        code: A spending code, the member's word that this may be; where the issuer's programme asks for one.
        decide_by_seconds: For an order between merchants' own systems: when the till must have its final
            answer; 3 seconds where left out. Whatever comes later is undone.
    """

    member: MemberName
    quote: Token | None = None
    issuer: MerchantName | None = None
    acceptor: MerchantName | None = None
    units: AmountT | None = None
    kind: OrderKind | None = None
    occurred_at: Instant | None = None
    hold_seconds: HoldSeconds | None = None
    reference: Reference = ""
    code: Token | None = None
    decide_by_seconds: DecideBySeconds | None = None

    def fault(self) -> SchemaError | None:
        """What no field can say alone: exactly one of quote and plain terms is given."""
        if self.quote is not None:
            for name in ("issuer", "acceptor", "units", "kind"):
                if getattr(self, name) is not None:
                    return SchemaError(f"$.{name}", f"`{name}` is in the quote already")
            return None
        if self.issuer is not None and self.acceptor is not None and self.units is not None:
            return None
        for name in ("issuer", "acceptor", "units"):
            if getattr(self, name) is None:
                return SchemaError(f"$.{name}", f"Expected `{name}`, or a `quote`")
        return None

    def canonical(self) -> tuple[object, ...]:
        """The order without its key, the same whether it came as JSON or msgpack, alone or in bulk."""
        units = self.units
        order = (
            "order",
            self.member,
            self.quote,
            self.issuer,
            self.acceptor,
            None if units is None else int(units),
            self.kind,
            microseconds(self.occurred_at),
            self.hold_seconds,
            self.reference,
        )
        if self.decide_by_seconds is not None:
            return (*order, self.code, self.decide_by_seconds)
        return order if self.code is None else (*order, self.code)


class BulkOrder(OrderTerms[AmountT], Generic[AmountT], frozen=True, kw_only=True, gc=False):
    """An order in a bulk request, with its own idempotency key.

    Attributes:
        key: Idempotency key; the same namespace as the header of a single order.
    """

    key: Key


class UncheckedOrder(BulkOrder[AmountT], Generic[AmountT], frozen=True, kw_only=True, gc=False):
    """A bulk order whose texts are still to be held against their patterns, by `texts_are_sound`.

    A pattern is a call of Python's for every text; on a column of texts it is one.
    """

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    reference: Annotated[str, msgspec.Meta(max_length=35)] = ""


def texts_are_sound(orders: Sequence[UncheckedOrder[int]]) -> bool:
    """Whether every key and every reference keeps to its pattern."""
    keys = "".join([order.key for order in orders])
    references = "".join([order.reference for order in orders])
    return (
        keys.isascii()
        and keys.isprintable()
        and " " not in keys
        and (not references or _NOT_IN_A_REFERENCE.search(references) is None)
    )


class OrderAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An order as it stands after the request.

    Attributes:
        order_id: Its id.
        status: `cleared`, or `accepted` and waiting for its end.
        cycle: Id of the cycle that was open at the writing.
        at: When it was written.
        issuer: Whose points were spent.
        acceptor: Where the value goes.
        units: Smallest point units.
        debit_cu: What the issuer owes.
        value_cu: What the acceptor is credited before the fee.
        fee_cu: The house's fee.
        remainder_cu: What went to the rounding account.
        credited_units: New points at the acceptor; left out for none.
        hold_until: When an accepted order expires.
    """

    order_id: str
    status: Literal["cleared", "accepted", "voided"]
    cycle: str
    at: str
    issuer: str
    acceptor: str
    units: Count
    debit_cu: CuDigits
    value_cu: CuDigits
    fee_cu: CuDigits
    remainder_cu: CuDigits
    credited_units: CuDigits | None = None
    hold_until: str | None = None


class BulkOrderAnswer(msgspec.Struct, Generic[AmountT], frozen=True, omit_defaults=True, gc=False):
    """The answer to one element, in the place of that element.

    Attributes:
        status: What became of it.
        order_id: Its id; a refused order has one too, a malformed element has none.
        debit_cu: What the issuer owes.
        value_cu: What the acceptor is credited before the fee.
        fee_cu: The house's fee.
        credited_units: New points at the acceptor; left out for none.
        problem: Why it was not done.
    """

    status: Literal["cleared", "accepted", "refused", "malformed"]
    order_id: str | None = None
    debit_cu: AmountT | None = None
    value_cu: AmountT | None = None
    fee_cu: AmountT | None = None
    credited_units: AmountT | None = None
    problem: ElementProblem | None = None


class OrderView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An order as the journal has it; attributes as in `OrderAnswer`.

    Attributes:
        status: Where it stands now.
        occurred_at: Till time.
        accepted_at: When it was first written.
        ended_at: When it cleared, was voided or expired.
        cycle: The cycle of its clearing, or the one that was open when it was last written.
        rate_cu: CU for `rate_units` smallest units; left out where no rate was used.
        rate_units: Smallest units.
        reference: The reference that its sender gave; only its sender and the house see it.
        problem: Why it was refused, or undone.
        journey: Where an order between merchants' own systems stands, for example `crediting`; left out
            for every other order.
        stuck: Whether people are asked about it; left out where they are not.
        reversed_units: Units of a cleared order that reversals took back; left out for none.
        reversals: These reversals, oldest first; left out for none.
        adjustments: Adjustments that corrected the order's line, oldest first; left out for none.
    """

    order_id: str
    status: Literal["cleared", "accepted", "voided", "expired", "refused"]
    cycle: str
    occurred_at: str
    accepted_at: str
    issuer: str
    acceptor: str
    units: Count
    debit_cu: CuDigits
    value_cu: CuDigits
    fee_cu: CuDigits
    remainder_cu: CuDigits
    credited_units: CuDigits
    ended_at: str | None = None
    hold_until: str | None = None
    rate_cu: CuDigits | None = None
    rate_units: CuDigits | None = None
    reference: str | None = None
    problem: ElementProblem | None = None
    journey: str | None = None
    stuck: bool = False
    reversed_units: Count | None = None
    reversals: list[ReversalView] = []
    adjustments: list[AdjustmentView] = []
