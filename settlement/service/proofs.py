"""Proofs that one order stands in a signed package: made from the books, checked with a key alone.

Source: settlement/RULES.md, rules K23 to K26.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.files.instant import microseconds
from schemas.files.manifest import read_manifest
from schemas.files.proof import (
    PROOF_FORMAT,
    Proof,
    ProofSignature,
    base64_text,
    write_proof,
)
from schemas.values import ids
from schemas.values.reason import Reason, Refusal
from settlement.core.event import Kind, unpack_event
from settlement.core.line import LineReader, event_bytes_of
from settlement.core.proving import event_in_words
from settlement.service.batches import BooksDiffer
from settlement.signing.merkle import MerkleTree
from settlement.store import batches as store

if TYPE_CHECKING:
    import uuid

    import asyncpg

    from settlement.signing.keyring import Keyring


async def prove_order(
    pool: asyncpg.Pool, *, order_id: uuid.UUID, keyring: Keyring
) -> bytes | Refusal:
    """Write the proof that an order was cleared in a signed package, or that a reversal or an adjustment corrected it.

    All lines of its cycle are hashed on the way, as a stream.

    Args:
        pool: The books.
        order_id: The order, the reversal or the adjustment.
        keyring: Keys that signed the package; they sign the same bytes again.

    Returns:
        The proof file; ORDER_NOT_FOUND for an order that is not known or has not cleared,
        CYCLE_NOT_CLOSED for one whose cycle has no package yet.

    Raises:
        BooksDiffer: The lines do not lead to the root that was signed.
        KeyringUnusable: A key that signed is not there any more.
    """
    try:
        part, order_seq = ids.order_place(order_id)
    except ValueError:
        return Refusal(Reason.ORDER_NOT_FOUND, "this is not an order's id")
    async with (
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
    ):
        found = await _find(conn, order_id, part, order_seq)
        if isinstance(found, Refusal):
            return found
        seq, cycle_no = found
        batch = await store.fetch_batch(conn, cycle_no=cycle_no)
        if batch is None:
            return Refusal(Reason.CYCLE_NOT_CLOSED, f"cycle {cycle_no} has no package yet")
        manifest = read_manifest(batch["manifest"])
        codes = await store.fetch_codes(conn)
        index, tree = await _tree_around(conn, cycle_no, part, seq)
        event_bytes = await _event_bytes(conn, part, seq)
    event = unpack_event(event_bytes)
    path = tree.audit_path()
    if tree.root().hex() != manifest.merkle.root:
        raise BooksDiffer(f"the lines of cycle {cycle_no} do not lead to the root that was signed")
    proof = Proof(
        format=PROOF_FORMAT,
        order=str(order_id),
        event=event_in_words(event, codes),
        event_bytes=base64_text(event_bytes),
        leaf_index=index,
        tree_size=tree.count,
        audit_path=[digest.hex() for digest in path],
        root=manifest.merkle.root,
        manifest=base64_text(batch["manifest"]),
        signatures=[
            ProofSignature(
                key_id=name,
                signature=base64_text(keyring.signing_key(name).sign(batch["manifest"])),
            )
            for name in manifest.signing_keys
        ],
    )
    return write_proof(proof)


async def _find(
    conn: store.Connection, wanted: uuid.UUID, part: int, order_seq: int
) -> tuple[int, int] | Refusal:
    """Sequence number and cycle of the order's clearing, or of a reversal or an adjustment."""
    reversal = await store.fetch_reversal(conn, part=part, seq=order_seq)
    if reversal and ids.order_id(microseconds(reversal["at"]), part, order_seq) == wanted:
        return order_seq, reversal["cycle_no"]
    row = await store.fetch_order_events(conn, part=part, order_seq=order_seq)
    if row is None or ids.order_id(microseconds(row["first_at"]), part, order_seq) != wanted:
        return Refusal(Reason.ORDER_NOT_FOUND, "no such order is in the journal")
    if row["kind"] != Kind.CLEARED:
        return Refusal(Reason.ORDER_NOT_FOUND, "the order has not cleared, so no package holds it")
    return row["seq"], row["cycle_no"]


async def _tree_around(
    conn: store.Connection, cycle_no: int, part: int, seq: int
) -> tuple[int, MerkleTree]:
    """Build the cycle's tree; the index of the leaf that is event `seq` of `part`, and the tree."""
    ranges = await store.fetch_cycle_parts(conn, cycle_no=cycle_no)
    beside = {
        row["part"]: await store.fetch_cycles_beside(conn, part=row["part"], cycle_no=cycle_no)
        for row in ranges
    }
    index = 0
    for row in ranges:
        if row["part"] <= part:
            last_seq = seq - 1 if row["part"] == part else row["last_seq"]
            index += await store.count_lines(
                conn,
                part=row["part"],
                first_seq=row["first_seq"],
                last_seq=last_seq,
                beside=beside[row["part"]],
            )
    tree = MerkleTree(watch=index)

    def take(piece: bytes) -> None:
        tree.extend([line[0] for line in reader.feed(piece)])

    for row in ranges:
        reader = LineReader()
        await store.copy_lines(
            conn,
            part=row["part"],
            first_seq=row["first_seq"],
            last_seq=row["last_seq"],
            sink=take,
            beside=beside[row["part"]],
        )
        reader.close()
    return index, tree


async def _event_bytes(conn: store.Connection, part: int, seq: int) -> bytes:
    """Canonical bytes of one event, out of the same stream that made the leaf."""
    pieces: list[bytes] = []
    await store.copy_lines(conn, part=part, first_seq=seq, last_seq=seq, sink=pieces.append)
    data = event_bytes_of(b"".join(pieces))
    if data is None:
        raise BooksDiffer(f"event {seq} of part {part} is not a line any more")
    return data
