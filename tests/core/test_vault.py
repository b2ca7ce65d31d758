"""The vault: master keys of each kind, and what is sealed under keys that they wrap."""

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.request_digest import RequestDigests, plain_digest
from exchange.vault.master import (
    LocalMasterKey,
    MasterKeyUnusable,
    ModuleMasterKey,
    make_master_key,
    open_master_key,
)
from exchange.vault.sealing import HOUSE_KEYS, MemberKey, SealBroken, Vault


def test_a_master_key_is_made_once_for_its_owner_alone(tmp_path):
    """Without a name the file in the folder serves; it is made once, and refused when others may read it."""
    first = open_master_key(tmp_path, environment={})
    path = tmp_path / "master.key"
    assert path.stat().st_mode & 0o777 == 0o600
    make_master_key(path)
    again = open_master_key(tmp_path, environment={})
    assert again.unwrap(first.wrap(b"secret", name="n"), name="n") == b"secret"
    path.chmod(0o640)
    with pytest.raises(MasterKeyUnusable, match="chmod 600"):
        open_master_key(tmp_path, environment={})


def test_a_master_key_that_is_named(tmp_path):
    """A file and an environment variable say the same key; one that is named is never made."""
    make_master_key(tmp_path / "k")
    text = (tmp_path / "k").read_text().strip()
    by_file = open_master_key(
        tmp_path, environment={"TONGDUI_MASTER_KEY": f"file:{tmp_path / 'k'}"}
    )
    by_name = open_master_key(tmp_path, environment={"TONGDUI_MASTER_KEY": "env:K", "K": text})
    assert by_file.master_id == by_name.master_id
    assert by_file.unwrap(by_name.wrap(b"x", name="n"), name="n") == b"x"
    assert not (tmp_path / "master.key").exists()


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("file:/nowhere/k", "cannot read"),
        ("env:K", "holds no key|has 32 bytes"),
        ("env:SHORT", "has 32 bytes, not 2"),
        ("env:", "reads file:"),
        ("00112233", "reads file:"),
        ("pkcs11:token=t", "module-path"),
    ],
)
def test_a_master_key_that_cannot_be_used(tmp_path, named, told):
    """Each fault says what to do, and none repeats the key."""
    environment = {"TONGDUI_MASTER_KEY": named, "SHORT": "a1b2", "K": "not hex"}
    with pytest.raises(MasterKeyUnusable, match=told) as caught:
        open_master_key(tmp_path, environment=environment)
    assert "a1b2" not in str(caught.value)
    assert "00112233" not in str(caught.value)


@given(secret=st.binary(min_size=1, max_size=64), place=st.integers(0, 10_000))
def test_what_is_wrapped_opens_under_its_name_alone(secret, place):
    """Another key, another name or one altered bit: refused."""
    key = LocalMasterKey(bytes(range(32)))
    wrapped = key.wrap(secret, name="members")
    assert key.unwrap(wrapped, name="members") == secret
    spot = place % len(wrapped)
    altered = wrapped[:spot] + bytes([wrapped[spot] ^ 1]) + wrapped[spot + 1 :]
    for opener, data, name in (
        (key, altered, "members"),
        (key, wrapped, "lookup"),
        (LocalMasterKey(bytes(32)), wrapped, "members"),
    ):
        with pytest.raises(MasterKeyUnusable):
            opener.unwrap(data, name=name)


def vault_of(**keys: bytes) -> Vault:
    """A vault under keys of zeros but for those that are named."""
    return Vault(**dict.fromkeys(HOUSE_KEYS, bytes(32)) | keys)


@given(text=st.text(max_size=70), place=st.integers(0, 10_000))
def test_what_is_sealed_opens_in_its_place_alone(text, place):
    """A member's text opens with the member's key where it was sealed, unaltered, and nowhere else."""
    vault = vault_of()
    key, wrapped = vault.make_member_key(7)
    sealed = key.seal(text, place="name 3")
    assert vault.open_member_key(7, wrapped).open(sealed, place="name 3") == text
    spot = place % len(sealed)
    altered = sealed[:spot] + bytes([sealed[spot] ^ 1]) + sealed[spot + 1 :]
    for opener, data, where in (
        (key, altered, "name 3"),
        (key, sealed, "name 4"),
        (MemberKey(secrets.token_bytes(32)), sealed, "name 3"),
    ):
        with pytest.raises(SealBroken):
            opener.open(data, place=where)
    with pytest.raises(SealBroken):
        vault.open_member_key(8, wrapped)


def test_a_digest_is_of_its_scope():
    """The same name of two merchants has two digests, and another house has others."""
    vault = vault_of()
    other = vault_of(lookup=bytes(31) + b"x")
    found = {
        vault.digest("anna", scope=0),
        vault.digest("anna", scope=1),
        other.digest("anna", scope=0),
    }
    assert len(found) == 3


def test_a_seed_opens_for_its_owner_alone():
    """What is sealed for a person opens for that person under the house's key, unaltered."""
    seals = vault_of().people
    sealed = seals.seal(b"seed", owner="anna")
    assert seals.open(sealed, owner="anna") == b"seed"
    altered = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for opener, data, owner in (
        (seals, sealed, "ben"),
        (seals, altered, "anna"),
        (vault_of(people=bytes(31) + b"x").people, sealed, "anna"),
    ):
        with pytest.raises(SealBroken):
            opener.open(data, owner=owner)


@given(
    requests=st.lists(st.tuples(st.just("order"), st.text(), st.none() | st.integers(0, 9))),
)
def test_a_request_is_known_again_by_whoever_has_the_key(requests):
    """Rules I2 and I3: a request has one digest, alone and among many; no two share it, and it takes the key."""
    digests, others = RequestDigests(bytes(32)), RequestDigests(bytes(31) + b"x")
    whole = digests.of_all(requests)
    assert whole == b"".join(digests.of(each) for each in requests)
    assert len({digests.of(each) for each in requests}) == len(set(requests))
    for each in requests:
        mine, plain = digests.of(each), plain_digest(each)
        assert len({mine, plain, others.of(each)}) == 3
        # What was stored before there was a key is known again, whichever of both came first.
        assert digests.same(mine, mine)
        assert digests.same(plain, mine)
        assert digests.same(mine, plain)
        assert not digests.same(others.of(each), mine)
        assert not digests.same(plain, digests.of((*each, "more")))


def test_a_master_key_behind_pkcs11(tmp_path, softhsm):
    """A key that SoftHSM keeps wraps and unwraps; a wrong PIN, label or altered bytes are refused."""
    with softhsm.session() as (pkcs11, session):
        session.generate_key(pkcs11.KeyType.AES, 256, label="master", store=True)
    uri = softhsm.uri("master")
    key = open_master_key(
        tmp_path, environment={"TONGDUI_MASTER_KEY": uri, "TONGDUI_PIN": softhsm.pin}
    )
    wrapped = key.wrap(b"thirty-two bytes of a house's key", name="lookup")
    assert b"thirty" not in wrapped
    assert key.unwrap(wrapped, name="lookup") == b"thirty-two bytes of a house's key"
    for opener, data, name in (
        (key, wrapped, "token"),
        (key, wrapped[:-1] + bytes([wrapped[-1] ^ 1]), "lookup"),
        (ModuleMasterKey(uri, pin="9999"), wrapped, "lookup"),
        (
            ModuleMasterKey(softhsm.uri("other"), pin=softhsm.pin),
            wrapped,
            "lookup",
        ),
    ):
        with pytest.raises(MasterKeyUnusable):
            opener.unwrap(data, name=name)
