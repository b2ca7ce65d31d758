"""The timestamp of a package: a token of an authority over its manifest, kept beside it, verified offline.

Source: settlement/RULES.md, rules K43 and K44.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from settlement.service.package_adding import add_file
from settlement.service.package_files import TIMESTAMP, read_whole
from settlement.service.verification import check_manifest
from settlement.signing.timestamp import (
    RESPONSE_BYTES_MAX,
    ask_timestamp,
    check_answer,
    verify_timestamp,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from cryptography.x509 import Certificate
    from rfc3161_client import TimeStampRequest

    from settlement.signing.trust import Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question to an authority, and what it is about.

    Attributes:
        folder: The package.
        manifest: Its manifest's bytes.
        request: What is asked.
    """

    folder: Path
    manifest: bytes
    request: TimeStampRequest

    @property
    def body(self) -> bytes:
        """The question as it is sent (`application/timestamp-query`)."""
        return self.request.as_bytes()


def standing_stamp(folder: Path) -> bytes | None:
    """The token that a package has; None if it has none."""
    path = folder / TIMESTAMP
    return read_whole(path, limit=RESPONSE_BYTES_MAX) if path.exists() else None


def ask_stamp(folder: Path, trust: Trust) -> Asked:
    """Ask for a token over a package's manifest, whose signatures are good.

    Raises:
        CheckFailed: The manifest or its signatures are not good.
        SchemaError: The manifest is malformed.
        OSError: A signature is missing.

    Source: settlement/RULES.md, rule K43.
    """
    manifest, _ = check_manifest(folder, trusted=trust.keys, roles=trust.roles)
    return Asked(folder=folder, manifest=manifest, request=ask_timestamp(manifest))


def take_stamp(
    asked: Asked, response: bytes, *, roots: Sequence[Certificate], dry_run: bool = False
) -> datetime:
    """Put an authority's answer into the package.

    Args:
        asked: What was asked.
        response: The answer, DER.
        roots: Certificates of trusted authorities; without any, the answer is only held against the question.
        dry_run: Check it; write nothing.

    Returns:
        The instant that it gives.

    Raises:
        TimestampInvalid: It is no good answer to the question.
        CheckFailed: Another package stands there by now.
        OSError: It cannot be written.

    Source: settlement/RULES.md, rule K43.
    """
    told = check_answer(response, asked.request, asked.manifest)
    if roots:
        verify_timestamp(response, asked.manifest, roots=roots)
    if not dry_run:
        add_file(asked.folder, TIMESTAMP, response, over=asked.manifest)
    return told
