"""What users of other clearing systems complained of, tried on the real writer and on PostgreSQL.

Pains that belong to one part have their tests there: closing and calendars, funding, reconciliation, corrections.
"""

from __future__ import annotations

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.values.amounts import CU_PER_FEN
from schemas.values.reason import Reason
from settlement.core.command import End, ExpireHolds, SettleCycle
from settlement.core.event import Kind
from settlement.core.instruction import HOUSE_LEG, instruct
from settlement.core.reversal import Amounts, Cleared
from tests.simulation.ground import BODY, HOUR_US, House, new_key, open_house, order_of, terms

A, B = terms("A", hosted=False, cap_cu=10_000), terms("B", hosted=False)


async def states(house: House) -> dict[int, str]:
    """Every cycle's state, as it is stored."""
    rows = await house.pool.fetch("SELECT cycle_no, state FROM settlement.cycle")
    return {row["cycle_no"]: row["state"] for row in rows}


def settle(cycle_no: int) -> SettleCycle:
    """The wish to settle a cycle."""
    return SettleCycle(caller=0, key=new_key(), body=BODY, cycle_no=cycle_no)


def end(house: House, order_seq: int, kind: Kind) -> End:
    """The wish to end an accepted order."""
    return End(caller=house.numbers["B"], key=bytes(16), body=BODY, order_seq=order_seq, kind=kind)


async def test_window_and_settlement_states_never_contradict_each_other(dsn: str):
    """A cycle is open, closed, settled, in that order and once each; writer, table and headroom agree."""
    async with open_house(dsn, A, B) as house:
        await house.submit(order_of(house, "A", "B", 8_000))
        assert (await house.one(settle(1))).reason == Reason.CYCLE_NOT_CLOSED.number
        assert await states(house) == {1: "open"}
        await house.close_cycle(1, "second")
        assert await states(house) == {1: "closed", 2: "open"}
        blocked = await house.one(order_of(house, "A", "B", 8_000))
        assert blocked.reason == Reason.NET_DEBIT_CAP_EXCEEDED.number, "what is closed still weighs"
        assert (await house.one(settle(1))).kind == Kind.CYCLE_SETTLED
        assert await states(house) == {1: "settled", 2: "open"}
        assert (await house.one(order_of(house, "A", "B", 8_000))).kind == Kind.CLEARED
        assert (await house.one(settle(1))).reason == Reason.CYCLE_NOT_CLOSED.number
        [again] = await house.close_cycle(1, "third")
        assert again.reason == Reason.CYCLE_NOT_OPEN.number
        assert await states(house) == {1: "settled", 2: "open"}
        owner = await asyncpg.connect(dsn)
        try:
            for wrong in ("state = 'open'", "settled_at = NULL", "closed_at = NULL"):
                with pytest.raises(asyncpg.CheckViolationError):
                    await owner.execute(f"UPDATE settlement.cycle SET {wrong} WHERE cycle_no = 1")
        finally:
            await owner.close()


async def test_timeouts_release_positions(dsn: str):
    """A hold that nobody ended in time gives back exactly the headroom that it took, and moves no position."""
    async with open_house(dsn, A, B) as house:
        whole = order_of(house, "A", "B", 10_000, hold_us=HOUR_US)
        assert (await house.one(whole)).kind == Kind.ACCEPTED
        again = await house.one(order_of(house, "A", "B", 1, hold_us=HOUR_US))
        assert again.reason == Reason.NET_DEBIT_CAP_EXCEEDED.number
        house.clock.us += HOUR_US
        [expired] = await house.submit(ExpireHolds(caller=0, key=new_key(), body=BODY))
        assert [entry.kind for entry in expired] == [Kind.EXPIRED]
        assert await house.pool.fetchval("SELECT sum(held_cu)::int FROM settlement.account") == 0
        assert await house.pool.fetchval("SELECT count(*) FROM settlement.position") == 0
        assert (await house.one(order_of(house, "A", "B", 10_000))).kind == Kind.CLEARED


async def test_a_rejected_hold_cannot_be_committed_and_a_void_is_not_doubled(dsn: str):
    """What was voided stays voided: a later clearing is refused with that, and a second void changes nothing."""
    async with open_house(dsn, A, B) as house:
        held = await house.one(order_of(house, "A", "B", 10_000, hold_us=HOUR_US))
        voided = await house.one(end(house, held.seq, Kind.VOIDED))
        assert voided.kind == Kind.VOIDED
        late = await house.one(end(house, held.seq, Kind.CLEARED))
        assert late.reason == Reason.ORDER_ALREADY_VOIDED.number
        assert await house.one(end(house, held.seq, Kind.VOIDED)) == voided
        assert await house.pool.fetchval("SELECT sum(held_cu)::int FROM settlement.account") == 0
        kinds = "SELECT count(*) FROM settlement.event WHERE order_seq = $1 AND kind IN (3, 4, 5)"
        assert await house.pool.fetchval(kinds, held.seq) == 1


@given(
    st.integers(1, 10**9),
    st.integers(1, 10**12),
    st.lists(st.integers(1, 10**9), min_size=1, max_size=8),
    st.integers(0, 10_000),
)
def test_decimals_lose_nothing_and_percentage_splits_sum(units, debit_cu, weights, fee_bps):
    """Parts of an order, whatever their sizes, sum to it to the last 0.0001 yuan, in every figure."""
    value_cu = debit_cu - debit_cu % CU_PER_FEN
    whole = Amounts(units, debit_cu, value_cu, value_cu * fee_bps // 10_000, 0)
    order = Cleared(1, 1, 0, 1, 2, 7, 1, 0, "", whole)
    total = sum(weights)
    parts = []
    for weight in weights:
        share = min(order.left_units, units * weight // total)
        if share:
            parts.append(order.share(share))
            order = order.without(parts[-1], 2)
    if order.left_units:
        parts.append(order.share(order.left_units))
    assert tuple(map(sum, zip(*parts, strict=True))) == whole
    assert all(figure >= 0 for part in parts for figure in part)


@given(st.lists(st.lists(st.integers(-(10**9), 10**9), min_size=3, max_size=3), max_size=12))
def test_payments_in_fen_lose_nothing_over_any_number_of_cycles(cycles):
    """What was paid and what is carried come to the sum of all figures, for each party, over any number of cycles."""
    carries: dict[int, int] = {}
    paid = dict.fromkeys((1, 2, 3), 0)
    for figures in cycles:
        nets = dict(enumerate(figures, 1)) | {-1: -sum(figures)}
        instructions = instruct(nets=nets, carries=carries)
        assert sum(one.pay_fen for one in instructions) == 0
        carries = {one.party: one.carry_after_cu for one in instructions if one.party != HOUSE_LEG}
        for one in instructions:
            if one.party != HOUSE_LEG:
                paid[one.party] += one.pay_fen
    for party in paid:
        owed = sum(figures[party - 1] for figures in cycles)
        assert CU_PER_FEN * paid[party] + carries.get(party, 0) == owed
        assert abs(carries.get(party, 0)) < CU_PER_FEN
