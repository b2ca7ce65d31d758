"""`tongdui reconcile merchant` and its like: a merchant's own file against the lines of its signed statement."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exchange.cli.context import Unusable, database, pool_of, run, this_home
from exchange.cli.output import out, print_json
from exchange.cli.reconcile import (
    EXISTING,
    KINDS,
    NUMBER,
    ROLES,
    decide,
    mapping_of,
    numbers_of,
    reconcile,
)
from exchange.cli.who import accountable, acting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schemas.files.line_breaks import LineBreakRow
    from settlement.core.own_lines import LineBreak
    from settlement.service.merchant_files import FileReconciled, MerchantFile
    from settlement.service.open_lines import Lines

_merchant = click.option("--merchant", required=True, metavar="CODE", help="Whose lines.")
_cycle = click.option("--cycle", "cycle_id", required=True, metavar="ID", help="Of which cycle.")
_PACKED_MAPS = (*(bytes([first]) for first in range(0x80, 0x90)), b"\xde", b"\xdf")
"""How the head of a msgpack file begins: it is a map."""
_days = click.option(
    "--days",
    type=click.IntRange(0, 31),
    default=1,
    show_default=True,
    help="How many days a line of ours and one of the merchant's may lie apart.",
)


@reconcile.command()
@click.argument("file", type=EXISTING)
@_merchant
@_cycle
@click.option(
    "--mapping",
    type=EXISTING,
    help="TOML file that names the columns of a CSV; msgpack needs none.",
)
@_days
@click.option("--dry-run", is_flag=True, help="Show what would happen; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; amounts are strings of CU.")
@accountable
@click.pass_context
def merchant(
    context: click.Context,
    file: Path,
    *,
    merchant: str,
    cycle_id: str,
    mapping: Path | None,
    days: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import a merchant's own file (CSV or msgpack) and match it; refused whole if anything does not add up.

    Status 1 if there are breaks.
    """
    from schemas.values.faults import SchemaError
    from settlement.service.merchant_files import import_file
    from settlement.service.open_lines import FileRefused

    try:
        brought = _bring(file, mapping, merchant=merchant, cycle_id=cycle_id)

        async def work(dsn: str) -> FileReconciled:
            async with pool_of(dsn) as pool:
                return await import_file(
                    pool,
                    brought,
                    _lines(merchant, cycle_id),
                    by=await acting(pool, *ROLES),
                    at=datetime.now(UTC),
                    rehearse=dry_run,
                    days_max=days,
                )

        with database(this_home()) as dsn:
            done = run(work(dsn))
    except (FileRefused, SchemaError) as error:
        raise Unusable(f"{file}: {error}") from error
    if as_json:
        print_json(_json(done, dry_run=dry_run))
    else:
        _print(done, dry_run=dry_run)
    context.exit(1 if done.breaks else 0)


@reconcile.command()
@_merchant
@_cycle
@_days
@click.option("--out", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; amounts are strings of CU.")
@click.pass_context
def lines(
    context: click.Context,
    *,
    merchant: str,
    cycle_id: str,
    days: int,
    target: Path | None,
    as_json: bool,
) -> None:
    """List or export every row of a merchant's files, or of ours, that is unmatched or differs.

    Status 1 if there is anything.
    """
    from schemas.files.line_breaks import write_line_breaks
    from settlement.service.open_lines import FileRefused, list_line_breaks

    async def work(dsn: str) -> tuple[LineBreak, ...]:
        async with pool_of(dsn) as pool:
            of = _lines(merchant, cycle_id)
            return await list_line_breaks(pool, of, at=datetime.now(UTC), days_max=days)

    with database(this_home()) as dsn:
        try:
            found = run(work(dsn))
        except FileRefused as error:
            raise Unusable(str(error)) from error
    if target is not None:
        with target.open("xb") as opened:
            opened.writelines(write_line_breaks(rows_of(found)))
        print(f"{target}: {len(found)} breaks")
    elif as_json:
        print_json([_row_json(each) for each in rows_of(found)])
    else:
        _print_breaks(found)
    context.exit(1 if found else 0)


@reconcile.command("pair")
@_merchant
@_cycle
@click.option("--leaf", "leaves", multiple=True, required=True, type=int, metavar="NUMBER")
@click.option("--line", "entries", multiple=True, required=True, metavar="FILE/LINE")
@accountable
def pair_lines(
    *, merchant: str, cycle_id: str, leaves: tuple[int, ...], entries: tuple[str, ...]
) -> None:
    """Say by hand which lines of ours and of a merchant's belong together; needs --why."""
    from settlement.service.merchant_files import match_lines_by_hand
    from settlement.service.open_lines import FileRefused

    named = [numbers_of(each, "--line", "FILE/LINE") for each in entries]

    async def work(dsn: str) -> int:
        async with pool_of(dsn) as pool:
            return await match_lines_by_hand(
                pool,
                _lines(merchant, cycle_id),
                leaves=leaves,
                lines=named,
                by=await acting(pool, *ROLES),
                at=datetime.now(UTC),
            )

    try:
        print(f"match {decide(work)}")
    except FileRefused as error:
        raise Unusable(str(error)) from error


@reconcile.command()
@click.argument("file_no", type=NUMBER)
@accountable
def withdraw(file_no: int) -> None:
    """Let a merchant's file count no more, and take its matches apart; needs --why."""
    from settlement.service.merchant_files import withdraw_file

    async def work(dsn: str) -> int:
        async with pool_of(dsn) as pool:
            by = await acting(pool, *ROLES)
            return await withdraw_file(pool, file_no=file_no, by=by, at=datetime.now(UTC))

    print(f"file {file_no} withdrawn, {decide(work)} matches taken apart")


def _lines(merchant: str, cycle_id: str) -> Lines:
    from settlement.service.open_lines import Lines

    return Lines(merchant=merchant, cycle_id=cycle_id, packages=this_home().packages)


def _bring(file: Path, mapping: Path | None, *, merchant: str, cycle_id: str) -> MerchantFile:
    """How to read a file, by whether there is a mapping."""
    from schemas.files.merchant_file import parse_merchant_mapping, read_merchant_csv
    from schemas.files.merchant_msgpack import read_merchant_header
    from settlement.service.merchant_files import MerchantFile

    if mapping is not None:
        columns = mapping_of(mapping, parse_merchant_mapping)

        def read_csv() -> Iterator[Any]:
            with file.open("rb") as opened:
                yield from read_merchant_csv(opened, columns, merchant=merchant)

        return MerchantFile(name=file.name, basis=columns.basis, lines=read_csv)
    size = file.stat().st_size

    def read_packed() -> Iterator[Any]:
        with file.open("rb") as opened:
            yield from read_merchant_header(opened, size, merchant=merchant, cycle_id=cycle_id)[1]

    with file.open("rb") as opened:
        if not opened.read(1).startswith(_PACKED_MAPS):
            raise Unusable(f"{file}: no msgpack of this form; a CSV needs --mapping")
        opened.seek(0)
        basis, _ = read_merchant_header(opened, size, merchant=merchant, cycle_id=cycle_id)
    return MerchantFile(name=file.name, basis=basis, lines=read_packed)


# --- what goes out ---


def rows_of(found: Sequence[LineBreak]) -> Iterator[LineBreakRow]:
    """The lines of each break: ours and the merchant's side by side."""
    from schemas.files.line_breaks import LineBreakRow

    for one in found:
        for ours, theirs in zip_longest(one.ours, one.theirs):
            told: dict[str, Any] = {}
            if ours is not None:
                told |= {
                    "leaf": ours.leaf_index,
                    "order": ours.order,
                    "reference": ours.reference,
                    "day": date.fromordinal(ours.day).isoformat(),
                    "counterparty": ours.counterparty,
                    "units": ours.units,
                    "amount_cu": ours.amount_cu,
                }
            if theirs is not None:
                told |= {
                    "entry": f"{theirs.file_no}/{theirs.line_no}",
                    "their_place": theirs.place,
                    "their_order": theirs.order,
                    "their_reference": theirs.reference,
                    "their_day": date.fromordinal(theirs.day).isoformat(),
                    "their_counterparty": theirs.counterparty,
                    "their_units": theirs.units,
                    "their_amount_cu": theirs.amount_cu,
                }
            yield LineBreakRow(
                kind=one.kind,
                owner=one.owner,
                age_days=one.age_days,
                match_no=one.match_no,
                candidates=one.candidates,
                **told,
            )


def _row_json(row: LineBreakRow) -> dict[str, Any]:
    """A row for programs; amounts are strings of digits."""
    import msgspec

    return {
        name: str(value) if name.endswith("_cu") and value is not None else value
        for name, value in msgspec.structs.asdict(row).items()
    }


def _json(done: FileReconciled, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "file": done.file_no,
        "repeated": done.repeated,
        "lines": done.lines,
        "amount_cu": str(done.amount_cu),
        "matches": {step.value: count for step, count in sorted(done.steps.items())},
        "breaks": [_row_json(each) for each in rows_of(done.breaks)],
    }


def _print(done: FileReconciled, *, dry_run: bool) -> None:
    known = f" (known before as file {done.repeated})" if done.repeated is not None else ""
    doing = "would import" if dry_run else f"imported as file {done.file_no}"
    print(
        f"{'nothing new' if known else doing}: {done.lines} lines{known}, {sum(done.steps.values())} matches"
        + "".join(f", {count} {step}" for step, count in sorted(done.steps.items()))
    )
    _print_breaks(done.breaks)


SHOWN_MAX = 50
"""Rows that a screen shows; a file holds them all."""


def _print_breaks(found: Sequence[LineBreak]) -> None:
    if not found:
        print("no breaks 无差异")
        return
    from rich.markup import escape
    from rich.table import Table

    from schemas.values.amounts import yuan_text

    def yuan(amount_cu: int | None) -> str:
        return "" if amount_cu is None else yuan_text(amount_cu)

    counts = Counter(KINDS[one.kind] for one in found)
    print(", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
    table = Table()
    table.add_column("break 差异", no_wrap=True)
    for title in ("owner 责任方", "days 账龄", "match 匹配", "leaf 叶序号"):
        table.add_column(title)
    table.add_column("order 订单号", overflow="fold")
    table.add_column("line 商户行", no_wrap=True)
    table.add_column("ours 我方(元)", justify="right")
    table.add_column("theirs 商户(元)", justify="right")
    for number, row in enumerate(rows_of(found)):
        if number == SHOWN_MAX:
            break
        table.add_row(
            KINDS[row.kind],
            escape(row.owner),
            str(row.age_days),
            str(row.match_no or ""),
            "" if row.leaf is None else str(row.leaf),
            escape(row.order or row.their_order or row.their_reference),
            row.entry,
            yuan(row.amount_cu),
            yuan(row.their_amount_cu),
        )
    out().print(table)
    if len(found) > SHOWN_MAX:
        print("more by --out or --json 其余见 --out 或 --json")
