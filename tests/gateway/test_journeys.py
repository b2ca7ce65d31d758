"""Orders between merchants' own systems over HTTP: gateway, order worker and two protocols on real sockets."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from adapters.kit import registry
from adapters.kit.contract import Outcome, Receipt, Step
from adapters.kit.figures import CallFigures
from adapters.kit.reference import reference_of
from adapters.kit.secret import Secrets
from adapters.kit.simulator.faults import Fault, Occasion, Rule, Scripted, Trouble
from adapters.kit.simulator.stage import Running, set_stage
from exchange.programme.service.audit import audit_lots
from exchange.service.connections import Connections
from exchange.service.hosted import hosting
from exchange.service.hosted_database import DatabaseRecords
from exchange.service.journey_database import DatabaseJourneys
from exchange.service.journeys import Connected, Journeys
from exchange.service.links import link
from exchange.service.sandbox import SandboxPlan, parse_wishes
from exchange.service.stuck import find_journey, list_stuck, resolve
from exchange.service.vaults import VaultDoor
from exchange.store.connections import insert_connection
from exchange.worker.orders_app import make_app
from schemas.files.corrections import COLUMNS
from schemas.values.faults import SchemaError
from schemas.values.ids import order_id, order_text
from settlement.core.trail import PROGRAM
from settlement.service.audit import audit, audit_snapshot
from tests.gateway.conftest import Answer, House, clearing_house, merchant, soon
from tests.gateway.test_codes import code_of, protect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from adapters.kit.folder import Folder

TILLS, MALL = "till-town", "silk-road-mall"
MEMBERS = {TILLS: "T-1001", MALL: "SR100001"}
PROOF = "246810"
PATIENT = {"decide_by_seconds": 20}
"""Where a test is not about the time that a till waits: the usual three seconds are short on a busy machine."""


@dataclass(slots=True)
class Town:
    """A house whose merchants have systems of their own."""

    house: House
    running: dict[str, Running]
    journeys: Journeys

    def fails(self, code: str, fault: Fault, **where: Any) -> None:
        """From now on let something go wrong at a merchant."""
        plan = self.running[code].stage.plan
        assert isinstance(plan, Scripted)
        plan.add(Rule(trouble=Trouble(fault=fault), **where))

    def works(self, code: str) -> None:
        """From now on let nothing go wrong at a merchant."""
        plan = self.running[code].stage.plan
        assert isinstance(plan, Scripted)
        plan._rules.clear()

    def units(self, code: str) -> int:
        """What the member has at a merchant."""
        units = self.running[code].stage.ledger.available(MEMBERS[code])
        assert units is not None
        return units

    async def link(self, code: str, proof: str = PROOF) -> Answer:
        """Link Anna's account."""
        return await self.house.call(
            "POST",
            f"/v1/members/{await self.house.token('anna')}/links",
            {"merchant": code, "merchant_member": MEMBERS[code], "proof": proof},
        )

    async def order(self, key: str | None = None, **more: Any) -> Answer:
        """Spend Anna's points of the tills."""
        body = {"issuer": TILLS, "acceptor": "EYE", "member": "anna", "units": "100"}
        return await self.house.order({**body, **PATIENT, **more}, key=key)


@pytest_asyncio.fixture
async def town(dsn: str, tmp_path: Path) -> AsyncIterator[Town]:
    """A house, an order worker on its socket, and two merchants' simulators, connected."""
    socket = tmp_path / "orders.sock"
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(clearing_house(dsn, tmp_path, order_paths=[socket]))
        running: dict[str, Running] = {}
        for code in (TILLS, MALL):
            answer = await house.call("POST", "/v1/merchants", merchant(code, 100, hosted=False))
            assert answer.status == 201, answer.raw
            house.keys[code] = answer.body["api_key"]
            folder = registry.find(code)
            stage = set_stage(folder, plan=Scripted(), rng=random.Random(7))
            running[code] = await stack.enter_async_context(
                registry.simulator(folder)(folder, stage)
            )
            await insert_connection(
                house.pool,
                merchant_no=answer.body["merchant_no"],
                folder=code,
                settings=running[code].settings,
                certificate_digest=None,
                now=house.services.now(),
            )
        house.services.shelf.expire()

        async def place(folder: Folder) -> tuple[Folder, Secrets]:
            """The simulator, taken for a system whose calls arrive at once and that is asked as often as one likes."""
            manifest = folder.manifest
            quick = msgspec.structs.replace(manifest.limits, breaker_failures=1_000)
            final = msgspec.structs.replace(manifest.status, final_after_seconds=0.2)
            manifest = msgspec.structs.replace(manifest, limits=quick, status=final)
            return replace(folder, manifest=manifest), Secrets(running[folder.code].secrets)

        merchants: dict[int, Connected] = {}
        journeys = Journeys(
            store=DatabaseJourneys(house.pool),
            clearing=house.writer,
            merchants=merchants,
            now_us=house.clock,
            random=random.SystemRandom(),
        )
        connections = Connections(
            house.pool,
            merchants,
            answers_of=journeys.answers_of,
            now_us=house.clock,
            figures=CallFigures(),
            place=place,
            host=hosting(
                house.writer,
                DatabaseRecords(house.pool, now_us=house.clock),
                now_us=house.clock,
                random_bits=random.getrandbits,
                figures=CallFigures(),
            ),
        )
        await connections.start()
        stack.push_async_callback(connections.stop)
        await journeys.start()
        stack.push_async_callback(journeys.kill)
        runner = web.AppRunner(make_app(journeys, merchants), handle_signals=False)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.UnixSite(runner, str(socket)).start()
        assert len(merchants) == 4  # The hosted AIR and EYE are among them.
        yield Town(house, running, journeys)


async def test_exchange_between_two_systems(town: Town):
    """Linked accounts, an exchange from one merchant's system into the other's: points, books and answer agree."""
    unlinked = await town.order(acceptor=MALL, kind="exchange", key="early")
    assert unlinked.reason == "member_not_authorised"
    refused = await town.link(TILLS, proof="wrong")
    assert refused.reason == "member_not_authorised"
    for code in (TILLS, MALL):
        linked = await town.link(code)
        assert linked.status == 201
        assert linked.body["merchant_member"] == MEMBERS[code]
    again = await town.order(acceptor=MALL, kind="exchange", key="early")
    assert again.reason == "member_not_authorised"  # A refusal is final for its key.

    before = {code: town.units(code) for code in (TILLS, MALL)}
    cleared = await town.order(acceptor=MALL, kind="exchange", key="k")
    assert cleared.status == 201, cleared.raw
    assert cleared.body["status"] == "cleared"
    assert town.units(TILLS) == before[TILLS] - 100
    assert town.units(MALL) == before[MALL] + int(cleared.body["credited_units"])
    assert await town.house.net() == {TILLS: -10000, MALL: 9950, "HOUSE:fees": 50}
    assert (await town.order(acceptor=MALL, kind="exchange", key="k")).raw == cleared.raw
    conflict = await town.order(acceptor=MALL, kind="exchange", key="k", units="101")
    assert conflict.reason == "idempotency_conflict"

    path = f"/v1/orders/{cleared.body['order_id']}"

    async def captured() -> bool:
        view = (await town.house.call("GET", path)).body
        assert view["status"] == "cleared"
        return bool(view["journey"] == "cleared")

    await soon(captured)


async def test_a_redemption_is_taken_back(town: Town):
    """Rule V6: the books reverse at once, and the issuer's system credits the points, once, whatever gets lost.

    An exchange between two systems is not reversed here.
    """
    for code in (TILLS, MALL):
        await town.link(code)
    before = town.units(TILLS)
    order = (await town.order()).body
    path = f"/v1/orders/{order['order_id']}"
    assert town.units(TILLS) == before - 100

    async def reverse(key: str, body: object = None, *, of: str = path) -> Answer:
        return await town.house.call("POST", f"{of}/reverse", body, key=key, caller="EYE")

    town.fails(TILLS, Fault.TIMEOUT_AFTER, operation="credit")
    part = await reverse("part", {"units": "40"})
    assert part.status == 201, part.raw
    town.fails(TILLS, Fault.TIMEOUT_BEFORE, operation="credit")
    rest = await reverse("rest")
    assert rest.body["units"] == "60"
    assert (await reverse("part", {"units": "40"})).raw == part.raw
    assert await town.house.net() == {}

    async def returned() -> bool:
        view = (await town.house.call("GET", path)).body
        return [each["journey"] for each in view["reversals"]] == ["returned"] * 2

    await soon(returned)
    assert town.units(TILLS) == before
    assert not town.running[TILLS].stage.ledger.doubled()
    assert (await audit(town.house.pool)).differences == []

    between = (await town.order(acceptor=MALL, kind="exchange")).body["order_id"]
    refused = await town.house.call("POST", f"/v1/orders/{between}/reverse", key="between")
    assert refused.reason == "reversal_not_offered"
    await assert_a_file_takes_back(town, between)


async def assert_a_file_takes_back(town: Town, between: str) -> None:
    """Rules V6, W5: rows of a file are taken back as orders by themselves are, once, or refuse the file."""
    before = town.units(TILLS)
    order = (await town.order()).body["order_id"]

    async def hand_in(name: str, sender: str) -> Answer:
        rows = [f"reverse,{name},,,{units},,,,CNY," for units in (40, 60)]
        lines = [",".join(COLUMNS), *rows, "TOTAL,2,,,100,0,0,0,CNY,", ""]
        return await town.house.call(
            "POST", "/v1/corrections", {"file": "\n".join(lines)}, caller=sender
        )

    refused = await hand_in(between, MALL)
    assert refused.status == 400, refused.raw
    assert "line 2, order" in refused.raw.decode()
    assert "exchange between" in refused.raw.decode()
    for _ in range(2):
        taken = await hand_in(order, "EYE")
        assert (taken.status, taken.body["booked"], taken.body["refused"]) == (200, 2, []), (
            taken.raw
        )

    async def returned() -> bool:
        view = (await town.house.call("GET", f"/v1/orders/{order}")).body
        return [each["journey"] for each in view["reversals"]] == ["returned"] * 2

    await soon(returned)
    assert town.units(TILLS) == before
    assert (await audit(town.house.pool)).differences == []


async def test_people_settle_what_an_issuer_does_not_give_back(town: Town):
    """Rule V6: a reversal whose points did not come back as they should is shown to people, whose word ends it."""
    await town.link(TILLS)
    order = (await town.order()).body["order_id"]
    town.fails(TILLS, Fault.WRONG_AMOUNT, operation="credit")
    reversed_ = await town.house.call("POST", f"/v1/orders/{order}/reverse", key="back")
    name = reversed_.body["reversal_id"]
    pool, now_us = town.house.pool, town.house.clock

    async def stuck() -> bool:
        return [each.name for each in await list_stuck(pool, now_us=now_us())] == [name]

    await soon(stuck)
    [shown] = await list_stuck(pool, now_us=now_us())
    assert shown.question.startswith("did the issuer give the points back?")
    tills = (await town.house.services.shelf.offer()).catalogue.by_code[TILLS]
    assert shown.merchant_no == tills
    journey = await find_journey(pool, name)
    assert journey is not None
    await resolve(
        pool, journey, outcome=Outcome.DONE, note="seen in their books", by=PROGRAM, now_us=now_us()
    )

    async def returned() -> bool:
        view = (await town.house.call("GET", f"/v1/orders/{order}")).body
        return bool(view["reversals"][0]["journey"] == "returned")

    await soon(returned)


async def hosted_units(town: Town, code: str = "AIR") -> list[int]:
    """What Anna has of a hosted programme, lot by lot; books and lots are what the journal says."""
    assert (await audit(town.house.pool)).differences == []
    async with audit_snapshot(town.house.pool) as conn:
        assert (await audit_lots(conn)).differences == []
    answer = await town.house.call(
        "GET", f"/v1/members/{await town.house.token('anna')}/balances?merchant={code}"
    )
    return [int(lot["units"]) for each in answer.body["balances"] for lot in each["lots"]]


async def test_hosted_points_travel_to_a_system_of_its_own(town: Town):
    """An exchange of hosted points for points of a connected merchant: lots, books and its system agree."""
    await town.link(MALL)
    await town.house.accrue("anna", "AIR", 60)
    await town.house.accrue("anna", "AIR", 70)
    before = town.units(MALL)
    cleared = await town.order(issuer="AIR", acceptor=MALL, kind="exchange", key="k")
    assert (cleared.status, cleared.body["status"]) == (201, "cleared"), cleared.raw
    assert town.units(MALL) == before + int(cleared.body["credited_units"])
    assert await hosted_units(town) == [30]
    assert (
        await town.order(issuer="AIR", acceptor=MALL, kind="exchange", key="k")
    ).raw == cleared.raw
    path = f"/v1/members/{await town.house.token('anna')}/history?limit=1"
    history = (await town.house.call("GET", path)).body["lines"][0]
    assert (history["kind"], history["units"], history["order_id"]) == (
        "taken",
        "100",
        cleared.body["order_id"],
    )
    poor = await town.order(issuer="AIR", acceptor=MALL, kind="exchange")
    assert poor.reason == "insufficient_points"
    assert await hosted_units(town) == [30]


async def test_hosted_points_come_back_when_the_other_system_takes_no_call(town: Town):
    """The till of an order that its acceptor does not take hears no, and the points are in the very lots again."""
    await town.link(MALL)
    await town.house.accrue("anna", "AIR", 60)
    await town.house.accrue("anna", "AIR", 70)
    town.fails(MALL, Fault.MAINTENANCE, operation="credit", times=1_000)
    wish: dict[str, Any] = {"issuer": "AIR", "acceptor": MALL, "kind": "exchange"}
    assert (await town.order(**wish, decide_by_seconds=1)).reason == "decided_too_late"

    async def back() -> bool:
        return await hosted_units(town) == [60, 70]

    await soon(back)
    assert await town.house.net() == {}


async def test_hosted_points_that_travel_need_what_their_members_asked_for(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    """Rule A1 holds for points that travel: no proof, nothing taken; with a code each order of a bulk request goes."""
    monkeypatch.setattr("exchange.programme.service.rider.CATALOGUE_SECONDS", -1.0)
    await town.link(MALL)
    await town.house.accrue("anna", "AIR", 100)
    await protect(town.house, "AIR", "code")
    wish = {"issuer": "AIR", "acceptor": MALL, "member": "anna", "units": "10", "kind": "exchange"}
    assert (await town.house.order(wish)).reason == "member_not_authorised"
    code = await code_of(town.house, acceptor=MALL)
    bulk = [wish | {"key": "b1", "code": code}, wish | {"key": "b2", "code": code}]
    answer = await town.house.call("POST", "/v1/orders/bulk", bulk)
    assert [each["status"] for each in answer.body] == ["cleared", "refused"]
    assert await hosted_units(town) == [90]


async def test_points_of_a_system_of_its_own_become_hosted_points(town: Town):
    """An exchange into a hosted programme makes a lot that lives as long as the programme says."""
    await town.link(TILLS)
    before = town.units(TILLS)
    cleared = await town.order(acceptor="AIR", kind="exchange")
    assert (cleared.status, cleared.body["status"]) == (201, "cleared"), cleared.raw
    assert await hosted_units(town) == [int(cleared.body["credited_units"])]
    assert town.units(TILLS) == before - 100
    await town.house.accrue("anna", "EYE", 5)
    at_once = await town.order(issuer="AIR", acceptor="EYE", units="1")
    assert at_once.body["status"] == "cleared"


async def test_redemption_and_refusals(town: Town):
    """Points of a merchant's own system pay at a hosted merchant; its no reaches the till with its reason."""
    await town.link(TILLS)
    cleared = await town.order()
    assert (cleared.status, cleared.body["status"]) == (201, "cleared")
    quote = await town.house.call(
        "POST", "/v1/quotes", {"issuer": TILLS, "acceptor": "EYE", "units": "100"}
    )
    token = quote.body["offers"][0]["token"]
    quoted = await town.house.order({"member": "anna", "quote": token})
    assert (quoted.status, quoted.body["status"]) == (201, "cleared")
    poor = await town.order(units="900000")
    assert poor.reason == "insufficient_points"
    view = await town.house.call("GET", f"/v1/orders/{poor.body['order_id']}")
    assert view.body["status"] == "voided"
    assert view.body["problem"]["reason"] == "insufficient_points"
    bulk = await town.house.call(
        "POST",
        "/v1/orders/bulk",
        [
            {"key": f"b{n}", "issuer": TILLS, "acceptor": "EYE", "member": "anna", "units": units}
            for n, units in enumerate(("100", "900000"))
        ],
    )
    assert [each["status"] for each in bulk.body] == ["cleared", "refused"]


async def test_a_dead_merchant_is_answered_in_time_and_delays_nobody(town: Town):
    """The till hears no by `decide_by`; orders of others that came with it are answered at once."""
    await town.link(TILLS)
    await town.house.accrue("anna", "AIR", 1_000)
    for operation in ("hold", "status"):
        town.fails(TILLS, Fault.TIMEOUT_BEFORE, operation=operation, times=1_000)
    began = time.monotonic()
    dead = asyncio.ensure_future(town.order(decide_by_seconds=2))
    hosted = [
        town.house.order({"issuer": "AIR", "acceptor": "EYE", "member": "anna", "units": "10"})
        for _ in range(20)
    ]
    answers = await asyncio.gather(*hosted)
    assert not dead.done()
    assert all(answer.status == 201 for answer in answers)
    late = await dead
    assert 1.9 < time.monotonic() - began < 2.95  # Three seconds are the default.
    assert late.reason == "decided_too_late"
    assert late.body["retryable"] is True


async def test_nobody_else_clears_a_journey(town: Town):
    """A till cannot clear an order that is under way between merchants; voiding it is queue order's to decide."""
    await town.link(TILLS)
    town.fails(TILLS, Fault.TIMEOUT_AFTER, operation="hold")
    ordering = asyncio.ensure_future(town.order(decide_by_seconds=5))
    place = None
    while place is None:
        await asyncio.sleep(0.01)
        place = await town.house.pool.fetchval(
            """
            SELECT (to_jsonb(seq) || to_jsonb((extract(epoch FROM at) * 1000000)::bigint))::text
              FROM settlement.event WHERE kind = 1
            """
        )
    seq, at_us = msgspec.json.decode(place)
    path = f"/v1/orders/{order_text(at_us, 1, seq)}"
    assert (await town.house.call("POST", f"{path}/clear")).reason == "order_under_way"
    assert (await town.house.call("GET", path)).body["status"] == "accepted"
    assert (await town.house.call("POST", f"{path}/void")).body["status"] == "voided"
    assert (await ordering).reason == "order_already_voided"

    async def released() -> bool:
        view = (await town.house.call("GET", path)).body
        return bool(view["journey"] == "refused")

    await soon(released)
    steps = [entry.step for entry in town.running[TILLS].stage.ledger.entries]
    assert steps == [Step.HOLD, Step.RELEASE]


async def test_only_a_sandbox_takes_wishes_for_faults(town: Town):
    """A till that wishes for a fault where merchants are real is told so, and nothing is ordered."""
    order = {"issuer": TILLS, "acceptor": "EYE", "member": "anna", "units": "100"}
    answer = await town.house.call(
        "POST", "/v1/orders", order, key="k", headers={"Tongdui-Sandbox-Fault": "hold=cut"}
    )
    assert (answer.status, answer.body["field"]) == (400, "Tongdui-Sandbox-Fault")
    assert await town.house.pool.fetchval("SELECT count(*) FROM exchange.journey") == 0


def test_wishes_are_read_and_kept_for_their_order():
    """A wish befalls one call of the order it was made for; one that cannot be read names the header."""
    plan, mine, other = SandboxPlan(), uuid.UUID(int=7), uuid.UUID(int=8)
    plan.wish(mine, "hold=latency=0.5, status=cut")
    hold = Occasion(operation="hold", step=Step.HOLD, reference=reference_of(mine, Step.HOLD))
    assert plan.draw(replace(hold, reference=reference_of(other, Step.HOLD))) is None
    assert plan.draw(hold) == Trouble(fault=Fault.LATENCY, seconds=0.5)
    assert plan.draw(hold) is None
    status = replace(hold, operation="status")
    assert plan.draw(status) == Trouble(fault=Fault.CUT)
    for wrong in ("hold", "pay=cut", "hold=nothing", "hold=latency=-1"):
        with pytest.raises(SchemaError, match="Tongdui-Sandbox-Fault"):
            parse_wishes(wrong)


async def test_without_a_worker(dsn: str, tmp_path: Path):
    """An order for a connected merchant is turned away, not refused, while no order worker is there."""
    async with clearing_house(dsn, tmp_path) as house:
        anna = (await house.services.members.find(["anna"]))["anna"]
        assert await link(
            house.pool,
            await VaultDoor(house.pool, tmp_path / "keys").vault(),
            member_no=anna,
            merchant_no=3,
            merchant_member="x",
            now=house.services.now(),
        )
        await insert_connection(
            house.pool,
            merchant_no=3,
            folder=TILLS,
            settings={},
            certificate_digest=None,
            now=house.services.now(),
        )
        house.services.shelf.expire()
        order = {"issuer": "OWN", "acceptor": "EYE", "member": "anna", "units": "100"}
        answer = await house.order(order, key="k")
        assert (answer.status, answer.reason) == (503, "unavailable")
        linking = await house.call(
            "POST",
            f"/v1/members/{await house.token('anna')}/links",
            {"merchant": "OWN", "merchant_member": "T-1001", "proof": PROOF},
        )
        assert linking.status == 503


async def test_a_merchants_word_counts_for_its_own_calls(town: Town):
    """A late answer of one merchant about another's call is not taken, and changes nothing."""
    await town.link(TILLS)
    town.fails(TILLS, Fault.TIMEOUT_BEFORE, operation="hold", times=100)
    town.fails(TILLS, Fault.TIMEOUT_BEFORE, operation="status", times=100)
    ordering = asyncio.ensure_future(town.order(decide_by_seconds=20))
    row = None
    while row is None:
        await asyncio.sleep(0.01)
        row = await town.house.pool.fetchrow(
            """
            SELECT seq, (extract(epoch FROM at) * 1000000)::bigint AS at_us
              FROM settlement.event WHERE kind = 1
            """
        )
    reference = reference_of(order_id(row["at_us"], 1, row["seq"]), Step.HOLD)
    offer = await town.house.services.shelf.offer()
    done = Receipt(outcome=Outcome.DONE, number="1")
    with pytest.raises(LookupError):
        await town.journeys.answers_of(offer.catalogue.by_code[MALL])(reference, done)
    lines = "SELECT count(*) FROM exchange.journey_line WHERE source = 3"
    assert await town.house.pool.fetchval(lines) == 0
    await town.journeys.answers_of(offer.catalogue.by_code[TILLS])(reference, done)
    assert (await ordering).body["status"] == "cleared"
