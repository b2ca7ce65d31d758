"""Where tests keep what need not outlive the machine."""

import os
from pathlib import Path

DISK = Path("/var/tmp")
MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 2 * 2**30
"""Less than this (a container's 64 MB, say) would not hold the servers of three workers."""


def quick_place() -> Path:
    """Return the folder in memory where there is one with room, else the one on disk.

    A clone of a database is five hundred files. ext4 avoids the inodes of files that were removed within the last
    minute, so that making and dropping clones all the time costs ten times as much there as in memory.
    """
    try:
        figures = os.statvfs(MEMORY)
    except OSError:
        return DISK
    return MEMORY if figures.f_bavail * figures.f_frsize >= MEMORY_BYTES_MIN else DISK
