"""kill -9 of the database, the writer and the gateways under load.

Nothing acknowledged is lost, nothing is booked twice.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import msgspec
import psutil
import pytest

from deploy.database.connection import open_pool
from deploy.database.embedded import EmbeddedServer
from schemas.values.faults import Unavailable
from schemas.values.ids import key_bytes, new_uuid7, order_place
from settlement.core.event import Kind
from settlement.service.link import RemoteClearing
from tests.processes import children
from tests.simulation.compare import assert_audits_clean
from tests.simulation.ground import House, open_house, order_of, terms

SINGLE_CALLERS = 24
BULK_CALLERS = 2
BULK_ORDERS = 150
TWO_PHASE_CALLERS = 6
ROUNDS = (
    "writer", "gateway", "backend", "writer", "postmaster", "gateway", "writer", "backend", "gateway",
    "postmaster",
)  # fmt: skip
SETTLING_SECONDS = 0.8
"""How long load runs between two kills, once answers come again."""
SINGLE_PAUSE_SECONDS = 0.02
BULK_PAUSE_SECONDS = 0.05
"""Between two requests of a caller: whoever is started again needs the processors too, and starts sooner."""
MEMBERS = tuple(f"m{number}" for number in range(6))
HOSTED = ("ALFA", "BRAVO", "CHARLIE")


# The served house ------------------------------------------------------------------------------------


@dataclass
class Served:
    """`tongdui serve` on a private database in a folder of its own."""

    home: Path
    process: subprocess.Popen[bytes]
    ready: dict[str, Any]

    @property
    def dsn(self) -> str:
        """Connection string of the private database; the same after each of its restarts."""
        lines = (self.home / "database" / "data" / "postmaster.pid").read_text().splitlines()
        return f"postgresql://tongdui@/tongdui?host={lines[4]}&port={lines[3]}&sslmode=disable"

    @property
    def operator(self) -> str:
        """The operator's key."""
        return (self.home / "operator.key").read_text().strip()

    def pids(self, module: str) -> list[int]:
        """Children that run a module."""
        return children(self.process.pid, module)

    def postmaster(self) -> int:
        """Process id of the database server that this house started."""
        pid_file = self.home / "database" / "data" / "postmaster.pid"
        return int(pid_file.read_text().split()[0])

    async def backend(self) -> int:
        """A process of the database that serves this house; the writer's, if it is writing now."""
        conn = await asyncpg.connect(self.dsn)
        try:
            rows = await conn.fetch(
                """
                SELECT pid FROM pg_stat_activity
                 WHERE application_name = 'tongdui'
                 ORDER BY backend_xid IS NULL, state <> 'active', query_start DESC
                """
            )
        finally:
            await conn.close()
        for row in rows:
            # Asked of the system too: a number that a new process got meanwhile is nobody to kill.
            with contextlib.suppress(psutil.NoSuchProcess):
                if psutil.Process(row["pid"]).ppid() == self.postmaster():
                    return int(row["pid"])
        raise LookupError("nobody is connected")

    async def kill(self, whom: str, pick: random.Random) -> None:
        """SIGKILL to one process of this house."""
        deadline = time.monotonic() + 60
        while True:
            try:
                if whom == "postmaster":
                    pid = self.postmaster()
                elif whom == "backend":
                    pid = await self.backend()
                else:
                    module = {"writer": "worker.writer", "gateway": "cli.gateway"}[whom]
                    pid = pick.choice(self.pids(module))
                os.kill(pid, signal.SIGKILL)
            except (LookupError, OSError, asyncpg.PostgresError):
                # It is being started again.
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            else:
                return


@pytest.fixture
def served() -> Iterator[Served]:
    """A house that serves with two gateways; its log is shown when the test fails."""
    home = Path(tempfile.mkdtemp(prefix="tongdui-kill-", dir="/var/tmp"))
    home.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    with (home / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "exchange.cli",
                "serve",
                "--json",
                "--port",
                "0",
                "--gateways",
                "2",
                "--sandbox",
                "--no-simulators",
            ],
            env=environ | {"TONGDUI_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (home / "serve.log").read_text()
    house = Served(home=home, process=process, ready=json.loads(line))
    yield house
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
    process.stdout.close()
    print((home / "serve.log").read_text()[-4000:])
    if (home / "database" / "data" / "postmaster.pid").exists():
        EmbeddedServer(home / "database").start().close()
    shutil.rmtree(home)


# The load ----------------------------------------------------------------------------------------------


@dataclass
class Load:
    """Callers that send orders until told to stop, and write down what they were answered."""

    url: str
    operator: str
    stop: bool = False
    sent: dict[str, dict[str, object]] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)
    repeats: int = 0
    answered_from: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _random: random.Random = field(default_factory=lambda: random.Random(7))

    def key(self) -> str:
        """A key that was never sent: time-ordered, random, or plain text."""
        number = next(self._numbers)
        return (
            str(new_uuid7(secrets.randbits, time.time_ns)),
            str(uuid.uuid4()),
            f"till-{number}",
        )[number % 3]

    def terms(self) -> dict[str, object]:
        """What one order says."""
        issuer, acceptor = self._random.sample(HOSTED, 2)
        return {
            "member": self._random.choice(MEMBERS),
            "issuer": issuer,
            "acceptor": acceptor,
            "units": self._random.randint(1, 9),
        }

    async def run(self) -> None:
        """Send from all callers until told to stop; each finishes what it began."""
        async with aiohttp.ClientSession(
            self.url,
            headers={"Authorization": f"Bearer {self.operator}"},
            timeout=aiohttp.ClientTimeout(total=12),
        ) as http:
            await asyncio.gather(
                *(self._single(http) for _ in range(SINGLE_CALLERS)),
                *(self._bulk(http) for _ in range(BULK_CALLERS)),
                *(self._two_phase(http) for _ in range(TWO_PHASE_CALLERS)),
            )

    async def _post(
        self,
        http: aiohttp.ClientSession,
        path: str,
        body: object,
        *,
        key: str = "",
        packed: bool = False,
    ) -> Any:
        """Send one request until it is answered; the same bytes under the same key each time."""
        kind = "msgpack" if packed else "json"
        data = msgspec.msgpack.encode(body) if packed else json.dumps(body).encode()
        headers = {"Content-Type": f"application/{kind}"} | (
            {"Idempotency-Key": key} if key else {}
        )
        while True:
            try:
                async with http.post(path, data=data, headers=headers) as response:
                    raw = await response.read()
                    if response.status < 500:
                        if packed and response.status == 200:
                            return msgspec.msgpack.decode(raw)
                        return json.loads(raw) | {"http": response.status}
                    self.failures[str(response.status)] += 1
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.failures[type(error).__name__] += 1
            await asyncio.sleep(0.03)

    async def _single(self, http: aiohttp.ClientSession) -> None:
        while not self.stop:
            key, order = self.key(), self.terms()
            body = order | {"units": str(order["units"])}
            self.sent[key] = order
            began = time.monotonic()
            answer = await self._post(http, "/v1/orders", body, key=key)
            self._note(key, answer)
            self.answered_from = max(self.answered_from, began)
            if self._random.random() < 0.05:
                self._note(key, await self._post(http, "/v1/orders", body, key=key), again=True)
            await asyncio.sleep(SINGLE_PAUSE_SECONDS)

    async def _bulk(self, http: aiohttp.ClientSession) -> None:
        while not self.stop:
            orders = [{"key": self.key()} | self.terms() for _ in range(BULK_ORDERS)]
            self.sent |= {str(order["key"]): order for order in orders}
            if self._random.random() < 0.5:
                orders.append(orders[0])
            answers = await self._post(http, "/v1/orders/bulk", orders, packed=True)
            assert len(answers) == len(orders), answers
            for order, answer in zip(orders, answers, strict=True):
                key = str(order["key"])
                self._note(key, answer | {"http": 200}, again=key in self.answers)
            await asyncio.sleep(BULK_PAUSE_SECONDS)

    async def _two_phase(self, http: aiohttp.ClientSession) -> None:
        while not self.stop:
            key = self.key()
            order: dict[str, object] = {
                "member": "m0", "issuer": "OWN", "acceptor": "ALFA", "units": "3",
            }  # fmt: skip
            self.sent[key] = order
            answer = await self._post(http, "/v1/orders", order, key=key)
            self._note(key, answer)
            if answer["http"] >= 400:
                continue
            how = self._random.choice(["clear", "clear", "void"])
            ended = await self._post(http, f"/v1/orders/{answer['order_id']}/{how}", {})
            assert ended["http"] < 300, ended
            assert ended["order_id"] == answer["order_id"]
            self.ends[answer["order_id"]] = how

    def _note(self, key: str, answer: dict[str, Any], *, again: bool = False) -> None:
        """Write an answer down; a repeat must be word for word the first."""
        figures = {
            name: str(answer[name])
            for name in ("order_id", "debit_cu", "value_cu", "fee_cu")
            if answer.get(name) is not None
        }
        problem = answer.get("problem") or answer
        figures["reason"] = str(problem.get("reason") or "")
        assert figures["reason"] in ("", "net_debit_cap_exceeded"), answer
        if again:
            self.repeats += 1
            assert self.answers[key] == figures
        self.answers[key] = figures


async def _setup(served: Served) -> None:
    """Merchants, members and points."""
    async with aiohttp.ClientSession(
        served.ready["url"], headers={"Authorization": f"Bearer {served.operator}"}
    ) as http:

        async def post(path: str, body: object, key: str = "") -> None:
            async with http.post(
                path, json=body, headers={"Idempotency-Key": key} if key else {}
            ) as answer:
                assert answer.status < 300, await answer.text()

        rate = {"cu": "700", "units": "3"}
        for code, hosted, cap in (
            ("ALFA", True, "400000000"),
            ("BRAVO", True, "400000000"),
            # A cap that binds: some orders are refused, and that is final too.
            ("CHARLIE", True, "300000"),
            ("OWN", False, "400000000"),
        ):
            await post(
                "/v1/merchants",
                {"code": code, "name": code, "spend": rate, "cap_cu": cap, "hosted": hosted},
            )
        await post("/v1/members", {"members": list(MEMBERS)})
        for member, merchant in itertools.product(MEMBERS, HOSTED):
            await post(
                "/v1/accruals",
                {"member": member, "merchant": merchant, "units": "1000000000"},
                f"points-{member}-{merchant}",
            )


# What is in the books ------------------------------------------------------------------------------------


async def _patient_connection(dsn: str) -> asyncpg.Connection:
    deadline = time.monotonic() + 90
    while True:
        try:
            return await asyncpg.connect(dsn)
        except (OSError, asyncpg.PostgresError):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


async def check_books(dsn: str, load: Load) -> int:
    """Every acknowledged order stands in the journal exactly once, with the acknowledged figures.

    Returns:
        How many acknowledged orders were checked.
    """
    conn = await _patient_connection(dsn)
    acknowledged, ends = dict(load.answers), dict(load.ends)
    rows = await conn.fetch(
        """
        SELECT key, seq, order_seq, kind, reason, debit_cu, value_cu, fee_cu
          FROM settlement.event WHERE kind IN (1, 2, 3) AND step >= 0
        """
    )
    ended = {
        row["order_seq"]: row["kind"]
        for row in await conn.fetch(
            "SELECT order_seq, kind FROM settlement.event WHERE kind IN (3, 4, 5) AND order_seq <> seq"
        )
    }
    await conn.close()
    stored: dict[bytes, Any] = {}
    for row in rows:
        assert row["key"].bytes not in stored, "one key, two orders"
        stored[row["key"].bytes] = row
    for key, figures in acknowledged.items():
        row = stored[key_bytes(key)]
        if figures["reason"]:
            assert (row["kind"], row["reason"]) == (Kind.REFUSED, 1), key
            continue
        assert row["kind"] in (Kind.CLEARED, Kind.ACCEPTED), key
        assert order_place(uuid.UUID(figures["order_id"])) == (1, row["seq"]), key
        for name in ("debit_cu", "value_cu", "fee_cu"):
            assert figures[name] == str(row[name]), (key, name)
    for order_id, how in ends.items():
        kind = {"clear": Kind.CLEARED, "void": Kind.VOIDED}[how]
        assert ended[order_place(uuid.UUID(order_id))[1]] == kind, order_id
    # Nothing stands there that was never asked for.
    assert stored.keys() <= {key_bytes(key) for key in load.sent}
    return len(acknowledged)


async def _audit(dsn: str) -> int:
    pool = await open_pool(dsn, size=1)
    try:
        return await assert_audits_clean(pool)
    finally:
        await pool.close()


async def _wait_for_answers(
    load: Load, running: asyncio.Task[None], seconds: float = 90.0
) -> float:
    """Wait until an order that is first sent from now on is answered; returns how long that took."""
    began = time.monotonic()
    while load.answered_from < began:
        if running.done():
            running.result()
        assert time.monotonic() < began + seconds, "no order is answered any more"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_ten_kills_under_load_lose_nothing_and_double_nothing(served: Served, tell_figure):
    """Ten times kill -9 of writer, gateways, database and backends under load over HTTP.

    Singles, bulk and two-phase orders: every acknowledged order is there once with the acknowledged
    figures, and the books equal their rows.
    """
    await _setup(served)
    dsn = served.dsn
    load = Load(url=served.ready["url"], operator=served.operator)
    running = asyncio.create_task(load.run())
    pick = random.Random(11)
    outages = []
    await _wait_for_answers(load, running)
    for whom in ROUNDS:
        await asyncio.sleep(SETTLING_SECONDS + pick.random() / 4)
        await served.kill(whom, pick)
        outages.append((whom, await _wait_for_answers(load, running)))
        await check_books(dsn, load)
    load.stop = True
    await asyncio.wait_for(running, 90)
    checked = await check_books(dsn, load)
    assert checked == len(load.sent), "every caller was answered in the end"
    events = await _audit(dsn)
    conn = await asyncpg.connect(dsn)
    epochs = [
        row["epoch"]
        for row in await conn.fetch("SELECT epoch FROM settlement.flush ORDER BY flush_no")
    ]
    await conn.close()
    # Each new writer took over, and no older epoch wrote after it. (Two kills of the database in a row
    # may end in one take-over.)
    assert epochs == sorted(epochs)
    assert len(set(epochs)) > ROUNDS.count("writer") + 1
    assert load.repeats > 0
    kills = ", ".join(f"{whom} {seconds:.1f}" for whom, seconds in outages)
    tell_figure(
        f"acknowledged orders checked: {checked} ({events} events, {load.repeats} repeats, "
        f"{sum(load.failures.values())} requests sent again, kills and seconds until answers came: {kills})"
    )


# A writer that is frozen ---------------------------------------------------------------------------------


def _start_writer(dsn: str, path: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "exchange.worker.writer", "--dsn", dsn, "--socket", str(path)],
            stdout=output,
            stderr=output,
        )


async def _wait_epoch(house: House, epoch: int) -> None:
    deadline = time.monotonic() + 90
    while await house.pool.fetchval("SELECT epoch FROM settlement.partition") < epoch:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.mark.kill
async def test_frozen_writer_is_fenced_when_it_thaws(dsn: str, tmp_path: Path):
    """A writer process that freezes under load and thaws after another took over ends as fenced.

    It writes nothing more, gateways find the new one, and nobody loses an order.
    """
    async with open_house(dsn, terms("A", hosted=False), terms("B", hosted=False)) as house:
        await house.writer.stop()
        path = tmp_path / "writer.sock"
        old = _start_writer(dsn, path, tmp_path / "log")
        new: subprocess.Popen[bytes] | None = None
        remote = RemoteClearing(path, timeout_seconds=1.0)
        try:
            await _wait_epoch(house, 2)
            await remote.start()
            answered: dict[bytes, int] = {}
            stopping = False

            async def caller() -> None:
                while not stopping:
                    order = order_of(house, "A", "B", 1)
                    while order.key not in answered:
                        try:
                            [[entry]] = await remote.submit([order])
                            answered[order.key] = entry.seq
                        except Unavailable:
                            await asyncio.sleep(0.02)

            callers = [asyncio.create_task(caller()) for _ in range(8)]
            while len(answered) < 200:
                await asyncio.sleep(0.01)
            os.kill(old.pid, signal.SIGSTOP)
            new = _start_writer(dsn, path, tmp_path / "log")
            await _wait_epoch(house, 3)
            frozen_at = len(answered)
            deadline = time.monotonic() + 60
            while len(answered) < frozen_at + 200:
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                await asyncio.sleep(0.01)
            os.kill(old.pid, signal.SIGCONT)
            # What it was doing or is asked next shows it that it was taken over.
            remote_of_old = asyncio.to_thread(old.wait, 60)
            assert await remote_of_old == 3
            thawed_at = len(answered)
            while len(answered) < thawed_at + 100:
                assert time.monotonic() < deadline + 20
                await asyncio.sleep(0.01)
            stopping = True
            await asyncio.gather(*callers)
            stored = {
                row["key"].bytes: row["seq"]
                for row in await house.pool.fetch(
                    "SELECT key, seq FROM settlement.event WHERE kind = 3"
                )
            }
            assert stored == answered
            await assert_audits_clean(house.pool)
        finally:
            for process in (old, new):
                if process is not None and process.poll() is None:
                    process.kill()
                    process.wait()
            await remote.stop()
