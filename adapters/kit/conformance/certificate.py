"""The certificate of an adapter: which folder, which clauses, when, and that all of them passed.

The bytes are canonical JSON (RFC 8785), so that a raw Ed25519 signature beside the file is all that is
needed to check it. Who signs, and whose signature counts, is not the kit's business.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

import msgspec
import rfc8785

from adapters.kit.conformance.examination import Verdict  # noqa: TC001 - msgspec reads it at run time
from adapters.kit.folder import digest_of
from schemas.values.faults import SchemaError
from schemas.wire.decoding import schema_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adapters.kit.conformance.examination import Finding
    from adapters.kit.folder import Folder

FORMAT: Final = "tongdui-adapter-certificate/1"
VALID_DAYS: Final = 365
_BYTES_MAX: Final = 256 * 1024


class Clause(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One clause, and that it passed or does not apply."""

    id: str
    verdict: Verdict


class Certificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is certified.

    Attributes:
        format: `tongdui-adapter-certificate/1`.
        adapter: The merchant's code.
        digest: SHA-256 of the folder (`adapters.kit.folder.digest_of`), 64 hex digits.
        protocol: The protocol that it speaks.
        against: `simulator`, or the address of the system that it was tried on.
        clauses: Every clause and its verdict.
        tried_at: When, with a zone.
        expires_at: From then on it counts no more.
        key_id: Whose signature is beside it.
    """

    format: str
    adapter: str
    digest: str
    protocol: str
    against: str
    clauses: tuple[Clause, ...]
    tried_at: dt.datetime
    expires_at: dt.datetime
    key_id: str


def certificate_of(
    folder: Folder,
    findings: Sequence[Finding],
    *,
    key_id: str,
    at: dt.datetime,
    against: str = "simulator",
) -> bytes | None:
    """Canonical bytes of a certificate; None if a clause failed.

    Args:
        folder: What was tried.
        findings: One for each clause.
        key_id: The key that will sign.
        at: When it was tried.
        against: What it was tried on.
    """
    if any(finding.verdict == "failed" for finding in findings):
        return None
    certificate = Certificate(
        format=FORMAT,
        adapter=folder.code,
        digest=digest_of(folder.path),
        protocol=folder.manifest.merchant.protocol,
        against=against,
        clauses=tuple(Clause(id=each.id, verdict=each.verdict) for each in findings),
        tried_at=at.replace(microsecond=0),
        expires_at=at.replace(microsecond=0) + dt.timedelta(days=VALID_DAYS),
        key_id=key_id,
    )
    return rfc8785.dumps(msgspec.to_builtins(certificate))


def parse_certificate(data: bytes) -> Certificate:
    """Read a certificate.

    Raises:
        SchemaError: It is no certificate, or not in canonical form.
    """
    if len(data) > _BYTES_MAX:
        raise SchemaError("$", f"Larger than {_BYTES_MAX} bytes")
    try:
        certificate = msgspec.json.decode(data, type=Certificate)
    except msgspec.ValidationError as error:
        raise schema_error(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SchemaError("$", f"Not JSON: {error}") from None
    if certificate.format != FORMAT:
        raise SchemaError("$.format", f"Expected {FORMAT!r}")
    if rfc8785.dumps(msgspec.to_builtins(certificate)) != data:
        raise SchemaError("$", "Not in canonical form (RFC 8785)")
    return certificate


def fault_of(certificate: Certificate, *, digest: str, at: dt.datetime) -> str | None:
    """Why a certificate whose signature is good does not stand for this folder; None if it does.

    Args:
        certificate: The certificate.
        digest: Digest of the folder as it is now.
        at: Now.
    """
    if certificate.digest != digest:
        return "the folder was changed after it was certified"
    if not certificate.tried_at <= at < certificate.expires_at:
        return f"it holds from {certificate.tried_at} until {certificate.expires_at}"
    if any(clause.verdict == "failed" for clause in certificate.clauses):
        return "a clause failed"
    if certificate.against == "simulator" and any(
        clause.verdict == "not tried" for clause in certificate.clauses
    ):
        return "a clause was not tried"
    return None
