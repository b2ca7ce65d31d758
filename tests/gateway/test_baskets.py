"""Baskets over HTTP: one bill, several issuers, all of it or nothing or what fits."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway.conftest import Answer, House
from tests.gateway.test_codes import code_of, protect

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _fresh_catalogue(monkeypatch):
    """The writer reads reference data for every group."""
    monkeypatch.setattr("exchange.programme.service.rider.CATALOGUE_SECONDS", -1.0)


@pytest_asyncio.fixture
async def till(house: House) -> House:
    """Anna has 10,000 miles and 500 points of the eyewear shop, and pays at a shop with its own system."""
    await house.accrue("anna", "EYE", 500)
    return house


async def pay(
    house: House, *parts: dict[str, str], key: str | None = None, caller: str = "OWN", **more: Any
) -> Answer:
    """Send one bill."""
    bill = {"member": "anna", "acceptor": "OWN", "parts": list(parts)} | more
    return await house.call(
        "POST", "/v1/baskets", bill, key=key or f"bill-{next(_numbers)}", caller=caller
    )


def outcomes(answer: Answer) -> list[str]:
    """What became of each part: its status, or its reason."""
    assert answer.status == 200, answer.raw
    return [
        part.get("problem", {}).get("reason") or part["status"] for part in answer.body["parts"]
    ]


async def units(house: House) -> dict[str, str]:
    """Anna's live points."""
    answer = await house.call("GET", f"/v1/members/{await house.token('anna')}/balances")
    return {each["merchant"]: each["units"] for each in answer.body["balances"]}


async def test_points_of_two_issuers_pay_one_bill_exactly(till: House):
    """Rule G1: each part is an order of its own; together they are worth the bill to the fen."""
    answer = await pay(
        till, {"issuer": "AIR", "value_fen": "700"}, {"issuer": "EYE", "units": "300"}
    )
    assert outcomes(answer) == ["cleared", "cleared"]
    body = answer.body
    assert (body["status"], body["value_cu"], body["value_yuan"]) == (
        "cleared",
        "100000",
        "10.0000",
    )
    air, eye = body["parts"]
    assert (air["units"], air["debit_cu"], air["remainder_cu"]) == ("211", "70263", "263")
    assert (eye["units"], eye["value_cu"]) == ("300", "30000")
    assert await till.net() == {
        "AIR": -70263,
        "EYE": -30000,
        "OWN": 99500,
        "HOUSE:fees": 500,
        "HOUSE:rounding": 263,
    }
    for part in body["parts"]:
        shown = await till.call("GET", f"/v1/orders/{part['order_id']}", caller="OWN")
        assert (shown.body["status"], shown.body["debit_cu"]) == ("cleared", part["debit_cu"])


@pytest.mark.parametrize("forgotten", [False, True])
async def test_one_part_that_does_not_fit_leaves_the_whole_bill_unpaid(
    till: House, forgotten: bool
):
    """Rule G2: the part says why, the others that they were not done; points and positions stay, and so the answer."""
    before = await units(till)
    parts = ({"issuer": "AIR", "units": "10"}, {"issuer": "EYE", "units": "501"})
    answer = await pay(till, *parts, key="bill")
    assert outcomes(answer) == ["basket_not_covered", "insufficient_points"]
    assert (answer.body["status"], answer.body["value_cu"]) == ("refused", "0")
    assert (await units(till), await till.net()) == (before, {})
    await till.accrue("anna", "EYE", 500)
    if forgotten:
        await till.writer._take_over(expected=None)
    assert (await pay(till, *parts, key="bill")).raw == answer.raw
    other = await pay(till, *parts, key="bill", reference="another bill")
    assert (other.status, other.reason) == (422, "idempotency_conflict")
    assert outcomes(await pay(till, *parts)) == ["cleared", "cleared"]


async def test_what_fits_is_paid_where_that_is_allowed(till: House):
    """Rule G3: each part stands alone, and the answer says how much of the bill is confirmed."""
    answer = await pay(
        till,
        {"issuer": "EYE", "units": "501"},
        {"issuer": "AIR", "units": "100"},
        {"issuer": "EYE", "units": "400"},
        {"issuer": "EYE", "units": "101"},
        partial=True,
    )
    assert outcomes(answer) == [
        "insufficient_points",
        "cleared",
        "cleared",
        "insufficient_points",
    ]
    assert (answer.body["status"], answer.body["value_cu"]) == ("partial", "73300")
    assert await units(till) == {"AIR": "9900", "EYE": "100"}
    nothing = await pay(till, {"issuer": "EYE", "units": "101"}, partial=True)
    assert nothing.body["status"] == "refused"


async def test_parts_of_one_issuer_are_looked_at_together(till: House):
    """Rule G2: points, caps and limits must carry all parts at once; the first that is too much says so."""
    halves = [{"issuer": "EYE", "units": "300"}] * 2
    assert outcomes(await pay(till, *halves)) == ["basket_not_covered", "insufficient_points"]
    await protect(till, "EYE", orders=1)
    halves = [{"issuer": "EYE", "units": "100"}] * 2
    assert outcomes(await pay(till, *halves)) == ["basket_not_covered", "member_limit_exceeded"]
    assert outcomes(await pay(till, halves[0])) == ["cleared"]
    code = await code_of(till, acceptor="OWN", units_max="10")
    halves = [{"issuer": "AIR", "units": "10", "code": code}] * 2
    assert outcomes(await pay(till, *halves)) == ["basket_not_covered", "code_spent"]
    assert outcomes(await pay(till, *halves, partial=True)) == ["cleared", "code_spent"]


async def test_baskets_that_race_for_the_same_points_pay_once_each_as_a_whole(till: House):
    """Rule G1: nothing comes between the parts, so of two bills that need the same points one is paid, whole."""
    parts = ({"issuer": "AIR", "units": "6000"}, {"issuer": "EYE", "units": "10"})
    answers = await asyncio.gather(*(pay(till, *parts) for _ in range(8)))
    assert sorted(answer.body["status"] for answer in answers) == ["cleared", *["refused"] * 7]
    assert await units(till) == {"AIR": "4000", "EYE": "490"}


async def test_what_is_wrong_with_a_part_is_said_in_its_place(till: House):
    """Rule G2: what the gateway finds is written down like every other refusal."""
    await protect(till, "AIR", "code")
    ill = [
        ({"issuer": "NOBODY", "units": "1"}, "unknown_merchant"),
        ({"issuer": "OWN", "units": "1"}, "same_merchant"),
        ({"issuer": "AIR", "units": "1"}, "member_not_authorised"),
        ({"issuer": "AIR", "units": "1", "code": "x"}, "member_not_authorised"),
        ({"issuer": "EYE", "units": "999999999999999"}, "amount_above_maximum"),
    ]
    answer = await pay(till, {"issuer": "EYE", "units": "1"}, *(part for part, _ in ill))
    assert outcomes(answer) == ["basket_not_covered", *(reason for _, reason in ill)]
    at_eye = await pay(till, {"issuer": "OWN", "units": "1"}, acceptor="EYE", caller="EYE")
    assert outcomes(at_eye) == ["not_hosted"]
    stranger = await pay(till, {"issuer": "EYE", "units": "1"}, member="nobody")
    assert outcomes(stranger) == ["unknown_member"]


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ([], "$.parts"),
        ([{"issuer": "AIR"}], "$.parts[0].units"),
        ([{"issuer": "AIR", "units": "1", "value_fen": "1"}], "$.parts[0].value_fen"),
        ([{"issuer": "AIR", "units": "0"}], "$.parts[0].units"),
        ([{"issuer": "AIR", "units": "1"}] * 17, "$.parts"),
    ],
)
async def test_malformed_bills_name_the_field(till: House, parts: list[dict], field: str):
    """A bill that cannot be read is no bill; nothing of it is stored."""
    answer = await pay(till, *parts)
    assert (answer.reason, answer.body["field"]) == ("malformed_request", field)


async def test_only_the_acceptor_sends_its_bills(till: House):
    """A merchant acts for itself only."""
    part = {"issuer": "AIR", "units": "1"}
    assert (await pay(till, part, caller="AIR")).status == 403
    assert outcomes(await pay(till, part, caller="house")) == ["cleared"]
