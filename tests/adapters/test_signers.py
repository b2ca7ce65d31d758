import base64
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from adapters.kit import sm2, sm2_openssl
from adapters.kit.signers import SignType, der_in, read_signer, read_verifier
from adapters.kit.simulator.form_sign import KEYS
from schemas.values.faults import SchemaError

DATA = "app_id=2026030200047711&member_no=会员贰拾&points=12.34".encode("gbk")
KINDS: tuple[SignType, ...] = ("RSA2", "SM2")
DISTID = "distid:1234567812345678"


def use(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SM2 be OpenSSL's, or Python's as where there is no OpenSSL; keys are read anew."""
    sm2.read_private_key.cache_clear()
    sm2.read_public_key.cache_clear()
    if engine == "python":
        monkeypatch.setattr(sm2_openssl, "_library", lambda: None)
    elif sm2_openssl._library() is None:
        pytest.skip("this machine has no OpenSSL 3 with SM2")


@pytest.fixture(params=["openssl", "python"])
def engine(request, monkeypatch) -> Iterator[str]:
    """Both ways of doing SM2."""
    use(request.param, monkeypatch)
    yield request.param
    sm2.read_private_key.cache_clear()
    sm2.read_public_key.cache_clear()


@pytest.fixture(params=["RSA2", "SM2-openssl", "SM2-python"])
def kind(request, monkeypatch) -> Iterator[SignType]:
    """Both kinds of signature, and both ways of doing the second."""
    name, _, engine = request.param.partition("-")
    use(engine or "python", monkeypatch)
    yield name
    sm2.read_private_key.cache_clear()
    sm2.read_public_key.cache_clear()


def key(who: str, kind: str, *, public: bool = False) -> Path:
    """A key of the sandbox."""
    return KEYS / f"{who}-{kind.lower()}{'-public' if public else ''}.pem"


def signer(kind: SignType, who: str = "merchant"):
    """Signs with a key of the sandbox."""
    return read_signer(kind, key(who, kind).read_bytes(), where="$")


def verifier(kind: SignType, who: str = "merchant"):
    """Verifies what that key signed."""
    return read_verifier(kind, key(who, kind, public=True).read_bytes(), where="$")


def openssl(*words: str | Path) -> subprocess.CompletedProcess:
    """OpenSSL's command line: another implementation than ours."""
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, check=False)


def digest_options(kind: str) -> list[str]:
    """How OpenSSL is told the kind of signature."""
    return ["-sha256"] if kind == "RSA2" else ["-sm3", "-sigopt", DISTID]


def test_openssl_verifies_what_is_signed_here(kind, tmp_path):
    """Two independent implementations agree: ours signs, OpenSSL verifies, and not another text."""
    data, signature = tmp_path / "data", tmp_path / "signature"
    data.write_bytes(DATA)
    signature.write_bytes(base64.b64decode(signer(kind).sign(DATA)))
    public = key("merchant", kind, public=True)
    words = ["dgst", *digest_options(kind), "-verify", public, "-signature", signature, data]
    assert openssl(*words).stdout == b"Verified OK\n"
    data.write_bytes(DATA + b" ")
    assert openssl(*words).returncode != 0


def test_what_openssl_signs_is_verified_here(kind, tmp_path):
    """The other way round."""
    data, signature = tmp_path / "data", tmp_path / "signature"
    data.write_bytes(DATA)
    private = key("merchant", kind)
    openssl("dgst", *digest_options(kind), "-sign", private, "-out", signature, data)
    text = base64.b64encode(signature.read_bytes()).decode()
    assert verifier(kind).is_signed(DATA, text)
    assert not verifier(kind).is_signed(DATA + b" ", text)


def test_a_signature_of_another_key_or_over_other_bytes_is_not_valid(kind):
    """One bit of text, signature or key: no."""
    text = signer(kind).sign(DATA)
    assert verifier(kind).is_signed(DATA, text)
    assert not verifier(kind, "exchange").is_signed(DATA, text)
    raw = bytearray(base64.b64decode(text))
    raw[-1] ^= 1
    assert not verifier(kind).is_signed(DATA, base64.b64encode(raw).decode())


@pytest.mark.parametrize("text", ["", "====", "not base64", "AAAA", "会员", "MAYCAQECAQE=", "MAA="])
def test_whatever_is_no_signature_is_not_valid(kind, text):
    """Hostile bytes get an answer, never an exception."""
    assert not verifier(kind).is_signed(DATA, text)


@pytest.mark.parametrize("r", [0, 2**256 - 1, 2**256])
def test_an_sm2_signature_out_of_range_is_not_valid(r, engine):
    """Both numbers are below the curve's order; nothing else is looked at."""
    text = signer("SM2").sign(DATA)
    _, s = decode_dss_signature(base64.b64decode(text))
    wrong = base64.b64encode(encode_dss_signature(r, s)).decode()
    assert not verifier("SM2").is_signed(DATA, wrong)


def test_keys_are_read_in_every_form_in_which_they_are_handed_out(kind, tmp_path):
    """PEM, the older PEM, PEM after the curve's parameters, and the bare Base64 of a console."""
    pkcs8 = key("merchant", kind).read_bytes()
    bare = b"".join(pkcs8.split(b"\n")[1:-2])
    words = [] if kind == "SM2" else ["-traditional"]
    program = "ec" if kind == "SM2" else "rsa"
    older = openssl(program, "-in", key("merchant", kind), *words).stdout
    parameters = openssl("ecparam", "-name", "SM2").stdout if kind == "SM2" else b""
    for form in (pkcs8, bare, older, parameters + older):
        text = read_signer(kind, form, where="$").sign(DATA)
        assert verifier(kind).is_signed(DATA, text)


def test_a_key_that_is_none_or_of_another_kind_is_refused_by_its_field():
    """The field is named, and nothing of the key is in the complaint."""
    for kind, other in (KINDS, KINDS[::-1]):
        private = key("merchant", other).read_bytes()
        public = key("merchant", other, public=True).read_bytes()
        for wrong in (private, public, b"", b"-----BEGIN", b"AAAA", b"\xff\xfe"):
            with pytest.raises(SchemaError, match=r"\$\.private_key") as caught:
                read_signer(kind, wrong, where="$.private_key")
            assert len(str(caught.value)) < 100
            if wrong is not public:
                with pytest.raises(SchemaError, match=r"\$\.public_key"):
                    read_verifier(kind, wrong, where="$.public_key")


def test_a_short_rsa_key_is_refused():
    """Under 2048 bits nothing is signed."""
    short = openssl("genrsa", "1024").stdout
    with pytest.raises(SchemaError, match="2048"):
        read_signer("RSA2", short, where="$")


def test_an_sm2_key_of_another_curve_is_refused(engine):
    """A key of P-256 has the same size, and is none."""
    private = openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout").stdout
    with pytest.raises(SchemaError, match="SM2"):
        read_signer("SM2", private, where="$")
    with pytest.raises(ValueError, match="curve"):
        sm2.PublicKey(b"\x04" + b"\x01" * 64)
    with pytest.raises(ValueError, match="65 bytes"):
        sm2.PublicKey(b"\x00")
    for number in (0, 2**256 - 1):
        with pytest.raises(ValueError, match="private number"):
            sm2.PrivateKey(number.to_bytes(32))


def test_threads_may_share_an_sm2_key(engine):
    """The library hashes in a state of its own; one key in four threads still says yes each time."""
    texts = [DATA + bytes([number]) for number in range(4)]
    ours, theirs = signer("SM2"), verifier("SM2")
    with ThreadPoolExecutor(4) as pool:
        signed = list(pool.map(ours.sign, texts))
        assert all(pool.map(theirs.is_signed, texts, signed))


def test_a_key_uses_openssl_where_it_can(engine):
    """The engine that is asked for is the one that works; no signature is made twice the same."""
    assert (signer("SM2")._private._openssl is not None) == (engine == "openssl")
    assert (verifier("SM2")._public._openssl is not None) == (engine == "openssl")
    assert signer("SM2").sign(DATA) != signer("SM2").sign(DATA)


def test_the_two_engines_verify_each_other(monkeypatch):
    """What one signs the other takes, and neither takes another text."""
    use("openssl", monkeypatch)
    ours, theirs = signer("SM2"), verifier("SM2")
    text = ours.sign(DATA)
    use("python", monkeypatch)
    python, verifies = signer("SM2"), verifier("SM2")
    assert verifies.is_signed(DATA, text)
    assert theirs.is_signed(DATA, python.sign(DATA))
    assert not verifies.is_signed(DATA + b" ", text)
    assert not theirs.is_signed(DATA + b" ", text)


def test_openssl_refuses_what_is_no_sm2_key():
    """A public key does not sign, and a key of another kind is none, also where OpenSSL reads it."""
    rsa = der_in(key("merchant", "RSA2").read_bytes())
    for reader in (sm2_openssl.private_key, sm2_openssl.public_key):
        assert reader(rsa) is None
        assert reader(b"") is None
    public = sm2_openssl.public_key(der_in(key("merchant", "SM2", public=True).read_bytes()))
    if public is not None:
        with pytest.raises(RuntimeError, match="does not"):
            public.sign(DATA, sm2.USER_ID)
