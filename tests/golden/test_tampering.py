"""Whatever is changed in a package, the check that is meant for it fails."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from settlement.core.report import Report, Unreadable
from settlement.service.verification import verify_package
from settlement.signing.signature import key_id, sign
from tests.golden.packages import (
    FOLDER,
    KEY,
    KEY_ID,
    SECOND,
    TRUSTED,
    failed,
    files_of,
    resign,
)

NAMES = sorted(files_of(FOLDER / SECOND))
MANIFESTS = [name for name in NAMES if name.startswith("manifest.")]
LISTED = sorted(
    set(NAMES) - set(MANIFESTS),
    key=lambda name: (-(FOLDER / SECOND / name).stat().st_size, name),
)
BY_THREES = [tuple(sorted(LISTED[at : at + 3])) for at in range(0, len(LISTED), 3)]
"""As many files as one report names, of about the same length: their bytes are changed side by side."""


def guard_of(name: str) -> str:
    """The check that guards a file against a change."""
    if name in ("manifest.json", "manifest.sig"):
        return "signature"
    return "jws" if name == "manifest.jws" else "files"


@pytest.mark.slow
@pytest.mark.parametrize("name", MANIFESTS)
def test_every_single_byte_of_a_manifest_counts(packages: Path, name: str) -> None:
    """Any byte of the manifest or of a signature that changes makes its own check fail, with exit status 1."""
    path = packages / SECOND / name
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(changed(whole, place))
        assert guard_of(name) in failed(packages / SECOND), (name, place)
    path.write_bytes(whole)
    assert failed(packages / SECOND) == []


@pytest.mark.slow
@pytest.mark.parametrize("together", BY_THREES, ids=" ".join)
def test_every_single_byte_counts(packages: Path, together: tuple[str, ...]) -> None:
    """Any byte of any listed file that changes makes the check of files fail and name the file, with exit status 1."""
    folder = packages / SECOND
    whole = {name: (folder / name).read_bytes() for name in together}
    for place in range(max(map(len, whole.values()))):
        for name, data in whole.items():
            (folder / name).write_bytes(changed(data, place) if place < len(data) else data)
        report = verify_package(folder, trusted=TRUSTED)
        assert isinstance(report, Report)
        assert report.exit_status == 1
        [files] = [check for check in report.checks if check.name == "files"]
        hit = [name for name, data in whole.items() if place < len(data)]
        assert files.english == f"Files differ: {'; '.join(f'{name} was changed' for name in hit)}."
        assert files.chinese == f"文件不符：{'；'.join(f'{name} 被改动' for name in hit)}。"
    for name, data in whole.items():
        (folder / name).write_bytes(data)
    assert failed(folder) == []


def changed(whole: bytes, place: int) -> bytes:
    """The same bytes but for the one at `place`."""
    change = 1 + place * 37 % 255
    return whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :]


@pytest.mark.parametrize("name", NAMES)
def test_a_byte_more_or_less_counts(package: Path, packages: Path, name: str) -> None:
    """A file that grew or shrank by one byte is found out."""
    path = packages / SECOND / name
    whole = path.read_bytes()
    for spoiled in (whole + b"\n", whole[:-1], b""):
        path.write_bytes(spoiled)
        if name == "manifest.json" and not spoiled:
            assert isinstance(verify_package(packages / SECOND, trusted=TRUSTED), Unreadable)
        else:
            assert guard_of(name) in failed(packages / SECOND)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(packages: Path, name: str) -> None:
    """A file that is gone fails its check, and the sentence names it."""
    (packages / SECOND / name).unlink()
    report = verify_package(packages / SECOND, trusted=TRUSTED)
    assert isinstance(report, Report)
    assert report.exit_status == 1
    guard = "manifest" if name == "manifest.json" else guard_of(name)
    sentence = next(check.english for check in report.checks if check.name == guard)
    assert Path(name).name in sentence


@pytest.mark.parametrize(
    "name", ["extra.txt", "statements/ZOO.csv", ".hidden", "manifest.op-0.sig"]
)
def test_an_added_file_is_named(package: Path, name: str) -> None:
    """A file that the manifest does not list fails the check of files."""
    (package / name).write_bytes(b"x")
    assert failed(package) == ["files"]


def test_an_added_folder_or_link_is_named(package: Path) -> None:
    """Only regular files belong into a package."""
    (package / "more").mkdir()
    assert failed(package) == ["files"]
    (package / "more").rmdir()
    shutil.move(package / "positions.csv", package.parent / "elsewhere.csv")
    (package / "positions.csv").symlink_to(package.parent / "elsewhere.csv")
    assert failed(package) == ["files"]


def test_another_key_is_not_trusted(package: Path) -> None:
    """A package that somebody else signed fails, whether the key calls itself ours or not."""
    other = Ed25519PrivateKey.generate()
    resign(package, key=other)
    assert set(failed(package)) == {"signature", "jws"}
    resign(package, key=other, signing_keys=[key_id(other.public_key())])
    report = verify_package(package, trusted=TRUSTED)
    assert report.failed == ["signature", "jws"]
    assert "not among the trusted keys" in report.checks[1].english
    assert verify_package(package, trusted={}).failed == ["signature", "jws"]


def test_every_signer_of_an_overlap_is_checked(package: Path) -> None:
    """A second signer's file must be there, good, and of a trusted key."""
    other = Ed25519PrivateKey.generate()
    name = key_id(other.public_key())
    resign(package, signing_keys=[KEY_ID, name])
    assert failed(package) == ["signature", "files"]
    manifest = (package / "manifest.json").read_bytes()
    (package / f"manifest.{name}.sig").write_bytes(sign(other, manifest))
    assert failed(package) == ["signature"]
    both = TRUSTED | {name: other.public_key()}
    assert verify_package(package, trusted=both).ok
    (package / f"manifest.{name}.sig").write_bytes(sign(KEY, manifest))
    assert verify_package(package, trusted=both).failed == ["signature"]
    (package / f"manifest.{name}.sig").write_bytes(b"")
    assert verify_package(package, trusted=both).failed == ["signature"]


# --- what is no package at all ---


def test_what_is_no_package_is_unreadable(tmp_path: Path) -> None:
    """Exit status 2 and one sentence in each language."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"name": "something else"}')
    for name in ("nothing", "file", "empty", "other"):
        result = verify_package(tmp_path / name, trusted=TRUSTED)
        assert isinstance(result, Unreadable), name
        assert result.exit_status == 2
        assert result.english.endswith(".")
        assert result.chinese.endswith("。")


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_nothing_makes_the_verifier_fail_itself(packages: Path, data) -> None:
    """Hostile bytes in any file, signed or not, end in a report or in `Unreadable`, never in a raise."""
    folder = packages / SECOND
    name = data.draw(st.sampled_from(NAMES))
    path = folder / name
    whole = path.read_bytes()
    spoiled = data.draw(
        st.one_of(
            st.binary(max_size=200),
            st.tuples(st.integers(0, len(whole)), st.binary(max_size=20), st.integers(0, 40)).map(
                lambda cut: whole[: cut[0]] + cut[1] + whole[cut[0] + cut[2] :]
            ),
        )
    )
    signed = data.draw(st.booleans()) and name not in MANIFESTS
    before = {one: (folder / one).read_bytes() for one in {name, *MANIFESTS}}
    try:
        path.write_bytes(spoiled)
        if signed:
            resign(folder)
        result = verify_package(folder, trusted=TRUSTED)
        assert result.ok == (spoiled == whole)
        assert all(check.english and check.chinese for check in getattr(result, "checks", ()))
    finally:
        for one, content in before.items():
            (folder / one).write_bytes(content)
