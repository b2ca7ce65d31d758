"""The fast lane and the general way answer alike, and a connection passes from one to the other whole."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from exchange.gateway.gate import GATE
from exchange.gateway.lane import Lanes
from exchange.service.orders import OrderDesk
from tests.gateway.conftest import House, fresh_key, shared

PLAIN = {"member": "anna", "issuer": "AIR", "acceptor": "EYE", "units": "10"}
HELD = PLAIN | {"issuer": "OWN"}
GENERAL = {"TE": "trailers"}
"""A header that the full parser reads over, and that makes a request not plain."""
OWN_TO_EACH = {"order_id", "at", "hold_until", "request_id", "Date", "X-Request-ID", "Server"}


def http(
    house: House, body: object, *, key: str | None, target: str = "/v1/orders", more: str = ""
) -> bytes:
    """A request's bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.operator}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n{more}"
    )
    if key is not None:
        head += f"Idempotency-Key: {key}\r\n"
    return head.encode() + b"\r\n" + data


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    """Read one answer: status and body."""
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode()
    status = int(head.split(" ")[1])
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    body = await reader.readexactly(int(headers["Content-Length"]))
    return status, json.loads(body)


@shared
@pytest.mark.parametrize(
    ("body", "key", "caller"),
    [
        (PLAIN, "k", "house"),
        (PLAIN | {"kind": "exchange", "reference": "票据 7"}, "k", "EYE"),
        (HELD, "k", "OWN"),
        (PLAIN | {"units": "99999"}, "k", "house"),
        (PLAIN | {"member": "nobody"}, "k", "house"),
        (PLAIN, "k", "OWN"),
        (PLAIN, None, "house"),
        (PLAIN, "schlüssel", "house"),
        (PLAIN | {"units": 10}, "k", "house"),
        (PLAIN, "k", None),
        (PLAIN, "k", "wrong"),
        ({"member": "anna", "quote": "x"}, "k", "house"),
    ],
)
async def test_both_ways_answer_alike(shared_house: House, body, key, caller):
    """The same request gets the same status, headers and body by the lane and by the full parser."""
    shared_house.keys["wrong"] = "wrong"
    answers = []
    for number, headers in enumerate(({}, GENERAL)):
        own = None if key is None else f"{key}{number}-{fresh_key()}"
        answers.append(
            await shared_house.call(
                "POST", "/v1/orders", body, key=own, caller=caller, headers=headers
            )
        )
    lane, general = answers
    assert lane.status == general.status

    def common(items: Any) -> dict[str, Any]:
        return {name: value for name, value in items if name not in OWN_TO_EACH}

    assert common(lane.body.items()) == common(general.body.items())
    assert lane.body.keys() == general.body.keys()
    names = {name for name, _ in common(lane.headers.items()).items()}
    assert names == set(common(general.headers.items()))
    if lane.status == 201 and lane.body["status"] == "accepted":
        for answer, headers in ((lane, {}), (general, GENERAL)):
            path = f"/v1/orders/{answer.body['order_id']}/clear"
            ended = await shared_house.call("POST", path, caller=caller, headers=headers)
            assert (ended.status, ended.body["status"]) == (200, "cleared")
            path = path.replace("clear", "void")
            ended = await shared_house.call("POST", path, caller=caller, headers=headers)
            assert (ended.status, ended.reason) == (409, "order_already_cleared")


async def test_a_key_means_the_same_on_both_ways(house: House):
    """An order by the lane, repeated on the general way, is answered with the first answer."""
    lane = await house.call("POST", "/v1/orders", PLAIN, key="k")
    general = await house.call("POST", "/v1/orders", PLAIN, key="k", headers=GENERAL)
    assert lane.raw == general.raw


async def test_concurrent_orders_leave_in_batches(house: House, monkeypatch):
    """Orders that arrive together are decided together, each answered on its own connection."""
    sizes = []
    decide = OrderDesk.decide

    async def counted(self, asked):
        sizes.append(len(asked))
        return await decide(self, asked)

    monkeypatch.setattr(OrderDesk, "decide", counted)
    answers = await asyncio.gather(
        *(house.order(PLAIN | {"units": str(n)}, key=f"k{n}") for n in range(1, 101))
    )
    assert [answer.body["units"] for answer in answers] == [str(n) for n in range(1, 101)]
    assert sum(sizes) == 100
    assert len(sizes) < 100
    assert (await house.net())["AIR"] == -333 * 5050


async def test_one_bad_request_in_a_batch_costs_nobody_else_an_answer(house: House):
    """Malformed, forbidden and unauthenticated requests among good ones are answered for themselves."""
    house.keys["wrong"] = "wrong"
    calls = []
    for n in range(10):
        calls += [
            house.order(PLAIN, key=f"a{n}"),
            house.order({"units": 3}, key=f"b{n}"),
            house.order(PLAIN, key=f"c{n}", caller="OWN"),
            house.order(PLAIN, key=f"d{n}", caller="wrong"),
        ]
    statuses = [answer.status for answer in await asyncio.gather(*calls)]
    assert statuses == [201, 400, 403, 401] * 10


async def test_a_batch_that_fails_is_answered_to_everybody(house: House, monkeypatch):
    """A fault of ours in a batch is 500 for each, with a request id and nothing of the fault."""

    async def fail(self, asked):
        raise RuntimeError("secret")

    monkeypatch.setattr(OrderDesk, "decide", fail)
    for answer in await asyncio.gather(*(house.order(PLAIN, key=f"k{n}") for n in range(5))):
        assert (answer.status, answer.reason) == (500, "internal_error")
        assert b"secret" not in answer.raw


async def test_requests_in_pieces_and_in_pipelines_are_answered_in_order(house: House):
    """Byte by byte, two at once, then a request of another kind, then an order again: all in their order."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    for byte in http(house, PLAIN, key="1"):
        writer.write(bytes([byte]))
        await writer.drain()
    assert (await read_answer(reader))[0] == 201
    quote = {"issuer": "AIR", "acceptor": "EYE", "units": "100"}
    writer.write(
        http(house, PLAIN | {"units": "2"}, key="2")
        + http(house, PLAIN | {"units": "99999"}, key="3")
        + http(house, quote, key=None, target="/v1/quotes")
        + http(house, PLAIN | {"units": "4"}, key="4")
        + http(house, PLAIN | {"units": "5"}, key="5", more="Connection: close\r\n")
    )
    answers = [await read_answer(reader) for _ in range(5)]
    assert [status for status, _ in answers] == [201, 409, 201, 201, 201]
    assert answers[0][1]["units"] == "2"
    assert answers[2][1]["reserves"] == "nothing"
    assert [answers[3][1]["units"], answers[4][1]["units"]] == ["4", "5"]
    assert await asyncio.wait_for(reader.read(), 30) == b""
    writer.close()
    await writer.wait_closed()


async def test_a_caller_far_ahead_of_its_answers_is_answered_all_the_same(house: House):
    """Three hundred orders in one write are answered one after the other, with bounded memory."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    filler = "x" * 35
    writer.write(
        b"".join(http(house, PLAIN | {"reference": filler}, key=f"p{n}") for n in range(300))
    )
    for _ in range(300):
        assert (await read_answer(reader))[0] == 201
    writer.close()
    await writer.wait_closed()
    assert (await house.net())["AIR"] == -3330 * 300


async def test_a_caller_that_leaves_costs_nothing(house: House):
    """Whoever hangs up before the answer has ordered all the same, and nobody else notices."""
    for n in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(http(house, PLAIN, key=f"gone{n}"))
        await writer.drain()
        writer.transport.abort()
    assert (await house.order(PLAIN, key="here")).status == 201
    repeated = [await house.order(PLAIN, key=f"gone{n}") for n in range(20)]
    assert {answer.status for answer in repeated} == {201}
    assert (await house.net())["AIR"] == -3330 * 21


async def test_idle_and_half_sent_connections_are_hung_up_on(house: House, monkeypatch):
    """A request that never becomes whole, and a connection on which nothing comes, are closed in time."""
    monkeypatch.setattr("exchange.gateway.lane.IDLE_SECONDS", 0.5)
    monkeypatch.setattr("exchange.gateway.lane.BODY_SECONDS", 0.5)
    monkeypatch.setattr("exchange.gateway.lane.SWEEP_SECONDS", 0.1)
    lanes = Lanes(house.app[GATE], asyncio.Protocol)
    server = await asyncio.get_running_loop().create_server(lanes, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for sent in (b"", http(house, PLAIN, key="k")[:-1]):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
    server.close()
    await lanes.stop(1)
