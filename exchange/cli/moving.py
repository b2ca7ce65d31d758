"""`tongdui merchant import` and `export`: a merchant brings its members and points, or takes everything along."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING

import click

from exchange.cli.context import Unusable, clearing_of, database, pool_of, run, this_home
from exchange.cli.output import print_json, progress_bar
from exchange.cli.who import accountable, acting

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncpg import Pool

    from exchange.cli.context import Home
    from exchange.core.catalogue import Programme
    from exchange.service.moving import Exported, Imported
    from schemas.files.balances import BalanceLine


@click.command("import")
@click.argument("code")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--dry-run", is_flag=True, help="Read and check the whole file, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@accountable
def import_points(*, code: str, file: Path, dry_run: bool, as_json: bool) -> int:
    """Enrol the members of FILE at merchant CODE with the points that they bring.

    The file is CSV: member,units,expires_at, and at the end the control totals. It is refused whole if
    anything in it is malformed or the totals do not add up. Importing it again gives nothing twice.
    """
    from schemas.files.balances import read_balances

    data = file.read_bytes()
    with file.open(encoding="utf-8-sig", newline="") as text:
        lines = read_balances(text, now_us=time_ns() // 1000)
    units = sum(line.units for line in lines)
    if dry_run:
        print(f"{file} is well: {len(lines)} lines, {units} units; nothing was changed")
        return 0
    home = this_home()
    with database(home) as dsn, progress_bar(code, total=len(lines), shown=not as_json) as done:
        imported = run(_import(home, dsn, code, lines, hashlib.sha256(data).digest(), done))
    if as_json:
        print_json(
            {
                "members": imported.members,
                "lots": imported.lots,
                "units": str(imported.units),
                "refused": [{"line": line, "reason": why} for line, why in imported.refused],
            }
        )
    else:
        print(f"{code}: {imported.members} members, {imported.lots} lots, {imported.units} units")
        for line, why in imported.refused:
            print(f"line {line}: refused, {why}")
    return int(bool(imported.refused))


@click.command("export")
@click.argument("code")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="A new folder."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@accountable
def export_points(*, code: str, out: Path, as_json: bool) -> None:
    """Write everything that is merchant CODE's own: balances, events, and their control totals."""
    out.mkdir(parents=True, exist_ok=True)
    with database(this_home()) as dsn:
        exported = run(_export(dsn, code, out))
    if as_json:
        print_json({"lots": exported.lots, "units": str(exported.units), "events": exported.events})
    else:
        print(f"{out}: {exported.lots} lots, {exported.units} units, {exported.events} events")


async def _import(
    home: Home,
    dsn: str,
    code: str,
    lines: list[BalanceLine],
    digest: bytes,
    done: Callable[[int], None],
) -> Imported:
    from exchange.service.members import Members
    from exchange.service.moving import import_balances
    from exchange.service.shelf import Shelf
    from exchange.service.vaults import VaultDoor

    async with pool_of(dsn) as pool, clearing_of(home, dsn) as clearing:
        programme = await _programme(pool, code)
        if not programme.hosted:
            raise Unusable(f"{code} keeps its points in its own system; there is nothing to import")
        door = VaultDoor(pool, home.keys)
        return await import_balances(
            pool,
            clearing=clearing,
            members=Members(pool, door, Shelf(pool), lambda: datetime.now(UTC)),
            digests=(await door.vault()).requests,
            merchant_no=programme.merchant_no,
            code=code,
            lines=lines,
            digest=digest,
            by=await acting(pool),
            now=datetime.now(UTC),
            done=done,
        )


async def _export(dsn: str, code: str, out: Path) -> Exported:
    from exchange.service.moving import export_merchant
    from exchange.service.vaults import VaultDoor
    from schemas.values.ids import HOUSE
    from settlement.service.inquiry import ledger_now_us

    async with pool_of(dsn) as pool:
        programme = await _programme(pool, code)
        return await export_merchant(
            pool,
            vault=await VaultDoor(pool, this_home().keys).vault(),
            scope=programme.merchant_no if programme.own_names else HOUSE,
            merchant_no=programme.merchant_no,
            code=code,
            now_us=await ledger_now_us(pool, now_us=time_ns() // 1000),
            folder=out,
            by=await acting(pool),
            now=datetime.now(UTC),
        )


async def _programme(pool: Pool, code: str) -> Programme:
    from exchange.service.shelf import Shelf

    offer = await Shelf(pool).offer_with(code)
    merchant_no = offer.catalogue.by_code.get(code)
    if merchant_no is None:
        raise Unusable(f"no merchant is called {code!r}; `tongdui merchant list` shows them")
    return offer.catalogue.programmes[merchant_no]
