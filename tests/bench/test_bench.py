"""What the benchmark's figures rest on: its model, its orders, its report. Nothing here is timed."""

import asyncio
import contextlib
import inspect
import itertools
import time
import uuid
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from yarl import URL

from adapters.kit import registry
from deploy import demo
from exchange.bench import market, report
from exchange.bench.load import BULK_ORDERS, Answer, Plan, Sender, Signer, look, make_requests
from exchange.bench.machine import Machine
from exchange.bench.merchants import (
    BETWEEN_HEALTHY,
    DYING,
    LINKED_MEMBERS,
    SHOPS,
    WITH_DYING,
    Shops,
    _settings,
    _simulator,
    _write_folder,
)
from exchange.bench.model import positions_csv, run_model
from exchange.bench.report import (
    CycleRun,
    IsolationRun,
    LoadRun,
    Memory,
    ReplayRun,
    Report,
    Round,
    hold_against_budgets,
    percentile,
    spread,
    sum_up,
    sum_up_loads,
)
from exchange.bench.rounds import JOURNEYS, LOADS
from exchange.gateway.plain import Plain, read_plain
from exchange.signing.request import SignedRequest, is_genuine, read_signed
from schemas.wire import fields
from schemas.wire.decoding import BulkDecoder
from schemas.wire.orders import BulkOrder, OrderTerms


def a_plan(**changes):
    """A small plan; changes by name."""
    terms: dict[str, Any] = {
        "port": 8080,
        "shape": "bulk",
        "keys": "uuid7",
        "callers": 2,
        "orders_max": 5 * BULK_ORDERS,
        "members": 4_000,
        "market_seed": 1,
        "seed": 2,
        "operator_key": "tdk_operator",
        "api_keys": {code: f"tdk_{code}" for code in (*market.HOSTED, *market.OWN)},
    }
    return Plan(**(terms | changes))


# --- the model ---


def test_model_comes_to_the_published_positions(tmp_path):
    """The model comes to the positions that the first 20,000 lines must come to."""
    (tmp_path / "purchases.csv").write_text(demo.purchases_text())
    (tmp_path / "programmes.toml").write_text(demo.programmes_text())
    outcome = run_model(tmp_path / "purchases.csv", tmp_path / "programmes.toml")
    assert positions_csv(outcome) == demo.positions_text()
    assert outcome.lines == 20_000
    sums = {cycle: 0 for cycle, _, _ in outcome.positions}
    for cycle, _, figure in outcome.positions:
        sums[cycle] += figure
    assert set(sums.values()) == {0}


# --- the market ---


def test_flows_keep_the_shares_and_nobody_pays_itself():
    """Each merchant is asked for its share, nobody is its own customer, and odd ranks take in a twentieth less."""
    rows = market.flows()
    taken = [sum(row[rank] for row in rows) for rank in range(market.MERCHANTS)]
    for rank, row in enumerate(rows):
        assert row[rank] == 0
        assert sum(row) == pytest.approx(market.ISSUING[rank])
        short = rank % 2 == 0
        assert (taken[rank] < 0.96 * market.ISSUING[rank]) is short


def test_orders_spend_points_that_the_member_holds():
    """Every order's member holds a lot of its issuer, and issuer and acceptor differ."""
    place = market.make_market(4_000, seed=1)
    held = set(place.lots)
    for order in market.draw_orders(place, 2_000, seed=3):
        assert (order.member, order.issuer) in held
        assert order.issuer != order.acceptor
        assert 1 <= order.units <= market.UNITS_MAX


@pytest.mark.parametrize(("make", "version"), [(market.random_keys, 4), (market.timed_keys, 7)])
def test_keys_are_uuids_and_differ(make, version):
    """Keys are UUIDs of the version that their kind says, and no two are equal."""
    keys = [market.stamp(1_760_000_000_000) + key[13:] for key in make(1_000, seed=4)]
    assert len(set(keys)) == 1_000
    for key in keys:
        made = uuid.UUID(key.decode())
        assert made.version == version
        assert made.variant == uuid.RFC_4122


# --- what is sent ---


@pytest.fixture(scope="module")
def bulk():
    """A plan of bulk requests and the requests."""
    plan = a_plan()
    return plan, make_requests(plan)


def elements_of(request, time_ms):
    """The orders of one bulk request as the gateway reads them, sent at that time."""
    decoder: BulkDecoder[Any] = BulkDecoder(BulkOrder[fields.Units], packed=True)
    request.stamped = market.stamp(time_ms)
    market.put_stamps(request.body, request.orders, request.stamped)
    return decoder.decode(bytes(request.body))


def test_bulk_bodies_are_what_the_gateway_takes(bulk):
    """Each body has as many orders as it says, with keys that carry the time of sending."""
    _, requests = bulk
    assert sum(request.orders for request in requests) == 5 * BULK_ORDERS
    for number, request in enumerate(requests):
        time_ms = 1_760_000_000_000 + number
        orders = elements_of(request, time_ms)
        assert len(orders) == request.orders
        assert not any(isinstance(order, Exception) for order in orders)
        assert {uuid.UUID(order.key).int >> 80 for order in orders[:100]} == {time_ms}


def test_bulk_repeats_an_order_with_its_key(bulk):
    """About one order of a hundred repeats an earlier one, key and terms, in the same or an earlier request."""
    plan, requests = bulk
    orders = [elements_of(request, 1_760_000_000_000) for request in requests]
    repeats = [
        (number, *repeat) for number, request in enumerate(requests) for repeat in request.repeats
    ]
    assert 0.009 * plan.orders_max < len(repeats) <= 0.01 * plan.orders_max
    assert {number - source for number, _, source, _ in repeats} == {0, plan.callers}
    for number, place, from_number, from_place in repeats:
        assert orders[number][place] == orders[from_number][from_place]
    keys = [order.key for order in itertools.chain.from_iterable(orders)]
    assert len(keys) - len(set(keys)) == len(repeats)


async def test_bulk_repeats_keep_the_time_of_their_first(bulk):
    """A repeated order keeps its first one's key also when it is sent later."""
    plan, requests = bulk
    sender = Sender(plan, requests)
    decoder: BulkDecoder[Any] = BulkDecoder(BulkOrder[fields.Units], packed=True)
    orders = []
    for number, request in enumerate(requests):
        for earlier in requests[:number]:
            # As if that request had been sent some time before.
            earlier.stamped = market.stamp(1_760_000_000_000 + requests.index(earlier))
        sender._put_time(request)
        first = [requests[number - plan.callers].stamped] if number >= plan.callers else []
        orders.append(decoder.decode(bytes(request.body)))
        for place, from_number, _ in request.repeats:
            stamped = orders[number][place].key.encode()[:13]
            assert stamped in ([request.stamped] if from_number == number else first)


@pytest.mark.parametrize("shape", ["single", "two-phase"])
def test_single_requests_are_what_the_gateway_takes(shape):
    """Single requests carry the issuer's own credentials and a body that the gateway reads."""
    plan = a_plan(shape=shape, callers=8, orders_max=3_000)
    requests = make_requests(plan)
    decoder = msgspec.json.Decoder(OrderTerms[fields.UnitDigits])
    assert 10 < sum(request.first >= 0 for request in requests) < 60
    for request in requests:
        if request.first >= 0:
            assert requests[request.first].first < 0
            continue
        data = request.head + market.stamp(1_760_000_000_000) + request.tail
        head, _, body = data.partition(b"\r\n\r\n")
        terms = decoder.decode(body)
        assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"
        assert b"Bearer tdk_" + (terms.issuer or "").encode() in request.credentials
        assert request.credentials in head


def test_journeys_are_exchanges_that_the_issuer_sends():
    """Orders between merchants name the pairs in turn, are sent by the issuer, and say when they must be answered."""
    plan = a_plan(
        shape="journey", callers=4, orders_max=400, members=LINKED_MEMBERS, pairs=BETWEEN_HEALTHY,
        decide_by_seconds=1, api_keys={shop.code: f"tdk_{shop.code}" for shop in SHOPS},
    )  # fmt: skip
    requests = make_requests(plan)
    decoder = msgspec.json.Decoder(OrderTerms[fields.UnitDigits])
    assert any(request.first >= 0 for request in requests)
    for number, request in enumerate(requests):
        if request.first >= 0:
            continue
        terms = decoder.decode(request.tail.partition(b"\r\n\r\n")[2])
        assert (terms.issuer, terms.acceptor) == BETWEEN_HEALTHY[number % 2]
        assert (terms.kind, terms.decide_by_seconds) == ("exchange", 1)
        assert terms.member in {market.member_name(n) for n in range(LINKED_MEMBERS)}
        assert f"Bearer tdk_{terms.issuer}".encode() in request.credentials
        assert terms.fault() is None


async def test_at_a_rate_an_order_that_waits_for_its_caller_is_timed_from_its_instant():
    """One caller at 200 orders a second, each answered after 20 ms: as many are sent as fit, and each waits longer."""

    async def answer(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"}"):
                await asyncio.sleep(0.02)
                writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()
        ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(answer, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    plan = a_plan(
        shape="journey", callers=1, orders_max=100, members=1, pairs=BETWEEN_HEALTHY, port=port,
        api_keys={shop.code: "tdk" for shop in SHOPS},
    )  # fmt: skip
    async with server:
        sender = Sender(plan, make_requests(plan))
        await sender.connect()
        seconds = await sender.send(0.2, 200.0)
        taken = [answer.milliseconds for answer in sender.answers]
        await sender.send(0.05, 200.0)
        sender.close()
        await ended.wait()
    # A second time goes on where the first one ended.
    assert [answer.request for answer in sender.answers[len(taken) :]] == list(range(40, 50))
    # Every instant within the 0.2 s is kept, none is left out because an answer was slow.
    assert len(taken) == 40
    assert seconds >= 40 * 0.02
    assert taken == sorted(taken)
    assert taken[-1] >= 40 * 20 - 200


# --- merchants with systems of their own ---


def test_folders_of_the_shops_differ_from_the_shipped_in_what_is_said(tmp_path):
    """Each folder is the shipped adapter with its own code, members and secret; only healthy ones have other limits."""
    for shop in SHOPS:
        folder = _write_folder(tmp_path / shop.code, shop)
        shipped = registry.find(shop.shipped).manifest
        manifest = folder.manifest
        assert manifest.merchant.code == shop.code
        assert manifest.sandbox.members["A-00099"] > 0
        assert (manifest.limits == shipped.limits) is (shop is DYING)
        if shop is not DYING:
            assert (manifest.limits.concurrency, manifest.limits.per_second) == (10_000, 100_000)
        assert manifest.limits.deadline_seconds == shipped.limits.deadline_seconds
    assert {code for pair in WITH_DYING for code in pair} - {DYING.code} == {SHOPS[0].code}


async def test_a_dead_merchant_takes_connections_and_answers_once_it_is_revived(tmp_path):
    """Its process is stopped: a connection is made and nothing comes; what was asked is answered when it goes on."""
    folder = _write_folder(tmp_path / DYING.code, DYING)
    async with _simulator(folder) as process:
        url = URL((await _settings(process))["base_url"])
        shops = Shops(pids=[process.pid], _house=None, _folders=[], _settings=[])  # type: ignore[arg-type] # it is not asked
        shops.kill()
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"GET /members/A-00001 HTTP/1.1\r\nHost: shop\r\n\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(1)
        shops.revive()
        async with asyncio.timeout(20):
            assert (await reader.readline()).startswith(b"HTTP/1.1 401")
        writer.close()


def test_a_repeated_order_with_another_answer_is_told(bulk):
    """An answer that differs from its first one, or that should not be, makes the run worthless."""
    plan, requests = bulk
    done = [{"status": "cleared", "order_id": str(place)} for place in range(BULK_ORDERS)]
    for place, number, source in requests[0].repeats:
        assert number == 0
        done[place] = done[source]
    good = [Answer(0, b"200", msgspec.msgpack.encode(done), 1.0)]
    orders, seen = look(plan, requests, good)
    assert (orders, seen.cleared, seen.wrong) == (BULK_ORDERS, BULK_ORDERS, [])
    done[requests[0].repeats[0][0]] = {"status": "cleared", "order_id": "another"}
    _, seen = look(plan, requests, [Answer(0, b"200", msgspec.msgpack.encode(done), 1.0)])
    assert len(seen.wrong) == 1
    _, seen = look(plan, requests, [Answer(0, b"503", b"busy", 1.0)])
    assert seen.wrong


# --- the report ---


def a_round(factor):
    """A round whose figures are multiples of `factor`."""
    names = ("pgbench", *(spec.name for spec in (*LOADS, JOURNEYS)))
    return Round(
        loads={
            name: LoadRun(
                orders=100, seconds=1.0, rate=100.0 * factor, ratio=float(factor),
                p50_ms=1.0, p99_ms=2.0, cpu_us_per_order={"writer": 10.0 * factor},
            )
            for name in names
        },
        isolation=IsolationRun(
            rate=100.0, dead_rate=25.0, orders=5_000, dead_orders=1_000, dead_p99_ms=1_000.0,
            alone_p50_ms=5.0, alone_p99_ms=10.0, beside_p50_ms=5.0, beside_p99_ms=10.0 * factor,
            ratio=float(factor),
        ),
        cycle=CycleRun(
            orders=1_000_000, close_seconds=0.1 * factor, lines=2_000_000, package_seconds=10.0,
            package_lines_per_second=200_000.0, package_bytes=1, package_peak_bytes=1,
            verify_seconds=10.0, verify_lines_per_second=200_000.0, verify_peak_bytes=1,
        ),
        replay=ReplayRun(
            lines=20_000, orders=1, cycles=4, seconds=2.0, model_seconds=0.2, ratio=10.0 * factor,
            peak_bytes=1, agree=True,
        ),
    )  # fmt: skip


def test_signed_orders_are_taken_as_they_are_made():
    """Each signed single order reads as signed by the operator; a repeat has its first one's key and its own nonce."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    key = private.private_bytes_raw().hex()
    wanted = a_plan(shape="single", signing_key=key, orders_max=1_000)
    requests = make_requests(wanted)
    Signer(wanted).sign(wanted, requests)
    nonces = set()
    read: list[Plain] = []
    for request in requests:
        plain = read_plain(request.head, body_max=65_536)
        assert isinstance(plain, Plain)
        read.append(plain)
        signed = read_signed(plain.head, now=int(time.time()), has_body=True)
        assert isinstance(signed, SignedRequest), signed
        assert is_genuine(signed, private.public_key())
        nonces.add(signed.nonce)
        if request.first >= 0:
            assert (plain.key, plain.body) == (read[request.first].key, read[request.first].body)
    assert len(nonces) == len(requests)
    assert any(request.first >= 0 for request in requests)


def test_report_has_the_documented_keys():
    """The JSON of a report has the keys that the records document, and reads back as the same report."""
    rounds = [a_round(1), a_round(2), a_round(5)]
    loads = sum_up_loads(rounds)
    isolation, cycle, replay = (
        sum_up([each.isolation for each in rounds]),
        sum_up([each.cycle for each in rounds]),
        sum_up([each.replay for each in rounds]),
    )
    whole = Report(
        version=report.FORMAT_VERSION, at="2026-01-01T00:00:00Z", quick=True, seconds=1.0,
        machine=Machine(
            cores=2, cpu="c", memory_bytes=1, system="s", python="p", event_loop="e",
            postgres="18", load_before=0.0, sync_ms=0.1,
        ),
        settings={"rounds": 3}, checkpoints=1, loads=loads,
        signed_to_unsigned=report.signed_to_unsigned(loads), isolation=isolation, cycle=cycle,
        replay=replay, memory=Memory(writer=1, gateway=1, order_worker=1, packager=1, postgres=1),
        budgets=hold_against_budgets(loads, isolation, cycle, replay), faults=[], rounds=rounds,
    )  # fmt: skip
    written = msgspec.json.encode(whole)
    assert msgspec.json.decode(written, type=Report) == whole
    told = msgspec.json.decode(written)
    assert list(told) == list(Report.__struct_fields__)
    assert told["loads"]["single_512"]["ratio"] == {"median": 2.0, "min": 1.0, "max": 5.0}
    assert told["cycle"]["close_seconds"]["max"] == 0.5
    assert set(told["replay"]) == set(ReplayRun.__struct_fields__) - {"agree"}


def test_every_key_of_the_report_is_documented():
    """Each field of each record of the report is explained where the record is defined."""
    records = [
        each
        for _, each in inspect.getmembers(report, inspect.isclass)
        if issubclass(each, msgspec.Struct) and each not in (Memory, Round)
    ]
    assert Report in records
    for record in records:
        said = inspect.getdoc(record) or ""
        if "attributes as in" in said:
            continue
        for name in record.__struct_fields__:
            assert f"{name}: " in said, f"{record.__name__}.{name}"


def test_budgets_hold_medians_against_their_limits():
    """A budget is met by the median alone, and says in what the measurement falls short of its terms."""
    loads = sum_up_loads([a_round(2), a_round(3), a_round(40)])
    isolation, cycle, replay = (
        sum_up([a_round(1).isolation, a_round(2).isolation, a_round(1).isolation]),
        sum_up([a_round(1).cycle]),
        sum_up([a_round(2).replay]),
    )
    budgets = hold_against_budgets(loads, isolation, cycle, replay)
    met = {each.name: each.met for each in budgets}
    assert met == {
        "bulk orders, UUIDv7 keys, to pgbench": False,
        "bulk orders, random keys, to pgbench": False,
        "single orders, 512 callers, to pgbench": True,
        "two-phase orders, 512 callers, to pgbench": True,
        "p99 beside a dead merchant, to p99 alone": True,
        "replay to model": False,
        "cycle close, seconds": True,
        "package, statement lines a second": True,
    }
    assert [each.remark for each in budgets if each.remark] == [
        "20,000 lines, not the year's 386,828"
    ]
    few = {name: spread([40.0]) for name in isolation}
    [isolated] = [
        each for each in hold_against_budgets(loads, few, cycle, replay) if "dead" in each.name
    ]
    assert (isolated.met, isolated.remark) == (False, "p99 of 40 orders")


def test_percentile_is_the_least_that_enough_do_not_exceed():
    """p50 and p99 are figures that occurred: the nearest rank."""
    assert percentile([], 0.5) == 0
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99.0
    assert percentile([float(n) for n in range(1, 101)], 0.5) == 50.0
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0


def test_spread_needs_a_figure():
    """Nothing measured is no figure of zero."""
    assert spread([3, 1, 2]).median == 2
    with pytest.raises(ValueError, match="no figure"):
        spread([])
