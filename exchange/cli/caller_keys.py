"""`tongdui merchant key`: the keys with which merchants sign their requests."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from exchange.cli.context import clearing_of, database, pool_of, run, this_home
from exchange.cli.output import out, print_json
from exchange.cli.who import accountable, acting

if TYPE_CHECKING:
    from asyncpg import Pool

    from exchange.cli.context import Home
    from schemas.values.reason import Refusal
    from schemas.wire.keys import KeyView


@click.group("key")
def caller_key() -> None:
    """Make, register, list and revoke the keys with which a merchant signs (HOUSE for the operator)."""


@caller_key.command()
@click.argument("code")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def make(code: str, file: Path) -> None:
    """Make a private key in FILE, and print the request that registers it for merchant CODE.

    For the merchant's own machine: the private key never leaves it.
    """
    from exchange.client.identity import make_identity

    print(make_identity(file).csr(code), end="")


@caller_key.command()
@click.argument("csr", type=click.File("r", encoding="ascii", errors="replace"))
@click.option("--label", default="key", show_default=True, help="What the key is for.")
@click.option(
    "--overlap-hours",
    type=click.IntRange(0, 24 * 365),
    help="Rotate: the merchant's other keys count for so many hours more.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@accountable
@click.pass_context
def add(
    context: click.Context,
    csr: TextIO,
    label: str,
    overlap_hours: int | None,
    *,
    as_json: bool,
) -> None:
    """Register the key of a certification request (PKCS #10), which names its merchant."""
    from schemas.values.reason import Refusal

    text = csr.read()
    home = this_home()
    with database(home) as dsn:
        outcome = run(_register(home, dsn, text, label, overlap_hours))
    if isinstance(outcome, Refusal):
        click.echo(f"tongdui: {outcome.detail}", err=True)
        context.exit(1)
    if as_json:
        _print([outcome])
    else:
        print(f"{outcome.merchant}: key {outcome.kid}")


@caller_key.command("list")
@click.argument("code", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_caller_keys(code: str | None, *, as_json: bool) -> None:
    """Show the keys of merchant CODE, or everybody's."""
    with database(this_home()) as dsn:
        views = [each for each in run(_keys(dsn)) if code in (None, each.merchant)]
    if as_json:
        _print(views)
        return
    from rich.table import Table

    table = Table(
        "merchant 商户", "key 密钥", "label 用途", "state 状态", "since 登记", "until 停用"
    )
    for view in views:
        until = view.revoked_at or view.retires_at or "–"
        table.add_row(view.merchant, view.kid, view.label, view.state, view.registered_at, until)
    out().print(table)


# One id in 64 begins with a hyphen, and is no option.
@caller_key.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]}
)
@click.argument("key_id")
@accountable
@click.pass_context
def revoke(context: click.Context, key_id: str) -> None:
    """Revoke KEY_ID for good; no gateway takes it any more."""
    home = this_home()
    with database(home) as dsn:
        view = run(_revoke(home, dsn, key_id))
    if view is None:
        click.echo(f"tongdui: there is no key {key_id}", err=True)
        context.exit(1)
    print(f"revoked {view.kid} of {view.merchant}")


async def _register(
    home: Home, dsn: str, csr: str, label: str, overlap_hours: int | None
) -> KeyView | Refusal:
    from exchange.service.signing_keys import KeyDesk
    from schemas.values.ids import HOUSE
    from settlement.service.link import RemoteClearing

    async with pool_of(dsn) as pool, clearing_of(home, dsn) as clearing:
        desk = KeyDesk(pool, clearing if isinstance(clearing, RemoteClearing) else None)
        return await desk.register(
            csr,
            caller=HOUSE,
            codes=await _codes(pool),
            label=label,
            overlap_hours=overlap_hours,
            by=await acting(pool),
            now=datetime.now(UTC),
        )


async def _revoke(home: Home, dsn: str, key_id: str) -> KeyView | None:
    from exchange.service.signing_keys import KeyDesk
    from schemas.values.ids import HOUSE
    from settlement.service.link import RemoteClearing

    async with pool_of(dsn) as pool, clearing_of(home, dsn) as clearing:
        desk = KeyDesk(pool, clearing if isinstance(clearing, RemoteClearing) else None)
        return await desk.revoke(
            key_id,
            caller=HOUSE,
            codes=await _codes(pool),
            by=await acting(pool),
            now=datetime.now(UTC),
        )


async def _keys(dsn: str) -> list[KeyView]:
    from exchange.service.signing_keys import KeyDesk
    from schemas.values.ids import HOUSE

    async with pool_of(dsn) as pool:
        desk = KeyDesk(pool, None)
        return await desk.keys(caller=HOUSE, codes=await _codes(pool), now=datetime.now(UTC))


async def _codes(pool: Pool) -> dict[int, str]:
    """Merchants' codes by number."""
    from exchange.store.catalogue import fetch_catalogue

    by_code = (await fetch_catalogue(pool)).by_code
    return {number: code for code, number in by_code.items()}


def _print(views: list[KeyView]) -> None:
    import msgspec

    rows: list[dict[str, Any]] = [msgspec.to_builtins(view) for view in views]
    print_json(rows)
