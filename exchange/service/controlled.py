"""The changes that need two people: how each is checked, written, and carried out in the books.

What a change does by SQL happens in the transaction of its approval. What the writer decides is asked for by the entry
of the trail in that transaction, and by a key that is made of the proposal's number or of what happens once anyway, so
asking again after a fault has no second effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from exchange.service.change import Approval
from exchange.service.change_of_access import OF_ACCESS
from exchange.service.change_of_cycles import OF_CYCLES
from exchange.service.change_of_merchants import OF_MERCHANTS
from exchange.service.compensating import GiveCompensation
from exchange.service.correcting import DecideDispute, ReturnRemainders, TakeCorrections
from schemas.values.faults import SchemaError
from schemas.values.reason import Refusal
from schemas.wire.plain import check_plain
from settlement.service.trail import BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from asyncpg import Pool

    from exchange.service.change import Controlled
    from settlement.core.trail import By
    from settlement.service.clearing import Clearing


ACTIONS: Final[Mapping[str, Controlled]] = {
    **OF_MERCHANTS,
    **OF_CYCLES,
    **OF_ACCESS,
    "dispute.decide": DecideDispute(),
    "corrections.take": TakeCorrections(),
    "remainders.return": ReturnRemainders(),
    "compensation.give": GiveCompensation(),
}
"""Every change that can be proposed, by its name in the trail."""

INVITING: Final = frozenset({"person.add", "person.invite"})
"""Those whose checker gets the second part of an invitation."""
MONEY: Final = frozenset(
    {
        *("rate.set", "tariff.set", "cap.set", "collateral.set"),
        *("cycle.settle", "cycle.default", "funds.move"),
        *("dispute.decide", "corrections.take", "remainders.return", "compensation.give"),
    }
)
"""Those that a treasurer must approve."""


def terms_of(action: str, terms: object) -> Any:
    """Read the terms of a change.

    Raises:
        SchemaError: There is no such change, or its terms are malformed.
    """
    if action not in ACTIONS:
        raise SchemaError("$.action", f"Expected one of {', '.join(ACTIONS)}")
    check_plain(terms, at="$.terms")
    try:
        return msgspec.convert(terms, ACTIONS[action].terms)
    except msgspec.ValidationError as error:
        detail, _, path = str(error).partition(" - at `")
        place = path.removesuffix("`").removeprefix("$")
        raise SchemaError(f"$.terms{place}", detail) from None


async def set_alone(
    pool: Pool,
    clearing: Clearing,
    action: str,
    terms: object,
    *,
    keys: Path,
    by: By,
    now: datetime,
) -> Refusal | None:
    """Make a change for one person, who may as long as four eyes are not in force.

    Args:
        pool: Connections of the program.
        clearing: The writer.
        action: One of `ACTIONS` that invites nobody.
        terms: Its terms, as a proposal has them.
        keys: Folder of the operator's keys.
        by: Who makes it.
        now: Instant.

    Returns:
        None, or why it cannot be.

    Raises:
        SchemaError: The terms cannot be.
        SecondPersonNeeded: Four eyes are in force.
    """
    wanted, change = terms_of(action, terms), ACTIONS[action]
    await change.current(pool, wanted, now)
    async with pool.acquire() as conn, conn.transaction():
        approval = Approval(pool=pool, conn=conn, keys=keys, by=by, now=now, second=b"")
        digest = await change.enact(approval, wanted)
    if isinstance(digest, Refusal):
        return digest
    return await change.carry_out(
        pool, clearing, wanted, proposal_no=0, body=body_of(digest), keys=keys
    )


def body_of(digest: bytes) -> bytes:
    """What a command carries of an entry's digest."""
    return digest[:BODY_BYTES]
