"""Matching: what was planted is found, nothing is invented, and nothing is guessed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from settlement.core.breaks import Movement, Payment, items
from settlement.core.matching import PARTS_MAX, BreakKind, Item, Step, match

DAYS_MAX = 2


@dataclass
class Planted:
    """Two lists that should be the same, and where they were made to differ.

    Attributes:
        truth: What must be found: its kind, and the references concerned.
    """

    ours: list[Item] = field(default_factory=list)
    theirs: list[Item] = field(default_factory=list)
    truth: list[tuple[BreakKind, str]] = field(default_factory=list)


def plant(count: int, *, seed: int, faults: int) -> Planted:
    """Make `count` amounts of ours and the same of theirs, `faults` of them wrong in one way or another."""
    rng = random.Random(seed)
    planted = Planted()
    kinds = list(BreakKind)
    wrong = dict(zip(rng.sample(range(count), faults), rng.choices(kinds, k=faults), strict=True))
    for number in range(count):
        item = Item(
            # Odd amounts: so that the parts of a split, which are even, are nobody else's amount.
            amount=rng.choice((-1, 1)) * (2 * rng.randint(50, 500_000) + 1),
            day=rng.randint(0, 27),
            reference=f"B{number}",
            party=f"M{number % 50}",
            units=rng.randint(1, 900),
        )
        late = replace(item, day=item.day + rng.randint(-DAYS_MAX, DAYS_MAX))
        kind = wrong.get(number)
        if kind is not None:
            planted.truth.append((kind, item.reference))
        if kind is BreakKind.EXTRA:
            planted.theirs.append(late)
            continue
        planted.ours.append(item)
        planted.theirs.extend(_theirs(kind, item, late, rng))
    rng.shuffle(planted.theirs)
    return planted


def _theirs(kind: BreakKind | None, item: Item, late: Item, rng: random.Random) -> list[Item]:
    """What they say of one amount of ours."""
    part = 2 * rng.randint(1, 40) * (1 if item.amount > 0 else -1)
    match kind:
        case BreakKind.MISSING:
            return []
        case BreakKind.DUPLICATE:
            return [late, late]
        case BreakKind.AMOUNT:
            return [replace(late, amount=late.amount + part)]
        case BreakKind.SIGN:
            return [replace(late, amount=-late.amount)]
        case BreakKind.DATE:
            return [replace(late, day=item.day + DAYS_MAX + rng.randint(1, 9))]
        case BreakKind.SPLIT:
            return [replace(late, amount=part), replace(late, amount=late.amount - part)]
        case BreakKind.UNITS:
            return [replace(late, units=(late.units or 0) + 1)]
        case _:
            return [late if rng.random() < 0.9 else replace(late, reference="")]


def _found(planted: Planted) -> Counter[tuple[BreakKind, str]]:
    """What was found, in the words of what was planted."""
    outcome = match(planted.ours, planted.theirs, days_max=DAYS_MAX)
    return Counter(
        (
            one.kind,
            planted.ours[one.ours[0]].reference
            if one.ours
            else planted.theirs[one.theirs[0]].reference,
        )
        for one in outcome.differences
    )


@pytest.mark.parametrize("seed", range(3))
def test_everything_planted_is_found_and_nothing_else(seed, tell_figure):
    """Of 5,000 amounts with 500 faults of eight kinds: none missed, none invented, none called another."""
    planted = plant(5_000, seed=seed, faults=500)
    truth, found = Counter(planted.truth), _found(planted)
    if seed == 0:
        counts = Counter(kind for kind, _ in planted.truth)
        missed = Counter(kind for kind, _ in (truth - found).elements())
        invented = Counter(kind for kind, _ in (found - truth).elements())
        tell_figure(
            "matching 5,000 against 5,000: "
            + ", ".join(
                f"{kind} {counts[kind]} planted {missed[kind]} missed {invented[kind]} invented"
                for kind in BreakKind
            )
        )
    assert found == truth


def _items() -> st.SearchStrategy[list[Item]]:
    """Lists in which much looks alike."""
    return st.lists(
        st.builds(
            Item,
            amount=st.sampled_from((-3, -1, 1, 2, 3, 4, 6)),
            day=st.integers(0, 5),
            reference=st.sampled_from(("", "", "a", "b")),
            party=st.sampled_from(("", "p", "q")),
        ),
        max_size=8,
    )


@given(_items(), _items())
def test_every_place_is_accounted_for_once(ours, theirs):
    """Each place is in one match, or in one difference that has no match; matched sums agree unless a break says so."""
    outcome = match(ours, theirs, days_max=1)
    in_matches = Counter(("ours", each) for one in outcome.matches for each in one.ours)
    in_matches += Counter(("theirs", each) for one in outcome.matches for each in one.theirs)
    matched = {(one.ours, one.theirs) for one in outcome.matches}
    alone = [one for one in outcome.differences if (one.ours, one.theirs) not in matched]
    in_matches += Counter(("ours", each) for one in alone for each in one.ours)
    in_matches += Counter(("theirs", each) for one in alone for each in one.theirs)
    assert in_matches == Counter(
        [("ours", each) for each in range(len(ours))]
        + [("theirs", each) for each in range(len(theirs))]
    )
    told = {(one.ours, one.theirs) for one in outcome.differences}
    for one in outcome.matches:
        if (one.ours, one.theirs) not in told:
            assert len(one.ours) == len(one.theirs) == 1
            mine, other = ours[one.ours[0]], theirs[one.theirs[0]]
            assert mine.amount == other.amount
            assert abs(mine.day - other.day) <= 1


@example(
    [
        Item(amount=-3, day=0, reference="a"),
        Item(amount=-3, day=0, reference="a", party="q"),
    ],
    [
        Item(amount=-3, day=0, party="p"),
        Item(amount=-3, day=0, reference="a"),
    ],
    random.Random(0),
)
@given(_items(), _items(), st.randoms(use_true_random=False))
def test_the_order_of_the_lists_makes_no_difference(ours, theirs, rng):
    """Shuffled, the same amounts are matched with one another, and differ in the same ways."""
    mixed_ours, mixed_theirs = rng.sample(ours, len(ours)), rng.sample(theirs, len(theirs))
    assert _words(ours, theirs) == _words(mixed_ours, mixed_theirs)


def _words(ours: list[Item], theirs: list[Item]) -> Counter[object]:
    """An outcome without places."""
    outcome = match(ours, theirs, days_max=1)

    def of(items: list[Item], places: tuple[int, ...]) -> tuple[tuple[object, ...], ...]:
        return tuple(sorted((items[each].reference, items[each].amount) for each in places))

    words = Counter[object](
        (one.step, of(ours, one.ours), of(theirs, one.theirs)) for one in outcome.matches
    )
    words.update(
        (one.kind, of(ours, one.ours), of(theirs, one.theirs), one.candidates)
        for one in outcome.differences
    )
    return words


def test_amount_and_day_match_only_where_there_is_one_candidate():
    """Without references the same amount on the same day matches; with a second one like it, neither does."""
    one = Item(amount=500, day=3, party="M1")
    only = match([one], [replace(one, day=4)], days_max=1)
    assert [each.step for each in only.matches] == [Step.AMOUNT_AND_DAY]
    two = match([one], [one, replace(one, day=4)], days_max=1)
    assert two.matches == ()
    assert [(each.kind, each.candidates) for each in two.differences] == [
        (BreakKind.MISSING, 2), (BreakKind.EXTRA, 1), (BreakKind.EXTRA, 1),
    ]  # fmt: skip
    other_party = match([one], [replace(one, party="M2")], days_max=1)
    assert other_party.matches == ()


def test_two_references_that_differ_are_two_things():
    """An amount with one reference is never another one's with another reference."""
    outcome = match(
        [Item(amount=7, day=1, reference="a", party="p")],
        [Item(amount=7, day=1, reference="b", party="p")],
        days_max=1,
    )
    assert outcome.matches == ()


def test_one_payment_of_several_is_found_when_only_one_sum_fits():
    """Two instructions paid as one match; when two choices come to the same sum, people choose."""
    ours = [
        Item(amount=amount, day=1, reference=f"B{amount}", party="p") for amount in (300, 500, 900)
    ]
    paid = match(ours, [Item(amount=800, day=2, party="p")], days_max=1)
    assert [(each.step, each.ours) for each in paid.matches] == [(Step.ONE_TO_MANY, (0, 1))]
    unsure = [Item(amount=amount, day=1, party="p") for amount in (300, 500, 200, 600)]
    two_ways = match(unsure, [Item(amount=800, day=2, party="p")], days_max=1)
    assert two_ways.matches == ()


def test_two_payments_that_want_the_same_part_are_left_to_people():
    """Of 1, 2 and 4 a payment of 3 and one of 6 both need the 2: neither is given it."""
    ours = [Item(amount=amount, day=1, party="p") for amount in (1, 2, 4)]
    theirs = [Item(amount=amount, day=1, party="p") for amount in (3, 6)]
    assert match(ours, theirs, days_max=1).matches == ()


def test_what_could_be_one_other_or_a_sum_is_left_to_people():
    """Four payments of which two are the same amount as what was paid, and two come to it: none is chosen."""
    ours = [Item(amount=amount, day=1, party="p") for amount in (200, 200, 150, 50)]
    paid = Item(amount=200, day=1, party="p")
    assert match(ours, [paid], days_max=1).matches == ()
    assert match([paid], ours, days_max=1).matches == ()
    assert match(ours[2:], [paid], days_max=1).matches != ()


def test_a_part_that_another_amount_could_ask_for_is_left_to_people():
    """A payment of 6 could be 2 and 4, or 1 and 5: so that of 3, which is 1 and 2 alone, is not sure of them."""
    ours = [Item(amount=amount, day=1, party="p") for amount in (1, 2, 4, 5)]
    theirs = [Item(amount=amount, day=1, party="p") for amount in (3, 6)]
    assert match(ours, theirs, days_max=1).matches == ()
    assert len(match(ours[:2], theirs[:1], days_max=1).matches) == 1


def test_many_open_amounts_of_one_party_are_left_to_people():
    """More than so many open amounts are not tried in every way: that would take hours."""
    ours = [Item(amount=2**place, day=1, party="p") for place in range(PARTS_MAX + 1)]
    assert match(ours, [Item(amount=3, day=1, party="p")], days_max=1).matches == ()
    assert match(ours[:-1], [Item(amount=3, day=1, party="p")], days_max=1).matches != ()


def test_what_names_one_payment_is_no_sum_of_others():
    """Of three payments, one movement names the first (which has moved) and comes to the two others: it is not them."""
    first, *others = (
        Payment(
            cycle_no=number, party_no=1, code="p", payment_id=f"TD00000{number}-78d84abde0a4-1",
            amount_fen=100 * number, due_on=date(2026, 3, 1),
        )
        for number in (1, 2, 3)
    )  # fmt: skip
    moved = Movement(
        statement_no=1, entry_no=1, statement="1", place="", amount_fen=500, booked_on=date(2026, 3, 1),
        reference=first.payment_id, party_name="", party_account="6222",
    )  # fmt: skip
    ours, theirs = items(others, [moved], {"6222": "p"}, closed=[first])
    assert match(ours, theirs, days_max=1).matches == ()
    unnamed = [replace(moved, reference="thank you")]
    assert len(match(*items(others, unnamed, {"6222": "p"}), days_max=1).matches) == 1


def test_nothing_moved_is_no_item():
    """An amount of zero cannot be matched."""
    with pytest.raises(ValueError, match="nothing moved"):
        Item(amount=0, day=1)
