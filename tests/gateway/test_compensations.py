"""Compensation over HTTP: a merchant at fault gives points at its own cost, both or neither."""

from __future__ import annotations

from settlement.service.audit import audit_books, audit_snapshot
from settlement.service.trail import audit_trail
from tests.gateway.conftest import House, fresh_key, shared


async def position(house: House, code: str) -> int:
    """What a merchant's figure in the open cycle is, CU."""
    net_cu: int | None = await house.pool.fetchval(
        """
        SELECT net_cu FROM settlement.position AS p JOIN settlement.merchant AS m USING (merchant_no)
         WHERE m.code = $1
        """,
        code,
    )
    return net_cu or 0


@shared
async def test_a_merchant_at_fault_compensates_at_its_own_cost(shared_house: House):
    """Rule W7: another's points cost their issue rate, rounded up, in the same write; one's own cost nothing."""
    house = shared_house
    path, wish = "/v1/compensations", {"member": "anna", "merchant": "AIR", "choice": "points"}
    before = await position(house, "EYE"), await position(house, "AIR")
    key, body = fresh_key(), wish | {"units": "3", "reference": "case 7"}
    given = await house.call("POST", path, body, key=key, caller="EYE")
    again = await house.call("POST", path, body, key=key, caller="EYE")
    for answer in (given, again):
        assert answer.status == 201, answer.raw
        assert (answer.body["units"], answer.body["merchant"]) == ("3", "AIR")
    cost = int(given.body["cost_cu"])
    assert cost >= 3 * 333
    after = await position(house, "EYE"), await position(house, "AIR")
    assert after == (before[0] - cost, before[1] + cost)
    lines = await house.pool.fetch(
        "SELECT caller, order_seq, debit_cu, reference FROM settlement.event WHERE kind = 6"
    )
    assert [tuple(row)[1:] for row in lines] == [(0, cost, "compensation points case 7")]
    own = await house.call("POST", path, body | {"choice": "bonus"}, key=fresh_key(), caller="AIR")
    assert (own.status, own.body["cost_cu"]) == (201, "0")
    assert "adjustment_id" not in own.body
    assert (await position(house, "EYE"), await position(house, "AIR")) == after
    changed = await house.call("POST", path, body | {"units": "4"}, key=key, caller="EYE")
    assert (changed.status, changed.reason) == (422, "idempotency_conflict")
    for change, caller, status, reason in (
        ({"merchant": "OWN"}, "EYE", 422, "not_hosted"),
        ({"merchant": "NOBODY"}, "EYE", 422, "unknown_merchant"),
        ({"member": "nobody-here"}, "EYE", 422, "unknown_member"),
        ({"choice": "else"}, "EYE", 400, "malformed_request"),
        ({}, "house", 403, "forbidden"),
    ):
        refused = await house.call("POST", path, body | change, key=fresh_key(), caller=caller)
        assert (refused.status, refused.reason) == (status, reason), refused.raw
    assert (await position(house, "EYE"), await position(house, "AIR")) == after
    async with audit_snapshot(house.pool) as conn:
        report = await audit_books(conn)
        assert report.differences == []
        told, _, _ = await audit_trail(conn)
    assert told.clean, told.differences
