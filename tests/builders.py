"""Small builders: books as a writer would have left them, put into a database by SQL.

They share no code with the writer, so a test that starts from them checks the reader alone.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from schemas.values.ids import order_id
from settlement.core.event import EPOCH_2000_US, Kind, pack_event

if TYPE_CHECKING:
    import asyncpg

PART = 1
MONDAY_US = 1_483_315_200_000_000
"""2017-01-02T00:00:00Z."""
SECOND_US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(at_us: int) -> datetime:
    """A time with a zone, of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=at_us)


@dataclass(slots=True)
class Hold:
    """An order that was accepted and waits for its end."""

    order_seq: int
    at_us: int
    facts: dict[str, Any]


@dataclass(slots=True)
class BooksBuilder:
    """Builds a journal with its projections, one event after the other.

    Amounts are CU; times are microseconds since 1970. The clock moves by one second an event unless
    a time is given.
    """

    flush_events: int = 3
    now_us: int = MONDAY_US
    seq: int = 0
    cycle_no: int = 0
    merchants: dict[str, int] = field(default_factory=dict)
    rates: list[tuple[int, int, int]] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    cycles: list[list[object]] = field(default_factory=list)
    obligations: defaultdict[tuple[int, int, int], list[int]] = field(
        default_factory=lambda: defaultdict(lambda: [0, 0, 0, 0])
    )
    positions: defaultdict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))

    def merchant(self, code: str) -> int:
        """Register a merchant; its number."""
        return self.merchants.setdefault(code, len(self.merchants) + 1)

    def rate(self, code: str, num: int, den: int = 1) -> int:
        """Agree a rate for a merchant's points; its number."""
        self.rates.append((self.merchant(code), num, den))
        return len(self.rates)

    def open_cycle(self, cycle_id: str, *, cut_off_us: int | None = None) -> int:
        """Open the next cycle; its number."""
        self.cycle_no += 1
        self._event(kind=Kind.CYCLE_OPENED, reference=cycle_id)
        cut_off = None if cut_off_us is None else instant(cut_off_us)
        self.cycles.append(
            [PART, self.cycle_no, cycle_id, "open", instant(self.now_us), cut_off, None, None,
             self.seq, None]
        )  # fmt: skip
        return self.cycle_no

    def close_cycle(self, *, settled: bool = False) -> int:
        """Close the open cycle; its number."""
        self._event(kind=Kind.CYCLE_CLOSED)
        row = self.cycles[-1]
        row[3] = "settled" if settled else "closed"
        row[6] = instant(self.now_us)
        row[7] = instant(self.now_us) if settled else None
        row[9] = self.seq
        return self.cycle_no

    def clear(
        self,
        issuer: str,
        acceptor: str,
        *,
        debit: int,
        value: int | None = None,
        fee: int = 0,
        units: int = 1,
        rate: int = 0,
        reference: str = "",
        kind: Kind = Kind.CLEARED,
        **more: int,
    ) -> uuid.UUID:
        """Clear an order in one phase, or adjust; the order's id."""
        facts = self._facts(issuer, acceptor, debit, value, fee, units, rate, reference)
        self._event(kind=kind, **(facts | more))
        self._book(facts)
        return order_id(self.now_us, PART, self.seq)

    def accept(
        self,
        issuer: str,
        acceptor: str,
        *,
        debit: int,
        value: int | None = None,
        fee: int = 0,
        units: int = 1,
        rate: int = 0,
        reference: str = "",
    ) -> Hold:
        """Accept an order in two phases."""
        facts = self._facts(issuer, acceptor, debit, value, fee, units, rate, reference)
        self._event(kind=Kind.ACCEPTED, **facts)
        return Hold(order_seq=self.seq, at_us=self.now_us, facts=facts)

    def end(self, hold: Hold, kind: Kind = Kind.CLEARED) -> uuid.UUID:
        """Clear, void or expire an accepted order; its id."""
        order = order_id(hold.at_us, PART, hold.order_seq)
        self._event(kind=kind, order_seq=hold.order_seq, key=order.bytes, **hold.facts)
        if kind is Kind.CLEARED:
            self._book(hold.facts)
        return order

    def _facts(
        self, issuer: str, acceptor: str, debit: int, value: int | None, fee: int, units: int,
        rate: int, reference: str,
    ) -> dict[str, Any]:  # fmt: skip
        return {
            "issuer": self.merchant(issuer), "acceptor": self.merchant(acceptor),
            "debit_cu": debit, "value_cu": debit if value is None else value, "fee_cu": fee,
            "units": units, "rate_no": rate, "reference": reference,
        }  # fmt: skip

    def _book(self, facts: dict[str, Any]) -> None:
        issuer, acceptor = facts["issuer"], facts["acceptor"]
        debit, value, fee = facts["debit_cu"], facts["value_cu"], facts["fee_cu"]
        owed = self.obligations[self.cycle_no, issuer, acceptor]
        for place, cu in enumerate((1, debit, value, fee)):
            owed[place] += cu
        for party, cu in (
            (issuer, -debit),
            (acceptor, value - fee),
            (-1, fee),
            (-2, debit - value),
        ):
            self.positions[self.cycle_no, party] += cu

    def _event(self, *, kind: Kind, **facts: Any) -> None:
        self.seq += 1
        self.now_us += SECOND_US
        row: dict[str, Any] = {
            "seq": self.seq, "order_seq": self.seq if kind < Kind.ACCRUED else 0,
            "at": self.now_us, "occurred_at": self.now_us - 5 * SECOND_US, "due_at": self.now_us,
            "member_no": 7_000_000_000 + self.seq, "units": 0, "debit_cu": 0, "value_cu": 0,
            "fee_cu": 0, "credited_units": 0, "lot_no": 0,
            "key": hashlib.sha256(b"key %d" % self.seq).digest()[:16],
            "body": hashlib.sha256(b"body %d" % self.seq).digest()[:16],
            "cycle_no": self.cycle_no, "caller": 0, "issuer": 0, "acceptor": 0, "rate_no": 0,
            "part": PART, "kind": int(kind), "step": 0, "reason": 0, "reference": "",
        }  # fmt: skip
        self.events.append(pack_event(*(row | facts).values()))

    def flushes(self) -> list[tuple[object, ...]]:
        """Rows of `settlement.flush`, chained as FORMAT.md says."""
        rows: list[tuple[object, ...]] = []
        digest = bytes(32)
        for start in range(0, len(self.events), self.flush_events):
            events = self.events[start : start + self.flush_events]
            header = struct.pack(
                ">hqqqiq", PART, len(rows) + 1, 1, start + 1, len(events),
                self.now_us - EPOCH_2000_US,
            )  # fmt: skip
            digest = hashlib.sha256(digest + header + b"".join(events)).digest()
            rows.append(
                (PART, len(rows) + 1, 1, start + 1, len(events), instant(self.now_us), digest)
            )
        return rows

    async def write(self, conn: asyncpg.Connection) -> None:
        """Put everything into an empty, migrated database, as its owner."""
        await conn.copy_records_to_table(
            "merchant",
            schema_name="settlement",
            records=[(no, code, code.title(), instant(0)) for code, no in self.merchants.items()],
        )
        await conn.copy_records_to_table(
            "programme",
            schema_name="exchange",
            records=[
                (no, True, "point", 0, 1, 1, 365, 1, 10**9, False) for no in self.merchants.values()
            ],
        )
        await conn.executemany(
            "INSERT INTO exchange.rate (rate_no, merchant_no, side, num, den, effective_at) "
            "OVERRIDING SYSTEM VALUE VALUES ($1, $2, 'spend', $3, $4, $5)",
            [
                (number, no, num, den, instant(number * SECOND_US))
                for number, (no, num, den) in enumerate(self.rates, 1)
            ],
        )
        await conn.copy_to_table(
            "event",
            schema_name="settlement",
            source=_pieces(self.events),
            format="binary",
        )
        for table, rows in (
            ("flush", self.flushes()),
            ("cycle", [(*cycle, 0) for cycle in self.cycles]),
            (
                "obligation",
                [(PART, *key, *figures) for key, figures in self.obligations.items()],
            ),
            ("position", [(PART, *key, cu) for key, cu in self.positions.items()]),
        ):
            await conn.copy_records_to_table(table, schema_name="settlement", records=rows)


async def _pieces(events: list[bytes]):
    yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
    for start in range(0, len(events), 1000):
        yield b"".join(events[start : start + 1000])
    yield b"\xff\xff"


def small_books() -> BooksBuilder:
    """Two cycles of three merchants with everything that a statement can show."""
    books = BooksBuilder()
    air = books.rate("AIR", 37, 10)
    noodles = books.rate("NOODLES", 9)
    books.merchant("SPECTACLES")
    books.open_cycle("2017-01-02", cut_off_us=MONDAY_US + 7 * 86_400 * SECOND_US)
    books.clear("AIR", "NOODLES", units=1001, rate=air, debit=3703, value=3700, fee=18,
                reference="bon-1")  # fmt: skip
    hold = books.accept("NOODLES", "SPECTACLES", units=50, rate=noodles, debit=450, value=449, fee=2,
                        reference='=HYPERLINK("http://x","y")')  # fmt: skip
    voided = books.accept("NOODLES", "AIR", units=7, rate=noodles, debit=63)
    books.clear("SPECTACLES", "AIR", debit=12_345, value=12_300, fee=61, reference="眼镜, “8”")
    books.end(voided, Kind.VOIDED)
    books.end(hold)
    books.clear(
        "AIR",
        "SPECTACLES",
        debit=77,
        units=0,
        kind=Kind.ADJUSTED,
        reference="'quoted",
        order_seq=0,
        member_no=0,
    )
    books.close_cycle(settled=True)
    books.open_cycle("2017-01-09")
    books.clear("NOODLES", "AIR", units=3, rate=noodles, debit=27, value=20, reference="-1+1")
    books.close_cycle()
    books.open_cycle("2017-01-16")
    return books
