"""A mapping file alone connects a system that somebody else wrote.

The server here shares no code with the kit: it is what Orbit Coffee's own documents would describe, with
nested bodies, stars as texts with two decimal places, status 200 with an error code inside, wall time,
and a statement that goes on with a cursor.
"""

import datetime as dt
import json
import random
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
from aiohttp import web

from adapters.kit import registry
from adapters.kit.context import Context
from adapters.kit.contract import Incomplete, NotSent, Outcome, Step
from adapters.kit.secret import Secrets
from schemas.values.reason import Reason
from tests.adapters.scene import DAY, credit, ending, hold

CARD = "6201 0001"


class Orbit:
    """Orbit Coffee's open platform, written from its own side: decimals, cards, transactions."""

    def __init__(self):
        self.stars = {CARD: Decimal("5000.00")}
        self.done = {}
        self.rows = []
        self.busy = 0
        self.lose_a_row = False

    async def token(self, request):
        """Give an access token to a client that shows its secret in a Basic header."""
        assert request.headers["Authorization"].startswith("Basic ")
        assert (await request.post())["scope"] == "stars"
        return web.json_response(
            {"access_token": "at-1", "expires_in": 7200, "token_type": "bearer"}
        )

    async def call(self, request):
        """Every call is a POST below /gateway/."""
        assert request.headers["Authorization"] == "Bearer at-1"
        assert request.content_type == "application/json"
        message = json.loads(await request.text())
        if self.busy:
            self.busy -= 1
            return self.answer("S9429", message="请求过于频繁")
        name = request.match_info["name"].replace(".", "_").lower()
        return getattr(self, name)(message.get("head", {}), message["payload"])

    @staticmethod
    def answer(code, head=None, data=None, message="OK"):
        """What an answer always looks like, on one line with blanks, as their server writes it."""
        body = {"traceId": "t-1", "result": {"message": message, "code": code}}
        body |= {"head": head} if head else {}
        body |= {"data": data, "serverTime": "2026-03-02 09:00:01"}
        text = json.dumps(body, ensure_ascii=False, separators=(" , ", " : "))
        return web.Response(text=text, content_type="application/json")

    def move(self, head, card, stars, kind):
        """Book stars once for each request id."""
        request_id = head["requestId"]
        if request_id not in self.done:
            if card not in self.stars:
                return self.answer("P1002")
            if self.stars[card] + stars < 0:
                self.done[request_id] = (kind, "FAIL", "P1001", stars)
                return self.answer("P1001", message="余额不足")
            self.stars[card] += stars
            number = f"OC{len(self.rows) + 1:06d}"
            self.done[request_id] = (kind, "SUCCESS", number, stars)
            self.rows.append((request_id, kind, card, stars, number))
        _, state, number, stars = self.done[request_id]
        if state == "FAIL":
            return self.answer(number)
        txn = {
            "id": number,
            "stars": {"value": f"{abs(stars):.2f}", "left": f"{self.stars[card]:.2f}"},
        }
        return self.answer("0000", head=head, data={"txn": txn})

    def member_query(self, _, payload):
        """Find a card."""
        card = payload["account"]["cardNo"]
        if card not in self.stars:
            return self.answer("P1002", message="会员不存在")
        return self.answer("0000", data={"account": {"cardNo": card, "level": "3"}})

    def stars_balance(self, _, payload):
        """What a card holds, frozen stars first."""
        usable = f"{self.stars[payload['account']['cardNo']]:.2f}"
        kinds = [{"kind": "frozen", "value": "3.50"}, {"kind": "usable", "value": usable}]
        return self.answer("0000", data={"stars": kinds})

    def stars_redeem(self, head, payload):
        """Burn stars."""
        assert dt.datetime.fromisoformat(head["time"]) == dt.datetime(2026, 3, 2, 9)  # noqa: DTZ001
        stars = -Decimal(payload["stars"]["value"])
        return self.move(head, payload["account"]["cardNo"], stars, "REDEEM")

    def stars_refund(self, head, payload):
        """Give burnt stars back."""
        original = self.done.get(payload["original"]["requestId"])
        stars = Decimal(payload["stars"]["value"])
        assert original is None or original[3] == -stars
        return self.move(head, payload["account"]["cardNo"], stars, "REFUND")

    def stars_earn(self, head, payload):
        """Give new stars."""
        stars = Decimal(payload["stars"]["value"])
        return self.move(head, payload["account"]["cardNo"], stars, "EARN")

    def txn_query(self, _, payload):
        """What became of a request."""
        found = self.done.get(payload["requestId"])
        if found is None or found[0] != payload["kind"]:
            return self.answer("P2001", message="订单不存在")
        kind, state, number, stars = found
        txn = {"requestId": payload["requestId"], "state": state, "kind": kind}
        more = {"id": number, "stars": {"value": f"{abs(stars):.2f}"}}
        txn |= more if state == "SUCCESS" else {"failCode": number}
        return self.answer("0000", data={"txn": txn})

    def bill_download(self, _, payload):
        """One page of a day, newest first."""
        rows = self.rows[::-1] if payload["billDate"] == "20260302" else []
        start = int(payload["cursor"].removeprefix("c-") or 0)
        end = start + int(payload["limit"])
        page = [
            {
                "req": {"id": request_id, "kind": kind},
                "card": card,
                "stars": f"{stars:.2f}",
                "bookTime": "2026-03-02 09:00:01",
                "txn": number,
            }
            for request_id, kind, card, stars, number in rows[start:end]
        ]
        total = sum((abs(row[3]) for row in rows), Decimal())
        return self.answer(
            "0000",
            data={
                "rows": page[1:] if self.lose_a_row else page,
                "next": f"c-{end}" if end < len(rows) else None,
                "totalRows": str(len(rows)),
                "totalStars": f"{total:.2f}",
            },
        )


@asynccontextmanager
async def orbit():
    """The platform, and the shipped adapter pointed at it."""
    platform = Orbit()
    app = web.Application()
    app.router.add_post("/oauth/token", platform.token)
    app.router.add_post("/gateway/{name}", platform.call)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    folder = registry.find("orbit-coffee").with_settings(
        {"base_url": f"http://127.0.0.1:{runner.addresses[0][1]}"}
    )
    secrets = Secrets({"env:ORBIT_COFFEE_CLIENT_SECRET": b"pass"})
    adapter = registry.build(folder, Context(secrets=secrets, random=random.Random(1)))
    await adapter.start()
    try:
        yield platform, adapter
    finally:
        await adapter.close()
        await runner.cleanup()


async def test_points_move_at_a_system_that_somebody_else_wrote():
    """Burn, give back, credit, repeat, inquire: exact to the smallest unit, each once."""
    async with orbit() as (platform, adapter):
        burnt, given = hold(CARD, 1_205), credit(CARD, 7)
        first = await adapter.hold(burnt)
        assert (first.outcome, first.units, first.number) == (Outcome.DONE, 1_205, "OC000001")
        assert await adapter.hold(burnt) == first == await adapter.status(burnt)
        assert (await adapter.balance(CARD)).units == 498_795
        back = ending(Step.RELEASE, burnt)
        assert (await adapter.release(back)).outcome is Outcome.DONE
        assert (await adapter.credit(given)).units == 7
        assert (await adapter.balance(CARD)).units == 500_007
        assert platform.stars[CARD] == Decimal("5000.07")


async def test_its_refusals_are_ours():
    """Error codes inside of a 200 become reasons, at once and on inquiry."""
    async with orbit() as (_, adapter):
        rich = hold(CARD, 500_001)
        assert (await adapter.hold(rich)).reason is Reason.INSUFFICIENT_POINTS
        assert (await adapter.status(rich)).reason is Reason.INSUFFICIENT_POINTS
        assert (await adapter.look_up("0000 0000")).reason is Reason.UNKNOWN_MEMBER
        assert (await adapter.look_up(CARD)).member == CARD
        assert (await adapter.status(hold(CARD))).reason is Reason.CALL_NOT_FOUND


async def test_busy_system_is_asked_again_later():
    """A code inside of a 200 that says "too many requests": the call was not taken and may come again."""
    async with orbit() as (platform, adapter):
        platform.busy = 1
        call = hold(CARD)
        with pytest.raises(NotSent):
            await adapter.hold(call)
        assert (await adapter.hold(call)).outcome is Outcome.DONE


async def test_its_statement_is_read_over_all_pages_or_not_at_all():
    """120 rows in pages of 50, newest first, with signed stars: whole, or incomplete when one is missing."""
    async with orbit() as (platform, adapter):
        calls = [hold(CARD, 5), *(credit(CARD, place + 1) for place in range(119))]
        for call in calls:
            await (adapter.hold if call.step is Step.HOLD else adapter.credit)(call)
        lines = [line async for line in adapter.statement(DAY)]
        assert [(line.reference, line.step, line.units) for line in lines[::-1]] == [
            (call.reference, call.step, call.units) for call in calls
        ]
        platform.lose_a_row = True
        with pytest.raises(Incomplete):
            lines = [line async for line in adapter.statement(DAY)]
