"""Files of corrections over HTTP."""

from typing import Annotated

import msgspec

from schemas.wire.fields import Count

FILE_CHARS_MAX = 2_000_000


class CorrectionsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of reversals of orders that the caller accepted.

    Attributes:
        file: The file, as text: CSV as FORMAT.md says under "Corrections".
        dry_run: Whether it is only looked at.
    """

    file: Annotated[str, msgspec.Meta(min_length=1, max_length=FILE_CHARS_MAX)]
    dry_run: bool = False


class RefusedLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line that the books refused for what happened since the file was looked at.

    Attributes:
        line: Its line in the file.
        reason: Why.
    """

    line: int
    reason: str


class CorrectionsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a file.

    Attributes:
        file_sha256: Digest of the file.
        rows: Its rows, but for the header and the totals.
        units: Sum of the units that they take back.
        taken_before: Whether this very file was taken before; a repeat books nothing twice.
        dry_run: Whether it was only looked at.
        booked: Rows that stand in the books.
        refused: Rows that do not.
    """

    file_sha256: str
    rows: int
    units: Count
    taken_before: bool
    dry_run: bool
    booked: int
    refused: list[RefusedLine]
