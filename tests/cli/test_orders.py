"""A merchant's own system in service: connected by the command line, orders through real processes, and people."""

import asyncio
import json
import os
import signal
import time
import uuid
from collections.abc import Iterator

import asyncpg
import msgspec
import pytest

from adapters.kit.contract import Outcome, Step
from exchange.cli.connect import settings_of
from exchange.core.journey import Change, Source, Verdict, Wanted
from exchange.core.order import State
from exchange.service.journey_database import DatabaseJourneys
from exchange.store.journeys import fetch_lines
from settlement.core.command import Order
from tests.cli.conftest import Command, Process
from tests.cli.test_serve import Serving, serving  # noqa: F401 - a fixture

TILLS, SECRET = "till-town", "a secret of thirty-two characters"


@pytest.fixture
def simulator(tongdui: Command) -> Iterator[tuple[Process, dict]]:
    """The merchant's simulator as a process, and where it listens."""
    tongdui.extra["TILL_TOWN_SECRET"] = SECRET
    process = tongdui.start("adapter", "simulate", TILLS)
    text = process.read_line()
    while not text.endswith("\n}\n"):
        text += process.read_line()
    yield process, json.loads(text)["settings"]
    process.popen.kill()
    process.popen.communicate()


def test_settings_are_read():
    """A setting given on the command line is JSON where it can be, and may lie in a table."""
    assert settings_of(("port=7", "host=127.0.0.1", "tls.verify=false")) == {
        "port": 7,
        "host": "127.0.0.1",
        "tls": {"verify": False},
    }


@pytest.mark.slow
@pytest.mark.kill
def test_a_merchants_own_system_in_service(
    tongdui: Command,
    simulator: tuple[Process, dict],
    serving,  # noqa: F811 - the fixture
    tmp_path,
):
    """Certified, connected while all runs, linked, ordered; an order whose worker is killed ends all the same."""
    process, settings = simulator
    running: Serving = serving(tongdui)
    assert len(running.ready["order_worker_pids"]) == 1
    for code, own in ((TILLS, ["--own-system"]), ("EYE", [])):
        done = tongdui("merchant", "add", code, "--spend", "100/1", "--cap", "1000000", *own)
        assert done.returncode == 0, done.stderr
    certificate = tmp_path / "tills.json"
    connect = ["merchant", "connect", TILLS, "--adapter", TILLS]
    for name, value in settings.items():
        connect += ["--set", f"{name}={json.dumps(value)}"]
    without = tongdui(*connect)
    assert without.returncode == 2
    assert "--certificate" in without.stderr
    checked = tongdui("adapter", "check", TILLS, "--certificate", certificate)
    assert checked.returncode == 0, checked.stdout
    connected = tongdui(*connect, "--certificate", certificate)
    assert connected.returncode == 0, connected.stderr
    assert tongdui("merchant", "connect", "EYE", "--off").returncode == 2
    [anna] = running.json("POST", "/v1/members", {"members": ["anna"]})["tokens"]

    link = {"merchant": TILLS, "merchant_member": "T-1001", "proof": "246810"}
    deadline = time.monotonic() + 90
    while running.call("POST", f"/v1/members/{anna}/links", link)[0] != 201:
        assert time.monotonic() < deadline, "not connected in time"
        time.sleep(0.2)
    order = {"member": "anna", "issuer": TILLS, "acceptor": "EYE", "units": "100"}
    assert running.json("POST", "/v1/orders", order, key="one")["status"] == "cleared"

    # The merchant's system stands still; the till hears no in time, and then the worker is killed.
    process.popen.send_signal(signal.SIGSTOP)
    status, body = running.call("POST", "/v1/orders", order | {"decide_by_seconds": 1}, key="two")
    late = json.loads(body)
    assert (status, late["reason"]) == (409, "decided_too_late")
    os.kill(running.ready["order_worker_pids"][0], signal.SIGKILL)
    process.popen.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + 90
    while True:
        view = running.json("GET", f"/v1/orders/{late['order_id']}")
        if view["journey"] == "refused":
            break
        assert time.monotonic() < deadline, view
        time.sleep(0.2)
    assert view["problem"]["reason"] == "decided_too_late"
    assert running.json("POST", "/v1/orders", order, key="three")["status"] == "cleared"
    assert tongdui("orders", "stuck").returncode == 0
    assert running.stop() == 0


def test_people_are_asked_and_answer(with_ledger: Command, dsn: str):
    """`orders stuck` names order, reason and command; `orders resolve` adds a line, and nothing is changed."""
    nothing = with_ledger("orders", "stuck")
    assert nothing.returncode == 0
    asyncio.run(make_stuck(dsn))
    [shown] = with_ledger.json("orders", "stuck", status=1)
    assert shown["state"] == "crediting"
    assert shown["why"] == "CREDIT is unknown: no answer"
    assert shown["question"].startswith("did the acceptor give the points?")
    assert shown["command"].startswith("tongdui orders resolve journey-1 --outcome done|refused")
    assert "crediting" in with_ledger("orders", "stuck").stdout
    words = ["orders", "resolve", "journey-1", "--outcome", "done"]
    assert with_ledger(*words, "--note", " ").returncode == 2
    assert with_ledger("orders", "resolve", "journey-7", *words[3:], "--note", "x").returncode == 1
    done = with_ledger(*words, "--note", "Ms Li saw it in their ledger")
    assert done.returncode == 0, done.stderr

    async def lines() -> list:
        connection = await asyncpg.connect(dsn, server_settings={"role": "tongdui_app"})
        try:
            return [line for _, line in await fetch_lines(connection, journey_nos=[1])]
        finally:
            await connection.close()

    last = asyncio.run(lines())[-1]
    assert (last.source, last.step, last.outcome) == (Source.PEOPLE, Step.CREDIT, Outcome.DONE)
    assert last.detail == "Ms Li saw it in their ledger"


async def make_stuck(dsn: str) -> None:
    """Store a journey whose credit nobody could find out about."""
    pool = await asyncpg.create_pool(dsn, server_settings={"role": "tongdui_app"})
    store, worker = DatabaseJourneys(pool), uuid.uuid4()
    now_us = time.time_ns() // 1000
    order = Order(
        caller=0,
        key=bytes(16),
        body=bytes(16),
        issuer=1,
        acceptor=2,
        member_no=1,
        units=100,
        debit_cu=100,
        value_cu=100,
        fee_cu=0,
        rate_no=1,
        hold_us=1_000_000,
        credited_units=5,
    )
    wanted = Wanted(
        order=order, issuer_member="a", acceptor_member="b", decide_by_us=now_us, at_us=now_us
    )
    [journey] = (await store.commit(worker=worker, begin=[wanted], changes=[], late=[])).begun
    assert msgspec.structs.asdict(journey.wanted.order) == msgspec.structs.asdict(order)
    change = Change(
        journey_no=journey.journey_no,
        claim_no=1,
        state=State.CREDITING,
        order_seq=0,
        accepted_at_us=0,
        reason=0,
        verdict=Verdict.OPEN,
        stuck_since_us=now_us,
        stuck_why="CREDIT is unknown: no answer",
        lines=(),
        at_us=now_us,
    )
    await store.commit(worker=worker, begin=[], changes=[change], late=[])
    await pool.close()
