"""`tongdui simulate`: whole histories on virtual time, with faults drawn from a seed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from exchange.cli.output import err, out, print_json

if TYPE_CHECKING:
    from exchange.simulation.campaign import Shortest, Tally

PROGRESS_LINES = 20
"""Lines that tell how far it is, in all."""
SHOWN_MAX = 10
"""Failing seeds that are told by name; the first is made shorter."""


@click.command()
@click.option("--seed", type=click.IntRange(min=0), help="Play this one seed and print its trace.")
@click.option("--seeds", type=click.IntRange(min=1), help="Play so many seeds.")
@click.option(
    "--first", type=click.IntRange(min=0), default=1, show_default=True, help="First of --seeds."
)
@click.option(
    "--orders",
    type=click.IntRange(1, 100_000),
    default=20,
    show_default=True,
    help="Orders in each history.",
)
@click.option("--faults/--no-faults", default=True, show_default=True, help="Let things go wrong.")
@click.option(
    "--jobs",
    type=click.IntRange(min=0),
    default=0,
    help="Processes for --seeds; 0, the default, for one for each processor.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def simulate(
    context: click.Context,
    *,
    seed: int | None,
    seeds: int | None,
    first: int,
    orders: int,
    faults: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Play whole histories on virtual time, with faults drawn from a seed.

    Orders, books, adapters and merchants' simulators are the real ones.

    The same seed gives the same trace, byte for byte. After every step it is checked that the books sum to zero,
    that no order is in two states, that no member's point is lost or doubled between two merchants, and that caps
    hold; at the end, that every order has ended and all merchants' books equal ours. A seed that fails is played
    again with fewer orders and faults, and the shortest trace is printed. Ends with status 1 if one fails.
    """
    if (seed is None) == (seeds is None):
        raise click.UsageError("give one of --seed and --seeds")
    if seeds is not None:
        failed = _play_many(first, seeds, orders, jobs, faults=faults, as_json=as_json)
    else:
        failed = _play_one(seed or 0, orders, faults=faults, as_json=as_json)
    context.exit(1 if failed else 0)


def _play_one(seed: int, orders: int, *, faults: bool, as_json: bool) -> bool:
    """Play one seed and print everything that happened; whether it failed."""
    from exchange.simulation.campaign import find_shortest, play
    from exchange.simulation.plan import draw_plan

    history = play(draw_plan(seed, orders, faults=faults))
    shortest = find_shortest(seed, orders=orders, faults=faults) if history.broken else None
    lines = history.lines()
    if as_json:
        print_json(
            {
                "seed": seed,
                "orders": orders,
                "ends": history.ends,
                "checked_steps": history.steps,
                "virtual_seconds": round(history.seconds, 6),
                "broken": list(history.broken),
                "trace": lines,
                "shortest": _json(shortest),
            }
        )
        return bool(history.broken)
    for line in lines:
        click.echo(line)
    err().print(
        f"{orders:,} orders, {history.steps:,} checked steps, {history.seconds:,.1f} virtual seconds: "
        f"{_ends(history.ends)}",
        soft_wrap=True,
    )
    if shortest:
        _show_shortest(seed, history.broken, shortest)
    return bool(history.broken)


def _play_many(
    first: int, seeds: int, orders: int, jobs: int, *, faults: bool, as_json: bool
) -> bool:
    """Play many seeds and say how they went; whether one failed."""
    from exchange.simulation.campaign import Tally, find_shortest, play_seeds

    whole = Tally()
    started = time.perf_counter()
    told = 0
    for tally in play_seeds(first, seeds, orders=orders, faults=faults, jobs=jobs):
        if tally.failed and not whole.failed:
            _tell_failed(tally)
        whole.add(tally)
        if (whole.histories - told) * PROGRESS_LINES >= seeds:
            told = whole.histories
            _tell_progress(whole, seeds, time.perf_counter() - started)
    seconds = time.perf_counter() - started
    worst = min(whole.failed, default=None)
    shortest = None
    if worst is not None:
        shortest = find_shortest(worst, orders=orders, faults=faults)
    if as_json:
        print_json(
            {
                "first_seed": first,
                "seeds": whole.histories,
                "orders": whole.orders,
                "faults": whole.trials,
                "ends": dict(sorted(whole.ends.items())),
                "checked_steps": whole.steps,
                "virtual_seconds": round(whole.seconds, 3),
                "seconds": round(seconds, 3),
                "failed": {str(seed): list(whole.failed[seed]) for seed in sorted(whole.failed)},
                "shortest": _json(shortest),
            }
        )
    else:
        _show(whole, seconds)
        if worst is not None and shortest is not None:
            _show_shortest(worst, whole.failed[worst], shortest)
    return bool(whole.failed)


def _tell_failed(tally: Tally) -> None:
    """Say at once which seed was the first that was found to fail."""
    seed = min(tally.failed)
    err().print(
        f"seed {seed} fails: {tally.failed[seed][0]}", soft_wrap=True, markup=False, highlight=False
    )


def _tell_progress(whole: Tally, seeds: int, seconds: float) -> None:
    """Say how far it is, on a line that also a log shows."""
    err().print(
        f"{whole.histories:,} of {seeds:,} seeds, {whole.orders:,} orders, "
        f"{whole.orders / seconds:,.0f} orders/s, {len(whole.failed):,} failed",
        soft_wrap=True,
        highlight=False,
    )


def _show(whole: Tally, seconds: float) -> None:
    """Say how many histories went how, for people."""
    console = out()
    console.print(
        f"{whole.histories:,} seeds, {whole.orders:,} orders, {whole.trials:,} faults; "
        f"{whole.steps:,} steps checked in {whole.seconds:,.0f} virtual seconds "
        f"({seconds:,.1f} s, {whole.orders / seconds:,.0f} orders/s)",
        soft_wrap=True,
    )
    console.print(_ends(whole.ends), soft_wrap=True)
    if not whole.failed:
        console.print("[green]Everything held. 全部通过。[/]")
        return
    console.print(f"[red]{len(whole.failed):,} seeds failed. {len(whole.failed):,} 个种子失败。[/]")
    for seed in sorted(whole.failed)[:SHOWN_MAX]:
        console.print(f"  seed {seed}: {whole.failed[seed][0]}", soft_wrap=True, markup=False)


def _show_shortest(seed: int, broken: tuple[str, ...], shortest: Shortest) -> None:
    """Print the shortest failing history."""
    console = out()
    console.print(f"seed {seed}: {broken[0]}", soft_wrap=True, markup=False)
    console.print(
        f"The shortest that fails so has {len(shortest.plan.orders)} orders and "
        f"{len(shortest.plan.trials)} faults. 最短的失败过程："
    )
    for line in (*shortest.told(), *shortest.lines):
        console.print(f"  {line}", soft_wrap=True, markup=False)


def _ends(ends: dict[str, int]) -> str:
    """How many orders ended in each way."""
    return ", ".join(f"{count:,} {name.lower()}" for name, count in sorted(ends.items()))


def _json(shortest: Shortest | None) -> dict[str, list[str]] | None:
    return {"plan": shortest.told(), "trace": shortest.lines} if shortest else None
