"""The hosted lots that a writer holds in memory, and the decisions on them.

The writer alone changes lots, so what was loaded once stays true until a flush is lost; then the
whole object is thrown away. Each decision also books its value through `Books`, in one arrival order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exchange.programme.core import giving_back
from exchange.programme.core.calls import CALLS, CallBook, decide_call
from exchange.programme.core.command import (
    Accrual,
    Basket,
    Compensate,
    LapseLots,
    MemberOrder,
    Purchase,
    Transfer,
)
from exchange.programme.core.compensation import cost_of
from exchange.programme.core.guard import Guard, Spend
from exchange.programme.core.lots import (
    DAY_US,
    RETURN_LIFE_US,
    Lot,
    Purse,
    Return,
    Use,
    add_lot,
    available,
    drop_expired,
    first_live,
    put_back,
    spend,
)
from exchange.programme.core.transfers import TransferBook, decide_transfer
from schemas.values.amounts import AMOUNT_LIMIT, CU_PER_FEN
from schemas.values.rate import fee_floor
from schemas.values.reason import REASON_BY_NUMBER, Reason
from settlement.core import headroom, hold, points
from settlement.core.books import settled_until
from settlement.core.command import Adjust, End, Order, Pin, Reverse, unstored_refusal
from settlement.core.event import Kind
from settlement.core.stretch import CAP_EXCEEDED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exchange.core.catalogue import Catalogue
    from settlement.core.books import Books
    from settlement.core.command import Answer, Command, Entry
    from settlement.core.stretch import Stretch


_CLEARED, _ACCEPTED = int(Kind.CLEARED), int(Kind.ACCEPTED)
"""As a plain int: comparing with a member of an enum costs several times as much."""

_INSUFFICIENT = Reason.INSUFFICIENT_POINTS.number

USE_FIGURES = 4
"""What an event took of a lot: lot number, the event's sequence number, units taken (below 0 for units that it
put back), units left."""


class LotChanges(NamedTuple):
    """What one flush writes of lots.

    Attributes:
        made: New lots.
        uses: What events took of lots, `USE_FIGURES` numbers for each use: one list of plain integers,
            because tens of thousands of tuples a second would keep the garbage collector busy.
        lapsed_through_us: How far an expiry run in this flush has come; 0 without one.
        owed: Reversals whose points the issuer's own system is to give back: event, and member there.
    """

    made: list[Lot]
    uses: list[int]
    lapsed_through_us: int
    owed: list[tuple[int, str]]


class LotBook:
    """Lots of the members that commands have concerned so far."""

    def __init__(self, *, last_lot_no: int, guard: Guard | None = None) -> None:
        """Start with no member loaded.

        Args:
            last_lot_no: Number of the newest lot that is stored.
            guard: What protects members; by default one that remembers nothing yet.
        """
        self.catalogue: Catalogue | None = None
        self.calls = CallBook()
        self.transfers = TransferBook()
        self.guard = guard or Guard({})
        self.last_lot_no = last_lot_no
        self.members: dict[int, dict[int, Purse]] = {}
        self.expired: dict[bytes, list[Lot]] = {}
        self.stored_uses: dict[int, list[Use]] = {}
        self.owed: list[tuple[int, str]] = []
        self._made: list[Lot] = []
        self._uses: list[int] = []
        self._spent: dict[int, Lot] = {}
        self._before: tuple[list[int], dict[int, Lot]] = ([], {})
        self._lapsed_us = 0

    # Loading and writing ---------------------------------------------------------------------------

    @property
    def loaded(self) -> int:
        """How many members are in memory."""
        return max(len(self.members), len(self.guard.members))

    def put_members(self, members: Iterable[int], lots: Iterable[Lot]) -> None:
        """Take in the stored lots of members that were not loaded, in order of spending."""
        for member_no in members:
            self.members[member_no] = {}
        for lot in lots:
            self.members[lot.member_no].setdefault(lot.merchant_no, []).append(lot)

    def take(self) -> LotChanges:
        """Hand over what changed since the last call."""
        changes = LotChanges(self._made, self._uses, self._lapsed_us, self.owed)
        self.owed = []
        self._before = self._uses, self._spent
        self._made, self._uses, self._lapsed_us = [], [], 0
        self._spent = {}
        self.stored_uses = {}
        self.calls.turn()
        self.transfers.turn()
        return changes

    # Decisions -------------------------------------------------------------------------------------

    def decide(self, command: Command, books: Books) -> Answer:
        """Decide one command on lots and books.

        Raises:
            TypeError: No command of the hosted programme.
        """
        if type(command) is Order:
            return [self._order(command, books)]
        if isinstance(command, MemberOrder):
            return [self._member_order(command, books)]
        if isinstance(command, Basket):
            return self._basket(command, books)
        if isinstance(command, Purchase):
            return self._purchase(command, books)
        if isinstance(command, Compensate):
            return self._compensate(command, books)
        if isinstance(command, Accrual):
            return [self._accrual(command, books)]
        if isinstance(command, LapseLots):
            return self._lapse(command, books)
        if isinstance(command, Reverse):
            return [giving_back.decide(command, self, books)]
        if isinstance(command, CALLS):
            return [decide_call(command, self, books)]
        if isinstance(command, Transfer):
            return decide_transfer(command, self, books)
        raise TypeError(f"not a command on hosted points: {type(command).__name__}")

    def _order(self, order: Order, books: Books, step: int = 0) -> Entry:
        """An order of a hosted issuer: the lots give the units and the order clears, or neither."""
        reason = None
        if order.occurred_at_us:
            reason = books.till_time(order.occurred_at_us)
        if order.hold_us:
            reason = Reason.HOLD_NOT_OFFERED
        if reason:
            return books.refuse_order(order, reason.number, step)
        at_us = order.occurred_at_us or books.clock_us
        purse = self.members[order.member_no].get(order.issuer)
        units = order.units
        if not purse or available(purse, at_us, units) < units:
            return books.refuse_order(order, Reason.INSUFFICIENT_POINTS.number, step)
        if order.credited_units:
            return self._exchange(order, books, purse, at_us, step)
        entry = books.clear(
            order, step, order.issuer, order.acceptor, order.member_no, units, order.debit_cu,
            order.value_cu, order.fee_cu, order.rate_no, at_us, 0, 0, 0, order.reference,
        )  # fmt: skip
        if entry.kind == _CLEARED:
            self.take_units(purse, at_us, units, entry.seq)
        return entry

    def decide_stretch(self, stretch: Stretch) -> None:
        """Decide a stretch of plain orders as `_order` decides each of them: points first, then headroom."""
        members, reasons, clears = self.members, stretch.reasons, stretch.clears
        note, spent = self._uses.extend, self._spent
        for row, (issuer, acceptor, member_no, units, debit_cu, credit_cu, at_us) in enumerate(
            stretch.turns()
        ):
            if reasons[row]:
                continue
            purse = members[member_no].get(issuer)
            lot = purse[0] if purse else None
            if lot is not None and lot.units > units and lot.expires_at_us > at_us:
                # The usual case, written out: the lot that is spent first has more than enough.
                if clears(issuer, acceptor, debit_cu, credit_cu):
                    lot.units = left_units = lot.units - units
                    spent[lot.lot_no] = lot
                    note((lot.lot_no, stretch.first_seq + row, units, left_units))
                else:
                    reasons[row] = CAP_EXCEEDED
            elif purse is None or available(purse, at_us, units) < units:
                reasons[row] = _INSUFFICIENT
            elif clears(issuer, acceptor, debit_cu, credit_cu):
                self.take_units(purse, at_us, units, stretch.first_seq + row)
            else:
                reasons[row] = CAP_EXCEEDED

    def _exchange(self, order: Order, books: Books, purse: Purse, at_us: int, step: int) -> Entry:
        """New points at the acceptor, which never live longer than those they came from (rule L5).

        The new lot ends with the first of the lots that gave, or after the acceptor's own term.
        """
        assert self.catalogue is not None
        acceptor = self.catalogue.programmes.get(order.acceptor)
        oldest = first_live(purse, at_us)
        assert oldest is not None
        if acceptor is None or not acceptor.hosted:
            return books.refuse_order(order, Reason.NOT_HOSTED.number, step)
        due_at_us = min(oldest.expires_at_us, at_us + acceptor.valid_days * DAY_US)
        entry = books.clear(
            order, step, order.issuer, order.acceptor, order.member_no, order.units, order.debit_cu,
            order.value_cu, order.fee_cu, order.rate_no, at_us, order.credited_units,
            self.last_lot_no + 1, due_at_us, order.reference,
        )  # fmt: skip
        if entry.kind == _CLEARED:
            self.take_units(purse, at_us, order.units, entry.seq)
            self.make_lot(
                order.member_no, order.acceptor, order.credited_units, due_at_us, entry.seq
            )
        return entry

    def _member_order(self, order: MemberOrder, books: Books, step: int = 0) -> Entry:
        """An order under its issuer's rules for members, or with a code (rules A1 to A6).

        The till time comes first: in a ledger made for replay it is the clock that the rules go by.
        """
        if order.reason:
            return books.refuse_order(order, order.reason, step)
        if late := books.till_time(order.occurred_at_us):
            return books.refuse_order(order, late.number, step)
        assert self.catalogue is not None
        rules = self.catalogue.rules_of(order.issuer, books.clock_us)
        spend_ = _spend_of(order)
        if why := self.guard.why_not(spend_, rules, books):
            return books.refuse_order(order, why.number, step)
        entry = self._order(order, books, step) if order.hosted else books.decide(order)[0]
        if entry.kind in (_CLEARED, _ACCEPTED):
            self.guard.note(spend_, rules, entry)
        return entry

    # Baskets ---------------------------------------------------------------------------------------

    def _basket(self, basket: Basket, books: Books) -> Answer:
        """Several orders for one bill: all of them or none, or each that fits (rules G1 to G4).

        Raises:
            ValueError: The parts do not belong together; whoever made the basket was wrong.
        """
        _check_basket(basket)
        if not basket.partial:
            why = self._why_not_all(basket, books)
            if any(why):
                return _refuse_basket(basket, books, why)
        answer = [self._member_order(part, books, step) for step, part in enumerate(basket.orders)]
        for order_seq in basket.accepted:
            answer += books.decide(_further(basket, order_seq))
        if not basket.partial and any(entry.kind == Kind.REFUSED for entry in answer):
            raise AssertionError("a part of a basket was refused that had been found to fit")
        return answer

    def _why_not_all(self, basket: Basket, books: Books) -> list[Reason | None]:
        """Say of each part why it may not be, if it may not, beside those before it that may.

        No part credits an issuer of another one, since all have one acceptor; so looking at debits
        alone is exact.
        """
        why: list[Reason | None] = []
        fitting: list[MemberOrder] = []
        for part in basket.orders:
            reason = self._why_not(part, fitting, books)
            why.append(reason)
            if reason is None:
                fitting.append(part)
        return why + [
            hold.why_not_open(books, order_seq, basket.caller) for order_seq in basket.accepted
        ]

    def _why_not(self, part: MemberOrder, beside: list[MemberOrder], books: Books) -> Reason | None:
        """Say what `_member_order` would refuse a part with, after those beside it."""
        if part.reason:
            return REASON_BY_NUMBER[part.reason]
        assert self.catalogue is not None
        rules = self.catalogue.rules_of(part.issuer, books.clock_us)
        spends = [_spend_of(other) for other in beside]
        if why := self.guard.why_not(_spend_of(part), rules, books, beside=spends):
            return why
        siblings = [other for other in beside if other.issuer == part.issuer]
        units = part.units + sum(
            other.units for other in siblings if other.member_no == part.member_no
        )
        purse = self.members[part.member_no].get(part.issuer)
        if not purse or available(purse, books.clock_us, units) < units:
            return Reason.INSUFFICIENT_POINTS
        if part.credited_units:
            acceptor = self.catalogue.programmes.get(part.acceptor)
            if acceptor is None or not acceptor.hosted:
                return Reason.NOT_HOSTED
        return headroom.why_not_clear(
            books,
            part.issuer,
            part.acceptor,
            part.debit_cu,
            beside_cu=sum(other.debit_cu for other in siblings),
        )

    # Purchases -------------------------------------------------------------------------------------

    def _purchase(self, purchase: Purchase, books: Books) -> Answer:
        """One purchase: redemptions over several issuers, then the accrual (rules L2 to L4)."""
        assert self.catalogue is not None
        reason = books.till_time(purchase.occurred_at_us)
        programme = self.catalogue.programmes.get(purchase.merchant_no)
        if reason is None and (programme is None or purchase.merchant_no not in books.accounts):
            reason = Reason.UNKNOWN_MERCHANT
        elif reason is None and programme is not None and not programme.hosted:
            reason = Reason.NOT_HOSTED
        if reason is not None or programme is None:
            return [
                books.refuse(
                    purchase, reason or Reason.UNKNOWN_MERCHANT, merchant_no=purchase.merchant_no
                )
            ]
        units = purchase.amount_fen * programme.earn_num // programme.earn_den
        if max(units, purchase.discount_fen * CU_PER_FEN) >= AMOUNT_LIMIT:
            return [
                books.refuse(
                    purchase, Reason.AMOUNT_ABOVE_MAXIMUM, merchant_no=purchase.merchant_no
                )
            ]
        at_us = purchase.occurred_at_us or books.clock_us
        answer: Answer = []
        need_cu = purchase.discount_fen * CU_PER_FEN
        if need_cu:
            need_cu = self._redeem(purchase, books, at_us, need_cu, answer)
        expires_at_us = at_us + programme.valid_days * DAY_US
        entry = points.accrue(books,
            purchase, len(answer), purchase.merchant_no, purchase.member_no, units,
            self.last_lot_no + 1 if units else 0, expires_at_us, at_us, need_cu, purchase.reference,
        )  # fmt: skip
        answer.append(entry)
        if units:
            self.make_lot(purchase.member_no, purchase.merchant_no, units, expires_at_us, entry.seq)
        return answer

    def _redeem(
        self, purchase: Purchase, books: Books, at_us: int, need_cu: int, answer: Answer
    ) -> int:
        """Pay a discount with points of other programmes, the first to expire first.

        Returns:
            CU that nobody's points paid.
        """
        catalogue = self.catalogue
        assert catalogue is not None
        acceptor, member_no = purchase.merchant_no, purchase.member_no
        fee_bps = catalogue.fee_bps(at_us)
        candidates = []
        for issuer, purse in self.members[member_no].items():
            if issuer == acceptor or not purse:
                continue
            lot: Lot | None = purse[0]
            if purse[0].expires_at_us <= at_us:
                drop_expired(purse, settled_until(books))
                lot = first_live(purse, at_us)
            if lot is not None:
                candidates.append((lot.expires_at_us, lot.lot_no, issuer, purse))
        candidates.sort()
        for _, _, issuer, purse in candidates:
            numbered = catalogue.spend_rate(issuer, at_us)
            if numbered is None:
                continue
            rate = numbered.rate
            units = available(purse, at_us, rate.units_ceil(need_cu))
            debit_cu = rate.cu_floor(units)
            value_cu = min(need_cu, debit_cu)
            if not value_cu:
                continue
            rules = spend_ = None
            if catalogue.member_rules:
                rules = catalogue.rules_of(issuer, books.clock_us)
            if rules is not None:
                spend_ = Spend(purchase.caller, issuer, member_no, debit_cu)
                if why := self.guard.why_not(spend_, rules, books):
                    order = Order(
                        purchase.caller, purchase.key, purchase.body, issuer, acceptor, member_no,
                        units, debit_cu, value_cu, fee_floor(value_cu, fee_bps), numbered.rate_no,
                        at_us, reference=purchase.reference,
                    )  # fmt: skip
                    answer.append(books.refuse_order(order, why.number, len(answer)))
                    continue
            entry = books.clear(
                purchase, len(answer), issuer, acceptor, member_no, units, debit_cu, value_cu,
                fee_floor(value_cu, fee_bps), numbered.rate_no, at_us, 0, 0, 0, purchase.reference,
            )  # fmt: skip
            answer.append(entry)
            if entry.kind == _CLEARED:
                if spend_ is not None:
                    self.guard.note(spend_, rules, entry)
                self.take_units(purse, at_us, units, entry.seq)
                need_cu -= value_cu
                if not need_cu:
                    break
        return need_cu

    def _compensate(self, command: Compensate, books: Books) -> Answer:
        """Points for a member at the cost of the merchant at fault, all of it or nothing (rule W7).

        No cap refuses what they cost (`cost_of`), as for any adjustment; the points live at least
        as long as those that come back.
        """
        assert self.catalogue is not None
        if self._why_not_accrue(command, books) or command.at_fault == command.merchant_no:
            return [self._accrual(command, books, life_us=RETURN_LIFE_US)]
        cost_cu = cost_of(
            self.catalogue, at_fault=command.at_fault, merchant_no=command.merchant_no,
            units=command.units, at_us=books.clock_us,
        )  # fmt: skip
        if isinstance(cost_cu, Reason):
            return [books.refuse(command, cost_cu, merchant_no=command.merchant_no)]
        owed = Adjust(
            command.caller, command.key, command.body, 0, command.at_fault, command.merchant_no,
            cost_cu, cost_cu, 0, command.reference,
        )  # fmt: skip
        [adjusted] = books.decide(owed)
        if adjusted.kind == Kind.REFUSED:
            return [adjusted]
        return [adjusted, self._accrual(command, books, step=1, life_us=RETURN_LIFE_US)]

    def _why_not_accrue(self, accrual: Accrual, books: Books) -> Reason | None:
        """Say why points cannot be given, if they cannot; in a ledger made for replay the clock goes on."""
        assert self.catalogue is not None
        programme = self.catalogue.programmes.get(accrual.merchant_no)
        reason = (
            REASON_BY_NUMBER[accrual.reason]
            if accrual.reason
            else books.till_time(accrual.occurred_at_us)
        )
        if reason is None and (programme is None or accrual.merchant_no not in books.accounts):
            reason = Reason.UNKNOWN_MERCHANT
        elif reason is None and programme is not None and not programme.hosted:
            reason = Reason.NOT_HOSTED
        elif reason is None and accrual.units <= 0:
            reason = Reason.AMOUNT_BELOW_MINIMUM
        elif reason is None and accrual.units >= AMOUNT_LIMIT:
            reason = Reason.AMOUNT_ABOVE_MAXIMUM
        elif reason is None and 0 < accrual.expires_at_us <= books.clock_us:
            reason = Reason.TILL_TIME_OUT_OF_RANGE
        return reason

    def _accrual(self, accrual: Accrual, books: Books, *, step: int = 0, life_us: int = 0) -> Entry:
        """Points given by their own merchant; no value moves between parties."""
        assert self.catalogue is not None
        if reason := self._why_not_accrue(accrual, books):
            return books.refuse(accrual, reason, merchant_no=accrual.merchant_no)
        programme = self.catalogue.programmes[accrual.merchant_no]
        at_us = accrual.occurred_at_us or books.clock_us
        expires_at_us = accrual.expires_at_us or at_us + max(programme.valid_days * DAY_US, life_us)
        entry = points.accrue(books,
            accrual, step, accrual.merchant_no, accrual.member_no, accrual.units, self.last_lot_no + 1,
            expires_at_us, at_us, 0, accrual.reference,
        )  # fmt: skip
        self.make_lot(
            accrual.member_no, accrual.merchant_no, accrual.units, expires_at_us, entry.seq
        )
        return entry

    def _lapse(self, command: LapseLots, books: Books) -> Answer:
        """Breakage of the lots that were loaded for this command (rule L6)."""
        assert self.catalogue is not None
        answer: Answer = []
        self.guard.forget(books.clock_us)
        loaded = self.expired.pop(command.key, None)
        if loaded is None:
            return answer
        as_of_us = min(command.as_of_us, settled_until(books))
        for stored in loaded:
            # A command before this one in the same group may have spent from the lot.
            lot = self._spent.get(stored.lot_no, stored)
            if lot.expires_at_us > as_of_us or not lot.units:
                continue
            rate = self.catalogue.spend_rate(lot.merchant_no, lot.expires_at_us)
            worth_cu = rate.rate.cu_floor(lot.units) if rate else 0
            entry = points.lapse(books,
                command, len(answer), lot.merchant_no, lot.member_no, lot.units, lot.lot_no,
                lot.expires_at_us, worth_cu, rate.rate_no if rate else 0,
            )  # fmt: skip
            answer.append(entry)
            self._forget(lot)
            self._uses.extend((lot.lot_no, entry.seq, lot.units, 0))
            lot.units = 0
            self._spent[lot.lot_no] = lot
        # A run that its limit ended goes on at the instant where it stopped.
        stopped_us = loaded[-1].expires_at_us if len(loaded) >= command.limit else as_of_us
        self._lapsed_us = max(self._lapsed_us, min(stopped_us, as_of_us))
        return answer

    # Units that come back --------------------------------------------------------------------------

    def uses_of(self, seq: int) -> list[Use]:
        """What an event took of its member's lots, in order of spending; empty if it took nothing.

        An event whose flush may not have landed yet is found in memory, where its uses are until the next
        flush but one; any other must have been put into `stored_uses` for this group.
        """
        if stored := self.stored_uses.get(seq):
            return stored
        found: list[Use] = []
        for uses, lots in ((self._uses, self._spent), self._before):
            for place in range(0, len(uses), USE_FIGURES):
                lot_no, of_seq, units, _ = uses[place : place + USE_FIGURES]
                if of_seq == seq and units > 0:
                    lot = lots[lot_no]
                    found.append(
                        Use(lot_no, lot.earned_units, lot.expires_at_us, lot.made_seq, units)
                    )
            if found:
                break
        return found

    def put_back(
        self, member_no: int, merchant_no: int, back: Return, *, fresh_until_us: int, seq: int
    ) -> None:
        """Put units back that an event returns, after the event was written.

        Args:
            member_no: Whose, and loaded.
            merchant_no: Of which programme.
            back: Where they go (`sort_return`).
            fresh_until_us: When the new lot expires, if there is one; its number is `last_lot_no + 1`.
            seq: The event.
        """
        purse = self.members[member_no].setdefault(merchant_no, [])
        for use in back.kept:
            lot = put_back(purse, use, member_no=member_no, merchant_no=merchant_no)
            self._spent[lot.lot_no] = lot
            self._uses.extend((lot.lot_no, seq, -use.units, lot.units))
        if back.fresh_units:
            self.make_lot(member_no, merchant_no, back.fresh_units, fresh_until_us, seq)

    def take_from_lot(self, lot: Lot, units: int, seq: int) -> None:
        """Take units for an event from one given lot, which has them."""
        lot.units -= units
        if not lot.units:
            self._forget(lot)
        self._spent[lot.lot_no] = lot
        self._uses.extend((lot.lot_no, seq, units, lot.units))

    # Lots ------------------------------------------------------------------------------------------

    def _forget(self, lot: Lot) -> None:
        """Take a lapsing lot out of its member's purse, if that is loaded."""
        purse = self.members.get(lot.member_no, {}).get(lot.merchant_no)
        if purse:
            purse[:] = [kept for kept in purse if kept.lot_no != lot.lot_no]

    def take_units(self, purse: Purse, at_us: int, units: int, seq: int) -> list[tuple[Lot, int]]:
        """Take units for an event from lots that were found to have them; the lots, each with what it gave."""
        touched = spend(purse, at_us, units)
        for lot, given in touched:
            self._spent[lot.lot_no] = lot
            self._uses.extend((lot.lot_no, seq, given, lot.units))
        return touched

    def make_lot(
        self, member_no: int, merchant_no: int, units: int, expires_at_us: int, made_seq: int
    ) -> None:
        """Make the next lot for an event."""
        self.last_lot_no += 1
        lot = Lot(self.last_lot_no, member_no, merchant_no, units, units, expires_at_us, made_seq)
        add_lot(self.members[member_no].setdefault(merchant_no, []), lot)
        self._made.append(lot)


def _spend_of(order: MemberOrder) -> Spend:
    return Spend(
        order.caller,
        order.issuer,
        order.member_no,
        order.debit_cu,
        order.code,
        order.code_until_us,
    )


def _check_basket(basket: Basket) -> None:
    """Hold what a basket is: hosted orders under its key at one acceptor, taken now, and orders to go on with.

    Raises:
        ValueError: It is something else.
    """
    if basket.then not in (Kind.PINNED, Kind.CLEARED) or not (basket.orders or basket.accepted):
        raise ValueError("a basket of nothing, or with another end")
    if len(set(basket.accepted)) != len(basket.accepted):
        raise ValueError("an order twice in one basket")
    for part in basket.orders:
        if (
            (part.caller, part.key, part.body) != (basket.caller, basket.key, basket.body)
            or part.acceptor != basket.orders[0].acceptor
            or (not part.hosted and not part.reason)
            or part.hold_us
            or part.occurred_at_us
        ):
            raise ValueError("a part that cannot be in its basket")


def _further(basket: Basket, order_seq: int) -> Pin | End:
    """What becomes of an accepted order in a basket."""
    if basket.then == Kind.PINNED:
        return Pin(caller=basket.caller, key=basket.key, body=basket.body, order_seq=order_seq)
    return End(
        caller=basket.caller,
        key=basket.key,
        body=basket.body,
        order_seq=order_seq,
        kind=basket.then,
    )


def _refuse_basket(basket: Basket, books: Books, why: list[Reason | None]) -> Answer:
    """Write down that no part was done: those that could not be say why, the others that they were not."""
    reasons = [reason or Reason.BASKET_NOT_COVERED for reason in why]
    refused = [
        books.refuse_order(part, reason.number, step)
        for step, (part, reason) in enumerate(zip(basket.orders, reasons, strict=False))
    ]
    return refused + [
        unstored_refusal(reason, order_seq)
        for order_seq, reason in zip(basket.accepted, reasons[len(refused) :], strict=True)
    ]
