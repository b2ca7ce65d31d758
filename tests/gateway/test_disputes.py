"""Disputes over HTTP: merchants open, answer and read their own, in both forms, page by page."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.files.corrections import COLUMNS
from schemas.wire.disputes import DisputesAnswer
from settlement.core.dispute import Figures
from settlement.core.trail import By
from settlement.service import disputes
from settlement.service.trail import audit_trail
from tests.gateway.conftest import AIR, House, fresh_key, shared


async def opened(house: House, **changes: Any) -> Any:
    """An order of AIR's points at EYE, and AIR's case about it."""
    await house.accrue("anna", "AIR", 100)
    order = await house.order(AIR | {"units": "10"}, caller="EYE")
    assert order.status == 201, order.raw
    body = {"order_id": order.body["order_id"], "text": "charged twice"} | changes
    case = await house.call("POST", "/v1/disputes", body, key=fresh_key(), caller="AIR")
    assert case.status == 201, case.raw
    return order.body, case.body


async def assert_the_order_shows(house: House, order: Any, case: Any) -> None:
    """The order shows what was booked to both merchants and the house, the same figures and line; to nobody else."""
    path = f"/v1/orders/{order['order_id']}"
    for caller in ("AIR", "EYE", "house"):
        shown = (await house.call("GET", path, caller=caller)).body
        [booked] = shown["adjustments"]
        figures = [booked[name] for name in ("debit_cu", "value_cu", "fee_cu", "remainder_cu")]
        assert figures == ["-10", "-10", "0", "0"]
        assert booked["reference"].endswith(f" {case['dispute']}")
        assert (booked["cycle"], "reversals" in shown) == (case["cycle"], False)
        assert shown["debit_cu"] == order["debit_cu"]
    assert (await house.call("GET", path, caller="OWN")).status == 404


@shared
async def test_a_case_goes_from_its_opening_to_what_is_booked(shared_house: House):
    """Rules W1 to W4: both merchants see and hear the case, nobody else does; the house's decision is shown to both."""
    house = shared_house
    order, case = await opened(house)
    path = f"/v1/disputes/{case['dispute']}"
    assert (case["state"], case["opener"], case["claim"]["debit_cu"]) == (
        "opened", "AIR", f"-{order['debit_cu']}",
    )  # fmt: skip
    for stranger in (
        await house.call("GET", path, caller="OWN"),
        await house.call("POST", f"{path}/steps", {"step": "evidence", "text": "x"}, key=fresh_key(), caller="OWN"),
        await house.call("GET", "/v1/disputes/D999999", caller="AIR"),
        await house.call("GET", "/v1/disputes/12", caller="AIR"),
    ):  # fmt: skip
        assert (stranger.status, stranger.reason) == (404, "dispute_not_found"), stranger.raw
    own = {"step": "answer", "text": "no"}
    mine = await house.call("POST", f"{path}/steps", own, key=fresh_key(), caller="AIR")
    assert (mine.status, mine.reason) == (409, "dispute_step_not_yours")
    file = {"sha256": "ab" * 32, "bytes": 12}
    answer = {"step": "answer", "text": "the till says no", "file": file}
    told = await house.call("POST", f"{path}/steps", answer, key=fresh_key(), caller="EYE")
    assert (told.status, told.body["state"]) == (201, "answered"), told.raw
    assert told.body["steps"][0]["file"] == file
    by = By(who="person:anna", second="person:ben", why="half each")
    number, now = disputes.dispute_no(case["dispute"]), house.services.now()
    async with house.pool.acquire() as conn, conn.transaction():
        granted = Figures(-10, -10, 0)
        digest = await disputes.decide(conn, number, granted=granted, by=by, at=now)
    assert isinstance(digest, bytes)
    assert await disputes.book(house.pool, house.writer, number, at=now) is None
    for caller in ("AIR", "EYE", "house"):
        seen = (await house.call("GET", path, caller=caller)).body
        assert (seen["state"], seen["steps"][-1]["granted"]["debit_cu"]) == ("accepted", "-10")
        assert seen["booked"]["cycle"] == seen["cycle"]
    for caller, count in (("AIR", 1), ("EYE", 1), ("OWN", 0)):
        heard = await house.call("GET", "/v1/events?limit=500", caller=caller)
        booked = [each for each in heard.body["events"] if each["type"] == "adjustment.booked"]
        concerned = [each for each in booked if each["data"]["order_id"] == order["order_id"]]
        assert [each["data"]["debit_cu"] for each in concerned] == ["-10"] * count
    await assert_the_order_shows(house, order, case)
    late = await house.call("POST", f"{path}/steps", answer, key=fresh_key(), caller="EYE")
    assert (late.status, late.reason) == (409, "dispute_ended")
    async with house.pool.acquire() as conn:
        report, _, _ = await audit_trail(conn)
    assert report.clean, report.differences


@shared
async def test_a_modified_duplicate_of_a_dispute_gets_the_right_error(shared_house: House):
    """Rule W1: the same wish under its key gets its case again, another one `idempotency_conflict`, for steps too."""
    house = shared_house
    order, case = await opened(house)
    await house.accrue("anna", "AIR", 100)
    other = await house.order(AIR | {"units": "10"}, caller="EYE")
    key, body = fresh_key(), {"order_id": other.body["order_id"], "text": "wrong goods"}
    for _ in range(2):
        first = await house.call("POST", "/v1/disputes", body, key=key, caller="EYE")
        assert (first.status, first.body["opener"]) == (201, "EYE"), first.raw
    for change in ({"text": "else"}, {"order_id": order["order_id"]}):
        changed = await house.call("POST", "/v1/disputes", body | change, key=key, caller="EYE")
        assert (changed.status, changed.reason) == (422, "idempotency_conflict"), changed.raw
    exists = await house.call("POST", "/v1/disputes", body, key=fresh_key(), caller="AIR")
    assert (exists.status, exists.reason) == (409, "dispute_exists")
    path, step_key = f"/v1/disputes/{case['dispute']}/steps", fresh_key()
    step = {"step": "evidence", "text": "the receipt"}
    for _ in range(2):
        told = await house.call("POST", path, step, key=step_key, caller="EYE")
        assert (told.status, len(told.body["steps"])) == (201, 1)
    changed = await house.call("POST", path, step | {"text": "x"}, key=step_key, caller="EYE")
    assert (changed.status, changed.reason) == (422, "idempotency_conflict")
    for wrong, field in (
        ({"order_id": "x"}, "$.order_id"),
        ({"claim": {"debit_cu": "-1", "value_cu": "0"}}, "$.claim"),
        ({"claim": {"debit_cu": "01", "value_cu": "0", "fee_cu": "0"}}, "$.claim.debit_cu"),
        ({"text": "x" * 2_001}, "$.text"),
    ):
        bad = await house.call("POST", "/v1/disputes", body | wrong, key=fresh_key(), caller="AIR")
        assert bad.status == 400, bad.raw
        assert field in bad.raw.decode()


@shared
async def test_disputes_are_read_page_by_page_in_both_forms(shared_house: House):
    """Each merchant pages through its own cases, newest first, as JSON and as msgpack; nobody else's stand there."""
    house = shared_house
    for _ in range(2):
        await opened(house)
    names: list[str] = []
    path: str | None = "/v1/disputes?limit=1"
    while path:
        page = (await house.call("GET", path, caller="EYE")).body
        names += [each["dispute"] for each in page["disputes"]]
        path = page["next"] and f"/v1/disputes?limit=1&after={page['next']}"
    assert len(names) >= 2
    assert names == sorted(set(names), key=lambda name: -int(name[1:]))
    packed = await house.call(
        "GET", "/v1/disputes", caller="EYE", headers={"Accept": "application/msgpack"}
    )
    read = msgspec.msgpack.decode(packed.raw, type=DisputesAnswer)
    assert [each.dispute for each in read.disputes] == names
    assert (await house.call("GET", "/v1/disputes", caller="OWN")).body == {
        "disputes": [],
        "next": None,
    }


@shared
async def test_a_merchant_hands_a_file_of_reversals_over_itself(shared_house: House):
    """Rule W5: tried, taken and repeated over HTTP; wrong totals, strangers' orders and adjustments refuse it whole."""
    house = shared_house
    order, _ = await opened(house)
    row = f"reverse,{order['order_id']},,,4,,,,CNY,"
    head = ",".join(COLUMNS)

    def wish(rows: str, total: str, **more: Any) -> dict[str, Any]:
        return {"file": f"{head}\n{rows}\n{total}\n"} | more

    good = "TOTAL,1,,,4,0,0,0,CNY,"
    for body, caller, field in (
        (wish(row, "TOTAL,2,,,4,0,0,0,CNY,"), "EYE", "line 3, order"),
        (wish(row, good), "AIR", "line 2, order"),
        (
            wish("adjust,,AIR,EYE,,1,1,0,CNY,", "TOTAL,1,,,0,1,1,0,CNY,"),
            "EYE",
            "line 2, kind",
        ),
    ):
        refused = await house.call("POST", "/v1/corrections", body, caller=caller)
        assert refused.status == 400, refused.raw
        assert field in refused.raw.decode()
    for body, booked, before in (
        (wish(row, good, dry_run=True), 0, False),
        (wish(row, good), 1, False),
        (wish(row, good), 1, True),
    ):
        done = await house.call("POST", "/v1/corrections", body, caller="EYE")
        assert done.status == 200, done.raw
        assert (done.body["booked"], done.body["taken_before"], done.body["refused"]) == (
            booked, before, [],
        )  # fmt: skip
    seen = await house.call("GET", f"/v1/orders/{order['order_id']}", caller="EYE")
    assert seen.body["reversed_units"] == "4"
    assert (await house.call("POST", "/v1/corrections", wish(row, good))).status == 403
