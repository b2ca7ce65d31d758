"""The `tongdui` command: composition root, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    # Imported here, since the child processes pass through this package too and need none of it.
    from exchange.cli.entrance import main as enter

    enter(argv)
