"""`tongdui orders`: orders that people are asked about, and writing down what they found out."""

from __future__ import annotations

from datetime import UTC, datetime
from time import time_ns
from typing import TYPE_CHECKING

import click

from exchange.cli.context import database, pool_of, run, this_home
from exchange.cli.output import out, print_json
from exchange.cli.who import accountable, acting

if TYPE_CHECKING:
    from adapters.kit.contract import Step
    from exchange.service.stuck import Stuck
    from schemas.values.reason import Refusal


@click.group()
def orders() -> None:
    """Show orders between merchants' systems that are stuck, and resolve them."""


@orders.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def stuck(context: click.Context, *, as_json: bool) -> None:
    """Show what is stuck, why, and the command that resolves each; status 1 if anything is.

    An order goes on trying while it is shown here.
    """
    with database(this_home()) as dsn:
        found, codes = run(_stuck(dsn))
    if as_json:
        print_json([_as_json(each, codes) for each in found])
    else:
        _show(found, codes)
    context.exit(1 if found else 0)


@orders.command()
@click.argument("order")
@click.option(
    "--outcome",
    type=click.Choice(["done", "refused"]),
    required=True,
    help="What became of the call that is not clear; `orders stuck` says what each means.",
)
@click.option("--note", required=True, help="Who found it out, and how; kept for good.")
@accountable
@click.pass_context
def resolve(context: click.Context, *, order: str, outcome: str, note: str) -> None:
    """Write down what people found out about ORDER; it goes on from there within a second."""
    from schemas.values.reason import Refusal

    if not note.strip():
        raise click.UsageError("a note says who found it out, and how")
    with database(this_home()) as dsn:
        answer = run(_resolve(dsn, order, outcome, note.strip()))
    if answer is None:
        click.echo(f"tongdui: there is no order {order} between merchants' own systems", err=True)
        context.exit(1)
    if isinstance(answer, Refusal):
        click.echo(f"tongdui: {answer.detail}", err=True)
        context.exit(1)
    print(f"{order}: {answer.name.lower()} is {outcome}, in people's words")


async def _stuck(dsn: str) -> tuple[list[Stuck], dict[int, str]]:
    from exchange.service.stuck import list_stuck
    from settlement.service.parties import list_parties

    async with pool_of(dsn) as pool:
        found = await list_stuck(pool, now_us=time_ns() // 1000)
        codes = {row["merchant_no"]: row["code"] for row in await list_parties(pool)}
    return found, codes


async def _resolve(dsn: str, order: str, outcome: str, note: str) -> Step | Refusal | None:
    from adapters.kit.contract import Outcome
    from exchange.service.stuck import find_journey, resolve

    async with pool_of(dsn) as pool:
        journey = await find_journey(pool, order)
        if journey is None:
            return None
        return await resolve(
            pool,
            journey,
            outcome=Outcome(outcome),
            note=note,
            by=await acting(pool),
            now_us=time_ns() // 1000,
        )


def _command(each: Stuck) -> str:
    """The command that resolves it; empty where it goes on by itself."""
    if not each.question:
        return ""
    return f'tongdui orders resolve {each.name} --outcome done|refused --note "…"'


def _since(each: Stuck) -> datetime:
    return datetime.fromtimestamp(each.since_us // 1_000_000, UTC)


def _as_json(each: Stuck, codes: dict[int, str]) -> dict[str, object]:
    order = each.journey.wanted.order
    return {
        "order": each.name,
        "state": each.journey.state.name.lower(),
        "meaning": each.meaning,
        "why": each.why,
        "since": _since(each).isoformat(),
        "issuer": codes.get(order.issuer),
        "acceptor": codes.get(order.acceptor),
        "units": str(order.units),
        "ask": codes.get(each.merchant_no),
        "question": each.question or None,
        "command": _command(each) or None,
    }


def _show(found: list[Stuck], codes: dict[int, str]) -> None:
    if not found:
        print("nothing is stuck 无待人工处理的订单")
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("order 订单", "stands 状态", "since 起始 (UTC)", "why 原因", "ask 询问")
    for each in found:
        table.add_row(
            each.name,
            escape(f"{each.journey.state.name.lower()}: {each.meaning}"),
            f"{_since(each):%m-%d %H:%M:%S}",
            escape(each.why),
            codes.get(each.merchant_no, "–"),
        )
    out().print(table)
    for each in found:
        if each.question:
            print(f"{each.name}: {each.question}\n    {_command(each)}")
