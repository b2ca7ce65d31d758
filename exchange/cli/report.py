"""`tongdui report`: the books for finance, as tables, CSV, workbooks and JSON."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from exchange.cli.context import (
    Unusable,
    database,
    has_ledger,
    number_of,
    pool_of,
    run,
    this_home,
)
from exchange.cli.output import out

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from asyncpg import Pool

    from schemas.files.report import Report, ReportTable
    from settlement.service.netting_reports import Netted
    from settlement.service.reports import Moment

CommandT = TypeVar("CommandT", bound="Callable[..., None]")
_FILES = ("csv", "xlsx", "json")
_FORMATS = ("table", *_FILES)


@click.group()
def report() -> None:
    """Make reports for finance: trial balance, balances, liability, ageing, fees, savings.

    Each reads one snapshot of the books, and says how it was made and which sums it was checked by. Status 1 if one of
    them does not hold.
    """


def _instant(_: click.Context, __: click.Parameter, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter("expected RFC 3339, e.g. 2026-03-31T16:00:00Z") from error
    if at.tzinfo is None:
        raise click.BadParameter("say the offset as well: 2026-03-31T16:00:00Z or …+08:00")
    return at.astimezone(UTC)


def _all(*options: Callable[[Any], Any]) -> Callable[[CommandT], CommandT]:
    """Several options as one decorator; `--help` shows them in this order."""

    def decorate(command: CommandT) -> CommandT:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_written = _all(
    click.option(
        "--format",
        "form",
        type=click.Choice(_FORMATS),
        default="table",
        show_default=True,
        help="How it is written; amounts of JSON are strings of CU.",
    ),
    click.option("--table", "table", help="The one table of a CSV; the first where none is named."),
    click.option(
        "-o",
        "--out",
        "target",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write to this file, which must not exist yet; its ending is its format where none is named.",
    ),
)
_at_a_moment = _all(
    click.option("--at", callback=_instant, help="As it stood at this instant (RFC 3339)."),
    click.option("--cycle", "cycle_id", help="As it stood when this cycle closed."),
    click.option(
        "--journal", is_flag=True, help="Sum it from the journal, not from the projections."
    ),
    _written,
)
_of_cycles = _all(
    click.option("--cycle", "cycle_id", help="Of this cycle alone."),
    click.option("--from", "since", callback=_instant, help="Of cycles that closed then or later."),
    click.option("--to", "until", callback=_instant, help="Of cycles that closed before."),
    _written,
)


@report.command("trial-balance")
@_at_a_moment
@click.pass_context
def trial_balance(context: click.Context, /, **options: Any) -> None:
    """Show every account of the books as debit or credit; both columns come to the same."""
    from settlement.service import reports

    moment, written = _moment(options)
    now = datetime.now(UTC)

    async def make(pool: Pool) -> Report:
        return reports.trial_balance(await reports.standing(pool, moment, now=now, with_bank=True))

    _tell(context, make, lambda: reports.trial_balance(reports.before_the_first(now)), **written)


@report.command()
@click.option("--party", help="Of this merchant, or account of the house, alone.")
@_at_a_moment
@click.pass_context
def balances(context: click.Context, /, *, party: str | None, **options: Any) -> None:
    """Show what each account holds: now, at an instant, or at the end of a cycle."""
    from settlement.service import reports

    moment, written = _moment(options)
    now = datetime.now(UTC)

    async def make(pool: Pool) -> Report:
        stand = await reports.standing(pool, moment, now=now)
        number = None if party is None else stand.party(party)
        if party is not None and number is None:
            raise Unusable(f"no party {party} takes part; `tongdui merchant list` shows who does")
        return reports.balances(stand, party=number)

    _tell(context, make, lambda: reports.balances(reports.before_the_first(now)), **written)


@report.command()
@_of_cycles
@click.pass_context
def fees(context: click.Context, /, **options: Any) -> None:
    """Show what the house earned of each pair of merchants in each cycle, and what each merchant bore."""
    from settlement.service import netting_reports as reports

    _of_netting(context, reports.fees, options)


@report.command()
@_of_cycles
@click.pass_context
def savings(context: click.Context, /, **options: Any) -> None:
    """Show what each cycle would move gross and bilaterally, what it moves, and what netting saves each party."""
    from settlement.service import netting_reports as reports

    _of_netting(context, reports.savings, options)


@report.command()
@click.option(
    "--parties",
    "parties_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with bank accounts (schemas/FORMAT.md, Parties); without it merchants' accounts are not known.",
)
@_written
@click.pass_context
def ageing(context: click.Context, /, *, parties_file: Path | None, **options: Any) -> None:
    """Show open breaks by age, kind and owner."""
    from exchange.cli.accounts import house_accounts
    from settlement.service import ageing_report

    now = datetime.now(UTC)
    packages = this_home().packages
    account, holders = (None, None) if parties_file is None else house_accounts(parties_file)

    async def make(pool: Pool) -> Report:
        return await ageing_report.ageing(
            pool, now=now, packages=packages, account=account, holders=holders
        )

    _tell(
        context,
        make,
        lambda: ageing_report.ageing_of((), now=now, parties=holders is not None),
        **options,
    )


@report.command()
@click.option("--party", help="The programme of this merchant alone.")
@click.option(
    "--from", "since", callback=_instant, help="Where the roll-forward begins (RFC 3339)."
)
@click.option(
    "--at", "--to", "at", callback=_instant, help="Where it ends; now where it is left out."
)
@click.option(
    "--price",
    type=click.Choice(["spend", "issue"]),
    default="spend",
    show_default=True,
    help="The rate at which points are valued: what spending them debits, or what issuing them costs.",
)
@click.option(
    "--window",
    type=click.IntRange(1, 1200),
    default=24,
    show_default=True,
    help="Months of expiry, back from now, that tell how much breaks.",
)
@_written
@click.pass_context
def liability(
    context: click.Context,
    /,
    *,
    party: str | None,
    since: datetime | None,
    at: datetime | None,
    price: Literal["spend", "issue"],
    window: int,
    **options: Any,
) -> None:
    """Show points liability and breakage (IFRS 15 B44 to B47) by programme, with the roll-forward from the lots."""
    from exchange.programme.service.liability import Asked, empty_liability
    from exchange.programme.service.liability import liability as made_liability

    now = datetime.now(UTC)
    asked = Asked(since=since, at=at, price=price, window_months=window)

    async def make(pool: Pool) -> Report:
        number = None if party is None else await number_of(pool, party)
        return await made_liability(pool, replace(asked, merchant_no=number), now=now)

    _tell(context, make, lambda: empty_liability(now, asked), **options)


def _of_netting(
    context: click.Context, make_of: Callable[[Netted], Report], options: dict[str, Any]
) -> None:
    """Make a report of some cycles."""
    from schemas.files.instant import microseconds
    from settlement.service.netting_reports import Netted, Span, netted

    span = Span(**{name: options.pop(name) for name in ("cycle_id", "since", "until")})
    if span.cycle_id is not None and (span.since is not None or span.until is not None):
        raise click.UsageError("name a cycle or a span of time, not both")
    now = datetime.now(UTC)

    async def make(pool: Pool) -> Report:
        return make_of(await netted(pool, span, now=now))

    _tell(context, make, lambda: make_of(Netted(as_of_us=microseconds(now))), **options)


def _moment(options: dict[str, Any]) -> tuple[Moment, dict[str, Any]]:
    """What the report is of, and how it is written."""
    from settlement.service.reports import Moment

    at, cycle_id = options.pop("at"), options.pop("cycle_id")
    if at is not None and cycle_id is not None:
        raise click.UsageError("name an instant or a cycle, not both")
    return Moment(at=at, cycle_id=cycle_id, journal=options.pop("journal")), options


def _tell(
    context: click.Context,
    make: Callable[[Pool], Coroutine[Any, Any, Report]],
    empty: Callable[[], Report],
    *,
    form: str,
    table: str | None,
    target: Path | None,
) -> None:
    """Make a report, or the one of a clearing house that has no books yet, and write it."""
    from schemas.files.report import Fact
    from settlement.service.reports import ReportRefused

    if form == "table" and target is not None:
        form = target.suffix.removeprefix(".")
        if form not in _FILES:
            raise click.UsageError(f"name --format {', '.join(_FILES)} for this file")
    if form == "xlsx" and target is None:
        raise click.UsageError("a workbook needs a file: -o FILE.xlsx")
    if table is not None and form != "csv":
        raise click.UsageError("--table is for CSV, which holds one table")

    async def work(dsn: str) -> Report:
        async with pool_of(dsn) as pool:
            return await make(pool)

    home = this_home()
    if has_ledger(home):
        with database(home) as dsn:
            try:
                made = run(work(dsn))
            except ReportRefused as error:
                raise Unusable(str(error)) from error
    else:
        made = empty()
        begin = f"there is no ledger in {home.folder} yet: `tongdui serve` makes one"
        made = replace(made, facts=(*made.facts, Fact(name="begin", chinese="开始", text=begin)))
    if form == "table":
        _print(made)
    else:
        _write(_bytes(made, form, table), target)
    for check in made.checks:
        if not check.ok:
            click.echo(f"tongdui: not so: {check.name}: {check.detail}", err=True)
    context.exit(0 if made.ok else 1)


def _bytes(made: Report, form: str, table: str | None) -> bytes:
    """A report as the bytes of a file."""
    import msgspec

    from schemas.wire.reports import report_answer
    from settlement.service.reports import report_book, report_csv

    if form == "xlsx":
        return report_book(made)
    if form == "json":
        return msgspec.json.format(msgspec.json.encode(report_answer(made)), indent=2) + b"\n"
    data = report_csv(made, table)
    if data is None:
        names = ", ".join((*(each.name for each in made.tables), "facts"))
        raise Unusable(f"the report has no table {table}; it has {names}")
    return data


def _write(data: bytes, target: Path | None) -> None:
    if target is None:
        sys.stdout.buffer.write(data)
        return
    with target.open("xb") as file:
        file.write(data)
    print(target)


def _print(made: Report) -> None:
    """Print a report for people."""
    console = out()
    console.print(f"{made.title} {made.chinese}", style="bold")
    for name, text in made.facts_table().rows[1:]:
        console.print(f"{name}: {text}")
    for table in made.tables:
        _print_table(table)


def _print_table(table: ReportTable) -> None:
    from rich.markup import escape
    from rich.table import Table

    from schemas.files.report import Form

    shown = Table(title=f"{table.name} {table.chinese}", title_justify="left")
    for column in table.columns:
        shown.add_column(
            escape(column.heading).replace(" ", "\n", 1),
            justify="left" if column.form is Form.TEXT else "right",
        )
    totals = table.totals()
    for row in table.rows:
        shown.add_row(*_cells(table, row))
    if totals is not None:
        shown.add_section()
        shown.add_row(*_cells(table, totals), style="bold")
    out(wide=True).print(shown)


def _cells(table: ReportTable, row: tuple[Any, ...]) -> list[str]:
    from rich.markup import escape

    from schemas.files.report import cell_text

    return [
        escape(cell_text(column.form, cell))
        for column, cell in zip(table.columns, row, strict=True)
    ]
