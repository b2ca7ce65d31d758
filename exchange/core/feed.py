"""The stream of events: which rows of the journal a party hears of, and what it may see of them.

The journal is the outbox. Nothing is written for the stream when an order is decided: an event that merchants hear
of is a projection of a row of `settlement.event`, whose numbers have no gap and become visible in their order. What
follows from figures and not from one event (a package that stands, a cap that is nearly used) is written once as a
*notice* and numbered by itself. A place in the stream is therefore two numbers.
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Final, NamedTuple, get_args

from schemas.values.ids import HOUSE, order_text
from schemas.values.reason import REASON_BY_NUMBER
from schemas.wire import events
from schemas.wire.fields import instant_text
from settlement.core.event import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    _OrderEvent = (
        events.OrderAccepted
        | events.OrderRefused
        | events.OrderCleared
        | events.OrderVoided
        | events.OrderExpired
        | events.OrderReversed
    )
    _CycleEvent = events.CycleClosed | events.CycleSettled
    _NoticeEvent = (
        events.BatchPublished
        | events.CapNear
        | events.CapBreached
        | events.CapEased
        | events.FundsLow
        | events.FundsEnough
    )

EVERYBODY: Final = 0
"""As the party of a happening or a notice: all merchants hear of it."""
TYPES: Final = get_args(events.EventType)

_CURSOR: Final = re.compile(events.CURSOR_PATTERN)
_NUMBER_MAX: Final = 2**63 - 1
_OF_ORDER: Final[Mapping[Kind, type[_OrderEvent]]] = {
    Kind.ACCEPTED: events.OrderAccepted,
    Kind.REFUSED: events.OrderRefused,
    Kind.CLEARED: events.OrderCleared,
    Kind.VOIDED: events.OrderVoided,
    Kind.EXPIRED: events.OrderExpired,
    Kind.REVERSED: events.OrderReversed,
}
_OF_CYCLE: Final[Mapping[Kind, type[_CycleEvent]]] = {
    Kind.CYCLE_CLOSED: events.CycleClosed,
    Kind.CYCLE_SETTLED: events.CycleSettled,
}
_OF_ADJUSTMENT: Final[Mapping[Kind, type[events.AdjustmentBooked]]] = {
    Kind.ADJUSTED: events.AdjustmentBooked
}
_OF_TRANSFER: Final[Mapping[Kind, type[events.PointsTransferred]]] = {
    Kind.GIVEN: events.PointsTransferred
}
KINDS: Final = {
    int(kind): str(made.__struct_config__.tag)
    for kind, made in {**_OF_ORDER, **_OF_ADJUSTMENT, **_OF_TRANSFER, **_OF_CYCLE}.items()
}
"""Kinds of the journal that anybody hears of, with the type of their events."""
_OF_NOTICE: Final[Mapping[str, type[_NoticeEvent]]] = {
    str(made.__struct_config__.tag): made
    for made in (
        events.BatchPublished,
        events.CapNear,
        events.CapBreached,
        events.CapEased,
        events.FundsLow,
        events.FundsEnough,
    )
}


class Cursor(NamedTuple):
    """A place in the stream: everything up to these two numbers was seen."""

    seq: int
    notice_no: int

    def __str__(self) -> str:
        """As it travels."""
        return f"{self.seq}.{self.notice_no}"


START: Final = Cursor(0, 0)


def parse_cursor(text: str) -> Cursor | None:
    """Read a place; None if it is none."""
    if not _CURSOR.match(text):
        return None
    seq, _, notice_no = text.partition(".")
    if max(int(seq), int(notice_no)) > _NUMBER_MAX:
        return None
    return Cursor(int(seq), int(notice_no))


class Happening(NamedTuple):
    """A row of the journal, as far as the stream needs it; attributes as in `settlement.core.event.Event`.

    `first_at_us` is the instant of the order's first event, and `cycle_id` the id of the row's cycle.
    """

    seq: int
    part: int
    kind: int
    order_seq: int
    at_us: int
    first_at_us: int
    due_at_us: int
    units: int
    debit_cu: int
    value_cu: int
    fee_cu: int
    credited_units: int
    cycle_no: int
    cycle_id: str
    caller: int
    issuer: int
    acceptor: int
    reason: int
    reference: str

    @property
    def event_type(self) -> str:
        """Type of the event."""
        return KINDS[self.kind]

    @property
    def parties(self) -> tuple[int, ...]:
        """Merchants that hear of it; `EVERYBODY` alone for all of them."""
        if self.kind in _OF_CYCLE:
            return (EVERYBODY,)
        return tuple({self.issuer, self.acceptor, self.caller} - {HOUSE})

    def concerns(self, merchant_no: int) -> bool:
        """Whether a merchant hears of it; the house (0) hears of everything."""
        return merchant_no == HOUSE or not {merchant_no, EVERYBODY}.isdisjoint(self.parties)


class Notice(NamedTuple):
    """Something that follows from figures, written once.

    Attributes:
        notice_no: Its number, in the order in which notices become visible.
        event_type: Type of the event.
        merchant_no: Who hears of it besides the house; `EVERYBODY` for all.
        at_us: When it was written.
        facts: `BatchFacts`, `CapFacts` or `FundsFacts`.
    """

    notice_no: int
    event_type: str
    merchant_no: int
    at_us: int
    facts: events.BatchFacts | events.CapFacts | events.FundsFacts

    def concerns(self, merchant_no: int) -> bool:
        """Whether a merchant hears of it; the house (0) hears of everything."""
        return merchant_no == HOUSE or self.merchant_no in (EVERYBODY, merchant_no)


def event_id(each: Happening | Notice) -> str:
    """Name of an event, the same over every repetition and for everybody who hears of it."""
    if isinstance(each, Notice):
        return f"ntc-{each.notice_no}"
    return f"evt-{each.part}-{each.seq}"


def parse_event_id(text: str) -> tuple[int, int]:
    """Number of the journal's row and of the notice that an event's name means; the other one is 0.

    Raises:
        ValueError: It names no event.
    """
    word, *numbers = text.split("-")
    if word == "ntc" and len(numbers) == 1:
        return 0, int(numbers[0])
    if word == "evt" and len(numbers) == 2:
        return int(numbers[1]), 0
    raise ValueError(f"not an event's name: {text!r}")


def project(each: Happening | Notice, merchant_no: int, codes: Mapping[int, str]) -> events.Event:
    """What a party sees of an event.

    Args:
        each: The event, which concerns that party.
        merchant_no: The party; 0 for the house, which sees both sides.
        codes: Merchants' codes by number.
    """
    timestamp = instant_text(each.at_us)
    if isinstance(each, Notice):
        return _OF_NOTICE[each.event_type](
            id=event_id(each),
            timestamp=timestamp,
            data=each.facts,  # type: ignore[arg-type] # a notice's facts are those of its type
        )
    kind = Kind(each.kind)
    if kind in _OF_CYCLE:
        facts = events.CycleFacts(cycle=each.cycle_id, number=each.cycle_no)
        return _OF_CYCLE[kind](id=event_id(each), timestamp=timestamp, data=facts)
    if kind in _OF_ADJUSTMENT:
        booked = events.AdjustmentFacts(
            adjustment_id=order_text(each.at_us, each.part, each.seq),
            order_id=order_text(each.first_at_us, each.part, each.order_seq)
            if each.order_seq
            else None,
            issuer=codes.get(each.issuer),
            acceptor=codes.get(each.acceptor),
            cycle=each.cycle_id,
            debit_cu=str(each.debit_cu),
            value_cu=str(each.value_cu),
            fee_cu=str(each.fee_cu),
            reference=each.reference,
        )
        return _OF_ADJUSTMENT[kind](id=event_id(each), timestamp=timestamp, data=booked)
    if kind in _OF_TRANSFER:
        moved = events.TransferFacts(
            order_id=order_text(each.first_at_us, each.part, each.order_seq),
            household_id=str(uuid.UUID(each.reference)),
            merchant=codes.get(each.issuer),
            units=str(each.units),
        )
        return _OF_TRANSFER[kind](id=event_id(each), timestamp=timestamp, data=moved)
    return _OF_ORDER[kind](
        id=event_id(each), timestamp=timestamp, data=_order_facts(each, merchant_no, codes)
    )


def _order_facts(each: Happening, merchant_no: int, codes: Mapping[int, str]) -> events.OrderFacts:
    of_issuer = merchant_no in (HOUSE, each.issuer)
    of_acceptor = merchant_no in (HOUSE, each.acceptor)
    # The journal writes a reversal's figures below zero.
    sign = -1 if each.kind == Kind.REVERSED else 1
    return events.OrderFacts(
        order_id=order_text(each.first_at_us, each.part, each.order_seq),
        issuer=codes.get(each.issuer),
        acceptor=codes.get(each.acceptor),
        cycle=each.cycle_id or None,
        units=str(sign * each.units) if of_issuer else None,
        debit_cu=str(sign * each.debit_cu) if of_issuer else None,
        value_cu=str(sign * each.value_cu) if of_acceptor else None,
        fee_cu=str(sign * each.fee_cu) if of_acceptor else None,
        credited_units=str(sign * each.credited_units)
        if of_acceptor and each.credited_units
        else None,
        hold_until=instant_text(each.due_at_us) if each.kind == Kind.ACCEPTED else None,
        reason=REASON_BY_NUMBER[each.reason].code if each.kind == Kind.REFUSED else None,
        reference=each.reference
        if each.reference and merchant_no in (HOUSE, each.caller)
        else None,
    )
