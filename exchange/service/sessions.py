"""Sign in with password and one-time code, and the sessions that follow from it.

An attempt is counted before it is looked at, so attempts that come at once cannot pass the limit together. Every
failure gets the same answer after the same work, be it the name, the password or the code that was wrong, or that the
person has no credentials or must wait. A session is 256 random bits of which only the digest is stored; it is looked up
anew for each request, so ending it or shutting its person out counts at once.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from exchange.core.person import FREE_FAILURES, wait_after
from exchange.service.access import Principal, Unauthenticated
from exchange.service.people import digest_of
from exchange.store import people as store
from schemas.values.reason import Reason, Refusal
from settlement.core.trail import PROGRAM, Change
from settlement.service import trail

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from asyncpg import Pool, Record

    from exchange.service.access import Authenticator
    from exchange.service.passwords import Passwords
    from exchange.service.vaults import VaultDoor

SESSION_PREFIX: Final = "tds_"
IDLE: Final = timedelta(minutes=30)
"""A session that was not used for so long has ended."""
LIFE: Final = timedelta(hours=12)
"""No session lasts longer, however busy."""
_BEARER: Final = f"bearer {SESSION_PREFIX}"
_TOUCH: Final = timedelta(minutes=1)
_STEP_SECONDS: Final = 30
_DIGITS: Final = 6
_WAITS: Final = [wait_after(failures) for failures in range(FREE_FAILURES + 9)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A session that was opened.

    Attributes:
        token: What its bearer sends from now on; shown once.
        person: Who it is.
        ends_at: When it ends at the latest.
    """

    token: str
    person: Principal
    ends_at: datetime


class Sessions:
    """Opens, recognises and ends sessions."""

    def __init__(
        self,
        pool: Pool,
        door: VaultDoor,
        passwords: Passwords,
        *,
        keys: Authenticator,
        now: Callable[[], datetime],
    ) -> None:
        """Take what signing in needs, and who recognises callers that are no people."""
        self._keys = keys
        self._pool = pool
        self._door = door
        self._passwords = passwords
        self._now = now

    async def sign_in(self, name: str, password: str, code: str) -> Opened | Refusal:
        """Open a session for who knows the password and holds the authenticator, or a recovery code.

        Returns:
            The session, or SIGN_IN_REFUSED, which says nothing about why.

        Raises:
            Unavailable: Too many are signing in.
        """
        now = self._now()
        row = await store.claim_attempt(self._pool, name=name, now=now, waits=_WAITS)
        known = await self._passwords.verify(password, row["password_hash"] if row else None)
        if row is None or not known or not await self._is_code(row, code, now):
            if row is not None and row["failures"] == FREE_FAILURES:
                await self._note_lock(name, now)
            return Refusal(
                Reason.SIGN_IN_REFUSED,
                "name, password or code is wrong, or too many attempts failed; wait a while",
            )
        return await self._open(row["person_no"], now)

    async def vouched(self, subject: str) -> Opened | Refusal:
        """Open a session for whom the identity provider vouches for.

        Returns:
            The session, or SIGN_IN_REFUSED where nobody here is that.
        """
        person_no = await store.fetch_by_subject(self._pool, subject=subject)
        if person_no is None:
            return Refusal(Reason.SIGN_IN_REFUSED, "nobody here is that at the identity provider")
        return await self._open(person_no, self._now())

    async def _open(self, person_no: int, now: datetime) -> Opened:
        token = SESSION_PREFIX + secrets.token_urlsafe(32)
        ends_at = now + LIFE
        async with self._pool.acquire() as conn, conn.transaction():
            await store.forgive(conn, person_no=person_no, now=now)
            await store.insert_session(
                conn, digest=digest_of(token), person_no=person_no, now=now, ends_at=ends_at
            )
        return Opened(
            token=token, person=await recognise(self._pool, token, now=now), ends_at=ends_at
        )

    async def authenticate(self, authorization: str | None) -> Principal:
        """Say whose session or, for any other token, whose API key this is; see `Authenticator`."""
        if authorization is not None and authorization[: len(_BEARER)].lower() == _BEARER:
            return await recognise(self._pool, authorization.partition(" ")[2], now=self._now())
        return await self._keys.authenticate(authorization)

    async def end(self, token: str) -> bool:
        """Sign out; False if there was no such session."""
        return await store.end_session(self._pool, digest=digest_of(token), now=self._now())

    async def _is_code(self, row: Record, code: str, now: datetime) -> bool:
        """Whether a code is the authenticator's of now (or of the step before or after) or an unused recovery code.

        Each counts once: RFC 6238 §5.2.
        """
        if len(code) != _DIGITS:
            digest = digest_of(code.lower())
            return await store.use_recovery_code(
                self._pool, person_no=row["person_no"], digest=digest
            )
        seed = (await self._door.vault()).people.open(row["totp_sealed"], owner=row["name"])
        totp = TOTP(seed, _DIGITS, SHA1(), _STEP_SECONDS)  # noqa: S303 - what authenticators speak
        at = int(now.timestamp())
        for step in (at // _STEP_SECONDS + ahead for ahead in (0, -1, 1)):
            expected = totp.generate(step * _STEP_SECONDS)
            if secrets.compare_digest(expected, code.encode()):
                return await store.use_totp_step(self._pool, person_no=row["person_no"], step=step)
        return False

    async def _note_lock(self, name: str, now: datetime) -> None:
        change = Change(action="person.lock", subject=name, after={"failures": FREE_FAILURES})
        async with self._pool.acquire() as conn, conn.transaction():
            await trail.record(conn, PROGRAM, change, at=now)


async def recognise(pool: Pool, token: str, *, now: datetime) -> Principal:
    """Say whose session this is.

    Raises:
        Unauthenticated: It is none, has ended, or its person was shut out.
    """
    row = await store.fetch_session(pool, digest=digest_of(token), now=now, seen_after=now - IDLE)
    if row is None:
        raise Unauthenticated("this session is unknown or has ended: sign in")
    if now - row["seen_at"] > _TOUCH:
        await store.touch_session(pool, digest=row["digest"], now=now)
    return Principal(
        merchant_no=row["merchant_no"],
        role="person",
        name=f"person:{row['name']}",
        roles=frozenset(row["roles"]),
    )
