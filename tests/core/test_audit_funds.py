"""Journals that are well chained and move money wrongly: the audit finds each."""

import pytest

from settlement.core.command import Deposit, Discharge, PayOut, Transfer, Unwind
from settlement.core.event import Event, Kind, unpack_event
from tests.core.test_audit import ORDER, append, audit, change
from tests.simulation.ground import BODY, new_key
from tests.simulation.histories import command_of
from tests.simulation.pure import PureHouse


def journal() -> list[Event]:
    """Six events of set-up, then two orders whose cycle closes (9, 10), and money of every kind."""
    house = PureHouse(caller_clock=False)
    number = iter(range(1, 100))

    def wish(**what) -> None:
        key = next(number)
        house.submit([command_of({"key": key, "body": key} | what)])

    def send(kind, **rest) -> None:
        [answer] = house.submit([kind(caller=0, key=new_key(), body=BODY, **rest)])
        assert answer[0].kind != Kind.REFUSED, answer

    wish(**ORDER)  # 7: merchant 4 owes 300, 5 gets 298, fees 1, rounding 1
    wish(**(ORDER | {"issuer": 5, "acceptor": 1, "debit": 200, "value": 200, "fee": 0}))  # 8
    wish(what="close", caller=0, cycle=1, next_id="second", at=0)  # 9, 10
    send(Deposit, party=4, pot=0, cu=350)  # 11
    send(Transfer, giver=4, giver_pot=0, taker=-4, taker_pot=0, cu=50)  # 12
    send(PayOut, party=-4, pot=0, cu=50)  # 13
    send(Discharge, cycle_no=1, pairs=((4, 5, -300, 298, 1, 1), (1, 5, 200, -200, 0, 0)))  # 14, 15
    wish(what="settle", caller=0, cycle=1, funded=True)  # 16
    wish(**ORDER)  # 17
    wish(what="close", caller=0, cycle=2, next_id="third", at=0)  # 18, 19
    send(Deposit, party=4, pot=1, cu=60)  # 20
    send(Deposit, party=0, pot=2, cu=40)  # 21
    send(Transfer, giver=4, giver_pot=1, taker=4, taker_pot=0, cu=60, cycle_no=2)  # 22
    send(Transfer, giver=0, giver_pot=2, taker=4, taker_pot=0, cu=40, cycle_no=2)  # 23
    send(Unwind, cycle_no=2, debtor=4, shares=((5, 199), (-1, 1)))  # 24, 25, 26
    send(Deposit, party=4, pot=0, cu=100)  # 27
    send(Transfer, giver=4, giver_pot=0, taker=0, taker_pot=2, cu=40)  # 28
    return [unpack_event(data) for data in house.events]


def test_an_honest_journal_of_money_has_no_difference():
    """The journal that the cases below forge is clean as it stands."""
    assert len(journal()) == 28
    assert audit(journal()).differences == []


SPARE = "what the giver has to spare"
FORGERIES = {
    "a withdrawal of what a closed cycle needs": (change(12, value_cu=51), "seq 12", SPARE),
    "collateral that the cap needs": (
        append(22, value_cu=4_000, cycle_no=3, acceptor=-4), "seq 29", SPARE),
    "collateral that is not there": (change(22, value_cu=61), "seq 22", "pot 1 of party 4"),
    "a share that is not there": (change(23, value_cu=41), "seq 23", "pot 2 of party 0"),
    "a party that there is not": (change(11, issuer=77), "seq 11", "party and pot"),
    "collateral of the fees": (change(21, issuer=-1, units=1), "seq 21", "party and pot"),
    "an amount of nothing": (change(27, value_cu=0), "seq 27", "debit, value, fee"),
    "a fee on a deposit": (change(27, fee_cu=1), "seq 27", "debit, value, fee"),
    "a pair that owes less": (change(14, debit_cu=-299), "seq 14", "figures of the pair"),
    "a pair twice": (append(14, step=0), "seq 29", "issuer, acceptor"),
    "pairs for which the money lacks": (
        change(11, value_cu=150), "seq 15", "funds of merchant 4 after the run"),
    "a settlement without the money": (
        change(25, value_cu=20), "seq 26", "funds of merchant 4 after the settlement"),
    "a settlement on a word": (
        change(26, value_cu=0), "seq 26", "settlement where funds are kept (rule U13)"),
    "a settlement of another sum": (change(26, value_cu=297), "seq 26", "value_cu"),
    "more paid back than is owed": (change(28, value_cu=41), "seq 28", "debt that is paid back"),
    "a gift": (append(28, acceptor=1, credited_units=0, value_cu=1), "seq 29", "debt that is paid back"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_money_that_must_never_have_moved_is_found(name):
    """Rules U2 to U7, U10, U11 and U13: digests that are right do not hide what the writer must have refused."""
    forge, key, rule = FORGERIES[name]
    events = journal()
    forge(events)
    assert (key, rule) in [(each.key, each.field) for each in audit(events).differences]
