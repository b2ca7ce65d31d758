"""Disputes, files of corrections and the return of remainders, on PostgreSQL and with a running writer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from exchange.service.correcting import DecideDispute
from exchange.service.corrections import take_file
from exchange.service.vaults import VaultDoor
from schemas.files.corrections import COLUMNS, read_corrections
from schemas.values.faults import SchemaError
from schemas.values.ids import order_id
from schemas.values.reason import Reason, Refusal
from schemas.wire.disputes import DecisionTerms
from settlement.core.command import Reverse
from settlement.core.dispute import Figures, State, Step
from settlement.core.remainders import Quarter
from settlement.core.trail import By
from settlement.service import disputes, remainders, trail
from settlement.service.disputes import Dispute, Opening, Wish
from settlement.service.trail import audit_trail
from tests.simulation.compare import assert_audits_clean
from tests.simulation.ground import BODY, DAY_US, House, new_key, open_house, order_of, terms

NOW = datetime(2026, 2, 25, 12, tzinfo=UTC)
CLERK = By(who="person:clerk", second="person:treasurer", why="looked at")
HEADER = ",".join(COLUMNS)


async def decide(house: House, number: int, granted: Figures | None, at: datetime) -> object:
    """Decide a case and book what it grants, as approvals do."""
    async with house.pool.acquire() as conn, conn.transaction():
        digest = await disputes.decide(conn, number, granted=granted, by=CLERK, at=at)
    if isinstance(digest, Refusal):
        return digest.reason
    return await disputes.book(house.pool, house.writer, number, at=at)


async def assert_trail_clean(house: House) -> None:
    """The trail's chain holds, and every adjustment was asked for."""
    async with house.pool.acquire() as conn:
        report, _, _ = await audit_trail(conn)
    assert report.differences == []


async def test_a_dispute_is_heard_decided_and_ends_in_a_linked_adjustment(dsn):
    """Rules W1 to W4: a case hears both sides, is decided once, and what it grants is booked once, with its line.

    One leg of a bill is corrected: the other leg, and the points of both, stay (force-reverting multi-hop transfers).
    A modified duplicate gets the right error, and the same wish again its first answer.
    """
    async with open_house(dsn, terms("air", hosted=False), terms("eye"), terms("bus")) as house:
        air, eye = house.numbers["air"], house.numbers["eye"]
        first = await house.one(order_of(house, "air", "eye", 1_000, units=10, fee_cu=5))
        other = await house.one(order_of(house, "air", "bus", 500, units=5))
        order = order_id(first.at_us, 1, first.seq)
        await house.close_cycle(1, "second")

        def opening(text: str, key: bytes, **changes: object) -> Opening:
            given: dict = {"opener": air, "order": order, "text": text, "key": key, "body": BODY}
            return Opening(**(given | changes))

        opened = partial(disputes.open_dispute, house.pool, by=CLERK)
        key = new_key()
        case = await opened(opening("charged twice", key, claim=Figures(-400, -400, -2)), at=NOW)
        assert isinstance(case, Dispute)
        assert (case.name, case.state, case.row["cycle_id"]) == ("D1", State.OPENED, "first")
        again = await opened(opening("charged twice", key), at=NOW)
        assert isinstance(again, Dispute)
        assert again.name == "D1"
        for wanted, reason in (
            (opening("else", key, body=bytes(15) + b"1"), Reason.IDEMPOTENCY_CONFLICT),
            (opening("twice", new_key()), Reason.DISPUTE_EXISTS),
            (opening("more", new_key(), claim=Figures(-1_001, 0, 0)), Reason.ADJUSTMENT_EXCEEDS_ORDER),
            (opening("not mine", new_key(), opener=house.numbers["bus"]), Reason.ORDER_NOT_FOUND),
        ):  # fmt: skip
            refused = await opened(wanted, at=NOW)
            assert isinstance(refused, Refusal)
            assert refused.reason is reason

        async def step(step: Step, party: int, at: datetime = NOW) -> object:
            wish = Wish(party=party, step=step, text="seen", key=new_key(), body=BODY)
            done = await disputes.take_step(house.pool, 1, wish, by=CLERK, at=at)
            return done.reason if isinstance(done, Refusal) else done.state

        assert await decide(house, 1, Figures(-400, -400, -2), NOW) is Reason.DISPUTE_NOT_HEARD
        assert await step(Step.ANSWER, air) is Reason.DISPUTE_STEP_NOT_YOURS
        assert await step(Step.EVIDENCE, house.numbers["bus"]) is Reason.DISPUTE_NOT_FOUND
        assert await step(Step.EVIDENCE, air) is State.OPENED
        assert await step(Step.ANSWER, eye) is State.ANSWERED
        assert await step(Step.WITHDRAW, eye) is Reason.DISPUTE_STEP_NOT_YOURS
        too_much = Figures(-401, -400, -2)
        assert await decide(house, 1, too_much, NOW) is Reason.DISPUTE_GRANT_EXCEEDS_CLAIM
        for _ in range(2):  # said again, as after a fault, it changes nothing
            assert await decide(house, 1, Figures(-100, -100, 0), NOW) is None
        assert await decide(house, 1, None, NOW) is Reason.DISPUTE_ENDED
        assert await step(Step.EVIDENCE, air) is Reason.DISPUTE_ENDED
        [listed] = await disputes.list_disputes(house.pool, at=NOW, party=eye)
        assert (listed.state, listed.is_booked) == (State.ACCEPTED, True)
        assert listed.row["booked_cycle"] == "second"
        events = await house.pool.fetch(
            "SELECT order_seq, reference, debit_cu FROM settlement.event WHERE kind = 6"
        )
        assert [tuple(row) for row in events] == [(first.seq, f"#1/{first.seq} D1", -100)]
        assert await house.pool.fetchval(
            "SELECT count(*) FROM settlement.event WHERE order_seq = $1", other.seq
        ) == 1  # fmt: skip
        # A case that nobody decides lapses; one that is withdrawn, or rejected, books nothing.
        late = await opened(opening("again", new_key()), at=NOW)
        assert isinstance(late, Dispute)
        after = NOW + timedelta(days=31)
        assert await decide(house, 2, None, after) is Reason.DISPUTE_ENDED
        [lapsed, _] = await disputes.list_disputes(house.pool, at=after)
        assert lapsed.state is State.LAPSED
        third = await opened(opening("third", new_key()), at=after)
        assert isinstance(third, Dispute)
        wish = Wish(party=air, step=Step.WITHDRAW, text="settled", key=new_key(), body=BODY)
        done = await disputes.take_step(house.pool, 3, wish, by=CLERK, at=after)
        assert isinstance(done, Dispute)
        assert done.state is State.WITHDRAWN
        assert isinstance(await opened(opening("fourth", new_key()), at=after), Dispute)
        assert await decide(house, 4, None, after) is Reason.DISPUTE_NOT_HEARD
        silent = after + timedelta(days=7)
        assert await decide(house, 4, None, silent) is None
        assert (
            await house.pool.fetchval("SELECT count(*) FROM settlement.event WHERE kind = 6") == 1
        )
        terms_ = DecisionTerms(dispute="D4", outcome="reject")
        assert await DecideDispute().current(house.pool, terms_, silent) == {
            "state": "rejected", "steps": 1,
        }  # fmt: skip
        await assert_audits_clean(house.pool)
        await assert_trail_clean(house)


def file_of(*rows: str, total: str) -> bytes:
    """A file of corrections."""
    return "\r\n".join([HEADER, *rows, total, ""]).encode()


async def test_reversal_files_with_wrong_control_counts_change_nothing(dsn):
    """Rule W5: a wrong count, total, currency, order or amount refuses the file whole, naming line and field.

    A file that adds up is booked line by line; again it books nothing twice, and both audits are clean.
    """
    async with open_house(dsn, terms("air", hosted=False), terms("eye")) as house:
        orders = [
            await house.one(order_of(house, "air", "eye", 1_000, units=10, fee_cu=5))
            for _ in range(2)
        ]
        one, two = (order_id(each.at_us, 1, each.seq) for each in orders)
        await house.close_cycle(1, "second")
        door = VaultDoor(
            house.pool, Path()
        )  # stays shut: no order went through a merchant's own system
        take = partial(take_file, house.pool, house.writer, by=CLERK, at=NOW, door=door)
        reverse, adjust = f"reverse,{one},,,4,,,,CNY,till", f"adjust,{two},,,,-10,-10,0,CNY,"
        alone = "adjust,,air,eye,,7,7,1,CNY,fine"
        good = file_of(reverse, adjust, alone, total="TOTAL,3,,,4,-3,-3,1,CNY,")
        before = await house.pool.fetchval("SELECT max(seq) FROM settlement.event")
        for data, path in (
            (file_of(reverse, adjust, total="TOTAL,3,,,4,-10,-10,0,CNY,"), "line 4, order"),
            (file_of(reverse, adjust, total="TOTAL,2,,,4,-10,-11,0,CNY,"), "line 4, value_cu"),
            (file_of(reverse, adjust, total="TOTAL,2,,,5,-10,-10,0,CNY,"), "line 4, units"),
            (file_of(reverse, total="TOTAL,1,,,4,0,0,0,USD,"), "line 3, currency"),
            (file_of(reverse.replace("CNY", "USD"), total="TOTAL,1,,,4,0,0,0,CNY,"), "line 2, currency"),
            (file_of(reverse, adjust, total=alone), "line 4, kind"),
            (file_of(reverse.replace(",4,", ",0,"), total="TOTAL,1,,,0,0,0,0,CNY,"), "line 2, units"),
            (file_of(reverse.replace(",4,", ",04,"), total="TOTAL,1,,,4,0,0,0,CNY,"), "line 2, units"),
            (file_of("adjust,,,,,-1,-1,0,CNY,", total="TOTAL,1,,,0,-1,-1,0,CNY,"), "line 2, issuer"),
            (file_of(f"adjust,{one},,,,-1,1,0,CNY,", total="TOTAL,1,,,0,-1,1,0,CNY,"), "line 2, debit_cu"),
        ):  # fmt: skip
            with pytest.raises(SchemaError) as malformed:
                read_corrections(data)
            assert malformed.value.path == path
        beyond = file_of(adjust.replace("10,", "1001,"), total="TOTAL,1,,,0,-1001,-1001,0,CNY,")
        unknown = str(one)[:-1] + ("0" if str(one)[-1] != "0" else "1")
        for data, sender, path in (
            (file_of(reverse.replace(str(one), unknown), total="TOTAL,1,,,4,0,0,0,CNY,"), "HOUSE", "line 2, order"),
            (file_of(reverse, reverse, reverse, total="TOTAL,3,,,12,0,0,0,CNY,"), "HOUSE", "line 4, units"),
            (beyond, "HOUSE", "line 2, debit_cu"),
            (file_of(alone.replace("eye", "sun"), total="TOTAL,1,,,0,7,7,1,CNY,"), "HOUSE", "line 2, acceptor"),
            (file_of(reverse, total="TOTAL,1,,,4,0,0,0,CNY,"), "air", "line 2, order"),
            (file_of(adjust, total="TOTAL,1,,,0,-10,-10,0,CNY,"), "eye", "line 2, kind"),
        ):  # fmt: skip
            with pytest.raises(SchemaError) as stranger:
                await take(read_corrections(data), sender=sender)
            assert stranger.value.path == path
        assert await house.pool.fetchval("SELECT max(seq) FROM settlement.event") == before
        asked = "SELECT count(*) FROM settlement.trail WHERE action = 'corrections.take'"
        assert await house.pool.fetchval(asked) == 0
        for _ in range(2):
            taken = await take(read_corrections(good), sender="HOUSE")
            assert (taken.booked, taken.refused) == (3, {})
        assert [tuple(row) for row in await house.pool.fetch(
            "SELECT kind, order_seq, debit_cu FROM settlement.event WHERE kind IN (6, 20) ORDER BY seq"
        )] == [(20, orders[0].seq, -400), (6, orders[1].seq, -10), (6, 0, 7)]  # fmt: skip
        await assert_audits_clean(house.pool)
        await assert_trail_clean(house)


async def test_remainders_flow_back_to_the_issuers_once_a_quarter(dsn):
    """Rule W6: each issuer gets back what its orders brought, less what was taken back; the account is empty then.

    Again, or after a fault, nothing is given twice; the next quarter gives what came since, and what was taken back of
    the quarter before counts against it.
    """
    async with open_house(
        dsn, terms("air", hosted=False), terms("sea", hosted=False), terms("eye")
    ) as house:
        air, sea, eye = (house.numbers[code] for code in ("air", "sea", "eye"))
        first = await house.one(order_of(house, "air", "eye", 1_000, units=10, value_cu=990))
        await house.one(order_of(house, "sea", "eye", 500, units=5, value_cu=497))
        await house.one(Reverse(eye, new_key(), BODY, first.seq, 5))
        await house.close_cycle(1, "second")

        async def due(quarter: str, now: datetime) -> remainders.Return | Refusal:
            return await remainders.plan_return(house.pool, quarter=Quarter.parse(quarter), now=now)

        early = await due("2026Q1", NOW)
        assert isinstance(early, Refusal)
        assert early.reason is Reason.REMAINDERS_NOT_DUE
        april, july = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
        planned = await due("2026Q1", april)
        assert isinstance(planned, remainders.Return)
        assert planned.amounts == {(air, eye): 5, (sea, eye): 3}
        assert (planned.kept_cu, planned.done) == (0, False)
        for _ in range(2):
            body = await trail.ask(house.pool, CLERK, planned.change, at=april)
            assert await remainders.book_return(house.writer, planned, body=body) is None
        again = await due("2026Q1", april)
        assert isinstance(again, remainders.Return)
        assert (again.amounts, again.done) == (planned.amounts, True)
        # In the next quarter one order is reversed after its remainder went back, and another one clears.
        house.clock.us += 60 * DAY_US
        await house.one(Reverse(eye, new_key(), BODY, first.seq, 0))
        await house.one(order_of(house, "sea", "eye", 700, units=7, value_cu=698))
        await house.close_cycle(2, "third")
        second = await due("2026Q2", july)
        assert isinstance(second, remainders.Return)
        assert (second.amounts, second.kept_cu) == ({(sea, eye): 2}, -5)
        body = await trail.ask(house.pool, CLERK, second.change, at=july)
        assert await remainders.book_return(house.writer, second, body=body) is None
        stale = await due("2026Q1", july)
        assert isinstance(stale, Refusal)
        balance = await house.pool.fetchval(
            "SELECT sum(net_cu)::bigint FROM settlement.position WHERE merchant_no = -2"
        )
        assert balance == second.kept_cu
        await assert_audits_clean(house.pool)
        await assert_trail_clean(house)
