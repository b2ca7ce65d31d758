"""A small package with several signers, whose bytes are committed, and how it is made.

`python -m tests.golden.signed` writes it anew. Its keys are made of published sentences, so the signatures prove
nothing but that the bytes are the same. SM2 signs differently every time.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from adapters.kit import sm2
from settlement.service.signatures import Added, sign_package
from settlement.signing.signature import key_id, public_pem
from settlement.signing.signer import Sm2SigningKey
from settlement.signing.trust import Trust
from tests.golden.packages import FIRST, FOLDER, KEY, KEY_ID, TRUSTED, resign

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


def _regenerate() -> None:
    shutil.rmtree(SIGNED, ignore_errors=True)
    shutil.copytree(FOLDER / FIRST, PACKAGE)
    resign(PACKAGE, approval=APPROVAL)
    assert isinstance(sign_package(PACKAGE, TREASURER, Trust(keys=TRUSTED)), Added)
    for name, public in ((KEY_ID, KEY.public_key()), (TREASURER.key_id, TREASURER.public)):
        (SIGNED / f"{name}.pub.pem").write_bytes(public_pem(public))


if __name__ == "__main__":
    _regenerate()
