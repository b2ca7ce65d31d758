"""Households: members of one programme who share their points, and transfers between them."""

from typing import Annotated, Final, Literal

import msgspec

from schemas.values.faults import SchemaError
from schemas.wire.fields import Count, MemberName, MemberToken, MerchantName, UnitDigits

BOUNDS: Final = {
    "members_max": (2, 10),
    "transfer_units_max": (1, 1_000_000_000),
    "daily_units": (1, 1_000_000_000),
    "daily_transfers": (1, 100),
    "monthly_units": (1, 10_000_000_000),
    "monthly_transfers": (1, 1_000),
    "cooling_days": (7, 365),
}
"""The house's bounds: least and most of each figure that a merchant may set (rule H5)."""

HOUSEHOLD_ID_PATTERN: Final = r"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z"
HouseholdId = Annotated[
    str, msgspec.Meta(pattern=HOUSEHOLD_ID_PATTERN, description="A household's id.")
]
Purpose = Annotated[
    str,
    msgspec.Meta(
        min_length=1, max_length=200, description="What the member agreed to, as they read it."
    ),
]
TextVersion = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A[0-9A-Za-z._-]{1,40}\Z", description="Version of the text that the member read."
    ),
]


def _bounded(name: str) -> msgspec.Meta:
    least, most = BOUNDS[name]
    return msgspec.Meta(ge=least, le=most)


class HouseholdRulesRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a programme allows its households, within the house's bounds; replaces what was, whole.

    Attributes:
        offered: Whether there are households; where not, transfers end at once and nobody joins.
        members_max: Most members, with open invitations.
        transfer_units_max: Most units of one transfer; at most 1,000,000,000.
        daily_units: Most units of one giver in 24 hours; at most 1,000,000,000.
        daily_transfers: Most transfers of one giver in 24 hours.
        monthly_units: Most units of one giver in 30 days; at most 10,000,000,000.
        monthly_transfers: Most transfers of one giver in 30 days.
        cooling_days: How many days one who left a household waits before joining another.
    """

    offered: bool
    members_max: Annotated[int, _bounded("members_max")]
    transfer_units_max: UnitDigits
    daily_units: UnitDigits
    daily_transfers: Annotated[int, _bounded("daily_transfers")]
    monthly_units: UnitDigits
    monthly_transfers: Annotated[int, _bounded("monthly_transfers")]
    cooling_days: Annotated[int, _bounded("cooling_days")]

    def check(self) -> None:
        """Hold the bounds of units, which are digits here.

        Raises:
            SchemaError: A figure is beyond the house's bounds; names it.
        """
        for name in ("transfer_units_max", "daily_units", "monthly_units"):
            least, most = BOUNDS[name]
            if not least <= int(getattr(self, name)) <= most:
                raise SchemaError(f"$.{name}", f"Expected {least} to {most} units")


class HouseholdRulesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a programme allows its households.

    Attributes:
        merchant: The programme's merchant.
        offered: Whether there are households.
        members_max: Most members, with open invitations.
        transfer_units_max: Most units of one transfer.
        daily_units: Most units of one giver in 24 hours.
        daily_transfers: Most transfers of one giver in 24 hours.
        monthly_units: Most units of one giver in 30 days.
        monthly_transfers: Most transfers of one giver in 30 days.
        cooling_days: How many days one who left a household waits before joining another.
    """

    merchant: str
    offered: bool
    members_max: int
    transfer_units_max: Count
    daily_units: Count
    daily_transfers: int
    monthly_units: Count
    monthly_transfers: int
    cooling_days: int


class HouseholdRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A household to be, with its head's consent.

    Attributes:
        head: Who makes it, and is its head.
        purpose: What the head agreed to.
        text_version: Version of the text that the head read.
        merchant: Whose programme; said by the house, left out by the merchant itself.
    """

    head: MemberName
    purpose: Purpose
    text_version: TextVersion
    merchant: MerchantName | None = None


class InvitationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A member whom the head wants in the household.

    Attributes:
        by: Who invites: the head.
        member: Who is invited.
    """

    by: MemberName
    member: MemberName


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An invited member's consent, by which they join.

    Attributes:
        member: Who joins.
        purpose: What they agreed to.
        text_version: Version of the text that they read.
    """

    member: MemberName
    purpose: Purpose
    text_version: TextVersion


class LeaveRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A consent that is withdrawn, an invitation that is declined, or somebody whom the head removes.

    Attributes:
        by: Who says so: the member, or the head.
        member: Who is to leave; the head's own leaving dissolves the household.
    """

    by: MemberName
    member: MemberName


class HouseholdMemberView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody in a household, or invited to it.

    Attributes:
        member: Their token; left out where the caller does not know them any more.
        head: Whether they are the head.
        state: Whether they joined.
        since: Since when.
        invited_until: Until when an invitation counts.
    """

    member: MemberToken | None = None
    head: bool
    state: Literal["invited", "joined"]
    since: str
    invited_until: str | None = None


class HouseholdView(msgspec.Struct, frozen=True, kw_only=True):
    """A household.

    Attributes:
        household_id: Its id.
        merchant: Whose programme.
        state: Whether it stands.
        made_at: Since when.
        members: Who is in it and who is invited; the head first.
    """

    household_id: HouseholdId
    merchant: str
    state: Literal["active", "dissolved"]
    made_at: str
    members: list[HouseholdMemberView]


class HouseholdsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Households that a member is in or is invited to: a merchant sees those of its programme, the house all.

    Attributes:
        households: The oldest first.
    """

    households: list[HouseholdView]


class TransferRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Points that one member of a household gives another.

    Attributes:
        giver: Who gives.
        receiver: Who gets.
        units: Smallest point units.
    """

    giver: MemberName
    receiver: MemberName
    units: UnitDigits

    def canonical(self, household: str) -> tuple[object, ...]:
        """The transfer as its idempotency key's body."""
        return ("transfer", household, self.giver, self.receiver, int(self.units))


class TransferLot(msgspec.Struct, frozen=True, kw_only=True):
    """What one lot of the giver's gave.

    Attributes:
        units: Smallest point units.
        lot_no: The receiver's lot that they are in.
        expires_at: When they expire, as they did before.
    """

    units: Count
    lot_no: Count
    expires_at: str


class TransferView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A transfer that was made.

    Attributes:
        order_id: Its id, of the same kind as an order's.
        household_id: The household.
        merchant: Whose points.
        state: Always `cleared`: it is done at once or refused.
        at: When it was written.
        units: Smallest point units.
        lots: The lots that gave, first to expire first.
        giver: Token of who gave; left out where the caller does not know them any more.
        receiver: Token of who got; likewise.
    """

    order_id: str
    household_id: HouseholdId
    merchant: str
    state: Literal["cleared"]
    at: str
    units: Count
    lots: list[TransferLot]
    giver: MemberToken | None = None
    receiver: MemberToken | None = None
