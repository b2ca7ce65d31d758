"""`tongdui member`: what a member may ask of the house."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.context import Unusable, database, pool_of, run, this_home
from exchange.cli.who import accountable, acting

if TYPE_CHECKING:
    from asyncpg import Pool

    from exchange.cli.context import Home
    from exchange.service.shelf import Shelf
    from exchange.vault.sealing import Vault
    from schemas.values.reason import Refusal

_NAME = click.argument("name")
_OF = click.option("--of", "code", help="Merchant that calls the member so; default: the house.")


@click.group()
def member() -> None:
    """Export and erase members, and show their tokens.

    NAME is a reference or a token, as the merchant in --of calls the member; `-` reads it from standard input,
    which keeps it out of the shell's history.
    """


@member.command()
@_NAME
@_OF
def token(name: str, code: str | None) -> None:
    """Print what merchant --of calls the member in URLs and answers."""
    home = this_home()

    async def work(dsn: str) -> str:
        async with pool_of(dsn) as pool:
            found = await _find(pool, home, _said(name), code)
            return found.vault.tokens.token_of(found.member_no, merchant_no=found.merchant_no)

    with database(home) as dsn:
        print(run(work(dsn)))


@member.command()
@_NAME
@_OF
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="A new file."
)
def export(name: str, code: str | None, out: Path) -> None:
    """Write everything that stands about a member as JSON, readable by its owner alone."""
    from exchange.service.privacy import export_member
    from exchange.store.leaving import snapshot

    home = this_home()

    async def work(dsn: str) -> dict[str, object]:
        async with pool_of(dsn) as pool:
            found = await _find(pool, home, _said(name), code)
            codes = (await found.shelf.offer()).codes
            async with snapshot(pool) as conn:
                return await export_member(
                    conn, found.vault, member_no=found.member_no, codes=codes
                )

    with database(home) as dsn:
        dossier = run(work(dsn))
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(dossier, file, ensure_ascii=False, indent=2)
        file.write("\n")
    counts = {kind: len(rows) for kind, rows in dossier.items() if isinstance(rows, list)}
    print(f"{out}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))


@member.command()
@_NAME
@_OF
@click.option("--forfeit-points", is_flag=True, help="The member agreed that live points are lost.")
@accountable
@click.option("--yes", is_flag=True, help="Erase; without it, nothing happens.")
def erase(name: str, code: str | None, *, forfeit_points: bool, yes: bool) -> None:
    """Destroy a member's key and all that it sealed; books, proofs and chains of digests stay as they are."""
    from exchange.service.privacy import erase_member

    if not yes:
        raise click.UsageError("nothing brings a member back: say --yes")
    home = this_home()

    async def work(dsn: str) -> Refusal | None:
        async with pool_of(dsn) as pool:
            found = await _find(pool, home, _said(name), code)
            return await erase_member(
                pool,
                member_no=found.member_no,
                forfeit=forfeit_points,
                by=await acting(pool),
                now=datetime.now(UTC),
            )

    with database(home) as dsn:
        refused = run(work(dsn))
    if refused is not None:
        print(f"{refused.reason.code}: {refused.detail}", file=sys.stderr)
        raise SystemExit(1)
    print(
        "erased; gateways forget the member within two seconds, backups when they are overwritten"
    )


class _Found:
    """A member whom somebody named, and what belongs to finding them."""

    def __init__(self, *, vault: Vault, shelf: Shelf, member_no: int, merchant_no: int) -> None:
        self.vault = vault
        self.shelf = shelf
        self.member_no = member_no
        self.merchant_no = merchant_no


def _said(name: str) -> str:
    return sys.stdin.readline().strip() if name == "-" else name


async def _find(pool: Pool, home: Home, name: str, code: str | None) -> _Found:
    """The member of this name.

    Raises:
        Unusable: No merchant has the code, or no member this name; the name is not repeated.
    """
    from exchange.service.members import Members
    from exchange.service.shelf import Shelf
    from exchange.service.vaults import VaultDoor
    from schemas.values.ids import HOUSE

    shelf = Shelf(pool)
    merchant_no: int | None = HOUSE
    if code is not None:
        merchant_no = (await shelf.offer_with(code)).catalogue.by_code.get(code)
    if merchant_no is None:
        raise Unusable(f"no merchant is called {code!r}; `tongdui merchant list` shows them")
    door = VaultDoor(pool, home.keys)
    members = Members(pool, door, shelf, lambda: datetime.now(UTC))
    member_no = (await members.find([name], caller=merchant_no)).get(name)
    if member_no is None:
        raise Unusable(f"{code or 'the house'} knows no member of this name")
    return _Found(
        vault=await door.vault(), shelf=shelf, member_no=member_no, merchant_no=merchant_no
    )
