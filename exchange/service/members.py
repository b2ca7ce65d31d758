"""Enrolment of members, and the way from what a caller calls them to the surrogate that the journal holds.

A merchant names a member by its member token, or by a reference: one of its own, if it joined with
names of its own, else the one that the member has at the house. Another merchant's tokens and
names mean nothing to it.

Source: settlement/RULES.md, rules M1 to M4.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final

from exchange.core.member_token import is_token
from exchange.store import members as store
from exchange.vault.sealing import name_place
from schemas.values.ids import HOUSE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from asyncpg import Pool

    from exchange.service.shelf import Shelf
    from exchange.service.vaults import VaultDoor
    from exchange.vault.sealing import Vault

CACHED_MAX: Final = 1_000_000
FORGET_SECONDS: Final = 2.0
"""How long a gateway may still know a member who was erased, or withdrew a consent."""
_OVERLAP: Final = timedelta(seconds=30)
"""How far behind its time stamp a transaction may commit and be noticed all the same."""


class Members:
    """Looks surrogates up, and remembers them: a name means the same member until they are forgotten."""

    def __init__(
        self, pool: Pool, door: VaultDoor, shelf: Shelf, now: Callable[[], datetime]
    ) -> None:
        """Take the pool to read and enrol with, the vault, what is offered, and the clock."""
        self._pool = pool
        self._door = door
        self._shelf = shelf
        self._now = now
        # References by whose they are, which all who use them share; tokens by whose they are.
        self._known: dict[int, dict[str, int]] = {}
        self._tokens: dict[int, dict[str, int]] = {}
        self._forgotten_until = datetime.now(UTC) - _OVERLAP
        self._looked_at = monotonic()

    async def enrol(self, references: Collection[str], *, caller: int = HOUSE) -> dict[str, int]:
        """Enrol those whom the caller has not enrolled yet; a member whom it has stays as they were.

        Args:
            references: What the caller calls them; no tokens.
            caller: Merchant number of who names them; 0 for the house.

        Returns:
            The surrogate of every reference.
        """
        vault = await self._door.vault()
        scope = await self._shelf.scope_of(caller)
        digests = {vault.digest(each, scope=scope): each for each in references}
        found = await store.fetch_named(self._pool, digests=list(digests))
        if new := digests.keys() - found.keys():
            await store.insert_members(
                self._pool,
                names=[_named(vault, digests[digest], digest, scope) for digest in sorted(new)],
                now=self._now(),
            )
            found |= await store.fetch_named(self._pool, digests=list(new))
        own = {reference: found[digest] for digest, reference in digests.items()}
        self._known.setdefault(scope, {}).update(own)
        return own

    async def find(self, names: Collection[str], *, caller: int = HOUSE) -> dict[str, int]:
        """Look members up; whom the caller does not know is missing from the answer.

        Args:
            names: References and tokens of the caller's.
            caller: Merchant number of who names them; 0 for the house.

        Returns:
            Surrogates by name, for at least the known ones of `names`.
        """
        if monotonic() - self._looked_at > FORGET_SECONDS:
            await self._forget()
        scope = await self._shelf.scope_of(caller)
        known = self._known.setdefault(scope, {})
        unknown = {name for name in names if name not in known}
        if not unknown:
            return known
        if len(known) > CACHED_MAX:
            known = self._known[scope] = {name: known[name] for name in names if name in known}
        tokens = {name for name in unknown if is_token(name)}
        if references := unknown - tokens:
            known.update(await self._by_reference(references, scope))
        if not tokens:
            return known
        named = await self._by_token(tokens, caller, scope)
        return named | {name: known[name] for name in names if name in known}

    async def tokens(self, names: Collection[str], *, caller: int = HOUSE) -> dict[str, str]:
        """What the caller may call members from now on; whom it does not know is missing from the answer."""
        vault = await self._door.vault()
        known = await self.find(names, caller=caller)
        return {
            name: vault.tokens.token_of(known[name], merchant_no=caller)
            for name in names
            if name in known
        }

    async def token_for(self, member_no: int, *, merchant_no: int) -> str:
        """What a merchant calls a member; whether it may know them is not asked."""
        return (await self._door.vault()).tokens.token_of(member_no, merchant_no=merchant_no)

    async def _by_reference(self, references: set[str], scope: int) -> dict[str, int]:
        vault = await self._door.vault()
        digests = {vault.digest(reference, scope=scope): reference for reference in references}
        found = await store.fetch_named(self._pool, digests=list(digests))
        return {digests[digest]: member_no for digest, member_no in found.items()}

    async def _by_token(self, tokens: set[str], caller: int, scope: int) -> dict[str, int]:
        vault = await self._door.vault()
        held = self._tokens.setdefault(caller, {})
        if len(held) > CACHED_MAX:
            held.clear()
        read = {
            token: vault.tokens.member_of(token, merchant_no=caller)
            for token in tokens
            if token not in held
        }
        named = {token: member_no for token, member_no in read.items() if member_no is not None}
        if not named:
            return {token: held[token] for token in tokens if token in held}
        known = await store.fetch_known_to(
            self._pool,
            merchant_no=caller,
            scope=scope,
            member_nos=list(named.values()),
        )
        held.update({token: member_no for token, member_no in named.items() if member_no in known})
        return {token: held[token] for token in tokens if token in held}

    async def _forget(self) -> None:
        """Drop from memory whoever was erased or withdrew a consent since the last look."""
        self._looked_at = monotonic()
        now, gone = await store.fetch_forgotten(self._pool, since=self._forgotten_until)
        self._forgotten_until = now - _OVERLAP
        if gone:
            members = set(gone)
            for names in (self._known, self._tokens):
                for whose, known in names.items():
                    names[whose] = {
                        name: member_no
                        for name, member_no in known.items()
                        if member_no not in members
                    }


def _named(vault: Vault, reference: str, digest: bytes, scope: int) -> store.SealedName:
    """A new member, with a random surrogate and a key."""
    member_no = secrets.randbelow(2**63 - 1) + 1
    key, wrapped = vault.make_member_key(member_no)
    return store.SealedName(
        digest=digest,
        member_no=member_no,
        scope=scope,
        sealed=key.seal(reference, place=name_place(scope)),
        wrapped=wrapped,
    )
