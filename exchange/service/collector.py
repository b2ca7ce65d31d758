"""Python's collector of cycles, for processes that keep much in memory, or make many things a second."""

from __future__ import annotations

import gc


def collect_seldom() -> None:
    """Look for cycles after a hundred thousand new objects, not after seven hundred.

    What the writer keeps (lots, keys, answers that wait for their flush) is let go by its last reference and holds
    no cycles, so each search finds nothing; with Python's own settings they took a sixth of its processor time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 10)
