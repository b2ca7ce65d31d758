"""Journals that are well chained and wrong: the audit finds what the writer must never have decided."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from settlement.core.audit import AuditReport, FlushRow, JournalAudit
from settlement.core.chain import GENESIS, chain_digest
from settlement.core.event import Event, Kind, repack_event, unpack_event
from tests.simulation.ground import HOUR_US, START_US
from tests.simulation.histories import command_of
from tests.simulation.pure import COPY_HEADER, PureHouse

replace = msgspec.structs.replace
ORDER: dict[str, Any] = {
    "what": "order", "caller": 5, "issuer": 4, "acceptor": 5, "member": 1, "units": 3, "debit": 300,
    "value": 299, "fee": 1,
}  # fmt: skip


def journal() -> list[Event]:
    """Seven events of set-up (1 to 6), then orders, holds and a second cycle; each kind of end once."""
    house = PureHouse(caller_clock=False)
    number = iter(range(1, 100))

    def send(**wish: Any) -> None:
        key = next(number)
        house.submit([command_of({"key": key, "body": key} | wish)])

    send(**ORDER)  # 7
    for _ in range(3):
        send(**(ORDER | {"hold": HOUR_US}))  # 8, 9, 10
    send(what="end", caller=5, order=8, how="cleared", proven=False)  # 11
    send(what="end", caller=5, order=9, how="voided", proven=False)  # 12
    house.now_us = START_US + HOUR_US
    send(what="expire", caller=0, limit=10, at=0)  # 13
    send(**(ORDER | {"debit": 100_000, "value": 100_000}))  # 14: refused for the cap
    send(what="set_collateral", caller=0, merchant=4, collateral=500)  # 15
    send(what="close", caller=0, cycle=1, next_id="second", at=0)  # 16, 17
    send(**ORDER)  # 18
    send(what="settle", caller=0, cycle=1)  # 19
    send(**(ORDER | {"hold": HOUR_US}))  # 20
    send(what="pin", caller=5, order=20)  # 21
    house.now_us += 2 * HOUR_US
    send(what="end", caller=5, order=20, how="cleared", proven=False)  # 22
    return [unpack_event(data) for data in house.events]


def audit(events: list[Event]) -> AuditReport:
    """Audit a journal whose chain is in order, five events to a flush."""
    packed = [repack_event(event) for event in events]
    flushes: list[FlushRow] = []
    digest = GENESIS
    for start in range(0, len(events), 5):
        group = events[start : start + 5]
        header = {
            "flush_no": len(flushes) + 1,
            "epoch": 1,
            "first_seq": group[0].seq,
            "count": len(group),
            "at_us": max(event.at_us for event in group),
        }
        digest = chain_digest(digest, b"".join(packed[start : start + 5]), part=1, **header)
        flushes.append(
            FlushRow(
                header["flush_no"], 1, header["first_seq"], len(group), header["at_us"], digest
            )
        )
    checked = JournalAudit(AuditReport(part=1))
    checked.expect(flushes)
    checked.feed(b"".join((COPY_HEADER, *packed, b"\xff\xff")))
    checked.end_stream()
    return checked.report


def test_an_honest_journal_has_no_difference():
    """The journal that the cases below forge is clean as it stands."""
    events = journal()
    assert len(events) == 22
    report = audit(events)
    assert report.differences == []
    assert report.orders == 4


def change(seq: int, **columns: Any) -> Callable[[list[Event]], None]:
    """Forge columns of one event."""

    def forge(events: list[Event]) -> None:
        events[seq - 1] = replace(events[seq - 1], **columns)

    return forge


def append(like: int, **columns: Any) -> Callable[[list[Event]], None]:
    """Add one more event, like another but for some columns."""

    def forge(events: list[Event]) -> None:
        seq = len(events) + 1
        events.append(replace(events[like - 1], seq=seq, at_us=events[-1].at_us, **columns))

    return forge


CAP_BROKEN = "headroom after the order (rule C2)"
FORGERIES = {
    "an order beyond the cap": (change(7, debit_cu=3_001), "seq 7", CAP_BROKEN),
    "a hold beyond the cap": (change(9, debit_cu=2_401), "seq 9", "headroom after the hold (rule C3)"),
    "a credit that a hold leant on": (
        change(8, issuer=5, acceptor=4, debit_cu=701),
        "seq 8",
        "headroom after the hold (rule C3)",
    ),
    "a refusal without ground": (change(14, debit_cu=2_400), "seq 14", "headroom that the cap left to a refused order"),
    "a cap that is cut too far": (change(15, value_cu=0, kind=Kind.CAP_SET), "seq 18", CAP_BROKEN),
    "value above debit": (change(7, value_cu=301), "seq 7", "units, debit, value, fee"),
    "a negative fee": (change(7, fee_cu=-1), "seq 7", "units, debit, value, fee"),
    "an order with itself": (change(7, acceptor=4), "seq 7", "acceptor"),
    "a merchant without account": (change(7, acceptor=77), "seq 7", "merchant"),
    "an order in a cycle that is closed": (change(18, cycle_no=1), "seq 18", "cycle_no"),
    "an order in a cycle to come": (change(7, cycle_no=2), "seq 7", "cycle_no"),
    "an end in another cycle": (change(12, cycle_no=2), "seq 12", "cycle_no"),
    "a second end": (append(11, order_seq=8, cycle_no=2), "seq 23", "order_seq"),
    "an end of an order that was never accepted": (append(11, order_seq=7, cycle_no=2), "seq 23", "order_seq"),
    "an end with other figures": (change(11, debit_cu=301), "seq 11", "figures"),
    "an end with another reference": (change(11, reference="another"), "seq 11", "figures"),
    "an expiry before its time": (change(12, kind=Kind.EXPIRED), "seq 12", "at"),
    "a clearing after the expiry": (change(13, kind=Kind.CLEARED), "seq 13", "at"),
    "an expiry of a pinned hold": (change(22, kind=Kind.EXPIRED), "seq 22", "kind"),
    "a pin after the expiry": (change(21, at_us=START_US + 3 * HOUR_US), "seq 21", "at"),
    "a pin with other figures": (change(21, debit_cu=301), "seq 21", "figures"),
    "a pin in another cycle": (change(21, cycle_no=1), "seq 21", "cycle_no"),
    "a pin as a request": (change(21, step=0), "seq 21", "step"),
    "a pin of an order that has ended": (append(21), "seq 23", "order_seq"),
    "an acceptance that is another's": (change(8, order_seq=7), "seq 8", "order_seq"),
    "an end as a request": (change(12, step=0), "seq 12", "step"),
    "time that runs back": (change(10, at_us=START_US - 1), "seq 10", "at"),
    "another partition": (change(10, part=2), "seq 10", "part"),
    "a cycle that is skipped": (change(17, cycle_no=3), "seq 17", "cycle_no"),
    "a cycle's id used twice": (change(17, reference="first"), "seq 17", "reference"),
    "a cycle opened beside another": (append(17, cycle_no=3, reference="third"), "seq 23", "kind"),
    "a cycle closed twice": (append(16, cycle_no=1), "seq 23", "cycle_no"),
    "a cycle settled twice": (append(19), "seq 23", "cycle_no"),
    "a merchant that joins twice": (append(1, cycle_no=2), "seq 23", "merchant"),
    "a kind that does not exist": (append(7, kind=99), "seq 23", "kind"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_what_must_never_be_decided_is_found(name: str):
    """Rules B1, B5, B7, C1 to C5, N1: digests that are right do not hide a wrong decision."""
    forge, key, rule = FORGERIES[name]
    events = journal()
    forge(events)
    report = audit(events)
    assert (key, rule) in [(each.key, each.field) for each in report.differences]
    assert {each.table for each in report.differences} == {"settlement.event"}


def test_a_gap_is_named():
    """Rule B5: missing numbers are named, and what follows is still read."""
    events = journal()
    del events[6:9]
    report = audit(events)
    assert [(each.key, each.found) for each in report.differences][:2] == [
        ("seq 7", "-"),
        ("seq 8 to 9", "-"),
    ]
    assert report.events == 19


@pytest.mark.parametrize("cut", [1, 10, 40, 300, 2_000])
def test_a_stream_that_is_cut_short_is_no_clean_audit(cut: int):
    """A connection that ends in the middle of the journal is an error, not a short journal."""
    stream = b"".join((COPY_HEADER, *map(repack_event, journal()), b"\xff\xff"))
    checked = JournalAudit(AuditReport(part=1))
    checked.expect([])
    checked.feed(stream[:-cut])
    with pytest.raises(ValueError, match="cut short"):
        checked.end_stream()


def test_many_differences_are_counted_and_a_thousand_kept():
    """A journal that is wrong everywhere does not fill the memory with differences."""
    report = AuditReport(part=1)
    for number in range(5_000):
        report.differ("table", f"row {number}", "column", 1, 2)
    assert (report.differences_count, len(report.differences)) == (5_000, 1_000)
    assert not report.clean
