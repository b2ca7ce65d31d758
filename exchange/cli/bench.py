"""`tongdui bench`: what this machine does."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from exchange.cli.context import Unusable


@click.command()
@click.option(
    "--rounds",
    type=click.IntRange(1, 100),
    default=5,
    show_default=True,
    help="Interleaved rounds.",
)
@click.option("--quick", is_flag=True, help="One short round: ends within 50 seconds.")
@click.option(
    "--json",
    "report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the report to this file.",
)
@click.pass_context
def bench(context: click.Context, *, rounds: int, quick: bool, report: Path | None) -> None:
    """Measure this machine: orders, cycle close, packages, each beside PostgreSQL's own pgbench.

    Starts a server of its own and removes it; DATABASE_URL and TONGDUI_HOME are left alone.
    """
    try:
        # Its own layer, and large: loaded by name, so that the command line stands without it.
        module = importlib.import_module("exchange.bench.run")
    except ModuleNotFoundError as error:
        raise Unusable(f"this copy has no benchmark: {error}") from error
    context.exit(module.run_bench(rounds=rounds, quick=quick, report=report))
