"""`tongdui verify` and `tongdui prove`: settlement packages checked, and orders proven to be in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.context import Unusable, this_home
from exchange.cli.output import out, print_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from settlement.core.report import Report, Unreadable

MARKS = {"passed": "[green]✓[/]", "failed": "[red]✗[/]", "not checked": "[yellow]•[/]"}


@click.command()
@click.argument("package", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "key_files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="Trusted public key (PEM); may be given several times. Default: the keys of this installation.",
)
@click.option(
    "--previous",
    type=click.Path(file_okay=False, path_type=Path),
    help="Package before this one. Default: looked for beside it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def verify(
    context: click.Context,
    package: Path,
    key_files: tuple[Path, ...],
    previous: Path | None,
    *,
    as_json: bool,
) -> None:
    """Check a settlement PACKAGE, without database or network.

    Status 0: every check passed. 1: a check failed, and its name says which. 2: there is nothing that could be checked.
    """
    from settlement.service.verification import verify_package

    report = verify_package(package, trusted=trusted_keys(key_files), previous=previous)
    show_report(report, str(package), as_json=as_json)
    context.exit(report.exit_status)


def trusted_keys(key_files: tuple[Path, ...]) -> dict[str, Ed25519PublicKey]:
    """Public keys by id, from PEM files, else those of the installation that are not revoked.

    Raises:
        Unusable: A file holds no Ed25519 public key.
    """
    if not key_files:
        from exchange.cli.context import keyring_of

        return keyring_of(this_home()).trusted()
    from settlement.signing.signature import key_id, parse_public_pem

    trusted = {}
    for path in key_files:
        public = parse_public_pem(path.read_bytes())
        if public is None:
            raise Unusable(f"{path} holds no Ed25519 public key in PEM")
        trusted[key_id(public)] = public
    return trusted


def verify_all(folders: list[Path], trusted: dict[str, Ed25519PublicKey]) -> bool:
    """Verify packages, and print the report of each that is not good."""
    from settlement.service.verification import verify_package

    good = True
    for folder in folders:
        report = verify_package(folder, trusted=trusted)
        if not report.ok:
            show_report(report, str(folder), as_json=False)
            good = False
    return good


def show_report(report: Report | Unreadable, path: str, *, as_json: bool) -> None:
    """Print a report for people or programs."""
    from rich.markup import escape

    from settlement.core.report import Unreadable

    if isinstance(report, Unreadable):
        if as_json:
            print_json({"path": path, "result": "unreadable", "detail": report.english})
        else:
            click.echo(f"tongdui: {report.english} {report.chinese}", err=True)
        return
    if as_json:
        print_json(
            {
                "path": path,
                "subject": report.subject,
                "result": "passed" if report.ok else "failed",
                "failed": report.failed,
                "checks": [
                    {"name": each.name, "status": each.status.value, "detail": each.english}
                    for each in report.checks
                ],
            }
        )
        return
    console = out()
    for each in report.checks:
        console.print(
            f"{MARKS[each.status.value]} {each.name:<13} {escape(each.english)} {escape(each.chinese)}",
            soft_wrap=True,
        )
    console.print(
        f"[green]{path} is good. 验证通过。[/]"
        if report.ok
        else f"[red]{path} is NOT good: {', '.join(report.failed)}. 验证未通过。[/]",
        soft_wrap=True,
    )
