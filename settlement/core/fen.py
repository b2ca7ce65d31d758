"""Figures in whole fen that add up to what the bank moves.

Books count in common units, banks in fen. Rounding each figure by itself would leave sums that
differ from the payment by as many fen as there are figures. So figures are not rounded one by one:
the running sum is truncated toward zero, and a figure in fen is by how much that grew. Begun with the
carry of the cycle before, the figures of a cycle add up to its payment, and what is below a fen at
the end is the carry of the next.

Source: settlement/RULES.md, rules F1 to F3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.values.amounts import CU_PER_FEN

if TYPE_CHECKING:
    from collections.abc import Iterable


def trunc_fen(cu: int) -> int:
    """Whole fen of an amount, truncated toward zero.

    Args:
        cu: Signed common units.

    Source: settlement/RULES.md, rule N8.
    """
    return cu // CU_PER_FEN if cu >= 0 else -(-cu // CU_PER_FEN)


class FenRun:
    """Turns figures in CU into fen, one after the other, as one running sum.

    Attributes:
        sum_cu: The carry that it began with, and all figures since.
    """

    __slots__ = ("_fen", "sum_cu")

    def __init__(self, carry_cu: int = 0) -> None:
        """Begin with what earlier payments left over.

        Args:
            carry_cu: Signed common units; a merchant's are below one fen either way.
        """
        self.sum_cu = carry_cu
        self._fen = trunc_fen(carry_cu)

    def take(self, cu: int) -> int:
        """Add one figure.

        Args:
            cu: Signed common units.

        Returns:
            By how many fen the running sum grew: less than two fen from `cu / 100`, and less than one from it in sum.
        """
        self.sum_cu += cu
        fen = trunc_fen(self.sum_cu)
        grown = fen - self._fen
        self._fen = fen
        return grown

    @property
    def carry_cu(self) -> int:
        """What is left for the next payment, CU; below one fen, with the sign of the sum."""
        return self.sum_cu - self._fen * CU_PER_FEN


def in_fen(figures_cu: Iterable[int], *, carry_cu: int = 0) -> list[int]:
    """Turn figures into fen that add up to the truncated sum of carry and figures.

    Args:
        figures_cu: Signed common units, in the order in which they are shown.
        carry_cu: What earlier payments left over, below one fen either way.
    """
    run = FenRun(carry_cu)
    return [run.take(cu) for cu in figures_cu]
