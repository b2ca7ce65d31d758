"""`tongdui fund`: whose the money at the bank is, what the bank shows of it, and moving it with two people."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exchange.cli.accounts import house_accounts, parties_option
from exchange.cli.context import Unusable, clearing_of, database, number_of, pool_of, run, this_home
from exchange.cli.merchant import read_yuan
from exchange.cli.output import out, print_json
from exchange.cli.who import accountable, acting

if TYPE_CHECKING:
    from schemas.values.reason import Refusal
    from settlement.core.custody import Custody, Entry
    from settlement.service.funding import BankBooked, Moved, Purses

_ROLES = ("treasurer",)
_POTS = ("funds", "collateral", "default_fund")
_ALERTS = {
    "below_zero": "below zero 负余额",
    "overdue": "overdue 逾期",
    "missing": "pays in 待缴",
    "below_level": "below level 低于警戒线",
    "": "",
}
_pot = click.option(
    "--pot", type=click.Choice(_POTS), default="funds", show_default=True, help="Which of its pots."
)
_dry_run = click.option("--dry-run", is_flag=True, help="Show what would happen; change nothing.")


@click.group()
def fund() -> None:
    """Show whose the money at the bank is, book what the bank shows, and move money with two people."""


@fund.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; amounts are strings of CU.")
@click.pass_context
def list_funds(context: click.Context, *, as_json: bool) -> None:
    """Show everybody's money, what closed cycles need of it, and whether books and bank agree.

    Status 1 if somebody is to be told, or books and bank do not agree.
    """
    from settlement.service.funding import custody, purses

    async def work(dsn: str) -> tuple[Purses, Custody]:
        async with pool_of(dsn) as pool:
            return await purses(pool, at=datetime.now(UTC)), await custody(pool)

    with database(this_home()) as dsn:
        found, held = run(work(dsn))
    (_print_json if as_json else _print)(found, held)
    context.exit(1 if held.why_not() or any(one.alert for one in found.merchants) else 0)


@fund.command()
@parties_option
@click.option("--entry", metavar="STATEMENT/ENTRY", help="A movement about which you decide.")
@click.option("--to", "merchant", metavar="MERCHANT", help="Whose it is; BANK keeps it in transit.")
@_pot
@_dry_run
@click.option("--json", "as_json", is_flag=True, help="Print JSON; amounts are strings of fen.")
@accountable
@click.pass_context
def bank(
    context: click.Context,
    *,
    parties_file: Path | None,
    entry: str | None,
    merchant: str | None,
    pot: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Book the movements of imported statements, each once: matched ones, and those of known accounts.

    What nobody can be named for stays open, and no pay-out is released until you name somebody. Status 1 while
    anything is open.
    """
    from settlement.core.command import Pot
    from settlement.service.funding import PARTY_OF_WORD, book_bank

    account, holders = house_accounts(parties_file)
    if (entry is None) != (merchant is None):
        raise click.UsageError("--entry and --to belong together")

    async def work(dsn: str) -> BankBooked:
        home = this_home()
        async with pool_of(dsn) as pool, clearing_of(home, dsn) as clearing:
            said = {}
            if entry is not None and merchant is not None:
                party = PARTY_OF_WORD.get(merchant)
                party = party if party is not None else await number_of(pool, merchant)
                said[_entry(entry)] = (party, int(Pot[pot.upper()]))
            try:
                return await book_bank(
                    pool,
                    clearing,
                    account=account,
                    holders=holders,
                    by=await acting(pool, *_ROLES),
                    at=datetime.now(UTC),
                    said=said,
                    rehearse=dry_run,
                )
            except ValueError as error:
                raise Unusable(str(error)) from error

    with database(this_home()) as dsn:
        done = run(work(dsn))
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "booked": [
                    {"entry": one.entry.name, "parts": [[p, q, str(cu)] for p, q, cu in one.parts]}
                    for one in done.booked
                ],
                "open": [_entry_json(one) for one in done.open],
            }
        )
    else:
        print(f"{'would book' if dry_run else 'booked'}: {len(done.booked)} movements")
        for each in done.open:
            print(
                f"open 待认领 {each.name}: {each.amount_fen} fen {each.party_name} {each.reference}"
            )
    context.exit(1 if done.open else 0)


@fund.command()
@click.argument("merchant")
@click.argument("yuan", callback=read_yuan)
@_pot
@_dry_run
@accountable
def deposit(merchant: str, yuan: int, *, pot: str, dry_run: bool) -> None:
    """Count YUAN that are in transit (movements that nobody claimed) for MERCHANT."""
    _move("BANK", "funds", merchant, pot, yuan, dry_run=dry_run)


@fund.command()
@click.argument("merchant")
@click.argument("yuan", callback=read_yuan)
@_pot
@_dry_run
@accountable
def withdraw(merchant: str, yuan: int, *, pot: str, dry_run: bool) -> None:
    """Take YUAN out of a pot of MERCHANT; in transit until the bank shows it.

    Refused where closed cycles need it, or a cap needs the collateral.
    """
    _move(merchant, pot, "BANK", "funds", yuan, dry_run=dry_run)


@fund.command()
@click.argument("giver")
@click.argument("taker")
@click.argument("yuan", callback=read_yuan)
@click.option("--from-pot", type=click.Choice(_POTS), default="funds", show_default=True)
@click.option("--to-pot", type=click.Choice(_POTS), default="funds", show_default=True)
@_dry_run
@accountable
def move(giver: str, taker: str, yuan: int, *, from_pot: str, to_pot: str, dry_run: bool) -> None:
    """Move YUAN between pots of one merchant, or pay back what GIVER owes TAKER after a default."""
    _move(giver, from_pot, taker, to_pot, yuan, dry_run=dry_run)


@fund.command()
@click.argument("merchant")
@click.argument("yuan", callback=read_yuan)
@_dry_run
@accountable
def threshold(merchant: str, yuan: int, *, dry_run: bool) -> None:
    """Say below which funds of MERCHANT somebody is told; 0 for never above zero."""
    from settlement.service.funding import set_level

    async def work(dsn: str) -> None:
        async with pool_of(dsn) as pool:
            number = await number_of(pool, merchant)
            by = await acting(pool, *_ROLES)
            if not dry_run:
                await set_level(
                    pool,
                    merchant_no=number,
                    code=merchant,
                    level_cu=yuan,
                    by=by,
                    at=datetime.now(UTC),
                )

    with database(this_home()) as dsn:
        run(work(dsn))
    print(f"{'would tell' if dry_run else 'tells'} below {_yuan(yuan)} yuan of {merchant}")


@fund.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--key", "key_files", type=click.Path(path_type=Path), multiple=True, help="Public key."
)
def records(folder: Path, *, key_files: tuple[Path, ...]) -> None:
    """Check the signed records of a default in FOLDER, without database or network."""
    from exchange.cli.package import trusted_keys
    from settlement.service.default_records import verify_records

    try:
        count = verify_records(folder, trusted_keys(key_files))
    except ValueError as error:
        raise Unusable(str(error)) from error
    print(f"{count} records, each signed and following the one before")


def _move(
    giver: str, giver_pot: str, taker: str, taker_pot: str, cu: int, *, dry_run: bool
) -> None:
    """Have money counted elsewhere, or show how the purses would look."""
    from settlement.core.command import Pot
    from settlement.service.funding import PARTY_OF_WORD, Moved, move_asked, why_no_move

    if not cu:
        raise Unusable("nothing to move: the amount is above 0")

    async def work(dsn: str) -> Refusal | None:
        home = this_home()
        async with pool_of(dsn) as pool, clearing_of(home, dsn) as clearing:
            numbers = {
                word: PARTY_OF_WORD[word] if word in PARTY_OF_WORD else await number_of(pool, word)
                for word in (giver, taker)
            }
            wanted: Moved = Moved(
                numbers[giver], Pot[giver_pot.upper()], numbers[taker], Pot[taker_pot.upper()], cu
            )
            names = {number: word for word, number in numbers.items()}
            by = await acting(pool, *_ROLES)
            if dry_run:
                return await why_no_move(pool, wanted)
            return await move_asked(
                pool, clearing, wanted, names=names, by=by, now=datetime.now(UTC)
            )

    with database(this_home()) as dsn:
        refused = run(work(dsn))
    if refused is not None:
        click.echo(f"tongdui: {refused.reason.code}: {refused.detail}", err=True)
        click.get_current_context().exit(1)
    print(
        f"{'would move' if dry_run else 'moved'} {_yuan(cu)} yuan: {giver} {giver_pot} -> {taker} {taker_pot}"
    )


def _entry(text: str) -> tuple[int, int]:
    statement, _, number = text.partition("/")
    if not (statement.isdecimal() and number.isdecimal()):
        raise Unusable(f"--entry {text}: expected STATEMENT/ENTRY, such as 3/14")
    return int(statement), int(number)


def _yuan(cu: int) -> str:
    from schemas.values.amounts import yuan_text

    return yuan_text(cu)


def _entry_json(one: Entry) -> dict[str, Any]:
    return {
        "entry": one.name,
        "statement": one.statement,
        "amount_fen": str(one.amount_fen),
        "reference": one.reference,
        "party_name": one.party_name,
    }


def _print_json(found: Purses, held: Custody) -> None:
    """As `GET /v1/admin/funds` answers, whole, with every movement that is open."""
    import msgspec

    from exchange.service.fund_desk import house_view

    told = msgspec.to_builtins(house_view(found, held))
    del told["next"], told["unbooked_count"]
    print_json(told | {"unbooked": [_entry_json(one) for one in held.unbooked]})


def _print(found: Purses, held: Custody) -> None:
    from rich.markup import escape
    from rich.table import Table

    from settlement.service.funding import WORD_OF_PARTY

    table = Table("merchant 商户")
    for title in ("funds 资金(元)", "collateral 抵押", "default fund 违约基金", "needs 待结"):
        table.add_column(title, justify="right")
    table.add_column("alert 提示")
    for one in found.merchants:
        figures = (one.funds_cu, one.collateral_cu, one.share_cu, one.needs_cu)
        table.add_row(escape(one.code), *map(_yuan, figures), _ALERTS[one.alert])
    for party, cu in sorted(found.house.items()):
        word = WORD_OF_PARTY.get(party, str(party))
        share = party == 0
        table.add_row(word, *(("", "", _yuan(cu)) if share else (_yuan(cu), "", "")), "", "")
    out().print(table)
    told = held.why_not()
    print(f"custody 托管: {told or 'books and bank agree 账实相符'}")
