"""Bounds and notation of amounts: common units (CU), fen and yuan.

1 CU is 0.0001 yuan, so one fen is 100 CU. Amounts are `int` everywhere; no float and no `Decimal`
ever holds one.
"""

from __future__ import annotations

CU_PER_FEN = 100
CU_PER_YUAN = 10_000
AMOUNT_LIMIT = 10**15
"""Every amount and every count of points stays below this, so that sums of them fit int64."""
SUM_LIMIT = 2**62
"""What one pair of merchants owes in one cycle stays below this."""


def yuan_text(cu: int) -> str:
    """Write common units as yuan with four decimal places.

    Args:
        cu: Signed common units.

    Returns:
        For example `-12.3400`; exact, since one CU is the fourth decimal place.
    """
    whole, rest = divmod(abs(cu), CU_PER_YUAN)
    return f"{'-' if cu < 0 else ''}{whole}.{rest:04d}"


def fen_text(fen: int) -> str:
    """Write fen as yuan with two decimal places, as bank files want it.

    Args:
        fen: Signed fen.

    Returns:
        For example `-12.34`.
    """
    whole, rest = divmod(abs(fen), 100)
    return f"{'-' if fen < 0 else ''}{whole}.{rest:02d}"
