"""Signatures: what was made is accepted, anything else is not, and nothing raises."""

from __future__ import annotations

import base64
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from settlement.signing.signature import (
    is_jws_signed,
    is_signed,
    jws_key_id,
    key_id,
    parse_public_pem,
    public_pem,
    sign,
    sign_jws,
)
from settlement.signing.signer import SigningKey

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key()
DATA = b'{"manifest":1.5}'


def encoded(value: object) -> bytes:
    """Base64url of JSON, without padding."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def test_a_signature_is_over_exact_bytes() -> None:
    """One key, one text: nothing else."""
    signature = sign(KEY, DATA)
    assert is_signed(PUBLIC, DATA, signature)
    assert not is_signed(PUBLIC, DATA + b" ", signature)
    assert not is_signed(OTHER.public_key(), DATA, signature)


@given(st.binary(max_size=80))
def test_any_bytes_are_just_not_valid(signature: bytes) -> None:
    """Hostile signatures and tokens are answered with no."""
    assert not is_signed(PUBLIC, DATA, signature)
    assert not is_jws_signed(PUBLIC, DATA, signature)
    assert jws_key_id(signature) is None
    assert parse_public_pem(signature) is None


def test_the_jws_is_what_rfc_7797_asks_for() -> None:
    """The payload is not in it and not encoded, and the header says so and names the key."""
    token = sign_jws(SigningKey.of(KEY), DATA)
    header, payload, signature = token.split(b".")
    assert payload == b""
    decoded = json.loads(base64.urlsafe_b64decode(header + b"=" * (-len(header) % 4)))
    assert decoded == {"alg": "Ed25519", "b64": False, "crit": ["b64"], "kid": key_id(PUBLIC)}
    raw = base64.urlsafe_b64decode(signature + b"==")
    assert is_signed(PUBLIC, header + b"." + DATA, raw)
    assert is_jws_signed(PUBLIC, DATA, token)
    assert not is_jws_signed(PUBLIC, DATA + b" ", token)
    assert not is_jws_signed(OTHER.public_key(), DATA, token)


def test_a_payload_without_a_dot_is_detached_too() -> None:
    """The library would put such a payload into the token."""
    token = sign_jws(SigningKey.of(KEY), b"plain")
    assert token.count(b".") == 2
    assert b"plain" not in token
    assert is_jws_signed(PUBLIC, b"plain", token)


def test_another_header_is_not_taken() -> None:
    """No other algorithm, no encoded payload, nothing more: the form is agreed."""
    right = {"alg": "Ed25519", "b64": False, "crit": ["b64"], "kid": key_id(PUBLIC)}
    headers: tuple[object, ...] = (
        right | {"alg": "none"},
        right | {"alg": "EdDSA"},
        right | {"b64": True},
        right | {"crit": []},
        right | {"jwk": {}},
        {"alg": "Ed25519", "b64": False, "crit": ["b64"]},
        [],
    )
    for header in headers:
        signature = base64.urlsafe_b64encode(sign(KEY, encoded(header) + b"." + DATA)).rstrip(b"=")
        assert not is_jws_signed(PUBLIC, DATA, encoded(header) + b".." + signature), header


def test_only_one_spelling_of_base64_is_taken() -> None:
    """The last character of a signature has spare bits; none of them may change unnoticed."""
    token = sign_jws(SigningKey.of(KEY), DATA)
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    accepted = [
        last for last in alphabet if is_jws_signed(PUBLIC, DATA, token[:-1] + bytes([last]))
    ]
    assert accepted == [token[-1]]


def test_a_public_key_survives_its_pem() -> None:
    """PEM is what partners get; other kinds of keys are none."""
    public = parse_public_pem(public_pem(PUBLIC))
    assert public is not None
    assert public.public_bytes_raw() == PUBLIC.public_bytes_raw()
    other = X25519PrivateKey.generate().public_key()
    assert (
        parse_public_pem(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        is None
    )
