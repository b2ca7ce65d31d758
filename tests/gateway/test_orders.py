"""Orders over HTTP: happy paths, every refusal, idempotency, bulk."""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime, timedelta

import msgspec
import pytest

from tests.gateway.conftest import AIR, House, fresh_key, merchant, shared

PLAIN = {"member": "anna", "issuer": "AIR", "acceptor": "EYE", "units": "10"}
HELD = {"member": "anna", "issuer": "OWN", "acceptor": "EYE", "units": "10"}


# --- one-phase orders ---


async def test_order_of_a_hosted_issuer_clears_at_once(house: House):
    """One request takes the points, debits the issuer, credits the acceptor and the house's accounts."""
    answer = await house.order(PLAIN, caller="EYE")
    assert answer.status == 201
    body = answer.body
    assert body["status"] == "cleared"
    assert (body["units"], body["debit_cu"], body["value_cu"]) == ("10", "3330", "3300")
    assert (body["fee_cu"], body["remainder_cu"], body["cycle"]) == ("16", "30", "c1")
    assert await house.net() == {
        "AIR": -3330,
        "EYE": 3284,
        "HOUSE:fees": 16,
        "HOUSE:rounding": 30,
    }
    shown = await house.call("GET", f"/v1/orders/{body['order_id']}", caller="AIR")
    assert shown.status == 200
    assert shown.body["status"] == "cleared"
    assert (shown.body["rate_cu"], shown.body["rate_units"]) == ("333", "1")
    balances = await house.call("GET", f"/v1/members/{await house.token('anna')}/balances")
    assert balances.body["balances"][0]["units"] == "9990"


async def test_exchange_gives_new_points_at_the_acceptor(house: House):
    """An exchange spends miles and makes a lot of the acceptor's points, in the same order."""
    answer = await house.order(PLAIN | {"kind": "exchange"})
    assert answer.body["credited_units"] == "33"
    balances = await house.call("GET", f"/v1/members/{await house.token('anna')}/balances")
    assert {each["merchant"]: each["units"] for each in balances.body["balances"]} == {
        "AIR": "9990",
        "EYE": "33",
    }


# --- two-phase orders ---


async def test_order_of_an_own_system_is_accepted_then_cleared(house: House):
    """An accepted order holds headroom; clearing turns the hold into an obligation, and again is harmless."""
    accepted = await house.order(HELD, caller="EYE")
    assert (accepted.status, accepted.body["status"]) == (201, "accepted")
    at = datetime.fromisoformat(accepted.body["at"])
    assert datetime.fromisoformat(accepted.body["hold_until"]) - at == timedelta(minutes=15)
    path = f"/v1/orders/{accepted.body['order_id']}"
    positions = await house.call("GET", "/v1/positions", caller="OWN")
    assert positions.body["positions"][0]["held_cu"] == "2500"
    cleared = await house.call("POST", f"{path}/clear", caller="EYE")
    assert (cleared.status, cleared.body["status"]) == (200, "cleared")
    again = await house.call("POST", f"{path}/clear", caller="EYE")
    assert (again.status, again.raw) == (200, cleared.raw)
    refused = await house.call("POST", f"{path}/void", caller="EYE")
    assert (refused.status, refused.reason) == (409, "order_already_cleared")
    assert (await house.net())["OWN"] == -2500
    shown = await house.call("GET", path, caller="OWN")
    assert shown.body["status"] == "cleared"
    assert shown.body["hold_until"] == accepted.body["hold_until"]


async def test_voided_order_releases_its_hold(house: House):
    """Voiding moves no value, and a voided order cannot be cleared."""
    accepted = await house.order(HELD | {"hold_seconds": 60}, caller="OWN")
    path = f"/v1/orders/{accepted.body['order_id']}"
    voided = await house.call("POST", f"{path}/void", caller="OWN")
    assert (voided.status, voided.body["status"]) == (200, "voided")
    assert (await house.call("POST", f"{path}/void", caller="OWN")).raw == voided.raw
    refused = await house.call("POST", f"{path}/clear", caller="OWN")
    assert (refused.status, refused.reason) == (409, "order_already_voided")
    assert await house.net() == {}
    assert (await house.call("GET", path)).body["status"] == "voided"


async def test_hold_that_expired_cannot_be_cleared(house: House):
    """After its time a hold is gone, and its value with it."""
    accepted = await house.order(HELD | {"hold_seconds": 5})
    house.clock.advance(6)
    path = f"/v1/orders/{accepted.body['order_id']}"
    refused = await house.call("POST", f"{path}/clear")
    assert (refused.status, refused.reason) == (409, "hold_expired")
    assert (await house.call("GET", path)).body["status"] == "expired"
    assert await house.net() == {}


async def test_only_the_sender_or_the_house_ends_an_order(house: House):
    """The other party of an order cannot clear it; the house can."""
    accepted = await house.order(HELD, caller="EYE")
    path = f"/v1/orders/{accepted.body['order_id']}"
    refused = await house.call("POST", f"{path}/clear", caller="OWN")
    assert (refused.status, refused.reason) == (404, "order_not_found")
    assert (await house.call("POST", f"{path}/clear")).status == 200


async def test_refused_order_cannot_be_ended(house: House):
    """What was refused has nothing to clear."""
    refused = await house.order(HELD | {"units": "99999999999"})
    assert refused.reason == "net_debit_cap_exceeded"
    path = f"/v1/orders/{refused.body['order_id']}"
    ended = await house.call("POST", f"{path}/clear")
    assert (ended.status, ended.reason) == (409, "order_refused")
    shown = await house.call("GET", path)
    assert (shown.body["status"], shown.body["problem"]["reason"]) == (
        "refused",
        "net_debit_cap_exceeded",
    )


# --- refusals ---


@shared
@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"issuer": "NONE"}, 422, "unknown_merchant"),
        ({"acceptor": "none"}, 422, "unknown_merchant"),
        ({"acceptor": "AIR"}, 422, "same_merchant"),
        ({"kind": "exchange", "acceptor": "OWN"}, 422, "not_hosted"),
        ({"issuer": "LATE"}, 422, "rate_not_offered"),
        ({"issuer": "SMALL", "units": "9"}, 422, "amount_below_minimum"),
        ({"issuer": "SMALL", "units": "21"}, 422, "amount_above_maximum"),
        ({"issuer": "SMALL", "units": "20"}, 422, "converts_to_nothing"),
        ({"member": "nobody"}, 422, "unknown_member"),
        ({"member": "没有"}, 422, "unknown_member"),
        ({"member": "no\u0000body"}, 422, "unknown_member"),
        ({"units": "10001"}, 409, "insufficient_points"),
        ({"issuer": "OWN", "units": "4000001"}, 409, "net_debit_cap_exceeded"),
        ({"quote": "AAAA", "issuer": None, "acceptor": None, "units": None}, 422, "quote_invalid"),
        ({"hold_seconds": 60}, 422, "hold_not_offered"),
        ({"occurred_at": "2001-01-01T00:00:00Z"}, 422, "till_time_out_of_range"),
    ],
)
async def test_refusals_are_durable_and_final_for_their_key(
    shared_house: House, change, status, reason
):
    """Every refusal has its status, its own order, and is the answer to each repeat of its key."""
    before, key = await shared_house.net(), fresh_key()
    body = {name: value for name, value in (PLAIN | change).items() if value is not None}
    first = await shared_house.order(body, key=key)
    assert (first.status, first.reason) == (status, reason)
    assert first.body["detail"]
    assert first.body["detail_zh"]
    again = await shared_house.order(body, key=key)
    assert (again.status, again.reason) == (status, reason)
    assert again.body["order_id"] == first.body["order_id"]
    assert await shared_house.net() == before
    shown = await shared_house.call("GET", f"/v1/orders/{first.body['order_id']}")
    assert shown.body["problem"]["reason"] == reason


@shared
@pytest.mark.parametrize(
    "order_id",
    [
        "00000000-0000-7001-8000-000000000001",
        "01a2020c-c660-7001-8000-3fffffffffff",
        "01a2020c-c660-7002-8000-000000000001",
        "01a2020c-c660-4001-8000-000000000001",
        "01A2020C-c660-7001-8000-000000000001",
        "nonsense",
    ],
)
async def test_unknown_orders_are_not_found(shared_house: House, order_id):
    """An id that was never given out names nothing, whatever it looks like."""
    for method, path in (("GET", ""), ("POST", "/clear"), ("POST", "/void")):
        answer = await shared_house.call(method, f"/v1/orders/{order_id}{path}")
        assert (answer.status, answer.reason) == (404, "order_not_found")


async def test_administrative_events_are_no_orders(house: House):
    """The sequence number of a merchant's joining does not make an order id."""
    row = await house.pool.fetchrow(
        "SELECT seq, (extract(epoch FROM at) * 1000000)::bigint AS at_us FROM settlement.event WHERE kind = 10"
    )
    assert row is not None
    order = uuid.UUID(int=(row["at_us"] // 1000) << 80 | 7 << 76 | 1 << 64 | 2 << 62 | row["seq"])
    assert (await house.call("GET", f"/v1/orders/{order}")).reason == "order_not_found"


# --- malformed ---


@shared
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"units": 10}, "$.units"),
        ({"units": "-1"}, "$.units"),
        ({"units": "0"}, "$.units"),
        ({"units": "1e3"}, "$.units"),
        ({"units": "1.0"}, "$.units"),
        ({"units": "10\n"}, "$.units"),
        ({"units": "٣"}, "$.units"),
        ({"units": "1" * 16}, "$.units"),
        ({"units": None}, "$.units"),
        ({"member": None}, "$.member"),
        ({"member": 7}, "$.member"),
        ({"acceptor": None}, "$.acceptor"),
        ({"issuer": ""}, "$.issuer"),
        ({"kind": "gift"}, "$.kind"),
        ({"colour": "red"}, "$.colour"),
        ({"hold_seconds": 0}, "$.hold_seconds"),
        ({"hold_seconds": 604_801}, "$.hold_seconds"),
        ({"reference": "x" * 36}, "$.reference"),
        ({"reference": "a\u0000b"}, "$.reference"),
        ({"occurred_at": "yesterday"}, "$.occurred_at"),
        ({"occurred_at": "2026-01-01T00:00:00"}, "$.occurred_at"),
        ({"quote": "abc"}, "$.issuer"),
    ],
)
async def test_malformed_order_names_the_field(shared_house: House, change, field):
    """A malformed request is 400 with the path of the field, and nothing is stored under its key."""
    body = {name: value for name, value in (PLAIN | change).items() if value is not None}
    key = fresh_key()
    answer = await shared_house.order(body, key=key)
    assert (answer.status, answer.reason) == (400, "malformed_request")
    assert answer.body["field"] == field
    assert (await shared_house.order(PLAIN, key=key)).status == 201


@shared
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"member": "\xff"}',
        b'{"member": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 10_000,
    ],
)
async def test_broken_bodies_are_malformed(shared_house: House, raw):
    """Whatever the bytes are, the answer is 400 with a path, never a fault of ours."""
    answer = await shared_house.call("POST", "/v1/orders", raw=raw[:60_000], key="k")
    assert (answer.status, answer.reason) == (400, "malformed_request")
    assert answer.body["field"].startswith("$")


@shared
@pytest.mark.parametrize("key", [None, "", "a b", "x" * 65, "schlüssel"])
async def test_order_needs_a_key(shared_house: House, key):
    """Without a usable idempotency key nothing is decided."""
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = await shared_house.call("POST", "/v1/orders", PLAIN, headers=headers)
    assert (answer.status, answer.reason) == (400, "malformed_request")
    assert answer.body["field"] == "Idempotency-Key"


# --- idempotency ---


async def test_same_key_and_body_get_the_same_answer(house: House):
    """A repeat gets the first answer byte for byte, and value moves once."""
    first = await house.order(PLAIN, key="k")
    again = await house.order(PLAIN, key="k")
    assert (again.status, again.raw) == (first.status, first.raw)
    assert (await house.net())["AIR"] == -3330


async def test_another_body_under_a_key_is_a_conflict(house: House):
    """The same key with another body is refused, and changes nothing."""
    await house.order(PLAIN, key="k")
    for change in ({"units": "11"}, {"reference": "r"}, {"member": "ben"}, {"kind": "exchange"}):
        answer = await house.order(PLAIN | change, key="k")
        assert (answer.status, answer.reason) == (422, "idempotency_conflict")
    assert (await house.net())["AIR"] == -3330


async def test_the_same_body_written_otherwise_is_no_conflict(house: House):
    """Bodies are compared as they were understood, not byte for byte."""
    first = await house.order(PLAIN, key="k")
    text = b'{ "units":"10", "acceptor":"EYE",\n"issuer":"AIR", "member":"\\u0061nna" }'
    again = await house.call("POST", "/v1/orders", raw=text, key="k")
    assert again.raw == first.raw


async def test_keys_of_merchants_are_apart(house: House):
    """Two callers may use the same key for different orders."""
    first = await house.order(PLAIN, key="k", caller="AIR")
    second = await house.order(PLAIN | {"units": "20"}, key="k", caller="EYE")
    assert (first.status, second.status) == (201, 201)


async def test_repeats_while_the_first_is_in_flight(house: House):
    """Of many at once under one key, all get the same answer; another body among them conflicts."""
    bodies = [PLAIN] * 20 + [PLAIN | {"units": "11"}]
    answers = await asyncio.gather(*(house.order(body, key="k") for body in bodies))
    kinds = {answer.raw for answer in answers[:20] if answer.status == 201}
    conflicts = [answer for answer in answers if answer.status == 422]
    if answers[20].status == 422:
        assert len(kinds) == 1
        assert len(conflicts) == 1
    else:
        assert len(conflicts) == 20
    assert (await house.net())["AIR"] in (-3330, -3663)


async def test_key_that_succeeded_keeps_its_answer_whatever_comes_later(house: House):
    """A repeat after the quote's deadline still gets the first answer."""
    quote = await house.call(
        "POST", "/v1/quotes", {"issuer": "AIR", "acceptor": "EYE", "units": "100"}
    )
    body = {"member": "anna", "quote": quote.body["offers"][0]["token"]}
    first = await house.order(body, key="k")
    assert first.status == 201
    house.clock.advance(3600)
    again = await house.order(body, key="k")
    assert (again.status, again.raw) == (201, first.raw)
    assert (await house.order(body)).reason == "quote_expired"


# --- bulk ---


@pytest.mark.parametrize("packed", [False, True])
async def test_every_element_of_a_bulk_is_answered(house: House, packed):
    """Cleared, accepted, refused and malformed stand in their places, the last with its path."""

    def units(number: int) -> object:
        return number if packed else str(number)

    wishes = [
        {"key": "1", "units": units(10), **AIR},
        {"key": "2", "units": units(10), **AIR, "issuer": "OWN"},
        {"key": "3", "units": units(10**9), **AIR},
        {"key": "4", "units": str(10) if packed else 10, **AIR},
        {"key": "5", "units": units(10), **AIR, "acceptor": "AIR"},
        {"units": units(10), **AIR},
        {"key": "7", **AIR},
        "eight",
        {"key": "1", "units": units(10), **AIR},
        {"key": "1", "units": units(11), **AIR},
        {"key": "9", "units": units(10), **AIR, "extra": 1},
    ]
    answer = await house.call("POST", "/v1/orders/bulk", wishes, packed=packed)
    assert answer.status == 200
    body = answer.body
    assert [each["status"] for each in body] == [
        "cleared", "accepted", "refused", "malformed", "refused", "malformed", "malformed", "malformed",
        "cleared", "refused", "malformed",
    ]  # fmt: skip
    assert body[0]["debit_cu"] == units(3330)
    assert body[8] == body[0]
    assert [each["problem"]["reason"] for each in body if each["status"] == "refused"] == [
        "insufficient_points",
        "same_merchant",
        "idempotency_conflict",
    ]
    assert [each["problem"]["field"] for each in body if each["status"] == "malformed"] == [
        "$[3].units",
        "$[5].key",
        "$[6].units",
        "$[7]",
        "$[10].extra",
    ]
    assert (await house.net())["AIR"] == -3330


async def test_alone_in_bulk_in_json_and_in_msgpack_a_key_means_the_same(house: House):
    """An order repeated in another form under its key is the same order."""
    single = await house.order(PLAIN, key="k")
    in_json = await house.call("POST", "/v1/orders/bulk", [PLAIN | {"key": "k"}])
    packed = await house.call(
        "POST", "/v1/orders/bulk", [PLAIN | {"key": "k", "units": 10}], packed=True
    )
    assert in_json.body[0]["order_id"] == single.body["order_id"] == packed.body[0]["order_id"]


async def test_bulk_is_decided_in_order_against_the_cap(house: House):
    """Within one request the cap binds order by order: what fits goes through, the rest is refused."""
    terms = merchant("TIGHT", 100, hosted=False, cap_cu="1000")
    assert (await house.call("POST", "/v1/merchants", terms)).status == 201
    wishes = [
        {"key": str(n), "member": "anna", "issuer": "TIGHT", "acceptor": "EYE", "units": units}
        for n, units in enumerate([6, 5, 4, 1])
    ]
    answer = await house.call("POST", "/v1/orders/bulk", wishes, packed=True)
    assert [each["status"] for each in answer.body] == [
        "accepted",
        "refused",
        "accepted",
        "refused",
    ]


@shared
@pytest.mark.parametrize(
    ("raw", "packed", "field"),
    [
        (b"[]", False, "$"),
        (b"{}", False, "$"),
        (b"[1", False, "$"),
        (b"\xc1", True, "$"),
        (b"\x80", True, "$"),
        (msgspec.msgpack.encode([1] * 10_001), True, "$"),
        (b"", True, "$"),
        (b"\xdd\xff\xff\xff\xff", True, "$"),
        (b"\x91" * 30_000, True, "$"),
    ],
)
async def test_bulk_that_is_no_array_is_malformed(shared_house: House, raw, packed, field):
    """A body that cannot be cut into 1 to 10,000 elements is refused whole."""
    answer = await shared_house.call("POST", "/v1/orders/bulk", raw=raw, packed=packed)
    if raw.startswith(b"\x91"):
        # Deep nesting is one malformed element, or a malformed body: never a fault of ours.
        assert answer.status in (200, 400)
        return
    assert (answer.status, answer.reason) == (400, "malformed_request")
    assert answer.body["field"] == field


async def test_bulk_takes_ten_thousand(house: House):
    """10,000 orders in one request are all answered."""
    wishes = [{"key": f"{n}", "units": 1, **AIR} for n in range(10_000)]
    answer = await house.call("POST", "/v1/orders/bulk", wishes, packed=True)
    assert len(answer.body) == 10_000
    assert {each["status"] for each in answer.body} == {"cleared"}
    assert len({each["order_id"] for each in answer.body}) == 10_000
    assert (await house.net())["AIR"] == -3_330_000


# --- who may ---


async def test_a_merchant_orders_only_as_issuer_or_acceptor(house: House):
    """A third merchant is forbidden, alone and in bulk, and its key stays free."""
    answer = await house.order(PLAIN, caller="OWN", key="k")
    assert (answer.status, answer.reason) == (403, "forbidden")
    bulk = await house.call(
        "POST", "/v1/orders/bulk", [PLAIN | {"key": "k"}, HELD | {"key": "l"}], caller="OWN"
    )
    assert [each["status"] for each in bulk.body] == ["refused", "accepted"], bulk.body
    assert bulk.body[0]["problem"]["reason"] == "forbidden"
    assert "order_id" not in bulk.body[0]
    assert (await house.order(HELD, caller="OWN", key="k")).status == 201


async def test_a_merchant_sees_only_its_own_orders(house: House):
    """An order is not found by a merchant that has no part in it, and its reference is its sender's."""
    order = await house.order(PLAIN | {"reference": "till 7"}, caller="EYE")
    path = f"/v1/orders/{order.body['order_id']}"
    assert (await house.call("GET", path, caller="OWN")).reason == "order_not_found"
    assert (await house.call("GET", path, caller="EYE")).body["reference"] == "till 7"
    assert "reference" not in (await house.call("GET", path, caller="AIR")).body


@shared
async def test_a_key_may_stand_in_quotes(shared_house: House):
    """A string of RFC 9651, which the draft asks for, and its bare content are one key."""
    key, order = fresh_key(), AIR | {"units": "2"}
    bare = await shared_house.call("POST", "/v1/orders", order, key=key)
    for more in ({}, {"TE": "trailers"}):
        quoted = await shared_house.call("POST", "/v1/orders", order, key=f'"{key}"', headers=more)
        assert (quoted.status, quoted.raw) == (201, bare.raw)
        other = await shared_house.call(
            "POST", "/v1/orders", AIR | {"units": "3"}, key=f'"{key}"', headers=more
        )
        assert (other.status, other.reason) == (422, "idempotency_conflict")
        for wrong in ('"', '""', f'"{key}', f'{key}"', '"a"b"', "a\\b", f'"{65 * "k"}"'):
            refused = await shared_house.call("POST", "/v1/orders", order, key=wrong, headers=more)
            assert (refused.status, refused.body["field"]) == (400, "Idempotency-Key"), wrong
