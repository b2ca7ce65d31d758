"""`tongdui bench`: what clearing costs on this machine, beside what PostgreSQL itself does on it."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import contextmanager
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

    from deploy.database.embedded import EmbeddedServer
    from exchange.bench.house import House
    from exchange.bench.report import Report, Round
    from exchange.bench.rounds import Bench, Sizes
    from exchange.cli.serve import ClearingHouse

QUICK_SECONDS: Final = 50.0
"""A quick run ends within this, its server removed."""
_AFTER_LOADS_SECONDS: Final = 9.0
"""What the replay and the end of a quick run may take."""
_CHECKPOINT_SETTINGS: Final = {"checkpoint_timeout": "30s"}
"""The shortest that PostgreSQL knows, so that every run has checkpoints; all else is as the product has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
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
@click.option("--quick", is_flag=True, help="Short loads and a small cycle: ends within 50 seconds.")
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
@click.option("--seconds", type=click.IntRange(1, 600), help="Length of each load; 8 where left out.")
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
    """Measure this machine: orders, cycle close, packages and replay, each beside PostgreSQL's own pgbench.

    Starts a server and a clearing house of its own and removes them; DATABASE_URL and TONGDUI_HOME are left alone.
    Status 1 if an answer, a package or a figure was wrong; a budget that is missed is told, and is no failure.
    """
    from exchange.bench.processes import Failed
    from exchange.bench.rounds import Sizes

    log_to(level=WARNING)
    wanted = _Wanted(
        rounds=rounds or (1 if quick else 5),
        quick=quick,
        gateways=gateways,
        sizes=Sizes(
            pgbench_seconds=3 if quick else 10,
            load_seconds=float(seconds or (3 if quick else 8)),
            members=20_000,
            cycle_orders=orders or (100_000 if quick else 1_000_000),
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
    from deploy.database.embedded import ephemeral_server

    with ephemeral_server(settings=_CHECKPOINT_SETTINGS) as server:
        home = Home(folder=server.data_dir / "home")
        home.make()
        yield server, home


async def _measure(wanted: _Wanted, server: EmbeddedServer, home: Home) -> Report:
    """Set up, run the rounds, and put the report together."""
    from exchange.bench import machine, market, pgbench
    from exchange.bench.house import deal_lots, operator_of, register_merchants
    from exchange.bench.rounds import MARKET_SEED, Bench
    from exchange.cli.serve import clearing_house

    began, load_before = monotonic(), os.getloadavg()[0]
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
                home, gateways=wanted.gateways, database_url=server.dsn(), output=log_file
            ) as standing,
            operator_of(house := _as_house(standing, server)) as operator,
        ):
            bench = Bench(
                house=house,
                operator=operator,
                api_keys=await register_merchants(house, operator),
                sizes=wanted.sizes,
                pgbench_dsn=pgbench_dsn,
                purchases=purchases,
                programmes=programmes,
                say=say,
            )
            await deal_lots(operator, place)
            say(f"{wanted.sizes.members:,} members hold {len(place.lots):,} lots")
            rounds, checkpoints = await _run_rounds(bench, wanted, filling, began)
    return _report(
        wanted, bench, rounds,
        at=at, machine=described, checkpoints=checkpoints, seconds=monotonic() - began,
    )  # fmt: skip
