"""Timestamps of packages: asked of a real authority over a socket, kept beside the manifest, verified offline."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from settlement.core.report import CheckFailed, Report
from settlement.service.timestamps import ask_stamp, standing_stamp, take_stamp
from settlement.service.verification import Wanted, verify_package
from settlement.signing.signature import read_public_key
from settlement.signing.timestamp import (
    RESPONSE_BYTES_MAX,
    TimestampInvalid,
    ask_timestamp,
    check_answer,
    read_roots,
    verify_timestamp,
)
from settlement.signing.trust import Trust
from tests.golden.packages import FIRST, FOLDER, TRUSTED, files_of
from tests.golden.signed import SIGNED, TREASURER
from tests.tsa import Authority, in_the_past

TRUST = Trust(keys=TRUSTED)
DATA = (FOLDER / FIRST / "manifest.json").read_bytes()


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    """An authority of the tests' own."""
    return Authority.make(tmp_path_factory.mktemp("tsa"))


@pytest.fixture(scope="module")
def answer(authority) -> bytes:
    """Its answer over the manifest."""
    return authority.answer(ask_timestamp(DATA).as_bytes())


def roots_of(authority: Authority) -> tuple:
    """Its certificates, as a verifier reads them."""
    return tuple(read_roots(authority.root.read_bytes()))


def told(folder: Path, *authorities: Authority) -> tuple[list[str], list[tuple[str, str]]]:
    """Names of the checks that fail, and what is said of the timestamp."""
    roots = tuple(root for each in authorities for root in roots_of(each))
    report = verify_package(folder, trusted=TRUSTED, wanted=Wanted(tsa_roots=roots))
    assert isinstance(report, Report)
    return report.failed, [
        (each.status.value, each.english) for each in report.checks if each.name == "timestamp"
    ]


def test_a_package_is_stamped_and_verified_offline(package, authority):
    """Rules K43 and K44: one file is added and nothing else changes; without a root it is not checked."""
    before = files_of(package)
    assert told(package) == ([], [])
    asked = ask_stamp(package, TRUST)
    response = authority.answer(asked.body)
    take_stamp(asked, response, roots=roots_of(authority), dry_run=True)
    assert files_of(package) == before
    at = take_stamp(asked, response, roots=roots_of(authority))
    assert files_of(package) == before | {"manifest.tsr": response}
    assert standing_stamp(package) == response
    sentence = f"The manifest was there at {at:%Y-%m-%d %H:%M:%S} UTC."
    assert told(package, authority) == ([], [("passed", sentence)])
    failed, [(status, _)] = told(package)
    assert (failed, status) == ([], "not checked")


def test_openssl_accepts_the_token(package, authority, answer):
    """`openssl ts -verify` takes the same file, with the manifest and the root alone."""
    (package / "manifest.tsr").write_bytes(answer)
    words = ["openssl", "ts", "-verify", "-in", "manifest.tsr", "-data", "manifest.json"]
    for file, status in (("manifest.json", 0), ("positions.csv", 1)):
        words[-1] = file
        done = subprocess.run(
            [*words, "-CAfile", authority.root], cwd=package, capture_output=True, check=False
        )
        assert done.returncode == status, done.stderr


def test_a_token_of_another_authority_or_of_none_fails(package, authority, answer, tmp_path):
    """Rule K44: a verifier that names a root wants a token that leads to it; any of several roots will do."""
    other = Authority.make(tmp_path / "other")
    failed, [(_, sentence)] = told(package, authority)
    assert (failed, sentence) == (["timestamp"], "manifest.tsr is missing.")
    (package / "manifest.tsr").write_bytes(answer)
    failed, [(_, sentence)] = told(package, other)
    assert failed == ["timestamp"]
    assert (
        "leads to no authority that is trusted (unable to get local issuer certificate)" in sentence
    )
    assert told(package, other, authority)[0] == []


def test_a_token_over_another_manifest_fails(package, authority):
    """Rule K44: a good token of a good authority over other bytes is none of this package."""
    (package / "manifest.tsr").write_bytes(authority.answer(ask_timestamp(DATA + b" ").as_bytes()))
    failed, [(_, sentence)] = told(package, authority)
    assert failed == ["timestamp"]
    assert "it is over other bytes (Mismatch between messages)" in sentence


def test_a_certificate_that_had_expired_stamps_nothing(tmp_path):
    """Rule K44: what counts is whether it was valid at the instant that the token gives."""
    expired = Authority.make(tmp_path, valid=in_the_past())
    response = expired.answer(ask_timestamp(DATA).as_bytes())
    with pytest.raises(
        TimestampInvalid, match=r"had expired when it was given \(certificate has expired\)"
    ):
        verify_timestamp(response, DATA, roots=roots_of(expired))


def test_an_answer_to_another_question_is_not_taken(package, authority, answer, tmp_path):
    """Rule K43: the nonce and the digest are those that were asked; a refusal is told in the authority's words."""
    asked = ask_stamp(package, TRUST)
    with pytest.raises(TimestampInvalid, match="answers another request"):
        take_stamp(asked, answer, roots=())
    with pytest.raises(TimestampInvalid, match="over other bytes"):
        check_answer(authority.answer(asked.body), asked.request, DATA + b" ")
    good = authority.answer(asked.body)
    with pytest.raises(TimestampInvalid, match="local issuer"):
        take_stamp(asked, good, roots=roots_of(Authority.make(tmp_path)))
    refusal = bytes.fromhex("300530030201023000")[:7]
    for response in (
        refusal,
        b"",
        b"hello",
        good[:-1],
        good + b"\0",
        bytes(RESPONSE_BYTES_MAX + 1),
    ):
        with pytest.raises(TimestampInvalid):
            take_stamp(asked, response, roots=())
    assert standing_stamp(package) is None
    (package / "manifest.sig").write_bytes(bytes(64))
    with pytest.raises(CheckFailed):
        ask_stamp(package, TRUST)


def test_no_byte_of_a_token_changes_what_it_says(authority, answer):
    """Whatever byte changes, the token is invalid, or says the same: CMS signs neither its version numbers nor the name
    of the signature's algorithm (RFC 5652 §5.4).
    """
    roots = roots_of(authority)
    at = verify_timestamp(answer, DATA, roots=roots)
    taken = []
    for place in range(0, len(answer), 3):
        changed = bytearray(answer)
        changed[place] ^= 1 + place * 37 % 255
        try:
            taken.append(verify_timestamp(bytes(changed), DATA, roots=roots))
        except TimestampInvalid:
            continue
    assert set(taken) <= {at}
    assert len(taken) <= 5


def test_the_committed_package_has_both_signers_and_a_good_token():
    """Rules K35 and K44: two roles of two algorithms, and a token of an authority that is no more."""
    roots = tuple(read_roots((SIGNED / "tsa-root.pem").read_bytes()))
    pem = (SIGNED / f"{TREASURER.key_id}.pub.pem").read_bytes()
    treasurer = read_public_key(pem)
    assert treasurer is not None
    report = verify_package(
        SIGNED / FIRST,
        trusted=TRUSTED | {TREASURER.key_id: treasurer},
        wanted=Wanted(tsa_roots=roots),
    )
    assert report.failed == []
    assert {"threshold", "timestamp"} <= {each.name for each in report.checks}


def test_roots_are_certificates():
    """A file without a certificate is refused."""
    for pem in (b"", b"nonsense", (SIGNED / "op-acde940683b68c0e.pub.pem").read_bytes()):
        with pytest.raises(ValueError, match=r".+"):
            read_roots(pem)
