"""Custody: whose the money is that a bank's statement shows, and whether books and bank agree.

Source: settlement/RULES.md, rules U3 and U12.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.values.amounts import CU_PER_FEN, fen_text, yuan_text
from schemas.values.ids import HOUSE_FEES, HOUSE_ROUNDING, HOUSE_TRANSIT
from settlement.core.instruction import HOUSE_LEG


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One movement of a bank's statement that the books do not have yet.

    Attributes:
        statement_no: Number of the statement here.
        entry_no: Its number in that.
        statement: What the bank calls the statement.
        amount_fen: What came in; below zero what went out.
        reference: What was written to it.
        party_name: Who the bank says paid, or was paid.
        party: The merchant (or `HOUSE_LEG`) whose account the bank names; None where nobody's is known.
        matched: Party and amount on the house's account of each payment that the entry was matched with, fen.
        alone: Whether no other entry stands in the same match.
        refused: How often the books refused to book it as somebody said.
        waits: Whether a person must look first: something differs in its match, or a person took it out of one.
    """

    statement_no: int
    entry_no: int
    statement: str
    amount_fen: int
    reference: str
    party_name: str
    party: int | None
    matched: tuple[tuple[int, int], ...] = ()
    alone: bool = True
    waits: bool = False
    refused: int = 0

    @property
    def name(self) -> str:
        """How people name it: `3/14`."""
        return f"{self.statement_no}/{self.entry_no}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Custody:
    """What the bank holds, and what the books say that it holds.

    Attributes:
        accounts: The house's accounts of which the bank has stated anything, in order.
        bank_fen: Closing balances of their last statements together.
        books_cu: Funds and collateral of all together.
        announced_cu: Money that was counted though the bank has not shown it, CU.
        unbooked: Movements that the books do not have.
    """

    accounts: tuple[str, ...]
    bank_fen: int
    books_cu: int
    announced_cu: int
    unbooked: tuple[Entry, ...]

    def why_not(self) -> str:
        """Why no pay-out may be released; empty where everything agrees.

        Source: settlement/RULES.md, rule U12.
        """
        if self.unbooked:
            first = self.unbooked[0]
            more = f" and {len(self.unbooked) - 1} more" if len(self.unbooked) > 1 else ""
            return (
                f"movement {first.name} of statement {first.statement}, {fen_text(first.amount_fen)} yuan "
                f"({first.party_name or first.reference or 'no name'}), is in no account of the books{more}"
            )
        if self.bank_fen * CU_PER_FEN != self.books_cu:
            return f"the bank holds {fen_text(self.bank_fen)} yuan, the books say {yuan_text(self.books_cu)}"
        if self.announced_cu:
            return f"{yuan_text(self.announced_cu)} yuan are announced, and the bank has not shown them"
        return ""


def place(entry: Entry, *, transit_cu: int, rounding_cu: int = 0) -> tuple[tuple[int, int], ...]:
    """Say whose funds a movement is booked to: party and CU, below zero for what went out.

    Args:
        entry: The movement.
        transit_cu: What is in transit to the bank, CU.
        rounding_cu: Funds of the house's rounding, CU.

    Returns:
        The parts, together the movement; none where a person must say.

    Source: settlement/RULES.md, rule U3.
    """
    cu = entry.amount_fen * CU_PER_FEN
    if entry.waits:
        return ()
    if entry.matched:
        parties = {party for party, _ in entry.matched}
        if len(parties) == 1:
            return _parts(parties.pop(), cu, rounding_cu)
        if entry.alone and sum(fen for _, fen in entry.matched) == entry.amount_fen:
            return tuple(
                part
                for party, fen in entry.matched
                for part in _parts(party, fen * CU_PER_FEN, rounding_cu)
            )
        return ()
    if entry.party is None:
        return ()
    if cu < 0:
        return ((HOUSE_TRANSIT, cu),) if transit_cu >= -cu else ()
    return _parts(entry.party, cu, rounding_cu)


def _parts(party: int, cu: int, rounding_cu: int) -> tuple[tuple[int, int], ...]:
    """Whose a movement of a party is: of the house's leg, what evens its rounding out, and the rest its fees'."""
    if party != HOUSE_LEG:
        return ((party, cu),) if cu else ()
    evens = max(cu, min(0, -rounding_cu)) if cu < 0 else min(cu, max(0, -rounding_cu))
    parts = ((HOUSE_ROUNDING, evens), (HOUSE_FEES, cu - evens))
    return tuple(part for part in parts if part[1])
