"""Recomputing the chain of flushes: each one's digest over the one before, its header and its events (rule B6)."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from settlement.core.audit_report import instant_text
from settlement.core.chain import GENESIS
from settlement.core.event import EPOCH_2000_US

if TYPE_CHECKING:
    from collections.abc import Iterable

    from settlement.core.audit_report import AuditReport

_FLUSH_HEADER: Final = struct.Struct(">hqqqiq")


class FlushRow(NamedTuple):
    """One row of the flush log; `at_us` counts from 1970."""

    flush_no: int
    epoch: int
    first_seq: int
    events: int
    at_us: int
    digest: bytes


class ChainAudit:
    """The flushes that are read, one after the other.

    Attributes:
        last_flush: The last one that is complete; None before the first.
    """

    def __init__(self, report: AuditReport) -> None:
        """Start before the first flush; differences go into `report`."""
        self.report = report
        self.last_flush: FlushRow | None = None
        self._flushes: list[FlushRow] = []
        self._place = 0
        self._digest = hashlib.sha256()

    def expect(self, flushes: Iterable[FlushRow]) -> None:
        """Announce the flushes whose events come next."""
        self._flushes = list(flushes)
        self._place = 0
        self._begin()

    def finish_all(self) -> None:
        """The stream is over: every flush that was announced is complete."""
        while self._place < len(self._flushes):
            self.finish()

    def flush_end(self) -> int:
        """Number of the last event of the flush that is being read; beyond every event after the last."""
        if self._place == len(self._flushes):
            return 1 << 63
        flush = self._flushes[self._place]
        return flush.first_seq + flush.events - 1

    def _begin(self) -> None:
        """Hold the next flush against the one before, and begin its digest."""
        if self._place == len(self._flushes):
            return
        flush, before = self._flushes[self._place], self.last_flush
        key = f"flush {flush.flush_no}"
        number = before.flush_no + 1 if before else 1
        if flush.flush_no != number:
            self.report.differ("settlement.flush", f"flush {number}", "row", "present", None)
        first_seq = before.first_seq + before.events if before else 1
        if flush.first_seq != first_seq:
            self.report.differ("settlement.flush", key, "first_seq", first_seq, flush.first_seq)
        if before and flush.epoch < before.epoch:
            self.report.differ("settlement.flush", key, "epoch", f">= {before.epoch}", flush.epoch)
        if before and flush.at_us < before.at_us:
            self.report.differ(
                "settlement.flush", key, "at",
                f">= {instant_text(before.at_us)}", instant_text(flush.at_us),
            )  # fmt: skip
        self._digest = hashlib.sha256(before.digest if before else GENESIS)
        self._digest.update(
            _FLUSH_HEADER.pack(
                self.report.part,
                flush.flush_no,
                flush.epoch,
                flush.first_seq,
                flush.events,
                flush.at_us - EPOCH_2000_US,
            )
        )

    def add(self, events: memoryview) -> None:
        """Take bytes of the flush that is being read."""
        if self._place < len(self._flushes) and events:
            self._digest.update(events)

    def finish(self) -> None:
        """Compare the digest of the flush that was read, and go on from the one that is stored."""
        flush = self._flushes[self._place]
        digest = self._digest.digest()
        if digest != flush.digest:
            self.report.differ(
                "settlement.flush", f"flush {flush.flush_no}", "digest", digest, flush.digest
            )
        self.report.flushes += 1
        self.report.head = digest
        self.last_flush = flush
        self._place += 1
        self._begin()
