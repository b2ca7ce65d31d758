"""Quotes over HTTP: itemised, firm until their deadline, promising nothing that an order cannot deliver."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from exchange.service.quote_keys import (
    FILE_NAME,
    QuoteKeysUnusable,
    open_quote_keys,
    rotate_quote_keys,
)
from exchange.store.limits import fetch_limits
from exchange.store.programmes import insert_rate
from tests.gateway.conftest import House, shared, soon

WANTED = {"issuer": "AIR", "acceptor": "EYE", "units": "250"}


async def quote(house: House, change: dict | None = None, **more):
    """Ask for a quote."""
    body = {k: v for k, v in (WANTED | (change or {})).items() if v is not None}
    return await house.call("POST", "/v1/quotes", body, **more)


async def test_quote_is_itemised_and_offers_the_amount_without_remainder_first(house: House):
    """Rate, debit, value, fee and remainder (in yuan too) stand in the answer; it reserves nothing."""
    answer = await quote(house, caller="EYE")
    assert answer.status == 201
    body = answer.body
    assert body["reserves"] == "nothing"
    assert (body["rate_cu"], body["rate_units"]) == ("333", "1")
    clean, asked = body["offers"]
    assert (clean["units"], clean["debit_cu"], clean["remainder_cu"]) == ("200", "66600", "0")
    assert clean["remainder_yuan"] == "0.0000"
    assert {name: asked[name] for name in asked if name != "token"} == {
        "units": "250",
        "debit_cu": "83250",
        "value_cu": "83200",
        "value_yuan": "8.3200",
        "fee_cu": "416",
        "remainder_cu": "50",
        "remainder_yuan": "0.0050",
        "credited_units": "0",
    }
    assert await house.net() == {}


async def test_amount_without_remainder_is_the_only_offer(house: House):
    """Who asks for an exact amount is offered nothing else."""
    assert [each["units"] for each in (await quote(house, {"units": "300"})).body["offers"]] == [
        "300"
    ]


async def test_order_at_a_quote_delivers_its_figures(house: House):
    """Each offer's token gives exactly the figures of the offer."""
    for kind in ("redemption", "exchange"):
        for offer in (await quote(house, {"kind": kind})).body["offers"]:
            order = await house.order({"member": "anna", "quote": offer["token"]})
            assert order.status == 201
            for name in ("units", "debit_cu", "value_cu", "fee_cu", "remainder_cu"):
                assert order.body[name] == offer[name]
            assert order.body.get("credited_units", "0") == offer["credited_units"]


async def test_value_wanted_is_credited_exactly(house: House):
    """A bill of 3.35 yuan is paid to the fen, with the fewest points, and the rest is the remainder."""
    body = (await quote(house, {"units": None, "value_fen": "335"})).body
    asked = body["offers"][-1]
    assert (asked["units"], asked["value_cu"], asked["debit_cu"]) == ("101", "33500", "33633")
    assert asked["remainder_cu"] == "133"
    assert [each["units"] for each in body["offers"]] == ["100", "101"]


async def test_quote_is_firm_whatever_rate_comes_since(house: House):
    """A new rate prices plain orders at once, and a quote at its own rate until its deadline."""
    token = (await quote(house)).body["offers"][-1]["token"]
    async with house.pool.acquire() as conn:
        await insert_rate(
            conn,
            merchant_no=1,
            side="spend",
            num=100,
            den=1,
            effective_at=house.services.now() + timedelta(milliseconds=1),
        )

    async def new_rate_is_in_force() -> bool:
        return (await quote(house)).body["rate_cu"] == "100"

    await soon(new_rate_is_in_force)
    order = await house.order({"member": "anna", "quote": token})
    assert (order.status, order.body["debit_cu"]) == (201, "83250")
    shown = await house.call("GET", f"/v1/orders/{order.body['order_id']}")
    assert shown.body["rate_cu"] == "333"
    plain = await house.order({"member": "anna", **WANTED})
    assert plain.body["debit_cu"] == "25000"


async def test_quote_ends_at_its_deadline(house: House):
    """A minute later the token is refused, durably."""
    body = (await quote(house)).body
    token = body["offers"][0]["token"]
    deadline = datetime.fromisoformat(body["deadline"])
    assert timedelta(seconds=55) < deadline - house.services.now() <= timedelta(seconds=60)
    house.clock.advance(61)
    answer = await house.order({"member": "anna", "quote": token}, key="k")
    assert (answer.status, answer.reason) == (409, "quote_expired")
    assert answer.body["retryable"]
    assert answer.body["order_id"]


async def test_altered_token_is_refused(house: House):
    """A token whose figures were changed is no quote."""
    token = (await quote(house)).body["offers"][0]["token"]
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[10] ^= 1
    forged = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    answer = await house.order({"member": "anna", "quote": forged})
    assert (answer.status, answer.reason) == (422, "quote_invalid")


async def test_token_serves_only_who_asked(house: House):
    """A merchant cannot order with another's token; the house can."""
    token = (await quote(house, caller="EYE")).body["offers"][0]["token"]
    body = {"member": "anna", "quote": token}
    assert (await house.order(body, caller="AIR")).reason == "quote_invalid"
    assert (await house.order(body, caller="OWN")).reason == "quote_invalid"
    assert (await house.order(body, caller="EYE")).status == 201
    assert (await house.order(body)).status == 201


async def test_quote_at_an_own_system_gives_a_two_phase_order(house: House):
    """The points of a merchant with its own system are accepted first, at the quoted figures."""
    body = (await quote(house, {"issuer": "OWN", "units": "10"})).body
    order = await house.order({"member": "anna", "quote": body["offers"][0]["token"]})
    assert order.body["status"] == "accepted"


@shared
@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"issuer": "NONE"}, 422, "unknown_merchant"),
        ({"acceptor": "AIR"}, 422, "same_merchant"),
        ({"kind": "exchange", "acceptor": "OWN"}, 422, "not_hosted"),
        ({"kind": "exchange", "issuer": "OWN"}, 422, "not_hosted"),
        ({"issuer": "LATE"}, 422, "rate_not_offered"),
        ({"issuer": "SMALL", "units": "9"}, 422, "amount_below_minimum"),
        ({"issuer": "SMALL", "units": "21"}, 422, "amount_above_maximum"),
        ({"issuer": "SMALL", "units": "20"}, 422, "converts_to_nothing"),
        ({"issuer": "SMALL", "units": "20", "kind": "exchange"}, 422, "converts_to_nothing"),
        ({"units": "3003004"}, 409, "net_debit_cap_exceeded"),
    ],
)
async def test_quote_promises_nothing_that_an_order_cannot_deliver(
    shared_house, change, status, reason
):
    """What no order could deliver is refused at the quote, with its reason."""
    answer = await quote(shared_house, change)
    assert (answer.status, answer.reason) == (status, reason)


@shared
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"units": None}, "$.units"),
        ({"value_fen": "1"}, "$.value_fen"),
        ({"units": None, "value_fen": "0"}, "$.value_fen"),
        ({"units": None, "value_fen": "1", "kind": "exchange"}, "$.value_fen"),
        ({"units": 250}, "$.units"),
        ({"issuer": None}, "$.issuer"),
        ({"until": "forever"}, "$.until"),
    ],
)
async def test_malformed_quote_names_the_field(shared_house: House, change, field):
    """A malformed request is 400 with the path of the field."""
    answer = await quote(shared_house, change)
    assert (answer.status, answer.reason, answer.body["field"]) == (400, "malformed_request", field)


async def test_a_third_merchant_gets_no_quote(house: House):
    """Only issuer, acceptor and the house learn what points are worth between two merchants."""
    assert (await quote(house, caller="OWN")).reason == "forbidden"


# --- keys ---


async def test_rotated_key_is_honoured_until_its_quotes_are_over(house: House):
    """After a rotation new quotes carry the new key; old ones are honoured; a forgotten key's are not."""
    folder = house.home / "keys"
    old = (await quote(house)).body["offers"][0]["token"]
    new_id = rotate_quote_keys(folder, now=house.services.now())

    async def new_key_seals() -> bool:
        token = (await quote(house)).body["offers"][0]["token"]
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        return raw[:4].hex() == new_id

    await soon(new_key_seals)
    assert (await house.order({"member": "anna", "quote": old})).status == 201
    later = house.services.now() + timedelta(days=2)
    rotate_quote_keys(folder, now=later)
    rotate_quote_keys(folder, now=later + timedelta(days=2))
    fresh = open_quote_keys(folder, now=later)
    assert len(json.loads((folder / FILE_NAME).read_text())) == 2
    assert fresh.for_token(old)
    raw = base64.urlsafe_b64decode(old + "=" * (-len(old) % 4))
    assert raw[:4] not in fresh.for_token(old)


def test_key_file_is_private_and_checked(tmp_path):
    """The file is made with mode 0600; one that others may read, or that is damaged, is refused."""
    now = datetime.now(UTC)
    first = open_quote_keys(tmp_path / "keys", now=now)
    path = tmp_path / "keys" / FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_quote_keys(tmp_path / "keys", now=now).newest == first.newest
    path.chmod(0o640)
    with pytest.raises(QuoteKeysUnusable, match="chmod 600"):
        open_quote_keys(tmp_path / "keys", now=now)
    path.chmod(0o600)
    for damage in ("", "[]", "{", '[{"secret":"00","made_at":"x"}]'):
        path.write_text(damage)
        with pytest.raises(QuoteKeysUnusable):
            open_quote_keys(tmp_path / "keys", now=now)


async def test_what_is_read_while_something_changes_is_not_kept(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    """A snapshot whose reading began before a merchant joined does not hide the merchant when it comes to its end."""
    shelf, reached, go_on = house.services.shelf, asyncio.Event(), asyncio.Event()

    async def slowly(pool: Any) -> Any:
        reached.set()
        await go_on.wait()
        return await fetch_limits(pool)

    monkeypatch.setattr("exchange.service.shelf.fetch_limits", slowly)
    shelf.expire()
    behind = asyncio.create_task(shelf.offer())
    await reached.wait()
    monkeypatch.undo()
    shelf.expire()
    async with asyncio.timeout(30):
        new = await shelf.offer()
    go_on.set()
    assert await behind is not new
    assert await shelf.offer() is new
