"""Journeys in the database: fences, verdicts, leases, and answers that come by themselves."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest
import pytest_asyncio

from adapters.kit.contract import Outcome, Step
from deploy.database.connection import open_direct_pool, open_pool
from exchange.core.journey import Change, Journey, Line, Source, Verdict, Wanted
from exchange.core.order import State
from exchange.programme.core.command import MemberOrder
from exchange.service.journey_database import DatabaseJourneys
from exchange.store.connections import fetch_connections, insert_connection
from exchange.store.links import fetch_links, write_link
from exchange.store.members import SealedName, insert_members
from schemas.values.faults import Unavailable
from schemas.values.ids import order_id
from settlement.core.command import Order
from tests.builders import BooksBuilder, instant

WORKER, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
NOW_US = 1_772_413_200_123_456
SECOND_US = 1_000_000


@pytest_asyncio.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """Connections as an order worker has them."""
    opened = await open_direct_pool(dsn)
    yield opened
    await opened.close()


@pytest.fixture
def store(pool: asyncpg.Pool) -> DatabaseJourneys:
    """The store."""
    return DatabaseJourneys(pool)


def wanted(number: int = 1, body: int = 1, **more: object) -> Wanted:
    """An order somebody wants."""
    order = Order(
        caller=3,
        key=number.to_bytes(16, "big"),
        body=body.to_bytes(16, "big"),
        issuer=1,
        acceptor=2,
        member_no=9,
        units=100,
        debit_cu=1000,
        value_cu=990,
        fee_cu=5,
        rate_no=4,
        occurred_at_us=NOW_US - 7,
        hold_us=60 * SECOND_US,
        credited_units=40,
        reference="till 5, 票",
    )
    made = Wanted(
        order=order,
        issuer_member="a",
        acceptor_member="b",
        decide_by_us=NOW_US + 3 * SECOND_US,
        at_us=NOW_US,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def change(journey: Journey, **more: object) -> Change:
    """What a driver would write."""
    made = Change(
        journey_no=journey.journey_no,
        claim_no=journey.claim_no,
        state=State.HELD,
        order_seq=12,
        accepted_at_us=NOW_US + 5,
        reason=0,
        verdict=Verdict.OPEN,
        stuck_since_us=0,
        stuck_why="",
        lines=(),
        at_us=NOW_US + 9,
    )
    return replace(made, **more)  # type: ignore[arg-type]


async def written(dsn: str, books: BooksBuilder) -> None:
    """Put books into the database."""
    owner = await asyncpg.connect(dsn)
    await books.write(owner)
    await owner.close()


async def begun(store: DatabaseJourneys, *orders: Wanted) -> list[Journey]:
    """Journeys that a worker begins."""
    return (await store.commit(worker=WORKER, begin=orders, changes=[], late=[])).begun


async def test_a_group_that_names_a_key_twice_begins_it_once(store, pool):
    """Of two wishes under one key in one group the first counts, and a key that stood before keeps its journey."""
    [before] = await begun(store, wanted(1))
    answered = await begun(store, wanted(2, body=7), wanted(1, body=8), wanted(2, body=9))
    assert answered[1] == before
    assert answered[0] == answered[2]
    assert answered[0].wanted.order.body == (7).to_bytes(16, "big")
    assert answered[:2] == await store.find([(3, (2).to_bytes(16, "big")), (3, bytes(15) + b"\1")])
    assert await pool.fetchval("SELECT count(*) FROM exchange.journey_line") == 2


async def test_lines_of_one_write_keep_their_order_beside_other_journeys(store):
    """One statement moves many journeys on and adds their lines in the order given; a lost claim gets none."""
    one, two = await begun(store, wanted(1), wanted(2))
    lines = tuple(
        Line(step=step, source=Source.INTENT, at_us=NOW_US)
        for step in (Step.CREDIT, Step.CAPTURE, Step.RELEASE, Step.REVERSE_CREDIT)
    )
    done = await store.commit(
        worker=WORKER,
        begin=[],
        changes=[change(two, claim_no=9, lines=lines), change(one, lines=lines)],
        late=[],
    )
    assert done.verdicts == {one.journey_no: Verdict.OPEN}
    await store.leave(WORKER)
    taken = await store.take_over(OTHER, now_us=NOW_US, limit=9)
    steps = {journey.journey_no: [line.step for line in written] for journey, written in taken}
    assert steps == {
        one.journey_no: [Step.HOLD, *(line.step for line in lines)],
        two.journey_no: [Step.HOLD],
    }


async def test_a_direct_connection_keeps_its_statements(pool):
    """An order worker's statements are prepared once, planned once, and run under the program's role."""
    async with pool.acquire() as conn:
        await conn.fetchval("SELECT $1::int", 1)
        kept = await conn.fetch("SELECT statement FROM pg_prepared_statements")
        assert "SELECT $1::int" in {row["statement"] for row in kept}
        assert await conn.fetchval("SHOW plan_cache_mode") == "force_generic_plan"
        assert await conn.fetchval("SELECT current_user") == "tongdui_app"


async def test_what_is_begun_is_read_back(store, pool):
    """An order begins one journey, with the intent of its hold; what is read is what was written."""
    code = MemberOrder(
        **{name: getattr(wanted().order, name) for name in Order.__struct_fields__},
        code=b"c" * 16,
        code_until_us=NOW_US + SECOND_US,
    )
    guarded = replace(wanted(), order=replace_key(code, 2))
    [first, second] = await begun(store, wanted(), guarded)
    assert (first.wanted, second.wanted) == (wanted(), guarded)
    assert isinstance(second.wanted.order, MemberOrder)
    assert type(first.wanted.order) is Order
    assert (first.state, first.claim_no, first.verdict, first.worker) == (
        *(State.WANTED, 1, Verdict.OPEN),
        WORKER,
    )
    again = await begun(store, wanted(body=2), wanted(3), wanted(3))
    assert again[0] == first
    assert again[1] == again[2]
    assert await store.find([(3, wanted().order.key), (9, bytes(16))]) == [first]
    assert await pool.fetchval("SELECT count(*) FROM exchange.journey_line WHERE source = 0") == 3


def replace_key(order: MemberOrder, number: int) -> MemberOrder:
    """The order under another key."""
    fields = {name: getattr(order, name) for name in MemberOrder.__struct_fields__}
    return MemberOrder(**fields | {"key": number.to_bytes(16, "big")})


async def test_a_lost_claim_changes_nothing(store, pool):
    """A write under an older claim neither moves the journey nor adds a line; the others of its commit do."""
    [mine, lost] = await begun(store, wanted(1), wanted(2))
    await pool.execute(
        "UPDATE exchange.journey SET claim_no = 2 WHERE journey_no = $1", lost.journey_no
    )
    line = Line(step=Step.HOLD, source=Source.CALL, at_us=NOW_US, outcome=Outcome.DONE, number="7")
    done = await store.commit(
        worker=WORKER,
        begin=[],
        changes=[change(mine, lines=(line,)), change(lost, lines=(line,))],
        late=[],
    )
    assert done.verdicts == {mine.journey_no: Verdict.OPEN}
    [read] = await store.find([(3, lost.wanted.order.key)])
    assert read.state is State.WANTED
    [moved] = await store.find([(3, mine.wanted.order.key)])
    assert (moved.state, moved.order_seq, moved.accepted_at_us) == (State.HELD, 12, NOW_US + 5)
    rows = await pool.fetch("SELECT journey_no FROM exchange.journey_line WHERE source = 1")
    assert [row["journey_no"] for row in rows] == [mine.journey_no]


async def test_a_verdict_is_set_once(store):
    """FORWARD and LATE exclude each other, whoever comes first; what was refused already is not late."""
    [one, two, three] = await begun(store, wanted(1), wanted(2), wanted(3))
    forward = change(one, verdict=Verdict.FORWARD)
    done = await store.commit(worker=WORKER, begin=[], changes=[forward], late=[two.journey_no])
    assert done.verdicts == {one.journey_no: Verdict.FORWARD, two.journey_no: Verdict.LATE}
    done = await store.commit(
        worker=OTHER,
        begin=[],
        changes=[
            change(two, verdict=Verdict.FORWARD),
            change(three, state=State.REFUSED, reason=2),
        ],
        late=[one.journey_no, three.journey_no],
    )
    assert done.verdicts == {
        one.journey_no: Verdict.FORWARD,
        two.journey_no: Verdict.LATE,
        three.journey_no: Verdict.OPEN,
    }


async def test_leases_and_take_over(store):
    """Journeys of a lapsed lease go to one other worker, with their lines; a lapsed lease cannot be renewed."""
    await store.enter(WORKER, now_us=NOW_US, lease_until_us=NOW_US + SECOND_US)
    await store.enter(OTHER, now_us=NOW_US, lease_until_us=NOW_US + 90 * SECOND_US)
    [open_, ended] = await begun(store, wanted(1), wanted(2))
    await store.commit(
        worker=WORKER, begin=[], changes=[change(ended, state=State.CLEARED)], late=[]
    )
    assert await store.take_over(OTHER, now_us=NOW_US + SECOND_US, limit=10) == []
    renewed = {"now_us": NOW_US + SECOND_US, "lease_until_us": NOW_US + 2 * SECOND_US}
    assert await store.renew(WORKER, **renewed)
    late_us = NOW_US + 3 * SECOND_US
    both = await asyncio.gather(
        *(store.take_over(OTHER, now_us=late_us, limit=10) for _ in range(2))
    )
    [(taken, lines)] = [each for some in both for each in some]
    assert taken == replace(open_, worker=OTHER, claim_no=2)
    assert [(line.step, line.source) for line in lines] == [(Step.HOLD, Source.INTENT)]
    assert not await store.renew(WORKER, now_us=late_us, lease_until_us=late_us + SECOND_US)
    await store.leave(OTHER)
    again = await store.take_over(WORKER, now_us=late_us, limit=10)
    assert [journey.claim_no for journey, _ in again] == [3]


async def test_answers_find_their_journey_by_the_orders_id(store, pool, dsn):
    """A callback is added to the journey of its order, before any driver wrote the order's id; a stranger's is not."""
    books = BooksBuilder()
    books.open_cycle("c1")
    hold = books.accept("AIR", "EYE", debit=100)
    await written(dsn, books)
    key = await pool.fetchval("SELECT key FROM settlement.event WHERE seq = $1", hold.order_seq)
    caller = await pool.fetchval(
        "SELECT caller FROM settlement.event WHERE seq = $1", hold.order_seq
    )
    order = wanted().order
    fields = {name: getattr(order, name) for name in Order.__struct_fields__}
    mine = Order(**fields | {"key": key.bytes, "caller": caller})
    [journey] = await begun(store, replace(wanted(), order=mine))
    line = Line(step=Step.CREDIT, source=Source.CALLBACK, at_us=NOW_US, outcome=Outcome.DONE)
    name = order_id(hold.at_us, 1, hold.order_seq)
    told = {"line": line, "merchant_no": books.merchant("EYE")}
    assert await store.answer(name, **told | {"merchant_no": books.merchant("AIR")}) == 0
    assert await store.answer(name, **told) == journey.journey_no
    invented = order_id(hold.at_us + SECOND_US, 1, hold.order_seq)
    assert await store.answer(invented, **told) == 0
    assert await store.answer(uuid.uuid4(), **told) == 0
    [(number, read)] = await store.answers([journey.journey_no, 99])
    assert (number, read.step, read.source, read.outcome) == (
        *(journey.journey_no, Step.CREDIT, Source.CALLBACK),
        Outcome.DONE,
    )
    assert read.line_no > 0


async def test_an_outage_is_unavailable(dsn):
    """A store whose database is away raises `Unavailable`, and nothing foreign."""
    pool = await open_pool(dsn)
    store = DatabaseJourneys(pool)
    await begun(store, wanted())
    name = await pool.fetchval("SELECT current_database()")
    admin = await asyncpg.connect(dsn.replace(f"/{name}", "/postgres"))
    await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                await store.find([(3, bytes(16))])
            except Unavailable:
                break
            assert time.monotonic() < deadline
    finally:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await admin.close()
        pool.terminate()


async def test_connections_and_links(pool, dsn):
    """The newest connection of a merchant counts, an empty one ends it; a link is replaced, not doubled."""
    books = BooksBuilder()
    books.open_cycle("c1")
    books.clear("AIR", "EYE", debit=1)
    await written(dsn, books)
    now = instant(NOW_US)
    for merchant_no, folder in ((1, "old"), (2, "x"), (1, "new"), (2, "")):
        await insert_connection(
            pool,
            merchant_no=merchant_no,
            folder=folder,
            settings={"port": 7},
            certificate_digest=None,
            now=now,
        )
    [row] = await fetch_connections(pool)
    assert (row["code"], row["folder"], row["settings"]) == ("AIR", "new", '{"port": 7}')
    name = SealedName(digest=bytes(32), member_no=9, scope=0, sealed=b"name", wrapped=b"key")
    await insert_members(pool, names=[name], now=now)
    for theirs in (b"A-1", b"A-2"):
        await write_link(pool, member_no=9, merchant_no=1, sealed=theirs, now=now)
    assert await fetch_links(pool, pairs=[(9, 1), (9, 2), (8, 1)]) == {(9, 1): (b"A-2", b"key")}
