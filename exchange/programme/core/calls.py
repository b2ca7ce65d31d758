"""Calls on a hosted programme: points taken and given for orders that go on elsewhere, each by its reference.

What a call did is an event under the call's key, so a repeat gets the first answer. A call that ends an
earlier one names that one's key. The release of a hold that nobody knows refuses the hold under the
hold's own key: should it still come, it finds itself refused.

Source: settlement/RULES.md, rules L9 to L11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.programme.core.command import Credit, FindCall, GiveBack, Take, TakeBack
from exchange.programme.core.lots import DAY_US, RETURN_LIFE_US, available, sort_return
from schemas.values.amounts import AMOUNT_LIMIT
from schemas.values.reason import Reason
from settlement.core import points
from settlement.core.command import Command, unstored_refusal
from settlement.core.event import Kind

if TYPE_CHECKING:
    from exchange.core.catalogue import Catalogue
    from exchange.programme.core.lotbook import LotBook
    from settlement.core.books import Books
    from settlement.core.command import Entry

CALLS: Final = (Take, GiveBack, Credit, TakeBack, FindCall)
"""Commands that are decided here."""

BY_CALL: Final = frozenset({Kind.TAKEN, Kind.RETURNED, Kind.CREDITED, Kind.WITHDRAWN})
"""Kinds whose event carries the reference of a call, which names the order."""

AnyCall = Take | GiveBack | Credit | TakeBack | FindCall


class Earlier(NamedTuple):
    """A call that was decided before.

    Attributes:
        body: Its digest.
        entry: Its event.
        undone: Whether another call has undone it.
    """

    body: bytes
    entry: Entry
    undone: bool = False


class CallBook:
    """Earlier calls that later ones may name: what a group has loaded, and what is not stored yet.

    While a group is decided the flush before it may be in flight, and all older ones have landed; so what
    this group and the one before it did is kept here, and overrules what was loaded.
    """

    def __init__(self) -> None:
        """Start with nothing known."""
        self.stored: dict[bytes, Earlier] = {}
        self._now: dict[bytes, Earlier] = {}
        self._before: dict[bytes, Earlier] = {}

    def find(self, key: bytes) -> Earlier | None:
        """The call under a key; None if there is none."""
        return self._now.get(key) or self._before.get(key) or self.stored.get(key)

    def note(self, key: bytes, earlier: Earlier) -> None:
        """Remember what a call did, or that it was undone, until that is stored."""
        self._now[key] = earlier

    def turn(self) -> None:
        """A group was decided: the flush before it has landed by the time of the next."""
        self._before, self._now, self.stored = self._now, {}, {}


def decide_call(call: AnyCall, book: LotBook, books: Books) -> Entry:
    """Decide one call on a hosted programme; the member's lots are loaded, and so is the call that it names."""
    if isinstance(call, FindCall):
        return _find(call, book)
    # A tombstone, or a repeat within the group: what is decided stays decided.
    if (known := book.calls.find(call.key)) is not None:
        return known.entry
    assert book.catalogue is not None
    if reason := _why_not(call, book.catalogue):
        return books.refuse(call, reason, merchant_no=call.merchant_no)
    if isinstance(call, Take):
        return _take(call, book, books)
    if isinstance(call, Credit):
        return _credit(call, book, books)
    if isinstance(call, GiveBack):
        return _give_back(call, book, books)
    return _take_back(call, book, books)


def _why_not(call: Take | GiveBack | Credit | TakeBack, catalogue: Catalogue) -> Reason | None:
    """Say why no such call can be, if none can.

    Raises:
        ValueError: It moves nothing: whoever made it was wrong.
    """
    if call.units <= 0:
        raise ValueError(f"a call that moves {call.units} units")
    programme = catalogue.programmes.get(call.merchant_no)
    if programme is None:
        return Reason.UNKNOWN_MERCHANT
    if not programme.hosted:
        return Reason.NOT_HOSTED
    return Reason.AMOUNT_ABOVE_MAXIMUM if call.units >= AMOUNT_LIMIT else None


def _take(call: Take, book: LotBook, books: Books) -> Entry:
    """Points for an order that goes on elsewhere: the lots give now, first to expire first."""
    at_us = books.clock_us
    purse = book.members[call.member_no].get(call.merchant_no)
    if not purse or available(purse, at_us, call.units) < call.units:
        entry = books.refuse(call, Reason.INSUFFICIENT_POINTS, merchant_no=call.merchant_no)
    else:
        entry = points.move(
            books,
            call,
            Kind.TAKEN,
            call.merchant_no,
            call.member_no,
            call.units,
            of_seq=call.order_seq,
            reference=call.reference,
        )
        book.take_units(purse, at_us, call.units, entry.seq)
    book.calls.note(call.key, Earlier(call.body, entry))
    return entry


def _give_back(call: GiveBack, book: LotBook, books: Books) -> Entry:
    """Points of an order that does not stand: back into the very lots, as long as they live (rule L9).

    Raises:
        ValueError: The lots do not say what was taken of them.
    """
    earlier = book.calls.find(call.of_key)
    if earlier is None:
        hold = Command(caller=call.caller, key=call.of_key, body=call.of_body)
        refused = books.refuse(hold, Reason.ORDER_ALREADY_VOIDED, merchant_no=call.merchant_no)
        book.calls.note(call.of_key, Earlier(call.of_body, refused))
        return _nothing_back(call, books)
    if earlier.body != call.of_body:
        return books.refuse(call, Reason.MERCHANT_REFUSED, merchant_no=call.merchant_no)
    if earlier.undone or earlier.entry.kind == Kind.REFUSED:
        return _nothing_back(call, books)
    if earlier.entry.kind != Kind.TAKEN:
        return books.refuse(call, Reason.CALL_NOT_FOUND, merchant_no=call.merchant_no)
    uses = book.uses_of(earlier.entry.seq)
    if sum(use.units for use in uses) != earlier.entry.units:
        raise ValueError(f"the lots do not say what event {earlier.entry.seq} took")
    back = sort_return(uses, keeps_until_us=books.clock_us + 1)
    fresh_until_us = books.clock_us + RETURN_LIFE_US
    entry = points.move(
        books,
        call,
        Kind.RETURNED,
        call.merchant_no,
        call.member_no,
        call.units,
        of_seq=earlier.entry.seq,
        fresh_units=back.fresh_units,
        lot_no=book.last_lot_no + 1 if back.fresh_units else 0,
        due_at_us=fresh_until_us if back.fresh_units else 0,
        reference=call.reference,
    )
    book.put_back(
        call.member_no, call.merchant_no, back, fresh_until_us=fresh_until_us, seq=entry.seq
    )
    book.calls.note(call.of_key, earlier._replace(undone=True))
    return entry


def _nothing_back(call: GiveBack, books: Books) -> Entry:
    """A hold that never was, or that was given back before, is released too: nothing moves."""
    return points.move(
        books, call, Kind.RETURNED, call.merchant_no, call.member_no, 0, reference=call.reference
    )


def _credit(call: Credit, book: LotBook, books: Books) -> Entry:
    """New points for an order that came from elsewhere; they never outlive those they are given for (rule L10)."""
    assert book.catalogue is not None
    programme = book.catalogue.programmes[call.merchant_no]
    expires_at_us = books.clock_us + programme.valid_days * DAY_US
    if call.expires_at_us:
        expires_at_us = min(expires_at_us, call.expires_at_us)
    entry = points.move(
        books,
        call,
        Kind.CREDITED,
        call.merchant_no,
        call.member_no,
        call.units,
        of_seq=call.order_seq,
        lot_no=book.last_lot_no + 1,
        due_at_us=expires_at_us,
        reference=call.reference,
    )
    book.make_lot(call.member_no, call.merchant_no, call.units, expires_at_us, entry.seq)
    book.calls.note(call.key, Earlier(call.body, entry))
    return entry


def _take_back(call: TakeBack, book: LotBook, books: Books) -> Entry:
    """Points that were credited for an order that does not stand: exactly the credited lot, if it is whole."""
    earlier = book.calls.find(call.of_key)
    purse = book.members[call.member_no].get(call.merchant_no, [])
    lot = None
    if earlier is None or earlier.entry.kind != Kind.CREDITED:
        reason = Reason.CALL_NOT_FOUND
    elif earlier.body != call.of_body:
        reason = Reason.MERCHANT_REFUSED
    elif earlier.undone:
        reason = Reason.ORDER_ALREADY_VOIDED
    else:
        reason = Reason.INSUFFICIENT_POINTS
        lot_no = earlier.entry.lot_no
        lot = next((lot for lot in purse if lot.lot_no == lot_no), None)
    if earlier is None or lot is None or lot.units < lot.earned_units:
        return books.refuse(call, reason, merchant_no=call.merchant_no)
    entry = points.move(
        books,
        call,
        Kind.WITHDRAWN,
        call.merchant_no,
        call.member_no,
        call.units,
        of_seq=earlier.entry.seq,
        lot_no=lot.lot_no,
        reference=call.reference,
    )
    book.take_from_lot(lot, lot.units, entry.seq)
    book.calls.note(call.of_key, earlier._replace(undone=True))
    return entry


def _find(call: FindCall, book: LotBook) -> Entry:
    """What became of a call, as its repeat would be answered; nothing is written."""
    earlier = book.calls.find(call.of_key)
    if earlier is None:
        return unstored_refusal(Reason.CALL_NOT_FOUND)
    if earlier.body != call.of_body:
        return unstored_refusal(Reason.IDEMPOTENCY_CONFLICT)
    return earlier.entry
