"""`tongdui merchant connect`: put a merchant's certified adapter into service, or take it out."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exchange.cli.context import Unusable, database, keyring_of, pool_of, run, this_home
from exchange.cli.who import accountable, acting

if TYPE_CHECKING:
    from adapters.kit.folder import Folder
    from exchange.cli.context import Home


@click.command()
@click.argument("code")
@click.option("--adapter", "name", help="The adapter's code, or the path of its folder.")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Its signed certificate, as `tongdui adapter check --certificate` wrote it.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a setting of its manifest here, e.g. base_url=https://…; NAME may be table.name.",
)
@click.option("--off", is_flag=True, help="Send no new orders there; those under way still end.")
@accountable
@click.pass_context
def connect(
    context: click.Context,
    *,
    code: str,
    name: str | None,
    certificate: Path | None,
    changes: tuple[str, ...],
    off: bool,
) -> None:
    """Send orders of merchant CODE to its own system, through an adapter that is certified for it.

    Gateways and order workers that run know it within a few seconds.
    """
    home = this_home()
    if off == (name is not None):
        raise click.UsageError("name an --adapter, or say --off")
    digest: bytes | None = None
    folder_name, settings = "", settings_of(changes)
    if name is not None:
        if certificate is None:
            raise click.UsageError(
                "a merchant goes live with a --certificate only: "
                f"tongdui adapter check {name} --certificate FILE"
            )
        folder = _folder(name, code, settings)
        refused = _certified(home, folder, certificate)
        if refused:
            click.echo(f"tongdui: merchant_not_certified: {refused}", err=True)
            context.exit(1)
        digest = hashlib.sha256(certificate.read_bytes()).digest()
        folder_name = str(folder.path) if "/" in name else name
    with database(home) as dsn:
        run(_connect(dsn, code, folder_name, settings, digest))
    print(f"{code}: {'disconnected' if off else f'connected through {folder_name}'}")


def settings_of(changes: tuple[str, ...]) -> dict[str, Any]:
    """Settings as a table of tables; a value that is JSON is read as such, any other is text."""
    settings: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or not all(part.isidentifier() for part in name.split(".")):
            raise click.UsageError(f"{change!r} is not NAME=VALUE")
        try:
            value: Any = json.loads(text)
        except ValueError:
            value = text
        *tables, last = name.split(".")
        table = settings
        for part in tables:
            table = table.setdefault(part, {})
        table[last] = value
    return settings


def _folder(name: str, code: str, settings: dict[str, Any]) -> Folder:
    """The adapter's folder.

    Raises:
        Unusable: It is another merchant's.
    """
    from exchange.service.connections import open_connection

    folder = open_connection(name, settings)
    if folder.code != code:
        raise Unusable(f"{folder.path} is the adapter of {folder.code}, not of {code}")
    return folder


def _certified(home: Home, folder: Folder, certificate: Path) -> str | None:
    """Why the adapter may not go live; None if it may."""
    from exchange.service.certification import check_certificate, signature_path
    from schemas.values.reason import Refusal

    beside = signature_path(certificate)
    if not beside.is_file():
        raise Unusable(f"{beside} is not there; the signature belongs beside its certificate")
    answer = check_certificate(
        certificate.read_bytes(),
        beside.read_bytes(),
        trusted=keyring_of(home).trusted(),
        folder=folder,
        at=datetime.now(UTC),
    )
    return answer.detail if isinstance(answer, Refusal) else None


async def _connect(
    dsn: str, code: str, folder: str, settings: dict[str, Any], digest: bytes | None
) -> None:
    from exchange.service.connecting import connect_merchant
    from exchange.store.catalogue import fetch_catalogue

    async with pool_of(dsn) as pool:
        catalogue = await fetch_catalogue(pool)
        merchant_no = catalogue.by_code.get(code)
        if merchant_no is None:
            raise Unusable(f"no merchant {code} takes part; `tongdui merchant list` shows who does")
        if catalogue.programmes[merchant_no].hosted:
            raise Unusable(f"the points of {code} are kept here; it has no system of its own")
        await connect_merchant(
            pool,
            merchant_no=merchant_no,
            code=code,
            folder=folder,
            settings=settings,
            certificate_digest=digest,
            by=await acting(pool),
            now=datetime.now(UTC),
        )
