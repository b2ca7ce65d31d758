"""What the audit trail is told of a change: who made it, and what it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from schemas.files.trail import Terms

WHY_MAX: Final = 500

CONTROLLED: Final = frozenset(
    {
        *("merchant.join", "merchant.connect", "rate.set", "tariff.set", "member_rules.set"),
        *("cap.set", "collateral.set", "calendar.set", "cycle.settle", "api_key.issue"),
        *("arrangement.set", "caller_key.register", "funds.move", "cycle.default"),
        *("dispute.decide", "corrections.take", "remainders.return", "compensation.give"),
        *("person.add", "person.invite", "person.link", "person.set_roles"),
    }
)
"""Changes that need a second person once four eyes are in force."""


class SecondPersonNeeded(Exception):  # noqa: N818 - it is what the caller was told
    """Four eyes are in force, and nobody else has approved this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who makes a change.

    Attributes:
        who: `person:NAME`, `key:ID`, `local:USER` or `program`.
        second: Who approved it; empty where nobody had to.
        why: The reason that was given, at most `WHY_MAX` characters.
    """

    who: str
    second: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        """Check what no code path may break.

        Raises:
            ValueError: Nobody did it, one person stands twice, or the reason is too long.
        """
        if not self.who or self.second == self.who:
            raise ValueError(f"not two different people: {self.who!r} and {self.second!r}")
        if len(self.why) > WHY_MAX:
            raise ValueError(f"a reason of {len(self.why)} characters")


PROGRAM: Final = By(who="program")
"""The program itself, where it prepares a ledger of its own: a replay's, a sandbox's, a demo's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change.

    Attributes:
        action: What is done, as `noun.verb`.
        subject: To what: a merchant's code, a cycle's id, a key's id, a person's name.
        before: What it was, field by field; None where there was nothing.
        after: What it is from now on; None where there is nothing left. Amounts are text of digits; never a secret,
            never a member.
    """

    action: str
    subject: str
    before: Terms | None = None
    after: Terms | None = None
