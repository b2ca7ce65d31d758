"""A journal of pairs that are paid at once: the audit follows the money, and finds an order that it does not cover."""

import pytest

from settlement.core.arrangement import Model
from settlement.core.command import (
    Adjust,
    ArrangePair,
    CloseCycle,
    Command,
    Deposit,
    Discharge,
    End,
    MakeArrangement,
    Order,
)
from settlement.core.event import Event, Kind, unpack_event
from tests.core.test_audit import audit, change
from tests.simulation.ground import BODY, new_key
from tests.simulation.pure import PureHouse


def journal() -> list[Event]:
    """Six events of set-up, then a hold and orders at a gross pair, a hold that turns, and a run beside both."""
    house = PureHouse(caller_clock=False)

    def send(command: Command) -> Kind:
        [answer] = house.submit([command])
        return Kind(answer[0].kind)

    def order(issuer: int, acceptor: int, cu: int, hold_us: int = 0) -> Kind:
        who = acceptor, new_key(), BODY, issuer, acceptor, 1
        return send(Order(*who, 1, cu, cu, 0, issuer, hold_us=hold_us))

    def close(cycle_no: int, next_id: str, arrangement_no: int = 0) -> None:
        send(CloseCycle(0, new_key(), BODY, cycle_no, next_id, 0, 0, arrangement_no))

    send(MakeArrangement(0, new_key(), BODY, "now", Model.GROSS))  # 7
    close(0, "now-1", 1)  # 8
    send(ArrangePair(0, new_key(), BODY, 4, 5, 1))  # 9
    close(1, "second")  # 10, 11
    send(Deposit(0, new_key(), BODY, 4, 0, 600))  # 12
    assert order(4, 5, 400, 10**9) == Kind.ACCEPTED  # 13
    assert order(4, 1, 3_000) == Kind.CLEARED  # 14: the whole cap, which the hold leaves alone
    assert order(4, 5, 200) == Kind.CLEARED  # 15
    assert order(4, 5, 1) == Kind.REFUSED  # 16
    assert send(End(5, bytes(16), BODY, 13, Kind.CLEARED)) == Kind.CLEARED  # 17
    assert order(2, 3, 900, 10**9) == Kind.ACCEPTED  # 18
    send(ArrangePair(0, new_key(), BODY, 2, 3, 1))  # 19
    close(3, "third")  # 20, 21
    assert order(2, 1, 900) == Kind.CLEARED  # 22: the cap is free again
    send(Deposit(0, new_key(), BODY, 4, 0, 3_000))  # 23
    pair = (1, 4, 3_000, -3_000, 0, 0)
    assert send(Discharge(0, new_key(), BODY, 3, (pair,))) == Kind.DISCHARGED  # 24
    assert send(Adjust(0, new_key(), BODY, 0, 4, 5, 150, 150, 0)) == Kind.ADJUSTED  # 25
    send(Deposit(0, new_key(), BODY, 4, 0, 1))  # 26
    return [unpack_event(data) for data in house.events]


def test_an_honest_journal_of_gross_pairs_has_no_difference():
    """Rule T9: reserved money, holds that turn, and a line after a run (U7) that leaves its issuer below zero."""
    assert len(journal()) == 26
    assert audit(journal()).differences == []


COVERED = "funds after the order (rule T9)"


@pytest.mark.parametrize(
    ("deposit_cu", "seq", "rule"),
    [(399, 13, COVERED), (599, 15, COVERED), (601, 16, "funds that were left to a refused order")],
    ids=["a hold", "an order", "a refusal"],
)
def test_what_the_money_does_not_say_is_found(deposit_cu, seq, rule):
    """Rule T9: an order that the money does not cover, and a refusal of one that it does, are differences."""
    events = journal()
    change(12, value_cu=deposit_cu)(events)
    [found, *_] = audit(events).differences
    assert (found.key, found.field) == (f"seq {seq}", rule)
