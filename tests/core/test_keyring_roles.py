"""A keyring with several roles and kinds of keys: which of them signs what, and how many must."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from settlement.signing.keyring import Keyring, KeyringUnusable
from settlement.signing.signature import is_signed, key_id
from settlement.signing.signer import make_key

AT = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
TREASURER = make_key(of_sm2=True)[1].public
SUCCESSOR = make_key()[1].public


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """A keyring with one key."""
    return Keyring.create(tmp_path / "keys", at=AT)


def test_a_house_of_one_key_says_nothing_of_approval(keyring):
    """Rule K34: without further roles and with a threshold of 1 a manifest is what it always was."""
    assert keyring.approval(AT) is None
    rotated = keyring.rotate(at=AT, overlap=DAY)
    assert rotated.approval(AT) is None
    index = (rotated.folder / "keyring.json").read_bytes()
    assert b"role" not in index
    assert b"threshold" not in index


def test_a_further_signer_is_named_with_its_role(keyring):
    """Rule K34: a manifest says who may sign, in which role, and how many roles must; who keeps its key signs nothing
    at the cut, and nothing that the house says besides packages is believed on its word.
    """
    added = keyring.add(TREASURER, role="treasurer", at=AT).set_threshold(2, at=AT)
    assert Keyring.open(keyring.folder) == added
    operator, treasurer = keyring.keys[0].key_id, key_id(TREASURER)
    approval = added.approval(AT)
    assert approval is not None
    assert approval.threshold == 2
    assert [(one.role, one.key_id) for one in approval.signers] == [
        ("operator", operator),
        ("treasurer", treasurer),
    ]
    assert added.package_signers(AT) == [operator]
    assert set(added.add(SUCCESSOR, role="auditor", at=AT).trusted()) == {operator}
    assert added.package_trust().roles == {operator: "operator", treasurer: "treasurer"}
    with pytest.raises(KeyringUnusable, match="lies with its signer"):
        added.signing_key(treasurer)


def test_keys_of_each_kind_rotate_by_themselves(keyring, softhsm, monkeypatch):
    """Rule K28: the first key of SM2, or behind PKCS #11, retires none; its successor retires it alone. The newest of
    Ed25519 is the active key, SM2 comes last, and all but the operator's Ed25519 keys in files sign packages alone.
    """
    monkeypatch.setenv("TONGDUI_PIN", softhsm.pin)
    first = keyring.keys[0].key_id
    several = keyring.rotate(at=AT, overlap=DAY, of_sm2=True)
    several = several.rotate(at=AT, overlap=DAY, module=softhsm.make_ed25519("rotated"))
    sm2, module = (entry.key_id for entry in several.keys[1:])
    assert [entry.retires_at for entry in several.keys] == [None, None, None]
    assert several.package_signers(AT) == [module, first, sm2]
    assert [key.key_id for key in several.signers(AT)] == [first]
    again = several.rotate(at=AT + DAY, overlap=DAY, of_sm2=True)
    assert [entry.retires_at for entry in again.keys] == [None, AT + 2 * DAY, None, None]
    assert again.package_signers(AT + 3 * DAY) == [module, first, again.keys[3].key_id]
    for name in (first, sm2, module):
        key = Keyring.open(keyring.folder).signing_key(name)
        assert is_signed(again.package_trust().keys[name], b"data", key.sign(b"data"))
    with pytest.raises(KeyringUnusable, match=r"is in .* already"):
        again.rotate(at=AT, overlap=DAY, module=softhsm.uri("rotated"))


def test_a_module_that_holds_another_key_is_found_out(keyring, softhsm, monkeypatch):
    """An address at which another key lies by now signs nothing."""
    monkeypatch.setenv("TONGDUI_PIN", softhsm.pin)
    taken = keyring.rotate(at=AT, overlap=DAY, module=softhsm.make_ed25519("taken"))
    softhsm.make_ed25519("another")
    index = keyring.folder / "keyring.json"
    index.write_text(index.read_text().replace("object=taken", "object=another"))
    with pytest.raises(KeyringUnusable, match="holds another key than its name says"):
        Keyring.open(keyring.folder).signing_key(taken.keys[1].key_id)


def test_a_signer_is_replaced_with_overlap(keyring):
    """Rule K28: the successor's predecessor retires when the overlap is over, and no other key of the role."""
    old = keyring.add(TREASURER, role="treasurer", at=AT)
    deputy = make_key()[1].public
    new = old.add(deputy, role="treasurer", at=AT).add(
        SUCCESSOR, role="treasurer", at=AT + DAY, replaces=key_id(TREASURER), overlap=7 * DAY
    )
    assert [entry.retires_at for entry in new.keys] == [None, AT + 8 * DAY, None, None]
    approval = new.approval(AT + 9 * DAY)
    assert approval is not None
    named = {one.key_id for one in approval.signers if one.role == "treasurer"}
    assert named == {key_id(deputy), key_id(SUCCESSOR)}
    assert key_id(TREASURER) in new.package_trust().keys
    revoked = new.revoke(key_id(TREASURER), at=AT + DAY)
    assert key_id(TREASURER) not in revoked.package_trust().keys
    with pytest.raises(KeyringUnusable, match="signs as operator, not as treasurer"):
        keyring.add(make_key()[1].public, role="treasurer", at=AT, replaces=keyring.keys[0].key_id)


def test_no_more_can_be_demanded_than_can_sign(keyring):
    """Rule K34: a role counts once, however many keys it has, so neither a rotation nor a deputy makes two of one."""
    rotated = keyring.rotate(at=AT, overlap=DAY)
    with pytest.raises(KeyringUnusable, match=r"2 roles must sign, and keys of 1 do \(operator\)"):
        rotated.set_threshold(2, at=AT)
    added = rotated.add(TREASURER, role="treasurer", at=AT).set_threshold(2, at=AT)
    with pytest.raises(KeyringUnusable, match="2 roles must sign"):
        added.retire(key_id(TREASURER), at=AT)
    lowered = added.set_threshold(1, at=AT).retire(key_id(TREASURER), at=AT)
    assert lowered.approval(AT) is None
    with pytest.raises(KeyringUnusable, match="is the last that signs for the house"):
        keyring.retire(lowered.keys[1].key_id, at=AT + 2 * DAY)
    with pytest.raises(KeyringUnusable, match="0 roles"):
        lowered.set_threshold(0, at=AT)
