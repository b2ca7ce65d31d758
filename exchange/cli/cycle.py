"""`tongdui cycle`: settlement cycles, their figures, and closing one before its cut-off."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from exchange.cli.confirming import confirmations
from exchange.cli.context import (
    Unusable,
    clearing_of,
    database,
    keyring_of,
    pool_of,
    run,
    this_home,
)
from exchange.cli.figures import (
    figures_json,
    figures_of_netting,
    figures_of_package,
    print_cycles,
    print_parties,
)
from exchange.cli.output import out, print_json
from exchange.cli.who import accountable, acting

if TYPE_CHECKING:
    from asyncpg import Record

    from exchange.cli.context import Home
    from exchange.cli.figures import CycleFigures

STATES = {"open": "open 进行中", "closed": "closed 已关闭", "settled": "settled 已结算"}


@click.group()
def cycle() -> None:
    """Close the open cycle, show cycles, their figures and confirmations, and say when they cut off."""


cycle.add_command(confirmations)


@cycle.command()
@click.argument("cycle_id", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; amounts are strings of CU.")
@click.pass_context
def show(context: click.Context, cycle_id: str | None, *, as_json: bool) -> None:
    """Show every cycle, or what each party pays and receives in CYCLE_ID."""
    home = this_home()
    with database(home) as dsn:
        rows, found = run(_read(home, dsn, cycle_id))
    if cycle_id is None:
        _show_cycles(rows, as_json=as_json)
        return
    if found is None:
        click.echo(f"tongdui: there is no cycle {cycle_id}", err=True)
        context.exit(1)
    state, figures = found
    if as_json:
        print_json({"state": state} | figures_json(figures))
    else:
        console = out()
        console.print(f"{figures.cycle_id}: {STATES[state]}")
        print_cycles(console, [figures])
        print_parties(console, [figures])


@cycle.command()
@click.option(
    "--settle",
    is_flag=True,
    help="Count it as funded and paid at once, so that it weighs on no cap any more; not where funds are kept.",
)
@click.option(
    "--arrangement",
    default="main",
    show_default=True,
    help="Whose cycle; each arrangement has its own.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@accountable
@click.pass_context
def close(context: click.Context, *, settle: bool, arrangement: str, as_json: bool) -> None:
    """Close an arrangement's open cycle now, and write its signed package.

    Orders in flight are not waited for: each belongs to the cycle in which its clearing is written.
    """
    home = this_home()
    with database(home) as dsn:
        outcome = run(_close(home, dsn, settle=settle, arrangement=arrangement))
    if isinstance(outcome, str):
        click.echo(f"tongdui: {outcome}", err=True)
        context.exit(1)
    if as_json:
        print_json(outcome)
        return
    print(f"closed {outcome['closed']}; open now: {outcome['open']}")
    print(f"package: {outcome['package']}")


@cycle.command()
@click.option("--quarter", required=True, help="A quarter that is over, for example 2026Q3.")
@click.option("--dry-run", is_flag=True, help="Show what would go back; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; amounts are strings of CU.")
@accountable
@click.pass_context
def remainders(context: click.Context, quarter: str, *, dry_run: bool, as_json: bool) -> None:
    """Give what the rounding account collected back to the issuers it came from, once a quarter.

    Booked in the open cycle. Where two people are needed, propose it:
    `tongdui proposal make remainders.return '{"quarter": "2026Q3"}'`.
    """
    from schemas.values.amounts import yuan_text
    from schemas.values.reason import Refusal
    from settlement.core.remainders import Quarter
    from settlement.service import trail
    from settlement.service.parties import list_parties
    from settlement.service.remainders import Return, book_return, plan_return

    home, wanted = this_home(), Quarter.parse(quarter)

    async def work(dsn: str) -> tuple[Return | Refusal, dict[int, str]]:
        async with pool_of(dsn) as pool:
            now = datetime.now(UTC)
            planned = await plan_return(pool, quarter=wanted, now=now)
            codes = {row["merchant_no"]: row["code"] for row in await list_parties(pool)}
            if dry_run or isinstance(planned, Refusal):
                return planned, codes
            by = await acting(pool, "treasurer")
            body = await trail.ask(pool, by, planned.change, at=now)
            async with clearing_of(home, dsn) as clearing:
                refused = await book_return(clearing, planned, body=body)
            return refused or planned, codes

    with database(home) as dsn:
        planned, codes = run(work(dsn))
    if isinstance(planned, Refusal):
        click.echo(f"tongdui: {planned.reason.code}: {planned.detail}", err=True)
        context.exit(1)
    rows = [
        {"issuer": codes[issuer], "acceptor": codes[acceptor], "cu": str(cu)}
        for (issuer, acceptor), cu in planned.amounts.items()
    ]
    told = {"quarter": quarter, "total_cu": str(planned.total_cu), "kept_cu": str(planned.kept_cu)}
    if as_json:
        print_json(told | {"before": planned.done, "dry_run": dry_run, "amounts": rows})
        return
    for row in rows:
        print(f"{row['issuer']} {yuan_text(int(row['cu']))} ({row['acceptor']})")
    print(f"{quarter}: {yuan_text(planned.total_cu)} yuan" + (" (dry run)" if dry_run else ""))


@cycle.command()
@click.option("--zone", help="IANA name of the time zone, e.g. Asia/Shanghai.")
@click.option(
    "--at", "times", multiple=True, help="A local time of a cut-off, HH:MM; may be given again."
)
@click.option(
    "--weekday",
    "weekdays",
    multiple=True,
    type=click.IntRange(1, 7),
    help="A day with cut-offs, 1 for Monday to 7 for Sunday; all where none is named.",
)
@click.option(
    "--holiday",
    "holidays",
    multiple=True,
    type=click.DateTime(["%Y-%m-%d"]),
    help="A local date without a cut-off; may be given again.",
)
@click.option(
    "--confirm-days",
    type=click.IntRange(1, 60),
    help="So many days merchants have to confirm a batch; 7 where it is not said.",
)
@click.option(
    "--arrangement",
    default="main",
    show_default=True,
    help="Whose cycles; each arrangement has its own calendar.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@accountable
def calendar(
    zone: str | None,
    times: tuple[str, ...],
    weekdays: tuple[int, ...],
    holidays: tuple[datetime, ...],
    *,
    confirm_days: int | None,
    arrangement: str,
    as_json: bool,
) -> None:
    """Show when cycles cut off, or set it anew, whole, with --zone, --at, --weekday, --holiday and --confirm-days.

    The open cycle keeps its cut-off and due date; those that open from now on follow the new calendar. Where two
    people are needed, propose it: `tongdui proposal make calendar.set '{"times": ["00:00"]}'`.
    """
    import msgspec

    from settlement.core.calendar import Calendar
    from settlement.service import cycles

    named: dict[str, object] = {
        "zone": zone,
        "times": times,
        "weekdays": weekdays,
        "holidays": tuple(each.date().isoformat() for each in holidays),
        "confirm_days": confirm_days,
    }
    try:
        wanted = msgspec.convert({name: said for name, said in named.items() if said}, Calendar)
    except msgspec.ValidationError as error:
        raise Unusable(f"no calendar: {error}") from error

    async def work(dsn: str) -> Calendar:
        async with pool_of(dsn) as pool:
            now = datetime.now(UTC)
            if any(named.values()):
                try:
                    await cycles.set_calendar(
                        pool,
                        wanted,
                        by=await acting(pool),
                        now=now,
                        effective_at=now,
                        arrangement=arrangement,
                    )
                except ValueError as error:
                    raise Unusable(str(error)) from error
            return await cycles.calendar_at(pool, now, arrangement=arrangement)

    with database(this_home()) as dsn:
        in_force = run(work(dsn))
    if as_json:
        print_json(msgspec.to_builtins(in_force))
        return
    print(f"cut-offs 截止时间: {', '.join(in_force.times)} {in_force.zone}")
    print(f"weekdays 星期: {', '.join(map(str, in_force.weekdays))}")
    print(f"holidays 假日: {', '.join(map(str, in_force.holidays)) or '–'}")
    print(f"days to confirm 确认期限(天): {in_force.confirm_days}")


@cycle.command()
@click.argument("code", required=False)
@click.option(
    "--model",
    type=click.Choice(["multilateral", "bilateral", "gross"]),
    help="How its cycles are paid; for a new arrangement.",
)
@click.option(
    "--pair",
    "pairs",
    multiple=True,
    nargs=2,
    metavar="MERCHANT MERCHANT",
    help="Two merchants that settle by it from the turn of their cycle on; may be given again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@accountable
def arrangement(
    code: str | None, model: str | None, pairs: tuple[tuple[str, str], ...], *, as_json: bool
) -> None:
    """Show which pairs of merchants settle by which model, or give pairs the arrangement CODE.

    An order of a pair goes on in the old cycle until that closes. Where two people are needed, propose it:
    `tongdui proposal make arrangement.set '{"arrangement": "noon", "model": "bilateral", "pairs": [["A", "B"]]}'`.
    """
    from exchange.service.controlled import set_alone
    from schemas.values.faults import SchemaError
    from schemas.values.reason import Refusal
    from settlement.service import cycles
    from settlement.service.arrangements import list_pairs

    terms = {"arrangement": code, "model": model, "pairs": [list(pair) for pair in pairs]}

    async def change(home: Home, dsn: str) -> None:
        async with pool_of(dsn) as pool, clearing_of(home, dsn) as clearing:
            try:
                outcome = await set_alone(
                    pool,
                    clearing,
                    "arrangement.set",
                    terms,
                    keys=home.keys,
                    by=await acting(pool),
                    now=datetime.now(UTC),
                )
            except SchemaError as error:
                raise Unusable(str(error)) from error
            if isinstance(outcome, Refusal):
                raise Unusable(outcome.detail)

    async def look(dsn: str) -> tuple[list[Record], list[Record]]:
        async with pool_of(dsn) as pool:
            return await cycles.list_open(pool), await list_pairs(pool)

    home = this_home()
    with database(home) as dsn:
        if code is not None:
            run(change(home, dsn))
        made, arranged = run(look(dsn))
    if as_json:
        print_json(
            {
                "arrangements": [
                    {name: row[name] for name in ("code", "model", "cycle_id")} for row in made
                ],
                "pairs": [dict(row) for row in arranged],
            }
        )
        return
    for row in made:
        print(f"{row['code']}: {row['model']}, open now 进行中: {row['cycle_id'] or '–'}")
    for row in arranged:
        then = f", then 之后: {row['next']}" if row["next"] else ""
        print(f"{row['one']} – {row['other']}: {row['arrangement']}{then}")


async def _read(
    home: Home, dsn: str, cycle_id: str | None
) -> tuple[list[Record], tuple[str, CycleFigures] | None]:
    """All cycles, and the figures of one: from its package if that stands, else from the books."""
    from schemas.values.ids import HOUSE_CODES
    from settlement.core.netting import net
    from settlement.service import cycles, parties

    async with pool_of(dsn) as pool:
        rows = await cycles.list_cycles(pool)
        for row in rows:
            if row["cycle_id"] != cycle_id:
                continue
            folder = home.packages / row["cycle_id"]
            if folder.is_dir():
                return rows, (row["state"], figures_of_package(folder))
            owed = await cycles.list_obligations(pool, cycle_no=row["cycle_no"])
            codes = {each["merchant_no"]: each["code"] for each in await parties.list_parties(pool)}
            netting = net(owed)
            figures = figures_of_netting(row["cycle_id"], netting, codes | HOUSE_CODES)
            return rows, (row["state"], figures)
        return rows, None


async def _close(home: Home, dsn: str, *, settle: bool, arrangement: str) -> dict[str, Any] | str:
    """Close, cut and perhaps settle; a sentence where the answer is no."""
    from exchange.worker.packager import cut_missing
    from schemas.values.reason import Refusal
    from settlement.service import cycles
    from settlement.service.batches import cut_batch

    keyring = keyring_of(home)
    async with pool_of(dsn) as pool, clearing_of(home, dsn) as clearing:
        by = await acting(pool, "treasurer", *(() if settle else ("operator",)))
        found = {row["code"]: row["cycle_no"] for row in await cycles.list_open(pool)}
        if arrangement not in found:
            return f"there is no arrangement {arrangement}"
        cycle_no = found[arrangement]
        if cycle_no is None:
            return "no cycle is open yet: the first one opens when `tongdui serve` runs"
        if settle and (refused := await cycles.why_not_on_word(pool)):
            return refused.detail
        # What an earlier close left undone comes first: packages are a chain.
        if not await cut_missing(pool, keys=home.keys, packages=home.packages):
            return "the package of an earlier cycle cannot be cut; the log says why"
        now = datetime.now(UTC)
        opened = await cycles.close_now(pool, clearing, now, by=by, arrangement=arrangement)
        if isinstance(opened, Refusal):
            return opened.detail
        batch = await cut_batch(pool, cycle_no=cycle_no, keyring=keyring, out=home.packages)
        if isinstance(batch, Refusal):
            return batch.detail
        if settle:
            settled = await cycles.settle_asked(
                pool,
                clearing,
                by=by,
                now=now,
                cycle_no=cycle_no,
                cycle_id=batch.cycle_id,
            )
            if isinstance(settled, Refusal):
                return settled.detail
        after = {row["code"]: row["cycle_id"] for row in await cycles.list_open(pool)}
        return {
            "closed": batch.cycle_id,
            "open": after[arrangement],
            "package": str(batch.folder),
            "orders": batch.orders,
            "gross_cu": str(batch.netting.gross_cu),
            "net_cu": str(batch.netting.multilateral_net_cu),
            "settled": settle,
        }


def _show_cycles(rows: list[Record], *, as_json: bool) -> None:
    """Print all cycles, oldest first."""
    if as_json:
        print_json(
            [
                {
                    "cycle_id": row["cycle_id"],
                    "arrangement": row["arrangement"],
                    "state": row["state"],
                    "opened_at": row["opened_at"].isoformat(),
                    "cut_off_at": row["cut_off_at"].isoformat() if row["cut_off_at"] else None,
                    "closed_at": row["closed_at"].isoformat() if row["closed_at"] else None,
                    "orders": row["orders"],
                    "gross_cu": str(row["gross_cu"]),
                }
                for row in rows
            ]
        )
        return
    from rich.table import Table

    from schemas.values.amounts import yuan_text

    table = Table(
        "cycle 周期", "arrangement 安排", "state 状态", "opened 开始 (UTC)", "closed 关闭 (UTC)"
    )
    table.add_column("orders 笔数", justify="right")
    table.add_column("gross 总额(元)", justify="right")
    for row in rows:
        table.add_row(
            row["cycle_id"],
            row["arrangement"],
            STATES[row["state"]],
            *(f"{at:%Y-%m-%d %H:%M}" if at else "–" for at in (row["opened_at"], row["closed_at"])),
            f"{row['orders']:,}",
            yuan_text(row["gross_cu"]),
        )
    out().print(table)
