"""A sandbox: every connected merchant is a simulator here, and a till chooses what goes wrong with its order.

A till says so in the header `Tongdui-Sandbox-Fault` of its order: `credit=timeout_after`, several
wishes with commas between them, seconds behind a second equals sign (`hold=latency=0.5`). A wish counts
for one call of that very order: `hold`, `credit`, `capture`, `release`, `reverse_credit` or `status`.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from adapters.kit import registry
from adapters.kit.contract import Step
from adapters.kit.reference import step_of
from adapters.kit.secret import Secrets
from adapters.kit.simulator.faults import FAULT_HEADER, Wished, parse_trouble
from adapters.kit.simulator.stage import set_stage
from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    import uuid

    from adapters.kit.context import Clock
    from adapters.kit.folder import Folder
    from adapters.kit.simulator.faults import Occasion, Trouble

OPERATIONS: Final = (*(step.name.lower() for step in Step), "status")
WISHES_MAX: Final = 10_000
"""Most orders whose wishes are remembered; the oldest are forgotten."""


def parse_wishes(text: str) -> list[tuple[str, Trouble]]:
    """Read what a till wishes to go wrong with its order.

    Args:
        text: Value of the header; empty for nothing.

    Returns:
        Operations with what befalls them, in their order.

    Raises:
        SchemaError: An operation or a fault is unknown, or seconds are out of range.
    """
    wishes = []
    for part in text.split(","):
        if not part.strip():
            continue
        operation, equals, trouble = part.partition("=")
        if not equals or operation.strip() not in OPERATIONS:
            raise SchemaError(
                FAULT_HEADER,
                f"Expected operation=fault, got {part.strip()[:40]!r}; operations are {', '.join(OPERATIONS)}",
            )
        wishes.append((operation.strip(), parse_trouble(trouble)))
    return wishes


class SandboxPlan:
    """What goes wrong in a sandbox: what the order's till wished, else what a call's own header wishes."""

    def __init__(self) -> None:
        """Start without wishes."""
        self._of_orders: OrderedDict[uuid.UUID, list[tuple[str, Trouble]]] = OrderedDict()
        self._of_calls = Wished()

    def wish(self, order: uuid.UUID, text: str) -> None:
        """Remember what a till wished for an order.

        Raises:
            SchemaError: The wish cannot be read.
        """
        self._of_orders[order] = parse_wishes(text)
        while len(self._of_orders) > WISHES_MAX:
            self._of_orders.popitem(last=False)

    def draw(self, occasion: Occasion) -> Trouble | None:
        """What befalls a call; each wish once."""
        if occasion.reference:
            try:
                order, _ = step_of(occasion.reference)
            except ValueError:
                return None
            wishes = self._of_orders.get(order, [])
            for place, (operation, trouble) in enumerate(wishes):
                if operation == occasion.operation:
                    del wishes[place]
                    return trouble
        return self._of_calls.draw(occasion)


class Town:
    """The simulators of a sandbox, each started when its merchant is first connected."""

    def __init__(self, now_us: Clock) -> None:
        """Start empty."""
        self.plan = SandboxPlan()
        self._now_us = now_us
        self._running = AsyncExitStack()

    async def place(self, folder: Folder) -> tuple[Folder, Secrets]:
        """Start a merchant's simulator; the folder leads there, with the secrets that it knows."""
        stage = set_stage(folder, plan=self.plan, now_us=self._now_us)
        running = await self._running.enter_async_context(registry.simulator(folder)(folder, stage))
        return folder.with_settings(running.settings), Secrets(running.secrets)

    async def close(self) -> None:
        """Stop all of them; their books are gone."""
        await self._running.aclose()
