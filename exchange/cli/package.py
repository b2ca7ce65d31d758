"""`tongdui verify` and `tongdui prove`: settlement packages checked, and orders proven to be in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.context import Unusable, database, keyring_of, pool_of, run, this_home
from exchange.cli.output import out, print_json

if TYPE_CHECKING:
    from uuid import UUID

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.x509 import Certificate

    from schemas.values.reason import Refusal
    from settlement.core.report import Report, Unreadable
    from settlement.signing.signature import PublicKey
    from settlement.signing.trust import Trust

MARKS = {"passed": "[green]✓[/]", "failed": "[red]✗[/]", "not checked": "[yellow]•[/]"}


@click.command()
@click.argument("package", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "keys_given",
    metavar="[ROLE=]FILE",
    multiple=True,
    help="Trusted public key (PEM), and in which role; may be given several times. Default: this installation's.",
)
@click.option(
    "--threshold",
    type=click.IntRange(1, 16),
    help="How many roles must have signed. Default: as many as the package states.",
)
@click.option(
    "--previous",
    type=click.Path(file_okay=False, path_type=Path),
    help="Package before this one. Default: looked for beside it.",
)
@click.option(
    "--tsa-root",
    "tsa_roots",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="Root certificate (PEM) of a time-stamping authority, by which the package must be stamped.",
)
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoint or proof of inclusion in which the package must be.",
)
@click.option(
    "--witness",
    "witnesses",
    metavar="VKEY",
    multiple=True,
    help="Trusted witness of checkpoints, as `package witness --show-key` prints it; may be given several times.",
)
@click.option(
    "--witnesses",
    "witnesses_min",
    type=click.IntRange(min=0),
    help="How many of them must have cosigned. Default: all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def verify(
    context: click.Context,
    package: Path,
    keys_given: tuple[str, ...],
    threshold: int | None,
    previous: Path | None,
    tsa_roots: tuple[Path, ...],
    checkpoint: Path | None,
    witnesses: tuple[str, ...],
    witnesses_min: int | None,
    *,
    as_json: bool,
) -> None:
    """Check a settlement package or a proof, without database or network.

    PACKAGE is the folder of a package, or a file that `prove` wrote. Without ROLE= a key's role is what the package
    says; a role counts once, however many of its keys have signed.

    Status 0: every check passed. 1: a check failed, and its name says which. 2: there is nothing that could be checked.
    """
    from exchange.cli.package_checkpoint import read_note_key
    from settlement.service.verification import Wanted, verify_package
    from settlement.service.verify_proof import verify_proof

    trust = package_trust(keys_given)
    if package.is_file():
        if threshold is not None:
            raise click.UsageError(
                "a proof is signed by the operator alone; --threshold is for packages"
            )
        report = verify_proof(package.read_bytes(), trusted=trust.operators)
    else:
        if checkpoint is None and (witnesses or witnesses_min is not None):
            raise click.UsageError("witnesses cosign checkpoints: give --checkpoint")
        wanted = Wanted(
            roles=trust.roles,
            threshold=threshold,
            checkpoint=None if checkpoint is None else checkpoint.read_bytes(),
            witnesses=tuple(map(read_note_key, witnesses)),
            witnesses_min=witnesses_min,
            tsa_roots=tuple(read_tsa_roots(tsa_roots)),
        )
        report = verify_package(package, trusted=trust.keys, previous=previous, wanted=wanted)
    show_report(report, str(package), as_json=as_json)
    context.exit(report.exit_status)


@click.command()
@click.argument("order", type=click.UUID)
@click.option(
    "--out",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write. Default: ORDER.proof.json here.",
)
@click.pass_context
def prove(context: click.Context, order: UUID, target: Path | None) -> None:
    """Write the proof that an order is in a signed package; whoever has our public key can `verify` it."""
    from settlement.service.proofs import prove_order

    home = this_home()
    keyring = keyring_of(home)

    async def work(dsn: str) -> bytes | Refusal:
        async with pool_of(dsn) as pool:
            return await prove_order(pool, order_id=order, keyring=keyring)

    with database(home) as dsn:
        proof = run(work(dsn))
    if not isinstance(proof, bytes):
        click.echo(
            f"tongdui: {proof.reason.english} {proof.reason.chinese} ({proof.detail})", err=True
        )
        context.exit(1)
    path = target or Path(f"{order}.proof.json")
    path.write_bytes(proof)
    print(path)


def trusted_keys(key_files: tuple[Path, ...]) -> dict[str, Ed25519PublicKey]:
    """Public keys by id, from PEM files, else those of the installation that are not revoked.

    Raises:
        Unusable: A file holds no Ed25519 public key.
    """
    if not key_files:
        return keyring_of(this_home()).trusted()
    from settlement.signing.signature import key_id, parse_public_pem

    trusted = {}
    for path in key_files:
        public = parse_public_pem(path.read_bytes())
        if public is None:
            raise Unusable(f"{path} holds no Ed25519 public key in PEM")
        trusted[key_id(public)] = public
    return trusted


def package_trust(keys_given: tuple[str, ...]) -> Trust:
    """Whose signatures on packages are believed: the keys in `[ROLE=]FILE`, else those of the installation.

    Raises:
        Unusable: A file cannot be read, or holds no public key.
    """
    from schemas.files.manifest import ROLE_PATTERN
    from settlement.signing.signature import key_id, read_public_key
    from settlement.signing.trust import Trust

    if not keys_given:
        return keyring_of(this_home()).package_trust()
    keys: dict[str, PublicKey] = {}
    roles: dict[str, str] = {}
    for given in keys_given:
        role, equals, name = given.partition("=")
        if not equals or Path(given).is_file() or not re.match(ROLE_PATTERN, role):
            role, name = "", given
        try:
            public = read_public_key(Path(name).read_bytes())
        except OSError as error:
            raise Unusable(f"{name} cannot be read: {error.strerror}") from error
        if public is None:
            raise Unusable(f"{name} holds no public key of Ed25519 or SM2 in PEM")
        named = key_id(public)
        keys[named] = public
        if role and roles.setdefault(named, role) != role:
            raise Unusable(
                f"{name} holds the key {named}, which is given as {roles[named]}'s and as {role}'s: "
                "one key cannot sign for two roles"
            )
    return Trust(keys=keys, roles=roles)


def read_tsa_roots(paths: tuple[Path, ...]) -> list[Certificate]:
    """Read the certificates of trusted time-stamping authorities.

    Raises:
        Unusable: A file holds none.
    """
    from settlement.signing.timestamp import read_roots

    roots: list[Certificate] = []
    for path in paths:
        try:
            roots += read_roots(path.read_bytes())
        except ValueError as error:
            raise Unusable(f"{path} holds no certificate in PEM") from error
    return roots


def verify_all(folders: list[Path], trust: Trust) -> bool:
    """Verify packages, and print the report of each that is not good."""
    from settlement.service.verification import Wanted, verify_package

    good = True
    for folder in folders:
        report = verify_package(folder, trusted=trust.keys, wanted=Wanted(roles=trust.roles))
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
            f"{MARKS[each.status.value]} {each.name:<28} {escape(each.english)} {escape(each.chinese)}",
            soft_wrap=True,
        )
    console.print(
        f"[green]{path} is good. 验证通过。[/]"
        if report.ok
        else f"[red]{path} is NOT good: {', '.join(report.failed)}. 验证未通过。[/]",
        soft_wrap=True,
    )
