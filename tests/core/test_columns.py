"""Orders as columns: whatever is in a request, deciding it by columns is deciding its orders one by one."""

import operator
import os
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exchange.programme.core.lotbook import LotBook
from exchange.programme.core.lots import Lot
from schemas.values.amounts import SUM_LIMIT
from schemas.values.reason import Reason
from settlement.core.books import BACKDATE_US, Books
from settlement.core.columns import EntryColumns, OrderColumns, entry_column
from settlement.core.command import (
    Answer,
    CloseCycle,
    Command,
    Join,
    Order,
    key_name,
    unstored_refusal,
)
from settlement.core.event import EPOCH_2000_US, pack_event, unpack_event
from settlement.core.event_array import empty_events, join_events
from settlement.core.stretch import Stretch, stretches
from settlement.core.window import Obligation
from settlement.service.block import Block
from tests.simulation.ground import BODY, DAY_US, START_US
from tests.simulation.pure import catalogue

EXAMPLES = int(os.environ.get("TONGDUI_HISTORIES", "60"))
CAPS = {1: 900, 2: 300, 3: 10**15 - 1, 4: 700}
"""The first three are hosted; one cap never binds."""
OTHER_BODY = b"\1" * 16


class World:
    """Books and lots as a writer holds them, with a few members who own a few small lots."""

    def __init__(self, *, caller_clock: bool = False) -> None:
        self.books = Books(part=1, caller_clock=caller_clock)
        self.lots = LotBook(last_lot_no=100)
        self.lots.catalogue = catalogue()
        self.books.tick(START_US)
        for number, cap_cu in CAPS.items():
            self.books.decide(
                Join(
                    caller=0, key=bytes([number] * 16), body=BODY, merchant_no=number, cap_cu=cap_cu
                )
            )
        self.books.decide(
            CloseCycle(caller=0, key=bytes([9] * 16), body=BODY, cycle_no=0, next_id="one")
        )
        self.books.take()
        lots = [
            Lot(number, member, merchant, 40, 40, START_US + (number % 5 - 1) * DAY_US, number)
            for number, (member, merchant) in enumerate(
                [(m, i) for m in (1, 2, 3) for i in (1, 2, 3) for _ in range(3)], start=1
            )
        ]
        self.lots.put_members([0, 1, 2, 3], sorted(lots))

    def decide(self, command: Command, books: Books) -> Answer:
        """As the rider does."""
        return self.lots.decide(command, books)

    def decide_stretch(self, stretch: Stretch) -> None:
        """As the rider does."""
        self.lots.decide_stretch(stretch)

    def one_by_one(self, orders: Sequence[Order], known: dict) -> np.ndarray:
        """What the writer does with single orders, keys included."""
        columns = []
        decided = dict(known)
        for order in orders:
            name = key_name(order.caller, order.key)
            if name not in decided:
                hosted = order.hosted and not order.reason
                books = self.books
                answer = self.lots.decide(order, books) if hosted else books.decide(order)
                decided[name] = order.body, answer
            body, answer = decided[name]
            conflict = unstored_refusal(Reason.IDEMPOTENCY_CONFLICT)
            columns.append(entry_column(answer[0] if body == order.body else conflict))
        return np.array(columns, np.int64).T

    def state(self) -> dict[str, Any]:
        """Everything that a flush would write, and everything that is kept."""
        changes, lots = self.books.take(), self.lots.take()
        return {
            "events": b"".join(changes.events),
            "changes": [
                getattr(changes, name)
                for name in changes.__slots__
                if name not in ("events", "opened")
            ],
            "opened": changes.opened,
            "uses": lots.uses,
            "made": [_lot(lot) for lot in lots.made],
            "purses": {
                member: {merchant: [_lot(lot) for lot in purse] for merchant, purse in held.items()}
                for member, held in self.lots.members.items()
            },
            "books": (
                self.books.seq, self.books.fees_cu, self.books.rounding_cu, self.books.clock_us,
                self.books.holds,
            ),
            "accounts": {
                number: [getattr(account, name) for name in account.__slots__]
                for number, account in self.books.accounts.items()
            },
        }  # fmt: skip


def _lot(lot: Lot) -> list[int]:
    return [getattr(lot, name) for name in lot.__slots__]


@st.composite
def orders(draw: st.DrawFn) -> Order:
    """Mostly plain orders that lots and caps may or may not carry, and everything else now and then."""
    issuer, acceptor = draw(st.permutations([1, 2, 3, 4]))[:2]
    units = draw(st.integers(1, 60))
    debit = draw(st.sampled_from([1, 7, 50, 100, 250, 300]))
    value = draw(st.integers(0, debit))
    order = Order(
        0, draw(st.integers(0, 30)).to_bytes(16, "big"), draw(st.sampled_from([BODY] * 5 + [OTHER_BODY])),
        issuer, acceptor, draw(st.integers(1, 3)), units, debit, value, draw(st.integers(0, value)),
        draw(st.integers(0, 3)), hosted=True,
        reference=draw(st.sampled_from(["", "", "till 7", "小票"])),
    )  # fmt: skip
    late_us = st.sampled_from([-1, 0, 1, DAY_US, BACKDATE_US - 1, BACKDATE_US, BACKDATE_US + 1])
    strange: st.SearchStrategy[dict[str, Any]] = st.one_of(
        st.builds(lambda us: {"occurred_at_us": START_US - us}, late_us),
        st.sampled_from(
            [
                {"hosted": False, "reason": Reason.UNKNOWN_MEMBER.number, "member_no": 0},
                {"hosted": False, "reason": Reason.UNKNOWN_MERCHANT.number, "issuer": 0},
                {"issuer": 4, "acceptor": 1, "hosted": False, "hold_us": DAY_US},
                {"issuer": 4, "acceptor": 2, "hosted": False},
                {"hold_us": DAY_US},
                {"issuer": 1, "acceptor": 2, "credited_units": 3},
                {"issuer": 7},
                {"acceptor": 8},
            ]
        ),
    )
    return msgspec.structs.replace(order, **(draw(strange) if draw(st.integers(0, 3)) == 0 else {}))


@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(
    groups=st.lists(st.lists(orders(), min_size=1, max_size=40), min_size=1, max_size=3),
    least=st.sampled_from([1, 1, 3]),
    caller_clock=st.booleans(),
)
def test_columns_decide_what_one_by_one_decides(groups, least, caller_clock):
    """Rules I2, C2, L1, L2, L7: the same events byte for byte, the same answers, the same state.

    Caps and lots that bind in the middle, keys that come twice with the same body or another, refusals
    found before, till times, holds and exchanges in between, a stretch of one order or of many.
    """
    alone, together = World(caller_clock=caller_clock), World(caller_clock=caller_clock)
    known: dict[bytes, tuple[bytes, list]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("settlement.service.block.STRETCH_MIN", least)
        for group in groups:
            columns = msgspec.msgpack.decode(
                msgspec.msgpack.encode(OrderColumns.of(group)), type=OrderColumns
            )
            columns.check()
            assert list(columns.orders()) == group
            block = Block(columns)
            for _ in block.decide(
                together.books,
                together,
                {name: known[name] for name in block.rows.keys() & known.keys()},
                operator.eq,
            ):
                pass
            expected = alone.one_by_one(group, known)
            assert block.answers().table().tolist() == expected.tolist()
            assert together.state() == alone.state()
            fresh = {key_name(order.caller, order.key) for order in group} - known.keys()
            assert block.repeats == len(group) - len(fresh)
            for name in block.rows:
                known.setdefault(name, block.known(name))  # type: ignore[arg-type]


def plain(count: int, **changes: Any) -> list[Order]:
    """Orders that nothing is wrong with."""
    given: dict[str, Any] = {
        "caller": 0, "body": BODY, "issuer": 3, "acceptor": 1, "member_no": 1, "units": 1,
        "debit_cu": 10, "value_cu": 9, "fee_cu": 1, "rate_no": 3, "hosted": True,
    }  # fmt: skip
    return [
        Order(key=bytes([0, 1, *row.to_bytes(14)]), **(given | changes)) for row in range(count)
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"debit_cu": 0, "value_cu": 0, "fee_cu": 0},
        {"debit_cu": 10**15, "value_cu": 0, "fee_cu": 0},
        {"value_cu": 11},
        {"fee_cu": 10},
        {"fee_cu": -1},
        {"units": 0},
        {"acceptor": 3},
        {"rate_no": 2**31},
        {"reason": 2**15, "hosted": False},
        {"reason": 1, "hosted": False, "issuer": 2**31},
    ],
)
def test_what_contradicts_itself_never_reaches_a_stretch(changes):
    """Rule B1: an order whose figures contradict each other raises as it does alone; numpy cuts nothing."""
    good, bad = plain(3), plain(1, **changes)
    rows = [*good[:2], *bad, good[2]]
    found = stretches(World().books, OrderColumns.of(rows), np.arange(4))
    assert [(part.tolist(), qualify) for part, qualify in found] == [
        ([0, 1], True),
        ([2], False),
        ([3], True),
    ]


def test_sums_that_might_pass_the_limit_are_not_a_stretch():
    """What one pair owes in a cycle stays below 2^62: near it, orders are decided one by one."""
    world = World()
    columns = OrderColumns.of(plain(5))
    assert Stretch(world.books, columns, np.arange(5)).fits
    world.books.obligations[3, 1] = Obligation(debit=SUM_LIMIT - 50)
    assert not Stretch(world.books, columns, np.arange(5)).fits
    huge = OrderColumns.of(plain(5000, debit_cu=10**15 - 1))
    assert not Stretch(World().books, huge, np.arange(5000)).fits


@given(st.lists(st.text(max_size=35), max_size=5), st.integers(-(2**63), 2**63 - 1))
@example([], 0)
def test_many_events_are_packed_as_one_is(references, figure):
    """FORMAT.md, "Event": bytes that are packed by columns are those that are packed one by one."""
    events = empty_events(len(references))
    events["seq"] = np.arange(len(references)) + 1
    events["member_no"], events["reason"], events["caller"] = figure, 7, 9
    events["key"], events["step"] = b"k" * 16, -1
    at_us = EPOCH_2000_US
    packed = [
        pack_event(
            *(seq, 0, at_us, at_us, at_us, figure, 0, 0, 0, 0, 0, 0, b"k" * 16, bytes(16), 0, 9),
            *(0, 0, 0, 0, 0, -1, 7, reference),
        )
        for seq, reference in enumerate(references, start=1)
    ]
    assert join_events(events, references) == b"".join(packed)
    for data in packed:
        assert unpack_event(data).member_no == figure


def test_columns_of_different_lengths_are_refused():
    """A frame whose columns do not fit each other is nobody's request."""
    good = OrderColumns.of(plain(3))
    good.check()
    for changes in (
        {"keys": good.keys[:-1]},
        {"bodies": good.bodies[16:]},
        {"figures": good.figures[8:]},
        {"references": ["one"]},
        {"others": {3: plain(1)[0]}},
    ):
        with pytest.raises(ValueError, match="different lengths"):
            msgspec.structs.replace(good, **changes).check()
    with pytest.raises(ValueError, match="one sender"):
        OrderColumns.of([*plain(1), *plain(1, caller=2)])
    assert EntryColumns(b"").table().shape == (8, 0)
