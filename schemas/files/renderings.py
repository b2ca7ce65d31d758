"""`renderings.json`: which files were made of which package, as canonical JSON (RFC 8785).

A manifest signs the digests of its package's files, so none of these can name the manifest. Files that
do are therefore a second set, made of the package, with a list of their own.

Source: schemas/FORMAT.md, "Files made of a package".
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
import rfc8785
from msgspec import Meta

from schemas.files.manifest import Count, CycleId, Positive, Sha256  # noqa: TC001 - msgspec reads the annotations
from schemas.values.faults import SchemaError

RENDERINGS: Final = "renderings.json"
"""Name of the list."""
RENDERINGS_FORMAT: Final = "tongdui-renderings/1"
Path = Annotated[
    str, Meta(pattern=r"\A(?:(?:[A-Za-z0-9][A-Za-z0-9._-]*|_house)/)?[A-Za-z0-9._-]+\Z")
]


class RenderedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file: path below the folder, length and SHA-256."""

    path: Path
    bytes: Count
    sha256: Sha256


class Renderings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `renderings.json`; `parties_sha256` is null where no parties were given."""

    format: Literal["tongdui-renderings/1"]
    cycle_id: CycleId
    sequence: Positive
    manifest_sha256: Sha256
    parties_sha256: Sha256 | None
    files: list[RenderedFile]


def write_renderings(renderings: Renderings) -> bytes:
    """Canonical bytes: these are signed, if anybody signs."""
    return rfc8785.dumps(msgspec.to_builtins(renderings))


def read_renderings(data: bytes) -> Renderings:
    """Read such a list.

    Raises:
        SchemaError: It is none.
    """
    try:
        return msgspec.json.decode(data, type=Renderings)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SchemaError("$", str(error)) from error
