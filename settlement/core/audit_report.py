"""What an audit found: how far it went, and each place where what is stored is not what it should be."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from settlement.core.chain import GENESIS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DIFFERENCES_MAX: Final = 1_000
"""Differences that are kept word for word; further ones are counted."""
_BASIS_DATE: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One place where what is stored is not what the journal says.

    Attributes:
        table: Table of the row, for example `settlement.position`.
        key: Which row, for example `cycle 3, merchant 5`.
        field: Which column or rule.
        expected: What the journal says; `-` where there should be no row.
        found: What is stored; `-` where the row is missing.
    """

    table: str
    key: str
    field: str
    expected: str
    found: str


@dataclass(slots=True, kw_only=True)
class AuditReport:
    """What an audit went through, and where the rows differ.

    Attributes:
        part: Partition.
        events: Events read.
        flushes: Flushes whose digest was recomputed.
        orders: Orders that cleared.
        reversals: Reversals, whole or in part.
        adjustments: Adjustments.
        cycles: Cycles that were opened.
        holds: Holds that are open.
        batches: Batches whose place in the chain of manifests was checked.
        lots: Lots that were recomputed.
        head: Digest of the last flush, recomputed.
        differences: The first `DIFFERENCES_MAX` differences.
        differences_count: How many there are.
    """

    part: int
    events: int = 0
    flushes: int = 0
    orders: int = 0
    reversals: int = 0
    adjustments: int = 0
    cycles: int = 0
    holds: int = 0
    batches: int = 0
    lots: int = 0
    head: bytes = GENESIS
    differences: list[Difference] = field(default_factory=list)
    differences_count: int = 0

    @property
    def clean(self) -> bool:
        """Whether every row is what the journal says."""
        return self.differences_count == 0

    def differ(self, table: str, key: str, column: str, expected: object, found: object) -> None:
        """Note one difference; `None` stands for a row that is not there."""
        self.differences_count += 1
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(
                Difference(
                    table=table, key=key, field=column, expected=_text(expected), found=_text(found)
                )
            )

    def compare_rows(
        self,
        table: str,
        columns: Sequence[str],
        expected: Mapping[str, Sequence[object]],
        found: Mapping[str, Sequence[object]],
    ) -> None:
        """Compare rows by key, column by column, and note what differs.

        Args:
            table: Name of the table.
            columns: Names of the values, in their order.
            expected: Values by key, as the journal says.
            found: Values by key, as they are stored.
        """
        for key in expected.keys() | found.keys():
            should, is_ = expected.get(key), found.get(key)
            if should is None or is_ is None:
                self.differ(table, key, "row", _row_text(columns, should), _row_text(columns, is_))
                continue
            for column, one, other in zip(columns, should, is_, strict=True):
                if one != other:
                    self.differ(table, key, column, one, other)

    def add(self, other: AuditReport) -> None:
        """Take the counts and differences of another audit of the same ledger into this one."""
        self.events += other.events
        self.lots += other.lots
        self.differences_count += other.differences_count
        self.differences += other.differences[: DIFFERENCES_MAX - len(self.differences)]


def instant_text(at_us: int) -> str:
    """Microseconds since 1970-01-01 UTC as ISO 8601, for people who read a difference."""
    return (_BASIS_DATE + timedelta(microseconds=at_us)).isoformat()


def _text(value: object) -> str:
    if value is None:
        return "-"
    return value.hex() if isinstance(value, bytes) else str(value)


def _row_text(columns: Sequence[str], values: Sequence[object] | None) -> str | None:
    if values is None:
        return None
    return ", ".join(
        f"{column} {_text(value)}" for column, value in zip(columns, values, strict=True)
    )
