"""Commands on hosted points; they wait in the writer's queue beside the books' own."""

from __future__ import annotations

from settlement.core.command import BooksCommand, Command, Order, Reverse
from settlement.core.event import Kind


class Purchase(Command, frozen=True, gc=False, array_like=True, tag=20):
    """One purchase at the till: a discount paid with the member's points of other programmes, then the accrual.

    Attributes:
        member_no: The member's surrogate.
        merchant_no: Where the purchase was made.
        amount_fen: What was paid; earns points of this merchant.
        discount_fen: What the member's points of other programmes shall pay; 0 for nothing.
        occurred_at_us: Till time; 0 for now. In a ledger made for replay also the business time.
        reference: The merchant's own reference.
    """

    member_no: int
    merchant_no: int
    amount_fen: int
    discount_fen: int
    occurred_at_us: int = 0
    reference: str = ""


class Accrual(Command, frozen=True, gc=False, array_like=True, tag=21):
    """Give a member points of one programme.

    Attributes:
        member_no: The member's surrogate.
        merchant_no: Whose points.
        units: Smallest point units; greater than zero unless `reason` is set.
        occurred_at_us: Till time; 0 for now.
        reason: Number of a refusal that was found before the queue; 0 for none.
        reference: The merchant's own reference.
        expires_at_us: When they expire, for points that are brought from elsewhere; 0 as the programme says.
    """

    member_no: int
    merchant_no: int
    units: int
    occurred_at_us: int = 0
    reason: int = 0
    reference: str = ""
    expires_at_us: int = 0


class LapseLots(Command, frozen=True, gc=False, array_like=True, tag=22):
    """Book breakage for lots that expired unused, first to expire first.

    Attributes:
        as_of_us: Lots that expired at or before this instant lapse; never later than the writer's clock.
        limit: Most lots in this command; at most 10,000.
    """

    as_of_us: int
    limit: int = 10_000


class MemberOrder(Order, frozen=True, gc=False, array_like=True, tag=23):
    """An order at an issuer whose members are protected, or one that carries a spending code.

    Attributes:
        code: Digest of the code, whose seal, binding and maximum were checked; empty without one.
        code_until_us: Last instant at which the code counts, microseconds since 1970.
    """

    code: bytes = b""
    code_until_us: int = 0


class Basket(Command, frozen=True, gc=False, array_like=True, tag=24):
    """Several orders for one bill, decided together at one place in the queue.

    Attributes:
        orders: Orders of hosted issuers, all of one acceptor, under the basket's own key.
        accepted: Numbers of accepted orders that are taken further together with them.
        then: `Kind.PINNED` or `Kind.CLEARED`: what becomes of those.
        partial: Whether each part stands alone; else all are done, or none.
    """

    orders: tuple[MemberOrder, ...]
    accepted: tuple[int, ...] = ()
    then: int = int(Kind.PINNED)
    partial: bool = False


AnyCommand = BooksCommand | Reverse | Purchase | Accrual | LapseLots | MemberOrder | Basket
"""Everything that may stand in a writer's queue."""
