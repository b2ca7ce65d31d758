"""The proof file: shows that one order stands in a signed package, with nothing else at hand.

It holds the event's canonical bytes, the path from them to the root of the signed tree, and the
manifest with its signatures. The readable figures beside the bytes are for people; a verifier reads
the bytes and holds the figures against them.

Source: schemas/FORMAT.md, "Proof file".
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from schemas.files.manifest import (  # noqa: TC001 - msgspec reads the annotations
    Count,
    Instant,
    KeyId,
    Party,
    Positive,
    Sha256,
    SignedCu,
)
from schemas.values.faults import SchemaError

PROOF_FORMAT: Final = "tongdui-proof/1"

Base64 = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9+/]*={0,2}\Z")]
OrderId = Annotated[
    str, Meta(pattern=r"\A[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
]


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the records: what is not named here may not stand there."""


class ProvenEvent(_Record, frozen=True, kw_only=True, omit_defaults=True):
    """The event in words; amounts in CU.

    Of a reversal, `reverses_seq` is the first event of its order. Of an adjustment of an order, `corrects_cycle_no`
    and `corrects_seq` are the line that it corrects.
    """

    seq: Positive
    kind: Literal["cleared", "adjusted", "reversed"]
    cycle_no: Positive
    cleared_at: Instant
    till_at: Instant
    issuer: Party
    acceptor: Party
    units: SignedCu
    debit_cu: SignedCu
    value_cu: SignedCu
    fee_cu: SignedCu
    reference: str
    reverses_seq: Positive | None = None
    corrects_cycle_no: Positive | None = None
    corrects_seq: Positive | None = None


class ProofSignature(_Record, frozen=True, kw_only=True):
    """One signer's raw Ed25519 signature over the manifest's bytes."""

    key_id: KeyId
    signature: Base64


class Proof(_Record, frozen=True, kw_only=True):
    """The whole proof file."""

    format: Literal["tongdui-proof/1"]
    order: OrderId
    event: ProvenEvent
    event_bytes: Base64
    leaf_index: Count
    tree_size: Positive
    audit_path: Annotated[list[Sha256], Meta(max_length=64)]
    root: Sha256
    manifest: Base64
    signatures: Annotated[list[ProofSignature], Meta(min_length=1, max_length=16)]


def base64_text(data: bytes) -> str:
    """Base64 (RFC 4648 §4) as a proof writes bytes."""
    return base64.b64encode(data).decode("ascii")


def base64_bytes(text: str, path: str) -> bytes:
    """Bytes of a base64 text in its one canonical spelling.

    Raises:
        SchemaError: It is another spelling, or none.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SchemaError(path, f"not base64: {error}") from error
    if base64_text(data) != text:
        raise SchemaError(path, "not the canonical base64 of its bytes")
    return data


def write_proof(proof: Proof) -> bytes:
    """Write a proof for people and programs: indented JSON."""
    return msgspec.json.format(msgspec.json.encode(proof), indent=2) + b"\n"


def read_proof(data: bytes) -> Proof:
    """Read a proof.

    Raises:
        SchemaError: A field is missing, unknown or malformed, or the file is not written as proofs
            are.
    """
    try:
        proof = msgspec.json.decode(data, type=Proof)
    except msgspec.ValidationError as error:
        detail, _, path = str(error).partition(" - at `")
        raise SchemaError(path.rstrip("`") or "$", detail) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError("$", f"not JSON: {error}") from error
    if write_proof(proof) != data:
        raise SchemaError("$", "not written as a proof is")
    return proof
