"""A package's bytes are agreed with everybody who reads them: they change on purpose only."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from settlement.service.verification import verify_package, verify_proof
from tests.golden.packages import (
    FIRST,
    FOLDER,
    KEY_ID,
    SECOND,
    TRUSTED,
    cut_small,
    files_of,
    golden_keyring,
)


async def test_the_small_books_give_the_committed_bytes(dsn: str, tmp_path: Path) -> None:
    """Rule K3: the same books give the same bytes, on every machine and at any time."""
    await cut_small(dsn, golden_keyring(tmp_path / "keys"), tmp_path / "out")
    made, committed = files_of(tmp_path / "out"), files_of(FOLDER)
    assert made.keys() == committed.keys()
    for name, data in committed.items():
        assert made[name] == data, name


@pytest.mark.parametrize("cycle", [FIRST, SECOND])
def test_the_committed_packages_verify(cycle: str) -> None:
    """Every check passes, the chain too, with nothing but the public key."""
    report = verify_package(FOLDER / cycle, trusted=TRUSTED)
    assert report.exit_status == 0
    assert {check.status.value for check in report.checks} == {"passed"}
    assert report.subject == cycle


def test_the_committed_proof_verifies() -> None:
    """Rules K23 and K24: the proof needs nothing beside itself but the public key."""
    report = verify_proof((FOLDER / "proof.json").read_bytes(), trusted=TRUSTED)
    assert {check.status.value for check in report.checks} == {"passed"}


@pytest.mark.parametrize("cycle", [FIRST, SECOND])
def test_openssl_accepts_the_raw_signature(cycle: str) -> None:
    """Rule K9: anybody's OpenSSL checks `manifest.sig`, without this program."""
    done = subprocess.run(
        [
            "openssl", "pkeyutl", "-verify", "-rawin", "-pubin",
            "-inkey", FOLDER / f"{KEY_ID}.pub.pem",
            "-sigfile", FOLDER / cycle / "manifest.sig",
            "-in", FOLDER / cycle / "manifest.json",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Signature Verified Successfully" in done.stdout


def test_openssl_refuses_a_changed_manifest(packages: Path) -> None:
    """The test above can fail."""
    manifest = packages / FIRST / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"AIR", b"AIX", 1))
    done = subprocess.run(
        [
            "openssl", "pkeyutl", "-verify", "-rawin", "-pubin",
            "-inkey", FOLDER / f"{KEY_ID}.pub.pem",
            "-sigfile", packages / FIRST / "manifest.sig", "-in", manifest,
        ],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
