"""One merchant's simulator as a process that may be killed at any time; its books survive, as a real system's do.

python -m tests.simulation.shop FOLDER BOOKS SEED RATE [SECRETS PORT]

Every booking is a line of the file BOOKS before it is answered, and the file is read when the process
starts. The first line on stdout says where it listens and which secrets it knows.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.kit import registry
from adapters.kit.context import wall_us
from adapters.kit.contract import Step
from adapters.kit.secret import Secrets
from adapters.kit.simulator.faults import CONNECT, Fault, Occasion, Trouble
from adapters.kit.simulator.ledger import Booked, Ledger
from adapters.kit.simulator.stage import set_stage

if TYPE_CHECKING:
    from adapters.kit.manifest import Manifest

FAULTS = (
    *(Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.CUT, Fault.GARBAGE, Fault.TRUNCATED),
    *(Fault.MAINTENANCE, Fault.LATENCY, Fault.LATENCY),
)


class KeptLedger(Ledger):
    """Books whose every entry is in a file before anybody hears of it."""

    def __init__(self, manifest: Manifest, path: Path) -> None:
        """Read what was booked before."""
        self._read_at_us = 0
        super().__init__(manifest, self._clock)
        if path.exists():
            for line in path.read_text().splitlines():
                at_us, step, reference, member, units, of = json.loads(line)
                self._read_at_us = at_us
                super().book(Step(step), reference, member, units, of)
        self._read_at_us = 0
        self._file = path.open("a")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _clock(self) -> int:
        return self._read_at_us or wall_us()

    def book(self, step: Step, reference: str, member: str, units: int, of: str = "") -> Booked:
        """Book, with the line written first; both at one instant."""
        self._read_at_us = wall_us()
        try:
            line = [self._read_at_us, step.value, reference, member, units, of]
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            return super().book(step, reference, member, units, of)
        finally:
            self._read_at_us = 0


class Trembling:
    """Something goes wrong at random, at a rate."""

    def __init__(self, seed: int, rate: float) -> None:
        """Begin."""
        self._random = random.Random(seed)
        self._rate = rate

    def draw(self, occasion: Occasion) -> Trouble | None:
        """What goes wrong now."""
        if occasion.operation == CONNECT or self._random.random() >= self._rate:
            return None
        return Trouble(fault=self._random.choice(FAULTS), seconds=self._random.uniform(0.05, 0.6))


async def run(folder_path: str, books: str, seed: str, rate: str, *more: str) -> None:
    """Serve until killed."""
    folder = registry.at(Path(folder_path))
    secrets: dict[str, bytes] = {}
    port = 0
    if more:
        secrets = {name: text.encode("latin-1") for name, text in json.loads(more[0]).items()}
        port = int(more[1])
    stage = set_stage(
        folder, plan=Trembling(int(seed), float(rate)), secrets=Secrets(secrets), port=port
    )
    ledger = KeptLedger(folder.manifest, Path(books))
    stage = dataclasses.replace(stage, ledger=ledger)
    async with registry.simulator(folder)(folder, stage) as running:
        known = {name: value.decode("latin-1") for name, value in running.secrets.items()}
        print(json.dumps({"settings": running.settings, "secrets": known}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
