"""The rows of a statement for people: each line with its outlet, its legal entity and its amount in fen.

A statement is read twice. The first reading sums it, so that nothing is written before its totals are
known to be the signed ones; the second gives the rows. Both keep nothing but sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from schemas.files.statement import ACCEPTOR, ISSUER
from settlement.core.fen import FenRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from schemas.files.parties import MerchantParty, Outlet
    from schemas.files.statement import StatementLine

_KeyT = TypeVar("_KeyT", int, "tuple[int, str]", "tuple[str, str]")


class Row(NamedTuple):
    """One line as people see it.

    Attributes:
        line: The line of the signed statement.
        outlet: Code of the merchant's own outlet; empty where the reference does not tell, and as issuer.
        entity: Legal entity that the line belongs to; empty where no parties were given.
        campaign: Campaign that the reference tells; empty likewise.
        tax_code: Kind of goods of the fee for invoices; empty on a line without a fee.
        payable_fen: What the line adds to be paid (rule F1).
        receivable_fen: What it adds to be received.
    """

    line: StatementLine
    outlet: str
    entity: str
    campaign: str
    tax_code: str
    payable_fen: int
    receivable_fen: int


@dataclass(slots=True)
class Sums:
    """Sums of rows; CU and fen."""

    lines: int = 0
    gross_cu: int = 0
    fee_cu: int = 0
    remainder_cu: int = 0
    net_cu: int = 0
    payable_fen: int = 0
    receivable_fen: int = 0

    def add(self, row: Row) -> None:
        """Count one row."""
        line = row.line
        self.lines += 1
        self.gross_cu += line.gross_cu
        self.fee_cu += line.fee_cu
        self.remainder_cu += line.remainder_cu
        self.net_cu += line.net_cu
        self.payable_fen += row.payable_fen
        self.receivable_fen += row.receivable_fen

    def figures(self) -> tuple[int, int, int, int, int, int, int]:
        """All of them, in the order of the columns of files."""
        return (
            self.lines, self.gross_cu, self.fee_cu, self.remainder_cu, self.net_cu,
            self.payable_fen, self.receivable_fen,
        )  # fmt: skip

    def merge(self, other: Sums) -> None:
        """Count all rows of other sums."""
        self.lines += other.lines
        self.gross_cu += other.gross_cu
        self.fee_cu += other.fee_cu
        self.remainder_cu += other.remainder_cu
        self.net_cu += other.net_cu
        self.payable_fen += other.payable_fen
        self.receivable_fen += other.receivable_fen


class Cell(NamedTuple):
    """What rows have in common that are summed together."""

    role: int
    counterparty: str
    entity: str
    outlet: str


@dataclass(slots=True)
class Survey:
    """What the first reading of a statement came to.

    Attributes:
        cells: Sums by role, counterparty, legal entity and outlet; all other sums are made of these.
    """

    cells: dict[Cell, Sums] = field(default_factory=dict)

    def total(self) -> Sums:
        """All rows."""
        return self._by(lambda _: 0).get(0, Sums())

    def roles(self) -> dict[int, Sums]:
        """As issuer and as acceptor; both are there."""
        return {ISSUER: Sums(), ACCEPTOR: Sums()} | self._by(lambda cell: cell.role)

    def pairs(self) -> dict[tuple[int, str], Sums]:
        """By role and counterparty, in order."""
        return self._by(lambda cell: (cell.role, cell.counterparty))

    def entities(self) -> dict[str, dict[str, Sums]]:
        """Outlets with their sums under each legal entity, in order; lines as issuer belong to no outlet."""
        found: dict[str, dict[str, Sums]] = {}
        for (entity, outlet), sums in self._by(lambda cell: (cell.entity, cell.outlet)).items():
            found.setdefault(entity, {})[outlet] = sums
        return found

    def _by(self, key: Callable[[Cell], _KeyT]) -> dict[_KeyT, Sums]:
        """Sums of the cells that share a key."""
        found: dict[_KeyT, Sums] = {}
        for cell in sorted(self.cells):
            found.setdefault(key(cell), Sums()).merge(self.cells[cell])
        return dict(sorted(found.items()))


class RowMaker:
    """Makes the rows of one statement, in the order of its lines."""

    def __init__(self, *, carry_cu: int, party: MerchantParty | None, tax_code: str) -> None:
        """Take what does not change from line to line.

        Args:
            carry_cu: The merchant's carry from the cycle before.
            party: The merchant's names and outlets; None where nobody gave them.
            tax_code: Kind of goods of the house's fee; empty where it is not known.
        """
        self._run = FenRun(carry_cu)
        self._tax_code = tax_code
        self._entity = "" if party is None else party.name
        self._outlets: dict[str, Outlet] = (
            {} if party is None else {one.code: one for one in party.outlet}
        )
        self._fields = [] if party is None else party.reference_fields
        self._separator = "-" if party is None else party.reference_separator

    def rows(self, lines: Iterable[StatementLine]) -> Iterator[Row]:
        """Make a row of each line."""
        take = self._run.take
        for line in lines:
            fen = take(line.net_cu)
            outlet, campaign = self._parts(line)
            yield Row(
                line,
                outlet,
                self._entity_of(outlet),
                campaign,
                self._tax_code if line.fee_cu else "",
                max(0, -fen),
                max(0, fen),
            )

    def _parts(self, line: StatementLine) -> tuple[str, str]:
        """Outlet and campaign of a line, as the merchant's own reference tells them."""
        if not self._fields or line.role == ISSUER:
            return "", ""
        parts = line.reference.split(self._separator)
        if len(parts) < len(self._fields):
            return "", ""
        told = dict(zip(self._fields, parts, strict=False))
        outlet = told.get("outlet", "")
        return (outlet if outlet in self._outlets else ""), told.get("campaign", "")

    def _entity_of(self, outlet: str) -> str:
        """Legal entity of an outlet; the merchant's own by default."""
        known = self._outlets.get(outlet)
        return self._entity if known is None or known.entity is None else known.entity


def survey(rows: Iterable[Row]) -> Survey:
    """Read a statement once, for its sums."""
    cells: dict[Cell, Sums] = {}
    for row in rows:
        cell = Cell(row.line.role, row.line.counterparty, row.entity, row.outlet)
        (cells.get(cell) or cells.setdefault(cell, Sums())).add(row)
    return Survey(cells)
