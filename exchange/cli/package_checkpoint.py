"""`tongdui package checkpoint` and `tongdui package witness`: the chain of packages as a log that others watch."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.context import Unusable, database, keyring_of, pool_of, run, this_home
from exchange.cli.package_signing import open_signer

if TYPE_CHECKING:
    from settlement.signing.note import NoteKey

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUT = click.option(
    "--out",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file. Default: print.",
)


@click.command()
@click.option("--origin", help="Name of the log. Default: tongdui/ and the id of the first key.")
@click.option("--of", "standing", type=FILE, help="Take this checkpoint instead of signing one.")
@click.option(
    "--since",
    type=click.IntRange(min=0),
    metavar="SIZE",
    help="Write the request to a witness that saw so many packages last (C2SP tlog-witness).",
)
@click.option(
    "--for",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="PACKAGE",
    help="Write the proof that this package is in the log (C2SP tlog-proof).",
)
@click.option("--show-keys", is_flag=True, help="Print the log's keys, for witnesses, and no more.")
@OUT
def checkpoint(
    *,
    origin: str | None,
    standing: Path | None,
    since: int | None,
    folder: Path | None,
    target: Path | None,
    show_keys: bool,
) -> None:
    """Sign where the chain of packages stands (C2SP tlog-checkpoint), or write what others need of it."""
    from schemas.files.manifest import read_manifest
    from settlement.service.checkpoints import (
        ask_witness,
        fetch_log,
        make_checkpoint,
        prove_inclusion,
    )
    from settlement.service.package_files import MANIFEST, read_whole
    from settlement.signing.note import NoteKind, note_key

    if since is not None and folder is not None:
        raise click.UsageError("--since and --for write different files")
    home = this_home()
    keyring = keyring_of(home)
    signers = keyring.signers(datetime.now(UTC))
    name = origin or f"tongdui/{keyring.keys[0].key_id}"
    try:
        keys = [note_key(signer, name=name, kind=NoteKind.ED25519) for signer in signers]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--origin") from error
    if show_keys:
        for key in keys:
            print(key)
        return

    async def read(dsn: str) -> list[bytes]:
        async with pool_of(dsn) as pool:
            return await fetch_log(pool)

    with database(home) as dsn:
        digests = run(read(dsn))
    note = (
        make_checkpoint(digests, signers, origin=name)
        if standing is None
        else standing.read_bytes()
    )
    if since is not None:
        if since > len(digests):
            raise Unusable(f"there are {len(digests)} packages; no witness can have seen {since}")
        note = ask_witness(digests, note, old_size=since)
    elif folder is not None:
        sequence = read_manifest(read_whole(folder / MANIFEST)).sequence
        note = prove_inclusion(digests, note, sequence=sequence)
    _write(note, target)


@click.command()
@click.argument("request", type=FILE, required=False)
@click.option("--key", required=True, metavar="FILE|pkcs11:…", help="The witness's Ed25519 key.")
@click.option("--name", required=True, help="The witness's name, such as witness.example/w1.")
@click.option(
    "--log",
    "logs",
    multiple=True,
    metavar="VKEY",
    help="A log that it follows, as `package checkpoint --show-keys` prints it; may be given several times.",
)
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What it has seen; made by the first cosignature, and never to be restored from a backup.",
)
@click.option(
    "--show-key", is_flag=True, help="Print the witness's key, for verifiers, and no more."
)
@OUT
def witness(
    *,
    request: Path | None,
    key: str,
    name: str,
    logs: tuple[str, ...],
    state: Path | None,
    target: Path | None,
    show_key: bool,
) -> None:
    """Cosign the checkpoint in REQUEST, if its log only grew since this witness saw it last (C2SP tlog-cosignature).

    It needs neither an installation nor a database. Status 1: it does not cosign, and says why.
    """
    from settlement.service.witness import Witness
    from settlement.signing.note import NoteKind, note_key

    signer = open_signer(key)
    try:
        own = note_key(signer, name=name, kind=NoteKind.COSIGNATURE)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--key and --name") from error
    if show_key:
        print(own)
        return
    if request is None or state is None or not logs:
        raise click.UsageError("a witness needs REQUEST, --log and --state")
    who = Witness(
        signer=signer, name=name, logs=[read_note_key(text) for text in logs], state=state
    )
    at_seconds = int(datetime.now(UTC).timestamp())
    _write(who.add_checkpoint(request.read_bytes(), at_seconds=at_seconds), target)


def read_note_key(text: str) -> NoteKey:
    """Read a key of notes as it is printed.

    Raises:
        Unusable: It is malformed.
    """
    from schemas.values.faults import SchemaError
    from settlement.signing.note import NoteKey

    try:
        return NoteKey.parse(text.strip())
    except SchemaError as error:
        raise Unusable(f"not a key of a log or witness: {text}: {error.detail}") from error


def _write(data: bytes, target: Path | None) -> None:
    """Write a file, or print it."""
    if target is None:
        sys.stdout.write(data.decode())
    else:
        target.write_bytes(data)
        print(target)
