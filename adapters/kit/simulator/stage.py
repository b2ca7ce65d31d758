"""What a simulator is given, and what it gives: books, faults, clock, secrets; and where it listens."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from adapters.kit.context import Clock, wall_us
from adapters.kit.secret import Secrets
from adapters.kit.simulator.faults import Plan, Scripted
from adapters.kit.simulator.ledger import Ledger

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from adapters.kit.folder import Folder
    from adapters.kit.simulator.certificates import Authority


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The world of one simulated merchant.

    Attributes:
        ledger: Its books.
        plan: What goes wrong.
        now_us: Its clock.
        random: Draws secrets that nobody has set, garbage, and the order of callbacks.
        secrets: Those that are set; the others are invented.
        authority: Signs the certificates of a simulator that speaks TLS; None for plain sockets.
        host: Where to listen.
        port: Where to listen; 0 for any free port.
    """

    ledger: Ledger
    plan: Plan
    now_us: Clock
    random: random.Random
    secrets: Secrets
    authority: Authority | None = None
    host: str = "127.0.0.1"
    port: int = 0

    def secret(self, reference: str) -> bytes:
        """The secret that a reference names, or a new one of 32 letters and digits if it is not set."""
        if self.secrets.has(reference):
            return self.secrets.read(reference, where="$")
        return self.random.randbytes(16).hex().encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A simulator that listens.

    Attributes:
        settings: What to replace in the manifest's settings, so that an adapter comes here.
        secrets: The secrets that it knows, by reference, so that an adapter can know them too.
        stage: Its books and its plan.
    """

    settings: dict[str, Any]
    stage: Stage
    secrets: dict[str, bytes] = field(default_factory=dict)


class Simulator(Protocol):
    """The server of one protocol. It runs on the loop it was started on, and uses no thread."""

    def __call__(self, folder: Folder, stage: Stage, /) -> AbstractAsyncContextManager[Running]:
        """Listen until the context ends; then nothing of it is left running."""
        ...


def set_stage(
    folder: Folder,
    *,
    plan: Plan | None = None,
    now_us: Clock = wall_us,
    rng: random.Random | None = None,
    secrets: Secrets | None = None,
    authority: Authority | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Stage:
    """Set a stage for a merchant: new books with its test members, and no faults unless a plan says so."""
    return Stage(
        ledger=Ledger(folder.manifest, now_us),
        plan=plan or Scripted(),
        now_us=now_us,
        random=rng or random.SystemRandom(),
        secrets=secrets or Secrets(),
        authority=authority,
        host=host,
        port=port,
    )
