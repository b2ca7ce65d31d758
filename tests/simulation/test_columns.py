"""Requests of columns on a running writer: their keys, their repeats, and what cannot be booked among them."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exchange.programme.core.command import Accrual, AnyCommand
from schemas.values.faults import Unavailable
from schemas.values.ids import new_uuid7
from schemas.values.reason import Reason
from settlement.core.columns import OrderColumns, entry_column
from settlement.core.command import Answer, Order
from settlement.core.event import Kind
from settlement.service.link import LinkServer, RemoteClearing
from tests.simulation.compare import assert_audits_clean
from tests.simulation.ground import BODY, House, new_key, open_house, terms

MANY = 150
"""Enough for a stretch."""
OTHER = b"\1" * 16
_random = iter(range(10**9))


def timed_key(house: House) -> bytes:
    """A key that tells the writer's own time, so that it need not be looked up."""
    return new_uuid7(lambda _: next(_random), lambda: house.clock.us * 1000).bytes


async def give_points(house: House) -> None:
    """Let member 7 hold points of A."""
    await house.submit(
        Accrual(
            caller=0, key=new_key(), body=BODY, member_no=7, merchant_no=house.numbers["A"], units=10**6
        )
    )  # fmt: skip


def orders_of(house: House, count: int = MANY, **changes: Any) -> list[Order]:
    """Redemptions of A's points at B; half of the keys tell a time."""
    given: dict[str, Any] = {
        "caller": 0, "body": BODY, "issuer": house.numbers["A"], "acceptor": house.numbers["B"],
        "member_no": 7, "units": 1, "debit_cu": 100, "value_cu": 100, "fee_cu": 1, "rate_no": 1,
        "hosted": True,
    }  # fmt: skip
    return [
        Order(key=timed_key(house) if row % 2 else new_key(), **(given | changes))
        for row in range(count)
    ]


def same(answers: list[Answer], table: list[list[int]]) -> bool:
    """Whether single answers are what the columns say."""
    return [list(entry_column(answer[0])) for answer in answers] == [
        list(column) for column in zip(*table, strict=True)
    ]


async def columns(house: House, orders: list[Order]) -> list[list[int]]:
    """Send orders as columns."""
    table: list[list[int]] = (
        (await house.writer.submit_columns(OrderColumns.of(orders))).table().tolist()
    )
    return table


async def test_a_key_decides_once_alone_or_in_columns_stored_or_in_flight(dsn: str):
    """Rule I1: sent together and again, in columns and alone, every key gets its first answer."""
    async with open_house(dsn, terms("A", cap_cu=10_000), terms("B")) as house:
        await give_points(house)
        orders = orders_of(house)
        before = await house.submit(*orders[:3])
        first, again, alone, conflict = await asyncio.gather(
            columns(house, orders),
            columns(house, [*orders[::-1], *orders]),
            house.submit(*orders),
            columns(house, [msgspec.structs.replace(order, body=OTHER) for order in orders]),
        )
        assert same(alone, first)
        assert alone[:3] == before
        assert [row[MANY:] for row in again] == first
        assert [row[:MANY][::-1] for row in again] == first
        assert set(conflict[1]) == {Kind.REFUSED}
        assert set(conflict[2]) == {Reason.IDEMPOTENCY_CONFLICT.number}
        # The cap of 10,000 CU carries a hundred orders of 100 CU, the first hundred.
        assert [row.count(Kind.CLEARED) for row in (first[1], first[1][:100])] == [100, 100]
        assert await house.submit(*orders) == alone
        assert await columns(house, orders) == first
        assert house.writer.figures.duplicates == 3 + 2 * MANY + MANY + MANY + 2 * MANY
        await assert_audits_clean(house.pool)


async def test_an_order_of_columns_that_cannot_be_booked_harms_no_other(
    dsn: str, monkeypatch: pytest.MonkeyPatch
):
    """Rule B8: what the database refuses is found among the columns and answered alone."""
    monkeypatch.setattr("settlement.service.block.STRETCH_MIN", 1)
    async with open_house(dsn, terms("A"), terms("B")) as house:
        await give_points(house)
        orders = orders_of(house, 4)
        orders[1] = msgspec.structs.replace(orders[1], reference="a\0b")
        table = await columns(house, [*orders, orders[0]])
        assert table[1] == [Kind.CLEARED, Kind.REFUSED, *[Kind.CLEARED] * 3]
        assert table[2] == [0, Reason.CANNOT_BE_BOOKED.number, 0, 0, 0]
        assert table[0][0] == table[0][4]
        await assert_audits_clean(house.pool)


async def test_columns_cross_the_link_and_broken_ones_do_not(dsn: str, tmp_path: Path):
    """A gateway's columns are decided as the writer's own; a frame whose columns do not fit is cut off."""
    async with open_house(dsn, terms("A"), terms("B")) as house:
        await give_points(house)
        server = LinkServer(house.writer, tmp_path / "w.sock", AnyCommand)
        await server.start()
        remote = RemoteClearing(tmp_path / "w.sock", timeout_seconds=5)
        await remote.start()
        try:
            orders = orders_of(house)
            sent = OrderColumns.of(orders)
            far, near = await asyncio.gather(remote.submit_columns(sent), remote.submit(orders))
            assert same(near, far.table().tolist())
            # A gateway sends again for as long as its caller waits.
            remote._timeout_seconds = 0.3
            with pytest.raises(Unavailable):
                await remote.submit_columns(msgspec.structs.replace(sent, bodies=b""))
        finally:
            await remote.stop()
            await server.stop()
