"""Confirmations of batches: a merchant's signed document made offline, and where batches stand, for the operator."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exchange.cli.context import Unusable, database, pool_of, run, this_home
from exchange.cli.output import out, print_json
from exchange.cli.package import package_trust

if TYPE_CHECKING:
    from settlement.service.confirmations import BatchFacts, Entry

STATES = {
    "waiting": "waiting 待确认",
    "confirmed": "confirmed 已确认",
    "objected": "objected 有异议",
    "silent": "silent 逾期未答",
}


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--merchant", required=True, metavar="CODE", help="Who confirms.")
@click.option(
    "--identity",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="TONGDUI_IDENTITY",
    required=True,
    help="The merchant's private key (PEM), registered at the clearing house.",
)
@click.option("--object", "reason", metavar="REASON", help="Object, and say why; else it confirms.")
@click.option("--order", "orders", multiple=True, type=click.UUID, help="An order objected to.")
@click.option(
    "--trust",
    "keys_given",
    metavar="[ROLE=]FILE",
    multiple=True,
    help="Trusted public key (PEM) of the operator. Default: the keys of this installation.",
)
@click.option(
    "--out", "target", type=click.Path(dir_okay=False, path_type=Path), help="File to write."
)
def confirm(
    folder: Path,
    merchant: str,
    identity: Path,
    reason: str | None,
    orders: tuple[Any, ...],
    keys_given: tuple[str, ...],
    target: Path | None,
) -> None:
    """Sign a confirmation of the package in FOLDER, or an objection to it; `tongdui call` can send what it writes.

    The manifest and its signatures are checked first. Status 1: they are not good, and nothing was signed.
    """
    import hashlib

    import msgspec

    from exchange.client import load_identity
    from schemas.files.confirmation import (
        CONFIRMATION_FORMAT,
        Confirmation,
        read_confirmation,
        write_confirmation,
    )
    from schemas.files.instant import instant_text, microseconds
    from schemas.values.faults import SchemaError
    from schemas.wire.batches import ConfirmationRequest
    from settlement.core.report import CheckFailed
    from settlement.service.verification import check_manifest
    from settlement.signing.confirmation import sign_confirmation

    trust = package_trust(keys_given)
    try:
        data, manifest = check_manifest(folder, trusted=trust.keys, roles=trust.roles)
    except CheckFailed as error:
        raise click.ClickException(str(error)) from error
    who = load_identity(identity)
    document = Confirmation(
        format=CONFIRMATION_FORMAT,
        cycle_id=manifest.cycle.id,
        sequence=manifest.sequence,
        manifest_sha256=hashlib.sha256(data).hexdigest(),
        merchant=merchant,
        verdict="confirmed" if reason is None else "objected",
        at=instant_text(microseconds(datetime.now(UTC))),
        reason=reason or "",
        orders=[str(each) for each in orders],
    )
    said = write_confirmation(document)
    try:
        read_confirmation(said)
    except SchemaError as error:
        raise Unusable(f"no such confirmation can be made: {error}") from error
    path = target or Path(f"{manifest.cycle.id}-{merchant}-{document.verdict}.json")
    token = sign_confirmation(who.private, who.key_id, said)
    with path.open("xb") as opened:
        opened.write(msgspec.json.encode(ConfirmationRequest(confirmation=token)) + b"\n")
    print(path)


@click.command()
@click.argument("cycle_id", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def confirmations(context: click.Context, cycle_id: str | None, *, as_json: bool) -> None:
    """Show where each batch stands with its merchants, or all that was said about CYCLE_ID, with the documents.

    Silence is no consent. Status 1 if a merchant objected, or was silent.
    """
    from settlement.service.confirmations import list_batches, list_entries

    async def work(dsn: str) -> tuple[list[BatchFacts], list[Entry]]:
        async with pool_of(dsn) as pool:
            batches = await list_batches(
                pool, now=datetime.now(UTC), cycle_id=cycle_id, limit=_SHOWN_MAX
            )
            if cycle_id is None or not batches:
                return batches, []
            [batch] = batches
            return batches, await list_entries(pool, cycle_no=batch.cycle_no, limit=_ENTRIES_MAX)

    with database(this_home()) as dsn:
        batches, entries = run(work(dsn))
    if cycle_id is not None and not batches:
        raise Unusable(f"cycle {cycle_id} has no package")
    if as_json:
        print_json(
            {
                "batches": [_batch_json(each) for each in batches],
                "entries": [_entry_json(each) for each in entries],
            }
        )
    else:
        _show(batches, entries)
    states = {one.state.value for batch in batches for one in batch.standings.values()}
    context.exit(1 if states & {"objected", "silent"} else 0)


_SHOWN_MAX = 1_000
_ENTRIES_MAX = 10_000


def _batch_json(batch: BatchFacts) -> dict[str, Any]:
    return {
        "cycle": batch.cycle_id,
        "batch": batch.batch_id,
        "manifest_sha256": batch.manifest_sha256,
        "due_at": batch.due_at.isoformat(),
        "merchants": {
            code: {
                "state": one.state.value,
                "late": one.late,
                "since": one.since.isoformat() if one.since else None,
            }
            for code, one in batch.standings.items()
        },
    }


def _entry_json(entry: Entry) -> dict[str, Any]:
    return {
        "number": entry.number,
        "merchant": entry.merchant,
        "verdict": entry.verdict,
        "reason": entry.reason,
        "orders": entry.orders,
        "received_at": entry.received_at.isoformat(),
        "late": entry.late,
        "confirmation": entry.document,
        "public_key": entry.public_key.hex(),
    }


def _show(batches: list[BatchFacts], entries: list[Entry]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for title in (
        "cycle 周期",
        "batch 批次",
        "due 截止",
        "merchant 商户",
        "state 状态",
        "since 时间",
    ):
        table.add_column(title)
    for batch in batches:
        for code, one in batch.standings.items():
            table.add_row(
                batch.cycle_id,
                batch.batch_id,
                f"{batch.due_at:%Y-%m-%d %H:%M}",
                escape(code),
                STATES[one.state.value] + (" late 逾期" if one.late and one.since else ""),
                f"{one.since:%Y-%m-%d %H:%M}" if one.since else "",
            )
    out().print(table)
    for entry in entries:
        late = ", late 逾期" if entry.late else ""
        print(
            f"{entry.number} {entry.received_at:%Y-%m-%d %H:%M} {entry.merchant}: {entry.verdict}{late} {entry.reason}"
        )
