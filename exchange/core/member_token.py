"""Member tokens: what a merchant calls a member, different for every merchant.

A token is one block of AES-256 over the merchant's number, the member's surrogate and four zero
bytes. AES is a permutation, so tokens need no table, two merchants' tokens of one member have
nothing in common without the key, and a token that was not made here shows in the zero bytes and
in the merchant's number.

Source: settlement/RULES.md, rules M1 and M2.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

TOKEN_PATTERN: Final = r"^mt_[a-z2-7]{26}$"  # noqa: S105 - what one looks like
PREFIX: Final = "mt_"
_LENGTH: Final = len(PREFIX) + 26
_BLOCK: Final = struct.Struct(">IqI")


class MemberTokens:
    """Makes and reads tokens under one key."""

    def __init__(self, key: bytes) -> None:
        """Take the house's token key, 32 bytes."""
        # One block and no more: ECB is the bare permutation here.
        self._cipher = Cipher(algorithms.AES256(key), modes.ECB())  # noqa: S305

    def token_of(self, member_no: int, *, merchant_no: int) -> str:
        """What a merchant calls a member; merchant 0 is the house."""
        encryptor = self._cipher.encryptor()
        block = encryptor.update(_BLOCK.pack(merchant_no, member_no, 0))
        return PREFIX + base64.b32encode(block).rstrip(b"=").decode().lower()

    def member_of(self, token: str, *, merchant_no: int) -> int | None:
        """The member's surrogate; None if this is no token of this merchant's."""
        if len(token) != _LENGTH or not token.startswith(PREFIX):
            return None
        try:
            block = base64.b32decode(token[len(PREFIX) :].upper() + "======")
        except binascii.Error:
            return None
        found, member_no, zero = _BLOCK.unpack(self._cipher.decryptor().update(block))
        if zero or found != merchant_no or member_no <= 0:
            return None
        # Base32 leaves two bits of the last letter unused; only one spelling is a token.
        return int(member_no) if self.token_of(member_no, merchant_no=found) == token else None


def is_token(name: str) -> bool:
    """Whether a name claims to be a token; no reference may."""
    return name.startswith(PREFIX)
