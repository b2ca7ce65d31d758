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


class Compensate(Accrual, frozen=True, gc=False, array_like=True, tag=38):
    """Give a member points because a merchant was at fault, at that merchant's cost.

    Attributes:
        at_fault: Merchant that pays; nothing moves where the points are its own.
    """

    at_fault: int = 0


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


class Take(Command, frozen=True, gc=False, array_like=True, tag=25):
    """Take a member's points for an order that goes on elsewhere; `key` is made of the call's reference.

    Attributes:
        member_no: The member's surrogate.
        merchant_no: Whose points.
        units: Smallest point units; more than 0.
        reference: Names this step of the order (`adapters.kit.reference`).
        order_seq: Number of the order's first event; 0 if that is not known.
    """

    member_no: int
    merchant_no: int
    units: int
    reference: str = ""
    order_seq: int = 0


class GiveBack(Command, frozen=True, gc=False, array_like=True, tag=26):
    """Give back what a `Take` took, because its order does not stand.

    Attributes:
        member_no: The member's surrogate.
        merchant_no: Whose points.
        units: As many as were taken.
        of_key: Key of the `Take`.
        of_body: Digest of the `Take`.
        reference: Names this step of the order.
    """

    member_no: int
    merchant_no: int
    units: int
    of_key: bytes
    of_body: bytes
    reference: str = ""


class Credit(Command, frozen=True, gc=False, array_like=True, tag=27):
    """Give a member new points for an order that came from elsewhere.

    Attributes:
        member_no: The member's surrogate.
        merchant_no: Whose points.
        units: Smallest point units; more than 0.
        reference: Names this step of the order.
        order_seq: Number of the order's first event; 0 if that is not known.
        expires_at_us: When the points expire that they are given for, as far as that is known; 0 if it is not.
    """

    member_no: int
    merchant_no: int
    units: int
    reference: str = ""
    order_seq: int = 0
    expires_at_us: int = 0


class TakeBack(Command, frozen=True, gc=False, array_like=True, tag=28):
    """Take back what a `Credit` gave, as long as none of it is spent.

    Attributes:
        member_no: The member's surrogate.
        merchant_no: Whose points.
        units: As many as were given.
        of_key: Key of the `Credit`.
        of_body: Digest of the `Credit`.
        reference: Names this step of the order.
    """

    member_no: int
    merchant_no: int
    units: int
    of_key: bytes
    of_body: bytes
    reference: str = ""


class FindCall(Command, frozen=True, gc=False, array_like=True, tag=29):
    """Ask what became of one of the four commands above; writes nothing, so `key` is a new one each time.

    Asked in the queue, so that what came before it is decided before it.

    Attributes:
        of_key: Key of the command.
        of_body: Digest of the command.
    """

    of_key: bytes
    of_body: bytes


class Transfer(Command, frozen=True, gc=False, array_like=True, tag=30):
    """Give points of one programme from one member of a household to another.

    Attributes:
        household: Id of the household, 16 bytes.
        merchant_no: Whose points.
        giver_no: Surrogate of the member who gives.
        receiver_no: Surrogate of the member who gets.
        units: Smallest point units; greater than zero unless `reason` is set.
        reason: Number of a refusal that was found before the queue; 0 for none.
    """

    household: bytes
    merchant_no: int
    giver_no: int
    receiver_no: int
    units: int
    reason: int = 0


AnyCommand = (
    BooksCommand
    | Reverse
    | Purchase
    | Accrual
    | Compensate
    | LapseLots
    | MemberOrder
    | Basket
    | Take
    | GiveBack
    | Credit
    | TakeBack
    | FindCall
    | Transfer
)
"""Everything that may stand in a writer's queue."""
