"""The books of a simulated merchant: what its system really did, so that truth can be compared.

They are kept apart from every protocol and every fault: a fault loses an answer or spoils one, the
books hold what took effect. A reference gets its first answer for ever, also when that was a refusal,
unless the manifest says that repeats are not safe: then a repeat moves points again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from adapters.kit.contract import Step
from schemas.values.reason import Reason

if TYPE_CHECKING:
    from adapters.kit.context import Clock
    from adapters.kit.manifest import Manifest

_ENDS: Final = {Step.CAPTURE: Step.HOLD, Step.RELEASE: Step.HOLD, Step.REVERSE_CREDIT: Step.CREDIT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """What became of one call.

    Attributes:
        reference: The caller's.
        step: What was asked.
        member: Whose points.
        units: Smallest units asked.
        of: Reference of the earlier call that this one ends.
        at_us: When it was booked, microseconds since 1970 UTC.
        number: The system's own number; empty for a refusal.
        refused: Why not; None if it took effect.
        moved: Smallest units that it moved: `units`, or 0 where there was nothing to give back.
    """

    reference: str
    step: Step
    member: str
    units: int
    of: str
    at_us: int
    number: str = ""
    refused: Reason | None = None
    moved: int = 0


class Ledger:
    """Members, their points, and every call that was ever booked."""

    def __init__(self, manifest: Manifest, now_us: Clock) -> None:
        """Open the books with the manifest's test members.

        Args:
            manifest: Says whether points are held or burnt, how long a hold lasts, which zone's days
                count, and whether a repeat is safe.
            now_us: The merchant's own clock.
        """
        self._zone = ZoneInfo(manifest.hours.zone)
        self._burns = manifest.spend.way == "burn"
        self._hold_us = manifest.spend.hold_seconds_max * 1_000_000
        self._repeat_safe = manifest.status.repeat_safe
        self._now_us = now_us
        self._free: dict[str, int] = {}
        self._opened: dict[str, int] = {}
        self._blocked: set[str] = set()
        self._first: dict[str, Booked] = {}
        self._numbered: dict[str, Booked] = {}
        self._holds: dict[str, Booked] = {}
        self._ended: dict[str, Step] = {}
        self._never: set[str] = set()
        self._forgotten: set[str] = set()
        self._entries: list[Booked] = []
        self._numbers = 0
        for member, units in manifest.sandbox.members.items():
            self.enrol(member, units)

    def enrol(self, member: str, units: int) -> None:
        """Add a member who starts with `units`.

        Raises:
            ValueError: The member is there already, or the units are negative.
        """
        if member in self._free or units < 0:
            raise ValueError(f"cannot enrol {member!r} with {units} units")
        self._free[member] = self._opened[member] = units

    def block(self, member: str) -> None:
        """From now on refuse what would take points of a member."""
        self._blocked.add(member)

    def now_us(self) -> int:
        """The merchant's clock, microseconds since 1970 UTC."""
        return self._now_us()

    def member(self, member: str) -> Reason | None:
        """Why points of a member may not be moved; None if they may."""
        if member not in self._free:
            return Reason.UNKNOWN_MEMBER
        return Reason.MEMBER_NOT_AUTHORISED if member in self._blocked else None

    def available(self, member: str) -> int | None:
        """Smallest units that a member could spend now; None for nobody."""
        self._expire()
        return self._free.get(member)

    def find(self, reference: str) -> Booked | None:
        """What became of a reference; None if the system does not know it, or no longer."""
        return None if reference in self._forgotten else self._first.get(reference)

    def first(self, reference: str) -> Booked | None:
        """What the books say of a reference, also of one that the system no longer finds when it is asked."""
        return self._first.get(reference)

    def numbered(self, number: str) -> Booked | None:
        """The call to which the system gave a number; None if it gave it to none."""
        return self._numbered.get(number)

    def book(self, step: Step, reference: str, member: str, units: int, of: str = "") -> Booked:
        """Do what a call asks, once for each reference."""
        asked = Booked(
            reference=reference, step=step, member=member, units=units, of=of, at_us=self._now_us()
        )
        first = self._first.get(reference)
        if first is not None and self._repeat_safe:
            same = replace(asked, at_us=first.at_us) == replace(
                first, number="", refused=None, moved=0
            )
            return first if same else replace(asked, refused=Reason.IDEMPOTENCY_CONFLICT)
        self._expire()
        refused, moved = self._decide(asked)
        if refused is None:
            self._numbers += 1
            booked = replace(asked, number=f"{self._numbers:010d}", moved=moved)
            self._numbered[booked.number] = booked
            self._apply(booked)
        else:
            booked = replace(asked, refused=refused)
        self._first.setdefault(reference, booked)
        return booked

    def forget(self, reference: str) -> None:
        """From now on `find` does not know a reference; its effect stays, and so does its first answer."""
        self._forgotten.add(reference)

    def day(self, day: date) -> list[Booked]:
        """Everything that moved points on one day of the merchant's own calendar."""
        return [entry for entry in self._entries if self._day_of(entry.at_us) == day]

    @property
    def entries(self) -> list[Booked]:
        """Every call that moved points, in the order booked."""
        return list(self._entries)

    def doubled(self) -> set[str]:
        """References whose call moved points more than once."""
        times = Counter(entry.reference for entry in self._entries)
        return {reference for reference, count in times.items() if count > 1}

    def open_holds(self) -> set[str]:
        """References of holds that have not ended and not run out; a burn is never open."""
        self._expire()
        return {hold.reference for hold in self._holds.values()}

    def check(self) -> None:
        """Compare every member's points with what the entries say.

        Raises:
            AssertionError: They differ, or somebody has less than nothing.
        """
        should = Counter(self._opened)
        for entry in self._entries:
            match entry.step:
                case Step.HOLD if self._burns:
                    should[entry.member] -= entry.moved
                case Step.RELEASE if self._burns:
                    should[entry.member] += entry.moved
                case Step.CAPTURE | Step.REVERSE_CREDIT:
                    should[entry.member] -= entry.moved
                case Step.CREDIT:
                    should[entry.member] += entry.moved
                case _:
                    pass
        self._expire()
        for hold in self._holds.values():
            should[hold.member] -= hold.moved
        if any(should[member] != free or free < 0 for member, free in self._free.items()):
            raise AssertionError(f"the books do not add up: {dict(should)} against {self._free}")

    def _day_of(self, at_us: int) -> date:
        return datetime.fromtimestamp(at_us // 1_000_000, UTC).astimezone(self._zone).date()

    def _decide(self, asked: Booked) -> tuple[Reason | None, int]:
        """Why a call is refused, or None and the units that it moves."""
        if asked.step in _ENDS and asked.of not in self._first:
            # A hold that never was is released too: there is nothing to give back.
            return (None if asked.step is Step.RELEASE else Reason.CALL_NOT_FOUND), 0
        nobody = self.member(asked.member)
        if nobody is Reason.UNKNOWN_MEMBER:
            return nobody, 0
        match asked.step:
            case Step.HOLD:
                if asked.reference in self._never:
                    return Reason.ORDER_ALREADY_VOIDED, 0
                if nobody is not None:
                    return nobody, 0
                enough = asked.units <= self._free[asked.member]
                return (None, asked.units) if enough else (Reason.INSUFFICIENT_POINTS, 0)
            case Step.CREDIT:
                return None, asked.units
            case Step.CAPTURE:
                return self._decide_end(asked)
            case Step.RELEASE:
                return self._decide_release(asked)
            case Step.REVERSE_CREDIT:
                reason, moved = self._decide_end(asked)
                if reason is None and asked.units > self._free[asked.member]:
                    return Reason.INSUFFICIENT_POINTS, 0
                return reason, moved

    def _decide_release(self, asked: Booked) -> tuple[Reason | None, int]:
        """A hold that was refused or ran out is released too: there is nothing to give back."""
        earlier = self._first[asked.of]
        if earlier.refused is not None:
            return None, 0
        ended = self._ended.get(asked.of)
        gone = ended is Step.RELEASE if self._burns else earlier.number not in self._holds
        if gone and ended is not Step.CAPTURE:
            return None, 0
        return self._decide_end(asked)

    def _decide_end(self, asked: Booked) -> tuple[Reason | None, int]:
        earlier = self._first[asked.of]
        if earlier.refused or earlier.step is not _ENDS[asked.step]:
            return Reason.CALL_NOT_FOUND, 0
        if (earlier.member, earlier.units) != (asked.member, asked.units):
            return Reason.MERCHANT_REFUSED, 0
        ended = self._ended.get(asked.of)
        if ended is not None:
            cleared = ended is Step.CAPTURE
            return (Reason.ORDER_ALREADY_CLEARED if cleared else Reason.ORDER_ALREADY_VOIDED), 0
        if earlier.step is Step.HOLD and not self._burns and earlier.number not in self._holds:
            return Reason.HOLD_EXPIRED, 0
        if asked.step is Step.CAPTURE and self._burns:
            return Reason.MERCHANT_REFUSED, 0
        return None, asked.units

    def _apply(self, booked: Booked) -> None:
        match booked.step:
            case Step.HOLD:
                self._free[booked.member] -= booked.moved
                if not self._burns:
                    self._holds[booked.number] = booked
            case Step.CREDIT:
                self._free[booked.member] += booked.moved
            case Step.CAPTURE:
                del self._holds[self._first[booked.of].number]
            case Step.RELEASE:
                self._free[booked.member] += booked.moved
                hold = self._first.get(booked.of)
                if hold is None:
                    # The hold may still be on its way here; when it comes it must not stand.
                    self._never.add(booked.of)
                else:
                    self._holds.pop(hold.number, None)
            case Step.REVERSE_CREDIT:
                self._free[booked.member] -= booked.moved
        if booked.of:
            self._ended.setdefault(booked.of, booked.step)
        if booked.moved:
            self._entries.append(booked)

    def _expire(self) -> None:
        """Give back what holds kept longer than they may; holds are in the order of time."""
        latest_us = self._now_us() - self._hold_us
        for over in list(takewhile(lambda hold: hold.at_us <= latest_us, self._holds.values())):
            self._free[over.member] += over.moved
            del self._holds[over.number]
