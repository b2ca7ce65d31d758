"""The hash chain over the flushes of one partition.

Source: schemas/FORMAT.md, "Flush chain"; settlement/RULES.md, rule B6.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from settlement.core.event import EPOCH_2000_US

GENESIS: Final = bytes(32)
"""Digest before the first flush."""

_HEADER = struct.Struct(">hqqqiq")


def chain_digest(
    previous: bytes,
    events: bytes,
    *,
    part: int,
    flush_no: int,
    epoch: int,
    first_seq: int,
    count: int,
    at_us: int,
) -> bytes:
    """Digest of a flush: SHA-256 over the digest before, the flush's header and each event's bytes.

    Args:
        previous: Digest of the flush before, 32 bytes.
        events: Canonical bytes of the events in order of their sequence numbers, joined.
        part: Partition.
        flush_no: Number of this flush, from 1, without a gap.
        epoch: The writer's epoch.
        first_seq: Sequence number of the first event.
        count: How many events follow.
        at_us: When the flush was decided, microseconds since 1970-01-01 UTC.
    """
    digest = hashlib.sha256(previous)
    digest.update(_HEADER.pack(part, flush_no, epoch, first_seq, count, at_us - EPOCH_2000_US))
    digest.update(events)
    return digest.digest()
