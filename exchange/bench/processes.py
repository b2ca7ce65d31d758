"""Running other programs with a limit of time, and knowing what they took."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Failed(Exception):  # noqa: N818 - what became of the benchmark
    """Something that the benchmark needs did not work; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A program that ended well.

    Attributes:
        output: What it printed.
        seconds: From its start to its end.
        cpu_seconds: Processor time that it took.
        peak_bytes: The most memory that it held.
    """

    output: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int


async def run_program(
    arguments: Sequence[str], *, seconds_max: float, environ: Mapping[str, str] | None = None
) -> Done:
    """Run a program to its end.

    Raises:
        Failed: It ended with another status than 0, or was killed since it took too long.
    """
    return await asyncio.to_thread(_run, list(arguments), seconds_max, environ)


def _run(arguments: list[str], seconds_max: float, environ: Mapping[str, str] | None) -> Done:
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = perf_counter()
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environ
        )
        timer = threading.Timer(seconds_max, process.kill)
        timer.start()
        try:
            # `wait4` is what tells the memory of one child; Popen's own `wait` does not.
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = perf_counter() - began
        output.seek(0)
        errors.seek(0)
        said = output.read().decode(errors="replace")
        if process.returncode:
            words = (errors.read().decode(errors="replace") or said).strip()[-1500:]
            raise Failed(
                f"{' '.join(arguments[:4])} ended with status {process.returncode} after {seconds:.0f} s: {words}"
            )
    # Kibibytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return Done(
        output=said,
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_bytes=usage.ru_maxrss * unit,
    )
