"""Reversals over HTTP: parts add up, points come back, what cannot be taken back is refused for good."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from schemas.values.ids import HOUSE
from settlement.core.command import SetCap
from settlement.core.event import Kind
from tests.gateway.conftest import AIR, Answer, House
from tests.simulation.compare import assert_audits_clean
from tests.simulation.ground import BODY, new_key

_keys = itertools.count(1)
FIGURES = ("units", "debit_cu", "value_cu", "fee_cu", "remainder_cu")


async def reverse(
    house: House, order_id: str, body: Any = None, *, caller: str = "EYE", key: str = ""
) -> Answer:
    """Ask for a reversal, under a fresh key unless one is given."""
    return await house.call(
        "POST",
        f"/v1/orders/{order_id}/reverse",
        body,
        key=key or f"reversal-{next(_keys)}",
        caller=caller,
    )


async def points(house: House, member: str, merchant: str) -> int:
    """Live points of a member."""
    path = f"/v1/members/{await house.token(member, merchant)}/balances"
    answer = await house.call("GET", path, caller=merchant)
    return sum(int(each["units"]) for each in answer.body["balances"])


async def test_parts_add_up_to_the_order(house: House):
    """Rules V1 to V3, V5: parts take back what the order was, to the last CU, and the points are there again."""
    before = await points(house, "anna", "AIR")
    order = (await house.order({**AIR, "units": "1001"}, caller="EYE")).body
    assert await points(house, "anna", "AIR") == before - 1001
    parts = [
        await reverse(house, order["order_id"], {"units": "1"}),
        await reverse(house, order["order_id"], {"units": "334", "reference": "refund-7"}),
        await reverse(house, order["order_id"], {}),
    ]
    assert [each.status for each in parts] == [201] * 3, parts
    for name in FIGURES:
        assert sum(int(each.body[name]) for each in parts) == int(order[name]), name
    assert await house.net() == {}
    assert await points(house, "anna", "AIR") == before
    shown = (await house.call("GET", f"/v1/orders/{order['order_id']}", caller="EYE")).body
    assert (shown["status"], shown["units"], shown["reversed_units"]) == ("cleared", "1001", "1001")
    assert [each["reversal_id"] for each in shown["reversals"]] == [
        each.body["reversal_id"] for each in parts
    ]
    path = f"/v1/members/{await house.token('anna', 'AIR')}/history"
    history = (await house.call("GET", path, caller="AIR")).body["lines"]
    assert [(each["kind"], each["units"]) for each in history[:4]] == [
        ("reversed", "666"), ("reversed", "334"), ("reversed", "1"), ("cleared", "1001"),
    ]  # fmt: skip
    assert {each["order_id"] for each in history[:4]} == {order["order_id"]}
    over = await reverse(house, order["order_id"], {"units": "1"})
    assert (over.status, over.reason) == (409, "reversal_exceeds_order")
    await assert_audits_clean(house.pool)


async def test_a_repeat_is_the_same_reversal(house: House):
    """Rule I2: the same key and body gives the same answer and moves nothing again; another body conflicts."""
    order = (await house.order({**AIR, "units": "100"}, caller="EYE")).body
    first = await reverse(house, order["order_id"], {"units": "40"}, key="once")
    assert first.status == 201
    assert (await reverse(house, order["order_id"], {"units": "40"}, key="once")).raw == first.raw
    other = await reverse(house, order["order_id"], {"units": "41"}, key="once")
    assert other.reason == "idempotency_conflict"
    rest = await reverse(house, order["order_id"])
    assert rest.body["units"] == "60"


async def test_who_may_ask(house: House):
    """Rule V1: the acceptor and the house; to the issuer, to others and for other ids there is no such order."""
    order = (await house.order({**AIR, "units": "100"}, caller="EYE")).body["order_id"]
    for caller in ("AIR", "OWN"):
        assert (await reverse(house, order, caller=caller)).reason == "order_not_found"
    for other in (order[:-1] + "f", "0" * 8 + order[8:], "x"):
        assert (await reverse(house, other)).reason == "order_not_found"
    assert (await reverse(house, order, {"units": "1"}, caller="house")).status == 201


@pytest.mark.parametrize(
    ("end", "reason"), [("", "order_not_cleared"), ("void", "order_already_voided")]
)
async def test_what_has_not_cleared_is_not_reversed(house: House, end: str, reason: str):
    """Rule V1: an accepted or voided order is refused with how it stands; a cleared one is taken back."""
    own = {"issuer": "OWN", "acceptor": "EYE", "member": "anna", "units": "10"}
    order = (await house.order(own, caller="EYE")).body["order_id"]
    if end:
        await house.call("POST", f"/v1/orders/{order}/{end}", caller="EYE")
    refused = await reverse(house, order, key="k")
    assert (refused.status, refused.reason) == (409, reason)
    if end:
        return
    await house.call("POST", f"/v1/orders/{order}/clear", caller="EYE")
    assert (await reverse(house, order, key="k")).reason == reason  # Final for its key.
    assert (await reverse(house, order)).status == 201
    assert await house.net() == {}


async def test_credited_points_that_are_spent_cannot_be_taken_back(house: House):
    """Rule V5: an exchange is reversed as long as its new points are there; else nothing of it is done."""
    order = (await house.order({**AIR, "units": "100", "kind": "exchange"}, caller="EYE")).body
    given = int(order["credited_units"])
    assert await points(house, "anna", "EYE") == given
    part = await reverse(house, order["order_id"], {"units": "50"})
    assert int(part.body["credited_units"]) == given // 2
    assert await points(house, "anna", "EYE") == given - given // 2
    spend = {"issuer": "EYE", "acceptor": "AIR", "member": "anna", "units": "1"}
    spent = (await house.order(spend, caller="AIR")).body
    net = await house.net()
    refused = await reverse(house, order["order_id"])
    assert (refused.status, refused.reason) == (409, "points_spent")
    assert await house.net() == net
    assert (await reverse(house, spent["order_id"], caller="AIR")).status == 201
    assert (await reverse(house, order["order_id"])).status == 201
    assert await points(house, "anna", "EYE") == 0
    await assert_audits_clean(house.pool)


async def test_a_breach_stops_new_orders_and_not_the_reversal(house: House):
    """Rule V4: a reversal passes an acceptor's cap; from then on its points are refused, until it is healed."""
    await house.accrue("ben", "EYE", 100)
    order = (await house.order({**AIR, "units": "100"}, caller="EYE")).body
    eye = (await house.services.shelf.offer()).catalogue.by_code["EYE"]
    [cap] = await house.writer.submit(
        [SetCap(caller=HOUSE, key=new_key(), body=BODY, merchant_no=eye, cap_cu=0)]
    )
    assert cap[0].kind == Kind.CAP_SET
    spend = {"issuer": "EYE", "acceptor": "AIR", "member": "ben", "units": "10"}
    assert (await house.order(spend, caller="AIR")).status == 201  # Credits of the cycle carry it.
    assert (await reverse(house, order["order_id"])).status == 201
    assert house.writer.figures.breaches == 1
    assert (await house.order(spend, caller="AIR")).reason == "net_debit_cap_exceeded"
