"""`tongdui keys`: the operator's keys that sign settlement packages, and the master key under which all else lies."""

from __future__ import annotations

import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.context import (
    Home,
    Unusable,
    database,
    expected_fault,
    has_ledger,
    keyring_of,
    pool_of,
    run,
    this_home,
)
from exchange.cli.output import out, print_json
from exchange.cli.who import accountable, acting, acting_on_files

if TYPE_CHECKING:
    from settlement.core.trail import By
    from settlement.signing.keyring import KeyEntry, Keyring

STATES = {
    "active": "active 使用中",
    "retiring": "retiring 即将停用",
    "retired": "retired 已停用",
    "revoked": "revoked 已吊销",
}
HELD = {"file": "file 文件", "elsewhere": "elsewhere 他处", "pkcs11": "PKCS #11 硬件"}


@click.group()
def keys() -> None:
    """List, generate, add, rotate, revoke and export the signing keys, and say how many must sign.

    They lie under TONGDUI_HOME in `keys/`, readable by their owner alone. A retired key signs nothing new and
    stays trusted for what it signed; a revoked one is never trusted again. `rewrap` changes the master key.
    """


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(*, as_json: bool) -> None:
    """Show every key, oldest first."""
    from settlement.signing.signature import algorithm_of

    keyring = keyring_of(this_home())
    now = datetime.now(UTC)
    if as_json:
        print_json(
            [
                {
                    "key_id": entry.key_id,
                    "role": entry.role,
                    "algorithm": algorithm_of(entry.key_id),
                    "held": entry.held,
                    "state": state_of(entry, now),
                    "made_at": entry.made_at.isoformat(),
                    "retires_at": entry.retires_at.isoformat() if entry.retires_at else None,
                    "revoked_at": entry.revoked_at.isoformat() if entry.revoked_at else None,
                    "public_hex": entry.public_hex,
                }
                for entry in keyring.keys
            ]
        )
        return
    from rich.table import Table

    table = Table(
        *(
            "key 密钥",
            "role 角色",
            "held 保管",
            "state 状态",
            "made 生成",
            "retires 停用",
            "revoked 吊销",
        )
    )
    for entry in keyring.keys:
        table.add_row(
            entry.key_id,
            entry.role,
            HELD.get(entry.held.partition(":")[0], entry.held),
            STATES[state_of(entry, now)],
            *(
                at.strftime("%Y-%m-%d %H:%M") if at else "–"
                for at in (entry.made_at, entry.retires_at, entry.revoked_at)
            ),
        )
    out().print(table)
    print(f"in {keyring.folder}; {keyring.threshold} must sign 需 {keyring.threshold} 方签名")


@keys.command()
@accountable
def generate() -> None:
    """Make the first key of this installation."""
    from settlement.signing.keyring import Keyring

    home = this_home()
    by = acting_on_files(home)
    home.make()
    keyring = Keyring.create(home.keys, at=datetime.now(UTC))
    note(home, keyring, by)
    print(f"made {keyring.keys[-1].key_id} in {keyring.folder}")


OVERLAP = click.option(
    "--overlap-days",
    type=click.IntRange(0, 3650),
    default=30,
    show_default=True,
    help="For how long the older keys sign as well.",
)
ALGORITHM = click.option(
    "--algorithm",
    type=click.Choice(["ed25519", "sm2"]),
    default="ed25519",
    show_default=True,
    help="SM2 signs with SM3.",
)


@keys.command()
@OVERLAP
@ALGORITHM
@click.option(
    "--pkcs11",
    "module",
    metavar="pkcs11:…",
    help="Take the Ed25519 key at this address instead; the PIN is in TONGDUI_PIN.",
)
@accountable
def rotate(*, overlap_days: int, algorithm: str, module: str | None) -> None:
    """Take a new key; older ones that are kept alike sign beside it for a while, then retire.

    Keys of Ed25519, of SM2 and behind PKCS #11 stand side by side: the first of its kind retires none.
    """
    if module is not None and algorithm == "sm2":
        raise click.UsageError("SM2 keys cannot lie behind PKCS #11")
    now = datetime.now(UTC)
    home = this_home()
    by = acting_on_files(home)
    keyring = keyring_of(home).rotate(
        at=now, overlap=timedelta(days=overlap_days), of_sm2=algorithm == "sm2", module=module
    )
    note(home, keyring, by)
    print(f"{'made' if module is None else 'took'} {keyring.keys[-1].key_id}")
    for entry in keyring.keys[:-1]:
        if entry.retires_at is not None and entry.signs_at(now):
            print(f"{entry.key_id} signs until {entry.retires_at:%Y-%m-%d %H:%M} UTC")
    print("Give partners the new public key before then: tongdui keys export")


@keys.command()
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@ALGORITHM
def make(target: Path, *, algorithm: str) -> None:
    """Make a further signer's key in the file TARGET, and its public part in TARGET.pub; nobody else needs TARGET."""
    from settlement.signing.signature import public_pem
    from settlement.signing.signer import make_key, write_private_file

    public = target.with_name(f"{target.name}.pub")
    for path in (target, public):
        if path.exists():
            raise Unusable(f"{path} is there already")
    pem, key = make_key(of_sm2=algorithm == "sm2")
    write_private_file(target, pem)
    public.write_bytes(public_pem(key.public))
    print(f"made {key.key_id}; whoever runs the clearing house needs {public}")


@keys.command()
@click.argument("public_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--role", required=True, help="In which role its signer signs, such as treasurer.")
@click.option("--replaces", metavar="KEY_ID", help="Key of the same role that retires.")
@OVERLAP
@accountable
def add(public_file: Path, *, role: str, replaces: str | None, overlap_days: int) -> None:
    """Take the public key of a signer who keeps the private one: packages say from now on that it may sign them."""
    from schemas.files.manifest import ROLE_PATTERN
    from settlement.signing.signature import read_public_key

    if not re.match(ROLE_PATTERN, role):
        raise click.BadParameter("up to 32 of a-z, 0-9 and -, a letter first", param_hint="--role")
    public = read_public_key(public_file.read_bytes())
    if public is None:
        raise Unusable(f"{public_file} holds no public key of Ed25519 or SM2 in PEM")
    home = this_home()
    by = acting_on_files(home)
    keyring = keyring_of(home).add(
        public,
        role=role,
        at=datetime.now(UTC),
        replaces=replaces,
        overlap=timedelta(days=overlap_days),
    )
    note(home, keyring, by)
    print(f"{keyring.keys[-1].key_id} signs as {role}")


@keys.command()
@click.argument("key_id")
@accountable
def retire(key_id: str) -> None:
    """Let KEY_ID sign nothing new; what it signed stays trusted."""
    home = this_home()
    by = acting_on_files(home)
    keyring = keyring_of(home).retire(key_id, at=datetime.now(UTC))
    note(home, keyring, by)
    print(f"{key_id} has retired")


@keys.command()
@click.argument("roles", type=click.IntRange(1, 16))
@accountable
def threshold(roles: int) -> None:
    """Say how many ROLES must sign a package before money moves on it; packages state it from the next cut on."""
    home = this_home()
    by = acting_on_files(home)
    keyring = keyring_of(home).set_threshold(roles, at=datetime.now(UTC))
    note(home, keyring, by)
    print(f"{roles} must sign from the next package on")


@keys.command()
@click.argument("key_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@accountable
def revoke(key_id: str, *, yes: bool) -> None:
    """Withdraw trust in KEY_ID for good and destroy its private part, where that lies in our files."""
    home = this_home()
    by = acting_on_files(home)
    keyring = keyring_of(home)
    keyring.entry(key_id)
    if not yes:
        click.confirm(
            f"Packages that only {key_id} signed will no longer verify. Revoke it?",
            abort=True,
            err=True,
        )
    now = datetime.now(UTC)
    keyring = keyring.revoke(key_id, at=now)
    note(home, keyring, by)
    print(f"revoked {key_id}")
    if not any(entry.signs_at(now) for entry in keyring.keys):
        print("No key signs now: tongdui keys rotate makes a new one.", file=sys.stderr)


@keys.command()
@click.argument("key_id", required=False)
@click.option(
    "--out", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file."
)
def export(key_id: str | None, target: Path | None) -> None:
    """Write a public key as PEM, for partners and for openssl; KEY_ID defaults to the newest trusted one."""
    keyring = keyring_of(this_home())
    if key_id is None:
        trusted = list(keyring.trusted())
        if not trusted:
            raise click.UsageError("every key is revoked; name one")
        key_id = trusted[-1]
    pem = keyring.export(key_id)
    if target is None:
        sys.stdout.write(pem.decode("ascii"))
    else:
        target.write_bytes(pem)
        print(f"{key_id} written to {target}")


@keys.command()
@click.option(
    "--old",
    required=True,
    help="The master key of now: file:/path, env:NAME or pkcs11:…; the new one is in TONGDUI_MASTER_KEY.",
)
@accountable
def rewrap(old: str) -> None:
    """Wrap the house's keys under another master key; stop `serve` first, since it knows the old one."""
    from exchange.service.vaults import rewrap as rewrap_keys
    from exchange.vault.master import VARIABLE, open_master_key

    home = this_home()
    new_key = open_master_key(home.keys)
    old_key = open_master_key(home.keys, environment=os.environ | {VARIABLE: old})

    async def work(dsn: str) -> None:
        async with pool_of(dsn) as pool:
            by = await acting(pool)
            await rewrap_keys(pool, old_key, new_key, by=by, now=datetime.now(UTC))

    with database(home) as dsn:
        run(work(dsn))
    print_json({"master_id": new_key.master_id}, one_line=True)


def note(home: Home, keyring: Keyring, by: By) -> None:
    """Enter the change in the audit trail; where the ledger is away, its next start does."""
    if not has_ledger(home):
        return
    from exchange.service.key_notes import note_keys

    async def work(dsn: str) -> None:
        async with pool_of(dsn) as pool:
            await note_keys(pool, keyring, by=by, now=datetime.now(UTC))

    try:
        with database(home) as dsn:
            run(work(dsn))
    except Exception as error:
        told = expected_fault(error)
        sentence = error.format_message() if isinstance(error, click.ClickException) else None
        if told is None and sentence is None:
            raise
        print(
            f"not in the audit trail yet, `tongdui serve` will enter it: {sentence or (told and told[1])}",
            file=sys.stderr,
        )


def state_of(entry: KeyEntry, now: datetime) -> str:
    """Say where a key stands in its life: `active`, `retiring`, `retired` or `revoked`."""
    if entry.revoked_at is not None:
        return "revoked"
    if entry.retires_at is None:
        return "active"
    return "retiring" if now < entry.retires_at else "retired"
