"""What must hold in a history after every step, and what must be true when it is over.

The truth is what is on the books' disk, in the journeys' rows, and in the merchants' own ledgers. What
became of each order in each of them is kept here beside them, step by step, so that a contradiction
is found at the step that makes it, and not by its consequences.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from adapters.kit.contract import Step
from adapters.kit.reference import step_of
from exchange.core.journey import Verdict
from exchange.core.order import ENDS, TABLE, State
from exchange.programme.core.calls import BY_CALL
from schemas.values.ids import order_place
from schemas.values.reason import REASON_BY_NUMBER
from settlement.core.event import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adapters.kit.simulator.ledger import Booked
    from exchange.core.journey import Journey, Wanted
    from exchange.simulation.store import Journeys
    from exchange.simulation.writer import Disk
    from settlement.core.command import Entry

_LET_GO: Final = (Kind.VOIDED, Kind.EXPIRED)


def _after() -> dict[State, frozenset[State]]:
    """From each state, every state that the table can lead to, however many steps away."""
    steps: dict[State, set[State]] = {state: set() for state in State}
    for (state, _), after in TABLE.items():
        steps[state].add(after)
    reached = {}
    for state in State:
        seen = {state}
        ahead = deque([state])
        while ahead:
            for after in steps[ahead.popleft()] - seen:
                seen.add(after)
                ahead.append(after)
        reached[state] = frozenset(seen)
    return reached


_REACHED: Final = _after()


class Truth(Protocol):
    """A merchant's own books, whatever keeps them."""

    @property
    def entries(self) -> list[Booked]:
        """Every call that moved points, in the order booked."""
        ...

    def check(self) -> None:
        """Raise `AssertionError` if members' points are not what the entries say."""
        ...

    def doubled(self) -> set[str]:
        """References whose call moved points more than once."""
        ...

    def open_holds(self) -> set[str]:
        """References of holds that have not ended."""
        ...


@dataclass(slots=True, kw_only=True)
class Party:
    """A merchant as the checks see it.

    Attributes:
        code: Its code.
        ledger: Its own books.
        holds: Whether points are held and captured; else the hold takes them at once.
    """

    code: str
    ledger: Truth
    holds: bool


@dataclass(slots=True, kw_only=True)
class Life:
    """What became of one order, everywhere.

    Attributes:
        no: Its number in the history.
        wanted: What was wanted.
        books: The last kind of event in the books; None before they accepted.
        pinned: Whether the books pinned it.
        state: Where its journey stands.
        moved: Units that each step moved at a merchant, for those that did.
        heard: What the till heard: cleared, or the reason why not; empty before.
    """

    no: int
    wanted: Wanted
    books: Kind | None = None
    pinned: bool = False
    state: State = State.WANTED
    moved: dict[Step, int] = field(default_factory=dict)
    heard: str = ""

    @property
    def taken(self) -> bool:
        """Whether the issuer holds or has taken the points now."""
        return Step.HOLD in self.moved and Step.RELEASE not in self.moved

    @property
    def given(self) -> bool:
        """Whether the acceptor has given points that stand now."""
        return Step.CREDIT in self.moved and Step.REVERSE_CREDIT not in self.moved


def told_by(entry: Entry) -> str:
    """What an answer tells a till: `cleared`, or the code of the reason why not."""
    return "cleared" if entry.kind == Kind.CLEARED else REASON_BY_NUMBER[entry.reason].code


class Checks:
    """Watches a history; the first thing that does not hold is told to `broken`."""

    def __init__(
        self,
        *,
        disk: Disk,
        journeys: Journeys,
        parties: Mapping[int, Party],
        broken: Callable[[str], None],
    ) -> None:
        """Begin to watch.

        Args:
            disk: The books' disk.
            journeys: The journeys' rows.
            parties: Merchants by number.
            broken: Told what does not hold, once for each time.
        """
        self._disk = disk
        self._journeys = journeys
        self._parties = parties
        self._broken = broken
        self._by_key: dict[tuple[int, bytes], Life] = {}
        self._by_seq: dict[int, Life] = {}
        self._unheard = 0
        self.steps = 0

    @property
    def lives(self) -> list[Life]:
        """Every order, in the order in which they were wanted."""
        return list(self._by_key.values())

    def number_of(self, order_seq: int) -> int:
        """Number in the history of the order whose first event is `order_seq`."""
        return self._life_of(order_seq).no

    # While it goes on ---------------------------------------------------------------------------

    def wants(self, no: int, wanted: Wanted) -> None:
        """A till is about to ask for an order."""
        key = wanted.order.caller, wanted.order.key
        self._by_key[key] = Life(no=no, wanted=wanted)
        self._unheard += 1

    def hears(self, wanted: Wanted, entry: Entry) -> None:
        """A till hears how its order ended; from then on it must not hear otherwise."""
        life = self._by_key[wanted.order.caller, wanted.order.key]
        told = told_by(entry)
        if not life.heard:
            self._unheard -= 1
        elif life.heard != told:
            self._say(life, f"heard {life.heard}, then {told}")
        if told == "cleared" and life.books is not Kind.CLEARED:
            self._say(life, "heard that it cleared before the books had cleared it")
        life.heard = told

    def flushed(self, entries: list[Entry]) -> None:
        """The writer committed a group."""
        for entry in entries:
            self.steps += 1
            if entry.order_seq and entry.kind not in BY_CALL:
                self._entered(entry)
        positions = self._disk.positions
        cycle_no = self._disk.cycle_no
        total_cu = sum(cu for (cycle, _), cu in positions.items() if cycle == cycle_no)
        if total_cu:
            self._broken(f"the positions of cycle {cycle_no} sum to {total_cu} CU")
        for merchant_no, (cap_cu, collateral_cu, held_cu) in self._disk.accounts.items():
            debt_cu = min(0, positions.get((cycle_no, merchant_no), 0))
            if cap_cu + collateral_cu + debt_cu < held_cu:
                self._broken(f"{self._code(merchant_no)} is beyond its cap")

    def moved(self, before: Journey, after: Journey) -> None:
        """A journey's row changed."""
        self.steps += 1
        order = after.wanted.order
        life = self._by_key[order.caller, order.key]
        life.state = after.state
        if after.state not in _REACHED[before.state]:
            self._say(life, f"went from {before.state.name} to {after.state.name}")
        if before.verdict is not Verdict.OPEN and after.verdict is not before.verdict:
            self._say(life, f"verdict {before.verdict.name} became {after.verdict.name}")
        if after.state in ENDS:
            self._check_end(life)

    def booked(self, booked: Booked, *, took_effect: bool) -> None:
        """A merchant's system took a call, whatever came of its answer.

        Args:
            booked: What it answers.
            took_effect: Whether points moved now, and not for an earlier call of the same reference.
        """
        self.steps += 1
        if not took_effect:
            return
        order, step = step_of(booked.reference)
        life = self._by_seq.get(order_place(order)[1])
        if life is None:
            self._broken(f"{step.name} {booked.reference} moved points for no order of ours")
            return
        at_issuer = step in (Step.HOLD, Step.CAPTURE, Step.RELEASE)
        units = life.wanted.order.units if at_issuer else life.wanted.order.credited_units
        if step in life.moved:
            self._say(life, f"{step.name} moved points twice")
        if booked.moved != units:
            self._say(life, f"{step.name} moved {booked.moved} units instead of {units}")
        life.moved[step] = booked.moved
        wrong = self._wrong(life, step)
        if wrong:
            self._say(life, f"{step.name} while {wrong}")

    def _wrong(self, life: Life, step: Step) -> str:
        """Why a step must not move points now; empty if it may."""
        cleared = life.books is Kind.CLEARED
        match step:
            case Step.CREDIT if life.books in _LET_GO:
                return "the books have let go of the order"
            case Step.CREDIT if not life.pinned:
                return "the books have not pinned the hold"
            case Step.CREDIT if not life.taken:
                return "the issuer does not hold the points"
            case Step.CAPTURE if not cleared:
                return "the books have not cleared the order"
            case Step.RELEASE if life.given:
                return "the acceptor's credit stands"
            case Step.RELEASE if life.books not in _LET_GO:
                return "the books have not let go of the order"
            case Step.REVERSE_CREDIT if cleared:
                return "the books have cleared the order"
        return ""

    def _life_of(self, order_seq: int) -> Life:
        """The order whose first event is `order_seq`, which is on the disk."""
        life = self._by_seq.get(order_seq)
        if life is None:
            life = self._by_seq[order_seq] = self._by_key[self._disk.key_of(order_seq)]
        return life

    def _entered(self, entry: Entry) -> None:
        """Take one event of an order in."""
        kind = Kind(entry.kind)
        life = self._life_of(entry.order_seq)
        if life.books not in (None, Kind.ACCEPTED, Kind.PINNED):
            self._say(life, f"{kind.name} in the books after {life.books.name}")
        if kind is Kind.PINNED:
            life.pinned = True
        if kind in _LET_GO and life.given:
            self._say(life, f"{kind.name} in the books while the acceptor's credit stands")
        if kind is Kind.CLEARED:
            if not life.taken:
                self._say(life, "cleared in the books while the issuer does not hold the points")
            if life.wanted.order.credited_units and not life.given:
                self._say(life, "cleared in the books without the acceptor's credit")
        life.books = kind

    def _check_end(self, life: Life) -> None:
        """Check an order that has ended against the books and both merchants."""
        cleared = life.state is State.CLEARED
        if cleared != (life.books is Kind.CLEARED):
            self._say(life, f"ended {life.state.name}, in the books {life.books}")
        if not cleared and life.books in (Kind.ACCEPTED, Kind.PINNED):
            self._say(life, f"ended {life.state.name} with a hold in the books")
        captures = self._parties[life.wanted.order.issuer].holds
        if cleared and captures and Step.CAPTURE not in life.moved:
            self._say(life, "ended CLEARED, and the issuer's hold is not captured")
        if not cleared and life.taken:
            self._say(life, f"ended {life.state.name}, and the issuer keeps the points")
        if not cleared and life.given:
            self._say(life, f"ended {life.state.name}, and the acceptor's credit stands")

    # At the end ---------------------------------------------------------------------------------

    def over(self) -> bool:
        """Whether every till has heard and every order has ended."""
        return not self._unheard and not self._journeys.open

    def check_over(self) -> None:
        """Check what must be true when nothing is in flight any more."""
        for life in self.lives:
            if not life.heard:
                self._say(life, "the till never heard anything")
            elif life.state not in ENDS:
                self._say(life, f"never ended: {life.state.name}")
            elif (life.heard == "cleared") != (life.state is State.CLEARED):
                self._check_contradiction(life)
        for difference in self._disk.audit():
            self._broken(f"the journal contradicts the rows: {difference}")
        for order_seq in self._disk.holds:
            self._say(self._by_seq[order_seq], "its hold is still open in the books")
        for merchant_no, party in self._parties.items():
            self._check_ledger(merchant_no, party)

    def _check_contradiction(self, life: Life) -> None:
        """A till that heard no may have paid only where people were told why."""
        order = life.wanted.order
        (journey,) = self._journeys.find([(order.caller, order.key)])
        if life.heard == "cleared" or not journey.stuck_since_us:
            self._say(life, f"the till heard {life.heard}, and it ended {life.state.name}")

    def _check_ledger(self, merchant_no: int, party: Party) -> None:
        """Compare a merchant's own books with ours."""
        try:
            party.ledger.check()
        except AssertionError as error:
            self._broken(f"{party.code}: {error}")
        for reference in sorted(party.ledger.doubled()):
            self._broken(f"{party.code}: {reference} moved points more than once")
        for reference in sorted(party.ledger.open_holds()):
            self._broken(f"{party.code}: the hold {reference} is still open")
        theirs = 0
        for entry in party.ledger.entries:
            match entry.step:
                case Step.HOLD:
                    theirs -= entry.moved
                case Step.RELEASE:
                    theirs += entry.moved
                case Step.CREDIT:
                    theirs += entry.moved
                case Step.REVERSE_CREDIT:
                    theirs -= entry.moved
                case Step.CAPTURE:
                    pass
        ours = 0
        for _, entries in self._disk.lives.values():
            last = entries[-1]
            if last.kind == Kind.CLEARED:
                ours -= last.units if last.issuer == merchant_no else 0
                ours += last.credited_units if last.acceptor == merchant_no else 0
        if ours != theirs:
            self._broken(f"{party.code}: its books moved {theirs} units, ours {ours}")

    def _code(self, merchant_no: int) -> str:
        return self._parties[merchant_no].code

    def _say(self, life: Life, what: str) -> None:
        self._broken(f"order {life.no}: {what}")
