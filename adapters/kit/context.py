"""What an adapter is given besides its folder: time, chance, secrets, and where late answers go."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adapters.kit.secret import Secrets

if TYPE_CHECKING:
    from adapters.kit.contract import Answers, Receipt

Clock = Callable[[], int]
"""Microseconds since 1970 UTC."""


def wall_us() -> int:
    """The machine's clock."""
    return time.time_ns() // 1_000


async def nobody_waits(reference: str, receipt: Receipt) -> None:
    """The sink of an adapter that nobody gave one: it takes nothing, so nothing is acknowledged.

    Raises:
        LookupError: Always.
    """
    raise LookupError(f"nobody takes late answers: {reference} {receipt.outcome.value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Everything of the world that an adapter may use; under a virtual clock all of it is virtual.

    Attributes:
        answers: Takes answers that come later, by callback or by file.
        now_us: The clock of signatures and of business time. Waiting is the event loop's.
        random: Draws nonces and jitter.
        secrets: Reads what the manifest refers to.
    """

    answers: Answers = nobody_waits
    now_us: Clock = wall_us
    random: random.Random = field(default_factory=random.SystemRandom)
    secrets: Secrets = field(default_factory=Secrets)
