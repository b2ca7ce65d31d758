"""For how long personal data is kept, and why for so long: the table that the retention run follows.

Source: exchange/PRIVACY.md, "Retention", which a test compares with this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What is removed once its time is over.

    Attributes:
        name: What it is called in the trail and on the command line.
        table: Where it lies.
        days: How long it is kept, in days, from `since`.
        since: From when the time counts.
        reason: Why not shorter: the law, or what it is needed for.
    """

    name: str
    table: str
    days: int
    since: str
    reason: str

    def before(self, now: datetime) -> datetime:
        """Whose time counts from before this instant is removed."""
        return now - timedelta(days=self.days)


RETENTION: Final = (
    Period(
        name="sessions",
        table="exchange.session",
        days=190,
        since="their end",
        reason="who signed in when: network logs are kept for six months at least (Cybersecurity Law)",
    ),
    Period(
        name="attempts",
        table="exchange.person",
        days=190,
        since="the last failed attempt",
        reason="as for sessions",
    ),
    Period(
        name="credentials",
        table="exchange.person",
        days=30,
        since="somebody was shut out",
        reason="nobody can sign in with them any more; a month to look into why it was done",
    ),
    Period(
        name="consents",
        table="exchange.consent",
        days=1_100,
        since="they were withdrawn",
        reason="evidence that the use before was agreed to, for three years (Civil Code, article 188)",
    ),
    Period(
        name="memberships",
        table="exchange.household_member",
        days=1_100,
        since="they were left, or the invitation ran out",
        reason="as for consents: a membership is one",
    ),
    Period(
        name="links",
        table="exchange.member_link",
        days=1_100,
        since="the last order that used them",
        reason="reversals and disputes of such an order, for three years (E-Commerce Law, article 31)",
    ),
    Period(
        name="dead_letters",
        table="exchange.dead_letter",
        days=90,
        since="they were given up",
        reason="a merchant may still replay them; the events stay in the journal",
    ),
)
"""In the order of the run. What the books, proofs and chains of digests need is not in it."""
