"""A cycle seen three ways: our lines, the merchant's own files, and the bank's money; and whether they agree.

Source: settlement/RULES.md, rule X22.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.values.amounts import CU_PER_FEN
from settlement.core.matching import BreakKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFiles:
    """What a merchant's own files come to. Amounts are CU, signed from the merchant's side.

    Attributes:
        lines: Lines of its files.
        told_cu: What they come to.
        compared_cu: What our lines come to, in the figure and rounding of the files.
        open_cu: By how much the files are above our lines in what differs and is open.
        accepted_cu: Likewise in what differs and a person let stand.
        breaks: Open breaks by kind.
    """

    lines: int
    told_cu: int
    compared_cu: int
    open_cu: int
    accepted_cu: int
    breaks: Mapping[BreakKind, int]

    @property
    def unexplained_cu(self) -> int:
        """What neither a break nor a person's decision explains; always 0, or a match is wrong."""
        return self.told_cu - self.compared_cu - self.open_cu - self.accepted_cu


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """What the bank saw of a party's payment. Amounts are fen, signed from the house's side: positive is paid in.

    Attributes:
        due_fen: What the instruction says.
        seen_fen: What was seen; None where nothing was matched.
        accepted_fen: By how much more was seen than is due in matches that a person let stand.
        differs: What differs in the other matches that hold it, by number of the match.
    """

    due_fen: int
    seen_fen: int | None
    accepted_fen: int
    differs: Mapping[int, BreakKind]

    @property
    def agrees(self) -> bool:
        """Whether what was due was seen, or a person let stand by how much it was not; a day or parts are no matter."""
        if {BreakKind.AMOUNT, BreakKind.SIGN} & set(self.differs.values()):
            return False
        return (self.seen_fen or 0) == self.due_fen + self.accepted_fen


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One merchant in a cycle. Amounts are CU.

    Attributes:
        merchant: Its code.
        lines: Lines of its signed statement.
        lines_cu: What they come to.
        position_cu: What the books say.
        instructed_cu: What the instruction was made of.
        carry_before_cu: What was left of the instruction before.
        carry_after_cu: What is left of this one.
        money: What the bank saw.
        own: What its own files say; None where it sent none.
        at_once: Whether its lines moved their money themselves (rule T9), so that nothing was instructed.
    """

    merchant: str
    lines: int
    lines_cu: int
    position_cu: int
    instructed_cu: int
    carry_before_cu: int
    carry_after_cu: int
    money: Money
    own: OwnFiles | None
    at_once: bool = False

    def faults(self) -> Iterator[str]:
        """Name each step at which two of the figures are not the same, in a word each; none if all agree."""
        if self.lines_cu != self.position_cu:
            yield "position"
        if self.instructed_cu != (0 if self.at_once else self.position_cu) or (
            self.carry_before_cu + self.instructed_cu
            != -self.money.due_fen * CU_PER_FEN + self.carry_after_cu
        ):
            yield "instruction"
        if not self.money.agrees:
            yield "money"
        if self.own is None:
            yield "no_file"
        elif self.own.breaks or self.own.unexplained_cu:
            yield "file"

    @property
    def agrees(self) -> bool:
        """Whether all agree; a merchant that sent no file of its own contradicts nothing."""
        return not set(self.faults()) - {"no_file"}
