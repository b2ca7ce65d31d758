"""`tongdui bench`: what clearing costs on this machine, beside what PostgreSQL itself does on it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click

from exchange.cli.context import Home, Unusable, run
from exchange.cli.log import WARNING, log_to
from exchange.cli.output import err, out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.table import Table

    from deploy.database.embedded import EmbeddedServer
    from exchange.bench.house import House
    from exchange.bench.machine import Machine
    from exchange.bench.report import Report, Round, Spread
    from exchange.bench.rounds import Bench, Sizes
    from exchange.cli.house import ClearingHouse

QUICK_SECONDS: Final = 50.0
"""A quick run ends within this, its server removed."""
_AFTER_LOADS_SECONDS: Final = 20.0
"""What the orders between merchants' own systems, the replay and the end of a quick run may take."""
_CHECKPOINT_SETTINGS: Final = {"checkpoint_timeout": "30s"}
"""The shortest that PostgreSQL knows, so that every run has checkpoints; all else is as the product has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What was asked for; `began` is an instant of the monotonic clock."""

    began: float
    rounds: int
    quick: bool
    gateways: int
    sizes: Sizes
    purchases: Path | None
    programmes: Path | None


@click.command()
@click.option(
    "--rounds",
    type=click.IntRange(1, 100),
    help="Interleaved rounds; 5 where left out, 1 with --quick.",
)
@click.option(
    "--quick", is_flag=True, help="Short loads and a small cycle: ends within 50 seconds."
)
@click.option(
    "--json",
    "report_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the report to this file.",
)
@click.option(
    "--purchases",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Purchases for the replay; the 20,000 lines of the demo where left out.",
)
@click.option(
    "--programmes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Programmes for --purchases; the demo's where left out.",
)
@click.option("--gateways", type=click.IntRange(1, 16), default=1, show_default=True)
@click.option(
    "--seconds", type=click.IntRange(1, 600), help="Length of each load; 8 where left out."
)
@click.option(
    "--orders",
    type=click.IntRange(10_000, 10_000_000),
    help="Orders of a closed cycle; a million where left out.",
)
@click.pass_context
def bench(
    context: click.Context,
    *,
    rounds: int | None,
    quick: bool,
    report_file: Path | None,
    purchases: Path | None,
    programmes: Path | None,
    gateways: int,
    seconds: int | None,
    orders: int | None,
) -> None:
    """Measure this machine: orders, cycle close, packages and replay, beside PostgreSQL's own pgbench.

    Starts a server and a clearing house of its own and removes them; DATABASE_URL and TONGDUI_HOME are left alone.
    Status 1 if an answer, a package or a figure was wrong; a budget that is missed is told, and is no failure.
    """
    from exchange.bench.processes import Failed
    from exchange.bench.rounds import Sizes

    log_to(level=WARNING)
    wanted = _Wanted(
        began=monotonic(),
        rounds=rounds or (1 if quick else 5),
        quick=quick,
        gateways=gateways,
        sizes=Sizes(
            pgbench_seconds=2 if quick else 10,
            load_seconds=float(seconds or (3 if quick else 8)),
            journey_seconds=float(seconds or (1.5 if quick else 8)),
            isolation_seconds=float(seconds or (0.8 if quick else 4)),
            isolation_pairs=3 if quick else 6,
            members=10_000 if quick else 20_000,
            cycle_orders=orders or (25_000 if quick else 1_000_000),
        ),
        purchases=purchases,
        programmes=programmes,
    )
    try:
        with _own_folder() as (server, home):
            report = run(_measure(wanted, server, home))
    except Failed as error:
        raise Unusable(str(error)) from error
    if report_file is not None:
        import msgspec

        report_file.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    _show(report)
    context.exit(1 if report.faults else 0)


@contextmanager
def _own_folder() -> Iterator[tuple[EmbeddedServer, Home]]:
    """A server of our own, and in its folder a home that is removed with it."""
    from deploy.database.ephemeral import ephemeral_server

    with ephemeral_server(settings=_CHECKPOINT_SETTINGS) as server:
        home = Home(folder=server.data_dir / "home")
        home.make()
        try:
            yield server, home
        finally:
            _stop_at_once(server)


def _stop_at_once(server: EmbeddedServer) -> None:
    """Stop our own server without a last checkpoint: what it holds is thrown away."""
    from deploy.database.binaries import ServerUnavailable

    deadline = monotonic() + 10.0
    with suppress(ServerUnavailable, ProcessLookupError):
        os.kill(server.pid, signal.SIGQUIT)
        while server.pid and monotonic() < deadline:
            time.sleep(0.02)


async def _measure(wanted: _Wanted, server: EmbeddedServer, home: Home) -> Report:
    """Set up, run the rounds, and put the report together."""
    from exchange.bench import machine, market, pgbench
    from exchange.bench.house import deal_lots, operator_of, register_merchants
    from exchange.bench.merchants import open_shops
    from exchange.bench.rounds import MARKET_SEED, Bench
    from exchange.cli.house import clearing_house

    began, load_before = wanted.began, os.getloadavg()[0]
    at = datetime.now(UTC)
    say = _say_since(began)
    place = market.make_market(wanted.sizes.members, seed=MARKET_SEED)
    purchases, programmes = _replay_files(wanted, home)
    described = machine.describe_machine(
        postgres=server.version, folder=server.data_dir, load_before=load_before
    )
    pgbench_dsn = server.create_database("pgbench")
    filling = asyncio.create_task(pgbench.fill(server.bin_dir, pgbench_dsn))
    with (home.folder / "serve.log").open("ab") as log_file:
        async with (
            clearing_house(
                home,
                gateways=wanted.gateways,
                order_workers=1,
                sandbox=True,
                simulators=False,
                database_url=server.dsn(),
                output=log_file,
            ) as standing,
            operator_of(house := _as_house(standing, server)) as operator,
            open_shops(house) as shops,
        ):
            bench = Bench(
                house=house,
                shops=shops,
                operator=operator,
                api_keys=await register_merchants(house, operator),
                sizes=wanted.sizes,
                pgbench_dsn=pgbench_dsn,
                purchases=purchases,
                programmes=programmes,
                say=say,
                deadline=began + QUICK_SECONDS - _AFTER_LOADS_SECONDS if wanted.quick else None,
            )
            rounds: list[Round] = []
            checkpoints_before = 0
            for number in range(1, wanted.rounds + 1):
                async with bench.prepared(number) as senders:
                    if number == 1:
                        await deal_lots(operator, place)
                        say(f"{place.members:,} members hold {len(place.lots):,} lots")
                    await bench.fill(number)
                    if number == 1:
                        await filling
                        say("the first cycle and pgbench's tables are filled")
                        checkpoints_before = await bench.checkpoints()
                        await asyncio.to_thread(server.psql, "CHECKPOINT")
                    if wanted.rounds > 1:
                        say(f"round {number} of {wanted.rounds}")
                    rounds.append(await bench.run_round(number, senders))
            checkpoints = await bench.checkpoints() - checkpoints_before
    return _report(
        wanted, bench, rounds,
        at=at, machine=described, checkpoints=checkpoints, seconds=monotonic() - began,
    )  # fmt: skip


def _say_since(began: float) -> Callable[[str], None]:
    """Tell on stderr what happens, with the seconds since the beginning."""
    console = err()

    def say(text: str) -> None:
        console.print(f"[dim]{monotonic() - began:6.1f} s[/]  {text}", soft_wrap=True)

    return say


def _replay_files(wanted: _Wanted, home: Home) -> tuple[Path, Path]:
    """The files of the replay; those of the demo are written out."""
    from deploy import demo

    purchases, programmes = wanted.purchases, wanted.programmes
    if purchases is None:
        purchases = home.folder / "purchases.csv"
        purchases.write_text(demo.purchases_text(), encoding="utf-8")
    if programmes is None:
        programmes = home.folder / "programmes.toml"
        programmes.write_text(demo.programmes_text(), encoding="utf-8")
    return purchases.absolute(), programmes.absolute()


def _as_house(standing: ClearingHouse, server: EmbeddedServer) -> House:
    """The parts of a clearing house that the benchmark looks at."""
    from exchange.bench.house import House, Pids
    from exchange.client import load_identity

    return House(
        port=urlsplit(standing.url).port or 0,
        folder=standing.home.folder,
        dsn=standing.dsn,
        server=server,
        operator_key=standing.operator_key,
        signing_key=load_identity(standing.home.operator_identity)
        .private.private_bytes_raw()
        .hex(),
        pids=lambda: Pids(
            standing.writer.pid,
            standing.packager.pid,
            [each.pid for each in standing.gateways],
            [each.pid for each in standing.order_workers],
        ),
    )


def _report(
    wanted: _Wanted,
    bench: Bench,
    rounds: list[Round],
    *,
    at: datetime,
    machine: Machine,
    checkpoints: int,
    seconds: float,
) -> Report:
    from exchange.bench.pgbench import CLIENTS, SCALE
    from exchange.bench.report import (
        FORMAT_VERSION,
        Report,
        hold_against_budgets,
        signed_to_unsigned,
        sum_up,
        sum_up_loads,
    )

    loads = sum_up_loads(rounds)
    isolation = sum_up([each.isolation for each in rounds])
    cycle = sum_up([each.cycle for each in rounds])
    replay = sum_up([each.replay for each in rounds])
    sizes = wanted.sizes
    return Report(
        version=FORMAT_VERSION,
        at=at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        quick=wanted.quick,
        seconds=round(seconds, 1),
        machine=machine,
        settings={
            "rounds": wanted.rounds,
            "gateways": wanted.gateways,
            "pgbench_scale": SCALE,
            "pgbench_clients": CLIENTS,
            "pgbench_seconds": sizes.pgbench_seconds,
            "load_seconds_max": round(sizes.load_seconds),
            "journey_seconds": sizes.journey_seconds,
            "isolation_seconds": sizes.isolation_seconds,
            "isolation_pairs": sizes.isolation_pairs,
            "members": sizes.members,
            "cycle_orders": sizes.cycle_orders,
        }
        | _CHECKPOINT_SETTINGS,
        checkpoints=checkpoints,
        loads=loads,
        signed_to_unsigned=signed_to_unsigned(loads),
        isolation=isolation,
        cycle=cycle,
        replay=replay,
        memory=bench.peaks.as_memory(),
        budgets=hold_against_budgets(loads, isolation, cycle, replay),
        faults=bench.faults,
        rounds=rounds,
    )


# --- for people ---

_NAMES: Final = {
    "pgbench": "pgbench, 16",
    "bulk_random": "bulk, random keys",
    "bulk_uuid7": "bulk, UUIDv7 keys",
    "single_64": "singles, 64",
    "single_512": "singles, 512",
    "bulk_uuid7_signed": "bulk, signed",
    "single_512_signed": "singles, 512, signed",
    "two_phase_512": "two-phase, 512",
    "journeys_64": "between merchants, 64",
}


def _show(report: Report) -> None:
    """Print the report for people."""
    console = out()
    machine = report.machine
    console.print(
        f"{machine.cores} cores of {machine.cpu}, {machine.memory_bytes / 2**30:.0f} GiB, {machine.system}; "
        f"PostgreSQL {machine.postgres}, {machine.python}, {machine.event_loop}; "
        f"a durable write {machine.sync_ms:.2f} ms; load {machine.load_before:.2f} before it began"
    )
    console.print(
        f"{len(report.rounds)} round{'s' if len(report.rounds) > 1 else ''} in {report.seconds:.0f} s, "
        f"{report.checkpoints} checkpoints; medians, and ranges where there are several rounds"
    )
    console.print(_loads_table(report))
    console.print(_costs_table(report))
    told = ", ".join(f"{name} {share:.2f}" for name, share in report.signed_to_unsigned.items())
    console.print(f"rate of signed requests to that of unsigned ones: {told}")
    console.print(_others_table(report))
    console.print(_budgets_table(report))
    if machine.load_before > 0.3:
        console.print(
            "[yellow]Others were at work on this machine, which pgbench's sixteen clients bear better than a few "
            "processes do: compare the processor times rather than the rates.[/]"
        )
    for fault in report.faults:
        console.print(f"[red]wrong: {fault}[/]", soft_wrap=True, markup=True)


def _loads_table(report: Report) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("load, callers 负载", box=SIMPLE_HEAD)
    for heading in ("orders/s 笔/秒", "to pgbench", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    for name, load in report.loads.items():
        table.add_row(
            _NAMES.get(name, name),
            _range(load.rate, ",.0f"),
            _range(load.ratio, ".2f"),
            _range(load.p50_ms, ",.1f"),
            _range(load.p99_ms, ",.1f"),
        )
    return table


def _costs_table(report: Report) -> Table:
    """Where the time of an order goes; medians. The ratio is what processors alone would allow."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    parts = list({part: None for load in report.loads.values() for part in load.cpu_us_per_order})
    table = Table(
        "an order 每笔",
        box=SIMPLE_HEAD,
        title="processor time of an order in µs, and its log",
        title_justify="left",
    )
    for heading in (*parts, "CPU ratio", "log bytes", "refused", "repeated"):
        table.add_column(heading, justify="right")
    for name, load in report.loads.items():
        spent = load.cpu_us_per_order
        table.add_row(
            _NAMES.get(name, name),
            *(f"{spent[part].median:,.1f}" if part in spent else "" for part in parts),
            _range(load.cpu_ratio, ".1f"),
            f"{load.wal_bytes_per_order.median:,.0f}",
            f"{load.refused_share.median:.1%}",
            f"{load.duplicate_share.median:.1%}",
        )
    return table


def _others_table(report: Report) -> Table:
    from rich.table import Table

    isolation, cycle, replay, memory = (
        report.isolation,
        report.cycle,
        report.replay,
        report.memory,
    )
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in (
        (
            "beside a dead merchant 隔离",
            (
                f"p99 {_range(isolation['beside_p99_ms'], '.1f')} ms, alone "
                f"{_range(isolation['alone_p99_ms'], '.1f')} ms, ratio {_range(isolation['ratio'], '.2f')}, at "
                f"{_range(isolation['rate'], '.0f')} orders/s and {_range(isolation['dead_rate'], '.0f')}/s with it"
            ),
        ),
        (
            "cycle close 周期关闭",
            f"{_range(cycle['close_seconds'], '.3f')} s with {_range(cycle['orders'], ',.0f')} orders",
        ),
        (
            "package 结算包",
            (
                f"{_range(cycle['package_lines_per_second'], ',.0f')} statement lines/s, "
                f"{_range(cycle['lines'], ',.0f')} lines, peak {_mib(cycle['package_peak_bytes'].max)}"
            ),
        ),
        (
            "verified 验证",
            f"{_range(cycle['verify_lines_per_second'], ',.0f')} lines/s, peak {_mib(cycle['verify_peak_bytes'].max)}",
        ),
        (
            "replay 重放",
            (
                f"{_range(replay['seconds'], '.1f')} s for {replay['lines'].median:,.0f} lines; "
                f"model {_range(replay['model_seconds'], '.2f')} s; ratio {_range(replay['ratio'], '.1f')}; "
                f"peak {_mib(replay['peak_bytes'].max)}"
            ),
        ),
        (
            "peak memory 内存峰值",
            (
                f"writer {_mib(memory.writer)}, gateway {_mib(memory.gateway)}, "
                f"order worker {_mib(memory.order_worker)}, PostgreSQL {_mib(memory.postgres)}"
            ),
        ),
    ):
        table.add_row(name, value)
    return table


def _budgets_table(report: Report) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("budget 预算", box=SIMPLE_HEAD)
    for heading in ("measured", "now", "goal"):
        table.add_column(heading, justify="right")
    table.add_column("")
    table.add_column("remark")
    for each in report.budgets:
        sign = "≥" if each.sense == "at least" else "≤"
        table.add_row(
            each.name,
            f"{each.measured:,.2f}",
            f"{sign} {each.limit:,g}",
            f"{each.goal:,g}" if each.goal is not None else "",
            "[green]met[/]" if each.met else "[red]not met[/]",
            each.remark,
        )
    return table


def _range(spread: Spread, form: str) -> str:
    """The median, and the range where there is one."""
    if spread.min == spread.max:
        return format(spread.median, form)
    return f"{spread.median:{form}} ({spread.min:{form}}–{spread.max:{form}})"


def _mib(count: float) -> str:
    return f"{count / 2**20:,.0f} MiB"
