"""A witness: it cosigns what grew out of what it saw, and remembers that before it says so."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schemas.files.checkpoint import read_checkpoint
from schemas.files.note import Note, read_note, write_note
from settlement.service.checkpoints import (
    NotOurCheckpoint,
    ask_witness,
    make_checkpoint,
    prove_inclusion,
)
from settlement.service.witness import Witness, WitnessRefused
from settlement.signing.note import NoteKind, cosigned_at_seconds, note_key, signers_of
from settlement.signing.signer import KeyUnusable, make_key

LOG = make_key()[1]
ORIGIN = "house.example/packages"
LOG_KEY = note_key(LOG, name=ORIGIN, kind=NoteKind.ED25519)
SIGNER = make_key()[1]
KEY = note_key(SIGNER, name="w.example/1", kind=NoteKind.COSIGNATURE)
DIGESTS = [hashlib.sha256(b"manifest %d" % number).digest() for number in range(9)]
FORKED = [*DIGESTS[:4], hashlib.sha256(b"another").digest(), *DIGESTS[5:]]
AT = 1_800_000_000


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    """A witness that has seen nothing."""
    return Witness(signer=SIGNER, name=KEY.name, logs=[LOG_KEY], state=tmp_path / "seen.json")


def asked(digests: list[bytes], old_size: int) -> bytes:
    """What the log asks."""
    return ask_witness(digests, make_checkpoint(digests, [LOG], origin=ORIGIN), old_size=old_size)


def test_a_witness_cosigns_a_log_that_grows(witness):
    """Rule K41: from nothing, then from each size that it saw to any later one; the same size is cosigned again."""
    before = 0
    for size in (1, 3, 3, 4, 8, 9):
        note = read_note(
            witness.add_checkpoint(asked(DIGESTS[:size], before), at_seconds=AT + size)
        )
        assert signers_of(note, [LOG_KEY, KEY]) == [LOG_KEY, KEY]
        assert cosigned_at_seconds(note, KEY) == AT + size
        assert read_checkpoint(note).size == size
        before = size


def test_a_witness_refuses_what_did_not_grow_out_of_what_it_saw(witness):
    """Rule K41: a fork, a shorter tree and a wrong old size are refused, and what was seen stays seen."""
    witness.add_checkpoint(asked(DIGESTS[:5], 0), at_seconds=AT)
    kept = witness.state.read_bytes()
    for digests, old_size, sentence in (
        (FORKED[:8], 5, "did not grow out of the 5 seen before"),
        (FORKED[:5], 5, "did not grow out of the 5 seen before"),
        (DIGESTS[:8], 4, "saw 5 leaves of house.example/packages last: ask from there"),
        (DIGESTS[:8], 0, "saw 5 leaves"),
        (DIGESTS[:4], 4, "saw 5 leaves"),
    ):
        with pytest.raises(WitnessRefused, match=sentence):
            witness.add_checkpoint(asked(digests, old_size), at_seconds=AT)
    assert witness.state.read_bytes() == kept
    witness.add_checkpoint(asked(DIGESTS[:8], 5), at_seconds=AT)


def test_a_witness_refuses_whom_it_does_not_follow(witness):
    """Rule K41: another origin, another key under the same name, and a log's line that is not its signature."""
    stranger = make_key()[1]
    for signer, origin, sentence in (
        (LOG, "other.example/log", "is no log that this witness follows"),
        (stranger, ORIGIN, "did not sign this checkpoint"),
    ):
        request = ask_witness(
            DIGESTS, make_checkpoint(DIGESTS, [signer], origin=origin), old_size=0
        )
        with pytest.raises(WitnessRefused, match=sentence):
            witness.add_checkpoint(request, at_seconds=AT)
    request = asked(DIGESTS, 0)
    with pytest.raises(WitnessRefused, match="did not sign"):
        witness.add_checkpoint(request.replace(b"\n9\n", b"\n8\n"), at_seconds=AT)
    assert not witness.state.exists()


def test_what_was_seen_is_kept_before_it_is_told(witness, monkeypatch):
    """Rule K41: where the file cannot be written there is no cosignature; a damaged one is not begun anew."""
    witness.state.mkdir()
    with pytest.raises(OSError, match="directory"):
        witness.add_checkpoint(asked(DIGESTS, 0), at_seconds=AT)
    witness.state.rmdir()
    witness.add_checkpoint(asked(DIGESTS[:3], 0), at_seconds=AT)
    assert json.loads(witness.state.read_bytes())["logs"][ORIGIN]["size"] == 3
    for damage in (b"", b"{", b'{"format":"other","logs":{}}'):
        witness.state.write_bytes(damage)
        with pytest.raises(KeyUnusable):
            witness.add_checkpoint(asked(DIGESTS, 3), at_seconds=AT)


def test_requests_at_once_do_not_roll_each_other_back(witness):
    """Of many requests from the same size one is cosigned, and the others are told where to ask from."""
    sizes = range(2, 9)
    witness.add_checkpoint(asked(DIGESTS[:1], 0), at_seconds=AT)

    def ask(size: int) -> int | None:
        try:
            witness.add_checkpoint(asked(DIGESTS[:size], 1), at_seconds=AT)
        except WitnessRefused:
            return None
        return size

    with ThreadPoolExecutor(4) as pool:
        (won,) = [size for size in pool.map(ask, sizes) if size is not None]
    assert json.loads(witness.state.read_bytes())["logs"][ORIGIN]["size"] == won


def test_a_log_writes_of_its_own_checkpoints_alone():
    """Rule K39: a checkpoint of another chain or a later one is refused, and a package that came after it."""
    for digests in (FORKED[:6], [*DIGESTS, bytes(32)]):
        other = make_checkpoint(digests, [LOG], origin=ORIGIN)
        with pytest.raises(NotOurCheckpoint):
            ask_witness(DIGESTS, other, old_size=0)
        with pytest.raises(NotOurCheckpoint):
            prove_inclusion(DIGESTS, other, sequence=1)
    earlier = make_checkpoint(DIGESTS[:4], [LOG], origin=ORIGIN)
    assert prove_inclusion(DIGESTS, earlier, sequence=4)
    for sequence in (0, 5):
        with pytest.raises(NotOurCheckpoint, match="the checkpoint has 4 packages"):
            prove_inclusion(DIGESTS, earlier, sequence=sequence)
    assert read_checkpoint(read_note(make_checkpoint([], [LOG], origin=ORIGIN))).size == 0


def test_a_second_witness_signs_beside_the_first(witness, tmp_path):
    """Its line stands below the other's; the witness's own earlier line is replaced."""
    second = make_key()[1]
    key = note_key(second, name="w.example/2", kind=NoteKind.COSIGNATURE)
    once = witness.add_checkpoint(asked(DIGESTS, 0), at_seconds=AT)
    other = Witness(signer=second, name=key.name, logs=[LOG_KEY], state=tmp_path / "other.json")
    both = other.add_checkpoint(ask_witness(DIGESTS, once, old_size=0), at_seconds=AT)
    assert signers_of(read_note(both), [LOG_KEY, KEY, key]) == [LOG_KEY, KEY, key]
    again = witness.add_checkpoint(ask_witness(DIGESTS, both, old_size=9), at_seconds=AT + 1)
    note = read_note(again)
    assert [line.name for line in note.signatures] == [ORIGIN, "w.example/2", "w.example/1"]
    assert write_note(Note(text=note.text, signatures=note.signatures)) == again
