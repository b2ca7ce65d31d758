"""Passwords: argon2id (RFC 9106), a few at a time, since each takes 64 MiB and a good part of a second."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from schemas.values.faults import Unavailable

AT_ONCE: Final = 2
WAITING_MAX: Final = 32
"""More attempts than that at once are told to come back, so that guessing can fill neither memory nor threads."""

_HASHER: Final = PasswordHasher()


class Passwords:
    """Hashes and verifies in threads of its own."""

    def __init__(self) -> None:
        """Nothing runs until it is needed."""
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="passwords")
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """The text that is stored of a password.

        Raises:
            Unavailable: Too many are waiting.
        """
        return await self._apart(password, None) or ""

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether this is the password; for somebody whom there is not (None) it takes as long.

        Raises:
            Unavailable: Too many are waiting.
        """
        verified = await self._apart(password, _hash_of_nobody() if stored is None else stored)
        return verified is not None and stored is not None

    async def _apart(self, password: str, stored: str | None) -> str | None:
        if self._waiting >= WAITING_MAX:
            raise Unavailable("too many people are signing in", retry_after_seconds=1)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, _hash_or_verify, password, stored)
        finally:
            self._waiting -= 1


def _hash_or_verify(password: str, stored: str | None) -> str | None:
    """The hash of a password, or the stored one if it is this password's; else None."""
    if stored is None:
        return _HASHER.hash(password)
    try:
        _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return None
    return stored


@functools.cache
def _hash_of_nobody() -> str:
    return _HASHER.hash("nobody has this password")
