"""Signatures of notes: Ed25519 (C2SP signed-note, type 0x01) and witnesses' with their time (tlog-cosignature, 0x04).

The same Ed25519 key may sign manifests and notes: a manifest is one line that begins with a brace, a note ends with a
line end, so neither can pass for the other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from schemas.files.note import (
    KEY_HASH_BYTES,
    Note,
    NoteSignature,
    base64_line,
    base64_of,
    is_key_name,
)
from schemas.values.faults import SchemaError
from settlement.signing.signature import ED25519_BYTES, is_signed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from settlement.signing.signer import Signer

_TIME_BYTES: Final = 8
_TIME_MAX: Final = 2**63


class NoteKind(IntEnum):
    """The kind of signature that a key makes; its byte is hashed with the key."""

    ED25519 = 1
    COSIGNATURE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteKey:
    """A public key under a name, for one kind of signature.

    Attributes:
        name: What the key is called in signature lines.
        kind: Which kind of signature it makes.
        public: The key.
    """

    name: str
    kind: NoteKind
    public: Ed25519PublicKey

    @property
    def key_hash(self) -> bytes:
        """Four bytes that tell the key in signature lines."""
        encoded = bytes([self.kind]) + self.public.public_bytes_raw()
        return hashlib.sha256(f"{self.name}\n".encode() + encoded).digest()[:KEY_HASH_BYTES]

    def __str__(self) -> str:
        """The key as text (`vkey`): name, hash, kind and key."""
        encoded = bytes([self.kind]) + self.public.public_bytes_raw()
        return f"{self.name}+{self.key_hash.hex()}+{base64_line(encoded)}"

    @classmethod
    def parse(cls, text: str) -> NoteKey:
        """Read a key from its text.

        Raises:
            SchemaError: It is malformed, of another kind, or its hash is another key's.
        """
        name, _, rest = text.partition("+")
        told, plus, encoded = rest.partition("+")
        if not is_key_name(name) or not plus:
            raise SchemaError("$", "a key reads name+hash+base64")
        data = base64_of(encoded, "$", length=1 + ED25519_BYTES)
        if data[0] not in set(NoteKind):
            raise SchemaError("$", f"a key of an unknown kind: {data[0]}")
        public = Ed25519PublicKey.from_public_bytes(data[1:])
        key = cls(name=name, kind=NoteKind(data[0]), public=public)
        if key.key_hash.hex() != told:
            raise SchemaError("$", "the hash is not this key's")
        return key

    def made(self, line: NoteSignature) -> bool:
        """Tell whether a line says that it is this key's."""
        return (line.name, line.key_hash) == (self.name, self.key_hash)

    def is_signed(self, text: str, line: NoteSignature) -> bool:
        """Tell whether a line is this key's signature of a text."""
        if not self.made(line):
            return False
        if self.kind is NoteKind.ED25519:
            return is_signed(self.public, text.encode(), line.signature)
        seconds = int.from_bytes(line.signature[:_TIME_BYTES])
        return seconds < _TIME_MAX and is_signed(
            self.public, _cosigned(text, seconds), line.signature[_TIME_BYTES:]
        )


def sign_text(text: str, signer: Signer, *, name: str) -> NoteSignature:
    """Sign a note's text with an Ed25519 key."""
    key = note_key(signer, name=name, kind=NoteKind.ED25519)
    return NoteSignature(name=name, key_hash=key.key_hash, signature=signer.sign(text.encode()))


def cosign_text(text: str, signer: Signer, *, name: str, at_seconds: int) -> NoteSignature:
    """Sign a checkpoint's text as a witness who saw it at an instant.

    Args:
        text: The checkpoint's text.
        signer: The witness's Ed25519 key, which has no other name.
        name: The witness's name.
        at_seconds: Seconds since 1970-01-01 UTC.

    Raises:
        ValueError: The instant cannot be written, or the key is of another kind.
    """
    if not 0 <= at_seconds < _TIME_MAX:
        raise ValueError(f"not an instant: {at_seconds}")
    key = note_key(signer, name=name, kind=NoteKind.COSIGNATURE)
    signature = at_seconds.to_bytes(_TIME_BYTES) + signer.sign(_cosigned(text, at_seconds))
    return NoteSignature(name=name, key_hash=key.key_hash, signature=signature)


def note_key(signer: Signer, *, name: str, kind: NoteKind) -> NoteKey:
    """The public side of a key that signs notes.

    Raises:
        ValueError: The key is not of Ed25519, or the name can name none.
    """
    public = signer.public
    if not isinstance(public, Ed25519PublicKey) or not is_key_name(name):
        raise ValueError(f"{signer.key_id} cannot sign a note as {name!r}")
    return NoteKey(name=name, kind=kind, public=public)


def signers_of(note: Note, keys: Iterable[NoteKey]) -> list[NoteKey] | NoteSignature:
    """Tell which of the known keys signed a note, each once; lines of others are passed over.

    Returns:
        The keys; or the line that says it is a known key's and is not, for which the whole note is refused.
    """
    found: list[NoteKey] = []
    for key in keys:
        for line in note.signatures:
            if key.made(line):
                if not key.is_signed(note.text, line):
                    return line
                if key not in found:
                    found.append(key)
    return found


def cosigned_at_seconds(note: Note, key: NoteKey) -> int:
    """When a witness saw a checkpoint last, by its own word.

    Raises:
        ValueError: It did not sign this one.
    """
    return max(
        int.from_bytes(line.signature[:_TIME_BYTES])
        for line in note.signatures
        if key.is_signed(note.text, line)
    )


def _cosigned(text: str, at_seconds: int) -> bytes:
    """What a witness signs."""
    return f"cosignature/v1\ntime {at_seconds}\n{text}".encode()
