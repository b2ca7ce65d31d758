"""How commands speak: tables and progress for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import Console


def out(*, wide: bool = False) -> Console:
    """Console for results, on stdout; wide enough for a table also where nothing is a terminal, or for a wide one."""
    from rich.console import Console

    width = 240 if wide else 110
    return Console(highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() else width)


def err() -> Console:
    """Console for progress and remarks, on stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(value: Mapping[str, Any] | list[Any], *, one_line: bool = False) -> None:
    """Print one JSON document for a program to read."""
    text = json.dumps(value, ensure_ascii=False, indent=None if one_line else 2, default=str)
    print(text, flush=True)


@contextmanager
def progress_bar(
    what: str, *, total: int | None, shown: bool = True
) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr for the length of the block.

    Args:
        what: Said before the bar.
        total: How many steps there will be; None where nobody knows.
        shown: False draws nothing, for programs that read the output.

    Yields:
        A function to be called with the number of steps done since its last call.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err(),
        disable=not shown,
        transient=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda steps: progress.advance(task, steps)
