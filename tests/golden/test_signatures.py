"""Further signers: a package says how many roles must sign; they do it later and elsewhere, and the verifier counts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from settlement.core.report import CheckFailed, Report, Unreadable
from settlement.service.package_adding import add_file
from settlement.service.package_folder import PackageFolder
from settlement.service.signatures import (
    Added,
    NotASigner,
    reached,
    sign_package,
    take_signature,
)
from settlement.service.verification import Wanted, verify_package
from settlement.signing.signer import SigningKey, make_key
from settlement.signing.trust import Trust
from tests.golden.packages import (
    FIRST,
    KEY,
    KEY_ID,
    MADE_AT,
    TRUSTED,
    files_of,
    golden_keyring,
    resign,
)

TREASURER = make_key(of_sm2=True)[1]
DEPUTY = make_key()[1]
AUDITOR = make_key()[1]
ROLES = {KEY_ID: "operator", TREASURER.key_id: "treasurer", AUDITOR.key_id: "auditor"}
KEYS = TRUSTED | {key.key_id: key.public for key in (TREASURER, DEPUTY, AUDITOR)}
SIGNERS = [
    {"key_id": KEY_ID, "role": "operator"},
    {"key_id": TREASURER.key_id, "role": "treasurer"},
    {"key_id": DEPUTY.key_id, "role": "treasurer"},
]
TRUST = Trust(keys=KEYS)


def checked(folder: Path, threshold: int | None = None, **more) -> tuple[list[str], str]:
    """Names of the checks that fail, and the sentence on the threshold; empty where there is no such check."""
    report = verify_package(folder, trusted=KEYS, wanted=Wanted(threshold=threshold, **more))
    assert isinstance(report, Report)
    told = [check.english for check in report.checks if check.name == "threshold"]
    return report.failed, "".join(told)


@pytest.fixture
def stated(package: Path) -> Path:
    """A package that states a threshold of 2; the operator has signed it."""
    resign(package, approval={"threshold": 2, "signers": SIGNERS})
    return package


def test_a_package_is_not_good_before_enough_have_signed(stated):
    """Rule K35: what is stated and not reached fails its check by name; a verifier may demand less or more."""
    failed, told = checked(stated)
    assert failed == ["threshold"]
    assert told == "Only 1 of 2 roles signed: operator; treasurer may."
    lowered = "1 of 1 roles signed: operator; the package itself states 2."
    assert checked(stated, threshold=1) == ([], lowered)
    added = sign_package(stated, TREASURER, Trust(keys=TRUSTED))
    assert added == Added(
        key_id=TREASURER.key_id,
        role="treasurer",
        file_name=f"manifest.{TREASURER.key_id}.sig",
        again=False,
    )
    assert checked(stated) == ([], "2 of 2 roles signed: operator, treasurer.")
    assert checked(stated, threshold=3)[0] == ["threshold"]


def test_a_package_of_old_verifies_as_ever(package):
    """Rule K34: one that states nothing has no such check unless the verifier demands it, and then one role signed."""
    report = verify_package(package, trusted=TRUSTED)
    assert "threshold" not in [check.name for check in report.checks]
    assert checked(package, threshold=1)[0] == []
    assert checked(package, threshold=2) == (
        ["threshold"],
        "Only 1 of 2 roles signed: operator.",
    )
    with pytest.raises(NotASigner, match="beside the operator may sign: nobody"):
        sign_package(package, TREASURER, Trust(keys=TRUSTED))


def test_a_role_counts_once(stated):
    """Rule K34: neither a deputy beside the treasurer nor a second key of the operator's makes one more."""
    for key in (TREASURER, DEPUTY):
        sign_package(stated, key, TRUST)
    assert checked(stated)[0] == []
    assert checked(stated, threshold=3)[0] == ["threshold"]
    (stated / f"manifest.{TREASURER.key_id}.sig").unlink()
    assert checked(stated)[0] == []
    second = Trust(keys=KEYS, roles={AUDITOR.key_id: "operator"})
    (stated / f"manifest.{DEPUTY.key_id}.sig").unlink()
    sign_package(stated, AUDITOR, second)
    assert checked(stated, roles=second.roles) == (
        ["threshold"],
        "Only 1 of 2 roles signed: operator; treasurer may.",
    )


def test_the_verifiers_word_on_a_role_is_stronger_than_the_manifests(package):
    """Rule K35: an operator cannot pass its own key for the treasurer's, nor may a treasurer's sign in its place."""
    claimed = [SIGNERS[0], {"key_id": AUDITOR.key_id, "role": "treasurer"}]
    resign(package, approval={"threshold": 2, "signers": claimed})
    sign_package(package, AUDITOR, TRUST)
    assert checked(package)[0] == []
    assert checked(package, roles={AUDITOR.key_id: "operator"})[0] == ["threshold"]
    assert checked(package, roles={KEY_ID: "treasurer"})[0] == ["signature", "threshold"]


def test_what_nobody_can_check_does_not_count(stated):
    """Rule K35: a signature of a key that the verifier does not trust neither counts nor fails."""
    sign_package(stated, TREASURER, TRUST)
    report = verify_package(stated, trusted=TRUSTED)
    assert report.failed == ["threshold"]
    (stated / f"manifest.{TREASURER.key_id}.sig").write_bytes(b"x")
    assert verify_package(stated, trusted=TRUSTED).failed == ["threshold"]
    assert "signature" in checked(stated)[0]


def test_every_byte_of_a_further_signature_counts(stated):
    """Any byte that changes, one more or one less makes the check of signatures fail."""
    for key in (TREASURER, DEPUTY):
        sign_package(stated, key, TRUST)
        path = stated / f"manifest.{key.key_id}.sig"
        whole = path.read_bytes()
        spoiled = [
            whole[:place] + bytes([whole[place] ^ (1 + place * 37 % 255)]) + whole[place + 1 :]
            for place in range(0, len(whole), 1 if key is DEPUTY else 5)
        ]
        for content in (*spoiled, whole + b"\0", whole[:-1], b""):
            path.write_bytes(content)
            with pytest.raises(CheckFailed):
                reached_with(stated)
        path.write_bytes(whole)
        reached_with(stated)
    name = f"manifest.{AUDITOR.key_id}.sig"
    shutil.copy(stated / f"manifest.{DEPUTY.key_id}.sig", stated / name)
    assert checked(stated)[0] == ["files"]


def reached_with(folder: Path):
    """What the library says of a package under the keys of these tests."""
    from settlement.service.verify_manifest import ManifestVerifier

    verifier = ManifestVerifier(folder, KEYS, None)
    verifier.verified()
    return verifier.check_threshold(None)


def test_signing_adds_one_file_and_changes_nothing(stated):
    """Rule K36: every other file keeps its bytes, a second time signs nothing anew, and a dry run writes nothing."""
    before = files_of(stated)
    told = sign_package(stated, TREASURER, TRUST, dry_run=True)
    assert isinstance(told, Added)
    assert files_of(stated) == before
    sign_package(stated, TREASURER, TRUST)
    after = files_of(stated)
    assert set(after) - set(before) == {told.file_name}
    assert {name: after[name] for name in before} == before
    with pytest.raises(CheckFailed, match="another package by now"):
        add_file(stated, "manifest.tsr", b"", over=b"what stood there when it was asked")
    again = sign_package(stated, TREASURER, TRUST)
    assert isinstance(again, Added)
    assert again.again
    assert files_of(stated) == after
    assert sorted(path.name for path in stated.parent.iterdir()) == sorted(
        path.name for path in (Path(__file__).parent / "packages").iterdir()
    )


@pytest.mark.parametrize("name", ["manifest.json", "positions.csv", "manifest.sig"])
def test_a_package_that_does_not_verify_is_not_signed(stated, name):
    """Rule K36: whoever signs vouches for all of it, so any check that fails stands in the way."""
    path = stated / name
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1)[:-1])
    report = sign_package(stated, TREASURER, TRUST)
    assert isinstance(report, Report)
    assert not report.ok
    assert not (stated / f"manifest.{TREASURER.key_id}.sig").exists()
    assert isinstance(sign_package(stated.parent, TREASURER, TRUST), Unreadable)


def test_who_is_not_named_does_not_sign(stated):
    """Rule K36: a key of whose role neither the manifest nor the verifier says a word, or that signed at the cut, is
    refused; one whose role the verifier tells may sign, and counts for whoever knows it too.
    """
    with pytest.raises(NotASigner, match="may not sign it; beside the operator may sign: "):
        sign_package(stated, AUDITOR, TRUST)
    with pytest.raises(NotASigner, match="signed it when it was cut"):
        sign_package(stated, SigningKey.of(KEY), TRUST)
    assert isinstance(sign_package(stated, AUDITOR, Trust(keys=KEYS, roles=ROLES)), Added)
    assert checked(stated, roles=ROLES)[0] == []


def test_a_signature_that_was_made_elsewhere_is_taken(stated):
    """Rule K36: the manifest alone is enough to sign; what comes back is checked before it stands in the package."""
    signature = TREASURER.sign((stated / "manifest.json").read_bytes())
    with pytest.raises(NotASigner, match="no trusted key"):
        take_signature(stated, signature[:-1], TRUST)
    added = take_signature(stated, signature, TRUST)
    assert isinstance(added, Added)
    assert (stated / added.file_name).read_bytes() == signature
    assert checked(stated)[0] == []


def test_a_cut_that_is_repeated_keeps_what_others_added(stated, tmp_path):
    """Rule K36: a package that is written again has the further signatures and the timestamp that stood in it."""
    keyring = golden_keyring(tmp_path / "keys").add(TREASURER.public, role="treasurer", at=MADE_AT)
    sign_package(stated, TREASURER, TRUST)
    (stated / "manifest.tsr").write_bytes(b"stamp")
    (stated / f"manifest.{DEPUTY.key_id}.sig").write_bytes(b"of nobody that is known")
    before = files_of(stated)
    folder = PackageFolder.begin(stated.parent, FIRST)
    folder.sign(before["manifest.json"], [KEY_ID], keyring)
    kept = files_of(folder.work)
    assert kept == {
        name: data
        for name, data in before.items()
        if name.startswith("manifest.") and DEPUTY.key_id not in name
    }


def test_money_moves_when_enough_have_signed(stated, tmp_path):
    """Rule K37: the house's threshold or the manifest's, whichever is more, by the house's own word on who is who."""
    keyring = golden_keyring(tmp_path / "keys").add(TREASURER.public, role="treasurer", at=MADE_AT)
    before = reached(stated, keyring)
    assert (before.ok, before.missing) == (False, ("treasurer",))
    assert str(before) == "1 of 2 roles signed: operator; treasurer may"
    sign_package(stated, TREASURER, TRUST)
    after = reached(stated, keyring)
    assert (after.ok, after.signed, after.missing) == (True, ("operator", "treasurer"), ())
    third = keyring.add(AUDITOR.public, role="auditor", at=MADE_AT).set_threshold(3, at=MADE_AT)
    assert not reached(stated, third).ok
    sign_package(stated, AUDITOR, third.package_trust())
    assert reached(stated, third).ok
    revoked = third.revoke(TREASURER.key_id, at=MADE_AT)
    assert reached(stated, revoked).signed == ("auditor", "operator")
    (stated / "manifest.sig").write_bytes(Ed25519PrivateKey.generate().sign(b""))
    with pytest.raises(CheckFailed):
        reached(stated, third)
