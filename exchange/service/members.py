"""Enrolment of members, and the way from their reference to the surrogate that the journal holds."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from exchange.store import members as store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from asyncpg import Pool

CACHED_MAX = 1_000_000


class Members:
    """Looks surrogates up, and remembers them: a surrogate never changes."""

    def __init__(self, pool: Pool, now: Callable[[], datetime]) -> None:
        """Take the pool to read and enrol with, and the clock."""
        self._pool = pool
        self._now = now
        self._known: dict[str, int] = {}

    async def enrol(self, references: Collection[str]) -> dict[str, int]:
        """Enrol those who are not members yet; a member who is stays as they were.

        Returns:
            The surrogate of every reference.
        """
        new = sorted({reference for reference in references if reference not in self._known})
        if new:
            await store.insert_members(
                self._pool,
                references=new,
                surrogates=[secrets.randbelow(2**63 - 1) + 1 for _ in new],
                now=self._now(),
            )
            await self.find(references)
        return self._known

    async def find(self, references: Collection[str]) -> dict[str, int]:
        """Look members up; whoever is not enrolled is missing from the answer.

        Returns:
            Surrogates by reference, for at least the enrolled ones of `references`.
        """
        unknown = sorted({reference for reference in references if reference not in self._known})
        if unknown:
            if len(self._known) > CACHED_MAX:
                self._known = {
                    reference: self._known[reference]
                    for reference in references
                    if reference in self._known
                }
            self._known |= await store.fetch_surrogates(self._pool, references=unknown)
        return self._known
