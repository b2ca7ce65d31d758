"""`tongdui retention`: for how long personal data is kept, and removing what was kept long enough."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from exchange.cli.context import database, pool_of, run, this_home
from exchange.cli.output import out, print_json
from exchange.cli.who import accountable, acting


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@accountable
@click.option("--yes", is_flag=True, help="Remove it; without it, nothing is removed.")
def retention(*, as_json: bool, yes: bool) -> None:
    """Show for how long personal data is kept, and remove what is past its time, with --yes.

    `tongdui serve` does so once a day. What the books, proofs and chains of digests need stays.
    """
    from exchange.core.retention import RETENTION
    from exchange.service.retention import count_due, run_retention

    now = datetime.now(UTC)

    async def work(dsn: str) -> dict[str, int]:
        async with pool_of(dsn) as pool:
            if yes:
                return await run_retention(pool, by=await acting(pool), now=now)
            return await count_due(pool, now=now)

    with database(this_home()) as dsn:
        counts = run(work(dsn))
    word = "removed" if yes else "due"
    if as_json:
        print_json(
            [
                {"name": each.name, "days": each.days, "since": each.since, word: counts[each.name]}
                for each in RETENTION
            ]
        )
        return
    from rich.table import Table

    table = Table(
        "what 数据", "kept 保存期", "reason 依据", f"{word} {'已删除' if yes else '到期'}"
    )
    for each in RETENTION:
        table.add_row(
            each.name, f"{each.days} days since {each.since}", each.reason, str(counts[each.name])
        )
    out().print(table)
