"""What libraries read from the process instead of being told: clocks, the shared generator, the collector.

Our own code takes its clock and its randomness as arguments. A few libraries read the process's; for
the length of one history they read the loop's clock and a seeded generator instead. Everything is
listed here, and put back.
"""

from __future__ import annotations

import gc
import random
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import aiohttp.connector
import aiohttp.helpers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.simulation.loop import VirtualLoop


@contextmanager
def pinned(loop: VirtualLoop, *, seed: str, start_us: int) -> Iterator[None]:
    """Hold the process still for the length of one history.

    Args:
        loop: Whose time is read instead of the system's.
        seed: What the shared generator starts from.
        start_us: The instant of the loop's second 0, microseconds since 1970.
    """

    def wall_seconds() -> float:
        return start_us / 1e6 + loop.time()

    swapped: list[tuple[object, str, object]] = [
        # The pool of connections ages by the monotonic clock, not by the loop's.
        (aiohttp.connector, "monotonic", loop.time),
        # The Date header of every answer.
        (aiohttp.helpers, "time", SimpleNamespace(time=wall_seconds, gmtime=time.gmtime)),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in swapped]
    state = random.getstate()
    collecting = gc.isenabled()
    # aiohttp shuffles who gets a free connection; retry libraries draw their jitter.
    random.seed(seed)
    # An object that closes what it held when the collector finds it would do so at any moment.
    gc.disable()
    for module, name, value in swapped:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        random.setstate(state)
        if collecting:
            gc.enable()
