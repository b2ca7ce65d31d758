"""`tongdui dispute compensate`: points for an order's member, at the cost of the merchant that was at fault."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from exchange.cli.context import clearing_of, database, pool_of, run, this_home
from exchange.cli.output import print_json
from exchange.cli.who import accountable, acting

if TYPE_CHECKING:
    import uuid

    from exchange.service.compensating import Compensation
    from settlement.core.command import Answer


@click.command()
@click.argument("order", type=click.UUID)
@click.option("--fault", required=True, metavar="CODE", help="Who was at fault, and pays.")
@click.option(
    "--merchant", required=True, metavar="CODE", help="Whose points; of a hosted programme."
)
@click.option("--units", required=True, type=click.IntRange(min=1), help="Smallest point units.")
@click.option(
    "--choice",
    type=click.Choice(["points", "bonus"]),
    default="points",
    show_default=True,
    help="What the member chose: points that were lost, or a bonus.",
)
@click.option(
    "--reference",
    default="",
    help="What it is known by, at most 35 characters; a second one of an order needs another.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be booked; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; amounts are strings.")
@accountable
@click.pass_context
def compensate(
    context: click.Context, /, order: uuid.UUID, *, dry_run: bool, as_json: bool, **said: Any
) -> None:
    """Give the member of ORDER points because one of its two merchants was at fault, at that merchant's cost.

    The same command again books nothing twice. Where two people are needed, propose it:
    `tongdui proposal make compensation.give TERMS`, with the `terms` that --dry-run --json shows.
    """
    import msgspec

    from exchange.service.compensating import give, look_at, was_given
    from exchange.service.controlled import terms_of
    from schemas.values.reason import Refusal
    from schemas.wire.fields import instant_text

    names = {"order_id": str(order), "at_fault": said["fault"], "units": str(said["units"])}
    kept = {name: said[name] for name in ("merchant", "choice", "reference")}
    terms = terms_of("compensation.give", names | kept)
    home, now = this_home(), datetime.now(UTC)

    async def work(dsn: str) -> tuple[Compensation, bool, Answer | Refusal | None]:
        async with pool_of(dsn) as pool:
            by = await acting(pool, "treasurer")
            wanted = await look_at(pool, terms, now=now)
            before = await was_given(pool, wanted)
            if dry_run:
                return wanted, before, None if before else wanted.refusal
            async with clearing_of(home, dsn) as clearing:
                return wanted, before, await give(pool, clearing, wanted, by=by, at=now)

    with database(home) as dsn:
        wanted, before, booked = run(work(dsn))
    if isinstance(booked, Refusal):
        click.echo(f"tongdui: {booked.reason.code}: {booked.detail}", err=True)
        context.exit(1)
    cost_cu, expires_at_us = wanted.cost_cu, wanted.expires_at_us
    if booked:
        *owed, given = booked
        cost_cu, expires_at_us = (owed[0].debit_cu if owed else 0), given.due_at_us
    if as_json:
        told = {"terms": msgspec.to_builtins(terms), "given_before": before, "dry_run": dry_run}
        figures = {"cost_cu": str(cost_cu), "expires_at": instant_text(expires_at_us)}
        print_json(told | figures | ({"lot_no": str(booked[-1].lot_no)} if booked else {}))
        return
    owes = f"{terms.at_fault} owes {terms.merchant} {cost_cu} CU for them"
    print(
        f"{terms.units} units of {terms.merchant} until {instant_text(expires_at_us)}; "
        + (owes if cost_cu else f"they are {terms.at_fault}'s own")
        + (", given before" if before else "")
        + (" (dry run)" if dry_run else "")
    )
