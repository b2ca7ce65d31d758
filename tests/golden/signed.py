"""A small package with several signers, and a checkpoint with its witness: committed bytes, and how they are made.

`python -m tests.golden.signed` writes it anew. Its keys are made of published sentences, so the signatures prove
nothing but that the bytes are the same. SM2 and the time-stamping authority sign differently every time.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.kit import sm2
from settlement.service.checkpoints import ask_witness, make_checkpoint, prove_inclusion
from settlement.service.signatures import Added, sign_package
from settlement.service.timestamps import ask_stamp, take_stamp
from settlement.service.witness import Witness
from settlement.signing.note import NoteKind, note_key
from settlement.signing.signature import key_id, public_pem
from settlement.signing.signer import SigningKey, Sm2SigningKey
from settlement.signing.trust import Trust
from tests.golden.packages import FIRST, FOLDER, KEY, KEY_ID, SECOND, TRUSTED, resign
from tests.tsa import Authority

SIGNED = Path(__file__).parent / "signed"
PACKAGE = SIGNED / FIRST
_PRIVATE = sm2.PrivateKey(hashlib.sha256(b"tongdui golden treasurer key").digest())
TREASURER = Sm2SigningKey(key_id=key_id(_PRIVATE.public_key()), private=_PRIVATE)
APPROVAL = {
    "threshold": 2,
    "signers": [
        {"key_id": KEY_ID, "role": "operator"},
        {"key_id": TREASURER.key_id, "role": "treasurer"},
    ],
}

ORIGIN = "house.example/packages"
WITNESS = SigningKey.of(
    Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"tongdui golden witness key").digest())
)
WITNESS_NAME = "witness.example/w1"
WITNESS_KEY = note_key(WITNESS, name=WITNESS_NAME, kind=NoteKind.COSIGNATURE)
LOG_KEY = note_key(SigningKey.of(KEY), name=ORIGIN, kind=NoteKind.ED25519)
SEEN_AT = 1_483_920_000


def digests() -> list[bytes]:
    """Digests of the manifests of both golden packages."""
    return [
        hashlib.sha256((FOLDER / cycle / "manifest.json").read_bytes()).digest()
        for cycle in (FIRST, SECOND)
    ]


def write_checkpoint(folder: Path) -> None:
    """Sign a checkpoint of both packages, let the witness cosign it, and prove that the second is in it."""
    known = digests()
    signed = make_checkpoint(known, [SigningKey.of(KEY)], origin=ORIGIN)
    asked = ask_witness(known, signed, old_size=0)
    with tempfile.TemporaryDirectory() as state:
        who = Witness(
            signer=WITNESS, name=WITNESS_NAME, logs=[LOG_KEY], state=Path(state) / "seen.json"
        )
        cosigned = who.add_checkpoint(asked, at_seconds=SEEN_AT)
    (folder / "checkpoint").write_bytes(cosigned)
    proof = prove_inclusion(known, cosigned, sequence=2)
    (folder / f"{SECOND}.tlog-proof").write_bytes(proof)


def _regenerate() -> None:
    shutil.rmtree(SIGNED, ignore_errors=True)
    shutil.copytree(FOLDER / FIRST, PACKAGE)
    resign(PACKAGE, approval=APPROVAL)
    assert isinstance(sign_package(PACKAGE, TREASURER, Trust(keys=TRUSTED)), Added)
    for name, public in ((KEY_ID, KEY.public_key()), (TREASURER.key_id, TREASURER.public)):
        (SIGNED / f"{name}.pub.pem").write_bytes(public_pem(public))
    write_checkpoint(SIGNED)
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority.make(Path(folder))
        asked = ask_stamp(PACKAGE, Trust(keys=TRUSTED))
        take_stamp(asked, authority.answer(asked.body), roots=())
        shutil.copy(authority.root, SIGNED / "tsa-root.pem")


if __name__ == "__main__":
    _regenerate()
