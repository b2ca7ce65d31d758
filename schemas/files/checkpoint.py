"""Checkpoints of a log, what a witness is asked, and proofs that something is in it (C2SP).

A checkpoint is a signed note whose text is three lines: origin, number of leaves, root (tlog-checkpoint v1.0.0). Lines
below these are kept, since they are signed too, and mean nothing here. What goes before a note in the two other files
is text as well: `old` and a consistency proof for a witness (tlog-witness), `index` and an inclusion proof
(tlog-proof v1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from schemas.files.note import Note, base64_line, base64_of, is_key_name, read_note, write_note
from schemas.values.faults import SchemaError

PROOF_HEAD: Final = "c2sp.org/tlog-proof@v1"
PATH_MAX: Final = 63
_DIGEST_BYTES: Final = 32
_LINES: Final = 3
_NUMBER: Final = re.compile(r"\A(?:0|[1-9][0-9]{0,15})\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where a log stood.

    Attributes:
        origin: The log.
        size: Number of leaves.
        root: Root of the tree over them (RFC 6962 §2.1), 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The note's text."""
        return f"{self.origin}\n{self.size}\n{base64_line(self.root)}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A checkpoint and hashes that lead to it.

    Attributes:
        number: Size of the tree before, or index of the leaf, as the file says.
        path: Hashes of 32 bytes.
        note: The checkpoint as it was signed.
        checkpoint: What it says.
    """

    number: int
    path: tuple[bytes, ...]
    note: Note
    checkpoint: Checkpoint


def read_checkpoint(note: Note) -> Checkpoint:
    """Read the text of a checkpoint.

    Raises:
        SchemaError: It is malformed.
    """
    lines = note.text[:-1].split("\n")
    if len(lines) < _LINES or not all(lines):
        raise SchemaError("$", "a checkpoint has three lines or more, none of them empty")
    origin, size, root = lines[:_LINES]
    if not is_key_name(origin):
        raise SchemaError("line 1", "an origin has no blanks and no plus")
    return Checkpoint(
        origin=origin,
        size=_number(size, "line 2"),
        root=base64_of(root, "line 3", length=_DIGEST_BYTES),
    )


def read_request(data: bytes) -> Proven:
    """Read what a witness is asked: `number` is the size that it saw last.

    Raises:
        SchemaError: It is malformed.
    """
    head, note = _split(data)
    return _proven(head[0].removeprefix("old "), head[0].startswith("old "), head[1:], note)


def write_request(old_size: int, path: tuple[bytes, ...], note: Note) -> bytes:
    """Ask a witness."""
    return _written([f"old {old_size}"], path, note)


def read_proof_of_inclusion(data: bytes) -> Proven:
    """Read a proof that something is in a log: `number` is its index. Extra data mean nothing and are passed over.

    Raises:
        SchemaError: It is malformed.
    """
    head, note = _split(data)
    if head[0] != PROOF_HEAD:
        raise SchemaError("line 1", f"a proof begins with {PROOF_HEAD}")
    rest = head[2:] if len(head) > 1 and head[1].startswith("extra ") else head[1:]
    index = rest[0] if rest else ""
    return _proven(index.removeprefix("index "), index.startswith("index "), rest[1:], note)


def write_proof_of_inclusion(index: int, path: tuple[bytes, ...], note: Note) -> bytes:
    """Prove that something is in a log."""
    return _written([PROOF_HEAD, f"index {index}"], path, note)


def _split(data: bytes) -> tuple[list[str], Note]:
    """The lines before a note, and the note."""
    head, empty, note = data.partition(b"\n\n")
    if not empty:
        raise SchemaError("$", "an empty line stands before the checkpoint")
    try:
        return head.decode("utf-8").split("\n"), read_note(note)
    except UnicodeDecodeError as error:
        raise SchemaError("$", "it is UTF-8") from error


def _proven(number: str, is_named: bool, path: list[str], note: Note) -> Proven:  # noqa: FBT001 - told with the number
    if not is_named:
        raise SchemaError("$", "the line with the number is missing")
    if len(path) > PATH_MAX:
        raise SchemaError("$", f"a path has at most {PATH_MAX} hashes")
    return Proven(
        number=_number(number, "$"),
        path=tuple(
            base64_of(text, f"hash {place}", length=_DIGEST_BYTES)
            for place, text in enumerate(path, 1)
        ),
        note=note,
        checkpoint=read_checkpoint(note),
    )


def _written(head: list[str], path: tuple[bytes, ...], note: Note) -> bytes:
    lines = [*head, *map(base64_line, path), "", ""]
    return "\n".join(lines).encode() + write_note(note)


def _number(text: str, path: str) -> int:
    if not _NUMBER.match(text):
        raise SchemaError(path, "not a number in its shortest form")
    return int(text)
