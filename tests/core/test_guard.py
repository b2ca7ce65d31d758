"""What protects members, at its edges, and the baskets that no gateway may make."""

from typing import Any

import msgspec
import pytest

from exchange.core.catalogue import MemberRules
from exchange.programme.core.command import AnyCommand, Basket, MemberOrder
from exchange.programme.core.guard import WINDOW_US, Guard, Spend
from schemas.values.reason import Reason
from settlement.core.books import Books
from settlement.core.command import End, Entry, Pin
from settlement.core.event import Kind
from tests.simulation.ground import BODY, START_US, new_key
from tests.simulation.pure import PureHouse

LIMITED = MemberRules(effective_at_us=0, daily_cu=100, daily_orders=2)


def spend(debit_cu: int = 40, code: bytes = b"", until_us: int = 0) -> Spend:
    """A spend of member 7 at issuer 1, asked by merchant 2."""
    return Spend(2, 1, 7, debit_cu, code, until_us)


def cleared(seq: int, at_us: int) -> Entry:
    """The event of an order that cleared."""
    return Entry(seq, seq, Kind.CLEARED, 0, at_us, at_us, 1, 1, 2, 1, 40, 40, 0, 0, 0, 1)


def guarded() -> tuple[Guard, Books]:
    """A guard that knows member 7, and books at their start."""
    guard, books = Guard({}), Books(part=1)
    guard.put_members([7], [])
    books.tick(START_US)
    return guard, books


def test_an_order_counts_for_less_than_a_day():
    """Rule A5: what is exactly 24 hours old counts no more; a microsecond younger it does."""
    guard, books = guarded()
    for seq in (1, 2):
        guard.note(spend(), LIMITED, cleared(seq, START_US))
    books.tick(START_US + WINDOW_US - 1)
    assert guard.why_not(spend(), LIMITED, books) is Reason.MEMBER_LIMIT_EXCEEDED
    books.tick(START_US + WINDOW_US)
    assert guard.why_not(spend(), LIMITED, books) is None


def test_a_limit_may_be_reached_and_not_passed():
    """Rule A5: the last unit and the last order within a limit are allowed; 0 is no limit."""
    guard, books = guarded()
    guard.note(spend(60), LIMITED, cleared(1, START_US))
    assert guard.why_not(spend(40), LIMITED, books) is None
    assert guard.why_not(spend(41), LIMITED, books) is Reason.MEMBER_LIMIT_EXCEEDED
    assert guard.why_not(spend(41), MemberRules(effective_at_us=0), books) is None
    assert guard.why_not(spend(41), None, books) is None
    one = MemberRules(effective_at_us=0, daily_orders=1)
    assert guard.why_not(spend(1), one, books) is Reason.MEMBER_LIMIT_EXCEEDED
    other = spend(1)._replace(member_no=8)
    guard.put_members([8], [])
    assert guard.why_not(other, one, books) is None
    assert guard.why_not(spend(1)._replace(issuer=3), one, books) is None


def test_a_code_counts_up_to_its_deadline():
    """Rule A2: the deadline itself is in time; a used code is known for as long as it would count."""
    guard, books = guarded()
    assert guard.why_not(spend(code=b"c", until_us=START_US), None, books) is None
    late = guard.why_not(spend(code=b"c", until_us=START_US - 1), None, books)
    assert late is Reason.MEMBER_NOT_AUTHORISED
    guard.note(spend(code=b"c", until_us=START_US), None, cleared(1, START_US))
    guard.forget(START_US)
    used = guard.why_not(spend(code=b"c", until_us=START_US), None, books)
    assert used is Reason.CODE_SPENT
    guard.forget(START_US + 1)
    assert guard.codes == {}


def test_used_codes_do_not_fill_the_memory():
    """Codes that are over leave as new ones come, without waiting for the hourly run."""
    guard, _ = guarded()
    for seq in range(1, 1_000):
        at_us = START_US + seq * 1_000_000
        code = spend(code=seq.to_bytes(16, "big"), until_us=at_us + 60_000_000)
        guard.note(code, None, cleared(seq, at_us))
    assert len(guard.codes) <= 62


def part(**changes: Any) -> MemberOrder:
    """An order in a basket of merchant 4."""
    given: dict[str, Any] = {
        "caller": 4, "key": b"k" * 16, "body": BODY, "issuer": 1, "acceptor": 4, "member_no": 1,
        "units": 1, "debit_cu": 100, "value_cu": 100, "fee_cu": 0, "rate_no": 1, "hosted": True,
    }  # fmt: skip
    return MemberOrder(**(given | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"orders": ()},
        {"then": int(Kind.VOIDED)},
        {"accepted": (5, 5)},
        {"orders": (part(), part(acceptor=5))},
        {"orders": (part(key=new_key()),)},
        {"orders": (part(caller=0),)},
        {"orders": (part(hosted=False),)},
        {"orders": (part(hold_us=1),)},
        {"orders": (part(occurred_at_us=START_US),)},
    ],
)
def test_parts_that_do_not_belong_together_are_a_fault_of_ours(changes: dict[str, Any]):
    """Rule G1: a basket that no gateway may make is not half decided, but found before anything is booked."""
    house = PureHouse(caller_clock=False)
    given: dict[str, Any] = {"caller": 4, "key": b"k" * 16, "body": BODY, "orders": (part(),)}
    before = len(house.events)
    with pytest.raises(ValueError, match=r"basket|order twice"):
        house.submit([Basket(**(given | changes))])
    assert (len(house.events), house.books.take().events) == (before, [])


def test_commands_cross_the_link_as_they_are():
    """Frames between gateway and writer carry codes, pins, proofs and baskets unchanged."""
    order = part(code=b"c" * 16, code_until_us=START_US)
    commands = [
        order,
        Basket(4, b"k" * 16, BODY, (order, order), (5, 6), int(Kind.CLEARED), True),
        Pin(4, b"k" * 16, BODY, 7),
        End(4, b"k" * 16, BODY, 7, int(Kind.VOIDED), True),
    ]
    decoder = msgspec.msgpack.Decoder(list[AnyCommand])
    assert decoder.decode(msgspec.msgpack.encode(commands)) == commands
