"""Households over HTTP: rules, invitations, consents, leaving, transfers, and what others may see of them."""

import asyncio
import re
import uuid
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from exchange.programme.service.audit import audit_lots
from exchange.service.privacy import erase_member, export_member
from exchange.service.vaults import VaultDoor
from exchange.store.leaving import snapshot
from schemas.wire.households import BOUNDS
from settlement.service.audit import audit_snapshot
from settlement.service.trail import By
from tests.documents.text import ROOT
from tests.gateway.conftest import Answer, House, fresh_key, shared

DAY_SECONDS = 24 * 3600
CONSENT = {"purpose": "share points with my family", "text_version": "2026-11"}
RULES: dict[str, Any] = {
    "offered": True, "members_max": 3, "transfer_units_max": "500", "daily_units": "600",
    "daily_transfers": 4, "monthly_units": "5000", "monthly_transfers": 40, "cooling_days": 30,
}  # fmt: skip


async def rules(house: House, caller: str = "AIR", code: str = "AIR", **changes: Any) -> Answer:
    """Set the rules of a programme."""
    path = f"/v1/merchants/{code}/household-rules"
    return await house.call("PUT", path, RULES | changes, caller=caller)


async def family(house: House, *names: str, units: int = 0) -> tuple[str, list[str]]:
    """A household at AIR of new members: its path, and AIR's tokens, the head's first."""
    assert (await rules(house)).status == 200
    tokens = [await house.token(f"{name}-{uuid.uuid4()}", "AIR") for name in names]
    made = await house.call("POST", "/v1/households", {"head": tokens[0]} | CONSENT, caller="AIR")
    assert made.status == 201, made.raw
    path = f"/v1/households/{made.body['household_id']}"
    for token in tokens[1:]:
        await invite(house, path, tokens[0], token)
        joined = await join(house, path, token)
        assert joined.status == 200, joined.raw
    if units:
        await accrue(house, tokens[0], units)
    return path, tokens


async def accrue(house: House, token: str, units: int) -> None:
    """Give points of AIR."""
    body = {"member": token, "merchant": "AIR", "units": str(units)}
    answer = await house.call("POST", "/v1/accruals", body, key=fresh_key(), caller="AIR")
    assert answer.status == 201, answer.raw


async def invite(house: House, path: str, by: str, member: str, caller: str = "AIR") -> Answer:
    """Invite somebody."""
    body = {"by": by, "member": member}
    return await house.call("POST", f"{path}/invitations", body, caller=caller)


async def join(house: House, path: str, member: str, caller: str = "AIR") -> Answer:
    """Join by a consent."""
    return await house.call("POST", f"{path}/members", {"member": member} | CONSENT, caller=caller)


async def leave(house: House, path: str, by: str, member: str, caller: str = "AIR") -> Answer:
    """Leave, or have somebody leave."""
    return await house.call("POST", f"{path}/leave", {"by": by, "member": member}, caller=caller)


async def give(
    house: House, path: str, giver: str, receiver: str, units: int, *, key: str = "", caller: str = "AIR"
) -> Answer:  # fmt: skip
    """Give points."""
    body = {"giver": giver, "receiver": receiver, "units": str(units)}
    return await house.call(
        "POST", f"{path}/transfers", body, key=key or fresh_key(), caller=caller
    )


async def units(house: House, token: str) -> int:
    """Live points of AIR."""
    answer = await house.call("GET", f"/v1/members/{token}/balances", caller="AIR")
    return sum(int(each["units"]) for each in answer.body["balances"])


@shared
async def test_a_household_from_its_making_to_its_end(shared_house: House):
    """Rules H2 and H3: head, invitation, consent, removal and the head's leaving, as the views tell them."""
    house = shared_house
    path, (head, wife, son) = await family(house, "head", "wife", "son")
    seen = (await house.call("GET", path, caller="AIR")).body
    assert (seen["merchant"], seen["state"]) == ("AIR", "active")
    assert [(each["member"], each["head"], each["state"]) for each in seen["members"]] == [
        (head, True, "joined"),
        (wife, False, "joined"),
        (son, False, "joined"),
    ]
    assert (await leave(house, path, wife, son)).reason == "head_only"
    assert len((await leave(house, path, head, son)).body["members"]) == 2
    assert (await leave(house, path, head, son)).reason == "not_in_household"
    ended = await leave(house, path, head, head)
    assert (ended.body["state"], ended.body["members"]) == ("dissolved", [])
    assert (await leave(house, path, wife, wife)).reason == "household_not_found"
    rows = await house.pool.fetch(
        """
        SELECT left_why, purpose, text_version, joined_at <= left_at AS ordered
          FROM exchange.household_member WHERE household_id = $1 ORDER BY membership_no
        """,
        uuid.UUID(path.rpartition("/")[2]),
    )
    assert [tuple(row) for row in rows] == [
        (why, CONSENT["purpose"], CONSENT["text_version"], True)
        for why in ("left", "dissolved", "removed")
    ]


@shared
async def test_who_may_join(shared_house: House):
    """Rule H2: only who is invited, only once, as many as may, and not right after another household."""
    house = shared_house
    path, (head, wife) = await family(house, "head", "wife")
    other, (stranger, _) = await family(house, "stranger", "cousin")
    son, late = [await house.token(f"{each}-{uuid.uuid4()}", "AIR") for each in ("son", "late")]
    assert (await join(house, path, son)).reason == "not_invited"
    assert (await invite(house, path, wife, son)).reason == "head_only"
    assert (await invite(house, path, stranger, son)).reason == "head_only"
    assert (await invite(house, path, head, son)).body["members"][2]["state"] == "invited"
    assert len((await invite(house, path, head, son)).body["members"]) == 3
    assert (await invite(house, path, head, late)).reason == "household_full"
    assert len((await leave(house, path, son, son)).body["members"]) == 2  # declined
    assert (await join(house, path, son)).reason == "not_invited"
    await invite(house, path, head, late)
    assert len((await leave(house, path, head, late)).body["members"]) == 2  # taken back
    await invite(house, path, head, stranger)
    assert (await join(house, path, stranger)).reason == "already_in_household"
    again = await house.call("POST", "/v1/households", {"head": wife} | CONSENT, caller="AIR")
    assert again.reason == "already_in_household"
    assert len((await join(house, path, wife)).body["members"]) == 3  # again is harmless
    await leave(house, other, stranger, stranger)
    cooling = await join(house, path, stranger)
    assert (cooling.status, cooling.reason) == (409, "household_cooling")
    assert "may join from" in cooling.body["detail"]
    made = await house.call("POST", "/v1/households", {"head": stranger} | CONSENT, caller="AIR")
    assert made.reason == "household_cooling"


@shared
async def test_a_member_s_households(shared_house: House):
    """Rules H1 and H2: those that a member is in or may join, of the caller's programme; the house sees them all."""
    house = shared_house
    path, (head, wife) = await family(house, "head", "wife")
    other, (cousin, _) = await family(house, "cousin", "aunt")
    await invite(house, other, cousin, wife)

    async def seen(token: str, caller: str) -> list[str]:
        answer = await house.call("GET", f"/v1/members/{token}/households", caller=caller)
        return [f"/v1/households/{each['household_id']}" for each in answer.body["households"]]

    assert await seen(wife, "AIR") == [path, other]
    await leave(house, path, wife, wife)
    assert await seen(wife, "AIR") == [other]
    assert await seen(head, "AIR") == [path]
    anna = [await house.token("anna", caller) for caller in ("AIR", "EYE", "house")]
    body = {"head": anna[0]} | CONSENT
    made = await house.call("POST", "/v1/households", body, caller="AIR")
    mine = f"/v1/households/{made.body['household_id']}"
    assert [await seen(token, caller) for token, caller in zip(anna, ("AIR", "EYE", "house"), strict=True)] == [
        [mine], [], [mine],
    ]  # fmt: skip
    unknown = await house.call("GET", f"/v1/members/{wife}/households", caller="EYE")
    assert (unknown.status, unknown.reason) == (404, "unknown_member")


async def test_waiting_ends_cooling_and_invitations(house: House):
    """Rule H2: an invitation counts for seven days; after the cooling days who left may join again."""
    path, (head, wife) = await family(house, "head", "wife")
    son = await house.token("son", "AIR")
    await leave(house, path, wife, wife)
    await invite(house, path, head, son)
    house.clock.advance(7 * DAY_SECONDS)
    assert (await join(house, path, son)).reason == "not_invited"
    await invite(house, path, head, wife)
    assert (await join(house, path, wife)).reason == "household_cooling"
    house.clock.advance(23 * DAY_SECONDS)
    await invite(house, path, head, wife)
    assert (await join(house, path, wife)).status == 200


@shared
async def test_a_transfer(shared_house: House):
    """Rules P5 and H4: it has an order's id, both sides' histories, and the same answer for its key."""
    house = shared_house
    path, (head, wife) = await family(house, "head", "wife", units=400)
    key = fresh_key()
    made = await give(house, path, head, wife, 150, key=key)
    assert made.status == 201, made.raw
    body = made.body
    assert (body["state"], body["units"], body["merchant"]) == ("cleared", "150", "AIR")
    assert (body["giver"], body["receiver"]) == (head, wife)
    assert (await give(house, path, head, wife, 150, key=key)).body == body
    assert (await give(house, path, head, wife, 151, key=key)).reason == "idempotency_conflict"
    shown = await house.call("GET", f"{path}/transfers/{body['order_id']}", caller="AIR")
    assert shown.body == body
    assert [await units(house, each) for each in (head, wife)] == [250, 150]
    for token, kind in ((head, "given"), (wife, "received")):
        history = await house.call("GET", f"/v1/members/{token}/history", caller="AIR")
        line = history.body["lines"][0]
        assert (line["kind"], line["units"], line["order_id"]) == (kind, "150", body["order_id"])
    lots = (await house.call("GET", f"/v1/members/{head}/balances", caller="AIR")).body
    assert body["lots"][0]["expires_at"] == lots["balances"][0]["lots"][0]["expires_at"]
    # It is no order between merchants: it can be neither cleared, voided, reversed nor read as one.
    for method, end in (("POST", "/clear"), ("POST", "/void"), ("POST", "/reverse"), ("GET", "")):
        answer = await house.call(
            method, f"/v1/orders/{body['order_id']}{end}", key=fresh_key() if method == "POST" else None,
            caller="AIR",
        )  # fmt: skip
        assert answer.reason == "order_not_found"
    # The receiver may give the points back.
    assert (await give(house, path, wife, head, 150)).status == 201
    assert [await units(house, each) for each in (head, wife)] == [400, 0]


@shared
@pytest.mark.parametrize(
    ("giver", "receiver", "points", "status", "reason"),
    [
        ("head", "wife", 501, 409, "transfer_limit_exceeded"),
        ("head", "wife", 401, 409, "insufficient_points"),
        ("head", "head", 1, 422, "same_member"),
        ("head", "stranger", 1, 409, "not_in_household"),
        ("stranger", "wife", 1, 409, "not_in_household"),
        ("nobody", "wife", 1, 422, "unknown_member"),
        ("head", "wife", 0, 400, "malformed_request"),
    ],
)
async def test_transfers_that_are_not_made(
    shared_house: House, giver: str, receiver: str, points: int, status: int, reason: str
):
    """Rule H6: each refusal has its reason, and is final for its key."""
    house = shared_house
    path, (head, wife) = await family(house, "head", "wife", units=400)
    stranger = await house.token(f"stranger-{uuid.uuid4()}", "AIR")
    who = {"head": head, "wife": wife, "stranger": stranger, "nobody": "mt_" + 26 * "a"}
    key = fresh_key()
    answer = await give(house, path, who[giver], who[receiver], points, key=key)
    assert (answer.status, answer.reason) == (status, reason)
    if reason in ("insufficient_points", "not_in_household"):
        await accrue(house, head, 100)
        await invite(house, path, head, stranger)
        await join(house, path, stranger)
        again = await give(house, path, who[giver], who[receiver], points, key=key)
        assert again.reason == reason


@shared
async def test_a_consent_that_is_withdrawn_counts_for_the_next_transfer(shared_house: House):
    """Rule H3: a transfer sent after the answer is refused; what was received stays and is spent as ever."""
    house = shared_house
    path, (head, wife) = await family(house, "head", "wife", units=400)
    assert (await give(house, path, head, wife, 100)).status == 201
    assert (await leave(house, path, wife, wife)).status == 200
    assert (await give(house, path, head, wife, 1)).reason == "not_in_household"
    assert (await give(house, path, wife, head, 1)).reason == "not_in_household"
    order = {"issuer": "AIR", "acceptor": "EYE", "member": wife, "units": "100"}
    cleared = await house.order(order, caller="AIR")
    assert cleared.status == 201, cleared.raw
    back = f"/v1/orders/{cleared.body['order_id']}/reverse"
    reversed_ = await house.call("POST", back, {}, key=fresh_key(), caller="EYE")
    assert reversed_.status == 201, reversed_.raw
    assert await units(house, wife) == 100


@shared
async def test_two_at_once_for_the_last_units(shared_house: House):
    """Rule H6: of transfers at once exactly those are made that points and limits allow."""
    house = shared_house
    path, (head, wife, son) = await family(house, "head", "wife", "son", units=250)
    answers = await asyncio.gather(
        *(give(house, path, head, each, 100) for each in (wife, son) * 4)
    )
    assert sorted(answer.status for answer in answers) == [201] * 2 + [409] * 6
    assert [await units(house, head), await units(house, wife) + await units(house, son)] == [
        50,
        200,
    ]


@shared
async def test_another_merchant_sees_nothing(shared_house: House):
    """Rule H1: another programme's household is nobody's, whatever its caller asks; the house sees it."""
    house = shared_house
    path, (head, wife) = await family(house, "head", "wife", units=400)
    made = await give(house, path, head, wife, 10)
    transfer = f"{path}/transfers/{made.body['order_id']}"
    mine, hers = [await house.token(f"eye-{uuid.uuid4()}", "EYE") for _ in range(2)]
    for answer in (
        await house.call("GET", path, caller="EYE"),
        await house.call("GET", transfer, caller="EYE"),
        await invite(house, path, mine, hers, caller="EYE"),
        await join(house, path, mine, caller="EYE"),
        await leave(house, path, mine, mine, caller="EYE"),
        await give(house, path, mine, hers, 1, caller="EYE"),
    ):
        assert (answer.status, answer.reason) == (404, "household_not_found")
    assert (await leave(house, path, head, wife, caller="EYE")).reason == "unknown_member"
    other, _ = await family(house, "other", "cousin")
    elsewhere = f"{other}/transfers/{made.body['order_id']}"
    assert (await house.call("GET", elsewhere, caller="AIR")).reason == "order_not_found"
    assert (await house.call("GET", transfer)).body["order_id"] == made.body["order_id"]
    assert (
        await house.call("GET", "/v1/merchants/AIR/household-rules", caller="EYE")
    ).status == 404
    assert (await rules(house, caller="EYE")).reason == "unknown_merchant"


@shared
@pytest.mark.parametrize("name", sorted(BOUNDS))
async def test_rules_are_within_the_bounds(shared_house: House, name: str):
    """Rule H5: a figure beyond the house's bounds is refused by name; RULES.md tells the same bounds."""
    least, most = BOUNDS[name]
    spell: Callable[[int], Any] = str if "units" in name else int
    for figure in (least - 1, most + 1):
        answer = await rules(shared_house, **{name: spell(figure)})
        assert (answer.status, answer.body["field"]) == (400, f"$.{name}")
    for figure in (least, most):
        assert (await rules(shared_house, **{name: spell(figure)})).status == 200
    told = (ROOT / "settlement/RULES.md").read_text(encoding="utf-8")
    assert re.search(rf"^ +\| `{name}` \| {least:,} to {most:,} \|$", told, re.MULTILINE)


@shared
async def test_rules_are_recorded_and_count_at_once(shared_house: House):
    """Rule H5: each change is in the trail with before and after; households end to give where none are offered."""
    house = shared_house
    path, (head, wife) = await family(house, "head", "wife", units=400)
    assert (await rules(house, offered=False)).body["offered"] is False
    assert (await give(house, path, head, wife, 1)).reason == "household_not_offered"
    for caller, code in (("AIR", "AIR"), ("EYE", "EYE"), ("OWN", "OWN")):
        wish = {"head": await house.token(f"x-{uuid.uuid4()}", caller)} | CONSENT
        answer = await house.call("POST", "/v1/households", wish, caller=caller)
        assert (answer.status, answer.reason) == (422, "household_not_offered"), code
    assert (await rules(house, caller="OWN", code="OWN")).reason == "household_not_offered"
    row = await house.pool.fetchrow(
        "SELECT * FROM settlement.trail WHERE action = 'household_rules.set' ORDER BY entry_no DESC LIMIT 1"
    )
    assert row is not None
    assert (row["subject"], row["who"][:4]) == ("AIR", "key:")
    assert '"offered": false' in row["after"]
    assert '"offered": true' in row["before"]


@shared
async def test_merchants_hear_of_transfers_without_names(shared_house: House):
    """An event tells the programme's merchant that points moved, and nobody of whom."""
    house = shared_house
    path, (head, wife) = await family(house, "head", "wife", units=400)
    made = (await give(house, path, head, wife, 10)).body
    query = "/v1/events?limit=500"
    events = (await house.call("GET", query, caller="AIR")).body["events"]
    [told] = [each for each in events if made["order_id"] in str(each)]
    assert told["type"] == "points.transferred"
    assert told["data"] == {
        "order_id": made["order_id"],
        "household_id": made["household_id"],
        "merchant": "AIR",
        "units": "10",
    }
    others = (await house.call("GET", query, caller="EYE")).body["events"]
    assert "points.transferred" not in {each["type"] for each in others}


@shared
async def test_export_and_erasure(shared_house: House):
    """Rules M5, M6 and H7: the export tells of households and transfers; erasing leaves nothing of the member there."""
    house = shared_house
    path, (head, wife) = await family(house, "head", "wife", units=40)
    await give(house, path, head, wife, 40)
    numbers = await house.services.members.find([head, wife], caller=1)
    vault = await VaultDoor(house.pool, house.home / "keys").vault()
    async with snapshot(house.pool) as conn:
        found: dict[str, Any] = await export_member(
            conn, vault, member_no=numbers[head], codes={1: "AIR"}
        )
    [membership] = found["households"]
    assert path.endswith(membership["household_id"])
    assert (membership["head"], membership["merchant"]) == (True, "AIR")
    assert {name: membership[name] for name in CONSENT} == CONSENT
    assert [each["kind"] for each in found["events"]] == ["accrued", "given"]
    assert str(numbers[wife]) not in str(found)
    erased = await erase_member(
        house.pool, member_no=numbers[head], forfeit=False, by=By(who="test:households"),
        now=house.services.now(),
    )  # fmt: skip
    assert erased is None
    left = await house.pool.fetch(
        "SELECT member_no, left_why FROM exchange.household_member WHERE household_id = $1",
        uuid.UUID(membership["household_id"]),
    )
    assert [tuple(row) for row in left] == [(numbers[wife], "dissolved")]
    seen = await house.call("GET", path, caller="AIR")
    assert (seen.body["state"], seen.body["members"]) == ("dissolved", [])
    assert (await units(house, wife)) == 40
    async with audit_snapshot(house.pool) as conn:
        assert (await audit_lots(conn)).differences == []


async def test_one_household_even_for_two_at_once(house: House):
    """Rule H2: a member who takes two invitations up at the same time is in one household."""
    first, (head, _) = await family(house, "head", "wife")
    second, (other, _) = await family(house, "other", "cousin")
    son = await house.token("son", "AIR")
    await invite(house, first, head, son)
    await invite(house, second, other, son)
    answers = await asyncio.gather(*(join(house, each, son) for each in (first, second) * 3))
    assert {answer.status for answer in answers} == {200, 409}
    joined = await house.pool.fetchval(
        """
        SELECT count(*) FROM exchange.household_member AS m
         WHERE member_no = $1 AND joined_at IS NOT NULL AND left_at IS NULL
        """,
        (await house.services.members.find([son], caller=1))[son],
    )
    assert joined == 1
    with pytest.raises(asyncpg.UniqueViolationError, match="household_member_in_one"):
        await house.pool.execute(
            """
            UPDATE exchange.household_member SET joined_at = now(), purpose = 'p', text_version = '1'
             WHERE joined_at IS NULL
            """
        )
