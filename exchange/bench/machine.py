"""What the figures were measured on, and what the processes took of it."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final

import msgspec
import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

_SYNCS: Final = 100


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine in words that let somebody compare.

    Attributes:
        cores: Processors that this process may use.
        cpu: The processor's name.
        memory_bytes: Memory.
        system: Kernel and architecture.
        python: Python's version.
        event_loop: `uvloop` with its version, or `asyncio`.
        postgres: PostgreSQL's version.
        load_before: Load average of the last minute, before anything was started: above 0.3 somebody else is at work.
        sync_ms: Median time to make 8 KiB durable (fdatasync) where the database lies.
    """

    cores: int
    cpu: str
    memory_bytes: int
    system: str
    python: str
    event_loop: str
    postgres: str
    load_before: float
    sync_ms: float


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """Processor seconds that each part has taken so far; the merchants' own systems are no part of the house."""

    writer: float
    gateway: float
    order_worker: float
    postgres: float
    merchants: float


def describe_machine(*, postgres: str, folder: Path, load_before: float) -> Machine:
    """Describe this machine.

    Args:
        postgres: Version of the server.
        folder: Where the database lies.
        load_before: Load average before the benchmark began.
    """
    return Machine(
        cores=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        cpu=_cpu_name(),
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {sys.version.split()[0]}",
        event_loop=_event_loop(),
        postgres=postgres,
        load_before=round(load_before, 2),
        sync_ms=_sync_ms(folder),
    )


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _event_loop() -> str:
    try:
        return f"uvloop {version('uvloop')}"
    except PackageNotFoundError:
        return "asyncio"


def _sync_ms(folder: Path) -> float:
    """Median of some small durable writes; most of what a lone transaction costs."""
    path = folder / "sync-probe"
    block = bytes(8192)
    taken: list[float] = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(_SYNCS):
            began = perf_counter()
            os.pwrite(descriptor, block, 0)
            os.fdatasync(descriptor)
            taken.append(perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return round(sorted(taken)[_SYNCS // 2] * 1000, 3)


def peak_bytes(pid: int | None) -> int:
    """The most memory that a process ever held; 0 if it is gone, what it holds now where the kernel does not say."""
    if pid is None:
        return 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def postgres_bytes(postmaster: int) -> int:
    """Memory of the whole server, pages that its processes share counted once."""
    total = 0
    for process in _family(postmaster):
        try:
            memory = process.memory_full_info()
        except psutil.Error:
            continue
        total += int(getattr(memory, "pss", 0) or memory.rss)
    return total


def processor_use(
    *,
    writer: int | None,
    gateways: Iterable[int | None],
    order_workers: Iterable[int | None],
    merchants: Iterable[int],
    postmaster: int,
) -> Use:
    """Processor seconds taken so far."""
    return Use(
        writer=_cpu_seconds(writer),
        gateway=sum(_cpu_seconds(pid) for pid in gateways),
        order_worker=sum(_cpu_seconds(pid) for pid in order_workers),
        merchants=sum(_cpu_seconds(pid) for pid in merchants),
        postgres=sum(_process_seconds(each) for each in _family(postmaster))
        # Backends that have ended since left their times to the postmaster.
        + _buried_seconds(postmaster),
    )


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def _buried_seconds(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0))


def _cpu_seconds(pid: int | None) -> float:
    try:
        return _process_seconds(psutil.Process(pid)) if pid else 0.0
    except psutil.Error:
        return 0.0


def _process_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
