"""How a merchant's system knows that a call over HTTP is ours.

Each kind is a table `[settings.auth]` with its `kind`. What is checked on the other side, by a
simulator or for a callback, is checked by the same code that signs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Final, Literal
from urllib.parse import quote_plus

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLACEHOLDER: Final = re.compile(r"\{([a-z0-9_]+)\}")
_SIGNED: Final = {
    "method",
    "host",
    "path",
    "query",
    "body",
    "body_sha256",
    "timestamp",
    "nonce",
    "key_id",
}
_TIMESTAMPS: Final = {
    "seconds": r"[0-9]{1,12}",
    "milliseconds": r"[0-9]{1,15}",
    "rfc3339": r"[0-9T:-]{19}Z",
}
_NONCE: Final = r"[A-Za-z0-9_-]{8,64}"
_SIGNATURE: Final = r"[A-Za-z0-9+/=_-]{16,200}"

_Header = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9-]{1,64}\Z")]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]


class NoAuth(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="none",
):
    """The system is reached over a private line and asks for nothing."""


class MutualTls(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="mtls",
):
    """Our certificate in `[settings.tls]` is all that the system asks for."""


class ApiKey(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="api-key",
):
    """A fixed key in a header.

    Attributes:
        secret: The key, as `env:` or `file:`.
        header: Name of the header.
        prefix: Stands before the key, for example `Bearer `.
    """

    secret: _Text
    header: _Header = "Authorization"
    prefix: str = ""


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """What every kind that signs has.

    Attributes:
        key_id: The name of the key, where one is sent.
        encoding: How the signature is written.
        timestamp: How the time is written.
        sign: What is signed, with `{method}`, `{host}`, `{path}`, `{query}`, `{body}`,
            `{body_sha256}`, `{timestamp}`, `{nonce}` and `{key_id}`.
        headers: Headers to send, with these and `{signature}`.
        skew_seconds: How far a time may be off when a signature is checked.
    """

    sign: _Text
    headers: dict[_Header, _Text]
    key_id: str = ""
    encoding: Literal["hex", "base64"] = "hex"
    timestamp: Literal["seconds", "milliseconds", "rfc3339"] = "seconds"
    skew_seconds: Annotated[int, msgspec.Meta(ge=1, le=3_600)] = 300

    def __post_init__(self) -> None:
        """Check the templates."""
        unknown = set(_PLACEHOLDER.findall(self.sign)) - _SIGNED
        if unknown:
            raise ValueError(f"sign: nothing is called {sorted(unknown)}")
        used: set[str] = set()
        for name, text in self.headers.items():
            used |= (found := set(_PLACEHOLDER.findall(text)))
            unknown = found - {"timestamp", "nonce", "key_id", "signature"}
            if unknown:
                raise ValueError(f"headers.{name}: nothing is called {sorted(unknown)}")
        if "signature" not in used:
            raise ValueError("headers: none of them has {signature}")
        hidden = {"timestamp", "nonce"} & set(_PLACEHOLDER.findall(self.sign)) - used
        if hidden:
            raise ValueError(f"headers: {sorted(hidden)} is signed and not sent")


class Hmac(
    Signed, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="hmac"
):
    """A keyed digest of what is sent (RFC 2104).

    Attributes:
        secret: The key, as `env:` or `file:`.
        algorithm: The digest.
    """

    secret: _Text
    algorithm: Literal["sha256", "sha384", "sha512"] = "sha256"


class Ed25519(
    Signed, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="ed25519"
):
    """An Ed25519 signature of what is sent (RFC 8032).

    Attributes:
        secret: The key, as `env:` or `file:`: 32 bytes in Base64, or PEM. The private key where we
            sign, the other side's public key where we check.
    """

    secret: _Text


class OAuth2(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="oauth2",
):
    """A token for our client credentials (RFC 6749 §4.4), sent as a bearer token (RFC 6750 §2.1).

    Attributes:
        token_url: Where tokens are given; a path is taken below the base URL.
        client_id: Our client id.
        secret: Our client secret, as `env:` or `file:`.
        scope: What is asked for; nothing if empty.
        client_in: Whether id and secret go into a `basic` header or the `body` (RFC 6749 §2.3.1).
    """

    token_url: _Text
    client_id: _Text
    secret: _Text
    scope: str = ""
    client_in: Literal["basic", "body"] = "basic"


Auth = NoAuth | MutualTls | ApiKey | Hmac | Ed25519 | OAuth2


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What of a request is signed.

    Attributes:
        method: In capitals.
        host: With the port where it is not the scheme's own.
        path: As sent, percent-encoded.
        query: As sent, without the question mark.
        body: As sent.
    """

    method: str
    host: str
    path: str
    query: str
    body: bytes


def api_key_header(auth: ApiKey, secret: bytes) -> dict[str, str]:
    """The header that carries the key."""
    return {auth.header: auth.prefix + secret.decode()}


def signature_headers(
    auth: Hmac | Ed25519, key: bytes, sent: Sent, *, now_us: int, nonce: str
) -> dict[str, str]:
    """The headers that carry the signature and what it was made with.

    Raises:
        ValueError: The key is no private key of Ed25519.
    """
    known = {
        "timestamp": _timestamp(auth.timestamp, now_us),
        "nonce": nonce,
        "key_id": auth.key_id,
    }
    data = _signed(auth, sent, known)
    known["signature"] = _encoded(auth, _sign(auth, key, data))
    return {name: _filled(text, known) for name, text in auth.headers.items()}


def signature_holds(
    auth: Hmac | Ed25519, key: bytes, sent: Sent, headers: Mapping[str, str], *, now_us: int
) -> str | None:
    """Check a signed request.

    Args:
        auth: How it should be signed.
        key: The key, for Ed25519 the public one.
        sent: What came.
        headers: The headers that came; names in any case, if the mapping allows it.
        now_us: Now, microseconds since 1970 UTC.

    Returns:
        The nonce, or the signature where there is none, for the caller to see that it comes once;
        None if a header is missing or malformed, the time is too far off, or the signature is wrong.

    Raises:
        ValueError: The key is no public key of Ed25519.
    """
    said: dict[str, str] = {}
    for name, text in auth.headers.items():
        found = re.fullmatch(_pattern(auth, text), headers.get(name, ""))
        if found is None:
            return None
        for part, value in found.groupdict().items():
            if said.setdefault(part, value) != value:
                return None
    data = _signed(auth, sent, {**said, "key_id": auth.key_id})
    if isinstance(auth, Hmac):
        right = _encoded(auth, hmac.digest(key, data, auth.algorithm))
        if not hmac.compare_digest(right, said["signature"]):
            return None
    elif not _verifies(auth, public_key(key), said["signature"], data):
        return None
    if "timestamp" in said:
        off_us = abs(_timestamp_us(auth.timestamp, said["timestamp"]) - now_us)
        if off_us > auth.skew_seconds * 1_000_000:
            return None
    return said.get("nonce", said["signature"])


@lru_cache(maxsize=64)
def private_key(key: bytes) -> Ed25519PrivateKey:
    """Read a private key, once: 32 bytes in Base64, or PEM. Reading one takes as long as a signature.

    Raises:
        ValueError: It is neither.
    """
    if not key.startswith(b"-----"):
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(key, validate=True))
    try:
        found = serialization.load_pem_private_key(key, None)
    except (TypeError, UnsupportedAlgorithm):
        # It has a passphrase, or is of a kind that nobody knows.
        found = None
    if isinstance(found, Ed25519PrivateKey):
        return found
    raise ValueError("not a private key of Ed25519")


@lru_cache(maxsize=64)
def public_key(key: bytes) -> Ed25519PublicKey:
    """Read a public key: 32 bytes in Base64, or PEM.

    Raises:
        ValueError: It is neither.
    """
    if not key.startswith(b"-----"):
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True))
    try:
        found = serialization.load_pem_public_key(key)
    except UnsupportedAlgorithm:
        found = None
    if isinstance(found, Ed25519PublicKey):
        return found
    raise ValueError("not a public key of Ed25519")


def basic_header(client_id: str, secret: bytes) -> str:
    """Client id and secret as RFC 6749 §2.3.1 wants them: each form-encoded, then RFC 7617."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret.decode())}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _signed(auth: Signed, sent: Sent, known: Mapping[str, str]) -> bytes:
    """The bytes that are signed."""
    parts = {name: value.encode() for name, value in known.items()}
    parts |= {
        "method": sent.method.encode(),
        "host": sent.host.encode(),
        "path": sent.path.encode(),
        "query": sent.query.encode(),
        "body": sent.body,
        "body_sha256": hashlib.sha256(sent.body).hexdigest().encode(),
    }
    # Every second piece is a placeholder's name.
    pieces = _PLACEHOLDER.split(auth.sign)
    return b"".join(
        parts[piece] if place % 2 else piece.encode() for place, piece in enumerate(pieces)
    )


def _sign(auth: Hmac | Ed25519, key: bytes, data: bytes) -> bytes:
    if isinstance(auth, Hmac):
        return hmac.digest(key, data, auth.algorithm)
    return private_key(key).sign(data)


def _encoded(auth: Signed, signature: bytes) -> str:
    return signature.hex() if auth.encoding == "hex" else base64.b64encode(signature).decode()


def _verifies(auth: Signed, key: Ed25519PublicKey, signature: str, data: bytes) -> bool:
    try:
        raw = (
            bytes.fromhex(signature)
            if auth.encoding == "hex"
            else base64.b64decode(signature, validate=True)
        )
        key.verify(raw, data)
    except (ValueError, InvalidSignature):
        return False
    return True


def _filled(text: str, known: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: known[found[1]], text)


def _pattern(auth: Signed, text: str) -> str:
    """A header's template as the pattern that reads it."""
    forms = {
        "timestamp": f"(?P<timestamp>{_TIMESTAMPS[auth.timestamp]})",
        "nonce": f"(?P<nonce>{_NONCE})",
        "signature": f"(?P<signature>{_SIGNATURE})",
        "key_id": re.escape(auth.key_id),
    }
    pieces = _PLACEHOLDER.split(text)
    return "".join(
        forms[piece] if place % 2 else re.escape(piece) for place, piece in enumerate(pieces)
    )


def _timestamp(form: str, at_us: int) -> str:
    if form == "seconds":
        return str(at_us // 1_000_000)
    if form == "milliseconds":
        return str(at_us // 1_000)
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _timestamp_us(form: str, text: str) -> int:
    if form == "seconds":
        return int(text) * 1_000_000
    if form == "milliseconds":
        return int(text) * 1_000
    try:
        return int(datetime.fromisoformat(text).timestamp()) * 1_000_000
    except ValueError:
        return 0
