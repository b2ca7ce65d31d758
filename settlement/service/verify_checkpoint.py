"""The check `checkpoint`: a package's manifest is in the log that the house signed and witnesses cosigned.

Source: settlement/RULES.md, rule K42.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from schemas.files.checkpoint import PROOF_HEAD, read_checkpoint, read_proof_of_inclusion
from schemas.files.manifest import read_manifest
from schemas.files.note import NoteSignature, read_note
from schemas.values.faults import SchemaError
from settlement.core.report import CheckFailed
from settlement.service.package_files import MANIFEST, read_whole
from settlement.signing.merkle import MerkleTree, leaf_hash, root_from_path
from settlement.signing.note import NoteKey, NoteKind, signers_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from schemas.files.checkpoint import Checkpoint
    from schemas.files.manifest import Manifest
    from schemas.files.note import Note
    from settlement.signing.signature import PublicKey


def check_checkpoint(
    data: bytes,
    *,
    manifest: tuple[bytes, Manifest],
    folder: Path,
    operators: Mapping[str, PublicKey],
    witnesses: Sequence[NoteKey],
    needed: int,
) -> tuple[str, str]:
    """Check that a package is in a log that enough witnesses saw.

    Args:
        data: A proof of inclusion, which holds its checkpoint; or a checkpoint alone, and then every package up to it
            stands beside this one.
        manifest: The package's manifest: its bytes, and what they say.
        folder: The package's folder.
        operators: Keys that may speak for the operator.
        witnesses: Keys of trusted witnesses.
        needed: How many of them must have cosigned.

    Returns:
        A sentence in English and Chinese.

    Raises:
        CheckFailed: The log or a witness did not sign, too few did, or the package is not in the log.
        SchemaError: The file is malformed.
    """
    content, told = manifest
    digest = hashlib.sha256(content).digest()
    if data.startswith(PROOF_HEAD.encode()):
        proof = read_proof_of_inclusion(data)
        note, checkpoint = proof.note, proof.checkpoint
        root = root_from_path(
            leaf=leaf_hash(digest), index=proof.number, size=checkpoint.size, path=proof.path
        )
        included = root == checkpoint.root and proof.number == told.sequence - 1
    else:
        note = read_note(data)
        checkpoint = read_checkpoint(note)
        included = _stands_among(folder, checkpoint, told.sequence, digest)
    seen = _require_signatures(note, checkpoint.origin, operators, witnesses, needed)
    if not included:
        raise CheckFailed(
            f"The checkpoint of {checkpoint.origin} does not hold this package as number {told.sequence}.",
            f"{checkpoint.origin} 的检查点不含本包（第 {told.sequence} 号）。",
        )
    names = ", ".join(seen) or "no witness"
    place = f"{told.sequence}/{checkpoint.size}"
    return (
        f"It is number {place} in the log {checkpoint.origin}, seen by {names}.",
        f"它是日志 {checkpoint.origin} 的第 {place} 包，见证方：{'、'.join(seen) or '无'}。",
    )


def _require_signatures(
    note: Note,
    origin: str,
    operators: Mapping[str, PublicKey],
    witnesses: Sequence[NoteKey],
    needed: int,
) -> list[str]:
    """Names of the witnesses that cosigned a checkpoint which the operator signed."""
    keys = [
        NoteKey(name=origin, kind=NoteKind.ED25519, public=public)
        for public in operators.values()
        if isinstance(public, Ed25519PublicKey)
    ]
    signed = _signers(note, [*keys, *witnesses])
    if not any(key in keys for key in signed):
        raise CheckFailed(
            f"No trusted key of the operator's signed the checkpoint of {origin}.",
            f"{origin} 的检查点没有运营方受信任密钥的签名。",
        )
    # One key is one witness, whatever names it goes by: the name is not signed.
    seen = {key.public.public_bytes_raw(): key.name for key in signed if key in witnesses}
    if len(seen) < needed:
        raise CheckFailed(
            f"Only {len(seen)} of {needed} witnesses cosigned: {', '.join(seen.values()) or 'none'}.",
            f"需 {needed} 个见证方，仅有 {len(seen)} 个：{'、'.join(seen.values()) or '无'}。",
        )
    return sorted(seen.values())


def _signers(note: Note, keys: Sequence[NoteKey]) -> list[NoteKey]:
    found = signers_of(note, keys)
    if isinstance(found, NoteSignature):
        raise CheckFailed(
            f"A line of {found.name} is not its signature of this checkpoint.",
            f"{found.name} 的一行并非其对该检查点的签名。",
        )
    return found


def _stands_among(folder: Path, checkpoint: Checkpoint, sequence: int, digest: bytes) -> bool:
    """Build the log of the packages beside this one, and find it there."""
    digests: dict[int, bytes] = {}
    for each in folder.resolve().parent.iterdir():
        if each.name.startswith(".") or not (each / MANIFEST).is_file():
            continue
        data = read_whole(each / MANIFEST)
        try:
            digests[read_manifest(data).sequence] = hashlib.sha256(data).digest()
        except SchemaError:
            continue
    digests[sequence] = digest
    wanted = range(1, checkpoint.size + 1)
    missing = [number for number in wanted if number not in digests]
    if missing:
        raise CheckFailed(
            f"Package number {missing[0]} does not stand beside this one: give a proof instead of a checkpoint.",
            f"第 {missing[0]} 号结算包不在此处：请提供证明文件而非检查点。",
        )
    tree = MerkleTree()
    tree.extend(leaf_hash(digests[number]) for number in wanted)
    return sequence <= checkpoint.size and tree.root() == checkpoint.root
