"""Amounts of points as merchants write them, and as the contract does: whole smallest units.

A merchant whose points have two decimal places (`points.scale = 2`) writes 12.34 for 1,234 smallest
units. Nothing here rounds, and no float or `Decimal` ever holds an amount: what does not fit exactly
is refused.
"""

from __future__ import annotations

import re
from typing import Final

from schemas.values.amounts import AMOUNT_LIMIT

_DIGITS: Final = re.compile(r"(0|[1-9][0-9]{0,17})(?:\.([0-9]{1,9}))?\Z", re.ASCII)


def amount_text(units: int, scale: int) -> str:
    """Write smallest units as a decimal with exactly `scale` places, for example `12.34`."""
    if scale == 0:
        return str(units)
    whole, rest = divmod(abs(units), 10**scale)
    return f"{'-' if units < 0 else ''}{whole}.{rest:0{scale}d}"


def units_of(text: str, scale: int) -> int:
    """Read a decimal as smallest units.

    Args:
        text: Digits, and at most `scale` decimal places; no sign, no space, no exponent.
        scale: Decimal places of the merchant's own figures.

    Raises:
        ValueError: It is not written so, or is 10^15 units or more.
    """
    found = _DIGITS.match(text)
    if not found:
        raise ValueError("not a plain decimal")
    places = found[2] or ""
    if len(places) > scale:
        raise ValueError(f"more than {scale} decimal places")
    units = int(found[1] + places.ljust(scale, "0"))
    if units >= AMOUNT_LIMIT:
        raise ValueError("10^15 smallest units or more")
    return units
