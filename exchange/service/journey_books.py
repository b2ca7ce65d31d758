"""What a journey asks of the books, and what their answers mean to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from exchange.core.order import TABLE, Ask, Event, State
from schemas.values.reason import REASON_BY_NUMBER, Reason
from settlement.core.command import End, Order, Pin, unstored_refusal
from settlement.core.event import Kind

if TYPE_CHECKING:
    import uuid

    from adapters.kit.manifest import Spend
    from settlement.core.command import Entry

_NO_BODY: Final = bytes(16)
_US: Final = 1_000_000
_OF_KIND: Final = {Kind.PINNED: Event.PINNED, Kind.CLEARED: Event.POSTED, Kind.VOIDED: Event.VOIDED}
_OF_REFUSAL: Final = {
    Reason.ORDER_ALREADY_VOIDED: Event.GONE,
    Reason.HOLD_EXPIRED: Event.GONE,
    Reason.CREDIT_UNDER_WAY: Event.PINNED,
}


def order_of(order: Order, spend: Spend) -> Order:
    """The order as the books accept it: held here no longer than the issuer's system holds."""
    if spend.way != "hold":
        return order
    return msgspec.structs.replace(order, hold_us=min(order.hold_us, spend.hold_seconds_max * _US))


def pin_of(caller: int, order: uuid.UUID, order_seq: int) -> Pin:
    """Keep an order's hold until its credit is decided."""
    return Pin(caller=caller, key=order.bytes, body=_NO_BODY, order_seq=order_seq)


def end_of(
    caller: int, order: uuid.UUID, order_seq: int, kind: Kind, *, proven: bool = False
) -> End:
    """Clear or void an order.

    Args:
        caller: Who sent it.
        order: Its id.
        order_seq: Its place.
        kind: CLEARED or VOIDED.
        proven: For VOIDED: whether it is proven that no credit stands.
    """
    return End(
        caller=caller,
        key=order.bytes,
        body=_NO_BODY,
        order_seq=order_seq,
        kind=int(kind),
        proven=proven,
    )


def event_of(state: State, ask: Ask, entry: Entry) -> Event:
    """What an answer means to an order that the books have accepted.

    Raises:
        ValueError: It cannot be the answer to this.
    """
    if entry.kind != Kind.REFUSED:
        return _OF_KIND[Kind(entry.kind)]
    event = _OF_REFUSAL.get(REASON_BY_NUMBER[entry.reason])
    if event is None or (state, event) not in TABLE:
        raise ValueError(f"the books refuse to {ask.name} what is {state.name}: {entry.reason}")
    return event


def refusal_of(reason: Reason, order_seq: int, accepted_at_us: int) -> Entry:
    """What a till hears of an order that does not stand; place and instant as in `Journey`."""
    return msgspec.structs.replace(unstored_refusal(reason, order_seq), at_us=accepted_at_us)
