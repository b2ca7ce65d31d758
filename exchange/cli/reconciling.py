"""`tongdui reconcile` with all of its commands: those of banks, of merchants' own files, and of whole cycles."""

from exchange.cli import reconcile_cycle, reconcile_lines  # noqa: F401 - each adds its commands
from exchange.cli.reconcile import reconcile

__all__ = ["reconcile"]
