"""Orders between four merchants' systems, in as many protocols, and a hosted programme, while everything is killed.

Real processes and sockets. TONGDUI_CHAOS_SECONDS says how long (five minutes by hand, less in every
run); TONGDUI_CHAOS_SEED which kills and faults.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from adapters.kit import registry
from adapters.kit.contract import Step
from adapters.kit.folder import Folder
from adapters.kit.reference import step_of
from deploy.database.connection import open_pool
from deploy.database.embedded import EmbeddedServer
from exchange.core.journey import Journey, Verdict
from exchange.core.order import ENDS, State
from exchange.store.connections import insert_connection
from exchange.store.journeys import fetch_journeys
from schemas.values.ids import new_uuid7
from settlement.core.event import Kind
from settlement.service.clearing import PART
from tests.builders import instant
from tests.simulation.compare import assert_audits_clean
from tests.simulation.shop import KeptLedger
from tests.simulation.test_kill import Served

SECONDS = float(os.environ.get("TONGDUI_CHAOS_SECONDS", "25"))
SEED = int(os.environ.get("TONGDUI_CHAOS_SEED", "1"))
CALLERS = 12
PAUSE_SECONDS = 0.03
"""Between two orders of a till: whoever is started again needs the processors too, and starts sooner."""
FAULT_RATE = 0.04
MERCHANTS = ("noodle-house", "silk-road-mall", "till-town", "skyward-air")
HOSTED = "hosted"
"""A programme that the house keeps; its system is the writer."""
POINTS = 1_000_000
STEPS = {16: Step.HOLD, 17: Step.RELEASE, 18: Step.CREDIT, 19: Step.REVERSE_CREDIT}
VICTIMS = ("orders", "orders", "gateway", "writer", "shop", "shop", "shop", "postmaster")
PATIENT_SECONDS = 90
QUICK = {
    "final_after_seconds": "3.0",
    "deadline_seconds": "1.0",
    "breaker_seconds": "0.5",
    "inquiry_first_seconds": "0.1",
    "inquiry_max_seconds": "1.0",
}


@dataclass
class Shop:
    """One merchant's system: a process that is started again after each kill, on the same port and books."""

    folder: Folder
    books: Path
    process: subprocess.Popen[str] | None = None
    told: dict[str, Any] = field(default_factory=dict)
    starts: int = 0

    @property
    def code(self) -> str:
        """The merchant's code."""
        return self.folder.code

    @property
    def member(self) -> str:
        """The test member with the most points."""
        members = self.folder.manifest.sandbox.members
        return max(members, key=lambda name: members[name])

    def start(self) -> None:
        """Start, or start again."""
        again: list[str] = []
        if self.told:
            settings = self.told["settings"]
            port = settings.get("port") or settings["base_url"].rsplit(":", 1)[1]
            again = [json.dumps(self.told["secrets"]), str(port)]
        self.starts += 1
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.simulation.shop"),
                *(str(self.folder.path), str(self.books)),
                *(str(SEED * 1000 + self.starts), str(FAULT_RATE)),
                *again,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"{self.code} does not start"
        self.told = self.told or json.loads(line)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def ledger(self) -> KeptLedger:
        """What its system really did."""
        return KeptLedger(self.folder.manifest, self.books)


def quick_folder(code: str, into: Path) -> Folder:
    """A copy of a merchant's folder whose system makes up its mind sooner."""
    path = into / code
    shutil.copytree(registry.MERCHANTS / code, path)
    manifest = path / "manifest.toml"
    text = manifest.read_text()
    for name, value in QUICK.items():
        text, found = re.subn(rf"(?m)^{name} *=.*$", f"{name} = {value}", text)
        if not found:
            text = re.sub(r"(?m)^\[limits\]$", f"[limits]\n{name} = {value}", text)
    manifest.write_text(text)
    return registry.at(path)


@pytest.fixture
def town() -> Iterator[tuple[Served, dict[str, Shop]]]:
    """Four shops, and a house that serves with two gateways and two order workers."""
    home = Path(tempfile.mkdtemp(prefix="tongdui-chaos-", dir="/var/tmp"))
    home.chmod(0o755)
    shops = {
        code: Shop(folder=quick_folder(code, home), books=home / f"{code}.books")
        for code in MERCHANTS
    }
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environ["TONGDUI_HOME"] = str(home / "house")
    for shop in shops.values():
        shop.start()
        for name, value in shop.told["secrets"].items():
            environ[name.removeprefix("env:")] = value
    with (home / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "exchange.cli", "serve", "--json", "--port", "0"),
                *("--gateways", "2", "--order-workers", "2", "--sandbox", "--no-simulators"),
            ],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (home / "serve.log").read_text()
    served = Served(home=home / "house", process=process, ready=json.loads(line))
    yield served, shops
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
    process.stdout.close()
    for shop in shops.values():
        shop.kill()
    print((home / "serve.log").read_text()[-6000:])
    if (home / "house" / "database" / "data" / "postmaster.pid").exists():
        EmbeddedServer(home / "house" / "database").start().close()
    shutil.rmtree(home)


@dataclass
class Tills:
    """Callers that send orders until told to stop, each until it has a final answer."""

    served: Served
    random: random.Random
    stop: bool = False
    told: dict[str, tuple[bool, str]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    repeats: int = 0

    async def run(self) -> None:
        """Send."""
        async with aiohttp.ClientSession(
            self.served.ready["url"],
            headers={"Authorization": f"Bearer {self.served.operator}"},
            timeout=aiohttp.ClientTimeout(total=12),
        ) as http:
            await asyncio.gather(*(self._till(http) for _ in range(CALLERS)))

    async def _till(self, http: aiohttp.ClientSession) -> None:
        while not self.stop:
            issuer, acceptor = self.random.sample((*MERCHANTS, HOSTED), 2)
            order = {
                "member": "anna",
                "issuer": issuer,
                "acceptor": acceptor,
                "units": str(self.random.randint(1, 5)),
                "kind": self.random.choice(["exchange", "exchange", "redemption"]),
            }
            if issuer == HOSTED:
                order["kind"] = (
                    "exchange"  # Redeemed, its points are spent at once, and nothing travels.
                )
            key = str(new_uuid7(secrets.randbits, time.time_ns))
            began = time.monotonic()
            answer = await self.ask(http, order, key)
            self.seconds.append(time.monotonic() - began)
            self.told[key] = answer
            if self.random.random() < 0.1:
                self.repeats += 1
                assert await self.ask(http, order, key) == answer
            await asyncio.sleep(PAUSE_SECONDS)

    async def ask(self, http: aiohttp.ClientSession, order: object, key: str) -> tuple[bool, str]:
        """Send one order until it is answered for good: whether it cleared, and why not."""
        while True:
            try:
                async with http.post(
                    "/v1/orders", json=order, headers={"Idempotency-Key": key}
                ) as response:
                    body = await response.json(content_type=None)
                    if response.status == 201:
                        return True, ""
                    if response.status < 500:
                        assert response.status in (409, 422), body
                        return False, str(body["reason"])
                    self.failures[str(response.status)] += 1
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.failures[type(error).__name__] += 1
            await asyncio.sleep(0.05)


async def set_up(served: Served, shops: dict[str, Shop]) -> None:
    """Register, connect and link."""
    async with aiohttp.ClientSession(
        served.ready["url"], headers={"Authorization": f"Bearer {served.operator}"}
    ) as http:
        connection = await asyncpg.connect(served.dsn, server_settings={"role": "tongdui_app"})
        for shop in shops.values():
            terms = {
                "code": shop.code,
                "name": shop.code,
                "hosted": False,
                "spend": {"cu": "100", "units": "1"},
                "cap_cu": "100000000000",
            }
            async with http.post("/v1/merchants", json=terms) as answer:
                assert answer.status == 201, await answer.text()
                merchant_no = (await answer.json())["merchant_no"]
            await insert_connection(
                connection,
                merchant_no=merchant_no,
                folder=str(shop.folder.path),
                settings=shop.told["settings"],
                certificate_digest=None,
                now=instant(time.time_ns() // 1000),
            )
        await connection.close()
        terms = {
            "code": HOSTED,
            "name": HOSTED,
            "spend": {"cu": "100", "units": "1"},
            "cap_cu": "100000000000",
        }
        async with http.post("/v1/merchants", json=terms) as answer:
            assert answer.status == 201, await answer.text()
        async with http.post("/v1/members", json={"members": ["anna"]}) as answer:
            assert answer.status == 200
            [anna] = (await answer.json())["tokens"]
        award = {"merchant": HOSTED, "member": "anna", "units": str(POINTS)}
        async with http.post(
            "/v1/accruals", json=award, headers={"Idempotency-Key": "award"}
        ) as answer:
            assert answer.status == 201, await answer.text()
        for shop in shops.values():
            link = {
                "merchant": shop.code,
                "merchant_member": shop.member,
                "proof": shop.folder.manifest.sandbox.proof,
            }
            deadline = time.monotonic() + 90
            while True:
                async with http.post(f"/v1/members/{anna}/links", json=link) as answer:
                    if answer.status == 201:
                        break
                    assert time.monotonic() < deadline, await answer.text()
                await asyncio.sleep(0.2)


async def kill_at_random(
    served: Served, shops: dict[str, Shop], pick: random.Random, seconds: float
) -> Counter[str]:
    """Kill one after the other for a while."""
    killed: Counter[str] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await asyncio.sleep(pick.uniform(0.8, 2.0))
        whom = pick.choice(VICTIMS)
        killed[whom] += 1
        if whom == "shop":
            shop = shops[pick.choice(MERCHANTS)]
            shop.kill()
            await asyncio.sleep(pick.uniform(0.1, 1.0))
            await asyncio.to_thread(shop.start)
        elif whom == "orders":
            pids = served.pids("worker.orders")
            if pids:
                os.kill(pick.choice(pids), signal.SIGKILL)
        else:
            await served.kill(whom, pick)
    return killed


async def all_ended(dsn: str) -> list[Journey]:
    """All journeys, once each has ended."""
    deadline = time.monotonic() + PATIENT_SECONDS
    while True:
        try:
            pool = await open_pool(dsn)
            rows = await pool.fetch("SELECT caller, key FROM exchange.journey")
            found = await fetch_journeys(
                pool, keys=[(row["caller"], row["key"].bytes) for row in rows]
            )
            await pool.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            found = []
        still = [journey for journey in found if journey.state not in ENDS]
        if found and not still:
            return found
        assert time.monotonic() < deadline, still[:5]
        await asyncio.sleep(0.5)


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.timeout(int(SECONDS) + 240)
async def test_nothing_is_lost_doubled_or_stranded(town, tell_figure):
    """Whatever is killed, every order ends, nobody's points are lost or doubled, and all books are equal."""
    served, shops = town
    await set_up(served, shops)
    tills = Tills(served, random.Random(SEED))
    load = asyncio.create_task(tills.run())
    killing = asyncio.create_task(kill_at_random(served, shops, random.Random(SEED + 1), SECONDS))
    await asyncio.wait({load, killing}, return_when=asyncio.FIRST_COMPLETED)
    tills.stop = True
    killed = await killing
    await load
    journeys = await all_ended(served.dsn)

    ledgers = {code: shop.ledger() for code, shop in shops.items()}
    pool = await open_pool(served.dsn)
    codes: dict[int, str] = {  # noqa: C416 - a Record is no pair to mypy
        number: code
        for number, code in await pool.fetch("SELECT merchant_no, code FROM settlement.merchant")
    }
    ends: dict[int, int] = {  # noqa: C416 - the same
        order_seq: kind
        for order_seq, kind in await pool.fetch(
            "SELECT order_seq, kind FROM settlement.event WHERE kind IN (3, 4, 5) AND order_seq > 0"
        )
    }
    moved: dict[str, dict[object, list[Step]]] = {}
    for code, ledger in ledgers.items():
        ledger.check()
        assert not ledger.doubled()
        assert not ledger.open_holds()
        moved[code] = {}
        for entry in ledger.entries:
            of_order, step = step_of(entry.reference)
            moved[code].setdefault(of_order, []).append(step)
    moved[HOSTED] = {}
    for kind, reference in await pool.fetch(
        "SELECT kind, reference FROM settlement.event WHERE kind IN (16, 17, 18, 19) AND units > 0 ORDER BY seq"
    ):
        moved[HOSTED].setdefault(step_of(reference)[0], []).append(STEPS[kind])
    net: Counter[str] = Counter()
    points = POINTS
    for journey in journeys:
        order = journey.wanted.order
        issuer, acceptor = codes[order.issuer], codes[order.acceptor]
        name = journey.order_id(PART)
        there = moved[issuer].pop(name, []), moved[acceptor].pop(name, [])
        burns = issuer == HOSTED or shops[issuer].folder.manifest.spend.way == "burn"
        if journey.state is State.CLEARED:
            assert ends[journey.order_seq] == Kind.CLEARED
            spent = [Step.HOLD] if burns else [Step.HOLD, Step.CAPTURE]
            given = [Step.CREDIT] if order.credited_units else []
            assert there == (spent, given), journey
            points -= order.units if issuer == HOSTED else 0
            points += order.credited_units if acceptor == HOSTED else 0
            net[issuer] -= order.debit_cu
            net[acceptor] += order.value_cu - order.fee_cu
        else:
            assert ends.get(journey.order_seq) != Kind.CLEARED
            assert there[0] in ([], [Step.HOLD, Step.RELEASE]), journey
            assert there[1] in ([], [Step.CREDIT, Step.REVERSE_CREDIT]), journey
    assert all(not left for left in moved.values()), "points moved for orders that nobody knows"
    states = Counter(journey.state.name.lower() for journey in journeys)
    by_key = {journey.wanted.order.key: journey for journey in journeys}
    for key, (is_cleared, _) in tills.told.items():
        journey = by_key[bytes.fromhex(key.replace("-", ""))]
        stands = journey.state is State.CLEARED and journey.verdict is Verdict.FORWARD
        assert is_cleared == stands, journey
    assert await pool.fetchval("SELECT count(*) FROM settlement.hold") == 0
    rows = await pool.fetch(
        "SELECT merchant_no, net_cu FROM settlement.position WHERE merchant_no > 0"
    )
    assert {codes[number]: cu for number, cu in rows if cu} == {
        code: cu for code, cu in net.items() if cu
    }
    assert await pool.fetchval("SELECT sum(units) FROM exchange.lot_balance") == points
    events = await assert_audits_clean(pool)
    await pool.close()
    for ledger in ledgers.values():
        ledger.close()
    assert events > len(journeys)
    assert states["cleared"] > 0
    seconds = sorted(tills.seconds)
    tell_figure(
        f"chaos: {len(journeys)} orders in {SECONDS:.0f} s through four protocols and a hosted programme "
        f"({', '.join(f'{count} {state}' for state, count in states.most_common())}), "
        f"killed {', '.join(f'{count} {whom}' for whom, count in killed.most_common())}; "
        f"answers within {seconds[len(seconds) // 2]:.2f} s (half), {seconds[-1]:.1f} s (all); "
        f"{tills.repeats} repeats heard the same; nothing stranded, lost or doubled"
    )
