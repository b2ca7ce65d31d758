"""`tongdui package`: the files for people and banks that are made of a settlement package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.confirming import confirm
from exchange.cli.context import Unusable, this_home
from exchange.cli.output import out, print_json
from exchange.cli.package import package_trust
from exchange.cli.package_checkpoint import checkpoint, witness
from exchange.cli.package_signing import sign
from exchange.cli.package_stamping import stamp
from schemas.files.parties import parse_parties, parties_digest
from schemas.values.faults import SchemaError
from settlement.core.report import CheckFailed
from settlement.service.package_reading import open_package
from settlement.service.renderings import (
    KINDS,
    RenderingRefused,
    Wanted,
    plan_renderings,
    write_files,
)

if TYPE_CHECKING:
    from datetime import datetime

    from schemas.files.parties import Parties
    from schemas.files.renderings import Renderings
    from settlement.service.renderings import Plan


@click.group()
def package() -> None:
    """Make the files for people and banks of a settlement package; sign, stamp, confirm and witness it."""


for command in (sign, stamp, confirm, checkpoint, witness):
    package.add_command(command)


@package.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--for",
    "merchants",
    multiple=True,
    metavar="MERCHANT",
    help="Only this merchant's files; may be given several times.",
)
@click.option(
    "--parties",
    "parties_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with names, bank accounts, outlets and ledger accounts (schemas/FORMAT.md, Parties). "
    "Default: parties.toml in TONGDUI_HOME, if it is there.",
)
@click.option(
    "--format",
    "kinds",
    type=click.Choice(KINDS),
    multiple=True,
    help="Only these; all by default.",
)
@click.option(
    "--pay-on",
    type=click.DateTime(["%Y-%m-%d"]),
    help="When banks are to pay. Default: the day after the cycle's last.",
)
@click.option(
    "--out",
    "target",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write. Default: CYCLE-files here.",
)
@click.option(
    "--key",
    "keys_given",
    metavar="[ROLE=]FILE",
    multiple=True,
    help="Trusted public key (PEM). Default: the keys of this installation.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and name the files; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def render(
    context: click.Context,
    folder: Path,
    merchants: tuple[str, ...],
    parties_file: Path | None,
    kinds: tuple[str, ...],
    pay_on: datetime | None,
    target: Path | None,
    keys_given: tuple[str, ...],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make statements (XLSX, PDF), vouchers, invoices and bank files of the package in FOLDER, offline.

    Every file names the digest of the package's manifest. Status 1: the package is not what was signed, or orders to
    banks are asked for and not as many have signed as it states (rule K37).
    """
    parties, digest = _parties(parties_file)
    wanted = Wanted(
        merchants=merchants,
        kinds=kinds or KINDS,
        pay_on=None if pay_on is None else pay_on.date(),
        parties_sha256=digest,
    )
    try:
        trust = package_trust(keys_given)
        opened = open_package(
            folder,
            trusted=trust.keys,
            roles=trust.roles,
            parties=parties,
            approved="payments" in wanted.kinds and parties is not None,
        )
        plan = plan_renderings(opened, wanted)
        target = target or Path(f"{opened.batch.manifest.cycle.id}-files")
        listed = None if dry_run else write_files(plan, target)
    except CheckFailed as error:
        click.echo(f"tongdui: {error.english} {error.chinese}", err=True)
        context.exit(1)
    except RenderingRefused as error:
        raise Unusable(str(error)) from error
    _show(plan, target, listed, as_json=as_json)


def _parties(path: Path | None) -> tuple[Parties | None, str | None]:
    """Read the file of parties, else the installation's own if it has one, and its digest."""
    path = path or this_home().parties
    if not path.is_file():
        return None, None
    data = path.read_bytes()
    try:
        return parse_parties(data), parties_digest(data)
    except SchemaError as error:
        raise Unusable(f"{path}: {error.path}: {error.detail}") from error


def _show(plan: Plan, target: Path, listed: Renderings | None, *, as_json: bool) -> None:
    """Print what was written, or would be."""
    batch = plan.package.batch
    paths = list(plan.files) if listed is None else [one.path for one in listed.files]
    if as_json:
        print_json(
            {
                "package": batch.manifest.cycle.id,
                "manifest_sha256": batch.manifest_sha256,
                "folder": str(target),
                "written": listed is not None,
                "files": paths,
                "left_out": list(plan.left_out),
            }
        )
        return
    console = out()
    for sentence in plan.left_out:
        console.print(f"[yellow]{sentence}[/]")
    for path in paths:
        console.print(f"{target}/{path}", soft_wrap=True, highlight=False)
    console.print(
        f"{len(paths)} files of the package {batch.manifest.cycle.id} "
        + ("would be written." if listed is None else "were written.")
    )
