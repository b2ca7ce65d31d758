"""Keys that sign, of each kind: what they sign, others accept, and a file that others could read is refused."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from adapters.kit import sm2, sm2_openssl
from settlement.signing.module import ModuleKey, ModuleUnusable
from settlement.signing.signature import (
    ALGORITHM,
    SM2_ALGORITHM,
    algorithm_of,
    is_jws_signed,
    is_signed,
    key_id,
    public_bytes,
    public_from_bytes,
    public_pem,
    read_public_key,
    sign_jws,
)
from settlement.signing.signer import (
    KeyUnusable,
    Signer,
    make_key,
    open_key_file,
    write_private_file,
)

DATA = b'{"manifest":1.5}'
SM2_ID = "distid:1234567812345678"
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493


def openssl(*args: object, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run it in a folder."""
    return subprocess.run(
        ["openssl", *map(str, args)], cwd=folder, capture_output=True, check=False
    )


def openssl_accepts(signer: Signer, data: bytes, signature: bytes, folder: Path) -> bool:
    """Let OpenSSL check a signature with nothing but the public key in PEM."""
    (folder / "public.pem").write_bytes(public_pem(signer.public))
    (folder / "data").write_bytes(data)
    (folder / "signature").write_bytes(signature)
    of_sm2 = algorithm_of(signer.key_id) == SM2_ALGORITHM
    hashing = ["-digest", "sm3", "-pkeyopt", SM2_ID] if of_sm2 else []
    words = ["pkeyutl", "-verify", "-pubin", "-inkey", "public.pem", "-rawin", *hashing]
    done = openssl(*words, "-in", "data", "-sigfile", "signature", folder=folder)
    return done.returncode == 0


# --- another verifier of Ed25519: RFC 8032 §5.1.7 in plain integers ---


def _sum(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    d = -121665 * pow(121666, -1, P)
    both = d * a[0] * b[0] * a[1] * b[1]
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + both, -1, P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - both, -1, P)
    return x % P, y % P


def _times(number: int, point: tuple[int, int]) -> tuple[int, int]:
    total = (0, 1)
    while number:
        if number & 1:
            total = _sum(total, point)
        point = _sum(point, point)
        number >>= 1
    return total


def _point(data: bytes) -> tuple[int, int]:
    value = int.from_bytes(data, "little")
    y, odd = value & (2**255 - 1), value >> 255
    square = (y * y - 1) * pow(-121665 * pow(121666, -1, P) * y * y + 1, -1, P)
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert (x * x - square) % P == 0
    return (P - x if x & 1 != odd else x), y


def plainly_signed(public: bytes, data: bytes, signature: bytes) -> bool:
    """Tell by arithmetic alone whether a signature is a key's."""
    base = _point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    r, s = _point(signature[:32]), int.from_bytes(signature[32:], "little")
    digest = hashlib.sha512(signature[:32] + public + data).digest()
    k = int.from_bytes(digest, "little") % L
    return s < L and _times(s, base) == _sum(r, _times(k, _point(public)))


# --- what is made is accepted ---


@pytest.fixture(params=["ed25519", "sm2", "sm2 in plain Python", "pkcs11"])
def signer(request, monkeypatch) -> Signer:
    """A signer of each kind."""
    if request.param == "pkcs11":
        softhsm = request.getfixturevalue("softhsm")
        monkeypatch.setenv("TONGDUI_PIN", softhsm.pin)
        return ModuleKey.open(softhsm.make_ed25519(f"signer-{id(request)}"))
    if request.param == "sm2 in plain Python":
        monkeypatch.setattr(sm2_openssl, "_library", lambda: None)
    return make_key(of_sm2=request.param != "ed25519")[1]


def test_openssl_accepts_what_each_kind_signs_and_nothing_else(signer, tmp_path):
    """Rule K35: OpenSSL checks Ed25519 and SM2-with-SM3 signatures with the exported key; a changed text fails."""
    signature = signer.sign(DATA)
    assert is_signed(signer.public, DATA, signature)
    assert openssl_accepts(signer, DATA, signature, tmp_path)
    assert not openssl_accepts(signer, DATA + b" ", signature, tmp_path)
    assert not is_signed(signer.public, DATA + b" ", signature)
    assert not is_signed(make_key()[1].public, DATA, signature)


def test_an_independent_implementation_accepts_what_each_kind_signs(signer, monkeypatch):
    """Rule K35: RFC 8032 in plain integers accepts Ed25519, and gmalg accepts SM2 that OpenSSL signed."""
    signature = signer.sign(DATA)
    if algorithm_of(signer.key_id) == ALGORITHM:
        public = public_bytes(signer.public)
        assert plainly_signed(public, DATA, signature)
        assert not plainly_signed(public, DATA + b" ", signature)
        return
    monkeypatch.setattr(sm2_openssl, "_library", lambda: None)
    plain = sm2.PublicKey(signer.public.point)
    assert plain.is_signed(DATA, signature)
    assert not plain.is_signed(DATA + b" ", signature)


def test_every_byte_of_an_sm2_signature_counts():
    """No byte of the DER can change, none can be added: there is one spelling."""
    _, key = make_key(of_sm2=True)
    public, signature = key.public, key.sign(DATA)
    for place in range(len(signature)):
        changed = bytearray(signature)
        changed[place] ^= 1 + place * 37 % 255
        assert not is_signed(public, DATA, bytes(changed)), place
    for spoiled in (signature + b"\0", signature[:-1], b""):
        assert not is_signed(public, DATA, spoiled)


def test_keys_that_openssl_made_sign_here(tmp_path):
    """`openssl genpkey` makes keys of both kinds, and the public part is the one that it exports itself."""
    for number, algorithm in enumerate(("ed25519", "SM2")):
        path = tmp_path / f"{number}.pem"
        assert (
            openssl("genpkey", "-algorithm", algorithm, "-out", path, folder=tmp_path).returncode
            == 0
        )
        path.chmod(0o600)
        key = open_key_file(path)
        exported = openssl("pkey", "-in", path, "-pubout", folder=tmp_path).stdout
        assert exported == public_pem(key.public)
        again = read_public_key(exported)
        assert again is not None
        assert key_id(again) == key.key_id
        assert is_signed(again, DATA, key.sign(DATA))
        assert public_bytes(public_from_bytes(public_bytes(again))) == public_bytes(again)


def test_the_kind_of_a_key_shows_in_its_name():
    """`op-` is Ed25519 and `sm-` is SM2, each with the digest of the raw key."""
    for of_sm2, prefix in ((False, "op-"), (True, "sm-")):
        _, key = make_key(of_sm2=of_sm2)
        digest = hashlib.sha256(public_bytes(key.public)).hexdigest()
        assert key.key_id == prefix + digest[:16]
        assert repr(key) == f"{type(key).__name__}(key_id='{key.key_id}')"


def test_a_key_file_that_cannot_be_used_says_why(tmp_path):
    """Readable by others, no key, a key of another kind, not there: one sentence each, and no key in it."""
    path = tmp_path / "key.pem"
    pem, _ = make_key(of_sm2=True)
    write_private_file(path, pem)
    open_key_file(path)
    path.chmod(0o640)
    with pytest.raises(KeyUnusable, match=r"may be used by others \(mode 0640\); run `chmod 600"):
        open_key_file(path)
    for spoiled in (b"", b"no key", pem[:80], pem.replace(b"\n", b"\nA", 2)):
        write_private_file(path, spoiled)
        with pytest.raises(KeyUnusable, match="is not a private key of Ed25519 or SM2"):
            open_key_file(path)
    made = openssl("genpkey", "-algorithm", "X25519", "-out", path, folder=tmp_path)
    assert made.returncode == 0
    with pytest.raises(KeyUnusable, match="is not a private key of Ed25519 or SM2"):
        open_key_file(path)
    with pytest.raises(KeyUnusable, match="cannot be read"):
        open_key_file(tmp_path / "nowhere.pem")


def test_a_module_that_cannot_be_used_says_why(softhsm, tmp_path, monkeypatch):
    """A wrong PIN, an unknown token or label, no module, an address that lacks a part; a PIN may come from a file."""
    uri = softhsm.make_ed25519("said")
    monkeypatch.setenv("TONGDUI_PIN", "9999")
    with pytest.raises(ModuleUnusable, match="PinIncorrect"):
        ModuleKey.open(uri)
    pin = tmp_path / "pin"
    write_private_file(pin, b"1234\n")
    assert ModuleKey.open(f"{uri}&pin-source=file:{pin}").sign(DATA)
    pin.chmod(0o644)
    with pytest.raises(KeyUnusable, match="may be used by others"):
        ModuleKey.open(f"{uri}&pin-source=file:{pin}")
    monkeypatch.setenv("TONGDUI_PIN", softhsm.pin)
    for spoiled in (
        uri.replace("object=said", "object=other"),
        uri.replace("token=house", "token=other"),
        uri.replace("libsofthsm2", "nothing"),
        "pkcs11:token=house",
    ):
        with pytest.raises(ModuleUnusable):
            ModuleKey.open(spoiled)


def test_a_key_in_a_module_signs_a_jws_too(softhsm, monkeypatch):
    """The detached JWS is made of its parts, so no library needs the private key."""
    monkeypatch.setenv("TONGDUI_PIN", softhsm.pin)
    key = ModuleKey.open(softhsm.make_ed25519("jws"))
    token = sign_jws(key, DATA)
    assert is_jws_signed(key.public, DATA, token)
    assert not is_jws_signed(key.public, DATA + b" ", token)


def test_a_module_whose_keys_do_not_belong_together_signs_nothing(softhsm, monkeypatch):
    """What a token signs is held against the public key that it showed before it is believed."""
    monkeypatch.setenv("TONGDUI_PIN", softhsm.pin)
    softhsm.make_ed25519("other half")
    uri = softhsm.make_ed25519("half")
    with softhsm.session() as (pkcs11, session):
        private = pkcs11.ObjectClass.PRIVATE_KEY
        session.get_key(object_class=private, label="half").destroy()
        moved = session.get_key(object_class=private, label="other half")
        moved[pkcs11.Attribute.LABEL] = "half"
    with pytest.raises(ModuleUnusable, match="does not sign with the key that it shows"):
        ModuleKey.open(uri).sign(DATA)
