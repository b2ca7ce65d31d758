"""Members, accruals, purchases, balances and histories over HTTP."""

from __future__ import annotations

import pytest

from tests.gateway.conftest import House, fresh_key, shared

ACCRUAL = {"member": "ben", "merchant": "EYE", "units": "500"}


async def accrue(house: House, change: dict, *, key: str = "k", caller: str = "house"):
    """Post an accrual."""
    return await house.call("POST", "/v1/accruals", ACCRUAL | change, key=key, caller=caller)


async def test_accrual_makes_a_lot(house: House):
    """Points are given once for a key, live for the programme's term, and show in the balance."""
    first = await accrue(house, {}, caller="EYE")
    assert first.status == 201
    assert (first.body["units"], first.body["merchant"]) == ("500", "EYE")
    assert (await accrue(house, {}, caller="EYE")).raw == first.raw
    balances = await house.call(
        "GET", f"/v1/members/{await house.token('ben', 'EYE')}/balances", caller="EYE"
    )
    [balance] = balances.body["balances"]
    assert (balance["units"], balance["worth_cu"]) == ("500", "50000")
    assert balance["lots"] == [{"units": "500", "expires_at": first.body["expires_at"]}]


@shared
@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"merchant": "NONE"}, 422, "unknown_merchant"),
        ({"merchant": "OWN"}, 422, "not_hosted"),
        ({"member": "nobody"}, 422, "unknown_member"),
        ({"occurred_at": "2001-01-01T00:00:00Z"}, 422, "till_time_out_of_range"),
    ],
)
async def test_accrual_refusals_are_final(shared_house: House, change, status, reason):
    """A refused accrual stays refused under its key; another body under it conflicts."""
    key = fresh_key()
    for _ in range(2):
        answer = await accrue(shared_house, change, key=key)
        assert (answer.status, answer.reason) == (status, reason)
    assert (await accrue(shared_house, {}, key=key)).reason == "idempotency_conflict"


async def test_merchant_gives_only_its_own_points(house: House):
    """Another merchant's points cannot be given."""
    answer = await accrue(house, {}, caller="AIR")
    assert (answer.status, answer.reason) == (403, "forbidden")


async def test_enrolling_again_changes_nothing(house: House):
    """Members are enrolled in bulk; who is one already stays one, and double names count once."""
    anna = (await house.services.members.find(["anna"]))["anna"]
    before = await house.pool.fetch("SELECT * FROM exchange.member_name WHERE member_no = $1", anna)
    answer = await house.call("POST", "/v1/members", {"members": ["anna", "carl", "carl"]})
    assert answer.body["enrolled"] == 2
    first, carl, again = answer.body["tokens"]
    assert first != carl == again
    assert (
        await house.pool.fetch("SELECT * FROM exchange.member_name WHERE member_no = $1", anna)
        == before
    )
    many = await house.call("POST", "/v1/members", {"members": [f"m{n}" for n in range(10_000)]})
    assert (many.body["enrolled"], len(set(many.body["tokens"]))) == (10_000, 10_000)


@shared
@pytest.mark.parametrize(
    ("members", "field"),
    [
        ([], "$.members"),
        (["a b"], "$.members[0]"),
        (["ok", "ä"], "$.members[1]"),
        (["x" * 65], "$.members[0]"),
        (["x"] * 10_001, "$.members"),
    ],
)
async def test_malformed_enrolment_names_the_field(shared_house: House, members, field):
    """References are 1 to 64 visible ASCII characters, at most 10,000 at once."""
    answer = await shared_house.call("POST", "/v1/members", {"members": members})
    assert (answer.status, answer.body["field"]) == (400, field)


@pytest.mark.parametrize("packed", [False, True])
async def test_purchases_redeem_then_accrue_in_order(house: House, packed):
    """A purchase spends other programmes' points for its discount and earns its own, strictly in order."""

    def fen(number: int) -> object:
        return number if packed else str(number)

    await house.accrue("ben", "EYE", 40)
    wishes = [
        {"key": "1", "member": "ben", "merchant": "AIR", "amount_fen": fen(700), "discount_fen": fen(45)},
        {"key": "2", "member": "ben", "merchant": "EYE", "amount_fen": fen(99), "discount_fen": fen(5)},
        {"key": "3", "member": "nobody", "merchant": "EYE", "amount_fen": fen(1)},
        {"key": "4", "member": "ben", "merchant": "NONE", "amount_fen": fen(1)},
        {"key": "5", "member": "ben", "merchant": "OWN", "amount_fen": fen(1)},
        {"key": "6", "member": "ben", "merchant": "EYE", "amount_fen": fen(1), "discount_fen": -1},
        {"key": "1", "member": "ben", "merchant": "AIR", "amount_fen": fen(700), "discount_fen": fen(45)},
        {"key": "1", "member": "ben", "merchant": "AIR", "amount_fen": fen(701), "discount_fen": fen(45)},
    ]  # fmt: skip
    answer = await house.call("POST", "/v1/purchases/bulk", wishes, packed=packed)
    assert answer.status == 200
    first, second, *rest = answer.body
    assert [each["status"] for each in answer.body] == [
        "booked", "booked", "refused", "refused", "refused", "malformed", "booked", "refused",
    ]  # fmt: skip
    # 45 fen are 4,500 CU: 40 points of 100 CU pay 4,000, and 500 stay unfunded; 7 miles are earned,
    assert (first["earned_units"], first["unfunded_cu"]) == (fen(7), fen(500))
    assert first["orders"][0]["value_cu"] == fen(4000)
    # of which the next purchase spends two for its 500 CU.
    [order] = second["orders"]
    assert (order["issuer"], order["units"], order["value_cu"]) == ("AIR", fen(2), fen(500))
    assert second["unfunded_cu"] == fen(0)
    assert "lot_no" not in second
    assert [each["problem"]["reason"] for each in rest if each["status"] == "refused"] == [
        "unknown_member",
        "unknown_merchant",
        "not_hosted",
        "idempotency_conflict",
    ]
    assert rest[3]["problem"]["field"] == "$[5].discount_fen"
    assert rest[4] == first
    shown = await house.call("GET", f"/v1/orders/{order['order_id']}", caller="AIR")
    assert shown.body["value_cu"] == "500"


async def test_purchase_refused_for_a_cap_asks_the_next_issuer(house: House):
    """An order of a purchase that its issuer's cap refuses is shown as such."""
    terms = {"spend": {"cu": "100", "units": "1"}, "cap_cu": "99", "hosted": True}
    body = {"code": "TIGHT", "name": "tight"} | terms
    assert (await house.call("POST", "/v1/merchants", body)).status == 201
    await house.accrue("ben", "TIGHT", 10)
    wish = {"key": "1", "member": "ben", "merchant": "AIR", "amount_fen": "0", "discount_fen": "1"}
    answer = await house.call("POST", "/v1/purchases/bulk", [wish])
    [order] = answer.body[0]["orders"]
    assert (order["status"], order["reason"]) == ("refused", "net_debit_cap_exceeded")
    assert answer.body[0]["unfunded_cu"] == "100"


async def test_purchase_that_would_earn_beyond_every_limit_is_refused(house: House):
    """Earned points stay below 10^15: more is above the maximum, and the writer never sees it."""
    body = {"code": "BIG", "name": "big", "spend": {"cu": "1", "units": "1"}, "cap_cu": "1"}
    body |= {"earn_units": "999999999999999", "earn_fen": "1"}
    assert (await house.call("POST", "/v1/merchants", body)).status == 201
    wish = {"key": "1", "member": "ben", "merchant": "BIG", "amount_fen": "9999999999999"}
    answer = await house.call("POST", "/v1/purchases/bulk", [wish])
    assert answer.body[0]["problem"]["reason"] == "amount_above_maximum"


async def test_merchant_sends_only_its_own_purchases(house: House):
    """A purchase at another merchant is forbidden, and its key stays free."""
    wish = {"key": "1", "member": "ben", "merchant": "AIR", "amount_fen": "500"}
    answer = await house.call("POST", "/v1/purchases/bulk", [wish], caller="EYE")
    assert answer.body[0]["problem"]["reason"] == "forbidden"
    answer = await house.call("POST", "/v1/purchases/bulk", [wish], caller="AIR")
    assert answer.body[0]["status"] == "booked"


async def test_a_merchant_sees_its_own_part_of_a_member(house: House):
    """Balances are of the caller's programme, histories of its own events; the house sees everything."""
    await house.accrue("anna", "EYE", 50)
    order = {"member": "anna", "issuer": "AIR", "acceptor": "EYE", "units": "10"}
    assert (await house.order(order)).status == 201

    async def balances(caller: str) -> dict[str, str]:
        answer = await house.call(
            "GET", f"/v1/members/{await house.token('anna', caller)}/balances", caller=caller
        )
        return {each["merchant"]: each["units"] for each in answer.body["balances"]}

    async def history(caller: str) -> list[tuple[str, str]]:
        answer = await house.call(
            "GET", f"/v1/members/{await house.token('anna', caller)}/history", caller=caller
        )
        return [(line["kind"], line["issuer"]) for line in answer.body["lines"]]

    assert await balances("house") == {"AIR": "9990", "EYE": "50"}
    assert await balances("AIR") == {"AIR": "9990"}
    assert await balances("OWN") == {}
    cleared, accrued_eye, accrued_air = ("cleared", "AIR"), ("accrued", "EYE"), ("accrued", "AIR")
    assert await history("house") == [cleared, accrued_eye, accrued_air]
    assert await history("AIR") == [cleared, accrued_air]
    assert await history("EYE") == [cleared, accrued_eye]
    assert await history("OWN") == []


async def test_history_comes_in_pages_and_names_orders(house: House):
    """Pages go back without gap or overlap; what spent points carries the order's id."""
    orders = []
    for kind in ("redemption", "exchange", "redemption"):
        order = {"member": "anna", "issuer": "AIR", "acceptor": "EYE", "units": "10", "kind": kind}
        orders.append((await house.order(order)).body["order_id"])
    lines, before = [], ""
    while True:
        answer = await house.call(
            "GET", f"/v1/members/{await house.token('anna')}/history?limit=2{before}"
        )
        lines += answer.body["lines"]
        if answer.body["next"] is None:
            break
        before = f"&after={answer.body['next']}"
    assert [line["kind"] for line in lines] == ["cleared", "cleared", "cleared", "accrued"]
    assert [line.get("order_id") for line in lines] == [*reversed(orders), None]
    assert lines[1]["credited_units"] == "33"


@shared
@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "after=0", "after=-1"])
async def test_malformed_query_names_the_parameter(shared_house: House, query):
    """A page size or a place that is no number in range is 400."""
    token = await shared_house.token("anna")
    answer = await shared_house.call("GET", f"/v1/members/{token}/history?{query}")
    assert (answer.status, answer.body["field"]) == (400, "?" + query.partition("=")[0])


@shared
@pytest.mark.parametrize(
    "reference", ["nobody", "anna", "mt_" + 26 * "a", "%00", "a%20b", "%F0%9F%98%80", "x" * 65]
)
async def test_unknown_member_is_not_found(shared_house: House, reference):
    """A path that names no member is 404."""
    for page in ("balances", "history"):
        answer = await shared_house.call("GET", f"/v1/members/{reference}/{page}")
        assert (answer.status, answer.reason) == (404, "unknown_member")


async def test_expired_points_are_no_balance(house: House):
    """Points count until the instant of their expiry, and not longer."""
    answer = await accrue(house, {})
    assert answer.status == 201
    house.clock.advance(366 * 86_400)
    balances = await house.call("GET", f"/v1/members/{await house.token('ben')}/balances")
    assert balances.body["balances"] == []
