"""Operator keys: who may read them, which of them signs when, and which are trusted."""

from __future__ import annotations

import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from settlement.signing.keyring import Keyring, KeyringUnusable
from settlement.signing.signature import is_signed, parse_public_pem, sign

AT = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """A keyring with one key."""
    return Keyring.create(tmp_path / "keys", at=AT)


def ids(keys) -> list[str]:
    """Their ids."""
    return [key.key_id for key in keys]


def test_only_the_owner_may_read(keyring: Keyring) -> None:
    """The folder is 0700 and each file 0600, whatever the umask."""
    assert stat.S_IMODE(keyring.folder.stat().st_mode) == 0o700
    files = list(keyring.folder.iterdir())
    assert {file.name for file in files} == {"keyring.json", f"{keyring.keys[0].key_id}.pem"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@pytest.mark.parametrize("name", ["", "keyring.json", "key"])
def test_wider_permissions_are_refused(keyring: Keyring, name: str) -> None:
    """A key that others could read is not used, and the sentence says what to do."""
    path = keyring.folder / (f"{keyring.keys[0].key_id}.pem" if name == "key" else name)
    path.chmod(path.stat().st_mode | 0o040)
    with pytest.raises(KeyringUnusable, match=r"may be used by others \(mode 0.40\); run `chmod"):
        Keyring.open(keyring.folder).signers(AT)


def test_a_key_is_named_after_itself(keyring: Keyring) -> None:
    """The id is `op-` and 16 hex digits of the SHA-256 of the raw public key."""
    entry = keyring.keys[0]
    digest = hashlib.sha256(bytes.fromhex(entry.public_hex)).hexdigest()
    assert entry.key_id == f"op-{digest[:16]}"


def test_what_was_made_can_be_opened(keyring: Keyring) -> None:
    """The folder alone is enough, and what it signs its exported key verifies."""
    again = Keyring.open(keyring.folder)
    assert again == keyring
    key = again.signers(AT)[0]
    public = parse_public_pem(again.export(key.key_id))
    assert public is not None
    assert is_signed(public, b"data", sign(key.private, b"data"))


def test_both_keys_sign_during_an_overlap(keyring: Keyring) -> None:
    """The new key is the active one; the old one signs on until it retires."""
    old = keyring.keys[0].key_id
    rotated = keyring.rotate(at=AT + DAY, overlap=7 * DAY)
    new = rotated.keys[1].key_id
    assert ids(rotated.signers(AT)) == [old]
    assert ids(rotated.signers(AT + DAY)) == [new, old]
    assert ids(rotated.signers(AT + 8 * DAY - timedelta(microseconds=1))) == [new, old]
    assert ids(rotated.signers(AT + 8 * DAY)) == [new]
    assert set(rotated.trusted()) == {old, new}
    assert Keyring.open(keyring.folder) == rotated


def test_a_later_rotation_never_lengthens_an_old_keys_life(keyring: Keyring) -> None:
    """Who retires in a week does so, also when the next rotation overlaps for a year."""
    rotated = keyring.rotate(at=AT, overlap=7 * DAY).rotate(at=AT + DAY, overlap=365 * DAY)
    assert [entry.retires_at for entry in rotated.keys] == [AT + 7 * DAY, AT + 366 * DAY, None]


def test_a_revoked_key_is_never_trusted_again(keyring: Keyring) -> None:
    """It neither signs nor verifies, and its private part is gone."""
    old = keyring.keys[0].key_id
    rotated = keyring.rotate(at=AT, overlap=7 * DAY).revoke(old, at=AT + DAY)
    assert old not in rotated.trusted()
    assert old not in ids(rotated.signers(AT + DAY))
    assert not (keyring.folder / f"{old}.pem").exists()
    with pytest.raises(KeyringUnusable, match="revoked"):
        rotated.signing_key(old)
    assert rotated.revoke(old, at=AT + 2 * DAY) == rotated


def test_a_retired_key_still_writes_what_it_signed(keyring: Keyring) -> None:
    """A package that is written again gets the same signature."""
    old = keyring.keys[0].key_id
    rotated = keyring.rotate(at=AT, overlap=timedelta())
    assert ids(rotated.signers(AT)) == [rotated.keys[1].key_id]
    assert rotated.signing_key(old).key_id == old


def test_before_its_first_key_nothing_is_signed(keyring: Keyring) -> None:
    """Time is an argument, so that a wrong clock shows."""
    with pytest.raises(KeyringUnusable, match=r"No key .* signs at"):
        keyring.signers(AT - DAY)


def test_what_is_missing_or_damaged_says_so(keyring: Keyring, tmp_path: Path) -> None:
    """Each state has a sentence of its own."""
    name = keyring.keys[0].key_id
    with pytest.raises(KeyringUnusable, match="There are no keys in"):
        Keyring.open(tmp_path / "nowhere")
    with pytest.raises(KeyringUnusable, match="holds keys already"):
        Keyring.create(keyring.folder, at=AT)
    with pytest.raises(KeyringUnusable, match="There is no key op-0"):
        keyring.export("op-0")
    other = Keyring.create(tmp_path / "other", at=AT)
    pem = keyring.folder / f"{name}.pem"
    pem.write_bytes((other.folder / f"{other.keys[0].key_id}.pem").read_bytes())
    with pytest.raises(KeyringUnusable, match="holds another key"):
        keyring.signing_key(name)
    pem.write_bytes(b"no key")
    with pytest.raises(KeyringUnusable, match="is not a private key"):
        keyring.signing_key(name)
    pem.unlink()
    with pytest.raises(KeyringUnusable, match="cannot be read"):
        keyring.signing_key(name)
    index = keyring.folder / "keyring.json"
    index.write_bytes(index.read_bytes().replace(name.encode(), b"op-0000000000000000"))
    with pytest.raises(KeyringUnusable, match="do not belong together"):
        Keyring.open(keyring.folder)
    index.write_bytes(b"{")
    with pytest.raises(KeyringUnusable, match="is damaged"):
        Keyring.open(keyring.folder)


def test_rotations_at_once_lose_no_key(keyring: Keyring) -> None:
    """Two operators who rotate in the same moment each get a key."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: keyring.rotate(at=AT, overlap=DAY), range(8)))
    assert len(Keyring.open(keyring.folder).keys) == 9


def test_a_key_does_not_show_itself(keyring: Keyring) -> None:
    """A key that is printed or logged by mistake shows its name alone."""
    key = keyring.signers(AT)[0]
    assert repr(key) == f"SigningKey(key_id='{key.key_id}')"
