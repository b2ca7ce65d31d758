"""The house's own routes, who may call what, and how a gateway ends."""

from __future__ import annotations

import asyncio
import hashlib
import io
import socket
import stat
import zipfile
from typing import Any

import aiohttp
import pytest

from exchange.gateway.app import create_app
from exchange.gateway.gate import GATE, Gate
from exchange.gateway.run import serve
from exchange.service.access import key_digest, operator_key, revoke_api_key
from exchange.service.orders import OrderDesk
from settlement.core.trail import PROGRAM
from tests.gateway.conftest import House, merchant, new_key, shared, soon

PLAIN = {"member": "anna", "issuer": "AIR", "acceptor": "EYE", "units": "10"}


# --- merchants ---


async def test_merchant_is_registered_once_and_gets_a_key(house: House):
    """A new merchant trades at once with the key from the answer; its code is taken from then on."""
    answer = await house.call("POST", "/v1/merchants", merchant("NEW", 100, hosted=False))
    assert answer.status == 201
    house.keys["NEW"] = answer.body["api_key"]
    order = {"member": "anna", "issuer": "NEW", "acceptor": "EYE", "units": "3"}
    assert (await house.order(order, caller="NEW")).status == 201
    again = await house.call("POST", "/v1/merchants", merchant("NEW", 100))
    assert (again.status, again.reason) == (409, "merchant_exists")
    listed = await house.call("GET", "/v1/merchants")
    assert [each["code"] for each in listed.body["merchants"]] == ["AIR", "EYE", "NEW", "OWN"]
    assert listed.body["merchants"][2]["held_cu"] == "300"
    as_merchant = await house.call("GET", "/v1/merchants", caller="AIR")
    assert all("cap_cu" not in each for each in as_merchant.body["merchants"])


@shared
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"code": "眼镜"}, "$.code"),
        ({"code": "HOUSE:fees"}, "$.code"),
        ({"name": "a\u0000b"}, "$.name"),
        ({"spend": {"cu": "0", "units": "1"}}, "$.spend.cu"),
        ({"issue": {"cu": "99", "units": "1"}}, "$.issue"),
        ({"cap_cu": 5}, "$.cap_cu"),
        ({"valid_days": 0}, "$.valid_days"),
        ({"units_min": "10", "units_max": "9"}, "$.units_max"),
        ({"scale": 10}, "$.scale"),
    ],
)
async def test_malformed_merchant_names_the_field(shared_house: House, change, field):
    """Terms that cannot be are 400 with the path of the field, and nobody is registered."""
    answer = await shared_house.call("POST", "/v1/merchants", merchant("NEW", 100) | change)
    assert (answer.status, answer.body["field"]) == (400, field)
    listed = (await shared_house.call("GET", "/v1/merchants")).body["merchants"]
    # Others on this house may have registered merchants meanwhile; this one is named NEW, or by its change.
    assert not {"NEW", change.get("code", "NEW")} & {each["code"] for each in listed}


# --- cycles, positions, packages ---


async def test_cycle_is_closed_and_settled(house: House):
    """Closing fences the open cycle; its figures stay; settling frees the cap; each once."""
    await house.order(PLAIN)
    wrong = await house.call("POST", "/v1/cycles/close", {"cycle": "c0", "next_id": "c2"})
    assert (wrong.status, wrong.reason) == (409, "cycle_not_open")
    early = await house.call("POST", "/v1/cycles/c1/settle")
    assert (early.status, early.reason) == (409, "cycle_not_closed")
    closed = await house.call("POST", "/v1/cycles/close", {"cycle": "c1", "next_id": "c2"})
    assert (closed.body["closed"], closed.body["opened"]) == ("c1", "c2")
    again = await house.call("POST", "/v1/cycles/close", {"cycle": "c1", "next_id": "c3"})
    assert again.reason == "cycle_not_open"
    taken = await house.call("POST", "/v1/cycles/close", {"cycle": "c2", "next_id": "c1"})
    assert taken.reason == "cycle_exists"
    assert await house.net() == {}
    own = await house.call("GET", "/v1/positions?cycle=c1", caller="AIR")
    assert (own.body["state"], own.body["positions"][0]["net_cu"]) == ("closed", "-3330")
    before = await house.call("GET", "/v1/positions", caller="AIR")
    assert before.body["positions"][0]["headroom_cu"] == str(10**9 - 3330)
    settled = await house.call("POST", "/v1/cycles/c1/settle")
    assert settled.status == 200
    assert (await house.call("POST", "/v1/cycles/c1/settle")).raw == settled.raw
    after = await house.call("GET", "/v1/positions", caller="AIR")
    assert after.body["positions"][0]["headroom_cu"] == str(10**9)
    cycle = await house.call("GET", "/v1/cycles/c1")
    assert (cycle.body["state"], cycle.body["orders"], cycle.body["gross_cu"]) == (
        "settled",
        "1",
        "3330",
    )
    listed = await house.call("GET", "/v1/cycles", caller="EYE")
    assert [each["cycle"] for each in listed.body["cycles"]] == ["c1", "c2"]
    assert all("gross_cu" not in each for each in listed.body["cycles"])
    order = await house.order(PLAIN)
    assert order.body["cycle"] == "c2"


async def test_cycle_closes_by_the_calendar(house: House):
    """Without a body the open cycle is closed and the next is named by the calendar."""
    answer = await house.call("POST", "/v1/cycles/close")
    assert answer.status == 200
    assert answer.body["closed"] == "c1"
    cycle = await house.call("GET", f"/v1/cycles/{answer.body['opened']}")
    assert cycle.body["state"] == "open"
    assert cycle.body["cut_off_at"]


async def test_business_time_is_for_replays_only(house: House):
    """A ledger on the wall clock takes no time from its callers."""
    body = {"cycle": "c1", "next_id": "c2", "at": "2030-01-01T00:00:00Z"}
    answer = await house.call("POST", "/v1/cycles/close", body)
    assert (answer.status, answer.reason) == (422, "business_time_not_accepted")


async def test_positions_are_the_callers_own(house: House):
    """A merchant sees its own figure; the house sees all, and they sum to zero."""
    await house.order(PLAIN)
    whole = await house.call("GET", "/v1/positions")
    assert sum(int(each["net_cu"]) for each in whole.body["positions"]) == 0
    own = await house.call("GET", "/v1/positions", caller="EYE")
    assert [each["party"] for each in own.body["positions"]] == ["EYE"]


@shared
@pytest.mark.parametrize("path", ["/v1/cycles/none", "/v1/positions?cycle=none"])
async def test_unknown_cycle_is_not_found(shared_house: House, path):
    """A cycle that never was is 404."""
    assert (await shared_house.call("GET", path)).reason == "not_found"
    assert (await shared_house.call("POST", "/v1/cycles/none/settle")).reason == "not_found"


async def test_package_is_streamed_whole_to_the_house_and_in_part_to_a_merchant(house: House):
    """The house gets every byte of the folder; a merchant manifest, positions, instructions and its own statements."""
    folder = house.home / "packages" / "c1"
    (folder / "statements").mkdir(parents=True)
    big = bytes(range(256)) * 4096
    files = {
        "manifest.json": b"{}",
        "manifest.sig": b"s" * 64,
        "positions.csv": b"p",
        "instructions.csv": b"i",
        "obligations.csv": b"o",
        "statements/AIR.csv": big,
        "statements/EYE.csv": b"eye",
        "statements/AIR-2.csv": b"other",
        "statements/AIR.LINE.csv": b"one more",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)

    async def download(caller: str) -> dict[str, bytes]:
        answer = await house.call("GET", "/v1/packages/c1", caller=caller)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/zip"
        with zipfile.ZipFile(io.BytesIO(answer.raw)) as archive:
            assert archive.testzip() is None
            return {name: archive.read(name) for name in archive.namelist()}

    assert await download("house") == files
    assert (await download("AIR")).keys() == {
        "manifest.json",
        "manifest.sig",
        "instructions.csv",
        "positions.csv",
        "statements/AIR.csv",
    }
    assert (await house.call("GET", "/v1/cycles/c1")).body["package"] is True


@shared
@pytest.mark.parametrize("cycle", ["c9", "..", "%2e%2e", "..%2fkeys", "c1%00", "."])
async def test_package_that_is_not_there_is_not_found(shared_house: House, cycle):
    """A path outside the folder of packages names nothing."""
    (shared_house.home / "manifest.json").write_text("{}")
    url = f"http://127.0.0.1:{shared_house.port}/v1/packages/{cycle}"
    async with aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {shared_house.operator}"}
        from yarl import URL

        async with http.get(URL(url, encoded=True), headers=headers) as response:
            assert response.status == 404


# --- who calls ---


@shared
@pytest.mark.parametrize(
    "authorization",
    [None, "Bearer wrong", "Bearer ", "Basic abc", "tdk_x", "Bearer tdk_" + "A" * 43, "Bearer ä"],
)
async def test_nobody_gets_nothing(shared_house: House, authorization):
    """Without a known key every route but the public ones answers 401."""
    headers = {} if authorization is None else {"Authorization": authorization}
    for method, path in (("GET", "/v1/cycles"), ("POST", "/v1/orders"), ("GET", "/v1/packages/c1")):
        answer = await shared_house.call(method, path, caller=None, headers=headers)
        assert (answer.status, answer.reason) == (401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert (await shared_house.call("GET", path, caller=None, headers=headers)).status == 200


async def test_revoked_key_is_forgotten_within_seconds(house: House):
    """A key that was revoked opens nothing once gateways look again; other keys of the merchant stay."""
    house.keys["second"] = await new_key(house, "AIR")
    assert (await house.call("GET", "/v1/positions", caller="second")).status == 200
    digest = key_digest(house.keys["second"])
    how: dict[str, Any] = {"code": "AIR", "by": PROGRAM, "now": house.services.now()}
    assert await revoke_api_key(house.pool, digest, **how)
    assert not await revoke_api_key(house.pool, digest, **how)

    async def forgotten() -> bool:
        return (await house.call("GET", "/v1/positions", caller="second")).status == 401

    await soon(forgotten)
    assert (await house.call("GET", "/v1/positions", caller="AIR")).status == 200


async def test_keys_are_hashed_at_rest(house: House):
    """The database holds the digest of a key and nothing of the key."""
    rows = await house.pool.fetch("SELECT * FROM exchange.api_key")
    assert hashlib.sha256(house.keys["AIR"].encode()).digest() in {row["digest"] for row in rows}
    assert house.keys["AIR"] not in repr(rows)


async def test_operator_key_is_made_once_in_a_private_file(house: House):
    """The house's key is kept in a file of mode 0600, and asked again it is the same."""
    path = house.home / "operator.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = await operator_key(house.pool, house.home, now=house.services.now())
    assert again == house.operator


@shared
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/merchants"), ("POST", "/v1/cycles/close"), ("POST", "/v1/cycles/c1/settle")],
)
async def test_merchants_do_not_operate(shared_house: House, method, path):
    """Registering merchants and turning cycles is the house's."""
    answer = await shared_house.call(method, path, {}, caller="AIR")
    assert (answer.status, answer.reason) == (403, "forbidden")


# --- protocol ---


async def test_paths_and_methods_outside_the_table(house: House):
    """An unknown path is 404, a wrong method 405 with those that are allowed; both as problems."""
    assert (await house.call("GET", "/v2/orders")).reason == "not_found"
    answer = await house.call("DELETE", "/v1/orders")
    assert (answer.status, answer.reason) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"
    answer = await house.call("PUT", "/v1/merchants")
    assert answer.headers["Allow"] == "GET, POST"


async def test_bodies_are_limited_in_size_and_kind(house: House):
    """A body that is too large is 413, one of another kind 415; nothing of it is read further."""
    large = await house.call("POST", "/v1/orders", raw=b" " * 70_000, key="k")
    assert (large.status, large.reason) == (413, "request_too_large")
    bulk = await house.call("POST", "/v1/orders/bulk", raw=b" " * (17 * 1024 * 1024))
    assert (bulk.status, bulk.reason) == (413, "request_too_large")
    for path in ("/v1/orders", "/v1/orders/bulk", "/v1/quotes"):
        answer = await house.call(
            "POST", path, raw=b"a=b", key="k",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )  # fmt: skip
        assert (answer.status, answer.reason) == (415, "unsupported_media_type")


async def test_answers_carry_a_request_id_and_problems_repeat_it(house: House):
    """Every exchange has a name of its own."""
    ids = [
        (await house.call("GET", path)).headers["X-Request-Id"] for path in ("/healthz", "/nope")
    ]
    assert len(set(ids)) == 2
    answer = await house.call("GET", "/nope")
    assert answer.body["request_id"] == answer.headers["X-Request-Id"]
    assert answer.body["instance"] == "/nope"


async def test_body_that_never_comes_ends_in_time(house: House, monkeypatch):
    """A caller that sends half a body is answered 408 and hung up."""
    monkeypatch.setattr("exchange.gateway.gate.BODY_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(
        b"POST /v1/quotes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer " + house.operator.encode() + b"\r\nContent-Length: 50\r\n\r\n{"
    )
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"request_timed_out" in answer
    writer.close()
    await writer.wait_closed()


async def test_metrics_count_by_route_and_reason(house: House):
    """Histograms by route, commands and refusals by reason stand in Prometheus' format."""
    await house.order(PLAIN)
    await house.order(PLAIN | {"acceptor": "AIR"})
    text = (await house.call("GET", "/metrics")).raw.decode()
    assert 'tongdui_request_seconds_count{route="post_orders"} 2.0' in text
    assert 'tongdui_commands_total{route="post_orders"} 2.0' in text
    assert 'tongdui_refusals_total{reason="same_merchant"} 1.0' in text
    assert 'tongdui_responses_total{route="post_orders",status="201"} 1.0' in text


# --- availability ---


async def test_too_many_at_once_are_told_to_come_back(house: House):
    """Beyond the limit a request is 503 with Retry-After, and nothing was decided."""
    gate: Gate = house.app[GATE]
    gate.in_flight_max = 0
    answer = await house.order(PLAIN, key="k")
    assert (answer.status, answer.reason) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.body["retryable"]
    gate.in_flight_max = 10
    assert (await house.order(PLAIN, key="k")).status == 201


async def test_without_a_writer_orders_are_unavailable_and_the_gateway_not_ready(house: House):
    """When the writer is away the answer is 503, not a guess, and /readyz says why."""
    assert (await house.call("GET", "/readyz")).body == {
        "ready": True,
        "writer": True,
        "database": True,
        "stopping": False,
    }
    await house.writer.stop()
    answer = await house.order(PLAIN)
    assert (answer.status, answer.reason) == (503, "unavailable")
    ready = await house.call("GET", "/readyz")
    assert ready.status == 503
    assert ready.body["writer"] is False
    assert (await house.call("GET", "/healthz")).status == 200


async def test_without_a_database_reads_are_unavailable(house: House):
    """A lost database is 503 with Retry-After, never a fault of ours."""
    await house.pool.close()
    answer = await house.call("GET", "/v1/cycles")
    assert (answer.status, answer.reason) == (503, "unavailable")
    assert (await house.call("GET", "/readyz")).status == 503


@pytest.mark.parametrize("headers", [{}, {"TE": "trailers"}], ids=["lane", "general"])
async def test_graceful_stop_answers_what_is_in_flight_and_takes_nothing_new(
    house: House, monkeypatch, headers
):
    """Every order that was taken before the stop is answered and booked; then nobody is let in any more."""
    app = create_app(house.services)
    headers = headers | {"Authorization": f"Bearer {house.operator}"}
    taken = 0
    go_on = asyncio.Event()
    decide = OrderDesk.decide

    async def slow(self, asked):
        nonlocal taken
        taken += len(asked)
        await go_on.wait()
        return await decide(self, asked)

    monkeypatch.setattr(OrderDesk, "decide", slow)
    async with aiohttp.ClientSession() as http:

        async def one(n: int, port: int) -> tuple[int, dict[str, str]]:
            async with http.post(
                f"http://127.0.0.1:{port}/v1/orders",
                json=PLAIN,
                headers=headers | {"Idempotency-Key": f"stop-{n}"},
            ) as response:
                return response.status, await response.json()

        async with serve(app, host="127.0.0.1", port=0) as port:
            tasks = [asyncio.create_task(one(n, port)) for n in range(50)]
            while taken < 50:
                await asyncio.sleep(0.001)
            asyncio.get_running_loop().call_later(0.3, go_on.set)
        answers = await asyncio.gather(*tasks)
    assert [status for status, _ in answers] == [201] * 50
    for _, body in answers:
        shown = await house.call("GET", f"/v1/orders/{body['order_id']}")
        assert shown.body["status"] == "cleared"
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
        pass


async def test_a_stopping_gateway_says_so(house: House):
    """While it stops, a gateway answers what still arrives with 503 and is not ready."""
    house.app[GATE].stopping = True
    answer = await house.order(PLAIN)
    assert (answer.status, answer.reason) == (503, "unavailable")
    assert (await house.call("GET", "/v1/cycles")).status == 503
    ready = await house.call("GET", "/readyz")
    assert (ready.status, ready.body["stopping"]) == (503, True)
