"""The journal's SQL on each PostgreSQL of this machine, and the constraints behind what the core refuses."""

import random
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from deploy.database.connection import open_writer_connection
from deploy.database.embedded import EmbeddedServer
from settlement.core.books import Books
from settlement.core.command import key_name
from settlement.core.event import unpack_event
from settlement.service.ledger import open_ledger
from settlement.store import audit as audit_store
from settlement.store import journal
from tests.simulation.compare import assert_audits_clean
from tests.simulation.ground import House, open_house
from tests.simulation.histories import PRELUDE, Script, command_of, merchant_terms, plain

ME, OTHER = b"\1" * 16, b"\2" * 16


@pytest.fixture
async def conn(every_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A writer's connection to an empty ledger."""
    conn = await open_writer_connection(every_dsn)
    await journal.prepare_writer_connection(conn)
    await open_ledger(conn)
    yield conn
    await conn.close()


# Fencing ---------------------------------------------------------------------------------------------


async def test_a_takeover_raises_the_epoch_once_for_each_writer(conn: asyncpg.Connection):
    """DESIGN 5: a take-over raises the epoch; one that expects an epoch that is gone gets nothing."""
    first = await journal.raise_epoch(conn, part=1, expected=None, writer=ME)
    assert first is not None
    second = await journal.raise_epoch(conn, part=1, expected=first.epoch, writer=OTHER)
    assert second is not None
    assert (first.epoch, second.epoch) == (1, 2)
    assert await journal.raise_epoch(conn, part=1, expected=first.epoch, writer=ME) is None
    # A take-over whose answer was lost is told by the writer's name.
    again = await journal.raise_epoch(conn, part=1, expected=first.epoch, writer=OTHER)
    assert again is not None
    assert again.epoch == 3
    assert await journal.raise_epoch(conn, part=2, expected=None, writer=ME) is None


async def test_a_flush_needs_the_epoch_and_the_flush_number(conn: asyncpg.Connection):
    """DESIGN 5: a flush of another epoch, or that another flush has overtaken, writes nothing."""
    fence = await journal.raise_epoch(conn, part=1, expected=None, writer=ME)
    assert fence is not None

    async def flush(epoch: int, flush_no: int) -> bool:
        return await journal.advance_partition(
            conn,
            fence=journal.Fence(part=1, epoch=epoch, flush_no=flush_no, digest=bytes(32)),
            books_seq=5,
            clock_us=10**15,
            cycle_no=1,
            digest=b"\7" * 32,
        )

    assert await flush(fence.epoch, 0)
    assert not await flush(fence.epoch, 0)
    assert not await flush(fence.epoch - 1, 1)
    assert await flush(fence.epoch, 1)
    head = await conn.fetchrow(
        "SELECT flush_no, last_seq, cycle_no, digest FROM settlement.partition"
    )
    assert head is not None
    assert tuple(head) == (2, 5, 1, b"\7" * 32)


async def test_a_ledger_is_opened_once(conn: asyncpg.Connection):
    """Opening a ledger that is there changes nothing, not even whose clock it follows."""
    await journal.raise_epoch(conn, part=1, expected=None, writer=ME)
    await open_ledger(conn, caller_clock=True)
    row = await conn.fetchrow("SELECT epoch, clock_source FROM settlement.partition")
    assert row is not None
    assert tuple(row) == (1, "wall")


# What is written comes back -----------------------------------------------------------------------------


def figures_of(books: Books) -> dict[str, Any]:
    """Everything that a writer decides on."""
    return {
        "seq": books.seq,
        "clock_us": books.clock_us,
        "cycle_no": books.cycle_no,
        "cycle_ids": books.cycle_ids,
        "house": (books.fees_cu, books.rounding_cu),
        "accounts": {
            number: (one.cap, one.collateral, one.held, one.unsettled, one.open)
            for number, one in books.accounts.items()
        },
        "obligations": {
            pair: (one.orders, one.debit, one.value, one.fee)
            for pair, one in books.obligations.items()
            if one.orders
        },
        "holds": books.holds,
        "pins": books.pins,
        "unsettled": {
            cycle_no: {party: net for party, net in nets.items() if net}
            for cycle_no, nets in books.unsettled.items()
        },
        "funds": {party: cu for party, cu in books.funds.balances.items() if cu},
        "contributions": books.funds.contributions,
        "debts": books.funds.debts,
        "discharged": books.funds.discharged,
    }


STEPS = (
    "order",
    "hold",
    "hold",
    "purchase",
    "purchase",
    "accrue",
    "again",
    "end",
    "pin",
    "cap",
    "collateral",
    "settle",
    "fund",
    "transfer",
    "deposit",
    "pay_out",
    "help",
    "discharge",
    "unwind",
)


async def live(house: House, seed: int, length: int) -> Script:
    """A random history, compared with the oracle answer by answer."""
    draw = random.Random(seed)
    script = Script(caller_clock=False)
    for step in PRELUDE:
        script.step(step)
    for number in range(length):
        name = "close" if number % 37 == 36 else draw.choice(STEPS)
        little = [draw.randint(0, 9) for _ in range(6)]
        rest: dict[str, tuple[Any, ...]] = {
            "order": (little[0], little[1], little[2], draw.randint(1, 30), little[3]),
            "hold": (little[0], little[1], little[2], draw.randint(1, 30), little[3]),
            "purchase": (
                little[0],
                little[1],
                draw.randint(0, 900),
                draw.randint(0, 20),
                little[2],
            ),
            "accrue": (little[0], little[1], draw.randint(1, 9), little[2]),
            "again": (draw.randint(0, 30), little[0]),
            "end": (draw.randint(0, 30), draw.random() < 0.7, little[0]),
            "pin": (draw.randint(0, 30), little[0]),
            "cap": (little[0], draw.randint(500, 6_000)),
            "collateral": (little[0], draw.randint(0, 2_000)),
            "settle": (little[0], draw.random() < 0.5),
            "fund": (little[0], little[1]),
            "transfer": (*little[:3], draw.randint(1, 1_500)),
            "deposit": (little[0], little[1], draw.randint(1, 2_000)),
            "pay_out": (little[0], little[1], draw.randint(1, 2_000)),
            "help": tuple(little[:3]),
            "discharge": (little[0], draw.randint(1, 63)),
            "unwind": (little[0], little[1]),
            "close": (1, 1),
        }
        script.step((name, *rest[name]))
        if draw.random() < 0.2:
            script.cut()
        if draw.random() < 0.1:
            await _send(house, script)
            script.wait(draw.choice([1, 10**6, 10**9, 10**11]))
            house.clock.us = script.clock_us
    await _send(house, script)
    return script


async def _send(house: House, script: Script) -> None:
    stretch = script.take()
    for group, expected in zip(stretch.groups, stretch.expected, strict=True):
        answers = await house.writer.submit([command_of(wish) for wish in group])
        assert [[plain(entry) for entry in answer] for answer in answers] == expected


async def test_a_successor_loads_the_books_as_they_were(every_dsn: str):
    """DESIGN 5: after any history, what a successor loads is what the writer before held, and the audit is clean."""
    async with open_house(every_dsn, *merchant_terms(), fee_bps=50) as house:
        script = await live(house, seed=5, length=320)
        before = house.writer._books
        assert before is not None
        assert len(script.oracle.log) > 250
        assert before.funds.balances
        conn = await open_writer_connection(every_dsn)
        await journal.prepare_writer_connection(conn)
        loaded = await journal.load_books(conn, 1)
        await conn.close()
        assert figures_of(loaded) == figures_of(before)
        assert loaded.holds
        assert loaded.pins
        assert await assert_audits_clean(house.pool) == len(script.oracle.log)


async def test_copy_gives_the_canonical_bytes_back(every_dsn: str):
    """FORMAT.md, "Event": a binary COPY of the journal is the canonical bytes, row by row, on each PostgreSQL."""
    async with open_house(every_dsn, *merchant_terms()) as house:
        script = await live(house, seed=6, length=60)
        stream = bytearray()

        async def take(piece: bytes) -> None:
            stream.extend(piece)

        async with house.pool.acquire() as conn:
            await audit_store.copy_events(conn, part=1, after_seq=0, through_seq=2**62, sink=take)
        data = bytes(stream[19:-2])
        seqs = []
        while data:
            length = 254 + int.from_bytes(data[250:254], "big")
            event, data = unpack_event(data[:length]), data[length:]
            seqs.append(event.seq)
        assert seqs == list(range(1, len(script.oracle.log) + 1))


async def test_keys_and_orders_are_found_in_one_read(every_dsn: str):
    """Rule I1: keys and orders that are stored are found with all their events, others are not.

    Repeats are no trouble.
    """
    async with open_house(every_dsn, *merchant_terms()) as house:
        await live(house, seed=7, length=80)
        rows = await house.pool.fetch(
            """
            SELECT key, caller, array_agg(seq ORDER BY seq) AS seqs
              FROM settlement.event WHERE step >= 0 GROUP BY 1, 2
            """
        )
        conn = await open_writer_connection(every_dsn)
        await journal.prepare_writer_connection(conn)
        found = await journal.fetch_by_keys(
            conn,
            part=1,
            names={
                *(key_name(row["caller"], row["key"].bytes) for row in rows),
                key_name(1, bytes(16)),
            },
        )
        assert {key: [entry.seq for entry in entries] for key, (_, entries) in found.items()} == {
            key_name(row["caller"], row["key"].bytes): row["seqs"] for row in rows
        }
        orders = await house.pool.fetch(
            """
            SELECT order_seq, array_agg(kind ORDER BY seq) AS kinds, min(caller) AS caller
              FROM settlement.event WHERE order_seq > 0 AND kind <> 9 GROUP BY 1
            """
        )
        wanted = [row["order_seq"] for row in orders]
        ends = await journal.fetch_orders(conn, part=1, order_seqs=[*wanted, 10**9])
        assert {
            seq: (caller, [entry.kind for entry in entries])
            for seq, (caller, entries) in ends.items()
        } == {row["order_seq"]: (row["caller"], row["kinds"]) for row in orders}
        assert any(len(entries) == 2 for _, entries in ends.values())
        await conn.close()


async def test_look_ups_never_walk_along_the_journal(every_dsn: str):
    """DESIGN 5: looking keys, orders and lots up uses an index on the empty tables that the plan was made on too."""
    async with open_house(every_dsn, *merchant_terms()) as house:
        await live(house, seed=8, length=20)
        conn = await open_writer_connection(every_dsn)
        # What journal.fetch_by_keys and fetch_orders ask for each key.
        for sql in (
            "SELECT * FROM settlement.event AS e WHERE e.key = ANY($1::uuid[]) AND e.step >= 0 AND e.part + 0 = 1",
            "SELECT * FROM settlement.event AS e WHERE e.part = 1 AND e.seq = 5",
            "SELECT * FROM settlement.event WHERE part = 1 AND order_seq = 5 AND kind IN (3, 4, 5) AND seq <> 5",
            "SELECT * FROM exchange.lot AS l WHERE l.part = 1 AND l.member_no = 5",
        ):
            given = sql.replace("$1", "'{00000000-0000-0000-0000-000000000001}'")
            plan = "\n".join(row[0] for row in await conn.fetch(f"EXPLAIN {given}"))
            assert "Index" in plan, plan
            assert "Seq Scan" not in plan, plan
            assert "e.key" not in sql or "Index Cond: ((key = ANY" in plan, plan
        await conn.close()


# Constraints -------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stored(every_server: EmbeddedServer) -> AsyncIterator[asyncpg.Connection]:
    """The program's own connection to a ledger with an accepted and a cleared order."""
    dsn = every_server.clone_database("migrated", "constraints")
    async with open_house(dsn, *merchant_terms()) as house:
        script = Script(caller_clock=False)
        script.step(("hold", 0, 3, 1, 5, 6))
        script.step(("hold", 0, 3, 1, 5, 6))
        script.step(("end", 0, True, 5))
        await _send(house, script)
    conn = await asyncpg.connect(dsn, server_settings={"role": "tongdui_app"})
    yield conn
    await conn.close()
    every_server.drop_database("constraints")


def event(**columns: object) -> str:
    """SQL that adds a cleared order, like the last one but for some columns."""
    from settlement.core.event import COLUMNS

    changes = {"seq": "(SELECT max(seq) + 1 FROM settlement.event)", "key": "gen_random_uuid()"} | {
        name: str(value) for name, value in columns.items()
    }
    values = ", ".join(changes.get(name, name) for name in COLUMNS)
    return f"""
        INSERT INTO settlement.event ({", ".join(COLUMNS)})
        SELECT {values} FROM settlement.event WHERE kind = 3 AND order_seq <> seq
        """


MAX = "(SELECT max(seq) + 1 FROM settlement.event)"
BROKEN = {
    # What the core refuses or never does, and the constraint that refuses it in the database too.
    "an order of no units": (event(order_seq=MAX, units=0), "event_amounts_add_up"),
    "an order of nothing": (event(order_seq=MAX, debit_cu=0, value_cu=0, fee_cu=0), "event_amounts_add_up"),
    "an order beyond the limit": (event(order_seq=MAX, debit_cu=10**15), "event_amounts_add_up"),
    "a value above the debit": (event(order_seq=MAX, value_cu="debit_cu + 1"), "event_amounts_add_up"),
    "a fee above the value": (event(order_seq=MAX, fee_cu="value_cu + 1"), "event_amounts_add_up"),
    "a negative fee": (event(order_seq=MAX, fee_cu=-1), "event_amounts_add_up"),
    "an order with itself": (event(order_seq=MAX, acceptor="issuer"), "event_amounts_add_up"),
    "an acceptance of nothing": (
        event(order_seq=MAX, kind=1, debit_cu=0, value_cu=0, fee_cu=0), "event_amounts_add_up"),
    "a number twice": (event(seq="seq"), "event_pkey"),
    "number zero": (event(seq=0), "event_seq_positive"),
    "a key twice": (event(order_seq=MAX, key="key"), "event_key"),
    "a second end": (event(step=-2, kind=4), "event_end"),
    "a second clearing of an order": (event(step=-2), "event_end"),
    "a flush without events": (
        "INSERT INTO settlement.flush SELECT part, flush_no + 9, epoch, first_seq, 0, at, digest FROM settlement.flush",
        "flush_events_check"),
    "a flush twice": ("INSERT INTO settlement.flush SELECT * FROM settlement.flush", "flush_pkey"),
    "a digest cut short": (
        "INSERT INTO settlement.flush VALUES (1, 99, 1, 1, 1, now(), '\\x00')", "flush_digest_check"),
    "a negative cap": ("UPDATE settlement.account SET cap_cu = -1", "account_cap_cu_check"),
    "a negative collateral": ("UPDATE settlement.account SET collateral_cu = -1", "account_collateral_cu_check"),
    "more released than held": ("UPDATE settlement.account SET held_cu = -1", "account_held_cu_check"),
    "a cycle's id twice": (
        "INSERT INTO settlement.cycle VALUES (1, 9, 'first', 'open', now(), NULL, NULL, NULL, 1)",
        "cycle_part_cycle_id_key"),
    "a closed cycle without an end": ("UPDATE settlement.cycle SET state = 'closed'", "cycle_state_and_times_agree"),
    "an open cycle that is settled": ("UPDATE settlement.cycle SET settled_at = now()", "cycle_state_and_times_agree"),
    "a state of its own": (
        "UPDATE settlement.cycle SET state = 'half', closed_at = now(), last_seq = 1", "cycle_state_check"),
    "obligations of no order": ("UPDATE settlement.obligation SET orders = 0", "obligation_orders_check"),
    "obligations that do not add up": ("UPDATE settlement.obligation SET value_cu = debit_cu + 1", "obligation_check"),
    "a hold of nothing": ("INSERT INTO settlement.hold VALUES (1, 99, 1, 0, now())", "hold_debit_cu_check"),
    "a hold pinned before it was": ("UPDATE settlement.hold SET pinned_seq = order_seq", "hold_pinned_later"),
    "a hold twice": ("INSERT INTO settlement.hold SELECT * FROM settlement.hold", "hold_pkey"),
    "a merchant's number below one": (
        "INSERT INTO settlement.merchant VALUES (0, 'ZERO', 'Zero', now())", "merchant_merchant_no_check"),
    "a code of the house": (
        "INSERT INTO settlement.merchant VALUES (9, 'HOUSE:fees', 'x', now())", "merchant_code_check"),
    "a code twice": ("INSERT INTO settlement.merchant VALUES (9, 'A', 'x', now())", "merchant_code_key"),
    "a lot of nothing": ("INSERT INTO exchange.lot VALUES (9, 1, 0, now(), 1, 1, 1)", "lot_earned_units_check"),
    "a lot overdrawn": ("INSERT INTO exchange.lot_use VALUES (9, 1, 5, -1, 1)", "lot_use_left_units_check"),
    "a use of nothing": ("INSERT INTO exchange.lot_use VALUES (9, 1, 0, 1, 1)", "lot_use_units_check"),
}  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("what", BROKEN)
async def test_the_database_refuses_what_the_core_refuses(stored: asyncpg.Connection, what: str):
    """STYLE, "Check each twice": an invariant that the core holds is a constraint too."""
    sql, constraint = BROKEN[what]
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
        await stored.execute(sql)
    assert refused.value.constraint_name == constraint


async def test_postings_of_every_order_sum_to_zero(every_dsn: str):
    """Rule B2: the view gives four postings an order, which sum to zero for each order, each cycle and overall."""
    async with open_house(every_dsn, *merchant_terms(), fee_bps=50) as house:
        await live(house, seed=9, length=150)
        legs = await house.pool.fetch(
            "SELECT count(*) AS legs, sum(cu) AS sum FROM settlement.posting GROUP BY part, seq"
        )
        assert {(row["legs"], int(row["sum"])) for row in legs} == {(4, 0)}
        cycles = await house.pool.fetch(
            "SELECT sum(cu) AS sum FROM settlement.posting GROUP BY cycle_no"
        )
        assert len(cycles) > 2
        assert {int(row["sum"]) for row in cycles} == {0}
        assert (
            await house.pool.fetch(
                """
            SELECT cycle_no, merchant_no, sum(cu) FROM settlement.posting GROUP BY 1, 2 HAVING sum(cu) <> 0
            EXCEPT
            SELECT cycle_no, merchant_no, net_cu FROM settlement.position
            """
            )
            == []
        )
