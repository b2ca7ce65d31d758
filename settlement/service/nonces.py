"""Who is asked whether a signature was used before: the writer's memory, near or far."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Protocol

from settlement.core.nonces import NonceMemory, NonceVerdicts

if TYPE_CHECKING:
    from collections.abc import Callable

    from settlement.core.nonces import NonceClaims


class Nonces(Protocol):
    """What a gateway sees of the writer's memory of signatures."""

    async def claim(self, claims: NonceClaims) -> NonceVerdicts:
        """Use signatures, each of which counts once.

        Raises:
            Unavailable: The writer is away; nothing was used for certain.
        """
        ...

    async def keys_changed(self) -> None:
        """Tell every gateway, through the writer, that keys of callers were revoked.

        Raises:
            Unavailable: The writer is away; the next one tells them anyway.
        """
        ...


class LocalNonces:
    """The memory itself, in the writer's process; a `Nonces`."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        """Begin to remember; a signature that says the second of this start may be older than it.

        Args:
            now_us: Clock, microseconds since 1970.
        """
        self._now_us = now_us
        self._memory = NonceMemory(began=-(-now_us() // 1_000_000))
        self._keys_version = secrets.randbits(48)

    async def claim(self, claims: NonceClaims) -> NonceVerdicts:
        """Use signatures; see `Nonces`."""
        return self.claim_now(claims)

    def claim_now(self, claims: NonceClaims) -> NonceVerdicts:
        """Use signatures, without waiting for anything."""
        now = self._now_us() // 1_000_000
        return NonceVerdicts(self._memory.claim(claims, now=now), self._keys_version)

    async def keys_changed(self) -> None:
        """Raise the version that goes with every verdict; see `Nonces`."""
        self.raise_version()

    def raise_version(self) -> NonceVerdicts:
        """Raise the version that goes with every verdict, and return it."""
        self._keys_version += 1
        return NonceVerdicts(b"", self._keys_version)
