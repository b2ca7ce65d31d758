"""What a statement for people says of its batch before any figure: cycle, batch, digest, and who signs it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from schemas.files.manifest import OPERATOR
from settlement.render.batch import BEIJING

if TYPE_CHECKING:
    from settlement.render.batch import Batch

_SCHEMES: Final = {"op": "Ed25519", "sm": "SM2/SM3"}
"""What a key signs with, by the beginning of its id (schemas/FORMAT.md, "Several signers")."""


def facts(batch: Batch) -> tuple[tuple[str, str | int], ...]:
    """Labels in English and Chinese with what stands beside them, in the order in which files write them."""
    manifest = batch.manifest
    return (
        ("Cycle 结算周期", manifest.cycle.id),
        ("Package 结算包序号", manifest.sequence),
        ("Opened 开始(北京)", beijing_text(manifest.cycle.opened_at)),
        ("Closed 截止(北京)", beijing_text(manifest.cycle.closed_at)),
        ("Batch 批次号", batch.batch_id),
        ("Manifest SHA-256 清单摘要", batch.manifest_sha256),
        ("Signatures needed 需签名方数", threshold(batch)),
        *((f"Key of 签名密钥: {role}", keys) for role, keys in _signers(batch).items()),
    )


def threshold(batch: Batch) -> int:
    """How many roles must have signed before anything is done on the batch's word (rule K35)."""
    approval = batch.manifest.approval
    return 1 if approval is None else approval.threshold


def beside_name(batch: Batch) -> str:
    """Why payments differ from the lines in fen (rules F11 and F12); empty in a multilateral cycle."""
    if batch.gross:
        return "paid with each line 逐笔已结清"
    return "by pairs 逐对结转" if batch.bilateral else ""


def beijing_text(instant: str) -> str:
    """Write an instant of the manifest as people in China read it, to the second."""
    return datetime.fromisoformat(instant).astimezone(BEIJING).strftime("%Y-%m-%d %H:%M:%S")


def _signers(batch: Batch) -> dict[str, str]:
    """The keys of each role: the operator's, which signed when it was cut, then those that the manifest names."""
    keys: dict[str, list[str]] = {OPERATOR: list(batch.manifest.signing_keys)}
    approval = batch.manifest.approval
    for one in () if approval is None else approval.signers:
        of_role = keys.setdefault(one.role, [])
        if one.key_id not in of_role:
            of_role.append(one.key_id)
    return {
        role: ", ".join(f"{name} ({_SCHEMES[name.partition('-')[0]]})" for name in names)
        for role, names in keys.items()
    }
