"""Objections before money moves: who objects to a batch, and settling its cycle nevertheless, which is said.

Source: settlement/RULES.md, rule Z6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from schemas.values.reason import Reason, Refusal
from settlement.store import confirmations as store

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    from schemas.files.trail import Terms


class Objections(NamedTuple):
    """Who objects to a batch, by the last word of each.

    Attributes:
        cycle_id: The batch's cycle.
        merchants: Codes, in order.
    """

    cycle_id: str
    merchants: tuple[str, ...]

    def why_not(self, *, despite: bool) -> Refusal | None:
        """Why no money may move for the cycle: somebody objects, and nobody says that it is to move nevertheless."""
        if not self.merchants or despite:
            return None
        told = ", ".join(self.merchants)
        return Refusal(Reason.OBJECTION_OPEN, f"{told} object to the batch of {self.cycle_id}")

    @property
    def noted(self) -> Terms:
        """What the trail keeps of whoever goes on nevertheless."""
        return {"despite_objections": list(self.merchants)} if self.merchants else {}


async def open_objections(
    conn: asyncpg.Pool | PoolConnectionProxy, *, cycle_no: int, cycle_id: str
) -> Objections:
    """Who objects to the batch of a cycle now; nobody where it has none."""
    return Objections(cycle_id, tuple(await store.fetch_objectors(conn, cycle_no=cycle_no)))
