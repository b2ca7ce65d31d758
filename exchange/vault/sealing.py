"""What is sealed: members' names under members' own keys, and those under the house's.

    master key ─wraps─► `members` ─wraps─► a member's key ─seals─► names, accounts at merchants
                        `lookup`  ─HMAC─►  digest by which a name is found again
                        `token`   ─AES──►  member tokens
                        `requests` ─AES─►  digests of requests
                        `people`  ─seals─► what staff's one-time codes come from

Whoever destroys a member's key has destroyed what it sealed, in every copy of the database that
does not hold that key. Sealing is AES-256-GCM (NIST SP 800-38D); nonces are random, and a key of the
house wraps fewer than 2^32 members' keys, as section 8.3 asks.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from exchange.core.member_token import MemberTokens
from exchange.core.request_digest import RequestDigests
from exchange.vault.master import KEY_BYTES, NONCE_BYTES

HOUSE_KEYS: Final = ("members", "lookup", "token", "requests", "people")


class SealBroken(Exception):  # noqa: N818 - a state of the stored bytes
    """Stored bytes were altered, or do not belong where they stand."""


@dataclass(frozen=True, slots=True)
class MemberKey:
    """A member's own key."""

    secret: bytes

    def seal(self, text: str, *, place: str) -> bytes:
        """Seal a text that may be opened at this place alone, as `name of 3`."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + AESGCM(self.secret).encrypt(nonce, text.encode(), place.encode())

    def open(self, sealed: bytes, *, place: str) -> str:
        """Read what `seal` wrote.

        Raises:
            SealBroken: It was altered, sealed under another key, or for another place.
        """
        try:
            raw = AESGCM(self.secret).decrypt(
                sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place.encode()
            )
        except (InvalidTag, ValueError) as error:
            raise SealBroken(f"what is sealed as {place!r} cannot be opened") from error
        return raw.decode()


class Seals:
    """Seals short secrets, each bound to whom it belongs to."""

    def __init__(self, key: bytes) -> None:
        """Take a key of the house, 32 bytes."""
        self._cipher = AESGCM(key)

    def seal(self, secret: bytes, *, owner: str) -> bytes:
        """Seal a secret for its owner."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, owner.encode())

    def open(self, sealed: bytes, *, owner: str) -> bytes:
        """Open what was sealed for this owner.

        Raises:
            SealBroken: It was sealed under another key or for somebody else, or was altered.
        """
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], owner.encode())
        except (InvalidTag, ValueError) as error:
            raise SealBroken(f"what is sealed for {owner!r} cannot be opened") from error


class Vault:
    """The house's keys, opened."""

    def __init__(
        self, *, members: bytes, lookup: bytes, token: bytes, requests: bytes, people: bytes
    ) -> None:
        """Take the house's keys, 32 bytes each."""
        self._members = AESGCM(members)
        self._lookup = lookup
        self.tokens: Final = MemberTokens(token)
        self.requests: Final = RequestDigests(requests)
        self.people: Final = Seals(people)

    def digest(self, name: str, *, scope: int) -> bytes:
        """What a name is found by: 32 bytes of HMAC-SHA256 over the scope and the name."""
        return hmac.digest(self._lookup, scope.to_bytes(4, "big") + name.encode(), "sha256")

    def make_member_key(self, member_no: int) -> tuple[MemberKey, bytes]:
        """A new key for a member, and its wrapped form, which alone is stored."""
        secret, nonce = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(NONCE_BYTES)
        wrapped = nonce + self._members.encrypt(nonce, secret, member_no.to_bytes(8, "big"))
        return MemberKey(secret), wrapped

    def open_member_key(self, member_no: int, wrapped: bytes) -> MemberKey:
        """A member's key from its wrapped form.

        Raises:
            SealBroken: It was altered, or is another member's.
        """
        try:
            return MemberKey(
                self._members.decrypt(
                    wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], member_no.to_bytes(8, "big")
                )
            )
        except (InvalidTag, ValueError) as error:
            raise SealBroken("a member's key cannot be opened") from error


def name_place(scope: int) -> str:
    """Where a name stands: whose name for the member it is."""
    return f"name {scope}"


def link_place(merchant_no: int) -> str:
    """Where a member's id at a merchant's own system stands."""
    return f"link {merchant_no}"
