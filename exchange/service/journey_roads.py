"""What all drives of a worker share: its merchants, the books, and who makes durable what they write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from schemas.values.faults import Unavailable

if TYPE_CHECKING:
    import random
    import uuid
    from collections.abc import Callable, Mapping

    from adapters.kit.contract import Adapter
    from adapters.kit.manifest import Manifest
    from exchange.core.journey import Change, Verdict
    from settlement.service.clearing import Clearing


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A merchant whose own system is reached.

    Attributes:
        system: Its adapter behind its guard; calls may raise `NotSent`.
        manifest: What it can do.
    """

    system: Adapter
    manifest: Manifest


class Scribe(Protocol):
    """What a drive writes with: `GroupCommit`."""

    async def change(self, change: Change) -> Verdict | None:
        """Write a change; its verdict, or None if the claim was lost."""
        ...

    async def late(self, journey_no: int) -> Verdict | None:
        """Settle that it is too late, unless it is settled otherwise; the verdict."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Roads:
    """What all drives of a worker share.

    Attributes:
        scribe: Makes what they write durable.
        clearing: The books.
        merchants: Systems by merchant number.
        now_us: Clock, microseconds since 1970.
        random: Draws jitter.
        may_send: Whether this worker's lease still runs.
        escalate_seconds: How long a call may stay unresolved before people are asked.
        wished: In a sandbox, told what a till wishes to go wrong with its order, before anything is sent.
    """

    scribe: Scribe
    clearing: Clearing
    merchants: Mapping[int, Connected]
    now_us: Callable[[], int]
    random: random.Random
    may_send: Callable[[], bool]
    escalate_seconds: float
    wished: Callable[[uuid.UUID, str], None] | None = None

    def merchant(self, merchant_no: int) -> Connected:
        """A merchant that is reached from here.

        Raises:
            Unavailable: This worker has no adapter for it.
        """
        found = self.merchants.get(merchant_no)
        if found is None:
            raise Unavailable(f"no adapter of merchant {merchant_no} runs here")
        return found


class Lost(Exception):  # noqa: N818 - it says what happened to the claim
    """The journey is another driver's by now."""
