"""`manifest.json`: what a package says about itself, as canonical JSON (RFC 8785).

Amounts are strings of digits, since JSON's numbers are not exact in every reader. Nothing in it
comes from the clock of the machine that writes it, so cutting a cycle again gives the same bytes.

Source: schemas/FORMAT.md, "manifest.json".
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
import rfc8785
from msgspec import Meta

from schemas.values.faults import SchemaError
from schemas.values.ids import MERCHANT_CODE_PATTERN

PACKAGE_FORMAT: Final = "tongdui-package/1"
MULTILATERAL: Final = "deferred-net-multilateral"
"""The model in which each party pays or is paid its one figure against everybody."""
ModelName = Literal["deferred-net-multilateral", "deferred-net-bilateral", "immediate-gross"]
BILATERAL: Final = "deferred-net-bilateral"
"""The model in which each pair of parties pays its difference."""
GROSS: Final = "immediate-gross"
"""The model in which each line moved its money when it was written, so that nothing is left to pay."""
NO_PREVIOUS: Final = "00" * 32
"""What stands for the digest of the manifest before the first one."""
CYCLE_ID_PATTERN: Final = r"\A[0-9A-Za-z][0-9A-Za-z._-]{0,63}\Z"
"""Ids of cycles that can name a folder."""

Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Positive = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Cu = Annotated[str, Meta(pattern=r"\A(?:0|[1-9][0-9]{0,18})\Z")]
SignedCu = Annotated[str, Meta(pattern=r"\A(?:0|-?[1-9][0-9]{0,18})\Z")]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Instant = Annotated[
    str, Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z\Z")
]
CycleId = Annotated[str, Meta(pattern=CYCLE_ID_PATTERN)]
Party = Annotated[str, Meta(pattern=rf"{MERCHANT_CODE_PATTERN}|\AHOUSE:[a-z-]{{1,20}}\Z")]
FilePath = Annotated[
    str, Meta(pattern=r"\A(?:statements/)?[A-Za-z0-9][A-Za-z0-9._-]*\.[a-z0-9]+\Z")
]
ArrangementCode = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9-]{0,19}\Z")]
KeyId = Annotated[str, Meta(pattern=r"\A(?:op|sm)-[0-9a-f]{16}\Z")]
"""Of an Ed25519 key, or of one of SM2."""
ROLE_PATTERN: Final = r"\A[a-z][a-z0-9-]{0,31}\Z"
OPERATOR: Final = "operator"
"""The role whose keys sign when a package is cut."""
SIGNERS_MAX: Final = 16


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the records: what is not named here may not stand there."""


class CycleFacts(_Record, frozen=True, kw_only=True, omit_defaults=True):
    """The cycle. `cut_off_at` is when it was planned to close; null if it was not planned.

    `arrangement` is whose cycle it is; left out of those of the main one.
    """

    id: CycleId
    no: Positive
    opened_at: Instant
    cut_off_at: Instant | None
    closed_at: Instant
    arrangement: ArrangementCode | None = None


class Previous(_Record, frozen=True, kw_only=True):
    """The package before; id null and 32 zero bytes for the first."""

    cycle_id: CycleId | None
    manifest_sha256: Sha256


class Counts(_Record, frozen=True, kw_only=True):
    """How many of each the package holds, rows of totals not counted."""

    orders: Count
    obligations: Count
    positions: Count
    instructions: Count
    statements: Count


class ReversedTotals(_Record, frozen=True, kw_only=True):
    """Sums over what the cycle's reversals took back, CU."""

    reversals: Positive
    gross_cu: Cu
    value_cu: Cu
    fee_cu: Cu
    rounding_cu: SignedCu


class ControlTotals(_Record, frozen=True, kw_only=True, omit_defaults=True):
    """Sums over all that cleared in the cycle, CU; `reversed` is left out of a cycle without reversals."""

    gross_cu: Cu
    value_cu: Cu
    fee_cu: Cu
    rounding_cu: Cu
    bilateral_net_cu: Cu
    multilateral_net_cu: Cu
    reversed: ReversedTotals | None = None


class PartyFacts(_Record, frozen=True, kw_only=True):
    """The path of one party from its lines to its figure, CU; `no` is its number in the journal."""

    party: Party
    no: Annotated[int, Meta(ge=-(2**31), lt=2**31)]
    issued_orders: Count
    debit_cu: SignedCu
    accepted_orders: Count
    credit_cu: SignedCu
    fee_cu: SignedCu
    payable_bilateral_cu: Cu
    receivable_bilateral_cu: Cu
    net_cu: SignedCu


class NettingFacts(_Record, frozen=True, kw_only=True):
    """What each step of netting saved, CU, and every party's path."""

    model: ModelName
    saved_bilateral_cu: Cu
    saved_multilateral_cu: Cu
    parties: list[PartyFacts]


class MerkleFacts(_Record, frozen=True, kw_only=True):
    """Root of the tree over the cycle's lines (RFC 6962 §2.1 with SHA-256)."""

    leaf_count: Count
    root: Sha256


class ChainHead(_Record, frozen=True, kw_only=True):
    """Where a partition's chain of flushes stood when the cycle's end was written."""

    part: Count
    flush_no: Positive
    last_seq: Positive
    digest: Sha256


class FileFacts(_Record, frozen=True, kw_only=True):
    """Another file of the package."""

    path: FilePath
    bytes: Count
    sha256: Sha256


class Signatory(_Record, frozen=True, kw_only=True):
    """A key that may sign the package, and in which role. A role counts once, however many keys it has."""

    key_id: KeyId
    role: Annotated[str, Meta(pattern=ROLE_PATTERN)]


class Approval(_Record, frozen=True, kw_only=True):
    """How many roles must have signed before anything is done on the package's word, and who may."""

    threshold: Annotated[int, Meta(ge=1, le=SIGNERS_MAX)]
    signers: Annotated[list[Signatory], Meta(min_length=1, max_length=4 * SIGNERS_MAX)]


class Manifest(_Record, frozen=True, kw_only=True, omit_defaults=True):
    """The whole of `manifest.json`; `approval` is left out where the operator's signature is enough.

    `carries` names the package whose carries its instructions go on from; it is left out where that is the one
    that the package is chained to.
    """

    format: Literal["tongdui-package/1"]
    sequence: Positive
    cycle: CycleFacts
    previous: Previous
    counts: Counts
    totals: ControlTotals
    netting: NettingFacts
    merkle: MerkleFacts
    chain_heads: list[ChainHead]
    files: list[FileFacts]
    signing_keys: Annotated[list[KeyId], Meta(min_length=1, max_length=SIGNERS_MAX)]
    approval: Approval | None = None
    carries: Previous | None = None


def write_manifest(manifest: Manifest) -> bytes:
    """Canonical bytes (RFC 8785) of a manifest: these are signed."""
    return rfc8785.dumps(msgspec.to_builtins(manifest))


def read_manifest(data: bytes) -> Manifest:
    """Read a manifest, in canonical form or not.

    Raises:
        SchemaError: A field is missing, unknown or malformed; the path names it.
    """
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.ValidationError as error:
        detail, _, path = str(error).partition(" - at `")
        raise SchemaError(path.rstrip("`") or "$", detail) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError("$", f"not JSON: {error}") from error
