"""How requests are signed: what a signature covers, what it says, and for how long it counts.

Every request covers its method, authority, path and query, and each of `content-digest`, `content-type`
and `idempotency-key` that it has; a request with a body has a digest. Its parameters are `created`,
`expires`, `nonce`, `keyid`, `alg` and `tag`. Not more and not less: a signature that covers something
else is refused as downgraded, so nobody can leave a part open. Components and parameters may come in
any order.

The target is covered in parts (RFC 9421 §2.2.3, §2.2.6, §2.2.7) and not as `@target-uri`: behind a proxy
that ends TLS a gateway does not know the scheme that its caller used.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.signing.digest import content_digest
from exchange.signing.structured import (
    parse_input,
    parse_signature,
    signature_base,
    write_parameters,
    write_signature,
)
from schemas.values.reason import Reason, Refusal
from settlement.signing.signature import is_signed, sign

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

ALGORITHM: Final = "ed25519"
"""Name in the registry of RFC 9421 §6.2.2."""
REQUEST_TAG: Final = "tongdui-request"
LABEL: Final = "sig"
LIFETIME_SECONDS: Final = 60
LIFETIME_SECONDS_MAX: Final = 120
CLOCK_SECONDS: Final = 60
"""How far a sender's clock may be ahead of ours."""
TARGET: Final = ('"@method"', '"@authority"', '"@path"', '"@query"')
FIELDS: Final = ('"content-digest"', '"content-type"', '"idempotency-key"')
_PARAMETERS: Final = frozenset({"created", "expires", "nonce", "keyid", "alg", "tag"})
_NONCE: Final = re.compile(r"[!#-\[\]-~]{16,64}")
_KEY_ID: Final = re.compile(r"[0-9A-Za-z_.-]{1,64}")
NONCE_BYTES: Final = 16


class RequestHead(NamedTuple):
    """What is signed of a request, as it came; a field that it has not is None.

    Attributes:
        method: Its method.
        authority: Its field `Host`.
        target: Path and query as the request line has them.
        content_digest: Its field of that name.
        content_type: Its field of that name.
        idempotency_key: Its field of that name.
        signature_input: Its field of that name.
        signature: Its field of that name.
    """

    method: str
    authority: str
    target: str
    content_digest: str | None = None
    content_type: str | None = None
    idempotency_key: str | None = None
    signature_input: str | None = None
    signature: str | None = None


class SignedRequest(NamedTuple):
    """A request whose signature says what it must; whether it is genuine `is_genuine` tells.

    Attributes:
        key_id: Who signed.
        created: From when on it counts, seconds since 1970.
        expires: Until when.
        nonce: Names this one use of the key: a digest of key and nonce, 16 bytes.
        base: The bytes that are signed.
        signature: The signature, 64 bytes.
        field: The field `Signature`, to which the answer is bound.
        content_digest: What the body must have; None if there must be none.
    """

    key_id: str
    created: int
    expires: int
    nonce: bytes
    base: bytes
    signature: bytes
    field: str
    content_digest: str | None


def read_signed(head: RequestHead, *, now: int, has_body: bool) -> SignedRequest | Refusal:
    """Hold a request against the profile, all but the signature itself.

    Args:
        head: The request.
        now: Seconds since 1970.
        has_body: Whether a body follows, or may follow.

    Returns:
        What the signature says; or SIGNATURE_MISSING, SIGNATURE_MALFORMED, SIGNATURE_DOWNGRADED,
        SIGNATURE_FROM_FUTURE or SIGNATURE_LATE.
    """
    if head.signature_input is None or head.signature is None:
        return Refusal(
            Reason.SIGNATURE_MISSING, "Send `Signature-Input` and `Signature` (RFC 9421)."
        )
    told = parse_input(head.signature_input)
    signature = None if told is None else parse_signature(head.signature, told.label)
    if told is None or signature is None:
        return Refusal(
            Reason.SIGNATURE_MALFORMED,
            "Expected one signature, in the canonical spelling of RFC 9651, under one label.",
        )
    named = told.named
    missing = _PARAMETERS.symmetric_difference(named)
    if missing:
        return _downgraded(f"The parameters must be {', '.join(sorted(_PARAMETERS))}.")
    if named["alg"] != ALGORITHM or named["tag"] != REQUEST_TAG:
        return _downgraded(f'Expected alg="{ALGORITHM}" and tag="{REQUEST_TAG}".')
    created, expires, nonce, key_id = (
        named[name] for name in ("created", "expires", "nonce", "keyid")
    )
    if (
        not isinstance(created, int)
        or not isinstance(expires, int)
        or not isinstance(nonce, str)
        or not isinstance(key_id, str)
        or not _NONCE.fullmatch(nonce)
        or not _KEY_ID.fullmatch(key_id)
    ):
        return Refusal(
            Reason.SIGNATURE_MALFORMED,
            "Expected whole seconds, a nonce of 16 to 64 visible characters and the id of a key.",
        )
    values = _values(head)
    if values is None:
        return Refusal(Reason.SIGNATURE_MALFORMED, "Expected a path as the request's target.")
    if values.keys() != set(told.components) or (has_body and head.content_digest is None):
        return _downgraded(f"The signature must cover {' '.join(required(values, has_body))}.")
    if expires <= created or expires - created > LIFETIME_SECONDS_MAX:
        return _downgraded(f"Expected to expire within {LIFETIME_SECONDS_MAX} s after `created`.")
    if created > now + CLOCK_SECONDS:
        return Refusal(
            Reason.SIGNATURE_FROM_FUTURE, f"`created` is {created - now} s ahead of our clock."
        )
    if expires < now:
        return Refusal(Reason.SIGNATURE_LATE, f"The signature expired {now - expires} s ago.")
    base = signature_base(((name, values[name]) for name in told.components), told.parameters)
    if base is None:
        return Refusal(Reason.SIGNATURE_MALFORMED, "Expected ASCII alone in what is covered.")
    return SignedRequest(
        key_id,
        created,
        expires,
        hashlib.sha256(f"{key_id} {nonce}".encode("ascii")).digest()[:NONCE_BYTES],
        base,
        signature,
        head.signature,
        head.content_digest,
    )


def is_genuine(signed: SignedRequest, public: Ed25519PublicKey) -> bool:
    """Tell whether this key made the signature."""
    return is_signed(public, signed.base, signed.signature)


def required(values: dict[str, str], has_body: bool) -> list[str]:  # noqa: FBT001 - one word more would say no more
    """What a signature must cover, in the order in which it is documented."""
    wanted = {*values, *(['"content-digest"'] if has_body else [])}
    return [name for name in (*TARGET, *FIELDS) if name in wanted]


def sign_request(
    head: RequestHead,
    *,
    body: bytes | bytearray | None,
    key_id: str,
    private: Ed25519PrivateKey,
    nonce: str,
    created: int,
    lifetime_seconds: int = LIFETIME_SECONDS,
) -> dict[str, str]:
    """Sign a request.

    Args:
        head: What is sent; its digest and signature are made here.
        body: The body; None or empty for none.
        key_id: The id under which the key is registered.
        private: The key.
        nonce: 16 to 64 visible ASCII characters, never used before with this key.
        created: Now, seconds since 1970.
        lifetime_seconds: For how long it counts.

    Returns:
        Fields to add to the request.

    Raises:
        ValueError: Something that is to be covered has no place in a signature.
    """
    fields: dict[str, str] = {}
    if body:
        fields["Content-Digest"] = content_digest(body)
    values = _values(head._replace(content_digest=fields.get("Content-Digest")))
    if values is None:
        raise ValueError(f"the target is no path: {head.target}")
    names = required(values, bool(body))
    parameters = write_parameters(
        names,
        (
            ("created", created),
            ("expires", created + lifetime_seconds),
            ("nonce", nonce),
            ("keyid", key_id),
            ("alg", ALGORITHM),
            ("tag", REQUEST_TAG),
        ),
    )
    base = signature_base(((name, values[name]) for name in names), parameters)
    if base is None:
        raise ValueError("what is signed holds a line end, or more than ASCII")
    fields["Signature-Input"] = f"{LABEL}={parameters}"
    fields["Signature"] = write_signature(LABEL, sign(private, base))
    return fields


def _values(head: RequestHead) -> dict[str, str] | None:
    """Value of each component that the request has; None if its target is no path."""
    if not head.target.startswith("/"):
        return None
    path, _, query = head.target.partition("?")
    values = {
        '"@method"': head.method,
        '"@authority"': head.authority.lower(),
        '"@path"': path,
        '"@query"': f"?{query}",
    }
    if head.content_digest is not None:
        values['"content-digest"'] = head.content_digest
    if head.content_type is not None:
        values['"content-type"'] = head.content_type
    if head.idempotency_key is not None:
        values['"idempotency-key"'] = head.idempotency_key
    return values


def _downgraded(detail: str) -> Refusal:
    return Refusal(Reason.SIGNATURE_DOWNGRADED, detail)
