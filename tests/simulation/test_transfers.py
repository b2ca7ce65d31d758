"""Transfers inside households through the real writer and PostgreSQL, and what the audit says of them."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from deploy.database.embedded import EmbeddedServer
from exchange.programme.core.command import Accrual, LapseLots, Transfer
from exchange.programme.service.audit import audit_lots
from schemas.values.reason import REASON_BY_NUMBER, Reason
from settlement.core.command import Entry, Reverse
from settlement.core.event import Kind
from settlement.service.audit import audit_books, audit_snapshot
from tests.simulation.ground import (
    BODY,
    DAY_US,
    House,
    make_writer,
    new_key,
    open_house,
    order_of,
    terms,
)

LOOP = pytest.mark.asyncio(loop_scope="module")
MEMBERS = iter(range(5_000, 6_000))
A = 1
HOME = uuid.UUID(int=7)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(server: EmbeddedServer) -> AsyncIterator[House]:
    """A writer with two hosted programmes; A offers family sharing."""
    dsn = server.clone_database("migrated", "transfers")
    async with open_house(dsn, terms("A", valid_days=60), terms("B")) as one:
        await one.pool.execute(
            """
            INSERT INTO exchange.household_rules (merchant_no, offered, members_max, transfer_units_max,
                        daily_units, daily_transfers, monthly_units, monthly_transfers, cooling_days, set_at)
            VALUES (1, true, 10, 100, 100, 5, 1000, 50, 30, now())
            """
        )
        await one.pool.execute("INSERT INTO exchange.household VALUES ($1, 1, now())", HOME)
        yield one
    server.drop_database("transfers")


async def member_with(house: House, *lots: tuple[int, int]) -> int:
    """A new member of the household with points of A: units and days to live of each lot."""
    member_no = next(MEMBERS)
    await house.pool.execute(
        "INSERT INTO exchange.member (member_no, enrolled_at) VALUES ($1, now())", member_no
    )
    await house.pool.execute(
        """
        INSERT INTO exchange.household_member (household_id, merchant_no, member_no, head, invited_at,
                    invited_until, joined_at, purpose, text_version)
        VALUES ($1, 1, $2, false, now(), now(), now(), 'share', '1')
        """,
        HOME,
        member_no,
    )
    for units, days in lots:
        await house.one(
            Accrual(
                caller=0, key=new_key(), body=BODY, member_no=member_no, merchant_no=A, units=units,
                expires_at_us=house.clock.us + days * DAY_US,
            )
        )  # fmt: skip
    return member_no


def transfer(giver: int, receiver: int, points: int, **changes: Any) -> Transfer:
    """A transfer in the household."""
    terms_: dict[str, Any] = {
        "caller": A, "key": new_key(), "body": BODY, "household": HOME.bytes, "merchant_no": A,
        "giver_no": giver, "receiver_no": receiver, "units": points,
    }  # fmt: skip
    return Transfer(**(terms_ | changes))


async def purse(house: House, member_no: int) -> list[tuple[int, int]]:
    """A member's points of A that are left: units and whole days to live."""
    rows = await house.pool.fetch(
        """
        SELECT units, (extract(epoch FROM expires_at) * 1000000)::bigint AS expires_at_us
          FROM exchange.lot_balance
         WHERE member_no = $1 AND merchant_no = 1 AND units > 0
         ORDER BY expires_at, lot_no
        """,
        member_no,
    )
    return [(row["units"], (row["expires_at_us"] - house.clock.us) // DAY_US) for row in rows]


def why(answer: list[Entry]) -> Reason | None:
    """Why something was refused; None if it was done."""
    return REASON_BY_NUMBER[answer[0].reason] if answer[0].kind == Kind.REFUSED else None


async def restart(house: House) -> None:
    """Another writer takes over."""
    await house.writer.stop()
    house.writer = make_writer(house.dsn, house.clock)
    await house.writer.start()


@LOOP
async def test_lots_keep_expiry_and_source(house: House):
    """Rule P5: first to expire goes first, each lot to one of the same expiry, whose source the view tells."""
    giver, receiver = await member_with(house, (5, 2), (8, 40)), await member_with(house, (1, 20))
    [answer] = await house.submit(transfer(giver, receiver, 9))
    assert [(each.kind, each.units) for each in answer] == [
        (Kind.GIVEN, 9),
        (Kind.RECEIVED, 5),
        (Kind.RECEIVED, 4),
    ]
    assert {each.order_seq for each in answer} == {answer[0].seq}
    assert await purse(house, giver) == [(4, 40)]
    assert await purse(house, receiver) == [(5, 2), (1, 20), (4, 40)]
    [back] = await house.submit(transfer(receiver, giver, 9))
    assert await purse(house, giver) == [(5, 2), (1, 20), (4, 40), (3, 40)]
    rows = await house.pool.fetch(
        "SELECT lot_no FROM exchange.lot WHERE member_no = ANY($1::bigint[]) ORDER BY lot_no",
        [giver, receiver],
    )
    five, eight, one, five_given, eight_given, *three_back = (row["lot_no"] for row in rows)
    assert [each.lot_no for each in back[1:]] == three_back
    sources = await house.pool.fetch(
        "SELECT lot_no, from_lot_no FROM exchange.lot_source WHERE lot_no = ANY($1::bigint[])",
        [five, eight, one, five_given, eight_given, *three_back],
    )
    assert {row["lot_no"]: row["from_lot_no"] for row in sources} == dict(
        zip(
            [five_given, eight_given, *three_back],
            [five, eight, five_given, one, eight_given],
            strict=True,
        )
    )


@LOOP
async def test_no_money_moves(house: House):
    """Rule P5: positions and postings are what they were."""
    giver, receiver = await member_with(house, (9, 9)), await member_with(house)
    before = await house.pool.fetch("SELECT * FROM settlement.position ORDER BY merchant_no")
    [answer] = await house.submit(transfer(giver, receiver, 9))
    assert why(answer) is None
    after = await house.pool.fetch("SELECT * FROM settlement.position ORDER BY merchant_no")
    postings = await house.pool.fetchval(
        "SELECT count(*) FROM settlement.posting WHERE seq = ANY($1::bigint[])",
        [each.seq for each in answer],
    )
    assert (after, postings) == (before, 0)


@LOOP
async def test_a_key_is_answered_once_and_limits_outlive_the_writer(house: House):
    """Rules I2 and H6: a repeat, also after a restart, gets the first answer; what was given still counts."""
    giver, receiver = await member_with(house, (200, 9)), await member_with(house)
    first = transfer(giver, receiver, 60)
    [answer, again] = await house.submit(first, first)
    assert again == answer
    refused = transfer(giver, receiver, 41)
    [no] = await house.submit(refused)
    assert why(no) is Reason.TRANSFER_LIMIT_EXCEEDED
    await restart(house)
    [stored, still_no, changed] = await house.submit(
        first, refused, transfer(giver, receiver, 1, key=first.key, body=bytes(15) + b"x")
    )
    assert (stored, still_no) == (answer, no)
    assert why(changed) is Reason.IDEMPOTENCY_CONFLICT
    [other, fits] = await house.submit(transfer(giver, receiver, 41), transfer(giver, receiver, 40))
    assert (why(other), why(fits)) == (Reason.TRANSFER_LIMIT_EXCEEDED, None)
    assert await purse(house, giver) == [(100, 9)]


@LOOP
async def test_transfers_that_race_for_the_last_units(house: House):
    """Rule H6: of twenty at once, in groups beside each other, exactly those that fit are done."""
    giver, receiver = await member_with(house, (70, 9)), await member_with(house)
    answers = await asyncio.gather(
        *(house.submit(transfer(giver, receiver, 15)) for _ in range(20))
    )
    done = [why(answer) for [answer] in answers].count(None)
    assert done == 4
    assert await purse(house, giver) == [(10, 9)]
    assert sum(units for units, _ in await purse(house, receiver)) == 60


@LOOP
async def test_who_has_left_neither_gives_nor_gets(house: House):
    """Rule H3: a consent that was withdrawn between two transfers counts for the second one."""
    giver, receiver = await member_with(house, (20, 9)), await member_with(house)
    [first] = await house.submit(transfer(giver, receiver, 5))
    await house.pool.execute(
        "UPDATE exchange.household_member SET left_at = now(), left_why = 'left' WHERE member_no = $1",
        receiver,
    )
    [second, third] = await house.submit(transfer(giver, receiver, 5), transfer(receiver, giver, 5))
    assert [why(each) for each in (first, second, third)] == [
        None,
        Reason.NOT_IN_HOUSEHOLD,
        Reason.NOT_IN_HOUSEHOLD,
    ]


@LOOP
async def test_an_order_paid_with_received_points_is_reversed_to_who_spent(house: House):
    """Rules P5, P12 and V5: points come back to the receiver, into the lot that the transfer made."""
    giver, receiver = await member_with(house, (20, 45)), await member_with(house)
    await house.submit(transfer(giver, receiver, 12))
    order = await house.one(
        order_of(house, "A", "B", 1000, hosted=True, units=10, member_no=receiver)
    )
    assert await purse(house, receiver) == [(2, 45)]
    await restart(house)
    reverse = Reverse(caller=2, key=new_key(), body=BODY, order_seq=order.seq)
    assert (await house.one(reverse)).kind == Kind.REVERSED
    assert await purse(house, receiver) == [(12, 45)]
    assert await purse(house, giver) == [(8, 45)]


@LOOP
async def test_received_points_lapse_as_the_giver_s_would_have(house: House):
    """Rules L6 and P5: what a transfer gave is over when the giver's lot is."""
    giver, receiver = await member_with(house, (6, 3)), await member_with(house)
    await house.submit(transfer(giver, receiver, 4))
    house.clock.us += 3 * DAY_US
    [late] = await house.submit(transfer(receiver, giver, 1))
    assert why(late) is Reason.INSUFFICIENT_POINTS
    house.clock.us += 7 * DAY_US
    [lapsed] = await house.submit(
        LapseLots(caller=0, key=new_key(), body=BODY, as_of_us=house.clock.us)
    )
    assert {4, 2} <= {entry.units for entry in lapsed if entry.kind == Kind.LAPSED}


async def told(house: House, statement: str, *values: int) -> list[str]:
    """What the audit of lots says of what the rows would be after a statement of the tables' owner."""
    owner = await asyncpg.connect(house.dsn)
    change = owner.transaction(isolation="repeatable_read")
    await change.start()
    try:
        await owner.execute(
            "ALTER TABLE settlement.event DROP CONSTRAINT event_transfer_moves_points_alone"
        )
        await owner.execute(statement, *values)
        report = await audit_lots(owner)
    finally:
        await change.rollback()
        await owner.close()
    return [f"{each.table} {each.key} {each.field}" for each in report.differences]


@LOOP
async def test_the_audit_sees_both_sides(house: House):
    """Rule P5: the audit finds nothing to say, until a lot lives longer, a side is gone, or the household."""
    giver, receiver = await member_with(house, (20, 45)), await member_with(house)
    [answer] = await house.submit(transfer(giver, receiver, 12))
    async with audit_snapshot(house.pool) as conn:
        assert (await audit_books(conn)).differences == []
        assert (await audit_lots(conn)).differences == []
    seq = answer[0].seq
    for change, row, said in (
        ("due_at = due_at + interval '1 day'", seq + 1, "lot 1 of the transfer"),
        ("order_seq = order_seq - 1", seq + 1, "lot 1 of the transfer"),
        ("kind = 7", seq + 1, "lot 1 of the transfer"),
        ("units = 11", seq + 1, "lot 1 of the transfer"),
        ("issuer = 2", seq + 1, "exchange.lot"),
        (f"member_no = {giver}", seq + 1, "exchange.lot"),
        ("units = 11", seq, "exchange.lot_use"),
        ("reference = 'x'", seq, "household"),
    ):
        texts = await told(house, f"UPDATE settlement.event SET {change} WHERE seq = $1", row)
        assert any(said in text for text in texts), (change, texts)


@LOOP
async def test_the_database_holds_what_a_transfer_is(house: House):
    """Rule P5: an event of a transfer that would move money, or that has no lot, cannot be written."""
    giver, receiver = await member_with(house, (20, 45)), await member_with(house)
    [answer] = await house.submit(transfer(giver, receiver, 12))
    owner = await asyncpg.connect(house.dsn)
    for change in ("debit_cu = 1", "value_cu = 1", "lot_no = 0", "units = 0", "acceptor = 2"):
        with pytest.raises(asyncpg.CheckViolationError, match="event_transfer"):
            await owner.execute(
                f"UPDATE settlement.event SET {change} WHERE seq = $1", answer[1].seq
            )
    await owner.close()
