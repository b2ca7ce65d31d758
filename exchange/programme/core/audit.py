"""Recomputing hosted lots from the journal, one member at a time.

Shares no code with `lots` and `lotbook`, which the writer runs. Points in a lot are what was accrued,
credited by an exchange or received inside a household, less what orders spent and transfers gave, first
to expire first, less what lapsed, and what reversals and calls put back or took back; which event took
how much of which lot must stand in `exchange.lot_use` exactly so.

Source: settlement/RULES.md, rules L1 to L11, P5, P12 and V5.
"""

from __future__ import annotations

import struct
from bisect import insort
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from settlement.core.audit import (
    COPY_HEADER_BYTES,
    COPY_SIGNATURE,
    AuditReport,
    instant_text,
)
from settlement.core.event import EPOCH_2000_US, Kind

if TYPE_CHECKING:
    from collections.abc import Collection

LOT_ROW: Final = 0
"""Stands for the kind of event in a row that is no event but a stored lot: `seq` is its number, `units` what
it held at first, `due_at` its expiry, `lot_no` its event, `issuer` its merchant."""
USE_ROW: Final = -1
"""Stands for the kind of event in a row that is what an event took of a lot: `units` went, `credited` stayed."""

# member, sort, seq, order_seq, at, occurred_at, due_at, units, credited_units, lot_no, issuer, acceptor, kind
_ROW: Final = struct.Struct(">h" + "4xq" + "6x" + "4xq" * 8 + "4xi" * 2 + "4xh")
_COLUMNS: Final = 13
_LIFE_OF_RETURNED: Final = 30 * 86_400_000_000
"""What comes back to a lot with less life than this goes into a new one with as much, microseconds (rule P12)."""
_LOT_COLUMNS: Final = ("member_no", "merchant_no", "earned_units", "expires_at", "made_seq")
_USE_COLUMNS: Final = ("units", "left_units")


@dataclass(slots=True, kw_only=True)
class LotFigures:
    """One lot as the journal tells it; instants count microseconds from 2000."""

    lot_no: int
    merchant_no: int
    earned: int
    units: int
    expires_at: int
    made_seq: int


class LotsAudit:
    """Takes rows in order of member; of each member its events, then its stored lots and their uses."""

    def __init__(
        self, report: AuditReport, *, hosted: Collection[int], lapsed_through_us: int | None
    ) -> None:
        """Start before the first row.

        Args:
            report: Where differences go.
            hosted: Merchants whose lots are kept here.
            lapsed_through_us: How far the expiry run has come, microseconds since 1970; None before the first.
        """
        self.report = report
        self._hosted = frozenset(hosted)
        self._lapsed_through = (
            -(1 << 63) if lapsed_through_us is None else lapsed_through_us - EPOCH_2000_US
        )
        self._member_no = 0
        self._lots: dict[int, LotFigures] = {}
        self._purses: dict[int, list[LotFigures]] = {}
        self._uses: dict[str, tuple[int, int]] = {}
        self._taken: dict[int, list[tuple[LotFigures, int]]] = {}
        self._credited: dict[int, LotFigures] = {}
        self._wanted: list[tuple[int, int, Kind, int, int]] = []
        self._called: dict[tuple[int, int], tuple[int, int, int]] = {}
        self._undone: set[int] = set()
        self._stored_lots: dict[str, tuple[object, ...]] = {}
        self._stored_uses: dict[str, tuple[int, int]] = {}
        self._rest = b""
        self._begun = False
        self._ended = False

    def feed(self, piece: bytes) -> int:
        """Take the next piece of a binary COPY stream, wherever it ends.

        Returns:
            How many rows it completed.

        Raises:
            ValueError: The stream is not the COPY that this reads.
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
        whole = place + (len(data) - place) // _ROW.size * _ROW.size
        count = 0
        for columns, member_no, *row in _ROW.iter_unpack(memoryview(data)[place:whole]):
            if columns != _COLUMNS:
                raise ValueError(f"a row of {columns} columns in the COPY stream")
            if member_no != self._member_no:
                self._finish_member()
                self._member_no = member_no
            self._take(*row)
            count += 1
        self._rest = data[whole:]
        if self._rest == b"\xff\xff":
            self._rest, self._ended = b"", True
        return count

    def close(self) -> None:
        """Finish the last member.

        Raises:
            ValueError: The stream was cut short.
        """
        if not self._ended:
            raise ValueError("the COPY stream was cut short")
        self._finish_member()

    def _take(
        self,
        seq: int,
        order_seq: int,
        at: int,
        occurred_at: int,
        due_at: int,
        units: int,
        credited: int,
        lot_no: int,
        issuer: int,
        acceptor: int,
        kind: int,
        /,
    ) -> None:
        if kind == Kind.CLEARED and seq != order_seq:
            if issuer in self._hosted:
                self._wanted.append((seq, order_seq, Kind.TAKEN, issuer, units))
            if credited and acceptor in self._hosted:
                self._wanted.append((seq, order_seq, Kind.CREDITED, acceptor, credited))
        elif kind == Kind.CLEARED:
            if issuer in self._hosted:
                if lot_no:
                    self._check_life(seq, issuer, occurred_at, due_at)
                self._spend(seq, issuer, occurred_at, units)
            if lot_no:
                self._credited[order_seq] = self._make(seq, lot_no, acceptor, credited, due_at)
        elif kind == Kind.REVERSED:
            self._give_back(seq, order_seq, issuer, -units, at, lot_no, due_at, _LIFE_OF_RETURNED)
            if credited:
                self._take_back(seq, order_seq, -credited)
        elif kind == Kind.ACCRUED:
            if bool(lot_no) != bool(units):
                self._differ(seq, "lot_no", "a lot if there are units", (lot_no, units))
            if lot_no:
                self._make(seq, lot_no, issuer, units, due_at)
        elif kind == Kind.LAPSED:
            self._lapse(seq, lot_no, issuer, units, at)
        elif kind == Kind.TAKEN:
            self._called[order_seq, kind] = (seq, issuer, units)
            self._spend(seq, issuer, at, units)
        elif kind == Kind.RETURNED:
            self._undone.add(order_seq)
            self._return(seq, order_seq, issuer, units, at, credited, lot_no, due_at)
        elif kind == Kind.CREDITED:
            self._called[order_seq, kind] = (seq, issuer, units)
            self._make(seq, lot_no, issuer, units, due_at)
        elif kind == Kind.WITHDRAWN:
            self._undone.add(order_seq)
            self._withdraw(seq, order_seq, lot_no, issuer, units)
        elif kind == Kind.GIVEN:
            self._spend(seq, issuer, at, units)
        elif kind == Kind.RECEIVED:
            self._make(seq, lot_no, issuer, units, due_at)
        elif kind == LOT_ROW:
            self._stored_lots[f"lot {seq}"] = (
                self._member_no,
                issuer,
                units,
                instant_text(due_at + EPOCH_2000_US),
                lot_no,
            )
        else:
            self._stored_uses[_use_key(lot_no, seq)] = (units, credited)

    def _differ(self, seq: int, rule: str, expected: object, found: object) -> None:
        self.report.differ("settlement.event", f"seq {seq}", rule, expected, found)

    def _make(
        self, seq: int, lot_no: int, merchant_no: int, units: int, expires_at: int
    ) -> LotFigures:
        if lot_no in self._lots or units <= 0:
            self._differ(seq, "lot_no", "a new lot with units", (lot_no, units))
        lot = self._lots[lot_no] = LotFigures(
            lot_no=lot_no,
            merchant_no=merchant_no,
            earned=units,
            units=units,
            expires_at=expires_at,
            made_seq=seq,
        )
        insort(
            self._purses.setdefault(merchant_no, []),
            lot,
            key=lambda lot: (lot.expires_at, lot.lot_no),
        )
        return lot

    def _live(self, issuer: int, at: int) -> list[LotFigures]:
        """Lots that could be spent at an instant, first to expire first (rules L1 and L2)."""
        purse = self._purses.get(issuer, [])
        purse[:] = [lot for lot in purse if lot.units > 0]
        return [lot for lot in purse if lot.expires_at > at]

    def _check_life(self, seq: int, issuer: int, at: int, due_at: int) -> None:
        """An exchange never lengthens the life of points (rule L5)."""
        live = self._live(issuer, at)
        if live and due_at > live[0].expires_at:
            self._differ(
                seq,
                "due_at of the new lot (rule L5)",
                f"<= {instant_text(live[0].expires_at + EPOCH_2000_US)}",
                instant_text(due_at + EPOCH_2000_US),
            )

    def _spend(self, seq: int, issuer: int, at: int, units: int) -> None:
        wanted = units
        for lot in self._live(issuer, at):
            given = min(wanted, lot.units)
            lot.units -= given
            wanted -= given
            self._taken.setdefault(seq, []).append((lot, given))
            self._uses[_use_key(lot.lot_no, seq)] = (given, lot.units)
            if not wanted:
                return
        if wanted:
            self._differ(seq, "units spent", f"{units - wanted} live units", units)

    def _give_back(
        self,
        seq: int,
        order_seq: int,
        issuer: int,
        units: int,
        at: int,
        lot_no: int,
        due_at: int,
        life: int,
        /,
    ) -> int:
        """Units come back to the lots that they came from, the last that was taken first (rule P12).

        Returns:
            How many go into a new lot, because their own has less than `life` microseconds left.
        """
        taken = self._taken.get(order_seq)
        if not taken:
            return 0  # Its issuer kept the points elsewhere.
        keeps_until = at + life
        fresh = 0
        while units and taken:
            lot, given = taken.pop()
            back = min(units, given)
            units -= back
            if back < given:
                taken.append((lot, given - back))
            if lot.expires_at < keeps_until:
                fresh += back
                continue
            purse = self._purses[issuer]
            if lot not in purse:
                insort(purse, lot, key=lambda lot: (lot.expires_at, lot.lot_no))
            lot.units += back
            self._uses[_use_key(lot.lot_no, seq)] = (-back, lot.units)
        if units:
            self._differ(seq, "units given back", f"{units} fewer: no more were spent", units)
        if bool(fresh) != bool(lot_no):
            self._differ(seq, "lot_no", "a lot if units are left without one", (fresh, lot_no))
        if fresh and lot_no:
            if due_at != at + _LIFE_OF_RETURNED:
                self._differ(
                    seq,
                    "due_at of the new lot (rule P12)",
                    instant_text(at + _LIFE_OF_RETURNED + EPOCH_2000_US),
                    instant_text(due_at + EPOCH_2000_US),
                )
            self._make(seq, lot_no, issuer, fresh, due_at)
        return fresh

    def _take_back(self, seq: int, order_seq: int, units: int) -> None:
        """Points that an exchange credited leave the lot that it made (rule V5)."""
        lot = self._credited.get(order_seq)
        if lot is None:
            return  # The acceptor keeps them elsewhere.
        if lot.units < units:
            self._differ(seq, "units taken back", f"<= {lot.units}", units)
        lot.units -= units
        self._uses[_use_key(lot.lot_no, seq)] = (units, lot.units)

    def _return(
        self,
        seq: int,
        of_seq: int,
        merchant_no: int,
        units: int,
        at: int,
        credited: int,
        lot_no: int,
        due_at: int,
        /,
    ) -> None:
        """What a call took comes back whole and once: into lots that live, the rest into a new one (rule L9)."""
        taken = self._taken.get(of_seq, [])
        if any(lot.merchant_no != merchant_no for lot, _ in taken):
            self._differ(seq, "order_seq", "an event of this programme", of_seq)
        if units != (whole := sum(given for _, given in taken)):
            self._differ(seq, "units returned", whole, units)
        fresh = self._give_back(seq, of_seq, merchant_no, whole, at, lot_no, due_at, 1)
        if credited != fresh:
            self._differ(seq, "credited_units, those in a new lot", fresh, credited)

    def _withdraw(self, seq: int, of_seq: int, lot_no: int, merchant_no: int, units: int) -> None:
        """What a call credited goes again, whole and once (rule L11)."""
        lot = self._lots.get(lot_no)
        if lot is None or lot.made_seq != of_seq or lot.merchant_no != merchant_no:
            self._differ(seq, "lot_no", f"the lot that event {of_seq} made", lot_no)
            return
        if not lot.units == lot.earned == units:
            self._differ(seq, "units withdrawn", (lot.earned, lot.units), units)
        self._uses[_use_key(lot_no, seq)] = (lot.units, 0)
        lot.units = 0

    def _lapse(self, seq: int, lot_no: int, merchant_no: int, units: int, at: int) -> None:
        lot = self._lots.get(lot_no)
        if lot is None or lot.merchant_no != merchant_no:
            self._differ(seq, "lot_no", "a lot of this member and merchant", lot_no)
            return
        if lot.expires_at > at:
            self._differ(
                seq,
                "at",
                f"expiry at {instant_text(lot.expires_at + EPOCH_2000_US)} or later",
                instant_text(at + EPOCH_2000_US),
            )
        if lot.units != units:
            self._differ(seq, "units lapsed", lot.units, units)
        self._uses[_use_key(lot_no, seq)] = (lot.units, 0)
        lot.units = 0

    def _check_calls(self) -> None:
        """An order that cleared in two phases has taken and given what its calls say, and that stands (rule L11)."""
        for seq, order_seq, kind, merchant_no, units in self._wanted:
            called = self._called.get((order_seq, kind))
            if called is None or called[0] in self._undone or called[1:] != (merchant_no, units):
                self._differ(seq, f"points {kind.name.lower()} for the order", units, called)

    def _finish_member(self) -> None:
        self._check_calls()
        for lot in self._lots.values():
            if lot.units > 0 and lot.expires_at < self._lapsed_through:
                self.report.differ(
                    "exchange.expiry_run",
                    f"lot {lot.lot_no}",
                    "units of a lot that expired before `through` (rule L6)",
                    0,
                    lot.units,
                )
        self.report.compare_rows(
            "exchange.lot",
            _LOT_COLUMNS,
            {
                f"lot {lot.lot_no}": (
                    self._member_no,
                    lot.merchant_no,
                    lot.earned,
                    instant_text(lot.expires_at + EPOCH_2000_US),
                    lot.made_seq,
                )
                for lot in self._lots.values()
            },
            self._stored_lots,
        )
        self.report.compare_rows("exchange.lot_use", _USE_COLUMNS, self._uses, self._stored_uses)
        self.report.lots += len(self._lots)
        self._lots = {}
        self._purses = {}
        self._uses = {}
        self._taken = {}
        self._credited = {}
        self._wanted = []
        self._called = {}
        self._undone = set()
        self._stored_lots = {}
        self._stored_uses = {}


def _use_key(lot_no: int, seq: int) -> str:
    return f"lot {lot_no}, event {seq}"
