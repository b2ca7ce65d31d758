"""A witness: cosigns checkpoints of logs that it follows, if each grew out of the one that it cosigned before.

It needs nothing of the clearing house but its key. What it has seen is a file of its own, written before the
cosignature leaves it.

Source: settlement/RULES.md, rule K41; C2SP tlog-witness and tlog-cosignature v1.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from schemas.files.checkpoint import read_request
from schemas.files.note import Note, NoteSignature, write_note
from settlement.signing.merkle import EMPTY_ROOT, is_consistent
from settlement.signing.note import NoteKey, cosign_text, signers_of
from settlement.signing.signer import KeyUnusable, write_private_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from schemas.files.checkpoint import Proven
    from settlement.signing.signer import Signer

_FORMAT: Final = "tongdui-witness/1"


class WitnessRefused(Exception):  # noqa: N818 - the witness's answer, told to whoever asked
    """The witness does not cosign; the message says why."""


class _Seen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The largest tree of one log that was cosigned."""

    size: Annotated[int, Meta(ge=0)]
    root: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class _State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The witness's file."""

    format: str
    logs: dict[str, _Seen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """Who cosigns, and for whom.

    Attributes:
        signer: Its Ed25519 key, which signs nothing else.
        name: Its name.
        logs: Keys of the logs that it follows; a key's name is its log's origin.
        state: File of what it has seen; made by the first cosignature.
    """

    signer: Signer
    name: str
    logs: Sequence[NoteKey]
    state: Path

    def add_checkpoint(self, request: bytes, *, at_seconds: int) -> bytes:
        """Cosign a checkpoint that grew out of what was seen before, and keep it first.

        Args:
            request: The body of `add-checkpoint`.
            at_seconds: Now, seconds since 1970-01-01 UTC.

        Returns:
            The checkpoint with this witness's line below the others; its own line before is replaced.

        Raises:
            SchemaError: The request is malformed.
            WitnessRefused: The log is unknown or did not sign, it was asked from another size than was seen last, or
                the tree did not grow out of that one.
            KeyUnusable: The witness's key or file cannot be used.
        """
        asked = read_request(request)
        checkpoint, note = asked.checkpoint, asked.note
        with _locked(self.state):
            logs = self._read()
            before = logs.get(checkpoint.origin, _Seen(size=0, root=EMPTY_ROOT.hex()))
            self._require(asked, before)
            line = cosign_text(note.text, self.signer, name=self.name, at_seconds=at_seconds)
            seen = _Seen(size=checkpoint.size, root=checkpoint.root.hex())
            state = _State(format=_FORMAT, logs={**logs, checkpoint.origin: seen})
            write_private_file(self.state, msgspec.json.encode(state) + b"\n")
        return write_note(Note(text=note.text, signatures=(*_without(note, line), line)))

    def _require(self, asked: Proven, before: _Seen) -> None:
        """Make every check of tlog-witness."""
        checkpoint = asked.checkpoint
        keys = [key for key in self.logs if key.name == checkpoint.origin]
        if not keys:
            raise WitnessRefused(f"{checkpoint.origin} is no log that this witness follows")
        signed = signers_of(asked.note, keys)
        if isinstance(signed, NoteSignature) or not signed:
            raise WitnessRefused(f"{checkpoint.origin} did not sign this checkpoint")
        if asked.number != before.size:
            raise WitnessRefused(
                f"this witness saw {before.size} leaves of {checkpoint.origin} last: ask from there"
            )
        if not is_consistent(
            old_size=before.size,
            old_root=bytes.fromhex(before.root),
            size=checkpoint.size,
            root=checkpoint.root,
            path=asked.path,
        ):
            raise WitnessRefused(
                f"{checkpoint.origin} with {checkpoint.size} leaves did not grow out of the {before.size} seen before"
            )

    def _read(self) -> dict[str, _Seen]:
        """What was seen of each log."""
        if not self.state.exists():
            return {}
        try:
            state = msgspec.json.decode(self.state.read_bytes(), type=_State)
        except msgspec.MsgspecError as error:
            raise KeyUnusable(f"{self.state} is damaged: {error}.") from error
        if state.format != _FORMAT:
            raise KeyUnusable(f"{self.state} is not a witness's file.")
        return state.logs


def _without(note: Note, line: NoteSignature) -> list[NoteSignature]:
    """The lines of others."""
    own = (line.name, line.key_hash)
    return [each for each in note.signatures if (each.name, each.key_hash) != own]


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Keep two requests from rolling each other back."""
    state.parent.mkdir(parents=True, exist_ok=True)
    lock = state.with_name(f".{state.name}.lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
