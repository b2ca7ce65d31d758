"""PostgreSQL's own benchmark on the same server: the measure for all else, since it knows disk and day."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exchange.bench.processes import Failed, run_program

SCALE: Final = 50
CLIENTS: Final = 16
_SAMPLED: Final = "0.2"
_RATE = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of TPC-B.

    Attributes:
        rate: Transactions a second.
        cpu_seconds: Processor time of pgbench itself.
        latencies_ms: Of a fifth of the transactions, sorted.
    """

    rate: float
    cpu_seconds: float
    latencies_ms: list[float]


async def fill(bin_dir: Path, dsn: str) -> None:
    """Make pgbench's tables.

    Raises:
        Failed: pgbench cannot do it.
    """
    await run_program(
        [
            str(bin_dir / "pgbench"),
            *("--initialize", "--init-steps=dtgp", "--quiet", f"--scale={SCALE}", dsn),
        ],
        seconds_max=300,
    )


async def measure(bin_dir: Path, dsn: str, *, seconds: int, threads: int) -> Measured:
    """Run TPC-B for so long, with prepared statements.

    Raises:
        Failed: pgbench does not run, or says nothing.
    """
    with tempfile.TemporaryDirectory(prefix="tongdui-pgbench-") as folder:
        done = await run_program(
            [
                str(bin_dir / "pgbench"),
                *("--no-vacuum", "--protocol=prepared", f"--client={CLIENTS}"),
                *(f"--jobs={threads}", f"--time={seconds}"),
                *("--log", f"--sampling-rate={_SAMPLED}", f"--log-prefix={folder}/log", dsn),
            ],
            seconds_max=seconds + 60,
        )
        latencies_ms = _latencies_ms(Path(folder))
    found = _RATE.search(done.output)
    if found is None:
        raise Failed(f"pgbench told no rate: {done.output[-500:]}")
    return Measured(rate=float(found[1]), cpu_seconds=done.cpu_seconds, latencies_ms=latencies_ms)


def _latencies_ms(folder: Path) -> list[float]:
    """Latencies from pgbench's logs, whose third column is microseconds."""
    return sorted(
        int(line.split()[2]) / 1000
        for log in folder.iterdir()
        for line in log.read_text().splitlines()
    )
