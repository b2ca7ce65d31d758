"""Webhooks to real sockets: from the journal, signed, in order, and never in anybody's way."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from aiohttp.abc import AbstractResolver

from exchange.core.webhook import ATTEMPTS_MAX
from exchange.service.notices import write_notices
from exchange.service.postman import LEASE_SECONDS
from exchange.service.webhook_keys import REREAD_SECONDS, open_webhook_keys
from exchange.service.webhook_sender import WebhookSender
from settlement.core.trail import PROGRAM
from settlement.service.cycles import close_cycle
from settlement.service.funding import set_level
from tests.gateway.conftest import AIR, House, clearing_house, merchant, soon
from tests.gateway.receiver import Got, delivering, is_ours, receiving, register

DAY = 86_400


@pytest_asyncio.fixture
async def house(dsn, tmp_path):
    """A house that takes endpoints on this machine; Anna has 10,000 miles."""
    async with clearing_house(dsn, tmp_path, private_endpoints=True) as running:
        await running.accrue("anna", "AIR", 10_000)
        yield running


async def view(house: House, number: int) -> Any:
    """An endpoint as the house sees its own."""
    return (await house.call("GET", f"/v1/endpoints/{number}")).body


async def until(check, *, seconds: float = 40.0) -> None:
    """Wait until something holds."""

    async def holds() -> bool:
        return bool(check())

    await soon(holds, seconds=seconds)


async def test_orders_are_told_in_order_and_each_side_sees_its_own(house: House):
    """Issuer, acceptor and house each hear of an order once, in the journal's order, signed, with their own side."""
    async with receiving() as air, receiving() as eye, receiving() as all_, delivering(house):
        await register(house, air.url, caller="AIR")
        await register(house, eye.url, caller="EYE")
        await register(house, all_.url)
        for number in range(5):
            await house.order(AIR | {"units": "10", "reference": f"bill {number}"}, caller="EYE")
        await house.order(AIR | {"units": "999999"})
        await until(lambda: min(map(len, (air.got, eye.got, all_.got))) >= 6)
        assert all_.events == ["order.cleared"] * 5 + ["order.refused"]
        assert air.events == eye.events == all_.events
        ids = [each.message_id for each in all_.got]
        assert ids == sorted(ids, key=lambda text: int(text.split("-")[2]))
        assert [each.message_id for each in air.got] == ids
        for got in (*air.got, *eye.got):
            assert await is_ours(house, got)
            assert got.event["id"] == got.message_id
        issuer, acceptor = air.got[0].event["data"], eye.got[0].event["data"]
        assert (issuer["units"], issuer["debit_cu"]) == ("10", "3330")
        assert not {"value_cu", "fee_cu", "reference"} & issuer.keys()
        assert (acceptor["value_cu"], acceptor["reference"]) == ("3300", "bill 0")
        assert not {"units", "debit_cu"} & acceptor.keys()
        assert all_.got[0].event["data"].keys() > {"units", "debit_cu", "value_cu", "fee_cu"}
        assert all_.got[5].event["data"]["reason"] == "insufficient_points"
        assert b"anna" not in b"".join(each.body for each in (*air.got, *eye.got, *all_.got))
        path = f"/v1/orders/{issuer['order_id']}"
        assert (await house.call("GET", path)).body["status"] == "cleared"
        await house.call("POST", f"{path}/reverse", {"units": "4"}, key="back")
        await until(lambda: min(map(len, (air.got, eye.got))) >= 7)
        back, paid = air.got[6].event, eye.got[6].event
        assert back["type"] == "order.reversed"
        assert back["data"]["order_id"] == issuer["order_id"]
        assert (back["data"]["units"], paid["data"]["value_cu"]) == ("4", "1320")


async def test_ends_of_two_phase_orders_name_the_order(house: House):
    """Acceptance and end of an order carry the same order id; who is not concerned hears nothing."""
    async with receiving() as own, receiving() as air, delivering(house):
        await register(house, own.url, caller="OWN")
        await register(house, air.url, caller="AIR")
        terms = {"member": "anna", "issuer": "OWN", "acceptor": "EYE", "units": "4"}
        orders = [await house.order(terms) for _ in range(2)]
        names = [each.body["order_id"] for each in orders]
        await house.call("POST", f"/v1/orders/{names[0]}/clear")
        await house.call("POST", f"/v1/orders/{names[1]}/void")
        await until(lambda: len(own.got) >= 4)
        assert own.events == ["order.accepted", "order.accepted", "order.cleared", "order.voided"]
        told = [each.event["data"]["order_id"] for each in own.got]
        assert told == [names[0], names[1], names[0], names[1]]
        assert own.got[0].event["data"]["hold_until"]
        assert not air.got


async def test_only_wanted_types_are_sent(house: House):
    """An endpoint that names types of events hears of those alone."""
    async with receiving() as only, delivering(house):
        await register(house, only.url, types=["cycle.closed", "order.refused"])
        await house.order(AIR | {"units": "10"})
        await house.order(AIR | {"units": "999999"})
        await close_cycle(house.writer, cycle_no=1, next_id="c2")
        await until(lambda: len(only.got) >= 2)
        assert only.events == ["order.refused", "cycle.closed"]
        assert only.got[1].event["data"] == {"cycle": "c1", "number": 1}


async def test_what_failed_is_tried_again_in_order_under_the_same_id(house: House):
    """An event that is not taken holds back those behind it, and comes again with the same id and the same bytes."""
    async with receiving(script=[500, 503, 302]) as flaky, delivering(house):
        number = await register(house, flaky.url)
        for units in ("10", "20"):
            await house.order(AIR | {"units": units})
        for attempts, pause in ((1, 5), (2, 300), (3, 1800)):
            await until(lambda attempts=attempts: len(flaky.got) >= attempts)
            await soon(lambda attempts=attempts: _failures(house, number, attempts))
            house.clock.advance(pause * 0.7)
            await asyncio.sleep(0.05)
            assert len(flaky.got) == attempts, "it was tried before its time"
            house.clock.advance(pause * 0.6)
        await until(lambda: len(flaky.got) >= 5)
        first, *again, second = flaky.got
        assert {(each.message_id, each.body) for each in again} == {(first.message_id, first.body)}
        assert int(again[-1].timestamp) - int(first.timestamp) >= 2_000
        assert len({each.signatures for each in (first, *again)}) == 4
        assert second.event["data"]["units"] == "20"
        await soon(lambda: _failures(house, number, 0))
        assert (await view(house, number))["last_error"] == "answered 302"


async def _failures(house: House, number: int, count: int) -> bool:
    return bool((await view(house, number))["failures"] == count)


async def test_a_receiver_may_ask_for_a_longer_pause(house: House):
    """A `Retry-After` beyond our own pause is kept."""
    async with (
        receiving(script=[429], headers={"Retry-After": "900"}) as busy,
        delivering(house),
    ):
        await register(house, busy.url)
        await house.order(AIR | {"units": "10"})
        await until(lambda: len(busy.got) == 1)
        await asyncio.sleep(0.05)
        house.clock.advance(800)
        await asyncio.sleep(0.1)
        assert len(busy.got) == 1
        house.clock.advance(101)
        await until(lambda: len(busy.got) == 2)


async def test_what_is_never_taken_becomes_a_dead_letter_and_can_be_replayed(house: House):
    """After all attempts an event is given up, the next is sent, and a replay delivers it under its own id."""
    async with receiving(script=[400] * ATTEMPTS_MAX) as picky, delivering(house):
        number = await register(house, picky.url)
        for units in ("10", "20"):
            await house.order(AIR | {"units": units})
        for attempts in range(1, ATTEMPTS_MAX):
            await until(lambda attempts=attempts: len(picky.got) >= attempts)
            await soon(lambda attempts=attempts: _failures(house, number, attempts))
            house.clock.advance(1.3 * DAY)
        await until(lambda: len(picky.got) > ATTEMPTS_MAX)
        lost, taken = picky.got[0], picky.got[-1]
        assert taken.event["data"]["units"] == "20"
        path = f"/v1/endpoints/{number}/dead-letters"
        answer = (await house.call("GET", path)).body
        assert answer["next"] is None
        [letter] = answer["dead_letters"]
        assert (letter["id"], letter["attempts"]) == (lost.message_id, ATTEMPTS_MAX)
        assert letter["last_error"] == "answered 400"
        assert (await view(house, number))["dead_letters"] == 1
        before = len(picky.got)
        assert (await house.call("POST", f"{path}/replay", {"ids": ["evt-1-999"]})).body == {
            "replayed": 0
        }
        assert (await house.call("POST", f"{path}/replay")).body == {"replayed": 1}
        house.clock.advance(5)
        await until(lambda: len(picky.got) > before)
        assert (picky.got[-1].message_id, picky.got[-1].body) == (lost.message_id, lost.body)

        async def delivered() -> bool:
            [letter] = (await house.call("GET", path)).body["dead_letters"]
            return letter["delivered_at"] is not None

        await soon(delivered)
        assert (await view(house, number))["dead_letters"] == 0
        assert (await house.call("POST", f"{path}/replay")).body == {"replayed": 0}


async def test_an_endpoint_where_nobody_is_pauses_and_goes_on_where_it_stood(house: House):
    """After a second event in a row fails the endpoint is paused; resumed, it gets everything from the journal."""
    async with receiving(script=[500] * (ATTEMPTS_MAX + 1)) as away, delivering(house):
        number = await register(house, away.url)
        for units in ("10", "20", "30"):
            await house.order(AIR | {"units": units})
        for attempts in range(1, ATTEMPTS_MAX):
            await soon(lambda attempts=attempts: _failures(house, number, attempts))
            house.clock.advance(1.3 * DAY)

        async def paused() -> bool:
            return (await view(house, number))["paused_at"] is not None

        await soon(paused)
        assert len(away.got) == ATTEMPTS_MAX + 1
        house.clock.advance(10 * DAY)
        await house.order(AIR | {"units": "40"})
        await asyncio.sleep(0.1)
        assert len(away.got) == ATTEMPTS_MAX + 1
        resumed = await house.call("POST", f"/v1/endpoints/{number}/resume")
        assert resumed.body["paused_at"] is None
        await until(lambda: len(away.got) == ATTEMPTS_MAX + 4)
        assert [each.event["data"]["units"] for each in away.got[-3:]] == ["20", "30", "40"]


async def test_gone_means_gone(house: House):
    """An endpoint that answers 410 is paused at once, and a removed one hears nothing more."""
    async with receiving(script=[410]) as gone, receiving() as removed, delivering(house):
        number = await register(house, gone.url)
        other = await register(house, removed.url)
        await house.order(AIR | {"units": "10"})

        async def paused() -> bool:
            return (await view(house, number))["paused_at"] is not None

        await soon(paused)
        await until(lambda: len(removed.got) == 1)
        answer = await house.call("DELETE", f"/v1/endpoints/{other}")
        assert answer.body == {"endpoint": other}
        house.clock.advance(3)
        await asyncio.sleep(0.1)
        await house.order(AIR | {"units": "10"})
        await asyncio.sleep(0.2)
        assert (len(gone.got), len(removed.got)) == (1, 1)
        assert (await house.call("GET", f"/v1/endpoints/{other}")).status == 404
        assert (await house.call("DELETE", f"/v1/endpoints/{other}")).status == 404


async def test_while_keys_rotate_a_webhook_has_both_signatures(house: House):
    """From a rotation until the old key retires each webhook carries a signature of either key."""
    async with receiving() as taker, delivering(house):
        await register(house, taker.url)
        await house.order(AIR | {"units": "10"})
        await until(lambda: len(taker.got) == 1)
        now = house.services.now()
        open_webhook_keys(house.services.key_folder, now=now).rotate(
            at=now, overlap=timedelta(days=1)
        )
        await asyncio.sleep(REREAD_SECONDS + 0.1)
        await house.order(AIR | {"units": "10"})
        await until(lambda: len(taker.got) == 2)
        assert [len(each.signatures.split()) for each in taker.got] == [1, 2]
        keys = (await house.call("GET", "/v1/events/keys", caller=None)).body["keys"]
        assert [key["signs_until"] is None for key in keys] == [True, False]
        for got in taker.got:
            assert await is_ours(house, got)


def _seq(got: Got) -> int:
    """Number of the journal's row that a webhook tells of."""
    return int(got.message_id.split("-")[2])


async def test_a_killed_worker_loses_nothing_and_another_goes_on(house: House):
    """A killed worker's endpoints are taken over when its lease is over; just what it had not noted is told again."""
    async with receiving() as taker, delivering(house) as first:
        await register(house, taker.url)
        wishes = [
            {
                "key": f"k{number}",
                "issuer": "AIR",
                "acceptor": "EYE",
                "member": "anna",
                "units": "1",
            }
            for number in range(200)
        ]
        assert (await house.call("POST", "/v1/orders/bulk", wishes)).status == 200
        await until(lambda: len(taker.got) >= 70)
        await first.die()
        seen = len(taker.got)
        assert seen < 200
        noted = await house.pool.fetchval("SELECT seq FROM exchange.endpoint")
        async with delivering(house):
            await asyncio.sleep(0.1)
            assert len(taker.got) <= seen + 1, "the lease of the dead was not kept"
            told = [_seq(each) for each in taker.got]
            house.clock.advance(LEASE_SECONDS + 1)
            await until(lambda: len({each.message_id for each in taker.got}) == 200)
        repeated = len(taker.got) - 200
        assert repeated == sum(seq > noted for seq in told) <= 51
        assert len({(each.message_id, each.body) for each in taker.got}) == 200
        order = list(dict.fromkeys(_seq(each) for each in taker.got))
        assert order == sorted(order)


async def test_two_workers_share_the_endpoints(house: House):
    """Of two workers each serves endpoints of its own, and nothing is sent twice."""
    async with receiving() as taker, delivering(house) as first, delivering(house) as second:
        for _ in range(8):
            await register(house, taker.url)
        await until(lambda: first.postman.served + second.postman.served == 8)
        await house.order(AIR | {"units": "10"})
        await until(lambda: len(taker.got) == 8)
        await asyncio.sleep(0.05)
        assert len(taker.got) == 8


async def test_a_slow_endpoint_slows_nobody(house: House, tell_figure):
    """Beside endpoints that hang, orders are decided and others are told as fast as without them."""

    async def run(count: int) -> tuple[float, float]:
        began = time.perf_counter()
        for _ in range(count):
            assert (await house.order(AIR | {"units": "1"})).status == 201
        ordered = time.perf_counter() - began
        await until(lambda: len(quick.got) >= expected)
        return ordered, time.perf_counter() - began

    async with receiving() as quick, delivering(house, total_seconds=30.0):
        await register(house, quick.url)
        expected = 40
        alone, told_alone = await run(40)
        async with receiving(script=[20.0] * 100) as slow:
            for _ in range(5):
                await register(house, slow.url, caller="AIR")
                await register(house, slow.url, caller="EYE")
            expected = 80
            beside, told_beside = await run(40)
            assert len(slow.got) == 10, "each hanging endpoint has one attempt under way"
        assert beside < 3 * alone + 0.5
        assert told_beside < 3 * told_alone + 1.0
        assert len(quick.got) == 80
    tell_figure(
        f"webhooks: 40 orders in {alone * 1000:.0f} ms and told after {told_alone * 1000:.0f} ms; "
        f"beside 10 hanging endpoints {beside * 1000:.0f} and {told_beside * 1000:.0f} ms"
    )


async def test_low_funds_are_told_once_and_when_they_are_enough_again(house: House):
    """A merchant below the level that was set for it hears of it once, and once more when it is not."""
    packages, now = house.services.packages, house.services.now()

    async def look() -> int:
        return await write_notices(
            house.pool, shelf=house.services.shelf, packages=packages, now=now
        )

    assert await look() == 0
    for number, (level_cu, why) in enumerate(((700, "below_level"), (0, ""))):
        await set_level(
            house.pool, merchant_no=1, code="AIR", level_cu=level_cu, by=PROGRAM,
            at=now + timedelta(seconds=number),
        )  # fmt: skip
        assert [await look(), await look()] == [1, 0]
        page = await house.call("GET", "/v1/events?limit=100", caller="AIR")
        event = page.body["events"][-1]
        assert event["type"] == f"merchant.funds_{'low' if why else 'enough'}"
        assert event["data"] == {"merchant": "AIR", "funds_cu": "0", "needs_cu": "0", "why": why}


async def test_packages_and_caps_are_told_once(house: House):
    """A package is told of when it stands, a cap when it is nearly used and when it has eased, and each once."""
    own = merchant("CAP", 100) | {"cap_cu": "10000"}
    answer = await house.call("POST", "/v1/merchants", own)
    house.keys["CAP"] = answer.body["api_key"]
    await house.accrue("anna", "CAP", 1_000)
    packages = house.services.packages

    async def look() -> int:
        return await write_notices(
            house.pool, shelf=house.services.shelf, packages=packages, now=house.services.now()
        )

    async with receiving() as cap, receiving() as air, delivering(house):
        await register(house, cap.url, caller="CAP")
        await register(house, air.url, caller="AIR", types=["merchant.cap_near", "batch.published"])
        assert await look() == 0
        order = {"member": "anna", "issuer": "CAP", "acceptor": "EYE", "units": "85"}
        assert (await house.order(order)).status == 201
        # Only events of the journal follow each other in order; a notice may overtake one that is not told yet.
        await until(lambda: len(cap.got) == 1)
        assert [await look(), await look()] == [1, 0]
        await until(lambda: len(cap.got) == 2)
        assert cap.events == ["order.cleared", "merchant.cap_near"]
        assert cap.got[1].event["data"] == {
            "merchant": "CAP", "limit_cu": "10000", "headroom_cu": "1500",
        }  # fmt: skip
        back = {"member": "anna", "issuer": "AIR", "acceptor": "CAP", "units": "20"}
        assert (await house.order(back)).status == 201
        await until(lambda: len(cap.got) == 3)
        assert [await look(), await look()] == [1, 0]
        await until(lambda: len(cap.got) == 4)
        assert cap.events[2:] == ["order.cleared", "merchant.cap_eased"]
        async with house.pool.acquire() as conn:
            await conn.execute(
                """
                INSERT INTO settlement.batch
                VALUES (1, 1, 'c1', '{}', decode(repeat('00', 32), 'hex'), decode(repeat('ab', 32), 'hex'), now())
                """
            )
        assert await look() == 0, "the folder does not stand yet"
        (packages / "c1").mkdir(parents=True)
        (packages / "c1" / "manifest.json").touch()
        assert [await look(), await look()] == [1, 0]
        await until(lambda: len(air.got) == 1 and len(cap.got) == 5)
        assert air.got[0].event["data"] == {
            "cycle": "c1", "sequence": 1, "manifest_sha256": "ab" * 32,
        }  # fmt: skip


# --- registering ---


async def test_endpoints_are_private_to_their_merchant(house: House):
    """A merchant neither sees, resumes, removes nor replays another's endpoint, and its own views show no secret."""
    number = await register(house, "http://127.0.0.1:1/hook", caller="AIR")
    path = f"/v1/endpoints/{number}"
    for method, each in (
        ("GET", path),
        ("DELETE", path),
        ("POST", f"{path}/resume"),
        ("GET", f"{path}/dead-letters"),
        ("POST", f"{path}/dead-letters/replay"),
    ):
        assert (await house.call(method, each, caller="EYE")).reason == "not_found"
    assert (await house.call("GET", "/v1/endpoints", caller="EYE")).body["endpoints"] == []
    [own] = (await house.call("GET", "/v1/endpoints", caller="AIR")).body["endpoints"]
    assert own["endpoint"] == number
    assert not any("secret" in name or "key" in name for name in own)


async def test_a_merchant_has_no_more_than_ten_endpoints(house: House):
    """The eleventh is refused with its own reason, also when many are registered at once."""
    answers = await asyncio.gather(
        *(
            house.call("POST", "/v1/endpoints", {"url": "http://127.0.0.1:1/"}, caller="AIR")
            for _ in range(13)
        )
    )
    assert sorted(each.status for each in answers) == [201] * 10 + [409] * 3
    refused = next(each for each in answers if each.status == 409)
    assert refused.reason == "endpoint_limit_reached"
    assert await register(house, "http://127.0.0.1:1/", caller="EYE")


async def test_bad_endpoints_are_refused_by_field(house: House):
    """What cannot be an endpoint is refused, naming the field."""
    here = "http://127.0.0.1/"
    for body, field in (
        ({"url": "gopher://merchant.example/"}, "$.url"),
        ({"url": ""}, "$.url"),
        ({"url": here, "types": ["order.lost"]}, "$.types[0]"),
        ({"url": here, "after": "9999999.0"}, "$.after"),
        ({"url": here, "after": "x"}, "$.after"),
        ({}, "$.url"),
    ):
        answer = await house.call("POST", "/v1/endpoints", body)
        assert (answer.status, answer.body["field"]) == (400, field), body


async def test_an_endpoint_may_begin_in_the_past(house: House):
    """With a place of the stream an endpoint is told of everything after it, for the journal keeps it."""
    for units in ("10", "20", "30"):
        await house.order(AIR | {"units": units})
    page = (await house.call("GET", "/v1/events?types=order.cleared&limit=1")).body
    async with receiving() as late, delivering(house):
        await register(house, late.url, after=page["next"])
        await until(lambda: len(late.got) == 2)
        assert [each.event["data"]["units"] for each in late.got] == ["20", "30"]


# --- what is never called ---


class Trick(AbstractResolver):
    """A name server under somebody's control: public when it is asked first, private from then on."""

    def __init__(self, *answers: str) -> None:
        """Take the addresses to answer, the last one for ever."""
        self.answers = list(answers)

    async def resolve(self, host, port=0, family=0):
        """Answer the next address."""
        address = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            {"hostname": host, "host": address, "port": port, "family": 2, "proto": 0, "flags": 0}
        ]

    async def close(self) -> None:
        """Nothing to close."""


async def attempt(sender: WebhookSender, url: str):
    """Send one webhook."""
    try:
        return await sender.send(url, keys=[], message_id="evt-1-1", timestamp=0, body=b"{}")
    finally:
        await sender.close()


@pytest.mark.parametrize("private_address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"])
async def test_a_name_that_leads_into_a_private_network_is_not_called(private_address: str):
    """Outside a sandbox the address that a name leads to decides, and no connection is made to a private one."""
    sender = WebhookSender(resolver=Trick(private_address), total_seconds=2)
    sent = await attempt(sender, "https://merchant.example/hook")
    assert not sent.delivered
    assert "private network" in sent.error


async def test_addresses_in_the_url_are_judged_too():
    """An address that stands in the URL passes no resolver, and is refused all the same."""
    async with receiving() as inside:
        for url in (inside.url, f"https://127.0.0.1:{inside.port}/", "https://[::1]/"):
            sent = await attempt(WebhookSender(total_seconds=2), url)
            assert not sent.delivered
        assert not inside.got


async def test_redirects_are_not_followed():
    """A redirect is a failed attempt: it could lead anywhere."""
    async with (
        receiving() as inner,
        receiving(script=[302], headers={"Location": inner.url}) as outer,
    ):
        sent = await attempt(WebhookSender(private=True), outer.url)
        assert (sent.delivered, sent.error) == (False, "answered 302")
        assert not inner.got


async def test_a_long_answer_is_cut_off_and_a_hanging_one_given_up():
    """Of an answer no more than a little is read, and an attempt ends in time."""
    async with receiving(answer_bytes=50_000_000) as chatty:
        began = time.perf_counter()
        assert (await attempt(WebhookSender(private=True), chatty.url)).delivered
        assert time.perf_counter() - began < 2
    async with receiving(script=[5.0]) as hanging:
        sent = await attempt(WebhookSender(private=True, total_seconds=0.1), hanging.url)
        assert sent.error == "no answer in time"


async def test_an_endpoint_that_speaks_no_http_is_a_failed_attempt():
    """A closed port, a mute server and one that speaks nonsense are failures with a short reason."""

    async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        sent = await attempt(WebhookSender(private=True), f"http://127.0.0.1:{port}/")
        assert not sent.delivered
    closed = await attempt(WebhookSender(private=True), f"http://127.0.0.1:{port}/")
    assert closed.error == "no connection"
    tls = await attempt(WebhookSender(private=True), f"https://127.0.0.1:{port}/")
    assert not tls.delivered
