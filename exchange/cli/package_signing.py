"""`tongdui package sign`: a further signer's signature on a package, made offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.context import Unusable
from exchange.cli.output import print_json
from exchange.cli.package import package_trust, show_report

if TYPE_CHECKING:
    from settlement.signing.signer import Signer


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--key",
    metavar="FILE|pkcs11:…",
    help="Private key that signs: PEM, readable by its owner alone, or its address behind PKCS #11.",
)
@click.option(
    "--signature",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take this signature of the manifest instead, which was made elsewhere.",
)
@click.option(
    "--trust",
    "keys_given",
    metavar="[ROLE=]FILE",
    multiple=True,
    help="Trusted public key (PEM), the operator's at least. Default: the keys of this installation.",
)
@click.option("--dry-run", is_flag=True, help="Check everything; sign and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def sign(
    context: click.Context,
    folder: Path,
    key: str | None,
    signature: Path | None,
    keys_given: tuple[str, ...],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Verify the package in FOLDER and add a further signer's signature to it, without database or network.

    Nothing else in the package changes. Status 1: the package does not verify, and nothing was signed.
    """
    from settlement.service.package_files import SIGNATURE_BYTES_MAX, read_whole
    from settlement.service.signatures import Added, sign_package, take_signature

    if (key is None) == (signature is None):
        raise click.UsageError("give either --key or --signature")
    trust = package_trust(keys_given)
    if signature is None:
        added = sign_package(folder, open_signer(key or ""), trust, dry_run=dry_run)
    else:
        content = read_whole(signature, limit=SIGNATURE_BYTES_MAX)
        added = take_signature(folder, content, trust, dry_run=dry_run)
    if not isinstance(added, Added):
        show_report(added, str(folder), as_json=as_json)
        context.exit(added.exit_status)
    written = not (dry_run or added.again)
    if as_json:
        print_json(
            {
                "package": str(folder),
                "key_id": added.key_id,
                "role": added.role,
                "file": added.file_name,
                "written": written,
            }
        )
        return
    done = "signed already" if added.again else "would sign" if dry_run else "signed"
    print(f"{added.key_id} ({added.role}) {done}: {folder / added.file_name}")


def open_signer(where: str) -> Signer:
    """Open a private key, in a file or behind PKCS #11.

    Raises:
        KeyUnusable: It cannot be used.
    """
    from settlement.signing.module import SCHEME, ModuleKey
    from settlement.signing.signer import open_key_file

    if where.startswith(SCHEME):
        return ModuleKey.open(where)
    if not Path(where).is_file():
        raise Unusable(f"there is no file {where}")
    return open_key_file(Path(where))
