"""What a proof says of an event in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from schemas.files.instant import instant_text
from schemas.files.proof import ProvenEvent
from settlement.core.adjustment import read_link
from settlement.core.event import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from settlement.core.event import Event


def event_in_words(event: Event, codes: Mapping[int, str]) -> ProvenEvent:
    """The figures of an event as a proof writes them; it is one of `settlement.core.event.LINES`."""
    link = read_link(event.reference) if event.kind == Kind.ADJUSTED else None
    return ProvenEvent(
        seq=event.seq,
        kind=_WORDS[Kind(event.kind)],
        cycle_no=event.cycle_no,
        cleared_at=instant_text(event.at_us),
        till_at=instant_text(event.occurred_at_us),
        issuer=codes.get(event.issuer, ""),
        acceptor=codes.get(event.acceptor, ""),
        units=str(event.units),
        debit_cu=str(event.debit_cu),
        value_cu=str(event.value_cu),
        fee_cu=str(event.fee_cu),
        reference=event.reference,
        reverses_seq=event.order_seq if event.kind == Kind.REVERSED else None,
        corrects_cycle_no=link.cycle_no if link else None,
        corrects_seq=link.seq if link else None,
    )


_WORDS: Final[Mapping[Kind, Literal["cleared", "adjusted", "reversed"]]] = {
    Kind.CLEARED: "cleared",
    Kind.ADJUSTED: "adjusted",
    Kind.REVERSED: "reversed",
}
