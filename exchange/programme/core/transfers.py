"""Transfers inside a household: decided in the writer, so that limits are exact in arrival order.

The giver's lots give in the order in which they would be spent, and each makes one lot of the
receiver's with the same expiry. No money moves: the same issuer owes as before.

Source: settlement/RULES.md, rules P5 and H4 to H6.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from exchange.programme.core.household import LOTS_MAX, Given, Household, within_limits
from exchange.programme.core.lots import available, lots_to_spend
from schemas.values.reason import REASON_BY_NUMBER, Reason
from settlement.core import points
from settlement.core.event import Kind

if TYPE_CHECKING:
    from exchange.programme.core.command import Transfer
    from exchange.programme.core.lotbook import LotBook
    from settlement.core.books import Books
    from settlement.core.command import Answer

Giver = tuple[int, int]
"""A member and the programme whose points they give."""


class TransferBook:
    """Households and earlier transfers: what a group has loaded, and what is not stored yet.

    While a group is decided the flush before it may be in flight, and all older ones have landed. A transfer
    that is in memory and was loaded as well counts once, by its number.
    """

    def __init__(self) -> None:
        """Start with nothing known."""
        self.households: dict[bytes, Household] = {}
        self.stored: dict[Giver, dict[int, Given]] = {}
        self._now: defaultdict[Giver, dict[int, Given]] = defaultdict(dict)
        self._before: defaultdict[Giver, dict[int, Given]] = defaultdict(dict)

    def given(self, giver: Giver) -> list[Given]:
        """A giver's transfers that may count against limits."""
        known = self.stored.get(giver, {}) | self._before.get(giver, {}) | self._now.get(giver, {})
        return list(known.values())

    def note(self, giver: Giver, seq: int, given: Given) -> None:
        """Remember a transfer until it is stored."""
        self._now[giver][seq] = given

    def turn(self) -> None:
        """A group was decided: the flush before it has landed by the time of the next."""
        if self._now or self._before or self.households:
            self._before, self._now = self._now, defaultdict(dict)
            self.households, self.stored = {}, {}


def decide_transfer(transfer: Transfer, book: LotBook, books: Books) -> Answer:
    """Decide one transfer on the loaded lots.

    Returns:
        The event of the giver and, for each lot that gave, one of the receiver; or the refusal alone.

    Raises:
        ValueError: It moves nothing: whoever made it was wrong.
    """
    reason = _why_not(transfer, book, books)
    if reason is not None:
        return [books.refuse(transfer, reason, merchant_no=transfer.merchant_no)]
    at_us, merchant_no = books.clock_us, transfer.merchant_no
    household = transfer.household.hex()
    purse = book.members[transfer.giver_no][merchant_no]
    given = points.move(books,
        transfer, Kind.GIVEN, merchant_no, transfer.giver_no, transfer.units, first=True,
        reference=household,
    )  # fmt: skip
    answer = [given]
    for lot, units in book.take_units(purse, at_us, transfer.units, given.seq):
        received = points.move(books,
            transfer, Kind.RECEIVED, merchant_no, transfer.receiver_no, units, step=len(answer),
            of_seq=given.seq, lot_no=book.last_lot_no + 1, due_at_us=lot.expires_at_us,
            reference=household,
        )  # fmt: skip
        book.make_lot(transfer.receiver_no, merchant_no, units, lot.expires_at_us, received.seq)
        answer.append(received)
    book.transfers.note(
        (transfer.giver_no, merchant_no), given.seq, Given(given.at_us, transfer.units)
    )
    return answer


def _why_not(transfer: Transfer, book: LotBook, books: Books) -> Reason | None:
    """Say why a transfer may not be, if it may not; nothing changes."""
    if transfer.reason:
        return REASON_BY_NUMBER[transfer.reason]
    if transfer.units <= 0:
        raise ValueError(f"a transfer of {transfer.units} units")
    assert book.catalogue is not None
    programme = book.catalogue.programmes.get(transfer.merchant_no)
    household = book.transfers.households.get(transfer.household)
    if household is None or household.merchant_no != transfer.merchant_no:
        return Reason.HOUSEHOLD_NOT_FOUND
    rules = household.rules
    if programme is None or not programme.hosted or rules is None or not rules.offered:
        return Reason.HOUSEHOLD_NOT_OFFERED
    if transfer.giver_no == transfer.receiver_no:
        return Reason.SAME_MEMBER
    if not {transfer.giver_no, transfer.receiver_no} <= household.members:
        return Reason.NOT_IN_HOUSEHOLD
    at_us, units = books.clock_us, transfer.units
    proof = book.catalogue.rules_of(transfer.merchant_no, at_us)
    if proof and proof.authority != "none" and transfer.caller != transfer.merchant_no:
        # A code is for spending at an acceptor; what else a giver agreed to, the issuer alone confirms.
        return Reason.MEMBER_NOT_AUTHORISED
    earlier = book.transfers.given((transfer.giver_no, transfer.merchant_no))
    if why := within_limits(rules, earlier, at_us=at_us, units=units):
        return why
    purse = book.members[transfer.giver_no].get(transfer.merchant_no)
    if not purse or available(purse, at_us, units) < units:
        return Reason.INSUFFICIENT_POINTS
    if lots_to_spend(purse, at_us, units) > LOTS_MAX:
        return Reason.AMOUNT_ABOVE_MAXIMUM
    return None
