"""The hosted programme riding on the clearing pipeline: lots are read, decided and written with each flush."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, cast

from exchange.programme.core.calls import CALLS
from exchange.programme.core.command import (
    Accrual,
    Basket,
    Credit,
    FindCall,
    GiveBack,
    LapseLots,
    MemberOrder,
    Purchase,
    Take,
    TakeBack,
    Transfer,
)
from exchange.programme.core.guard import WINDOW_US, Guard
from exchange.programme.core.household import MONTH_US
from exchange.programme.core.lotbook import LotBook
from exchange.programme.store import calls as call_store
from exchange.programme.store import guard as guard_store
from exchange.programme.store import lots as store
from exchange.programme.store import transfers as transfer_store
from exchange.store.catalogue import fetch_catalogue
from exchange.store.journeys import insert_returns
from settlement.core.books import BACKDATE_US
from settlement.core.command import Order, key_name
from settlement.service.clearing import PART

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Connection

    from exchange.core.catalogue import Catalogue
    from settlement.core.books import Books
    from settlement.core.columns import OrderColumns
    from settlement.core.command import Answer, Command
    from settlement.core.reversal import Cleared
    from settlement.core.stretch import Stretch

CATALOGUE_SECONDS = 1.0
MEMBERS_MAX = 400_000


class ProgrammeRider:
    """Keeps the lots of the members that were concerned; a `Rider` of the writer."""

    def __init__(self, *, part: int = PART) -> None:
        """Start empty; the first load reads what it needs."""
        self._part = part
        self._book: LotBook | None = None
        self._catalogue: Catalogue | None = None
        self._loaded_at = 0.0

    def needs_quiet(self, commands: Sequence[Command]) -> bool:
        """An expiry run reads lots by their expiry, so nothing may be on its way to them."""
        return any(isinstance(command, LapseLots) for command in commands) or (
            self._book is not None and self._book.loaded > MEMBERS_MAX
        )

    async def load(
        self,
        conn: Connection,
        commands: Sequence[Command],
        columns: Sequence[OrderColumns],
        reversals: Sequence[Cleared],
        at_us: int,
    ) -> None:
        """Load reference data when it may be stale, and the lots of members not seen before."""
        merchants: set[int] = set()
        members = {order.member_no for order in reversals}
        protected: list[MemberOrder | Purchase] = []
        lapses: list[LapseLots] = []
        calls: list[Take | GiveBack | Credit | TakeBack | FindCall] = []
        transfers: list[Transfer] = []
        for command in commands:
            kind = type(command)
            if kind is Order:
                order = cast("Order", command)
                if order.hosted:
                    members.add(order.member_no)
                    if order.credited_units:
                        merchants.add(order.acceptor)
            elif isinstance(command, Purchase | Accrual):
                members.add(command.member_no)
                merchants.add(command.merchant_no)
                if isinstance(command, Purchase):
                    protected.append(command)
            elif isinstance(command, MemberOrder | Basket):
                orders = command.orders if isinstance(command, Basket) else [command]
                protected += orders
                members.update(order.member_no for order in orders if order.hosted)
                merchants.update(order.acceptor for order in orders if order.credited_units)
            elif isinstance(command, LapseLots):
                lapses.append(command)
            elif isinstance(command, CALLS):
                calls.append(command)
                if not isinstance(command, FindCall):
                    members.add(command.member_no)
                    merchants.add(command.merchant_no)
            elif isinstance(command, Transfer) and not command.reason:
                transfers.append(command)
                members |= {command.giver_no, command.receiver_no}
                merchants.add(command.merchant_no)
        if (
            self._catalogue is None
            or monotonic() - self._loaded_at > CATALOGUE_SECONDS
            or not merchants <= self._catalogue.programmes.keys()
        ):
            self._catalogue = await fetch_catalogue(conn)
            self._loaded_at = monotonic()
        if self._book is None or self._book.loaded > MEMBERS_MAX:
            codes = await guard_store.fetch_codes(conn, part=self._part, since_us=at_us)
            self._book = LotBook(last_lot_no=await self._last_lot_no(conn), guard=Guard(codes))
        self._book.catalogue = self._catalogue
        # Not a difference of sets: that walks over everybody who was ever loaded.
        loaded = self._book.members
        for each in columns:
            spenders = each.spenders()
            if not all(map(loaded.__contains__, spenders)):
                members.update(spenders)
        unseen = sorted([member_no for member_no in members if member_no not in loaded])
        if unseen:
            self._book.put_members(
                unseen,
                await store.fetch_live_lots(
                    conn, part=self._part, members=unseen, expires_after_us=at_us - BACKDATE_US
                ),
            )
        if protected and self._catalogue.member_rules:
            await self._load_counted(conn, {each.member_no for each in protected}, at_us)
        if reversals:
            self._book.stored_uses |= await store.fetch_uses(
                conn,
                part=self._part,
                events=[(order.cleared_seq, order.member_no) for order in reversals],
            )
        if calls:
            await self._load_calls(conn, calls)
        if transfers:
            await self._load_transfers(conn, transfers, at_us)
        for command in lapses:
            self._book.expired[command.key] = await store.fetch_expired_lots(
                conn, part=self._part, as_of_us=command.as_of_us, limit=command.limit
            )

    async def _load_calls(
        self,
        conn: Connection,
        calls: Sequence[Take | GiveBack | Credit | TakeBack | FindCall],
    ) -> None:
        """Read the calls that these name, and what those took of lots."""
        assert self._book is not None
        following = [
            (key_name(call.caller, call.of_key), call)
            for call in calls
            if isinstance(call, GiveBack | TakeBack | FindCall)
        ]
        if not following:
            return
        stored = await call_store.fetch_calls(
            conn, part=self._part, names={name for name, _ in following}
        )
        self._book.calls.stored = {
            call.of_key: stored[name] for name, call in following if name in stored
        }
        taken = {
            (stored[name].entry.seq, call.member_no)
            for name, call in following
            if isinstance(call, GiveBack) and name in stored and not stored[name].undone
        }
        if taken:
            self._book.stored_uses |= await store.fetch_uses(
                conn, part=self._part, events=sorted(taken)
            )

    async def _load_transfers(
        self, conn: Connection, transfers: Sequence[Transfer], at_us: int
    ) -> None:
        """Read who shares with whom, each time anew, and what givers gave lately."""
        assert self._book is not None
        book = self._book.transfers
        book.households = await transfer_store.fetch_households(
            conn, ids={each.household for each in transfers}
        )
        book.stored = await transfer_store.fetch_given(
            conn,
            part=self._part,
            members={each.giver_no for each in transfers},
            after_us=at_us - MONTH_US,
        )

    async def _load_counted(self, conn: Connection, members: set[int], at_us: int) -> None:
        """Read what counts against the limits of members not seen before, and how held orders ended."""
        assert self._book is not None
        guard = self._book.guard
        unseen = sorted(members - guard.members.keys())
        seen = members - set(unseen)
        if unseen:
            guard.put_members(
                unseen,
                await guard_store.fetch_counted(
                    conn, part=self._part, members=unseen, after_us=at_us - WINDOW_US
                ),
            )
        if held := guard.held(seen):
            guard.end(seen, await guard_store.fetch_ends(conn, part=self._part, order_seqs=held))

    async def _last_lot_no(self, conn: Connection) -> int:
        if self._book is not None:
            return self._book.last_lot_no
        return await store.fetch_last_lot_no(conn, part=self._part)

    def decide(self, command: Command, books: Books) -> Answer:
        """Decide one command on the loaded lots."""
        assert self._book is not None
        return self._book.decide(command, books)

    def decide_stretch(self, stretch: Stretch) -> None:
        """Decide plain orders on the loaded lots."""
        assert self._book is not None
        self._book.decide_stretch(stretch)

    def take(self) -> object:
        """Pack what changed, before the next group changes it again."""
        if self._book is None:
            return None
        made, uses, lapsed_through_us, owed = self._book.take()
        # A lot changes again before the flush is written, so what it is now is packed now.
        lots = [store.pack_lot(self._part, lot) for lot in made]
        packed = store.pack_uses(self._part, uses)
        return lots, packed, lapsed_through_us, owed, self._book.guard.take()

    async def write(self, conn: Connection, part: int, changed: object) -> None:
        """Write new lots, what events took of lots, and journeys of reversals."""
        if not isinstance(changed, tuple):
            return
        lots, uses, lapsed_through_us, owed, guarded = changed
        if lots:
            await store.copy_lots(conn, lots)
        if uses:
            await store.copy_uses(conn, uses)
        if lapsed_through_us:
            await store.write_expiry_run(conn, part=part, through_us=lapsed_through_us)
        if owed:
            await insert_returns(conn, part=part, owed=owed)
        if guarded.codes:
            await guard_store.insert_codes(conn, part=part, codes=guarded.codes)
        if guarded.counted:
            await guard_store.insert_counted(conn, part=part, counted=guarded.counted)
        if guarded.forget_us:
            await guard_store.forget(conn, part=part, before_us=guarded.forget_us)

    def discard(self) -> None:
        """Forget the lots; the next load reads them again."""
        self._book = None
        self._catalogue = None
