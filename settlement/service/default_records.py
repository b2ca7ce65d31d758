"""Signed records of a default: one for each step, made from the journal alone, each naming the one before.

A record is canonical JSON with a raw Ed25519 signature beside it, so anybody who has the operator's public key can
check it with OpenSSL. Records follow from events: one that a fault kept from being written is written later, the same.

Source: settlement/RULES.md, rule U9; schemas/FORMAT.md, "Records of a default".
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, Final

import msgspec
import rfc8785

from schemas.files.instant import instant_text
from schemas.values.ids import HOUSE
from settlement.core.command import Pot
from settlement.core.event import Kind
from settlement.core.waterfall import StepKind
from settlement.service.clearing import PART
from settlement.service.cycles import utc
from settlement.service.package_folder import sync_folder
from settlement.signing.signature import is_signed
from settlement.store import funding as store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from asyncpg import Pool, Record

    from settlement.signing.keyring import Keyring
    from settlement.signing.signature import PublicKey

FORMAT: Final = "tongdui-default-step-1"
_NONE: Final = "0" * 64


async def keep_records(
    pool: Pool,
    cycle_no: int,
    cycle_id: str,
    *,
    debtor: int,
    codes: Mapping[int, str],
    keyring: Keyring,
    out: Path,
) -> list[Path]:
    """Write and sign the records of all steps that a cycle's default has taken; those that stand are left alone.

    Returns:
        Where they are, in their order.

    Raises:
        KeyringUnusable: No key signs.
        ValueError: A record that stands says something else than the journal.
    """
    steps = _steps(await store.fetch_steps(pool, part=PART, cycle_no=cycle_no), debtor)
    folder = out / cycle_id
    previous = _NONE
    written = []
    for number, (kind, events) in enumerate(steps, start=1):
        at_us = events[-1]["at_us"]
        data = rfc8785.dumps(
            {
                "format": FORMAT,
                "cycle": cycle_id,
                "step": number,
                "kind": kind.value,
                "debtor": codes.get(debtor, str(debtor)),
                "at": instant_text(at_us),
                "events": [_event(each, codes) for each in events],
                "previous_sha256": previous,
            }
        )
        path = folder / f"{number:03d}.json"
        if path.exists() and path.read_bytes() != data:
            raise ValueError(f"{path} says something else than the journal")
        folder.mkdir(parents=True, exist_ok=True)
        for key in keyring.signers(utc(at_us)) if not _is_signed(path, data, keyring) else ():
            _write(folder / f"{number:03d}.{key.key_id}.sig", key.sign(data))
        # The record comes last: where it stands, so does its signature.
        if not path.exists():
            _write(path, data)
        previous = hashlib.sha256(data).hexdigest()
        written.append(path)
    return written


def verify_records(folder: Path, trusted: Mapping[str, PublicKey]) -> int:
    """Check the chain of a folder of records, without a database.

    Returns:
        How many records there are.

    Raises:
        ValueError: One is missing, was changed, or nobody who is trusted signed it; the message names it.
    """
    previous = _NONE
    paths = sorted(folder.glob("[0-9][0-9][0-9].json"))
    for number, path in enumerate(paths, start=1):
        data = path.read_bytes()
        try:
            told = msgspec.json.decode(data, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise ValueError(f"{path.name}: not JSON") from error
        if told.get("format") != FORMAT or rfc8785.dumps(told) != data:
            raise ValueError(f"{path.name}: not a record in canonical form")
        if (told["step"], told["previous_sha256"], path.name) != (
            number,
            previous,
            f"{number:03d}.json",
        ):
            raise ValueError(f"{path.name}: does not follow the record before it")
        signatures = {
            each.name.split(".")[1]: each.read_bytes() for each in folder.glob(f"{path.stem}.*.sig")
        }
        if not any(
            is_signed(trusted[name], data, signature)
            for name, signature in signatures.items()
            if name in trusted
        ):
            raise ValueError(f"{path.name}: no trusted key signed it")
        previous = hashlib.sha256(data).hexdigest()
    if not paths:
        raise ValueError(f"{folder}: no records")
    return len(paths)


def _is_signed(path: Path, data: bytes, keyring: Keyring) -> bool:
    """Whether a good signature stands: its key may be gone, so it is kept."""
    trusted = keyring.trusted()
    return any(
        is_signed(trusted[name], data, each.read_bytes())
        for each in path.parent.glob(f"{path.stem}.*.sig")
        if (name := each.name.split(".")[1]) in trusted
    )


def _steps(events: Sequence[Record], debtor: int) -> list[tuple[StepKind, list[Record]]]:
    """Group events into steps; the settlement after an unwind belongs to it."""
    steps: list[tuple[StepKind, list[Record]]] = []
    for event in events:
        kind = _kind(event, debtor)
        unwound = steps and steps[-1][0] is StepKind.UNWIND and kind is StepKind.SETTLE
        if steps and (steps[-1][0] is kind or unwound):
            steps[-1][1].append(event)
        else:
            steps.append((kind, [event]))
    return steps


def _kind(event: Record, debtor: int) -> StepKind:
    if event["kind"] == Kind.CYCLE_SETTLED:
        return StepKind.SETTLE
    if event["kind"] == Kind.DISCHARGED:
        return StepKind.LIQUIDITY
    if event["units"] == Pot.COLLATERAL:
        return StepKind.COLLATERAL
    if event["units"] == Pot.FUNDS:
        return StepKind.UNWIND
    shares = {debtor: StepKind.OWN_SHARE, HOUSE: StepKind.HOUSE_SHARE}
    return shares.get(event["issuer"], StepKind.OTHERS_SHARE)


def _event(row: Record, codes: Mapping[int, str]) -> dict[str, Any]:
    """One event in words; amounts are digits of CU."""
    told: dict[str, Any] = {"seq": row["seq"], "kind": Kind(row["kind"]).name.lower()}
    if row["kind"] == Kind.TRANSFERRED:
        told |= {
            "from": codes.get(row["issuer"], str(row["issuer"])),
            "pot": Pot(row["units"]).name.lower(),
            "to": codes.get(row["acceptor"], str(row["acceptor"])),
            "cu": str(row["value_cu"]),
        }
    elif row["kind"] == Kind.DISCHARGED:
        legs = (row["debit_cu"], row["value_cu"], row["fee_cu"])
        told |= {
            "merchants": [codes.get(row[name], str(row[name])) for name in ("issuer", "acceptor")],
            "cu": [*map(str, legs), str(-sum(legs))],
        }
    else:
        told["cu"] = str(row["value_cu"])
    return told


def _write(path: Path, data: bytes) -> None:
    """Put a whole file in its place, durably."""
    work = path.with_name(f".{path.name}.work")
    with work.open("wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
    work.rename(path)
    sync_folder(path.parent)
