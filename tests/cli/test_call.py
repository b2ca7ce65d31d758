"""`tongdui call` and `tongdui merchant key` against a server that takes signed requests alone."""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import stat
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exchange.client import load_identity
from exchange.signing.request import RequestHead, sign_request
from tests.cli.conftest import assert_one_sentence

if TYPE_CHECKING:
    from tests.cli.conftest import Command


def test_a_merchant_gets_a_key_calls_with_it_and_loses_it(tongdui: Command, tmp_path: Path):
    """Over TLS, from the merchant's own key file to its registration, a signed call, a rotation and a revocation."""
    made_alone = "req -x509 -newkey ed25519 -nodes -days 2 -keyout gw.key -out gw.pem -subj /CN=gw"
    subprocess.run(
        ["openssl", *made_alone.split(), "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    tls = ("--tls-cert", tmp_path / "gw.pem", "--tls-key", tmp_path / "gw.key")
    name = ("--public-name", "127.0.0.1")
    server = tongdui.start("serve", "--json", "--port", 0, *name, *map(str, tls))
    try:
        ready = json.loads(server.read_line())
        assert ready["require_signatures"] is True
        assert ready["url"].startswith("https://")
        # The house has an API key too, for a sandbox: here it opens nothing. Nor does what is signed for another name
        # than the one that was given.
        key = load_identity(Path(ready["operator_identity_file"]))
        head = RequestHead("GET", "localhost", "/v1/cycles")
        signed = sign_request(
            head,
            body=None,
            key_id=key.key_id,
            private=key.private,
            nonce=secrets.token_urlsafe(16),
            created=int(time.time()),
        )
        context = ssl.create_default_context(cafile=tmp_path / "gw.pem")
        for fields, reason in (
            ({"Authorization": f"Bearer {ready['operator_key']}"}, "signature_missing"),
            ({"Host": "localhost"} | signed, "signature_misdirected"),
        ):
            asked = urllib.request.Request(ready["url"] + "/v1/cycles", headers=fields)
            with pytest.raises(urllib.error.HTTPError, match="401") as refused_with:
                urllib.request.urlopen(asked, context=context)
            assert json.loads(refused_with.value.read())["reason"] == reason
        url = ("--url", ready["url"], "--ca", tmp_path / "gw.pem")
        [added] = tongdui.json("merchant", "add", "EYE", "--spend", "100/1", "--cap", "400")
        assert added["refused"] is None

        pem, csr = tmp_path / "eye.pem", tmp_path / "eye.csr"
        made = tongdui("merchant", "key", "make", "EYE", pem)
        assert stat.S_IMODE(pem.stat().st_mode) == 0o600
        csr.write_text(made.stdout)
        mine = (*url, "--identity", pem)
        refused = tongdui("call", "GET", "/v1/positions", *mine)
        assert (refused.returncode, json.loads(refused.stdout)["reason"]) == (
            1,
            "signing_key_unknown",
        )
        [key] = tongdui.json("merchant", "key", "add", csr)
        assert (key["merchant"], key["state"]) == ("EYE", "active")
        assert tongdui("merchant", "key", "add", csr).returncode == 1
        assert tongdui("call", "GET", "/v1/positions", *mine).returncode == 0

        body = tmp_path / "members.json"
        body.write_text('{"members": ["anna"]}')
        for given in (f"@{body}", body.read_text()):
            done = tongdui("call", "post", "/v1/members", "--body", given, "--again", *mine)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["enrolled"] == 1
        # A key that openssl made serves as well.
        other = tmp_path / "openssl.pem"
        for words in (
            ["genpkey", "-algorithm", "ed25519", "-out", str(other)],
            ["req", "-new", "-key", str(other), "-subj", "/CN=EYE", "-out", str(csr)],
        ):
            subprocess.run(["openssl", *words], check=True, capture_output=True)
        other.chmod(0o600)
        [rotated] = tongdui.json("merchant", "key", "add", csr, "--overlap-hours", 1)
        states = {k["kid"]: k["state"] for k in tongdui.json("merchant", "key", "list", "EYE")}
        assert states == {key["kid"]: "retiring", rotated["kid"]: "active"}
        enrol = ("call", "POST", "/v1/members", "--again", "--body", body.read_text())
        assert tongdui(*enrol, *url, "--identity", other).returncode == 0

        assert tongdui("merchant", "key", "revoke", key["kid"]).returncode == 0
        done = tongdui(*enrol, *mine)
        assert (done.returncode, json.loads(done.stdout)["reason"]) == (1, "signing_key_revoked")
        # The house's own key needs no naming, and an answer that another key signed is not trusted.
        assert tongdui("call", "GET", "/v1/keys", *url).returncode == 0
        stranger = tmp_path / "stranger.pub"
        subprocess.run(
            ["openssl", "pkey", "-in", other, "-pubout", "-out", stranger],
            check=True,
            capture_output=True,
        )
        done = tongdui("call", "GET", "/v1/keys", *url, "--trust", stranger)
        assert "no trusted key" in assert_one_sentence(done, 1)
    finally:
        server.popen.terminate()
        server.popen.communicate(timeout=120)


@pytest.mark.parametrize(
    ("words", "repeated"), [((), False), (("--key", "k1"), True), (("--again",), True)]
)
def test_what_nobody_answers_is_sent_again_where_that_is_harmless(
    with_ledger: Command, tmp_path: Path, words: tuple[str, ...], *, repeated: bool
):
    """A POST without a key is sent once, unless its caller says that a repeat is harmless."""
    pem = tmp_path / "eye.pem"
    assert with_ledger("merchant", "key", "make", "EYE", pem).returncode == 0
    trust = tmp_path / "house.pub"
    subprocess.run(["openssl", "pkey", "-in", pem, "-pubout", "-out", trust], check=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        url = (
            "--url",
            f"http://127.0.0.1:{listener.getsockname()[1]}",
            "--identity",
            pem,
            "--trust",
            trust,
        )
        calling = with_ledger.start("call", "POST", "/v1/members", "--body", "{}", *words, *url)
        try:
            for _ in range(2 if repeated else 1):
                connection, _ = listener.accept()
                connection.recv(1)
                connection.close()
            if not repeated:
                out, error = calling.popen.communicate(timeout=60)
                assert (calling.popen.returncode, out) == (2, "")
                assert "POST /v1/members: " in error
        finally:
            calling.popen.kill()
            calling.popen.communicate(timeout=60)


def test_a_call_says_what_it_cannot_use(with_ledger: Command, tmp_path: Path):
    """A missing identity, one that others may read, and a path that is none are each told in one sentence."""
    assert "operator.pem" in assert_one_sentence(with_ledger("call", "GET", "/v1/cycles"))
    loose = tmp_path / "loose.pem"
    loose.write_text("x")
    loose.chmod(0o644)
    done = with_ledger("call", "GET", "/v1/cycles", "--identity", loose)
    assert "chmod 600" in assert_one_sentence(done)
    assert with_ledger("call", "GET", "v1/cycles").returncode == 2


def test_a_key_id_may_begin_as_an_option_does(with_ledger: Command):
    """One id in 64 begins with a hyphen; it is looked up all the same."""
    for name in ("-WhKH_TJsaLnYcAp6A2ljZhBEgQh5VrjIKjYwZmMn5o", "-h" + "a" * 41, "--" + "a" * 41):
        done = with_ledger("merchant", "key", "revoke", name)
        assert "there is no key" in assert_one_sentence(done, 1)
