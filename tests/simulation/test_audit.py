"""What an audit says when rows were changed behind the program's back: which table, which row, which column."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from deploy.database.embedded import EmbeddedServer
from exchange.programme.core.command import (
    Accrual,
    Credit,
    GiveBack,
    LapseLots,
    MemberOrder,
    Take,
    TakeBack,
)
from exchange.programme.service.audit import audit_lots
from settlement.core.arrangement import Model
from settlement.core.audit import AuditReport
from settlement.core.command import (
    ArrangePair,
    CloseCycle,
    Command,
    MakeArrangement,
    Pin,
    Reverse,
    SetCollateral,
    SettleCycle,
)
from settlement.service.audit import audit, audit_books
from settlement.service.batches import CutBatch, cut_batch
from tests.golden.packages import golden_keyring
from tests.simulation.ground import (
    BODY,
    DAY_US,
    HOUR_US,
    House,
    new_key,
    open_house,
    order_of,
    terms,
)

LOOP = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(
    server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    """A ledger with everything: three cycles, two batches, holds, lots, an exchange, a lapse, calls, reversals."""
    dsn = server.clone_database("migrated", "audited")
    async with open_house(
        dsn,
        *(terms("A"), terms("B"), terms("C", hosted=False), terms("D", hosted=False)),
        rules={"D": ("none", 0, 9)},
    ) as one:
        await _live(one, tmp_path_factory.mktemp("packages"))
        yield one
    server.drop_database("audited")


async def _live(house: House, out: Path) -> None:
    keyring = golden_keyring(out / "keys")
    for merchant in (1, 2):
        await house.submit(
            Accrual(caller=0, key=new_key(), body=BODY, member_no=7, merchant_no=merchant, units=50)
        )
    [spent], _, [own] = await house.submit(
        order_of(house, "A", "C", 700, hosted=True, units=7),
        order_of(house, "A", "B", 300, hosted=True, units=3, credited_units=2),
        order_of(house, "C", "D", 555, fee_cu=5, value_cu=550),
    )
    await house.submit(
        order_of(house, "C", "D", 100, hold_us=HOUR_US),
        order_of(house, "D", "C", 200, hold_us=40 * DAY_US // 2),
    )
    pinned = await house.one(order_of(house, "D", "B", 50, hold_us=HOUR_US))
    await house.submit(Pin(caller=0, key=bytes(16), body=BODY, order_seq=pinned.seq))
    taken, _, given = CALLS
    await house.submit(
        *(
            Accrual(
                caller=0, key=new_key(), body=BODY, member_no=8, merchant_no=1, units=40,
                expires_at_us=house.clock.us + days * DAY_US,
            )
            for days in (2, 90)
        ),
        *CALLS,
        ended(TakeBack, given),
    )  # fmt: skip
    await house.close_cycle(1, "second")
    assert isinstance(
        await cut_batch(house.pool, cycle_no=1, keyring=keyring, out=out, now=datetime.now(UTC)),
        CutBatch,
    )
    await house.submit(SettleCycle(caller=0, key=new_key(), body=BODY, cycle_no=1))
    house.clock.us += 18 * DAY_US
    await house.submit(
        with_code(order_of(house, "D", "A", 321)),
        SetCollateral(caller=0, key=new_key(), body=BODY, merchant_no=3, collateral_cu=900),
        LapseLots(caller=0, key=new_key(), body=BODY, as_of_us=house.clock.us),
    )
    await house.close_cycle(2, "third")
    assert isinstance(
        await cut_batch(house.pool, cycle_no=2, keyring=keyring, out=out, now=datetime.now(UTC)),
        CutBatch,
    )
    await house.submit(order_of(house, "C", "A", 11))
    await house.submit(ended(GiveBack, taken), ended(GiveBack, taken))
    await house.submit(
        Reverse(caller=0, key=new_key(), body=BODY, order_seq=spent.seq, units=3),
        Reverse(caller=4, key=new_key(), body=BODY, order_seq=own.seq, units=2),
    )
    await house.submit(
        MakeArrangement(0, new_key(), BODY, "noon", Model.BILATERAL),
        CloseCycle(0, new_key(), BODY, 0, "noon-first", arrangement_no=1),
        ArrangePair(0, new_key(), BODY, 1, 2, 1),
    )


def call(kind: type[Take] | type[Credit], units: int) -> Take | Credit:
    """A call on A about member 8."""
    return kind(caller=0, key=new_key(), body=BODY, member_no=8, merchant_no=1, units=units)


CALLS = call(Take, 60), call(Take, 5), call(Credit, 3)
"""One that is given back after the first of the two lots that it took from has expired, one that stays, and a
credit that is taken back."""


def ended(kind: type[GiveBack] | type[TakeBack], of: Take | Credit) -> GiveBack | TakeBack:
    """The end of a call."""
    return kind(
        caller=0, key=new_key(), body=BODY, member_no=of.member_no, merchant_no=of.merchant_no,
        units=of.units, of_key=of.key, of_body=of.body,
    )  # fmt: skip


def with_code(order: Command) -> MemberOrder:
    """The same order as its member's, with a code."""
    return MemberOrder(**msgspec.structs.asdict(order), code=b"c" * 16, code_until_us=2**60)


async def audit_after(house: House, sql: str) -> AuditReport:
    """Both audits of what the rows would be after some SQL of the tables' owner."""
    owner = await asyncpg.connect(house.dsn)
    change = owner.transaction(isolation="repeatable_read")
    await change.start()
    try:
        # Constraints would stop some of this; whoever can change rows can drop them too.
        await owner.execute(
            """
            ALTER TABLE settlement.event DROP CONSTRAINT event_amounts_add_up;
            ALTER TABLE settlement.cycle DROP CONSTRAINT cycle_state_and_times_agree;
            DROP INDEX settlement.cycle_one_open;
            """
        )
        await owner.execute(sql)
        report = await audit_books(owner)
        report.add(await audit_lots(owner))
    finally:
        await change.rollback()
        await owner.close()
    return report


@LOOP
async def test_an_untouched_ledger_is_clean(house: House):
    """Rule B8: what the writer wrote is what the journal says, batches and lots included."""
    report = await audit(house.pool)
    assert report.differences == []
    assert (report.cycles, report.batches, report.orders, report.holds) == (4, 2, 5, 3)
    assert report.reversals == 2
    assert report.events == await house.pool.fetchval("SELECT max(seq) FROM settlement.event")
    assert report.head == await house.pool.fetchval("SELECT digest FROM settlement.partition")
    seen: list[int] = []
    again = await audit(house.pool, progress=seen.append)
    assert sum(seen) == again.events == report.events
    everything = await audit_after(house, "SELECT 1")
    assert (everything.differences, everything.lots) == ([], 8)


ORDER = "kind = 3 AND debit_cu = 700"
TAMPERINGS = {
    # SQL: the table, the row and the column that the audit must name.
    "UPDATE settlement.position SET net_cu = net_cu + 1 WHERE cycle_no = 1 AND merchant_no = 1": (
        "settlement.position", r"cycle 1, merchant 1", "net_cu"),
    "UPDATE settlement.position SET net_cu = net_cu - 1 WHERE cycle_no = 3 AND merchant_no = -1": (
        "settlement.position", r"cycle 3, merchant -1", "net_cu"),
    "DELETE FROM settlement.position WHERE cycle_no = 2 AND merchant_no = 4": (
        "settlement.position", r"cycle 2, merchant 4", "row"),
    "INSERT INTO settlement.position VALUES (1, 2, 2, 5)": (
        "settlement.position", r"cycle 2, merchant 2", "row"),
    "INSERT INTO settlement.position VALUES (1, 9, 2, 5)": (
        "settlement.position", r"cycle 9", "rows"),
    "UPDATE settlement.obligation SET orders = orders + 1 WHERE cycle_no = 1 AND issuer = 3": (
        "settlement.obligation", r"cycle 1, issuer 3, acceptor 4", "orders"),
    "UPDATE settlement.obligation SET fee_cu = 0 WHERE cycle_no = 1 AND issuer = 3": (
        "settlement.obligation", r"cycle 1, issuer 3, acceptor 4", "fee_cu"),
    "DELETE FROM settlement.obligation WHERE cycle_no = 3": (
        "settlement.obligation", r"cycle 3, issuer 3, acceptor 1", "row"),
    "UPDATE settlement.account SET cap_cu = cap_cu + 1 WHERE merchant_no = 2": (
        "settlement.account", r"merchant 2", "cap_cu"),
    "UPDATE settlement.account SET held_cu = 0 WHERE merchant_no = 4": (
        "settlement.account", r"merchant 4", "held_cu"),
    "UPDATE settlement.account SET collateral_cu = 0 WHERE merchant_no = 3": (
        "settlement.account", r"merchant 3", "collateral_cu"),
    "UPDATE settlement.funds SET cu = cu + 1 WHERE party = -1": ("settlement.funds", r"party -1", "cu"),
    "DELETE FROM settlement.funds WHERE party = 1": ("settlement.funds", r"party 1", "row"),
    "INSERT INTO settlement.contribution VALUES (1, 3, 5)": (
        "settlement.contribution", r"all parties", "sum of cu"),
    "INSERT INTO settlement.debt VALUES (1, 3, 4, 5)": (
        "settlement.debt", r"debtor 3, creditor 4", "row"),
    "INSERT INTO settlement.discharge VALUES (1, 2, 1, 4, -5, 5, 0, 0)": (
        "settlement.discharge", r"cycle 2, merchants 1 and 4", "row"),
    "INSERT INTO settlement.account VALUES (1, 9, 0, 0, 0)": ("settlement.account", r"merchant 9", "row"),
    "INSERT INTO settlement.account VALUES (2, 9, 0, 0, 0)": (
        "settlement.account", r"partitions that do not exist", "rows"),
    "DELETE FROM settlement.hold WHERE issuer = 4": ("settlement.hold", r"order \d+", "row"),
    "UPDATE settlement.hold SET due_at = due_at + interval '1 second' WHERE issuer = 4": (
        "settlement.hold", r"order \d+", "due_at"),
    "UPDATE settlement.hold SET pinned_seq = NULL WHERE pinned_seq > 0": (
        "settlement.hold", r"order \d+", "pinned_seq"),
    "UPDATE settlement.hold SET pinned_seq = order_seq + 1 WHERE issuer = 3": (
        "settlement.hold", r"order \d+", "pinned_seq"),
    "UPDATE settlement.hold SET debit_cu = 1 WHERE issuer = 3": ("settlement.hold", r"order \d+", "debit_cu"),
    "UPDATE settlement.cycle SET state = 'closed', settled_at = NULL WHERE cycle_no = 1": (
        "settlement.cycle", r"cycle 1", "state"),
    "UPDATE settlement.cycle SET state = 'open' WHERE cycle_no = 2": ("settlement.cycle", r"cycle 2", "state"),
    "UPDATE settlement.cycle SET last_seq = last_seq + 1 WHERE cycle_no = 1": (
        "settlement.cycle", r"cycle 1", "last_seq"),
    "UPDATE settlement.cycle SET cycle_id = 'other' WHERE cycle_no = 1": ("settlement.cycle", r"cycle 1", "cycle_id"),
    "UPDATE settlement.cycle SET closed_at = closed_at + interval '1 microsecond' WHERE cycle_no = 1": (
        "settlement.cycle", r"cycle 1", "closed_at"),
    "UPDATE settlement.cycle SET arrangement_no = 1 WHERE cycle_no = 3": (
        "settlement.cycle", r"cycle 3", "arrangement_no"),
    "UPDATE settlement.arrangement SET code = 'other'": ("settlement.arrangement", r"arrangement 1", "code"),
    "UPDATE settlement.arrangement SET model = 'multilateral'": (
        "settlement.arrangement", r"arrangement 1", "model"),
    "UPDATE settlement.pair_arrangement SET next_no = NULL": (
        "settlement.pair_arrangement", r"merchants 1 and 2", "next_no"),
    "UPDATE settlement.pair_arrangement SET arrangement_no = 1, next_no = NULL": (
        "settlement.pair_arrangement", r"merchants 1 and 2", "arrangement_no"),
    "UPDATE settlement.partition SET last_seq = last_seq - 1": ("settlement.partition", r"part 1", "last_seq"),
    "UPDATE settlement.partition SET flush_no = flush_no + 1": ("settlement.partition", r"part 1", "flush_no"),
    "UPDATE settlement.partition SET digest = sha256('')": ("settlement.partition", r"part 1", "digest"),
    "UPDATE settlement.partition SET clock = clock + interval '1 day'": ("settlement.partition", r"part 1", "clock"),
    "UPDATE settlement.partition SET cycle_no = 2": ("settlement.partition", r"part 1", "cycle_no"),
    "UPDATE settlement.partition SET epoch = 0": ("settlement.partition", r"part 1", "epoch"),
    "DELETE FROM settlement.partition": ("settlement.partition", r"part 1", "row"),
    "UPDATE settlement.flush SET digest = sha256('') WHERE flush_no = 4": ("settlement.flush", r"flush 4", "digest"),
    "UPDATE settlement.flush SET epoch = 9 WHERE flush_no = 4": ("settlement.flush", r"flush 4", "digest"),
    "UPDATE settlement.flush SET at = at + interval '1 second' WHERE flush_no = 4": (
        "settlement.flush", r"flush 4", "digest"),
    "UPDATE settlement.flush SET first_seq = first_seq + 1 WHERE flush_no = 4": (
        "settlement.flush", r"flush 4", "first_seq"),
    "DELETE FROM settlement.flush WHERE flush_no = 4": ("settlement.flush", r"flush 4", "row"),
    "DELETE FROM settlement.flush WHERE flush_no = (SELECT max(flush_no) FROM settlement.flush)": (
        "settlement.event", r"seq \d+ to \d+", "flush"),
    f"UPDATE settlement.event SET debit_cu = 701 WHERE {ORDER}": (
        "settlement.position", r"cycle 1, merchant 1", "net_cu"),
    f"UPDATE settlement.event SET key = gen_random_uuid() WHERE {ORDER}": ("settlement.flush", r"flush \d+", "digest"),
    f"UPDATE settlement.event SET reference = 'x' WHERE {ORDER}": ("settlement.flush", r"flush \d+", "digest"),
    f"UPDATE settlement.event SET member_no = 8 WHERE {ORDER}": ("settlement.flush", r"flush \d+", "digest"),
    f"UPDATE settlement.event SET value_cu = 701 WHERE {ORDER}": (
        "settlement.event", r"seq \d+", "units, debit, value, fee"),
    f"DELETE FROM settlement.event WHERE {ORDER}": ("settlement.event", r"seq \d+", "row"),
    "UPDATE settlement.event SET cycle_no = 2 WHERE kind = 3 AND debit_cu = 11": (
        "settlement.event", r"seq \d+", "cycle_no"),
    "UPDATE settlement.batch SET previous_sha256 = sha256('') WHERE sequence = 2": (
        "settlement.batch", r"batch 2", "previous_sha256"),
    "UPDATE settlement.batch SET manifest = manifest || '\\x0a' WHERE sequence = 1": (
        "settlement.batch", r"batch 1", "manifest_sha256"),
    "UPDATE settlement.batch SET manifest = 'x' WHERE sequence = 1": ("settlement.batch", r"batch 1", "manifest"),
    "UPDATE settlement.batch SET sequence = 3 WHERE sequence = 2": ("settlement.batch", r"batch 3", "sequence"),
    "UPDATE settlement.batch SET cycle_id = 'x' WHERE sequence = 2": ("settlement.batch", r"batch 2", "cycle_id"),
    "UPDATE settlement.instruction SET pay_fen = pay_fen + 1 "
    "WHERE cycle_no = 1 AND merchant_no = -9": ("settlement.instruction", r"cycle 1", "sum of pay_fen"),
    "DELETE FROM settlement.instruction WHERE cycle_no = 2 AND merchant_no = 3": (
        "settlement.instruction", r"cycle 2, merchant 3", "row"),
    "UPDATE exchange.lot SET earned_units = 51 WHERE lot_no = 1": ("exchange.lot", r"lot 1", "earned_units"),
    "UPDATE exchange.lot SET expires_at = expires_at + interval '1 day' WHERE lot_no = 3": (
        "exchange.lot", r"lot 3", "expires_at"),
    "UPDATE exchange.lot SET member_no = 8 WHERE lot_no = 1": ("exchange.lot", r"lot 1", "row"),
    "UPDATE exchange.lot SET lot_no = 99 WHERE lot_no = 3": ("exchange.lot", r"all lots", "last lot_no"),
    "DELETE FROM exchange.lot WHERE lot_no = 2": ("exchange.lot_use", r"lots that do not exist", "rows"),
    "UPDATE exchange.lot_use SET left_units = left_units + 1 WHERE lot_no = 1 AND units = 7": (
        "exchange.lot_use", r"lot 1, event \d+", "left_units"),
    "DELETE FROM exchange.lot_use WHERE lot_no = 1 AND units = 3": ("exchange.lot_use", r"lot 1, event \d+", "row"),
    "UPDATE settlement.event SET units = 61 WHERE kind = 17 AND units > 0": (
        "settlement.event", r"seq \d+", "units returned"),
    "UPDATE settlement.event SET units = 61 WHERE kind = 16 AND units = 60": (
        "settlement.event", r"seq \d+", "units returned"),
    "UPDATE settlement.event SET credited_units = 39 WHERE kind = 17 AND units > 0": (
        "settlement.event", r"seq \d+", "credited_units"),
    "UPDATE settlement.event SET due_at = due_at + interval '1 day' WHERE kind = 17 AND units > 0": (
        "settlement.event", r"seq \d+", "due_at of the new lot"),
    "DROP INDEX settlement.event_undone; "
    "UPDATE settlement.event SET order_seq = (SELECT seq FROM settlement.event WHERE kind = 16 AND units = 60), "
    "units = 60 WHERE kind = 17 AND units = 0": ("settlement.event", r"seq \d+", "units returned"),
    "UPDATE settlement.event SET order_seq = 0 WHERE kind = 17 AND units > 0": (
        "settlement.event", r"seq \d+", "units returned"),
    "UPDATE settlement.event SET units = 2 WHERE kind = 19": ("settlement.event", r"seq \d+", "units withdrawn"),
    "UPDATE settlement.event SET lot_no = 1 WHERE kind = 19": ("settlement.event", r"seq \d+", "lot_no"),
    "UPDATE settlement.event SET units = 2 WHERE kind = 18": ("exchange.lot", r"lot 6", "earned_units"),
    "UPDATE exchange.lot_use SET units = -19 WHERE units = -20": ("exchange.lot_use", r"lot 5, event \d+", "units"),
    "DELETE FROM exchange.lot_use WHERE units < 0": ("exchange.lot_use", r"lot 5, event \d+", "row"),
    "UPDATE settlement.event SET debit_cu = debit_cu - 1 WHERE kind = 20 AND issuer = 3": (
        "settlement.event", r"seq \d+", "debit_cu of all reversals"),
    "UPDATE settlement.event SET units = -6 WHERE kind = 20 AND issuer = 3": (
        "settlement.event", r"seq \d+", "units of all reversals"),
    "UPDATE settlement.event SET caller = 3 WHERE kind = 20 AND issuer = 3": (
        "settlement.event", r"seq \d+", "caller"),
    "UPDATE settlement.event SET member_no = 8 WHERE kind = 20 AND issuer = 3": (
        "settlement.event", r"seq \d+", "member, issuer"),
    "UPDATE settlement.event SET order_seq = (SELECT seq FROM settlement.event WHERE kind = 1 LIMIT 1) "
    "WHERE kind = 20 AND issuer = 3": ("settlement.event", r"seq \d+", "order_seq"),
    "UPDATE settlement.event SET cycle_no = 1 WHERE kind = 20 AND issuer = 3": (
        "settlement.event", r"seq \d+", "cycle_no"),
    "DELETE FROM settlement.event WHERE kind = 20 AND issuer = 1": (
        "settlement.reversed_obligation", r"cycle 3, issuer 1, acceptor 3", "row"),
    "UPDATE settlement.reversed_obligation SET value_cu = value_cu + 1 WHERE issuer = 3": (
        "settlement.reversed_obligation", r"cycle 3, issuer 3, acceptor 4", "value_cu"),
    "INSERT INTO settlement.reversed_obligation VALUES (1, 9, 1, 2, 1, 1, 1, 1)": (
        "settlement.reversed_obligation", r"cycle 9", "rows"),
    "UPDATE settlement.event SET due_at = due_at + interval '1 day' WHERE kind = 20 AND issuer = 1": (
        "settlement.event", r"seq \d+", "due_at of the new lot"),
    "UPDATE settlement.event SET lot_no = 0 WHERE kind = 20 AND issuer = 1": (
        "settlement.event", r"seq \d+", "lot_no"),
    "UPDATE exchange.code_use SET seq = 1": ("exchange.code_use", r"orders that do not exist", "rows"),
    "UPDATE exchange.member_order SET member_no = 8": (
        "exchange.member_order", r"orders that do not exist", "rows"),
    "UPDATE exchange.expiry_run SET through = '2100-01-01'; "
    "DELETE FROM settlement.event WHERE kind = 8": ("exchange.expiry_run", r"lot \d+", "units of a lot"),
}  # fmt: skip


@LOOP
@pytest.mark.parametrize("sql", TAMPERINGS)
async def test_the_audit_names_what_was_changed(house: House, sql: str):
    """Rule B8: each change of a stored row is found, and the audit says table, row and column."""
    table, key, column = TAMPERINGS[sql]
    report = await audit_after(house, sql)
    assert any(
        each.table == table and re.fullmatch(key, each.key) and each.field.startswith(column)
        for each in report.differences
    ), report.differences
    assert not report.clean


@LOOP
async def test_one_changed_event_is_one_broken_flush(house: House):
    """The chain is followed from what is stored, so a changed event breaks the digest of its own flush and no other."""
    report = await audit_after(house, f"UPDATE settlement.event SET reference = 'x' WHERE {ORDER}")
    assert [(each.table, each.field) for each in report.differences] == [
        ("settlement.flush", "digest")
    ]
