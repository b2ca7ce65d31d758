"""Books and lots without a database: the pure core behind a pipeline of dicts, for thousands of histories."""

from typing import Any

from exchange.core.catalogue import Catalogue, MemberRules, NumberedRate, Programme
from exchange.programme.core.command import LapseLots, MemberOrder
from exchange.programme.core.lotbook import LotBook
from exchange.programme.core.lots import Lot, Use
from schemas.values.rate import Rate
from schemas.values.reason import Reason
from settlement.core import reversal
from settlement.core.audit import AuditReport, FlushRow, JournalAudit
from settlement.core.books import Books
from settlement.core.chain import GENESIS, chain_digest
from settlement.core.command import (
    ADMINISTRATIVE,
    Adjust,
    Answer,
    CloseCycle,
    Command,
    End,
    Join,
    Order,
    Pin,
    Reverse,
    unstored_refusal,
)
from settlement.core.event import Event, Kind, unpack_event
from settlement.core.reversal import Amounts, Cleared, Past
from tests.simulation.ground import BODY, START_US, new_key
from tests.simulation.histories import FEE_BPS, MERCHANTS, RULES

WHY_ENDED = {
    Kind.CLEARED: Reason.ORDER_ALREADY_CLEARED,
    Kind.VOIDED: Reason.ORDER_ALREADY_VOIDED,
    Kind.EXPIRED: Reason.HOLD_EXPIRED,
    Kind.REFUSED: Reason.ORDER_REFUSED,
}
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)


def catalogue(*, ruled: bool = False) -> Catalogue:
    """The merchants of the histories, as the exchange would load them."""
    programmes = {}
    rates = {}
    for number, (code, hosted, (num, den), (earn_num, earn_den), days, _) in enumerate(
        MERCHANTS, start=1
    ):
        programmes[number] = Programme(
            merchant_no=number,
            code=code,
            name=code,
            hosted=hosted,
            unit="point",
            scale=0,
            earn_num=earn_num,
            earn_den=earn_den,
            valid_days=days,
            units_min=1,
            units_max=10**12,
        )
        rates[number] = [
            NumberedRate(rate_no=number, effective_at_us=0, rate=Rate(num=num, den=den))
        ]
    return Catalogue(
        programmes=programmes,
        by_code={programme.code: number for number, programme in programmes.items()},
        spend=rates,
        issue=rates,
        tariff=[(0, FEE_BPS)],
        member_rules={
            number: [
                MemberRules(
                    effective_at_us=0,
                    authority=authority,  # type: ignore[arg-type] # RULES holds no other words
                    daily_cu=daily_cu,
                    daily_orders=orders,
                )
            ]
            for number, (authority, daily_cu, orders) in RULES.items()
        }
        if ruled
        else {},
    )


class PureHouse:
    """Decides commands on books and lots, and keeps what they hand over, as a database would."""

    def __init__(self, *, caller_clock: bool, ruled: bool = False) -> None:
        """Start with the merchants joined and the first cycle open."""
        self.now_us = START_US
        self.books = Books(part=1, caller_clock=caller_clock)
        self.lots = LotBook(last_lot_no=0)
        self.lots.catalogue = catalogue(ruled=ruled)
        self.lots.put_members(range(10), [])
        self.lots.guard.put_members(range(10), [])
        self.events: list[bytes] = []
        self.flushes: list[FlushRow] = []
        self.positions: dict[tuple[int, int], int] = {}
        self.obligations: dict[tuple[int, int, int], tuple[int, int, int, int]] = {}
        self.reversed: dict[tuple[int, int, int], tuple[int, int, int, int]] = {}
        self.accounts: dict[int, tuple[int, int, int]] = {}
        self.funds: dict[str, dict[Any, Any]] = {
            "funds": {},
            "shares": {},
            "debts": {},
            "discharged": {},
        }
        self.holds: dict[int, int | None] = {}
        self.cycles: dict[int, tuple[str, str]] = {}
        self.lot_rows: dict[int, Lot] = {}
        self.left: dict[int, int] = {}
        self.uses: dict[int, list[Use]] = {}
        self._stored: dict[tuple[int, bytes], tuple[bytes, Answer]] = {}
        start: list[Command] = [
            Join(caller=0, key=new_key(), body=BODY, merchant_no=number, cap_cu=cap)
            for number, (*_, cap) in enumerate(MERCHANTS, start=1)
        ]
        self.submit(
            [
                *start,
                CloseCycle(caller=0, key=new_key(), body=BODY, cycle_no=0, next_id="first"),
            ]
        )

    def submit(self, commands: list[Command]) -> list[Answer]:
        """Decide one group and take what it changed."""
        self.books.tick(self.now_us)
        answers = [self._decide(command) for command in commands]
        self._take()
        return answers

    def _decide(self, command: Command) -> Answer:
        if isinstance(command, End | Pin):
            return [self._end(command)]
        key = command.caller, command.key
        if key in self._stored:
            body, answer = self._stored[key]
            conflict = [unstored_refusal(Reason.IDEMPOTENCY_CONFLICT)]
            return answer if body == command.body else conflict
        if isinstance(command, LapseLots):
            self._take()
            expired = [
                Lot(*_columns(lot, self.left[lot.lot_no]))
                for lot in self.lot_rows.values()
                if self.left[lot.lot_no] and lot.expires_at_us <= command.as_of_us
            ]
            self.lots.expired[command.key] = sorted(expired)[: command.limit]
        if isinstance(command, Reverse | Adjust):
            self._load_reversed(command)
        hosted = isinstance(command, Order) and command.hosted and not command.reason
        if (
            isinstance(command, MemberOrder)
            or hosted
            or not isinstance(command, (Order, *ADMINISTRATIVE))
        ):
            answer = self.lots.decide(command, self.books)
        else:
            answer = self.books.decide(command)
        if answer and answer[0].seq:
            self._stored[key] = command.body, answer
        return answer

    def _of_order(self, order_seq: int) -> list[Event]:
        """What is written of an order, but for its reversals."""
        events = [unpack_event(data) for data in self.events]
        return [
            event
            for event in events
            if event.order_seq == order_seq != 0
            and event.kind not in (Kind.REVERSED, Kind.ADJUSTED)
        ]

    def _load_reversed(self, command: Reverse | Adjust) -> None:
        """Put the order that is named into the books and what it took into the lots, as a database would."""
        self._take()
        reversal.forget(self.books, self.books.seq)
        of_order = self._of_order(command.order_seq)
        if not of_order or of_order[0].kind == Kind.PINNED:
            return
        first, last = of_order[0], of_order[-1]
        if last.kind != Kind.CLEARED:
            self.books.past[command.order_seq] = Past(first.acceptor, Kind(last.kind))
            return
        later = [
            event
            for event in map(unpack_event, self.events)
            if event.order_seq == command.order_seq
        ]
        whole, reversed_, adjusted = (
            Amounts(
                *(
                    sign * sum(getattr(each, name) for each in later if each.kind == kind)
                    for name in ("units", "debit_cu", "value_cu", "fee_cu", "credited_units")
                )
            )
            for kind, sign in ((Kind.CLEARED, 1), (Kind.REVERSED, -1), (Kind.ADJUSTED, -1))
        )
        self.books.cleared[command.order_seq] = Cleared(
            first.seq, last.seq, first.caller, first.issuer, first.acceptor, first.member_no,
            first.rate_no, first.lot_no, first.reference, whole, reversed_, 0,
            last.cycle_no, adjusted, sum(each.kind == Kind.ADJUSTED for each in later),
        )  # fmt: skip
        if uses := self.uses.get(last.seq):
            self.lots.stored_uses[last.seq] = uses

    def _end(self, command: End | Pin) -> Any:
        if command.order_seq in self.books.holds:
            return self.books.decide(command)[0]
        self._take()
        of_order = self._of_order(command.order_seq)
        if not of_order or command.caller not in (0, of_order[0].caller):
            return unstored_refusal(Reason.ORDER_NOT_FOUND, command.order_seq)
        last = of_order[-1]
        if isinstance(command, Pin) or last.kind != command.kind:
            return unstored_refusal(WHY_ENDED[Kind(last.kind)], command.order_seq)
        from settlement.core.command import Entry

        return Entry(
            last.seq, last.order_seq, last.kind, last.reason, last.at_us, last.due_at_us,
            last.cycle_no, last.issuer, last.acceptor, last.units, last.debit_cu, last.value_cu,
            last.fee_cu, last.credited_units, last.lot_no, last.rate_no,
        )  # fmt: skip

    def _take(self) -> None:
        """Keep what one flush would write."""
        books = self.books
        changes, lots = books.take(), self.lots.take()
        if changes.events:
            digest = chain_digest(
                self.flushes[-1].digest if self.flushes else GENESIS,
                b"".join(changes.events),
                part=1,
                flush_no=len(self.flushes) + 1,
                epoch=1,
                first_seq=changes.first_seq,
                count=len(changes.events),
                at_us=books.clock_us,
            )
            self.flushes.append(
                FlushRow(
                    len(self.flushes) + 1,
                    1,
                    changes.first_seq,
                    len(changes.events),
                    books.clock_us,
                    digest,
                )
            )
        self.events += changes.events
        self.positions |= changes.positions
        self.obligations |= changes.obligations
        self.reversed |= changes.reversed
        self.accounts |= changes.accounts
        if moved := changes.funds:
            self.funds["funds"] |= moved.balances
            self.funds["shares"] |= moved.contributions
            self.funds["debts"] |= moved.debts
            for cycle_no, pair in moved.discharged:
                self.funds["discharged"][cycle_no, pair.one, pair.other] = tuple(pair)[2:]
        for order_seq in changes.ended:
            del self.holds[order_seq]
        self.holds |= {hold.order_seq: None for hold in changes.opened}
        assert self.holds.keys() >= changes.pinned.keys(), "a pin of a hold that is not stored"
        self.holds |= changes.pinned
        for change in changes.cycles:
            if change.kind is Kind.CYCLE_OPENED:
                self.cycles[change.cycle_no] = change.cycle_id, "open"
            else:
                state = "closed" if change.kind is Kind.CYCLE_CLOSED else "settled"
                self.cycles[change.cycle_no] = self.cycles[change.cycle_no][0], state
        for lot in lots.made:
            self.lot_rows[lot.lot_no] = lot
            self.left[lot.lot_no] = lot.earned_units
        for lot_no, seq, units, left in zip(*[iter(lots.uses)] * 4, strict=True):
            lot = self.lot_rows[lot_no]
            if units > 0:
                use = Use(lot_no, lot.earned_units, lot.expires_at_us, lot.made_seq, units)
                self.uses.setdefault(seq, []).append(use)
            self.left[lot_no] -= units
            assert self.left[lot_no] == left >= 0

    def figures(self) -> dict[str, Any]:
        """What is stored, in the words of `tests.simulation.compare`."""
        return {
            **{
                name: {key: cu for key, cu in rows.items() if cu}
                for name, rows in self.funds.items()
            },
            "positions": {key: cu for key, cu in self.positions.items() if cu},
            "obligations": self.obligations,
            "reversed": self.reversed,
            "accounts": self.accounts,
            "holds": self.holds,
            "cycles": self.cycles,
            "lots": {
                lot.lot_no: (
                    lot.member_no,
                    lot.merchant_no,
                    lot.earned_units,
                    self.left[lot.lot_no],
                )
                for lot in self.lot_rows.values()
            },
        }

    def audit(self) -> JournalAudit:
        """Audit the bytes as a stream, cut into pieces of odd sizes."""
        named = {
            event.order_seq for event in map(unpack_event, self.events) if event.kind in (6, 20)
        }
        audit = JournalAudit(AuditReport(part=1), reversed_orders=named)
        audit.expect(self.flushes)
        stream = b"".join((COPY_HEADER, *self.events, b"\xff\xff"))
        for start in range(0, len(stream), 777):
            audit.feed(stream[start : start + 777])
        audit.end_stream()
        return audit


def _columns(lot: Lot, left: int) -> tuple[int, ...]:
    return (
        lot.lot_no, lot.member_no, lot.merchant_no, lot.earned_units, left, lot.expires_at_us,
        lot.made_seq,
    )  # fmt: skip
