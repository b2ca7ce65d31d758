"""The three small tables of a package: positions, obligations, instructions.

Each is written in one way only, so reading a file and writing it again gives the same bytes; what
reads but writes differently is refused.

Source: schemas/FORMAT.md, "positions.csv", "obligations.csv", "instructions.csv".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from schemas.files.csv_text import TOTAL, read_table, write_table
from schemas.values.amounts import fen_text, yuan_text
from schemas.values.faults import SchemaError

POSITION_COLUMNS: Final = (
    "party 参与方", "payable_yuan 应付(元)", "receivable_yuan 应收(元)", "net_cu 净额(CU)",
    "issued_orders 发行方笔数", "debit_cu 应付总额(CU)", "accepted_orders 受理方笔数",
    "credit_cu 应收总额(CU)", "fee_cu 手续费(CU)",
)  # fmt: skip
OBLIGATION_COLUMNS: Final = (
    "issuer 发行方", "acceptor 受理方", "orders 笔数", "debit_yuan 应付(元)", "debit_cu 应付(CU)",
    "value_cu 价值(CU)", "fee_cu 手续费(CU)", "remainder_cu 尾差(CU)",
)  # fmt: skip
INSTRUCTION_COLUMNS: Final = (
    "party 参与方", "pay_in_yuan 应付(元)", "pay_out_yuan 应收(元)", "pay_fen 金额(分)",
    "net_cu 净额(CU)", "carry_before_cu 上期结转(CU)", "carry_after_cu 结转下期(CU)",
)  # fmt: skip

BILATERAL_COLUMNS: Final = (
    INSTRUCTION_COLUMNS[0], "counterparty 对方", *INSTRUCTION_COLUMNS[1:]
)  # fmt: skip
"""Those of a bilateral cycle's instructions."""

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_INTEGER = re.compile(r"\A(?:0|-?[1-9][0-9]{0,18})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionRow:
    """One party's figure and how it came about, CU: `net = credit - fee - debit`."""

    party: str
    net_cu: int
    issued_orders: int
    debit_cu: int
    accepted_orders: int
    credit_cu: int
    fee_cu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObligationRow:
    """Bilateral gross of one issuer and one acceptor, CU; what reversals took back is negative throughout."""

    issuer: str
    acceptor: str
    orders: int
    debit_cu: int
    value_cu: int
    fee_cu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionRow:
    """What one party pays in (negative) or is paid out (positive), fen; carries in CU.

    `counterparty` is whom it is settled with in a bilateral cycle, and empty in a multilateral one.
    """

    party: str
    pay_fen: int
    net_cu: int
    carry_before_cu: int
    carry_after_cu: int
    counterparty: str = ""

    @property
    def has_carry(self) -> bool:
        """Whether its carry is its own: the house's one leg has what the merchants' leave."""
        return bool(self.counterparty) or ":" not in self.party

    @property
    def carry_name(self) -> str:
        """What its carry is known by: the party, and the counterparty where there is one."""
        return f"{self.party} {self.counterparty}" if self.counterparty else self.party


def in_all(party: str, rows: Iterable[InstructionRow]) -> InstructionRow:
    """What a party pays or is paid together, whomever it is settled with."""
    own = [row for row in rows if row.party == party]
    return InstructionRow(
        party=party,
        pay_fen=sum(row.pay_fen for row in own),
        net_cu=sum(row.net_cu for row in own),
        carry_before_cu=sum(row.carry_before_cu for row in own),
        carry_after_cu=sum(row.carry_after_cu for row in own),
    )


def write_positions(rows: Sequence[PositionRow]) -> bytes:
    """Write `positions.csv`: payable and receivable in two columns, then the totals."""
    table: list[Sequence[object]] = [
        (
            row.party, yuan_text(max(0, -row.net_cu)), yuan_text(max(0, row.net_cu)), row.net_cu,
            row.issued_orders, row.debit_cu, row.accepted_orders, row.credit_cu, row.fee_cu,
        )
        for row in rows
    ]  # fmt: skip
    table.append(
        (
            TOTAL,
            yuan_text(sum(max(0, -row.net_cu) for row in rows)),
            yuan_text(sum(max(0, row.net_cu) for row in rows)),
            sum(row.net_cu for row in rows),
            sum(row.issued_orders for row in rows),
            sum(row.debit_cu for row in rows),
            sum(row.accepted_orders for row in rows),
            sum(row.credit_cu for row in rows),
            sum(row.fee_cu for row in rows),
        )
    )
    return write_table(POSITION_COLUMNS, table)


def read_positions(data: bytes) -> list[PositionRow]:
    """Read `positions.csv`.

    Raises:
        SchemaError: It is not written as this file is.
    """

    def row_of(row: list[str], place: str) -> PositionRow:
        net, issued, debit, accepted, credit, fee = _integers(row[3:9], place)
        return PositionRow(
            party=row[0], net_cu=net, issued_orders=issued, debit_cu=debit,
            accepted_orders=accepted, credit_cu=credit, fee_cu=fee,
        )  # fmt: skip

    return _read(data, POSITION_COLUMNS, row_of, write_positions)


def write_obligations(rows: Sequence[ObligationRow]) -> bytes:
    """Write `obligations.csv`: the bilateral gross matrix as a list, then the totals."""
    table: list[Sequence[object]] = [
        (
            row.issuer, row.acceptor, row.orders, yuan_text(row.debit_cu), row.debit_cu,
            row.value_cu, row.fee_cu, row.debit_cu - row.value_cu,
        )
        for row in rows
    ]  # fmt: skip
    debit_cu = sum(row.debit_cu for row in rows)
    value_cu = sum(row.value_cu for row in rows)
    table.append(
        (
            TOTAL, "", sum(row.orders for row in rows), yuan_text(debit_cu), debit_cu, value_cu,
            sum(row.fee_cu for row in rows), debit_cu - value_cu,
        )
    )  # fmt: skip
    return write_table(OBLIGATION_COLUMNS, table)


def read_obligations(data: bytes) -> list[ObligationRow]:
    """Read `obligations.csv`.

    Raises:
        SchemaError: It is not written as this file is.
    """

    def row_of(row: list[str], place: str) -> ObligationRow:
        orders, debit, value, fee = _integers([row[2], *row[4:7]], place)
        return ObligationRow(
            issuer=row[0],
            acceptor=row[1],
            orders=orders,
            debit_cu=debit,
            value_cu=value,
            fee_cu=fee,
        )

    return _read(data, OBLIGATION_COLUMNS, row_of, write_obligations)


def write_instructions(rows: Sequence[InstructionRow]) -> bytes:
    """Write `instructions.csv`: what is paid in and paid out in two columns, then the totals.

    Those of a bilateral cycle have the counterparty beside the party.
    """
    bilateral = any(row.counterparty for row in rows)

    def named(party: str, counterparty: str) -> tuple[str, ...]:
        return (party, counterparty) if bilateral else (party,)

    table: list[Sequence[object]] = [
        (
            *named(row.party, row.counterparty), fen_text(max(0, -row.pay_fen)),
            fen_text(max(0, row.pay_fen)), row.pay_fen, row.net_cu, row.carry_before_cu,
            row.carry_after_cu,
        )
        for row in rows
    ]  # fmt: skip
    table.append(
        (
            *named(TOTAL, ""),
            fen_text(sum(max(0, -row.pay_fen) for row in rows)),
            fen_text(sum(max(0, row.pay_fen) for row in rows)),
            sum(row.pay_fen for row in rows),
            sum(row.net_cu for row in rows),
            sum(row.carry_before_cu for row in rows),
            sum(row.carry_after_cu for row in rows),
        )
    )
    return write_table(BILATERAL_COLUMNS if bilateral else INSTRUCTION_COLUMNS, table)


def read_instructions(data: bytes) -> list[InstructionRow]:
    """Read `instructions.csv`.

    Raises:
        SchemaError: It is not written as this file is.
    """
    header, _, _ = data.partition(b"\r\n")
    bilateral = BILATERAL_COLUMNS[1].encode() in header

    def row_of(row: list[str], place: str) -> InstructionRow:
        pay, net, before, after = _integers(row[-4:], place)
        return InstructionRow(
            party=row[0], pay_fen=pay, net_cu=net, carry_before_cu=before, carry_after_cu=after,
            counterparty=row[1] if bilateral else "",
        )  # fmt: skip

    columns = BILATERAL_COLUMNS if bilateral else INSTRUCTION_COLUMNS
    return _read(data, columns, row_of, write_instructions)


_RowT = TypeVar("_RowT")


def _read(
    data: bytes,
    columns: Sequence[str],
    row_of: Callable[[list[str], str], _RowT],
    write: Callable[[Sequence[_RowT]], bytes],
) -> list[_RowT]:
    """Read a table and hold it against the one way in which its rows are written."""
    table = read_table(data, columns)
    if not table or table[-1][0] != TOTAL:
        raise SchemaError(f"$[{len(table)}]", "the row of totals is missing")
    rows = [row_of(row, f"$[{number}]") for number, row in enumerate(table[:-1], 1)]
    if write(rows) != data:
        raise SchemaError("$", "not written as this file is: a derived column or a total is wrong")
    return rows


def _integers(texts: Sequence[str], place: str) -> list[int]:
    """Read exact integers."""
    for text in texts:
        if not _INTEGER.match(text):
            raise SchemaError(place, f"not an integer: {text[:40]!r}")
    return [int(text) for text in texts]
