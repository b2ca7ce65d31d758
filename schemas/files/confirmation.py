"""A merchant's confirmation of a batch, or its objection: a small signed document.

A JWS in compact form (RFC 7515), signed with a key that the merchant registered for its requests; its payload is the
canonical JSON (RFC 8785) of a `Confirmation`. Whoever has the merchant's public key can check it without us.

Source: schemas/FORMAT.md, "Confirmations".
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
import rfc8785
from msgspec import Meta

from schemas.files.manifest import CycleId, Instant, Party, Positive, Sha256  # noqa: TC001 - msgspec reads the annotations
from schemas.values.faults import SchemaError

CONFIRMATION_FORMAT: Final = "tongdui-confirmation/1"
CONFIRMATION_TYPE: Final = "tongdui-confirmation"
"""What the JWS says that it is, so that it is taken for nothing else."""
OBJECTED_ORDERS_MAX: Final = 500

Verdict = Literal["confirmed", "objected"]
Reason = Annotated[str, Meta(max_length=500, pattern=r"\A[^\x00-\x08\x0b-\x1f\x7f]*\Z")]
OrderId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]


class Confirmation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a merchant says about a batch.

    Attributes:
        format: Of this document.
        cycle_id: Id of the cycle.
        sequence: Number of its package.
        manifest_sha256: Digest of the package's manifest: exactly this batch is meant.
        merchant: Code of the merchant.
        verdict: Whether it confirms or objects.
        reason: Why it objects; may be empty in a confirmation.
        orders: The orders that it objects to; empty where it objects to the whole.
        at: When the merchant says it.
    """

    format: Literal["tongdui-confirmation/1"]
    cycle_id: CycleId
    sequence: Positive
    manifest_sha256: Sha256
    merchant: Party
    verdict: Verdict
    at: Instant
    reason: Reason = ""
    orders: Annotated[list[OrderId], Meta(max_length=OBJECTED_ORDERS_MAX)] = []


def write_confirmation(confirmation: Confirmation) -> bytes:
    """Canonical bytes (RFC 8785) of a document: these are signed."""
    return rfc8785.dumps(msgspec.to_builtins(confirmation))


def read_confirmation(data: bytes) -> Confirmation:
    """Read a document.

    Raises:
        SchemaError: A field is missing, unknown or malformed, an objection has no reason, a confirmation names orders,
            or the bytes are not the canonical ones.
    """
    try:
        found = msgspec.json.decode(data, type=Confirmation)
    except msgspec.ValidationError as error:
        detail, _, path = str(error).partition(" - at `")
        raise SchemaError(path.rstrip("`") or "$", detail) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError("$", f"not JSON: {error}") from error
    if found.verdict == "objected" and not found.reason.strip():
        raise SchemaError("$.reason", "an objection says why")
    if found.verdict == "confirmed" and found.orders:
        raise SchemaError("$.orders", "a confirmation is of the whole batch")
    if write_confirmation(found) != data:
        raise SchemaError("$", "not in canonical form (RFC 8785)")
    return found
