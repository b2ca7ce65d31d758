"""The audit trail as bytes: the canonical form of an entry, the chain over all of them, and the exported files.

Each entry's digest is the SHA-256 over the digest before it and the entry's canonical JSON (RFC 8785), so nothing can
be changed, left out or put in between without every later digest being another one.

Source: schemas/FORMAT.md, "Audit trail".
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec
import rfc8785

from schemas.files.csv_text import BOM, LINE_END, text_field
from schemas.files.instant import instant_text
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GENESIS: Final = bytes(32)
"""Digest before the first entry."""
COLUMNS: Final = (
    *("entry_no", "at", "who", "second", "action", "subject", "before", "after", "why", "digest"),
)

Terms = dict[str, Any]
"""What a change was about, field by field: text, whole numbers, truth values, lists and tables of these. Amounts are
text of digits."""


class TrailEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One change that a person or a key made.

    Attributes:
        entry_no: Its place in the trail, from 1, without a gap.
        at_us: When, microseconds since 1970.
        who: `person:NAME`, `key:ID`, `local:USER` or `program`.
        second: Who approved it; empty where nobody had to.
        action: What was done, as `noun.verb`.
        subject: To what: a merchant's code, a cycle's id, a key's id, a person's name.
        before: What it was; None where there was nothing.
        after: What it is from now on; None where there is nothing left.
        why: The reason that was given.
    """

    entry_no: int
    at_us: int
    who: str
    second: str
    action: str
    subject: str
    before: Terms | None
    after: Terms | None
    why: str


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of an exported file."""

    entry: TrailEntry
    digest: str


def canonical_entry(entry: TrailEntry) -> bytes:
    """The bytes of an entry that its digest is taken over.

    Raises:
        ValueError: It holds what JSON cannot carry exactly, such as a number of 2^53 or more.
    """
    return rfc8785.dumps(msgspec.to_builtins(entry))


def entry_digest(previous: bytes, entry: TrailEntry) -> bytes:
    """Digest of an entry that follows one with the digest `previous`."""
    return hashlib.sha256(previous + canonical_entry(entry)).digest()


def write_trail(entries: Iterable[tuple[TrailEntry, bytes]]) -> Iterator[bytes]:
    """Write entries with their digests as JSON Lines, oldest first."""
    for entry, digest in entries:
        yield rfc8785.dumps({"digest": digest.hex(), "entry": msgspec.to_builtins(entry)}) + b"\n"


def write_trail_csv(entries: Iterable[tuple[TrailEntry, bytes]]) -> Iterator[bytes]:
    """Write entries with their digests as CSV for a spreadsheet, oldest first."""
    yield (BOM + ",".join(COLUMNS) + LINE_END).encode()
    for entry, digest in entries:
        texts = (
            *(entry.who, entry.second, entry.action, entry.subject),
            *("" if terms is None else _json(terms) for terms in (entry.before, entry.after)),
            entry.why,
        )
        fields = (str(entry.entry_no), instant_text(entry.at_us), *map(text_field, texts))
        yield (",".join((*fields, digest.hex())) + LINE_END).encode()


def read_trail(lines: Iterable[bytes]) -> Iterator[tuple[TrailEntry, bytes]]:
    """Read an exported trail, and recompute its chain.

    Raises:
        SchemaError: A line is malformed, out of its place, or its digest is not that of the chain; the path names it.
    """
    previous = GENESIS
    for number, line in enumerate(lines, 1):
        path = f"line {number}"
        try:
            read = msgspec.json.decode(line, type=_Line)
            digest = entry_digest(previous, read.entry)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise SchemaError(path, f"not an entry of an audit trail: {error}") from error
        if read.entry.entry_no != number:
            raise SchemaError(path, f"entry {read.entry.entry_no} stands in place {number}")
        if digest.hex() != read.digest:
            raise SchemaError(path, "the digest is not that of the chain up to here")
        yield read.entry, digest
        previous = digest


def _json(terms: Terms) -> str:
    return rfc8785.dumps(terms).decode()
