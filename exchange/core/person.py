"""People who work with the clearing house: their roles, and the rules for names, passwords and failed attempts."""

from __future__ import annotations

import re
from typing import Final

HOUSE_ROLES: Final = ("operator", "treasurer", "auditor", "support")
"""Roles of the house's own people."""
MERCHANT_ROLES: Final = ("merchant-finance", "merchant-integrator")
"""Roles of a merchant's people, who see that merchant's own side only."""
ROLES: Final = (*HOUSE_ROLES, *MERCHANT_ROLES)

CHECKERS: Final = frozenset({"operator", "treasurer"})
"""Roles of those who propose changes and approve each other's."""

NAME_PATTERN: Final = r"\A[a-z0-9][a-z0-9._-]{0,47}\Z"
PASSWORD_MIN: Final = 12
PASSWORD_MAX: Final = 128
FREE_FAILURES: Final = 5
"""So many attempts may fail before the next one must wait."""
LOCK_SECONDS: Final = 30
LOCK_SECONDS_MAX: Final = 3600

_NAME = re.compile(NAME_PATTERN)


def why_not_roles(roles: tuple[str, ...], *, of_merchant: bool) -> str | None:
    """Why somebody cannot have these roles together; None if they can.

    Args:
        roles: What is wanted.
        of_merchant: Whether the person belongs to a merchant.
    """
    allowed = MERCHANT_ROLES if of_merchant else HOUSE_ROLES
    if not roles or len(set(roles)) != len(roles):
        return "a person has one role or more, each once"
    if strange := sorted(set(roles) - set(allowed)):
        whose = "a merchant's" if of_merchant else "the house's"
        return f"{', '.join(strange)}: no role of {whose} people, which are {', '.join(allowed)}"
    if "auditor" in roles and len(roles) > 1:
        return "an auditor has no other role: nobody audits what they did themselves"
    return None


def why_not_name(name: str) -> str | None:
    """Why nobody can be called so; None if somebody can."""
    if _NAME.match(name):
        return None
    return "a name is 1 to 48 of a-z, 0-9 and . _ -, and begins with a letter or a digit"


def why_not_password(password: str, name: str) -> str | None:
    """Why this is no password for that person; None if it is one."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        return f"a password has {PASSWORD_MIN} to {PASSWORD_MAX} characters"
    if name in password.lower() or len(set(password)) < PASSWORD_MIN // 2:
        return "this password is too easy to guess"
    return None


def wait_after(failures: int) -> int:
    """Seconds until the next attempt is looked at, after so many that failed in a row; doubles up to an hour."""
    if failures < FREE_FAILURES:
        return 0
    return min(LOCK_SECONDS_MAX, LOCK_SECONDS << min(failures - FREE_FAILURES, 10))
