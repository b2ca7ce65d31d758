"""Checkpoints of the chain of packages: a log whose leaves are the digests of manifests, in the order of the packages.

The house signs where its log stands; witnesses cosign that it only ever grew. Whoever then finds its package in a
cosigned checkpoint knows that everybody else was shown the same chain.

Source: settlement/RULES.md, rules K39 to K42.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.files.checkpoint import (
    Checkpoint,
    read_checkpoint,
    write_proof_of_inclusion,
    write_request,
)
from schemas.files.note import Note, read_note, write_note
from settlement.signing.merkle import MerkleTree, consistency_path, leaf_hash
from settlement.signing.note import sign_text
from settlement.store import batches as store

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from settlement.signing.signer import Signer


class NotOurCheckpoint(Exception):  # noqa: N818 - what a file turned out to be, told to a person
    """A checkpoint says something else than the chain of packages does."""


async def fetch_log(pool: asyncpg.Pool) -> list[bytes]:
    """Digest of every manifest, in the order of the packages."""
    async with pool.acquire() as conn:
        return await store.fetch_manifest_digests(conn)


def make_checkpoint(digests: Sequence[bytes], signers: Sequence[Signer], *, origin: str) -> bytes:
    """Sign where the log stands.

    Args:
        digests: Digest of every manifest, in order.
        signers: The operator's Ed25519 keys that sign now: two while keys overlap.
        origin: Name of the log, and of its keys.

    Returns:
        The signed note.

    Raises:
        ValueError: The origin can name no log, or a key is of another kind.
        KeyUnusable: A key does not sign now.

    Source: settlement/RULES.md, rules K39 and K40.
    """
    tree = _tree(digests)
    text = Checkpoint(origin=origin, size=len(digests), root=tree.root()).text
    signatures = tuple(sign_text(text, signer, name=origin) for signer in signers)
    return write_note(Note(text=text, signatures=signatures))


def ask_witness(digests: Sequence[bytes], checkpoint: bytes, *, old_size: int) -> bytes:
    """Write what a witness needs that saw the log at an older size.

    Args:
        digests: Digest of every manifest, in order.
        checkpoint: A checkpoint of this log.
        old_size: The size that the witness cosigned last; 0 for its first time.

    Returns:
        The body of `add-checkpoint` (C2SP tlog-witness).

    Raises:
        SchemaError: The checkpoint is malformed.
        NotOurCheckpoint: It is of another chain, or younger than what is known here.
        ValueError: The log was never of the older size.
    """
    note, known = _of_this_log(digests, checkpoint)
    path = consistency_path([leaf_hash(each) for each in known], old_size)
    return write_request(old_size, tuple(path), note)


def prove_inclusion(digests: Sequence[bytes], checkpoint: bytes, *, sequence: int) -> bytes:
    """Prove that a package is in the log, for whoever has the package alone.

    Args:
        digests: Digest of every manifest, in order.
        checkpoint: A checkpoint of this log, cosigned or not.
        sequence: Number of the package, from 1.

    Returns:
        The proof (C2SP tlog-proof), which holds the checkpoint.

    Raises:
        SchemaError: The checkpoint is malformed.
        NotOurCheckpoint: It is of another chain, or older than the package.
    """
    note, known = _of_this_log(digests, checkpoint)
    if not 1 <= sequence <= len(known):
        raise NotOurCheckpoint(
            f"the checkpoint has {len(known)} packages, and not number {sequence}"
        )
    path = _tree(known, watch=sequence - 1).audit_path()
    return write_proof_of_inclusion(sequence - 1, tuple(path), note)


def _of_this_log(digests: Sequence[bytes], data: bytes) -> tuple[Note, Sequence[bytes]]:
    """A checkpoint, and the digests that it covers."""
    note = read_note(data)
    checkpoint = read_checkpoint(note)
    known = digests[: checkpoint.size]
    if len(known) != checkpoint.size or _tree(known).root() != checkpoint.root:
        raise NotOurCheckpoint(
            f"the checkpoint of {checkpoint.size} packages is not one of this chain of {len(digests)}"
        )
    return note, known


def _tree(digests: Sequence[bytes], *, watch: int | None = None) -> MerkleTree:
    tree = MerkleTree(watch=watch)
    tree.extend(map(leaf_hash, digests))
    return tree
