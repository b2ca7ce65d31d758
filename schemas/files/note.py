"""Signed notes: text with signature lines below it (C2SP signed-note v1.0.0).

    text, ends with a line end
    (an empty line)
    — <key name> <base64 of four bytes that tell the key, and the signature>

Bytes and records only; what a signature means is told by `settlement.signing.note`.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from schemas.values.faults import SchemaError

NOTE_BYTES_MAX: Final = 64 * 1024
SIGNATURES_MAX: Final = 64
KEY_HASH_BYTES: Final = 4
_DASH: Final = "\N{EM DASH} "


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One signature line.

    Attributes:
        name: Name of the key.
        key_hash: Four bytes that tell which key of that name, and which kind of signature.
        signature: The rest, whose form the kind says.
    """

    name: str
    key_hash: bytes
    signature: bytes

    def __str__(self) -> str:
        """The line, with its end."""
        return f"{_DASH}{self.name} {base64_line(self.key_hash + self.signature)}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text and who signed it.

    Attributes:
        text: What is signed, with its last line end.
        signatures: The lines, in order.
    """

    text: str
    signatures: tuple[NoteSignature, ...]


def is_key_name(text: str) -> bool:
    """Tell whether a text can name a key: not empty, no blank of any kind, no plus."""
    return (
        bool(text)
        and text.isprintable()
        and not any(each.isspace() or each == "+" for each in text)
    )


def write_note(note: Note) -> bytes:
    """Bytes of a note."""
    return f"{note.text}\n{''.join(map(str, note.signatures))}".encode()


def read_note(data: bytes) -> Note:
    """Read a note; each has one spelling, so what is written again is what was read.

    Raises:
        SchemaError: It is malformed, or longer than any that is taken.
    """
    if len(data) > NOTE_BYTES_MAX:
        raise SchemaError("$", f"a note has at most {NOTE_BYTES_MAX} bytes")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SchemaError("$", "a note is UTF-8") from error
    if any(each < " " and each != "\n" for each in whole):
        raise SchemaError("$", "a control character stands in the note")
    text, empty, below = whole.rpartition("\n\n")
    if not empty or not below.endswith("\n"):
        raise SchemaError("$", "signature lines stand below an empty line, each with its end")
    lines = below[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise SchemaError("$", f"a note has at most {SIGNATURES_MAX} signatures")
    first = text.count("\n") + 3
    signatures = tuple(_read_line(line, first + place) for place, line in enumerate(lines))
    return Note(text=f"{text}\n", signatures=signatures)


def _read_line(line: str, number: int) -> NoteSignature:
    name, blank, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not blank or not is_key_name(name):
        raise SchemaError(f"line {number}", "not a signature line: `— name base64`")
    data = base64_of(encoded, f"line {number}")
    if len(data) <= KEY_HASH_BYTES:
        raise SchemaError(f"line {number}", "the signature is too short")
    return NoteSignature(name=name, key_hash=data[:KEY_HASH_BYTES], signature=data[KEY_HASH_BYTES:])


def base64_line(data: bytes) -> str:
    """Base64 (RFC 4648 §4), without a line end."""
    return base64.b64encode(data).decode("ascii")


def base64_of(text: str, path: str, *, length: int | None = None) -> bytes:
    """Bytes of a base64 text in its one canonical spelling.

    Raises:
        SchemaError: It is another spelling, or none, or of another length.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SchemaError(path, "not base64") from error
    if base64_line(data) != text:
        raise SchemaError(path, "not the canonical base64 of its bytes")
    if length is not None and len(data) != length:
        raise SchemaError(path, f"{len(data)} bytes, not {length}")
    return data
