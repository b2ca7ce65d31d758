"""What runs on this machine, asked so that a process that ends meanwhile is no error."""

import psutil


def is_alive(pid: int) -> bool:
    """Say whether the process runs; a dead one that nobody has buried does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def children(pid: int, module: str) -> list[int]:
    """Process ids of the children of `pid` that run `exchange.<module>`.

    Raises:
        psutil.NoSuchProcess: The parent itself is gone.
    """
    found = []
    for child in psutil.Process(pid).children():
        try:
            words = child.cmdline()
        except psutil.NoSuchProcess:
            continue
        if f"exchange.{module}" in words:
            found.append(child.pid)
    return found
