"""Webhooks as Standard Webhooks 1.0.0 has them: signatures, addresses that may be called, and when to try again.

What is signed is `id.timestamp.body`; a signature is `v1a,` and 64 bytes of Ed25519 in Base64. While keys rotate, the
header carries one signature of each key, and a receiver is content with any that it can check.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterable

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"
ASYMMETRIC: Final = "v1a"
PUBLIC_PREFIX: Final = "whpk_"
TOLERANCE_SECONDS: Final = 300
"""How far a receiver lets a timestamp lie from its own clock."""

RETRY_SECONDS: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Pauses after the first failed attempt, the second and so on: a little over three days in all."""
ATTEMPTS_MAX: Final = len(RETRY_SECONDS) + 1
JITTER: Final = 0.2
"""By how much of itself a pause is made shorter or longer, so that what failed together is not tried together."""
ASKED_SECONDS_MAX: Final = 86_400
"""A receiver may ask for a longer pause than ours (`Retry-After`), up to a day."""


def public_key_text(public: Ed25519PublicKey) -> str:
    """A public key as receivers store it."""
    return PUBLIC_PREFIX + base64.b64encode(public.public_bytes_raw()).decode("ascii")


def parse_public_key(text: str) -> Ed25519PublicKey:
    """Read what `public_key_text` wrote.

    Raises:
        ValueError: It is not such a key.
    """
    if not text.startswith(PUBLIC_PREFIX):
        raise ValueError(f"expected {PUBLIC_PREFIX}…")
    try:
        raw = base64.b64decode(text.removeprefix(PUBLIC_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("expected Base64") from error
    return Ed25519PublicKey.from_public_bytes(raw)


def _signed_bytes(message_id: str, timestamp: int, body: bytes) -> bytes:
    return b"%b.%d.%b" % (message_id.encode("ascii"), timestamp, body)


def sign_webhook(
    keys: Iterable[Ed25519PrivateKey], *, message_id: str, timestamp: int, body: bytes
) -> str:
    """Make the header `webhook-signature`.

    Args:
        keys: All that sign now.
        message_id: The header `webhook-id`; holds no dot.
        timestamp: The header `webhook-timestamp`: seconds since 1970, of this attempt.
        body: The body, byte for byte.
    """
    signed = _signed_bytes(message_id, timestamp, body)
    return " ".join(
        f"{ASYMMETRIC},{base64.b64encode(key.sign(signed)).decode('ascii')}" for key in keys
    )


def is_webhook_signed(
    keys: Iterable[Ed25519PublicKey],
    *,
    message_id: str,
    timestamp: str,
    body: bytes,
    signatures: str,
    now_seconds: int,
) -> bool:
    """Tell, for a receiver in Python, whether a webhook is ours and fresh.

    Args:
        keys: Public keys that the receiver trusts.
        message_id: The header `webhook-id`.
        timestamp: The header `webhook-timestamp`.
        body: The body, byte for byte.
        signatures: The header `webhook-signature`.
        now_seconds: The receiver's clock, seconds since 1970.
    """
    if not (timestamp.isascii() and timestamp.isdigit() and message_id.isascii()):
        return False
    if abs(now_seconds - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    signed = _signed_bytes(message_id, int(timestamp), body)
    trusted = tuple(keys)
    for each in signatures.split(" "):
        version, _, encoded = each.partition(",")
        if version != ASYMMETRIC:
            continue
        try:
            raw = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            continue
        for key in trusted:
            try:
                key.verify(raw, signed)
            except InvalidSignature:
                continue
            return True
    return False


# --- when to try again ---


def pause_seconds(attempts: int, *, draw: float, asked_seconds: float = 0.0) -> float | None:
    """How long to wait after a failed attempt.

    Args:
        attempts: How often the event was tried, at least once.
        draw: Evenly drawn from 0 to 1.
        asked_seconds: What the receiver asked for; 0 for nothing.

    Returns:
        Seconds; None when the event is given up.
    """
    if attempts >= ATTEMPTS_MAX:
        return None
    own = RETRY_SECONDS[attempts - 1] * (1 - JITTER + 2 * JITTER * draw)
    return max(own, min(asked_seconds, ASKED_SECONDS_MAX))


# --- which addresses may be called ---


_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""All that is given out of IPv6 (RFC 4291 §2.4); the rest is local, old or not used."""
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def is_public_address(text: str) -> bool:
    """Tell whether an IP address belongs to the open internet.

    An IPv6 address that stands for an IPv4 address is judged by that one.

    Raises:
        ValueError: It is no IP address.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address.teredo is not None:
            inner = address.teredo[1]
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public_address(str(inner))
        if address not in _UNICAST:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def why_not_url(url: str, *, private: bool) -> str | None:
    """Say why webhooks cannot be sent to an address, if they cannot.

    Names are looked up when webhooks are sent, and every address that they lead to is judged then.

    Args:
        url: Where they are wanted.
        private: Whether plain HTTP and addresses of closed networks are taken, as in a sandbox.
    """
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "Expected visible ASCII characters"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "Expected a URL"
    if parts.scheme not in ({"https", "http"} if private else {"https"}):
        return "Expected an https:// URL"
    if not parts.hostname:
        return "Expected a host"
    if "@" in parts.netloc:
        return "A URL of an endpoint carries no user"
    if parts.fragment or url.endswith("#"):
        return "A URL of an endpoint carries no fragment"
    if port == 0:
        return "Expected a port from 1 to 65535"
    if private:
        return None
    try:
        public = is_public_address(parts.hostname)
    except ValueError:
        # A name. One without a dot belongs to a closed network; `0x7f.1` and the like look like one with a dot, and
        # are judged when they are looked up.
        name = parts.hostname.rstrip(".")
        public = "." in name and not name.endswith((".localhost", ".local", ".internal"))
    return None if public else "The host is in a private network"
