"""Matching two lists of amounts that should be the same: ours, and what somebody else says.

Four steps, from the surest to the least sure; what one step matched the next does not see:

1. exact: reference, amount and day agree;
2. by reference: one of each with a reference, and what differs is named; or several of one side that
   come to one of the other;
3. by amount and day: where neither side has another candidate, so that the match is proven unique;
4. one to many: one amount is the sum of several of one party, and of no others.

Nothing depends on the order of either list but which of several equal ones is called the repeated one. Nothing is
guessed: what could be matched in two ways is not matched, and is a break that says so.

Source: settlement/RULES.md, rules X5 to X10 and X19.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence

_Key = TypeVar("_Key", bound="Hashable")

PARTS_MAX: Final = 12
"""Of so many open amounts of one party within the days allowed, every sum is tried; more are left to people."""


@unique
class Step(StrEnum):
    """How two sides were found to belong together."""

    EXACT = "exact"
    REFERENCE = "reference"
    AMOUNT_AND_DAY = "amount_and_day"
    ONE_TO_MANY = "one_to_many"
    PERSON = "person"


@unique
class BreakKind(StrEnum):
    """What a difference is."""

    MISSING = "missing"
    """We have it, they do not."""
    EXTRA = "extra"
    """They have it, we do not."""
    DUPLICATE = "duplicate"
    """They have it once more than we do, with the same reference and amount."""
    AMOUNT = "amount"
    SIGN = "sign"
    """The same amount the other way round."""
    DATE = "date"
    """Further apart in time than is allowed."""
    SPLIT = "split"
    """One of ours came in several parts, or several came as one; the sums agree."""
    UNITS = "units"
    """The amounts agree, the points behind them do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One amount of either side.

    Attributes:
        amount: Signed, in the smallest unit of whatever is matched; never 0.
        day: Day as a number; only differences count.
        reference: What both sides should call it; empty when it is not said.
        party: Who is on the other side, in one spelling for both lists; empty when it is not said.
        units: Points behind the amount; None when it is not said.
    """

    amount: int
    day: int
    reference: str = ""
    party: str = ""
    units: int | None = None

    def __post_init__(self) -> None:
        """Check what no code path may break."""
        if self.amount == 0:
            raise ValueError(f"nothing moved: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What belongs together.

    Attributes:
        step: How it was found.
        ours: Places in our list.
        theirs: Places in theirs.
    """

    step: Step
    ours: tuple[int, ...]
    theirs: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that people must look at.

    Attributes:
        kind: What it is.
        ours: Places in our list.
        theirs: Places in theirs.
        candidates: How many of the other side it could be as well; more than one keeps it unmatched.
    """

    kind: BreakKind
    ours: tuple[int, ...]
    theirs: tuple[int, ...]
    candidates: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Everything of both lists, each place once in a match or a difference; a match that differs is in both."""

    matches: tuple[Match, ...]
    differences: tuple[Difference, ...]


def match(
    ours: Sequence[Item],
    theirs: Sequence[Item],
    *,
    days_max: int,
    known: Iterable[tuple[str, int]] = (),
) -> Outcome:
    """Match two lists.

    Args:
        ours: What we say.
        theirs: What they say, with our signs.
        days_max: How many days the two may lie apart and still agree; 0 for the same day.
        known: References and amounts of theirs that were matched before; what comes again is a duplicate.

    Returns:
        Matches in the order of the steps, then differences by kind; places rise in each.
    """
    return _Matching(ours, theirs, days_max, known).outcome()


class _Matching:
    """The two lists, and what is left of them."""

    def __init__(
        self,
        ours: Sequence[Item],
        theirs: Sequence[Item],
        days_max: int,
        known: Iterable[tuple[str, int]],
    ) -> None:
        self._ours, self._theirs, self._days_max = ours, theirs, days_max
        self._left = dict.fromkeys(range(len(ours)))
        self._right = dict.fromkeys(range(len(theirs)))
        self._matches: list[Match] = []
        self._differences: list[Difference] = []
        self._known = set(known)

    def outcome(self) -> Outcome:
        """Take the four steps, and name what is left."""
        self._exact()
        self._by_reference()
        self._repeated()
        ambiguous = self._by_amount_and_day()
        self._one_to_many(ambiguous)
        self._units()
        for place in self._left:
            self._differ(BreakKind.MISSING, (place,), (), ambiguous.get((0, place), 0))
        for place in self._right:
            self._differ(BreakKind.EXTRA, (), (place,), ambiguous.get((1, place), 0))
        kinds = list(BreakKind)
        return Outcome(
            matches=tuple(self._matches),
            differences=tuple(
                sorted(
                    self._differences, key=lambda one: (kinds.index(one.kind), one.ours, one.theirs)
                )
            ),
        )

    # --- the steps ---

    def _exact(self) -> None:
        """Reference, amount and day: each of ours with the nearest day of theirs that is left."""
        groups = _groups(self._theirs, self._right, lambda item: (item.reference, item.amount))
        for (reference, _), mine in _groups(
            self._ours, self._left, lambda item: (item.reference, item.amount)
        ).items():
            if not reference:
                continue
            key = (reference, self._ours[mine[0]].amount)
            for left, right in self._nearest(mine, groups.get(key, [])):
                self._matched(Step.EXACT, (left,), (right,))
                self._known.add(key)

    def _nearest(self, mine: list[int], others: list[int]) -> Iterator[tuple[int, int]]:
        """Pair the earliest with the earliest that lies within the days allowed; of one day, as parties are named."""
        mine = sorted(mine, key=lambda place: (self._ours[place].day, self._ours[place].party))
        others = sorted(
            others, key=lambda place: (self._theirs[place].day, self._theirs[place].party)
        )
        left = right = 0
        while left < len(mine) and right < len(others):
            apart = self._ours[mine[left]].day - self._theirs[others[right]].day
            if abs(apart) <= self._days_max:
                yield mine[left], others[right]
                left, right = left + 1, right + 1
            elif apart < 0:
                left += 1
            else:
                right += 1

    def _by_reference(self) -> None:
        """The same reference: what differs is named, and parts that come to the whole are put together."""
        groups = _groups(self._theirs, self._right, lambda item: item.reference)
        for reference, mine in _groups(self._ours, self._left, lambda item: item.reference).items():
            others = groups.get(reference, [])
            if not reference or not others:
                continue
            if len(mine) == len(others) == 1:
                self._same_reference(mine[0], others[0])
            elif 1 in {len(mine), len(others)}:
                self._parts_of_reference(mine, others)

    def _same_reference(self, left: int, right: int) -> None:
        """One of each, not exactly the same."""
        one, other = self._ours[left], self._theirs[right]
        if one.amount == other.amount:
            kind = BreakKind.DATE
        elif one.amount == -other.amount:
            kind = BreakKind.SIGN
        else:
            kind = BreakKind.AMOUNT
        self._matched(Step.REFERENCE, (left,), (right,))
        self._differ(kind, (left,), (right,))
        self._known.add((one.reference, other.amount))

    def _parts_of_reference(self, mine: list[int], others: list[int]) -> None:
        """One against several: they are its parts when their sums agree."""
        if sum(self._ours[place].amount for place in mine) == sum(
            self._theirs[place].amount for place in others
        ):
            self._matched(Step.REFERENCE, tuple(mine), tuple(others))
            self._differ(BreakKind.SPLIT, tuple(mine), tuple(others))

    def _repeated(self) -> None:
        """What they say once more than we do."""
        for place in list(self._right):
            item = self._theirs[place]
            if item.reference and (item.reference, item.amount) in self._known:
                del self._right[place]
                self._differ(BreakKind.DUPLICATE, (), (place,))

    def _by_amount_and_day(self) -> dict[tuple[int, int], int]:
        """The same amount on days that agree, where neither has another candidate.

        Returns:
            How many candidates there were for each place (0 and the place for ours, 1 for theirs) that had several.
        """
        ours, theirs = _Open(self._ours, self._left), _Open(self._theirs, self._right)
        ambiguous: dict[tuple[int, int], int] = {}
        for place in list(self._left):
            found = theirs.candidates(self._ours[place], self._days_max)
            if found.many == 1 and (
                ours.candidates(self._theirs[found.first], self._days_max).many == 1
            ):
                self._matched(Step.AMOUNT_AND_DAY, (place,), (found.first,))
            elif found.many:
                ambiguous[0, place] = found.many
        for place in self._right:
            found = ours.candidates(self._theirs[place], self._days_max)
            if found.many:
                ambiguous[1, place] = found.many
        return ambiguous

    def _one_to_many(self, ambiguous: Collection[tuple[int, int]]) -> None:
        """One of theirs that pays several of ours, then one of ours that came in several.

        What could be the same as one other already is in no sum: it would be matched in one way of several.
        """

        def is_clear(side: int, places: Iterable[int]) -> bool:
            return not any((side, place) in ambiguous for place in places)

        for whole, parts in _unshared(
            self._sums(self._theirs, self._right, self._ours, self._left)
        ):
            if is_clear(1, (whole,)) and is_clear(0, parts):
                self._split(parts, (whole,))
        for whole, parts in _unshared(
            self._sums(self._ours, self._left, self._theirs, self._right)
        ):
            if is_clear(0, (whole,)) and is_clear(1, parts):
                self._split((whole,), parts)

    def _split(self, ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
        self._matched(Step.ONE_TO_MANY, ours, theirs)
        self._differ(BreakKind.SPLIT, ours, theirs)

    def _units(self) -> None:
        """Of what agrees in everything else, where both sides tell points, these agree too."""
        differ = {(one.ours, one.theirs) for one in self._differences}
        for one in self._matches:
            if len(one.ours) == len(one.theirs) == 1 and (one.ours, one.theirs) not in differ:
                mine, other = self._ours[one.ours[0]].units, self._theirs[one.theirs[0]].units
                if None not in {mine, other} and mine != other:
                    self._differ(BreakKind.UNITS, one.ours, one.theirs)

    def _sums(
        self,
        wholes: Sequence[Item],
        whole_places: dict[int, None],
        parts: Sequence[Item],
        part_places: dict[int, None],
    ) -> Iterator[tuple[int, list[tuple[int, ...]]]]:
        """Find every set of parts of a party that comes to a whole."""
        by_party = {
            key: sorted(places, key=lambda place: (parts[place].day, place))
            for key, places in _groups(
                parts, part_places, lambda item: (item.party, item.amount > 0)
            ).items()
        }
        for place in whole_places:
            whole = wholes[place]
            near = by_party.get((whole.party, whole.amount > 0), [])
            if not whole.party or not near:
                continue
            first = bisect_left(near, whole.day - self._days_max, key=lambda one: parts[one].day)
            last = bisect_right(near, whole.day + self._days_max, key=lambda one: parts[one].day)
            if last - first <= PARTS_MAX:
                found = _choices([parts[one].amount for one in near[first:last]], whole.amount)
                if found:
                    yield place, [tuple(near[first + one] for one in each) for each in found]

    # --- what was found ---

    def _matched(self, step: Step, ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
        for place in ours:
            del self._left[place]
        for place in theirs:
            del self._right[place]
        self._matches.append(Match(step=step, ours=ours, theirs=theirs))

    def _differ(
        self, kind: BreakKind, ours: tuple[int, ...], theirs: tuple[int, ...], candidates: int = 0
    ) -> None:
        self._differences.append(
            Difference(kind=kind, ours=ours, theirs=theirs, candidates=candidates)
        )


def _groups(
    items: Sequence[Item], places: Iterable[int], key: Callable[[Item], _Key]
) -> dict[_Key, list[int]]:
    """Places by what their items have in common, in their order."""
    groups: dict[_Key, list[int]] = {}
    for place in places:
        groups.setdefault(key(items[place]), []).append(place)
    return groups


class _Found(NamedTuple):
    """How many candidates there are, and the first."""

    many: int
    first: int


class _Open:
    """Items of one side that are not matched, by amount, party and day."""

    def __init__(self, items: Sequence[Item], places: Iterable[int]) -> None:
        """Sort them; `places` are those that are left."""
        self._days: defaultdict[tuple[int, str | None, bool], list[tuple[int, int]]] = defaultdict(
            list
        )
        for place in places:
            item = items[place]
            for party in (item.party, None):
                self._days[item.amount, party, bool(item.reference)].append((item.day, place))
        for days in self._days.values():
            days.sort()

    def candidates(self, item: Item, days_max: int) -> _Found:
        """Count what an item of the other side could be: days, parties and references do not speak against it."""
        parties = (item.party, "") if item.party else (None,)
        count, place = 0, -1
        for party in parties:
            for with_reference in (False,) if item.reference else (False, True):
                days = self._days.get((item.amount, party, with_reference), ())
                first = bisect_left(days, (item.day - days_max, -1))
                last = bisect_left(days, (item.day + days_max + 1, -1))
                if last > first:
                    count, place = count + last - first, days[first][1]
        return _Found(count, place)


def _unshared(
    found: Iterable[tuple[int, list[tuple[int, ...]]]],
) -> list[tuple[int, tuple[int, ...]]]:
    """Keep the wholes that are a sum in one way alone, of parts that no other whole could ask for."""
    sums = list(found)
    asked = Counter(part for _, ways in sums for part in {part for way in ways for part in way})
    return [
        (whole, ways[0])
        for whole, ways in sums
        if len(ways) == 1 and all(asked[part] == 1 for part in ways[0])
    ]


def _choices(amounts: Sequence[int], whole: int) -> list[tuple[int, ...]]:
    """Every choice of two or more amounts that comes to a whole."""
    sums = [0]
    for amount in amounts:
        sums += [each + amount for each in sums]
    return [
        tuple(place for place in range(len(amounts)) if bits >> place & 1)
        for bits, each in enumerate(sums)
        if each == whole and bits.bit_count() > 1
    ]
