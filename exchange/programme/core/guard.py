"""What protects members in the writer: which spending codes were used, and what counts against limits.

Codes are kept until they would have expired anyway, orders for a day. Both are decided on here in
arrival order, where nobody can overtake anybody, and written by the flush of the order itself.

Source: settlement/RULES.md, rules A1 to A6.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.programme.core.lots import DAY_US
from schemas.values.reason import Reason
from settlement.core.event import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exchange.core.catalogue import MemberRules
    from settlement.core.books import Books
    from settlement.core.command import Entry

WINDOW_US: Final = DAY_US
"""Limits count what was accepted or cleared less than this long ago."""


class Spend(NamedTuple):
    """What somebody wants of a member's points.

    Attributes:
        caller: Who asks.
        issuer: Whose points.
        member_no: The member's surrogate.
        debit_cu: What the issuer would owe, CU.
        code: Digest of a spending code; empty without one.
        code_until_us: Last instant at which the code counts.
    """

    caller: int
    issuer: int
    member_no: int
    debit_cu: int
    code: bytes = b""
    code_until_us: int = 0


class Counted:
    """An order that counts against its member's limits at one issuer."""

    __slots__ = ("at_us", "debit_cu", "held", "issuer", "member_no", "seq")

    def __init__(
        self, member_no: int, issuer: int, seq: int, at_us: int, debit_cu: int, *, held: bool
    ) -> None:
        """Take what is known of it; `held` while it is accepted and has not ended."""
        self.member_no = member_no
        self.issuer = issuer
        self.seq = seq
        self.at_us = at_us
        self.debit_cu = debit_cu
        self.held = held


class GuardChanges(NamedTuple):
    """What one flush writes.

    Attributes:
        codes: Codes that were used: digest, until when they counted, the order's event.
        counted: Orders that count from now on.
        forget_us: Codes that counted until an earlier instant, and orders that are a day older than it,
            are forgotten; 0 to forget nothing now.
    """

    codes: list[tuple[bytes, int, int]]
    counted: list[Counted]
    forget_us: int


class Guard:
    """Used codes, and what the members that commands have concerned so far spent lately."""

    def __init__(self, codes: dict[bytes, int]) -> None:
        """Start with the used codes that still count, and until when; no member is loaded."""
        self.codes = codes
        self.members: dict[int, list[Counted]] = {}
        self._used: list[tuple[bytes, int, int]] = []
        self._counted: list[Counted] = []
        self._forget_us = 0

    # Loading and writing ---------------------------------------------------------------------------

    def put_members(self, members: Iterable[int], counted: Iterable[Counted]) -> None:
        """Take in what is stored of members that were not loaded, in the order of the journal."""
        for member_no in members:
            self.members[member_no] = []
        for one in counted:
            self.members[one.member_no].append(one)

    def held(self, members: Iterable[int]) -> list[int]:
        """Orders of loaded members that were accepted, and of which no end is known."""
        return [one.seq for member_no in members for one in self.members[member_no] if one.held]

    def end(self, members: Iterable[int], ends: dict[int, int]) -> None:
        """Take in how orders ended: those that were released count no more."""
        for member_no in members:
            self.members[member_no] = [
                one
                for one in self.members[member_no]
                if not one.held or _counts(one, ends.get(one.seq, Kind.ACCEPTED))
            ]

    def take(self) -> GuardChanges:
        """Hand over what changed since the last call."""
        forget_us = 0
        if self._used or self._counted:
            # Only a flush that writes events is sure to be written.
            forget_us, self._forget_us = self._forget_us, 0
        changes = GuardChanges(self._used, self._counted, forget_us)
        self._used, self._counted = [], []
        return changes

    def forget(self, at_us: int) -> None:
        """Let go of what no decision from `at_us` on can need."""
        self.codes = {code: until_us for code, until_us in self.codes.items() if until_us >= at_us}
        self._forget_us = at_us

    # Decisions -------------------------------------------------------------------------------------

    def why_not(
        self,
        spend: Spend,
        rules: MemberRules | None,
        books: Books,
        *,
        beside: Sequence[Spend] = (),
    ) -> Reason | None:
        """Say why a spend may not be, if it may not; nothing changes.

        Args:
            spend: What is wanted.
            rules: The rules of its issuer that are in force; None without any.
            books: The books, for the clock and for ends that are not stored yet.
            beside: What the same basket spends before it.

        Returns:
            None, or MEMBER_NOT_AUTHORISED, CODE_SPENT, MEMBER_LIMIT_EXCEEDED, in this order.
        """
        if spend.code:
            if books.clock_us > spend.code_until_us:
                return Reason.MEMBER_NOT_AUTHORISED
            if spend.code in self.codes or any(other.code == spend.code for other in beside):
                return Reason.CODE_SPENT
        if rules is None:
            return None
        if rules.authority != "none" and not (
            spend.caller == spend.issuer or (rules.authority == "code" and spend.code)
        ):
            return Reason.MEMBER_NOT_AUTHORISED
        if rules.limited and not self._within(spend, rules, books, beside):
            return Reason.MEMBER_LIMIT_EXCEEDED
        return None

    def _within(
        self, spend: Spend, rules: MemberRules, books: Books, beside: Sequence[Spend]
    ) -> bool:
        """Whether value and number stay within the limits with everything of the last 24 hours."""
        self._drop(spend.member_no, books)
        debits = [
            one.debit_cu for one in self.members[spend.member_no] if one.issuer == spend.issuer
        ]
        debits += [
            other.debit_cu
            for other in beside
            if (other.member_no, other.issuer) == (spend.member_no, spend.issuer)
        ]
        orders, debit_cu = len(debits) + 1, sum(debits) + spend.debit_cu
        return orders <= (rules.daily_orders or orders) and debit_cu <= (rules.daily_cu or debit_cu)

    def _drop(self, member_no: int, books: Books) -> None:
        """Drop what is too old, and what was released by an end that is not stored yet."""
        since_us = books.clock_us - WINDOW_US
        ends = books.recent_ends
        self.members[member_no] = [
            one
            for one in self.members[member_no]
            if one.at_us > since_us
            and (not one.held or one.seq not in ends or _counts(one, ends[one.seq][1].kind))
        ]

    def note(self, spend: Spend, rules: MemberRules | None, entry: Entry) -> None:
        """Remember a spend that was accepted or cleared: its code is used, and it counts."""
        if spend.code:
            self.codes[spend.code] = spend.code_until_us
            self._used.append((spend.code, spend.code_until_us, entry.seq))
            # Two out for one in: what is over leaves about as it came.
            for code, until_us in list(islice(self.codes.items(), 2)):
                if until_us < entry.at_us:
                    del self.codes[code]
        if rules is not None and rules.limited:
            one = Counted(
                spend.member_no,
                spend.issuer,
                entry.seq,
                entry.at_us,
                spend.debit_cu,
                held=entry.kind == Kind.ACCEPTED,
            )
            self.members[spend.member_no].append(one)
            self._counted.append(one)


def _counts(one: Counted, end: int) -> bool:
    """Whether an order still counts after what became of it; once it cleared, that is for good."""
    one.held = end == Kind.ACCEPTED
    return end in (Kind.ACCEPTED, Kind.CLEARED)
