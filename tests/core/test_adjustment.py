"""Adjustments in the books: which figures there are, what they leave of an order, and who is told."""

from __future__ import annotations

import pytest

from schemas.values.reason import REASON_BY_NUMBER
from settlement.core.adjustment import Link, read_link
from settlement.core.audit_reversal import ReversalAudit, Reversing
from settlement.core.command import Adjust
from settlement.core.event import Kind
from settlement.core.reversal import Amounts, Cleared
from tests.core.test_books import fresh_books
from tests.simulation.ground import BODY, new_key

ORDER = Cleared(
    4, 9, 2, 1, 2, 7, 1, 0, "till", Amounts(10, 1_000, 990, 5, 0), last_seq=0, cycle_no=1
)


def adjust(
    order_seq: int, debit: int, value: int, fee: int, *, issuer: int = 1, acceptor: int = 2
) -> Adjust:
    """A correction of what 1 owes 2."""
    return Adjust(0, new_key(), BODY, order_seq, issuer, acceptor, debit, value, fee, "D1")


@pytest.mark.parametrize(
    "figures",
    [(0, 0, 0), (5, 6, 0), (5, 0, 0), (5, 4, 5), (5, -1, 0), (-5, 1, 0), (10**15, 1, 0)],
)
@pytest.mark.parametrize("order_seq", [0, 4])
def test_figures_are_owed_or_taken_back(figures, order_seq):
    """Rule J1: other figures are a fault of whoever asks, and change nothing."""
    books = fresh_books(100, 100)
    books.cleared[4] = ORDER
    seq = books.seq
    with pytest.raises(ValueError, match="no adjustment"):
        books.decide(adjust(order_seq, *figures))
    assert books.seq == seq
    assert not any(account.open for account in books.accounts.values())


@pytest.mark.parametrize("figures", [(-5, -6, 0), (-5, -4, -5), (0, -1, 0), (-(10**15), 0, 0)])
def test_what_is_taken_back_of_no_order_is_part_of_a_debit(figures):
    """Rule J2: without an order nothing says what there was, so each figure is part of the one before."""
    with pytest.raises(ValueError, match="no adjustment"):
        fresh_books(100, 100).decide(adjust(0, *figures))


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ((-1_001, -990, -5), "adjustment_exceeds_order"),
        ((-11, 0, 0), "adjustment_exceeds_order"),
        ((0, -986, 0), "adjustment_exceeds_order"),
        ((10**15 - 1_000, 1, 0), "amount_above_maximum"),
        ((-1_000, -990, -5), ""),
        ((-10, 0, 0), ""),
        ((0, 0, -5), ""),
        ((0, -985, 0), ""),
        ((7, 7, 7), ""),
    ],
)
def test_what_is_left_of_an_order_is_an_order(figures, reason):
    """Rule J2: a correction that would leave no figures of an order is refused, and any other is booked."""
    books = fresh_books(10_000, 10_000)
    books.cleared[4] = ORDER
    [entry] = books.decide(adjust(4, *figures))
    assert (REASON_BY_NUMBER[entry.reason].code if entry.reason else "") == reason
    assert (entry.kind == Kind.ADJUSTED) == (not reason)
    changes = books.take()
    positions = {party: cu for (_, party), cu in changes.positions.items()}
    assert sum(positions.values()) == 0
    debit, value, fee = figures if not reason else (0, 0, 0)
    assert positions.get(1, 0) == -debit
    assert positions.get(2, 0) == value - fee


def test_no_cap_refuses_an_adjustment_and_the_breach_is_told():
    """Rule J4: what leaves a merchant below its cap is booked, and said: the issuer's debt, or the acceptor's."""
    books = fresh_books(100, 100)
    books.decide(adjust(0, 150, 150, 0))
    assert books.take().breached == {1: 50}
    books.decide(adjust(0, -400, -400, 0))
    assert books.take().breached == {2: 150}
    [unknown] = books.decide(adjust(0, 1, 1, 0, acceptor=9))
    assert REASON_BY_NUMBER[unknown.reason].code == "unknown_merchant"
    [stranger] = books.decide(adjust(4, -1, -1, 0))
    assert REASON_BY_NUMBER[stranger.reason].code == "order_not_found"


@pytest.mark.parametrize(
    ("reference", "link"),
    [
        ("#17/40213 D12", Link(17, 40213)),
        ("#17/40213", Link(17, 40213)),
        ("#0/4 D", None),
        ("#17/40213D", None),
        ("17/40213 D", None),
        ("D #17/40213", None),
        ("", None),
    ],
)
def test_the_link_is_read_where_a_reference_begins_with_one(reference, link):
    """Rule J2: only a reference that begins with a cycle and an event names a line."""
    assert read_link(reference) == link


CLEARING = Reversing(9, 4, Kind.CLEARED, -1, 2, 7, 1, 2, 1, 10, 1_000, 990, 5, 0, 1, b"till")
GOOD = Reversing(20, 4, Kind.ADJUSTED, 0, 0, 0, 1, 2, 0, 0, -500, -500, -5, 0, 2, b"#1/9 D1")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({}, ""),
        ({"caller": 2}, "caller"),
        ({"units": -1}, "step, units, new points, member, rate"),
        ({"debit": 500}, "debit, value, fee (rule J1)"),
        ({"debit": -1_001}, "debit, value, fee that are left of the order (rule J2)"),
        ({"value": -986, "fee": 0}, "debit, value, fee that are left of the order (rule J2)"),
        ({"acceptor": 3}, "issuer, acceptor"),
        ({"reference": b"#1/10 D1"}, "reference (rule J2)"),
        ({"reference": b"D1"}, "reference (rule J2)"),
        ({"order_seq": 5}, "order_seq"),
        ({"order_seq": 0, "debit": -4, "value": -5}, "debit, value, fee (rule J1)"),
    ],
)
def test_a_forged_adjustment_is_named_by_the_audit(change, rule):
    """Rules J1 and J2: the audit recomputes what is left of a line, its link and its parties."""
    audit = ReversalAudit({4, 5})
    assert list(audit.take(CLEARING)) == []
    assert [name for name, _, _ in audit.take(GOOD._replace(**change))] == [rule][: bool(rule)]


@pytest.mark.parametrize(
    ("debit", "wrong"), [(-250, False), (-251, True), (-249, True), (-500, True)]
)
def test_the_audit_recomputes_a_reversal_s_share_of_what_is_left(debit, wrong):
    """Rule J3: half of the units of a corrected order take half of what is left, rounded down, and nothing else."""
    audit = ReversalAudit({4})
    back = Reversing(30, 4, Kind.REVERSED, 0, 2, 7, 1, 2, 1, -5, debit, -245, 0, 0, 2, b"")
    found = [*audit.take(CLEARING), *audit.take(GOOD), *audit.take(back)]
    assert [name for name, _, _ in found] == ["debit_cu (rule J3)"][:wrong]
