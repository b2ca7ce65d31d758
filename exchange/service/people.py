"""People join by an invitation, choose their own password, and are shut out at once.

An invitation is a random token of which only the digest is stored. Nobody but its bearer ever knows the password; the
seed of the one-time codes and the recovery codes are shown once, to the bearer. An invitation that a second person had
to approve comes in two parts, one for the maker and one for the checker, so neither can accept it alone.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from exchange.core.person import CHECKERS, why_not_name, why_not_password, why_not_roles
from exchange.store import people as store
from schemas.values.faults import SchemaError
from schemas.values.reason import Reason, Refusal
from settlement.core.trail import By, Change
from settlement.service import trail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from asyncpg import Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    from exchange.service.passwords import Passwords
    from exchange.service.vaults import VaultDoor

INVITATION_PREFIX: Final = "tdi_"
INVITATION_LIFE: Final = timedelta(hours=72)
RECOVERY_CODES: Final = 10
_RECOVERY_BYTES: Final = 10
_SEED_BYTES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What somebody gets who accepted an invitation; shown once.

    Attributes:
        name: Who they are.
        totp_uri: For an authenticator application (`otpauth://…`).
        recovery_codes: Each stands once for a one-time code.
    """

    name: str
    totp_uri: str
    recovery_codes: tuple[str, ...]


def new_invitation() -> str:
    """A token to invite somebody with: 256 random bits."""
    return INVITATION_PREFIX + secrets.token_urlsafe(32)


def digest_of(text: str) -> bytes:
    """What is stored of a random token; there is nothing to guess, so a plain SHA-256 is enough."""
    return hashlib.sha256(text.encode()).digest()


async def add_person(
    conn: PoolConnectionProxy,
    *,
    name: str,
    roles: Sequence[str],
    merchant_no: int,
    merchant: str,
    invitation: bytes,
    second: bytes | None,
    by: By,
    now: datetime,
) -> bytes | Refusal:
    """Add a person and invite them, inside the caller's transaction.

    Args:
        conn: A connection inside a transaction.
        name: What they sign in as.
        roles: What they may do.
        merchant_no: Whose person; 0 for the house.
        merchant: Its code; HOUSE for the house.
        invitation: Digest of the token.
        second: Digest of the token's second part; None where nobody else had to approve.
        by: Who adds them.
        now: Instant.

    Returns:
        The trail's digest, or PERSON_EXISTS.

    Raises:
        SchemaError: The name or the roles cannot be.
    """
    if wrong := why_not_name(name):
        raise SchemaError("name", wrong)
    if wrong := why_not_roles(tuple(roles), of_merchant=bool(merchant_no)):
        raise SchemaError("roles", wrong)
    person_no = await store.insert_person(
        conn, name=name, merchant_no=merchant_no, roles=list(roles), now=now
    )
    if person_no is None:
        return Refusal(Reason.PERSON_EXISTS, f"somebody is called {name} already")
    await store.set_invitation(
        conn,
        person_no=person_no,
        invitation=invitation,
        second=second,
        until=now + INVITATION_LIFE,
        now=now,
    )
    after = {"roles": list(roles), "merchant": merchant}
    change = Change(action="person.add", subject=name, after=after)
    return await trail.record(conn, by, change, at=now)


async def invite_person(
    conn: PoolConnectionProxy,
    *,
    name: str,
    invitation: bytes,
    second: bytes | None,
    by: By,
    now: datetime,
) -> bytes | Refusal:
    """Invite somebody again who lost password or authenticator; what they had counts no more at once.

    Returns:
        The trail's digest, or PERSON_NOT_FOUND.
    """
    row = await store.fetch_person(conn, name=name)
    if row is None or row["disabled_at"] is not None:
        return Refusal(Reason.PERSON_NOT_FOUND, f"nobody is called {name}")
    await store.set_invitation(
        conn,
        person_no=row["person_no"],
        invitation=invitation,
        second=second,
        until=now + INVITATION_LIFE,
        now=now,
    )
    return await trail.record(conn, by, Change(action="person.invite", subject=name), at=now)


async def set_roles(
    conn: PoolConnectionProxy, *, name: str, roles: Sequence[str], by: By, now: datetime
) -> bytes | Refusal:
    """Change what somebody may do, from their next request on.

    Returns:
        The trail's digest, or PERSON_NOT_FOUND.

    Raises:
        SchemaError: The roles cannot be.
    """
    row = await store.fetch_person(conn, name=name)
    if row is None or row["disabled_at"] is not None:
        return Refusal(Reason.PERSON_NOT_FOUND, f"nobody is called {name}")
    if wrong := why_not_roles(tuple(roles), of_merchant=bool(row["merchant_no"])):
        raise SchemaError("roles", wrong)
    await store.set_roles(conn, person_no=row["person_no"], roles=list(roles))
    change = Change(
        action="person.set_roles",
        subject=name,
        before={"roles": list(row["roles"])},
        after={"roles": list(roles)},
    )
    digest = await trail.record(conn, by, change, at=now)
    await _look_for_two(conn, now)
    return digest


async def link_person(
    conn: PoolConnectionProxy, *, name: str, subject: str, by: By, now: datetime
) -> bytes | Refusal:
    """Say who somebody is at the identity provider, through which they may sign in from then on.

    Returns:
        The trail's digest, PERSON_NOT_FOUND, or PERSON_EXISTS where somebody else is that.
    """
    row = await store.fetch_person(conn, name=name)
    if row is None or row["disabled_at"] is not None:
        return Refusal(Reason.PERSON_NOT_FOUND, f"nobody is called {name}")
    if not await store.set_subject(conn, person_no=row["person_no"], subject=subject):
        return Refusal(Reason.PERSON_EXISTS, "somebody else is this at the identity provider")
    before = {"subject": row["oidc_subject"]} if row["oidc_subject"] else None
    change = Change(action="person.link", subject=name, before=before, after={"subject": subject})
    digest = await trail.record(conn, by, change, at=now)
    await _look_for_two(conn, now)
    return digest


async def disable_person(pool: Pool, *, name: str, by: By, now: datetime) -> Refusal | None:
    """Shut somebody out for good, and end their sessions at once; nobody else has to approve that.

    Returns:
        None, or PERSON_NOT_FOUND.
    """
    async with pool.acquire() as conn, conn.transaction():
        row = await store.fetch_person(conn, name=name)
        if row is None or row["disabled_at"] is not None:
            return Refusal(Reason.PERSON_NOT_FOUND, f"nobody is called {name}")
        await store.disable(conn, person_no=row["person_no"], now=now)
        change = Change(action="person.disable", subject=name, before={"roles": list(row["roles"])})
        await trail.record(conn, by, change, at=now)
    return None


async def list_people(
    pool: Pool, *, now: datetime, after: str = "", limit: int | None = None
) -> list[tuple[Record, str]]:
    """Everybody after a name, by name, each with `invited`, `active`, `locked` or `disabled`."""

    def state(row: Record) -> str:
        if row["disabled_at"] is not None:
            return "disabled"
        if not row["ready"]:
            return "invited"
        return "locked" if row["locked_until"] and row["locked_until"] > now else "active"

    return [(row, state(row)) for row in await store.fetch_people(pool, after=after, limit=limit)]


async def accept_invitation(
    pool: Pool,
    door: VaultDoor,
    passwords: Passwords,
    *,
    tokens: Sequence[str],
    password: str,
    now: datetime,
) -> Accepted | Refusal:
    """Take an invitation up: the bearer chooses the password, and gets what the one-time codes come from.

    Args:
        pool: Connections of the program.
        door: The vault, which seals the seed.
        passwords: Hashes the password.
        tokens: The invitation, and its second part where it has one, in any order.
        password: The new password.
        now: Instant.

    Returns:
        What is shown once, or INVITATION_INVALID.

    Raises:
        SchemaError: The password is too short or too easy.
    """
    digests = [digest_of(token) for token in tokens]
    async with pool.acquire() as conn, conn.transaction():
        for digest in digests:
            row = await store.fetch_invited(conn, invitation=digest, now=now)
            if row is not None:
                break
        else:
            return _invalid()
        needed = {digest} | ({row["invitation_second"]} - {None})
        if needed != set(digests):
            return _invalid()
        name = row["name"]
        if wrong := why_not_password(password, name):
            raise SchemaError("$.password", wrong)
        seed = secrets.token_bytes(_SEED_BYTES)
        codes = tuple(_recovery_code() for _ in range(RECOVERY_CODES))
        await store.set_credentials(
            conn,
            person_no=row["person_no"],
            password_hash=await passwords.hash(password),
            totp_sealed=(await door.vault()).people.seal(seed, owner=name),
            recovery=[digest_of(code) for code in codes],
        )
        change = Change(action="person.accept", subject=name)
        await trail.record(conn, By(who=f"person:{name}"), change, at=now)
        await _look_for_two(conn, now)
    uri = TOTP(seed, 6, SHA1(), 30).get_provisioning_uri(name, "Tongdui")  # noqa: S303 - what authenticators speak (RFC 6238)
    return Accepted(name=name, totp_uri=uri, recovery_codes=codes)


async def _look_for_two(conn: PoolConnectionProxy, now: datetime) -> None:
    """Put four eyes in force once two people could approve each other's changes; from then on for good."""
    if await store.count_checkers(conn, roles=sorted(CHECKERS)) > 1:
        await trail.begin_four_eyes(conn, at=now)


def _invalid() -> Refusal:
    return Refusal(
        Reason.INVITATION_INVALID, "the invitation is unknown, incomplete, used or too old"
    )


def _recovery_code() -> str:
    """Eighty random bits, in four groups that can be read out."""
    text = base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode().lower()
    return "-".join(text[place : place + 4] for place in range(0, len(text), 4))
