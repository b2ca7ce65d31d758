"""Calls on a hosted programme through the real writer and PostgreSQL, and what the audit says of them."""

import hashlib
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from deploy.database.embedded import EmbeddedServer
from exchange.programme.core.command import Accrual, Credit, FindCall, GiveBack, Take, TakeBack
from exchange.programme.service.audit import audit_lots
from schemas.values.reason import Reason
from settlement.core.command import End, Entry
from settlement.core.event import Kind
from settlement.service.audit import audit, audit_snapshot
from tests.simulation.ground import (
    BODY,
    DAY_US,
    HOUR_US,
    House,
    make_writer,
    new_key,
    open_house,
    order_of,
    terms,
)

LOOP = pytest.mark.asyncio(loop_scope="module")
MEMBERS = iter(range(1_000, 2_000))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(server: EmbeddedServer) -> AsyncIterator[House]:
    """A writer with two hosted programmes and one that keeps its own points."""
    dsn = server.clone_database("migrated", "calls")
    async with open_house(
        dsn, terms("A", valid_days=60), terms("B"), terms("C", hosted=False)
    ) as one:
        yield one
    server.drop_database("calls")


async def member_with(house: House, *lots: tuple[int, int]) -> int:
    """A new member with points of A: units and days to live of each lot."""
    member_no = next(MEMBERS)
    for units, days in lots:
        await house.one(
            Accrual(
                caller=0, key=new_key(), body=BODY, member_no=member_no, merchant_no=1, units=units,
                expires_at_us=house.clock.us + days * DAY_US,
            )
        )  # fmt: skip
    return member_no


def take(member_no: int, units: int, *, merchant_no: int = 1) -> Take:
    """A new call that takes points."""
    return Take(
        caller=0, key=new_key(), body=BODY, member_no=member_no, merchant_no=merchant_no, units=units
    )  # fmt: skip


def credit(member_no: int, units: int, *, merchant_no: int = 1, expires_at_us: int = 0) -> Credit:
    """A new call that gives points."""
    return Credit(
        caller=0, key=new_key(), body=BODY, member_no=member_no, merchant_no=merchant_no, units=units,
        expires_at_us=expires_at_us,
    )  # fmt: skip


def back(call: Take | Credit) -> GiveBack | TakeBack:
    """The call that ends another one."""
    kind = GiveBack if isinstance(call, Take) else TakeBack
    return kind(
        caller=0, key=hashlib.sha256(call.key).digest()[:16], body=BODY, member_no=call.member_no,
        merchant_no=call.merchant_no, units=call.units, of_key=call.key, of_body=call.body,
    )  # fmt: skip


def find(call: Take | GiveBack | Credit | TakeBack) -> FindCall:
    """A question about a call."""
    return FindCall(caller=0, key=new_key(), body=BODY, of_key=call.key, of_body=call.body)


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


def refusal(entry: Entry) -> Reason | None:
    """Why something was refused; None if it was done."""
    return next((r for r in Reason if r.number == entry.reason), None)


@LOOP
async def test_what_is_given_back_is_in_the_very_lots(house: House):
    """Rule L9: a call takes first-to-expire first; undone, every lot is as it was, however little life it has."""
    member_no = await member_with(house, (5, 2), (8, 40))
    taken = take(member_no, 9)
    assert (await house.one(taken)).kind == Kind.TAKEN
    assert await purse(house, member_no) == [(4, 40)]
    entry = await house.one(back(taken))
    assert (entry.kind, entry.units, entry.credited_units, entry.lot_no) == (Kind.RETURNED, 9, 0, 0)
    assert await purse(house, member_no) == [(5, 2), (8, 40)]
    again = await house.one(
        order_of(house, "A", "B", 1300, hosted=True, units=13, member_no=member_no)
    )
    assert again.kind == Kind.CLEARED


@LOOP
async def test_everything_in_one_group_is_as_one_after_the_other(house: House):
    """A call, its end, a repeat of each and questions about them, decided in one flush, are what they are apart."""
    member_no = await member_with(house, (5, 2))
    taken = take(member_no, 5)
    undo = back(taken)
    answers = await house.submit(
        find(taken), taken, find(taken), take(member_no, 1), taken, undo, find(undo), undo, take(member_no, 4)
    )  # fmt: skip
    entries = [answer[0] for answer in answers]
    assert [(entry.kind, refusal(entry)) for entry in entries] == [
        (Kind.REFUSED, Reason.CALL_NOT_FOUND),
        (Kind.TAKEN, None),
        (Kind.TAKEN, None),
        (Kind.REFUSED, Reason.INSUFFICIENT_POINTS),
        (Kind.TAKEN, None),
        (Kind.RETURNED, None),
        (Kind.REFUSED, Reason.CALL_NOT_FOUND),
        (Kind.RETURNED, None),
        (Kind.TAKEN, None),
    ]
    assert entries[1] == entries[2] == entries[4]
    assert await purse(house, member_no) == [(1, 2)]


@LOOP
async def test_a_hold_that_is_released_before_it_comes_never_stands(house: House):
    """Rule L11: the release of an unknown hold is done, and the hold that comes after it finds itself refused."""
    member_no = await member_with(house, (5, 20))
    for together in (True, False):
        late = take(member_no, 5)
        if together:
            released, taken = (answer[0] for answer in await house.submit(back(late), late))
        else:
            released = await house.one(back(late))
            await house.one(take(member_no, 99))
            taken = await house.one(late)
        assert (released.kind, released.units) == (Kind.RETURNED, 0)
        assert (taken.kind, refusal(taken)) == (Kind.REFUSED, Reason.ORDER_ALREADY_VOIDED)
        assert await house.one(find(late)) == taken
    assert await purse(house, member_no) == [(5, 20)]


@LOOP
async def test_calls_are_known_to_the_next_writer(house: House):
    """What a call did is found by its key after a restart: repeats, questions, ends."""
    member_no = await member_with(house, (5, 20), (5, 40))
    taken, given = take(member_no, 7), credit(member_no, 4)
    first = [await house.one(taken), await house.one(given)]
    await house.writer.stop()
    house.writer = make_writer(house.dsn, house.clock)
    await house.writer.start()
    assert [await house.one(find(taken)), await house.one(given)] == first
    assert (await house.one(back(taken))).kind == Kind.RETURNED
    assert (await house.one(back(given))).kind == Kind.WITHDRAWN
    assert await purse(house, member_no) == [(5, 20), (5, 40)]
    (undone,) = await house.writer.submit([back(taken)])
    assert undone[0].kind == Kind.RETURNED
    assert await purse(house, member_no) == [(5, 20), (5, 40)]


@LOOP
async def test_what_expired_meanwhile_comes_back_for_thirty_days(house: House):
    """Rules L9 and P12: units of a lot that is over by then go into one new lot of 30 days; others keep their own."""
    member_no = await member_with(house, (3, 1), (4, 2), (5, 9))
    taken = take(member_no, 10)
    await house.one(taken)
    house.clock.us += 3 * DAY_US
    entry = await house.one(back(taken))
    assert (entry.units, entry.credited_units) == (10, 7)
    assert await purse(house, member_no) == [(5, 6), (7, 30)]


@LOOP
async def test_credited_points_go_again_only_whole(house: House):
    """Rule L11: what was credited is taken back once, and not at all when the member has spent of it."""
    member_no = await member_with(house)
    kept, spent = credit(member_no, 6), credit(member_no, 6)
    await house.submit(kept, spent)
    assert await purse(house, member_no) == [(6, 60), (6, 60)]
    await house.one(take(member_no, 1))
    gone, stays, again = [await house.one(each) for each in (back(spent), back(kept), back(spent))]
    assert (gone.kind, again) == (Kind.WITHDRAWN, gone)
    assert (stays.kind, refusal(stays)) == (Kind.REFUSED, Reason.INSUFFICIENT_POINTS)
    assert await purse(house, member_no) == [(5, 60)]
    unknown = await house.one(back(credit(member_no, 6)))
    assert refusal(unknown) is Reason.CALL_NOT_FOUND


@LOOP
async def test_credited_points_never_outlive_those_they_are_given_for(house: House):
    """Rule L10: the programme's own term, or the life of the points that were given up, whichever ends first."""
    member_no = await member_with(house)
    for until_us, days in (
        (0, 60),
        (house.clock.us + 90 * DAY_US, 60),
        (house.clock.us + 3 * DAY_US, 3),
    ):
        entry = await house.one(credit(member_no, 1, expires_at_us=until_us))
        assert entry.due_at_us == house.clock.us + days * DAY_US


@LOOP
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (take(1, 5, merchant_no=3), Reason.NOT_HOSTED),
        (credit(1, 5, merchant_no=3), Reason.NOT_HOSTED),
        (take(1, 5, merchant_no=9), Reason.UNKNOWN_MERCHANT),
        (take(1, 5), Reason.INSUFFICIENT_POINTS),
        (credit(1, 10**15), Reason.AMOUNT_ABOVE_MAXIMUM),
    ],
)
async def test_calls_that_cannot_be_are_refused_for_good(
    house: House, call: Take | Credit, reason: Reason
):
    """A refused call is an event under its key: its repeat is refused alike, and nothing moves."""
    first = await house.one(call)
    assert (first.kind, refusal(first)) == (Kind.REFUSED, reason)
    assert await house.one(call) == first


@LOOP
async def test_an_end_with_other_figures_is_refused(house: House):
    """An end must name the call that it ends as it was: another digest is another call."""
    member_no = await member_with(house, (5, 20))
    taken, given = take(member_no, 2), credit(member_no, 2)
    await house.submit(taken, given)
    for call in (taken, given):
        wrong = back(call)
        wrong = type(wrong)(0, new_key(), BODY, member_no, 1, 3, call.key, b"another digest..")
        assert refusal(await house.one(wrong)) is Reason.MERCHANT_REFUSED
        question = FindCall(0, new_key(), BODY, call.key, b"another digest..")
        assert refusal(await house.one(question)) is Reason.IDEMPOTENCY_CONFLICT


@LOOP
async def test_the_ledger_with_calls_is_what_the_journal_says(house: House):
    """Rule B8: the audit, which shares no code with the lots, recomputes everything above without a difference."""
    assert (await audit(house.pool)).differences == []
    async with audit_snapshot(house.pool) as conn:
        assert (await audit_lots(conn)).differences == []


@LOOP
async def test_an_order_that_cleared_without_its_points_is_named(house: House):
    """Rule L11: where points of an order in two phases are hosted, the audit wants the call that took or gave them."""
    member_no = await member_with(house, (50, 90))
    cleared = []
    for issuer, acceptor, given in (("A", "C", 0), ("C", "A", 5), ("A", "C", 0)):
        order = order_of(
            house, issuer, acceptor, 500, hold_us=HOUR_US, units=5, credited_units=given, member_no=member_no
        )  # fmt: skip
        accepted = await house.one(order)
        end = End(0, new_key(), BODY, accepted.seq, int(Kind.CLEARED))
        cleared.append(await house.one(end))
    called = msgspec.structs.replace(take(member_no, 5), order_seq=cleared[-1].order_seq)
    assert (await house.one(called)).order_seq == cleared[-1].order_seq
    async with audit_snapshot(house.pool) as conn:
        found = (await audit_lots(conn)).differences
    assert [each.field for each in found] == [
        "points taken for the order",
        "points credited for the order",
    ]
