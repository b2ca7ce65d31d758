"""Who signed a request, and whether the signature counts: the same in every gateway.

A gateway remembers keys that it has seen. It uses them for requests that may change something, whose
nonce the writer has to see anyway: with its verdict the writer says which version of everybody's keys
counts, so that a revoked key is found out with the very next request. Requests that only read look
the key up each time, and are taken again within their lifetime: a reader's replay changes nothing and
tells nothing that the first did not.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from exchange.service.access import Principal, Unauthenticated
from exchange.signing.digest import is_digest_of
from exchange.signing.request import is_genuine, read_signed
from exchange.signing.structured import parse_input, parse_signature
from exchange.store.signing_keys import fetch_signing_key
from schemas.values.faults import Unavailable
from schemas.values.reason import Reason, Refusal
from settlement.core.nonces import NonceClaims, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncpg import Pool

    from exchange.signing.authority import PublicNames
    from exchange.signing.request import RequestHead, SignedRequest
    from settlement.service.nonces import Nonces

CACHED_MAX: Final = 10_000
_READING: Final = frozenset({"GET", "HEAD"})


class SignatureRefused(Unauthenticated):
    """The signature does not count.

    Attributes:
        refusal: Why.
        bound: The request's field `Signature`, to which the answer is bound; None if it cannot be read.
    """

    def __init__(self, refusal: Refusal, bound: str | None) -> None:
        """Keep the reason."""
        super().__init__(refusal.detail)
        self.refusal = refusal
        self.bound = bound


class _Key(NamedTuple):
    """A key as it was when it was read.

    Attributes:
        principal: Whose it is.
        public: The key.
        ends_us: From when on it does not count, microseconds since 1970; None for no end.
        version: Of everybody's keys, as it was known before this one was read.
    """

    principal: Principal
    public: Ed25519PublicKey
    ends_us: int | None
    version: int


class Verified(NamedTuple):
    """A request with a genuine signature.

    Attributes:
        principal: Who signed.
        signed: What the signature says.
        reads: Whether the request can change nothing.
    """

    principal: Principal
    signed: SignedRequest
    reads: bool


class Signatures:
    """Verifies signed requests."""

    def __init__(
        self, pool: Pool, nonces: Nonces, now_us: Callable[[], int], names: PublicNames
    ) -> None:
        """Take what is asked.

        Args:
            pool: The database, for keys.
            nonces: The writer's memory.
            now_us: Clock, microseconds since 1970.
            names: Hosts for which a signature counts here.
        """
        self._names = names
        self._pool = pool
        self._nonces = nonces
        self._now_us = now_us
        self._known: dict[str, _Key] = {}
        self._version = -1

    async def verify(self, head: RequestHead, *, has_body: bool) -> Verified:
        """Say who signed a request.

        Args:
            head: The request.
            has_body: Whether a body follows.

        Raises:
            SignatureRefused: It is not signed as it must be.
        """
        now_us = self._now_us()
        signed = read_signed(head, now=now_us // 1_000_000, has_body=has_body)
        if isinstance(signed, Refusal):
            raise SignatureRefused(signed, bound_of(head))
        if head.authority not in self._names:
            raise _refused(Reason.SIGNATURE_MISDIRECTED, signed)
        reads = head.method in _READING
        key = None if reads else self._known.get(signed.key_id)
        if key is None:
            key = await self._look_up(signed)
        if key.ends_us is not None and key.ends_us <= now_us:
            raise _refused(Reason.SIGNING_KEY_REVOKED, signed)
        if not is_genuine(signed, key.public):
            raise _refused(Reason.SIGNATURE_FORGED, signed)
        return Verified(key.principal, signed, reads)

    def check_body(self, verified: Verified, body: bytes | bytearray) -> None:
        """Hold a body against its signed digest.

        Raises:
            SignatureRefused: It is another one.
        """
        digest = verified.signed.content_digest
        if (body or digest is not None) and not is_digest_of(digest or "", body):
            raise _refused(Reason.DIGEST_MISMATCH, verified.signed)

    async def use(
        self, requests: Sequence[Verified]
    ) -> list[SignatureRefused | Unavailable | None]:
        """Let signatures count, each once; those of requests that only read count anyway.

        Returns:
            For each request, why it is not taken; None if it is.
        """
        claimed = [each.signed for each in requests if not each.reads]
        if not claimed:
            return [None] * len(requests)
        claims = NonceClaims(
            nonces=b"".join(signed.nonce for signed in claimed),
            created=[signed.created for signed in claimed],
            expires=[signed.expires for signed in claimed],
            use=secrets.randbits(63),
        )
        try:
            answer = await self._nonces.claim(claims)
        except Unavailable as away:
            return [None if each.reads else away for each in requests]
        if answer.keys_version != self._version:
            self._version = answer.keys_version
        told = iter(answer.verdicts)
        return [
            None if each.reads else await self._outcome(each.signed, next(told))
            for each in requests
        ]

    async def _outcome(
        self, signed: SignedRequest, verdict: int
    ) -> SignatureRefused | Unavailable | None:
        """What a verdict means to the sender."""
        match verdict:
            case Verdict.FRESH:
                return await self._still_counts(signed)
            case Verdict.REPLAYED:
                return _refused(Reason.SIGNATURE_REPLAYED, signed)
            case Verdict.LATE:
                return _refused(Reason.SIGNATURE_LATE, signed)
            case Verdict.BEFORE_US:
                return Unavailable("the writer began after this was signed; sign anew")
            case _:
                return Unavailable("too many signatures count at this time")

    async def _still_counts(self, signed: SignedRequest) -> SignatureRefused | None:
        """Look a key up again if any was revoked since it was read."""
        key = self._known.get(signed.key_id)
        if key is None or key.version != self._version:
            try:
                key = await self._look_up(signed)
            except SignatureRefused as refused:
                return refused
            if key.ends_us is not None and key.ends_us <= self._now_us():
                return _refused(Reason.SIGNING_KEY_REVOKED, signed)
        return None

    async def _look_up(self, signed: SignedRequest) -> _Key:
        """Read a key and remember it.

        Raises:
            SignatureRefused: There is none of this id, or it was revoked.
        """
        version = self._version
        row = await fetch_signing_key(self._pool, key_id=signed.key_id)
        if row is None or row["revoked_at"] is not None:
            self._known.pop(signed.key_id, None)
            raise _refused(
                Reason.SIGNING_KEY_UNKNOWN if row is None else Reason.SIGNING_KEY_REVOKED, signed
            )
        merchant_no, ends_at = row["merchant_no"], row["retires_at"]
        key = _Key(
            Principal(
                merchant_no=merchant_no,
                role="merchant" if merchant_no else "operator",
                name=f"key:{signed.key_id}",
            ),
            Ed25519PublicKey.from_public_bytes(row["public_key"]),
            None if ends_at is None else int(ends_at.timestamp() * 1_000_000),
            version,
        )
        if len(self._known) >= CACHED_MAX:
            self._known = {}
        self._known[signed.key_id] = key
        return key


def _refused(reason: Reason, signed: SignedRequest) -> SignatureRefused:
    return SignatureRefused(Refusal(reason, reason.english), signed.field)


def bound_of(head: RequestHead) -> str | None:
    """The field `Signature` where an answer can be bound to it, be it genuine or not."""
    told = None if head.signature_input is None else parse_input(head.signature_input)
    if told is None or head.signature is None:
        return None
    return head.signature if parse_signature(head.signature, told.label) else None
