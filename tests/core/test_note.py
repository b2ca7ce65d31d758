"""Signed notes, checkpoints and cosignatures, against the texts of C2SP and what other implementations made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.files.checkpoint import (
    Checkpoint,
    read_checkpoint,
    read_proof_of_inclusion,
    read_request,
    write_proof_of_inclusion,
    write_request,
)
from schemas.files.note import NOTE_BYTES_MAX, Note, NoteSignature, read_note, write_note
from schemas.values.faults import SchemaError
from settlement.signing.note import (
    NoteKey,
    NoteKind,
    cosign_text,
    cosigned_at_seconds,
    note_key,
    sign_text,
    signers_of,
)
from settlement.signing.signer import make_key

# Made by golang.org/x/mod/sumdb/note, and shown in its documentation.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# Made by github.com/transparency-dev/formats, as published with another implementation's tests (yaglo/signed_note).
COSIGNER = "vec.example/cosigv10+c12688da+BLMSTPoQj0PojM8eKiPf9xUT8g6b0OuMyvYb5sSu9JH5"
COSIGNED = (
    "vec.example/cosigv10\n42\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— vec.example/cosigv10 "
    "wSaI2gAAAABqbL5Q3HjbTCJeqMg3tmpdYGAg05ijTi7k0pyreJSULmtv3g+yXH+G/Ko87JG+QkLF6af9+GVVNlEIgf6T0bw0wQyMDw==\n"
)
# The example in the texts of tlog-checkpoint and tlog-cosignature, which name no keys.
EXAMPLE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
# Keys of that package's own tests: one is of the plain kind, one a witness's.
OTHER_KEYS = [
    "TEST+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
]
SIGNER = make_key()[1]
OTHER = make_key()[1]
TEXT = Checkpoint(origin="log.example/a", size=3, root=bytes(range(32))).text
LOG = note_key(SIGNER, name="log.example/a", kind=NoteKind.ED25519)
WITNESS = note_key(OTHER, name="w.example/1", kind=NoteKind.COSIGNATURE)


def signed() -> Note:
    """A checkpoint with its log's signature and a witness's."""
    return Note(
        text=TEXT,
        signatures=(
            sign_text(TEXT, SIGNER, name=LOG.name),
            cosign_text(TEXT, OTHER, name=WITNESS.name, at_seconds=1_700_000_000),
        ),
    )


def test_what_other_implementations_signed_is_accepted() -> None:
    """Rule K40: a note of Go's and a cosignature of transparency-dev's verify under their keys' texts."""
    for key_text, note_text in ((GO_KEY, GO_NOTE), (COSIGNER, COSIGNED)):
        key, note = NoteKey.parse(key_text), read_note(note_text.encode())
        assert signers_of(note, [key]) == [key]
        assert write_note(note) == note_text.encode()
        assert str(key) == key_text
    note = read_note(COSIGNED.encode())
    assert cosigned_at_seconds(note, NoteKey.parse(COSIGNER)) == 1_785_511_504
    for text in OTHER_KEYS:
        assert str(NoteKey.parse(text)) == text


def test_the_example_of_the_texts_is_read() -> None:
    """Rule K40: origin, size and root of the published checkpoint, and the instant of its witness."""
    note = read_note(EXAMPLE.encode())
    checkpoint = read_checkpoint(note)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20_852_163)
    assert checkpoint.text == note.text
    log, witness = note.signatures
    assert len(log.signature) == 64
    assert int.from_bytes(witness.signature[:8]) == 1_679_315_147
    assert write_note(note) == EXAMPLE.encode()


def test_what_is_signed_here_is_signed() -> None:
    """A log's signature and a witness's are each other's strangers: neither key accepts the other's kind."""
    note = signed()
    assert signers_of(note, [LOG, WITNESS]) == [LOG, WITNESS]
    assert read_note(write_note(note)) == note
    same = note_key(SIGNER, name=LOG.name, kind=NoteKind.COSIGNATURE)
    assert same.key_hash != LOG.key_hash
    assert signers_of(note, [same]) == []
    assert signers_of(note, []) == []
    with pytest.raises(ValueError, match="cannot sign a note"):
        note_key(SIGNER, name="has a blank", kind=NoteKind.ED25519)
    with pytest.raises(ValueError, match="cannot sign a note"):
        note_key(make_key(of_sm2=True)[1], name="w", kind=NoteKind.COSIGNATURE)
    with pytest.raises(ValueError, match="not an instant"):
        cosign_text(TEXT, OTHER, name="w", at_seconds=-1)


def test_every_byte_of_a_note_counts() -> None:
    """Whatever byte changes, the note is malformed, or one of both keys has not signed it any more."""
    whole = write_note(signed())
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 + place * 37 % 255
        try:
            note = read_note(bytes(changed))
        except SchemaError:
            continue
        assert signers_of(note, [LOG, WITNESS]) != [LOG, WITNESS], place


def test_every_line_of_a_note_counts() -> None:
    """A line that is left out, doubled or moved: the note is malformed, or not signed by both, or the same but for
    signatures in another order.
    """
    lines = write_note(signed()).decode().splitlines(keepends=True)
    for place in range(len(lines)):
        for spoiled in (
            lines[:place] + lines[place + 1 :],
            lines[: place + 1] + lines[place:],
            [*lines[place:], *lines[:place]],
        ):
            if spoiled == lines:
                continue
            try:
                note = read_note("".join(spoiled).encode())
            except SchemaError:
                continue
            good = note.text == TEXT and set(note.signatures) == set(signed().signatures)
            assert (signers_of(note, [LOG, WITNESS]) == [LOG, WITNESS]) == good


def test_a_line_that_lies_spoils_the_note() -> None:
    """Rule K40: one line that names a known key and is not its signature is enough, whatever stands beside it."""
    note = signed()
    lie = NoteSignature(name=LOG.name, key_hash=LOG.key_hash, signature=bytes(64))
    for signatures in ((*note.signatures, lie), (lie, *note.signatures)):
        assert signers_of(Note(text=TEXT, signatures=signatures), [LOG, WITNESS]) == lie
    stranger = NoteSignature(name="stranger", key_hash=b"abcd", signature=b"whatever")
    with_stranger = Note(text=TEXT, signatures=(stranger, *note.signatures, note.signatures[0]))
    assert signers_of(with_stranger, [LOG, WITNESS]) == [LOG, WITNESS]
    late = 2**63
    beyond = OTHER.sign(f"cosignature/v1\ntime {late}\n{TEXT}".encode())
    never = NoteSignature(
        name=WITNESS.name, key_hash=WITNESS.key_hash, signature=late.to_bytes(8) + beyond
    )
    assert signers_of(Note(text=TEXT, signatures=(never,)), [WITNESS]) == never
    short = NoteSignature(name=WITNESS.name, key_hash=WITNESS.key_hash, signature=b"x")
    assert signers_of(Note(text=TEXT, signatures=(short,)), [WITNESS]) == short


@pytest.mark.parametrize(
    "spoiled",
    [
        b"",
        b"text\n",
        b"text\n\n",
        "text\n\n— name QUJDREU=".encode(),
        b"text\n\n- name QUJDREU=\n",
        "text\n\n— QUJDREU=\n".encode(),
        "text\n\n— na+me QUJDREU=\n".encode(),
        "text\n\n— na\u2003me QUJDREU=\n".encode(),
        "text\n\n— name QUJDREV=\n".encode(),
        "text\n\n— name QUJD\n".encode(),
        "text\n\n— name QUJDREU=\n\n".encode(),
        "te\txt\n\n— name QUJDREU=\n".encode(),
        "te\xffxt\n\n— name QUJDREU=\n".encode("latin-1", "replace"),
        b"text\n\n" + "— name QUJDREU=\n".encode() * 65,
        b"x" * (NOTE_BYTES_MAX + 1),
    ],
)
def test_what_is_no_note_is_refused(spoiled) -> None:
    """One spelling for each note: no other dash, no other base64, no control characters, no end without a line end."""
    with pytest.raises(SchemaError):
        read_note(spoiled)


@given(st.binary(max_size=120))
def test_any_bytes_are_just_malformed(data: bytes) -> None:
    """Hostile bytes are refused, and nothing else is raised."""
    for read in (read_note, read_request, read_proof_of_inclusion):
        with pytest.raises(SchemaError):
            read(data)
    with pytest.raises(SchemaError):
        NoteKey.parse(data.decode("latin-1"))


@pytest.mark.parametrize(
    "text",
    [
        "log.example/a\n3\n",
        "log.example/a\n03\n" + TEXT.split("\n")[2] + "\n",
        "log.example/a\n-3\n" + TEXT.split("\n")[2] + "\n",
        "log.example/a\n3\nQUJDREU=\n",
        "log example\n3\n" + TEXT.split("\n")[2] + "\n",
        TEXT + "\nmore\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text) -> None:
    """A size in its shortest form, a root of 32 bytes, no empty line."""
    with pytest.raises(SchemaError):
        read_checkpoint(Note(text=text, signatures=()))


def test_lines_below_a_checkpoint_are_kept_and_signed() -> None:
    """An extension means nothing here, and changes what is signed."""
    note = Note(text=f"{TEXT}more\n", signatures=())
    assert read_checkpoint(note) == read_checkpoint(signed())
    assert signers_of(Note(text=note.text, signatures=signed().signatures), [LOG]) != [LOG]


def test_requests_and_proofs_are_read_as_they_are_written() -> None:
    """Number, hashes and note come back; a proof's extra line is passed over; a wrong head is refused."""
    path = (bytes(32), bytes(range(32)))
    request = write_request(7, path, signed())
    asked = read_request(request)
    assert (asked.number, asked.path, asked.note) == (7, path, signed())
    proof = write_proof_of_inclusion(2, path, signed())
    assert read_proof_of_inclusion(proof).number == 2
    first, rest = proof.split(b"\n", 1)
    assert read_proof_of_inclusion(first + b"\nextra QUJD\n" + rest).path == path
    spoiled = [
        (read_request, request.replace(b"old 7", b"old 07")),
        (read_request, request.replace(b"old 7", b"new 7")),
        (read_request, write_request(7, (bytes(32),) * 64, signed())),
        (read_request, write_request(7, (bytes(31),), signed())),
        (read_proof_of_inclusion, proof.replace(b"@v1", b"@v2")),
        (read_proof_of_inclusion, proof.replace(b"index 2\n", b"")),
    ]
    for read, data in spoiled:
        with pytest.raises(SchemaError):
            read(data)
