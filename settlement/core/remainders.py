"""What the rounding account collected goes back, once a quarter, to the issuers whose orders it came from.

Each order's remainder, debit less value, stays with the house only until the quarter in which its cycle closed is over.
Then each issuer gets back what its orders brought, less what reversals and adjustments took back of it, less what went
back before. What is negative (more was taken back than collected since) counts against the next quarter.

Source: settlement/RULES.md, rule W6.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from schemas.values.faults import SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

ZONE: Final = ZoneInfo("Asia/Shanghai")
_NAME: Final = re.compile(r"(20[0-9]{2})Q([1-4])\Z")

Pair = tuple[int, int]
"""Issuer and acceptor."""


@dataclass(frozen=True, slots=True)
class Quarter:
    """A quarter of a year, in Beijing's time.

    Attributes:
        year: Calendar year.
        number: 1 to 4.
    """

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Quarter:
        """Read `2026Q4`.

        Raises:
            SchemaError: It is no quarter.
        """
        found = _NAME.match(text)
        if found is None:
            raise SchemaError("$.quarter", f"Expected a quarter such as 2026Q4, not {text!r}")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        """As it is written: `2026Q4`."""
        return f"{self.year}Q{self.number}"

    @property
    def end(self) -> datetime:
        """The first instant after it."""
        month = self.number * 3 + 1
        return datetime(self.year + month // 12, month % 12, 1, tzinfo=ZONE)

    @property
    def reference(self) -> str:
        """What the adjustments of its return are known by."""
        return f"remainders {self}"


def plan(collected: Mapping[Pair, int], returned: Mapping[Pair, int]) -> dict[Pair, int]:
    """What goes back to each issuer, by the pair under which it is booked, CU.

    An issuer gets the sum over its pairs. Where it is above 0 although a pair is below, the others' amounts are used
    in the order of the acceptors until the sum is reached.

    Args:
        collected: Remainders of each pair's orders through the quarter's end, less what was taken back of them.
        returned: What went back before.

    Returns:
        Amounts above 0; nothing for an issuer whose sum is not.
    """
    due: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for issuer, acceptor in sorted(collected.keys() | returned.keys()):
        pair = issuer, acceptor
        due[issuer][acceptor] = collected.get(pair, 0) - returned.get(pair, 0)
    planned: dict[Pair, int] = {}
    for issuer, by_acceptor in due.items():
        left = sum(by_acceptor.values())
        for acceptor, cu in by_acceptor.items():
            back = min(cu, left)
            if back > 0:
                planned[issuer, acceptor] = back
                left -= back
    return planned
