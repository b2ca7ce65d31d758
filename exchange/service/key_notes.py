"""The signing keys of an installation in its audit trail: they lie in files, and the trail says when they changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.files.manifest import OPERATOR
from settlement.core.trail import By, Change
from settlement.service import trail
from settlement.signing.keyring import FILE

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Pool

    from settlement.signing.keyring import Keyring


async def note_keys(pool: Pool, keyring: Keyring, *, by: By, now: datetime) -> None:
    """Enter every key whose state the trail does not know yet, and how many roles must sign.

    Called after each change by the command line, and by the program at its start for what came about otherwise.

    Args:
        pool: Connections of the program.
        keyring: The keys as they are now.
        by: Who changed them.
        now: Instant.
    """
    for entry in keyring.keys:
        after = {
            "public_hex": entry.public_hex,
            "made_at": entry.made_at.isoformat(),
            "retires_at": entry.retires_at.isoformat() if entry.retires_at else None,
            "revoked_at": entry.revoked_at.isoformat() if entry.revoked_at else None,
        }
        if entry.role != OPERATOR or entry.held != FILE:
            after |= {"role": entry.role, "held": entry.held.partition("?")[0]}
        change = Change(action="signing_key.set", subject=entry.key_id, after=after)
        await trail.ask(pool, by, change, at=now)
    if keyring.threshold_set_at is not None:
        said = {"roles": keyring.threshold, "set_at": keyring.threshold_set_at.isoformat()}
        change = Change(action="signing_threshold.set", subject="HOUSE", after=said)
        await trail.ask(pool, by, change, at=now)
