"""The signatures are RFC 9421's and RFC 9530's: the standard's own examples, and a library of other people."""

import json
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    InvalidSignature,
    MappingKeyResolver,
    algorithms,
)

from exchange.signing.answer import check_answer, sign_answer
from exchange.signing.digest import content_digest, is_digest_of
from exchange.signing.keys import thumbprint
from exchange.signing.request import (
    RequestHead,
    SignedRequest,
    is_genuine,
    read_signed,
    sign_request,
)
from exchange.signing.structured import (
    parse_input,
    parse_signature,
    signature_base,
    write_parameters,
    write_signature,
)
from schemas.values.reason import Refusal
from settlement.signing.signature import is_signed, sign
from settlement.signing.signer import SigningKey

NOW = 1_700_000_000
VECTORS = json.loads(
    (Path(__file__).parents[2] / "schemas" / "vectors" / "http-signatures.json").read_text()
)
RFC_KEY = Ed25519PrivateKey.from_private_bytes(
    urlsafe_b64decode("n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU=")
)
"""`test-key-ed25519` of RFC 9421 appendix B.1.4."""
OUR_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BODY = b'{"issuer":"AIR","acceptor":"EYE","member":"anna","units":"100"}'


# --- the standard's own examples ---


@pytest.mark.parametrize(
    ("label", "components", "created", "expected"),
    [
        (
            "sig-b26",
            [
                ('"date"', "Tue, 20 Apr 2021 02:07:55 GMT"),
                ('"@method"', "POST"),
                ('"@path"', "/foo"),
                ('"@authority"', "example.com"),
                ('"content-type"', "application/json"),
                ('"content-length"', "18"),
            ],
            1618884473,
            "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==",
        ),
        (
            "transform",
            [
                ('"@method"', "GET"),
                ('"@path"', "/demo"),
                ('"@authority"', "example.org"),
                ('"accept"', "application/json, */*"),
            ],
            1618884473,
            "ZT1kooQsEHpZ0I1IjCqtQppOmIqlJPeo7DHR3SoMn0s5JZ1eRGS0A+vyYP9t/LXlh5QMFFQ6cpLt2m0pmj3NDA==",
        ),
    ],
    ids=["B.2.6", "B.4"],
)
def test_examples_of_rfc_9421_come_out_byte_for_byte(label, components, created, expected):
    """The two Ed25519 examples of RFC 9421 (appendix B.2.6 and B.4) are signed, read and verified as printed."""
    parameters = write_parameters(
        [name for name, _ in components], [("created", created), ("keyid", "test-key-ed25519")]
    )
    told = parse_input(f"{label}={parameters}")
    assert told is not None
    assert told.named == {"created": created, "keyid": "test-key-ed25519"}
    base = signature_base(components, told.parameters)
    assert base is not None
    field_text = write_signature(label, sign(RFC_KEY, base))
    assert field_text == f"{label}=:{expected}:"
    signature = parse_signature(field_text, label)
    assert signature is not None
    assert is_signed(RFC_KEY.public_key(), base, signature)


@pytest.mark.parametrize(
    ("body", "digest"),
    [
        (b'{"hello": "world"}\n', "RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg="),
        (b'{"hello": "world"}', "X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE="),
        (b"", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
    ],
)
def test_digests_are_those_of_rfc_9530(body, digest):
    """`Content-Digest` is the SHA-256 of the body's bytes, as RFC 9530 and RFC 9421 print it."""
    assert content_digest(body) == f"sha-256=:{digest}:"
    assert is_digest_of(f"sha-256=:{digest}:", body)
    assert not is_digest_of(f"sha-256=:{digest}:", body + b" ")


def test_key_ids_are_thumbprints_of_rfc_7638():
    """A key's id is the thumbprint that RFC 8037 (appendix A.3) prints for its example."""
    private = Ed25519PrivateKey.from_private_bytes(
        urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    )
    assert thumbprint(private.public_key()) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


# --- a library of other people ---


@dataclass
class Request:
    """A request as the library takes it."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Response:
    """An answer as the library takes it."""

    status_code: int
    headers: dict[str, str]
    request: Request


def resolver(*keys: tuple[str, Ed25519PrivateKey]) -> MappingKeyResolver:
    """The library's view of some keys."""
    return MappingKeyResolver(
        public_keys={name: key.public_key() for name, key in keys},
        private_keys=dict(keys),
    )


def test_the_library_verifies_our_requests_and_answers():
    """What we sign, http-message-signatures verifies: a request, and the answer that is bound to it."""
    request = Request(
        "POST", "http://Tong.example:8080/v1/orders?a=b", {"Host": "tong.example:8080"}
    )
    request.headers |= {"Content-Type": "application/json", "Idempotency-Key": "k-1"}
    head = RequestHead(
        "POST", "Tong.example:8080", "/v1/orders?a=b", None, "application/json", "k-1"
    )
    request.headers |= sign_request(
        head, body=BODY, key_id="k", private=OUR_KEY, nonce="n" * 16, created=NOW
    )
    answer = Response(201, {"Content-Type": "application/json"}, request)
    answer.headers["Content-Digest"] = content_digest(b"{}")
    answer.headers |= dict(
        zip(
            ("Signature-Input", "Signature"),
            sign_answer(
                status=201,
                content_type="application/json",
                content_digest=answer.headers["Content-Digest"],
                request_signature=request.headers["Signature"],
                key=SigningKey(key_id="op-1", private=RFC_KEY),
                now=NOW,
            ),
            strict=True,
        )
    )
    verifier = HTTPMessageVerifier(
        signature_algorithm=algorithms.ED25519,
        key_resolver=resolver(("k", OUR_KEY), ("op-1", RFC_KEY)),
    )
    verifier.validate_created_and_expires = lambda *_, **__: None  # type: ignore[method-assign] # the instants are long past
    [asked] = verifier.verify(request, body=BODY, expect_tag="tongdui-request")
    assert asked.parameters["keyid"] == "k"
    [answered] = verifier.verify(answer, body=b"{}", expect_tag="tongdui-answer")
    assert answered.covered_components['"signature";req'] == request.headers["Signature"]
    request.headers["Signature"] = write_signature("sig", bytes(64))
    with pytest.raises(InvalidSignature):
        verifier.verify(answer, body=b"{}", expect_tag="tongdui-answer")


def test_we_verify_the_librarys_requests_and_answers():
    """What http-message-signatures signs by its own defaults of order and label, we take."""
    request = Request("POST", "http://tong.example/v1/orders", {"Host": "tong.example"})
    request.headers |= {"Content-Type": "application/json", "Idempotency-Key": "k-1"}
    created = datetime.fromtimestamp(NOW, UTC)
    signer = HTTPMessageSigner(
        signature_algorithm=algorithms.ED25519,
        key_resolver=resolver(("k", OUR_KEY), ("op-1", RFC_KEY)),
    )
    signer.sign(
        request,
        key_id="k",
        created=created,
        expires=created + timedelta(seconds=60),
        nonce="n" * 16,
        tag="tongdui-request",
        body=BODY,
        covered_component_ids=(
            "@query", "content-type", "@path", "idempotency-key", "@method", "@authority",
        ),
    )  # fmt: skip
    headers = request.headers
    signed = read_signed(
        RequestHead(
            "POST",
            "tong.example",
            "/v1/orders",
            headers["Content-Digest"],
            "application/json",
            "k-1",
            headers["Signature-Input"],
            headers["Signature"],
        ),
        now=NOW,
        has_body=True,
    )
    assert isinstance(signed, SignedRequest), signed
    assert is_genuine(signed, OUR_KEY.public_key())
    answer = Response(409, {"Content-Type": "application/problem+json"}, request)
    signer.sign(
        answer,
        key_id="op-1",
        created=created,
        tag="tongdui-answer",
        body=b"{}",
        covered_component_ids=("@status", "content-type", '"signature";req'),
    )
    check_answer(
        status=409,
        content_type="application/problem+json",
        content_digest=answer.headers["Content-Digest"],
        signature_input=answer.headers["Signature-Input"],
        signature=answer.headers["Signature"],
        request_signature=headers["Signature"],
        body=b"{}",
        public_of={"op-1": RFC_KEY.public_key()}.get,
        now=NOW,
    )


# --- what is published for other languages ---


@pytest.mark.parametrize("vector", VECTORS["requests"], ids=lambda vector: vector["name"])
def test_published_requests_come_out_byte_for_byte(vector: dict[str, Any]):
    """Each published request has the signature base and the fields that we make, and is taken."""
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["keys"]["merchant"]["d"]))
    given, fields = vector["request"], vector["fields"]
    head = RequestHead(
        given["method"],
        given["host"],
        given["target"],
        None,
        given.get("content_type"),
        given.get("idempotency_key"),
    )
    body = given.get("body", "").encode()
    made = sign_request(
        head,
        body=body,
        key_id=VECTORS["keys"]["merchant"]["keyid"],
        private=private,
        nonce=vector["nonce"],
        created=vector["created"],
    )
    assert made == fields
    signed = read_signed(
        head._replace(
            content_digest=fields.get("Content-Digest"),
            signature_input=fields["Signature-Input"],
            signature=fields["Signature"],
        ),
        now=vector["created"],
        has_body=bool(body),
    )
    assert isinstance(signed, SignedRequest), signed
    assert signed.base.decode() == vector["signature_base"]
    assert is_genuine(signed, private.public_key())


@pytest.mark.parametrize("vector", VECTORS["answers"], ids=lambda vector: vector["name"])
def test_published_answers_come_out_byte_for_byte(vector: dict[str, Any]):
    """Each published answer has the fields that we make, and is trusted as the answer to its request."""
    key = VECTORS["keys"]["operator"]
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key["d"]))
    fields, body = vector["fields"], vector["body"].encode()
    request_signature = next(
        each["fields"]["Signature"] for each in VECTORS["requests"] if each["name"] == vector["to"]
    )
    made = sign_answer(
        status=vector["status"],
        content_type=vector["content_type"],
        content_digest=content_digest(body),
        request_signature=request_signature,
        key=SigningKey(key_id=key["keyid"], private=private),
        now=vector["created"],
    )
    assert made == (fields["Signature-Input"], fields["Signature"])
    check_answer(
        status=vector["status"],
        content_type=vector["content_type"],
        content_digest=fields["Content-Digest"],
        signature_input=fields["Signature-Input"],
        signature=fields["Signature"],
        request_signature=request_signature,
        body=body,
        public_of={key["keyid"]: private.public_key()}.get,
        now=vector["created"],
    )


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_published_refusals_are_refused_for_their_reason(vector: dict[str, Any]):
    """Each published bad request is refused, for the reason that stands with it."""
    key = VECTORS["keys"]["merchant"]
    given, fields = vector["request"], vector["fields"]
    body = given.get("body", "").encode()
    outcome = read_signed(
        RequestHead(
            given["method"],
            given["host"],
            given["target"],
            fields.get("Content-Digest"),
            given.get("content_type"),
            given.get("idempotency_key"),
            fields.get("Signature-Input"),
            fields.get("Signature"),
        ),
        now=vector["now"],
        has_body=bool(body),
    )
    if isinstance(outcome, Refusal):
        found = outcome.reason.code
    elif not is_genuine(
        outcome,
        Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key["d"])).public_key(),
    ):
        found = "signature_forged"
    elif outcome.content_digest and not is_digest_of(outcome.content_digest, body):
        found = "digest_mismatch"
    else:
        found = "taken"
    assert found == vector["reason"]
