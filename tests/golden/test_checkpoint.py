"""Packages in a log that witnesses saw: what `verify --checkpoint` accepts, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from schemas.files.note import Note, read_note, write_note
from settlement.core.report import Report
from settlement.service.checkpoints import make_checkpoint, prove_inclusion
from settlement.service.verification import Wanted, verify_package
from settlement.signing.note import NoteKind, cosign_text, note_key
from settlement.signing.signer import SigningKey, make_key
from tests.golden.packages import FIRST, KEY, KEY_ID, SECOND, TRUSTED
from tests.golden.signed import (
    ORIGIN,
    SEEN_AT,
    SIGNED,
    WITNESS,
    WITNESS_KEY,
    digests,
    write_checkpoint,
)

CHECKPOINT = (SIGNED / "checkpoint").read_bytes()
PROOF = (SIGNED / f"{SECOND}.tlog-proof").read_bytes()
OTHER = make_key()[1]
OTHER_KEY = note_key(OTHER, name="w.example/2", kind=NoteKind.COSIGNATURE)


def told(folder: Path, checkpoint: bytes, **wanted) -> tuple[list[str], str]:
    """Names of the checks that fail, and the sentence on the checkpoint."""
    more = {"witnesses": (WITNESS_KEY,)} | wanted
    report = verify_package(folder, trusted=TRUSTED, wanted=Wanted(checkpoint=checkpoint, **more))
    assert isinstance(report, Report)
    assert report.checks[-1].name == "checkpoint"
    return report.failed, report.checks[-1].english


def test_the_committed_bytes_are_made(tmp_path):
    """Rules K40 to K42: checkpoint, cosignature and proof are those that are committed, byte for byte."""
    write_checkpoint(tmp_path)
    assert (tmp_path / "checkpoint").read_bytes() == CHECKPOINT
    assert (tmp_path / f"{SECOND}.tlog-proof").read_bytes() == PROOF


def test_a_package_in_a_witnessed_log_is_good(packages):
    """Rule K42: by the checkpoint where all packages stand together, and by the proof where one stands alone."""
    assert told(packages / SECOND, CHECKPOINT) == (
        [],
        "It is number 2/2 in the log house.example/packages, seen by witness.example/w1.",
    )
    assert told(packages / FIRST, CHECKPOINT)[0] == []
    assert told(packages / SECOND, PROOF)[0] == []
    shutil.rmtree(packages / FIRST)
    assert told(packages / SECOND, PROOF)[0] == []
    failed, sentence = told(packages / SECOND, CHECKPOINT)
    assert failed == ["checkpoint"]
    assert sentence == (
        "Package number 1 does not stand beside this one: give a proof instead of a checkpoint."
    )


def test_a_package_that_is_not_in_the_log_is_found_out(packages):
    """Rule K42: the proof of another package, and a log that ends before it or has another chain."""
    assert told(packages / FIRST, PROOF)[0] == ["checkpoint"]
    for known in (digests()[:1], [bytes(32), digests()[1]], digests()[::-1]):
        signed = make_checkpoint(known, [SigningKey.of(KEY)], origin=ORIGIN)
        failed, sentence = told(packages / SECOND, signed, witnesses=())
        assert failed == ["checkpoint"], known
        assert sentence.endswith("does not hold this package as number 2.")
    turned = digests()[::-1]
    signed = make_checkpoint(turned, [SigningKey.of(KEY)], origin=ORIGIN)
    elsewhere = prove_inclusion(turned, signed, sequence=1)
    assert told(packages / SECOND, elsewhere, witnesses=())[0] == ["checkpoint"]


def test_a_package_with_another_manifest_is_not_in_the_log(packages):
    """Rule K42: the same cycle cut otherwise for one merchant is not what the others were shown."""
    folder = shutil.copytree(SIGNED / FIRST, packages / "forked" / FIRST)
    shutil.copytree(packages / SECOND, packages / "forked" / SECOND)
    assert "checkpoint" in told(folder, CHECKPOINT)[0]


def test_witnesses_are_counted(packages):
    """Rule K42: all that are named unless a number is; one key is one witness, and a stranger is none."""
    both = (WITNESS_KEY, OTHER_KEY)
    failed, sentence = told(packages / SECOND, PROOF, witnesses=both)
    assert (failed, sentence) == (
        ["checkpoint"],
        "Only 1 of 2 witnesses cosigned: witness.example/w1.",
    )
    assert told(packages / SECOND, PROOF, witnesses=both, witnesses_min=1)[0] == []
    assert told(packages / SECOND, PROOF, witnesses=(), witnesses_min=1)[0] == ["checkpoint"]
    assert told(packages / SECOND, PROOF, witnesses=())[0] == []
    note = read_note(CHECKPOINT)
    alias = cosign_text(note.text, WITNESS, name="w.example/alias", at_seconds=SEEN_AT)
    twice = write_note(Note(text=note.text, signatures=(*note.signatures, alias)))
    named = note_key(WITNESS, name="w.example/alias", kind=NoteKind.COSIGNATURE)
    assert told(packages / SECOND, twice, witnesses=(WITNESS_KEY, named))[0] == ["checkpoint"]
    other = cosign_text(note.text, OTHER, name="w.example/2", at_seconds=SEEN_AT)
    enough = write_note(Note(text=note.text, signatures=(*note.signatures, other)))
    assert told(packages / SECOND, enough, witnesses=both)[0] == []


def test_a_log_that_the_operator_did_not_sign_counts_for_nothing(packages):
    """Rule K42: the checkpoint's key is one of those trusted for the package, and not a further signer's."""
    signed = make_checkpoint(digests(), [OTHER], origin=ORIGIN)
    failed, sentence = told(packages / SECOND, signed, witnesses=())
    assert failed == ["checkpoint"]
    assert sentence == f"No trusted key of the operator's signed the checkpoint of {ORIGIN}."
    _, sentence = told(packages / SECOND, CHECKPOINT, roles={KEY_ID: "treasurer"})
    assert sentence.startswith("No trusted key of the operator's signed")


@pytest.mark.parametrize("content", [CHECKPOINT, PROOF], ids=["checkpoint", "proof"])
def test_every_byte_of_a_checkpoint_counts(packages, content):
    """Whatever byte of a checkpoint or a proof changes, the check fails, and no other."""
    second = packages / SECOND
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 + place * 37 % 255
        assert checkpoint_fails(second, bytes(changed)), place
    for spoiled in (b"", content[:-1], content + b"\n", content + b"x"):
        assert checkpoint_fails(second, spoiled)
    assert not checkpoint_fails(second, content)


def checkpoint_fails(folder: Path, content: bytes) -> bool:
    """Make this one check alone."""
    from schemas.files.manifest import read_manifest
    from schemas.values.faults import SchemaError
    from settlement.core.report import CheckFailed
    from settlement.service.verify_checkpoint import check_checkpoint

    data = (folder / "manifest.json").read_bytes()
    try:
        check_checkpoint(
            content,
            manifest=(data, read_manifest(data)),
            folder=folder,
            operators=TRUSTED,
            witnesses=[WITNESS_KEY],
            needed=1,
        )
    except (CheckFailed, SchemaError):
        return True
    return False
