"""What the writer must survive: repeats, poison, lost connections, successors, frozen predecessors."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import asyncpg
import pytest

from deploy.database.connection import open_writer_connection
from exchange.programme.core.command import Accrual, LapseLots, Purchase
from schemas.values.faults import Unavailable
from schemas.values.reason import REASON_BY_NUMBER, Reason
from settlement.core.command import (
    Command,
    End,
    Entry,
    ExpireHolds,
    Join,
    Order,
    Pin,
    SetCap,
    SetCollateral,
    SettleCycle,
)
from settlement.core.event import Kind
from settlement.service.clearing import WORTH_COMMANDS, Fenced, Writer
from tests.simulation.compare import assert_audits_clean
from tests.simulation.ground import (
    BODY,
    DAY_US,
    HOUR_US,
    House,
    keys,
    make_writer,
    new_key,
    open_house,
    order_of,
    terms,
)

A, B = terms("A", hosted=False), terms("B", hosted=False)


def reasons(answers: list[list[Entry]]) -> list[str]:
    """Codes of the refusals in answers of one entry each; empty for what was not refused."""
    return [REASON_BY_NUMBER[entry.reason].code if entry.reason else "" for [entry] in answers]


def end_of(
    house: House,
    order: Entry,
    *,
    kind: Kind = Kind.CLEARED,
    caller: int | None = None,
    proven: bool = False,
) -> End:
    """The end of an accepted order, asked by its acceptor."""
    return End(
        caller=house.numbers["B"] if caller is None else caller,
        key=bytes(16),
        body=BODY,
        order_seq=order.seq,
        kind=kind,
        proven=proven,
    )


def pin_of(order: Entry) -> Pin:
    """The pin of an accepted order, by the house."""
    return Pin(caller=0, key=bytes(16), body=BODY, order_seq=order.seq)


def purchase_of(
    house: House, code: str, amount_fen: int, discount_fen: int, at_us: int
) -> Purchase:
    """A purchase of member 7."""
    return Purchase(
        caller=0,
        key=new_key(),
        body=BODY,
        member_no=7,
        merchant_no=house.numbers[code],
        amount_fen=amount_fen,
        discount_fen=discount_fen,
        occurred_at_us=at_us,
    )


async def soon(what: Awaitable, seconds: float = 60.0):
    """Wait, but not for ever."""
    return await asyncio.wait_for(what, seconds)


# Repeats -----------------------------------------------------------------------------------------------


async def test_stored_key_twice_in_one_bulk_gets_the_first_answer_twice(dsn: str):
    """Rule I1: a key that is stored already and stands twice in one bulk gets its one answer twice."""
    async with open_house(dsn, A, B) as house:
        order = order_of(house, "A", "B", 100)
        first = await house.submit(order)
        assert await house.submit(order, order) == [first[0], first[0]]


async def test_conflict_is_seen_while_the_first_is_in_flight(dsn: str):
    """Rule I2: another body under a key is a conflict, in the same bulk, in flight and stored, and changes nothing."""
    async with open_house(dsn, A, B) as house:
        key = new_key()
        order = order_of(house, "A", "B", 100, key=key)
        other = order_of(house, "A", "B", 200, key=key, body=b"\1" * 16)
        in_one = await house.submit(order, other)
        sent = [asyncio.create_task(house.submit(one)) for one in (other, order, other)]
        in_flight = [answer for [answer] in await asyncio.gather(*sent)]
        assert reasons([*in_one, *in_flight]) == [
            "",
            *["idempotency_conflict"] * 2,
            "",
            "idempotency_conflict",
        ]
        assert in_flight[1] == in_one[0]
        assert (
            await house.pool.fetchval(
                "SELECT count(*) FROM settlement.event WHERE key = $1", _uuid(key)
            )
            == 1
        )


def _uuid(key: bytes):
    from uuid import UUID

    return UUID(bytes=key)


async def test_same_key_from_two_callers_is_two_keys(dsn: str):
    """A key belongs to its caller: two merchants may use the same."""
    async with open_house(dsn, A, B) as house:
        key = new_key()
        one = await house.one(order_of(house, "A", "B", 100, key=key))
        other = await house.one(order_of(house, "B", "A", 100, key=key, body=b"\1" * 16))
        assert (one.kind, other.kind) == (Kind.CLEARED, Kind.CLEARED)


async def test_key_from_a_clock_that_runs_ahead_is_found_by_a_successor(dsn: str):
    """A repeat under a UUIDv7 that is newer than the writer's memory is answered as the repeat that it is."""
    async with open_house(dsn, A, B) as house:
        ahead = (house.clock.us // 1000 + 3_600_000).to_bytes(6, "big") + b"\x70\0\x80" + bytes(7)
        order = order_of(house, "A", "B", 100, key=ahead)
        first = await house.one(order)
        await house.writer.stop()
        house.writer = make_writer(dsn, house.clock)
        await house.writer.start()
        fresh = order_of(house, "A", "B", 100)
        again, new, conflict = await soon(
            house.submit(order, fresh, order_of(house, "A", "B", 100, key=ahead, body=b"\1" * 16))
        )
        assert again == [first]
        assert [new[0].kind, new[0].seq] == [Kind.CLEARED, first.seq + 1]
        assert reasons([conflict]) == ["idempotency_conflict"]
        await assert_audits_clean(house.pool)


async def test_repeats_while_memory_of_keys_turns_over_are_found(dsn: str, monkeypatch):
    """Keys that left the writer's memory are looked up in the journal, whatever time they carry."""
    monkeypatch.setattr("settlement.service.clearing.REMEMBERED_KEYS", 8)
    async with open_house(dsn, A, B) as house:
        orders: list[Command] = []
        for number in range(40):
            house.clock.us += 1_000_000
            made = (house.clock.us // 1000 - 500 + number % 3 * 700).to_bytes(6, "big")
            key = made + b"\x70\0\x80" + number.to_bytes(7, "big")
            orders.append(order_of(house, "A", "B", 100, key=key))
        first = [(await house.submit(order))[0] for order in orders]
        again = [(await soon(house.submit(order)))[0] for order in orders]
        assert again == first
        assert await assert_audits_clean(house.pool) == 3 + 40


async def test_repeated_ends_get_the_same_answer(dsn: str):
    """Rule B7: an order ends once; the same end asked again, in bulk, in flight or later, is the first answer."""
    async with open_house(dsn, A, B) as house:
        order = await house.one(order_of(house, "A", "B", 100, hold_us=HOUR_US))
        clear, void = end_of(house, order), end_of(house, order, kind=Kind.VOIDED)
        first, again, late = await house.submit(clear, clear, void)
        assert first[0].kind == Kind.CLEARED
        assert again == first
        assert reasons([late]) == ["order_already_cleared"]
        tasks = [asyncio.create_task(house.submit(one)) for one in (clear, void, clear)]
        assert [answer for [answer] in await asyncio.gather(*tasks)] == [first, late, first]
        assert (await house.one(end_of(house, order, caller=0))) == first[0]
        assert reasons(await house.submit(end_of(house, order, caller=house.numbers["A"]))) == [
            "order_not_found"
        ]


@pytest.mark.parametrize("by", ["end", "timer"])
async def test_end_after_expiry_says_expired(dsn: str, by: str):
    """Rule C4: who ends an order after its hold expired hears hold_expired, in the same bulk and in flight too."""
    async with open_house(dsn, A, B) as house:
        order = await house.one(order_of(house, "A", "B", 100, hold_us=HOUR_US))
        house.clock.us += HOUR_US
        expire = ExpireHolds(caller=0, key=new_key(), body=BODY)
        first = end_of(house, order) if by == "end" else expire
        _, again = await house.submit(first, end_of(house, order))
        tasks = [asyncio.create_task(house.submit(end_of(house, order))) for _ in range(3)]
        later = [answer for [answer] in await asyncio.gather(*tasks)]
        assert reasons([again, *later]) == ["hold_expired"] * 4
        assert (
            await house.pool.fetchval(
                "SELECT held_cu FROM settlement.account WHERE merchant_no = 1"
            )
            == 0
        )
        await assert_audits_clean(house.pool)


async def test_hold_that_was_voided_can_never_clear(dsn: str):
    """DESIGN 11, "a rejected hold can still be committed, double voids": a void is final, a second one the same."""
    async with open_house(dsn, A, B) as house:
        order = await house.one(order_of(house, "A", "B", 100, hold_us=HOUR_US))
        void, clear = end_of(house, order, kind=Kind.VOIDED), end_of(house, order)
        answers = await house.submit(void, void, clear)
        assert answers[0] == answers[1]
        assert reasons(answers) == ["", "", "order_already_voided"]
        assert (
            await house.pool.fetchval("SELECT count(*) FROM settlement.position WHERE net_cu <> 0")
            == 0
        )


async def restart(house: House) -> None:
    """Let the next writer take the ledger over."""
    await house.writer.stop()
    house.writer = make_writer(house.dsn, house.clock)
    await house.writer.start()


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_pinned_hold_outlives_its_time(dsn: str, restarted: bool):
    """Rule C7: from the pin on, a hold neither expires nor is voided without proof, after a take-over neither."""
    async with open_house(dsn, A, B) as house:
        kept, proven, open_one = [
            answer[0]
            for answer in await house.submit(
                *(order_of(house, "A", "B", 100, hold_us=HOUR_US) for _ in range(3))
            )
        ]
        pins = await house.submit(pin_of(kept), pin_of(proven))
        assert [pin.kind for [pin] in pins] == [Kind.PINNED, Kind.PINNED]
        house.clock.us += 2 * HOUR_US
        if restarted:
            await restart(house)
        expired = await house.submit(ExpireHolds(caller=0, key=new_key(), body=BODY))
        assert [entry.order_seq for entry in expired[0]] == [open_one.seq]
        answers = await house.submit(
            pin_of(kept),
            end_of(house, kept, kind=Kind.VOIDED),
            end_of(house, proven, kind=Kind.VOIDED, proven=True),
            end_of(house, kept),
            pin_of(kept),
            pin_of(proven),
            pin_of(open_one),
        )
        assert answers[0] == pins[0]
        assert reasons(answers[1:]) == [
            "credit_under_way", "", "", "order_already_cleared", "order_already_voided", "hold_expired",
        ]  # fmt: skip
        if restarted:
            await restart(house)
            assert reasons(await house.submit(pin_of(kept))) == ["order_already_cleared"]
        held = await house.pool.fetch("SELECT held_cu FROM settlement.account")
        assert [row[0] for row in held] == [0, 0]
        await assert_audits_clean(house.pool)


async def test_the_queue_decides_between_pin_and_expiry(dsn: str):
    """Rule C7: a pin that arrives after the expiry of its hold finds it expired; one that came before keeps it."""
    async with open_house(dsn, A, B) as house:
        early, late = [
            answer[0]
            for answer in await house.submit(
                *(order_of(house, "A", "B", 100, hold_us=HOUR_US) for _ in range(2))
            )
        ]
        await house.submit(pin_of(early))
        house.clock.us += HOUR_US
        expire = ExpireHolds(caller=0, key=new_key(), body=BODY)
        answers = await house.submit(pin_of(late), expire, pin_of(early), end_of(house, early))
        assert reasons([answers[0]]) == ["hold_expired"]
        assert answers[1] == []
        assert [answers[2][0].kind, answers[3][0].kind] == [Kind.PINNED, Kind.CLEARED]
        await assert_audits_clean(house.pool)


# Poison ------------------------------------------------------------------------------------------------


def poison(house: House) -> dict[str, Command]:
    """Commands that no gateway sends, since it checks; the writer must not depend on that."""
    same: dict[str, Any] = {"caller": 0, "body": BODY}
    return {
        "same merchant": order_of(house, "A", "A", 100),
        "no units": order_of(house, "A", "B", 100, units=0),
        "no debit": order_of(house, "A", "B", 0),
        "fee above value": order_of(house, "A", "B", 100, fee_cu=101),
        "value above debit": order_of(house, "A", "B", 100, value_cu=101),
        "debit at the limit": order_of(house, "A", "B", 10**15),
        "same merchant, held": order_of(house, "A", "A", 100, hold_us=HOUR_US),
        "beyond int64": order_of(house, "A", "B", 100, units=2**63),
        "beyond int64, refused": order_of(
            house, "A", "B", 2**63, reason=Reason.QUOTE_EXPIRED.number
        ),
        "NUL in the reference": order_of(house, "A", "B", 100, reference="a\0b"),
        "surrogate in the reference": order_of(house, "A", "B", 100, reference="a\ud800b"),
        "hold for ever": order_of(house, "A", "B", 100, hold_us=2**62),
        "negative hold": order_of(house, "A", "B", 100, hold_us=-1),
        "key of 15 bytes": order_of(house, "A", "B", 100, key=bytes(15)),
        "reason that no catalogue has": order_of(house, "A", "B", 100, reason=32_767),
        "negative cap": SetCap(**same, key=new_key(), merchant_no=1, cap_cu=-1),
        "huge cap": SetCap(**same, key=new_key(), merchant_no=1, cap_cu=2**63),
        "negative collateral": SetCollateral(
            **same, key=new_key(), merchant_no=1, collateral_cu=-1
        ),
        "negative join": Join(**same, key=new_key(), merchant_no=3, cap_cu=-1),
        "merchant of the house": Join(**same, key=new_key(), merchant_no=-1, cap_cu=1),
        "merchant zero": Join(**same, key=new_key(), merchant_no=0, cap_cu=1),
        "NUL in a cycle's id": _close(house, "a\0b"),
        "cycle beyond int32": SettleCycle(**same, key=new_key(), cycle_no=2**40),
        "accrual of nothing": Accrual(**same, key=new_key(), member_no=7, merchant_no=3, units=0),
        "accrual beyond int64": Accrual(
            **same, key=new_key(), member_no=7, merchant_no=3, units=2**63
        ),
        "accrual refused for no reason": Accrual(
            **same, key=new_key(), member_no=7, merchant_no=3, units=1, reason=9_999
        ),
        "negative purchase": purchase_of(house, "C", -100, 0, 0),
        "huge purchase": purchase_of(house, "C", 10**18, 0, 0),
        "huge discount": purchase_of(house, "C", 1, 10**18, 0),
        "lapse of a negative number": LapseLots(**same, key=new_key(), as_of_us=0, limit=-1),
        "lapse at no instant": LapseLots(**same, key=new_key(), as_of_us=2**63),
        "exchange into nothing": order_of(
            house, "C", "B", 100, hosted=True, units=1, credited_units=5
        ),
        "exchange into nobody": _exchange_into_nobody(house),
        "hosted order of nothing": order_of(house, "C", "B", 100, hosted=True, units=0),
        "end of another kind": End(**same, key=bytes(16), order_seq=1, kind=9),
        "end beyond int64": End(**same, key=bytes(16), order_seq=2**63, kind=3),
        "pin beyond int64": Pin(**same, key=bytes(16), order_seq=2**63),
        "pin of no order": Pin(**same, key=bytes(16), order_seq=0),
    }


def _close(house: House, next_id: str) -> Command:
    from settlement.core.command import CloseCycle

    return CloseCycle(caller=0, key=new_key(), body=BODY, cycle_no=1, next_id=next_id)


def _exchange_into_nobody(house: House) -> Order:
    order = order_of(house, "C", "B", 100, hosted=True, units=1, credited_units=5)
    assert isinstance(order, Order)
    return Order(
        caller=0,
        key=new_key(),
        body=BODY,
        issuer=order.issuer,
        acceptor=99,
        member_no=7,
        units=1,
        debit_cu=100,
        value_cu=100,
        fee_cu=0,
        rate_no=1,
        credited_units=5,
        hosted=True,
    )


@pytest.mark.timeout(300)
async def test_what_cannot_be_booked_harms_nobody_else(dsn: str):
    """One command that neither books nor tables can hold is refused alone.

    What came with it, before and after it, is booked.
    """
    async with open_house(dsn, A, B, terms("C")) as house:
        give = Accrual(caller=0, key=new_key(), body=BODY, member_no=7, merchant_no=3, units=50)
        assert (await house.one(give)).kind == Kind.ACCRUED
        booked = 0
        for name, command in poison(house).items():
            before, after = order_of(house, "A", "B", 1), order_of(house, "B", "A", 1)
            answers = await soon(house.submit(before, command, after))
            kinds = [answer[0].kind for answer in answers if answer]
            assert kinds[0] == kinds[-1] == Kind.CLEARED, name
            assert all(entry.kind == Kind.REFUSED for entry in answers[1]), (name, answers[1])
            booked += 2
        cleared = await house.pool.fetchval("SELECT count(*) FROM settlement.event WHERE kind = 3")
        assert cleared == booked
        await assert_audits_clean(house.pool)


async def test_poison_of_one_caller_does_not_fail_others_in_flight(dsn: str):
    """Callers whose commands share a group with poison, or wait behind it, are answered as if it had not been there."""
    async with open_house(dsn, A, B) as house:
        tasks = []
        for number in range(40):
            command = order_of(house, "A", "B", 1, reference="\0" if number % 13 == 5 else "")
            tasks.append(asyncio.create_task(house.submit(command)))
            if number % 7 == 0:
                await asyncio.sleep(0)
        answers = [answer for [answer] in await soon(asyncio.gather(*tasks))]
        assert [entry.kind for [entry] in answers] == [
            Kind.REFUSED if number % 13 == 5 else Kind.CLEARED for number in range(40)
        ]
        await assert_audits_clean(house.pool)


async def test_used_id_of_a_cycle_is_refused(dsn: str):
    """A cycle's id is used once; a second use is refused and the open cycle stays open."""
    async with open_house(dsn, A, B) as house:
        refused = await house.close_cycle(1, "first")
        assert reasons([refused]) == ["cycle_exists"]
        assert [entry.kind for entry in await house.close_cycle(1, "second")] == [
            Kind.CYCLE_CLOSED,
            Kind.CYCLE_OPENED,
        ]
        await house.writer.stop()
        house.writer = make_writer(dsn, house.clock)
        await house.writer.start()
        assert reasons([await house.close_cycle(2, "first")]) == ["cycle_exists"]


async def test_gross_of_a_pair_stays_within_int64(dsn: str):
    """Two merchants that pay each other to and fro under the highest caps cannot overflow a cycle's gross figures."""
    highest = 10**15 - 1
    async with open_house(
        dsn,
        terms("A", hosted=False, cap_cu=highest),
        terms("B", hosted=False, cap_cu=highest),
    ) as house:
        wave: list[Command] = []
        for one, other in zip(keys(4_700), keys(4_700), strict=True):
            wave.append(order_of(house, "A", "B", highest, key=one))
            wave.append(order_of(house, "B", "A", highest, key=other))
        refusals = set(reasons(await soon(house.submit(*wave), 60)))
        assert refusals == {"", "amount_above_maximum"}
        gross = await house.pool.fetchval("SELECT max(debit_cu) FROM settlement.obligation")
        assert 2**62 - 10**15 <= gross < 2**62
        await assert_audits_clean(house.pool)


# Books before, between and across cycles ------------------------------------------------------------------


async def test_no_order_before_the_first_cycle(dsn: str):
    """Rule N1: an order belongs to exactly one cycle, so none clears or is accepted before the first is open."""
    async with open_house(dsn, A, B, terms("C"), first_cycle=None) as house:
        await house.submit(
            Accrual(caller=0, key=new_key(), body=BODY, member_no=7, merchant_no=3, units=50)
        )
        answers = await house.submit(
            order_of(house, "A", "B", 100),
            order_of(house, "A", "B", 100, hold_us=HOUR_US),
            order_of(house, "C", "B", 100, hosted=True, units=1),
        )
        assert reasons(answers) == ["cycle_not_open"] * 3
        await house.close_cycle(0, "first")
        await house.submit(order_of(house, "A", "B", 100))
        figures = await house.pool.fetch(
            "SELECT cycle_no, merchant_no, net_cu FROM settlement.position WHERE net_cu <> 0 ORDER BY 2"
        )
        assert [tuple(row) for row in figures] == [(1, 1, -100), (1, 2, 100)]
        await assert_audits_clean(house.pool)


async def test_hosted_order_takes_no_hold(dsn: str):
    """An order of a hosted issuer clears at once or is refused; asked to hold, it does not silently clear."""
    async with open_house(dsn, terms("A"), B) as house:
        await house.submit(
            Accrual(caller=0, key=new_key(), body=BODY, member_no=7, merchant_no=1, units=5)
        )
        answers = await house.submit(
            order_of(house, "A", "B", 100, hosted=True, units=1, hold_us=HOUR_US)
        )
        assert reasons(answers) == ["hold_not_offered"]


async def test_points_are_given_only_where_the_house_keeps_them(dsn: str):
    """A merchant with a system of its own gets no lots here."""
    async with open_house(dsn, A, terms("B")) as house:
        answers = await house.submit(
            Accrual(caller=1, key=new_key(), body=BODY, member_no=7, merchant_no=1, units=5),
            purchase_of(house, "A", 1000, 0, 0),
        )
        assert reasons(answers) == ["not_hosted"] * 2


# Lapses --------------------------------------------------------------------------------------------------


async def test_points_spent_in_the_same_group_do_not_lapse(dsn: str):
    """Rule L6: points that an order spends earlier in the same group do not lapse a second time."""
    async with open_house(dsn, terms("A"), terms("B"), caller_clock=True) as house:
        start = house.clock.us
        await house.submit(purchase_of(house, "A", 1000, 0, start))
        _, _, lapsed = await house.submit(
            purchase_of(house, "B", 0, 4, start + DAY_US),
            purchase_of(house, "B", 0, 0, start + 20 * DAY_US),
            LapseLots(caller=0, key=new_key(), body=BODY, as_of_us=start + 15 * DAY_US),
        )
        assert [(entry.kind, entry.units) for entry in lapsed] == [(Kind.LAPSED, 6)]
        await assert_audits_clean(house.pool)


async def test_points_that_late_orders_may_still_spend_do_not_lapse(dsn: str):
    """Rule L6: an expiry run leaves lots alone that expired less than seven days ago.

    A late purchase spends them, once.
    """
    async with open_house(dsn, terms("A"), terms("B")) as house:
        start = house.clock.us
        await house.submit(purchase_of(house, "A", 1000, 0, start))
        await house.writer.stop()
        house.writer = make_writer(dsn, house.clock)
        await house.writer.start()
        house.clock.us += 12 * DAY_US
        lapsing = asyncio.create_task(house.submit(lapse_of(house.clock.us)))
        while not house.writer._in_flight and not lapsing.done():
            await asyncio.sleep(0)
        [bought] = await house.submit(purchase_of(house, "B", 0, 4, start + 9 * DAY_US))
        assert await lapsing == [[]]
        assert (bought[0].kind, bought[0].units) == (Kind.CLEARED, 4)
        house.clock.us += 6 * DAY_US
        [lapsed] = await house.submit(lapse_of(house.clock.us))
        assert [(entry.kind, entry.units) for entry in lapsed] == [(Kind.LAPSED, 6)]
        await assert_audits_clean(house.pool)


def lapse_of(as_of_us: int, *, limit: int = 10_000) -> LapseLots:
    """An expiry run."""
    return LapseLots(caller=0, key=new_key(), body=BODY, as_of_us=as_of_us, limit=limit)


@pytest.mark.parametrize("beyond_days", [0, 1_000])
async def test_expiry_run_that_its_limit_ends_leaves_nothing_behind(dsn: str, beyond_days: int):
    """Rule L6: runs of three lots each, also asked for far beyond the clock, lapse every expired lot in the end."""
    async with open_house(dsn, terms("A"), terms("B"), caller_clock=True) as house:
        start = house.clock.us
        for day in range(8):
            await house.submit(purchase_of(house, "A", 100, 0, start + day * DAY_US))
        lapsed = []
        for day in range(7, 21):
            await house.submit(purchase_of(house, "B", 100, 0, start + day * DAY_US + 1))
            [answer] = await house.submit(
                lapse_of(start + (day + beyond_days) * DAY_US + 1, limit=3)
            )
            lapsed += [entry.lot_no for entry in answer]
        assert lapsed[:8] == [1, 2, 3, 4, 5, 6, 7, 8]
        await assert_audits_clean(house.pool)


async def test_two_expiry_runs_in_one_group_leave_nothing_behind(dsn: str):
    """Rule L6: runs that arrive together lapse each lot once, and no later run misses what their limits left."""
    async with open_house(dsn, terms("A"), terms("B"), caller_clock=True) as house:
        start = house.clock.us
        for day in range(8):
            await house.submit(purchase_of(house, "A", 100, 0, start + day * DAY_US))
        await house.submit(purchase_of(house, "B", 100, 0, start + 30 * DAY_US))
        until = start + 30 * DAY_US
        answers = await house.submit(
            lapse_of(until, limit=2), lapse_of(until, limit=2), lapse_of(until - 16 * DAY_US)
        )
        answers += await house.submit(lapse_of(until))
        lapsed = [entry.lot_no for answer in answers for entry in answer]
        assert sorted(lapsed) == [1, 2, 3, 4, 5, 6, 7, 8]
        await assert_audits_clean(house.pool)


# Successors and lost connections --------------------------------------------------------------------------


async def test_successor_fences_the_writer_before_it(dsn: str):
    """DESIGN 5: a writer that was taken over cannot write again, and its callers hear that they must ask again."""
    async with open_house(dsn, A, B) as house:
        first = await house.one(order_of(house, "A", "B", 100))
        successor = make_writer(dsn, house.clock)
        await successor.start()
        late = order_of(house, "A", "B", 100)
        with pytest.raises(Unavailable):
            await soon(house.submit(late))
        with pytest.raises(Fenced):
            await soon(house.writer.wait_ended())
        with pytest.raises(Unavailable):
            await house.submit(late)
        assert await house.pool.fetchval("SELECT max(seq) FROM settlement.event") == first.seq
        [[again]] = await successor.submit([late])
        assert again.seq == first.seq + 1
        await successor.stop()
        await assert_audits_clean(house.pool)


async def test_fenced_writer_gives_no_final_answer_from_stale_books(dsn: str):
    """A writer that was taken over does not say "no such order" of one that its successor accepted."""
    async with open_house(dsn, A, B) as house:
        successor = make_writer(dsn, house.clock)
        await successor.start()
        [[order]] = await successor.submit([order_of(house, "A", "B", 100, hold_us=HOUR_US)])
        with pytest.raises(Unavailable):
            await soon(house.submit(end_of(house, order)))
        [[cleared]] = await successor.submit([end_of(house, order)])
        assert cleared.kind == Kind.CLEARED
        await successor.stop()


async def test_callers_are_answered_when_the_writer_is_fenced_while_it_recovers(dsn: str):
    """Connection lost in the middle of a flush and another writer has taken over.

    Every caller is told, none waits for ever.
    """
    async with open_house(dsn, A, B) as house:
        async with _row_locked(dsn) as lock:
            waiting = [
                asyncio.create_task(house.submit(order_of(house, "A", "B", 100))) for _ in range(3)
            ]
            await asyncio.sleep(0.1)
            waiting += [
                asyncio.create_task(house.submit(order_of(house, "A", "B", 100))) for _ in range(3)
            ]
            await asyncio.sleep(0.1)
            await lock.execute("UPDATE settlement.partition SET epoch = epoch + 1, writer = NULL")
            await _kill_waiting_backends(lock)
        outcomes = await soon(asyncio.gather(*waiting, return_exceptions=True))
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 6
        with pytest.raises(Fenced):
            await soon(house.writer.wait_ended())


async def test_flush_whose_connection_is_lost_is_booked_once(dsn: str):
    """Connection lost before, in or after a flush.

    The commands are booked once and every caller gets the booked answer.
    """
    async with open_house(dsn, A, B) as house:
        for _ in range(5):
            async with _row_locked(dsn) as lock:
                waiting = [
                    asyncio.create_task(house.submit(order_of(house, "A", "B", 100)))
                    for _ in range(4)
                ]
                await asyncio.sleep(0.05)
                await _kill_waiting_backends(lock)
            answers = [answer for [answer] in await soon(asyncio.gather(*waiting))]
            assert [entry.kind for [entry] in answers] == [Kind.CLEARED] * 4
        stored = await house.pool.fetch("SELECT seq, debit_cu FROM settlement.event WHERE kind = 3")
        assert len(stored) == 20
        assert house.writer.figures.takeovers >= 6
        await assert_audits_clean(house.pool)


class LostAtCommit:
    """A writer's connection that dies after COMMIT was sent: what came of it nobody says."""

    def __init__(self, writer: Writer, *, times: int) -> None:
        """Cut the connection after the next `times` commits."""
        self.times = times
        self._writer = writer
        self._connect = writer._connect
        writer._connect = self._connect_badly

    async def _connect_badly(self):
        conn = await self._connect()
        real = conn.execute
        left = self

        class Bad:
            def __getattr__(self, name):
                return getattr(conn, name)

            def transaction(self):
                inner = conn.transaction()

                class Around:
                    async def __aenter__(self):
                        return await inner.__aenter__()

                    async def __aexit__(self, *error):
                        await inner.__aexit__(*error)
                        if error[0] is None and left.times:
                            left.times -= 1
                            conn.terminate()
                            raise ConnectionResetError("lost at COMMIT")

                return Around()

        del real
        return Bad()


async def test_answer_lost_at_commit_is_read_from_the_journal(dsn: str):
    """DESIGN 5: connection lost at COMMIT, and the flush had committed.

    Callers get what is stored, nothing is booked twice.
    """
    async with open_house(dsn, A, B, terms("C")) as house:
        held = await house.one(order_of(house, "A", "B", 100, hold_us=HOUR_US))
        due = await house.one(order_of(house, "A", "B", 100, hold_us=HOUR_US // 2))
        house.clock.us += HOUR_US // 2
        await house.writer.stop()
        house.writer = make_writer(dsn, house.clock)
        broken = LostAtCommit(house.writer, times=3)
        await house.writer.start()
        commands: list[Command] = [
            order_of(house, "A", "B", 100),
            end_of(house, held),
            end_of(house, due),
            Accrual(caller=0, key=new_key(), body=BODY, member_no=7, merchant_no=3, units=50),
            order_of(house, "A", "B", 10**9),
            SetCap(caller=0, key=new_key(), body=BODY, merchant_no=1, cap_cu=5),
        ]
        answers = await soon(house.submit(*commands))
        assert broken.times in (0, 2)
        assert [entry.kind for [entry] in answers] == [
            Kind.CLEARED,
            Kind.CLEARED,
            Kind.REFUSED,
            Kind.ACCRUED,
            Kind.REFUSED,
            Kind.CAP_SET,
        ]
        assert reasons(answers)[2] == "hold_expired"
        assert (
            await house.pool.fetchval("SELECT count(*) FROM settlement.event WHERE kind = 3") == 2
        )
        assert await assert_audits_clean(house.pool) == 4 + 2 + 6


async def test_successor_of_a_frozen_writer_does_not_wait_for_ever(dsn: str):
    """A writer that froze in the middle of its flush holds the partition's row; the database lets go of it."""
    async with open_house(dsn, A, B) as house:
        frozen = await open_writer_connection(dsn)
        await frozen.execute("BEGIN")
        await frozen.execute("UPDATE settlement.partition SET flush_no = flush_no WHERE part = 1")
        successor = make_writer(dsn, house.clock)
        await soon(successor.start())
        assert (await successor.submit([order_of(house, "A", "B", 100)]))[0][0].kind == Kind.CLEARED
        frozen.terminate()
        await successor.stop()


async def test_successor_of_a_writer_that_froze_in_its_copy_does_not_wait_for_ever(dsn: str):
    """A writer that froze while it sent events: its server process waits for bytes, where no time-out reaches."""
    async with open_house(dsn, A, B) as house:
        frozen = await open_writer_connection(dsn)
        await frozen.execute("BEGIN")
        await frozen.execute("UPDATE settlement.partition SET flush_no = flush_no WHERE part = 1")
        began = asyncio.Event()

        async def nothing() -> AsyncIterator[bytes]:
            began.set()
            await asyncio.sleep(3600)
            yield b""

        copying = asyncio.create_task(
            frozen.copy_to_table(
                "event", schema_name="settlement", source=nothing(), format="binary"
            )
        )
        await soon(began.wait())
        successor = make_writer(dsn, house.clock)
        try:
            await soon(successor.start(), 20)
            [[cleared]] = await successor.submit([order_of(house, "A", "B", 100)])
            assert cleared.kind == Kind.CLEARED
        finally:
            frozen.terminate()
            copying.cancel()
            await asyncio.gather(copying, return_exceptions=True)
            await successor.stop()


async def test_stop_commits_everything_that_was_accepted(dsn: str):
    """Graceful stop: what was submitted before it is answered and durable, what comes after is turned away."""
    async with open_house(dsn, A, B) as house:
        sent = [asyncio.create_task(house.submit(order_of(house, "A", "B", 1))) for _ in range(200)]
        await asyncio.sleep(0)
        await soon(house.writer.stop())
        answers = await asyncio.gather(*sent)
        assert {entry.kind for [[entry]] in answers} == {Kind.CLEARED}
        with pytest.raises(Unavailable):
            await house.submit(order_of(house, "A", "B", 1))
        assert (
            await house.pool.fetchval("SELECT count(*) FROM settlement.event WHERE kind = 3") == 200
        )


async def test_full_queue_turns_away_and_loses_nothing(dsn: str):
    """Queues are bounded: beyond the limit a caller is told at once, and everybody who was let in is booked."""
    async with open_house(dsn, A, B) as house:
        await house.writer.stop()
        house.writer = make_writer(dsn, house.clock, queue_limit=50)
        await house.writer.start()
        async with _row_locked(dsn):
            tasks = [
                asyncio.create_task(house.submit(order_of(house, "A", "B", 1))) for _ in range(100)
            ]
            await asyncio.sleep(0.05)
            later = [
                asyncio.create_task(house.submit(order_of(house, "A", "B", 1))) for _ in range(100)
            ]
            await asyncio.sleep(0.05)
        outcomes = await soon(asyncio.gather(*tasks, *later, return_exceptions=True))
        turned_away = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
        booked = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert turned_away
        assert len(turned_away) + len(booked) == 200
        assert await house.pool.fetchval(
            "SELECT count(*) FROM settlement.event WHERE kind = 3"
        ) == len(booked)


async def test_a_group_is_decided_beside_a_flush_when_it_is_large_enough(dsn: str):
    """While a flush is in flight, a thousand commands that come then are decided, and fewer wait for more."""
    async with open_house(dsn, A, B) as house:

        def send(count: int) -> asyncio.Task:
            orders = [order_of(house, "A", "B", 1) for _ in range(count)]
            return asyncio.create_task(house.submit(*orders))

        async with _row_locked(dsn):
            first = send(1)
            await asyncio.sleep(0.05)
            few = send(WORTH_COMMANDS - 1)
            await asyncio.sleep(0.05)
            assert house.writer.waiting == WORTH_COMMANDS - 1
            last = send(1)
            while house.writer.waiting:
                await asyncio.sleep(0.01)
            assert not few.done()
        sizes = [len(await soon(task)) for task in (first, few, last)]
        assert sizes == [1, WORTH_COMMANDS - 1, 1]
        assert await house.pool.fetchval("SELECT max(flush_no) FROM settlement.flush") == 2 + 3
        await assert_audits_clean(house.pool)


async def test_caller_that_went_away_changes_nothing_for_others(dsn: str):
    """When a caller hangs up while its command is in flight, everybody else is answered all the same."""
    async with open_house(dsn, A, B) as house:
        async with _row_locked(dsn):
            tasks = [
                asyncio.create_task(house.submit(order_of(house, "A", "B", 1))) for _ in range(10)
            ]
            await asyncio.sleep(0.05)
            for task in tasks[::2]:
                task.cancel()
        outcomes = await soon(asyncio.gather(*tasks, return_exceptions=True))
        assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 5
        await assert_audits_clean(house.pool)


class _row_locked:  # noqa: N801 - used like a function
    """The partition's row, locked by somebody else: flushes wait in their first statement."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def __aenter__(self) -> asyncpg.Connection:
        self._conn = await asyncpg.connect(self._dsn)
        await self._conn.execute("BEGIN")
        await self._conn.execute("SELECT 1 FROM settlement.partition FOR UPDATE")
        return self._conn

    async def __aexit__(self, *error: object) -> None:
        await self._conn.execute("COMMIT")
        await self._conn.close()


async def _kill_waiting_backends(conn: asyncpg.Connection) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    while not await conn.fetch(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE wait_event_type = 'Lock' AND datname = current_database()
        """
    ):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)
