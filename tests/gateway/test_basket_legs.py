"""Baskets over merchants' own systems: held everywhere first, then decided as one, then captured or given back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from adapters.kit.contract import Step
from adapters.kit.simulator.faults import Fault
from schemas.values.faults import Unavailable
from tests.gateway.conftest import Answer, soon
from tests.gateway.test_baskets import outcomes
from tests.gateway.test_journeys import MALL, PATIENT, TILLS, Town, town
from tests.simulation.compare import assert_audits_clean

if TYPE_CHECKING:
    from exchange.core.journey import Wanted
    from settlement.core.command import Entry

__all__ = ["town"]

LEGS = ({"issuer": TILLS, "units": "100"}, {"issuer": MALL, "units": "50"})


async def pay(town: Town, *parts: dict[str, str], key: str = "bill", **more: Any) -> Answer:
    """Send one bill of Anna's at the eyewear shop."""
    bill = {"member": "anna", "acceptor": "EYE", "parts": list(parts), **PATIENT, **more}
    return await town.house.call("POST", "/v1/baskets", bill, key=key, caller="EYE")


async def ready(town: Town) -> dict[str, int]:
    """Link both accounts and give miles; returns what Anna has at the two merchants."""
    for code in (TILLS, MALL):
        assert (await town.link(code)).status == 201
    await town.house.accrue("anna", "AIR", 1_000)
    return {code: town.units(code) for code in (TILLS, MALL)}


def moved(town: Town, code: str) -> list[Step]:
    """What a merchant's system did for the order so far."""
    return [entry.step for entry in town.running[code].stage.ledger.entries]


async def settled(town: Town) -> None:
    """Wait until no journey is under way, and check the books."""

    async def ended() -> bool:
        open_ones = "SELECT count(*) FROM exchange.journey WHERE ended_at IS NULL"
        return bool(await town.house.pool.fetchval(open_ones) == 0)

    await soon(ended)
    assert await town.house.pool.fetchval("SELECT count(*) FROM settlement.hold") == 0
    await assert_audits_clean(town.house.pool)


async def test_points_of_three_systems_pay_one_bill(town: Town):
    """Rule G5: hosted points and those of two merchants' own systems clear in one command, and are captured then."""
    before = await ready(town)
    answer = await pay(town, LEGS[0], {"issuer": "AIR", "units": "10"}, LEGS[1])
    assert outcomes(answer) == ["cleared"] * 3
    assert (answer.body["status"], answer.body["value_cu"]) == ("cleared", "18300")
    assert await town.house.net() == {
        TILLS: -10000, MALL: -5000, "AIR": -3330, "EYE": 18209, "HOUSE:fees": 91, "HOUSE:rounding": 30,
    }  # fmt: skip
    await settled(town)
    assert {code: before[code] - town.units(code) for code in before} == {TILLS: 100, MALL: 50}
    assert moved(town, TILLS) == [Step.HOLD, Step.CAPTURE]
    for part in answer.body["parts"]:
        view = await town.house.call("GET", f"/v1/orders/{part['order_id']}", caller="EYE")
        assert view.body["status"] == "cleared"
        assert "problem" not in view.body
    again = await pay(town, LEGS[0], {"issuer": "AIR", "units": "10"}, LEGS[1])
    assert again.raw == answer.raw
    conflict = await pay(town, LEGS[0])
    assert conflict.reason == "idempotency_conflict"


@pytest.mark.parametrize("poor", ["a hosted part", "a leg"])
async def test_what_was_held_is_given_back_where_one_part_does_not_fit(town: Town, poor: str):
    """Rule G5: if one part cannot be, whoever held points for the bill gives them back, and the answer stays."""
    before = await ready(town)
    parts: dict[str, list[dict[str, str]]] = {
        "a hosted part": [*LEGS, {"issuer": "AIR", "units": "1001"}],
        "a leg": [*LEGS, {"issuer": TILLS, "units": "900000"}],
    }
    answer = await pay(town, *parts[poor])
    assert outcomes(answer) == ["basket_not_covered", "basket_not_covered", "insufficient_points"]
    assert (answer.body["status"], await town.house.net()) == ("refused", {})
    await settled(town)
    assert {code: town.units(code) for code in before} == before
    assert moved(town, TILLS) == [Step.HOLD, Step.RELEASE]
    again = await pay(town, *parts[poor])
    assert outcomes(again) == outcomes(answer)


async def test_legs_that_fit_are_paid_where_that_is_allowed(town: Town):
    """Rule G3: in a partial basket a leg is an order of its own."""
    await ready(town)
    parts = (LEGS[0], {"issuer": TILLS, "units": "900000"}, {"issuer": "AIR", "units": "10"})
    answer = await pay(town, *parts, partial=True)
    assert outcomes(answer) == ["cleared", "insufficient_points", "cleared"]
    assert (answer.body["status"], answer.body["value_cu"]) == ("partial", "13300")
    await settled(town)
    again = await pay(town, *parts, partial=True)
    assert (outcomes(again), again.body["value_cu"]) == (outcomes(answer), "13300")


async def test_a_dead_merchant_leaves_the_bill_unpaid_in_time(town: Town):
    """Rule G5: the till hears by `decide_by`, and what others held for the bill is given back."""
    before = await ready(town)
    for operation in ("hold", "status"):
        town.fails(MALL, Fault.TIMEOUT_BEFORE, operation=operation, times=1_000)
    began = time.monotonic()
    answer = await pay(town, *LEGS, decide_by_seconds=2)
    assert time.monotonic() - began < 2.95  # Three seconds are the default.
    town.works(MALL)
    assert outcomes(answer) == ["basket_not_covered", "decided_too_late"]

    async def given_back() -> bool:
        return moved(town, TILLS) == [Step.HOLD, Step.RELEASE]

    await soon(given_back)
    assert {code: town.units(code) for code in before} == before


@pytest.mark.parametrize("hosted", [(), ({"issuer": "AIR", "units": "10"},)])
async def test_a_basket_is_decided_once_whoever_dies(
    town: Town, monkeypatch: pytest.MonkeyPatch, hosted: tuple[dict[str, str], ...]
):
    """Rule G6: if nobody tells the legs, they ask the books; a repeat hears how it was decided."""
    before = await ready(town)
    passage = town.house.services.baskets._passage
    send = passage.send

    async def dying(wanted: Wanted) -> Entry:
        if not wanted.waits:
            raise Unavailable("the gateway died")
        return await send(wanted)

    monkeypatch.setattr(passage, "send", dying)
    first = await pay(town, *LEGS, *hosted, decide_by_seconds=1)
    assert set(outcomes(first)) == {"cleared"}
    assert (await pay(town, *LEGS, *hosted, decide_by_seconds=1)).raw == first.raw
    assert moved(town, TILLS) == [Step.HOLD]
    await settled(town)
    assert moved(town, TILLS) == [Step.HOLD, Step.CAPTURE]
    assert {code: before[code] - town.units(code) for code in before} == {TILLS: 100, MALL: 50}
    assert (await pay(town, *LEGS, *hosted, decide_by_seconds=1)).raw == first.raw


async def test_legs_without_their_basket_are_given_back(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    """Rule G6: a gateway that dies before the basket is decided leaves no hold behind."""
    before = await ready(town)

    async def die(*_: object, **__: object) -> None:
        raise Unavailable("the gateway died")

    desk = town.house.services.baskets
    monkeypatch.setattr(type(desk), "_submit", die)
    assert (await pay(town, *LEGS, decide_by_seconds=1)).status == 503
    await settled(town)
    assert {code: town.units(code) for code in before} == before
    monkeypatch.undo()
    assert (await pay(town, *LEGS, decide_by_seconds=1)).body["status"] == "refused"


async def test_a_leg_needs_a_linked_account(town: Town):
    """Rule G5: without a link the leg's part says so, and nobody is asked for anything."""
    await town.link(TILLS)
    bill = {"member": "anna", "acceptor": "EYE", "parts": [*LEGS]}
    wish = {"Tongdui-Sandbox-Fault": "hold=cut"}
    wished = await town.house.call("POST", "/v1/baskets", bill, key="wish", headers=wish)
    assert (wished.status, wished.body["field"]) == (400, "Tongdui-Sandbox-Fault")
    answer = await pay(town, *LEGS)
    assert outcomes(answer) == ["basket_not_covered", "member_not_authorised"]
    await settled(town)
    assert moved(town, MALL) == []
