"""Measuring: rounds of pgbench and loads in turn, cycles closed and packaged, replays beside the model."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from deploy.database.databases import drop_database
from exchange.bench import machine, pgbench
from exchange.bench.load import BULK_ORDERS, SIGNED_RATE_MAX, Plan, Sent, Shape
from exchange.bench.merchants import BETWEEN_HEALTHY, LINKED_MEMBERS, WITH_DYING
from exchange.bench.processes import Failed, run_program
from exchange.bench.report import (
    CycleRun,
    IsolationRun,
    LoadRun,
    Memory,
    ReplayRun,
    Round,
    percentile,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from exchange.bench.house import House, Operator
    from exchange.bench.merchants import Shops

MARKET_SEED: Final = 20260101
PGBENCH: Final = "pgbench"
_POLL_SECONDS: Final = 0.004
_PACKAGE_SECONDS_MAX: Final = 300.0
_BUILD_SECONDS_MAX: Final = 180.0
_LINE_BYTES_MAX: Final = 1 << 27
_LOAD_SECONDS_MIN: Final = 1.0
_FILLS_MAX: Final = 20
_QUICK_FILL_SECONDS: Final = 5.0
_AROUND_LOAD_SECONDS: Final = 0.5
"""Connecting before a load, and reading its answers after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """One kind of load.

    Attributes:
        name: Its name in the report.
        shape: How orders are sent.
        keys: Kind of the keys.
        callers: How many send at once.
        rate_max: Orders that are made beforehand, for each second; whoever is faster has a shorter run.
        signed: Whether requests are signed and answers too, instead of API keys.
    """

    name: str
    shape: Shape
    keys: str
    callers: int
    rate_max: int
    signed: bool = False


LOADS: Final = (
    LoadSpec(name="bulk_random", shape="bulk", keys="random", callers=4, rate_max=40_000),
    LoadSpec(name="bulk_uuid7", shape="bulk", keys="uuid7", callers=4, rate_max=40_000),
    LoadSpec(name="single_64", shape="single", keys="uuid7", callers=64, rate_max=16_000),
    LoadSpec(name="single_512", shape="single", keys="uuid7", callers=512, rate_max=16_000),
    LoadSpec(
        name="bulk_uuid7_signed",
        shape="bulk",
        keys="uuid7",
        callers=4,
        rate_max=40_000,
        signed=True,
    ),
    LoadSpec(
        name="single_512_signed",
        shape="single",
        keys="uuid7",
        callers=512,
        rate_max=SIGNED_RATE_MAX,
        signed=True,
    ),
    LoadSpec(name="two_phase_512", shape="two-phase", keys="uuid7", callers=512, rate_max=10_000),
)

JOURNEYS: Final = LoadSpec(
    name="journeys_64", shape="journey", keys="uuid7", callers=64, rate_max=1_500
)
_PARTS: Final = ("gateway", "writer", "postgres")
_JOURNEY_PARTS: Final = ("gateway", "writer", "order_worker", "postgres", "merchants")
"""Parts whose processor time is told; a part that has nothing to do with a load is left out."""
_HEALTHY_SHARE: Final = 0.4
"""Of the rate that was just reached: far enough from it that nobody queues for a processor for long."""
_DEAD_SHARE: Final = 0.1
"""So every fifth order names the dead merchant."""
_DEAD_CALLERS: Final = 256
_DEAD_DECIDE_BY_SECONDS: Final = 1
_ENDS_SECONDS_MAX: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured.

    Attributes:
        pgbench_seconds: Length of pgbench in each round.
        load_seconds: Length of each load.
        journey_seconds: Length of the load of orders between merchants' own systems.
        isolation_seconds: Length of each stretch alone, and of each beside a dead merchant.
        isolation_pairs: Stretches of each kind, in turn.
        members: Members of the market.
        cycle_orders: Orders of a cycle that is closed.
    """

    pgbench_seconds: int
    load_seconds: float
    journey_seconds: float
    isolation_seconds: float
    isolation_pairs: int
    members: int
    cycle_orders: int


@dataclass(slots=True, kw_only=True)
class Peaks:
    """The most memory seen so far, bytes."""

    writer: int = 0
    gateway: int = 0
    order_worker: int = 0
    packager: int = 0
    postgres: int = 0

    def as_memory(self) -> Memory:
        """As the report has it."""
        return Memory(
            writer=self.writer,
            gateway=self.gateway,
            order_worker=self.order_worker,
            packager=self.packager,
            postgres=self.postgres,
        )


class Sending:
    """A process that has made its requests, or is making them, and waits for the word."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Take the process, whose plan was sent."""
        self._process = process

    async def ready(self) -> None:
        """Wait until the requests are made.

        Raises:
            Failed: The process ends instead.
        """
        assert self._process.stdout is not None
        async with asyncio.timeout(_BUILD_SECONDS_MAX):
            line = await self._process.stdout.readline()
        if line.strip() != b"ready":
            raise Failed("the process that sends orders ended before it began")

    async def go(self, seconds: float, rate: float = 0.0) -> Sent:
        """Let it send for so long, at so many orders a second (0: as many as are answered); a next time goes on.

        Raises:
            Failed: It ends without a result.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"go {seconds} {rate}\n".encode())
        async with asyncio.timeout(seconds + 240):
            line = await self._process.stdout.readline()
        if not line:
            raise Failed("the process that sends orders ended without a result")
        return msgspec.json.decode(line, type=Sent)


@asynccontextmanager
async def sending(plan: Plan) -> AsyncIterator[Sending]:
    """A process that makes the plan's requests, for the length of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "exchange.bench.load"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES_MAX,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(plan) + b"\n")
        await process.stdin.drain()
        yield Sending(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@dataclass(slots=True, kw_only=True)
class Bench:
    """One run of the benchmark on a clearing house that stands.

    Attributes:
        house: The clearing house.
        shops: Merchants with systems of their own.
        operator: Calls it.
        api_keys: Of the merchants, by code.
        sizes: How much is measured.
        pgbench_dsn: Database with pgbench's tables.
        purchases: File for the replay.
        programmes: Its programmes.
        say: Told what happens.
        deadline: When the loads of a quick run shall be over (monotonic clock); None for no hurry.
        peaks: Memory so far.
        faults: What went wrong so far.
        unsettled: Cycles that are closed and weigh on the caps.
    """

    house: House
    shops: Shops
    operator: Operator
    api_keys: dict[str, str]
    sizes: Sizes
    pgbench_dsn: str
    purchases: Path
    programmes: Path
    say: Callable[[str], None]
    deadline: float | None = None
    peaks: Peaks = field(default_factory=Peaks)
    faults: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)

    # --- loads ---

    @asynccontextmanager
    async def prepared(self, number: int) -> AsyncIterator[dict[str, Sending]]:
        """The senders of one round, making their requests beside whatever else goes on."""
        async with AsyncExitStack() as stack:
            senders = {}
            for place, spec in enumerate(LOADS):
                orders = int(spec.rate_max * self.sizes.load_seconds)
                senders[spec.name] = await stack.enter_async_context(
                    sending(self._plan(spec, orders, seed=1_000 * number + 10 * place))
                )
            stretches_seconds = self.sizes.isolation_pairs * self.sizes.isolation_seconds
            for place, (name, pairs, orders_share) in enumerate(
                (
                    (JOURNEYS.name, BETWEEN_HEALTHY, self.sizes.journey_seconds),
                    ("healthy", BETWEEN_HEALTHY, 2 * _HEALTHY_SHARE * stretches_seconds),
                    ("dead", WITH_DYING, _DEAD_SHARE * stretches_seconds),
                )
            ):
                orders = int(JOURNEYS.rate_max * orders_share)
                plan = self._journey_plan(pairs, orders, seed=1_000 * number + 500 + 10 * place)
                senders[name] = await stack.enter_async_context(sending(plan))
            yield senders

    def _journey_plan(self, pairs: list[tuple[str, str]], orders: int, *, seed: int) -> Plan:
        dead = pairs is WITH_DYING
        return Plan(
            port=self.house.port,
            shape=JOURNEYS.shape,
            keys="uuid7",
            callers=_DEAD_CALLERS if dead else JOURNEYS.callers,
            orders_max=orders,
            members=LINKED_MEMBERS,
            market_seed=MARKET_SEED,
            seed=seed,
            operator_key=self.house.operator_key,
            api_keys=self.api_keys,
            pairs=pairs,
            decide_by_seconds=_DEAD_DECIDE_BY_SECONDS if dead else None,
        )

    def _plan(self, spec: LoadSpec, orders: int, *, seed: int) -> Plan:
        return Plan(
            port=self.house.port,
            shape=spec.shape,
            keys="uuid7" if spec.keys == "uuid7" else "random",
            callers=spec.callers,
            orders_max=-(-orders // BULK_ORDERS) * BULK_ORDERS,
            members=self.sizes.members,
            market_seed=MARKET_SEED,
            seed=seed,
            operator_key=self.house.operator_key,
            api_keys=self.api_keys,
            signing_key=self.house.signing_key if spec.signed else "",
        )

    async def measure_loads(self, number: int, senders: dict[str, Sending]) -> dict[str, LoadRun]:
        """pgbench, then every load; which load comes first changes from round to round."""
        base = await self._measure_pgbench()
        runs = {PGBENCH: base}
        for place in range(len(LOADS)):
            spec = LOADS[(place + number - 1) % len(LOADS)]
            await senders[spec.name].ready()
            seconds = self._load_seconds(len(LOADS) - place)
            runs[spec.name] = await self._measure_load(spec.name, senders[spec.name], seconds, base)
        return {name: runs[name] for name in (PGBENCH, *(spec.name for spec in LOADS))}

    async def measure_journeys(self, senders: dict[str, Sending], base: LoadRun) -> LoadRun:
        """Orders between two merchants' own systems."""
        sender = senders[JOURNEYS.name]
        await sender.ready()
        return await self._measure_load(JOURNEYS.name, sender, self.sizes.journey_seconds, base)

    async def measure_isolation(self, senders: dict[str, Sending], reached: float) -> IsolationRun:
        """Orders between two healthy merchants, by turns alone and beside orders with a third one that is dead.

        Whatever else the machine does meets stretches of both kinds, so that their p99s can be compared. The third
        one is dead in all of them: what was begun with it in a stretch is still inquired about in the next, as
        seldom as its circuit lets.

        Args:
            senders: Who sends.
            reached: Orders a second that were just reached without a limit.
        """
        seconds = self.sizes.isolation_seconds
        rate, dead_rate = reached * _HEALTHY_SHARE, reached * _DEAD_SHARE
        sent: dict[str, list[Sent]] = {"alone": [], "beside": [], "dead": []}

        async def alone() -> None:
            sent["alone"].append(await senders["healthy"].go(seconds, rate))

        async def beside() -> None:
            healthy, dead = await asyncio.gather(
                senders["healthy"].go(seconds, rate), senders["dead"].go(seconds, dead_rate)
            )
            sent["beside"].append(healthy)
            sent["dead"].append(dead)

        for name in ("healthy", "dead"):
            await senders[name].ready()
        self.shops.kill()
        try:
            for number in range(self.sizes.isolation_pairs):
                # Which comes first changes, so that neither is always the one after the other.
                for stretch in (alone, beside) if number % 2 == 0 else (beside, alone):
                    await stretch()
        finally:
            self.shops.revive()
        for name, stretches in sent.items():
            for each in stretches:
                self.faults += [f"{name}: {wrong}" for wrong in each.wrong]
                if each.refused and name != "dead":
                    self.faults.append(
                        f"{name}: orders between healthy merchants were {each.refused}"
                    )
        alone_ms, beside_ms, dead_ms = (
            sorted(latency for each in stretches for latency in each.latencies_ms)
            for stretches in sent.values()
        )
        p99_ms, beside_p99_ms = percentile(alone_ms, 0.99), percentile(beside_ms, 0.99)
        run = IsolationRun(
            rate=round(rate, 1),
            dead_rate=round(dead_rate, 1),
            orders=len(beside_ms),
            dead_orders=len(dead_ms),
            dead_p99_ms=percentile(dead_ms, 0.99),
            alone_p50_ms=percentile(alone_ms, 0.5),
            alone_p99_ms=p99_ms,
            beside_p50_ms=percentile(beside_ms, 0.5),
            beside_p99_ms=beside_p99_ms,
            ratio=round(beside_p99_ms / p99_ms, 3) if p99_ms else 0.0,
        )
        self.say(
            f"{run.rate:,.0f}/s between two merchants: p99 {run.alone_p99_ms:.1f} ms, beside a dead one "
            f"{run.beside_p99_ms:.1f} ms, ratio {run.ratio:.2f}"
        )
        return run

    async def wait_ended(self) -> None:
        """Wait until the merchant that was dead has answered, and every order between merchants has ended.

        Raises:
            Failed: One does not end.
        """
        sql = "SELECT count(*) FROM exchange.journey WHERE ended_at IS NULL"
        deadline = monotonic() + _ENDS_SECONDS_MAX
        while left := int(await asyncio.to_thread(self.house.server.psql, sql)):
            if monotonic() > deadline:
                raise Failed(f"{left} orders between merchants' own systems have not ended")
            await asyncio.sleep(0.1)

    def _load_seconds(self, left: int) -> float:
        """How long the next of so many loads may take; a slow machine's quick run has shorter ones."""
        if self.deadline is None:
            return self.sizes.load_seconds
        share = (self.deadline - monotonic()) / left - _AROUND_LOAD_SECONDS
        return max(_LOAD_SECONDS_MIN, min(self.sizes.load_seconds, share))

    async def _measure_pgbench(self) -> LoadRun:
        wal_before, use_before = await self._wal_bytes(), self._use()
        threads = min(2, os.cpu_count() or 1)
        seconds = self.sizes.pgbench_seconds
        measured = await pgbench.measure(
            self.house.server.bin_dir, self.pgbench_dsn, seconds=seconds, threads=threads
        )
        orders = max(1, round(measured.rate * seconds))
        cpu_us = _cpu(use_before, self._use(), orders, {"client": measured.cpu_seconds})
        run = LoadRun(
            orders=orders,
            seconds=float(seconds),
            rate=round(measured.rate, 1),
            ratio=1.0,
            p50_ms=percentile(measured.latencies_ms, 0.5),
            p99_ms=percentile(measured.latencies_ms, 0.99),
            cpu_us_per_order={part: cpu_us[part] for part in ("postgres", "client")},
            cpu_ratio=1.0,
            wal_bytes_per_order=round((await self._wal_bytes() - wal_before) / orders, 1),
        )
        self._say_run(PGBENCH, run)
        return run

    async def _measure_load(
        self, name: str, sender: Sending, seconds: float, base: LoadRun
    ) -> LoadRun:
        wal_before, use_before = await self._wal_bytes(), self._use()
        sent = await sender.go(seconds)
        use_after, wal_after = self._use(), await self._wal_bytes()
        self._note_memory()
        self.faults += [f"{name}: {each}" for each in sent.wrong]
        orders = max(1, sent.orders)
        rate = sent.orders / sent.seconds if sent.seconds else 0.0
        parts = _JOURNEY_PARTS if name == JOURNEYS.name else _PARTS
        cpu_us = _cpu(use_before, use_after, orders, {"client": sent.cpu_seconds}, parts)
        run = LoadRun(
            orders=sent.orders,
            seconds=round(sent.seconds, 3),
            rate=round(rate, 1),
            ratio=round(rate / base.rate, 3),
            p50_ms=percentile(sent.latencies_ms, 0.5),
            p99_ms=percentile(sent.latencies_ms, 0.99),
            refused_share=round(sum(sent.refused.values()) / orders, 4),
            duplicate_share=round(sent.duplicates / orders, 4),
            refused=sent.refused,
            cpu_us_per_order=cpu_us,
            cpu_ratio=round(
                sum(base.cpu_us_per_order.values())
                / max(0.1, sum(cpu_us.values()) - cpu_us.get("merchants", 0.0)),
                2,
            ),
            wal_bytes_per_order=round((wal_after - wal_before) / orders, 1),
        )
        self._say_run(name, run)
        return run

    def _say_run(self, name: str, run: LoadRun) -> None:
        self.say(
            f"{name}: {run.rate:,.0f}/s, {run.ratio:.2f} of pgbench, p50 {run.p50_ms:.1f} ms, "
            f"p99 {run.p99_ms:.1f} ms, {run.refused_share:.1%} refused"
        )

    # --- cycles ---

    async def measure_cycle(self) -> CycleRun:
        """Close the open cycle, which was filled before, and have its package written and verified."""
        began = perf_counter()
        answer = await self.operator.call("POST", "/v1/cycles/close", b"{}")
        cycle = answer["closed"]
        positions = await self.operator.call("GET", f"/v1/positions?cycle={cycle}")
        close_seconds = perf_counter() - began
        if sum(int(each["net_cu"]) for each in positions["positions"]):
            self.faults.append(f"the positions of {cycle} do not sum to zero")
        seconds = await self._package_seconds(cycle, began)
        view = await self.operator.call("GET", f"/v1/cycles/{cycle}")
        folder = self.house.folder / "packages" / cycle
        lines = 2 * int(view["orders"])
        checked, peak_bytes = await self._verify(folder)
        self._note_memory()
        self.unsettled.append(cycle)
        run = CycleRun(
            orders=int(view["orders"]),
            close_seconds=round(close_seconds, 4),
            lines=lines,
            package_seconds=round(seconds, 3),
            package_lines_per_second=round(lines / seconds, 1),
            package_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            package_peak_bytes=machine.peak_bytes(self.house.pids().packager),
            verify_seconds=round(checked, 3),
            verify_lines_per_second=round(lines / checked, 1),
            verify_peak_bytes=peak_bytes,
        )
        self.say(
            f"cycle of {run.orders:,} orders: closed in {run.close_seconds * 1000:.0f} ms, package of "
            f"{lines:,} lines in {seconds:.1f} s, verified in {checked:.1f} s"
        )
        return run

    async def fill(self, number: int) -> None:
        """Send bulk orders until the open cycle has its size; in a quick run no longer than its share of the time.

        Raises:
            Failed: Nothing clears any more.
        """
        spec = LoadSpec(name="fill", shape="bulk", keys="uuid7", callers=4, rate_max=0)
        for attempt in range(_FILLS_MAX):
            cycles = (await self.operator.call("GET", "/v1/cycles"))["cycles"]
            missing = self.sizes.cycle_orders - int(cycles[-1].get("orders") or 0)
            if missing <= 0 or (self.deadline is not None and attempt):
                return
            seconds = _PACKAGE_SECONDS_MAX if self.deadline is None else _QUICK_FILL_SECONDS
            plan = self._plan(spec, int(missing * 1.08), seed=1_000 * number + 100 + 10 * attempt)
            async with sending(plan) as sender:
                await sender.ready()
                sent = await sender.go(seconds)
            self.faults += [f"fill: {each}" for each in sent.wrong]
            if not sent.cleared:
                break
        raise Failed("the cycle does not fill up")

    async def _package_seconds(self, cycle: str, closed_at: float) -> float:
        """Watch the packager at work."""
        packages = self.house.folder / "packages"
        target, work = packages / cycle, packages / f".{cycle}.cutting"
        deadline = monotonic() + _PACKAGE_SECONDS_MAX
        began = 0.0
        while not target.exists():
            if not began and work.exists():
                began = perf_counter()
            if monotonic() > deadline:
                raise Failed(f"no package of {cycle} after {_PACKAGE_SECONDS_MAX:.0f} s")
            await asyncio.sleep(_POLL_SECONDS)
        return perf_counter() - (began or closed_at)

    async def _verify(self, folder: Path) -> tuple[float, int]:
        done = await run_program(
            [
                sys.executable,
                "-m",
                "exchange.bench.checker",
                str(folder),
                str(self.house.folder / "keys"),
            ],
            seconds_max=_PACKAGE_SECONDS_MAX,
        )
        told: dict[str, Any] = json.loads(done.output)
        if not told["ok"]:
            self.faults.append(
                f"the package {folder.name} is not good: {', '.join(told['failed'])}"
            )
        return float(told["seconds"]), done.peak_bytes

    # --- replay ---

    async def measure_replay(self, number: int) -> ReplayRun:
        """The model, then the replay; both in processes of their own."""
        files = [str(self.purchases), str(self.programmes)]
        modelled = await run_program(
            [sys.executable, "-m", "exchange.bench.model", *files], seconds_max=300
        )
        model: dict[str, Any] = json.loads(modelled.output)
        out = self.house.folder / f"replay-{number}"
        replayed = await run_program(
            [
                *(sys.executable, "-m", "exchange.cli", "replay", files[0]),
                *("--programmes", files[1], "--out", str(out), "--json"),
            ],
            seconds_max=1200,
            environ=os.environ
            | {"TONGDUI_HOME": str(self.house.folder), "DATABASE_URL": self.house.dsn},
        )
        summary: dict[str, Any] = json.loads(replayed.output)
        rows = [f"{cycle},{party},{figure}\n" for cycle, party, figure in model["positions"]]
        agree = (out / "positions.csv").read_text() == "cycle,party,net_cu\n" + "".join(
            rows
        ) and all(
            summary[name] == model[name]
            for name in ("orders", "refused", "lots", "gross_cu", "net_cu", "unfunded_cu", "cycles")
        )
        if not agree:
            self.faults.append("the replay and the model came to different figures")
        await drop_database(
            self.house.dsn, json.loads((out / ".replay.json").read_text())["database"]
        )
        run = ReplayRun(
            lines=model["lines"],
            orders=model["orders"],
            cycles=model["cycles"],
            seconds=round(summary["seconds"], 3),
            model_seconds=round(model["seconds"], 3),
            ratio=round(summary["seconds"] / model["seconds"], 2),
            peak_bytes=replayed.peak_bytes,
            agree=agree,
        )
        self.say(
            f"replay of {run.lines:,} lines in {run.seconds:.1f} s, model {run.model_seconds:.2f} s, "
            f"ratio {run.ratio:.1f}"
        )
        return run

    # --- one round ---

    async def run_round(self, number: int, senders: dict[str, Sending]) -> Round:
        """Everything once; the open cycle was filled before.

        The closed cycle is paid after the loads, as it is in life: so caps bind from the first order on.
        """
        cycle = await self.measure_cycle()
        loads = await self.measure_loads(number, senders)
        while self.unsettled:
            await self.operator.call("POST", f"/v1/cycles/{self.unsettled.pop()}/settle")
        async with self.shops.connected(self.operator):
            journeys = await self.measure_journeys(senders, loads[PGBENCH])
            isolation = await self.measure_isolation(senders, journeys.rate)
            replay = await self.measure_replay(number)
            await self.wait_ended()
        return Round(
            loads=loads | {JOURNEYS.name: journeys},
            isolation=isolation,
            cycle=cycle,
            replay=replay,
        )

    # --- looking at the server ---

    async def checkpoints(self) -> int:
        """Checkpoints of the server so far."""
        major = int(self.house.server.version.split(".")[0])
        sql = (
            "SELECT num_timed + num_requested FROM pg_stat_checkpointer"
            if major >= 17
            else "SELECT checkpoints_timed + checkpoints_req FROM pg_stat_bgwriter"
        )
        return int(await asyncio.to_thread(self.house.server.psql, sql))

    async def _wal_bytes(self) -> int:
        sql = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
        return int(await asyncio.to_thread(self.house.server.psql, sql))

    def _use(self) -> machine.Use:
        pids = self.house.pids()
        return machine.processor_use(
            writer=pids.writer,
            gateways=pids.gateways,
            order_workers=pids.order_workers,
            merchants=self.shops.pids,
            postmaster=self.house.server.pid,
        )

    def _note_memory(self) -> None:
        pids, peaks = self.house.pids(), self.peaks
        peaks.writer = max(peaks.writer, machine.peak_bytes(pids.writer))
        peaks.packager = max(peaks.packager, machine.peak_bytes(pids.packager))
        peaks.gateway = max(peaks.gateway, *map(machine.peak_bytes, pids.gateways))
        peaks.order_worker = max(peaks.order_worker, *map(machine.peak_bytes, pids.order_workers))
        peaks.postgres = max(peaks.postgres, machine.postgres_bytes(self.house.server.pid))


def _cpu(
    before: machine.Use,
    after: machine.Use,
    orders: int,
    others: dict[str, float],
    parts: Sequence[str] = _PARTS,
) -> dict[str, float]:
    """Processor time of each part, microseconds an order."""
    seconds = {part: getattr(after, part) - getattr(before, part) for part in parts} | others
    return {part: round(1_000_000 * each / orders, 1) for part, each in seconds.items()}
