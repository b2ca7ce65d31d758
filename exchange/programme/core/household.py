"""Households: what a merchant allows them, and whether a transfer keeps to it.

Points move inside one programme, so a household is of one hosted programme.

Source: settlement/RULES.md, rules H1 to H7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.programme.core.lots import DAY_US
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

MONTH_US: Final = 30 * DAY_US
"""A month, for limits: 30 times 24 hours."""
INVITATION_DAYS: Final = 7
"""How long an invitation waits for its answer."""
LOTS_MAX: Final = 1_000
"""Most lots that one transfer may take of; each is written down for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseholdRules:
    """What a merchant allows the households of its programme; of a giver, over rolling windows.

    Attributes:
        offered: Whether there are households at all.
        members_max: Most members, with open invitations.
        transfer_units_max: Most units of one transfer.
        daily_units: Most units of one giver in 24 hours.
        daily_transfers: Most transfers of one giver in 24 hours.
        monthly_units: Most units of one giver in 30 days.
        monthly_transfers: Most transfers of one giver in 30 days.
        cooling_days: How long one who was in a household waits before joining another.
    """

    offered: bool
    members_max: int
    transfer_units_max: int
    daily_units: int
    daily_transfers: int
    monthly_units: int
    monthly_transfers: int
    cooling_days: int


class Household(NamedTuple):
    """One that was not dissolved, as the writer needs it.

    Attributes:
        merchant_no: Its programme.
        members: Those who joined and did not leave.
        rules: The programme's rules; None where it never set any.
    """

    merchant_no: int
    members: frozenset[int]
    rules: HouseholdRules | None


class Given(NamedTuple):
    """A transfer that counts against its giver's limits.

    Attributes:
        at_us: When it was written.
        units: Smallest point units.
    """

    at_us: int
    units: int


def within_limits(
    rules: HouseholdRules, given: Iterable[Given], *, at_us: int, units: int
) -> Reason | None:
    """Say whether one more transfer keeps to its giver's limits.

    Args:
        rules: The programme's rules.
        given: The giver's earlier transfers in this programme; older ones than a month do no harm.
        at_us: Now, microseconds since 1970.
        units: Units of the new transfer.

    Returns:
        None, or TRANSFER_LIMIT_EXCEEDED.
    """
    month = [each for each in given if each.at_us > at_us - MONTH_US]
    day = [each for each in month if each.at_us > at_us - DAY_US]
    fits = (
        units <= rules.transfer_units_max
        and len(day) < rules.daily_transfers
        and len(month) < rules.monthly_transfers
        and sum(each.units for each in day) + units <= rules.daily_units
        and sum(each.units for each in month) + units <= rules.monthly_units
    )
    return None if fits else Reason.TRANSFER_LIMIT_EXCEEDED
