"""Members: enrolling them, what they have, and what happened to it."""

from typing import Annotated, Literal

import msgspec

from schemas.wire.decoding import BULK_MAX
from schemas.wire.fields import Count, CuDigits, MemberReference, MemberToken, MerchantName


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Members to enrol; one who is enrolled already stays as they are.

    Attributes:
        members: Their references.
    """

    members: Annotated[list[MemberReference], msgspec.Meta(min_length=1, max_length=BULK_MAX)]


class EnrolAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the members are called from now on.

    Attributes:
        enrolled: Count of different references.
        tokens: The caller's token of each member, in the order of the request.
    """

    enrolled: int
    tokens: list[MemberToken]


class LinkRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A member's account at a merchant's own system, to be linked.

    Attributes:
        merchant: The merchant.
        merchant_member: The member's id there, as the member knows it.
        proof: What the merchant's system checks, for example a one-time code.
    """

    merchant: MerchantName
    merchant_member: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    proof: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class LinkAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A link that was made.

    Attributes:
        member: The member's token.
        merchant: The merchant.
        merchant_member: The member's id there, as the merchant's system spells it.
    """

    member: MemberToken
    merchant: str
    merchant_member: str


class LotView(msgspec.Struct, frozen=True, kw_only=True):
    """Points that expire together.

    Attributes:
        units: What is left of them.
        expires_at: From when they can no longer be spent.
    """

    units: Count
    expires_at: str


class BalanceView(msgspec.Struct, frozen=True, kw_only=True):
    """A member's live points of one programme.

    Attributes:
        merchant: Whose points.
        unit: What one point is called.
        scale: Decimal places that a member sees.
        units: Smallest point units, all lots together.
        worth_cu: What spending them all would debit at the rate in force; 0 without a rate.
        lots: First to expire first.
    """

    merchant: str
    unit: str
    scale: int
    units: Count
    worth_cu: CuDigits
    lots: list[LotView]


class BalancesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Live points of a member: a merchant sees its own programme, the house sees all.

    Attributes:
        member: The member's token.
        as_of: Instant of the answer.
        balances: By merchant code.
    """

    member: MemberToken
    as_of: str
    balances: list[BalanceView]


class HistoryLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event that moved a member's hosted points.

    Attributes:
        seq: Its number in the journal.
        at: When it was written.
        occurred_at: When it happened at the till.
        kind: What happened. Points are *taken* for an order that goes on at another merchant's own system, and
            *returned* if it does not stand; they are *credited* by one that came from there, and *withdrawn*
            if that does not stand. Inside a household they are *given* by one member and *received* by another.
        issuer: Whose points.
        acceptor: Where the value went; only for an order that cleared at once, and its reversals.
        units: Smallest point units that moved.
        value_cu: Value at the acceptor, or what was taken back of it; as for the acceptor.
        credited_units: New points at the acceptor by an exchange, or taken back there; of points that were returned,
            those in a new lot.
        order_id: The order or the transfer, where there is one; of a reversal, the order that it takes back.
    """

    seq: Count
    at: str
    occurred_at: str
    kind: Literal[
        "cleared",
        "accrued",
        "lapsed",
        "taken",
        "returned",
        "credited",
        "withdrawn",
        "reversed",
        "given",
        "received",
    ]
    issuer: str
    units: Count
    acceptor: str | None = None
    value_cu: CuDigits | None = None
    credited_units: CuDigits | None = None
    order_id: str | None = None


class HistoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a member's history, newest first: a merchant sees its own part of it.

    Attributes:
        member: The member's token.
        lines: At most as many as asked for.
        next: Cursor of the next page; null on the last.
    """

    member: MemberToken
    lines: list[HistoryLine]
    next: str | None


class ConsentRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a member agreed to: to be made known to another merchant.

    Attributes:
        receiver: Code of the merchant that may know the member from now on.
        purpose: What for, as the member read it.
        giver: Code of the merchant whose member it is; said by the house, left out by the merchant itself.
    """

    receiver: MerchantName
    purpose: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    giver: MerchantName | None = None


class ConsentView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A recorded consent.

    Attributes:
        consent_no: Its number.
        giver: Code of the merchant that gives.
        receiver: Code of the merchant that receives.
        purpose: What for.
        given_at: When the member agreed.
        withdrawn_at: When the member withdrew it; left out while it counts.
        token: What the receiver calls the member; in the answer to the request that recorded the consent.
    """

    consent_no: Count
    giver: str
    receiver: str
    purpose: str
    given_at: str
    withdrawn_at: str | None = None
    token: MemberToken | None = None


class ConsentsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Consents of a member: a merchant sees those in which it is giver or receiver.

    Attributes:
        consents: Newest first.
        next: Cursor of the next page; null on the last.
    """

    consents: list[ConsentView]
    next: str | None
