"""Reading a package that is to be shown to people and banks: nothing is believed that is not signed.

Only what is read is checked, so that a merchant can do it with its own part of a package: the manifest's
form and signatures, and the digest of each file that is used. `tongdui verify` checks all of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from schemas.files.msgpack_stream import read_objects
from schemas.files.statement import read_header, read_line, read_totals
from schemas.files.tables import in_all, read_instructions
from schemas.values.faults import SchemaError
from settlement.core.report import CheckFailed
from settlement.render.batch import Batch
from settlement.service.package_files import STATEMENTS, length_and_digest
from settlement.service.verify_manifest import ManifestVerifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from schemas.files.parties import Parties
    from schemas.files.statement import StatementLine
    from settlement.signing.signature import PublicKey

INSTRUCTIONS = "instructions.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package whose manifest and instructions were checked.

    Attributes:
        folder: Where it is.
        batch: What it says.
    """

    folder: Path
    batch: Batch

    @property
    def merchants(self) -> list[str]:
        """Merchants that have a statement in it, in order."""
        return sorted(
            one.path.removeprefix(f"{STATEMENTS}/").removesuffix(".msgpack")
            for one in self.batch.manifest.files
            if one.path.endswith(".msgpack")
        )

    def lines(self, merchant: str) -> Iterator[StatementLine]:
        """Stream the lines of a merchant's statement.

        Raises:
            SchemaError: It is malformed, which a signed statement is not.
        """
        path = self.folder / STATEMENTS / f"{merchant}.msgpack"
        with path.open("rb") as file:
            objects = read_objects(file, path.stat().st_size)
            read_header(next(objects, None))
            for number, value in enumerate(objects, 1):
                if isinstance(value, dict):
                    read_totals(value, number)
                    return
                yield read_line(value, number)
        raise SchemaError("$", "the totals are missing")

    def require(self, path: str) -> None:
        """Check that a file is the one that the manifest lists.

        Raises:
            CheckFailed: It is missing, was changed, or is not listed.
        """
        listed = next((one for one in self.batch.manifest.files if one.path == path), None)
        if listed is None:
            raise CheckFailed(f"The manifest lists no {path}.", f"清单未列出 {path}。")
        try:
            found = length_and_digest(self.folder / path)
        except OSError as error:
            raise CheckFailed(f"{path} is missing.", f"缺少文件 {path}。") from error
        if found != (listed.bytes, listed.sha256):
            raise CheckFailed(
                f"{path} is not the file that was signed.", f"{path} 不是已签名的文件。"
            )


def open_package(
    folder: Path,
    *,
    trusted: Mapping[str, PublicKey],
    parties: Parties | None,
    roles: Mapping[str, str] | None = None,
    approved: bool = False,
) -> Package:
    """Open a package to make files of it.

    Args:
        folder: The package's folder, whole or a merchant's part of it.
        trusted: Public keys by key id; every signer must be among them.
        parties: Names and accounts, if there are any.
        roles: Roles of those keys whose role is known, whatever the manifest says.
        approved: Whether as many roles must have signed as the manifest states, since money is to move on it.

    Raises:
        CheckFailed: It is not signed by trusted keys, or not by enough of them, or a file is not the one that was
            signed.
        SchemaError: The manifest or the instructions are malformed.

    Source: settlement/RULES.md, rule F9.
    """
    verifier = ManifestVerifier(folder, trusted, roles)
    data, manifest = verifier.verified()
    if approved:
        verifier.check_threshold(None)
    package = Package(
        folder=folder,
        batch=Batch(
            manifest=manifest,
            manifest_sha256=hashlib.sha256(data).hexdigest(),
            instructions={},
            parties=parties,
        ),
    )
    package.require(INSTRUCTIONS)
    rows = read_instructions((folder / INSTRUCTIONS).read_bytes())
    together = {party: in_all(party, rows) for party in {row.party: None for row in rows}}
    pairs = tuple(row for row in rows if row.counterparty)
    return replace(package, batch=replace(package.batch, instructions=together, pairs=pairs))
