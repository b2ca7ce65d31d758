"""Authority over HTTP: spending codes, the issuer's confirmation, limits of members."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from exchange.core.catalogue import MemberRules
from exchange.programme.service.rider import ProgrammeRider
from exchange.service.onboarding import protect_members
from settlement.core.trail import PROGRAM
from tests.gateway.conftest import LONG_AGO, Answer, House

if TYPE_CHECKING:
    from exchange.core.catalogue import Authority

PLAIN = {"member": "anna", "issuer": "AIR", "acceptor": "EYE", "units": "10"}
HELD = {"member": "anna", "issuer": "OWN", "acceptor": "EYE", "units": "10"}
MAXIMUM = {"acceptor": "EYE", "units_max": "10"}


@pytest.fixture(autouse=True)
def _fresh_catalogue(monkeypatch):
    """The writer reads reference data for every group."""
    monkeypatch.setattr("exchange.programme.service.rider.CATALOGUE_SECONDS", -1.0)


async def protect(
    house: House, code: str, authority: Authority = "none", *, cu: int = 0, orders: int = 0
) -> None:
    """Put rules in force for a programme's members."""
    rules = MemberRules(effective_at_us=0, authority=authority, daily_cu=cu, daily_orders=orders)
    refused = await protect_members(
        house.pool, code=code, rules=rules, by=PROGRAM, now=LONG_AGO, effective_at=LONG_AGO
    )
    assert refused is None
    house.services.shelf.expire()


async def code_of(
    house: House, member: str = "anna", issuer: str = "AIR", **changes: object
) -> str:
    """A code of a member, by the issuer."""
    answer = await house.call(
        "POST",
        f"/v1/members/{await house.token(member, issuer)}/codes",
        MAXIMUM | changes,
        caller=issuer,
    )
    assert answer.status == 201, answer.raw
    return str(answer.body["code"])


def refused(answer: Answer) -> str:
    """Code of a refusal; empty for what was done."""
    return answer.reason if answer.status >= 400 else ""


async def test_a_spend_without_proof_is_refused_for_good(house: House):
    """Rule A1: without proof the order is refused, and the refusal stays the answer of its key."""
    await protect(house, "AIR", "code")
    first = await house.order(PLAIN, key="once", caller="EYE")
    assert (first.status, first.reason) == (403, "member_not_authorised")
    assert first.body["order_id"]
    again = await house.order(PLAIN, key="once", caller="EYE")
    assert again.body["order_id"] == first.body["order_id"]
    with_code = PLAIN | {"code": await code_of(house)}
    other = await house.order(with_code, key="once", caller="EYE")
    assert other.reason == "idempotency_conflict"
    assert await house.net() == {}


async def test_a_code_pays_once(house: House):
    """Rule A3: one code, one order; the same key again is the same answer, another key is refused."""
    await protect(house, "AIR", "code")
    wish = PLAIN | {"code": await code_of(house)}
    first = await house.order(wish, key="first", caller="EYE")
    assert (first.status, first.body["status"]) == (201, "cleared")
    assert (await house.order(wish, key="first", caller="EYE")).raw == first.raw
    second = await house.order(wish, key="second", caller="EYE")
    assert (second.status, second.reason) == (409, "code_spent")
    bulk = await house.call(
        "POST", "/v1/orders/bulk", [wish | {"key": "third"}, wish | {"key": "fourth"}], caller="EYE"
    )
    assert [each["problem"]["reason"] for each in bulk.body] == ["code_spent"] * 2
    assert (await house.net())["AIR"] == -3330


async def test_a_code_cannot_be_raced(house: House):
    """Rule A3: of many orders with one code at the same moment one clears, also over different ways."""
    await protect(house, "AIR", "code")
    wish = PLAIN | {"code": await code_of(house)}
    singles = [house.order(wish, caller="EYE") for _ in range(20)]
    bulk = house.call(
        "POST",
        "/v1/orders/bulk",
        [wish | {"key": f"bulk {number}".replace(" ", "-")} for number in range(20)],
        caller="EYE",
    )
    *answers, together = await asyncio.gather(*singles, bulk)
    outcomes = [refused(answer) for answer in answers]
    outcomes += [each.get("problem", {}).get("reason", "") for each in together.body]
    assert sorted(outcomes) == ["", *["code_spent"] * 39]


async def test_a_code_of_a_refused_order_is_not_used(house: House):
    """Rule A3: an order that was refused for something else leaves its code as it was."""
    await protect(house, "AIR", "code")
    code = await code_of(house, units_max="20000")
    poor = await house.order(PLAIN | {"code": code, "units": "10001"}, caller="EYE")
    assert poor.reason == "insufficient_points"
    assert (await house.order(PLAIN | {"code": code}, caller="EYE")).status == 201


async def test_a_used_code_stays_used_after_a_take_over(house: House):
    """Rule A3: the next writer knows which codes were used."""
    await protect(house, "AIR", "code")
    used, unused = await code_of(house), await code_of(house)
    assert (await house.order(PLAIN | {"code": used}, caller="EYE")).status == 201
    house.writer._rider.discard()
    again = await house.order(PLAIN | {"code": used}, caller="EYE")
    assert again.reason == "code_spent"
    assert (await house.order(PLAIN | {"code": unused}, caller="EYE")).status == 201


async def altered(house: House, name: str) -> dict[str, Any]:
    """An order whose code does not cover it."""
    code = await code_of(house)
    if name == "another acceptor":
        code = await code_of(house, acceptor="OWN")
    elif name == "another member":
        code = await code_of(house, "ben")
    elif name == "another issuer":
        code = await code_of(house, issuer="OWN")
    elif name == "more units":
        return PLAIN | {"code": code, "units": "11"}
    elif name == "more value":
        code = await code_of(house, units_max="99", value_fen_max="32")
    elif name == "too late":
        house.clock.advance(61)
    elif name == "another byte":
        code = code[:20] + ("A" if code[20] != "A" else "B") + code[21:]
    elif name == "a quote":
        quoted = await house.call(
            "POST", "/v1/quotes", {"issuer": "AIR", "acceptor": "EYE", "units": "10"}
        )
        code = quoted.body["offers"][-1]["token"]
    else:
        code = name
    return PLAIN | {"code": code}


@pytest.mark.parametrize("asked", ["none", "code"])
async def test_a_code_counts_for_what_it_is_bound_to(house: House, asked: Authority):
    """Rule A2: for anything else, or later, it is no proof, even where no proof is needed."""
    await protect(house, "AIR", asked)
    for name in (
        "another acceptor", "another member", "another issuer", "more units", "more value",
        "another byte", "a quote", "1234", "too late",
    ):  # fmt: skip
        answer = await house.order(await altered(house, name), caller="EYE")
        assert (answer.status, refused(answer)) == (403, "member_not_authorised"), name


async def test_the_issuers_own_order_is_its_confirmation(house: House):
    """Rule A1: the issuer needs no code; where it asks to confirm itself, a code is no proof."""
    await protect(house, "AIR", "code")
    assert (await house.order(PLAIN, caller="AIR")).status == 201
    await protect(house, "OWN", "issuer")
    assert (await house.order(HELD, caller="OWN")).body["status"] == "accepted"
    code = await code_of(house, issuer="OWN")
    answers = [await house.order(HELD, caller="EYE"), await house.order(HELD)]
    answers.append(await house.order(HELD | {"code": code}, caller="EYE"))
    assert [answer.reason for answer in answers] == ["member_not_authorised"] * 3


async def test_a_quoted_order_needs_its_proof_too(house: House):
    """Rule A1: terms that were quoted say nothing of the member's agreement."""
    await protect(house, "AIR", "code")
    quoted = await house.call(
        "POST", "/v1/quotes", {"issuer": "AIR", "acceptor": "EYE", "units": "10"}, caller="EYE"
    )
    wish = {"member": "anna", "quote": quoted.body["offers"][-1]["token"]}
    without = await house.order(wish, caller="EYE")
    assert without.reason == "member_not_authorised"
    assert (await house.order(wish | {"code": await code_of(house)}, caller="EYE")).status == 201


async def test_a_discount_spends_no_points_that_need_proof(house: House):
    """Rule A4: a purchase carries no proof, so an issuer that asks for one is passed over, and said so."""
    await protect(house, "AIR", "code")
    purchase = {
        "key": "till", "member": "anna", "merchant": "EYE", "amount_fen": "1000",
        "discount_fen": "100", "occurred_at": None,
    }  # fmt: skip
    answer = await house.call(
        "POST",
        "/v1/purchases/bulk",
        [{name: value for name, value in purchase.items() if value is not None}],
        caller="EYE",
    )
    (booked,) = answer.body
    assert [each["reason"] for each in booked["orders"]] == ["member_not_authorised"]
    assert booked["unfunded_cu"] == "10000"


# --- making codes ---


async def test_only_the_issuer_or_the_house_has_a_code_made(house: House):
    """Rule A2: a till cannot agree for a member."""

    async def made(body: dict[str, Any], caller: str = "house") -> Answer:
        path = f"/v1/members/{await house.token('anna', caller)}/codes"
        return await house.call("POST", path, body, caller=caller)

    assert (await made(MAXIMUM | {"issuer": "AIR"}, "EYE")).status == 403
    by_house = await made(MAXIMUM | {"issuer": "AIR"})
    by_issuer = await made(MAXIMUM, "AIR")
    assert by_house.status == by_issuer.status == 201
    assert by_house.body["issuer"] == by_issuer.body["issuer"] == "AIR"
    assert by_house.body["code"] != by_issuer.body["code"]
    assert len(by_issuer.body["code"]) < 80


async def test_what_no_code_is_made_for(house: House):
    """Rule A2: each refusal of the route that makes codes."""
    for body, member, caller, reason in (
        (MAXIMUM, "anna", "house", "malformed_request"),
        ({"acceptor": "EYE"}, "anna", "AIR", "malformed_request"),
        (MAXIMUM | {"units_max": "0"}, "anna", "AIR", "malformed_request"),
        (MAXIMUM, "nobody", "AIR", "unknown_member"),
        (MAXIMUM | {"acceptor": "NOWHERE"}, "anna", "AIR", "unknown_merchant"),
        (MAXIMUM | {"issuer": "NOBODY"}, "anna", "house", "unknown_merchant"),
        (MAXIMUM | {"acceptor": "AIR"}, "anna", "AIR", "same_merchant"),
    ):
        token = "nobody" if member == "nobody" else await house.token(member, caller)
        answer = await house.call("POST", f"/v1/members/{token}/codes", body, caller=caller)
        assert refused(answer) == reason, body


async def test_a_code_is_stored_as_a_digest_only(house: House):
    """Rule A2: whoever reads the database finds no code that could be spent."""
    code = await code_of(house)
    await house.order(PLAIN | {"code": code}, caller="EYE")
    dump = []
    for row in await house.pool.fetch(
        "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('exchange', 'settlement')"
    ):
        dump += [str(one) for one in await house.pool.fetch(f"SELECT t::text FROM {row[0]} AS t")]
    assert not any(code in line for line in dump)
    assert await house.pool.fetchval("SELECT count(*) FROM exchange.code_use") == 1


# --- limits ---


async def test_limits_of_number_and_value_hold(house: House):
    """Rule A5: orders of the last 24 hours count, in number and in value, for each member alone."""
    await protect(house, "AIR", orders=3, cu=10_000)
    await house.accrue("ben", "AIR", 100)
    outcomes = [refused(await house.order(PLAIN, caller="EYE")) for _ in range(4)]
    assert outcomes == ["", "", "", "member_limit_exceeded"]
    assert refused(await house.order(PLAIN | {"member": "ben"}, caller="EYE")) == ""
    house.clock.advance(24 * 3600)
    wishes = [PLAIN | {"units": "25"}, PLAIN | {"units": "6"}, PLAIN | {"units": "5"}]
    outcomes = [refused(await house.order(wish, caller="EYE")) for wish in wishes]
    assert outcomes == ["", "member_limit_exceeded", ""]


@pytest.mark.parametrize("forgetting", [False, True])
async def test_a_released_hold_counts_no_more(house: House, forgetting: bool):
    """Rule A5: a hold counts from its acceptance on; voided or expired it no longer does, cleared it does."""
    await protect(house, "OWN", orders=2)
    rider = house.writer._rider
    assert isinstance(rider, ProgrammeRider)

    def forget() -> None:
        if forgetting:
            rider.discard()

    first = await house.order(HELD, caller="EYE")
    second = await house.order(HELD | {"hold_seconds": 5}, caller="EYE")
    assert (await house.order(HELD, caller="EYE")).reason == "member_limit_exceeded"
    path = f"/v1/orders/{first.body['order_id']}"
    await house.call("POST", f"{path}/void", caller="EYE")
    forget()
    third = await house.order(HELD, caller="EYE")
    assert third.status == 201
    forget()
    house.clock.advance(6)
    path = f"/v1/orders/{second.body['order_id']}"
    assert refused(await house.call("POST", f"{path}/clear", caller="EYE")) == "hold_expired"
    assert (await house.order(HELD, caller="EYE")).status == 201
    await house.call("POST", f"/v1/orders/{third.body['order_id']}/clear", caller="EYE")
    forget()
    assert (await house.order(HELD, caller="EYE")).reason == "member_limit_exceeded"


async def test_what_no_decision_needs_is_forgotten(house: House):
    """Rule A6: after the hourly run, codes past their minute and orders older than a day are forgotten."""
    from exchange.programme.service.expiry import lapse_expired_lots

    await protect(house, "AIR", orders=100)
    await house.order(PLAIN | {"code": await code_of(house)}, caller="EYE")
    house.clock.advance(24 * 3600 + 1)
    wish = PLAIN | {"code": await code_of(house)}
    await house.order(wish, caller="EYE")
    await lapse_expired_lots(house.writer, house.clock())
    await house.order(PLAIN | {"code": await code_of(house)}, caller="EYE")
    counts = [
        await house.pool.fetchval(f"SELECT count(*) FROM exchange.{table}")
        for table in ("code_use", "member_order")
    ]
    assert counts == [2, 2]
    assert (await house.order(wish, caller="EYE")).reason == "code_spent"
