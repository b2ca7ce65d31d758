"""Recomputing the books from the journal, and saying where what is stored differs.

Shares no decision with `settlement.core.books`: an audit that ran the writer's own code would repeat
its mistakes. It reads canonical bytes in order of sequence, as `COPY … TO STDOUT (FORMAT binary)`
gives them, and keeps only what is open: accounts, open holds, the open cycle of each arrangement, and of
closed cycles what is not settled. So its memory does not grow with the journal.

This is the stream and its entrance. What is recomputed stands by subject in `audit_account`, `audit_order`,
`audit_hold`, `audit_cycle`, `audit_funds`, `audit_reversal` and `audit_chain`; what is kept, in `audit_figures`;
what is found, in `audit_report`.

Where a row differs, the audit goes on from what is stored, so that one broken row is one difference
and not a thousand.

Source: settlement/RULES.md, rules B1 to B8, C1 to C4, U1 to U13.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from settlement.core import audit_account, audit_cycle, audit_hold, audit_order
from settlement.core.audit_chain import ChainAudit, FlushRow
from settlement.core.audit_figures import (
    AccountFigures,
    CycleFigures,
    Figures,
    OpenHold,
    obligation_key,
    obligation_rows,
    position_key,
    position_rows,
    reversed_rows,
)
from settlement.core.audit_funds import MONEY, FundsAudit, MoneyMoved
from settlement.core.audit_order import TAKES_BACK
from settlement.core.audit_report import AuditReport, Difference, instant_text
from settlement.core.audit_reversal import ReversalAudit, Reversing
from settlement.core.event import EPOCH_2000_US, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "COPY_HEADER_BYTES",
    "COPY_SIGNATURE",
    "AccountFigures",
    "AuditReport",
    "CycleFigures",
    "Difference",
    "FlushRow",
    "JournalAudit",
    "instant_text",
    "obligation_key",
    "obligation_rows",
    "position_key",
    "position_rows",
    "reversed_rows",
]

COPY_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
COPY_HEADER_BYTES: Final = len(COPY_SIGNATURE) + 8

# An event's canonical bytes up to its reference. `x` passes over lengths, lot number, key and body: what
# they hold is covered by the chain of digests, which is taken over the very bytes.
_ROW: Final = struct.Struct(">h" + "4xq" * 11 + "12x" + "20x" * 2 + "4xi" * 5 + "4xh" * 4 + "i")

_ACCEPTED, _REFUSED, _CLEARED, _VOIDED, _EXPIRED, _ADJUSTED, _ACCRUED, _LAPSED, _PINNED = range(
    1, 10
)
_POINTS: Final = frozenset(
    {
        *(_ACCRUED, _LAPSED, Kind.TAKEN, Kind.RETURNED, Kind.CREDITED, Kind.WITHDRAWN),
        *(Kind.GIVEN, Kind.RECEIVED),
    }
)
"""Kinds that move points and no value: the audit of lots looks at them."""


class JournalAudit:
    """Replays a journal's bytes and recomputes everything that is derived from them."""

    def __init__(self, report: AuditReport, *, reversed_orders: Iterable[int] = ()) -> None:
        """Start before the first event; differences go into `report`.

        Args:
            report: Where differences go.
            reversed_orders: Orders that some reversal or adjustment names, so that what they cleared is remembered.
        """
        self.report = report
        self.chain = ChainAudit(report)
        self.reversals = ReversalAudit(reversed_orders)
        self.accounts: dict[int, AccountFigures] = {}
        self.funds = FundsAudit(self.accounts, self.differ)
        self.holds: dict[int, OpenHold] = {}
        self.cycles: dict[int, CycleFigures] = {}
        self.cycle_ids: set[str] = set()
        self.finished_cycles: list[CycleFigures] = []
        self.open: dict[int, CycleFigures] = {}
        self.last_cycle_no = 0
        self.main_cycle_no = 0
        self.arrangements: dict[int, tuple[str, int]] = {}
        self.pairs: dict[tuple[int, int], int] = {}
        self.turning: dict[tuple[int, int], int] = {}
        self.last_seq = 0
        self.last_at = -(1 << 63)
        self.refused_seq = 0
        self.refused_debits: dict[int, int] = defaultdict(int)
        self._rest = b""
        self._begun = False
        self._ended = False

    # The stream -------------------------------------------------------------------------------

    def expect(self, flushes: Iterable[FlushRow]) -> None:
        """Announce the flushes whose events come next, and begin a new COPY stream."""
        self.chain.expect(flushes)
        self._rest = b""
        self._begun = self._ended = False

    @property
    def last_flush(self) -> FlushRow | None:
        """The last flush that was read whole; None before the first."""
        return self.chain.last_flush

    def feed(self, piece: bytes) -> int:
        """Take the next piece of the stream, wherever it ends.

        Returns:
            How many events it completed.

        Raises:
            ValueError: The stream is not a binary COPY of the journal.
        """
        data = self._rest + piece if self._rest else piece
        place = 0
        if not self._begun:
            if len(data) < COPY_HEADER_BYTES:
                self._rest = data
                return 0
            if not data.startswith(COPY_SIGNATURE):
                raise ValueError("not a binary COPY stream")
            self._begun = True
            place = COPY_HEADER_BYTES
        place, count = self._events(data, place)
        self._rest = data[place:]
        if self._rest == b"\xff\xff":
            self._rest, self._ended = b"", True
        return count

    def end_stream(self) -> None:
        """The stream is over: the flushes that were announced must be complete.

        Raises:
            ValueError: It was cut short.
        """
        if not self._ended:
            raise ValueError("the COPY stream was cut short")
        self.funds.check(self.last_seq + 1)
        self.chain.finish_all()

    def _events(self, data: bytes, place: int) -> tuple[int, int]:
        """Apply the whole events in `data` from `place`; returns where the rest begins, and how many."""
        unpack, row_bytes, size = _ROW.unpack_from, _ROW.size, len(data)
        reversed_orders = self.reversals.wanted
        view = memoryview(data)
        report, part = self.report, self.report.part
        chained = place
        count = 0
        expected_seq = self.last_seq + 1
        last_at = self.last_at
        flush_end = self.chain.flush_end()
        while place + row_bytes <= size:
            (
                columns, seq, order_seq, at, occurred_at, due_at, member_no, units, debit, value, fee,
                credited, cycle_no, caller, issuer, acceptor, rate_no, row_part, kind, step,
                reason, length,
            ) = unpack(data, place)  # fmt: skip
            end = place + row_bytes + length
            if end > size:
                break
            if columns != 24 or length < 0:
                raise ValueError(f"a row of {columns} columns in the COPY stream")
            count += 1
            if seq != expected_seq:
                report.differ("settlement.event", f"seq {expected_seq}", "row", "present", None)
                if seq > expected_seq + 1:
                    report.differ(
                        "settlement.event", f"seq {expected_seq + 1} to {seq - 1}", "row", "present", None
                    )  # fmt: skip
            expected_seq = seq + 1
            if seq > flush_end:
                # Events that no flush announces still count for the books, never for a digest.
                while seq > flush_end:
                    self.chain.add(view[chained:place])
                    chained = place
                    self.chain.finish()
                    flush_end = self.chain.flush_end()
            if at < last_at or row_part != part:
                self._misplaced(seq, at, last_at, row_part)
            last_at = at
            if kind in TAKES_BACK or (kind == _CLEARED and order_seq in reversed_orders):
                audit_order.reverse(
                    self,
                    Reversing(
                        seq, order_seq, kind, step, caller, member_no, issuer, acceptor, rate_no,
                        units, debit, value, fee, credited, cycle_no, data[place + row_bytes : end],
                    )
                )  # fmt: skip
            if kind == _CLEARED and order_seq == seq:
                audit_order.clear(self, seq, issuer, acceptor, units, debit, value, fee, cycle_no)
            elif kind in (_CLEARED, _VOIDED, _EXPIRED, _PINNED):
                figures = Figures(
                    occurred_at, member_no, units, debit, value, fee, credited, caller, issuer,
                    acceptor, rate_no, data[place + row_bytes : end],
                )  # fmt: skip
                if kind == _PINNED:
                    audit_hold.pin(self, seq, order_seq, at, step, figures, cycle_no)
                else:
                    audit_hold.end(self, seq, order_seq, at, kind, step, figures, cycle_no)
            elif kind == _ACCEPTED:
                figures = Figures(
                    occurred_at, member_no, units, debit, value, fee, credited, caller, issuer,
                    acceptor, rate_no, data[place + row_bytes : end],
                )  # fmt: skip
                audit_hold.accept(self, seq, order_seq, due_at, figures, cycle_no)
            elif kind == _REFUSED:
                if order_seq:
                    audit_order.refuse(self, seq, step, issuer, debit, reason)
            elif kind in MONEY:
                self.funds.take(
                    MoneyMoved(
                        seq, kind, step, issuer, acceptor, units, credited, (debit, value, fee), cycle_no
                    ),
                    audit_order.debts(self, issuer),
                )  # fmt: skip
            elif kind not in _POINTS and kind not in TAKES_BACK:
                text = data[place + row_bytes : end].decode(errors="replace")
                if kind == Kind.PAIR_ARRANGED:
                    audit_cycle.arrange_pair(self, seq, issuer, acceptor, value)
                elif kind == Kind.ARRANGEMENT_MADE:
                    audit_cycle.make_arrangement(self, seq, value, fee, text)
                else:
                    audit_account.administer(self, seq, at, kind, issuer, value, cycle_no, text)
            place = end
            if seq == flush_end:
                self.chain.add(view[chained:place])
                chained = place
                self.chain.finish()
                flush_end = self.chain.flush_end()
        self.chain.add(view[chained:place])
        self.last_seq = expected_seq - 1
        self.last_at = last_at
        report.events += count
        return place, count

    # Events -----------------------------------------------------------------------------------

    def differ(self, seq: int, rule: str, expected: object, found: object) -> None:
        """Note what an event should say and does not."""
        self.report.differ("settlement.event", f"seq {seq}", rule, expected, found)

    def _misplaced(self, seq: int, at: int, before: int, part: int) -> None:
        if part != self.report.part:
            self.differ(seq, "part", self.report.part, part)
        if at < before:
            self.differ(
                seq,
                "at",
                f">= {instant_text(before + EPOCH_2000_US)}",
                instant_text(at + EPOCH_2000_US),
            )

    def account(self, seq: int, merchant_no: int) -> AccountFigures:
        """A merchant's figures; one that never joined is noted, and counts from zero."""
        account = self.accounts.get(merchant_no)
        if account is None:
            self.differ(seq, "merchant", "an account that was opened", merchant_no)
            account = self.accounts[merchant_no] = AccountFigures(cap=0)
        return account

    # Comparing --------------------------------------------------------------------------------

    def take_finished_cycles(self) -> list[CycleFigures]:
        """Cycles that closed since the last call; once compared, their figures are `drop`ped."""
        finished, self.finished_cycles = self.finished_cycles, []
        return finished
