"""Signatures that were used: each counts once, wherever it arrives.

The one writer remembers the nonce of every signed request that may change something until the signature
expires, so the same request at two gateways at once counts once. What was used before the writer began
it cannot know: signatures older than that are sent back to be made anew.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

NONCE_BYTES: Final = 16
SLICE_SECONDS: Final = 8
REMEMBERED_MAX: Final = 1_000_000
"""About 150 MB; at most three minutes of signatures count at any time, so 5,000 a second fit."""


class Verdict(IntEnum):
    """What becomes of a signature."""

    FRESH = 0
    REPLAYED = 1
    LATE = 2
    BEFORE_US = 3
    """It is older than the memory: nobody knows whether it was used."""
    NO_ROOM = 4


class NonceClaims(msgspec.Struct, frozen=True, gc=False, tag="nonces"):
    """Signatures that want to be used now, by columns.

    Attributes:
        nonces: 16 bytes each.
        created: From when on each counts, seconds since 1970.
        expires: Until when.
        use: Names this claim, so that the very claim may be sent twice.
    """

    nonces: bytes
    created: list[int]
    expires: list[int]
    use: int

    def check(self) -> None:
        """Hold what the types cannot say.

        Raises:
            ValueError: The columns have different lengths.
        """
        count = len(self.created)
        if len(self.nonces) != count * NONCE_BYTES or len(self.expires) != count:
            raise ValueError("columns of different lengths")


class KeysChanged(msgspec.Struct, frozen=True, gc=False, tag="keys"):
    """Says that keys of callers were revoked: whoever remembers keys must look again."""


class NonceVerdicts(msgspec.Struct, frozen=True, gc=False, tag="verdicts"):
    """The answer to claims.

    Attributes:
        verdicts: A `Verdict` each, as one byte.
        keys_version: Changes whenever keys of callers are revoked, and with every writer.
    """

    verdicts: bytes
    keys_version: int


class NonceMemory:
    """What one writer remembers of signatures that were used."""

    def __init__(self, *, began: int, remembered_max: int = REMEMBERED_MAX) -> None:
        """Begin to remember.

        Args:
            began: The first whole second of which nothing was forgotten, since 1970.
            remembered_max: Most nonces; beyond, signatures are turned away until some have expired.
        """
        self._began = began
        self._clock = began
        self._slices: dict[int, dict[bytes, int]] = {}
        self._count = 0
        self._max = remembered_max

    def __len__(self) -> int:
        """How many are remembered."""
        return self._count

    def claim(self, claims: NonceClaims, *, now: int) -> bytes:
        """Use signatures, each in its turn.

        Args:
            claims: The signatures.
            now: Seconds since 1970; a clock that jumps back is not followed.

        Returns:
            A `Verdict` for each, as one byte.
        """
        self._clock = now = max(now, self._clock)
        self._forget(now)
        verdicts = bytearray()
        nonces, use = claims.nonces, claims.use
        for number, (created, expires) in enumerate(
            zip(claims.created, claims.expires, strict=True)
        ):
            if expires < now:
                verdicts.append(Verdict.LATE)
                continue
            if created < self._began:
                verdicts.append(Verdict.BEFORE_US)
                continue
            # `expires` is signed, so a replay comes to the same slice.
            slice_ = self._slices.setdefault(expires // SLICE_SECONDS, {})
            nonce = nonces[number * NONCE_BYTES : (number + 1) * NONCE_BYTES]
            used = slice_.get(nonce)
            if used is not None:
                verdicts.append(Verdict.FRESH if used == use else Verdict.REPLAYED)
            elif self._count >= self._max:
                verdicts.append(Verdict.NO_ROOM)
            else:
                slice_[nonce] = use
                self._count += 1
                verdicts.append(Verdict.FRESH)
        return bytes(verdicts)

    def _forget(self, now: int) -> None:
        """Drop the slices of which every signature has expired."""
        for number in [each for each in self._slices if (each + 1) * SLICE_SECONDS <= now]:
            self._count -= len(self._slices.pop(number))
