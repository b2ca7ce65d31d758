"""Further signatures on a package that stands: who has signed, whether they are enough, and adding one more.

The operator's keys sign when a package is cut. Further signers sign later, elsewhere, with nothing but the package and
their own key. What they add is one file beside the manifest; nothing that was there changes.

Source: settlement/RULES.md, rules K34 to K37.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from settlement.core.report import Report, Unreadable
from settlement.service.package_adding import add_file
from settlement.service.package_files import MANIFEST, further_signature_name, read_whole
from settlement.service.verification import Wanted, verify_package
from settlement.service.verify_manifest import ManifestVerifier
from settlement.signing.signature import is_signed
from settlement.signing.signer import KeyUnusable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from settlement.signing.keyring import Keyring
    from settlement.signing.signature import PublicKey
    from settlement.signing.signer import Signer
    from settlement.signing.trust import Trust


class NotASigner(KeyUnusable):
    """The key may not sign this package; the message says who may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """Who has signed a package, against how many must.

    Attributes:
        threshold: How many roles must have signed: what the house demands now or what the manifest states, whichever
            is more.
        signed: Roles that have, in order.
        missing: Roles whose signature would count and is not there.
        manifest_sha256: Digest of the manifest that they signed.
    """

    threshold: int
    signed: tuple[str, ...]
    missing: tuple[str, ...]
    manifest_sha256: bytes

    @property
    def ok(self) -> bool:
        """Whether enough have signed for money to move on the package's word."""
        return len(self.signed) >= self.threshold

    def __str__(self) -> str:
        """How it stands, for people."""
        missing = f"; {', '.join(self.missing)} may" if self.missing and not self.ok else ""
        return f"{len(self.signed)} of {self.threshold} roles signed: {', '.join(self.signed)}{missing}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A signature that stands, or would.

    Attributes:
        key_id: The key that made it.
        role: In which role.
        file_name: Its file in the package.
        again: Whether it had stood before, so that nothing was written.
    """

    key_id: str
    role: str
    file_name: str
    again: bool


def reached(folder: Path, keyring: Keyring) -> Reached:
    """Tell whether enough have signed a package; to be asked before money moves on its word.

    Only the manifest and its signatures are read: whoever pays compares the digest with the batch's own.

    Args:
        folder: The package's folder.
        keyring: The house's keys, with the threshold that it demands now.

    Raises:
        CheckFailed: The manifest or one of its signatures is not good.
        SchemaError: The manifest is malformed.
        OSError: A signature of the operator's is missing.

    Source: settlement/RULES.md, rule K37.
    """
    trust = keyring.package_trust()
    verifier = ManifestVerifier(folder, trust.keys, trust.roles)
    data, manifest = verifier.verified()
    stated = 1 if manifest.approval is None else manifest.approval.threshold
    signed = set(verifier.signed.values())
    return Reached(
        threshold=max(stated, keyring.threshold),
        signed=tuple(sorted(signed)),
        missing=tuple(sorted(set(verifier.further().values()) - signed)),
        manifest_sha256=hashlib.sha256(data).digest(),
    )


def sign_package(
    folder: Path, signer: Signer, trust: Trust, *, dry_run: bool = False
) -> Added | Report | Unreadable:
    """Sign a package that verifies, and add the signature to it.

    Args:
        folder: The package's folder.
        signer: The key.
        trust: Whose signatures the signer believes; its own key need not be among them.
        dry_run: Check everything, sign and write nothing.

    Returns:
        What was added; or the report, if the package does not verify (what it lacks in signatures apart).

    Raises:
        NotASigner: The package does not name the key, and `trust` tells no role of it.
        KeyUnusable: The key's keeper does not sign now.
        OSError: The signature cannot be written.

    Source: settlement/RULES.md, rule K36.
    """
    return _add(folder, signer.public, signer.key_id, signer.sign, trust, dry_run=dry_run)


def take_signature(
    folder: Path, signature: bytes, trust: Trust, *, dry_run: bool = False
) -> Added | Report | Unreadable:
    """Add a signature that was made elsewhere, over the manifest alone.

    Args:
        folder: The package's folder.
        signature: The raw signature, or SM2's DER.
        trust: Whose signatures are believed; the one that made this must be among them.
        dry_run: Check everything, write nothing.

    Returns:
        As `sign_package`.

    Raises:
        NotASigner: It is the signature of none of the trusted keys over this manifest.
        OSError: It cannot be written.

    Source: settlement/RULES.md, rule K36.
    """
    data = read_whole(folder / MANIFEST)
    for name, public in trust.keys.items():
        if is_signed(public, data, signature):
            return _add(folder, public, name, lambda _: signature, trust, dry_run=dry_run)
    raise NotASigner("It is the signature of no trusted key over this package's manifest.")


def _add(
    folder: Path,
    public: PublicKey,
    name: str,
    sign: Callable[[bytes], bytes],
    trust: Trust,
    *,
    dry_run: bool,
) -> Added | Report | Unreadable:
    keys = {**trust.keys, name: public}
    report = verify_package(folder, trusted=keys, wanted=Wanted(roles=trust.roles))
    if isinstance(report, Unreadable) or set(report.failed) - {"threshold"}:
        return report
    verifier = ManifestVerifier(folder, keys, trust.roles)
    data, manifest = verifier.verified()
    role = verifier.further().get(name)
    if role is None:
        may = ", ".join(f"{key} ({each})" for key, each in sorted(verifier.further().items()))
        told = "signed it when it was cut" if name in manifest.signing_keys else "may not sign it"
        raise NotASigner(f"{name} {told}; beside the operator may sign: {may or 'nobody'}.")
    added = Added(
        key_id=name,
        role=role,
        file_name=further_signature_name(name),
        again=name in verifier.signed,
    )
    if not added.again and not dry_run:
        add_file(folder, added.file_name, sign(data), over=data)
    return added
