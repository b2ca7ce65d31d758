"""A merchant's statement: its lines of one cycle, as CSV for people and as msgpack for programs.

The msgpack file is a stream: one map (the header), one array for each line, one map (the totals).
Both files hold the same lines in the same order, that of the journal; a line of the CSV is a
function of the line in msgpack (`csv_line`), which is how a verifier compares them.

Every line tells its number among the leaves of the signed tree, so the lines of all issuers
together are all leaves. Amounts are signed from the merchant's own side: positive is to receive.

Source: schemas/FORMAT.md, "Statements".
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from schemas.files.csv_text import BOM, LINE_END, TOTAL, text_field
from schemas.files.instant import INSTANT_US_LIMIT, INSTANT_US_MIN, instant_text
from schemas.files.manifest import CycleId, Party  # noqa: TC001 - msgspec reads the annotations
from schemas.values.amounts import yuan_text
from schemas.values.faults import SchemaError

STATEMENT_FORMAT: Final = "tongdui-statement/1"
ISSUER: Final = 1
"""Role: the merchant's points were spent; it owes the debit."""
ACCEPTOR: Final = 2
"""Role: the value went to the merchant; it is owed value minus fee."""
CLEARED: Final = 3
ADJUSTED: Final = 6
REVERSED: Final = 20
"""Kinds of events that stand in statements, numbered as in the journal."""

LINE_FIELDS: Final = (
    "leaf_index", "leaf_hash", "order", "reference", "till_us", "cleared_us", "kind", "role",
    "counterparty", "units", "rate_num", "rate_den", "gross_cu", "fee_cu", "remainder_cu", "net_cu",
)  # fmt: skip
"""Elements of a line's array, in order."""
STATEMENT_COLUMNS: Final = (
    "order 订单号", "reference 商户参考号", "till_time 交易时间(UTC)", "cleared_time 清算时间(UTC)",
    "kind 类型", "role 角色", "counterparty 对方", "units 积分数", "rate_num 汇率分子",
    "rate_den 汇率分母", "gross_cu 总额(CU)", "fee_cu 手续费(CU)", "remainder_cu 尾差(CU)",
    "net_cu 净额(CU)", "net_yuan 净额(元)", "leaf 叶序号",
)  # fmt: skip
CSV_HEAD: Final = BOM + ",".join(STATEMENT_COLUMNS) + LINE_END

KIND_TEXT: Final = {CLEARED: "cleared", ADJUSTED: "adjusted", REVERSED: "reversed"}
_ROLE_TEXT: Final = {ISSUER: "issuer", ACCEPTOR: "acceptor"}
_AMOUNT_LIMIT: Final = 2**62
_Amount = Annotated[int, Meta(gt=-_AMOUNT_LIMIT, lt=_AMOUNT_LIMIT)]
_InstantUs = Annotated[int, Meta(ge=INSTANT_US_MIN, lt=INSTANT_US_LIMIT)]


class StatementHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """First object of the msgpack file."""

    format: Literal["tongdui-statement/1"]
    cycle_id: CycleId
    cycle_no: Annotated[int, Meta(ge=1)]
    sequence: Annotated[int, Meta(ge=1)]
    merchant: Party
    fields: list[str]


class StatementLine(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One line as its msgpack array; see `LINE_FIELDS`.

    Attributes:
        leaf_index: Number of the line among the leaves of the cycle's tree, from 0.
        leaf_hash: Hash of that leaf, 32 bytes.
        order: The order's id; of a reversal, that of the order that it takes back.
        reference: The merchant's own reference, as it was sent.
        till_us: When it happened at the till, microseconds since 1970-01-01 UTC.
        cleared_us: When it cleared, likewise.
        kind: `CLEARED`, `ADJUSTED` or `REVERSED`; the figures of a reversal have the other sign.
        role: `ISSUER` or `ACCEPTOR`.
        counterparty: Code of the other merchant.
        units: Smallest point units of the issuer.
        rate_num: CU for each `rate_den` units; 0 of 0 where no rate was used.
        rate_den: See `rate_num`.
        gross_cu: Issuer: minus the debit. Acceptor: the value.
        fee_cu: Issuer: 0. Acceptor: minus the fee.
        remainder_cu: Issuer: what of its debit conversion dropped; part of the gross. Acceptor: 0.
        net_cu: Gross plus fee.
    """

    leaf_index: Annotated[int, Meta(ge=0, lt=2**53)]
    leaf_hash: Annotated[bytes, Meta(min_length=32, max_length=32)]
    order: Annotated[str, Meta(min_length=36, max_length=36)]
    reference: Annotated[str, Meta(max_length=1_000_000)]
    till_us: _InstantUs
    cleared_us: _InstantUs
    kind: Literal[3, 6, 20]
    role: Literal[1, 2]
    counterparty: Annotated[str, Meta(min_length=1, max_length=32)]
    units: _Amount
    rate_num: _Amount
    rate_den: _Amount
    gross_cu: _Amount
    fee_cu: _Amount
    remainder_cu: _Amount
    net_cu: _Amount


class RoleTotals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sums of the lines of one role, CU."""

    lines: int
    gross_cu: int
    fee_cu: int
    remainder_cu: int
    net_cu: int


class StatementTotals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Last object of the msgpack file."""

    issuer: RoleTotals
    acceptor: RoleTotals
    net_cu: int


def csv_line(line: StatementLine) -> str:
    """Write the CSV line that belongs to a line of the msgpack file."""
    return (
        f"{line.order},{text_field(line.reference)},{instant_text(line.till_us)},"
        f"{instant_text(line.cleared_us)},{KIND_TEXT[line.kind]},{_ROLE_TEXT[line.role]},"
        f"{line.counterparty},{line.units},{line.rate_num},{line.rate_den},{line.gross_cu},"
        f"{line.fee_cu},{line.remainder_cu},{line.net_cu},{yuan_text(line.net_cu)},"
        f"{line.leaf_index}{LINE_END}"
    )


def csv_totals(totals: StatementTotals) -> str:
    """Write the three last rows of the CSV file: as issuer, as acceptor, together."""
    rows = [
        f"{TOTAL},{of.lines},,,,{role},,,,,{of.gross_cu},{of.fee_cu},{of.remainder_cu},"
        f"{of.net_cu},{yuan_text(of.net_cu)},{LINE_END}"
        for role, of in (("issuer", totals.issuer), ("acceptor", totals.acceptor))
    ]
    both = totals.issuer.lines + totals.acceptor.lines
    net_cu = totals.net_cu
    return "".join(rows) + f"{TOTAL},{both},,,,,,,,,,,,{net_cu},{yuan_text(net_cu)},{LINE_END}"


def write_header(*, cycle_id: str, cycle_no: int, sequence: int, merchant: str) -> bytes:
    """Write the first object of the msgpack file."""
    return msgspec.msgpack.encode(
        StatementHeader(
            format=STATEMENT_FORMAT, cycle_id=cycle_id, cycle_no=cycle_no, sequence=sequence,
            merchant=merchant, fields=list(LINE_FIELDS),
        )
    )  # fmt: skip


def read_header(value: object) -> StatementHeader:
    """Check the first object of the msgpack file.

    Raises:
        SchemaError: It is not a header.
    """
    return _convert(value, StatementHeader, "$[0]")


def read_line(value: object, number: int) -> StatementLine:
    """Check one line of the msgpack file.

    Args:
        value: The decoded array.
        number: Which object of the stream it is.

    Raises:
        SchemaError: It is not a line.
    """
    if not isinstance(value, list) or len(value) != len(LINE_FIELDS):
        raise SchemaError(f"$[{number}]", f"not an array of {len(LINE_FIELDS)} elements")
    return _convert(value, StatementLine, f"$[{number}]")


def read_totals(value: object, number: int) -> StatementTotals:
    """Check the last object of the msgpack file.

    Args:
        value: The decoded map.
        number: Which object of the stream it is.

    Raises:
        SchemaError: It is not a map of totals.
    """
    return _convert(value, StatementTotals, f"$[{number}]")


_RecordT = TypeVar("_RecordT")


def _convert(value: object, record: type[_RecordT], place: str) -> _RecordT:
    """Check decoded objects against a record."""
    try:
        return msgspec.convert(value, record)
    except msgspec.ValidationError as error:
        detail, _, path = str(error).partition(" - at `")
        raise SchemaError(place + path.rstrip("`").removeprefix("$"), detail) from error
