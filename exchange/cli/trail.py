"""`tongdui trail`: what people and keys changed, for auditors."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.context import database, pool_of, run, this_home
from exchange.cli.output import out, print_json

if TYPE_CHECKING:
    from schemas.files.trail import TrailEntry

Entries = list[tuple["TrailEntry", bytes]]


@click.group()
def trail() -> None:
    """Show, export and verify the audit trail: who changed what, and why.

    Entries are only added, and each carries a digest over itself and the one before. `tongdui audit` recomputes all.
    """


@trail.command("list")
@click.option("--last", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_entries(*, last: int, as_json: bool) -> None:
    """Show the newest entries, oldest first."""
    import msgspec

    from schemas.files.instant import instant_text

    shown = _read()[-last:]
    if as_json:
        print_json(
            [
                msgspec.to_builtins(entry)
                | {"at": instant_text(entry.at_us), "digest": digest.hex()}
                for entry, digest in shown
            ]
        )
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        "no", "at 时间 (UTC)", "who 操作人", "second 复核人", "action 操作", "subject 对象"
    )
    table.add_column("after 变更后")
    table.add_column("why 原因")
    for entry, _ in shown:
        texts = (entry.who, entry.second, entry.action, entry.subject, _text(entry.after))
        table.add_row(
            str(entry.entry_no),
            instant_text(entry.at_us)[:19].replace("T", " "),
            *map(escape, texts),
            escape(entry.why),
        )
    out().print(table)


@trail.command()
@click.option(
    "--out", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file."
)
@click.option("--csv", "as_csv", is_flag=True, help="For a spreadsheet instead of JSON Lines.")
def export(target: Path | None, *, as_csv: bool) -> None:
    """Write the whole trail; JSON Lines can be verified by `tongdui trail verify`, or by any program."""
    from schemas.files.trail import write_trail, write_trail_csv

    entries = _read()
    with ExitStack() as stack:
        file = sys.stdout.buffer if target is None else stack.enter_context(target.open("xb"))
        file.writelines((write_trail_csv if as_csv else write_trail)(entries))
    if target is not None:
        print(f"{target}: {len(entries)} entries, head {_head(entries)}")


@trail.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--here", is_flag=True, help="Look also whether this installation's trail begins with it."
)
@click.pass_context
def verify(context: click.Context, file: Path, *, here: bool) -> None:
    """Recompute the chain of an exported trail; without --here, neither database nor network is needed.

    Status 1 if an entry was changed, left out or put in between.
    """
    from schemas.files.trail import read_trail
    from schemas.values.faults import SchemaError

    try:
        with file.open("rb") as lines:
            entries = list(read_trail(lines))
    except SchemaError as error:
        click.echo(f"tongdui: {file}: {error}", err=True)
        context.exit(1)
    if here and _read()[: len(entries)] != entries:
        click.echo(f"tongdui: {file} is not what the trail of this installation was", err=True)
        context.exit(1)
    print(f"{file}: {len(entries)} entries, head {_head(entries)}")


def _read() -> Entries:
    """The whole trail; changes are few beside orders."""
    from settlement.service.trail import entries

    async def work(dsn: str) -> Entries:
        async with pool_of(dsn) as pool:
            return [each async for each in entries(pool)]

    with database(this_home()) as dsn:
        return run(work(dsn))


def _head(entries: Entries) -> str:
    return entries[-1][1].hex() if entries else "-"


def _text(terms: dict[str, object] | None) -> str:
    return "–" if terms is None else " ".join(f"{name}={value}" for name, value in terms.items())
