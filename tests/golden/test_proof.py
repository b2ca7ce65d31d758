"""A proof holds just what it shows."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement.core.report import Unreadable
from settlement.service.verification import verify_proof
from tests.golden.packages import (
    FOLDER,
    KEY_ID,
    TRUSTED,
)

PROOF = (FOLDER / "proof.json").read_bytes()


@pytest.mark.slow
def test_every_single_byte_of_a_proof_counts() -> None:
    """Any byte of a proof that changes makes a check fail, with exit status 1."""
    for place in range(len(PROOF)):
        change = 1 + place * 37 % 255
        spoiled = PROOF[:place] + bytes([PROOF[place] ^ change]) + PROOF[place + 1 :]
        report = verify_proof(spoiled, trusted=TRUSTED)
        assert report.exit_status == 1, (place, change, PROOF[max(0, place - 30) : place + 10])


def spoil_proof(**changes: object) -> bytes:
    """The committed proof with some fields changed, written as proofs are."""
    proof = json.loads(PROOF) | changes
    return json.dumps(proof, indent=2, ensure_ascii=False).encode() + b"\n"


def test_each_lie_of_a_proof_has_its_check() -> None:
    """The order, its figures, its place and the signature are each held against what is signed."""
    proof = json.loads(PROOF)
    assert verify_proof(spoil_proof(), trusted=TRUSTED).ok
    for name, changes in (
        ("event", {"order": proof["order"].replace("01595c79", "01595c78")}),
        ("event", {"order": proof["order"][:-1] + "4"}),
        ("event", {"event": proof["event"] | {"value_cu": "450"}}),
        ("event", {"event": proof["event"] | {"issuer": "AIR"}}),
        ("inclusion", {"leaf_index": 1}),
        ("inclusion", {"tree_size": 5}),
        ("inclusion", {"audit_path": proof["audit_path"][:-1]}),
        ("inclusion", {"root": "00" * 32}),
        ("signature", {"signatures": [{"key_id": KEY_ID, "signature": "AAAA"}]}),
    ):
        assert verify_proof(spoil_proof(**changes), trusted=TRUSTED).failed == [name], changes
    assert verify_proof(PROOF, trusted={}).failed == ["signature"]


@given(st.binary(max_size=300))
def test_what_is_no_proof_is_unreadable(data: bytes) -> None:
    """Exit status 2 and one sentence."""
    result = verify_proof(data, trusted=TRUSTED)
    assert isinstance(result, Unreadable)
    assert result.exit_status == 2
