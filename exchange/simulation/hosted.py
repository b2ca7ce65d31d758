"""A hosted programme in a history: the real lots, on a disk that a crash of the writer leaves as it was.

Its system is the writer itself, so whatever befalls the writer and the way to it befalls this merchant. Its
own books are the events of calls in the journal, and what is left of the lots must be what they say.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from adapters.kit.contract import Step
from adapters.kit.folder import Folder
from adapters.kit.manifest import Sandbox
from adapters.kit.simulator.ledger import Booked
from exchange.core.catalogue import Catalogue, Programme
from exchange.programme.core.audit import LOT_ROW, USE_ROW, LotsAudit
from exchange.programme.core.calls import Earlier
from exchange.programme.core.command import Accrual, FindCall, GiveBack, TakeBack
from exchange.programme.core.lotbook import USE_FIGURES, LotBook
from exchange.programme.core.lots import Lot, Use
from exchange.service.hosted import STEPS, manifest_of
from schemas.values.ids import HOUSE
from settlement.core.audit import COPY_SIGNATURE
from settlement.core.event import EPOCH_2000_US, Kind, unpack_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from exchange.programme.core.lotbook import LotChanges
    from settlement.core.audit import AuditReport
    from settlement.core.command import Answer, Command

HOSTED: Final = "hosted"
MEMBERS: Final = {"1": 90_000, "2": 150}
"""Smallest units that each member begins with, by the surrogate."""
LIVES_US: Final = (4_000_000, 86_400_000_000, 300 * 86_400_000_000)
"""For how long the three lots live that each member begins with: one runs out in the middle of the history."""
_OF_LOTS: Final = frozenset({Kind.CLEARED, Kind.ACCRUED, *STEPS})
_NO_BODY: Final = bytes(16)


def hosted_folder(merchant_no: int) -> Folder:
    """What a hosted programme can do, and its members; there is no folder on any disk."""
    manifest = manifest_of(_programme(merchant_no))
    return Folder(
        path=Path(HOSTED),
        manifest=msgspec.structs.replace(manifest, sandbox=Sandbox(members=MEMBERS)),
    )


def catalogue_of(hosted: Iterable[int]) -> Catalogue:
    """What the writer must know of the hosted programmes."""
    return Catalogue(programmes={number: _programme(number) for number in hosted})


def _programme(merchant_no: int) -> Programme:
    return Programme(
        merchant_no=merchant_no,
        code=HOSTED,
        name="Hosted",
        hosted=True,
        unit="point",
        scale=0,
        earn_num=1,
        earn_den=100,
        valid_days=365,
        units_min=1,
        units_max=1_000_000,
    )


def opening(merchant_no: int, now_us: int) -> list[Accrual]:
    """The commands that give the members what they begin with."""
    return [
        Accrual(
            caller=HOUSE,
            key=bytes([2, merchant_no, int(member), place]) + bytes(12),
            body=_NO_BODY,
            member_no=int(member),
            merchant_no=merchant_no,
            units=units // len(LIVES_US),
            expires_at_us=now_us + life_us,
        )
        for member, units in MEMBERS.items()
        for place, life_us in enumerate(LIVES_US)
    ]


@dataclass(slots=True, kw_only=True)
class LotDisk:
    """The lots that the writer has committed.

    Attributes:
        lots: By number; `units` is what is left.
        taken: What each event took, in order of spending.
        uses: Lot, event, units and what was left, for each use.
        undone: Events that were undone.
    """

    lots: dict[int, Lot] = field(default_factory=dict)
    taken: dict[int, list[Use]] = field(default_factory=dict)
    uses: list[tuple[int, int, int, int]] = field(default_factory=list)
    undone: set[int] = field(default_factory=set)

    def load(self, catalogue: Catalogue) -> LotBook:
        """The lots as the last flush left them, of every member."""
        book = LotBook(last_lot_no=max(self.lots, default=0))
        book.catalogue = catalogue
        left = sorted(_copy(lot) for lot in self.lots.values() if lot.units)
        book.put_members(map(int, MEMBERS), left)
        return book

    def write(self, changes: LotChanges) -> None:
        """Take what one flush changed."""
        for lot in changes.made:
            self.lots[lot.lot_no] = _copy(lot)
            self.lots[lot.lot_no].units = lot.earned_units
        for place in range(0, len(changes.uses), USE_FIGURES):
            lot_no, seq, units, left_units = changes.uses[place : place + USE_FIGURES]
            lot = self.lots[lot_no]
            lot.units = left_units
            self.uses.append((lot_no, seq, units, left_units))
            if units > 0:
                use = Use(lot_no, lot.earned_units, lot.expires_at_us, lot.made_seq, units)
                self.taken.setdefault(seq, []).append(use)

    def read_for(
        self,
        book: LotBook,
        commands: Iterable[Command],
        answers: Mapping[tuple[int, bytes], tuple[bytes, Answer]],
    ) -> None:
        """Load the calls that commands name, and what those took."""
        for command in commands:
            if not isinstance(command, GiveBack | TakeBack | FindCall):
                continue
            found = answers.get((command.caller, command.of_key))
            if found is None:
                continue
            body, [entry, *_] = found
            book.calls.stored[command.of_key] = Earlier(body, entry, entry.seq in self.undone)
            if entry.seq in self.taken:
                book.stored_uses[entry.seq] = self.taken[entry.seq]


def audit_lots(disk: LotDisk, events: Iterable[bytes], report: AuditReport) -> None:
    """Recompute the lots from the journal, with code that shares nothing with what decided on them."""
    hosted = {lot.merchant_no for lot in disk.lots.values()}
    rows: list[tuple[int, ...]] = []
    for data in events:
        e = unpack_event(data)
        if e.kind not in _OF_LOTS or not {e.issuer, e.acceptor} & hosted:
            continue
        rows.append(
            (e.member_no, 0, e.seq, e.order_seq, e.at_us, e.occurred_at_us, e.due_at_us, e.units,
             e.credited_units, e.lot_no, e.issuer, e.acceptor, e.kind)
        )  # fmt: skip
    for lot in disk.lots.values():
        until_us = lot.expires_at_us
        rows.append(
            (lot.member_no, 1, lot.lot_no, 0, until_us, until_us, until_us, lot.earned_units, 0, lot.made_seq,
             lot.merchant_no, lot.merchant_no, LOT_ROW)
        )  # fmt: skip
    for lot_no, seq, units, left_units in disk.uses:
        lot = disk.lots[lot_no]
        until_us = lot.expires_at_us
        rows.append(
            (lot.member_no, 2, seq, 0, until_us, until_us, until_us, units, left_units, lot_no,
             lot.merchant_no, lot.merchant_no, USE_ROW)
        )  # fmt: skip
    audit = LotsAudit(report, hosted=hosted, lapsed_through_us=None)
    audit.feed(COPY_SIGNATURE + bytes(8) + b"".join(map(_packed, sorted(rows))) + b"\xff\xff")
    audit.close()


def _packed(row: tuple[int, ...]) -> bytes:
    """One row as PostgreSQL would copy it out: instants count from 2000 there."""
    member_no, sort, seq, order_seq, *rest = row
    instants = [instant - EPOCH_2000_US for instant in rest[:3]]
    figures = [member_no, sort, seq, order_seq, *instants, *rest[3:]]
    sizes = (8, 2, *(8,) * 8, 4, 4, 2)
    columns = (
        size.to_bytes(4, "big") + figure.to_bytes(size, "big", signed=True)
        for size, figure in zip(sizes, figures, strict=True)
    )
    return len(sizes).to_bytes(2, "big") + b"".join(columns)


def _copy(lot: Lot) -> Lot:
    return Lot(
        lot.lot_no, lot.member_no, lot.merchant_no, lot.earned_units, lot.units, lot.expires_at_us, lot.made_seq,
    )  # fmt: skip


class HostedBooks:
    """The own books of a hosted programme: what calls moved, and the lots that must say the same."""

    def __init__(self, merchant_no: int, disk: LotDisk) -> None:
        """Begin before the first call."""
        self._merchant_no = merchant_no
        self._disk = disk
        self.entries: list[Booked] = []

    def take(self, data: bytes) -> Booked | None:
        """Take one event that was committed; what of it moved points here by a call."""
        event = unpack_event(data)
        step = STEPS.get(Kind(event.kind))
        if step is None or event.issuer != self._merchant_no or not event.units:
            return None
        booked = Booked(
            reference=event.reference,
            step=step,
            member=str(event.member_no),
            units=event.units,
            of="",
            at_us=event.at_us,
            number=str(event.seq),
            moved=event.units,
        )
        self.entries.append(booked)
        return booked

    def check(self) -> None:
        """Compare every member's lots with what the calls moved.

        Raises:
            AssertionError: They differ.
        """
        should = Counter({member: units // 3 * 3 for member, units in MEMBERS.items()})
        for entry in self.entries:
            gives = entry.step in (Step.RELEASE, Step.CREDIT)
            should[entry.member] += entry.moved if gives else -entry.moved
        left: Counter[str] = Counter()
        for lot in self._disk.lots.values():
            if not 0 <= lot.units <= lot.earned_units:
                raise AssertionError(f"lot {lot.lot_no} has {lot.units} units left")
            left[str(lot.member_no)] += lot.units
        if +should != +left:
            raise AssertionError(f"the lots do not add up: {dict(should)} against {dict(left)}")

    def doubled(self) -> set[str]:
        """References whose call moved points more than once."""
        times = Counter(entry.reference for entry in self.entries)
        return {reference for reference, count in times.items() if count > 1}

    def open_holds(self) -> set[str]:
        """None: points are taken at once."""
        return set()


class VirtualRecords:
    """What is read of a hosted programme, on the writer's disk."""

    def __init__(
        self, disk: LotDisk, books: Sequence[HostedBooks], now_us: Callable[[], int]
    ) -> None:
        """Read a disk."""
        self._disk = disk
        self._books = books
        self._now_us = now_us

    async def is_member(self, member_no: int) -> bool:
        """Whether somebody is enrolled under a surrogate."""
        return str(member_no) in MEMBERS

    async def live_units(self, *, merchant_no: int, member_no: int) -> int:
        """Smallest units that a member could spend now."""
        now_us = self._now_us()
        return sum(
            lot.units
            for lot in self._disk.lots.values()
            if (lot.merchant_no, lot.member_no) == (merchant_no, member_no)
            and lot.expires_at_us > now_us
        )

    async def moved(
        self,
        *,
        merchant_no: int,  # noqa: ARG002 - the shape of what is read; there is one programme
        from_us: int,
        until_us: int,
    ) -> AsyncIterator[tuple[Kind, int, int, int, str, int]]:
        """What calls moved in a time: kind, number, surrogate, units, reference, instant."""
        kinds = {step: kind for kind, step in STEPS.items()}
        for books in self._books:
            for entry in books.entries:
                if from_us <= entry.at_us < until_us:
                    yield (
                        kinds[entry.step],
                        int(entry.number),
                        int(entry.member),
                        entry.moved,
                        entry.reference,
                        entry.at_us,
                    )
