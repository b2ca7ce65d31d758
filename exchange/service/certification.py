"""Certificates of adapters: signed with the operator's key, and looked at before a merchant goes live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.kit.conformance.certificate import (
    Certificate,
    certificate_of,
    fault_of,
    parse_certificate,
)
from adapters.kit.folder import digest_of
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason, Refusal
from settlement.signing.signature import is_signed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from adapters.kit.conformance.examination import Finding
    from adapters.kit.folder import Folder
    from settlement.signing.keyring import Keyring

SIGNATURE_SUFFIX = ".sig"


def certify(
    folder: Folder,
    findings: Sequence[Finding],
    keyring: Keyring,
    *,
    at: datetime,
    against: str = "simulator",
) -> tuple[bytes, bytes] | None:
    """Make and sign the certificate of an adapter that passed.

    Args:
        folder: What was tried.
        findings: One for each clause.
        keyring: The operator's keys; the active one signs.
        at: When it was tried, with a zone.
        against: What it was tried on.

    Returns:
        The certificate and its raw Ed25519 signature (64 bytes); None if a clause failed.

    Raises:
        KeyringUnusable: No key signs now.
    """
    signer = keyring.signers(at)[0]
    data = certificate_of(folder, findings, key_id=signer.key_id, at=at, against=against)
    return None if data is None else (data, signer.sign(data))


def write_certificate(path: Path, certificate: bytes, signature: bytes) -> None:
    """Write both files; `openssl pkeyutl -verify -rawin` checks the second over the first."""
    path.write_bytes(certificate)
    signature_path(path).write_bytes(signature)


def signature_path(path: Path) -> Path:
    """Where the signature of a certificate lies: beside it, with `.sig` behind its name."""
    return path.with_name(path.name + SIGNATURE_SUFFIX)


def check_certificate(
    data: bytes,
    signature: bytes,
    *,
    trusted: Mapping[str, Ed25519PublicKey],
    folder: Folder | None,
    at: datetime,
) -> Certificate | Refusal:
    """Say whether a certificate stands.

    Args:
        data: The certificate's bytes.
        signature: Its signature.
        trusted: Public keys by id; the certificate must name one of them.
        folder: The folder that it must stand for, as it is now; None checks the certificate alone.
        at: Now, with a zone.

    Returns:
        The certificate, or MERCHANT_NOT_CERTIFIED with what is wrong.
    """
    try:
        certificate = parse_certificate(data)
    except SchemaError as error:
        return Refusal(Reason.MERCHANT_NOT_CERTIFIED, f"not a certificate: {error}")
    public = trusted.get(certificate.key_id)
    if public is None:
        return Refusal(
            Reason.MERCHANT_NOT_CERTIFIED, f"its key {certificate.key_id} is not trusted here"
        )
    if not is_signed(public, data, signature):
        return Refusal(Reason.MERCHANT_NOT_CERTIFIED, "the signature is not its key's over it")
    digest = certificate.digest if folder is None else digest_of(folder.path)
    if fault := fault_of(certificate, digest=digest, at=at):
        return Refusal(Reason.MERCHANT_NOT_CERTIFIED, fault)
    return certificate
