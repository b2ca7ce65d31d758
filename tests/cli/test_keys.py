"""`tongdui keys`: the life of a signing key on the command line."""

import stat
import subprocess

from tests.cli.conftest import assert_one_sentence


def test_keys_are_made_rotated_exported_and_revoked(private_tongdui, home, tmp_path):
    """Each step of a key's life shows in the list; what is exported is what openssl reads."""
    done = private_tongdui("keys", "generate")
    assert done.returncode == 0, done.stderr
    [first] = private_tongdui.json("keys", "list")
    assert first["state"] == "active"
    assert first["key_id"] in done.stdout
    assert stat.S_IMODE((home / "keys" / f"{first['key_id']}.pem").stat().st_mode) == 0o600

    assert private_tongdui("keys", "rotate", "--overlap-days", 7).returncode == 0
    old, new = private_tongdui.json("keys", "list")
    assert (old["state"], new["state"]) == ("retiring", "active")

    pem = tmp_path / "public.pem"
    assert private_tongdui("keys", "export", "--out", pem).returncode == 0
    shown = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", pem, "-noout", "-text"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ED25519" in shown.stdout.upper()
    assert private_tongdui("keys", "export", old["key_id"]).stdout != pem.read_text()

    assert private_tongdui("keys", "revoke", old["key_id"], "--yes").returncode == 0
    old, new = private_tongdui.json("keys", "list")
    assert (old["state"], new["state"]) == ("revoked", "active")
    assert not (home / "keys" / f"{old['key_id']}.pem").exists()
    assert "revoked 已吊销" in private_tongdui("keys", "list").stdout


def test_a_revocation_is_asked_for(private_tongdui):
    """Without --yes and without an answer nothing is revoked."""
    private_tongdui("keys", "generate")
    [key] = private_tongdui.json("keys", "list")
    done = private_tongdui.apart("keys", "revoke", key["key_id"])
    assert done.returncode == 130
    assert private_tongdui.json("keys", "list") == [key]


def test_keys_say_what_cannot_be_done(private_tongdui):
    """No keys, a second first key, an unknown key: one sentence each, status 2."""
    assert "no keys" in assert_one_sentence(private_tongdui("keys", "list"))
    private_tongdui("keys", "generate")
    assert "already" in assert_one_sentence(private_tongdui("keys", "generate"))
    assert "op-0000" in assert_one_sentence(private_tongdui("keys", "revoke", "op-0000", "--yes"))
